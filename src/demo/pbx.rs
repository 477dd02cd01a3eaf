//! The embedded PBX: a registrar, an echo to call, and a switch between the phones that are registered.
//!
//! A state machine: SIP of both sides is the same user agent that the phone is made of; RTP of the echo goes
//! through [`Pbx::handle_rtp`], RTP between two phones goes past it. It knows no sockets.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::chance::Chance;
use crate::demo::echo::Echo;
use crate::demo::registrar::{Manners, Registrar, Verdict};
use crate::demo::switch::Bridge;
use crate::now::{Now, earliest};
use crate::sip::account::{Account, Settings as AgentSettings};
use crate::sip::call::{CallEvent, Description, Incoming, InviteOptions};
use crate::sip::handle::{AccountId, CallId};
use crate::sip::host::{Host, HostPort};
use crate::sip::method::Method;
use crate::sip::network::{self, Transport};
use crate::sip::sdp::{Capability, Codec, Negotiation};
use crate::sip::trust::{Network, Trust};
use crate::sip::ua_event::Event;
use crate::sip::uri::SipUri;
use crate::sip::user_agent::UserAgent;

/// The number of the echo.
pub const ECHO: &str = "600";
/// How long a service with early media plays before it answers.
const EARLY: Duration = Duration::from_secs(2);

/// Somebody who may register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// The extension.
    pub name: String,
    /// What proves it.
    pub password: String,
    /// What other phones show.
    pub display: Option<String>,
}

impl User {
    /// A user without a display name.
    pub fn new(name: &str, password: &str) -> User {
        User { name: name.into(), password: password.into(), display: None }
    }
}

/// What a number that is nobody's extension does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// Answers and sends back what it hears.
    Echo,
    /// The same, but for two seconds before it answers (183 with a description).
    EarlyEcho,
    /// Answers and is never heard.
    Mute,
    /// Rings and never answers.
    Unanswered,
    /// Tries (100), and says nothing more.
    Stuck,
    /// Refuses with this status.
    Refuse(u16),
}

/// What the PBX is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Where SIP comes in, over UDP.
    pub address: SocketAddr,
    /// The domain of its users, and the realm of its challenges.
    pub domain: String,
    /// Who may register.
    pub users: Vec<User>,
    /// Its numbers.
    pub numbers: BTreeMap<String, Service>,
    /// RTP ports at the same address for the echo, one for each call at a time.
    pub echo_ports: Vec<u16>,
}

impl Settings {
    /// A PBX with the echo at [`ECHO`].
    pub fn new(address: SocketAddr, domain: &str, users: Vec<User>, echo_ports: Vec<u16>) -> Settings {
        let numbers = crate::order::gathered([(ECHO.to_owned(), Service::Echo)]);
        Settings { address, domain: domain.to_owned(), users, numbers, echo_ports }
    }
}

/// What the PBX asks of the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Something at the SIP border.
    Sip(network::Output),
    /// Send a datagram from one of the echo's ports.
    Rtp {
        /// From this port.
        port: u16,
        /// To whom.
        remote: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
}

/// A call that the PBX itself is the other end of.
#[derive(Debug)]
struct Conversation {
    negotiation: Negotiation,
    port: u16,
    /// When early media become an answer, and with what.
    answer_at: Option<(u64, Vec<u8>)>,
}

/// The PBX.
pub struct Pbx {
    agent: UserAgent,
    settings: Settings,
    lines: BTreeMap<String, AccountId>,
    registrar: Registrar,
    chance: Chance,
    conversations: BTreeMap<CallId, Conversation>,
    pub(super) bridges: Vec<Bridge>,
    echoes: BTreeMap<u16, Echo>,
    free: Vec<u16>,
    outputs: VecDeque<Output>,
    /// Takes nothing in, as if its machine were switched off.
    pub silent: bool,
    /// Every call is refused with 486.
    pub busy: bool,
    /// Calls have to prove the password too (407).
    pub challenge_calls: bool,
}

