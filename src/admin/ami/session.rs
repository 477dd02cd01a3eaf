//! One connection of a program that speaks the manager protocol, without the connection: bytes, answers of the phone and
//! events come in, text and wishes go out.
//!
//! Actions are done one after the other, as Asterisk does: a synchronous Originate holds up those behind it until the first
//! one has answered. What was said before the end of the connection is still done: a program that sends Login, Originate
//! and Logoff at once and goes away has its call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use md5::{Digest, Md5};
use serde::Deserialize;

use super::channel::{By, Wanted, channel};
use super::packet::{Packet, Reader, Reply};
use super::story::{Channel, Classes, State, Story, originate_reason};
use crate::admin::access::same_secret;
use crate::admin::ledger::Ledger;
use crate::config::{AmiUser, Config};
use crate::events::{CallResult, CloudEvent};
use crate::now::Now;
use crate::phone::command::{self, Callback, Command, End, Outcome};
use crate::phone::snapshot::{CallView, Snapshot};

/// What a connection begins with. Programs look for the name; the number is that of the manager interface.
const BANNER: &str = "Asterisk Call Manager/9.0.0\r\n";
/// Bytes that may wait while an action is being done.
const MOST_WAITING: usize = 32 << 10;
/// Actions within a second; more are no program's.
const MOST_ACTIONS: u32 = 50;
/// Calls whose beginning a program waits for.
const MOST_ORIGINATED: usize = 64;
/// The time to log in.
pub const LOG_IN_WITHIN: Duration = Duration::from_secs(30);
/// Characters of a name that is told to others.
const LONGEST_NAME: usize = 64;

/// What the machine has to do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send this.
    Send(String),
    /// Ask the phone, and give its answer to [`Session::answered`].
    Ask(Command),
    /// Somebody could not log in under this name: let them wait before the next output is done.
    Wrong(String),
    /// This user has logged in.
    Entered(String),
    /// End the connection.
    Close,
}

/// What the phone was asked for.
#[derive(Debug)]
enum Asked {
    Originate(Originate),
    /// Which channels there are, to end one.
    Find {
        action: Option<String>,
        channel: String,
    },
    HangUp {
        action: Option<String>,
    },
    List {
        action: Option<String>,
        what: List,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum List {
    Status,
    Channels,
}

/// A call that was asked for.
#[derive(Clone, Debug, PartialEq)]
struct Originate {
    action: Option<String>,
    asynchronous: bool,
    channel: String,
    context: String,
    exten: String,
    /// The callback, once the phone has begun it.
    callback: String,
}

#[derive(Debug, PartialEq)]
enum Who {
    /// Nobody yet; what MD5 log-ins are made of.
    Nobody {
        challenge: String,
        asked: bool,
    },
    User(AmiUser),
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    who: Who,
    reader: Reader,
    outputs: VecDeque<Output>,
    asked: Option<Asked>,
    /// The synchronous call whose first one is being rung.
    rings: Option<Originate>,
    originated: Vec<Originate>,
    classes: Classes,
    story: Story,
    ended: bool,
    closed: bool,
    begun: Now,
    second: (u64, u32),
}

impl Session {
    /// A connection that has just been made; `challenge` is what an MD5 log-in has to answer, never the same twice.
    pub fn new(now: Now, config: Arc<Config>, challenge: String) -> Session {
        Session {
            config,
            who: Who::Nobody { challenge, asked: false },
            reader: Reader::default(),
            outputs: [Output::Send(BANNER.to_owned())].into(),
            asked: None,
            rings: None,
            originated: Vec::new(),
            classes: Classes::default(),
            story: Story::default(),
            ended: false,
            closed: false,
            begun: now,
            second: (0, 0),
        }
    }

    /// Takes what the program says.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.reader.feed(bytes);
    }

    /// The program says nothing more.
    pub fn end_of_input(&mut self) {
        self.ended = true;
    }

    /// Whether more can be taken now.
    pub fn has_room(&self) -> bool {
        !self.ended && self.reader.waiting() < MOST_WAITING
    }

    /// Whether events are to be told: somebody has logged in.
    pub fn listens(&self) -> bool {
        matches!(self.who, Who::User(_)) && !self.closed
    }

    /// When the connection ends if nobody has logged in by then, in microseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<u64> {
        matches!(self.who, Who::Nobody { .. }).then(|| self.begun.deadline(LOG_IN_WITHIN))
    }

