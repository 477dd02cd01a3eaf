//! Asking who calls: carries the questions of the phone to the system that the configuration names, and its answers back.
//!
//! Nobody waits here: each question is a task of its own, which ends when its answer is of no use any more, and the phone is
//! told in any case. A system that is slow, huge or nonsensical costs a bounded task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::super::clock;
use super::door::Door;
use super::http::Resting;
use super::{Came, Running};
use crate::config::{self, Config, LookupKind};
use crate::events::lookup::{self, Answer, Failure, Inquiry, LARGEST, Means, Question, message, understood};
use crate::events::upstream::bitrix24;
use crate::events::upstream::dialect::Request;
use crate::events::upstream::mqtt::Order;
use crate::events::upstream::outcome::Outcome;
use crate::phone::desk::Desk;

/// Questions that are under way together.
const MOST_ASKED: usize = 32;
/// Connections that rest.
const MOST_RESTING: usize = 2;
/// What to do where nobody answers.
const CURE: &str = "check [lookup], the way to the system, and its log";

/// The questions to one system.
pub(super) struct Lookups {
    settings: config::Lookup,
    serial: String,
    means: Option<Means>,
    door: Arc<Door>,
    /// Another one for each settings: connections of the system before are nobody's.
    key: u64,
    resting: Vec<Resting>,
    /// Who waits for an answer that comes through an upstream.
    waiting: BTreeMap<Uuid, oneshot::Sender<Answer>>,
    /// Questions to a portal whose token is being renewed, and who waits for the request.
    held: Vec<(Question, oneshot::Sender<Request>)>,
    tasks: JoinSet<()>,
}

