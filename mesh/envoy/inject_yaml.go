package envoy

import (
	"go.yaml.in/yaml/v3"
)

// child returns the value under a path of keys, nil if there is none.
func child(node *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		node = value(node, key)
	}
	return node
}

func value(node *yaml.Node, key string) *yaml.Node {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}

// text returns the scalar under a path of keys, "" if there is none.
func text(node *yaml.Node, keys ...string) string {
	if found := child(node, keys...); found != nil && found.Kind == yaml.ScalarNode && found.Tag != "!!null" {
		return found.Value
	}
	return ""
}

// stringsOf returns a mapping of scalars.
func stringsOf(node *yaml.Node) map[string]string {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	found := map[string]string{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		found[node.Content[i].Value] = node.Content[i+1].Value
	}
	return found
}

// set puts a value under a key of a mapping, in the place of what is there.
func set(node *yaml.Node, key string, v any) {
	fresh := nodeOf(v)
	if old := value(node, key); old != nil {
		*old = *fresh
		return
	}
	node.Style &^= yaml.FlowStyle
	node.Content = append(node.Content, nodeOf(key), fresh)
}

// branch returns the value under a key of a mapping, made with the kind if there is none.
func branch(node *yaml.Node, key string, kind yaml.Kind) *yaml.Node {
	found := value(node, key)
	if found != nil && found.Kind == kind {
		found.Style &^= yaml.FlowStyle
		return found
	}
	tag := "!!map"
	if kind == yaml.SequenceNode {
		tag = "!!seq"
	}
	if found != nil { // null, or nothing that an API server would take
		*found = yaml.Node{Kind: kind, Tag: tag}
		return found
	}
	found = &yaml.Node{Kind: kind, Tag: tag}
	node.Style &^= yaml.FlowStyle
	node.Content = append(node.Content, nodeOf(key), found)
	return found
}

// nodeOf is v as a node; keys of maps are sorted.
func nodeOf(v any) *yaml.Node {
	var node yaml.Node
	if err := node.Encode(v); err != nil {
		panic("envoy: plain values do not encode: " + err.Error())
	}
	return &node
}
