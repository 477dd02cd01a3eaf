//! The pairs of one component and how far each has got (RFC 8445 §6.1.2).
//!
//! A component has one socket, and perhaps one allocation at a TURN server: a pair is a way out and an address of the
//! peer. So there is nothing to freeze: no two pairs share a foundation on both sides and lead elsewhere.

use crate::nat::stun::TransactionId;
use std::net::SocketAddr;
use std::time::Duration;

/// Pairs that a list may have. A peer may name thousands of candidates: the best are tried.
pub const MAX_PAIRS: usize = 48;

/// How a packet leaves, or came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Way {
    /// By the socket.
    Direct,
    /// Through the TURN server.
    Relayed,
}

/// A pair, by what makes it one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Route {
    /// Our way out.
    pub way: Way,
    /// The peer's address.
    pub to: SocketAddr,
}

/// The first wait for the answer to a check; it doubles up to [`LONGEST_WAIT`]. RFC 8445 §14.3 wants half a second:
/// then one lost packet would be heard as a late beginning of the call.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_millis(800);
/// A check is sent so often: 4.7 s in all.
const MOST_REQUESTS: u8 = 8;

/// How far a pair has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Not tried yet.
    Waiting,
    /// A check is under way.
    Checking {
        /// Its transaction.
        id: TransactionId,
        /// How often it was sent.
        sent: u8,
        /// When it is sent again or given up.
        next_us: u64,
        /// Whether it nominates.
        nominates: bool,
    },
    /// It works both ways.
    Valid,
    /// No check was answered.
    Failed,
}

/// A pair.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub route: Route,
    pub local_priority: u32,
    pub remote_priority: u32,
    pub progress: Progress,
    /// A check of it has succeeded at some time.
    pub worked: bool,
    /// The peer, controlling, has nominated it.
    pub nominated: bool,
    /// Whence the peer has seen a check of it come.
    pub mapped: Option<SocketAddr>,
}

impl Pair {
    /// RFC 8445 §6.1.2.3.
    pub(super) fn priority(&self, controlling: bool) -> u64 {
        let (g, d) = match controlling {
            true => (self.local_priority, self.remote_priority),
            false => (self.remote_priority, self.local_priority),
        };
        (u64::from(g.min(d)) << 32) + 2 * u64::from(g.max(d)) + u64::from(g > d)
    }

    /// Whether something may still come of it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.progress, Progress::Waiting | Progress::Checking { .. })
    }

    /// The transaction of the check that is under way, if it nominates as this says.
    pub(super) fn under_way(&self, as_this: bool) -> Option<TransactionId> {
        match self.progress {
            Progress::Checking { id, nominates, .. } if nominates == as_this => Some(id),
            _ => None,
        }
    }

    /// A check of this transaction leaves now.
    pub(super) fn begin(&mut self, now_us: u64, id: TransactionId, nominates: bool) {
        let next_us = now_us + wait_us(1);
        self.progress = Progress::Checking { id, sent: 1, next_us, nominates };
    }

    /// The check leaves once more; false if it has been sent often enough.
    pub(super) fn repeat(&mut self, now_us: u64) -> bool {
        let Progress::Checking { sent, next_us, .. } = &mut self.progress else { return false };
        if *sent >= MOST_REQUESTS {
            self.progress = if self.worked { Progress::Valid } else { Progress::Failed };
            return false;
        }
        *sent += 1;
        *next_us = now_us + wait_us(*sent);
        true
    }
}

fn wait_us(sent: u8) -> u64 {
    let doubled = FIRST_WAIT * (1 << u32::from(sent.saturating_sub(1)).min(8));
    crate::now::micros(doubled.min(LONGEST_WAIT))
}

/// The pairs, the best first.
#[derive(Clone, Debug, Default)]
pub(super) struct CheckList {
    pairs: Vec<Pair>,
}

