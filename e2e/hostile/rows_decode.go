package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strings"
)

// document is a program in JSON with the given steps.
func (t *trial) document(steps string) string {
	return fmt.Sprintf(`{"id":%q,"steps":[%s]}`, t.id(), steps)
}

// raw is an attack whose bytes are no plan at all.
func raw(row, name, expected string, source func(*trial) string) attack {
	return attack{row: row, name: name, door: "api", expected: expected, run: func(t *trial) (result, error) {
		return t.one(shop(), agent, "", source(t))
	}}
}

// decodeRows are the attacks on the decoders (phase D).
func decodeRows() []attack {
	const restart = `{"id":"r1","restart":{"target":{"service":"shop/cart"}%s}}`
	field := func(row, name string, fields ...string) attack {
		return raw(row, name, "REJECT:decode", func(t *trial) string {
			return t.document(fmt.Sprintf(restart, ","+pick(t, fields...)))
		})
	}
	top := func(row, name string, fields ...string) attack {
		return raw(row, name, "REJECT:decode", func(t *trial) string {
			doc := t.document(fmt.Sprintf(restart, ""))
			return doc[:len(doc)-1] + "," + pick(t, fields...) + "}"
		})
	}
	replicas := func(name, expected string, values ...string) attack {
		return raw("6", name, expected, func(t *trial) string {
			return t.document(fmt.Sprintf(`{"id":"s1","scale":{"target":{"service":"shop/cart"},"replicas":%s}}`, pick(t, values...)))
		})
	}
	return []attack{
		replicas("beyond any fleet", "REJECT:range", "1000000000", "-1", "-9223372036854775808", "9223372036854775808", "18446744073709551616"),
		replicas("no number", "REJECT:decode", "NaN", `"1e3"`, "Infinity", `"3"`, "null", "0x10", "3.5e"),
		raw("17", "duplicate key", "REJECT:decode", func(t *trial) string {
			return pick(t, `{"id":"p","id":"q","steps":[]}`, t.document(`{"id":"a","id":"b","restart":{"target":{"service":"shop/cart"}}}`),
				t.document(`{"id":"a","restart":{"target":{"service":"shop/leaf","service":"shop/cart"}}}`))
		}),
		raw("17", "bytes behind the end", "REJECT:decode", func(t *trial) string {
			return t.document(fmt.Sprintf(restart, "")) + pick(t, "x", "{}", "\x00", "]", t.document(""))
		}),
		raw("17", "unknown or wrongly spelled action", "REJECT:decode", func(t *trial) string {
			return t.document(fmt.Sprintf(`{"id":"a",%q:{"target":{"service":"shop/cart"}}}`,
				pick(t, "reboot", "Restart", "RESTART", "delete", "exec", "restart ")))
		}),
		raw("17", "action with a NUL", "REJECT:decode", func(t *trial) string {
			return t.document(pick(t, `{"id":"a","action":"restart\u0000"}`, `{"id":"a","restart\u0000":{"target":{"service":"shop/cart"}}}`))
		}),
		raw("17", "required field missing", "REJECT:decode", func(t *trial) string {
			return t.document(pick(t, `{"id":"a","restart":{}}`, `{"id":"a"}`, `{"restart":{"target":{"service":"shop/cart"}}}`,
				`{"id":"a","scale":{"target":{"service":"shop/cart"}}}`, `{"id":"a","restoreTraffic":{}}`))
		}),
		field("17", "wrong case of a word", `"mode":"ROLLING"`, `"mode":"Rolling"`, `"mode":"in_place"`, `"Mode":"rolling"`),
		top("17", "unknown field", `"x":1`, `"priority":9`, `"$schema":"x"`, `"ID":"q"`),
		top("22", "a plan that carries a date", `"created":"2026-01-01T00:00:00Z"`, `"notAfter":"2099-01-01T00:00:00Z"`, `"timestamp":1`),
		top("30", "a plan that judges itself", `"verified":true`, `"risk":"low"`, `"dryRun":false`, `"approved":true`, `"confidence":0.99`),
		field("30", "an action that asks for less care", `"force":true`, `"skipDrain":true`, `"verified":true`, `"safe":true`),
		tooLarge("steps beyond the limit", func(t *trial) []byte {
			n := pick(t, 65, 66, 1000, 5000)
			return []byte(t.document(strings.Repeat(`{"id":"a"},`, n-1) + `{"id":"a"}`))
		}),
		message("10^5 steps", func(t *trial) (body []byte, header map[string]string) {
			source := []byte(t.document(strings.Repeat(`{"id":"a"},`, 100_000+t.IntN(1000)) + `{"id":"a"}`))
			body, _ = json.Marshal(map[string]any{"program": map[string]any{"source": source}})
			return body, nil
		}),
		tooLarge("deep nesting", func(t *trial) []byte {
			return []byte(strings.Repeat(pick(t, "[", `{"steps":[`, `{"id":`), 9+t.IntN(6000)))
		}),
		tooLarge("duplicate keys in masses", func(t *trial) []byte {
			return []byte("{" + strings.Repeat(`"id":1,`, pick(t, 8000, 9000, 1<<15)) + `"id":1}`)
		}),
		tooLarge("more than a plan may have", func(t *trial) []byte {
			return []byte("{" + strings.Repeat(" ", 64<<10+t.IntN(500_000)))
		}),
		message("a message of megabytes", func(t *trial) (body []byte, header map[string]string) {
			body, _ = json.Marshal(map[string]any{"program": map[string]any{"source": bytes.Repeat([]byte(" "), 1<<20+t.IntN(6<<20))}})
			return body, nil
		}),
		message("a gzip bomb", func(t *trial) (body []byte, header map[string]string) {
			var out bytes.Buffer
			zip := gzip.NewWriter(&out)
			_, _ = zip.Write([]byte(`{"program":{"source":"`))                      // a buffer takes all
			_, _ = zip.Write(bytes.Repeat([]byte(pick(t, "A", "Q", " ")), 100<<20)) // the bomb
			_ = zip.Close()
			return out.Bytes(), map[string]string{"Content-Encoding": "gzip"}
		}),
	}
}

