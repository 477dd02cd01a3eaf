//! The jitter buffer packet by packet; whole calls are in `tests/rtp_jitter.rs`.

use super::*;
use crate::chance::Chance;

const MS: u64 = 1_000;

/// A buffer, a sender with packets of 20 ms, and a listener in periods of 10 ms who notes what it is told to do.
struct Bench {
    buffer: JitterBuffer,
    now_us: u64,
    queued_us: u64,
    log: Vec<String>,
}

impl Bench {
    fn new() -> Bench {
        let buffer = JitterBuffer::new(Settings::default());
        Bench { buffer, now_us: 1_000 * MS, queued_us: 0, log: Vec::new() }
    }

    fn put(&mut self, number: u16) -> Inserted {
        self.put_as(number, u32::from(number) * 160, Kind::Voice { redundant: false })
    }

    fn put_as(&mut self, sequence: u16, timestamp: u32, kind: Kind) -> Inserted {
        self.buffer.insert(&Arrival {
            at_us: self.now_us,
            sequence,
            timestamp,
            clock_rate: 8_000,
            duration: if kind == Kind::Noise { 0 } else { 160 },
            payload_type: 8,
            kind,
            payload: &sequence.to_be_bytes(),
        })
    }

    /// Listens for so many milliseconds and does what the buffer wishes with the sound.
    fn listen(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            while self.queued_us < PERIOD_US {
                let (word, got_us, voice) = match self.buffer.pull(self.now_us, self.queued_us) {
                    Pull::Packet { payload, duration_us, skip_us, .. } => {
                        let number = u16::from_be_bytes(payload.try_into().unwrap());
                        let skip = if skip_us > 0 { format!("-{}", skip_us / 1000) } else { String::new() };
                        (format!("{number}{skip}"), duration_us - skip_us, true)
                    }
                    Pull::Fec { payload, duration_us, skip_us, .. } => {
                        let number = u16::from_be_bytes(payload.try_into().unwrap());
                        (format!("fec-in-{number}"), duration_us - skip_us, false)
                    }
                    Pull::Conceal { duration_us } => {
                        (format!("conceal-{}", duration_us / 1000), duration_us, false)
                    }
                    Pull::Comfort { noise, duration_us } => {
                        let word = if noise.is_some() { "noise" } else { "comfort" };
                        (word.to_owned(), duration_us, false)
                    }
                    Pull::Nothing => ("nothing".to_owned(), PERIOD_US as u32, false),
                };
                self.log.push(word);
                let got_us = u64::from(got_us);
                self.queued_us += match self.buffer.rate(self.now_us, self.queued_us + got_us) {
                    Rate::Shrink { by_us } if voice => got_us - u64::from(by_us).min(got_us / 3),
                    Rate::Stretch { by_us } if voice => got_us + u64::from(by_us).min(got_us / 3),
                    _ => got_us,
                };
            }
            self.queued_us -= PERIOD_US;
            self.now_us += PERIOD_US;
        }
    }

    /// After 4 s of a clean path: packet 200 is the next, and is played when it comes.
    fn settled() -> Bench {
        let mut bench = Bench::new();
        for number in 0..200 {
            assert_eq!(bench.put(number), Inserted::Stored);
            bench.listen(20);
        }
        assert!(bench.buffer.buffered_us() == 0 && bench.buffer.target_us() < 5_000);
        bench.log.clear();
        bench.queued_us = 0;
        bench
    }

    fn heard(&mut self) -> String {
        std::mem::take(&mut self.log).join(" ")
    }
}

#[test]
fn the_first_packets_wait_a_little_and_the_delay_goes_away() {
    let mut bench = Bench::new();
    for number in 0..3 {
        bench.put(number);
        bench.listen(20);
    }
    assert_eq!(bench.heard(), "nothing nothing nothing nothing nothing nothing");
    bench.put(3);
    bench.listen(20);
    assert_eq!(bench.heard(), "0");
    Bench::settled();
}

