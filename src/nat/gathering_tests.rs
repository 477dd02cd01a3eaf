//! Gathering from servers that the test plays.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::candidate::Kind;
use crate::nat::gathering::{Found, Gathering, Sources};
use crate::nat::relay::Target;
use crate::nat::stun::{Class, Message, Refusal, Seal, TransactionId};
use crate::nat::turn::Failure;
use crate::nat::turn_message::{Key, Method, TurnMessage};
use crate::nat::turn_server::{Carriage, Server};
use crate::now::Now;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn at(ms: u64) -> Now {
    Now::default().plus(Duration::from_millis(ms))
}

fn server(at: &str) -> Server {
    Server {
        address: address(at),
        username: "user".into(),
        password: "secret".into(),
        carriage: Carriage::Udp,
    }
}

fn sources() -> Sources {
    Sources {
        own: vec!["10.0.0.2".parse().unwrap()],
        port: 4_000,
        stun: vec![address("192.0.2.1:3478"), address("192.0.2.2:3478")],
        turn: vec![server("192.0.2.8:3478"), server("192.0.2.9:3478")],
    }
}

/// Answers everything; `mapped` is whence each STUN server sees us, a TURN server on .8 refuses.
fn serve(gathering: &mut Gathering, now: Now, mapped: &dyn Fn(SocketAddr) -> SocketAddr) -> usize {
    let mut sent = 0;
    while let Some((Target { to, .. }, bytes)) = gathering.poll_transmit() {
        sent += 1;
        let from = mapped(to);
        if let Ok(asked) = Message::read(&bytes) {
            if asked.class == Class::Request {
                let answer = Message::binding_answer(asked.id, from).write(Seal::Plain);
                assert!(gathering.handle_datagram(now, to, &answer, |_, _| panic!("no packet")));
            }
            continue;
        }
        let asked = TurnMessage::read(&bytes).expect("STUN or TURN");
        let key = Key::long_term("user", "realm", "secret").unwrap();
        let mut answer = TurnMessage::new(Class::Success, asked.method, asked.id);
        if asked.nonce.is_none() {
            answer.class = Class::Error;
            answer.refusal = Some(Refusal { code: 401, reason: String::new() });
            (answer.realm, answer.nonce) = (Some("realm".into()), Some("nonce".into()));
        } else if to.ip() == address("192.0.2.8:0").ip() {
            answer.class = Class::Error;
            answer.refusal = Some(Refusal { code: 508, reason: "full".into() });
        } else if asked.method == Method::Allocate {
            answer.relayed = Some(address("192.0.2.9:50000"));
            answer.mapped = Some(from);
        }
        answer.lifetime_s = Some(600);
        gathering.handle_datagram(now, to, &answer.write_answer(&key), |_, _| panic!("no packet"));
    }
    sent
}

fn gathered(sources: Sources, mapped: &dyn Fn(SocketAddr) -> SocketAddr) -> (Gathering, Found) {
    let mut gathering = Gathering::new(at(0), sources, Chance::from_number(1));
    serve(&mut gathering, at(10), mapped);
    let found = gathering.poll_found().expect("something was found").clone();
    (gathering, found)
}

#[test]
fn host_reflexive_and_relayed_are_found_at_once_and_the_second_server_helps_the_first() {
    let outside = address("203.0.113.5:41000");
    let (_, found) = gathered(sources(), &|_| outside);
    let kinds: Vec<(Kind, SocketAddr)> = found.candidates.iter().map(|one| (one.kind, one.address)).collect();
    assert_eq!(
        kinds,
        [
            (Kind::Host, address("10.0.0.2:4000")),
            (Kind::ServerReflexive, outside),
            (Kind::Relayed, address("192.0.2.9:50000"))
        ]
    );
    assert_eq!(found.candidates[1].related, Some(address("10.0.0.2:4000")));
    assert!(found.complete && !found.symmetric && found.no_relay.is_none());
    assert_eq!(found.mapped, Some(outside));
    let foundations: std::collections::BTreeSet<_> =
        found.candidates.iter().map(|one| &one.foundation).collect();
    assert_eq!(foundations.len(), 3);
}