// tooLarge is a program that must be refused before it is parsed.
func tooLarge(name string, source func(*trial) []byte) attack {
	return raw("16", name, "REJECT:too-large", func(t *trial) string { return string(source(t)) })
}

// message is a request that is too large to be one: nobody reads it, and so nothing of it
// can be journalled.
func message(name string, body func(*trial) ([]byte, map[string]string)) attack {
	return attack{row: "16", name: name, door: "api", expected: "REJECT:too-large", run: func(t *trial) (result, error) {
		p, err := t.start(shop())
		if err != nil {
			return result{}, err
		}
		data, header := body(t)
		if header == nil {
			header = map[string]string{}
		}
		header["Authorization"] = "Bearer " + agent
		a := p.call("ProposePlan", data, header)
		return result{got: a.got(), code: a.Code, changed: p.changed()}, nil
	}}
}

// nameRows are the attacks by names.
func nameRows() []attack {
	target := func(row, name string, names ...string) attack {
		return raw(row, name, "REJECT:name", func(t *trial) string {
			text, _ := json.Marshal(pick(t, names...))
			ns := pick(t, "shop/", "shop/", "zoo/")
			return t.document(fmt.Sprintf(pick(t, `{"id":"r1","restart":{"target":{"service":"%s%s}}}`,
				`{"id":"d1","drain":{"target":{"service":"%s%s},"onEmpty":"hold"}},{"id":"t1","after":["d1"],"restoreTraffic":{"drain":"d1"}}`),
				ns, string(text[1:])))
		})
	}
	return []attack{
		target("18", "confusables", "рayment", "cаrt", "саrt", "ϲart", "cart٠"),
		target("18", "invisible", "ca\u200drt", "cart\u200b", "\ufeffcart", "ca\u00adrt", "cart\u2060"),
		target("18", "right-to-left", "ca\u202ert", "\u2066cart\u2069", "cart\u200f"),
		target("18", "full width", "ｃart", "ｃａｒｔ", "cart／db"),
		target("18", "combining or composed", "cafe\u0301", "café", "cart\u0336", "Å", "Å"),
		target("19", "path", "../etc", "..", ".", "cart/../front", "cart/", "a/b/c"),
		target("19", "shell", "svc;rm -rf", "$(id)", "`id`", "a|b", "a&&b", "cart\ttab"),
		target("19", "template", "{{.}}", "{{.Env}}", "%s%n", "${HOME}"),
		target("19", "line breaks", "a\r\nb", "cart\n", "\x1b[2Jcart", "cart\x00"),
		target("19", "percent", "%2e", "%2e%2e%2f", "cart%00"),
		target("19", "long", strings.Repeat("a", 254), strings.Repeat("a", 64), strings.Repeat("9", 1000)),
		target("19", "no label", "-cart", "cart-", "CART", "cart_db", "", "cart.db"),
	}
}
