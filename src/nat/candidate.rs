//! What a component can be reached at (RFC 8445 §5.1).

use std::net::{IpAddr, SocketAddr};

/// How a candidate came about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Through a TURN server.
    Relayed,
    /// As a STUN server sees us.
    ServerReflexive,
    /// As a peer sees us.
    PeerReflexive,
    /// An address of this machine.
    Host,
}

impl Kind {
    /// The type preference that RFC 8445 §5.1.2.2 recommends.
    fn preference(self) -> u32 {
        match self {
            Kind::Host => 126,
            Kind::PeerReflexive => 110,
            Kind::ServerReflexive => 100,
            Kind::Relayed => 0,
        }
    }

    /// The word of `a=candidate` (RFC 8839 §5.1).
    pub fn word(self) -> &'static str {
        match self {
            Kind::Host => "host",
            Kind::ServerReflexive => "srflx",
            Kind::PeerReflexive => "prflx",
            Kind::Relayed => "relay",
        }
    }
}

/// The local preference of the machine's first address; each further one has a lower one.
pub const FIRST_PREFERENCE: u16 = 65_535;

/// RFC 8445 §5.1.2.1.
pub fn priority(kind: Kind, local_preference: u16, component: u8) -> u32 {
    kind.preference() << 24 | u32::from(local_preference) << 8 | (256 - u32::from(component.max(1)))
}

/// A candidate, of ours or of the peer, always over UDP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The same for candidates of one kind from one base by one server (RFC 8445 §5.1.1.3).
    pub foundation: String,
    /// 1 for RTP (and what shares its port), 2 for RTCP.
    pub component: u8,
    /// Larger is better.
    pub priority: u32,
    /// Where packets go.
    pub address: SocketAddr,
    /// How it came about.
    pub kind: Kind,
    /// `raddr` and `rport`: the base of a reflexive, the mapped address of a relayed one. Not told to peers with more
    /// than they need: the addresses of this network stay in it.
    pub related: Option<SocketAddr>,
}

impl Candidate {
    /// The same as one of another component: what is found for RTCP's socket is found as for any.
    pub fn of_component(self, component: u8) -> Candidate {
        let first = self.priority + u32::from(self.component.max(1)) - 1;
        Candidate { component, priority: first + 1 - u32::from(component.max(1)), ..self }
    }
}

/// Addresses of this machine that one socket is offered at.
pub const MAX_OWN: usize = 6;

/// The addresses that are offered, the preferred first, where packets to the server of a line leave by `primary`: both
/// families in turn, IPv6 first (RFC 8421 §4), and none that is of use on one link only (RFC 8445 §5.1.1.1).
pub fn own_addresses(primary: IpAddr, machine: &[IpAddr]) -> Vec<IpAddr> {
    let offered = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
                && ip.octets()[0] != 0
        }
        IpAddr::V6(ip) => {
            // Site-local addresses are no longer in use.
            let site_local = ip.segments()[0] & 0xFFC0 == 0xFEC0;
            let mapped = ip.to_ipv4_mapped().is_some();
            let near = ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified();
            !(near || site_local || mapped || ip.is_multicast())
        }
    };
    let others = machine.iter().copied().filter(|ip| offered(&primary) && offered(ip) && *ip != primary);
    let (mut six, mut four): (Vec<IpAddr>, Vec<IpAddr>) = others.partition(IpAddr::is_ipv6);
    if primary.is_ipv6() { &mut six } else { &mut four }.insert(0, primary);
    let mut own = Vec::new();
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    loop {
        let (one, other) = (six.next(), four.next());
        if (one.is_none() && other.is_none()) || own.len() >= MAX_OWN {
            own.truncate(MAX_OWN);
            return own;
        }
        for ip in one.into_iter().chain(other) {
            if !own.contains(&ip) {
                own.push(ip);
            }
        }
    }
}

