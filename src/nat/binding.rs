//! One Binding transaction of a client over a transport that loses packets (RFC 8489 §6.2.1).

use crate::chance::Chance;
use crate::nat::stun::{Change, Class, MAX_MESSAGE, Message, Refusal, Seal, TransactionId};
use crate::now::Now;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an answer is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// RTO: the wait after the first request; it doubles with each.
    pub first: Duration,
    /// The longest wait between two requests.
    pub longest: Duration,
    /// Rc: how often the request is sent.
    pub requests: u8,
    /// Rm: the wait after the last request, in times of `first`.
    pub last: u8,
}

impl Patience {
    /// That of RFC 8489 §6.2.1: 500 ms, seven requests, 39.5 s in all.
    pub const STANDARD: Patience = Patience {
        first: Duration::from_millis(500),
        longest: Duration::from_secs(3_600),
        requests: 7,
        last: 16,
    };

    /// For who must know soon: five requests within 2.2 s, 3 s in all.
    pub const BRIEF: Patience = Patience {
        first: Duration::from_millis(200),
        longest: Duration::from_millis(800),
        requests: 5,
        last: 4,
    };
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The server saw the request come from `mapped`.
    Mapped {
        /// The address as the server saw it.
        mapped: SocketAddr,
        /// Whence the answer came.
        from: SocketAddr,
        /// RESPONSE-ORIGIN.
        response_origin: Option<SocketAddr>,
        /// OTHER-ADDRESS.
        other_address: Option<SocketAddr>,
        /// From the request that was sent last to the answer.
        round_trip: Duration,
    },
    /// The server refuses.
    Refused {
        /// Its reason.
        refusal: Refusal,
        /// The server that it names instead (300).
        alternate_server: Option<SocketAddr>,
    },
    /// An answer came that says nothing of use: no address, one of another family, or one that nobody can have.
    Useless,
    /// No answer came.
    NoAnswer,
}

#[derive(Clone, Debug)]
enum State {
    /// To be sent now.
    Send { sent: u8, interval: Duration },
    /// Sent, and to be sent again at `next`; given up at `next` if it was the last.
    Wait { sent: u8, interval: Duration, at: u64, next: u64 },
    /// Over, and the outcome waits to be taken.
    Done(Outcome),
    /// Over, and told.
    Told,
}

/// The transaction. Drain [`poll_transmit`](Binding::poll_transmit) and [`poll_outcome`](Binding::poll_outcome) after
/// each call.
#[derive(Clone, Debug)]
pub struct Binding {
    to: SocketAddr,
    id: TransactionId,
    request: Vec<u8>,
    elsewhere: bool,
    patience: Patience,
    state: State,
}

impl Binding {
    /// Asks the server at `to`; with `change`, for an answer from elsewhere.
    pub fn new(to: SocketAddr, change: Option<Change>, patience: Patience, chance: &mut Chance) -> Binding {
        Binding::of(to, &Message::binding_request(TransactionId::draw(chance), change), patience)
    }

    /// Sends this request to the server at `to`.
    pub fn of(to: SocketAddr, request: &Message, patience: Patience) -> Binding {
        Binding {
            to,
            id: request.id,
            request: request.write(Seal::Plain),
            elsewhere: request.change.is_some_and(|change| change.address || change.port),
            patience,
            state: State::Send { sent: 0, interval: patience.first },
        }
    }

    /// What ties its answer to it.
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// The server that is asked.
    pub fn server(&self) -> SocketAddr {
        self.to
    }

