//! What happens, in the events of Asterisk: Newchannel, DialBegin, Newstate, DialEnd, BridgeEnter, Hangup, in that order
//! for each leg, rendered from the events that everybody else gets.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::channel::{channel, unique};
use super::packet::Reply;
use crate::events::upstream::facts::{number, shown};
use crate::events::{CallResult, Cause, CloudEvent, Direction, Leg, Party, Side, TransferWay};

/// Legs that are remembered at most.
const LEGS: usize = 512;
/// Characters of a name or number.
const LONGEST: usize = 128;
/// What Asterisk writes for what it does not know.
const UNKNOWN: &str = "<unknown>";

/// The classes of events that somebody wants, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Classes(u8);

impl Classes {
    /// Calls.
    pub const CALL: Classes = Classes(1);
    /// Registrations, and that the system runs.
    pub const SYSTEM: Classes = Classes(2);
    /// What a call goes on with.
    pub const DIALPLAN: Classes = Classes(4);
    /// Everything.
    pub const ALL: Classes = Classes(7);

    /// `on`, `off`, or a list such as `call,system`. Classes that are not there have no events.
    pub fn read(text: &str) -> Classes {
        let bits = text.split(',').map(|word| match word.trim().to_ascii_lowercase().as_str() {
            "on" | "yes" | "true" | "1" | "all" => Classes::ALL.0,
            "call" => Classes::CALL.0,
            "system" => Classes::SYSTEM.0,
            "dialplan" => Classes::DIALPLAN.0,
            _ => 0,
        });
        Classes(bits.fold(0, |all, bit| all | bit))
    }

    /// Whether those of another class are wanted.
    pub fn has(self, other: Classes) -> bool {
        self.0 & other.0 != 0
    }

    fn name(self) -> &'static str {
        match self {
            Classes::CALL => "call",
            Classes::DIALPLAN => "dialplan",
            _ => "system",
        }
    }
}

/// The state of a channel, by its number and name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing yet.
    Down = 0,
    /// A caller waits.
    Ring = 4,
    /// The far end rings.
    Ringing = 5,
    /// They talk.
    Up = 6,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Down => "Down",
            State::Ring => "Ring",
            State::Ringing => "Ringing",
            State::Up => "Up",
        }
    }
}

/// One channel, for the block of lines that most events have.
#[derive(Clone, PartialEq, Debug)]
pub struct Channel {
    /// The leg.
    pub leg: String,
    /// The whole call.
    pub call: String,
    /// The line.
    pub line: String,
    /// The number and the name of the far end.
    pub far: (String, String),
    /// Those of this end.
    pub near: (String, String),
    /// Whom the call is for.
    pub exten: String,
    /// Where it stands.
    pub state: State,
}

impl Channel {
    fn of(leg: &Leg, call: &str, state: State) -> Channel {
        let (near, far) = match leg.direction {
            Direction::In => (&leg.called, &leg.caller),
            Direction::Out => (&leg.caller, &leg.called),
        };
        Channel {
            leg: leg.leg_id.clone(),
            call: call.to_owned(),
            line: leg.line.clone(),
            far: names(far),
            near: names(near),
            exten: number(&leg.called).unwrap_or_default().to_owned(),
            state,
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        channel(&self.line, &self.leg)
    }

    /// The block, its keys with `prefix` before them.
    pub fn block(&self, reply: Reply, prefix: &str) -> Reply {
        let key = |name: &str| format!("{prefix}{name}");
        let text = |text: &str| if text.is_empty() { UNKNOWN.to_owned() } else { shown(text, LONGEST) };
        reply
            .with(&key("Channel"), self.name())
            .with(&key("ChannelState"), self.state as u8)
            .with(&key("ChannelStateDesc"), self.state.name())
            .with(&key("CallerIDNum"), text(&self.far.0))
            .with(&key("CallerIDName"), text(&self.far.1))
            .with(&key("ConnectedLineNum"), text(&self.near.0))
            .with(&key("ConnectedLineName"), text(&self.near.1))
            .with(&key("Language"), "en")
            .with(&key("AccountCode"), "")
            .with(&key("Context"), &self.line)
            .with(&key("Exten"), shown(&self.exten, LONGEST))
            .with(&key("Priority"), 1)
            .with(&key("Uniqueid"), unique(&self.leg))
            .with(&key("Linkedid"), unique(&format!("{}-1", self.call)))
    }
}

fn names(party: &Party) -> (String, String) {
    (number(party).unwrap_or_default().to_owned(), party.name.clone().unwrap_or_default())
}

/// What an event says.
#[derive(Deserialize)]
struct Told {
    #[serde(flatten)]
    leg: Leg,
    #[serde(default)]
    cause: Cause,
    #[serde(default)]
    result: Option<String>,
    #[serde(flatten)]
    transfer: Option<Transferred>,
}

/// What `call.transferred` says.
#[derive(Deserialize)]
struct Transferred {
    way: TransferWay,
    target: Party,
    #[serde(default)]
    with: Option<String>,
    by: Side,
}

/// What one listener was told of each leg.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Story {
    legs: BTreeMap<String, Channel>,
    /// Those that have entered a bridge.
    bridged: Vec<String>,
}

