//! Changes of the machine's network: addresses, links and default routes, told by the kernel (rtnetlink(7)), and the
//! sleep of the whole machine, which nobody tells.
//!
//! What the kernel says is hardly read: any word of it is a reason to look, once it has been quiet for a moment. Only that
//! it was of a rule of routing is remembered: what rules lead to is not seen by looking.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use nix::time::ClockId;
use tokio::net::UdpSocket;

use super::sip_network::local_address;
use crate::config::Config;

/// After a word of the kernel's, more are waited for: an interface that comes up says a dozen.
pub const SETTLED_AFTER: Duration = Duration::from_millis(80);
/// How often the network is looked at where the kernel does not tell, and a sleep of the machine is looked for.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A sleep of the machine counts from this length.
const SLEEP: Duration = Duration::from_secs(1);
/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV4_RULE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE, and the
/// bit of RTNLGRP_IPV6_RULE.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x4_0000;
/// RTM_NEWRULE and RTM_DELRULE.
const OF_RULES: [u16; 2] = [32, 33];
/// Of the kernel's tables of routes; what is longer belongs to a router.
const LARGEST_TABLE: u64 = 64 * 1024;

/// Where the kernel tells of changes.
// To the event loop a socket is a socket: it need not be of UDP to be waited for and received from.
pub struct Netlink {
    socket: UdpSocket,
    ruled: AtomicBool,
}

impl Netlink {
    /// Begins to listen; inside the runtime.
    ///
    /// # Errors
    /// The system's, where such sockets are not allowed.
    pub fn open() -> io::Result<Netlink> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(listener.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Netlink { socket: UdpSocket::from_std(listener.into())?, ruled: AtomicBool::new(false) })
    }

    /// Waits for a word, and drops what was said.
    pub async fn changed(&self) {
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer).await {
            Ok(length) => self.note(buffer.get(..length)),
            // More was said than the socket holds: a change all the same.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => {}
            // Any other error stays.
            Err(_) => std::future::pending().await,
        }
        while let Ok(length) = self.socket.try_recv(&mut buffer) {
            self.note(buffer.get(..length));
        }
    }

    fn note(&self, said: Option<&[u8]>) {
        if said.is_some_and(is_of_rules) {
            self.ruled.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a rule of routing has come or gone since this was asked last.
    pub fn take_ruled(&self) -> bool {
        self.ruled.swap(false, Ordering::Relaxed)
    }
}

/// Whether a message of the kernel's, `nlmsghdr` in front, is of a rule. A change is told by a message of its own.
fn is_of_rules(message: &[u8]) -> bool {
    matches!(*message, [_, _, _, _, a, b, ..] if OF_RULES.contains(&u16::from_ne_bytes([a, b])))
}

/// What of the network matters to a phone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Surroundings {
    /// The addresses of interfaces that have a link, without those that lead nowhere.
    pub addresses: BTreeSet<IpAddr>,
    routes: BTreeSet<String>,
}

impl Surroundings {
    /// As they are now.
    pub fn look() -> Surroundings {
        let mut addresses = BTreeSet::new();
        for interface in getifaddrs().into_iter().flatten() {
            let works = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
            if !interface.flags.contains(works) || interface.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
                continue;
            }
            let address = interface.address.as_ref();
            let v4 = address.and_then(|address| address.as_sockaddr_in()).map(|v4| IpAddr::from(v4.ip()));
            let v6 = address.and_then(|address| address.as_sockaddr_in6()).map(|v6| IpAddr::from(v6.ip()));
            addresses.extend(v4.or(v6).filter(|ip| !is_link_local(ip)));
        }
        let mut routes = default_routes(&table("/proc/net/route"));
        routes.extend(default_routes_v6(&table("/proc/net/ipv6_route")));
        Surroundings { addresses, routes }
    }
}

impl Surroundings {
    /// The addresses that this configuration's sockets are reached at. Of several of IPv6 it is the one that packets
    /// leave from: answers would come from there whatever was asked.
    pub fn reached_at(&self, config: &Config) -> Vec<IpAddr> {
        if let Some(bound) = &config.sip.bind
            && !bound.0.is_unspecified()
        {
            return vec![bound.0];
        }
        let source = local_address(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1).into()).ok();
        let leaves = |address: &IpAddr| address.is_ipv4() || source.is_none_or(|source| source == *address);
        self.addresses.iter().copied().filter(leaves).collect()
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn table(path: &str) -> String {
    let mut text = String::new();
    // Without it only addresses count.
    if let Ok(file) = File::open(path) {
        let _ = file.take(LARGEST_TABLE).read_to_string(&mut text);
    }
    text
}

/// Interface and gateway of each default route, and which is the first by its metric: packets leave there. What counts
/// packets is left out.
fn default_routes(table: &str) -> BTreeSet<String> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [interface, "00000000", gateway, _, _, _, metric, "00000000", ..] = columns.as_slice() else {
            return None;
        };
        Some((metric.parse().ok()?, format!("{interface} {gateway}")))
    };
    with_the_first(table.lines().skip(1).filter_map(route).collect())
}

