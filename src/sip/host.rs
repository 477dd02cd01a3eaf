//! The host of a URI or of a Via: a name, an IPv4 address, an IPv6 address in brackets (RFC 3261 §25.1, RFC
//! 5118).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest name of a host, in characters (RFC 1035 §2.3.4, with its final dot).
pub const MAX_HOST: usize = 254;

/// Who is meant: a name to be looked up, or an address. Names compare without regard to case.
#[derive(Clone, Debug)]
pub enum Host {
    /// A name, as it was written.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address; an IPv4-mapped one stays one (RFC 5118 §4.9).
    V6(Ipv6Addr),
}

impl Host {
    /// Reads a host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn parse(text: &str) -> Option<Host> {
        if let Some(inner) = text.strip_prefix('[') {
            return inner.strip_suffix(']')?.parse().ok().map(Host::V6);
        }
        let first = *text.as_bytes().first()?;
        if first.is_ascii_digit()
            && let Ok(address) = text.parse()
        {
            return Some(Host::V4(address));
        }
        // The underscore is no character of a host, but of service names in use inside companies.
        let belongs = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_');
        let is_name = text.len() <= MAX_HOST
            && text.bytes().all(belongs)
            && !matches!(first, b'.' | b'-')
            && !text.contains("..");
        is_name.then(|| Host::Name(text.to_owned()))
    }

    /// The address, where the host is not a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::V4(address) => Some(IpAddr::V4(*address)),
            Host::V6(address) => Some(IpAddr::V6(*address)),
        }
    }

    /// The name, where the host is no address.
    pub fn name(&self) -> Option<&str> {
        match self {
            Host::Name(name) => Some(name),
            Host::V4(_) | Host::V6(_) => None,
        }
    }
}

/// Reads an address that may stand without brackets although it is an IPv6 one, as some write it in
/// `received` (RFC 5118 §4.5).
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    inner.parse().ok()
}

/// Reads a port of 1 to 65535.
pub fn parse_port(digits: &[u8]) -> Option<u16> {
    super::grammar::number(digits).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0)
}

impl PartialEq for Host {
    fn eq(&self, other: &Host) -> bool {
        match (self, other) {
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Host::V4(a), Host::V4(b)) => a == b,
            (Host::V6(a), Host::V6(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Host {}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Host {
        match address {
            IpAddr::V4(address) => Host::V4(address),
            IpAddr::V6(address) => Host::V6(address),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::V4(address) => write!(f, "{address}"),
            Host::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// A host and, where it was said, a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port; `None` is the default of the transport.
    pub port: Option<u16>,
}

impl HostPort {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`; blanks around the colon are allowed.
    pub fn parse(text: &str) -> Option<HostPort> {
        let colon = match text.strip_prefix('[') {
            Some(_) => text.find(']').and_then(|end| text[end..].find(':').map(|colon| end + colon)),
            None => text.find(':'),
        };
        let Some(colon) = colon else { return Host::parse(text).map(|host| HostPort { host, port: None }) };
        let (host, port) = text.split_at(colon);
        let port = parse_port(super::grammar::trim(port.as_bytes().get(1..)?))?;
        Some(HostPort { host: Host::parse(host.trim_end_matches([' ', '\t']))?, port: Some(port) })
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> HostPort {
        HostPort { host: address.ip().into(), port: Some(address.port()) }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_in_brackets_belongs_to_the_address() {
        let ambiguous = HostPort::parse("[2001:db8::10:5070]").unwrap();
        assert_eq!(
            (ambiguous.host.ip().unwrap().to_string(), ambiguous.port),
            ("2001:db8::10:5070".into(), None)
        );
        let clear = HostPort::parse("[2001:db8::10]:5070").unwrap();
        assert_eq!((clear.host.to_string(), clear.port), ("[2001:db8::10]".into(), Some(5070)));
    }

    #[test]
    fn addresses_and_names_are_told_apart() {
        assert_eq!(Host::parse("192.0.2.1"), Some(Host::V4(Ipv4Addr::new(192, 0, 2, 1))));
        assert_eq!(Host::parse("1.pool.example"), Some(Host::Name("1.POOL.example".into())));
        for bad in
            ["", "2001:db8::1", "[2001:db8::1", "[]", "a b", "-a", ".a", "a..b", "a/b", "[fe80::1%eth0]"]
        {
            assert_eq!(Host::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ports_have_a_range() {
        assert_eq!(HostPort::parse("h : 5060").and_then(|h| h.port), Some(5060));
        for bad in ["h:0", "h:65536", "h:99999", "h:", "h:-1", "h:5060x", "[::1]5060"] {
            assert_eq!(HostPort::parse(bad), None, "{bad}");
        }
    }
}
