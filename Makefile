# Entry points. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help build run test test-long bench generate lint

help: ## list the entry points
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## build bin/tollkey, one static binary
	CGO_ENABLED=0 go build -trimpath -o bin/tollkey ./cmd/tollkey

run: build ## build and start the server on 127.0.0.1:8080
	./bin/tollkey serve

test: ## install what tests need and run all of them (under 12 minutes)
	./scripts/test

test-long: ## kills, floods, browsers (under 60 minutes)
	./scripts/test-long

bench: ## measure: the server beside a bare handler, on SQLite and PostgreSQL; then the engine alone
	go build -C bench -o ../bin/bench .
	./scripts/bench
	go test -run '^$$' -bench . -benchmem ./internal/...

generate: ## make internal/wire from api/openapi.yaml
	./scripts/generate

lint: ## formatting, golangci-lint, the OpenAPI description
	@./scripts/lint
