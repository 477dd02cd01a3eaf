//! `[[line]]`: an account at a PBX.

use std::time::Duration;

use super::nat::Nat;
use super::network::{Domain, SipUri};
use super::numbers::valid_country_if_any;
use super::reader::{At, Mistake, Node, Scope, Setting, section, within, zero_or_within};
use super::secret::Secret;
use super::values::{Written, each_once, one_or_list_json, read_one_or_list, written};
use super::websocket::WebSocketUrl;
use super::words::{Codec, Dtmf, NumberFormat, Policy, SrtpKeys, Transport};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

section! {
    /// `[[line]]`: an account at a PBX. There may be several.
    pub struct Line {
        /// What the line is called here, in commands and events. Letters, digits, - _ .
        name: String = required "\"office\"", if valid_name;
        /// false: the line is not registered and takes no calls.
        enabled: bool = default "true";
        /// The user part of the line's address, most often the extension.
        user: String = required "\"101\"", if valid_user;
        /// The domain of the line's address: host name or address of the PBX.
        domain: Domain = required "\"pbx.example.com\"";
        /// The name to log in with, if it is not `user`.
        auth_user: Option<String> = optional "\"101-auth\"";
        /// The only realm that may ask for the password; without it, any realm of the line's own server.
        realm: Option<String> = optional "\"pbx.example.com\"";
        /// The password; or password_file = the file that holds it.
        password: Secret = secret "\"a long password\"";
        /// The name that the called one sees.
        display_name: Option<String> = optional "\"Front desk\"";
        /// The registrar, if it is not found from `domain` (RFC 3263). SIP URI.
        registrar: Option<SipUri> = optional "\"sip:registrar.example.com\"";
        /// Where all requests of the line go first. SIP URI; or a list of two: behind a registrar with outbound (RFC 5626) the
        /// line is registered by both at once, and stays reachable when one of them fails. Without it the second one is there
        /// for when the first does not answer.
        outbound_proxy: Option<Proxies> = optional "\"sip:proxy.example.com:5060\"";
        /// false: calls are made and taken without registering (a PBX that knows the address of this device).
        register: bool = default "true";
        /// "udp", "tcp", "tls" or "wss"; or a list of them, the preferred one first: the others are tried within seconds where
        /// that does not get through, and it is returned to when it does again. "auto": all four in this order.
        transport: Transports = default "\"udp\"";
        /// Where the PBX takes SIP over WebSocket, for transport "wss". Without it: what the domain's DNS names (NAPTR
        /// SIPS+D2W), else port 443 of `domain` with the path /ws.
        websocket: Option<WebSocketUrl> = optional "\"wss://pbx.example.com:8089/ws\"";
        /// How long a registration is asked for. Duration, 30s to 7d.
        expires: Duration = default "\"10m\"", if within(30 * SECOND, 7 * DAY);
        /// Codecs, the preferred one first: "opus", "G722", "PCMA", "PCMU".
        codecs: Vec<Codec> = default "[\"opus\", \"G722\", \"PCMA\", \"PCMU\"]", if valid_codecs;
        /// Encrypted audio: "off"; "optional" (RTP/AVP, accepted either way); "required" (RTP/SAVP, UDP/TLS/RTP/SAVP).
        srtp: Policy = default "\"off\"";
        /// How the keys of encrypted audio are agreed on: "sdes" (a=crypto, RFC 4568) or "dtls" (DTLS-SRTP, RFC 5763). Use
        /// either with transport "tls" or "wss".
        srtp_keys: SrtpKeys = default "\"sdes\"";
        /// How pressed keys are sent: "auto", "rfc4733", "info" or "inband".
        dtmf: Dtmf = default "\"auto\"";
        /// Reliable provisional answers, 100rel (RFC 3262): "off", "optional" or "required".
        prack: Policy = default "\"optional\"";
        /// The session interval (RFC 4028) that calls ask for. Duration, 90s to 1d; "0s" asks for none.
        session_timer: Duration = default "\"30m\"", if zero_or_within(90 * SECOND, DAY);
        /// true: calls are answered at once; "2s": after this time; false: by somebody.
        auto_answer: AutoAnswer = default "false";
        /// A call that the PBX marks as intercom (Call-Info answer-after, Alert-Info auto answer, Answer-Mode) is answered by
        /// itself, after a beep and never during another call or do-not-disturb. false: it rings like any other.
        intercom: bool = default "true";
        /// Waiting messages (MWI, RFC 3842). false: shown as the PBX tells by itself; true: subscribed to, for PBXs that tell
        /// nobody who has not asked.
        subscribe_mwi: bool = default "false";
        /// Calls of the line at one time; more are busy. 1 to 256.
        max_calls: u16 = default "8", if within(1, 256);
        /// Do not disturb, until somebody switches it: calls are busy, but those that an emergency service returns.
        dnd: bool = default "false";
        /// What the called one sees: "show", "hide", or another number of the line that the PBX lets it use.
        caller_id: CallerId = default "\"show\"";
        /// A file with the certificates (PEM) that this line's server, and its TURN servers under TLS, must be signed by, instead
        /// of the usual ones.
        ca_file: Option<String> = optional "\"/etc/tipring/pbx-ca.pem\"";
        /// false: the server's certificate is not checked. Anybody on the way can listen then.
        tls_verify: bool = default "true";
        /// How the PBX wants outside numbers: "as-dialled"; "e164" (74954451120); "+e164"; "national" (84954451120, others as
        /// 810 49 …); "significant" (4954451120); "local" (4451120). Extensions and emergency numbers stay as they are.
        number_format: NumberFormat = default "\"as-dialled\"";
        /// The country of the PBX, if it is not that of the device: how it writes callers' numbers and wants others'. Two
        /// capital letters.
        country: Option<String> = optional "\"KZ\"", if valid_country_if_any;
        /// A header of the PBX's own with the number that was dialled from outside, which calls that come in then have as
        /// their `did`. It is believed before P-Called-Party-ID, History-Info, Diversion and To, which are looked at in this
        /// order in any case.
        did_header: Option<String> = optional "\"X-DID\"", if valid_header;
        /// The far end of a call may give it away: this device is asked to call somebody else in its place (REFER), and does so as
        /// far as `[limits]` let it. false: it is refused (603), and the call goes on.
        accept_transfer: bool = default "true";
        /// How the line gets through NATs.
        nat: Nat = default "{}";
    }
}

