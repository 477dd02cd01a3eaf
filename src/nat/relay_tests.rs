//! The search for a relay among servers that the test plays: by datagrams on .1, by a stream on .2 and .3.

use std::net::SocketAddr;
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::relay::{Relay, StreamId, StreamInput, StreamOrder};
use crate::nat::stun::{Class, Refusal};
use crate::nat::turn::{Failure, Incoming};
use crate::nat::turn_message::{Key, Method, TurnMessage, write_channel_data};
use crate::nat::turn_server::{Carriage, Server};
use crate::now::Now;

const RELAYED: &str = "192.0.2.99:50000";
const PEER: &str = "198.51.100.1:4000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn at(ms: u64) -> Now {
    Now::default().plus(Duration::from_millis(ms))
}

fn server(last: u8, carriage: Carriage) -> Server {
    let address = SocketAddr::from(([192, 0, 2, last], 3478));
    Server { address, username: "user".into(), password: "secret".into(), carriage }
}

fn servers() -> Vec<Server> {
    vec![server(1, Carriage::Udp), server(2, Carriage::Tcp), server(3, Carriage::Tcp)]
}

/// What a server does with a request that was proven; an unproven one is always challenged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Grants,
    Refuses(u16),
    SendsOn(u8),
    Silent,
    /// It has an allocation of ours since before, and until a second after it was given back.
    Holds,
}

/// The world around the relay: what the servers do, and what streams they have.
struct Around {
    relay: Relay,
    manner: fn(u8) -> Manner,
    open: Vec<(StreamId, SocketAddr)>,
    /// Every stream that was ever ordered, by the last number of its server, and when.
    ordered: Vec<(u8, u64)>,
    /// How many octets a stream brings at once.
    piece: usize,
    /// What was asked for with proof, and of whom.
    asked: Vec<(u8, Method, Option<u32>)>,
    /// Until when it is that a server holds what it has.
    held_until_us: u64,
    now: Now,
}

fn last(address: SocketAddr) -> u8 {
    if let std::net::IpAddr::V4(ip) = address.ip() { ip.octets()[3] } else { 0 }
}

impl Around {
    fn new(manner: fn(u8) -> Manner) -> Around {
        Around::at(servers(), manner)
    }

    fn at(servers: Vec<Server>, manner: fn(u8) -> Manner) -> Around {
        let relay = Relay::new(at(0), servers, Chance::from_number(1));
        let (open, ordered, asked) = (Vec::new(), Vec::new(), Vec::new());
        Around { relay, manner, open, ordered, piece: 1, asked, held_until_us: u64::MAX, now: at(0) }
    }

    /// How often this server was asked for an allocation, and how often to end one.
    fn asked_of(&self, server: u8) -> [usize; 2] {
        let of = |method, ends: bool| {
            let asked = self.asked.iter().filter(|(last, ..)| *last == server);
            asked.filter(|(_, asked, life)| *asked == method && (*life == Some(0)) == ends).count()
        };
        [of(Method::Allocate, false), of(Method::Refresh, true)]
    }

    fn answer(&mut self, to: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
        let asked = TurnMessage::read(request).filter(|asked| asked.class == Class::Request)?;
        let manner = (self.manner)(last(to));
        if asked.nonce.is_some() {
            self.asked.push((last(to), asked.method, asked.lifetime_s));
        }
        let key = Key::long_term("user", "realm", "secret").unwrap();
        let mut answer = TurnMessage::new(Class::Error, asked.method, asked.id);
        let mut refuse = |code: u16| {
            answer.refusal = Some(Refusal { code, reason: "so it is".into() });
            (answer.realm, answer.nonce) = (Some("realm".into()), Some("nonce".into()));
            answer.write(None)
        };
        match manner {
            Manner::Silent => return None,
            _ if asked.nonce.is_none() => return Some(refuse(401)),
            Manner::Refuses(code) => return Some(refuse(code)),
            Manner::Holds if asked.method == Method::Allocate && self.now.mono_us < self.held_until_us => {
                return Some(refuse(437));
            }
            Manner::SendsOn(last) => {
                answer.alternate_server = Some(SocketAddr::from(([192, 0, 2, last], 3478)));
                answer.refusal = Some(Refusal { code: 300, reason: "elsewhere".into() });
            }
            Manner::Grants | Manner::Holds => {
                if asked.lifetime_s == Some(0) {
                    self.held_until_us = self.now.mono_us + 1_000_000;
                }
                answer.class = Class::Success;
                answer.lifetime_s = asked.lifetime_s.or(Some(600));
                answer.relayed = (asked.method == Method::Allocate).then(|| address(RELAYED));
            }
        }
        Some(answer.write_answer(&key))
    }

