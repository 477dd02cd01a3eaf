//! Who guessed wrong, and how often: each wrong guess of one address is answered more slowly than the last.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// Addresses that are remembered; the one that has been quiet longest goes.
const ADDRESSES: usize = 512;
/// After this quiet time an address begins anew.
const FORGIVEN: Duration = Duration::from_secs(600);
/// Wrong guesses that are answered at once.
const FREE: u32 = 2;
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// The memory of wrong guesses.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, (u32, Instant)>>);

/// What a wrong guess leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Consequence {
    /// How long the answer waits.
    pub wait: Duration,
    /// Whether it is worth an event: the first, second, fourth, eighth … of an address.
    pub worth_telling: bool,
}

impl Attempts {
    /// Notes a wrong guess from this address.
    pub fn wrong(&self, from: IpAddr, now: Instant) -> Consequence {
        let mut seen = lock(&self.0);
        seen.retain(|_, (_, last)| now.duration_since(*last) < FORGIVEN);
        if seen.len() >= ADDRESSES
            && !seen.contains_key(&from)
            && let Some(oldest) = seen.iter().min_by_key(|(_, (_, last))| *last).map(|(address, _)| *address)
        {
            seen.remove(&oldest);
        }
        let (count, last) = seen.entry(from).or_insert((0, now));
        *count = count.saturating_add(1);
        *last = now;
        let doubled = count.saturating_sub(FREE).min(6);
        let wait = if doubled == 0 { Duration::ZERO } else { Duration::from_millis(125) * 2u32.pow(doubled) };
        Consequence { wait: wait.min(LONGEST_WAIT), worth_telling: count.is_power_of_two() }
    }

    /// Forgets an address that has shown its rights.
    pub fn right(&self, from: IpAddr) {
        let mut seen = lock(&self.0);
        if !seen.is_empty() {
            seen.remove(&from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_guess_is_answered_more_slowly() {
        let attempts = Attempts::default();
        let from = IpAddr::from([192, 0, 2, 1]);
        let now = Instant::now();
        let waits: Vec<u128> = (0..9).map(|_| attempts.wrong(from, now).wait.as_millis()).collect();
        assert_eq!(waits, [0, 0, 250, 500, 1000, 2000, 4000, 4000, 4000]);
        attempts.right(from);
        assert_eq!(attempts.wrong(from, now), Consequence { wait: Duration::ZERO, worth_telling: true });
    }

    #[test]
    fn the_memory_is_bounded_and_forgives() {
        let attempts = Attempts::default();
        let now = Instant::now();
        for number in 0..2000u32 {
            attempts.wrong(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(lock(&attempts.0).len(), ADDRESSES);
        attempts.wrong(IpAddr::from([192, 0, 2, 1]), now + FORGIVEN);
        assert_eq!(lock(&attempts.0).len(), 1);
    }
}
