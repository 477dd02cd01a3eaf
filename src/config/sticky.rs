//! `[sticky]`: who inside of the PBX gets a caller first.

use std::time::Duration;

use super::dialing::NumberRule;
use super::reader::{Scope, section, within as lasts};
use super::values::{Written, written};
use super::zone::Zone;

const DAY: Duration = Duration::from_secs(86_400);
/// An earlier call than this says nothing of who is wanted now.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
const SHORTEST: Duration = Duration::from_secs(60);

section! {
    /// `[sticky]`: sticky return, for a device that others call through (gateway mode). A caller of outside whom an extension
    /// called or talked to through this device is given back to that extension first; where nobody answers there, the call
    /// rings here as ever. The journal knows who it was, also after a restart.
    pub struct Sticky {
        /// How long a caller belongs to the extension: a duration of 1m to 7d, usually "30m"; "today", by the clock of `[device]`
        /// timezone; or "off".
        within: Belongs = default "\"off\"";
        /// How long it rings there. Duration, 5s to 60s.
        ring_for: Duration = default "\"12s\"", if lasts(Duration::from_secs(5), Duration::from_secs(60));
        /// The extensions that get callers back, as `[limits] allow` has numbers; empty: all.
        extensions: Vec<NumberRule> = default "[]";
        /// The lines whose callers are given back; empty: all.
        lines: Vec<String> = default "[]";
    }
}

impl Sticky {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        if scope.text("within").is_none_or(|text| text.trim() == "off") {
            let instead = "add within = \"30m\", or remove it";
            scope.warn_idle(&["ring_for", "extensions", "lines"], "no caller is given back", instead);
        }
    }
}

/// How long a caller belongs to an extension.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Belongs {
    /// Not at all.
    #[default]
    Off,
    /// So long.
    For(Duration),
    /// Until midnight.
    Today,
}

impl Belongs {
    /// Since when calls count at a time, in microseconds since 1970; `None`: none does.
    pub fn since(&self, utc_us: i64, zone: &Zone) -> Option<i64> {
        let ago = |time: Duration| utc_us.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        match self {
            Belongs::Off => None,
            Belongs::For(time) => Some(ago(*time)),
            Belongs::Today => Some(zone.midnight(utc_us).unwrap_or_else(|| ago(DAY))),
        }
    }
}

impl Written for Belongs {
    const FORM: &'static str = "a duration such as \"30m\", \"today\" or \"off\"";

    fn parse(text: &str) -> Result<Belongs, String> {
        match text.trim() {
            "off" => Ok(Belongs::Off),
            "today" => Ok(Belongs::Today),
            text => {
                let time = Duration::parse(text).map_err(|_| format!("write {}", Self::FORM))?;
                if !(SHORTEST..=LONGEST).contains(&time) {
                    return Err("write a duration of 1m to 7d".to_owned());
                }
                Ok(Belongs::For(time))
            }
        }
    }

    fn written(&self) -> String {
        match self {
            Belongs::Off => "off".to_owned(),
            Belongs::For(time) => time.written(),
            Belongs::Today => "today".to_owned(),
        }
    }
}

written!(Belongs);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_belongs_to_an_extension_for_a_while_or_until_midnight() {
        // 2026-11-22 01:30 in Moscow is still the day before in UTC.
        const NOW: i64 = 1_795_300_200_000_000;
        const HOUR: i64 = 3_600_000_000;
        let moscow = Zone::parse("MSK-3").expect("rules");
        for (text, expected) in [
            ("off", None),
            ("30m", Some(NOW - HOUR / 2)),
            ("7d", Some(NOW - 7 * 24 * HOUR)),
            ("today", Some(NOW - 3 * HOUR / 2)),
        ] {
            let belongs = Belongs::parse(text).expect(text);
            assert_eq!((belongs.since(NOW, &moscow), belongs.written().as_str()), (expected, text));
        }
        for wrong in ["", "30", "30s", "8d", "yesterday"] {
            assert!(Belongs::parse(wrong).is_err(), "{wrong}");
        }
    }
}
