# Sluice. Two commands do everything on a fresh machine: make demo, make test.
# Exit 0 done, 1 not achieved, 2 wrong usage, 3 something needed is missing.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help

SLUICE_CACHE ?= $(HOME)/.cache/sluice
export SLUICE_CACHE
TOOLS        := $(SLUICE_CACHE)/bin
GOLANGCI     := v2.15.0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

SEED ?= 1
RPS  ?= 200

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/:.*## /\t/' | expand -t 16

# --- build ---------------------------------------------------------------------

.PHONY: build
build: programs bin/sluice-operator bin/kubectl-sluice ## build all programs into bin/

# What runs on one machine, without Kubernetes libraries.
.PHONY: programs
programs: bin/sluice bin/sluiced bin/sluice-agents

.PHONY: FORCE
bin/sluice bin/sluiced bin/sluice-agents bin/sluice-operator bin/kubectl-sluice: FORCE
	@go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/$(@F)

bin/e2e-%: FORCE
	@go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./e2e/$*

.PHONY: e2e-programs
e2e-programs: programs bin/e2e-app bin/e2e-demo bin/e2e-planned bin/e2e-topologies

.PHONY: generate
generate: protoc ## rewrite generated files (protobuf, docs made from code)
	@protoc --plugin=protoc-gen-go=$$(go tool -n protoc-gen-go) \
	  --plugin=protoc-gen-connect-go=$$(go tool -n protoc-gen-connect-go) -I api \
	  --go_out=api --go_opt=paths=source_relative \
	  --connect-go_out=api --connect-go_opt=paths=source_relative sluice/v1/sluice.proto sluice/v1/program.proto

# --- the main job --------------------------------------------------------------

TOPOLOGY ?= hotel
FAULT    ?= poison
OUT      ?=
KEEP     ?=

.PHONY: demo
demo: e2e-programs ## the main job on real Envoys: a fault, drain, restart, beside three controls
	@bin/e2e-demo -topology $(TOPOLOGY) -fault $(FAULT) -seed $(SEED) -rps $(RPS) \
	  -out $(or $(OUT),.) $(if $(KEEP),-keep)

REQUESTS ?= 20000
MESH     ?=
KILL     ?=
KILLS    ?=
WORKERS  ?= 1
RUNS     ?= 1
URLPATH  ?= /

.PHONY: planned
planned: e2e-programs ## restart healthy services in turn under load, beside a naive restart
	@bin/e2e-planned -seed $(SEED) -rps $(RPS) -requests $(REQUESTS) -out $(or $(OUT),planned.json) \
	  -topology $(TOPOLOGY) -workers $(WORKERS) -runs $(RUNS) $(if $(MESH),-mesh $(MESH) -path $(URLPATH)) $(if $(KILL),-kill $(KILL)) $(if $(KILLS),-kills $(KILLS))

# --- tests ---------------------------------------------------------------------

.PHONY: test
test: setup ## check and all tests; the last line counts them
	@go run ./internal/testrun

.PHONY: test-quick
test-quick: ## pure packages, goldens, one Envoy smoke test: for every save
	@go run ./internal/testrun -quick

.PHONY: check
check: format lint fresh ## format, lint, import rules, generated files fresh
	@go test -count=1 ./internal/rules

.PHONY: format
format: ## fail if a file is not gofmt-ed
	@files=$$(gofmt -l $$(git ls-files '*.go')); \
	  test -z "$$files" || { echo "not gofmt-ed (run gofmt -w):"; echo "$$files"; exit 1; }

.PHONY: lint
lint: $(TOOLS)/golangci-lint-$(GOLANGCI) ## golangci-lint
	@$< run ./...

$(TOOLS)/golangci-lint-$(GOLANGCI):
	@echo "building golangci-lint $(GOLANGCI), once for this machine (some minutes)" >&2
	@mkdir -p $(TOOLS)
	@cd / && GOBIN=$(TOOLS) GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	@mv $(TOOLS)/golangci-lint $@

.PHONY: fresh
fresh: ## fail if a generated file is stale
	@before=$$(git hash-object $$(git ls-files 'api/*.go') | sha1sum); $(MAKE) generate; \
	  after=$$(git hash-object $$(git ls-files 'api/*.go') | sha1sum); \
	  test "$$before" = "$$after" || { echo "generated files under api/ were stale: commit the result of make generate"; exit 1; }

SEEDS  ?= 1000
FROM   ?= 1
REPLAY ?=
PARTS  ?=

.PHONY: sim
sim: ## simulate the kernel with faults and crashes; SEED=n REPLAY=1 prints one run, PARTS=folder lets a long one go on
	@go run ./microkernel/sim/cmd $(if $(REPLAY),-replay -from $(SEED) -seeds 1,-seeds $(SEEDS) -from $(FROM)) \
	  $(if $(PARTS),-parts '$(PARTS)') -out $(or $(OUT),sim.json)

ROWS     ?=
VARIANTS ?= 10

.PHONY: hostile
hostile: ## every attack of the list and every benign twin, with the verdicts expected
	@go run -ldflags '$(LDFLAGS)' ./e2e/hostile -rows '$(ROWS)' -variants $(VARIANTS) -seed $(SEED) \
	  -out $(or $(OUT),hostile.json)

RUN ?=

