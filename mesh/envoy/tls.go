package envoy

import (
	"encoding/json"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
)

// The names of the secrets, and of the files of TLS.Dir. Whoever issues certificates
// renames its PEM files into place: Envoy reads them again when anything moves into the
// directory, without a restart and without touching connections that stand.
const (
	SecretCert  = "cert.pem"
	SecretKey   = "key.pem"
	SecretCA    = "ca.pem"
	secretOwn   = "own"
	secretTrust = "trust"
)

const tlsKind = "envoy.extensions.transport_sockets.tls.v3."

// TLS is how a proxy reaches the control plane over TCP: with a certificate of its own,
// and only if the other end proves to be the control plane.
type TLS struct {
	Address string // host:port; a host that is a name is resolved by DNS
	Server  string // SPIFFE id that the control plane's certificate must bear
	Dir     string // absolute; of SecretCert, SecretKey, SecretCA and the files of Secrets
}

// Secrets returns the files besides the PEM ones that must be in t.Dir, by name: what tells
// Envoy (SDS from a path) which certificate to show and whom to trust.
func (t TLS) Secrets() map[string][]byte {
	watched := object{"path": t.Dir}
	file := func(name string) object { return object{"filename": filepath.Join(t.Dir, name)} }
	return map[string][]byte{
		secretOwn + ".json": secret(secretOwn, "tls_certificate", object{
			"certificate_chain": file(SecretCert), "private_key": file(SecretKey), "watched_directory": watched,
		}),
		secretTrust + ".json": secret(secretTrust, "validation_context", object{
			"trusted_ca": file(SecretCA), "watched_directory": watched,
		}),
	}
}

// secret is a file of one SDS resource.
func secret(name, kind string, value object) []byte {
	resource := object{"@type": "type.googleapis.com/" + tlsKind + "Secret", "name": name, kind: value}
	out, err := json.MarshalIndent(object{"resources": []any{resource}}, "", " ")
	if err != nil {
		panic("envoy: secret of plain values does not marshal: " + err.Error())
	}
	return append(out, '\n')
}

// over makes the cluster of the control plane reach it over t.
func (t TLS) over(cluster object) object {
	host, port, err := net.SplitHostPort(t.Address)
	number, faulty := strconv.ParseUint(port, 10, 16)
	if err != nil || faulty != nil {
		host, number = t.Address, 0 // Envoy says what is wrong with it
	}
	if _, err := netip.ParseAddr(host); err != nil {
		cluster["type"] = "STRICT_DNS"
	}
	endpoint := object{"endpoint": object{"address": object{"socket_address": object{
		"address": host, "port_value": number,
	}}}}
	cluster["load_assignment"] = object{
		"cluster_name": Cluster, "endpoints": []any{object{"lb_endpoints": []any{endpoint}}},
	}
	cluster["transport_socket"] = object{"name": "envoy.transport_sockets.tls", "typed_config": object{
		"@type": "type.googleapis.com/" + tlsKind + "UpstreamTlsContext", "common_tls_context": t.context(),
	}}
	return cluster
}

// context is what both ends must show.
func (t TLS) context() object {
	from := func(name string) object {
		return object{"name": name, "sds_config": object{
			"resource_api_version": "V3",
			"path_config_source": object{
				"path": filepath.Join(t.Dir, name+".json"), "watched_directory": object{"path": t.Dir},
			},
		}}
	}
	return object{
		"alpn_protocols":                     []any{"h2"},
		"tls_certificate_sds_secret_configs": []any{from(secretOwn)},
		"combined_validation_context": object{
			"default_validation_context": object{"match_typed_subject_alt_names": []any{
				object{"san_type": "URI", "matcher": object{"exact": t.Server}},
			}},
			"validation_context_sds_secret_config": from(secretTrust),
		},
	}
}
