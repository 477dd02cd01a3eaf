//! Places in the network: ranges of addresses, hosts, SIP URIs, where the API listens.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde_json::json;
use toml_edit::Value;

use super::reader::{At, Node, Setting};
use super::values::{Written, written};

/// A range of addresses, written `"192.0.2.0/24"`; an address alone is a range of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    /// Any address in it.
    pub address: IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl Network {
    /// Whether an address lies in the range. An IPv4 address in IPv6 clothes is taken as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 }
    }
}

impl Written for Network {
    const FORM: &'static str = "a network such as \"192.0.2.0/24\" or \"2001:db8::/32\"";

    fn parse(text: &str) -> Result<Network, String> {
        let wrong = || format!("write {}", Self::FORM);
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => most,
        };
        if prefix > most {
            return Err(format!("the number after / is {most} at most"));
        }
        Ok(Network { address, prefix })
    }

    fn written(&self) -> String {
        format!("{}/{}", self.address, self.prefix)
    }
}

/// Who may send us SIP requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Trusted {
    /// The flow over which a line is registered, and the servers that its names resolve to.
    #[default]
    Registered,
    /// These networks as well.
    Networks(Vec<Network>),
}

impl Setting for Trusted {
    const EXPECTS: &'static str = "\"registered\", or a list of networks such as [\"192.0.2.0/24\"]";

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        match node {
            Node::Value(Value::String(word)) if word.value() == "registered" => Some(Trusted::Registered),
            Node::Value(Value::Array(_)) => Vec::read(node, at).map(Trusted::Networks),
            _ => {
                at.wrong(node, ("is not understood".into(), format!("write {}", Self::EXPECTS)));
                None
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Trusted::Registered => json!("registered"),
            Trusted::Networks(networks) => networks.json(),
        }
    }
}

/// Where the API listens on the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Listen {
    /// Nowhere; the local socket stays.
    #[default]
    Off,
    /// At this address and port.
    At(SocketAddr),
}

impl Written for Listen {
    const FORM: &'static str = "an address and a port such as \"127.0.0.1:8080\", or \"off\"";

    fn parse(text: &str) -> Result<Listen, String> {
        if text == "off" {
            return Ok(Listen::Off);
        }
        text.parse().map(Listen::At).map_err(|_| format!("write {}", Self::FORM))
    }

    fn written(&self) -> String {
        match self {
            Listen::Off => "off".into(),
            Listen::At(address) => address.to_string(),
        }
    }
}

/// The domain of a line: a host name or an address, with a port where one must be named.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Domain(String);

impl Domain {
    /// As in a SIP URI: IPv6 in brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Written for Domain {
    const FORM: &'static str = "a host name such as \"pbx.example.com\"";

    fn parse(text: &str) -> Result<Domain, String> {
        let text = text.trim();
        if let Ok(IpAddr::V6(address)) = text.parse() {
            return Ok(Domain(format!("[{address}]")));
        }
        if let Some(rest) = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:")) {
            return Err(format!("leave out the scheme: \"{rest}\""));
        }
        if let Some((user, host)) = text.split_once('@') {
            return Err(format!("write user = \"{user}\" and domain = \"{host}\""));
        }
        host_port(text).map(|()| Domain(text.to_owned()))
    }

    fn written(&self) -> String {
        self.0.clone()
    }
}

/// A SIP URI, kept as it is written: `sip:host`, `sips:user@host:port;transport=tcp`. A bare host gets its scheme.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct SipUri(String);

impl SipUri {
    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Written for SipUri {
    const FORM: &'static str = "a SIP URI such as \"sip:pbx.example.com:5060;transport=tcp\"";

    fn parse(text: &str) -> Result<SipUri, String> {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = if lower.starts_with("sip:") {
            ("sip", text.get(4..).unwrap_or_default())
        } else if lower.starts_with("sips:") {
            ("sips", text.get(5..).unwrap_or_default())
        } else if lower.starts_with("wss://") || lower.starts_with("ws://") {
            return Err(format!("write transport = \"wss\" and websocket = \"{text}\""));
        } else if text.contains("://") {
            return Err(format!("a SIP URI has no //: write {}", Self::FORM));
        } else {
            ("sip", text)
        };
        if rest.contains(['<', '>', '"', ' ']) {
            return Err("write the URI alone, without a name, brackets or spaces".into());
        }
        let (user, after) = match rest.split_once('@') {
            Some((user, after)) => (Some(user), after),
            None => (None, rest),
        };
        if user.is_some_and(|user| user.is_empty() || user.contains('@')) || after.contains('@') {
            return Err(format!("write {}", Self::FORM));
        }
        let end = after.find([';', '?']).unwrap_or(after.len());
        host_port(after.get(..end).unwrap_or_default())?;
        Ok(SipUri(format!("{scheme}:{rest}")))
    }

    fn written(&self) -> String {
        self.0.clone()
    }
}

/// A host and perhaps a port, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Host {
    /// Host name or address, IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl Host {
    /// Reads `host` or `host:port`, or says what to write.
    pub(super) fn parse(text: &str) -> Result<Host, String> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Host { host: text.to_owned(), port: None });
        }
        host_port(text)?;
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, after)) => (host, after.strip_prefix(':')),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        Ok(Host { host: host.to_owned(), port: port.and_then(|port| port.parse().ok()) })
    }
}

