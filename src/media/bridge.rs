//! Legs that hear each other.

use super::leg::{Leg, Outlet};
use crate::audio::mix::Mixer;
use crate::now::Now;

/// One period of `ms` of a bridge: everyone is heard, and everyone is sent the others.
pub(super) fn run(
    now: Now,
    ms: u32,
    legs: &mut [Leg],
    members: &[usize],
    mixer: &mut Mixer,
    mixed: &mut Vec<i16>,
    out: &mut Outlet<'_>,
) {
    match *members {
        [] => {}
        [one] => {
            if let Some(leg) = legs.get_mut(one) {
                leg.hear(now, ms, out);
                leg.speak_nothing(now, ms, out);
            }
        }
        [one, other] => {
            let Ok([one, other]) = legs.get_disjoint_mut([one, other]) else { return };
            let one_rate = one.hear(now, ms, out);
            let other_rate = other.hear(now, ms, out);
            one.speak(now, other_rate, other.heard(), out);
            other.speak(now, one_rate, one.heard(), out);
        }
        _ => {
            let mut rate = 0;
            for &at in members {
                if let Some(leg) = legs.get_mut(at) {
                    rate = rate.max(leg.hear(now, ms, out));
                }
            }
            let samples = (rate * ms / 1000) as usize;
            mixer.begin(samples);
            for &at in members {
                if let Some(leg) = legs.get_mut(at) {
                    mixer.add(leg.heard_at(rate));
                }
            }
            mixed.clear();
            mixed.resize(samples, 0);
            for &at in members {
                if let Some(leg) = legs.get_mut(at) {
                    mixer.without(leg.heard_again(), mixed);
                    leg.speak(now, rate, mixed, out);
                }
            }
        }
    }
}
