//! A PBX that the test plays word by word, towards one whole phone in virtual time: what is said in SIP and
//! what is spoken in RTP is written here, and everything that the phone sends is looked at.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tipring::audio::g711::{self, Law};
use tipring::audio::similarity::similarity;
use tipring::audio::speech::Speech;
use tipring::rtp::packet::{Header, Packet};
use tipring::sip::message::{Message, Request, Response};
use tipring::sip::method::Method;
use tipring::sip::name_addr::NameAddr;
use tipring::sip::reader::read_datagram;
use tipring::sip::uri::Uri;
use tipring::sip::via::Via;

use crate::handset::{Handset, SIP};
use crate::names::Names;
use crate::network::Datagram;
use crate::world::{World, call, config};

/// Where the PBX says SIP.
pub const PBX: &str = "198.51.100.1:5060";
/// Where the PBX speaks.
pub const MEDIA: &str = "198.51.100.1:20000";
/// The same with IPv6.
pub const PBX_V6: &str = "[2001:db8::1]:5060";
pub const MEDIA_V6: &str = "[2001:db8::1]:20000";

pub fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub fn uri(text: &str) -> Uri {
    Uri::parse(text).expect("a URI")
}

/// A description of one audio stream: `m` is what stands behind the port in `m=`, as in `RTP/AVP 8 101`.
pub fn audio(address: &str, m: &str, lines: &[&str]) -> String {
    let address = at(address);
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    let (ip, port) = (address.ip(), address.port());
    let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "v=0\r\no=- 9 9 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} {m}\r\n{more}"
    )
}

/// One phone with one line that does not register, and everything it has sent so far.
pub struct Script {
    pub world: World,
    pub sip: VecDeque<(SocketAddr, Message)>,
    pub rtp: Vec<Datagram>,
    /// Where the phone listens: as in its first call, until a test says otherwise.
    pub port: u16,
    pbx: &'static str,
}

impl Script {
    /// A phone whose line has these keys besides the usual ones; `tables` stand in front of it.
    pub fn new(line: &str, tables: &str) -> Script {
        Script::begin("192.0.2.11", PBX, line, tables)
    }

    /// The same where there is IPv6 only.
    pub fn ipv6(line: &str) -> Script {
        Script::begin("2001:db8::11", PBX_V6, line, "")
    }

    fn begin(phone: &str, pbx: &'static str, line: &str, tables: &str) -> Script {
        let mut world = World::new(21);
        world.card_rate = 8_000;
        world.mailbox = Some(Vec::new());
        world.names = Names::default();
        world.names.add_address("pbx.example", at(pbx).ip());
        let phone = phone.parse().expect("an address");
        world.add_phone_at(phone, config("1001", &format!("register = false\n{line}"), tables), 0.0);
        let mut script = Script { world, sip: VecDeque::new(), rtp: Vec::new(), port: 10_002, pbx };
        script.millis(100);
        script
    }

    pub fn phone(&self) -> &Handset {
        &self.world.phones[0]
    }

    /// Lets time pass and collects what was sent.
    pub fn millis(&mut self, millis: u64) {
        self.world.millis(millis);
        for datagram in self.world.mailbox.replace(Vec::new()).unwrap_or_default() {
            if datagram.from.port() != SIP {
                self.rtp.push(datagram);
            } else if let Ok(Some(message)) = read_datagram(&datagram.bytes) {
                self.sip.push_back((datagram.to, message));
            }
        }
    }

    pub fn seconds(&mut self, seconds: u64) {
        self.millis(1000 * seconds);
    }

    /// The same while these speak.
    pub fn talk(&mut self, millis: u64, voices: &mut [&mut Voice]) {
        for _ in 0..millis / 20 {
            for voice in &mut *voices {
                let packet = voice.speak();
                self.sends(voice.address, packet);
            }
            self.millis(20);
        }
    }

    /// Media from anywhere to the port that the phone listens on.
    pub fn sends(&mut self, from: SocketAddr, packet: Vec<u8>) {
        let now_us = self.world.now().mono_us;
        let to = SocketAddr::new(self.phone().address, self.port);
        self.world.network.send(now_us, from, to, packet);
    }

