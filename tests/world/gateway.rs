//! What else a box on the way does: lets only some things out, and reads along in SIP.

use std::net::{IpAddr, SocketAddr};

use tipring::sip::network::Transport;

/// What a firewall does not let out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Blocks {
    #[default]
    Nothing,
    /// UDP, without a word.
    Udp,
    /// UDP, and says so.
    UdpLoudly,
    /// All but connections to port 443.
    AllButTheWeb,
}

impl Blocks {
    /// Whether a datagram gets out.
    pub fn passes_datagrams(self) -> bool {
        self == Blocks::Nothing
    }

    /// Whether a connection to this port gets out.
    pub fn passes_streams_to(self, port: u16) -> bool {
        self != Blocks::AllButTheWeb || port == 443
    }
}

/// What is spoken on connections to a port: those of the PBX, and those of a TURN server.
pub fn transport_of(port: u16) -> Option<Transport> {
    match port {
        3478 => return Some(Transport::Tcp),
        5349 => return Some(Transport::Tls),
        _ => {}
    }
    [Transport::Tcp, Transport::Tls, Transport::Wss].into_iter().find(|one| one.default_port() == port)
}

/// An application level gateway for SIP: writes one address for another wherever it stands in a message.
pub fn rewrite(bytes: &[u8], from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.to_vec() };
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return bytes.to_vec() };
    let exchange = |text: &str| {
        let text = text.replace(&from.to_string(), &to.to_string());
        replace_host(&text, from.ip(), to.ip())
    };
    let (head, body) = (exchange(head), exchange(body));
    let mut lines: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    for line in &mut lines {
        if line.to_ascii_lowercase().starts_with("content-length:") {
            *line = format!("Content-Length: {}", body.len());
        }
    }
    format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
}

/// An address that is not the beginning of another one.
fn replace_host(text: &str, from: IpAddr, to: IpAddr) -> String {
    let from = from.to_string();
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(&from) {
        let (before, found) = rest.split_at(at);
        let after = &found[from.len()..];
        result.push_str(before);
        let longer = after.starts_with(|c: char| c.is_ascii_digit())
            || before.ends_with(|c: char| c.is_ascii_digit() || c == '.');
        result.push_str(if longer { from.clone() } else { to.to_string() }.as_str());
        rest = after;
    }
    result + rest
}

#[test]
fn a_gateway_writes_its_own_address_everywhere_and_counts_the_body_anew() {
    let (inside, outside) = ("10.0.0.2:5060".parse().unwrap(), "203.0.113.1:5060".parse().unwrap());
    let message = "INVITE sip:600@pbx SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;rport\r\nContact: <sip:1@10.0.0.2:5060>\r\n\
                   Content-Length: 46\r\n\r\no=- 1 1 IN IP4 10.0.0.2\r\nc=IN IP4 10.0.0.20\r\n\r\n";
    let out = String::from_utf8(rewrite(message.as_bytes(), inside, outside)).unwrap();
    assert!(out.contains("UDP 203.0.113.1:5060;rport") && out.contains("<sip:1@203.0.113.1:5060>"));
    let body = "o=- 1 1 IN IP4 203.0.113.1\r\nc=IN IP4 10.0.0.20\r\n\r\n";
    assert!(out.ends_with(&format!("Content-Length: {}\r\n\r\n{body}", body.len())), "{out}");
    assert_eq!(rewrite(b"\r\n\r\n", inside, outside), b"\r\n\r\n");
}
