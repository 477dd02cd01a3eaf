//! Bitrix24: the calls of this phone by the methods that a portal has for external telephony.
//!
//! Each leg is registered when it begins, with its id as EXTERNAL_CALL_ID; the portal answers with the name that it has for the
//! call (CALL_ID), by which everything later is said: `show` and `hide`, `finish`, `attachRecord`. So what is frozen of an event
//! is its meaning, and the request is made when that name is known. A leg that could not be registered in time is registered
//! before it is finished, without a card on anybody's screen.
//!
//! The portal knows a repeated `register` for thirty minutes, until `finish`. After that a repetition would be another call:
//! so the name is kept before `finish` is sent, and a portal that does not know the name any more when `finish` comes again has
//! taken it the first time.
//!
//! The portal is entered with tokens that end after an hour. While one delivery renews them no other begins.

mod answer;
mod controller;
mod legs;
mod meaning;
mod record;
mod search;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::dialect::{Dialect, Frozen, Request};
use super::outcome::{Outcome, Verdict};
use super::turn::{Heard, Note, Notes, Step};
use crate::config;
use crate::events::CloudEvent;
use crate::events::lookup::Question;
use crate::now::{Now, micros};
use answer::Answer;
pub use controller::Controller;
use legs::{Leg, Legs};
use meaning::{Call, End, Meaning, What};
pub use search::understood as found;
use token::Tokens;

/// A portal that does not know a call that was registered longer ago may have forgotten it, rather than finished it.
const REMEMBERED_FOR: std::time::Duration = std::time::Duration::from_secs(86_400);

/// Requests of the kind `bitrix24`. The meaning is frozen.
pub struct Bitrix24 {
    settings: config::Bitrix24,
    portal: config::UpstreamUrl,
    tokens: Tokens,
    legs: Legs,
    /// What was asked last for each delivery, by the identity of its event.
    asked: BTreeMap<String, Asked>,
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    /// Tokens.
    Renewal,
    /// Whether the application is let in.
    Application,
    Register,
    Show,
    Hide,
    Finish,
    /// Where a recording is to be sent to.
    Attach,
    Upload,
}

impl Asked {
    fn method(self) -> &'static str {
        match self {
            Asked::Application => "app.info",
            Asked::Register => "telephony.externalCall.register",
            Asked::Show => "telephony.externalCall.show",
            Asked::Hide => "telephony.externalCall.hide",
            Asked::Finish => "telephony.externalCall.finish",
            Asked::Attach => "telephony.externalCall.attachRecord",
            Asked::Renewal | Asked::Upload => "",
        }
    }
}

impl Bitrix24 {
    /// The kind `bitrix24` with these settings.
    pub fn new(settings: &config::Upstream) -> Bitrix24 {
        Bitrix24 {
            settings: settings.bitrix24.clone(),
            portal: settings.url.clone(),
            tokens: Tokens::new(&settings.bitrix24),
            legs: Legs::default(),
            asked: BTreeMap::new(),
        }
    }

