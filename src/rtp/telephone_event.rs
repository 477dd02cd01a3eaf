//! Telephone events (RFC 4733): key presses as RTP payload, sent and received.

use std::collections::VecDeque;

/// The longest duration one event packet can hold, in units of the time stamp; longer events go on as segments.
const MAX_DURATION: u32 = 0xffff;
/// How often the end of an event is sent (RFC 4733 §2.5.1.4).
const END_PACKETS: u8 = 3;
/// Key presses that can wait for their turn.
const MAX_QUEUE: usize = 64;
/// A pause as long as this between two key presses lets receivers tell them apart, in microseconds.
const PAUSE_US: u64 = 50_000;
/// Without a packet of an event for so long, its end has been lost, in microseconds (three times 50 ms).
const END_LOST_US: u64 = 150_000;

/// One key of the DTMF pad: events 0–15 of RFC 4733 §3.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Digit(u8);

impl Digit {
    /// The key that `0`–`9`, `*`, `#`, `A`–`D` (or lower case) name.
    pub fn from_char(key: char) -> Option<Digit> {
        let event = match key.to_ascii_uppercase() {
            digit @ '0'..='9' => digit as u8 - b'0',
            '*' => 10,
            '#' => 11,
            letter @ 'A'..='D' => letter as u8 - b'A' + 12,
            _ => return None,
        };
        Some(Digit(event))
    }

    /// The key of an event code; `None` above 15 (flash, tones of lines and trunks).
    pub fn from_event(event: u8) -> Option<Digit> {
        (event <= 15).then_some(Digit(event))
    }

    /// The event code, 0–15.
    pub fn event(self) -> u8 {
        self.0
    }

    /// The key as it is printed.
    pub fn as_char(self) -> char {
        char::from(*b"0123456789*#ABCD".get(usize::from(self.0)).unwrap_or(&b'?'))
    }
}

/// The four bytes of an event (RFC 4733 §2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payload {
    /// Event code.
    pub event: u8,
    /// The event has ended.
    pub end: bool,
    /// Power below 0 dBm0, in dB, 0–63.
    pub volume: u8,
    /// How long the event (or this segment of it) has lasted, in units of the time stamp.
    pub duration: u16,
}

impl Payload {
    /// Reads the first event of a payload; further ones (RFC 4733 §2.3) are not used by phones and are ignored.
    pub fn parse(payload: &[u8]) -> Option<Payload> {
        let [event, flags, d0, d1, ..] = *payload else { return None };
        let duration = u16::from_be_bytes([d0, d1]);
        Some(Payload { event, end: flags & 0x80 != 0, volume: flags & 0x3f, duration })
    }

    /// The bytes on the wire.
    pub fn write(self) -> [u8; 4] {
        let [d0, d1] = self.duration.to_be_bytes();
        [self.event, u8::from(self.end) << 7 | self.volume & 0x3f, d0, d1]
    }
}

/// What to send instead of voice for one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// The payload.
    pub payload: Payload,
    /// The marker bit: the first packet of an event.
    pub marker: bool,
    /// The time stamp, which stays that of the event's (or segment's) beginning.
    pub timestamp: u32,
}

#[derive(Debug)]
enum Sending {
    Idle,
    Pause { until_us: u64 },
    Key { event: u8, start: u32, began: bool, remaining: u32, sent: u32 },
    End { event: u8, start: u32, duration: u16, copies: u8 },
}

/// The sending side: turns queued key presses into packets, one per packet time.
#[derive(Debug)]
pub struct Sender {
    queue: VecDeque<(Digit, u32)>,
    state: Sending,
    volume: u8,
}

impl Default for Sender {
    fn default() -> Sender {
        Sender { queue: VecDeque::with_capacity(MAX_QUEUE), state: Sending::Idle, volume: 10 }
    }
}

impl Sender {
    /// Queues a key press of `duration_ms` (40 ms at least, 60 s at most). False if the queue is full.
    pub fn press(&mut self, digit: Digit, duration_ms: u32) -> bool {
        let room = self.queue.len() < MAX_QUEUE;
        if room {
            self.queue.push_back((digit, duration_ms.clamp(40, 60_000)));
        }
        room
    }

    /// Ends everything without a further packet, and returns the next key that has not begun. One that has counts as
    /// pressed at the far end, which misses its end after a moment.
    pub fn stop(&mut self) -> Option<(Digit, u32)> {
        self.state = Sending::Idle;
        let next = self.queue.pop_front();
        self.queue.clear();
        next
    }

