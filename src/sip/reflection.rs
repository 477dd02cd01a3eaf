//! What somebody on the way makes of our messages, seen in a server's answers (RFC 3261 §18.2.1, RFC 3581).
//!
//! An application level gateway (ALG) writes its own address into Via on the way out and takes it back on the way in, so
//! that an answer looks as if nothing had happened. Two questions tell it: one whose Via names our address, and one whose
//! Via names a host that is nobody's, which no gateway takes for its client's. Without one both answers say that we were
//! seen at the same address and port.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::host::{Host, HostPort};
use super::message::{Message, Request};
use super::method::Method;
use super::name_addr::NameAddr;
use super::reader::read_datagram;
use super::uri::{SipUri, Uri};
use super::via::{MAGIC_COOKIE, Via};
use crate::chance::Chance;
use crate::now::Now;

/// The name that nobody has (RFC 2606 §2).
const NOBODY: &str = "tipring.invalid";
/// A question is sent so often, …
const REQUESTS: u8 = 3;
/// … first after this wait, which doubles: 3.5 s in all.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// What the answer to one question says of its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Echo {
    /// The status, whatever it is.
    pub status: u16,
    /// Where our Via says that we are, as it came back.
    pub sent_by: HostPort,
    /// `received`: whence the server saw the question come.
    pub received: Option<IpAddr>,
    /// `rport`: from which port.
    pub rport: Option<u16>,
}

impl Echo {
    /// Address and port that the server saw, if it says both.
    pub fn seen(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.received?, self.rport?))
    }
}

/// What both answers say; `None` for a question that was not answered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reflected {
    /// To the question with our address.
    pub plain: Option<Echo>,
    /// To the one with the name that nobody has.
    pub veiled: Option<Echo>,
}

#[derive(Clone, Debug)]
struct Question {
    branch: String,
    bytes: Vec<u8>,
    sent: u8,
    next_us: u64,
    echo: Option<Echo>,
}

impl Question {
    fn is_over(&self, now: Now) -> bool {
        self.echo.is_some() || (self.sent == REQUESTS && self.next_us <= now.mono_us)
    }
}

/// The two questions, over UDP. Drain [`poll_transmit`](Reflection::poll_transmit) after each call.
#[derive(Clone, Debug)]
pub struct Reflection {
    remote: SocketAddr,
    /// Ours first, then nobody's.
    questions: [Question; 2],
}

impl Reflection {
    /// Asks the server at `remote` with OPTIONS, for the domain and in the name of `aor`. `local` is what this machine
    /// knows as its own address.
    pub fn new(
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        aor: &SipUri,
        mut chance: Chance,
    ) -> Reflection {
        let nobody = HostPort { host: Host::Name(NOBODY.to_owned()), port: Some(local.port()) };
        let questions = [local.into(), nobody].map(|sent_by: HostPort| {
            let branch = format!("{MAGIC_COOKIE}{}", chance.token(12));
            let mut via = Via::new("UDP", sent_by, &branch);
            via.ask_rport();
            let uri = Uri::Sip(SipUri::new(None, aor.host.clone()).with_port(aor.port));
            let from = NameAddr::new(Uri::Sip(aor.clone())).with_tag(&chance.token(8));
            let to = NameAddr::new(uri.clone());
            let mut request = Request::new(Method::OPTIONS, uri, from, to, &chance.token(16), 1);
            request.head.via.push(via);
            let own = SipUri::new(aor.user().as_deref(), local.ip().into()).with_port(Some(local.port()));
            request.fields.push("Contact", NameAddr::new(Uri::Sip(own)).to_string());
            request.fields.push("Accept", "application/sdp");
            Question { branch, bytes: request.write(), sent: 0, next_us: now.mono_us, echo: None }
        });
        Reflection { remote, questions }
    }

    /// A datagram came. True if it answers one of the questions.
    pub fn handle_datagram(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        // Some servers answer from another port than the one that was asked.
        if from.ip() != self.remote.ip() {
            return false;
        }
        let Ok(Some(Message::Response(response))) = read_datagram(datagram) else { return false };
        let Some(via) = response.head.top_via().filter(|_| response.head.cseq.method == Method::OPTIONS)
        else {
            return false;
        };
        let Some(question) = self.questions.iter_mut().find(|one| via.branch() == Some(&one.branch)) else {
            return false;
        };
        if response.is_final() && question.echo.is_none() {
            question.echo = Some(Echo {
                status: response.status,
                sent_by: via.sent_by(),
                received: via.received(),
                rport: via.rport().flatten(),
            });
        }
        true
    }

    /// The next datagram, and whither.
    pub fn poll_transmit(&mut self, now: Now) -> Option<(SocketAddr, &[u8])> {
        let due =
            |one: &&mut Question| one.echo.is_none() && one.sent < REQUESTS && one.next_us <= now.mono_us;
        let question = self.questions.iter_mut().find(due)?;
        question.next_us = now.deadline(FIRST_WAIT * (1 << u32::from(question.sent)));
        question.sent += 1;
        Some((self.remote, &question.bytes))
    }

