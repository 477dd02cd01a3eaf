//! The settings of one line as far as SIP knows it, and those of the whole user agent.

use std::net::SocketAddr;
use std::time::Duration;

use crate::sip::call::CallSettings;
use crate::sip::locate::{Authority, Destination};
use crate::sip::method::Method;
use crate::sip::network::Transport;
use crate::sip::trust::Trust;
use crate::sip::uri::{SipUri, Uri};

/// The SIP side of one line.
#[derive(Clone, Debug)]
pub struct Account {
    /// The address of record: `sip:user@domain`. It is From of all requests and To of REGISTER.
    pub aor: SipUri,
    /// The display name of From, if any.
    pub display_name: Option<String>,
    /// The user part of our Contact; the address of record's if `None`. Two accounts should not share one.
    pub contact_user: Option<String>,
    /// The Request-URI of REGISTER, where it is not the domain of the address of record.
    pub registrar: Option<SipUri>,
    /// Where every request of the line goes first (RFC 3261 §8.1.2), if configured.
    pub outbound_proxy: Option<SipUri>,
    /// Where WebSocket connections go, if that is not found by [`Self::destination`].
    pub websocket: Option<Authority>,
    /// Who we are to the server that challenges us; `None` never answers a challenge.
    pub credentials: Option<Credentials>,
    /// The transports to try, the preferred one first. Never empty: UDP is used if it is.
    pub transports: Vec<Transport>,
    /// The transport that the registrar answered over in an earlier life: it is tried first.
    pub last_transport: Option<Transport>,
    /// Whether to register at all. A line without registration is a trunk between known addresses.
    pub register: bool,
    /// How long a registration is asked for.
    pub expires: Duration,
    /// Contacts of an earlier life (the `binding` of
    /// [`Registered`](crate::sip::registration::RegistrationState)), removed in the first REGISTER if they are
    /// not the one of now.
    pub old_bindings: Vec<String>,
    /// The URN of this device (RFC 5626 §4.1), `urn:uuid:…`; without it no outbound and no GRUU is offered.
    pub instance: Option<String>,
    /// Which of the flows of one address of record this account is (RFC 5626 §4.2): 1 or 2.
    pub reg_id: u8,
    /// Registers only when told to, not as soon as it is there.
    pub standby: bool,
    /// Whether the address that the registrar sees us at (RFC 3581) becomes our Contact over UDP.
    pub rewrite_contact: bool,
    /// Whether a request of more than 1300 bytes tries TCP before UDP (RFC 3261 §18.1.1).
    pub tcp_for_large: bool,
    /// Who may send requests for this line.
    pub trust: Trust,
    /// What the line wants of its calls.
    pub calls: CallSettings,
    /// Whether the line subscribes to its mailbox (RFC 3842). What the PBX tells by itself is taken in any case.
    pub subscribe_mwi: bool,
    /// Takes requests that no other line claims, whatever user they name: an embedded PBX does.
    pub catch_all: bool,
}

impl Account {
    /// An account with the defaults of a plain line: registers over UDP for an hour, trusts its registrar.
    pub fn new(aor: SipUri) -> Account {
        Account {
            aor,
            display_name: None,
            contact_user: None,
            registrar: None,
            outbound_proxy: None,
            websocket: None,
            credentials: None,
            transports: vec![Transport::Udp],
            last_transport: None,
            register: true,
            expires: Duration::from_secs(3600),
            old_bindings: Vec::new(),
            instance: None,
            reg_id: 1,
            standby: false,
            rewrite_contact: true,
            tcp_for_large: true,
            trust: Trust::Registered,
            calls: CallSettings::default(),
            subscribe_mwi: false,
            catch_all: false,
        }
    }

    /// The user part of Contact.
    pub fn contact_user(&self) -> Option<String> {
        self.contact_user.clone().or_else(|| self.aor.user().map(|user| user.to_string()))
    }