fn default_routes_v6(table: &str) -> BTreeSet<String> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, "00", _, _, gateway, metric, .., interface] = columns.as_slice() else {
            return None;
        };
        let is_default = destination.bytes().all(|digit| digit == b'0') && *interface != "lo";
        let metric = u32::from_str_radix(metric, 16).ok().filter(|_| is_default)?;
        Some((metric, format!("{interface} {gateway}")))
    };
    with_the_first(table.lines().filter_map(route).collect())
}

/// The routes without their metrics, whose values alone say nothing; the least is marked.
fn with_the_first(routes: Vec<(u32, String)>) -> BTreeSet<String> {
    let least = routes.iter().map(|(metric, _)| *metric).min();
    let marked = |(metric, route): (u32, String)| match Some(metric) == least {
        true => format!("{route} first"),
        false => route,
    };
    crate::order::gathered(routes.into_iter().map(marked))
}

/// Notices that the machine has slept: its monotonic clock stood still meanwhile, and connections and mappings have died
/// of old age.
#[derive(Debug)]
pub struct Sleep(Duration);

impl Sleep {
    /// Counts from now.
    pub fn new() -> Sleep {
        Sleep(slept())
    }

    /// Whether the machine has slept since it was asked last.
    pub fn is_over(&mut self) -> bool {
        self.note(slept())
    }

    /// The same for a machine that has slept so long altogether.
    pub fn note(&mut self, slept: Duration) -> bool {
        slept.saturating_sub(std::mem::replace(&mut self.0, slept)) >= SLEEP
    }
}

impl Default for Sleep {
    fn default() -> Sleep {
        Sleep::new()
    }
}

/// How long the machine has slept since it was switched on.
fn slept() -> Duration {
    // A clock that cannot be read stands still: nothing has slept then.
    let read = |clock: ClockId| clock.now().map(Duration::from).unwrap_or_default();
    // In this order: a pause between the two readings makes it less, not more.
    let running = read(ClockId::CLOCK_BOOTTIME);
    running.saturating_sub(read(ClockId::CLOCK_MONOTONIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_interface_and_gateway() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0101A8C0\t0003\t0\t7\t100\t00000000\t0\t0\t0\n\
                     eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
                     tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\nbroken\n";
        assert_eq!(default_routes(table), BTreeSet::from(["eth0 0101A8C0 first".to_owned()]));
        assert_eq!(
            default_routes(&table.replace("\t7\t", "\t8\t")),
            default_routes(table),
            "packets don't count"
        );
        let zero = "0".repeat(32);
        let gateway = "fe800000000000000000000000000001";
        let table = format!(
            "{zero} 00 {zero} 00 {gateway} 00000400 00000001 00000000 00000003     eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             20010db8000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth0\nx\n"
        );
        assert_eq!(default_routes_v6(&table), BTreeSet::from([format!("eth0 {gateway} first")]));
    }

    #[test]
    fn a_default_route_that_takes_over_by_its_metric_is_another_network() {
        let table = |eth0: u32, wlan0: u32| {
            format!(
                "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                 eth0\t00000000\t0101A8C0\t0003\t0\t0\t{eth0}\t00000000\t0\t0\t0\n\
                 wlan0\t00000000\t0102A8C0\t0003\t0\t0\t{wlan0}\t00000000\t0\t0\t0\n"
            )
        };
        assert_ne!(default_routes(&table(100, 600)), default_routes(&table(20_100, 600)));
        assert_eq!(default_routes(&table(100, 600)), default_routes(&table(100, 700)), "the same one wins");
        let zero = "0".repeat(32);
        let table = |eth0: u32, wlan0: u32| {
            let line = |interface: &str, metric: u32| {
                let gateway = "fe800000000000000000000000000001";
                format!("{zero} 00 {zero} 00 {gateway} {metric:08x} 00000001 00000000 00000003 {interface}\n")
            };
            line("eth0", eth0) + &line("wlan0", wlan0)
        };
        assert_ne!(default_routes_v6(&table(100, 600)), default_routes_v6(&table(20_100, 600)));
        assert_eq!(default_routes_v6(&table(100, 600)), default_routes_v6(&table(100, 700)));
    }

    #[test]
    fn a_rule_that_comes_or_goes_is_told_from_a_route() {
        let said = |kind: u16| {
            let [a, b] = kind.to_ne_bytes();
            [28, 0, 0, 0, a, b, 0, 0, 0, 0, 0, 0]
        };
        assert!(is_of_rules(&said(32)) && is_of_rules(&said(33)));
        assert!(!is_of_rules(&said(24)) && !is_of_rules(&said(20)) && !is_of_rules(&[28, 0, 0, 0, 32]));
    }

    #[test]
    fn a_sleep_is_noticed_once() {
        let at = Duration::from_secs;
        let mut sleep = Sleep(at(10));
        assert!(!sleep.note(at(10)) && !sleep.note(Duration::from_millis(10_900)));
        assert!(sleep.note(at(70)) && !sleep.note(at(70)));
        assert!(!Sleep::new().is_over());
    }

    #[test]
    fn a_look_sees_no_loopback() {
        assert!(Surroundings::look().addresses.iter().all(|address| !address.is_loopback()));
    }
}
