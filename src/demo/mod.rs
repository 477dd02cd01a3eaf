//! A PBX to call, inside the program: what `tipring demo` shows, and what the tests of the whole talk to.
//!
//! - [`registrar`]: who may register, what proves it, where everybody is;
//! - [`pbx`] with [`mod@echo`] and `switch`: the calls. State machines, over the same user agent as the
//!   phone's;
//! - [`tour`] with `host` (the PBX on sockets), `station` (a real phone) and [`report`] (what is shown): the
//!   driver of the demo, the only part that touches the machine.
//!
//! The machines of this room know nothing of `phone`; the driver starts phones as `main.rs` does and asks
//! them at their desk.

pub mod echo;
mod host;
pub mod pbx;
pub mod registrar;
pub mod report;
mod station;
mod switch;
pub mod tour;

pub use tour::{Options, run};