    /// The PBX says something.
    pub fn hears(&mut self, message: impl Into<Message>) {
        self.hears_from(self.pbx, message);
    }

    pub fn hears_from(&mut self, from: &str, message: impl Into<Message>) {
        let now_us = self.world.now().mono_us;
        let to = SocketAddr::new(self.phone().address, SIP);
        self.world.network.send(now_us, at(from), to, message.into().write());
        self.millis(10);
    }

    /// The next thing the phone says is this request.
    #[track_caller]
    pub fn says(&mut self, method: Method) -> Request {
        match self.next() {
            Some(Message::Request(request)) if request.method == method => request,
            other => panic!("{method} expected, not {}", text(other)),
        }
    }

    /// The same, within this time.
    #[track_caller]
    pub fn awaits(&mut self, method: Method, millis: u64) -> Request {
        let end = self.now_ms() + millis;
        while self.sip.is_empty() && self.now_ms() < end {
            self.millis(20);
        }
        self.says(method)
    }

    /// The next thing the phone says is this response (100 aside).
    #[track_caller]
    pub fn replies(&mut self, status: u16) -> Response {
        match self.next() {
            Some(Message::Response(response)) if response.status == status => response,
            other => panic!("{status} expected, not {}", text(other)),
        }
    }

    #[track_caller]
    pub fn is_silent(&mut self) {
        let next = self.next();
        assert!(next.is_none(), "silence expected, not {}", text(next));
    }

    /// The next thing the phone says, whatever it is (100 aside).
    #[track_caller]
    pub fn next_message(&mut self) -> Message {
        self.next().expect("a message")
    }

    fn next(&mut self) -> Option<Message> {
        if self.sip.is_empty() {
            self.millis(20);
        }
        while let Some((_, message)) = self.sip.pop_front() {
            if !matches!(&message, Message::Response(response) if response.status == 100) {
                return Some(message);
            }
        }
        None
    }

    /// The phone calls 2000; its INVITE, and the peer that got it.
    pub fn calls(&mut self) -> (Request, Peer) {
        self.world.tell(0, call("2000"));
        let invite = self.says(Method::INVITE);
        let peer = Peer::answering(&invite, "bob");
        (invite, peer)
    }

    /// A call of the phone that was answered in PCMA.
    pub fn answered(&mut self) -> Peer {
        let (invite, peer) = self.calls();
        self.hears(peer.response(&invite, 200, Some(audio(MEDIA, "RTP/AVP 8", &[]))));
        self.says(Method::ACK);
        peer
    }

    /// The peer changes the session; the body of the phone's 200, which is acknowledged with `answer`.
    pub fn reinvites(&mut self, peer: &mut Peer, offer: Option<String>, answer: Option<String>) -> String {
        let invite = peer.request(Method::INVITE, offer);
        self.hears(invite.clone());
        let ok = self.replies(200);
        let number = invite.head.cseq.number;
        self.hears(peer.numbered(Method::ACK, number, answer));
        String::from_utf8(ok.body).expect("text")
    }

    /// Forgets the media seen so far.
    pub fn listen(&mut self) {
        self.rtp.clear();
        self.world.phones[0].card.listen(true);
    }

    /// The share of what this voice said since [`Script::listen`] that was heard.
    pub fn heard(&self, voice: &Voice) -> f32 {
        similarity(&voice.said, &self.phone().card.heard, 8_000, 8_000).map_or(0.0, |found| found.found)
    }

    /// Voice packets of the phone to this address.
    pub fn voice_to(&self, address: &str) -> Vec<&Datagram> {
        let to = at(address);
        self.rtp.iter().filter(|packet| packet.to == to && Packet::parse(&packet.bytes).is_ok()).collect()
    }

    /// Milliseconds of virtual time.
    pub fn now_ms(&self) -> u64 {
        self.world.now().mono_us / 1000
    }
}

fn text(message: Option<Message>) -> String {
    message.map_or("silence".to_owned(), |message| String::from_utf8_lossy(&message.write()).into_owned())
}

/// The other side of a dialog.
#[derive(Clone)]
pub struct Peer {
    pub call_id: String,
    pub local: NameAddr,
    pub remote: NameAddr,
    pub target: Uri,
    pub contact: String,
    pub cseq: u32,
    branches: u32,
}

