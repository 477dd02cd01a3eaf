//! Plain values: text, numbers, durations, sizes, ports.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;
use toml_edit::Value;

use super::reader::{At, Mistake, Node, Setting, shortened};

/// Characters of one text.
const LONGEST_TEXT: usize = 512;

/// A value that is written as text between quotes.
pub(super) trait Written: Default {
    const FORM: &'static str;
    /// The value, or what to write instead.
    fn parse(text: &str) -> Result<Self, String>;
    /// The text that means the value.
    fn written(&self) -> String;
}

/// Makes a [`Setting`] of a [`Written`] type.
macro_rules! written {
    ($($type:ty),*) => {$(
        impl $crate::config::reader::Setting for $type {
            const EXPECTS: &'static str = <$type as $crate::config::values::Written>::FORM;
            fn read(
                node: $crate::config::reader::Node<'_>,
                at: &mut $crate::config::reader::At<'_, '_>,
            ) -> Option<Self> {
                $crate::config::values::read_written(node, at)
            }
            fn json(&self) -> serde_json::Value {
                serde_json::Value::String($crate::config::values::Written::written(self))
            }
        }
    )*};
}
pub(super) use written;

pub(super) fn read_written<T: Written>(node: Node<'_>, at: &mut At<'_, '_>) -> Option<T> {
    let Some(text) = node.text() else {
        at.wrong_type(node, T::FORM);
        return None;
    };
    match clean(text).and_then(|()| {
        T::parse(text).map_err(|instead| (format!("can't be \"{}\"", shortened(text)), instead))
    }) {
        Ok(value) => Some(value),
        Err(mistake) => {
            at.wrong(node, mistake);
            None
        }
    }
}

/// One value, or a list of them that holds one at least: the preferred one first.
pub(super) fn read_one_or_list<T: Setting>(
    node: Node<'_>,
    at: &mut At<'_, '_>,
    expects: &str,
    fits: impl FnOnce(&[T]) -> Result<(), Mistake>,
) -> Option<Vec<T>> {
    if !matches!(node, Node::Value(Value::Array(_))) {
        return T::read(node, at).map(|one| vec![one]);
    }
    let all = Vec::<T>::read(node, at)?;
    let fits = if all.is_empty() {
        Err(("is empty".into(), format!("write {expects}, or a list of them")))
    } else {
        fits(&all)
    };
    match fits {
        Ok(()) => Some(all),
        Err(mistake) => {
            at.wrong(node, mistake);
            None
        }
    }
}

/// The same, as it is written.
pub(super) fn one_or_list_json<T: Setting>(all: &[T]) -> serde_json::Value {
    match all {
        [one] => one.json(),
        _ => all.iter().map(Setting::json).collect(),
    }
}

/// Whether a list names nothing twice.
pub(super) fn each_once<T: PartialEq>(values: &[T], written: impl Fn(&T) -> String) -> Result<(), Mistake> {
    for (index, value) in values.iter().enumerate() {
        if values.get(..index).is_some_and(|before| before.contains(value)) {
            return Err((format!("names {} twice", written(value)), "name each once".into()));
        }
    }
    Ok(())
}

/// Text goes into messages of protocols that are made of lines: no control characters, and not without end.
pub(super) fn clean(text: &str) -> Result<(), Mistake> {
    if text.len() > LONGEST_TEXT {
        let what = format!("is {} bytes long", text.len());
        return Err((what, format!("write {LONGEST_TEXT} bytes at most")));
    }
    if text.chars().any(char::is_control) {
        return Err(("has a line break or a control character in it".into(), "write it on one line".into()));
    }
    Ok(())
}

impl Written for String {
    const FORM: &'static str = "text in \"quotes\"";

    fn parse(text: &str) -> Result<String, String> {
        if text.trim().is_empty() {
            return Err("write something, or remove the key".into());
        }
        Ok(text.to_owned())
    }

    fn written(&self) -> String {
        self.clone()
    }
}

impl Written for Duration {
    const FORM: &'static str = "a duration such as \"30s\", \"15m\" or \"1h30m\"";

    fn parse(text: &str) -> Result<Duration, String> {
        duration(text).ok_or_else(|| {
            "write a number with its unit: \"20ms\", \"30s\", \"15m\", \"1h30m\", \"7d\"".into()
        })
    }

    fn written(&self) -> String {
        let mut rest = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        let mut text = String::new();
        for (unit, millis) in UNITS {
            // Days only where nothing is left over: 36h reads better than 1d12h.
            let count = rest / millis;
            if count > 0 && (unit != "d" || rest % millis == 0) {
                text.push_str(&format!("{count}{unit}"));
                rest %= millis;
            }
        }
        if text.is_empty() { "0s".into() } else { text }
    }
}

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Numbers with units, the greater first: `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at_checked(letters)?;
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
        if *millis >= last {
            return None;
        }
        last = *millis;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*millis)?)?;
        rest = after;
    }
    // What is greater would overflow the microseconds of a deadline.
    (last != u64::MAX && total <= 100 * 365 * 86_400_000).then(|| Duration::from_millis(total))
}

/// A number of bytes, written `"64KiB"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
}

impl Size {
    pub(super) const fn of(bytes: u64) -> Size {
        Size { bytes }
    }
}

const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

impl Written for Size {
    const FORM: &'static str = "a size such as \"64KiB\" or \"1GiB\"";