impl Story {
    /// What an event of this appliance is in the words of Asterisk.
    pub fn render(&mut self, event: &CloudEvent) -> Vec<(Classes, Reply)> {
        let mut out = Vec::new();
        if let Some(status) = registry(&event.kind) {
            out.push((Classes::SYSTEM, registration(event, status)));
        }
        let (Some(call), Ok(told)) = (&event.subject, serde_json::from_str::<Told>(&event.data)) else {
            return out;
        };
        let leg = &told.leg.leg_id;
        let mut channel = Channel::of(&told.leg, call, State::Down);
        channel.state = self.legs.get(leg).map_or(State::Down, |known| known.state);
        let mut say = |class: Classes, reply: Reply| out.push((class, reply));
        match event.kind.as_str() {
            "call.new" => {
                if told.leg.direction == Direction::In {
                    channel.state = State::Ring;
                }
                say(Classes::CALL, channel.block(event_of("Newchannel", Classes::CALL), ""));
            }
            "call.dialing" => {
                say(Classes::CALL, self.dial("DialBegin", &channel).with("DialString", &channel.exten))
            }
            "call.ringing" => {
                channel.state = State::Ringing;
                say(Classes::CALL, channel.block(event_of("Newstate", Classes::CALL), ""));
            }
            "call.answered" => {
                channel.state = State::Up;
                say(Classes::CALL, channel.block(event_of("Newstate", Classes::CALL), ""));
                if told.leg.direction == Direction::Out {
                    say(Classes::CALL, self.dial("DialEnd", &channel).with("DialStatus", "ANSWER"));
                }
            }
            "call.bridged" => {
                let members =
                    self.bridged.iter().filter(|it| it.starts_with(&format!("{call}-"))).count() + 1;
                say(Classes::CALL, channel.block(bridge("BridgeEnter", call, members), ""));
                self.bridged.push(leg.clone());
                self.bridged.truncate(LEGS);
            }
            "call.transferred" => {
                if let Some(transfer) = &told.transfer {
                    say(Classes::CALL, self.transferred(&channel, transfer));
                }
            }
            "call.ended" => {
                let result =
                    told.result.as_deref().and_then(CallResult::from_word).unwrap_or(CallResult::Failed);
                if let Some(at) = self.bridged.iter().position(|it| it == leg) {
                    self.bridged.remove(at);
                    let left = self.bridged.iter().filter(|it| it.starts_with(&format!("{call}-"))).count();
                    say(Classes::CALL, channel.block(bridge("BridgeLeave", call, left), ""));
                }
                if told.leg.direction == Direction::Out && channel.state != State::Up {
                    say(
                        Classes::CALL,
                        self.dial("DialEnd", &channel).with("DialStatus", dial_status(result)),
                    );
                }
                let cause = told.cause.q850.unwrap_or_else(|| result.q850());
                let end = channel.block(event_of("Hangup", Classes::CALL), "");
                say(Classes::CALL, end.with("Cause", cause).with("Cause-txt", cause_text(cause)));
                self.legs.remove(leg);
                return out;
            }
            _ => return out,
        }
        if self.legs.len() < LEGS || self.legs.contains_key(leg) {
            self.legs.insert(leg.clone(), channel);
        }
        out
    }