    /// Whether nothing more comes of it.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Done(_) | State::Told)
    }

    /// A datagram came. True if it belongs to this transaction: nobody else need look at it.
    ///
    /// An answer from elsewhere than the server is no answer, unless that was asked for.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) -> bool {
        if datagram.len() > MAX_MESSAGE || TransactionId::of(datagram) != Some(self.id) {
            return false;
        }
        if from != self.to && !self.elsewhere {
            return false;
        }
        let State::Wait { at, .. } = self.state else { return true };
        let Ok(message) = Message::read(datagram) else { return true };
        let outcome = match (message.class, message.mapped, message.refusal) {
            (Class::Error, _, Some(refusal)) => {
                Outcome::Refused { refusal, alternate_server: message.alternate_server }
            }
            // An answer with what must be understood and is not is no answer (RFC 8489 §6.3.3).
            (Class::Success, _, _) if !message.unknown.is_empty() => return true,
            (Class::Success, Some(mapped), _) if can_be_ours(mapped, self.to) => Outcome::Mapped {
                mapped,
                from,
                response_origin: message.response_origin,
                other_address: message.other_address,
                round_trip: now.since(at),
            },
            (Class::Success | Class::Error, _, _) => Outcome::Useless,
            (Class::Request | Class::Indication, _, _) => return false,
        };
        self.state = State::Done(outcome);
        true
    }

    /// The next request to send, and whither.
    pub fn poll_transmit(&mut self, now: Now) -> Option<(SocketAddr, &[u8])> {
        let State::Send { sent, interval } = self.state else { return None };
        let last = sent + 1 >= self.patience.requests;
        let wait = if last { self.patience.first * u32::from(self.patience.last) } else { interval };
        self.state =
            State::Wait { sent: sent.saturating_add(1), interval, at: now.mono_us, next: now.deadline(wait) };
        Some((self.to, &self.request))
    }

    /// When [`handle_timeout`](Binding::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Send { .. } => Some(0),
            State::Wait { next, .. } => Some(next),
            State::Done(_) | State::Told => None,
        }
    }

    /// The time has come.
    pub fn handle_timeout(&mut self, now: Now) {
        let State::Wait { sent, interval, next, .. } = self.state else { return };
        if now.mono_us < next {
            return;
        }
        self.state = if sent >= self.patience.requests {
            State::Done(Outcome::NoAnswer)
        } else {
            State::Send { sent, interval: (interval * 2).min(self.patience.longest) }
        };
    }

    /// What became of it, once.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        if !matches!(self.state, State::Done(_)) {
            return None;
        }
        match std::mem::replace(&mut self.state, State::Told) {
            State::Done(outcome) => Some(outcome),
            _ => None,
        }
    }
}

