//! Two whole phones over a network that loses, doubles and reorders datagrams: whatever it does, both sides see one
//! story and agree in the end.

use super::flow_tests::Phone;
use super::uri;
use crate::chance::Chance;
use crate::sip::call::{CallError, CallSettings, InviteOptions, Prack, SessionTimer};
use crate::sip::message::Message;
use crate::sip::sdp::Direction;
use std::time::Duration;

/// What the network does to each datagram.
struct Weather {
    loss: f64,
    doubling: f64,
    longest_ms: u32,
}

struct Pair {
    phones: [Phone; 2],
    /// Datagrams on their way: arrival, order of sending, addressee.
    under_way: Vec<(u64, usize, usize, Message)>,
    chance: Chance,
    weather: Weather,
    sent: usize,
}

impl Pair {
    fn new(seed: u64, weather: Weather) -> Pair {
        let mut chance = Chance::from_number(seed);
        let settings = |chance: &mut Chance| CallSettings {
            prack: [Prack::Off, Prack::Supported, Prack::Required][chance.below(3) as usize],
            session_timer: [SessionTimer::Supported, SessionTimer::Always][chance.below(2) as usize],
            session_expires: Duration::from_secs(90),
            ..CallSettings::default()
        };
        let (ours, mut theirs) = (settings(&mut chance), settings(&mut chance));
        if ours.prack == Prack::Required {
            // A phone without 100rel would only refuse the call.
            theirs.prack = Prack::Supported;
        }
        let mut phones = [Phone::new(ours), Phone::new(theirs)];
        phones[1].chance = Chance::from_number(seed + 1000);
        Pair { phones, under_way: Vec::new(), chance, weather, sent: 0 }
    }

    /// Takes what the phones said to the network.
    fn collect(&mut self) {
        for from in 0..2 {
            self.phones[from].attend();
            let now = self.phones[from].world.now.mono_us;
            while let Some(message) = self.phones[from].world.sent.pop_front() {
                self.sent += 1;
                let copies = 1 + usize::from(self.chance.happens(self.weather.doubling));
                for _ in 0..copies {
                    if !self.chance.happens(self.weather.loss) {
                        let delay = u64::from(1 + self.chance.below(self.weather.longest_ms)) * 1000;
                        self.under_way.push((now + delay, self.sent, 1 - from, message.clone()));
                    }
                }
            }
        }
        self.under_way.sort_by_key(|(at, order, _, _)| (*at, *order));
    }

    /// Lets both phones live for a while.
    fn run(&mut self, by: Duration) {
        let end = self.phones[0].world.now.plus(by);
        for _ in 0..100_000 {
            self.collect();
            let now = self.phones[0].world.now;
            let timers = self.phones.iter().filter_map(|phone| phone.world.ua.poll_timeout());
            let arrival = self.under_way.first().map(|(at, ..)| *at);
            let next = timers.chain(arrival).min().filter(|at| *at <= end.mono_us);
            let until = next.unwrap_or(end.mono_us).max(now.mono_us);
            for phone in &mut self.phones {
                phone.world.run(Duration::from_micros(until - now.mono_us));
            }
            if next.is_none() {
                return;
            }
            if arrival.is_some_and(|at| at <= until) {
                let (_, _, to, message) = self.under_way.remove(0);
                self.phones[to].world.hears(message);
            }
        }
        panic!("the phones never rest");
    }

    fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    /// Phone 0 calls, phone 1 answers.
    fn call(&mut self) {
        let phone = &mut self.phones[0];
        let offer = phone.negotiation.offer(&mut phone.chance);
        let options = InviteOptions { offer: Some(offer), ..InviteOptions::default() };
        let target = uri("sip:bob@198.51.100.1");
        phone.world.call =
            phone.world.ua.invite(phone.world.now, phone.world.account, target, options).unwrap();
        phone.world.pump();
    }

    /// One phone holds or resumes; a change that can't be made now is made when the phone is asked to again.
    fn turn(&mut self, index: usize, direction: Direction) {
        let phone = &mut self.phones[index];
        if phone.ended.is_some() {
            return;
        }
        phone.negotiation.capability_mut().direction = direction;
        let offer = phone.negotiation.offer(&mut phone.chance);
        let call = phone.world.call;
        let result = phone.world.ua.offer(phone.world.now, call, offer);
        assert!(matches!(result, Ok(()) | Err(CallError::NotNow(_) | CallError::Unknown | CallError::Over)));
        phone.world.pump();
    }
}

/// A call with holds from both sides, sometimes at once, and a hang-up by either side.
fn story(seed: u64, weather: Weather) {
    let mut pair = Pair::new(seed, weather);
    pair.call();
    pair.seconds(20);
    for _ in 0..4 {
        let both = pair.chance.happens(0.5);
        let hold = [Direction::SendOnly, Direction::SendRecv, Direction::Inactive];
        let first = pair.chance.below(2) as usize;
        let direction = hold[pair.chance.below(3) as usize];
        pair.turn(first, direction);
        if both {
            let direction = hold[pair.chance.below(3) as usize];
            pair.turn(1 - first, direction);
        }
        pair.seconds(25);
    }
    // The last word: phone 0 is ready to talk both ways, and nothing is open any more.
    pair.turn(0, Direction::SendRecv);
    pair.seconds(30);
    let alive = pair.phones.iter().all(|phone| phone.ended.is_none());
    if alive {
        let (ours, theirs) = (pair.phones[0].agreed(), pair.phones[1].agreed());
        assert_eq!(ours.direction, theirs.direction.reversed(), "seed {seed}");
        assert_eq!(ours.codecs[0].codec.name, theirs.codecs[0].codec.name, "seed {seed}");
        let last = pair.chance.below(2) as usize;
        pair.phones[last].world.hangs_up();
    }
    pair.seconds(300);
    for phone in &pair.phones {
        assert!(phone.ended.is_some(), "seed {seed}: a side never saw the end");
        phone.world.forgot_everything();
    }
}

#[test]
fn a_fair_network() {
    for seed in 0..40 {
        story(seed, Weather { loss: 0.0, doubling: 0.0, longest_ms: 30 });
    }
}

#[test]
fn a_network_that_doubles_and_reorders() {
    for seed in 100..140 {
        story(seed, Weather { loss: 0.0, doubling: 0.3, longest_ms: 400 });
    }
}

#[test]
fn a_network_that_loses_a_fifth() {
    for seed in 200..260 {
        story(seed, Weather { loss: 0.2, doubling: 0.05, longest_ms: 150 });
    }
}