    fn parse(text: &str) -> Result<Size, String> {
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let size = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()));
        size.and_then(|(_, factor)| number.parse::<u64>().ok()?.checked_mul(*factor))
            .filter(|bytes| *bytes <= i64::MAX as u64)
            .map(Size::of)
            .ok_or_else(|| {
                "write a whole number with its unit: \"500B\", \"64KiB\", \"20MB\", \"1GiB\"".into()
            })
    }

    fn written(&self) -> String {
        let fits =
            SIZES.iter().find(|(_, factor)| self.bytes >= *factor && self.bytes.is_multiple_of(*factor));
        let (unit, factor) = fits.copied().unwrap_or(("B", 1));
        format!("{}{unit}", self.bytes / factor)
    }
}

/// A range of ports, both ends included, written `"10000-10999"`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl PortRange {
    /// How many pairs of an RTP and an RTCP port it has.
    pub fn pairs(self) -> usize {
        (usize::from(self.last) + 1).saturating_sub(usize::from(self.first)) / 2
    }

    /// Whether a port is one of the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl Written for PortRange {
    const FORM: &'static str = "a range of ports such as \"10000-10999\"";

    fn parse(text: &str) -> Result<PortRange, String> {
        let ports = text.split_once('-').and_then(|(first, last)| {
            Some(PortRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        });
        match ports {
            Some(ports) if ports.first < 1024 => Err("begin at 1024 or above".into()),
            Some(ports) if ports.last < ports.first => {
                Err("write the lower port first: \"10000-10999\"".into())
            }
            Some(ports) if !ports.first.is_multiple_of(2) => {
                Err(format!("begin with an even port, RTP needs it: \"{}-{}\"", ports.first - 1, ports.last))
            }
            Some(ports) if ports.pairs() == 0 => Err("write a range of two ports or more".into()),
            Some(ports) => Ok(ports),
            None => Err(format!("write {}", Self::FORM)),
        }
    }

    fn written(&self) -> String {
        format!("{}-{}", self.first, self.last)
    }
}

/// An IP address of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address(pub IpAddr);

impl Default for Address {
    fn default() -> Self {
        Address(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    }
}

impl Written for Address {
    const FORM: &'static str = "an IP address such as \"192.0.2.10\" or \"2001:db8::10\"";

    fn parse(text: &str) -> Result<Address, String> {
        let text = text.trim().trim_start_matches('[').trim_end_matches(']');
        text.parse().map(Address).map_err(|_| format!("write {}", Self::FORM))
    }

    fn written(&self) -> String {
        self.0.to_string()
    }
}

written!(String, Duration, Size, PortRange, Address);

impl Setting for bool {
    const EXPECTS: &'static str = "true or false, without quotes";

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        if let Node::Value(Value::Boolean(value)) = node {
            return Some(*value.value());
        }
        at.wrong_type(node, Self::EXPECTS);
        None
    }

    fn json(&self) -> serde_json::Value {
        json!(self)
    }
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            const EXPECTS: &'static str = "a whole number, without quotes";

            fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
                let Node::Value(Value::Integer(value)) = node else {
                    at.wrong_type(node, Self::EXPECTS);
                    return None;
                };
                let value = *value.value();
                if let Ok(fits) = <$type>::try_from(value) {
                    return Some(fits);
                }
                let instead = format!("write a value from {} to {}", <$type>::MIN, <$type>::MAX);
                at.wrong(node, (format!("is {value}, out of range"), instead));
                None
            }

            fn json(&self) -> serde_json::Value {
                json!(self)
            }
        }
    )*};
}
whole!(u8, u16, u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_the_same() {
        for (text, millis) in
            [("20ms", 20), ("30s", 30_000), ("15m", 900_000), ("1h30m", 5_400_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(Duration::from_millis(millis).written(), text);
        }
        assert_eq!(duration("36h").unwrap().written(), "36h");
        assert_eq!(duration("48h").unwrap().written(), "2d");
        for wrong in
            ["", "30", "s", "30 s", "-5s", "1.5h", "5m1h", "5s5s", "30sec", "99999999999999999999s", "40000d"]
        {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_read_and_write_the_same() {
        for (text, bytes) in
            [("64KiB", 65_536), ("1GiB", 1 << 30), ("20MB", 20_000_000), ("500B", 500), ("0B", 0)]
        {
            assert_eq!(Size::parse(text), Ok(Size { bytes }), "{text}");
            assert_eq!(Size { bytes }.written(), text);
        }
        assert_eq!(Size::parse("64 kib"), Ok(Size { bytes: 65_536 }));
        for wrong in ["", "64", "KiB", "1.5GiB", "-1B", "99999999999999GiB", "64KiBs"] {
            assert!(Size::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn port_ranges_hold_pairs() {
        let ports = PortRange::parse("10000-10999").unwrap();
        assert_eq!((ports.pairs(), ports.contains(10_999), ports.contains(11_000)), (500, true, false));
        assert_eq!(PortRange::parse("65534-65535").unwrap().pairs(), 1);
        for (wrong, cure) in [
            ("10001-10999", "even port"),
            ("10999-10000", "lower port first"),
            ("10000-10000", "two ports"),
            ("80-100", "1024"),
            ("10000", "a range of ports"),
            ("10000-70000", "a range of ports"),
        ] {
            assert!(PortRange::parse(wrong).unwrap_err().contains(cure), "{wrong}");
        }
    }
}