    /// What is to be asked for next; `None` when there is nothing more.
    fn next(&self, meaning: &Meaning) -> Option<Asked> {
        let leg = self.legs.get(&meaning.leg);
        let others = !self.settings.show_to.is_empty();
        match &meaning.what {
            What::Test => Some(Asked::Application),
            What::Begun(_) if leg.finished => None,
            What::Begun(_) if leg.call.is_none() => Some(Asked::Register),
            What::Begun(call) => (others && !leg.shown && call.r#type != 1).then_some(Asked::Show),
            What::Answered => (others && leg.call.is_some() && !leg.finished).then_some(Asked::Hide),
            What::Over(..) | What::Recorded(_) if leg.finished => self.attaching(&leg),
            What::Over(_, end) if leg.call.is_none() => {
                (!end.elsewhere && !end.barred).then_some(Asked::Register)
            }
            What::Over(_, end) if end.elsewhere => Some(Asked::Hide),
            What::Over(..) => Some(Asked::Finish),
            What::Recorded(_) => None,
        }
    }

    fn attaching(&self, leg: &Leg) -> Option<Asked> {
        leg.recording.as_ref()?;
        Some(if leg.upload.is_some() { Asked::Upload } else { Asked::Attach })
    }

    /// The request that asks for this.
    fn ask(&self, asked: Asked, meaning: &Meaning, now: Now) -> Request {
        let leg = self.legs.get(&meaning.leg);
        let mut body = match (asked, &meaning.what) {
            (Asked::Renewal, _) => return self.tokens.renewal(),
            (Asked::Upload, _) => return record::upload(&leg, &meaning.leg),
            (Asked::Register, What::Begun(call)) => self.registration(&meaning.leg, call, self.settings.show),
            (Asked::Register, What::Over(call, _)) => self.registration(&meaning.leg, call, false),
            (Asked::Finish, What::Over(call, end)) => self.finish(call, end),
            (Asked::Show | Asked::Hide, what) => self.screens(what),
            (Asked::Attach, _) => record::announcement(&leg),
            _ => json!({}),
        };
        if let Some(call) = leg.call.filter(|_| asked != Asked::Register && asked != Asked::Application) {
            body["CALL_ID"] = call.into();
        }
        // A portal that has finished a call answers a repetition as if it had never heard of it.
        Request { once: asked == Asked::Finish, ..self.call(asked.method(), body, now) }
    }

    fn call(&self, method: &str, mut body: Value, now: Now) -> Request {
        body["auth"] = self.tokens.access(now).unwrap_or_default().into();
        Request {
            method: "POST",
            target: format!("{}/rest/{method}", self.portal.path().trim_end_matches('/')),
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string().into_bytes(),
            reads: answer::LONGEST,
            ..Request::default()
        }
    }

    fn registration(&self, leg: &str, call: &Call, show: bool) -> Value {
        let settings = &self.settings;
        let mut body = Value::Object(call.user.clone());
        body["PHONE_NUMBER"] = call.number.as_str().into();
        body["TYPE"] = call.r#type.into();
        body["EXTERNAL_CALL_ID"] = leg.into();
        body["SHOW"] = u8::from(show).into();
        body["CRM_CREATE"] = u8::from(settings.crm_create).into();
        body["ADD_TO_CHAT"] = u8::from(settings.add_to_chat).into();
        put(&mut body, "CALL_START_DATE", call.begun.as_deref());
        put(&mut body, "CRM_SOURCE", settings.crm_source.as_deref());
        put(&mut body, "LINE_NUMBER", settings.line_number.as_deref());
        body
    }

    fn finish(&self, call: &Call, end: &End) -> Value {
        let mut body = Value::Object(call.user.clone());
        body["DURATION"] = end.seconds.into();
        body["STATUS_CODE"] = end.status.as_str().into();
        body["ADD_TO_CHAT"] = u8::from(self.settings.add_to_chat).into();
        put(&mut body, "FAILED_REASON", end.reason.as_deref());
        if let Some(cost) = end.cost {
            body["COST"] = (cost as f64 / 10_000.0).into();
            put(&mut body, "COST_CURRENCY", self.settings.cost_currency.as_deref());
        }
        if let Some(vote) = end.vote {
            body["VOTE"] = vote.into();
        }
        body
    }

    /// Whose cards are opened or closed: those of others; when another phone took the call, the user's, too.
    fn screens(&self, what: &What) -> Value {
        let mut users: Vec<Value> = self.settings.show_to.iter().map(|user| (*user).into()).collect();
        let mut body = json!({});
        if let What::Over(call, _) = what {
            match call.user.get("USER_ID") {
                Some(user) => users.push(user.clone()),
                None => body = Value::Object(call.user.clone()),
            }
        }
        if !users.is_empty() {
            body["USER_ID"] = users.into();
        }
        body
    }

    /// What an answer that is one means for the delivery.
    fn heard_result(&mut self, asked: Asked, meaning: &Meaning, result: &Value, now: Now) -> Heard {
        match asked {
            Asked::Register => {
                let Some(call) = answer::word(&result["CALL_ID"]) else {
                    let what = "the portal answers a registration without the CALL_ID of the call";
                    return Heard::trouble(Verdict::Unavailable, what, "check url, and the portal's log");
                };
                // What comes later has to be said by this name, whatever happens to the power until then.
                Heard::go_on(self.change(meaning, now, |leg| (leg.call, leg.fresh) = (Some(call), true)))
            }
            Asked::Show => {
                self.change(meaning, now, |leg| leg.shown = true);
                Heard::over(Verdict::Taken)
            }
            Asked::Hide if matches!(meaning.what, What::Over(..)) => self.finished(meaning, now),
            Asked::Finish => self.finished(meaning, now),
            Asked::Attach => match record::place(result, &self.portal) {
                record::Place::Attached => self.attached(meaning, now),
                record::Place::Upload(upload) => {
                    self.change(meaning, now, |leg| leg.upload = Some(upload));
                    Heard::go_on(Vec::new())
                }
                record::Place::Elsewhere => {
                    let what = "the portal wants recordings sent to a place that is not its own";
                    Heard::trouble(Verdict::Refused, what, "check url: the portal's own, https://HOST")
                }
            },
            Asked::Upload => self.attached(meaning, now),
            Asked::Renewal | Asked::Application | Asked::Hide => Heard::over(Verdict::Taken),
        }
    }

    fn change(&mut self, meaning: &Meaning, now: Now, change: impl FnOnce(&mut Leg)) -> Vec<Note> {
        self.legs.change(&meaning.leg, now.utc_us, change)
    }

    /// The leg's story is told, but for a recording.
    fn finished(&mut self, meaning: &Meaning, now: Now) -> Heard {
        let notes = self.change(meaning, now, |leg| leg.finished = true);
        match self.attaching(&self.legs.get(&meaning.leg)) {
            Some(_) => Heard::go_on(notes),
            None => Heard { notes, ..Heard::over(Verdict::Taken) },
        }
    }

    fn attached(&mut self, meaning: &Meaning, now: Now) -> Heard {
        let notes = self.change(meaning, now, |leg| (leg.recording, leg.upload) = (None, None));
        Heard { notes, ..Heard::over(Verdict::Taken) }
    }

    /// What it means that something was not done.
    fn heard_otherwise(
        &mut self,
        asked: Asked,
        meaning: &Meaning,
        (answer, outcome): (&Answer, &Outcome),
        now: Now,
    ) -> Heard {
        let leg = self.legs.get(&meaning.leg);
        match asked {
            Asked::Finish if answer.is_unknown_call() => {
                let age = now.utc_us.saturating_sub(leg.since);
                let kept = age < i64::try_from(micros(REMEMBERED_FOR)).unwrap_or(i64::MAX);
                if kept && (leg.unsure || !leg.fresh) {
                    // It was finished before, and the answer to that was lost.
                    return self.finished(meaning, now);
                }
                if !leg.again {
                    let again = |leg: &mut Leg| (leg.call, leg.again) = (None, true);
                    return Heard::go_on(self.change(meaning, now, again));
                }
            }
            Asked::Finish if !matches!(answer, Answer::Error { status: 400..=499, .. }) => {
                self.change(meaning, now, |leg| leg.unsure = true);
            }
            // Its card is gone already.
            Asked::Show | Asked::Hide if answer.is_unknown_call() => return Heard::over(Verdict::Taken),
            Asked::Attach if answer.is_unknown_call() => {
                let what = "the portal does not find the call that a recording belongs to yet";
                return Heard::trouble(Verdict::Unavailable, what, "nothing: it is sent later");
            }
            Asked::Upload => {
                // A place is good for once.
                self.change(meaning, now, |leg| leg.upload = None);
                if matches!(outcome, Outcome::Unwritable { .. }) {
                    // The file is gone: it was deleted, by age or by somebody.
                    return self.attached(meaning, now);
                }
                if *answer == Answer::None && outcome.verdict() == Verdict::Taken {
                    return self.attached(meaning, now);
                }
            }
            _ => {}
        }
        answer::refusal(answer, outcome)
    }
}

impl Dialect for Bitrix24 {
    fn speaks_of(&self, kind: &str) -> bool {
        SPOKEN.contains(&kind)
    }

