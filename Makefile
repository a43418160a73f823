# make run     a cluster of three nodes on 127.0.0.1:9092-9094, data in ./chronik-dev
# make test    everything that CI runs: installs the clients under test, then vet, lint, unit, crash and client tests
# make help    the rest
SHELL := /bin/bash
export CGO_ENABLED := 0
GO ?= go
TOOL = $(GO) tool -modfile=tools/go.mod
PKGS = ./...
FUZZTIME ?= 10s
SEEDS ?= 1000
COMMANDSEEDS ?= 40
SIMSEEDS ?= 200
COUNT ?= 1
ROUNDS ?= 10

.PHONY: help run build test unit fake clients kills cluster groups race sim mutate fuzz bench lint oracle powercut crash proto docs clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: build ## build, start a cluster of three nodes on this machine and say how to talk to it
	@bin/chronik dev --nodes 3 --data chronik-dev

build: ## bin/chronik, one static binary
	@mkdir -p bin
	$(GO) build -trimpath -o bin/chronik ./cmd/chronik

test: build lint unit fake clients kills powercut cluster ## what CI runs

unit: ## unit, model and crash-simulation tests of all packages
	$(GO) test -timeout 15m $$($(GO) list ./... | grep -v '^chronik/test/') ./test/mutate

fake: build ## the same requests to franz-go's kfake and to chronik, answers compared; docs/compatibility.md
	CHRONIK_BIN=$(CURDIR)/bin/chronik $(GO) test -count=$(COUNT) -timeout 5m ./test/oracle/fake ./test/oracle

clients: build ## real clients: franz-go, sarama, kafka-go, librdkafka, kafka-python, aiokafka, Java, Kafka's own tools, kafkajs
	scripts/clients.sh
	CHRONIK_BIN=$(CURDIR)/bin/chronik $(GO) test -count=$(COUNT) -timeout 15m -v ./test/clients 2>&1 | scripts/quiet-test.sh

powercut: build ## power cuts on a real ext4 file system in a loop-mounted image (needs root; says so if not)
	$(GO) test -p 1 -count=$(COUNT) -timeout 10m -v ./test/ext4 ./test/powercut 2>&1 | scripts/quiet-test.sh

kills: build ## kill -9 and power cuts under load, then every acknowledged record back (short)
	CHRONIK_BIN=$(CURDIR)/bin/chronik $(GO) test -count=$(COUNT) -timeout 10m -v ./test/crash 2>&1 | scripts/quiet-test.sh

cluster: build ## three real nodes: the original's tests, restarts, no controller, clients and groups while nodes are killed, power cuts
	CHRONIK_BIN=$(CURDIR)/bin/chronik $(GO) test -count=$(COUNT) -timeout 15m -v ./test/cluster ./test/node 2>&1 | scripts/quiet-test.sh

crash: build ## the same with 1 GB of text (long; power cuts need root)
	CHRONIK_BIN=$(CURDIR)/bin/chronik $(GO) test -count=$(COUNT) -timeout 60m -v ./test/crash -long 2>&1 | scripts/quiet-test.sh

groups: build ## groups of real clients through ROUNDS (10) of kills and pauses of members and coordinators (long)
	scripts/clients.sh
	CHRONIK_BIN=$(CURDIR)/bin/chronik $(GO) test -count=1 -timeout 120m -v ./test/cluster -run 'GroupOf' -rounds $(ROUNDS) 2>&1 | scripts/quiet-test.sh

race: ## unit tests under the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race -timeout 40m $$($(GO) list ./... | grep -v '^chronik/test/')

sim: ## many seeds: histories of storage and streams, whole clusters on fake time (docs/simulation.md)
	CHRONIK_SEEDS=$(SEEDS) $(GO) test -count=1 -timeout 60m -run History ./internal/wal ./internal/store
	CHRONIK_SEEDS=$(COMMANDSEEDS) $(GO) test -count=1 -timeout 60m -run 'Histor|Model' ./internal/controller ./internal/stream ./internal/replica
	CHRONIK_SEEDS=$(SIMSEEDS) $(GO) test -count=1 -timeout 60m -run 'TestSimulation|TestDeterminism' ./internal/sim

mutate: ## break each rule of the design once, on purpose, and see it noticed; docs/mutations.md
	$(GO) test -count=1 -timeout 120m -v ./test/mutate -mutate -record 2>&1 | scripts/quiet-test.sh

fuzz: ## each fuzz target for FUZZTIME (10s)
	@for pkg in $$($(GO) list ./internal/...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz'); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; done

bench: build ## the rows of docs/benchmarks.md, for one node and for three, beside the machine's ceiling, in a quiet network
	scripts/bench.sh

lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l cmd internal test | tee /dev/stderr)"
	$(GO) vet $(PKGS)
	$(TOOL) staticcheck $(PKGS)

oracle: build ## compare every advertised key and version with Apache Kafka itself (installs it)
	scripts/clients.sh
	CHRONIK_ORACLE=1 $(GO) test -p 1 -count=1 -timeout 30m -v ./test/oracle/... 2>&1 | scripts/quiet-test.sh

proto: ## regenerate internal/metadata/*.pb.go (needs protoc)
	$(GO) generate ./internal/metadata

docs: ## regenerate the generated pages of docs/
	$(GO) test ./internal/cli -run TestGeneratedDocs -update
	$(GO) test ./test/oracle -run TestDocs -update

clean: ## remove what was built
	rm -rf bin
