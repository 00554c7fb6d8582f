package journal

import (
	"reflect"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
)

// named is a type with the name that stands for it on disk.
type named struct {
	name string
	kind reflect.Type
}

// eventTypes lists every event. The names are part of the format: never change.
func eventTypes() []named {
	return []named{
		{"Submitted", reflect.TypeFor[microkernel.Submitted]()},
		{"Approved", reflect.TypeFor[microkernel.Approved]()},
		{"Aborted", reflect.TypeFor[microkernel.Aborted]()},
		{"Viewed", reflect.TypeFor[microkernel.Viewed]()},
		{"Applied", reflect.TypeFor[microkernel.Applied]()},
		{"Proved", reflect.TypeFor[microkernel.Proved]()},
		{"Restarted", reflect.TypeFor[microkernel.Restarted]()},
		{"Withdrawn", reflect.TypeFor[microkernel.Withdrawn]()},
		{"Scaled", reflect.TypeFor[microkernel.Scaled]()},
		{"Failed", reflect.TypeFor[microkernel.Failed]()},
		{"Fired", reflect.TypeFor[microkernel.Fired]()},
		{"Judged", reflect.TypeFor[microkernel.Judged]()},
		{"Led", reflect.TypeFor[microkernel.Led]()},
		{"Probed", reflect.TypeFor[microkernel.Probed]()},
		{"Paused", reflect.TypeFor[microkernel.Paused]()},
		{"Resumed", reflect.TypeFor[microkernel.Resumed]()},
		{"Unread", reflect.TypeFor[microkernel.Unread]()},
		{"Measured", reflect.TypeFor[microkernel.Measured]()},
		{"Compacted", reflect.TypeFor[microkernel.Compacted]()},
		{"Violated", reflect.TypeFor[microkernel.Violated]()},
		{"RolledBack", reflect.TypeFor[microkernel.RolledBack]()},
	}
}

// actionTypes lists every action of a program. Never change the names.
func actionTypes() []named {
	return []named{
		{string(isa.KindRestart), reflect.TypeFor[isa.Restart]()},
		{string(isa.KindDrain), reflect.TypeFor[isa.Drain]()},
		{string(isa.KindRestoreTraffic), reflect.TypeFor[isa.RestoreTraffic]()},
		{string(isa.KindCircuitBreak), reflect.TypeFor[isa.CircuitBreak]()},
		{string(isa.KindRateLimit), reflect.TypeFor[isa.RateLimit]()},
		{string(isa.KindScale), reflect.TypeFor[isa.Scale]()},
		{string(isa.KindRollbackConfig), reflect.TypeFor[isa.RollbackConfig]()},
		{string(isa.KindAwait), reflect.TypeFor[isa.Await]()},
	}
}

// eventName returns the name of ev's type.
func eventName(ev microkernel.Event) (string, bool) {
	return nameOf(eventTypes(), reflect.TypeOf(ev))
}

// actionName returns the name of an action's type.
func actionName(kind reflect.Type) (string, bool) { return nameOf(actionTypes(), kind) }

func nameOf(types []named, kind reflect.Type) (string, bool) {
	for _, t := range types {
		if t.kind == kind {
			return t.name, true
		}
	}
	return "", false
}

func typeOf(types []named, name string) (reflect.Type, bool) {
	for _, t := range types {
		if t.name == name {
			return t.kind, true
		}
	}
	return nil, false
}