fn can_be_ours(mapped: SocketAddr, server: SocketAddr) -> bool {
    mapped.is_ipv4() == server.is_ipv4()
        && mapped.port() != 0
        && !mapped.ip().is_unspecified()
        && !mapped.ip().is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "192.0.2.1:3478";
    const MAPPED: &str = "203.0.113.7:40000";

    fn asking(change: Option<Change>) -> Binding {
        Binding::new(SERVER.parse().unwrap(), change, Patience::STANDARD, &mut Chance::from_number(1))
    }

    fn at(ms: u64) -> Now {
        Now::default().plus(Duration::from_millis(ms))
    }

    /// Runs it until it is over; when each request went out, in ms.
    fn unanswered(binding: &mut Binding) -> (Vec<u64>, u64) {
        let mut sent = Vec::new();
        let mut now = 0;
        while !binding.is_over() {
            while binding.poll_transmit(at(now)).is_some() {
                sent.push(now);
            }
            now = binding.poll_timeout().unwrap() / 1_000;
            binding.handle_timeout(at(now));
        }
        (sent, now)
    }

    #[test]
    fn it_is_repeated_as_the_standard_says_and_given_up() {
        let mut binding = asking(None);
        assert_eq!(unanswered(&mut binding), (vec![0, 500, 1_500, 3_500, 7_500, 15_500, 31_500], 39_500));
        assert_eq!(binding.poll_outcome(), Some(Outcome::NoAnswer));
        assert_eq!(binding.poll_outcome(), None);
        let mut brief =
            Binding::new(SERVER.parse().unwrap(), None, Patience::BRIEF, &mut Chance::from_number(1));
        assert_eq!(unanswered(&mut brief), (vec![0, 200, 600, 1_400, 2_200], 3_000));
    }

    #[test]
    fn the_answer_of_the_server_says_where_we_are_seen() {
        let mut binding = asking(None);
        let request = binding.poll_transmit(at(0)).unwrap().1.to_vec();
        let mut answer =
            Message::binding_answer(TransactionId::of(&request).unwrap(), MAPPED.parse().unwrap());
        answer.other_address = "192.0.2.2:3479".parse().ok();
        let answer = answer.write(Seal::Fingerprint);
        assert!(
            !binding.handle_datagram(at(10), "192.0.2.66:3478".parse().unwrap(), &answer),
            "from elsewhere"
        );
        assert_eq!(binding.poll_outcome(), None);
        assert!(binding.handle_datagram(at(30), SERVER.parse().unwrap(), &answer));
        let expected = Outcome::Mapped {
            mapped: MAPPED.parse().unwrap(),
            from: SERVER.parse().unwrap(),
            response_origin: None,
            other_address: "192.0.2.2:3479".parse().ok(),
            round_trip: Duration::from_millis(30),
        };
        assert_eq!(binding.poll_outcome(), Some(expected));
        assert!(
            binding.handle_datagram(at(40), SERVER.parse().unwrap(), &answer),
            "a repetition is still ours"
        );
        assert_eq!((binding.poll_outcome(), binding.poll_timeout()), (None, None));
    }

    #[test]
    fn another_transactions_answer_is_nobodys() {
        let mut binding = asking(None);
        binding.poll_transmit(at(0)).unwrap();
        let other = TransactionId::draw(&mut Chance::from_number(99));
        let answer = Message::binding_answer(other, MAPPED.parse().unwrap()).write(Seal::Plain);
        assert!(!binding.handle_datagram(at(1), SERVER.parse().unwrap(), &answer));
        assert_eq!(binding.poll_outcome(), None);
    }

    #[test]
    fn an_answer_from_elsewhere_counts_where_it_was_asked_for() {
        let mut binding = asking(Some(Change { address: true, port: true }));
        let request = binding.poll_transmit(at(0)).unwrap().1.to_vec();
        let id = TransactionId::of(&request).unwrap();
        let answer = Message::binding_answer(id, MAPPED.parse().unwrap()).write(Seal::Plain);
        assert!(binding.handle_datagram(at(9), "192.0.2.2:3479".parse().unwrap(), &answer));
        let elsewhere: SocketAddr = "192.0.2.2:3479".parse().unwrap();
        assert!(matches!(binding.poll_outcome(), Some(Outcome::Mapped { from, .. }) if from == elsewhere));
    }

    #[test]
    fn a_refusal_and_an_address_that_nobody_has_are_told_apart() {
        let id = |binding: &mut Binding| TransactionId::of(binding.poll_transmit(at(0)).unwrap().1).unwrap();
        let server = SERVER.parse().unwrap();
        let mut refused = asking(None);
        let refusal = Refusal { code: 300, reason: "Try Alternate".to_owned() };
        let mut answer = Message::new(Class::Error, id(&mut refused));
        answer.refusal = Some(refusal.clone());
        answer.alternate_server = "192.0.2.5:3478".parse().ok();
        refused.handle_datagram(at(1), server, &answer.write(Seal::Plain));
        let alternate_server = answer.alternate_server;
        assert_eq!(refused.poll_outcome(), Some(Outcome::Refused { refusal, alternate_server }));
        for address in ["[2001:db8::1]:9", "0.0.0.0:5000", "203.0.113.7:0", "224.0.0.1:5000"] {
            let mut useless = asking(None);
            let answer = Message::binding_answer(id(&mut useless), address.parse().unwrap());
            useless.handle_datagram(at(1), server, &answer.write(Seal::Plain));
            assert_eq!(useless.poll_outcome(), Some(Outcome::Useless), "{address}");
        }
    }
}
