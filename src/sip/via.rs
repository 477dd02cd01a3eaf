//! Via: the way that a request came and its response goes back (RFC 3261 §20.42, RFC 3581).

use super::grammar::{self, Cursor, Malformed};
use super::host::{Host, HostPort, parse_address, parse_port};
use super::params::Params;
use std::fmt;
use std::net::IpAddr;

/// The most Via values that a message may carry: as many as Max-Forwards lets it collect.
pub const MAX_VIAS: usize = 70;

/// How a branch begins that is unique, as RFC 3261 §8.1.1.7 asks for.
pub const MAGIC_COOKIE: &str = "z9hG4bK";

/// One hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP`, `TLS`, `WSS`, … in upper case; any token.
    pub transport: String,
    /// Where the hop says that it is (`sent-by`).
    pub host: Host,
    /// Its port, where it says one.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport`, `maddr`, ….
    pub params: Params,
    /// Name and version of the protocol where they are not `SIP/2.0`, as in the request of a later version
    /// that is refused.
    protocol: Option<String>,
}

impl Via {
    /// A Via of our own, with a branch.
    pub fn new(transport: &str, sent_by: impl Into<HostPort>, branch: &str) -> Via {
        let HostPort { host, port } = sent_by.into();
        let mut params = Params::new();
        params.set("branch", Some(branch));
        Via { transport: transport.to_owned(), host, port, params, protocol: None }
    }

    /// Reads one Via value.
    ///
    /// # Errors
    /// [`Malformed`] if it does not follow the grammar, or is not of SIP/2.0.
    pub fn parse(value: impl AsRef<[u8]>) -> Result<Via, Malformed> {
        let mut list = Vec::new();
        Via::read_list(value.as_ref(), &mut list)?;
        match list.pop() {
            Some(via) if list.is_empty() => Ok(via),
            _ => Err(Malformed("Via")),
        }
    }

    /// Appends the values of one Via field.
    pub(super) fn read_list(value: &[u8], list: &mut Vec<Via>) -> Result<(), Malformed> {
        const VIA: Malformed = Malformed("Via");
        let mut cursor = Cursor::new(value);
        loop {
            let via = Via::read(&mut cursor).ok_or(VIA)?;
            if via.protocol.is_some() || list.len() == MAX_VIAS {
                return Err(VIA);
            }
            list.push(via);
            if !cursor.separator(b',') {
                break;
            }
        }
        cursor.skip_blanks();
        if cursor.is_at_end() { Ok(()) } else { Err(VIA) }
    }

    /// What can be read of the first value of a Via field that is malformed further on: enough to answer it.
    pub(super) fn read_leniently(value: &[u8]) -> Option<Via> {
        let mut cursor = Cursor::new(value);
        let mut via = Via::read_hop(&mut cursor)?;
        let mut after = cursor;
        match Params::read(&mut after) {
            Some(params) => via.params = params,
            // At least the branch, where it stands before what is malformed.
            None => {
                let element = grammar::elements(cursor.rest()).next().unwrap_or_default();
                for param in element.split(|&octet| octet == b';') {
                    let mut halves = param.splitn(2, |&octet| octet == b'=');
                    let name = grammar::trim(halves.next().unwrap_or_default());
                    let value = grammar::trim(halves.next().unwrap_or_default());
                    if name.eq_ignore_ascii_case(b"branch") && grammar::is_token_text(value) {
                        via.params.set("branch", Some(&grammar::text(value)));
                        break;
                    }
                }
            }
        }
        Some(via)
    }

    fn read(cursor: &mut Cursor<'_>) -> Option<Via> {
        let mut via = Via::read_hop(cursor)?;
        via.params = Params::read(cursor)?;
        Some(via)
    }

    /// `sent-protocol LWS sent-by`, up to the parameters.
    fn read_hop(cursor: &mut Cursor<'_>) -> Option<Via> {
        cursor.skip_blanks();
        let name = cursor.token()?;
        let version = cursor.separator(b'/').then(|| cursor.token())??;
        let mut transport = cursor.separator(b'/').then(|| cursor.token())??.to_owned();
        transport.make_ascii_uppercase();
        if !cursor.peek().is_some_and(grammar::is_blank) {
            return None;
        }
        cursor.skip_blanks();
        let host = match cursor.peek() {
            Some(b'[') => {
                let address = cursor.take_while(|octet| octet != b']');
                cursor.take(b']').then_some(())?;
                Host::parse(&format!("{}]", std::str::from_utf8(address).ok()?))?
            }
            _ => {
                let name = cursor.take_while(|octet| !matches!(octet, b':' | b';' | b',' | b' ' | b'\t'));
                Host::parse(std::str::from_utf8(name).ok()?)?
            }
        };
        let port = match cursor.separator(b':') {
            true => Some(parse_port(cursor.take_while(|octet| octet.is_ascii_digit()))?),
            false => None,
        };
        let is_ours = name.eq_ignore_ascii_case("SIP") && version == "2.0";
        let protocol = (!is_ours).then(|| format!("{name}/{version}"));
        Some(Via { transport, host, port, params: Params::new(), protocol })
    }

