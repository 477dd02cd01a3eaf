//! What a broker's codes mean: the return codes of MQTT 3.1.1 (§3.2.2.3) and the reason codes of MQTT 5 (§2.4).

use crate::events::upstream::outcome::Verdict;

/// The code for a message that is larger than the broker takes: it is known before it is sent.
pub const TOO_LARGE: u8 = 0x95;

/// Code, whether it is for good unless somebody changes something, what it means, what to do.
type Row = (u8, Verdict, &'static str, &'static str);

const LATER: Verdict = Verdict::Unavailable;
const NEVER: Verdict = Verdict::Refused;

/// Reason codes of MQTT 5 that refuse something.
const REASONS: &[Row] = &[
    (0x80, LATER, "the broker fails, and does not say why", "look into its log"),
    (0x81, NEVER, "the broker does not understand this device", "look into its log"),
    (0x82, NEVER, "the broker takes this device for wrong", "look into its log"),
    (0x83, LATER, "the broker can't do it", "look into its log"),
    (0x84, NEVER, "the broker does not speak MQTT 5", "write version = \"3.1.1\" in [upstream.mqtt]"),
    (
        0x85,
        NEVER,
        "the broker refuses the client_id",
        "give it another client_id, or let the broker take this one",
    ),
    (0x86, NEVER, "the broker refuses user and password", "check user and password in [upstream.mqtt]"),
    (
        0x87,
        NEVER,
        "the broker says that this device is not authorized",
        "give it the right to the topics of this device",
    ),
    (0x88, LATER, "the broker is not available", "nothing: it is tried again; or look into its log"),
    (0x89, LATER, "the broker is busy", "nothing: it is tried again"),
    (0x8a, NEVER, "the broker has banned this device", "lift the ban at the broker"),
    (0x8b, LATER, "the broker shuts down", "nothing: it is tried again"),
    (0x8c, NEVER, "the broker wants another way to log in", "let this device log in by user and password"),
    (0x8d, LATER, "the broker has heard nothing for too long", "check the way to it"),
    (
        0x8e,
        NEVER,
        "somebody else has connected with the same client_id",
        "give each device its own client_id",
    ),
    (0x90, NEVER, "the broker refuses the topic", "check topic in [upstream.mqtt]"),
    (0x91, LATER, "the broker says that a packet id is in use", "look into its log"),
    (0x93, LATER, "the broker has got more at once than it takes", "look into its log"),
    (0x95, NEVER, "the message is larger than the broker takes", "let it take larger packets"),
    (0x96, LATER, "the broker gets messages too fast", "nothing: they are told later; or let it take more"),
    (
        0x97,
        LATER,
        "the quota at the broker is exceeded",
        "nothing: it is told later; or give it a larger quota",
    ),
    (
        0x98,
        NEVER,
        "somebody has ended the connection at the broker",
        "nothing: it is tried again; or ask them",
    ),
    (0x99, NEVER, "the broker refuses the form of the message", "look into its log"),
    (
        0x9a,
        NEVER,
        "the broker keeps no messages",
        "let it keep (retain) messages: the state of the device is one",
    ),
    (0x9b, NEVER, "the broker acknowledges no messages", "let it take QoS 1"),
    (
        0x9c,
        LATER,
        "the broker wants another one to be used for now",
        "write that one as url, if it is to be believed",
    ),
    (0x9d, NEVER, "the broker has moved", "write the new one as url, if it is to be believed"),
    (
        0x9f,
        LATER,
        "the broker gets too many connections at once",
        "nothing: it is tried again; a larger spread helps",
    ),
    (0xa0, LATER, "the connection has lasted as long as the broker lets it", "nothing: a new one is made"),
];

/// Return codes of the CONNACK of 3.1.1.
const RETURNS: &[Row] = &[
    (1, NEVER, "the broker does not speak MQTT 3.1.1", "write version = \"5\" in [upstream.mqtt]"),
    (
        2,
        NEVER,
        "the broker refuses the client_id",
        "give it another client_id, or let the broker take this one",
    ),
    (3, LATER, "the broker is not available", "nothing: it is tried again; or look into its log"),
    (4, NEVER, "the broker refuses user and password", "check user and password in [upstream.mqtt]"),
    (
        5,
        NEVER,
        "the broker says that this device is not authorized",
        "check user and password in [upstream.mqtt]",
    ),
];

/// What a code says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reason {
    /// Whether it is taken, refused for good, or refused for now.
    pub verdict: Verdict,
    /// What is the matter.
    pub what: &'static str,
    /// What to do about it.
    pub cure: &'static str,
}

/// What a reason code of MQTT 5 says.
pub fn of(code: u8) -> Reason {
    found(REASONS, code, code < 0x80)
}

/// What the code of a CONNACK says: a broker that does not know a version may answer in the words of an older one.
pub fn of_greeting(code: u8) -> Reason {
    found(if code < 0x80 { RETURNS } else { REASONS }, code, code == 0)
}

fn found(rows: &[Row], code: u8, taken: bool) -> Reason {
    let row = rows.iter().find(|(it, ..)| *it == code);
    let (verdict, what, cure) = match row {
        _ if taken => (Verdict::Taken, "the broker has taken it", "nothing"),
        Some((_, verdict, what, cure)) => (*verdict, *what, *cure),
        // A code that no version has: whoever invented it may think better of it.
        None => (LATER, "the broker refuses with a code that MQTT does not have", "look into its log"),
    };
    Reason { verdict, what, cure }
}