    /// What to do next; `None` waits for bytes, an answer or an event.
    pub fn poll(&mut self, now: Now, ledger: &mut Ledger) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.closed || self.asked.is_some() || self.rings.is_some() {
                return None;
            }
            match self.reader.poll() {
                Ok(Some(packet)) => self.act(now, &packet, ledger),
                Ok(None) if self.ended => self.close(),
                Ok(None) if self.deadline().is_some_and(|due| due <= now.mono_us) => self.close(),
                Ok(None) => return None,
                Err(malformed) => {
                    self.say(Reply::response("Error", None).with("Message", malformed));
                    self.close();
                }
            }
        }
    }

    fn say(&mut self, reply: Reply) {
        self.outputs.push_back(Output::Send(reply.text()));
    }

    fn close(&mut self) {
        self.outputs.push_back(Output::Close);
        self.closed = true;
    }

    fn refuse(&mut self, action: Option<&str>, message: &str) {
        self.say(Reply::response("Error", action).with("Message", message));
    }

    fn act(&mut self, now: Now, packet: &Packet, ledger: &mut Ledger) {
        let second = now.mono_us / 1_000_000;
        self.second = if self.second.0 == second { (second, self.second.1 + 1) } else { (second, 1) };
        let id = packet.text("ActionID");
        if self.second.1 > MOST_ACTIONS {
            self.refuse(id, "Too many actions");
            return self.close();
        }
        let action = packet.get("Action").unwrap_or_default().to_ascii_lowercase();
        match (action.as_str(), &self.who) {
            ("logoff", _) => {
                self.say(Reply::response("Goodbye", id).with("Message", "Logged off"));
                self.close();
            }
            ("login", Who::Nobody { .. }) => self.log_in(now, packet, id),
            ("challenge", Who::Nobody { .. }) => self.challenge(packet, id),
            ("", _) => self.refuse(id, "Missing action in request"),
            (_, Who::Nobody { .. }) => self.refuse(id, "Permission denied"),
            ("ping", _) => {
                let moment = format!("{}.{:06}", now.utc_us / 1_000_000, now.utc_us.rem_euclid(1_000_000));
                self.say(Reply::response("Success", id).with("Ping", "Pong").with("Timestamp", moment));
            }
            ("events", _) => {
                self.classes = Classes::read(packet.get("EventMask").unwrap_or_default());
                let state = if self.classes == Classes::default() { "Off" } else { "On" };
                self.say(Reply::response("Success", id).with("Events", state));
            }
            ("originate", Who::User(user)) => {
                let user = user.clone();
                match self.originate(packet, &user) {
                    Err(why) => self.refuse(id, &why),
                    Ok(_) if !ledger.spend(&user.name, user.calls_per_minute, now) => {
                        self.refuse(
                            id,
                            "Originate failed: this user has started too many calls within a minute",
                        );
                    }
                    Ok((call, command)) => self.ask(Asked::Originate(call), command),
                }
            }
            ("hangup", _) => match packet.text("Channel") {
                None => self.refuse(id, "No channel specified"),
                Some(channel) => {
                    let asked = Asked::Find { action: id.map(str::to_owned), channel: channel.to_owned() };
                    self.ask(asked, Command::Status);
                }
            },
            ("status" | "coreshowchannels", _) => {
                let what = if action == "status" { List::Status } else { List::Channels };
                self.ask(Asked::List { action: id.map(str::to_owned), what }, Command::Status);
            }
            ("login" | "challenge", _) => self.refuse(id, "Already logged in"),
            // There is no shell behind this, and no file.
            _ => self.refuse(id, "Invalid/unknown command"),
        }
    }

    fn ask(&mut self, asked: Asked, command: Command) {
        self.asked = Some(asked);
        self.outputs.push_back(Output::Ask(command));
    }

    fn challenge(&mut self, packet: &Packet, id: Option<&str>) {
        if !packet.get("AuthType").unwrap_or_default().eq_ignore_ascii_case("MD5") {
            return self.refuse(id, "Must specify AuthType");
        }
        let Who::Nobody { challenge, asked } = &mut self.who else { return };
        *asked = true;
        let challenge = challenge.clone();
        self.say(Reply::response("Success", id).with("Challenge", challenge));
    }

    fn log_in(&mut self, now: Now, packet: &Packet, id: Option<&str>) {
        let name = packet.get("Username").unwrap_or_default();
        let Who::Nobody { challenge, asked } = &self.who else { return };
        let by_digest = packet.get("AuthType").unwrap_or_default().eq_ignore_ascii_case("MD5");
        let mut found = None;
        for user in &self.config.ami.users {
            let secret = user.secret.reveal();
            let right = match by_digest {
                true => {
                    let key = digest(challenge, secret);
                    same_secret(&packet.get("Key").unwrap_or_default().to_ascii_lowercase(), &key)
                        & *asked
                        & !secret.is_empty()
                }
                false => same_secret(packet.get("Secret").unwrap_or_default(), secret),
            };
            if right & same_secret(name, &user.name) {
                found = Some(user.clone());
            }
        }
        let Some(user) = found else {
            let name = name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
            self.outputs.push_back(Output::Wrong(name));
            self.refuse(id, "Authentication failed");
            return self.close();
        };
        self.classes = packet.text("Events").map_or(Classes::ALL, Classes::read);
        self.outputs.push_back(Output::Entered(user.name.clone()));
        self.who = Who::User(user);
        self.say(Reply::response("Success", id).with("Message", "Authentication accepted"));
        if self.classes.has(Classes::SYSTEM) {
            let uptime = now.mono_us / 1_000_000;
            let booted =
                Reply::event("FullyBooted", "system").with("Uptime", uptime).with("LastReload", uptime);
            self.say(booted.with("Status", "Fully Booted"));
        }
    }

    /// The call that an Originate asks for, or why there is none.
    fn originate(&self, packet: &Packet, user: &AmiUser) -> Result<(Originate, Command), String> {
        let wrong = |why: &str| Err(format!("Originate failed: {why}"));
        if packet.text("Application").is_some() || packet.text("Data").is_some() {
            return wrong("there are no applications; give Exten and Context");
        }
        let channel = packet.text("Channel").ok_or("Channel not specified")?;
        let wanted = Wanted::read(channel).ok_or_else(|| {
            "Originate failed: the channel is none that can be rung; write SIP/LINE/NUMBER".to_owned()
        })?;
        let exten = packet.text("Exten").ok_or("Originate failed: there is no Exten")?;
        let context = packet.get("Context").unwrap_or_default();
        let from_line = match &wanted.by {
            By::Plan => None,
            By::Trunk(trunk) if self.config.line(trunk).is_none() => {
                return wrong("the channel names a trunk that is no line of this device");
            }
            By::Trunk(trunk) => Some(trunk.clone()),
            By::Context(context) => self.line_of(context)?,
        };
        let to_line = self.line_of(context)?;
        for number in [wanted.number.as_str(), exten] {
            let plan = self.config.number_plan();
            if !user.dial.iter().any(|rule| rule.matches(number, &plan)) {
                return wrong("this user may not have that number called");
            }
        }
        // MeaSoft says WaitTime, in seconds, which Asterisk does not know.
        let millis = packet.text("Timeout").and_then(|it| it.parse::<u64>().ok()).map(Duration::from_millis);
        let seconds = packet.text("WaitTime").and_then(|it| it.parse::<u64>().ok()).map(Duration::from_secs);
        let yes = |it: &str| ["true", "yes", "on", "1"].iter().any(|word| it.eq_ignore_ascii_case(word));
        let action = packet.text("ActionID").map(str::to_owned);
        let call = Originate {
            action: action.clone(),
            asynchronous: packet.text("Async").is_some_and(yes),
            channel: channel.to_owned(),
            context: context.to_owned(),
            exten: exten.to_owned(),
            callback: String::new(),
        };
        let wish = Callback {
            from: End { number: wanted.number, line: from_line },
            to: End { number: exten.to_owned(), line: to_line },
            ring_for: millis.or(seconds),
            request: action,
        };
        Ok((call, Command::Callback(wish)))
    }

    /// The line that a context means.
    fn line_of(&self, context: &str) -> Result<Option<String>, String> {
        let contexts = &self.config.ami.contexts;
        match contexts.iter().find(|known| known.name == context) {
            Some(known) => Ok(known.line.clone()),
            None if contexts.is_empty() => Ok(None),
            None => Err("Extension does not exist.".to_owned()),
        }
    }

    /// The phone has answered what it was asked last.
    pub fn answered(&mut self, outcome: Outcome) {
        let Some(asked) = self.asked.take() else { return };
        match (asked, outcome) {
            (Asked::Originate(call), Ok(command::Reply::Call(view))) => {
                let call = Originate { callback: view.callback.unwrap_or_default(), ..call };
                if call.asynchronous {
                    let reply = Reply::response("Success", call.action.as_deref());
                    self.say(reply.with("Message", "Originate successfully queued"));
                    if self.originated.len() >= MOST_ORIGINATED {
                        self.originated.remove(0);
                    }
                    self.originated.push(call);
                } else {
                    self.rings = Some(call);
                }
            }
            (Asked::Originate(call), Err(refusal)) => {
                let reply = Reply::response("Error", call.action.as_deref());
                self.say(reply.with("Message", format_args!("Originate failed: {}", refusal.message)));
            }
            (Asked::Find { action, channel: name }, Ok(command::Reply::Status(status))) => {
                let mut calls = status.calls.into_iter();
                match calls.find(|call| channel(&call.line, &call.leg) == name) {
                    Some(call) => {
                        self.ask(Asked::HangUp { action }, Command::HangUp { call: Some(call.leg) })
                    }
                    None => self.refuse(action.as_deref(), "No such channel"),
                }
            }
            (Asked::HangUp { action }, Ok(_)) => {
                self.say(Reply::response("Success", action.as_deref()).with("Message", "Channel Hungup"));
            }
            (Asked::List { action, what }, Ok(command::Reply::Status(status))) => {
                self.list(action.as_deref(), what, &status);
            }
            (
                Asked::Find { action, .. } | Asked::HangUp { action } | Asked::List { action, .. },
                Err(refusal),
            ) => {
                self.refuse(action.as_deref(), &refusal.message);
            }
            (Asked::Originate(call), Ok(_)) => self.refuse(call.action.as_deref(), "Originate failed"),
            (Asked::Find { action, .. } | Asked::List { action, .. }, Ok(_)) => {
                self.refuse(action.as_deref(), "Command failed");
            }
        }
    }

    fn list(&mut self, id: Option<&str>, what: List, status: &Snapshot) {
        let (message, event, complete) = match what {
            List::Status => ("Channel status will follow", "Status", "StatusComplete"),
            List::Channels => ("Channels will follow", "CoreShowChannel", "CoreShowChannelsComplete"),
        };
        let begin = Reply::response("Success", id).with("EventList", "start").with("Message", message);
        self.say(begin);
        for call in &status.calls {
            let reply = Reply::default().with("Event", event).with_some("ActionID", id);
            let seconds = call.duration_us.unwrap_or_default() / 1_000_000;
            let reply = shown(call).block(reply, "").with("Seconds", seconds);
            let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
            self.say(reply.with("Duration", clock));
        }
        let end = Reply::default().with("Event", complete).with_some("ActionID", id);
        self.say(end.with("EventList", "Complete").with("ListItems", status.calls.len()));
    }

    /// Something has happened on this device.
    pub fn happened(&mut self, event: &CloudEvent) {
        if !self.listens() {
            return;
        }
        for (class, reply) in self.story.render(event) {
            if self.classes.has(class) {
                self.say(reply);
            }
        }
        if let Some(news) = News::of(event) {
            self.note_originated(&news);
        }
    }

    /// Perhaps the first one of a call that was asked for has answered, or never will.
    fn note_originated(&mut self, news: &News) {
        if let Some(call) = self.rings.take_if(|call| call.callback == news.callback) {
            let id = call.action.as_deref();
            match news.result {
                None => {
                    self.say(Reply::response("Success", id).with("Message", "Originate successfully queued"))
                }
                Some(_) => self.refuse(id, "Originate failed"),
            }
        }
        let Some(at) = self.originated.iter().position(|call| call.callback == news.callback) else { return };
        let call = self.originated.remove(at);
        if !self.classes.has(Classes::CALL) {
            return;
        }
        let reply = Reply::event("OriginateResponse", "call").with_some("ActionID", call.action.as_deref());
        let reply = reply
            .with("Response", if news.result.is_none() { "Success" } else { "Failure" })
            .with("Channel", &call.channel)
            .with("Context", &call.context)
            .with("Exten", &call.exten)
            .with("Application", "")
            .with("Data", "")
            .with("Reason", news.result.map_or(4, originate_reason))
            .with("Uniqueid", super::channel::unique(&format!("{}-1", news.call)))
            .with("CallerIDNum", "<unknown>")
            .with("CallerIDName", "<unknown>");
        self.say(reply);
    }
}