impl Line {
    /// The line's address of record, without scheme: `101@pbx.example.com`.
    pub fn address(&self) -> String {
        format!("{}@{}", self.user, self.domain.as_str())
    }

    fn check(&self, scope: &mut Scope<'_, '_>) {
        let name = self.name.as_str();
        let secure_only = self.transport.0.iter().all(|transport| transport.is_secure());
        if self.srtp != Policy::Off && !secure_only {
            scope.warn(
                "srtp",
                match self.srtp_keys {
                    SrtpKeys::Sdes => format!("line {name}: the keys of SRTP (SDES) travel in clear without TLS"),
                    SrtpKeys::Dtls => format!(
                        "line {name}: without TLS somebody on the way can put in another fingerprint and listen"
                    ),
                },
                "write transport = \"tls\"",
            );
        }
        if self.srtp == Policy::Off && self.srtp_keys == SrtpKeys::Dtls {
            scope.warn(
                "srtp_keys",
                format!("line {name} encrypts nothing: srtp is \"off\""),
                "write srtp = \"required\" or \"optional\"",
            );
        }
        let tried = scope.has("password") || scope.has("password_file");
        if self.enabled && self.register && self.password.is_empty() && !tried {
            scope.warn(
                "password",
                format!("line {name} registers without a password"),
                "add password or password_file, unless the PBX knows the line by its address",
            );
        }
        let uses_tls = self.transport.0.iter().any(|transport| transport.is_secure()) || self.nat.uses_tls();
        if self.websocket.is_some() && !self.transport.0.contains(&Transport::Wss) {
            scope.warn(
                "websocket",
                format!("line {name} has a websocket and does not use it"),
                "write transport = \"wss\", or a list with \"wss\" in it",
            );
        }
        if !self.tls_verify && uses_tls {
            scope.warn(
                "tls_verify",
                format!("line {name} does not check the server's certificate: anybody on the way can listen"),
                "give the PBX's certificate as ca_file",
            );
        }
        if !self.tls_verify && self.ca_file.is_some() {
            scope.error("ca_file", "ca_file has no effect with tls_verify = false", "remove one of the two");
        }
        if self.ca_file.is_some() && !uses_tls {
            scope.warn(
                "ca_file",
                format!("line {name} has a ca_file and no TLS"),
                "write transport = \"tls\"",
            );
        }
        if !self.register && self.subscribe_mwi {
            scope.warn(
                "subscribe_mwi",
                format!("line {name} does not register, so it subscribes to nothing"),
                "remove subscribe_mwi, or write register = true",
            );
        }
        if !self.register && self.outbound_proxy.is_none() && self.registrar.is_some() {
            scope.warn(
                "registrar",
                "registrar is not used with register = false",
                "remove it, or give outbound_proxy",
            );
        }
        if !self.register && self.outbound_proxy.as_ref().is_some_and(|proxies| proxies.0.len() > 1) {
            scope.warn(
                "outbound_proxy",
                format!("line {name} does not register, so it does not know when the second proxy is needed"),
                "name one, or write register = true",
            );
        }
    }
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
pub(super) fn valid_name(name: &String) -> Result<(), Mistake> {
    let fits =
        name.len() <= 32 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fits {
        return Ok(());
    }
    let kept: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).take(32).collect();
    let kept = if kept.is_empty() { "office".to_owned() } else { kept };
    Err((
        "may have 32 letters, digits, - _ . and nothing else".into(),
        format!("write for example \"{kept}\""),
    ))
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
fn valid_user(user: &String) -> Result<(), Mistake> {
    let bare = ["sip:", "sips:"].iter().find_map(|scheme| user.strip_prefix(scheme));
    if let Some((user, host)) = bare.unwrap_or(user).split_once('@') {
        return Err((
            "has a domain in it".into(),
            format!("write user = \"{user}\" and domain = \"{host}\""),
        ));
    }
    if let Some(user) = bare {
        return Err(("has a scheme in it".into(), format!("write user = \"{user}\"")));
    }
    if user.contains([' ', '<', '>', '"']) {
        return Err(("has a space, a bracket or a quote in it".into(), "write the user part alone".into()));
    }
    Ok(())
}

fn valid_header(name: &Option<String>) -> Result<(), Mistake> {
    let is_token = |name: &String| {
        let part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !name.is_empty() && name.len() <= 64 && name.chars().all(part)
    };
    if name.as_ref().is_none_or(is_token) {
        return Ok(());
    }
    Err((
        "is no name of a header".into(),
        "write it as the PBX does, without a colon: did_header = \"X-DID\"".into(),
    ))
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
fn valid_codecs(codecs: &Vec<Codec>) -> Result<(), Mistake> {
    if codecs.is_empty() {
        return Err(("is empty".into(), "name one codec at least: [\"PCMA\"]".into()));
    }
    each_once(codecs, |codec| codec.as_str().to_owned())
}

/// The proxies by which a line reaches its registrar, the preferred one first; one or two.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Proxies(pub Vec<SipUri>);

impl Proxies {
    /// RFC 5626 §4.2.1 wants two flows; more would cost without bringing anything.
    const MOST: usize = 2;
}

impl Setting for Proxies {
    const EXPECTS: &'static str = SipUri::EXPECTS;

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        let fits = |proxies: &[SipUri]| match proxies.len() {
            count if count > Self::MOST => {
                let instead = format!("name {} at most, the preferred one first", Self::MOST);
                Err((format!("has {count} proxies"), instead))
            }
            _ => each_once(proxies, Written::written),
        };
        read_one_or_list(node, at, Self::EXPECTS, fits).map(Proxies)
    }

    fn json(&self) -> serde_json::Value {
        one_or_list_json(&self.0)
    }
}

/// The transports of a line in the order in which they are tried; there is one at least.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Transports(pub Vec<Transport>);

impl Default for Transports {
    fn default() -> Self {
        Transports(vec![Transport::Udp])
    }
}

impl Transports {
    /// The word for all of them in the order of [`Transport::ALL`].
    const AUTO: &str = "auto";
}

impl Setting for Transports {
    const EXPECTS: &'static str = "\"udp\", \"tcp\", \"tls\", \"wss\", or \"auto\"";

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        if node.text().is_some_and(|text| text.eq_ignore_ascii_case(Self::AUTO)) {
            return Some(Transports(Transport::ALL.to_vec()));
        }
        let fits = |all: &[Transport]| each_once(all, |transport| transport.as_str().to_owned());
        read_one_or_list(node, at, Self::EXPECTS, fits).map(Transports)
    }

