package main

import (
	"fmt"
	"strings"

	"github.com/sluicemesh/sluice/mesh"
)

// text is an attack by a program that can be read; f makes the mesh and the program.
func text(row, name, expected, token string, program func(*trial) (*fleet, string)) attack {
	return attack{row: row, name: name, door: "api", expected: expected, run: func(t *trial) (result, error) {
		f, body := program(t)
		id, source := t.plan("%s", body)
		return t.one(f, token, id, source)
	}}
}

// static is text on the shop, by an agent, with one of several programs.
func static(row, name, expected string, programs ...string) attack {
	return text(row, name, expected, agent, func(t *trial) (*fleet, string) { return shop(), pick(t, programs...) })
}

// staticRows are the attacks that the checker alone must see (phase S).
func staticRows() []attack {
	return []attack{
		{row: "1", name: "the whole fleet by groups", door: "api", expected: "REJECT:blast-radius", run: whole},
		text("1", "more than the limit by subsets and instances", "REJECT:blast-radius", agent, func(t *trial) (*fleet, string) {
			n := 60 + t.IntN(100)
			return city(n), scattered(t, 31+t.IntN(30))
		}),
		static("5", "scale to nothing", "REJECT:scale-floor", "s1 = scale shop/cart to 0", "s1 = scale shop/leaf to 0",
			"s1 = scale shop/ledger to 1", "s1 = scale shop/ledger to 0"),
		static("7", "a limit that lets nothing pass", "REJECT:equivalent-to-drain", "l1 = limit shop/cart 0/s", "l1 = limit shop/cart 1/s",
			"l1 = limit shop/cart 49/s", "l1 = limit shop/cart 100/s burst 1", "l1 = limit shop/cart from shop/front 0.001/s lease 60s",
			"l1 = limit shop/cart 0.5/s burst 1000"),
		static("8", "a breaker that is always open", "REJECT:equivalent-to-drain", "b1 = break shop/cart requests 1",
			"b1 = break shop/cart connections 0", "b1 = break shop/cart 5xx 1", "b1 = break shop/cart connections 19",
			"b1 = break shop/cart from shop/front pending 1", "b1 = break shop/cart requests 0"),
		static("9", "Sluice itself", "REJECT:self", "r1 = restart sluice/sluiced", "r1 = restart sluice/agents",
			"c1 = rollback persistentvolumeclaim/sluice-system/journal to 1", "d1 = drain sluice-system/xds hold\nt1 = restore d1 after d1",
			"s1 = scale sluice-system/sluice to 1", "l1 = limit sluice/sluiced 100/s", "r1 = restart [shop/leaf,sluice/sluiced]"),
		static("10", "what everything rests on", "REJECT:protected-namespace", "r1 = restart kube-system/coredns",
			"r1 = restart kube-system/etcd", "r1 = restart kube-system/kube-apiserver", "s1 = scale istio-system/istiod to 2",
			"d1 = drain cert-manager/webhook shed\nt1 = restore d1 after d1", "r1 = restart calico-system/calico-node",
			"r1 = restart observability/collector", "r1 = restart opentelemetry-operator-system/collector",
			"c1 = rollback configmap/kube-system/coredns to 3", "b1 = break linkerd/destination requests 1000"),
		static("15", "steps that wait for each other", "REJECT:cycle", "a = restart shop/leaf after b\nb = restart zoo/s01 after a",
			"a = restart shop/leaf after a", "a = restart shop/leaf after c\nb = restart zoo/s01 after a\nc = restart zoo/s02 after b",
			"d1 = drain shop/leaf hold after t1\nt1 = restore d1 after d1"),
	}
}

// whole restarts as much of a fleet as one plan can name: in compact text, the shortest of
// the spellings.
func whole(t *trial) (result, error) {
	n, id := pick(t, 5459, 5459, 400, 1000), t.id()
	return t.one(city(n), agent, id, "plan "+id+"\n"+sweep(min(n, 4900), 90+t.IntN(800)))
}

// city is a mesh of n services: a gateway, a front, and rows of others below it.
func city(n int) *fleet {
	f := newFleet()
	f.add("shop/front", 2)
	f.calls("outside/web", "shop/front")
	for i := range n - 1 {
		f.add(citizen(i), 1+i%3)
		caller := mesh.Service("shop/front")
		if i >= 15 {
			caller = citizen((i - 15) / 15)
		}
		f.calls(caller, citizen(i))
	}
	return f
}

func citizen(i int) mesh.Service { return mesh.Service(fmt.Sprintf("c%d/s%04d", i%7, i)) }

// sweep restarts every service of a city of n, in groups.
func sweep(n, size int) string {
	var b strings.Builder
	names := []string{"shop/front"}
	for i := range n - 1 {
		names = append(names, string(citizen(i)))
	}
	for i, step := 0, 0; i < len(names); i, step = i+size, step+1 {
		fmt.Fprintf(&b, "g%d = restart [%s]\n", step, strings.Join(names[i:min(i+size, len(names))], ","))
	}
	return b.String()
}

// scattered restarts n services of a city, each in another way.
func scattered(t *trial, n int) string {
	var b strings.Builder
	for i := range n {
		k := i + 16 // below the first row, so that none calls another of them
		switch t.IntN(3) {
		case 0:
			fmt.Fprintf(&b, "r%d = restart %s{zone=a}\n", i, citizen(k))
		case 1:
			fmt.Fprintf(&b, "r%d = restart %s\n", i, citizen(k))
		default:
			fmt.Fprintf(&b, "r%d = restart [%s]\n", i, citizen(k))
		}
	}
	return b.String()
}