/// A host and perhaps a port, as one writes them.
pub(super) fn written_host(host: &str, port: Option<u16>) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// What stands behind `://`: host and port, and path with query if there are any; or what to write.
pub(super) fn url_parts(rest: &str) -> Result<(String, Option<String>), String> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err("a login is no part of it: leave out what stands before the @".into());
    }
    host_port(authority)?;
    path_text(path)?;
    let path = match path {
        "" => None,
        query if query.starts_with('?') => Some(format!("/{query}")),
        path => Some(path.to_owned()),
    };
    Ok((authority.to_owned(), path))
}

/// Checks that a text can stand in a path or a query as it is, or says what to write.
pub(super) fn path_text(text: &str) -> Result<(), String> {
    if !text.bytes().all(|octet| octet.is_ascii_graphic() && !b"#<>\"\\^`{|}".contains(&octet)) {
        return Err("write the path in ASCII, everything else as % and two digits, and without #".into());
    }
    Ok(())
}

/// Checks `host` or `host:port`, or says what to write.
pub(super) fn host_port(text: &str) -> Result<(), String> {
    let wrong = || {
        "write a host name or an address, and a port behind a colon if need be: \"pbx.example.com:5060\""
            .to_owned()
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']').ok_or_else(wrong)?;
            inside
                .parse::<Ipv6Addr>()
                .map_err(|_| "write an IPv6 address in brackets: \"[2001:db8::1]\"".to_owned())?;
            ("", after.strip_prefix(':').or((!after.is_empty()).then_some("x")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if let Some(port) = port
        && !matches!(port.parse::<u16>(), Ok(1..))
    {
        return Err("write a port from 1 to 65535 behind the colon".into());
    }
    if text.starts_with('[') {
        return Ok(());
    }
    if host.is_empty() {
        return Err(wrong());
    }
    let numbers_only = host.split('.').all(|label| label.chars().all(|c| c.is_ascii_digit()));
    if numbers_only {
        return host
            .parse::<std::net::Ipv4Addr>()
            .map(|_| ())
            .map_err(|_| "write all four numbers of the address".to_owned());
    }
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() <= 253 && name.split('.').all(label_fits) {
        return Ok(());
    }
    Err(wrong())
}

written!(Network, Listen, Domain, SipUri);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.77/24", "192.0.2.1", "::1"),
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "::ffff:192.0.3.9"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        for wrong in ["", "192.0.2", "192.0.2.0/33", "2001:db8::/129", "192.0.2.0/x", "pbx"] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn domains_are_hosts_without_user_and_scheme() {
        for good in [
            "pbx.example.com",
            "pbx",
            "192.0.2.1",
            "pbx.example.com:5070",
            "[2001:db8::1]:5061",
            "a_b.example.",
        ] {
            assert_eq!(Domain::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(Domain::parse("2001:db8::1").unwrap().as_str(), "[2001:db8::1]");
        for (wrong, cure) in [
            ("sip:pbx.example.com", "leave out the scheme"),
            ("101@pbx.example.com", "user = \"101\""),
            ("pbx.example.com:0", "a port from 1"),
            ("pbx.example.com:99999", "a port from 1"),
            ("192.0.2", "all four"),
            ("pbx..example", "a host name"),
            ("-pbx.example", "a host name"),
            ("pbx example", "a host name"),
            ("[2001:db8::1", "a host name"),
            ("[pbx]", "IPv6"),
            ("[::1]5060", "a port"),
        ] {
            assert!(Domain::parse(wrong).unwrap_err().contains(cure), "{wrong}: {:?}", Domain::parse(wrong));
        }
    }

    #[test]
    fn sip_uris_are_kept_as_written() {
        for good in
            ["sip:pbx.example.com", "sips:a@pbx.example.com:5061;lr", "sip:[2001:db8::1]:5060;transport=tcp"]
        {
            assert_eq!(SipUri::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(SipUri::parse("proxy.example:5080").unwrap().as_str(), "sip:proxy.example:5080");
        assert_eq!(SipUri::parse("SIP:proxy.example").unwrap().as_str(), "sip:proxy.example");
        for wrong in
            ["", "sip:", "sip:@host", "http://pbx", "sip:a@b@c", "<sip:pbx>", "sip:pbx:port", "sip:pb x"]
        {
            assert!(SipUri::parse(wrong).is_err(), "{wrong}");
        }
    }
}
