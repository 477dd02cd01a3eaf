# shellcheck shell=bash
# What every script here shares: where things are, and how they speak. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin"
target=${CARGO_TARGET_DIR:-$root/target}
# Built once and kept between runs: the PBX's root, the ARM libraries.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tipring
# One line per thing that could not be tested, `SKIP: what: why`; `make test` counts and prints them.
export TIPRING_SKIPS=${TIPRING_SKIPS:-$target/stages/skips}
mkdir -p "$(dirname "$TIPRING_SKIPS")"

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$*"; exit 1; }
skip() { printf 'SKIP: %s\n' "$*" | tee -a "$TIPRING_SKIPS" >&2; }