impl Pbx {
    /// A PBX where nobody is registered yet.
    pub fn new(now: Now, settings: Settings, mut chance: Chance) -> Pbx {
        let agent_settings = AgentSettings {
            user_agent: concat!("Tipring-demo/", env!("CARGO_PKG_VERSION")).to_owned(),
            udp: vec![settings.address],
            serves: vec![Method::REGISTER],
            ..AgentSettings::default()
        };
        let mut agent = UserAgent::new(agent_settings, chance.fork());
        let operator = User::new("pbx", "");
        let users = settings.users.iter().chain([&operator]);
        let lines = crate::order::gathered(
            users.map(|user| (user.name.clone(), agent.add_account(now, account(&settings, user)))),
        );
        let passwords = settings.users.iter().map(|user| (user.name.clone(), user.password.clone()));
        let registrar = Registrar::new(&settings.domain, passwords, chance.fork());
        let mut free = settings.echo_ports.clone();
        free.reverse();
        Pbx {
            agent,
            lines,
            registrar,
            chance,
            conversations: BTreeMap::new(),
            bridges: Vec::new(),
            echoes: BTreeMap::new(),
            free,
            outputs: VecDeque::new(),
            silent: false,
            busy: false,
            challenge_calls: true,
            settings,
        }
    }

    /// How the registrar behaves from now on.
    pub fn manners(&mut self) -> &mut Manners {
        &mut self.registrar.manners
    }

    /// Its registrar.
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// Makes a number do something else.
    pub fn set_number(&mut self, number: &str, service: Service) {
        self.settings.numbers.insert(number.to_owned(), service);
    }

    /// Nothing comes back from the echo any more, or again.
    pub fn mute_echo(&mut self, silent: bool) {
        self.echoes.values_mut().for_each(|echo| echo.silent = silent);
    }

    /// Calls that go through it or end at it.
    pub fn calls(&self) -> usize {
        self.conversations.len() + self.bridges.len()
    }

    /// Calls a user from the echo, with more header fields in the INVITE; `None` if the user is not
    /// registered.
    pub fn call(&mut self, now: Now, user: &str, fields: &[(&str, &str)]) -> Option<CallId> {
        let target = self.registrar.reach(now, user).into_iter().next()?;
        let account = *self.lines.get("pbx")?;
        let (port, mut negotiation) = self.open_echo(false)?;
        let options = InviteOptions {
            offer: Some(negotiation.offer(&mut self.chance)),
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..InviteOptions::default()
        };
        let Ok(call) = self.agent.invite(now, account, target, options) else {
            self.free.push(port);
            return None;
        };
        self.conversations.insert(call, Conversation { negotiation, port, answer_at: None });
        self.settle(now);
        Some(call)
    }

    /// Ends a call of [`Pbx::call`].
    pub fn hang_up(&mut self, now: Now, call: CallId) {
        // A call that has ended meanwhile needs no end.
        let _ = self.agent.hang_up(now, call, None);
        self.settle(now);
    }

    /// Ends in order.
    pub fn stop(&mut self, now: Now) {
        self.agent.shutdown(now);
        self.settle(now);
    }

    /// Something came in at the SIP border.
    pub fn handle(&mut self, now: Now, input: network::Input<'_>) {
        if self.silent && matches!(input, network::Input::Datagram { .. } | network::Input::Stream { .. }) {
            return;
        }
        self.agent.handle(now, input);
        self.settle(now);
    }

    /// A datagram came in at one of the echo's ports.
    pub fn handle_rtp(&mut self, port: u16, from: SocketAddr, datagram: &[u8]) {
        let back =
            self.echoes.get_mut(&port).filter(|_| !self.silent).and_then(|echo| echo.handle(from, datagram));
        if let Some(bytes) = back {
            self.outputs.push_back(Output::Rtp { port, remote: from, bytes });
        }
    }