    fn json(&self) -> serde_json::Value {
        match self.0.as_slice() {
            all if all == Transport::ALL => Self::AUTO.into(),
            all => one_or_list_json(all),
        }
    }
}

/// Whether calls are answered without anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AutoAnswer {
    /// By somebody.
    #[default]
    Off,
    /// After this time; zero is at once.
    After(Duration),
}

impl Setting for AutoAnswer {
    const EXPECTS: &'static str = "true, false, or a duration such as \"2s\"";

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        match node {
            Node::Value(toml_edit::Value::Boolean(on)) if *on.value() => {
                Some(AutoAnswer::After(Duration::ZERO))
            }
            Node::Value(toml_edit::Value::Boolean(_)) => Some(AutoAnswer::Off),
            Node::Value(toml_edit::Value::String(_)) => {
                let after = Duration::read(node, at)?;
                if after > 60 * SECOND {
                    at.wrong(node, ("is longer than calls ring".into(), "write 60s at most".into()));
                    return None;
                }
                Some(AutoAnswer::After(after))
            }
            _ => {
                at.wrong_type(node, Self::EXPECTS);
                None
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            AutoAnswer::Off => false.into(),
            AutoAnswer::After(Duration::ZERO) => true.into(),
            AutoAnswer::After(after) => after.json(),
        }
    }
}

/// What the called one sees of the caller.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum CallerId {
    /// The line's own address.
    #[default]
    Show,
    /// Nothing: RFC 3323, `Privacy: id`, an anonymous From.
    Hide,
    /// Another number or user of the line: P-Preferred-Identity (RFC 3325 §9.2).
    Number(String),
}

impl Written for CallerId {
    const FORM: &'static str = "\"show\", \"hide\" or a number";

    fn parse(text: &str) -> Result<CallerId, String> {
        match text.trim() {
            "show" => Ok(CallerId::Show),
            "hide" => Ok(CallerId::Hide),
            number
                if number.chars().all(|c| c.is_ascii_alphanumeric() || "+-_.!~*'#".contains(c))
                    && !number.is_empty() =>
            {
                Ok(CallerId::Number(number.to_owned()))
            }
            _ => Err(format!("write {}, without spaces and domain", Self::FORM)),
        }
    }

    fn written(&self) -> String {
        match self {
            CallerId::Show => "show".into(),
            CallerId::Hide => "hide".into(),
            CallerId::Number(number) => number.clone(),
        }
    }
}

written!(CallerId);