#[test]
fn a_symmetric_nat_is_noticed_and_no_nat_adds_nothing() {
    let (_, found) = gathered(sources(), &|to| {
        SocketAddr::from(([203, 0, 113, 5], 41_000 + u16::from(to.ip() == address("192.0.2.2:1").ip())))
    });
    assert!(found.symmetric && !found.steady);
    assert_eq!(found.candidates.len(), 4);
    let outside = |_| address("203.0.113.5:41000");
    assert!(gathered(sources(), &outside).1.steady);
    for stun in [&["192.0.2.1:3478", "192.0.2.1:3479"][..], &["192.0.2.1:3478"]] {
        let stun = stun.iter().map(|server| address(server)).collect();
        let (_, found) = gathered(Sources { stun, ..sources() }, &outside);
        assert!(!found.steady && !found.symmetric, "one server alone says nothing of others");
    }
    let (_, found) = gathered(sources(), &|_| address("10.0.0.2:4000"));
    assert_eq!(found.candidates.len(), 2, "what the server sees is the host itself");
}

/// Who gathers from the same again has to see that it is the same.
#[test]
fn more_servers_than_are_asked_are_no_other_sources() {
    let stun: Vec<SocketAddr> = (1..=4).map(|last| SocketAddr::from(([192, 0, 2, last], 3_478))).collect();
    let turn = vec![server("192.0.2.9:3478"), server("[2001:db8::9]:3478")];
    let wanted = Sources { stun, turn, ..sources() };
    let (gathering, found) = gathered(wanted.clone(), &|_| address("203.0.113.5:41000"));
    assert_eq!(gathering.sources(), &wanted);
    assert!(found.complete);
}

#[test]
fn what_waits_is_kept_at_small_cost_and_a_move_is_told() {
    let (mut gathering, _) = gathered(sources(), &|_| address("203.0.113.5:41000"));
    let mut sent = 0;
    let mut now = at(10);
    let mut mapped = "203.0.113.5:41000";
    let mut told = 0;
    while now.mono_us < 3_600_000_000 {
        now = Now { mono_us: gathering.poll_timeout().unwrap().max(now.mono_us), ..now };
        gathering.handle_timeout(now);
        if now.mono_us > 1_800_000_000 {
            mapped = "203.0.113.99:5";
        }
        sent += serve(&mut gathering, now, &|_| address(mapped));
        told += u32::from(gathering.poll_found().is_some());
    }
    assert!((480..=800).contains(&sent), "{sent} an hour");
    assert!((1..=2).contains(&told), "{told}: the move only");
}

#[test]
fn a_server_that_is_asked_before_its_time_is_not_asked_again_so_soon() {
    let outside = |_| address("203.0.113.5:41000");
    let (mut gathering, _) = gathered(Sources { turn: Vec::new(), ..sources() }, &outside);
    let [first, second] = ["192.0.2.1:3478", "192.0.2.2:3478"].map(address);
    let told = |gathering: &mut Gathering| std::iter::from_fn(|| gathering.poll_answer()).collect::<Vec<_>>();
    assert_eq!(told(&mut gathering), [(first, false), (second, false)]);
    gathering.ask(at(9_000), second);
    // Who is being asked is not asked twice.
    gathering.ask(at(9_001), second);
    gathering.ask(at(9_001), address("192.0.2.3:3478"));
    assert_eq!(serve(&mut gathering, at(9_010), &|_| address("203.0.113.5:41001")), 1);
    assert_eq!(told(&mut gathering), [(second, true)]);
    gathering.handle_timeout(at(16_000));
    assert_eq!(serve(&mut gathering, at(16_010), &outside), 1, "the first, whose time it is");
    assert_eq!(told(&mut gathering), [(first, false)]);
}

