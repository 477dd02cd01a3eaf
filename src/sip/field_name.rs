//! Names of header fields: the standard spelling of those that are registered, and their compact forms (RFC
//! 3261 §7.3.3).

use std::borrow::Cow;

/// The name of a field. It compares without regard to case; a known one has its standard spelling.
#[derive(Clone, Debug)]
pub struct FieldName(Cow<'static, str>);

impl FieldName {
    /// The name in its standard spelling, if it is known, in long or compact form; the text itself otherwise.
    pub fn new(name: &str) -> FieldName {
        FieldName(match standard(name.as_bytes()) {
            Some(standard) => Cow::Borrowed(standard),
            None => Cow::Owned(name.to_owned()),
        })
    }

    /// A name that is in its standard spelling already.
    pub(super) const fn standard(name: &'static str) -> FieldName {
        FieldName(Cow::Borrowed(name))
    }

    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the field of that name (in its long form).
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }
}

impl PartialEq for FieldName {
    fn eq(&self, other: &FieldName) -> bool {
        self.is(&other.0)
    }
}

impl Eq for FieldName {}

/// The fields that may stand in a message once, and hold one value.
pub(super) const SINGULAR: &[&str] = &[
    "Call-ID",
    "Content-Disposition",
    "Content-Length",
    "Content-Type",
    "CSeq",
    "Event",
    "Expires",
    "From",
    "Max-Forwards",
    "Min-Expires",
    "Min-SE",
    "RAck",
    "Refer-To",
    "Referred-By",
    "Replaces",
    "Retry-After",
    "RSeq",
    "Session-Expires",
    "Subscription-State",
    "To",
];

/// The standard spelling of a known name, in long or compact form.
pub(super) fn standard(name: &[u8]) -> Option<&'static str> {
    if let [letter] = name {
        return compact(letter.to_ascii_lowercase());
    }
    let initial = name.first()?.to_ascii_lowercase();
    let candidates = KNOWN.get(usize::from(initial.wrapping_sub(b'a')))?;
    candidates.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name)).copied()
}

fn compact(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'a' => "Accept-Contact",
        b'b' => "Referred-By",
        b'c' => "Content-Type",
        b'd' => "Request-Disposition",
        b'e' => "Content-Encoding",
        b'f' => "From",
        b'i' => "Call-ID",
        b'j' => "Reject-Contact",
        b'k' => "Supported",
        b'l' => "Content-Length",
        b'm' => "Contact",
        b'n' => "Identity-Info",
        b'o' => "Event",
        b'r' => "Refer-To",
        b's' => "Subject",
        b't' => "To",
        b'u' => "Allow-Events",
        b'v' => "Via",
        b'x' => "Session-Expires",
        b'y' => "Identity",
        _ => return None,
    })
}

/// The known names by their first letter.
static KNOWN: [&[&str]; 26] = [
    &[
        "Allow",
        "Accept",
        "Authorization",
        "Alert-Info",
        "Allow-Events",
        "Accept-Language",
        "Accept-Encoding",
        "Accept-Contact",
        "Authentication-Info",
    ],
    &[],
    &[
        "Call-ID",
        "CSeq",
        "Contact",
        "Content-Length",
        "Content-Type",
        "Call-Info",
        "Content-Disposition",
        "Content-Encoding",
        "Content-Language",
    ],
    &["Date", "Diversion"],
    &["Expires", "Event", "Error-Info"],
    &["From", "Flow-Timer", "Feature-Caps"],
    &["Geolocation"],
    &["History-Info"],
    &["In-Reply-To", "Info-Package", "Identity", "Identity-Info"],
    &["Join"],
    &[],
    &[],
    &["Max-Forwards", "Min-SE", "Min-Expires", "MIME-Version"],
    &[],
    &["Organization"],
    &[
        "P-Asserted-Identity",
        "P-Preferred-Identity",
        "Proxy-Authorization",
        "Proxy-Authenticate",
        "Proxy-Require",
        "Privacy",
        "Path",
        "P-Called-Party-ID",
        "P-Associated-URI",
        "P-Early-Media",
        "Priority",
        "Proxy-Authentication-Info",
    ],
    &[],
    &[
        "Route",
        "Record-Route",
        "Require",
        "Reason",
        "Retry-After",
        "RSeq",
        "RAck",
        "Refer-To",
        "Referred-By",
        "Replaces",
        "Recv-Info",
        "Reply-To",
        "Remote-Party-ID",
        "Reject-Contact",
        "Request-Disposition",
    ],
    &[
        "Supported",
        "Session-Expires",
        "Server",
        "Subject",
        "Service-Route",
        "Subscription-State",
        "SIP-ETag",
        "SIP-If-Match",
        "Security-Client",
        "Security-Server",
        "Security-Verify",
    ],
    &["To", "Timestamp", "Target-Dialog"],
    &["User-Agent", "Unsupported", "User-to-User"],
    &["Via"],
    &["WWW-Authenticate", "Warning"],
    &[],
    &[],
    &[],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_get_their_standard_spelling() {
        assert_eq!(FieldName::new("CALL-id").as_str(), "Call-ID");
        assert_eq!(FieldName::new("i").as_str(), "Call-ID");
        assert_eq!(FieldName::new("V").as_str(), "Via");
        assert_eq!(FieldName::new("x-MINE").as_str(), "x-MINE");
        assert_eq!(FieldName::new("x-MINE"), FieldName::new("X-Mine"));
        assert_eq!(standard(b""), None);
        assert_eq!(standard(b"{"), None);
    }

    #[test]
    fn the_table_is_by_first_letter_and_knows_every_singular_name() {
        for (index, names) in KNOWN.iter().enumerate() {
            for name in *names {
                assert_eq!(usize::from(name.as_bytes()[0].to_ascii_lowercase() - b'a'), index, "{name}");
                assert_eq!(standard(name.as_bytes()), Some(*name));
            }
        }
        for name in SINGULAR {
            assert_eq!(standard(name.as_bytes()), Some(*name));
        }
        for letter in b'a'..=b'z' {
            if let Some(name) = compact(letter) {
                assert_eq!(standard(name.as_bytes()), Some(name));
            }
        }
    }
}
