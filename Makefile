# Mayfly: everything that is done to this repository. `make` alone lists it.

SHELL  := /bin/sh
CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
HOST    = $(shell rustc -vV | sed -n 's/^host: //p')

.DEFAULT_GOAL := help
.PHONY: help demo test chaos check fmt clippy doc deny bans docs proof bench fuzz dist install

help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## build Mayfly and play its main job: mint, check, complete, revoke, restart
	@echo "building mayfly (some minutes the first time, seconds after that)"
	$(CARGO) build --locked -p mayfly-cli -p mayfly-demo -p mayfly-mtls-services --bins
	@$(TARGET)/debug/mayfly-demo

test: install ## run every test, against a real redis-server (installed where it is missing)
	$(CARGO) test --locked --workspace

chaos: install ## kill, stop, cut and clear every part under load until there were CHAOS_CHECKS (1000000) checks
	$(CARGO) test --locked -p mayfly-tests --test chaos -- --ignored --exact --nocapture for_long

check: fmt clippy doc deny bans ## formatting, lints, documentation, licences, banned crates: no warning passes

fmt:
	$(CARGO) fmt --all -- --check

clippy:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

# Advisories need a network that a build may not have; the offline checks run where cargo-deny is installed.
deny:
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --locked check bans licenses sources; \
	else \
		echo "cargo-deny is not installed: licences and sources are not checked, banned crates are (below)"; \
	fi

bans:
	$(CARGO) test --locked -p mayfly-tests --test e2e house::

docs: ## write the generated pages again: docs/errors.md, docs/limits.md, docs/proof.md
	MAYFLY_WRITE_DOCS=1 $(CARGO) test --locked -p mayfly-tests --test e2e house::generated
	MAYFLY_WRITE_DOCS=1 $(CARGO) test --locked -p mayfly-proof --test proof

proof: ## explore the larger models of the protocol too (minutes, 6 GB); the others are part of `make test`
	$(CARGO) test --locked -p mayfly-proof --test proof -- --include-ignored

bench: install ## measure on this machine, print a table, write target/bench/report.json
	$(CARGO) build --locked --release -p mayfly-bench
	@$(TARGET)/release/mayfly-bench --report target/bench/report.json --disk target/bench

# Coverage without a sanitizer works with the pinned compiler. What is in fuzz/corpus is kept; new inputs go to fuzz/found,
# findings to fuzz/artifacts.
fuzz: ## run each fuzz target, or FUZZ_TARGETS, for FUZZ_SECONDS (10); needs `cargo install cargo-fuzz`
	@for target in $(or $(FUZZ_TARGETS),$$(sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | tail -n +2)); do \
		mkdir -p "fuzz/found/$$target" "fuzz/corpus/$$target" && $(CARGO) fuzz run -s none --fuzz-dir fuzz "$$target" \
			"fuzz/found/$$target" "fuzz/corpus/$$target" "fuzz/seeds/$$target" \
			-- -max_total_time=$(or $(FUZZ_SECONDS),10) -max_len=4096 || exit 1; \
	done

dist: ## a release archive with its checksum in target/dist
	$(CARGO) build --locked --release -p mayfly-cli --bin mayfly
	@sh .ci/dist "$(TARGET)/release/mayfly" "$(VERSION)" "$(HOST)"

install: ## what the tests need and this machine lacks: redis-server, openssl, GnuTLS, PyJWT
	@sh .ci/install
