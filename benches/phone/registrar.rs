//! The registrar and caller that both programs are measured with: one UDP socket, one thread, no waiting but for the
//! phone. It demands digest and checks it, so that both do the whole work.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};

use crate::message::Message;

/// The password of every account.
pub const PASSWORD: &str = "a-long-password";
/// What challenges name.
const REALM: &str = "bench";
/// A request without an answer is sent again after this time (T1 of RFC 3261).
const AGAIN: Duration = Duration::from_millis(500);
/// No answer for this long: the program is broken.
const PATIENCE: Duration = Duration::from_secs(60);

struct Binding {
    contact: String,
    remote: SocketAddr,
}

/// A registrar on a free port of the loopback.
pub struct Registrar {
    socket: UdpSocket,
    local: SocketAddr,
    bindings: HashMap<String, Binding>,
    registered: Vec<(String, Instant)>,
    number: u64,
}

/// A call that stands.
pub struct Call {
    target: String,
    remote: SocketAddr,
    from: String,
    to: String,
    call_id: String,
    /// Where it wants its RTP.
    pub media: SocketAddr,
    /// From the INVITE to its 200.
    pub took: Duration,
}

impl Registrar {
    /// Opens it.
    pub fn open() -> io::Result<Registrar> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let local = socket.local_addr()?;
        Ok(Registrar { socket, local, bindings: HashMap::new(), registered: Vec::new(), number: 0 })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.local
    }

    /// Waits until `user` has registered with digest, and tells when the 200 left.
    pub fn registered(&mut self, user: &str) -> Result<Instant, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.registered.iter().position(|(known, _)| known == user) {
                return Ok(self.registered.swap_remove(at).1);
            }
            if Instant::now() > end {
                return Err(format!("{user} did not register within {PATIENCE:?}"));
            }
            self.hear(AGAIN);
        }
    }

    /// Answers what comes for so long.
    pub fn serve(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.hear(left);
        }
    }

    /// Forgets who registered, before the next start.
    pub fn forget(&mut self) {
        self.registered.clear();
        self.bindings.clear();
    }

    /// Calls `user` with this SDP, acknowledges the answer and tells how long it took.
    pub fn call(&mut self, user: &str, offer: &str) -> Result<Call, String> {
        self.number += 1;
        let (number, local) = (self.number, self.local);
        let binding = self.bindings.get(user).ok_or_else(|| format!("{user} is not registered"))?;
        let (target, remote) = (binding.contact.clone(), binding.remote);
        let call_id = format!("bench-{number}@127.0.0.1");
        let from = format!("<sip:caller@{local}>;tag=caller{number}");
        let invite = format!(
            "INVITE {target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bKi{number}\r\nMax-Forwards: 70\r\n\
             From: {from}\r\nTo: <sip:{user}@{local}>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:caller@{local}>\r\nAllow: INVITE, ACK, BYE, CANCEL\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{offer}",
            offer.len()
        );
        let (answer, took) = self.ask(remote, &invite, &call_id, "INVITE")?;
        let (target, to) = match (answer.uri("contact"), answer.field("to")) {
            (Some(target), Some(to)) => (target.to_owned(), to.to_owned()),
            _ => return Err(format!("the 200 of {user} has no Contact or To")),
        };
        let media = media(answer.body()).ok_or_else(|| format!("the SDP of {user} has no RTP port"))?;
        let call = Call { target, remote, from, to, call_id, media, took };
        self.send(remote, &call.request("ACK", 1, local, number));
        Ok(call)
    }

    /// Ends a call.
    pub fn hang_up(&mut self, call: &Call) -> Result<(), String> {
        self.number += 1;
        let bye = call.request("BYE", 2, self.local, self.number);
        self.ask(call.remote, &bye, &call.call_id, "BYE").map(drop)
    }

    /// Sends a request until it is answered with 2xx.
    fn ask(
        &mut self,
        to: SocketAddr,
        text: &str,
        call: &str,
        method: &str,
    ) -> Result<(Message, Duration), String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.send(to, text);
            let sent = Instant::now();
            while let Some(left) = AGAIN.checked_sub(sent.elapsed()) {
                let Some(answer) = self.hear(left) else { continue };
                let took = begun.elapsed();
                let ours = answer.field("call-id") == Some(call) && answer.method() == method;
                match answer.status() {
                    Some(200..300) if ours => return Ok((answer, took)),
                    Some(status @ 300..) if ours => {
                        return Err(format!("{method} was answered with {status}"));
                    }
                    _ => {}
                }
            }
        }
        Err(format!("no answer to {method} within {PATIENCE:?}"))
    }

    /// Takes the next datagram: requests are answered here, an answer is given back.
    fn hear(&mut self, limit: Duration) -> Option<Message> {
        let mut buffer = [0; 8192];
        self.socket.set_read_timeout(Some(limit.max(Duration::from_micros(100)))).ok()?;
        let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
        let message = Message::read(buffer.get(..length)?)?;
        if message.status().is_some() {
            return Some(message);
        }
        match message.method() {
            "REGISTER" => self.register(&message, from),
            "ACK" => {}
            _ => self.send(from, &message.answer("200 OK", "")),
        }
        None
    }

    fn register(&mut self, request: &Message, from: SocketAddr) {
        let (Some(user), Some(contact)) = (request.user("to"), request.uri("contact")) else { return };
        match request.field("authorization").map(|value| proves(value, request.method())) {
            None => {
                self.number += 1;
                let challenge = format!(
                    "WWW-Authenticate: Digest realm=\"{REALM}\", nonce=\"n{}\", qop=\"auth\"\r\n",
                    self.number
                );
                self.send(from, &request.answer("401 Unauthorized", &challenge));
            }
            Some(false) => self.send(from, &request.answer("403 Forbidden", "")),
            Some(true) => {
                let (user, contact) = (user.to_owned(), contact.to_owned());
                let fields = format!("Contact: <{contact}>;expires=3600\r\n");
                self.send(from, &request.answer("200 OK", &fields));
                self.registered.push((user.clone(), Instant::now()));
                self.bindings.insert(user, Binding { contact, remote: from });
            }
        }
    }

    fn send(&self, to: SocketAddr, text: &str) {
        // A program that ended meanwhile is noticed by what does not come.
        let _ = self.socket.send_to(text.as_bytes(), to);
    }
}

impl Call {
    fn request(&self, method: &str, sequence: u32, local: SocketAddr, number: u64) -> String {
        let Call { target, from, to, call_id, .. } = self;
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bK{method}{number}\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {sequence} {method}\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }
}

/// Where an SDP answer wants RTP.
fn media(sdp: &str) -> Option<SocketAddr> {
    let value = |key: &str| sdp.lines().find_map(|line| line.trim().strip_prefix(key).map(str::to_owned));
    let port = value("m=audio ")?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(value("c=IN IP4 ")?.parse().ok()?, port))
}

/// Whether the response of `Authorization` is that of the password (RFC 2617 §3.2.2, qop auth).
fn proves(authorization: &str, method: &str) -> bool {
    let parameter = |name: &str| {
        let pairs = authorization.trim_start_matches("Digest").split(',');
        pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(known, _)| known.trim() == name)
            .map_or(String::new(), |(_, value)| value.trim().trim_matches('"').to_owned())
    };
    let hash = |text: String| Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let secret = hash(format!("{}:{REALM}:{PASSWORD}", parameter("username")));
    let what = hash(format!("{method}:{}", parameter("uri")));
    let middle = ["nonce", "nc", "cnonce", "qop"].map(parameter).join(":");
    hash(format!("{secret}:{middle}:{what}")) == parameter("response")
}
