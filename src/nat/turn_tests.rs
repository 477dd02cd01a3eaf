//! The allocation against a server that keeps the rules, and against those that do not.

use std::net::SocketAddr;
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::stun::{Class, Refusal, TransactionId};
use crate::nat::turn::{Allocation, Event, Failure, Incoming, MAX_PERMITTED};
use crate::nat::turn_message::{Key, Method, TurnMessage, is_authentic, send_indication, write_channel_data};
use crate::nat::turn_server::{Carriage, Server};
use crate::now::Now;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn at(ms: u64) -> Now {
    Now::default().plus(Duration::from_millis(ms))
}

fn server(stream: bool) -> Server {
    let carriage = if stream { Carriage::Tcp } else { Carriage::Udp };
    Server {
        address: address("192.0.2.1:3478"),
        username: "user".into(),
        password: "secret".into(),
        carriage,
    }
}

fn key() -> Key {
    Key::long_term("user", "example.org", "secret").unwrap()
}

fn next(allocation: &mut Allocation) -> TurnMessage {
    let bytes = allocation.poll_transmit().expect("a request");
    TurnMessage::read(&bytes).expect("a TURN message")
}

fn refusal(asked: &TurnMessage, code: u16) -> TurnMessage {
    let mut message = TurnMessage::new(Class::Error, asked.method, asked.id);
    message.refusal = Some(Refusal { code, reason: "so it is".into() });
    if matches!(code, 401 | 438) {
        message.realm = Some("example.org".into());
        message.nonce = Some(format!("nonce{code}"));
    }
    message
}

fn granted(asked: &TurnMessage) -> TurnMessage {
    let mut message = TurnMessage::new(Class::Success, asked.method, asked.id);
    if asked.method == Method::Allocate {
        message.relayed = Some(address("192.0.2.1:50000"));
        message.mapped = Some(address("203.0.113.9:41000"));
    }
    if matches!(asked.method, Method::Allocate | Method::Refresh) {
        message.lifetime_s = Some(600);
    }
    message
}

/// Over challenge and grant to an allocation.
fn alive() -> Allocation {
    let mut allocation = Allocation::new(at(0), server(false), Chance::from_number(1));
    let asked = next(&mut allocation);
    assert_eq!((asked.method, asked.wants_udp, asked.username.clone()), (Method::Allocate, true, None));
    allocation.handle(at(10), &refusal(&asked, 401).write(None));
    let bytes = allocation.poll_transmit().unwrap();
    assert!(is_authentic(&bytes, &key()));
    let asked = TurnMessage::read(&bytes).unwrap();
    assert_eq!(asked.nonce.as_deref(), Some("nonce401"));
    assert_eq!(allocation.handle(at(20), &granted(&asked).write_answer(&key())), Incoming::Done);
    let (relayed, mapped) = (address("192.0.2.1:50000"), Some(address("203.0.113.9:41000")));
    assert_eq!(allocation.poll_event(), Some(Event::Allocated { relayed, mapped }));
    allocation
}

#[test]
fn an_allocation_carries_packets_of_permitted_peers_both_ways() {
    let mut allocation = alive();
    let peer = address("198.51.100.1:4000");
    let mut out = [0; 1500];
    assert_eq!(allocation.frame(at(30), peer, b"hello", &mut out), None, "nobody is permitted yet");
    allocation.permit(at(30), [peer]);
    let asked = next(&mut allocation);
    assert_eq!((asked.method, &asked.peers[..]), (Method::CreatePermission, &[peer][..]));
    allocation.handle(at(40), &granted(&asked).write_answer(&key()));
    let length = allocation.frame(at(50), peer, b"hello", &mut out).unwrap();
    let sent = TurnMessage::read(&out[..length]).unwrap();
    assert_eq!(
        (sent.method, &sent.peers[..], sent.data.as_deref()),
        (Method::Send, &[peer][..], Some(&b"hello"[..]))
    );
    allocation.bind(at(60), peer);
    let asked = next(&mut allocation);
    assert_eq!((asked.method, asked.channel), (Method::ChannelBind, Some(0x4000)));
    allocation.handle(at(70), &granted(&asked).write_answer(&key()));
    let length = allocation.frame(at(80), peer, b"hello", &mut out).unwrap();
    assert_eq!(&out[..length], b"\x40\x00\x00\x05hello");
    let mut data = [0; 64];
    let length = write_channel_data(0x4000, b"back", false, &mut data).unwrap();
    assert_eq!(allocation.handle(at(90), &data[..length]), Incoming::Packet { peer, payload: 4..8 });
}

fn data_from(peer: SocketAddr) -> Vec<u8> {
    let mut out = [0; 200];
    let length = send_indication(TransactionId([3; 12]), peer, b"back", &mut out).unwrap();
    // The server's indication differs from ours by its method only.
    out[1] = 0x17;
    out[..length].to_vec()
}

