# The race detector needs a C compiler; without one the tests run without it.
RACE := $(if $(shell command -v $${CC:-gcc} 2>/dev/null),-race)
TOOL := go tool -modfile=tools/go.mod

.PHONY: test lint fuzz bench

# All that CI checks.
test: lint
	go test $(RACE) ./...
	cd bench && go vet ./... && go test ./...
	GOOS=linux GOARCH=arm64 go build ./...
	GOOS=darwin GOARCH=arm64 go build ./...
	GOOS=windows GOARCH=amd64 go build ./...

lint:
	@test -z "$$(gofmt -l .)" || { echo "run gofmt -w on:"; gofmt -l .; exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	$(TOOL) errcheck -exclude .errcheck ./...

# Ten minutes for each fuzz target, or FUZZTIME=30s.
FUZZTIME ?= 10m
fuzz:
	go test ./sse -run '^$$' -fuzz '^FuzzDecoder$$' -fuzztime $(FUZZTIME)
	go test ./sse -run '^$$' -fuzz '^FuzzRoundTrip$$' -fuzztime $(FUZZTIME)

# Our decoder and encoder beside others', one table.
bench:
	cd bench && go run .