/// What an event says of a callback: that its first one has answered, or what became of it before.
struct News {
    callback: String,
    call: String,
    /// `None`: the first one is there.
    result: Option<CallResult>,
}

impl News {
    fn of(event: &CloudEvent) -> Option<News> {
        #[derive(Deserialize)]
        struct Told {
            callback_id: String,
            #[serde(default)]
            reached: bool,
            result: Option<CallResult>,
        }
        let is_end = event.kind == "originate.result";
        if !is_end && event.kind != "call.answered" {
            return None;
        }
        let Told { callback_id, reached, result } = serde_json::from_str(&event.data).ok()?;
        let result = result.filter(|_| is_end && !reached);
        Some(News { callback: callback_id, call: event.subject.clone()?, result })
    }
}

/// A call that goes on, as a channel.
fn shown(call: &CallView) -> Channel {
    Channel {
        leg: call.leg.clone(),
        call: call.id.clone(),
        line: call.line.clone(),
        far: (call.number.clone(), call.name.clone().unwrap_or_default()),
        near: (String::new(), String::new()),
        exten: if call.direction == "out" { call.number.clone() } else { String::new() },
        state: match (call.state, call.direction) {
            ("active" | "held" | "rating" | "ending", _) => State::Up,
            ("ringing" | "early", "out") => State::Ringing,
            ("ringing", _) => State::Ring,
            _ => State::Down,
        },
    }
}

/// What an MD5 log-in shows: of the challenge and the secret, one after the other, in hexadecimal.
fn digest(challenge: &str, secret: &str) -> String {
    let digest = Md5::new().chain_update(challenge).chain_update(secret).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