#[test]
fn a_lost_packet_is_concealed_once_the_next_one_shows_it() {
    let mut bench = Bench::settled();
    bench.listen(20);
    bench.put(201);
    bench.listen(20);
    bench.put(202);
    bench.listen(20);
    assert_eq!(bench.heard(), "conceal-10 conceal-10 201 202");
    assert_eq!(bench.buffer.counts().concealed_us, 20_000);
}

#[test]
fn a_packet_that_comes_while_it_is_concealed_is_not_lost() {
    let mut bench = Bench::settled();
    bench.listen(10);
    bench.put(200);
    bench.listen(10);
    bench.put(201);
    bench.listen(20);
    let heard = bench.heard();
    assert!(heard == "conceal-10 200-10 201" || heard == "conceal-10 200 201", "{heard}");
    assert_eq!(bench.buffer.counts().concealed_us, 10_000);
    assert_eq!(bench.buffer.counts().late, 0);
}

#[test]
fn reordered_packets_are_played_in_order_and_copies_dropped() {
    let mut bench = Bench::settled();
    assert_eq!(bench.put(202), Inserted::Stored);
    assert_eq!(bench.put(200), Inserted::Stored);
    assert_eq!(bench.put(201), Inserted::Stored);
    assert_eq!(bench.put(201), Inserted::Duplicate);
    bench.listen(60);
    assert_eq!(bench.heard(), "200 201 202");
    assert_eq!(bench.put(202), Inserted::Duplicate);
    assert_eq!(bench.put(199), Inserted::Late);
    let counts = bench.buffer.counts();
    assert_eq!((counts.duplicates, counts.late), (2, 1));
}

#[test]
fn the_packet_after_a_lost_one_is_offered_for_its_redundant_copy() {
    let mut bench = Bench::settled();
    let redundant = Kind::Voice { redundant: true };
    bench.put_as(201, 201 * 160, redundant);
    bench.listen(40);
    assert_eq!(bench.heard(), "fec-in-201 201");
    let counts = bench.buffer.counts();
    assert_eq!((counts.recovered_us, counts.concealed_us), (20_000, 0));
    // Where packets are lost often, it waits long enough for the copies.
    for number in 202..800 {
        if number % 20 != 7 {
            bench.put_as(number, u32::from(number) * 160, redundant);
        }
        bench.listen(20);
    }
    let before = bench.buffer.counts();
    for number in 800..900 {
        if number % 20 != 7 {
            bench.put_as(number, u32::from(number) * 160, redundant);
        }
        bench.listen(20);
    }
    let counts = bench.buffer.counts();
    assert_eq!(counts.recovered_us - before.recovered_us, 5 * 20_000);
    assert_eq!(counts.concealed_us, before.concealed_us);
}

#[test]
fn silence_described_by_the_sender_is_filled_and_ended_by_speech() {
    let mut bench = Bench::settled();
    bench.put_as(200, 200 * 160, Kind::Noise);
    bench.listen(100);
    assert_eq!(bench.heard(), format!("noise{}", " comfort".repeat(9)));
    bench.put_as(201, 205 * 160, Kind::Voice { redundant: false });
    bench.listen(20);
    assert!(bench.heard().contains("201"));
    assert_eq!(bench.buffer.counts().concealed_us, 0);
}

#[test]
fn a_sender_that_stops_is_concealed_for_a_while_and_that_is_forgiven() {
    let mut bench = Bench::settled();
    bench.listen(1_000);
    let heard = bench.heard();
    assert_eq!(heard.matches("conceal-10").count(), 20, "{heard}");
    assert_eq!(heard.matches("comfort").count(), 80, "{heard}");
    bench.put_as(200, 250 * 160, Kind::Voice { redundant: false });
    bench.listen(20);
    assert!(bench.heard().ends_with("200"));
    assert_eq!(bench.buffer.counts().concealed_us, 0);
}

#[test]
fn a_break_of_the_network_is_counted_in_full() {
    let mut bench = Bench::settled();
    bench.listen(1_000);
    bench.put(250);
    bench.listen(20);
    assert!(bench.heard().ends_with(" 250"));
    assert!((1_000_000..=1_010_000).contains(&bench.buffer.counts().concealed_us));
}

