# What CI runs is `make test`. Needed: Rust (rust-toolchain.toml), Go, Python 3, npm, a
# Chromium (installed where apt is there) and a C compiler; the control plane that
# the end-to-end tests and the demo run on is built once from pinned Go modules (tests/controlplane/) and cached.
# deny.toml configures `cargo deny check` for those who have cargo-deny; it is not run here: it takes minutes to build.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := test
.PHONY: test nightly demo fmt lint unit e2e idle accuracy bench bench-scale bench-page bench-admission pictures fuzz controlplane page shapes

CARGO ?= cargo

# Everything: formatting, lints, unit, property, integration and documentation tests, and end to end on a real control
# plane. That is built beside the lints: a fresh machine needs both.
test:
	$(CARGO) fmt --check
	bash tests/page/install.sh
	bash tests/controlplane/install.sh >/dev/null & controlplane=$$!
	trap 'kill $$controlplane 2>/dev/null || true' EXIT
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --all-targets --no-run
	wait $$controlplane
	trap - EXIT
	$(CARGO) test --locked --all-targets || { echo 'The logs of the control plane are in target/controlplane-logs.'; exit 1; }
	$(CARGO) test --locked --doc

# What is too long for every change: each property over 10,000 cases instead of some hundreds, every model of the catalog at
# every precision with every engine, the ten quiet minutes, 200 random edits of a running object, and ten minutes of
# mutated headers against every parser.
nightly: controlplane
	LOADLINE_SWEEP=all PROPTEST_CASES=$${PROPTEST_CASES:-10000} $(CARGO) test --locked --all-targets
	LOADLINE_IDLE_SECONDS=600 $(CARGO) test --locked --test it -- e2e::idle
	LOADLINE_EDITS=200 $(CARGO) test --locked --test it -- e2e::edits --nocapture
	$(MAKE) fuzz

# All but what needs the control plane.
unit: page
	$(CARGO) test --locked --lib --bins
	$(CARGO) test --locked --test it -- --skip e2e:: --skip chart:: --skip controlplane::
	$(CARGO) test --locked --doc

# Only what needs the control plane.
e2e: controlplane
	$(CARGO) build --locked
	$(CARGO) test --locked --test it -- e2e:: chart:: controlplane::

# Ten quiet minutes with no write of the controller, instead of the one minute that `make test` takes.
idle: controlplane
	$(CARGO) build --locked
	LOADLINE_IDLE_SECONDS=600 $(CARGO) test --locked --test it -- e2e::idle

demo:
	$(CARGO) build --locked --bin loadline --example demo
	target/debug/examples/demo

controlplane:
	bash tests/controlplane/install.sh >/dev/null

fmt:
	$(CARGO) fmt

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# What the command line prints beside the memory that real engines were measured to take.
accuracy:
	$(CARGO) build --locked --release --bin loadline
	$(CARGO) run --locked --release --example accuracy

# What the tests of the page need: a Chromium, and axe-core.
page:
	bash tests/page/install.sh

# The pictures of docs/page.md, taken anew: look at them.
pictures: page
	LOADLINE_PICTURES=1 $(CARGO) test --locked --test it -- page::pictures

# Ten minutes of mutated headers and configs against every parser; an input that fails is kept in tests/fixtures/fuzz.
fuzz:
	$(CARGO) run --locked --release --example fuzz_parsers -- $${SECONDS_TO_RUN:-600}

bench:
	$(CARGO) bench --locked

# What the page holds out, in requests and in slow connections.
bench-page: page
	$(CARGO) build --locked --release --bin loadline --example page
	ulimit -n 4096
	target/release/examples/page

# Memory and time of 1,000 objects over 5,000 nodes, for the controller and for `loadline plan`.
bench-scale:
	$(CARGO) build --locked --release --bin loadline --example scale
	target/release/examples/scale

# What admission costs: the webhook beside no webhook, and pods beside no policies, on a real API server.
bench-admission: controlplane
	$(CARGO) build --locked --release --bin loadline --example bench_admission
	target/release/examples/bench_admission

# Every tensor, layer and state that configs and GGUF headers are read into: run it before and after a change of the families,
# each into a directory of its own, and compare the two.
shapes:
	$(CARGO) run --locked --example shapes -- $(or $(TO),target/shapes)