impl Peer {
    /// Somebody who got this INVITE.
    pub fn answering(invite: &Request, tag: &str) -> Peer {
        Peer {
            call_id: invite.head.call_id.clone(),
            local: invite.head.to.clone().with_tag(tag),
            remote: invite.head.from.clone(),
            target: uri("sip:1001@192.0.2.11:5060"),
            contact: format!("<sip:bob@{PBX}>"),
            cseq: 100,
            branches: 0,
        }
    }

    /// Somebody who calls.
    pub fn calling(from: &str) -> Peer {
        Peer {
            call_id: from.chars().filter(char::is_ascii_alphanumeric).collect(),
            local: NameAddr::parse(from).expect("an address").with_tag("bob"),
            remote: NameAddr::new(uri("sip:1001@pbx.example")),
            target: uri("sip:1001@192.0.2.11:5060"),
            contact: format!("<sip:bob@{PBX}>"),
            cseq: 100,
            branches: 0,
        }
    }

    pub fn numbered(&mut self, method: Method, number: u32, sdp: Option<String>) -> Request {
        let (local, remote) = (self.local.clone(), self.remote.clone());
        let mut request = Request::new(method, self.target.clone(), local, remote, &self.call_id, number);
        self.branches += 1;
        let branch = format!("z9hG4bK-{}-{}", self.local.tag().unwrap_or_default(), self.branches);
        request.head.via.push(Via::new("UDP", at(PBX), &branch));
        request.fields.push("Contact", self.contact.as_str());
        if let Some(sdp) = sdp {
            request.set_body("application/sdp", sdp);
        }
        request
    }

    /// A new request.
    pub fn request(&mut self, method: Method, sdp: Option<String>) -> Request {
        self.cseq += 1;
        let mut request = self.numbered(method, self.cseq, sdp);
        request.fields.push("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, INFO");
        request
    }

    /// The CANCEL of an INVITE of this peer.
    pub fn cancel(&self, invite: &Request, reason: &str) -> Request {
        let (from, to) = (invite.head.from.clone(), invite.head.to.clone());
        let number = invite.head.cseq.number;
        let mut cancel = Request::new(Method::CANCEL, invite.uri.clone(), from, to, &self.call_id, number);
        cancel.head.via.clone_from(&invite.head.via);
        if !reason.is_empty() {
            cancel.fields.push("Reason", reason);
        }
        cancel
    }

    /// Learns the phone's tag.
    pub fn takes(&mut self, response: &Response) {
        self.remote = response.head.to.clone();
    }

    pub fn response(&self, request: &Request, status: u16, sdp: Option<String>) -> Response {
        let mut response = Response::to(request, status);
        if response.head.to_tag().is_none() {
            response.head.to.set_tag(self.local.tag().expect("a tag"));
        }
        if status < 300 {
            response.fields.push("Contact", self.contact.as_str());
            response.fields.push("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, INFO");
        }
        if let Some(sdp) = sdp {
            response.set_body("application/sdp", sdp);
        }
        response
    }
}

/// Somebody who speaks G.711 A-law, 20 ms a packet.
pub struct Voice {
    pub address: SocketAddr,
    pub header: Header,
    speech: Speech,
    /// Everything said so far.
    pub said: Vec<i16>,
}

impl Voice {
    pub fn new(address: &str, ssrc: u32) -> Voice {
        Voice {
            address: at(address),
            header: Header { marker: false, payload_type: 8, sequence: 7, timestamp: 5_000, ssrc },
            speech: Speech::new(u64::from(ssrc), 8_000),
            said: Vec::new(),
        }
    }

    fn speak(&mut self) -> Vec<u8> {
        let mut pcm = [0; 160];
        self.speech.fill(&mut pcm);
        self.said.extend_from_slice(&pcm);
        let mut payload = Vec::new();
        g711::encode(Law::A, &pcm, &mut payload);
        self.write(&payload, 160)
    }

    /// Any payload; `samples` is what it lasts.
    pub fn write(&mut self, payload: &[u8], samples: u32) -> Vec<u8> {
        let mut bytes = vec![0; 12 + payload.len()];
        self.header.write(payload, &mut bytes).expect("room");
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(samples);
        bytes
    }
}
