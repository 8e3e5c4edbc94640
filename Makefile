# `make` lists the targets. Everything that they build goes under target/.
.DEFAULT_GOAL := help
.PHONY: help setup build install uninstall header abi notices docs dist wheel test-dist demo test test-torch2 check check-account \
	bench bench-quick bench-python fuzz miri deny clean toolchain release-notes release-assets publish-release aks-image

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\): ## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r target text; do \
		printf '  make %-15s %s\n' "$$target" "$$text"; done

demo: ## save a ResNet18 to a blob server, load it back, survive a kill -9, train from blobs (5 min the first time, then 30 s)
	@scripts/setup.sh demo
	@scripts/demo.sh

test: ## every gate of this repository (some 42 min the first time, then 22 min)
	@scripts/setup.sh test
	@scripts/test.sh

test-torch2: ## the gates with PyPI's torch: C++, the examples, Python (11 min and 2.8 GB the first time, then 6 min)
	@scripts/setup.sh test-torch2
	@scripts/test.sh --torch2

check: ## the quick gates only: format, lints, links, header, symbols (6 min the first time, then 30 s)
	@scripts/setup.sh check
	@scripts/test.sh --quick

build: ## libraries, headers, packages for CMake and pkg-config, and aztorch-doctor, under target/stage (5 min the first time)
	@scripts/setup.sh build
	@scripts/stage.sh "$${CARGO_TARGET_DIR:-target}/stage" --doctor

install: ## build, and install into PREFIX (/usr/local): make install PREFIX=… [LIBDIR=lib/…] [DESTDIR=…]
	@PREFIX='$(PREFIX)' LIBDIR='$(LIBDIR)' DESTDIR='$(DESTDIR)' scripts/install.sh install

uninstall: ## remove what `make install` has installed into PREFIX
	@PREFIX='$(PREFIX)' LIBDIR='$(LIBDIR)' DESTDIR='$(DESTDIR)' scripts/install.sh uninstall

dist: ## what a release ships, under target/dist: tarball, Debian packages, wheel, SBOM, SHA256SUMS (7 min the first time, then 30 s)
	@scripts/setup.sh dist
	@scripts/dist.sh

wheel: ## the Python wheel only, under target/dist (5 min the first time, then 5 s)
	@scripts/setup.sh wheel
	@scripts/dist.sh --wheel

test-dist: ## test what `make dist` has made, also by installing and removing the packages; needs root
	@scripts/setup.sh test
	@scripts/test.sh exports linkage versions glibc tarball wheel deb

check-account: ## try a real account: make check-account AZTORCH_URL='https://ACCOUNT.blob.core.windows.net/CONTAINER[?SAS]'
	@scripts/setup.sh build
	@test -n "$$AZTORCH_URL" || { echo "AZTORCH_URL is not set: make check-account AZTORCH_URL='https://…/CONTAINER'" >&2; exit 2; }
	@cargo run --quiet --release --package aztorch-doctor -- "$$AZTORCH_URL"

bench: ## measure reads, writes, datasets and torch's loads beside plain sockets (10 min the first time, then 4 min)
	@scripts/setup.sh build
	@scripts/bench.sh

bench-quick: ## measure bulk reads and batches of samples only (8 min the first time, then 1 min)
	@scripts/setup.sh build
	@scripts/bench.sh --quick

bench-python: ## measure the Python package beside other clients of Azure: make bench-python [ARGS=--quick] (15 min)
	@scripts/setup.sh test-torch2
	@scripts/bench_python.sh $(ARGS)

fuzz: ## fuzz one target without end: make fuzz TARGET=url (needs a nightly toolchain and cargo-fuzz)
	@test -f 'fuzz/targets/$(TARGET).rs' || { echo 'TARGET is one of:' $(basename $(notdir $(wildcard fuzz/targets/*.rs))) >&2; exit 2; }
	@mkdir -p target/fuzz/corpus/$(TARGET)
	cargo +nightly fuzz run --target-dir target/fuzz $(TARGET) target/fuzz/corpus/$(TARGET) fuzz/corpus/$(TARGET) -- $(FUZZ_FLAGS)

miri: ## the unit tests of the C ABI under Miri (needs a nightly toolchain with miri and rust-src; 5 min the first time, then 1)
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --target-dir target/miri --lib -- \
		ffi:: sys::caller_buffer sys::fill_buffer sys::tap error:: ranges:: read_pattern:: redact::

deny: ## licences, sources and duplicates of dependencies (needs cargo-deny; CHECKS=advisories needs the network, too)
	cargo deny check $(or $(CHECKS),licenses bans sources)

header: ## regenerate include/aztorch.h from the Rust sources
	@scripts/setup.sh build
	AZTORCH_BLESS=1 cargo test --test header

abi: ## show how the ABI has changed, and write its description under abi/ anew (see docs/abi.md)
	@scripts/setup.sh check
	@AZTORCH_BLESS=1 scripts/gates.sh abi

notices: ## write THIRD-PARTY-LICENSES.txt, the licences of the crates that are shipped (10 min the first time, then 2 min)
	@scripts/setup.sh build
	@scripts/notices.sh

docs: ## the documentation as a site of files: target/docs/index.html (3 min the first time, then 20 s)
	@scripts/setup.sh docs
	@scripts/docs.sh

release-notes: ## print the notes of this version, from CHANGELOG.md; with TAG=v… also check that the tag is the version's
	@scripts/release_notes.sh $${TAG:+"$$TAG"}

release-assets: ## join what `make dist` made, here or on several machines, into target/release-assets (see RELEASING.md)
	@scripts/release_assets.sh target/release-assets $(or $(wildcard target/release-parts/*),target/dist)

publish-release: ## make the GitHub release of TAG from target/release-assets, with gh (release.yml calls this)
	@scripts/publish_release.sh "$$TAG" target/release-assets

aks-image: ## build the image of cpp-examples/aks from the packages of `make dist` (needs Docker, or DOCKER=buildah)
	@test -n '$(wildcard target/dist/libaztorch0_*.deb)' || { echo 'target/dist has no libaztorch0_….deb: run make dist' >&2; exit 1; }
	$(or $(DOCKER),docker) build --file cpp-examples/aks/Dockerfile --tag aztorch-train .

toolchain: ## install a missing Rust toolchain, for CI: make toolchain RUST=minimum (or stable, or a version) CI=true
	@scripts/toolchain.sh "$$RUST"

setup: ## install or list what `make test` needs, Azurite included
	@scripts/setup.sh test

clean: ## remove everything that was built or installed under target/
	rm -rf target