    /// DialBegin or DialEnd of a channel: of the second leg of a call by the first one.
    fn dial(&self, name: &str, channel: &Channel) -> Reply {
        let event = event_of(name, Classes::CALL);
        let first = self.legs.get(&format!("{}-1", channel.call)).filter(|first| first.leg != channel.leg);
        let event = first.map_or_else(|| event.clone(), |first| first.block(event.clone(), ""));
        channel.block(event, "Dest")
    }

    /// That a call was given away: by the far end of this channel, or by this device, which then has the channel of whoever
    /// is sent on, and after asking that of the target.
    fn transferred(&self, channel: &Channel, transfer: &Transferred) -> Reply {
        let (name, transferer) = match transfer.way {
            TransferWay::Blind => ("BlindTransfer", "Transferer"),
            TransferWay::Attended => ("AttendedTransfer", "OrigTransferer"),
        };
        let role = if transfer.by == Side::Remote { transferer } else { "Transferee" };
        let mut event = channel.block(event_of(name, Classes::CALL).with("Result", "Success"), role);
        if let Some(with) = &transfer.with
            && let Some(target) = self.legs.values().find(|other| other.call == *with)
        {
            event = target.block(event, "TransferTarget");
        }
        event
            .with("IsExternal", "Yes")
            .with("Context", &channel.line)
            .with("Extension", shown(number(&transfer.target).unwrap_or_default(), LONGEST))
    }
}

fn event_of(name: &str, class: Classes) -> Reply {
    Reply::event(name, class.name())
}

fn bridge(name: &str, call: &str, members: usize) -> Reply {
    event_of(name, Classes::CALL)
        .with("BridgeUniqueid", call)
        .with("BridgeType", "basic")
        .with("BridgeTechnology", "simple_bridge")
        .with("BridgeNumChannels", members)
}

fn registry(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "line.registered" => "Registered",
        "line.unregistered" => "Unregistered",
        "line.rejected" => "Rejected",
        _ => return None,
    })
}

fn registration(event: &CloudEvent, status: &str) -> Reply {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let text = |value: &Value| shown(value.as_str().unwrap_or_default(), LONGEST);
    event_of("Registry", Classes::SYSTEM)
        .with("ChannelType", "SIP")
        .with("Username", text(&data["line"]))
        .with("Domain", text(&data["registrar"]))
        .with("Status", status)
        .with("Cause", text(&data["cause"]["text"]))
}

fn dial_status(result: CallResult) -> &'static str {
    match result {
        CallResult::Answered | CallResult::MediaLost => "ANSWER",
        CallResult::Busy | CallResult::Rejected => "BUSY",
        CallResult::NoAnswer => "NOANSWER",
        CallResult::Cancelled | CallResult::AnsweredElsewhere => "CANCEL",
        CallResult::InvalidNumber | CallResult::Unreachable => "CHANUNAVAIL",
        CallResult::Barred | CallResult::Congestion | CallResult::NoFunds | CallResult::Failed => {
            "CONGESTION"
        }
    }
}

/// Why the first one did not come, by the number that OriginateResponse has for it.
pub fn originate_reason(result: CallResult) -> u8 {
    match result {
        CallResult::Answered | CallResult::MediaLost => 4,
        CallResult::Busy | CallResult::Rejected => 5,
        CallResult::NoAnswer => 3,
        CallResult::Cancelled | CallResult::AnsweredElsewhere => 1,
        CallResult::Congestion | CallResult::NoFunds | CallResult::Barred => 8,
        CallResult::InvalidNumber | CallResult::Unreachable | CallResult::Failed => 0,
    }
}

/// The causes of ITU-T Q.850 by name.
fn cause_text(cause: u8) -> &'static str {
    match cause {
        1 => "Unallocated (unassigned) number",
        16 => "Normal Clearing",
        17 => "User busy",
        18 => "No user responding",
        19 => "User alerting, no answer",
        20 => "Subscriber absent",
        21 => "Call Rejected",
        26 => "Answered elsewhere",
        27 => "Destination out of order",
        28 => "Invalid number format",
        31 => "Normal, unspecified",
        34 => "Circuit/channel congestion",
        38 => "Network out of order",
        41 => "Temporary failure",
        50 => "Facility not subscribed",
        52 => "Outgoing call barred",
        54 => "Incoming call barred",
        _ => "Unknown",
    }
}
