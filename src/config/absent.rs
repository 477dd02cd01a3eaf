//! What the product's plan names and this version does not have: such keys are refused by name, so that nobody searches
//! for a typing error.

/// Table, key, feature. An empty table is the top of the file, `*` any table.
const ABSENT: &[(&str, &str, &str)] = &[
    ("sip", "port_tls", "accepting TLS connections"),
    ("", "provisioning", "provisioning"),
    ("", "port", "GSM ports"),
    ("", "update", "updating"),
    ("*", "board", "board descriptions"),
    ("*", "ussd", "USSD"),
    ("line", "forward", "call forwarding"),
    ("audio", "echo_cancel", "echo cancelling"),
];

/// The feature that a key belongs to, if the key is one of a feature that is not there.
pub(super) fn feature(table: &str, key: &str) -> Option<&'static str> {
    let found = ABSENT.iter().find(|(home, name, _)| *name == key && (*home == table || *home == "*"));
    // A key that has moved up or down by a mistake is still refused by name.
    found
        .or_else(|| ABSENT.iter().find(|(home, name, _)| *name == key && !home.is_empty()))
        .map(|(_, _, it)| *it)
}
