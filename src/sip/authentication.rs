//! Answering challenges (RFC 3261 §22, RFC 7616, RFC 8760): which to answer, how often, and what to remember.
//!
//! A nonce is used again, with a counter, for the requests that follow; a line whose password is refused
//! stops answering for a while. The computing is [`digest`]'s.

use std::time::Duration;

use crate::chance::Chance;
use crate::now::Now;
use crate::sip::account::Credentials;
use crate::sip::auth::{AuthenticationInfo, DigestChallenge};
use crate::sip::digest::{self, Question};
use crate::sip::message::{Request, Response};

/// What one line remembers of its server's challenges.
#[derive(Debug, Default)]
pub(crate) struct Authenticator {
    sessions: Vec<Session>,
    /// Of REGISTER, and of all other requests: a registrar that is content with the password is none the less if calls
    /// are refused.
    registering: Refusals,
    calling: Refusals,
    /// Whether the server's last proof was wrong.
    doubted: bool,
}

/// How often in a row an answer of ours was refused, and until when there is none therefore.
#[derive(Debug, Default)]
struct Refusals {
    count: u32,
    suspended: Option<u64>,
}

/// A nonce in use.
#[derive(Debug)]
struct Session {
    proxy: bool,
    challenge: DigestChallenge,
    cnonce: String,
    count: u32,
}

/// What one request has been through.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Realms answered with a challenge that this request met, by field.
    answered: Vec<(bool, Vec<u8>)>,
    /// The credentials that the attempt in flight carries.
    carried: Vec<Carried>,
    rounds: u8,
    /// Whether it is a REGISTER.
    registers: bool,
    /// How often TCP was tried for the size of the request.
    pub large: u8,
}

/// Credentials in flight: what the server's proof is computed from, too.
#[derive(Debug)]
struct Carried {
    proxy: bool,
    challenge: DigestChallenge,
    cnonce: String,
    nc: u32,
}

/// Whether the server has shown that it knows the password too (`rspauth`, RFC 7616 §3.5).
///
/// A wrong proof does not undo what the answer says. Whoever plays the server without knowing the password leaves
/// the proof out, as most servers do, and is believed; so refusing a wrong one keeps no attacker away, but takes the
/// line from everybody whose PBX computes it wrongly. It is told instead, and the nonce that comes with it is not
/// used. TLS is what tells a server from somebody who plays it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Proof {
    /// It has not tried.
    None,
    /// It knows the password.
    Right,
    /// It does not, or computes something else than the RFC says.
    Wrong,
}

/// What to do about a challenge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send the request again; [`Authenticator::authorize`] knows the answer now.
    Again,
    /// Leave it.
    Refuse(Unauthorized),
}

/// Why a challenge was not answered (again).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unauthorized {
    /// The server refused what we answered: user name or password is wrong.
    Refused {
        /// The realm of the challenge.
        realm: String,
    },
    /// The challenge names a realm that the line does not know.
    ForeignRealm {
        /// The realm of the challenge.
        realm: String,
    },
    /// The line has no password.
    NoCredentials {
        /// The realm of the challenge.
        realm: String,
    },
    /// No algorithm in common, or an unreadable challenge.
    Unsupported,
    /// It came from somewhere else than the line's servers.
    Stranger,
    /// Refused before, and not yet time to try again.
    Suspended {
        /// The realm of the challenge.
        realm: String,
    },
}

impl Unauthorized {
    /// For people: what is wrong and what to do.
    pub fn explain(&self) -> String {
        match self {
            Unauthorized::Refused { realm } | Unauthorized::Suspended { realm } => format!(
                "the server refuses user name or password (realm \"{realm}\"); \
                 check auth_user and password of the line"
            ),
            Unauthorized::ForeignRealm { realm } => {
                format!(
                    "the server asks for realm \"{realm}\", which is not the line's; check realm of the line"
                )
            }
            Unauthorized::NoCredentials { realm } => {
                format!(
                    "the server asks for a password (realm \"{realm}\") and the line has none; set password"
                )
            }
            Unauthorized::Unsupported => {
                "the server asks for an authentication that is not supported; Digest with MD5 or SHA-256 is"
                    .to_owned()
            }
            Unauthorized::Stranger => "a challenge came from a server that is not the line's".to_owned(),
        }
    }

