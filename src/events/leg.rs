//! A leg as events tell it: who calls whom over which line, and how the audio was.

use serde::{Deserialize, Serialize};

use super::number::Number;
use super::transfer::Follows;

/// The direction of a call, seen from this device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Direction {
    /// Somebody calls this device.
    #[serde(rename = "in")]
    In,
    /// This device calls somebody.
    #[serde(rename = "out")]
    Out,
}

impl Direction {
    /// The word in events, the journal and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }

    /// The direction that [`Direction::as_str`] names.
    pub fn from_word(word: &str) -> Option<Direction> {
        match word {
            "in" => Some(Direction::In),
            "out" => Some(Direction::Out),
            _ => None,
        }
    }
}

/// Who started an outgoing call, or whom a guard stopped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A call from the network.
    Network,
    /// The command line.
    Command,
    /// A program through the API.
    Api,
    /// A person at the keys of the device.
    Keys,
    /// The far end of a call, which gives it away to somebody else (REFER).
    Refer,
    /// A program that speaks the manager protocol of Asterisk.
    Ami,
    /// A command of an upstream, over the connection that events are told over.
    Upstream,
    /// This device itself: an extension gets a caller back who belongs to it.
    Sticky,
}

/// Which end of the leg did something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// This device.
    Local,
    /// The other end.
    Remote,
}

/// One end of a call, as the signalling names it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Party {
    /// The number or user name; absent when the caller withholds it.
    #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
    pub number: Option<Number>,
    /// The name that is shown with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The address of record, without parameters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uri: Option<String>,
}

impl Party {
    /// A party known by its number or user name alone.
    pub fn numbered(dialled: impl Into<String>) -> Party {
        Party { number: Some(Number::new(dialled)), ..Party::default() }
    }
}

/// Who sent a call on to this device, and why.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Diverted {
    /// Who did; without a number where it is withheld.
    pub by: Party,
    /// `unconditional`, `busy`, `no_answer`, `unavailable`, `deflected`, `do_not_disturb`, `time_of_day`, `follow_me` or
    /// `away`; absent where the PBX does not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// Who calls whom over which line: in every event of a leg.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leg {
    /// The leg, unique on this device for ever; one call has one or several.
    pub leg_id: String,
    /// The Call-ID of the leg's SIP dialog, for finding it in a PBX's log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sip_call_id: Option<String>,
    /// The name of the line.
    pub line: String,
    /// Seen from this device.
    pub direction: Direction,
    /// Who calls.
    pub caller: Party,
    /// Who is called.
    pub called: Party,
    /// The number that an outside caller dialled to get here, where the PBX tells it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub did: Option<Number>,
    /// Who sent an incoming call on to this device, where the PBX tells it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diverted: Option<Box<Diverted>>,
    /// Who is really at the other end, once the PBX has told (connected identity).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connected: Option<Party>,
    /// The callback that the leg is a part of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub callback_id: Option<String>,
    /// The leg whose place it takes, where the call was given away.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub follows: Option<Box<Follows>>,
}

impl Leg {
    /// Who is at the other end, as far as it is known now.
    pub fn remote(&self) -> &Party {
        self.connected.as_ref().unwrap_or_else(|| self.called_or_calling())
    }

    /// Who was at the other end when the leg began.
    pub fn called_or_calling(&self) -> &Party {
        match self.direction {
            Direction::In => &self.caller,
            Direction::Out => &self.called,
        }
    }
}

/// The way that a leg's audio takes. Places are named as candidates are (RFC 8839 §5.1): `host`, an address of the
/// machine; `srflx`, its address outside of a NAT; `prflx`, one that only the other end sees; `relay`, one at a TURN server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Way {
    /// Where this end is reached.
    pub local: String,
    /// Where the other end is; absent without ICE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remote: Option<String>,
    /// What carries it from here: `udp`; to a TURN server also `tcp` or `tls`.
    pub transport: String,
}

/// Percent and grade (1 to 5) of a mean opinion score, whose best is 4.4 to 4.5: the words that Bitrix24's telephony has for it.
pub fn meter(mos: f64) -> (u64, u64) {
    let percent = ((mos - 1.0) / 3.4 * 100.0).round().clamp(0.0, 100.0) as u64;
    (percent, (1 + percent / 20).min(5))
}

/// How a leg's audio was: since the last report, or of the whole leg at its end.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Quality {
    /// Encoding name, as in SDP: `opus`, `G722`, `PCMA`, `PCMU`.
    pub codec: String,
    /// Estimated mean opinion score of what is heard here; absent before anything was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mos: Option<f64>,
    /// The model and scale of `mos`: `G.107` (narrow band, up to 4.5) or `G.107.1` (wide band).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mos_scale: Option<String>,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// RTP packets received.
    pub packets_received: u64,
    /// Packets of the other side that never came.
    pub packets_lost: u64,
    /// Packets that came too late to be played.
    pub packets_late: u64,
    /// Packets that were dropped: malformed, of a third party, not authentic, of a payload type that nobody agreed on.
    #[serde(default)]
    pub packets_refused: u64,
    /// STUN and TURN messages that were not believed: without the right password, or answers to nothing that was asked.
    #[serde(default)]
    pub stun_refused: u64,
    /// The way that the audio takes now, or took last; absent before it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub way: Option<Way>,
    /// The part of the heard time that was made up, 0–100.
    pub concealed_percent: f64,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub jitter_us: u64,
    /// What the jitter buffer adds now, or added on average.
    pub buffer_us: u64,
    /// RTCP packets of the other side: without any it has told nothing of round trip and loss.
    #[serde(default)]
    pub rtcp_received: u64,
    /// Why RTCP has no way or no keys, or that none comes, where the other side wants it on a port of its own; the audio does
    /// without.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rtcp_fault: Option<String>,
    /// Round trip from RTCP; absent until it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub round_trip_us: Option<u64>,
    /// What the other side says it lost of our packets, 0–100; absent until it has said so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remote_loss_percent: Option<f64>,
    /// Whether the audio was encrypted, and how: the name of the SRTP profile.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub srtp: Option<String>,
}