#[test]
fn a_stall_loses_no_words_and_its_delay_goes_away() {
    let mut bench = Bench::settled();
    bench.listen(160);
    for number in 200..208 {
        bench.put(number);
    }
    for number in 208..400 {
        bench.put(number);
        bench.listen(20);
    }
    let heard = bench.heard();
    for number in 200..390 {
        assert!(heard.contains(&format!(" {number} ")), "{number} is missing");
    }
    assert!(bench.buffer.buffered_us() <= 20_000);
}

#[test]
fn the_ceiling_cuts_what_would_become_delay() {
    let mut bench = Bench::settled();
    bench.listen(390);
    for number in 200..260 {
        bench.put(number);
    }
    bench.listen(10);
    for number in 260..300 {
        bench.put(number);
        bench.listen(20);
    }
    let ceiling = u64::from(bench.buffer.ceiling_us());
    assert!(u64::from(bench.buffer.buffered_us()) <= ceiling);
    assert!(bench.buffer.counts().discarded > 0);
}

#[test]
fn more_packets_than_places_push_out_the_oldest() {
    let mut bench = Bench::new();
    for number in 0..500 {
        assert_eq!(bench.put(number), Inserted::Stored);
    }
    assert_eq!(bench.buffer.waiting.len(), SLOTS);
    bench.buffer.restart();
    assert!(bench.buffer.waiting.is_empty() && bench.buffer.payloads.is_empty());
}

#[test]
fn unusable_packets_are_refused() {
    let mut bench = Bench::new();
    let long = [0; MAX_PACKET + 1];
    let arrival = Arrival {
        at_us: 0,
        sequence: 0,
        timestamp: 0,
        clock_rate: 8_000,
        duration: 160,
        payload_type: 8,
        kind: Kind::Voice { redundant: false },
        payload: &long,
    };
    assert_eq!(bench.buffer.insert(&arrival), Inserted::Unusable);
    let arrival = Arrival { payload: &[], ..arrival };
    assert_eq!(bench.buffer.insert(&Arrival { duration: 0, ..arrival }), Inserted::Unusable);
    assert_eq!(bench.buffer.insert(&Arrival { clock_rate: 0, ..arrival }), Inserted::Unusable);
    assert_eq!(bench.buffer.insert(&arrival), Inserted::Stored);
}

#[test]
fn whatever_comes_the_listener_gets_ten_milliseconds_and_memory_stays_bounded() {
    for seed in 0..40 {
        let mut chance = Chance::from_number(seed);
        let mut bench = Bench::new();
        let wild = seed % 4;
        let (mut sequence, mut timestamp) = (chance.next_u32() as u16, chance.next_u32());
        for _ in 0..2_000 {
            sequence = sequence.wrapping_add(1);
            timestamp = timestamp.wrapping_add(160);
            if wild > 0 && chance.happens(0.05) {
                sequence = sequence.wrapping_add(chance.next_u32() as u16 >> (chance.below(16)));
            }
            if wild > 1 && chance.happens(0.05) {
                timestamp = timestamp.wrapping_sub(chance.next_u32() >> chance.below(32));
            }
            let arrival = Arrival {
                at_us: bench.now_us,
                sequence,
                timestamp,
                clock_rate: if wild > 2 { chance.next_u32() >> chance.below(32) } else { 8_000 },
                duration: if wild > 2 { chance.next_u32() >> chance.below(32) } else { 160 },
                payload_type: 0,
                kind: if chance.happens(0.1) { Kind::Noise } else { Kind::Voice { redundant: wild == 1 } },
                payload: &sequence.to_be_bytes(),
            };
            bench.buffer.insert(&arrival);
            if chance.happens(0.02) {
                bench.buffer.insert_other(chance.next_u32() as u16);
            }
            bench.listen(u64::from(chance.below(5)) * 10);
            assert!(bench.buffer.waiting.len() <= SLOTS);
        }
        // Another source is heard within 100 ms all the same.
        bench.buffer.restart();
        assert!(bench.buffer.payloads.is_empty());
        bench.log.clear();
        for number in 0..5 {
            bench.put(number);
            bench.listen(20);
        }
        let heard = bench.heard();
        assert!(heard.split(' ').any(|word| word == "0"), "seed {seed}: {heard}");
    }
}
