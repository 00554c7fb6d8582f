// Package server serves package xds to Envoys over a Unix socket: ADS in both variants
// (delta, state of the world), load reports (LRS), and whatever else is registered on its
// gRPC server (access logs).
// Type Traffic carries overlays to the proxies and gathers what is observed about
// them. It is not for deciding: it states who ACKed and what is in flight.
//
// One mutex guards all state; streams and operations wait on a broadcast. Lock
// order: Server.mu, then a stream's channel (never blocking: it has room for each
// outstanding response).
package server
