use super::*;
use crate::nat::stun::{Message, Seal, TransactionId, is_stun};

const PEER: &str = "198.51.100.1:5060";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn flow(carriage: Carriage) -> Flow {
    Flow { carriage, peer: at(PEER), number: 0, seen: Some(at("203.0.113.1:4000")), longest: None }
}

/// What a registrar answers.
#[derive(Clone, Copy, Default)]
struct Registrar {
    stun: bool,
    pong: bool,
    asked: bool,
    seen: Option<&'static str>,
}

/// A machine, its clock, what it sent and what it told.
struct Bench {
    keeper: KeepAlive,
    now: Now,
    begun: u64,
    sent: Vec<(u64, &'static str)>,
    told: Vec<(u64, Output)>,
}

impl Bench {
    fn new() -> Bench {
        let now = Now { mono_us: 1_000_000, utc_us: 0 };
        Bench {
            keeper: KeepAlive::new(Chance::from_number(4)),
            now,
            begun: now.mono_us,
            sent: Vec::new(),
            told: Vec::new(),
        }
    }

    fn up(carriage: Carriage) -> Bench {
        let mut bench = Bench::new();
        bench.keeper.handle_up(bench.now, flow(carriage), None);
        bench
    }

    fn run(&mut self, seconds: f64, registrar: Registrar) {
        let end = self.now.deadline(Duration::from_secs_f64(seconds));
        loop {
            while let Some(output) = self.keeper.poll_output() {
                self.perform(output, registrar);
            }
            let Some(due) = self.keeper.poll_timeout().filter(|due| *due <= end) else { break };
            self.now.mono_us = self.now.mono_us.max(due);
            self.keeper.handle_timeout(self.now);
        }
        self.now.mono_us = end;
    }

    fn perform(&mut self, output: Output, registrar: Registrar) {
        let millis = (self.now.mono_us - self.begun) / 1000;
        let seen = registrar.seen.unwrap_or("203.0.113.1:4000");
        match output {
            Output::Datagram(octets) if is_stun(&octets) => {
                self.sent.push((millis, "stun"));
                if registrar.stun {
                    let id = TransactionId::of(&octets).unwrap();
                    let answer = Message::binding_answer(id, at(seen)).write(Seal::Plain);
                    assert!(self.keeper.handle_datagram(self.now, at(PEER), &answer));
                }
            }
            Output::Datagram(octets) => {
                assert_eq!(octets, REFRESH);
                self.sent.push((millis, "refresh"));
            }
            Output::Ping => {
                self.sent.push((millis, "ping"));
                if registrar.pong {
                    self.keeper.handle_pong(self.now);
                }
            }
            Output::Ask { again } => {
                self.sent.push((millis, if again { "again" } else { "ask" }));
                if registrar.asked {
                    self.keeper.handle_answer(self.now, Some(at(seen)), 950);
                }
            }
            told => self.told.push((millis, told)),
        }
    }

    fn count(&self, what: &str) -> usize {
        self.sent.iter().filter(|(_, sent)| *sent == what).count()
    }

