# make test is what CI runs; make quick is what one runs while writing.

CARGO ?= cargo
JOBS ?= $(shell nproc)
FUZZ ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 60
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)

# A step, and how long it took.
timed = began=$$(date +%s); $(MAKE) --no-print-directory $(1); code=$$?; echo "== $(1): $$(($$(date +%s) - began)) s"; (exit $$code)

# The first step in the background, with its output shown at the end, and the second.
define beside
mkdir -p "$(TARGET_DIR)"; ( $(call timed,$(1)) ) >"$(TARGET_DIR)/$(1).log" 2>&1 & first=$$!; \
$(call timed,$(2)); second=$$?; wait $$first; first=$$?; cat "$(TARGET_DIR)/$(1).log"; [ $$first = 0 ] && [ $$second = 0 ]
endef

.PHONY: help test quick static cargo deps format lint features docs unit release clients wheel python conformance deny bench perf fuzz

help:
	@echo "make test    everything CI checks: lints, docs, tests, real clients"
	@echo "make quick   the same without the real clients"
	@echo "make python  that Flask-SocketIO applications run on the wheel as they do there"
	@echo "make wheel   the Python package for Flask applications, in target/wheels"
	@echo "make conformance   the official suites of Engine.IO and Socket.IO, and Autobahn's; fetched, needs a Python 2.7"
	@echo "make bench   the benches of single functions"
	@echo "make perf    this server next to its peers, on a quiet machine"
	@echo "make fuzz    every fuzz target for FUZZ_SECONDS (60); needs nightly and cargo-fuzz"
	@echo "make deny    licences and advisories of what we depend on; needs cargo-deny"

# One after the other, whatever -j says: they share one target folder. What the tests need is fetched meanwhile: that waits for
# others, and compiles nothing.
test:
	@$(MAKE) --no-print-directory cargo
	@$(call beside,deps,static)
	@$(call timed,unit)
	@$(call timed,release)
	@$(call timed,clients)
	@$(call timed,python)

quick:
	@$(MAKE) --no-print-directory cargo
	@$(MAKE) --no-print-directory static
	@$(MAKE) --no-print-directory unit

static:
	@$(MAKE) --no-print-directory format
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory features
	@$(MAKE) --no-print-directory docs

cargo:
	@command -v $(CARGO) >/dev/null || { echo "make: $(CARGO) is missing; install Rust 1.88 or later with rustup" >&2; exit 1; }

# What the real clients need: Node, Python, nginx and a browser.
deps:
	scripts/install-test-deps.sh

format:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --locked --jobs $(JOBS) --all-targets -- -D warnings
	$(CARGO) clippy --locked --jobs $(JOBS) --benches --features bench-support -- -D warnings
	$(CARGO) clippy --locked --jobs $(JOBS) --lib --examples --no-default-features -- -D warnings
	$(CARGO) clippy --locked --jobs $(JOBS) --package flask-shardcast -- -D warnings

# The library by sets of features. Of any two features there is a set that has the one and not the other, so that code of the one that
# needs the other is found; each client of a broker is alone among them, since they share crates and may lean on what another one
# asks of those. Without any the library is linted above, and with all that users have by default documented and built below.
features:
	for features in amqp,idna,log kafka,epoll,toml nats,idna,toml redis,epoll,log bus epoll,idna,log,toml; do \
	  $(CARGO) check --locked --jobs $(JOBS) --lib --no-default-features --features $$features || exit 1; \
	done

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --jobs $(JOBS) --no-deps

# Without --all-targets cargo runs unit tests, integration tests, examples' and doc tests.
unit:
	$(CARGO) test --locked --jobs $(JOBS)

# The program as users build it: optimised, and without what tests alone ask of the crates that it shares with them. It needs no
# library of the system, so that it is a container's only file.
release:
	$(CARGO) rustc --locked --jobs $(JOBS) --release --bin shardcast -- -C target-feature=+crt-static

# Examples are what `cargo test` has built, whose assertions hold here, too.
clients:
	scripts/test-clients.sh

# For CPython 3.10 and later; what the package is: docs/flask.md.
wheel: cargo
	scripts/build-wheel.sh

# The wheel in fresh environments: Flask-SocketIO's own tests, the same applications on both servers, faults.
python:
	scripts/test-python.sh

conformance:
	$(CARGO) build --locked --jobs $(JOBS) --release --example conformance
	scripts/conformance.sh

deny:
	$(CARGO) deny check

bench:
	$(CARGO) bench --locked --jobs $(JOBS) --features bench-support --bench '*'

perf:
	perf/run

fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "make: cargo-fuzz is missing: cargo install cargo-fuzz" >&2; exit 1; }
	set -e; for target in $(FUZZ); do \
	  $(CARGO) +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096; \
	done
