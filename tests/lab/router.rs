//! Routers with NAT and the offices behind them: every kind that phones meet, and what routers do to them in the night.

use std::fs;
use std::process::{Command, Stdio};

use crate::impair::{Emulator, Link};
use crate::netns::{Host, Lab};
use crate::process::run;

/// What a router does to what passes. Mapping and filtering are in the words of RFC 4787.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nat {
    /// Routes both ways and translates nothing.
    Open,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    PortRestricted,
    /// Address- and port-dependent mapping and filtering.
    Symmetric,
    /// Port-restricted; UDP disappears.
    UdpBlocked,
    /// Port-restricted; UDP is answered by an ICMP error.
    UdpRejected,
    /// Port-restricted; nothing but TCP to port 443 leaves.
    OnlyTcp443,
    /// Port-restricted, and the kernel's SIP helper rewrites what passes to port 5060 by UDP.
    SipAlg,
}

/// What is between an office and the public net.
#[derive(Clone, Copy, Debug)]
pub struct Uplink {
    nat: Nat,
    carrier: Option<Nat>,
    /// Seconds after which its routers forget an idle mapping.
    pub lifetime: u32,
    link: Option<Link>,
}

impl From<Nat> for Uplink {
    fn from(nat: Nat) -> Uplink {
        Uplink { nat, carrier: None, lifetime: 60, link: None }
    }
}

impl Uplink {
    /// A port-restricted router behind the provider's own NAT of this kind, 100.64.0.0/10 between them (RFC 6598).
    pub fn carrier(nat: Nat) -> Uplink {
        Uplink { carrier: Some(nat), ..Nat::PortRestricted.into() }
    }

    /// Every router forgets a UDP mapping after so many seconds without a packet.
    pub fn lifetime(self, seconds: u32) -> Uplink {
        Uplink { lifetime: seconds, ..self }
    }

    /// The cable to the public net is a bad one.
    pub fn over(self, link: Link) -> Uplink {
        Uplink { link: Some(link), ..self }
    }
}

/// The net 192.168.1.0/24 behind a router, and the host 192.168.1.10 in it.
pub struct Office {
    pub host: Host,
    /// The one in the office.
    pub router: Router,
    /// The provider's.
    pub carrier: Option<Router>,
    /// The bad cable.
    pub link: Option<Emulator>,
}

/// One router: `lan0` inside, `wan0` outside.
pub struct Router {
    space: String,
}

/// Bytes and packets, IP headers counted, that a router passed on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
}

impl Lab {
    /// An office whose public address is `203.0.113.<last>`.
    pub fn office(&self, role: &str, last: u8, uplink: impl Into<Uplink>) -> Office {
        let uplink = uplink.into();
        let (router, carrier) = (format!("{role}nat"), format!("{role}carrier"));
        let address = format!("203.0.113.{last}");
        let outermost = self.space(if uplink.carrier.is_some() { &carrier } else { &router });
        let link = match uplink.link {
            None => {
                self.attach(&outermost, "wan0", &address);
                None
            }
            Some(link) => {
                let port = self.port();
                let emulator = Emulator::between(self, role, [&outermost, &self.inside("wan")], &port, link);
                self.plug(&port);
                run("ip", &["-n", &outermost, "addr", "add", &format!("{address}/24"), "dev", "wan0"]);
                Some(emulator)
            }
        };
        let (router, carrier) = match uplink.carrier {
            None => (outermost, None),
            Some(nat) => {
                let home = self.space(&router);
                self.link(&outermost, "lan0", &home, "wan0");
                run("ip", &["-n", &outermost, "addr", "add", "100.64.0.1/10", "dev", "lan0"]);
                run("ip", &["-n", &home, "addr", "add", "100.64.0.2/10", "dev", "wan0"]);
                run("ip", &["-n", &home, "route", "add", "default", "via", "100.64.0.1"]);
                (home, Some(Router::made(self, outermost, nat, uplink.lifetime)))
            }
        };
        run("ip", &["-n", &router, "link", "add", "lan0", "type", "bridge"]);
        run("ip", &["-n", &router, "link", "set", "lan0", "up"]);
        run("ip", &["-n", &router, "addr", "add", "192.168.1.1/24", "dev", "lan0"]);
        let router = Router::made(self, router, uplink.nat, uplink.lifetime);
        if uplink.nat == Nat::Open {
            self.route("192.168.1.0/24", &address);
        }
        let host = router.desk(self, role, 10);
        Office { host, router, carrier, link }
    }
}

impl Office {
    /// The router that has the public address.
    pub fn edge(&self) -> &Router {
        self.carrier.as_ref().unwrap_or(&self.router)
    }
}

impl Router {
    fn made(lab: &Lab, space: String, nat: Nat, lifetime: u32) -> Router {
        let file = lab.folder().join(format!("{space}.nft"));
        fs::write(&file, rules(nat, lifetime)).expect("a rule file");
        let router = Router { space };
        router.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
        router.lives(lifetime);
        router.run("nft", &["-f", file.to_str().expect("a plain path")]);
        router
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let all = [&["netns", "exec", &self.space, program], arguments].concat();
        run("ip", &all)
    }

