package harm

import (
	"testing"
	"time"

	"github.com/sluicemesh/sluice/microkernel"
)

func TestASlowMachineIsNoHarm(t *testing.T) {
	normal := load{200, 200 * time.Millisecond, 0}
	tiny := load{200, time.Millisecond, 0}
	by := func(l load, factor int) load { return load{l.rate, time.Duration(factor) * l.median, 0} }
	for _, test := range []struct {
		name          string
		before, since []load // of the controls
		slower        int    // factor of the subject's latency
		want          microkernel.HarmLabel
		from, til     int
	}{
		{"without a control", nil, nil, 3, microkernel.Harm, 6, 10},
		{"the control is as it was", []load{normal}, []load{normal}, 3, microkernel.Harm, 6, 10},
		{"the control is as much slower", []load{normal}, []load{by(normal, 3)}, 3, "", 0, 0},
		{"the control is slower, but less", []load{normal}, []load{by(normal, 2)}, 6, microkernel.Harm, 6, 10},
		{"one control of three is slower", []load{normal, normal, normal}, []load{normal, by(normal, 3), normal}, 3,
			microkernel.Harm, 6, 10},
		{"the control is quick, slower or not", []load{tiny}, []load{by(tiny, 3)}, 3, microkernel.Harm, 6, 10},
		{"the control has no requests", []load{normal}, []load{{}}, 3, microkernel.Harm, 6, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings := Settings{Window: 5}
			for _, c := range test.before {
				settings.Controls = append(settings.Controls, Measure(ticks(60, c.exact)))
			}
			trial := NewTrial([]Subject{before(normal)}, settings)
			for second := 1; second <= 35; second++ { // from 36 on it is harm by the label of record
				compared := make([]Tick, len(test.since))
				for i, c := range test.since {
					compared[i] = c.exact(second)
				}
				trial.Compare(compared)
				verdict, fallen := trial.Next([]Report{{Tick: by(normal, test.slower).exact(second)}})
				if !fallen {
					continue
				}
				if verdict.Label != test.want || second < test.from || second > test.til {
					t.Errorf("%q in second %d (%s)", verdict.Label, second, verdict.Evidence)
				}
				return
			}
			if test.want != "" {
				t.Errorf("no verdict, want %q", test.want)
			}
		})
	}
}
