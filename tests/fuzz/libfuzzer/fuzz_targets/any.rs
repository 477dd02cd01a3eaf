//! One target of `tests/fuzz/targets`, by the name in `TIPRING_FUZZ_TARGET`.

#![no_main]

#[path = "../../targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("TIPRING_FUZZ_TARGET").unwrap_or_default();
    match targets::rooms().flatten().find(|target| target.name == name) {
        Some(target) => target.run,
        None => {
            let names: Vec<_> = targets::rooms().flatten().map(|target| target.name).collect();
            panic!("set TIPRING_FUZZ_TARGET to one of {}", names.join(", "));
        }
    }
}

fuzz_target!(|octets: &[u8]| RUN.get_or_init(chosen)(octets));
