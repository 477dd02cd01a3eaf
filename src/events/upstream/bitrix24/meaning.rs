//! What an event means to a portal: all of it is known when the event is rendered, but for the portal's own name of the call.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config;
use crate::events::upstream::facts::{Facts, digits, is_short, shown};
use crate::events::{CallResult, CloudEvent, Direction, Party};
use crate::now::CLOCK_WAS_SET;

/// Characters of a number, and of a reason.
const LONGEST: usize = 128;

/// What is frozen of an event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Meaning {
    /// The leg, which is EXTERNAL_CALL_ID.
    pub leg: String,
    /// What became of it.
    pub what: What,
}

/// What became of a leg.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum What {
    /// It rings here, or is dialled here.
    Begun(Call),
    /// It is answered.
    Answered,
    /// It is over.
    Over(Call, End),
    /// The file of this recording of it is complete.
    Recorded(String),
    /// Nothing: whether the portal lets this phone in is asked for.
    Test,
}

/// Who calls whom.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Call {
    /// PHONE_NUMBER.
    pub number: String,
    /// TYPE: 1 out, 2 in, 3 in and sent on to here, 4 callback.
    pub r#type: u8,
    /// CALL_START_DATE; absent where the clock was not set.
    pub begun: Option<String>,
    /// USER_ID or USER_PHONE_INNER.
    pub user: Map<String, Value>,
}

/// How it ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct End {
    /// DURATION: seconds of talk.
    pub seconds: u64,
    /// STATUS_CODE.
    pub status: String,
    /// FAILED_REASON.
    pub reason: Option<String>,
    /// COST, in ten-thousandths of the currency.
    pub cost: Option<u64>,
    /// VOTE.
    pub vote: Option<u8>,
    /// Another phone took it: it is no call of this user's.
    pub elsewhere: bool,
    /// A rule of this device refused it before it rang.
    pub barred: bool,
    /// There is a recording, whose file may not be complete yet.
    pub recorded: bool,
}

impl Meaning {
    /// What this event means; `None` where the portal has no words for it.
    pub fn of(event: &CloudEvent, settings: &config::Bitrix24) -> Option<Meaning> {
        let facts = Facts::of(event);
        let what = match event.kind.as_str() {
            // An incoming call is the portal's business when somebody here is rung.
            "call.new" if facts.direction() == Some(Direction::Out) => {
                What::Begun(Call::of(&facts, settings, event.utc_us)?)
            }
            "call.ringing" if facts.direction() == Some(Direction::In) => {
                What::Begun(Call::of(&facts, settings, event.utc_us)?)
            }
            "call.answered" => {
                Call::of(&facts, settings, event.utc_us)?;
                What::Answered
            }
            "call.ended" => {
                let call = Call::of(&facts, settings, facts.begun_utc_us(event))?;
                What::Over(call, End::of(&facts, settings)?)
            }
            "recording.ready" => What::Recorded(facts.recording_id.clone()?),
            _ => return None,
        };
        Some(Meaning { leg: facts.leg_id?, what })
    }
}

impl Call {
    fn of(facts: &Facts, settings: &config::Bitrix24, begun_utc_us: i64) -> Option<Call> {
        let (own, remote) = facts.sides()?;
        // The portal's normal form: international without a plus sign, where that is certain.
        let number = shown(digits(remote.number.as_ref()?), LONGEST);
        if !settings.internal && is_short(&number) {
            return None;
        }
        let r#type = match facts.direction()? {
            _ if facts.callback_id.is_some() => 4,
            Direction::Out => 1,
            Direction::In if facts.diverted.is_some() => 3,
            Direction::In => 2,
        };
        let user = user(settings, facts.line.as_deref(), own)?;
        Some(Call { number, r#type, begun: moment(begun_utc_us), user })
    }
}

impl End {
    fn of(facts: &Facts, settings: &config::Bitrix24) -> Option<End> {
        let (result, direction) = (facts.result()?, facts.direction()?);
        let seconds = facts.talk_us / 1_000_000;
        let reason = facts.cause.text.as_deref().map(|text| shown(text, LONGEST));
        Some(End {
            seconds: if facts.was_answered() { seconds } else { 0 },
            status: status(result, direction, facts.cause.status).to_owned(),
            reason: reason.filter(|text| result != CallResult::Answered && !text.is_empty()),
            cost: cost(facts, settings),
            vote: facts.vote,
            elsewhere: result == CallResult::AnsweredElsewhere,
            barred: direction == Direction::In && result == CallResult::Barred,
            recorded: facts.recording_id.is_some(),
        })
    }
}

/// What a call from here has cost, in ten-thousandths of the currency.
pub fn cost(facts: &Facts, settings: &config::Bitrix24) -> Option<u64> {
    let price = settings.price().filter(|_| facts.direction() == Some(Direction::Out))?;
    Some(price * facts.talk_us.div_ceil(60_000_000))
}

/// STATUS_CODE of a result.
fn status(result: CallResult, direction: Direction, sip: Option<u16>) -> &'static str {
    let incoming = direction == Direction::In;
    match result {
        CallResult::Answered | CallResult::MediaLost | CallResult::AnsweredElsewhere => "200",
        CallResult::Busy => "486",
        CallResult::NoAnswer | CallResult::Cancelled if incoming => "304",
        CallResult::NoAnswer | CallResult::Unreachable => "480",
        CallResult::Cancelled => "603-S",
        CallResult::Rejected => "603",
        CallResult::Barred if incoming => "423",
        CallResult::Barred => "403",
        CallResult::InvalidNumber if sip == Some(484) => "484",
        CallResult::InvalidNumber => "404",
        CallResult::Congestion | CallResult::Failed => "503",
        CallResult::NoFunds => "402",
    }
}

/// Whose call it is: who is named in the settings, else the extension of this side.
pub fn user(settings: &config::Bitrix24, line: Option<&str>, own: &Party) -> Option<Map<String, Value>> {
    let extension = own.number.as_ref().map(|number| number.dialled.as_str());
    let named = |who: Option<&str>| settings.users.iter().find(|user| Some(user.who.as_str()) == who);
    let user = match named(extension).or_else(|| named(line)) {
        Some(config::Bitrix24User { user_id: Some(id), .. }) => json!({ "USER_ID": id }),
        Some(config::Bitrix24User { phone_inner: Some(inner), .. }) => json!({ "USER_PHONE_INNER": inner }),
        _ => json!({ "USER_PHONE_INNER": shown(extension?, LONGEST) }),
    };
    user.as_object().cloned()
}

/// A moment in ISO 8601, while the clock could be believed.
fn moment(utc_us: i64) -> Option<String> {
    let moment = jiff::Timestamp::from_microsecond(utc_us).ok().filter(|_| utc_us >= CLOCK_WAS_SET)?;
    Some(moment.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string())
}