    /// The branch, unless it is missing or empty.
    pub fn branch(&self) -> Option<&str> {
        self.params.get("branch").flatten().filter(|branch| !branch.is_empty())
    }

    /// Whether the branch is unique as RFC 3261 wants it: the magic cookie with something behind it.
    /// Otherwise the transaction is matched as RFC 3261 §17.2.3 says for RFC 2543 (also for a bare cookie,
    /// RFC 4475 §3.2.1).
    pub fn has_magic_cookie(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.len() > MAGIC_COOKIE.len()
                && branch
                    .get(..MAGIC_COOKIE.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE))
        })
    }

    /// The address that the request came from, as its receiver noted it; an IPv6 address may stand there
    /// without brackets (RFC 5118 §4.5).
    pub fn received(&self) -> Option<IpAddr> {
        self.params.value("received").and_then(|address| parse_address(&address))
    }

    /// Notes the address that the request came from.
    pub fn set_received(&mut self, address: IpAddr) {
        // RFC 3261's grammar has no brackets here.
        self.params.set_raw("received", &address.to_string());
    }

    /// `Some(None)` asks for the response to the port that the request came from, `Some(Some(port))` says it
    /// (RFC 3581). A port that is none counts as asked for.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.get("rport").map(|port| port.and_then(|port| parse_port(port.as_bytes())))
    }

    /// Asks for the response to the port that the request came from (RFC 3581 §3).
    pub fn ask_rport(&mut self) {
        self.params.set("rport", None);
    }

    /// Notes the port that the request came from.
    pub fn set_rport(&mut self, port: u16) {
        self.params.set_raw("rport", &port.to_string());
    }

    /// The address that responses shall be sent to in place of `sent-by`.
    pub fn maddr(&self) -> Option<Host> {
        self.params.value("maddr").and_then(|host| Host::parse(&host))
    }

    /// `sent-by`.
    pub fn sent_by(&self) -> HostPort {
        HostPort { host: self.host.clone(), port: self.port }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.as_deref().unwrap_or("SIP/2.0");
        write!(f, "{protocol}/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_everywhere() {
        let via = Via::parse("SIP / 2.0\t/ udp  h.example : 5070 ; branch = z9hG4bKa ;rport").unwrap();
        assert_eq!(via.to_string(), "SIP/2.0/UDP h.example:5070;branch=z9hG4bKa;rport");
        assert_eq!((via.branch(), via.rport(), via.has_magic_cookie()), (Some("z9hG4bKa"), Some(None), true));
    }

    #[test]
    fn addresses_of_both_families() {
        let via = Via::parse("SIP/2.0/TLS [2001:db8::9:1]:5061;received=[2001:db8::9:255];rport=7;branch=1")
            .unwrap();
        assert_eq!(via.sent_by().to_string(), "[2001:db8::9:1]:5061");
        assert_eq!(via.received(), "2001:db8::9:255".parse().ok());
        assert_eq!((via.rport(), via.has_magic_cookie()), (Some(Some(7)), false));
        let mut bare = Via::parse("SIP/2.0/UDP h;received=2001:db8::9:255").unwrap();
        assert_eq!(bare.received(), via.received());
        bare.set_received("192.0.2.7".parse().unwrap());
        bare.set_rport(40_000);
        assert_eq!(bare.to_string(), "SIP/2.0/UDP h;received=192.0.2.7;rport=40000");
    }

    #[test]
    fn malformed_values_are_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0 h",
            "SIP/2.0/UDP/h",
            "SIP/7.0/UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDP h:99999",
            "SIP/2.0/UDP h:0",
            "SIP/2.0/UDP h:",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/UDP h;branch=x junk {}",
            "SIP/2.0/UDP h;;",
            "SIP/2.0/UDP h;branch=a;branch=b",
            "SIP/2.0/UDP h,",
            "SIP/2.0/UDP a, SIP/2.0/UDP b",
        ] {
            assert!(Via::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn enough_is_read_of_a_broken_one_to_answer_it() {
        let via = Via::read_leniently(b"SIP/2.0/UDP 192.0.2.15;branch=z9hG4bKx;;,;,,").unwrap();
        assert_eq!(via.to_string(), "SIP/2.0/UDP 192.0.2.15;branch=z9hG4bKx");
        let via = Via::read_leniently(b"SIP/7.0/UDP c.example;branch=z9hG4bKy").unwrap();
        assert_eq!(via.to_string(), "SIP/7.0/UDP c.example;branch=z9hG4bKy");
        assert_eq!(Via::read_leniently(b"rubbish"), None);
    }

    #[test]
    fn a_bare_cookie_is_no_unique_branch() {
        assert!(!Via::parse("SIP/2.0/UDP h;branch=z9hG4bK").unwrap().has_magic_cookie());
        assert!(Via::parse("SIP/2.0/UDP h;branch=Z9HG4BK1").unwrap().has_magic_cookie());
        assert_eq!(Via::parse("SIP/2.0/UDP h;branch=").unwrap().branch(), None);
    }
}
