# Pitstop: `make` or `make help` says what there is.

# Which machines the programs and the image are for: x86_64 or arm64. Those of arm64 go to out/arm64, where
# `pitstop serve --boot out` has them beside the others.
ARCH ?= x86_64
OUT ?= $(if $(filter arm64,$(ARCH)),out/arm64,out)
# amd64, and arm64 on arm64: Debian's kernel with every wired NIC and disk driver. cloud: Debian's small one for virtual
# machines. custom: the monolithic one of `make kernel`, for x86_64 alone.
KERNEL ?= $(if $(filter arm64,$(ARCH)),arm64,amd64)
# More kernels of Debian's: backports and trixie, newer ones for newer machines.
# Firmware that drivers load and that Debian has in non-free-firmware, by the packages' names: FIRMWARE=realtek,bnx2
FIRMWARE ?=
# Rows of the hardware matrix for `make test-matrix`, by number; none is all.
ROWS ?=
# More for mkimage: make image MKIMAGE='--authorized-keys ~/.ssh/id_ed25519.pub --dropbear /usr/sbin/dropbear'
MKIMAGE ?=

# When the image counts as built: the same commit gives the same bytes.
EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null))
BUILD = $(if $(EPOCH),SOURCE_DATE_EPOCH=$(EPOCH)) $(PACKER) build
# A source without its history is as old as its change log.
DATED = $(or $(EPOCH),$(shell stat -c %Y CHANGELOG.md))
VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

TARGET_x86_64 = x86_64-unknown-linux-musl
TARGET_arm64 = aarch64-unknown-linux-musl
TARGET = $(or $(TARGET_$(ARCH)),$(error ARCH=$(ARCH) is neither x86_64 nor arm64))
BINARIES = $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release
# Those that are built; tests of other machines need init alone.
ALL = init mkimage pitstop
PROGRAMS ?= $(ALL)
# An image for other machines is packed by the mkimage of this one, and packages by its programs. They are built together, as those
# of `make image` are: of other programs beside them cargo would build them anew each time.
HOST = $(TARGET_x86_64)
HOST_PROGRAMS = $(if $(filter $(HOST),$(TARGET)),,$(ALL))
HOST_BINARIES = $(or $(CARGO_TARGET_DIR),target)/$(HOST)/release
PACKER = $(if $(filter $(HOST),$(TARGET)),$(OUT)/mkimage,$(HOST_BINARIES)/mkimage)
# The folders of this computer do not go into the binaries: the same commit gives the same bytes in any folder. Given
# this way the flags are joined to those of .cargo/config.toml; in RUSTFLAGS they would replace them.
remap = --config "target.$(1).rustflags=[\
'--remap-path-prefix=$(abspath .)=/pitstop','--remap-path-prefix=$(abspath $(or $(CARGO_TARGET_DIR),target))=/target',\
'--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo']"
# What this make was told is not for the Makefiles that build scripts run: ARCH=arm64 would be a file to that of isa-l.
build = env -u ARCH -u MAKEFLAGS -u MAKEOVERRIDES -u MFLAGS \
  cargo build --release --locked $(call remap,$(1)) --target $(1) $(addprefix -p ,$(2))
BUSYBOX_x86_64 = /bin/busybox
BUSYBOX_arm64 = target/tools/arm64/bin/busybox
BASE = --init $(OUT)/init --busybox $(BUSYBOX_$(ARCH)) --pci-ids /usr/share/misc/pci.ids

.PHONY: help setup image kernel demo test test-quick lint bench bench-many deny deb dist clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what building needs (Debian packages, the musl target)
	@.ci/setup $(if $(filter arm64,$(ARCH)),arm64,build)

image: setup ## out/: vmlinuz, initramfs.img, init, pitstop, mkimage (KERNEL=amd64, cloud, backports, trixie or custom; FIRMWARE=realtek,…; ARCH=arm64: out/arm64/)
	@$(MAKE) --no-print-directory binaries
	@$(MAKE) --no-print-directory image-$(KERNEL) $(if $(filter arm64,$(ARCH)),loaders-arm64)
	@ls -l $(OUT)/vmlinuz $(OUT)/initramfs.img $(OUT)/init | awk '{print $$NF ": " int(($$5 + 1023) / 1024) " KiB"}'