    fn last_told(&self) -> Option<&Output> {
        self.told.last().map(|(_, told)| told)
    }
}

const STUN: Registrar = Registrar { stun: true, pong: false, asked: true, seen: None };
const PONG: Registrar = Registrar { stun: false, pong: true, asked: true, seen: None };
const ASKED: Registrar = Registrar { stun: false, pong: false, asked: true, seen: None };
const DEAD: Registrar = Registrar { stun: false, pong: false, asked: false, seen: None };

#[test]
fn what_the_registrar_answers_is_found_out_once() {
    for (carriage, registrar, way) in [
        (Carriage::Datagrams, STUN, Way::Stun),
        (Carriage::Datagrams, ASKED, Way::Ask),
        (Carriage::Stream, PONG, Way::Ping),
        (Carriage::Stream, ASKED, Way::Ask),
    ] {
        let mut bench = Bench::up(carriage);
        bench.run(600.0, registrar);
        assert_eq!(bench.keeper.way(), Some(way));
        assert!(bench.told.is_empty(), "{:?}", bench.told);
        if way == Way::Ask {
            assert!(bench.count("stun") <= 2 && bench.count("ping") <= 1, "{:?}", bench.sent);
        } else {
            assert_eq!(bench.count("ask"), 0);
        }
        assert_eq!(
            bench.count("ping") > 0,
            carriage == Carriage::Stream,
            "no line end is sent as a datagram"
        );
        // Known from before, it is not tried again.
        let mut again = Bench::new();
        again.keeper.handle_up(again.now, flow(carriage), Some(way));
        again.run(60.0, registrar);
        let name = match way {
            Way::Stun => "stun",
            Way::Ping => "ping",
            Way::Ask => "ask",
        };
        assert!(again.sent.iter().all(|(_, sent)| *sent == name || *sent == "refresh"), "{:?}", again.sent);
    }
}

#[test]
fn an_hour_stays_within_the_budget_and_no_mapping_of_twenty_seconds_dies() {
    for (registrar, octets_of, most) in [(STUN, 20 + 32, 200_000), (ASKED, 950, 385_000)] {
        let mut bench = Bench::up(Carriage::Datagrams);
        bench.run(3600.0, registrar);
        let questions = bench.count("stun") + bench.count("ask");
        let octets = questions * (octets_of + 2 * 28) + bench.count("refresh") * (4 + 28);
        assert!(octets < most, "{octets}");
        let gaps = bench.sent.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(gaps.max().unwrap() <= 6_000);
    }
}

#[test]
fn another_address_is_told_at_the_next_answer() {
    for (carriage, registrar, within) in
        [(Carriage::Datagrams, STUN, 4_000), (Carriage::Datagrams, ASKED, 10_600)]
    {
        let mut bench = Bench::up(carriage);
        bench.run(100.0, registrar);
        bench.run(30.0, Registrar { seen: Some("203.0.113.9:4100"), ..registrar });
        let [(millis, Output::Moved(seen))] = bench.told.as_slice() else { panic!("{:?}", bench.told) };
        assert_eq!(*seen, at("203.0.113.9:4100"));
        assert!(*millis <= 100_000 + within, "{millis}");
    }
}

#[test]
fn a_registration_settles_what_the_registrar_sees() {
    let mut bench = Bench::up(Carriage::Datagrams);
    bench.run(60.0, ASKED);
    let moved = Flow { seen: Some(at("203.0.113.9:4100")), ..flow(Carriage::Datagrams) };
    bench.keeper.handle_up(bench.now, moved, Some(Way::Ask));
    bench.run(60.0, Registrar { seen: Some("203.0.113.9:4100"), ..ASKED });
    assert!(bench.told.is_empty(), "{:?}", bench.told);
}

#[test]
fn a_flow_without_answers_is_dead_within_four_seconds_of_the_question() {
    for (carriage, registrar, questions, within) in [
        (Carriage::Datagrams, STUN, vec!["stun"; 3], 7_600),
        (Carriage::Datagrams, ASKED, vec!["ask", "again", "again"], 14_100),
        (Carriage::Stream, PONG, vec!["ping"], 12_200),
        (Carriage::Stream, ASKED, vec!["ask"], 14_100),
    ] {
        let mut bench = Bench::up(carriage);
        bench.run(200.0, registrar);
        bench.sent.clear();
        bench.run(30.0, DEAD);
        let sent: Vec<&str> =
            bench.sent.iter().map(|(_, sent)| *sent).filter(|sent| *sent != "refresh").collect();
        assert_eq!(sent, questions);
        let [(millis, Output::Dead)] = bench.told.as_slice() else { panic!("{:?}", bench.told) };
        assert!(*millis <= 200_000 + within, "{millis}");
        assert_eq!(bench.keeper.way(), None, "the next registration finds out anew");
    }
}

#[test]
fn a_lost_answer_is_no_death() {
    let mut bench = Bench::up(Carriage::Datagrams);
    bench.run(60.0, ASKED);
    bench.keeper.doubt(bench.now);
    bench.run(0.2, DEAD);
    bench.run(0.5, ASKED);
    assert_eq!(bench.sent.iter().rev().take(2).map(|(_, sent)| *sent).collect::<Vec<_>>(), ["again", "ask"]);
    bench.run(60.0, ASKED);
    assert!(bench.told.is_empty(), "{:?}", bench.told);
}

#[test]
fn the_registrars_own_wish_is_kept() {
    let mut bench = Bench::new();
    let wished = Flow { longest: Some(Duration::from_secs(6)), ..flow(Carriage::Stream) };
    bench.keeper.handle_up(bench.now, wished, Some(Way::Ping));
    bench.run(600.0, PONG);
    let gaps: Vec<u64> = bench.sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.iter().all(|gap| (4_800..=6_000).contains(gap)), "{gaps:?}");
}

