//! Digits that wait to be sent, and the pace at which they leave.

use std::collections::VecDeque;

use super::command::Dtmf;
use crate::rtp::telephone_event::Digit;

/// Digits and pauses that may wait.
const WAITING_MAX: usize = 64;

/// How long a `,` rests, in milliseconds.
const COMMA_MS: u32 = 1000;

/// What a leg does with its next frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// No digit: the audio.
    Audio,
    /// A digit begins.
    Press {
        /// Which.
        digit: Digit,
        /// How long, in milliseconds.
        on_ms: u32,
    },
    /// Rest after a digit, or a pause.
    Rest,
}

#[derive(Clone, Copy)]
enum Order {
    Digit { digit: Digit, on_ms: u32, off_ms: u32 },
    Pause,
}

/// The queue of one leg.
pub(super) struct Digits {
    waiting: VecDeque<Order>,
    /// Rest that the last digit or pause still wants, in milliseconds.
    rest_ms: u32,
    /// There were digits whose end was not told yet.
    untold: bool,
}

impl Digits {
    pub(super) fn new() -> Digits {
        Digits { waiting: VecDeque::new(), rest_ms: 0, untold: false }
    }

    /// Queues digits; what exceeds the limit and what is no digit is left out.
    pub(super) fn push(&mut self, dtmf: &Dtmf) {
        self.untold = true;
        let on_ms = u32::from(dtmf.on_ms).clamp(40, 6000);
        let off_ms = u32::from(dtmf.off_ms).clamp(40, 6000);
        for key in dtmf.digits.chars() {
            let order = match (key, Digit::from_char(key)) {
                (_, Some(digit)) => Order::Digit { digit, on_ms, off_ms },
                (',', None) => Order::Pause,
                _ => continue,
            };
            if self.waiting.len() == WAITING_MAX {
                return;
            }
            self.waiting.push_back(order);
        }
    }

    /// The digit that was taken last has not left, and is taken again.
    pub(super) fn again(&mut self, digit: Digit, on_ms: u32) {
        let off_ms = std::mem::take(&mut self.rest_ms);
        self.waiting.push_front(Order::Digit { digit, on_ms, off_ms });
    }

    /// Leaves out everything that waits: there is no way to send it.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.rest_ms = 0;
    }

    /// True once when all that was queued has left.
    pub(super) fn told(&mut self) -> bool {
        self.untold && self.idle() && std::mem::take(&mut self.untold)
    }

    /// Nothing waits and no rest is left.
    #[inline]
    pub(super) fn idle(&self) -> bool {
        self.rest_ms == 0 && self.waiting.is_empty()
    }

    /// What the next frame of `frame_ms` carries; not to be asked while a digit sounds.
    pub(super) fn step(&mut self, frame_ms: u32) -> Step {
        if self.rest_ms == 0 {
            match self.waiting.pop_front() {
                None => return Step::Audio,
                Some(Order::Digit { digit, on_ms, off_ms }) => {
                    self.rest_ms = off_ms;
                    return Step::Press { digit, on_ms };
                }
                Some(Order::Pause) => self.rest_ms = COMMA_MS,
            }
        }
        self.rest_ms = self.rest_ms.saturating_sub(frame_ms);
        Step::Rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(key: char, on_ms: u32) -> Step {
        Step::Press { digit: Digit::from_char(key).expect("a digit"), on_ms }
    }

    #[test]
    fn a_digit_is_followed_by_its_rest_and_the_end_is_told_once() {
        let mut digits = Digits::new();
        assert!(!digits.told());
        digits.push(&Dtmf { digits: "1x#".into(), on_ms: 60, off_ms: 50 });
        let steps: Vec<Step> = (0..8).map(|_| digits.step(20)).collect();
        let rest = Step::Rest;
        assert_eq!(steps, [press('1', 60), rest, rest, rest, press('#', 60), rest, rest, rest]);
        assert_eq!(digits.step(20), Step::Audio);
        assert!(digits.told());
        assert!(!digits.told());
    }

    #[test]
    fn a_digit_that_has_not_left_is_taken_again_before_the_others() {
        let mut digits = Digits::new();
        digits.push(&Dtmf { digits: "12".into(), on_ms: 60, off_ms: 40 });
        assert_eq!(digits.step(20), press('1', 60));
        digits.again(Digit::from_char('1').expect("a digit"), 60);
        let steps: Vec<Step> = (0..4).map(|_| digits.step(20)).collect();
        assert_eq!(steps, [press('1', 60), Step::Rest, Step::Rest, press('2', 60)]);
    }

    #[test]
    fn commas_rest_and_the_queue_is_bounded() {
        let mut digits = Digits::new();
        digits.push(&Dtmf::new(",5"));
        let rests = (0..).take_while(|_| digits.step(20) == Step::Rest).count();
        assert_eq!(rests, 50);
        digits.push(&Dtmf::new("1".repeat(1000)));
        assert_eq!(digits.waiting.len(), WAITING_MAX);
        digits.clear();
        assert!(digits.idle() && digits.told());
    }
}