    /// Everybody does what there is to do now.
    fn serve(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(order) = self.relay.poll_order() {
                quiet = false;
                match order {
                    StreamOrder::Open { stream, server, .. } => {
                        self.open.push((stream, server));
                        self.ordered.push((last(server), self.now.mono_us / 1_000));
                        assert!(self.relay.handle_stream(self.now, stream, StreamInput::Open));
                    }
                    StreamOrder::Close { stream } => self.open.retain(|(open, _)| *open != stream),
                }
            }
            while let Some((target, request)) = self.relay.poll_transmit() {
                quiet = false;
                let Some(answer) = self.answer(target.to, &request) else { continue };
                match target.stream {
                    None => {
                        self.relay.handle_datagram(self.now, target.to, &answer);
                    }
                    Some(stream) => self.bring(stream, &answer),
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn bring(&mut self, stream: StreamId, octets: &[u8]) {
        for piece in octets.chunks(self.piece) {
            self.relay.handle_stream(self.now, stream, StreamInput::Bytes(piece));
            assert_eq!(self.relay.poll_packet(self.now), None);
        }
    }

    fn until(&mut self, ms: u64) {
        self.serve();
        while let Some(due) = self.relay.poll_timeout().filter(|due| *due <= ms * 1_000) {
            self.now = Now { mono_us: due.max(self.now.mono_us), ..self.now };
            self.relay.handle_timeout(self.now);
            self.serve();
        }
        self.now = at(ms);
    }
}

#[test]
fn who_answers_by_datagrams_is_taken_and_no_stream_is_opened() {
    let mut around = Around::new(|_| Manner::Grants);
    around.until(60_000);
    assert_eq!(
        (around.relay.relayed(), around.relay.carriage()),
        (Some(address(RELAYED)), Some(&Carriage::Udp))
    );
    assert_eq!(around.ordered, []);
}

#[test]
fn where_no_datagram_gets_out_a_stream_has_it_within_a_second_however_its_octets_come() {
    for piece in [1, 5, 1_500] {
        let mut around = Around::new(|last| if last == 1 { Manner::Silent } else { Manner::Grants });
        around.piece = piece;
        around.until(1_000);
        assert_eq!(around.relay.carriage(), Some(&Carriage::Tcp));
        assert_eq!(around.ordered, [(2, 500)]);
        around.until(30_000);
        assert!(around.relay.is_settled() && around.relay.failure().is_none());
        assert_eq!(around.open.len(), 1);
    }
}

#[test]
fn each_refusal_is_followed_by_the_next_server_and_told_when_none_is_left() {
    for code in [403, 437, 441, 442, 486, 508] {
        let mut around = Around::new(|_| Manner::Grants);
        around.manner = match code {
            403 => |_| Manner::Refuses(403),
            437 => |_| Manner::Refuses(437),
            441 => |_| Manner::Refuses(441),
            442 => |_| Manner::Refuses(442),
            486 => |_| Manner::Refuses(486),
            _ => |_| Manner::Refuses(508),
        };
        // An allocation that a server says it has already is asked to be ended a few times.
        let all_failed = if code == 437 { 8_000 } else { 100 };
        around.until(all_failed);
        let Some(Failure::Refused(refusal)) = around.relay.failure() else { panic!("{code}") };
        assert_eq!(refusal.code, code);
        assert!(around.relay.is_settled() && around.open.is_empty(), "{code}");
        around.manner = |last| if last == 3 { Manner::Grants } else { Manner::Refuses(508) };
        around.until(all_failed + 6_000);
        assert_eq!(around.relay.relayed(), Some(address(RELAYED)), "{code}: tried again");
        assert_eq!(around.open, [(around.open[0].0, address("192.0.2.3:3478"))]);
    }
}

#[test]
fn a_wrong_password_says_more_than_a_server_that_is_not_heard() {
    let mut around = Around::new(|last| if last == 2 { Manner::Refuses(401) } else { Manner::Silent });
    around.until(20_000);
    assert_eq!(around.relay.failure(), Some(&Failure::Unauthorized));
}

#[test]
fn a_server_that_sends_a_stream_on_is_followed_twice() {
    let mut around = Around::new(|last| match last {
        1 => Manner::Silent,
        2 => Manner::SendsOn(7),
        7 => Manner::SendsOn(8),
        8 => Manner::Grants,
        _ => Manner::Refuses(508),
    });
    around.until(900);
    assert_eq!(around.open.iter().map(|(_, to)| last(*to)).collect::<Vec<_>>(), [8]);
    let mut around = Around::new(|last| if last == 1 { Manner::Silent } else { Manner::SendsOn(last ^ 12) });
    around.until(900);
    assert_eq!(around.relay.relayed(), None);
    assert!(around.ordered.len() <= 6, "{:?}", around.ordered);
}

#[test]
fn who_is_overtaken_gives_back_what_it_gets_late() {
    let mut around = Around::new(|last| if last == 1 { Manner::Silent } else { Manner::Grants });
    around.until(700);
    assert_eq!(around.relay.carriage(), Some(&Carriage::Tcp));
    around.manner = |_| Manner::Grants;
    let mut given_back = 0;
    let mut now = at(700);
    while now.mono_us < 3_000_000 {
        now = Now { mono_us: around.relay.poll_timeout().unwrap(), ..now };
        around.now = now;
        around.relay.handle_timeout(now);
        while let Some((target, request)) = around.relay.poll_transmit() {
            let asked = TurnMessage::read(&request).filter(|_| target.stream.is_none());
            given_back += u32::from(asked.is_some_and(|asked| asked.lifetime_s == Some(0)));
            if let Some(answer) = around.answer(target.to, &request).filter(|_| target.stream.is_none()) {
                around.relay.handle_datagram(now, target.to, &answer);
            }
        }
    }
    assert_eq!((given_back, around.relay.carriage()), (1, Some(&Carriage::Tcp)));
}

/// Datagrams are not answered, and the stream to .2 has the allocation.
fn by_stream() -> (Around, StreamId) {
    let mut around = Around::new(|last| if last == 1 { Manner::Silent } else { Manner::Grants });
    around.until(8_000);
    let stream = around.open[0].0;
    (around, stream)
}

#[test]
fn packets_of_peers_come_out_of_a_stream_and_long_ones_cost_nothing() {
    let (mut around, stream) = by_stream();
    around.relay.allocation().unwrap().0.bind(around.now, address(PEER));
    around.serve();
    let mut packet = [0; 64];
    let length = write_channel_data(0x4000, b"hello", true, &mut packet).unwrap();
    let long = [&[0x40, 0, 0xFF, 0][..], &vec![7; 0xFF00]].concat();
    let octets = [&packet[..length], &long, &packet[..length]].concat();
    let mut heard = Vec::new();
    for piece in octets.chunks(1_000) {
        around.relay.handle_stream(around.now, stream, StreamInput::Bytes(piece));
        heard.extend(std::iter::from_fn(|| around.relay.poll_packet(around.now)));
    }
    assert_eq!(heard, vec![(address(PEER), b"hello".to_vec()); 2]);
    let mut out = [0; 64];
    let (allocation, target) = around.relay.allocation().unwrap();
    assert_eq!(target.stream, Some(stream));
    let length = allocation.frame(at(8_100), address(PEER), b"back!", &mut out).unwrap();
    assert_eq!(&out[..length], b"\x40\x00\x00\x05back!\0\0\0", "padded for the stream");
    let spoofed = around.relay.handle_datagram(around.now, address("192.0.2.2:3478"), &packet);
    assert_eq!(spoofed, Incoming::Foreign, "a datagram is no part of a stream");
}

#[test]
fn a_stream_that_ends_or_loses_its_step_is_replaced_at_once() {
    for broken in [true, false] {
        let (mut around, stream) = by_stream();
        let input = if broken { StreamInput::Bytes(b"SIP/2.0 400") } else { StreamInput::Closed("reset") };
        around.relay.handle_stream(around.now, stream, input);
        assert_eq!(around.relay.poll_packet(around.now), None);
        around.until(8_010);
        assert_eq!(around.ordered, [(2, 500), (2, 8_000)], "the one that worked is tried first");
        assert!(around.relay.relayed().is_some() && around.open[0].0 != stream);
    }
}

#[test]
fn a_silent_stream_is_noticed_soon_when_it_is_doubted() {
    let (mut around, stream) = by_stream();
    around.manner = |_| Manner::Silent;
    around.relay.hurry(around.now);
    around.until(8_400);
    assert!(around.relay.relayed().is_some(), "it has half a second");
    around.manner = |last| if last == 1 { Manner::Silent } else { Manner::Grants };
    around.until(8_600);
    assert!(around.relay.relayed().is_some() && around.open[0].0 != stream);
}

#[test]
fn servers_that_grant_and_hang_up_are_not_called_in_a_circle() {
    let mut around = Around::new(|last| if last == 1 { Manner::Silent } else { Manner::Grants });
    for second in 1..=60 {
        around.until(second * 1_000);
        for (stream, _) in std::mem::take(&mut around.open) {
            around.relay.handle_stream(around.now, stream, StreamInput::Closed("reset"));
        }
    }
    assert!(around.ordered.len() < 20, "{:?}", around.ordered);
}

#[test]
fn what_is_released_leaves_nothing_behind() {
    let (mut around, _) = by_stream();
    around.relay.release(around.now);
    let (_, last) = around.relay.poll_transmit().expect("the allocation is given back");
    assert_eq!(TurnMessage::read(&last).unwrap().lifetime_s, Some(0));
    around.serve();
    assert_eq!((around.open.len(), around.relay.poll_timeout()), (0, None));
}

/// In an outage nobody answers; afterwards the server has what it had.
#[test]
fn an_allocation_outlives_an_outage_with_one_server_and_with_several() {
    for servers in [vec![server(1, Carriage::Udp)], servers()] {
        for outage in [9_000, 15_000, 31_000, 120_000] {
            let mut around = Around::at(servers.clone(), |_| Manner::Grants);
            around.until(6_000);
            around.relay.allocation().unwrap().0.bind(around.now, address(PEER));
            around.serve();
            around.manner = |_| Manner::Silent;
            around.relay.hurry(around.now);
            around.until(6_000 + outage);
            assert_eq!(around.relay.relayed(), Some(address(RELAYED)), "{outage} ms");
            let asked = around.asked.len();
            assert!(asked < 140, "{asked} requests in {outage} ms");
            around.manner = |_| Manner::Grants;
            around.until(16_000 + outage);
            assert_eq!(around.relay.carriage(), Some(&Carriage::Udp), "{outage} ms");
            assert!(around.relay.is_settled() && around.open.is_empty(), "{outage} ms");
            assert_eq!(around.asked_of(1), [1, 0], "{outage} ms");
        }
    }
}

#[test]
fn a_server_that_alone_is_silent_is_replaced_and_what_it_has_given_back() {
    let mut around = Around::new(|_| Manner::Grants);
    around.until(6_000);
    around.manner = |last| if last == 1 { Manner::Silent } else { Manner::Grants };
    around.relay.hurry(around.now);
    around.until(16_000);
    assert_eq!(around.relay.carriage(), Some(&Carriage::Tcp));
    assert_eq!(around.asked_of(1)[1], 1);
    assert_eq!(around.open.len(), 1);
}

#[test]
fn an_allocation_ends_with_its_lifetime_where_its_server_stays_silent() {
    let mut around = Around::at(vec![server(1, Carriage::Udp)], |_| Manner::Grants);
    around.until(6_000);
    around.manner = |_| Manner::Silent;
    around.relay.hurry(around.now);
    around.until(595_000);
    assert!(around.relay.relayed().is_some() && around.relay.is_settled());
    around.until(620_000);
    assert!(around.relay.relayed().is_none());
}

#[test]
fn an_allocation_of_before_that_the_server_still_has_is_ended_and_another_one_asked_for() {
    let mut around = Around::at(vec![server(1, Carriage::Udp)], |_| Manner::Holds);
    around.until(4_000);
    assert_eq!(around.relay.relayed(), Some(address(RELAYED)));
    assert_eq!(around.asked_of(1), [2, 1]);
}

#[test]
fn what_is_granted_after_it_was_given_back_is_not_left_at_the_server() {
    let mut around = Around::at(vec![server(1, Carriage::Udp)], |_| Manner::Grants);
    let (to, first) = around.relay.poll_transmit().unwrap();
    let challenge = around.answer(to.to, &first).unwrap();
    around.relay.handle_datagram(at(10), to.to, &challenge);
    let (_, proven) = around.relay.poll_transmit().unwrap();
    around.relay.release(at(20));
    assert_eq!(around.relay.poll_transmit(), None);
    let granted = around.answer(to.to, &proven).unwrap();
    assert_eq!(around.relay.handle_datagram(at(30), to.to, &granted), Incoming::Done);
    let ends = |request: &[u8]| {
        let asked = TurnMessage::read(request).unwrap();
        assert_eq!((asked.method, asked.lifetime_s), (Method::Refresh, Some(0)));
        asked
    };
    let (_, given_back) = around.relay.poll_transmit().expect("it is given back");
    let mut stale = TurnMessage::new(Class::Error, Method::Refresh, ends(&given_back).id);
    stale.refusal = Some(Refusal { code: 438, reason: "stale".into() });
    (stale.realm, stale.nonce) = (Some("realm".into()), Some("another".into()));
    around.relay.handle_datagram(at(40), to.to, &stale.write(None));
    let (_, again) = around.relay.poll_transmit().expect("with the other nonce");
    assert_eq!(ends(&again).nonce.as_deref(), Some("another"));
    let done = around.answer(to.to, &again).unwrap();
    around.relay.handle_datagram(at(50), to.to, &done);
    assert_eq!((around.relay.poll_transmit(), around.relay.poll_timeout()), (None, None));
    assert!(around.relay.relayed().is_none() && around.relay.is_settled());
}

/// The grant may have been lost: who was never answered is told once more that nothing is wanted.
#[test]
fn what_was_asked_for_and_never_answered_is_given_back_and_then_forgotten() {
    let mut around = Around::at(vec![server(1, Carriage::Udp)], |_| Manner::Grants);
    let (to, first) = around.relay.poll_transmit().unwrap();
    let challenge = around.answer(to.to, &first).unwrap();
    around.relay.handle_datagram(at(10), to.to, &challenge);
    around.relay.poll_transmit().unwrap();
    around.relay.release(at(20));
    around.manner = |_| Manner::Silent;
    around.until(20_000);
    assert_eq!(around.relay.poll_timeout(), None);
    let [allocates, ends] = around.asked_of(1);
    assert!(allocates == 0 && ends > 0, "{allocates} {ends}");
}
