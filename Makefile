# The race detector needs a C compiler; without one the tests run without it.
RACE := $(if $(shell command -v $${CC:-gcc} 2>/dev/null),-race)
TOOL := go tool -modfile=tools/go.mod

.PHONY: test test-js test-portable lint fuzz bench bench-disk bench-fanout torture

# All that CI checks. Browser tests are skipped, by name, where Chromium or Node is
# missing; TIDEWIRE_REQUIRE_BROWSER=1 makes that an error.
#
# One package at a time: tests with browsers, proxies and load need the machine.
test: lint
	go build $(RACE) ./...
	go test $(RACE) -p 1 ./...
	go test ./sse
	$(MAKE) test-portable
	$(MAKE) test-js
	cd bench && go vet ./... && go test ./...
	GOOS=linux GOARCH=arm64 go build ./...
	GOOS=darwin GOARCH=arm64 go build ./...
	GOOS=windows GOARCH=amd64 go build ./...

# The browser client: its types, its size and its own tests. browsertest has it in Chromium.
test-js:
	@if command -v npm >/dev/null; then cd js && npm ci --ignore-scripts && npm test; \
	elif [ "$$TIDEWIRE_REQUIRE_BROWSER" = 1 ]; then echo "npm is missing: it comes with Node.js"; exit 1; \
	else echo "skipped: js, npm is missing"; fi

# What uses the hub, with a goroutine for each stream, as elsewhere than on Linux.
test-portable:
	go vet -tags portable ./...
	$(TOOL) staticcheck -tags portable ./hub
	go test -p 1 -tags portable ./hub/... ./server ./demo ./examples/... ./internal/cli

lint:
	@test -z "$$(gofmt -l .)" || { echo "run gofmt -w on:"; gofmt -l .; exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	$(TOOL) errcheck -ignoretests -exclude .errcheck ./...

# Ten minutes for each fuzz target, or FUZZTIME=30s.
FUZZTIME ?= 10m
fuzz:
	@set -e; for dir in sse hub auth server internal/cli internal/httploop internal/load; do \
		for target in $$(go test ./$$dir -list '^Fuzz' | grep '^Fuzz'); do \
			echo "$$dir $$target"; \
			go test ./$$dir -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME); \
		done; \
	done

# Our decoder and encoder beside others', one table.
bench:
	cd bench && go run .

# The log on disk beside what its disk does at most: twenty minutes, and 12 GB of the disk.
# BENCHDISK=-quick shows that it works.
bench-disk:
	cd bench && go run ./disk $(BENCHDISK)

# Fan-out beside other servers and what one system call per delivery can do: half an hour.
# docs/benchmarks.md says how it is read; BENCHFANOUT=-quick shows that it works.
bench-fanout:
	cd bench && go run ./fanout $(BENCHFANOUT)

# The crash test in full: the server is killed a hundred times under load, or KILLS=1000.
KILLS ?= 100
torture:
	TIDEWIRE_TORTURE_KILLS=$(KILLS) go test -count=1 -timeout 2h -v -run TestServer ./torture
