package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicemesh/sluice/api/client"
)

// endpoint is where an API is and how to get in; `sluice local up` writes it.
type endpoint struct {
	Server    string `json:"server"`
	TokenFile string `json:"token_file"`
	State     string `json:"state"`
}

const noServer = "no control plane is known: start one with `sluice local up -f FILE`, " +
	"or name one with --server or $SLUICE_SERVER"

// connect finds the API and returns a client of it and its address.
func (a *app) connect() (client.Client, string, error) {
	if a.kubeconfig != "" || a.kcontext != "" {
		return nil, "", missing("--kubeconfig and --context: this build reaches no cluster; use --server and --token-file")
	}
	found, err := a.find()
	if err != nil {
		return nil, "", err
	}
	token := ""
	if found.TokenFile != "" {
		if token, err = readToken(found.TokenFile); err != nil {
			return nil, "", err
		}
	}
	api, err := client.New(found.Server, token)
	if err != nil {
		return nil, "", usage("%w", err)
	}
	return api, found.Server, nil
}

// find resolves --server, $SLUICE_SERVER and the mesh that is up here, in this order.
func (a *app) find() (endpoint, error) {
	server := a.server
	if server == "" {
		server = a.getenv("SLUICE_SERVER")
	}
	var found endpoint
	var err error
	if server == "" {
		found, err = a.current()
	} else {
		found, err = a.known(server)
	}
	if err != nil {
		return endpoint{}, err
	}
	if a.tokenFile != "" {
		found.TokenFile = a.tokenFile
	}
	return found, nil
}

// known returns the endpoint of server, with its token file if it is a mesh of ours.
func (a *app) known(server string) (endpoint, error) {
	base, err := client.BaseURL(server)
	if err != nil {
		return endpoint{}, usage("%w", err)
	}
	_, authority, _ := strings.Cut(base, "://")
	found, err := readEndpoint(filepath.Join(a.stateHome(), "endpoints", strings.ReplaceAll(authority, ":", "_")+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return endpoint{Server: server}, nil
	}
	if err != nil {
		return endpoint{}, err
	}
	found.Server = server
	return found, nil
}

// current returns the mesh that was brought up last: the file "current" is a link to
// its endpoint file, or holds its path.
func (a *app) current() (endpoint, error) {
	found, err := readEndpoint(filepath.Join(a.stateHome(), "current"))
	if errors.Is(err, fs.ErrNotExist) {
		return endpoint{}, missing(noServer)
	}
	return found, err
}

func (a *app) stateHome() string {
	home := a.getenv("XDG_STATE_HOME")
	if home == "" {
		home = filepath.Join(a.getenv("HOME"), ".local", "state")
	}
	return filepath.Join(home, "sluice")
}

func readEndpoint(path string) (endpoint, error) {
	var found endpoint
	data, err := os.ReadFile(path)
	if err != nil {
		return found, fmt.Errorf("endpoint: %w", err)
	}
	if text := strings.TrimSpace(string(data)); !strings.HasPrefix(text, "{") && text != "" {
		if !filepath.IsAbs(text) {
			text = filepath.Join(filepath.Dir(path), text)
		}
		if data, err = os.ReadFile(text); err != nil {
			return found, fmt.Errorf("endpoint: %w", err)
		}
	}
	if err := json.Unmarshal(data, &found); err != nil || found.Server == "" {
		return found, missing("endpoint file %s is damaged: run `sluice local up` again, or use --server", path)
	}
	return found, nil
}

func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", missing("token: %w; name another file with --token-file", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || len(token) > 4096 || strings.ContainsAny(token, " \n\t") {
		return "", missing("token file %s: want one line with the token", path)
	}
	return token, nil
}