/// Whether a candidate that a peer names may be sent to at all: no name of another network leads us to this machine,
/// this link, everybody or nobody. `own` are our own addresses; beside a loopback one, loopback is allowed.
pub fn may_be_tried(address: SocketAddr, own: &[IpAddr]) -> bool {
    let ip = address.ip().to_canonical();
    let same_family = own.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
    let near = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast() || ip.octets()[0] == 0);
    let own_near = own.iter().any(|own| match own {
        IpAddr::V4(own) => own.is_loopback() || own.is_link_local(),
        IpAddr::V6(own) => own.is_loopback() || own.is_unicast_link_local(),
    });
    same_family
        && address.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !broadcast
        && (!near || own_near)
}

/// Whether an address is one of a network that nobody routes to from outside.
pub fn is_inside(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && second & 0xC0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_those_of_the_formula() {
        assert_eq!(priority(Kind::Host, 65_535, 1), 2_130_706_431);
        assert_eq!(priority(Kind::ServerReflexive, 65_535, 1), 1_694_498_815);
        assert_eq!(priority(Kind::Relayed, 65_535, 2), 16_777_214);
        assert!(priority(Kind::PeerReflexive, 1, 1) > priority(Kind::ServerReflexive, 65_535, 1));
    }

    #[test]
    fn both_families_are_offered_in_turn_and_nothing_of_a_single_link() {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let own = |primary: &str, machine: &[&str]| own_addresses(primary.parse().unwrap(), &ips(machine));
        let machine = [
            "fe80::1",
            "169.254.7.7",
            "127.0.0.1",
            "::1",
            "fec0::9",
            "::ffff:10.0.0.9",
            "10.0.0.2",
            "172.16.9.2",
            "2001:db8::2",
            "fd00::2",
            "10.0.0.2",
        ];
        let both = ips(&["2001:db8::2", "10.0.0.2", "fd00::2", "172.16.9.2"]);
        assert_eq!(own("10.0.0.2", &machine), both);
        assert_eq!(own("fd00::2", &machine)[..2], ips(&["fd00::2", "10.0.0.2"]));
        assert_eq!(own("10.0.0.2", &[]), ips(&["10.0.0.2"]));
        assert_eq!(
            own("127.0.0.1", &machine),
            ips(&["127.0.0.1"]),
            "a phone that speaks with its own machine"
        );
        let many: Vec<IpAddr> = (0..200u8).map(|last| IpAddr::from([10, 1, 1, last])).collect();
        let own = own_addresses("10.0.0.2".parse().unwrap(), &many);
        assert_eq!((own.len(), own[0]), (MAX_OWN, "10.0.0.2".parse().unwrap()));
    }

    #[test]
    fn inside_is_what_nobody_routes_to() {
        for ip in ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "fd00::1", "fe80::1"] {
            assert!(is_inside(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["100.128.0.1", "172.32.0.1", "203.0.113.1", "2001:db8::1"] {
            assert!(!is_inside(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn no_peer_leads_us_to_ourselves_or_to_everybody() {
        let own = ["192.168.1.5".parse().unwrap()];
        for good in ["203.0.113.7:4000", "10.0.0.1:4000", "192.168.1.9:1"] {
            assert!(may_be_tried(good.parse().unwrap(), &own), "{good}");
        }
        for bad in [
            "127.0.0.1:4000",
            "169.254.1.1:4000",
            "0.0.0.0:4000",
            "0.1.2.3:4000",
            "224.0.0.1:4000",
            "255.255.255.255:4000",
            "203.0.113.7:0",
            "[::1]:4000",
            "[2001:db8::1]:4000",
            "[::ffff:127.0.0.1]:4000",
        ] {
            assert!(!may_be_tried(bad.parse().unwrap(), &own), "{bad}");
        }
        let six = ["2001:db8::5".parse().unwrap()];
        assert!(may_be_tried("[2001:db8::1]:4000".parse().unwrap(), &six));
        assert!(!may_be_tried("[fe80::1]:4000".parse().unwrap(), &six));
        assert!(may_be_tried("127.0.0.1:4000".parse().unwrap(), &["127.0.0.1".parse().unwrap()]));
    }
}
