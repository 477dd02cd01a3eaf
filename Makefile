# make demo and make test do everything on a fresh Debian or Ubuntu machine with Rust; `make` alone lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-quick cross soak bench bench-nat fmt setup clean

help:        ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo:        ## a tour: an embedded PBX, two lines, calls, events and quality, live
	@scripts/setup build
	@cargo run --locked --release --quiet --bin tipring -- demo $(ARGS)

test:        ## everything that CI checks (some 25 minutes on two cores)
	@scripts/stages setup fmt licences clippy docs tests peers arm

test-quick:  ## the inner loop: formatting, clippy, unit and world tests
	@scripts/setup build test
	@scripts/stages fmt clippy quick

cross:       ## the program for the ARM boards, and its demo under qemu
	@scripts/setup build cross
	@scripts/cross $(ARGS)

soak:        ## the kills and power cuts of the tests a thousand and two hundred times (ten minutes)
	@TIPRING_KILLS=1000 TIPRING_CUTS=200 cargo nextest run --locked --all-features --profile soak --no-capture -E 'test(killed_at_random_moments) or test(whatever_write_the_power_goes_at)'

bench:       ## speed and size beside baresip, events upstream, and the jitter buffer (ARGS=--full takes longer)
	@scripts/setup build peers
	@cargo build --locked --profile device --bin tipring
	@cargo bench --locked --quiet --bench phone -- $(ARGS)
	@cargo bench --locked --quiet --bench events -- $(ARGS)
	@cargo bench --locked --quiet --bench jitter

bench-nat:   ## reachable behind NAT, beside baresip: seconds after what networks do (as root; ARGS=--full takes an hour)
	@scripts/setup build peers
	@cargo bench --locked --quiet --bench nat -- $(ARGS)

fmt:         ## format the sources
	@cargo fmt --all

setup:       ## install what is missing, by package name
	@scripts/setup

clean:       ## remove what was built (not the cache of Asterisk roots)
	@cargo clean