#[test]
fn a_watched_flow_is_asked_rarely_and_its_mapping_still_refreshed() {
    let mut bench = Bench::up(Carriage::Datagrams);
    bench.keeper.set_watched(bench.now, true);
    bench.run(3600.0, ASKED);
    assert!(bench.count("ask") <= 32, "{}", bench.count("ask"));
    assert!((500..570).contains(&bench.count("refresh")));
    bench.sent.clear();
    bench.keeper.set_watched(bench.now, false);
    bench.run(11.0, ASKED);
    assert_eq!(bench.count("ask"), 1);
}

#[test]
fn a_registration_that_is_renewed_on_the_flow_puts_the_next_question_off() {
    let mut bench = Bench::up(Carriage::Datagrams);
    bench.run(60.0, ASKED);
    bench.sent.clear();
    for _ in 0..20 {
        bench.run(8.0, ASKED);
        bench.keeper.handle_up(bench.now, flow(Carriage::Datagrams), None);
    }
    assert!(bench.count("ask") <= 1, "one may have been due before the first of them");
    bench.run(25.0, ASKED);
    assert!(bench.count("ask") > 1);
}

#[test]
fn a_word_of_the_network_is_a_reason_to_ask_and_no_more() {
    let mut bench = Bench::up(Carriage::Datagrams);
    bench.keeper.set_watched(bench.now, true);
    bench.run(60.0, ASKED);
    bench.sent.clear();
    for _ in 0..20 {
        bench.keeper.handle_unreachable(bench.now);
        bench.run(1.0, ASKED);
    }
    assert_eq!(bench.count("ask"), 1);
    assert!(bench.told.is_empty());
    bench.run(60.0, ASKED);
    bench.keeper.handle_unreachable(bench.now);
    bench.run(4.0, DEAD);
    assert_eq!(bench.last_told(), Some(&Output::Dead));
}

#[test]
fn a_silent_registrar_is_found_within_seconds_after_a_minute_and_left_alone_after_an_hour() {
    let mut bench = Bench::up(Carriage::Datagrams);
    bench.run(60.0, ASKED);
    bench.keeper.handle_silence(bench.now);
    bench.sent.clear();
    bench.run(60.0, DEAD);
    let minute = bench.count("ask");
    assert!((12..=20).contains(&minute), "{minute}");
    bench.run(4.1, ASKED);
    assert_eq!(bench.last_told(), Some(&Output::Found));
    assert!(bench.told.len() == 1);

    bench.keeper.handle_up(bench.now, flow(Carriage::Datagrams), Some(Way::Ask));
    bench.keeper.handle_silence(bench.now);
    bench.run(24.0 * 3600.0, DEAD);
    bench.sent.clear();
    bench.run(3600.0, DEAD);
    assert!((12..=16).contains(&bench.count("ask")), "{}", bench.count("ask"));
}

#[test]
fn a_registrar_that_answers_and_does_not_register_is_not_pressed() {
    let mut bench = Bench::up(Carriage::Datagrams);
    bench.run(60.0, ASKED);
    bench.keeper.handle_silence(bench.now);
    bench.run(600.0, ASKED);
    assert_eq!(bench.told.len(), 1, "{:?}", bench.told);
    bench.run(60.0, DEAD);
    bench.run(120.0, ASKED);
    assert_eq!(bench.told.len(), 2, "silent again, found again");
}

#[test]
fn on_a_stream_the_registration_itself_is_tried() {
    let mut bench = Bench::up(Carriage::Stream);
    bench.run(60.0, PONG);
    bench.keeper.handle_silence(bench.now);
    bench.sent.clear();
    bench.run(60.0, DEAD);
    assert!(bench.sent.is_empty());
    assert!((12..=20).contains(&bench.told.len()), "{}", bench.told.len());
    assert!(bench.told.iter().all(|(_, told)| *told == Output::Retry));
    // An attempt that takes longer than the step is followed by the next one at once.
    bench.told.clear();
    bench.keeper.handle_busy();
    bench.keeper.handle_silence(bench.now);
    bench.run(0.5, DEAD);
    assert_eq!(bench.last_told(), Some(&Output::Retry));
    bench.keeper.handle_silence(bench.now);
    bench.run(0.5, DEAD);
    assert_eq!(bench.told.len(), 1);
    bench.keeper.handle_down();
    bench.run(600.0, DEAD);
    assert!(bench.keeper.poll_timeout().is_none());
}