.PHONY: binaries
binaries: # The programs, into out/.
	$(call build,$(TARGET),$(PROGRAMS))
	@mkdir -p $(OUT)
	@install -m 755 $(PROGRAMS:%=$(BINARIES)/%) $(OUT)/
	$(if $(HOST_PROGRAMS),$(call build,$(HOST),$(HOST_PROGRAMS)))

.PHONY: loaders-arm64
loaders-arm64: # Debian's for the network. For x86_64 the server takes those that are installed.
	@install -m 644 target/tools/arm64/usr/lib/shim/shimaa64.efi.signed $(OUT)/shimaa64.efi
	@install -m 644 target/tools/arm64/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed $(OUT)/grubaa64.efi

FETCHED_FIRMWARE = $(if $(FIRMWARE),$(OUT)/.firmware/$(FIRMWARE))

.PHONY: image-amd64 image-arm64 image-cloud image-backports image-trixie image-custom
image-amd64 image-arm64 image-cloud image-backports image-trixie: image-%: $(OUT)/.kernel/%/.fetched $(FETCHED_FIRMWARE:=/.fetched)
	@version=$$(basename $(OUT)/.kernel/$*/lib/modules/*) && \
	 $(BUILD) $(BASE) --kernel-dir $(OUT)/.kernel/$* --kernel-version $$version \
	   $(if $(FIRMWARE),--firmware $(FETCHED_FIRMWARE)/lib/firmware --firmware /lib/firmware) $(MKIMAGE) -o $(OUT)/initramfs.img && \
	 install -m 644 $(OUT)/.kernel/$*/boot/vmlinuz-$$version $(OUT)/vmlinuz

$(OUT)/.kernel/%/.fetched:
	@kernel-config/fetch $*$(if $(filter arm64,$(ARCH)),$(if $(filter arm64,$*),,-arm64)) $(OUT)/.kernel/$*
	@touch $@

$(OUT)/.firmware/%/.fetched:
	@kernel-config/fetch firmware:$* $(OUT)/.firmware/$*
	@touch $@

image-custom: $(if $(filter arm64,$(ARCH)),no-custom-kernel,$(OUT)/.kernel/custom/vmlinuz)
	@$(BUILD) $(BASE) $(if $(findstring --compress,$(MKIMAGE)),,--compress xz) $(MKIMAGE) -o $(OUT)/initramfs.img
	@install -m 644 $< $(OUT)/vmlinuz

.PHONY: no-custom-kernel
no-custom-kernel:
	@echo "KERNEL=custom is for x86_64 alone: take KERNEL=arm64 or cloud" >&2; exit 1

kernel: ## build a monolithic kernel from Debian's source: out/.kernel/custom/vmlinuz
	@.ci/setup kernel
	kernel-config/build $(OUT)/.kernel/custom

$(OUT)/.kernel/custom/vmlinuz: kernel-config/build $(wildcard kernel-config/*.config)
	@$(MAKE) --no-print-directory kernel

demo: ## back up, wreck and restore a virtual machine, from start to end
	@.ci/setup test
	@$(MAKE) --no-print-directory image
	@PITSTOP_OUT=$(abspath $(OUT)) cargo run --quiet -p qemu-tests --bin demo

# What still runs after so many minutes is told and ended. CI gives 90.
TEST_MINUTES ?= 85
CI_DEADLINE := $(or $(CI_DEADLINE),$(shell echo $$(($$(date +%s) + 60 * $(TEST_MINUTES)))))
export CI_DEADLINE

test: ## every check; the last line counts them (TEST_MINUTES=85: what still runs then is told and ended)
	@.ci/setup test arm64-test
	@PITSTOP_OUT=$(abspath $(OUT)) exec .ci/test

.PHONY: test-images test-images-arm64
test-images: # What machines of tests boot and install: `make test` has it made while other checks run.
	@$(MAKE) --no-print-directory image
	@$(MAKE) --no-print-directory image KERNEL=cloud OUT=$(OUT)/cloud
	@packaging/deb $(OUT) $(VERSION) $(DATED)

test-images-arm64: # The same for those of arm64, which have a test: `make test` has it made while the others run.
	@$(TEST_ARM64)

test-quick: ## the everyday checks, in about three minutes: formatting, lints, unit tests
	@.ci/setup build
	@.ci/test quick

# What machines of arm64 boot in tests. The init alone is built, and neither that nor the image is to be small: each would take minutes.
TEST_ARM64 = CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
  $(MAKE) --no-print-directory image ARCH=arm64 KERNEL=cloud PROGRAMS=init HOST_PROGRAMS= PACKER=$(OUT)/mkimage OUT=$(OUT)/arm64/cloud \
  MKIMAGE='--plain-modules --compress gzip'

.PHONY: test-arm64
test-arm64: ## what `make test` has of arm64, alone
	@.ci/setup test arm64-test
	@$(MAKE) --no-print-directory image
	@$(MAKE) --no-print-directory image KERNEL=cloud OUT=$(OUT)/cloud
	@$(TEST_ARM64)
	@PITSTOP_OUT=$(abspath $(OUT)) cargo test -p qemu-tests --test machines arm64::

.PHONY: test-matrix
test-matrix: ## boot machines of every kind; writes docs/hardware-matrix.md (builds the custom kernel: 18 CPU-minutes)
	@.ci/setup test arm64-test
	@$(MAKE) --no-print-directory image
	@$(MAKE) --no-print-directory image KERNEL=custom OUT=$(OUT)/custom
	@$(MAKE) --no-print-directory image ARCH=arm64 OUT=$(OUT)/arm64
	@PITSTOP_OUT=$(abspath $(OUT)) cargo run --quiet -p qemu-tests --bin matrix -- $(ROWS)

lint: ## formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

deny: ## licences, sources and known faults of every dependency (asks GitHub for the faults)
	@.ci/setup deny
	target/tools/cargo-deny check

deb: setup ## Debian packages of the programs, server and boot files: out/deb/
	@.ci/setup package
	@$(MAKE) --no-print-directory binaries
	@packaging/deb $(OUT) $(VERSION) $(DATED) $(if $(filter $(HOST),$(TARGET)),,arm64 $(HOST_BINARIES))

dist: setup ## a tarball of the static programs, its checksums and bill of materials: out/dist/
	@.ci/setup package
	@$(MAKE) --no-print-directory binaries
	@packaging/dist $(OUT) $(VERSION) $(DATED) $(if $(filter $(HOST),$(TARGET)),,aarch64 $(HOST_BINARIES))

bench: ## measure against the peers; writes docs/benchmarks.md
	@.ci/setup test
	@.ci/setup bench
	cargo build --release -p pitstop
	bench/run

bench-many: ## one image to many machines, in network namespaces (root); writes its part of docs/benchmarks.md
	@.ci/setup test
	@.ci/setup bench
	cargo build --release -p pitstop
	bench/many

.PHONY: bench-again
bench-again: ## a backup that sends what changed against a full one (root); writes its part of docs/benchmarks.md
	@.ci/setup test
	cargo build --release -p pitstop
	bench/again

.PHONY: bench-level
bench-level: ## what the levels of compressing take and save, by the line (root); writes its part of docs/benchmarks.md
	@.ci/setup test
	cargo build --release -p pitstop
	bench/level

.PHONY: bench-ways
bench-ways: ## what compressing harder takes and saves, chunk by chunk; writes its part of docs/benchmarks.md
	@.ci/setup test
	@.ci/setup bench
	bench/ways

.PHONY: bench-waterfall
bench-waterfall: ## what passes from the kernel's start to the first byte of an image; writes its part of docs/benchmarks.md
	@.ci/setup test
	@$(MAKE) --no-print-directory image KERNEL=cloud OUT=$(OUT)/cloud
	bench/waterfall --images $(OUT)/cloud --pitstop $(OUT)/cloud/pitstop

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
