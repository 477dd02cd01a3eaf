//! Connections of the world: they lose nothing and keep order, but a box on the way may not let them out, or forget them.
//!
//! Phones connect, the PBX listens. A box that forgot a connection says nothing about it: who sends on it is told by the
//! machine after a while that nothing is acknowledged, as TCP_USER_TIMEOUT does it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tipring::sip::network::{FIRST_ACCEPTED, Transport};

/// After this time without an acknowledgement a connection is dead.
const SILENT_DEATH_US: u64 = 5_000_000;

/// What reaches one end.
#[derive(Clone, PartialEq, Debug)]
pub enum Delivery {
    /// The PBX has a new connection.
    Accepted { connection: u64, transport: Transport, remote: SocketAddr },
    /// Bytes for the PBX.
    ToPbx { connection: u64, bytes: Vec<u8> },
    /// The PBX's connection has ended.
    PbxClosed { connection: u64 },
    /// A connection of a phone stands.
    Connected { phone: IpAddr, connection: u64, local: SocketAddr, remote: SocketAddr },
    /// Bytes for a phone.
    ToPhone { phone: IpAddr, connection: u64, bytes: Vec<u8> },
    /// A phone asks for a connection once more, after so many times that nobody answered.
    Again { phone: IpAddr, connection: u64, own: IpAddr, remote: SocketAddr, times: u32 },
    /// A phone's connection has ended, or could not be made.
    Closed { phone: IpAddr, connection: u64, why: &'static str },
}

#[derive(Debug)]
struct Stream {
    phone: IpAddr,
    connection: u64,
    local: SocketAddr,
    remote: SocketAddr,
    /// Where the PBX sees it come from, and its number there.
    outside: SocketAddr,
    accepted: u64,
    /// The PBX lost its power and knows nothing of it.
    lost: bool,
}

/// All of them, and what is under way.
#[derive(Default, Debug)]
pub struct Streams {
    list: Vec<Stream>,
    under_way: BTreeMap<(u64, u64), Delivery>,
    order: u64,
    next: u64,
}

impl Streams {
    fn post(&mut self, at_us: u64, delivery: Delivery) {
        self.order += 1;
        self.under_way.insert((at_us, self.order), delivery);
    }

    /// Makes a connection that gets through: it stands after as many ways as its handshake has.
    pub fn open(
        &mut self,
        now_us: u64,
        way_us: u64,
        (phone, connection): (IpAddr, u64),
        (local, outside, remote): (SocketAddr, SocketAddr, SocketAddr),
        transport: Transport,
    ) {
        let accepted = FIRST_ACCEPTED + self.next;
        self.next += 1;
        self.list.push(Stream { phone, connection, local, remote, outside, accepted, lost: false });
        let ways = match transport {
            Transport::Udp | Transport::Tcp => 2,
            Transport::Tls => 4,
            Transport::Wss => 6,
        };
        self.post(
            now_us + (ways - 1) * way_us,
            Delivery::Accepted { connection: accepted, transport, remote: outside },
        );
        self.post(now_us + ways * way_us, Delivery::Connected { phone, connection, local, remote });
    }

    /// Nobody acknowledges the first segment: it is repeated after one second, and after two more.
    pub fn unanswered(
        &mut self,
        now_us: u64,
        (phone, connection): (IpAddr, u64),
        (own, remote): (IpAddr, SocketAddr),
        times: u32,
    ) {
        if times < 2 {
            let again = Delivery::Again { phone, connection, own, remote, times: times + 1 };
            self.post(now_us + (1_000_000 << times), again);
        } else {
            let why = "connection timed out";
            self.post(now_us + 2_000_000, Delivery::Closed { phone, connection, why });
        }
    }

    /// Nobody listens there.
    pub fn refuse(&mut self, now_us: u64, way_us: u64, phone: IpAddr, connection: u64) {
        let why = "connection refused";
        self.post(now_us + 2 * way_us, Delivery::Closed { phone, connection, why });
    }

    /// The connection of a phone: its inside and outside addresses, and the server.
    pub fn of_phone(&self, phone: IpAddr, connection: u64) -> Option<(SocketAddr, SocketAddr, SocketAddr)> {
        let there = self.list.iter().find(|one| one.phone == phone && one.connection == connection)?;
        Some((there.local, there.outside, there.remote))
    }