    /// The URI that REGISTER is sent for (RFC 3261 §10.2): the registrar, without user part.
    pub fn registrar_uri(&self) -> Uri {
        let mut uri = self.registrar.clone().unwrap_or_else(|| {
            let mut uri = SipUri::new(None, self.aor.host.clone());
            uri.secure = self.aor.secure;
            uri.port = self.aor.port;
            uri
        });
        uri.set_user(None);
        Uri::Sip(uri)
    }

    /// Where the account's requests go first: outbound proxy, registrar or domain.
    pub fn destination(&self) -> Destination {
        match (&self.outbound_proxy, self.registrar_uri().as_sip()) {
            (Some(proxy), _) => self.destination_of(proxy),
            (None, Some(registrar)) => self.destination_of(registrar),
            (None, None) => self.destination_of(&self.aor),
        }
    }

    /// Where a URI leads that names a server of the line.
    pub fn destination_of(&self, uri: &SipUri) -> Destination {
        Destination::of(uri, &self.transports).with_websocket(self.websocket.as_ref())
    }

    /// Whether the line may use this transport.
    pub fn allows(&self, transport: Transport) -> bool {
        self.transports.contains(&transport) || (self.transports.is_empty() && transport == Transport::Udp)
    }
}

/// Who we are to a server that challenges us (RFC 7616).
#[derive(Clone)]
pub struct Credentials {
    /// The name the server knows us by; often the user part of the address of record.
    pub user: String,
    /// The secret.
    pub password: String,
    /// The only realm that is answered, if the line names one.
    pub realm: Option<String>,
}

impl std::fmt::Debug for Credentials {
    // A password must not reach a log by way of a settings dump.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// The settings of the user agent as a whole.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The value of User-Agent and Server.
    pub user_agent: String,
    /// The UDP sockets that stand, as bound (the address may be unspecified).
    pub udp: Vec<SocketAddr>,
    /// The port that TCP connections are accepted on, if any.
    pub tcp_port: Option<u16>,
    /// The port that TLS connections are accepted on, if any.
    pub tls_port: Option<u16>,
    /// The timers of RFC 3261 §17.
    pub timing: Timing,
    /// The ceilings that keep memory bounded.
    pub limits: Limits,
    /// Methods outside dialogs that the room above answers itself, by
    /// [`Event::Request`](crate::sip::ua_event::Event).
    pub serves: Vec<Method>,
    /// Option tags that a request may Require of us (RFC 3261 §8.2.2.3).
    pub supported: Vec<&'static str>,
    /// Whether every message is also reported as [`Event::Trace`](crate::sip::ua_event::Event).
    pub trace: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            user_agent: concat!("Tipring/", env!("CARGO_PKG_VERSION")).to_owned(),
            udp: Vec::new(),
            tcp_port: None,
            tls_port: None,
            timing: Timing::default(),
            limits: Limits::default(),
            serves: Vec::new(),
            supported: vec!["100rel", "timer", "norefersub", "replaces"],
            trace: false,
        }
    }
}

/// The base values of the timers (RFC 3261 §17.1.1.1, table 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// The estimate of a round trip.
    pub t1: Duration,
    /// The longest gap between repetitions.
    pub t2: Duration,
    /// How long a message stays in the network.
    pub t4: Duration,
}

impl Timing {
    /// 64·T1: how long a transaction waits for an answer.
    pub fn transaction(&self) -> Duration {
        self.t1 * 64
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

/// The ceilings that keep memory bounded whatever comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Server transactions at a time; past it new requests are dropped and counted. Those in calls have room for a
    /// quarter more.
    pub server_transactions: usize,
    /// Calls at a time; past it a new INVITE gets 503.
    pub calls: usize,
    /// Connections that others opened.
    pub accepted: usize,
    /// Of those, from one address.
    pub accepted_per_address: usize,
    /// Bytes that wait for a connection to stand.
    pub waiting_bytes: usize,
    /// Requests of ours in flight.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            server_transactions: 2048,
            calls: 256,
            accepted: 128,
            accepted_per_address: 32,
            waiting_bytes: 256 * 1024,
            requests: 1024,
        }
    }
}
