//! A PBX to call, inside the program: what `tipring demo` shows and what the tests of the whole talk to.
//!
//! - [`registrar`]: who may register, what proves it, where everybody is;
//! - [`pbx`] with [`mod@echo`] and `switch`: the calls; one state machine over the same user agent as the phone's.

pub mod echo;
pub mod pbx;
pub mod registrar;
mod switch;
