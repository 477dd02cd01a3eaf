use super::*;
use crate::nat::stun::{Class, Message, Seal, TransactionId};

const SERVER: &str = "198.51.100.7:3478";
const OTHER: &str = "198.51.100.8:3478";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A watch, its clock, and what it has said.
struct Bench {
    watch: Watch,
    now: Now,
    asked: Vec<(u64, SocketAddr)>,
    told: Vec<Output>,
    /// Where a port that waits is seen, if there is one.
    waiting: Option<(SocketAddr, &'static str)>,
    /// When that port was asked about.
    deputed: Vec<u64>,
    /// How often the mapping of the watched socket was refreshed without a question.
    refreshed: usize,
    /// A NAT that forgets: after what time, when something went out last, and the port it gives the socket now.
    forgets: Option<(Duration, Now, u16)>,
}

impl Bench {
    fn new(servers: &[&str]) -> Bench {
        let mut bench = Bench {
            watch: Watch::new(Chance::from_number(5)),
            now: Now { mono_us: 1_000_000, utc_us: 0 },
            asked: Vec::new(),
            told: Vec::new(),
            waiting: None,
            deputed: Vec::new(),
            refreshed: 0,
            forgets: None,
        };
        let servers: Vec<SocketAddr> = servers.iter().map(|server| at(server)).collect();
        bench.watch.set_servers(bench.now, &servers);
        bench
    }

    /// Lives for a while; `answer` is what a server sees us at.
    fn run(&mut self, seconds: u64, answer: impl Fn(SocketAddr) -> Option<&'static str>) {
        let end = self.now.deadline(Duration::from_secs(seconds));
        while let Some(due) = self.watch.poll_timeout().filter(|due| *due <= end) {
            self.now.mono_us = self.now.mono_us.max(due);
            self.watch.handle_timeout(self.now);
            while let Some(output) = self.watch.poll_output() {
                let (to, octets) = match output {
                    Output::Datagram { to, octets } => (to, octets),
                    Output::Depute(server) => {
                        self.deputed.push(self.now.mono_us);
                        if let Some((_, seen)) = self.waiting.filter(|(known, _)| *known == server) {
                            self.port_is_seen(seen);
                        }
                        continue;
                    }
                    other => {
                        self.told.push(other);
                        continue;
                    }
                };
                if let Some((lifetime, last, port)) = &mut self.forgets {
                    *port += u16::from(self.now.since(last.mono_us) > *lifetime);
                    *last = self.now;
                }
                if Message::read(&octets).unwrap().class == Class::Indication {
                    self.refreshed += 1;
                    continue;
                }
                self.asked.push((self.now.mono_us, to));
                if let Some(mapped) = answer(to) {
                    let id = TransactionId::of(&octets).unwrap();
                    let mut mapped = at(mapped);
                    mapped.set_port(self.forgets.map_or(mapped.port(), |(_, _, port)| port));
                    let reply = Message::binding_answer(id, mapped).write(Seal::Plain);
                    assert!(!self.watch.handle_datagram(self.now, at("192.0.2.9:3478"), &reply));
                    assert!(self.watch.handle_datagram(self.now, to, &reply));
                }
            }
        }
        self.now.mono_us = end;
    }

    /// The server that both ask has answered the port that waits.
    fn port_is_seen(&mut self, at: &'static str) {
        let (server, before) = self.waiting.replace((self::at(SERVER), at)).unwrap_or((self::at(SERVER), at));
        self.watch.handle_witness(self.now, server, at != before);
    }