    /// When something is to be sent again, or no longer waited for.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.questions.iter().filter(|one| one.echo.is_none()).map(|one| one.next_us).min()
    }

    /// What came of it, once both were answered or given up.
    pub fn found(&self, now: Now) -> Option<Reflected> {
        let [plain, veiled] = &self.questions;
        let over = plain.is_over(now) && veiled.is_over(now);
        over.then(|| Reflected { plain: plain.echo.clone(), veiled: veiled.echo.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::Response;

    const LOCAL: &str = "192.168.1.10:5062";
    const OUTSIDE: &str = "203.0.113.7:41000";
    const SERVER: &str = "198.51.100.1:5060";

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn asking() -> Reflection {
        let aor = Uri::parse("sip:1001@pbx.example").unwrap().as_sip().unwrap().clone();
        Reflection::new(Now::default(), address(LOCAL), address(SERVER), &aor, Chance::from_number(1))
    }

    /// What a server that saw the question come from `seen` answers.
    fn answered(request: &[u8], status: u16, seen: SocketAddr) -> Response {
        let Ok(Some(Message::Request(mut request))) = read_datagram(request) else { panic!("no request") };
        let via = &mut request.head.via[0];
        via.set_received(seen.ip());
        via.set_rport(seen.port());
        let mut response = Response::to(&request, status);
        response.head.to.set_tag("t");
        response
    }

    fn sent(reflection: &mut Reflection, at: Now) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| reflection.poll_transmit(at).map(|(_, bytes)| bytes.to_vec())).collect()
    }

    #[test]
    fn two_questions_differ_in_their_via_alone() {
        let sent = sent(&mut asking(), Now::default());
        let texts: Vec<String> =
            sent.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
        let [plain, veiled] = texts.as_slice() else { panic!("{texts:?}") };
        assert!(
            plain.starts_with("OPTIONS sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.10:5062;"),
            "{plain}"
        );
        assert!(veiled.contains("\r\nVia: SIP/2.0/UDP tipring.invalid:5062;"), "{veiled}");
        for text in &texts {
            assert!(text.contains(";rport\r\n") && text.contains("<sip:1001@192.168.1.10:5062>"), "{text}");
        }
    }

    #[test]
    fn what_the_server_saw_is_told_for_each() {
        let mut reflection = asking();
        let sent = sent(&mut reflection, Now::default());
        let mut first = answered(&sent[0], 404, address(LOCAL));
        first.head.via[0].host = Host::V4("203.0.113.7".parse().unwrap());
        assert!(reflection.handle_datagram(address("198.51.100.1:5090"), &first.write()));
        assert_eq!(reflection.found(Now::default()), None);
        let provisional = answered(&sent[1], 100, address(OUTSIDE)).write();
        assert!(reflection.handle_datagram(address(SERVER), &provisional));
        assert_eq!(reflection.found(Now::default()), None);
        let second = answered(&sent[1], 200, address(OUTSIDE)).write();
        assert!(reflection.handle_datagram(address(SERVER), &second));
        let Reflected { plain: Some(plain), veiled: Some(veiled) } =
            reflection.found(Now::default()).unwrap()
        else {
            panic!("both were answered");
        };
        assert_eq!((plain.status, plain.sent_by.to_string()), (404, "203.0.113.7:5062".to_owned()));
        assert_eq!((plain.seen(), veiled.seen()), (Some(address(LOCAL)), Some(address(OUTSIDE))));
        assert_eq!(reflection.poll_timeout(), None);
    }

    #[test]
    fn strangers_and_requests_answer_nothing_and_silence_ends() {
        let mut reflection = asking();
        let mut now = Now::default();
        let first = sent(&mut reflection, now);
        let right = answered(&first[0], 200, address(OUTSIDE));
        assert!(!reflection.handle_datagram(address("198.51.100.2:5060"), &right.write()));
        let mut other = right.clone();
        other.head.via[0] = Via::new("UDP", HostPort::parse("a.example").unwrap(), "z9hG4bKother");
        assert!(!reflection.handle_datagram(address(SERVER), &other.write()));
        assert!(!reflection.handle_datagram(address(SERVER), &first[0]), "the question itself");
        let mut at_ms = Vec::new();
        while reflection.found(now).is_none() {
            let due = reflection.poll_timeout().unwrap();
            now = now.plus(Duration::from_micros(due - now.mono_us));
            at_ms.extend(sent(&mut reflection, now).iter().map(|_| now.mono_us / 1_000));
        }
        assert_eq!((at_ms, now.mono_us), (vec![500, 500, 1_500, 1_500], 3_500_000));
        assert_eq!(reflection.found(now), Some(Reflected::default()));
    }
}
