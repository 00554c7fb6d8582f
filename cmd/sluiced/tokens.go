package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicemesh/sluice/api/server"
	"github.com/sluicemesh/sluice/microkernel"
)

// secretBytes is the entropy of a token.
const secretBytes = 32

// tokens reads the token of each role from DIR/tokens, creating what is absent with
// mode 0600. On a laptop the files' owner is everybody who may use them.
func tokens(state string) (*server.Tokens, error) {
	dir := filepath.Join(state, "tokens")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of tokens: %w", err)
	}
	roles := []microkernel.Role{
		microkernel.Viewer, microkernel.Proposer, microkernel.Approver, microkernel.Admin,
	}
	var list []server.Token
	for _, role := range roles {
		secret, err := secret(filepath.Join(dir, string(role)))
		if err != nil {
			return nil, fmt.Errorf("token of role %s: %w", role, err)
		}
		bearer := microkernel.Principal{Name: principalOf(role), Role: role}
		list = append(list, server.Token{Secret: secret, Bearer: bearer})
	}
	return server.NewTokens(list...)
}

// principalOf names the one principal that bears a role's token in a local mesh.
func principalOf(role microkernel.Role) string {
	if role == microkernel.Proposer {
		return "agent"
	}
	return "local-" + string(role)
}

// secret returns the line in path, after writing a random one if there is no file. The
// new file appears whole or not at all.
func secret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, secretBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	line := base64.RawURLEncoding.EncodeToString(raw)
	if err := os.WriteFile(path+".new", []byte(line+"\n"), 0o600); err != nil {
		return "", err
	}
	return line, os.Rename(path+".new", path)
}