#[test]
fn packets_of_strangers_are_not_believed_though_the_server_brings_them() {
    let mut allocation = alive();
    let peer = address("198.51.100.1:4000");
    allocation.permit(at(30), [peer]);
    assert!(
        matches!(allocation.handle(at(31), &data_from(peer)), Incoming::Packet { peer: from, .. } if from == peer)
    );
    assert_eq!(allocation.handle(at(32), &data_from(address("198.51.100.66:1"))), Incoming::Done);
    assert_eq!(allocation.handle(at(33), b"\x40\x07\x00\x04evil"), Incoming::Done, "a channel of nobody");
    assert_eq!(allocation.forged(), 2);
    assert_eq!(allocation.handle(at(34), b"\x80\x00speech"), Incoming::Foreign);
}

#[test]
fn it_lives_for_an_hour_of_stale_nonces() {
    let mut allocation = alive();
    let peer = address("198.51.100.1:4000");
    allocation.bind(at(30), peer);
    let (mut asked_for, mut nonces) = (std::collections::BTreeMap::new(), 0);
    let (mut now, mut expires, mut permitted) = (at(30), at(600_000), at(300_000));
    while now.mono_us < 3_600_000_000 {
        while let Some(bytes) = allocation.poll_transmit() {
            let Some(asked) = TurnMessage::read(&bytes) else {
                *asked_for.entry("keep-alive").or_insert(0) += 1;
                continue;
            };
            *asked_for
                .entry(match asked.method {
                    Method::Refresh => "refresh",
                    Method::CreatePermission => "permission",
                    _ => "channel",
                })
                .or_insert(0) += 1;
            if asked.nonce != Some(format!("nonce{}", 438 + nonces)) && nonces > 0 {
                let mut stale = refusal(&asked, 438);
                stale.nonce = Some(format!("nonce{}", 438 + nonces));
                allocation.handle(now, &stale.write(None));
                continue;
            }
            nonces += 1;
            match asked.method {
                Method::Refresh => expires = now.plus(Duration::from_secs(600)),
                Method::CreatePermission => permitted = now.plus(Duration::from_secs(300)),
                _ => assert_eq!(asked.channel, Some(0x4000), "a peer keeps its channel"),
            }
            allocation.handle(now, &granted(&asked).write_answer(&key()));
        }
        now = Now { mono_us: allocation.poll_timeout().unwrap().max(now.mono_us), ..now };
        assert!(now < expires && now < permitted, "{now:?}");
        allocation.handle_timeout(now);
    }
    assert!(allocation.relayed().is_some());
    assert!((200..=260).contains(&asked_for["keep-alive"]), "{asked_for:?}");
    assert!(asked_for.values().sum::<i32>() < 330, "{asked_for:?}");
}

#[test]
fn a_wrong_password_a_full_server_and_an_unwilling_one_are_told_apart() {
    for (code, expected) in
        [(401, None), (442, Some(442)), (486, Some(486)), (508, Some(508)), (403, Some(403))]
    {
        let mut allocation = Allocation::new(at(0), server(false), Chance::from_number(1));
        let asked = next(&mut allocation);
        allocation.handle(at(10), &refusal(&asked, 401).write(None));
        let asked = next(&mut allocation);
        allocation.handle(at(20), &refusal(&asked, code).write(None));
        match (allocation.poll_event(), expected) {
            (Some(Event::Failed(Failure::Unauthorized)), None) => {}
            (Some(Event::Failed(Failure::Refused(refusal))), Some(code)) => assert_eq!(refusal.code, code),
            (other, _) => panic!("{code}: {other:?}"),
        }
        assert!(allocation.is_over() && allocation.poll_timeout().is_none());
    }
}

#[test]
fn a_silent_server_is_asked_seven_times_and_given_up() {
    let mut allocation = Allocation::new(at(0), server(false), Chance::from_number(1));
    let mut sent = 0;
    let mut now = at(0);
    while let Some(due) = allocation.poll_timeout() {
        while allocation.poll_transmit().is_some() {
            sent += 1;
        }
        now = Now { mono_us: due, ..now };
        allocation.handle_timeout(now);
    }
    assert_eq!((sent, now.mono_us), (7, 7_800_000));
    assert_eq!(allocation.poll_event(), Some(Event::Failed(Failure::NoAnswer)));
}

#[test]
fn a_server_that_sends_on_is_followed_twice_but_not_to_ourselves() {
    let mut allocation = Allocation::new(at(0), server(false), Chance::from_number(1));
    for (alternate, told) in
        [("192.0.2.2:3478", None), ("192.0.2.3:3478", None), ("192.0.2.4:3478", Some(()))]
    {
        let asked = next(&mut allocation);
        let mut elsewhere = refusal(&asked, 300);
        elsewhere.alternate_server = Some(address(alternate));
        allocation.handle(at(10), &elsewhere.write(None));
        match told {
            None => assert_eq!((allocation.server(), allocation.poll_event()), (address(alternate), None)),
            Some(()) => {
                assert_eq!(
                    allocation.poll_event(),
                    Some(Event::Failed(Failure::Elsewhere(address(alternate))))
                );
            }
        }
    }
    for lie in ["127.0.0.1:3478", "0.0.0.0:1", "192.0.2.1:3478"] {
        let mut allocation = Allocation::new(at(0), server(false), Chance::from_number(1));
        let mut elsewhere = refusal(&next(&mut allocation), 300);
        elsewhere.alternate_server = Some(address(lie));
        allocation.handle(at(10), &elsewhere.write(None));
        assert_eq!(allocation.poll_event(), Some(Event::Failed(Failure::Impossible)), "{lie}");
    }
}

