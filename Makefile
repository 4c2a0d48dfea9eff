# Each verb is a thin call: the work is in scripts/.
.DEFAULT_GOAL := help
.PHONY: help run build headless test test-engines lint fmt bench screenshots release

help: ## Show this list
	@awk -F ': ## ' '/^[a-z]+: ## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run: ## Start a studio and a worker here and run sample jobs (ONCE=1: then stop)
	@ONCE='$(ONCE)' scripts/run

build: ## Build the window program: bin/studio-worker
	@scripts/setup window
	@scripts/build window

headless: ## Build the static program without a window: bin/studio-worker
	@scripts/build headless

test: ## Run every test, with the race detector
	@scripts/setup
	go test -race -shuffle=on -timeout 30m ./...

test-engines: ## Test the engines with real programs and models (fetches them once)
	@scripts/setup engines
	@scripts/engines/test

lint: ## Check style, mistakes and the import arrows
	go tool -modfile=scripts/tools.mod golangci-lint run

fmt: ## Format the Go code
	go tool -modfile=scripts/tools.mod golangci-lint fmt

bench: ## Run every benchmark
	@scripts/bench

screenshots: ## Draw every page in every state into .tmp/screenshots/
	@scripts/screenshots

release: ## Build packages, archives and what updaters read: VERSION=1.2.3
	@scripts/setup release
	@scripts/release "$(VERSION)"
