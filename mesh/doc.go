// Package mesh holds the nouns that every other part of Sluice shares: services,
// instances, the world as last observed, overlays, proofs and capabilities. It is
// not for behaviour: it does no I/O, reads no clock and imports nothing of ours.
// Adapters that observe or change a real mesh live one level below (mesh/local,
// mesh/envoy, ...).
package mesh