    /// When [`Pbx::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let answers =
            self.conversations.values().filter_map(|one| one.answer_at.as_ref().map(|(at, _)| *at)).min();
        earliest(self.agent.poll_timeout(), answers)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.agent.handle_timeout(now);
        for (call, conversation) in &mut self.conversations {
            if let Some((_, sdp)) = conversation.answer_at.take_if(|(at, _)| *at <= now.mono_us) {
                // The caller may have gone meanwhile; its end is told by an event.
                let _ = self.agent.answer(now, *call, sdp);
            }
        }
        self.settle(now);
    }

    /// What the machine is to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.silent {
            while self.agent.poll_output().is_some() {}
            self.outputs.clear();
        }
        self.outputs.pop_front().or_else(|| self.agent.poll_output().map(Output::Sip))
    }

    pub(super) fn agent(&mut self) -> &mut UserAgent {
        &mut self.agent
    }

    fn settle(&mut self, now: Now) {
        while let Some(event) = self.agent.poll_event() {
            match event {
                Event::Request { transaction, remote, request, .. } => {
                    let response = self.registrar.handle(now, &request, remote);
                    self.agent.respond(now, transaction, response);
                }
                Event::Call { call, event: CallEvent::Incoming(incoming) } => {
                    self.incoming(now, call, *incoming)
                }
                Event::Call { call, event } if self.conversations.contains_key(&call) => {
                    self.converse(now, call, event);
                }
                Event::Call { call, event } => self.handle_bridged(now, call, event),
                _ => {}
            }
        }
    }

    fn incoming(&mut self, now: Now, call: CallId, incoming: Incoming) {
        let caller = incoming.identity.from.uri.user().map(|user| user.into_owned()).unwrap_or_default();
        if self.challenge_calls {
            match self.registrar.verdict(now, &incoming.request, &caller, "Proxy-Authorization") {
                Verdict::Right => {}
                Verdict::Wrong => return self.refuse(now, call, 403),
                verdict => {
                    let challenges = self.registrar.challenges(now, verdict == Verdict::Stale);
                    let fields: Vec<(String, String)> = challenges
                        .into_iter()
                        .map(|value| {
                            ("Proxy-Authenticate".to_owned(), String::from_utf8_lossy(&value).into_owned())
                        })
                        .collect();
                    // A caller that has gone needs no answer.
                    let _ = self.agent.reject(now, call, 407, None, &fields);
                    return;
                }
            }
        }
        let called = incoming.request.uri.user().map(|user| user.into_owned()).unwrap_or_default();
        if self.busy {
            return self.refuse(now, call, 486);
        }
        if let Some(service) = self.settings.numbers.get(&called).copied() {
            return self.serve(now, call, service, incoming.offer.as_deref());
        }
        let targets = self.registrar.reach(now, &called);
        match self.lines.get(&caller).or_else(|| self.lines.get("pbx")).copied() {
            Some(_) if targets.is_empty() => {
                self.refuse(now, call, if self.registrar.knows(&called) { 480 } else { 404 });
            }
            Some(account) => self.connect(now, call, account, targets, incoming.offer),
            None => self.refuse(now, call, 404),
        }
    }

    pub(super) fn refuse(&mut self, now: Now, call: CallId, status: u16) {
        // A caller that has gone needs no answer.
        let _ = self.agent.reject(now, call, status, None, &[]);
    }

    /// A port for the echo, and what is said of it.
    fn open_echo(&mut self, silent: bool) -> Option<(u16, Negotiation)> {
        let port = self.free.pop()?;
        self.echoes.insert(port, Echo::new(silent));
        let mut opus = Codec::new("opus", 48_000, 111);
        opus.channels = 2;
        let codecs =
            vec![opus, Codec::new("G722", 8000, 9), Codec::new("PCMA", 8000, 8), Codec::new("PCMU", 8000, 0)];
        let capability = Capability::new(self.settings.address.ip(), port, codecs);
        Some((port, Negotiation::new(capability, self.chance.next_u64())))
    }

    fn serve(&mut self, now: Now, call: CallId, service: Service, offer: Option<&[u8]>) {
        match service {
            Service::Refuse(status) => return self.refuse(now, call, status),
            Service::Stuck => return,
            Service::Unanswered => {
                // A caller that has gone needs no ringing.
                let _ = self.agent.ring(now, call, 180, None);
                return;
            }
            Service::Echo | Service::EarlyEcho | Service::Mute => {}
        }
        let Some((port, mut negotiation)) = self.open_echo(service == Service::Mute) else {
            return self.refuse(now, call, 503);
        };
        let sdp = match offer {
            Some(offer) => match negotiation.answer(offer, &mut self.chance) {
                Ok((answer, _)) => answer,
                Err(refusal) => {
                    self.close_echo(port);
                    return self.refuse(now, call, refusal.status());
                }
            },
            None => negotiation.offer(&mut self.chance),
        };
        let mut answer_at = None;
        let begun = if service == Service::EarlyEcho {
            answer_at = Some((now.deadline(EARLY), sdp.clone()));
            self.agent.ring(now, call, 183, Some(sdp))
        } else {
            self.agent.answer(now, call, sdp)
        };
        match begun {
            Ok(()) => {
                self.conversations.insert(call, Conversation { negotiation, port, answer_at });
            }
            Err(_) => self.close_echo(port),
        }
    }

    fn close_echo(&mut self, port: u16) {
        self.echoes.remove(&port);
        self.free.push(port);
    }

    /// Something happened in a call that ends here.
    fn converse(&mut self, now: Now, call: CallId, event: CallEvent) {
        let Some(conversation) = self.conversations.get_mut(&call) else { return };
        let negotiation = &mut conversation.negotiation;
        match event {
            CallEvent::Offer { sdp, .. } => {
                let reply = match sdp {
                    Some(offer) => match negotiation.answer(&offer, &mut self.chance) {
                        Ok((answer, _)) => Ok(answer),
                        Err(refusal) => Err(refusal.status()),
                    },
                    None => Ok(negotiation.offer(&mut self.chance)),
                };
                if let Some(echo) = self.echoes.get_mut(&conversation.port) {
                    echo.rearm();
                }
                // A call that has ended meanwhile needs no answer.
                let _ = self.agent.reply_offer(now, call, reply);
            }
            CallEvent::Answered { sdp: Some(Description::Answer(sdp)), .. }
            | CallEvent::Answer { sdp, .. } => match negotiation.accept(&sdp) {
                Ok(_) => {}
                // Without a common codec there is nothing to echo.
                Err(_) => drop(self.agent.hang_up(now, call, None)),
            },
            CallEvent::OfferFailed { .. } => negotiation.withdraw(),
            CallEvent::Ended(_) => {
                if let Some(ended) = self.conversations.remove(&call) {
                    self.close_echo(ended.port);
                }
            }
            _ => {}
        }
    }
}

/// The account by which the PBX speaks for a user to the others.
fn account(settings: &Settings, user: &User) -> Account {
    let HostPort { host, .. } = HostPort::parse(&settings.domain)
        .unwrap_or_else(|| HostPort { host: Host::Name(settings.domain.clone()), port: None });
    let mut account = Account::new(SipUri::new(Some(&user.name), host));
    account.registrar =
        Some(SipUri::new(None, Host::from(settings.address.ip())).with_port(Some(settings.address.port())));
    account.display_name = user.display.clone();
    account.register = false;
    account.catch_all = true;
    // Phones may come over any of them; what names none is UDP (see `next_hop`).
    account.transports = Transport::ALL.to_vec();
    account.tcp_for_large = false;
    account.trust = Trust::Networks(vec![Network::ANY_V4, Network::ANY_V6]);
    account
}
