//! How others see us: one address from one of them, watched for changes.

use std::net::SocketAddr;

/// After so many changes without one confirmation in between, changes are not believed: some boxes give every packet
/// another port, some servers see us through several boxes.
const MOST_MOVES: u8 = 5;
/// Confirmations in a row after which changes are believed again.
const CALM: u8 = 3;

/// The address that one peer saw us at last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outside {
    last: Option<SocketAddr>,
    moves: u8,
    same: u8,
}

impl Outside {
    /// Takes an address as known without calling it a change: it was dealt with already.
    pub fn settle(&mut self, seen: Option<SocketAddr>) {
        self.last = seen.or(self.last);
    }

    /// Notes what the peer sees now. True if that is another address than before and changes are to be believed.
    pub fn note(&mut self, seen: SocketAddr) -> bool {
        let before = self.last.replace(seen);
        match before {
            None => false,
            Some(before) if before == seen => {
                self.same = self.same.saturating_add(1);
                if self.moves < MOST_MOVES || self.same >= CALM {
                    self.moves = 0;
                }
                false
            }
            Some(_) => {
                self.same = 0;
                self.moves = self.moves.saturating_add(1).min(MOST_MOVES);
                self.moves < MOST_MOVES
            }
        }
    }

    /// The address of last time.
    pub fn last(&self) -> Option<SocketAddr> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::new("203.0.113.7".parse().unwrap(), port)
    }

    #[test]
    fn only_another_address_than_the_last_is_a_change() {
        let mut outside = Outside::default();
        assert_eq!([1, 1, 2, 2, 1].map(|port| outside.note(at(port))), [false, false, true, false, true]);
        outside.settle(Some(at(9)));
        assert!(!outside.note(at(9)));
        outside.settle(None);
        assert!(outside.note(at(8)), "what is not told is no news");
        assert_eq!(outside.last(), Some(at(8)));
    }

    #[test]
    fn who_changes_all_the_time_is_not_believed_until_it_is_calm() {
        let mut outside = Outside::default();
        let believed = (1..50).filter(|port| outside.note(at(*port))).count();
        assert_eq!(believed, 4);
        assert!(!outside.note(at(49)) && !outside.note(at(50)), "one confirmation is not enough");
        (0..3).for_each(|_| assert!(!outside.note(at(50))));
        assert!(outside.note(at(51)));
    }
}