    fn pops_up(&self, kind: &str) -> bool {
        matches!(kind, "call.new" | "call.ringing" | "call.answered")
    }

    fn render(&self, event: &CloudEvent) -> Option<Frozen> {
        let meaning = Meaning::of(event, &self.settings)?;
        Some(frozen(event, &meaning))
    }

    fn request(&self, frozen: &Frozen, now: Now) -> Request {
        let meaning = read(frozen);
        let asked = meaning.as_ref().and_then(|meaning| self.next(meaning));
        meaning.zip(asked).map(|(meaning, asked)| self.ask(asked, &meaning, now)).unwrap_or_default()
    }

    fn step(&mut self, frozen: &Frozen, now: Now) -> Step {
        let Some(meaning) = read(frozen) else { return Step::Done };
        if let What::Recorded(recording) = &meaning.what {
            // The file may be complete before the call is finished: then it is attached after that.
            let leg = self.legs.get(&meaning.leg);
            if leg.recording.is_none() && leg.upload.is_none() && !self.asked.contains_key(&frozen.id) {
                let recording = Some(recording.clone());
                self.asked.insert(frozen.id.clone(), Asked::Attach);
                return Step::Remember(self.change(&meaning, now, |leg| leg.recording = recording));
            }
        }
        let Some(mut asked) = self.next(&meaning) else {
            self.asked.remove(&frozen.id);
            return Step::Done;
        };
        if self.tokens.access(now).is_none() {
            self.tokens.renewing = true;
            asked = Asked::Renewal;
        }
        self.asked.insert(frozen.id.clone(), asked);
        Step::Send(Box::new(self.ask(asked, &meaning, now)))
    }

