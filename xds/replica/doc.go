// Package replica joins the xDS servers of one control plane: the leader sends every other
// replica what is in force (server.Order) and hears how that one's proxies answered
// (server.Account), over gRPC with mutual TLS. It is not for electing a leader, nor for
// deciding anything: who leads, and in which epoch, is told to it.
//
//	leader --Order--> follower     the whole of what is in force, when it changes
//	leader <-Account- follower     its proxies' answers and loads, at least every 500 ms
//
// A follower refuses an order of an epoch before the greatest that it has seen. One that
// cannot be heard for two seconds is lost: its proxies prove nothing until they are heard
// of again, from any replica.
//
// Messages are JSON, decoded strictly: replicas of unlike versions that do not understand
// each other are lost to each other, which is safe.
package replica
