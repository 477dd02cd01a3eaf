//! The counter at which other threads ask the phone for something. Wishes travel as plain values through a bounded queue
//! to the thread that owns the [`Phone`](super::Phone), and their outcome comes back.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::command::{Blame, Command, Outcome, Refusal};
use super::diagnosis::Diagnosis;
use super::trace::Traced;
use crate::events::lookup::{Answer, Failure, Question};
use crate::events::{Kind, Origin};

/// Wishes that may wait; past it the asker is told to come again.
const QUEUE: usize = 256;

/// What can be asked at the counter.
#[derive(Debug)]
pub enum Wish {
    /// Something of the phone itself.
    Command {
        /// What.
        command: Command,
        /// Who asks.
        origin: Origin,
        /// Where the outcome goes.
        reply: oneshot::Sender<Outcome>,
    },
    /// The last SIP messages, oldest first.
    Trace {
        /// Those after this number.
        after: u64,
        /// Of this line alone.
        line: Option<String>,
        /// Of this call alone: its name, or a SIP Call-ID.
        call: Option<String>,
        /// Where they go.
        reply: oneshot::Sender<Vec<Traced>>,
    },
    /// Somebody was refused at the API: an event is due.
    Intruder {
        /// `api` or `socket`.
        interface: String,
        /// Where from.
        from: String,
        /// The name that was given.
        user: Option<String>,
    },
    /// Something that others did is to be told: about an upstream, a recording.
    Tell(Box<Kind>),
    /// Look for what stands between this device and its PBX.
    Examine {
        /// Up to which age of an idle mapping its lifetime is looked for.
        lifetime: Option<Duration>,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Box<Diagnosis>, Refusal>>,
    },
    /// Somebody asks other systems who calls: questions go there from now on.
    AnswerQuestions(mpsc::Sender<Question>),
    /// What came of such a question.
    Answered {
        /// The question.
        id: Uuid,
        /// What the system says, or why it says nothing.
        answer: Result<Answer, Failure>,
    },
    /// Read the configuration again; the answer is the findings, if it was refused.
    Reload {
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<(), Vec<String>>>,
    },
    /// End in order.
    Stop,
}

/// The asking side of the counter; cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::Sender<Wish>);

impl Desk {
    /// A counter, and where the thread that owns the phone takes the wishes from.
    pub fn open() -> (Desk, mpsc::Receiver<Wish>) {
        let (wishes, inbox) = mpsc::channel(QUEUE);
        (Desk(wishes), inbox)
    }

    /// Asks the phone, and waits for the outcome.
    pub async fn ask(&self, command: Command, origin: Origin) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        self.0.try_send(Wish::Command { command, origin, reply }).map_err(|_| busy())?;
        outcome.await.unwrap_or_else(|_| Err(busy()))
    }

    /// Asks for the last SIP messages; see [`Wish::Trace`].
    pub async fn trace(&self, after: u64, line: Option<String>, call: Option<String>) -> Vec<Traced> {
        let (reply, traced) = oneshot::channel();
        match self.0.try_send(Wish::Trace { after, line, call, reply }) {
            Ok(()) => traced.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Looks for what stands between this device and its PBX; it takes some seconds.
    ///
    /// # Errors
    /// [`Refusal`] while somebody else looks, or if the machine gives no sockets.
    pub async fn examine(&self, lifetime: Option<Duration>) -> Result<Box<Diagnosis>, Refusal> {
        let (reply, outcome) = oneshot::channel();
        self.0.try_send(Wish::Examine { lifetime, reply }).map_err(|_| busy())?;
        outcome.await.unwrap_or_else(|_| Err(busy()))
    }

    /// Reports that somebody was refused at the API.
    pub fn intruder(&self, interface: &str, from: String, user: Option<String>) {
        // A full queue means that the phone is busy with worse.
        let _ = self.0.try_send(Wish::Intruder { interface: interface.to_owned(), from, user });
    }

    /// Has the phone tell what others did; false if it is so busy that it has to be asked again.
    pub fn tell(&self, kind: Box<Kind>) -> bool {
        self.0.try_send(Wish::Tell(kind)).is_ok()
    }

    /// Offers to carry the phone's questions who calls to other systems.
    pub fn answer_questions(&self, asker: mpsc::Sender<Question>) {
        // A phone that has not taken anything yet has room.
        let _ = self.0.try_send(Wish::AnswerQuestions(asker));
    }

    /// Brings what came of a question.
    pub fn answered(&self, id: Uuid, answer: Result<Answer, Failure>) {
        // A full queue means that the phone is busy with worse; it goes on without an answer.
        let _ = self.0.try_send(Wish::Answered { id, answer });
    }

    /// Asks the phone to end in order; false if it is so busy that it has to be asked again.
    pub fn stop(&self) -> bool {
        self.0.try_send(Wish::Stop).is_ok()
    }

    /// Asks for the configuration to be read again.
    pub async fn reload(&self) -> Result<(), Vec<String>> {
        let (reply, outcome) = oneshot::channel();
        self.0.try_send(Wish::Reload { reply }).map_err(|_| vec![busy().to_string()])?;
        outcome.await.unwrap_or_else(|_| Err(vec![busy().to_string()]))
    }
}

fn busy() -> Refusal {
    Refusal::new(
        Blame::Environment,
        "busy",
        "the phone does not answer",
        "it is stopping or overloaded: try again",
    )
}