    /// The realm of the challenge, if it could be read.
    pub fn realm(&self) -> &str {
        match self {
            Unauthorized::Refused { realm }
            | Unauthorized::ForeignRealm { realm }
            | Unauthorized::NoCredentials { realm }
            | Unauthorized::Suspended { realm } => realm,
            Unauthorized::Unsupported | Unauthorized::Stranger => "",
        }
    }
}

const MAX_SESSIONS: usize = 8;
/// Challenges that one request answers, stale nonces and both fields together.
const MAX_ROUNDS: u8 = 5;
const MAX_REFUSED: u32 = 2;
/// fail2ban locks out a whole office for a device that does not stop.
const SUSPENDED: Duration = Duration::from_secs(600);

impl Attempts {
    /// Nothing yet. `registers`: the request is a REGISTER.
    pub fn new(registers: bool) -> Attempts {
        Attempts { registers, ..Attempts::default() }
    }
}

impl Refusals {
    fn is_suspended(&self, now: Now) -> bool {
        self.suspended.is_some_and(|until| until > now.mono_us)
    }

    fn add(&mut self, now: Now) {
        self.count += 1;
        if self.count >= MAX_REFUSED {
            *self = Refusals { count: 0, suspended: Some(now.deadline(SUSPENDED)) };
        }
    }
}

impl Carried {
    fn proof(&self, credentials: &Credentials, uri: &str, info: &AuthenticationInfo, body: &[u8]) -> Proof {
        let question = Question {
            challenge: &self.challenge,
            // The server's proof is over an empty method and its own body.
            method: "",
            uri,
            username: &credentials.user,
            password: &credentials.password,
            body,
            cnonce: &self.cnonce,
            nc: self.nc,
        };
        match digest::verify_server(&question, info, body) {
            None => Proof::None,
            Some(true) => Proof::Right,
            Some(false) => Proof::Wrong,
        }
    }
}

impl Authenticator {
    /// Puts into a request what is known to be asked for.
    pub fn authorize(
        &mut self,
        now: Now,
        request: &mut Request,
        credentials: &Credentials,
        attempts: &mut Attempts,
        chance: &mut Chance,
    ) {
        attempts.carried.clear();
        if self.is_suspended(now, attempts) {
            return;
        }
        let uri = request.uri.to_string();
        for session in &mut self.sessions {
            if session.cnonce.is_empty() {
                session.cnonce = chance.token(8);
            }
            session.count = session.count.saturating_add(1);
            let value = digest::answer(&Question {
                challenge: &session.challenge,
                method: request.method.as_str(),
                uri: &uri,
                username: &credentials.user,
                password: &credentials.password,
                body: &request.body,
                cnonce: &session.cnonce,
                nc: session.count,
            });
            let field = if session.proxy { "Proxy-Authorization" } else { "Authorization" };
            request.fields.push(field, value);
            attempts.carried.push(Carried {
                proxy: session.proxy,
                challenge: session.challenge.clone(),
                cnonce: session.cnonce.clone(),
                nc: session.count,
            });
        }
    }

    /// A 401 or 407 to a request of the line, from one of its servers.
    pub fn handle_challenge(
        &mut self,
        now: Now,
        response: &Response,
        credentials: Option<&Credentials>,
        attempts: &mut Attempts,
    ) -> Verdict {
        let mut offers: Vec<(bool, DigestChallenge)> = Vec::new();
        for (proxy, field) in [(false, "WWW-Authenticate"), (true, "Proxy-Authenticate")] {
            offers.extend(response.fields.challenges(field).into_iter().map(|challenge| (proxy, challenge)));
        }
        let realm_of = |offers: &[(bool, DigestChallenge)]| {
            offers.first().map(|(_, challenge)| challenge.realm_text()).unwrap_or_default()
        };
        let realm = realm_of(&offers);
        if offers.is_empty() {
            return Verdict::Refuse(Unauthorized::Unsupported);
        }
        let Some(credentials) = credentials else {
            return Verdict::Refuse(Unauthorized::NoCredentials { realm });
        };
        if let Some(own) = &credentials.realm {
            offers.retain(|(_, challenge)| challenge.realm_text() == *own);
        }
        if offers.is_empty() {
            return Verdict::Refuse(Unauthorized::ForeignRealm { realm });
        }
        if self.is_suspended(now, attempts) {
            return Verdict::Refuse(Unauthorized::Suspended { realm });
        }
        attempts.rounds += 1;
        let mut fresh = Vec::new();
        for proxy in [false, true] {
            let of_field = offers.iter().filter(|(of, _)| *of == proxy);
            let of_field: Vec<DigestChallenge> = of_field.map(|(_, challenge)| challenge.clone()).collect();
            // Each realm of a field is answered (RFC 3261 §22.3), with its strongest algorithm.
            let mut realms: Vec<&[u8]> =
                of_field.iter().map(|challenge| challenge.realm.as_slice()).collect();
            crate::order::sort_by_key(&mut realms, |realm| *realm);
            realms.dedup();
            for realm in realms {
                let of_realm = of_field.iter().filter(|challenge| challenge.realm == realm);
                let of_realm: Vec<DigestChallenge> = of_realm.cloned().collect();
                if let Some(challenge) = digest::strongest(&of_realm) {
                    fresh.push((proxy, challenge.clone()));
                }
            }
        }
        for (proxy, challenge) in fresh {
            let key = (proxy, challenge.realm.clone());
            let answered = attempts.answered.contains(&key);
            // A nonce met in this very request has been answered: refused, unless it is only stale (§22.4).
            if (answered && !challenge.stale) || attempts.rounds > MAX_ROUNDS {
                return self.refuse(now, attempts.registers, proxy, &challenge);
            }
            if !answered {
                attempts.answered.push(key);
            }
            self.remember(proxy, challenge);
        }
        Verdict::Again
    }

