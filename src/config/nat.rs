//! `[line.nat]`: how a line is reached, and how its audio finds a way, through the routers on the path.

use super::network::{Host, written_host};
use super::reader::{At, Mistake, Node, Scope, Setting, section};
use super::secret::Secret;
use super::values::{Written, each_once, one_or_list_json, read_one_or_list, written};
use super::words::NatMode;

/// STUN servers of one line.
const MOST_STUN: usize = 4;
/// TURN servers of one line.
const MOST_TURN: usize = 4;
/// Ways to one of them: UDP, TCP and TLS.
const MOST_WAYS: usize = 3;

section! {
    /// `[line.nat]`: how the line gets through NATs.
    pub struct Nat {
        /// "auto": the way to the PBX is kept open and watched, and audio finds its way by what is given here; "off": none of
        /// that, for a PBX in the same network.
        mode: NatMode = default "\"auto\"";
        /// STUN servers (RFC 8489), which tell the public address: "stun.example.com", or with a port behind a colon. Without
        /// a port the name may be a domain that says by SRV where its servers are. Two tell
        /// whether it is the same for everybody.
        stun: Vec<StunServer> = default "[]", if valid_stun;
        /// true: ICE (RFC 8445) looks for the best way of the audio of each call, if the other side has it, too.
        ice: bool = default "false";
        /// A TURN server (RFC 8656), which relays the audio where there is no direct way: with ice = true where ICE finds none,
        /// and towards a side without ICE unless two STUN servers agree on the public address. There may be several.
        turn: Vec<TurnServer> = default "[]", if valid_turn;
    }
}

impl Nat {
    /// Whether a TURN server is reached over TLS.
    pub fn uses_tls(&self) -> bool {
        self.turn.iter().flat_map(|server| &server.url.0).any(|url| url.transport == TurnTransport::Tls)
    }

    fn check(&self, scope: &mut Scope<'_, '_>) {
        if self.mode == NatMode::Off {
            let useless =
                [("ice", self.ice), ("stun", !self.stun.is_empty()), ("turn", !self.turn.is_empty())];
            for (key, _) in useless.iter().filter(|(_, given)| *given) {
                let what = format!("{key} has no effect with mode = \"off\"");
                scope.error(key, what, "remove one of the two");
            }
        }
    }
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
fn valid_stun(servers: &Vec<StunServer>) -> Result<(), Mistake> {
    at_most(servers.len(), MOST_STUN)?;
    each_once(servers, Written::written)
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
fn valid_turn(servers: &Vec<TurnServer>) -> Result<(), Mistake> {
    at_most(servers.len(), MOST_TURN)
}

fn at_most(count: usize, most: usize) -> Result<(), Mistake> {
    if count <= most {
        return Ok(());
    }
    Err((format!("has {count} servers"), format!("name {most} at most, the nearest first")))
}

/// A STUN server: host and port.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct StunServer {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// The port; without it what the name's SRV records say, else 3478 (RFC 8489 §8).
    pub port: Option<u16>,
}

impl Written for StunServer {
    const FORM: &'static str = "a STUN server such as \"stun.example.com\" or \"192.0.2.1:3478\"";

    fn parse(text: &str) -> Result<StunServer, String> {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("stuns:") {
            return Err("write it without stuns: here it is asked over UDP".into());
        }
        if lower.starts_with("turn:") || lower.starts_with("turns:") {
            return Err("a TURN server belongs in [[line.nat.turn]], with its username and password".into());
        }
        // "stun:3478" is a host of that name; RFC 7064 has no slashes either.
        let is_uri = lower.starts_with("stun:") && !text.get(5..).is_some_and(is_port);
        let rest = if is_uri { text.get(5..).unwrap_or_default() } else { text };
        if rest.starts_with("//") {
            return Err("a STUN URI has no //: write \"stun:stun.example.com:3478\"".into());
        }
        let Host { host, port } = Host::parse(rest)?;
        Ok(StunServer { host, port })
    }

    fn written(&self) -> String {
        written_host(&self.host, self.port)
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

section! {
    /// `[[line.nat.turn]]`: a TURN server and the account there.
    pub struct TurnServer {
        /// turn:HOST (RFC 7065), with :PORT behind it if need be, is reached over UDP; with ?transport=tcp behind it over TCP;
        /// turns:HOST is reached over TLS. Or a list of them: each is tried if the one before does not answer at once.
        url: TurnUrls = required "[\"turn:turn.example.com\", \"turns:turn.example.com:443\"]";
        /// The name of the account.
        username: String = required "\"tipring\"";
        /// The password; or password_file = the file that holds it.
        password: Secret = secret "\"a long password\"";
    }
}

impl TurnServer {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        if self.password.is_empty() && !scope.has("password") && !scope.has("password_file") {
            scope.error(
                "password",
                format!("{} has no password", scope.title()),
                "add password or password_file",
            );
        }
        if self.username.len() > 508 {
            scope.error("username", "username is longer than 508 bytes", "write what the server knows");
        }
    }
}

/// How a TURN server is reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TurnTransport {
    /// By datagrams.
    #[default]
    Udp,
    /// By a connection.
    Tcp,
    /// By a connection under TLS.
    Tls,
}

/// Where a TURN server is (RFC 7065).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TurnUrl {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// The port; without it what the name's SRV records say, else 3478 (RFC 5928 §3).
    pub port: Option<u16>,
    /// How it is reached.
    pub transport: TurnTransport,
}

impl Written for TurnUrl {
    const FORM: &'static str =
        "a TURN URI such as \"turn:turn.example.com\" or \"turns:turn.example.com:443\"";

