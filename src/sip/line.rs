//! One account at work: its settings, its registration, its credentials in use and the way to its server.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::now::Now;
use crate::sip::account::Account;
use crate::sip::authentication::Authenticator;
use crate::sip::host::Host;
use crate::sip::keep_alive::Probe;
use crate::sip::locate::{Destination, Locator, Target};
use crate::sip::name_addr::NameAddr;
use crate::sip::network::Transport;
use crate::sip::registration::{Registration, RegistrationState};
use crate::sip::subscription::Subscription;
use crate::sip::transport::Flow;
use crate::sip::transport_choice::TransportChoice;
use crate::sip::trust::Trust;
use crate::sip::uri::{SipUri, Uri};

/// Clocks that differ by less have not been read at the same moment, or are being set gently.
const SLEEP: Duration = Duration::from_secs(5);

/// The state of one account.
#[derive(Debug)]
pub(crate) struct Line {
    pub account: Account,
    pub registration: Registration,
    pub choice: TransportChoice,
    pub authenticator: Authenticator,
    pub subscription: Subscription,
    /// The way by which the registrar last answered 200.
    pub flow: Option<Flow>,
    /// When that was.
    pub registered_at: Option<Now>,
    /// Where the registrar saw us then, if it told.
    pub seen: Option<SocketAddr>,
    /// The OPTIONS of a keep-alive that waits for an answer.
    pub probe: Option<Probe>,
    /// The server at the end of it.
    pub target: Option<Target>,
    /// The Contact that far ends of its dialogs get to know, as it was when the line was registered last.
    pub told: Option<String>,
    /// Connections in a row on which a REGISTER was not answered.
    pub unheard: u32,
    /// Our address towards the server.
    pub local: Option<IpAddr>,
    /// When the way to the server is looked up again: only for lines that no REGISTER keeps up to date.
    pub survey_at: Option<u64>,
    /// Whether somebody waits for [`Event::Servers`](crate::sip::ua_event::Event::Servers).
    pub asked: bool,
    /// To be forgotten once it is unregistered.
    pub leaving: bool,
}

impl Line {
    pub fn new(account: Account, chance: &mut Chance) -> Line {
        let registration = Registration::new(&account, chance);
        Line {
            choice: TransportChoice::new(&account),
            account,
            registration,
            authenticator: Authenticator::default(),
            subscription: Subscription::new(chance),
            flow: None,
            registered_at: None,
            seen: None,
            probe: None,
            target: None,
            told: None,
            unheard: 0,
            local: None,
            survey_at: None,
            asked: false,
            leaving: false,
        }
    }

    /// Where the line's requests go first: outbound proxy, registrar or domain.
    pub fn destination(&self) -> Destination {
        match self.registration.redirect().and_then(Uri::as_sip) {
            Some(uri) if self.account.outbound_proxy.is_none() => self.account.destination_of(uri),
            _ => self.account.destination(),
        }
    }

    /// Whether the registrar has its binding.
    pub fn is_registered(&self) -> bool {
        matches!(self.registration.state(), RegistrationState::Registered { .. })
    }

    /// Whether the machine has slept since then, by the clock that went on meanwhile: the binding is older than it seems, and
    /// connections have died of age. A clock that was set looks the same, and a REGISTER too many does no harm.
    pub fn has_slept(&self, now: Now) -> bool {
        self.registered_at.is_some_and(|then| {
            let awake = then.plus(now.since(then.mono_us)).utc_us;
            u128::from(now.utc_us.abs_diff(awake)) >= SLEEP.as_micros()
        })
    }

    /// Whether it is registered over this connection.
    pub fn is_registered_over(&self, connection: u64) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.connection == Some(connection))
    }

    /// Whether requests from this address (on this connection, if it is one of ours) count for this line.
    pub fn trusts(&self, locator: &Locator, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let in_networks = match &self.account.trust {
            Trust::Registered => false,
            Trust::Networks(networks) => networks.iter().any(|network| network.contains(address)),
        };
        in_networks || self.is_server_at(locator, address)
    }

    /// Whether this server may see an answer to its challenge: it is one of the line's own, by address.
    pub fn is_server(&self, locator: &Locator, flow: &Flow) -> bool {
        self.is_server_at(locator, flow.remote.ip().to_canonical())
    }

    /// Whether one of the line's servers has this canonical address: that of the registered flow, those that its names lead
    /// to, and the proxy through which the registrar has us send (RFC 3608).
    pub fn is_server_at(&self, locator: &Locator, address: IpAddr) -> bool {
        let leads_there = |destination: &Destination| {
            locator.known(destination).iter().any(|server| server.to_canonical() == address)
        };
        let route = self.registration.service_route().first().and_then(|route| route.uri.as_sip());
        self.flow.as_ref().is_some_and(|flow| flow.remote.ip().to_canonical() == address)
            || leads_there(&self.destination())
            || route.is_some_and(|route| leads_there(&self.account.destination_of(route)))
    }

    /// Our Contact inside a dialog with whoever is at the end of a flow.
    pub fn dialog_contact(&self, flow: &Flow, local: SocketAddr, anonymous: bool) -> NameAddr {
        let own = self.flow.as_ref().filter(|own| own.remote.ip() == flow.remote.ip());
        let contact = match (own, self.registration.binding()) {
            // It takes another transport for its size only. The flow that is kept open is the registered one.
            (Some(own), Some(bound)) if own.transport != flow.transport => NameAddr::new(bound.clone()),
            _ => self.contact(flow, local),
        };
        self.registration.outbound().in_dialog(contact, anonymous)
    }

    /// Our Contact for whoever is at the end of a flow, when our address there is `local`.
    pub fn contact(&self, flow: &Flow, local: SocketAddr) -> NameAddr {
        let is_seen_there = self
            .flow
            .as_ref()
            .is_none_or(|own| own.remote.ip() == flow.remote.ip() && own.transport == flow.transport);
        let address = match self.registration.public() {
            Some(public) if is_seen_there => public,
            _ => local,
        };
        let user = self.account.contact_user();
        let mut uri = SipUri::new(user.as_deref(), Host::from(address.ip())).with_port(Some(address.port()));
        uri.secure = self.account.aor.secure && flow.transport.is_secure();
        let is_said = flow.transport == Transport::Udp || (uri.secure && flow.transport == Transport::Tls);
        if !is_said {
            uri.params.set("transport", Some(flow.transport.uri_token()));
        }
        NameAddr::new(Uri::Sip(uri))
    }

    /// How well a request that names this user fits: 2 if it is our Contact's user, 1 if the address of
    /// record's.
    pub fn fits(&self, user: Option<&str>) -> u8 {
        match user {
            Some(user) if self.account.contact_user().as_deref() == Some(user) => 2,
            Some(user) if self.account.aor.user().as_deref() == Some(user) => 1,
            _ => 0,
        }
    }
}