impl CheckList {
    /// All pairs, the best first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter()
    }

    /// The pair of a route.
    pub(super) fn get_mut(&mut self, route: Route) -> Option<&mut Pair> {
        self.pairs.iter_mut().find(|pair| pair.route == route)
    }

    /// The pair of a route.
    pub(super) fn get(&self, route: Route) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.route == route)
    }

    /// The pair whose check has this transaction.
    pub(super) fn of_transaction(&mut self, wanted: TransactionId) -> Option<&mut Pair> {
        self.pairs
            .iter_mut()
            .find(|pair| matches!(pair.progress, Progress::Checking { id, .. } if id == wanted))
    }

    /// Adds a pair. Where the list is full the worst one that has not worked gives way to a better one; false if there
    /// is none.
    pub(super) fn add(
        &mut self,
        route: Route,
        local_priority: u32,
        remote_priority: u32,
        controlling: bool,
    ) -> bool {
        if self.get_mut(route).is_some() {
            return true;
        }
        let pair = Pair {
            route,
            local_priority,
            remote_priority,
            progress: Progress::Waiting,
            worked: false,
            nominated: false,
            mapped: None,
        };
        if self.pairs.len() >= MAX_PAIRS {
            let worst = self.pairs.iter().rposition(|pair| !pair.worked && !pair.nominated);
            let Some(worst) = worst else { return false };
            if self
                .pairs
                .get(worst)
                .is_some_and(|worst| worst.priority(controlling) >= pair.priority(controlling))
            {
                return false;
            }
            self.pairs.remove(worst);
        }
        self.pairs.push(pair);
        self.sort(controlling);
        true
    }

    /// The role has changed, and with it the order.
    pub(super) fn sort(&mut self, controlling: bool) {
        crate::order::sort_by_key(&mut self.pairs, |pair| std::cmp::Reverse(pair.priority(controlling)));
    }

    /// Checks that are under way are sent anew, as others.
    pub(super) fn begin_anew(&mut self) {
        for pair in &mut self.pairs {
            if matches!(pair.progress, Progress::Checking { .. }) {
                pair.progress = Progress::Waiting;
            }
        }
    }

    /// The best pair that works.
    pub(super) fn best_valid(&self) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.worked)
    }

    /// The best pair that works and that the peer has nominated.
    pub(super) fn best_nominated(&self) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.worked && pair.nominated)
    }

    /// The next that has not been tried.
    pub(super) fn next_waiting(&self) -> Option<Route> {
        self.pairs.iter().find(|pair| pair.progress == Progress::Waiting).map(|pair| pair.route)
    }

    /// The earliest repetition that is due.
    pub(super) fn next_repetition(&self) -> Option<(u64, Route)> {
        let due = self.pairs.iter().filter_map(|pair| match pair.progress {
            Progress::Checking { next_us, .. } => Some((next_us, pair.route)),
            _ => None,
        });
        due.min()
    }

    /// Whether nothing is left to try.
    pub(super) fn is_exhausted(&self) -> bool {
        !self.pairs.iter().any(Pair::is_open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(port: u16) -> Route {
        Route { way: Way::Direct, to: SocketAddr::from(([192, 0, 2, 1], port)) }
    }

    #[test]
    fn thousands_of_candidates_leave_the_best() {
        let mut list = CheckList::default();
        for priority in 1..=5_000u16 {
            list.add(route(priority), 100_000, u32::from(priority), true);
        }
        assert_eq!(list.pairs.len(), MAX_PAIRS);
        assert_eq!(list.pairs[0].route, route(5_000));
        assert!(!list.add(route(9), 100_000, 9, true), "a worse one finds no room");
        list.pairs.iter_mut().for_each(|pair| pair.worked = true);
        assert!(!list.add(route(6_000), 100_000, 6_000, true), "what works gives way to nothing");
    }

    #[test]
    fn a_check_is_repeated_ever_more_slowly_and_given_up() {
        let mut list = CheckList::default();
        list.add(route(1), 1, 1, true);
        let pair = list.get_mut(route(1)).unwrap();
        pair.begin(0, TransactionId([0; 12]), false);
        let mut sent = vec![0];
        while let Progress::Checking { next_us, .. } = pair.progress {
            if pair.repeat(next_us) {
                sent.push(next_us / 1_000);
            }
        }
        assert_eq!(sent, [0, 100, 300, 700, 1_500, 2_300, 3_100, 3_900]);
        assert_eq!(pair.progress, Progress::Failed);
    }

    #[test]
    fn both_sides_find_the_same_order() {
        let pair = |local_priority, remote_priority| Pair {
            route: route(1),
            local_priority,
            remote_priority,
            progress: Progress::Waiting,
            worked: false,
            nominated: false,
            mapped: None,
        };
        assert_eq!(pair(7, 5).priority(true), pair(5, 7).priority(false));
        assert_ne!(pair(7, 5).priority(true), pair(5, 7).priority(true));
    }
}
