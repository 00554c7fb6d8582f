package local

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/sluicemesh/sluice/mesh"
)

// placeholder matches {word} and {word:argument}; in double braces it is literal
// and loses one pair.
var placeholder = regexp.MustCompile(`\{\{[a-z]+(?::[^{}]*)?\}\}|\{[a-z]+(?::[^{}]*)?\}`)

// values are what the placeholders of one process stand for.
type values struct {
	port      uint16
	instance  string
	upstreams map[mesh.Service]netip.AddrPort
}

// fill replaces the placeholders of text, which placeholderFault has passed.
func (v values) fill(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(match string) string {
		if strings.HasPrefix(match, "{{") {
			return match[1 : len(match)-1]
		}
		word, argument, _ := strings.Cut(match[1:len(match)-1], ":")
		switch word {
		case "port":
			return strconv.Itoa(int(v.port))
		case "instance":
			return v.instance
		default:
			return v.upstreams[mesh.Service(argument)].String()
		}
	})
}

// placeholderFault returns what is wrong with the placeholders of text and the
// remedy, "" if nothing is. known reports whether a service is an upstream.
func placeholderFault(text string, known func(mesh.Service) bool) (reason, remedy string) {
	for _, match := range placeholder.FindAllString(text, -1) {
		if strings.HasPrefix(match, "{{") {
			continue
		}
		word, argument, has := strings.Cut(match[1:len(match)-1], ":")
		switch {
		case (word == "port" || word == "instance") && !has:
		case word == "upstream" && known(mesh.Service(argument)):
		case word == "upstream":
			return quote(match) + " names no upstream of this service", "add it to upstreams or correct the name"
		default:
			return quote(match) + " is not a placeholder",
				"use {port}, {instance} or {upstream:NAMESPACE/NAME}, or double the braces to mean it literally"
		}
	}
	return "", ""
}