    /// A password that the registrar refuses is not tried by calls either.
    fn is_suspended(&self, now: Now, attempts: &Attempts) -> bool {
        self.registering.is_suspended(now) || (!attempts.registers && self.calling.is_suspended(now))
    }

    fn refusals(&mut self, registers: bool) -> &mut Refusals {
        if registers { &mut self.registering } else { &mut self.calling }
    }

    fn refuse(&mut self, now: Now, registers: bool, proxy: bool, challenge: &DigestChallenge) -> Verdict {
        self.sessions.retain(|session| session.proxy != proxy || session.challenge.realm != challenge.realm);
        self.refusals(registers).add(now);
        Verdict::Refuse(Unauthorized::Refused { realm: challenge.realm_text() })
    }

    fn remember(&mut self, proxy: bool, challenge: DigestChallenge) {
        self.sessions.retain(|session| session.proxy != proxy || session.challenge.realm != challenge.realm);
        if self.sessions.len() >= MAX_SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push(Session { proxy, challenge, cnonce: String::new(), count: 0 });
    }

    /// A request for `uri` that carried credentials was accepted. Whether the server's proof is right, if it was not the
    /// last time or the other way round.
    pub fn handle_success(
        &mut self,
        response: &Response,
        credentials: Option<&Credentials>,
        uri: &str,
        attempts: &Attempts,
    ) -> Option<bool> {
        if attempts.carried.is_empty() {
            return None;
        }
        *self.refusals(attempts.registers) = Refusals::default();
        let mut verdict = Proof::None;
        for (proxy, field) in [(false, "Authentication-Info"), (true, "Proxy-Authentication-Info")] {
            let Some(info) = response.fields.get(field).map(AuthenticationInfo::parse) else {
                continue;
            };
            let carried = || attempts.carried.iter().filter(|carried| carried.proxy == proxy);
            let proof = credentials.map_or(Proof::None, |credentials| {
                let proofs = carried().map(|carried| carried.proof(credentials, uri, &info, &response.body));
                proofs.max_by_key(|proof| *proof == Proof::Right).unwrap_or(Proof::None)
            });
            if proof != Proof::None && verdict != Proof::Wrong {
                verdict = proof;
            }
            let Some(nonce) = info.nextnonce.filter(|_| proof != Proof::Wrong) else {
                continue;
            };
            let is_it = |session: &Session| {
                session.proxy == proxy
                    && carried().any(|carried| carried.challenge.nonce == session.challenge.nonce)
            };
            if let Some(session) = self.sessions.iter_mut().find(|session| is_it(session)) {
                session.challenge.nonce = nonce;
                session.count = 0;
                session.cnonce.clear();
            }
        }
        let doubted = match verdict {
            Proof::None => return None,
            Proof::Right => false,
            Proof::Wrong => true,
        };
        (std::mem::replace(&mut self.doubted, doubted) != doubted).then_some(!doubted)
    }

    /// Somebody has looked at the settings: old refusals no longer count.
    pub fn forgive(&mut self) {
        self.registering = Refusals::default();
        self.calling = Refusals::default();
    }
}
