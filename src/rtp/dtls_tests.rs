//! Two associations over a link that loses, disorders and doubles, in virtual time.

use super::*;
use crate::chance::Chance;
use crate::rtp::srtp::{Key, Protector, Unprotector};

const CLIENT: &str = "192.0.2.10:10000";
const SERVER: &str = "203.0.113.10:20000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn of(identity: &Identity) -> Vec<Fingerprint> {
    vec![Fingerprint::Sha256(identity.fingerprint())]
}

struct Pair {
    now: Now,
    sides: [Association; 2],
    events: [Vec<Event>; 2],
    chance: Chance,
    loss: f64,
    jitter_us: u32,
    flights: Vec<(u64, usize, Vec<u8>)>,
    sent: usize,
}

impl Pair {
    fn new(client: &Identity, server: &Identity, told: [Vec<Fingerprint>; 2]) -> Pair {
        let now = Now { mono_us: 5_000_000, utc_us: 0 };
        let [of_server, of_client] = told;
        let mut first = Association::new(now, client, Role::Client, of_server);
        first.set_destination(now, Some(at(SERVER)));
        let second = Association::new(now, server, Role::Server, of_client);
        Pair {
            now,
            sides: [first, second],
            events: [Vec::new(), Vec::new()],
            chance: Chance::from_number(1),
            loss: 0.0,
            jitter_us: 0,
            flights: Vec::new(),
            sent: 0,
        }
    }

    fn honest() -> Pair {
        let (client, server) = (Identity::of_a_test(), Identity::of_a_test());
        Pair::new(&client, &server, [of(&server), of(&client)])
    }

    fn drain(&mut self) {
        for side in 0..2 {
            while let Some((to, datagram)) = self.sides[side].poll_transmit() {
                assert_eq!(to, at([SERVER, CLIENT][side]));
                self.sent += 1;
                if !self.chance.happens(self.loss) {
                    let jitter = u64::from(self.chance.below(self.jitter_us + 1));
                    self.flights.push((self.now.mono_us + 20_000 + jitter, 1 - side, datagram));
                }
            }
            self.events[side].extend(self.sides[side].poll_event());
        }
    }

    /// Runs until nothing is due, or for so long.
    fn run(&mut self, ms: u64) {
        let until = self.now.mono_us + ms * 1000;
        loop {
            self.drain();
            let arrival = self.flights.iter().map(|flight| flight.0).min();
            let timer = earliest(self.sides[0].poll_timeout(), self.sides[1].poll_timeout());
            let Some(next) = earliest(arrival, timer).filter(|next| *next <= until) else { break };
            self.now.mono_us = next.max(self.now.mono_us);
            for side in &mut self.sides {
                side.handle_timeout(self.now);
            }
            while let Some(due) = self.flights.iter().position(|flight| flight.0 <= self.now.mono_us) {
                let (_, to, datagram) = self.flights.swap_remove(due);
                self.sides[to].handle(self.now, at([CLIENT, SERVER][1 - to]), true, &datagram);
                self.drain();
            }
        }
        self.now.mono_us = until;
    }

    /// The last keys of a side.
    fn keys(&self, side: usize) -> Option<&KeyPair> {
        match self.events[side].as_slice() {
            [.., Event::Ready { keys, from }] => {
                assert_eq!(*from, at([SERVER, CLIENT][side]));
                Some(keys)
            }
            _ => None,
        }
    }

    fn assert_ready(&self, what: &str) {
        let (Some(ours), Some(theirs)) = (self.keys(0), self.keys(1)) else {
            panic!("{what}: {:?}", self.events)
        };
        assert!(ours.ours == theirs.theirs && ours.theirs == theirs.ours && ours.ours != ours.theirs);
    }
}