    /// True while voice must give way to events.
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, Sending::Idle | Sending::Pause { .. }) || !self.queue.is_empty()
    }

    /// The packet for the period that begins at `timestamp` and lasts `samples`, both in units of `clock_rate`.
    /// `None` when voice may be sent. Call once per packet time.
    pub fn next(&mut self, now_us: u64, timestamp: u32, samples: u32, clock_rate: u32) -> Option<Outgoing> {
        if let Sending::Pause { until_us } = self.state {
            if now_us < until_us {
                return None;
            }
            self.state = Sending::Idle;
        }
        if matches!(self.state, Sending::Idle) {
            let (digit, duration_ms) = self.queue.pop_front()?;
            let remaining = (u64::from(duration_ms) * u64::from(clock_rate) / 1000).max(1) as u32;
            self.state =
                Sending::Key { event: digit.event(), start: timestamp, began: false, remaining, sent: 0 };
        }
        match &mut self.state {
            Sending::Key { event, start, began, remaining, sent } => {
                let marker = !*began;
                *began = true;
                let step = samples.min(*remaining);
                if *sent + step > MAX_DURATION {
                    // §2.5.1.3: the segment is full, the next one continues where it ends.
                    *start = start.wrapping_add(*sent);
                    *sent = 0;
                }
                *sent += step.min(MAX_DURATION);
                *remaining -= step;
                let (event, start, sent, end) = (*event, *start, *sent as u16, *remaining == 0);
                if end {
                    self.state = Sending::End { event, start, duration: sent, copies: END_PACKETS - 1 };
                }
                let payload = Payload { event, end, volume: self.volume, duration: sent };
                Some(Outgoing { payload, marker, timestamp: start })
            }
            Sending::End { event, start, duration, copies } => {
                let payload = Payload { event: *event, end: true, volume: self.volume, duration: *duration };
                let outgoing = Outgoing { payload, marker: false, timestamp: *start };
                *copies -= 1;
                if *copies == 0 {
                    self.state = Sending::Pause { until_us: now_us + PAUSE_US };
                }
                Some(outgoing)
            }
            Sending::Idle | Sending::Pause { .. } => None,
        }
    }
}