    fn heard(&mut self, frozen: &Frozen, outcome: &Outcome, now: Now) -> Heard {
        let (Some(asked), Some(meaning)) = (self.asked.get(&frozen.id).copied(), read(frozen)) else {
            return Heard::over(outcome.verdict());
        };
        let heard = if asked == Asked::Renewal {
            self.tokens.renewed(outcome, now)
        } else {
            let answer = Answer::of(outcome);
            if answer != Answer::None && !answer.is_expired() {
                self.tokens.believed();
            }
            match &answer {
                Answer::Result(result) => self.heard_result(asked, &meaning, result, now),
                expired if expired.is_expired() && self.tokens.expired() => Heard::go_on(Vec::new()),
                _ => self.heard_otherwise(asked, &meaning, (&answer, outcome), now),
            }
        };
        if heard.over.is_some() {
            self.asked.remove(&frozen.id);
        }
        heard
    }

    fn recall(&mut self, notes: Notes) {
        self.tokens.recall(&notes);
        self.legs.recall(&notes);
    }

    fn remembered(&mut self, frozen: &Frozen) {
        if self.asked.get(&frozen.id) == Some(&Asked::Renewal) {
            self.tokens.renewing = false;
        }
    }

    fn is_ready(&self) -> bool {
        !self.tokens.renewing
    }

    fn inquiry(&self, question: &Question, now: Now) -> Option<Request> {
        self.tokens.access(now).filter(|_| self.is_ready())?;
        search::asked(question).map(|body| self.call(search::METHOD, body, now))
    }

    /// Asks for the application itself: nothing of it is seen by anybody.
    fn test(&self, event: &CloudEvent) -> Frozen {
        frozen(event, &Meaning { leg: String::new(), what: What::Test })
    }
}

/// The types of events that a portal is told something of.
const SPOKEN: &[&str] = &["call.new", "call.ringing", "call.answered", "call.ended", "recording.ready"];

fn frozen(event: &CloudEvent, meaning: &Meaning) -> Frozen {
    let body = serde_json::to_vec(meaning).unwrap_or_default();
    Frozen { id: event.id.to_string(), target: String::new(), body }
}

fn read(frozen: &Frozen) -> Option<Meaning> {
    serde_json::from_slice(&frozen.body).ok()
}

fn put(body: &mut Value, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        body[name] = value.into();
    }
}
