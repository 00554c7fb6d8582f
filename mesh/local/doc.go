// Package local is the registry and restart driver for one machine: it reads a
// mesh file and runs its services as plain processes, each behind an Envoy of its
// own, together with sluiced and the agents. It is not for decisions: what may be
// restarted, and when, is the microkernel's; this package only does as it is told.
//
// One supervisor (Run) owns a state directory:
//
//	lock                 flock of the living supervisor, with its pid
//	identity.json        boots, UIDs, incarnations and start-up times: outlives all
//	ports.json           port of every listener, by key: outlives all
//	children/NAME.json   pid and start time of each living child, for adoption
//	logs/NAME.log(.1)    stdout and stderr of each child, 10 MB and one old file
//	bootstrap/NAME.json  Envoy's bootstrap
//	supervisor.sock      the control interface (Client), mode 0600
//	xds.sock, tokens/, journal/   belong to sluiced
//
// Names of children: sluiced, agents, NAMESPACE.NAME-N for an application process,
// NAMESPACE.NAME-N.envoy for its sidecar, outside.GATEWAY for the ingress.
//
// Every child leads a session of its own and writes to its log by itself, so that
// a supervisor that dies takes nothing along; the next one on the same directory
// adopts the children that still live, known by pid and start time.
package local
