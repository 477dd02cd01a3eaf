use super::*;
use crate::nat::stun::{Message, Seal, TransactionId};

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
}

impl Bench {
    fn new(servers: &[&str]) -> Bench {
        let mut bench = Bench {
            watch: Watch::new(Chance::from_number(5)),
            now: Now { mono_us: 1_000_000, utc_us: 0 },
            asked: Vec::new(),
            told: Vec::new(),
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
                let Output::Datagram { to, octets } = output else {
                    self.told.push(output);
                    continue;
                };
                self.asked.push((self.now.mono_us, to));
                if let Some(mapped) = answer(to) {
                    let id = TransactionId::of(&octets).unwrap();
                    let reply = Message::binding_answer(id, at(mapped)).write(Seal::Plain);
                    assert!(!self.watch.handle_datagram(self.now, at("192.0.2.9:3478"), &reply));
                    assert!(self.watch.handle_datagram(self.now, to, &reply));
                }
            }
        }
        self.now.mono_us = end;
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
    assert!((80_000..140_000).contains(&octets), "{octets}");
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