#[test]
fn a_server_that_lies_gives_us_nothing() {
    for lie in ["127.0.0.1:50000", "0.0.0.0:50000", "192.0.2.1:0", "224.0.0.1:50000", "[2001:db8::1]:50000"] {
        let mut allocation = Allocation::new(at(0), server(false), Chance::from_number(1));
        let asked = next(&mut allocation);
        allocation.handle(at(10), &refusal(&asked, 401).write(None));
        let asked = next(&mut allocation);
        let mut lying = granted(&asked);
        lying.relayed = Some(address(lie));
        allocation.handle(at(20), &lying.write(None));
        assert_eq!(
            (allocation.forged(), allocation.poll_event()),
            (1, None),
            "without integrity it is no answer"
        );
        allocation.handle(at(20), &lying.write_answer(&key()));
        assert_eq!(allocation.poll_event(), Some(Event::Failed(Failure::Impossible)), "{lie}");
    }
    let mut allocation = Allocation::new(at(0), server(false), Chance::from_number(1));
    let asked = next(&mut allocation);
    allocation.handle(at(10), &refusal(&asked, 401).write(None));
    let asked = next(&mut allocation);
    let mut dead = granted(&asked);
    dead.lifetime_s = Some(0);
    allocation.handle(at(20), &dead.write_answer(&key()));
    assert_eq!(allocation.poll_event(), Some(Event::Failed(Failure::Impossible)), "a life of no seconds");
}

#[test]
fn an_allocation_that_the_server_forgot_is_told_to_be_lost() {
    let mut allocation = alive();
    allocation.handle_timeout(at(301_000));
    let refresh = std::iter::from_fn(|| allocation.poll_transmit())
        .find_map(|bytes| TurnMessage::read(&bytes))
        .expect("a refresh");
    allocation.handle(at(301_010), &refusal(&refresh, 437).write(None));
    assert!(
        matches!(allocation.poll_event(), Some(Event::Failed(Failure::Refused(refusal))) if refusal.code == 437)
    );
}

#[test]
fn a_refused_peer_is_told_and_the_others_stay() {
    let mut allocation = alive();
    let (bad, good) = (address("198.51.100.66:1"), address("198.51.100.1:1"));
    allocation.permit(at(30), [bad]);
    let asked = next(&mut allocation);
    allocation.permit(at(30), [good]);
    allocation.handle(at(40), &refusal(&asked, 403).write(None));
    assert!(matches!(allocation.poll_event(), Some(Event::PeerRefused(peer, _)) if peer == bad));
    let mut out = [0; 200];
    assert_eq!(allocation.frame(at(50), bad, b"x", &mut out), None);
    assert!(allocation.frame(at(50), good, b"x", &mut out).is_some());
}

#[test]
fn a_server_outside_is_not_asked_to_reach_inside() {
    let mut allocation = alive();
    allocation.permit(at(30), [address("192.168.1.10:4000"), address("100.64.0.7:4000")]);
    assert_eq!(allocation.poll_transmit(), None);
    assert_eq!(allocation.frame(at(31), address("192.168.1.10:4000"), b"x", &mut [0; 200]), None);
}

#[test]
fn thousands_of_peers_are_not_asked_for() {
    let mut allocation = alive();
    for peer in 0..5_000u16 {
        let [high, low] = peer.to_be_bytes();
        allocation.bind(at(30), SocketAddr::from(([198, 19, high, low], 4000)));
    }
    let mut requests = 0;
    while allocation.poll_transmit().is_some() {
        requests += 1;
    }
    assert!(requests <= MAX_PERMITTED + 16, "{requests}");
}

#[test]
fn what_is_given_back_is_given_back() {
    let mut allocation = alive();
    allocation.release(at(100));
    let asked = next(&mut allocation);
    assert_eq!((asked.method, asked.lifetime_s), (Method::Refresh, Some(0)));
    assert!(allocation.is_over() && allocation.poll_timeout().is_none() && allocation.relayed().is_none());
}

#[test]
fn over_a_stream_nothing_is_repeated() {
    let mut allocation = Allocation::new(at(0), server(true), Chance::from_number(1));
    assert!(allocation.poll_transmit().is_some());
    assert_eq!(allocation.poll_timeout(), Some(8_000_000));
    allocation.handle_timeout(at(8_000));
    assert_eq!(allocation.poll_transmit(), None);
    assert_eq!(allocation.poll_event(), Some(Event::Failed(Failure::NoAnswer)));
}