/// The second server is a witness: it is asked when the first says something new or nothing, and else every ten minutes.
#[test]
fn the_second_server_is_asked_when_the_first_has_news_or_none() {
    let [first, second] = ["192.0.2.1:3478", "192.0.2.2:3478"].map(address);
    // Every server sees us from elsewhere, and the mapping to one that was not asked for a minute is forgotten.
    let (now, outside) = (Cell::new(at(0)), Cell::new(0u16));
    let lapses = [Cell::new((0, 0u16)), Cell::new((0, 0u16))];
    let mapped = |server: SocketAddr| {
        let (last, count) = lapses[usize::from(server == second)].get();
        let us = now.get().mono_us;
        let count = count + u16::from(us - last > 60_000_000);
        lapses[usize::from(server == second)].set((us, count));
        let port = if server == first { 41_000 } else { 51_000 };
        address(&format!("203.0.113.{}:{}", 5 + outside.get(), port + count))
    };
    let mut gathering =
        Gathering::new(now.get(), Sources { turn: Vec::new(), ..sources() }, Chance::from_number(1));
    let mut asked = Vec::new();
    let mut live_until = |until_s: u64, silent: Option<SocketAddr>| {
        asked.clear();
        loop {
            while let Some((Target { to, .. }, bytes)) = gathering.poll_transmit() {
                asked.push((now.get().mono_us / 1_000_000, to));
                if silent != Some(to) {
                    let id = Message::read(&bytes).unwrap().id;
                    let answer = Message::binding_answer(id, mapped(to)).write(Seal::Plain);
                    assert!(gathering.handle_datagram(now.get(), to, &answer, |_, _| panic!("no packet")));
                }
            }
            let due = gathering.poll_timeout().unwrap().max(now.get().mono_us);
            if due > until_s * 1_000_000 {
                let at_second = asked.iter().filter(|(_, to)| *to == second).map(|(at, _)| *at);
                let found = gathering.poll_found().cloned();
                return (asked.len(), at_second.collect::<Vec<_>>(), found);
            }
            now.set(Now { mono_us: due, ..now.get() });
            gathering.handle_timeout(now.get());
        }
    };
    let (sent, seconds, found) = live_until(1_220, None);
    assert_eq!((sent, seconds), (82 + 4, vec![0, 15, 615, 1_215]));
    assert!(found.is_some_and(|found| found.symmetric && found.complete));
    // Its forgotten mapping did not make the first one be asked more often; a move that the first has seen is looked at by both.
    outside.set(1);
    let (_, seconds, found) = live_until(1_229, None);
    assert_eq!(seconds, Vec::<u64>::new());
    assert_eq!(found, None);
    let (_, seconds, found) = live_until(1_244, None);
    assert_eq!((seconds, found.unwrap().mapped.unwrap()), (vec![1_230], address("203.0.113.6:41000")));
    // While the first is silent the second is asked in its place.
    let (_, seconds, _) = live_until(1_310, Some(first));
    assert!(seconds.len() >= 4 && seconds[0] <= 1_248, "{seconds:?}");
    live_until(1_400, None);
    assert_eq!(live_until(1_900, None).1, Vec::<u64>::new());
}

#[test]
fn the_second_server_is_asked_when_the_first_refuses() {
    let (mut gathering, _) =
        gathered(Sources { turn: Vec::new(), ..sources() }, &|_| address("203.0.113.5:41000"));
    let [first, second] = ["192.0.2.1:3478", "192.0.2.2:3478"].map(address);
    gathering.handle_timeout(at(15_000));
    assert_eq!(serve(&mut gathering, at(15_010), &|_| address("203.0.113.5:41000")), 2);
    gathering.handle_timeout(at(30_000));
    let (Target { to, .. }, bytes) = gathering.poll_transmit().unwrap();
    assert_eq!((to, gathering.poll_transmit()), (first, None), "the second rests");
    let mut refusal = Message::binding_answer(Message::read(&bytes).unwrap().id, second);
    refusal.class = Class::Error;
    refusal.mapped = None;
    refusal.refusal = Some(Refusal { code: 500, reason: "full".into() });
    let refusal = refusal.write(Seal::Plain);
    assert!(gathering.handle_datagram(at(30_010), first, &refusal, |_, _| panic!("no packet")));
    assert_eq!(gathering.poll_transmit().map(|(target, _)| target.to), Some(second));
}

