//! Every parser against mutated input, replayed from a seed: no panic, no hang, and what a target asserts
//! besides.
//!
//! A target is a function in `targets/<room>.rs`; the same functions are what `libfuzzer/` searches with
//! coverage. A file in `corpus/<target>/` is replayed too: put there what libFuzzer found.
//!
//! `TIPRING_FUZZ_INPUTS=100000 cargo test --test fuzz` replays more, `TIPRING_FUZZ_SEED=7` other ones,
//! `TIPRING_FUZZ_TARGET=sip_uri` those of one target.
#![allow(
    clippy::disallowed_methods,
    reason = "the replay is told by the environment what to run, and reads a corpus"
)]

mod mutator;
mod targets;

use mutator::Mutator;
use std::fs;
use std::path::Path;
use targets::Target;

/// Mutated inputs per target, unless the environment says otherwise.
const INPUTS: u64 = 2_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn replay(targets: &[Target]) {
    let (inputs, seed) = (setting("TIPRING_FUZZ_INPUTS", INPUTS), setting("TIPRING_FUZZ_SEED", 1));
    let chosen = std::env::var("TIPRING_FUZZ_TARGET").ok();
    for target in targets.iter().filter(|target| chosen.as_deref().is_none_or(|name| name == target.name)) {
        assert!(!target.seeds.is_empty(), "{} has no seeds", target.name);
        (target.run)(b"");
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target.name);
        for entry in fs::read_dir(corpus).into_iter().flatten().flatten() {
            (target.run)(&fs::read(entry.path()).unwrap_or_default());
        }
        target.seeds.iter().for_each(|seed| (target.run)(seed));
        let mut mutator = Mutator::new(target.seeds, target.dictionary, seed);
        for number in 0..inputs {
            let input = mutator.next_input();
            let run = std::panic::AssertUnwindSafe(|| (target.run)(&input));
            if let Err(panic) = std::panic::catch_unwind(run) {
                eprintln!("target {}, input {number} of seed {seed}: {}", target.name, input.escape_ascii());
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn no_room_is_forgotten() {
    let (rooms, replayed) = (include_str!("targets.rs"), include_str!("main.rs"));
    let rooms = rooms.lines().filter_map(|line| line.trim().strip_suffix("::TARGETS,"));
    let forgotten: Vec<_> =
        rooms.filter(|room| !replayed.contains(&format!("targets::{room}::TARGETS"))).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

#[test]
fn admin() {
    replay(targets::admin::TARGETS);
}

#[test]
fn nat() {
    replay(targets::nat::TARGETS);
}

#[test]
fn rtp() {
    replay(targets::rtp::TARGETS);
}

#[test]
fn device() {
    let certificates = targets::device::TARGETS[0].seeds;
    assert!(certificates.iter().all(|seed| tipring::device::certificate::not_after(seed).is_some()));
    replay(targets::device::TARGETS);
}

#[test]
fn upstream() {
    replay(targets::upstream::TARGETS);
}

#[test]
fn call() {
    replay(targets::call::TARGETS);
}

#[test]
fn sdp() {
    replay(targets::sdp::TARGETS);
}

#[test]
fn config() {
    replay(targets::config::TARGETS);
}

#[test]
fn lookup() {
    replay(targets::lookup::TARGETS);
}

#[test]
fn media() {
    replay(targets::media::TARGETS);
}

#[test]
fn search() {
    replay(targets::search::TARGETS);
}

#[test]
fn sip() {
    replay(targets::sip::TARGETS);
}

#[test]
fn subscription() {
    replay(targets::subscription::TARGETS);
}

#[test]
fn audio() {
    replay(targets::audio::TARGETS);
}

#[test]
fn every_target_has_a_name_of_its_own() {
    let mut names: Vec<_> = targets::rooms().flatten().map(|target| target.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