#[test]
fn two_sides_get_the_same_keys_that_protect_a_packet() {
    let mut pair = Pair::honest();
    pair.run(200);
    pair.assert_ready("a clean link");
    let (ours, theirs) = (pair.keys(0).unwrap(), pair.keys(1).unwrap());
    assert_eq!(ours.ours.profile(), Profile::AeadAes128Gcm);
    let mut packet = [0_u8; 200];
    packet[..12].copy_from_slice(&[0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
    let mut protector = Protector::new(ours.ours.clone()).unwrap();
    let length = protector.protect(&mut packet, 172).unwrap();
    let mut unprotector = Unprotector::new(theirs.theirs.clone()).unwrap();
    assert_eq!(unprotector.unprotect(&mut packet[..length]), Ok((172, Key::Present)));
    assert_eq!((pair.sides[0].poll_timeout(), pair.sides[1].poll_timeout()), (None, None));
    assert!(pair.sent <= 10, "{} datagrams", pair.sent);
}

#[test]
fn a_bad_link_only_takes_longer() {
    for seed in 0..60 {
        let mut pair = Pair::honest();
        pair.chance = Chance::from_number(seed);
        (pair.loss, pair.jitter_us) = (0.25, 60_000);
        pair.run(29_000);
        pair.assert_ready(&format!("seed {seed}"));
    }
}

#[test]
fn datagrams_that_come_twice_change_nothing() {
    let mut pair = Pair::honest();
    for _ in 0..400 {
        pair.drain();
        let copies = pair.flights.clone();
        pair.flights.extend(copies.into_iter().map(|(at, to, bytes)| (at + 3_000, to, bytes)));
        pair.run(5);
        if pair.flights.is_empty() && pair.keys(0).is_some() && pair.keys(1).is_some() {
            break;
        }
        pair.flights.truncate(64);
    }
    pair.assert_ready("twice");
    assert!(pair.sent < 60, "{} datagrams", pair.sent);
}

#[test]
fn another_certificate_than_promised_gets_no_keys() {
    let (client, server, other) = (Identity::of_a_test(), Identity::of_a_test(), Identity::of_a_test());
    // Who is wrong, and who notices.
    let wrong_server = Pair::new(&client, &server, [of(&other), of(&client)]);
    let wrong_client = Pair::new(&client, &server, [of(&server), of(&other)]);
    for (mut pair, notices) in [(wrong_server, 0), (wrong_client, 1)] {
        pair.run(60_000);
        assert_eq!(pair.keys(notices), None);
        assert_eq!(pair.events[notices], [Event::Failed(Failure::Fingerprint)], "side {notices}");
    }
}

#[test]
fn any_of_several_fingerprints_is_good() {
    let (client, server) = (Identity::of_a_test(), Identity::of_a_test());
    let shown = server.certificate.certificate[0].as_ref();
    let told = vec![
        Fingerprint::Sha256([7; 32]),
        Fingerprint::Sha384([7; 48]),
        Fingerprint::Sha512(Sha512::digest(shown).into()),
    ];
    let mut pair = Pair::new(&client, &server, [told, of(&client)]);
    pair.run(1_000);
    pair.assert_ready("the third one fits");
}

#[test]
fn who_gets_no_answer_says_so_in_the_end() {
    let mut pair = Pair::honest();
    pair.loss = 1.0;
    pair.run(60_000);
    for events in &pair.events {
        assert_eq!(*events, [Event::Failed(Failure::NoAnswer)]);
    }
    assert!((10..40).contains(&pair.sent), "{} datagrams", pair.sent);
}

#[test]
fn a_client_waits_until_it_knows_where() {
    let mut pair = Pair::honest();
    pair.sides[0] = {
        let identity = Identity::of_a_test();
        Association::new(pair.now, &identity, Role::Client, vec![Fingerprint::Sha256([0; 32])])
    };
    pair.run(1_000);
    assert_eq!(pair.sent, 0);
    pair.sides[0].set_destination(pair.now, Some(at(SERVER)));
    pair.drain();
    assert_eq!(pair.sent, 1);
}

#[test]
fn a_handshake_goes_on_where_the_peer_has_moved_to() {
    let mut pair = Pair::honest();
    pair.drain();
    pair.flights.clear();
    let elsewhere = at("203.0.113.77:5");
    pair.sides[0].set_destination(pair.now, Some(elsewhere));
    pair.now.mono_us += FIRST_WAIT_US;
    pair.sides[0].handle_timeout(pair.now);
    assert_eq!(pair.sides[0].poll_transmit().map(|(to, _)| to), Some(elsewhere));
}

/// The first ClientHello of a fresh client.
fn hello() -> Vec<u8> {
    let identity = Identity::of_a_test();
    let now = Now { mono_us: 1, utc_us: 0 };
    let mut client = Association::new(now, &identity, Role::Client, vec![Fingerprint::Sha256([0; 32])]);
    client.set_destination(now, Some(at(SERVER)));
    client.poll_transmit().unwrap().1
}

#[test]
fn a_flood_of_hellos_does_not_keep_the_peer_out() {
    let mut pair = Pair::honest();
    let hello = hello();
    for n in 0..5_000_u32 {
        let from = SocketAddr::from(([198, 51, 100, (n % 250) as u8], 1000 + (n % 60_000) as u16));
        pair.sides[1].handle(pair.now, from, false, &hello);
        let mut answers = 0;
        while pair.sides[1].poll_transmit().is_some() {
            answers += 1;
        }
        assert!(answers <= 1, "no amplifier");
        assert!(pair.sides[1].attempts.len() <= MAX_STRANGERS);
    }
    assert!(pair.sides[1].refused() > 4_900);
    pair.sides[1].attempts.iter_mut().for_each(|stranger| stranger.resend_us = None);
    pair.run(1_000);
    pair.assert_ready("beside a flood");
}

#[test]
fn hostile_bytes_grow_nothing_and_end_nothing() {
    let mut pair = Pair::honest();
    let mut chance = Chance::from_number(9);
    let hello = hello();
    for round in 0..3_000_u32 {
        let mut junk = hello.clone();
        for _ in 0..1 + chance.below(6) {
            let place = chance.below(junk.len() as u32) as usize;
            junk[place] = chance.next_u32() as u8;
        }
        junk.truncate(1 + chance.below(junk.len() as u32) as usize);
        pair.sides[1].handle(pair.now, at("198.51.100.9:9"), round % 2 == 0, &junk);
        while pair.sides[1].poll_transmit().is_some() {}
        // Alerts that somebody on the way has made up.
        let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, round as u8, 0, 2, 2, 40];
        pair.sides[0].handle(pair.now, at(SERVER), true, &alert);
    }
    assert!(pair.sides[1].attempts.len() <= MAX_ATTEMPTS);
    pair.run(1_000);
    pair.assert_ready("after all that");
    // And when the keys are there, nobody without the certificate brings others.
    for _ in 0..1_000 {
        pair.sides[1].handle(pair.now, at(CLIENT), true, &hello);
        pair.sides[0].handle(pair.now, at(SERVER), true, &hello);
    }
    pair.drain();
    assert!(pair.flights.len() <= 8);
    pair.run(30_000);
    assert_eq!((pair.events[0].len(), pair.events[1].len()), (1, 1));
    assert_eq!((pair.sides[0].poll_timeout(), pair.sides[1].poll_timeout()), (None, None));
}

#[test]
fn a_peer_that_has_lost_the_association_gets_other_keys() {
    let mut pair = Pair::honest();
    pair.run(200);
    let before = pair.keys(0).unwrap().clone();
    pair.sides[0].renew(pair.now);
    pair.run(1_000);
    pair.assert_ready("renewed");
    assert!(pair.keys(0).unwrap().ours != before.ours);
    assert_eq!((pair.events[0].len(), pair.events[1].len()), (2, 2));
    // A server leaves that to the client.
    pair.sides[1].renew(pair.now);
    pair.run(1_000);
    assert_eq!(pair.events[1].len(), 2);
    // Nobody answers: what there is stays.
    pair.loss = 1.0;
    pair.sides[0].renew(pair.now);
    pair.run(60_000);
    assert_eq!((pair.events[0].len(), pair.sides[0].poll_timeout()), (2, None));
}
