# Pitstop: `make` or `make help` says what there is.

OUT ?= out
# amd64: Debian's kernel with every wired NIC and disk driver. cloud: Debian's small one for virtual machines.
# custom: the monolithic one of `make kernel`.
KERNEL ?= amd64
# Rows of the hardware matrix for `make test-matrix`, by number; none is all.
ROWS ?=
# More for mkimage: make image MKIMAGE='--authorized-keys ~/.ssh/id_ed25519.pub --dropbear /usr/sbin/dropbear'
MKIMAGE ?=

# When the image counts as built: the same commit gives the same bytes.
EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null))
BUILD = $(if $(EPOCH),SOURCE_DATE_EPOCH=$(EPOCH)) $(OUT)/mkimage build
# A source without its history is as old as its change log.
DATED = $(or $(EPOCH),$(shell stat -c %Y CHANGELOG.md))
VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

TARGET = x86_64-unknown-linux-musl
BINARIES = $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release
# The folders of this computer do not go into the binaries: the same commit gives the same bytes in any folder. Given
# this way the flags are joined to those of .cargo/config.toml; in RUSTFLAGS they would replace them.
REMAP = --config "target.$(TARGET).rustflags=[\
'--remap-path-prefix=$(abspath .)=/pitstop','--remap-path-prefix=$(abspath $(or $(CARGO_TARGET_DIR),target))=/target',\
'--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo']"
BASE = --init $(OUT)/init --busybox /bin/busybox --pci-ids /usr/share/misc/pci.ids

.PHONY: help setup image kernel demo test test-quick lint bench bench-many deny deb dist clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what building needs (Debian packages, the musl target)
	@.ci/setup build

image: setup ## out/: vmlinuz, initramfs.img, init, pitstop, mkimage (KERNEL=amd64, cloud or custom)
	@$(MAKE) --no-print-directory binaries
	@$(MAKE) --no-print-directory image-$(KERNEL)
	@ls -l $(OUT)/vmlinuz $(OUT)/initramfs.img $(OUT)/init | awk '{print $$NF ": " int(($$5 + 1023) / 1024) " KiB"}'

.PHONY: binaries
binaries: # The three programs, into out/.
	cargo build --release --locked $(REMAP) --target $(TARGET) -p init -p mkimage -p pitstop
	@mkdir -p $(OUT)
	@install -m 755 $(BINARIES)/init $(BINARIES)/mkimage $(BINARIES)/pitstop $(OUT)/

.PHONY: image-amd64 image-cloud image-custom
image-amd64 image-cloud: image-%: $(OUT)/.kernel/%/.fetched
	@version=$$(basename $(OUT)/.kernel/$*/lib/modules/*) && \
	 $(BUILD) $(BASE) --kernel-dir $(OUT)/.kernel/$* --kernel-version $$version $(MKIMAGE) -o $(OUT)/initramfs.img && \
	 install -m 644 $(OUT)/.kernel/$*/boot/vmlinuz-$$version $(OUT)/vmlinuz

$(OUT)/.kernel/%/.fetched:
	@kernel-config/fetch $* $(OUT)/.kernel/$*
	@touch $@

image-custom: $(OUT)/.kernel/custom/vmlinuz
	@$(BUILD) $(BASE) $(if $(findstring --compress,$(MKIMAGE)),,--compress xz) $(MKIMAGE) -o $(OUT)/initramfs.img
	@install -m 644 $< $(OUT)/vmlinuz

kernel: ## build a monolithic kernel from Debian's source: out/.kernel/custom/vmlinuz
	@.ci/setup kernel
	kernel-config/build $(OUT)/.kernel/custom

$(OUT)/.kernel/custom/vmlinuz: kernel-config/build $(wildcard kernel-config/*.config)
	@$(MAKE) --no-print-directory kernel

demo: ## back up, wreck and restore a virtual machine, from start to end
	@.ci/setup test
	@$(MAKE) --no-print-directory image
	@PITSTOP_OUT=$(abspath $(OUT)) cargo run --quiet -p qemu-tests --bin demo

test: ## every check; the last line counts them
	@.ci/setup test
	@$(MAKE) --no-print-directory image
	@$(MAKE) --no-print-directory image KERNEL=cloud OUT=$(OUT)/cloud
	@packaging/deb $(OUT) $(VERSION) $(DATED)
	@PITSTOP_OUT=$(abspath $(OUT)) .ci/test

test-quick: ## the everyday checks, in about three minutes: formatting, lints, unit tests
	@.ci/setup build
	@.ci/test quick

.PHONY: test-matrix
test-matrix: ## boot machines of every kind; writes docs/hardware-matrix.md (builds the custom kernel: 18 CPU-minutes)
	@.ci/setup test
	@$(MAKE) --no-print-directory image
	@$(MAKE) --no-print-directory image KERNEL=custom OUT=$(OUT)/custom
	@PITSTOP_OUT=$(abspath $(OUT)) cargo run --quiet -p qemu-tests --bin matrix -- $(ROWS)

lint: ## formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

deny: ## licences, sources and known faults of every dependency (asks GitHub for the faults)
	@.ci/setup deny
	target/tools/cargo-deny check

deb: ## Debian packages of the programs, server and boot files: out/deb/
	@.ci/setup package
	@$(MAKE) --no-print-directory binaries
	@packaging/deb $(OUT) $(VERSION) $(DATED)

dist: ## a tarball of the static programs, its checksums and bill of materials: out/dist/
	@.ci/setup package
	@$(MAKE) --no-print-directory binaries
	@packaging/dist $(OUT) $(VERSION) $(DATED)

bench: ## measure against the peers; writes docs/benchmarks.md
	@.ci/setup test
	cargo build --release -p pitstop
	bench/run

bench-many: ## one image to many machines, in network namespaces (root); writes its part of docs/benchmarks.md
	@.ci/setup test
	cargo build --release -p pitstop
	bench/many

.PHONY: bench-trees
bench-trees: ## measure images of trees against tar, rsync and unsquashfs, in one run (as root)
	@.ci/setup test
	cargo build --release -p pitstop
	bench/trees target/release/pitstop

.PHONY: fuzz
fuzz: ## fuzz the parsers, ten minutes each (needs cargo-fuzz and a nightly compiler)
	@.ci/setup test
	cargo build -p pitstop
	fuzz/seed fuzz/corpus target/debug/pitstop
	cd fuzz && for target in $$(basename -s .rs fuzz_targets/*.rs); do \
	  mkdir -p corpus/$$target && cp -n seeds/$$target/* corpus/$$target/ 2>/dev/null; \
	  cargo +nightly fuzz run -O -s none $$target -- -max_total_time=600 -rss_limit_mb=1024 -timeout=20 -max_len=400000 || exit 1; \
	done

clean: ## remove what was built
	rm -rf $(OUT) target