    /// A watch beside a port that waits, which has been seen for a while.
    fn beside_a_port() -> Bench {
        let mut bench = Bench::new(&[SERVER]);
        bench.run(2, |_| Some("203.0.113.1:4000"));
        bench.port_is_seen("203.0.113.1:9000");
        bench.run(60, |_| Some("203.0.113.1:4000"));
        bench
    }
}

#[test]
fn another_address_is_told_once_and_within_five_seconds() {
    let mut bench = Bench::new(&[SERVER]);
    bench.run(60, |_| Some("203.0.113.1:4000"));
    assert!(bench.told.is_empty() && bench.watch.is_answered());
    let before = bench.now.mono_us;
    bench.run(5, |_| Some("203.0.113.2:4000"));
    assert_eq!(bench.told, [Output::Changed]);
    assert!(bench.asked.iter().any(|(at, _)| *at > before));
    bench.run(60, |_| Some("203.0.113.2:4000"));
    assert_eq!(bench.told, [Output::Changed]);
    assert_eq!(bench.watch.outside(), Some((at("203.0.113.2:4000"), 1)));
}

#[test]
fn a_quiet_hour_stays_within_its_budget() {
    let mut bench = Bench::new(&[SERVER]);
    bench.run(3600, |_| Some("203.0.113.1:4000"));
    let octets = bench.asked.len() * (20 + 32 + 2 * 28);
    assert!((80_000..136_000).contains(&octets), "{octets}");
}

#[test]
fn the_next_server_is_asked_when_one_is_silent_and_its_own_port_is_no_change() {
    let mut bench = Bench::new(&[SERVER, OTHER]);
    bench.run(10, |_| Some("203.0.113.1:4000"));
    bench.run(30, |to| (to == at(OTHER)).then_some("203.0.113.1:5000"));
    assert_eq!(bench.told, [Output::Heard]);
    bench.run(30, |to| (to == at(OTHER)).then_some("203.0.113.1:5001"));
    assert_eq!(bench.told, [Output::Heard, Output::Changed]);
}

#[test]
fn silence_is_asked_into_more_and_more_rarely_and_its_end_is_told() {
    let mut bench = Bench::new(&[SERVER]);
    bench.run(10, |_| Some("203.0.113.1:4000"));
    let before = bench.asked.len();
    bench.run(3600, |_| None);
    assert!(!bench.watch.is_answered());
    assert!(bench.asked.len() - before < 700, "{}", bench.asked.len() - before);
    bench.run(65, |_| Some("203.0.113.1:4000"));
    assert_eq!(bench.told, [Output::Heard]);
}

#[test]
fn servers_are_exchanged_and_taken_away() {
    let mut bench = Bench::new(&[SERVER]);
    bench.run(10, |_| Some("203.0.113.1:4000"));
    let many: Vec<SocketAddr> = (1..100).map(|port| SocketAddr::new(at(OTHER).ip(), port)).collect();
    bench.watch.set_servers(bench.now, &many);
    assert_eq!(bench.watch.servers.len(), MOST_SERVERS);
    bench.watch.set_servers(bench.now, &[]);
    let before = bench.asked.len();
    bench.run(60, |_| None);
    assert_eq!(bench.asked.len(), before);
    assert!(!bench.watch.is_answered() && bench.watch.poll_timeout().is_none());
}

#[test]
fn a_port_that_waits_is_asked_about_in_place_of_every_third_question() {
    let mut bench = Bench::beside_a_port();
    let before = (bench.asked.len(), bench.deputed.len());
    bench.run(3600, |_| Some("203.0.113.1:4000"));
    let (own, left) = (bench.asked.len() - before.0, bench.deputed.len() - before.1);
    assert!(own.abs_diff(2 * left) <= 2, "{own} and {left}");
    let mut all: Vec<u64> = bench.asked.iter().map(|(at, _)| *at).chain(bench.deputed.clone()).collect();
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[1] - pair[0] < 5_000_000), "none is later for that");
    let keep = gathering::KEEP.as_micros() as u64;
    assert!(bench.deputed.windows(2).all(|pair| pair[1] - pair[0] < keep), "the port need not ask by itself");
    assert!(bench.told.is_empty() && bench.refreshed == 0);
}

#[test]
fn a_port_that_is_seen_elsewhere_has_the_watch_ask_at_once() {
    let mut bench = Bench::beside_a_port();
    let before = bench.now.mono_us;
    bench.port_is_seen("203.0.113.2:9000");
    bench.run(1, |_| Some("203.0.113.2:4000"));
    assert_eq!(bench.told, [Output::Changed]);
    assert_eq!(bench.asked.last(), Some(&(before, at(SERVER))));
    // The port alone: its mapping was forgotten, and nothing is lost.
    bench.port_is_seen("203.0.113.2:9001");
    bench.run(60, |_| Some("203.0.113.2:4000"));
    assert_eq!(bench.told, [Output::Changed]);
}

#[test]
fn who_is_asked_in_its_place_and_does_not_answer_is_not_waited_for() {
    let mut bench = Bench::beside_a_port();
    bench.waiting = None;
    let before = bench.deputed.len();
    bench.run(600, |_| Some("203.0.113.1:4000"));
    assert_eq!(bench.deputed.len(), before + 1, "it is not there any more");
    let tried = bench.deputed[before];
    let next = bench.asked.iter().find(|(at, _)| *at > tried).unwrap().0;
    assert!(next - tried < 1_000_000, "{} us", next - tried);
    // Another server's word is none.
    bench.watch.handle_witness(bench.now, at(OTHER), false);
    bench.run(60, |_| Some("203.0.113.1:4000"));
    assert_eq!(bench.deputed.len(), before + 1);
}

#[test]
fn a_mapping_that_is_forgotten_between_two_questions_is_kept_open_from_then_on() {
    let mut bench = Bench::beside_a_port();
    bench.forgets = Some((Duration::from_secs(7), bench.now, 4000));
    bench.run(600, |_| Some("203.0.113.1:4000"));
    assert_eq!(bench.told, [Output::Changed], "once is how it is noticed");
    assert!(bench.refreshed >= bench.deputed.len() - 6, "{} of {}", bench.refreshed, bench.deputed.len());
}