/// What the receiving side tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A key went down. Told once per press, however many packets were lost.
    Pressed(Digit),
    /// The key came up, after so many milliseconds.
    Released {
        /// The key.
        digit: Digit,
        /// How long it was held, as far as its packets told.
        duration_ms: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Held {
    digit: Digit,
    /// Time stamp of the present segment.
    segment: u32,
    /// Duration of the present segment, in units of the time stamp.
    duration: u16,
    /// Duration of the segments before it.
    before: u32,
    clock_rate: u32,
    heard_us: u64,
}

impl Held {
    fn released(&self) -> Event {
        let units = u64::from(self.before) + u64::from(self.duration);
        let duration_ms = (units * 1000 / u64::from(self.clock_rate.max(1))) as u32;
        Event::Released { digit: self.digit, duration_ms }
    }
}

/// The receiving side: tolerates lost starts, lost ends, copies and reordering.
#[derive(Debug, Default)]
pub struct Receiver {
    held: Option<Held>,
    /// The event that ended last: its key, first segment's and last segment's time stamp.
    ended: Option<(Digit, u32)>,
    events: [Option<Event>; 4],
}

impl Receiver {
    /// Takes in one packet. `clock_rate` is that of its payload type. False if it is not a DTMF event.
    pub fn handle_packet(&mut self, now_us: u64, timestamp: u32, clock_rate: u32, payload: &[u8]) -> bool {
        let Some(payload) = Payload::parse(payload) else { return false };
        let Some(digit) = Digit::from_event(payload.event) else { return false };
        if let Some((last, last_timestamp)) = self.ended
            && (last, last_timestamp) == (digit, timestamp)
        {
            return true; // another copy of an end, or an update that was overtaken by it
        }
        if self.ended.is_some_and(|(_, last)| (timestamp.wrapping_sub(last) as i32) < 0)
            && self.held.is_none_or(|held| held.segment != timestamp)
            && self.ended.is_some_and(|(_, last)| last.wrapping_sub(timestamp) < clock_rate.max(1) * 10)
        {
            return true; // a packet of a press that is over
        }
        match &mut self.held {
            Some(held) if held.digit == digit && held.segment == timestamp => {
                held.duration = held.duration.max(payload.duration);
                held.heard_us = now_us;
            }
            // A press longer than one segment holds goes on exactly where the segment ended; a lost update
            // leaves a hole, so that some slack is allowed at the far end.
            Some(held)
                if held.digit == digit
                    && held.duration >= 0x8000
                    && timestamp.wrapping_sub(held.segment) >= u32::from(held.duration)
                    && timestamp.wrapping_sub(held.segment) <= MAX_DURATION =>
            {
                held.before += timestamp.wrapping_sub(held.segment);
                held.segment = timestamp;
                held.duration = payload.duration;
                held.heard_us = now_us;
            }
            Some(held) if (timestamp.wrapping_sub(held.segment) as i32) < 0 => return true,
            held => {
                if let Some(held) = held.take() {
                    self.ended = Some((held.digit, held.segment));
                    self.tell(held.released());
                }
                self.held = Some(Held {
                    digit,
                    segment: timestamp,
                    duration: payload.duration,
                    before: 0,
                    clock_rate,
                    heard_us: now_us,
                });
                self.tell(Event::Pressed(digit));
            }
        }
        if payload.end {
            self.release();
        }
        true
    }

    /// The deadline after which a press whose end was lost counts as ended (monotonic microseconds).
    pub fn poll_timeout(&self) -> Option<u64> {
        self.held.map(|held| held.heard_us + END_LOST_US)
    }

    /// To be called when [`Receiver::poll_timeout`] is due, or when voice is heard again.
    pub fn handle_timeout(&mut self, now_us: u64) {
        if self.poll_timeout().is_some_and(|due| now_us >= due) {
            self.release();
        }
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events[0].take();
        self.events.rotate_left(1);
        event
    }

    /// Forgets everything: another stream begins, its time stamps mean nothing here. Ends a press.
    pub fn restart(&mut self) {
        self.release();
        self.ended = None;
    }

    fn release(&mut self) {
        if let Some(held) = self.held.take() {
            self.ended = Some((held.digit, held.segment));
            self.tell(held.released());
        }
    }

    fn tell(&mut self, event: Event) {
        // One packet tells two things at most, and callers drain after each; a full queue keeps the older ones.
        if let Some(free) = self.events.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1000;

    fn digit(key: char) -> Digit {
        Digit::from_char(key).unwrap()
    }

    /// What a receiver hears of `presses` when `lost` says which packets are lost.
    fn heard(presses: &[(char, u32)], clock: u32, lost: impl Fn(usize, &Outgoing) -> bool) -> Vec<Event> {
        let mut sender = Sender::default();
        for &(key, ms) in presses {
            assert!(sender.press(digit(key), ms));
        }
        let mut receiver = Receiver::default();
        let mut events = Vec::new();
        let (mut now, mut timestamp, mut count) = (1_000_000, 0xffff_ff00_u32, 0);
        for _ in 0..2_000 {
            if let Some(outgoing) = sender.next(now, timestamp, clock / 50, clock) {
                if !lost(count, &outgoing) {
                    assert!(receiver.handle_packet(
                        now,
                        outgoing.timestamp,
                        clock,
                        &outgoing.payload.write()
                    ));
                }
                count += 1;
            }
            receiver.handle_timeout(now);
            events.extend(std::iter::from_fn(|| receiver.poll_event()));
            now += 20 * MS;
            timestamp = timestamp.wrapping_add(clock / 50);
        }
        assert!(!sender.is_busy());
        events
    }

    fn press(key: char, duration_ms: u32) -> [Event; 2] {
        [Event::Pressed(digit(key)), Event::Released { digit: digit(key), duration_ms }]
    }

    #[test]
    fn every_key_arrives_once_at_both_clock_rates() {
        let keys: Vec<(char, u32)> = "0123456789*#ABCD".chars().map(|key| (key, 100)).collect();
        let expected: Vec<Event> = keys.iter().flat_map(|&(key, ms)| press(key, ms)).collect();
        assert_eq!(heard(&keys, 8_000, |_, _| false), expected);
        assert_eq!(heard(&keys, 48_000, |_, _| false), expected);
        assert_eq!(Digit::from_char('x'), None);
        assert_eq!(digit('#').as_char(), '#');
    }

    #[test]
    fn a_press_is_a_marked_start_updates_and_three_ends() {
        let mut sender = Sender::default();
        sender.press(digit('5'), 60);
        let packets: Vec<Outgoing> =
            (0..5).map_while(|i| sender.next(i * 20 * MS, 800 + i as u32 * 160, 160, 8000)).collect();
        assert_eq!(packets.len(), 5);
        assert!(packets[0].marker && packets[1..].iter().all(|p| !p.marker));
        assert!(packets.iter().all(|p| p.timestamp == 800 && p.payload.event == 5));
        let ends: Vec<bool> = packets.iter().map(|p| p.payload.end).collect();
        assert_eq!(ends, [false, false, true, true, true]);
        let durations: Vec<u16> = packets.iter().map(|p| p.payload.duration).collect();
        assert_eq!(durations, [160, 320, 480, 480, 480]);
    }

    #[test]
    fn stopped_in_a_key_it_gives_back_the_one_that_has_not_begun() {
        let mut sender = Sender::default();
        sender.press(digit('5'), 60);
        sender.press(digit('6'), 80);
        assert!(sender.next(0, 800, 160, 8000).is_some());
        assert_eq!(sender.stop(), Some((digit('6'), 80)));
        assert!(!sender.is_busy());
        assert_eq!(sender.next(20 * MS, 960, 160, 8000), None);
        assert_eq!(sender.stop(), None);
    }

    #[test]
    fn losing_all_three_ends_still_releases_the_key() {
        let events = heard(&[('7', 200)], 8_000, |_, p| p.payload.end);
        assert_eq!(events, press('7', 180));
    }

    #[test]
    fn losing_the_start_loses_nothing() {
        assert_eq!(heard(&[('7', 200)], 8_000, |i, _| i < 4), press('7', 200));
        // Only the last copy of the end came through.
        assert_eq!(heard(&[('7', 200)], 8_000, |i, _| i < 11), press('7', 200));
    }

    #[test]
    fn ends_lost_and_the_next_key_follows() {
        let events = heard(&[('1', 100), ('2', 100)], 8_000, |_, p| p.payload.end && p.payload.event == 1);
        assert_eq!(events, [press('1', 80), press('2', 100)].concat());
    }

    #[test]
    fn a_key_held_for_more_than_five_seconds_is_one_press() {
        // At 8 kHz a segment holds 8.2 s, at 48 kHz 1.4 s.
        assert_eq!(heard(&[('3', 5_500)], 8_000, |_, _| false), press('3', 5_500));
        assert_eq!(heard(&[('3', 20_000)], 8_000, |_, _| false), press('3', 20_000));
        assert_eq!(heard(&[('3', 5_500)], 48_000, |_, _| false), press('3', 5_500));
        assert_eq!(heard(&[('3', 5_500)], 48_000, |i, _| i % 7 == 3), press('3', 5_500));
    }

    #[test]
    fn the_same_key_twice_fifty_milliseconds_apart_is_two_presses() {
        let twice = [press('9', 80), press('9', 80)].concat();
        assert_eq!(heard(&[('9', 80), ('9', 80)], 8_000, |_, _| false), twice);
        let mut receiver = Receiver::default();
        let mut events = Vec::new();
        // The ends of the first press are lost; the second has another time stamp.
        for (at, timestamp, duration) in
            [(0, 0, 160), (20, 0, 320), (40, 0, 480), (90, 720, 160), (110, 720, 320)]
        {
            let payload = Payload { event: 9, end: false, volume: 10, duration };
            receiver.handle_packet(at * MS, timestamp, 8_000, &payload.write());
            events.extend(std::iter::from_fn(|| receiver.poll_event()));
        }
        assert_eq!(events, [&press('9', 60)[..], &[Event::Pressed(digit('9'))]].concat());
    }

    #[test]
    fn late_copies_and_reordered_updates_do_not_press_again() {
        let mut receiver = Receiver::default();
        let mut events = Vec::new();
        let packet = |end, duration| Payload { event: 4, end, volume: 10, duration }.write();
        for (at, timestamp, bytes) in [
            (0, 1000, packet(false, 160)),
            (20, 1000, packet(true, 480)),
            (21, 1000, packet(false, 320)),
            (500, 1000, packet(true, 480)),
            (900, 9000, packet(true, 160)),
            (901, 1000, packet(true, 480)),
        ] {
            receiver.handle_packet(at * MS, timestamp, 8_000, &bytes);
            events.extend(std::iter::from_fn(|| receiver.poll_event()));
        }
        assert_eq!(events, [press('4', 60), press('4', 20)].concat());
    }

    #[test]
    fn what_is_not_a_key_is_left_alone() {
        let mut receiver = Receiver::default();
        assert!(!receiver.handle_packet(0, 0, 8_000, &[16, 10, 0, 160]));
        assert!(!receiver.handle_packet(0, 0, 8_000, &[5, 10, 0]));
        assert!(!receiver.handle_packet(0, 0, 8_000, &[]));
        assert_eq!(receiver.poll_event(), None);
        assert_eq!(receiver.poll_timeout(), None);
    }

    #[test]
    fn the_queue_of_keys_is_bounded() {
        let mut sender = Sender::default();
        let taken = (0..1000).filter(|_| sender.press(digit('1'), 100)).count();
        assert_eq!(taken, MAX_QUEUE);
    }
}