    fn parse(text: &str) -> Result<TurnUrl, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once(':') else { return Err(format!("write {}", Self::FORM)) };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "turn" => false,
            "turns" => true,
            "stun" => return Err("a STUN server belongs in stun of [line.nat]".into()),
            _ => return Err(format!("write {}", Self::FORM)),
        };
        if rest.starts_with("//") {
            return Err("a TURN URI has no //: write \"turn:turn.example.com:3478\"".into());
        }
        if rest.contains('@') {
            return Err("write the account as username and password, not into the URI".into());
        }
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let named = match query {
            None => None,
            Some(query) => match query.split_once('=') {
                Some(("transport", transport)) => Some(transport),
                _ => return Err("only ?transport= may follow".into()),
            },
        };
        let transport = match (secure, named.map(str::to_ascii_lowercase).as_deref()) {
            (false, None | Some("udp")) => TurnTransport::Udp,
            (false, Some("tcp")) => TurnTransport::Tcp,
            (true, None | Some("tcp")) => TurnTransport::Tls,
            (true, Some("udp")) => {
                return Err("DTLS is not spoken here: write \"turns:\" and the host".into());
            }
            (_, Some(_)) => return Err("write ?transport=udp or ?transport=tcp, or nothing".into()),
        };
        let Host { host, port } = Host::parse(place)?;
        Ok(TurnUrl { host, port, transport })
    }

    fn written(&self) -> String {
        let place = written_host(&self.host, self.port);
        match self.transport {
            TurnTransport::Udp => format!("turn:{place}"),
            TurnTransport::Tcp => format!("turn:{place}?transport=tcp"),
            TurnTransport::Tls => format!("turns:{place}"),
        }
    }
}

/// The ways to one TURN server, in the order in which they are tried; there is one at least.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TurnUrls(pub Vec<TurnUrl>);

impl Setting for TurnUrls {
    const EXPECTS: &'static str = <TurnUrl as Written>::FORM;

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        let fits = |urls: &[TurnUrl]| match urls.len() {
            count if count > MOST_WAYS => {
                Err((format!("has {count} ways"), format!("name {MOST_WAYS} at most, the preferred first")))
            }
            _ => each_once(urls, Written::written),
        };
        read_one_or_list(node, at, Self::EXPECTS, fits).map(TurnUrls)
    }

    fn json(&self) -> serde_json::Value {
        one_or_list_json(&self.0)
    }
}

written!(StunServer, TurnUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_servers_are_hosts_with_a_port_at_most() {
        for (text, host, port) in [
            ("stun.example.com", "stun.example.com", None),
            ("stun.example.com:19302", "stun.example.com", Some(19302)),
            ("stun:stun.example.com", "stun.example.com", None),
            ("STUN:192.0.2.1:3478", "192.0.2.1", Some(3478)),
            ("stun:3478", "stun", Some(3478)),
            ("[2001:db8::1]:3478", "2001:db8::1", Some(3478)),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("2001:db8::1", "2001:db8::1", None),
        ] {
            let parsed = StunServer::parse(text).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port), "{text}");
            assert_eq!(StunServer::parse(&parsed.written()), Ok(parsed), "{text}");
        }
        for (wrong, cure) in [
            ("", "a host name"),
            ("stun:", "a host name"),
            ("stuns:stun.example.com", "without stuns"),
            ("turn:turn.example.com", "[[line.nat.turn]]"),
            ("stun://stun.example.com", "no //"),
            ("stun.example.com:0", "a port from 1"),
            ("stun.example.com:99999", "a port from 1"),
            ("stun example", "a host name"),
            ("stun.example.com?transport=udp", "a host name"),
        ] {
            let told = StunServer::parse(wrong).unwrap_err();
            assert!(told.contains(cure), "{wrong}: {told}");
        }
    }

    #[test]
    fn turn_servers_say_how_they_are_reached() {
        use TurnTransport::{Tcp, Tls, Udp};
        for (text, host, port, transport) in [
            ("turn:turn.example.com", "turn.example.com", None, Udp),
            ("turn:turn.example.com:3479?transport=udp", "turn.example.com", Some(3479), Udp),
            ("TURN:192.0.2.1?transport=UDP", "192.0.2.1", None, Udp),
            ("turn:[2001:db8::1]:443", "2001:db8::1", Some(443), Udp),
            ("turn:turn.example.com?transport=tcp", "turn.example.com", None, Tcp),
            ("turn:turn.example.com:443?transport=TCP", "turn.example.com", Some(443), Tcp),
            ("turns:turn.example.com", "turn.example.com", None, Tls),
            ("TURNS:turn.example.com:443?transport=tcp", "turn.example.com", Some(443), Tls),
        ] {
            let parsed = TurnUrl::parse(text).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port, parsed.transport), (host, port, transport));
            assert_eq!(TurnUrl::parse(&parsed.written()), Ok(parsed), "{text}");
        }
        for (wrong, cure) in [
            ("", "a TURN URI"),
            ("turn.example.com", "a TURN URI"),
            ("http:turn.example.com", "a TURN URI"),
            ("stun:stun.example.com", "stun of [line.nat]"),
            ("turn://turn.example.com", "no //"),
            ("turn:me:secret@turn.example.com", "username and password"),
            ("turns:turn.example.com?transport=udp", "DTLS"),
            ("turn:turn.example.com?transport=sctp", "transport=udp or"),
            ("turn:turn.example.com?ttl=1", "only ?transport="),
            ("turn:", "a host name"),
            ("turn:turn.example.com:x", "a port from 1"),
        ] {
            let told = TurnUrl::parse(wrong).unwrap_err();
            assert!(told.contains(cure), "{wrong}: {told}");
        }
    }
}