    /// One more host in the office, at `192.168.1.<last>`.
    pub fn desk(&self, lab: &Lab, role: &str, last: u8) -> Host {
        let (space, port, address) = (lab.space(role), format!("d{last}"), format!("192.168.1.{last}"));
        lab.link(&space, "eth0", &self.space, &port);
        run("ip", &["-n", &self.space, "link", "set", &port, "master", "lan0"]);
        run("ip", &["-n", &space, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        run("ip", &["-n", &space, "route", "add", "default", "via", "192.168.1.1"]);
        lab.known(space, &address)
    }

    /// How long it remembers an idle UDP mapping from now on, in seconds. Its cones keep what they were made with.
    pub fn lives(&self, seconds: u32) {
        let key = "net.netfilter.nf_conntrack_udp_timeout";
        self.run("sysctl", &["-qw", &format!("{key}={seconds}"), &format!("{key}_stream={seconds}")]);
    }

    /// Gives it another public address, as providers do overnight; its mappings are gone.
    pub fn readdress(&self, last: u8) {
        let table = self.run("ip", &["-4", "-o", "addr", "show", "dev", "wan0"]);
        let old = table.split_whitespace().nth(3).expect("an address of wan0").to_owned();
        self.run("ip", &["addr", "del", &old, "dev", "wan0"]);
        self.run("ip", &["addr", "add", &format!("203.0.113.{last}/24"), "dev", "wan0"]);
        self.forget();
    }

    /// Starts it anew, with the same address: every mapping is forgotten.
    pub fn forget(&self) {
        // It answers 1 when there was nothing to forget.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space, "conntrack", "-F"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("conntrack");
        for map in ["cone", "near"] {
            self.run("nft", &["flush", "map", "ip", "nat", map]);
        }
    }

    /// Takes the cable out of its public side, or puts it back in; mappings are gone with it.
    pub fn plugged(&self, plugged: bool) {
        self.forget();
        self.run("ip", &["link", "set", "wan0", if plugged { "up" } else { "down" }]);
    }

    /// What fits this expression of nft, and goes from inside to outside, disappears from now on.
    pub fn swallow(&self, expression: &str) {
        let rule = format!("add rule ip nat hole iifname lan0 {expression} counter drop");
        self.run("nft", &rule.split(' ').collect::<Vec<_>>());
    }

    /// Nothing is swallowed any more.
    pub fn swallow_nothing(&self) {
        self.run("nft", &["flush", "chain", "ip", "nat", "hole"]);
    }

    /// What has gone out and come in so far.
    pub fn traffic(&self) -> [Traffic; 2] {
        ["out", "back"].map(|name| {
            let text = self.run("nft", &["list", "counter", "ip", "nat", name]);
            let words: Vec<&str> = text.split_whitespace().collect();
            let after = |word: &str| {
                let at = words.iter().position(|it| *it == word).expect("a counter");
                words[at + 1].parse().expect("a number")
            };
            Traffic { bytes: after("bytes"), packets: after("packets") }
        })
    }
}

/// The rules of a router. Only what comes from inside, belongs to it or hits an open cone passes.
fn rules(nat: Nat, lifetime: u32) -> String {
    let translate = match nat {
        Nat::Open => "accept",
        Nat::Symmetric => "masquerade fully-random",
        _ => "masquerade persistent",
    };
    let gate = match nat {
        Nat::Open => "accept",
        Nat::UdpBlocked => "iifname lan0 meta l4proto udp drop",
        Nat::UdpRejected => "iifname lan0 meta l4proto udp reject with icmp type admin-prohibited",
        Nat::OnlyTcp443 => "iifname lan0 tcp dport != 443 drop; iifname lan0 meta l4proto != tcp drop",
        _ => "",
    };
    // A cone remembers, by the outside port, whose mapping it is; packets out of the office refresh it. At this place
    // the packet has its outside port already.
    let key = match nat {
        Nat::FullCone => "update @cone { udp sport :",
        Nat::AddressRestricted => "update @near { ip daddr . udp sport :",
        _ => "",
    };
    let learn = match key {
        "" => String::new(),
        key => {
            let rule = |way: &str| {
                format!(
                    "oifname wan0 meta l4proto udp ct direction {way} {key} ct {way} ip saddr . ct {way} proto-src }}\n"
                )
            };
            rule("original") + &rule("reply")
        }
    };
    let welcome = match nat {
        Nat::FullCone => "iifname wan0 meta l4proto udp dnat to udp dport map @cone",
        Nat::AddressRestricted => "iifname wan0 meta l4proto udp dnat to ip saddr . udp dport map @near",
        _ => "",
    };
    let [helper, help] = match nat {
        Nat::SipAlg => [
            "ct helper sip { type \"sip\" protocol udp; l3proto ip; }",
            "iifname lan0 udp dport 5060 ct helper set \"sip\"",
        ],
        _ => ["", ""],
    };
    let map = format!("ipv4_addr . inet_service; flags dynamic,timeout; timeout {lifetime}s; size 4096;");
    format!(
        "table ip nat {{
           counter out {{ }}
           counter back {{ }}
           map cone {{ type inet_service : {map} }}
           map near {{ type ipv4_addr . inet_service : {map} }}
           {helper}
           chain hole {{ type filter hook forward priority -20; }}
           chain count {{ type filter hook forward priority -10;
             iifname lan0 oifname wan0 counter name \"out\"
             iifname wan0 oifname lan0 counter name \"back\"
           }}
           chain forward {{ type filter hook forward priority filter; policy drop;
             {gate}
             ct state established,related accept
             ct status dnat accept
             iifname lan0 accept
           }}
           chain input {{ type filter hook input priority filter;
             ct state established,related accept
             iifname wan0 meta l4proto {{ tcp, udp }} drop
           }}
           chain help {{ type filter hook prerouting priority filter; {help}; }}
           chain pre {{ type nat hook prerouting priority dstnat; {welcome}; }}
           chain post {{ type nat hook postrouting priority srcnat; oifname wan0 {translate}; }}
           chain learn {{ type filter hook postrouting priority 110;
             {learn}
           }}
         }}"
    )
}