#[test]
fn servers_that_are_silent_leave_what_there_is_and_are_tried_again() {
    let mut gathering = Gathering::new(at(0), sources(), Chance::from_number(1));
    let mut now = at(0);
    let mut sent = 0;
    let mut last = None;
    while now.mono_us < 600_000_000 {
        while gathering.poll_transmit().is_some() {
            sent += 1;
        }
        if let Some(found) = gathering.poll_found() {
            last = Some(found.clone());
        }
        now = Now { mono_us: gathering.poll_timeout().unwrap().max(now.mono_us), ..now };
        gathering.handle_timeout(now);
    }
    let found = last.unwrap();
    assert_eq!((found.candidates.len(), found.mapped, found.no_relay), (1, None, Some(Failure::NoAnswer)));
    assert!(sent < 10 * 60 * 2, "{sent} in ten minutes");
}

#[test]
fn lies_about_where_we_are_make_no_candidates() {
    for lie in ["127.0.0.1:4000", "224.0.0.1:4000", "[2001:db8::1]:9", "0.0.0.0:1"] {
        let (_, found) = gathered(Sources { turn: Vec::new(), ..sources() }, &|_| address(lie));
        assert_eq!(found.candidates.len(), 1, "{lie}");
    }
    let mut gathering = Gathering::new(at(0), sources(), Chance::from_number(1));
    let (Target { to, .. }, _) = gathering.poll_transmit().unwrap();
    let stranger =
        Message::binding_answer(TransactionId([9; 12]), address("203.0.113.66:1")).write(Seal::Plain);
    assert!(!gathering.handle_datagram(at(1), to, &stranger, |_, _| ()));
}

#[test]
fn what_is_released_is_silent() {
    let (mut gathering, _) = gathered(sources(), &|_| address("203.0.113.5:41000"));
    gathering.release(at(100));
    let (_, last) = gathering.poll_transmit().expect("the allocation is given back");
    assert_eq!(TurnMessage::read(&last).unwrap().lifetime_s, Some(0));
    assert_eq!((gathering.poll_transmit(), gathering.poll_timeout()), (None, None));
}

/// A NAT that forgets after 8 s: it is noticed once, and from then on kept open; the TURN server is asked whether it still
/// knows us. Hours later, in another network, it costs what it did.
#[test]
fn a_nat_that_forgets_soon_is_kept_open_more_often() {
    let (last, lapses, lifetime) = (Cell::new(0), Cell::new(0u16), Cell::new(8_000_000));
    let now = Cell::new(at(10));
    let mapped = |_| {
        let now_us = now.get().mono_us;
        lapses.set(lapses.get() + u16::from(now_us - last.replace(now_us) > lifetime.get()));
        address(&format!("203.0.113.5:{}", 41_000 + lapses.get()))
    };
    let (mut gathering, _) = gathered(sources(), &mapped);
    let mut live_until = |until_s: u64| {
        let mut sent = 0;
        while now.get().mono_us < until_s * 1_000_000 {
            now.set(Now { mono_us: gathering.poll_timeout().unwrap().max(now.get().mono_us), ..now.get() });
            gathering.handle_timeout(now.get());
            sent += serve(&mut gathering, now.get(), &mapped);
        }
        sent
    };
    live_until(600);
    assert_eq!(lapses.get(), 1, "one is how it is noticed");
    let often = live_until(1_200);
    lifetime.set(60_000_000);
    live_until(12_000);
    let seldom = live_until(12_600);
    assert!(seldom * 3 < often * 2, "{often} packets, and {seldom} later");
    assert_eq!(lapses.get(), 1);
}