impl Lookups {
    /// The system of the configuration.
    pub fn new(config: &Config, key: u64) -> Lookups {
        Lookups {
            settings: config.lookup.clone(),
            serial: config.device.serial.clone().unwrap_or_default(),
            means: lookup::of(config),
            door: Arc::new(Door::of(&config.lookup.as_upstream())),
            key,
            resting: Vec::new(),
            waiting: BTreeMap::new(),
            held: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Follows a new configuration. Questions to the same system go on; others are dropped, and the phone knows that.
    pub fn configure(&mut self, config: &Config) {
        let serial = config.device.serial.as_deref().unwrap_or_default();
        if self.settings != config.lookup || self.serial != serial {
            *self = Lookups::new(config, self.key + 1);
        } else {
            // The file of its authorities may be another one under the same name.
            self.door = Arc::new(Door::of(&config.lookup.as_upstream()));
            self.resting.clear();
        }
    }

    /// Asks, over `running` if it takes one of them.
    pub fn ask(
        &mut self,
        question: Question,
        running: &mut [Running],
        desk: &Desk,
        results: &mpsc::Sender<Came>,
    ) {
        while self.tasks.try_join_next().is_some() {}
        self.waiting.retain(|_, waits| !waits.is_closed());
        let asked = match self.means.clone() {
            _ if self.tasks.len() >= MOST_ASKED => Err(Failure::new("too many questions are open", CURE)),
            None => Err(Failure::new("there is nobody to ask", CURE)),
            Some(Means::Request(inquiry)) => {
                self.request(inquiry, &question, desk, results);
                Ok(())
            }
            Some(Means::Upstream(name)) => self.by_upstream(&name, &question, running, desk),
        };
        if let Err(failure) = asked {
            desk.answered(question.id, Err(failure));
        }
    }

    /// Asks by a request of its own.
    fn request(
        &mut self,
        inquiry: Arc<dyn Inquiry>,
        question: &Question,
        desk: &Desk,
        results: &mpsc::Sender<Came>,
    ) {
        let request = inquiry.request(question, clock::now());
        let (door, resting) = (self.door.clone(), self.resting.pop());
        let (desk, results, key) = (desk.clone(), results.clone(), self.key);
        let (id, left) = (question.id, left(question));
        self.tasks.spawn(async move {
            let asking = async {
                let (outcome, rest) = door.send(resting, &request).await;
                let (status, rest) = match (outcome, rest) {
                    (Outcome::Answered { status, .. }, Some(rest)) => (status, rest),
                    (Outcome::Failed { what, .. } | Outcome::Unwritable { what }, _) => {
                        return (Err(Failure::new(what, CURE)), None);
                    }
                    _ => return (Err(late()), None),
                };
                let Some((body, resting)) = rest.read(LARGEST).await else {
                    let what = "the answer to who calls is cut off, or too large";
                    return (Err(Failure::new(what, CURE)), None);
                };
                (understood(&*inquiry, status, &body), resting)
            };
            let (answer, resting) = timeout(left, asking).await.unwrap_or_else(|_| (Err(late()), None));
            desk.answered(id, answer);
            if let Some(resting) = resting {
                let _ = results.send(Came::Asked { key, resting }).await;
            }
        });
    }

    /// Asks through the upstream of this name: each kind that can be asked has an arm.
    fn by_upstream(
        &mut self,
        name: &str,
        question: &Question,
        running: &mut [Running],
        desk: &Desk,
    ) -> Result<(), Failure> {
        let found = running.iter_mut().find(|it| it.upstream.settings().name == name);
        if let Some(portal) = found.as_deref().filter(|_| self.settings.kind == LookupKind::Bitrix24) {
            self.by_portal(portal, question, desk);
            return Ok(());
        }
        let broker = found.and_then(|running| running.broker.as_mut());
        let payload = message::question(question, &self.serial);
        if !broker.is_some_and(|broker| broker.session.ask(clock::now(), payload)) {
            return Err(Failure::new(format!("upstream {name} has no connection to ask over"), CURE));
        }
        let (answer, waits) = oneshot::channel();
        self.waiting.insert(question.id, answer);
        let (desk, id, left) = (desk.clone(), question.id, left(question));
        self.tasks.spawn(async move {
            let answer = timeout(left, waits).await;
            desk.answered(id, answer.ok().and_then(Result::ok).ok_or_else(late));
        });
        Ok(())
    }

    /// Asks a portal, once it has a token that can be used: the call itself has one renewed, as it is told of it.
    fn by_portal(&mut self, portal: &Running, question: &Question, desk: &Desk) {
        let (ready, request) = oneshot::channel();
        let (desk, id, left, door) = (desk.clone(), question.id, left(question), portal.door.clone());
        self.tasks.spawn(async move {
            let asking = async {
                let request = request.await.ok()?;
                Some(bitrix24::found(&door.send(None, &request).await.0))
            };
            let answer = timeout(left, asking).await.ok().flatten();
            desk.answered(id, answer.unwrap_or_else(|| Err(late())));
        });
        self.held.push((question.clone(), ready));
        self.release(portal);
    }

    /// An upstream may have what questions wait for.
    pub fn release(&mut self, portal: &Running) {
        if self.settings.upstream.as_deref() != Some(portal.upstream.settings().name.as_str()) {
            return;
        }
        for (question, ready) in std::mem::take(&mut self.held) {
            match portal.upstream.inquiry(&question, clock::now()) {
                Some(request) => drop(ready.send(request)),
                None if ready.is_closed() => {}
                None => self.held.push((question, ready)),
            }
        }
    }

    /// A command of this upstream answers a question; what whoever sent it is told.
    pub fn answered(&mut self, upstream: &str, order: &Order) -> Map<String, Value> {
        let refused = |message: &str| {
            let hint = "docs/lookup.md says what an answer is";
            json!({ "error": { "code": "bad_request", "message": message, "hint": hint } })
        };
        let is_asked = matches!(&self.means, Some(Means::Upstream(name)) if name == upstream);
        let outcome = match message::answer(&order.arguments) {
            Err(what) => refused(what),
            Ok((id, answer)) => {
                let waits = if is_asked { self.waiting.remove(&id) } else { None };
                if waits.is_some_and(|waits| waits.send(answer).is_ok()) {
                    json!({ "result": "done" })
                } else {
                    refused("nobody waits for an answer to this question any more")
                }
            }
        };
        match outcome {
            Value::Object(outcome) => outcome,
            _ => Map::new(),
        }
    }

    /// A connection rests, if it still leads to the same system.
    pub fn rests(&mut self, key: u64, resting: Resting) {
        if key == self.key && self.resting.len() < MOST_RESTING {
            self.resting.push(resting);
        }
    }
}

/// How long an answer is still of use.
fn left(question: &Question) -> Duration {
    Duration::from_micros(question.deadline.saturating_sub(clock::now().mono_us))
}

fn late() -> Failure {
    Failure::new("the system that is asked who calls does not answer in time", CURE)
}
