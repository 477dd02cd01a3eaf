//! `[subscriptions]`: what programs may have themselves told through the API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::network::Network;
use super::reader::{Scope, section, within};
use super::words::LetterCase;

section! {
    /// `[subscriptions]`: programs that have themselves told of an extension's events through the API, as at Ringme and Telphin.
    pub struct Subscriptions {
        /// How many an extension may have, of all programs together.
        limit: u32 = default "16", if within(1, 64);
        /// Networks inside to which their URLs may lead: ["192.168.1.0/24"]. Else none leads to this machine or into a private
        /// network, whatever its name stands for.
        private: Vec<Network> = default "[]";
        /// true: calls between two extensions (CLIENT*EXTENSION on both sides) are not told.
        external_only: bool = default "false";
        /// How CallFlow is written: "lower" (in, out) or "upper" (IN, OUT).
        call_flow: LetterCase = default "\"lower\"";
    }
}

impl Subscriptions {
    /// Whether a request that somebody outside asked for may go to this address.
    pub fn permit(&self, address: IpAddr) -> bool {
        is_public(address) || self.private.iter().any(|network| network.contains(address))
    }

    fn check(&self, _: &mut Scope<'_, '_>) {}
}

/// Whether an address is one of the public Internet (RFC 6890), whatever clothes it comes in.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match a {
        0 | 10 | 127 | 224.. => true,
        100 => (64..128).contains(&b),
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        198 => matches!(b, 18 | 19) || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // NAT64 (RFC 6052) and 6to4 lead to the IPv4 address in them.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Teredo, documentation.
        [0x2001, 0 | 0xdb8, ..] | [0x3fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_leads_inside_unless_a_network_is_named() {
        let none = Subscriptions::default();
        for public in ["8.8.8.8", "193.0.0.1", "2a00:1450::1", "64:ff9b::808:808", "::ffff:8.8.8.8"] {
            assert!(none.permit(public.parse().expect("an address")), "{public}");
        }
        let private = vec![Network { address: "192.168.1.0".parse().expect("an address"), prefix: 24 }];
        let some = Subscriptions { private, ..Subscriptions::default() };
        for inside in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.7",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:0:1::",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
        ] {
            let address = inside.parse().expect("an address");
            assert!(!none.permit(address), "{inside}");
            assert_eq!(some.permit(address), inside == "192.168.1.7", "{inside}");
        }
    }
}
