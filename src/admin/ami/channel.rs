//! Channels as Asterisk names them: in what programs ask for, and of the legs that there are.

/// Whom a program wants to be rung first: `SIP/trunk/NUMBER`, `SIP/NUMBER@trunk`, `SIP/NUMBER`, the same with `PJSIP`, or
/// `Local/NUMBER@context`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The number, or the name of a line where there is no other.
    pub number: String,
    /// Over what.
    pub by: By,
}

/// What a number is called over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum By {
    /// As the number plan says.
    Plan,
    /// A trunk: a line.
    Trunk(String),
    /// What a context means.
    Context(String),
}

impl Wanted {
    /// Reads a channel; `None` where it is none that can be rung.
    pub fn read(channel: &str) -> Option<Wanted> {
        let (kind, rest) = channel.split_once('/')?;
        let local = kind.eq_ignore_ascii_case("Local");
        if !local && !["SIP", "PJSIP"].iter().any(|it| kind.eq_ignore_ascii_case(it)) {
            return None;
        }
        // Local/NUMBER@context/n has options behind it.
        let rest = if local { rest.split('/').next().unwrap_or_default() } else { rest };
        let (number, by) = match (rest.split_once('@'), rest.split_once('/')) {
            (Some((number, context)), None) if local => (number, By::Context(context.to_owned())),
            _ if local => return None,
            (Some((number, trunk)), None) => (number, By::Trunk(trunk.to_owned())),
            (None, Some((trunk, number))) => (number, By::Trunk(trunk.to_owned())),
            (None, None) => (rest, By::Plan),
            // SIP/trunk/sip:NUMBER@host names a host of its own.
            (Some(_), Some(_)) => return None,
        };
        let usable = |text: &str| !text.is_empty() && !text.contains(['/', '@', '&', '{', '}', ';', ',']);
        let by_usable = match &by {
            By::Plan => true,
            By::Trunk(name) | By::Context(name) => usable(name),
        };
        (usable(number) && by_usable).then(|| Wanted { number: number.to_owned(), by })
    }
}

/// The channel of a leg.
pub fn channel(line: &str, leg: &str) -> String {
    format!("SIP/{line}-{}", leg.replace('-', ""))
}

/// The name of a leg that no other channel ever has.
pub fn unique(leg: &str) -> String {
    leg.replace('-', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_read_as_programs_write_them() {
        let trunk =
            |number: &str, trunk: &str| Some(Wanted { number: number.into(), by: By::Trunk(trunk.into()) });
        for (channel, expected) in [
            ("SIP/office/79001234567", trunk("79001234567", "office")),
            ("SIP/79001234567@office", trunk("79001234567", "office")),
            ("pjsip/+79001234567@office", trunk("+79001234567", "office")),
            ("SIP/102", Some(Wanted { number: "102".into(), by: By::Plan })),
            (
                "Local/79001234567@from-courier",
                Some(Wanted { number: "79001234567".into(), by: By::Context("from-courier".into()) }),
            ),
            ("Local/102@inside/n", Some(Wanted { number: "102".into(), by: By::Context("inside".into()) })),
            ("Local/102", None),
            ("SIP/{NUMBER}@office", None),
            ("SIP/office/", None),
            ("SIP/", None),
            ("SIP", None),
            ("DAHDI/1/102", None),
            ("SIP/office/sip:1@evil.example", None),
            ("SIP/1&SIP/2", None),
            ("", None),
        ] {
            assert_eq!(Wanted::read(channel), expected, "{channel}");
        }
    }
}
