//! SRV records (RFC 2782): the name to ask for, and the order among the answers.

use crate::chance::Chance;
use crate::sip::network::{RecordData, Transport};

/// One SRV record.
#[derive(Clone, Debug)]
pub(crate) struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: String,
}

/// A service that is not SIP's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Service {
    /// What its SRV records are asked for by, before the name: `_stun._udp`.
    pub label: &'static str,
    /// The port where there are none.
    pub port: u16,
}

/// A server of such a service, as a configuration names it. Its SRV records are asked for where no port is named
/// (RFC 8489 §8, RFC 5928 §3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerName {
    /// A name or a numeric address, lower case.
    pub host: String,
    /// The port, if it is named.
    pub port: Option<u16>,
    /// What it is asked for.
    pub service: Service,
}

impl ServerName {
    /// A server as people write it.
    pub fn new(host: &str, port: Option<u16>, service: Service) -> ServerName {
        ServerName { host: host.to_ascii_lowercase(), port, service }
    }
}

/// The name that SRV is asked for (RFC 3263 §4.1; RFC 7118 names none for WebSocket, so it is built after the protocol that
/// `SIPS+D2W` stands for).
pub(crate) fn service_name(transport: Transport, host: &str) -> String {
    match transport {
        Transport::Udp => format!("_sip._udp.{host}"),
        Transport::Tcp => format!("_sip._tcp.{host}"),
        Transport::Tls => format!("_sips._tcp.{host}"),
        Transport::Wss => format!("_sips._ws.{host}"),
    }
}

impl Srv {
    /// What a record says, if it is one of these.
    pub fn of(data: RecordData) -> Option<Srv> {
        match data {
            RecordData::Srv { priority, weight, port, target } => {
                Some(Srv { priority, weight, port, target })
            }
            _ => None,
        }
    }
}

/// The records by priority, the most wanted first.
pub(crate) fn by_priority(mut records: Vec<Srv>) -> Vec<Vec<Srv>> {
    crate::order::sort_by_key(&mut records, |record| record.priority);
    let groups = records.chunk_by(|a, b| a.priority == b.priority);
    groups.map(<[Srv]>::to_vec).collect()
}

/// RFC 2782: draws the records of one priority in an order that gives each its share.
pub(crate) fn by_weight(mut records: Vec<Srv>, chance: &mut Chance) -> Vec<Srv> {
    let mut drawn = Vec::with_capacity(records.len());
    crate::order::sort_by_key(&mut records, |record| record.weight);
    while !records.is_empty() {
        let total: u32 = records.iter().map(|record| u32::from(record.weight)).sum();
        let mut point = chance.below(total + 1);
        let index = records.iter().position(|record| {
            let weight = u32::from(record.weight);
            let here = point <= weight && (weight > 0 || point == 0);
            point = point.saturating_sub(weight);
            here
        });
        drawn.push(records.remove(index.unwrap_or(0)));
    }
    drawn
}
