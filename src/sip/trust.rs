//! Who may send us requests: the servers a line's names lead to, the flow it is registered over, configured
//! networks.
//!
//! A stranger's request gets no answer at all: an answer would tell a scanner that somebody is here.

use std::net::IpAddr;

/// Who may send requests for a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// The registered flow and the servers that the line's names resolve to.
    Registered,
    /// Those, and every address in these networks.
    Networks(Vec<Network>),
}

/// An IP network: an address and how many leading bits count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// Any address in it.
    pub address: IpAddr,
    /// The length of the prefix in bits; more than the family has means all.
    pub prefix: u8,
}

impl Network {
    /// All of IPv4.
    pub const ANY_V4: Network = Network { address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), prefix: 0 };
    /// All of IPv6.
    pub const ANY_V6: Network = Network { address: IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), prefix: 0 };

    /// Whether the address lies inside. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let host_bits = 32 - u32::from(self.prefix).min(32);
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let host_bits = 128 - u32::from(self.prefix).min(128);
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, prefix: u8, address: &str) -> bool {
        Network { address: network.parse().unwrap(), prefix }.contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_is_its_leading_bits() {
        assert!(contains("192.0.2.77", 24, "192.0.2.1"));
        assert!(!contains("192.0.2.77", 24, "192.0.3.1"));
        assert!(contains("192.0.2.77", 32, "192.0.2.77") && !contains("192.0.2.77", 32, "192.0.2.76"));
        assert!(contains("192.0.2.77", 99, "192.0.2.77") && !contains("192.0.2.77", 99, "192.0.2.76"));
        assert!(contains("0.0.0.0", 0, "255.1.2.3") && !contains("0.0.0.0", 0, "2001:db8::1"));
        assert!(contains("2001:db8::", 32, "2001:db8:ffff::1") && !contains("2001:db8::", 32, "2001:db9::1"));
        assert!(contains("::", 0, "fe80::1") && contains("2001:db8::1", 128, "2001:db8::1"));
        assert!(contains("10.0.0.0", 8, "::ffff:10.1.2.3"), "a dual-stack socket sees IPv4 like this");
    }
}
