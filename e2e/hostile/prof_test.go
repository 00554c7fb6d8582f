package main
import "testing"
func TestBig(t *testing.T){
 tr:=newTrial(&attack{row:"1",name:"x"},1,1); defer tr.close()
 id,src:=tr.plan("%s", sweep(5459,800))
 r,err:=tr.one(city(5459), agent, id, src)
 t.Log(r,err)
}