    /// The phone that is at the other end of a connection of the PBX, and the addresses as above.
    pub fn of_pbx(&self, accepted: u64) -> Option<(IpAddr, SocketAddr, SocketAddr, SocketAddr)> {
        let there = self.list.iter().find(|one| one.accepted == accepted)?;
        Some((there.phone, there.local, there.outside, there.remote))
    }

    /// A phone sends; `passes`: nobody on the way has forgotten the connection.
    pub fn phone_sends(
        &mut self,
        now_us: u64,
        way_us: u64,
        key: (IpAddr, u64),
        bytes: Vec<u8>,
        passes: bool,
    ) {
        let Some(at) = self.list.iter().position(|one| (one.phone, one.connection) == key) else { return };
        let there = &self.list[at];
        if passes && there.lost {
            let (phone, connection) = key;
            self.post(
                now_us + 2 * way_us,
                Delivery::Closed { phone, connection, why: "connection reset by peer" },
            );
        } else if passes {
            // As a PBX behind which phones sit behind NATs does: the Contact is where it came from.
            let inside = format!("@{};transport=", there.local);
            let text =
                String::from_utf8_lossy(&bytes).replace(&inside, &format!("@{};transport=", there.outside));
            let connection = there.accepted;
            self.post(now_us + way_us, Delivery::ToPbx { connection, bytes: text.into_bytes() });
        } else {
            let (phone, connection) = key;
            let dead = |delivery: &Delivery| matches!(delivery, Delivery::Closed { phone: one, connection: two, .. } if (*one, *two) == key);
            if !self.under_way.values().any(dead) {
                let why = "connection timed out";
                self.post(now_us + SILENT_DEATH_US, Delivery::Closed { phone, connection, why });
            }
        }
    }

    /// The PBX sends.
    pub fn pbx_sends(&mut self, now_us: u64, way_us: u64, accepted: u64, bytes: Vec<u8>, passes: bool) {
        let Some(there) = self.list.iter().find(|one| one.accepted == accepted) else { return };
        let (phone, connection) = (there.phone, there.connection);
        if passes {
            self.post(now_us + way_us, Delivery::ToPhone { phone, connection, bytes });
        }
    }

    /// A phone ends its connection.
    pub fn close_phone(&mut self, now_us: u64, way_us: u64, phone: IpAddr, connection: u64) {
        if let Some(at) = self.list.iter().position(|one| (one.phone, one.connection) == (phone, connection))
        {
            let there = self.list.remove(at);
            self.post(now_us + way_us, Delivery::PbxClosed { connection: there.accepted });
        }
    }

    /// The PBX ends one, or its machine went down and says so when it is asked.
    pub fn close_pbx(&mut self, now_us: u64, way_us: u64, accepted: u64) {
        if let Some(at) = self.list.iter().position(|one| one.accepted == accepted) {
            let Stream { phone, connection, .. } = self.list.remove(at);
            let why = "the peer closed the connection";
            self.post(now_us + way_us, Delivery::Closed { phone, connection, why });
        }
    }

    /// The PBX loses its power: nobody is told, and whoever sends to it later is reset.
    pub fn forget(&mut self) {
        self.list.iter_mut().for_each(|one| one.lost = true);
        self.under_way
            .retain(|_, delivery| !matches!(delivery, Delivery::ToPbx { .. } | Delivery::Accepted { .. }));
    }

    /// When the next thing arrives.
    pub fn next_arrival(&self) -> Option<u64> {
        self.under_way.first_key_value().map(|((at_us, _), _)| *at_us)
    }

    /// What has arrived by now.
    pub fn arrive(&mut self, now_us: u64) -> Option<Delivery> {
        if self.next_arrival()? > now_us {
            return None;
        }
        let (_, delivery) = self.under_way.pop_first()?;
        if let Delivery::Closed { phone, connection, .. } = &delivery {
            self.list.retain(|one| (one.phone, one.connection) != (*phone, *connection));
        }
        Some(delivery)
    }
}
