//! An event that is to be delivered, and how soon it may be tried again.

use std::time::Duration;

use super::dialect::Frozen;
use crate::chance::Chance;
use crate::events::CloudEvent;

/// The first wait after a failure; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// An event that is to be delivered.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) sequence: u64,
    /// The number that it is read again by: of a gap the first one.
    pub(super) number: u64,
    pub(super) kind: String,
    pub(super) subject: Option<String>,
    pub(super) utc_us: i64,
    pub(super) frozen: Frozen,
    pub(super) in_flight: bool,
    /// A request for it was answered, and there are more.
    pub(super) answered: bool,
    /// Not before this moment.
    pub(super) at: u64,
    pub(super) tries: u32,
    /// It failed, and nothing else has been taken since.
    pub(super) failed: bool,
    /// How often others were taken after it had failed.
    pub(super) blamed: u32,
    /// What the last request for it was answered.
    pub(super) status: Option<u16>,
}

impl Owed {
    /// An event that was not tried yet.
    pub(super) fn new(event: CloudEvent, frozen: Frozen) -> Owed {
        let number = (event.sequence + 1).saturating_sub(event.missing().max(1));
        let CloudEvent { sequence, kind, subject, utc_us, .. } = event;
        let (in_flight, answered, at, tries, failed, blamed, status) = (false, false, 0, 0, false, 0, None);
        Owed {
            sequence,
            number,
            kind,
            subject,
            utc_us,
            frozen,
            in_flight,
            answered,
            at,
            tries,
            failed,
            blamed,
            status,
        }
    }
}

/// The wait after so many failures before this one: doubled each time, with jitter, so that the devices that a dead
/// server had do not come back together.
pub(super) fn wait(failures: u32, chance: &mut Chance) -> Duration {
    let whole = FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT);
    whole.mul_f64(0.5 + chance.unit() / 2.0)
}
