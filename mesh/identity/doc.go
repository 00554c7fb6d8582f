// Package identity says who is at the other end of a connection: SPIFFE identities in
// X.509 certificates, where a program's own certificate and the authorities that it
// trusts come from (files, or the Workload API of a SPIFFE agent), and which proxies an
// identity may speak for. It is not for deciding what a proxy may do: package
// xds/server asks and refuses.
//
//	spiffe://DOMAIN/ns/NAMESPACE/svc/NAME               the proxies of a service
//	spiffe://DOMAIN/ns/NAMESPACE/svc/NAME/instance/UID  the proxy of one instance
//	spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT             the proxies of an account (AccountRule)
//	spiffe://DOMAIN/sluice/control-plane                every replica of sluiced
//
// Sources are asked at every handshake, so a new certificate or authority counts from the
// next connection on; connections that stand are left alone.
package identity