.PHONY: rolling
rolling: RUNS = 3
rolling: e2e-programs ## hard restarts in turn on real Envoys: gated, ACKed only, not drained; then by an operator
	@go run -ldflags '$(LDFLAGS)' ./e2e/bench rolling -seed $(SEED) -runs $(RUNS) -out $(or $(OUT),rolling.json)
	@bin/e2e-planned -topology fan -service fan/pair -rolling 10 -rps 100 -seed $(SEED) -runs $(RUNS) -workers 2 \
	  -out rolling-operator.json

.PHONY: bench
bench: programs bin/e2e-app ## figures beside their references; RUN=regexp selects rows
	@go run -ldflags '$(LDFLAGS)' ./e2e/bench -run '$(RUN)' -out $(or $(OUT),bench.json)

MINUTES ?= 10
WARM ?= 10

.PHONY: soak
soak: programs bin/e2e-soak ## RUN=telemetry: real exporters feed a real sluiced at its limit for WARM and MINUTES, the latter judged
	@bin/e2e-soak -run $(or $(RUN),telemetry) -warm $(WARM) -minutes $(MINUTES) -out $(or $(OUT),soak.json)

RECORDINGS ?= recordings

.PHONY: record false-alarms
record: programs bin/e2e-app bin/e2e-recording ## MINUTES of the demo mesh in which nothing happens, added to RECORDINGS
	@bin/e2e-recording record -minutes $(MINUTES) -topology $(TOPOLOGY) -rps $(RPS) -seed $(SEED) -dir $(RECORDINGS)

false-alarms: bin/e2e-recording ## RECORDINGS replayed through the harm monitor: every alarm is a false one
	@bin/e2e-recording replay -dir $(RECORDINGS) -out $(or $(OUT),alarms.json)

bin/e2e-cluster: FORCE
	@go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./e2e/cluster/cmd

.PHONY: e2e-cluster e2e-cluster-down
e2e-cluster: cluster-programs bin/e2e-cluster ## scenarios on a real Kubernetes of one node, built once (needs root); RUN=regexp KEEP=1
	@bin/e2e-cluster run -run '$(RUN)' $(if $(KEEP),-keep) -out $(or $(OUT),e2e.json)
e2e-cluster-down: bin/e2e-cluster ## end the cluster that KEEP=1 left up
	@bin/e2e-cluster down

DATA ?=

.PHONY: topology
topology: bin/e2e-inference ## bounds on what is missed; DATA=folder of spans and cases: culprits of recorded faults too
	@bin/e2e-inference -data '$(DATA)' -bounds $(or $(BOUNDS),200) -out $(or $(OUT),topology.json)

.PHONY: race
race: ## all packages under the race detector (nightly)
	@go test -race -p=1 -timeout=40m ./...

FUZZTIME ?= 60s
FUZZ     ?= .

.PHONY: fuzz
fuzz: ## every fuzz target that matches FUZZ (as isa/codec.*YAML) for FUZZTIME
	@grep -rHoE '^func Fuzz[A-Za-z0-9]+' --include='*_test.go' --exclude-dir='.*' * | sort | { grep -E '$(FUZZ)' || \
	  { echo "no fuzz target matches $(FUZZ)" >&2; exit 2; }; } | while IFS=: read -r file name; do \
	  dir=$$(dirname "$$file") f=$${name#func }; echo "== $$dir $$f"; \
	  go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./$$dir </dev/null; done

TRIALS ?=

# Each part of the evaluation writes its rows into OUT/eval.json and leaves the others' alone.
.PHONY: eval eval-long eval-offline eval-offline-long
eval: eval-offline ## harm measured with controls, a short honest version
eval-long: eval-offline-long ## the same, long

eval-offline: bin/sluice ## worst cases on call graphs of which all is known; TRIALS a graph and kind of evidence
	@bin/sluice eval simulate --seed $(SEED) --sample $(or $(TRIALS),1000) --out $(or $(OUT),eval) >/dev/null

eval-offline-long: bin/sluice ## the same with 20000 trials
	@bin/sluice eval simulate --seed $(SEED) --sample $(or $(TRIALS),20000) --out $(or $(OUT),eval) >/dev/null

# --- what a later change fills -------------------------------------------------

LATER := e2e-kind mutate screens

.PHONY: $(LATER)
e2e-kind:    ## not yet: scenarios on kind
mutate:      ## not yet: mutation testing
screens:     ## not yet: pictures of every screen
$(LATER):
	@echo "make $@ is not there yet; make help lists what is" >&2; exit 3 # make itself answers 2

# --- what a new machine lacks ---------------------------------------------------

.PHONY: setup
setup: protoc chromium prometheus cluster-programs

.PHONY: protoc chromium prometheus cluster-programs
protoc:
	@command -v protoc >/dev/null || internal/setup protobuf-compiler
chromium:
	@command -v chromium >/dev/null || internal/setup chromium
prometheus:
	@command -v prometheus >/dev/null || test -x $(SLUICE_CACHE)/prometheus/usr/bin/prometheus || internal/unpack prometheus
cluster-programs: # unpacked, not installed: their daemons must not start
	@for p in containerd runc containernetworking-plugins etcd-server; do test -d $(SLUICE_CACHE)/$$p || internal/unpack $$p; done
	@command -v nft iptables-nft conntrack ip nsenter sysctl >/dev/null || \
	  internal/setup nftables iptables conntrack iproute2 util-linux procps libseccomp2
