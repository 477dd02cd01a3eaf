//! The registrar: who is a user here, what proves it, and where each one can be reached (RFC 3261 §10.3, RFC
//! 7616).
//!
//! A state machine in requests and responses. It knows no sockets and no calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::chance::Chance;
use crate::now::Now;
use crate::sip::auth::{Algorithm, DigestChallenge};
use crate::sip::digest;
use crate::sip::host::Host;
use crate::sip::message::{Request, Response};
use crate::sip::name_addr::{Contacts, NameAddr};
use crate::sip::uri::{SipUri, Uri};

/// Nonces that are remembered; the oldest are forgotten beyond, and count as stale.
const NONCES: usize = 256;
/// Bindings that one user may have.
const BINDINGS: usize = 10;

/// How the registrar behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manners {
    /// What it challenges with, in this order; an answer to any of them counts. Empty: everybody is believed.
    pub challenge: Vec<Algorithm>,
    /// How long a nonce may be used before it is stale.
    pub nonce_lifetime: Duration,
    /// The shortest registration it grants; a shorter wish gets 423 (RFC 3261 §10.3).
    pub shortest: Duration,
    /// The longest registration it grants.
    pub longest: Duration,
    /// Answers every REGISTER with this status, and with Retry-After in seconds if that is given.
    pub refuse: Option<(u16, Option<u32>)>,
    /// The password that it proves to know with each 200 (RFC 7616 §3.5); `None` leaves the proof out.
    pub proof: Option<String>,
    /// Calls whoever registered at the address that the REGISTER came from, whatever its Contact says.
    pub by_source: bool,
    /// Bindings that a user may have; a REGISTER that would leave more gets 403, as from the strictest PBXs.
    pub most_contacts: Option<usize>,
}

impl Default for Manners {
    fn default() -> Manners {
        Manners {
            challenge: vec![Algorithm::SHA_256, Algorithm::MD5],
            nonce_lifetime: Duration::from_secs(300),
            shortest: Duration::from_secs(30),
            longest: Duration::from_secs(3600),
            refuse: None,
            proof: None,
            by_source: true,
            most_contacts: None,
        }
    }
}

/// Where a user can be reached.
#[derive(Clone, PartialEq, Debug)]
struct Binding {
    contact: Uri,
    /// Where the REGISTER came from.
    source: SocketAddr,
    /// The end, on the monotonic clock in microseconds.
    until: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Nonce {
    until: u64,
    /// The highest count that was used.
    count: u32,
}

/// What a request's credentials are worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// They are right.
    Right,
    /// There are none, or they are for another realm.
    Missing,
    /// The password is right and the nonce too old.
    Stale,
    /// The user or the password is wrong.
    Wrong,
}

/// The registrar.
#[derive(Debug)]
pub struct Registrar {
    realm: String,
    passwords: BTreeMap<String, String>,
    bindings: BTreeMap<String, Vec<Binding>>,
    nonces: BTreeMap<String, Nonce>,
    chance: Chance,
    /// How it behaves.
    pub manners: Manners,
    /// Requests whose credentials were wrong, so far.
    pub wrong: u64,
}

impl Registrar {
    /// A registrar of this realm, for these users and their passwords.
    pub fn new(realm: &str, users: impl IntoIterator<Item = (String, String)>, chance: Chance) -> Registrar {
        Registrar {
            realm: realm.to_owned(),
            passwords: crate::order::gathered(users),
            bindings: BTreeMap::new(),
            nonces: BTreeMap::new(),
            chance,
            manners: Manners::default(),
            wrong: 0,
        }
    }

    /// Whether somebody of this name may register.
    pub fn knows(&self, user: &str) -> bool {
        self.passwords.contains_key(user)
    }

    /// Where a user can be reached now, the newest first.
    pub fn reach(&self, now: Now, user: &str) -> Vec<Uri> {
        let bindings = self.bindings.get(user).map(Vec::as_slice).unwrap_or_default();
        let alive = bindings.iter().rev().filter(|binding| binding.until > now.mono_us);
        alive.map(|binding| self.target(binding)).collect()
    }

    /// The addresses that the registrations of a user came from.
    pub fn sources(&self, now: Now, user: &str) -> Vec<SocketAddr> {
        let bindings = self.bindings.get(user).map(Vec::as_slice).unwrap_or_default();
        bindings.iter().filter(|binding| binding.until > now.mono_us).map(|binding| binding.source).collect()
    }

    /// Behind a NAT only the way that the REGISTER came leads back.
    fn target(&self, binding: &Binding) -> Uri {
        match &binding.contact {
            Uri::Sip(contact) if self.manners.by_source => {
                let mut contact: SipUri = contact.clone();
                contact.host = Host::from(binding.source.ip());
                contact.port = Some(binding.source.port());
                Uri::Sip(contact)
            }
            contact => contact.clone(),
        }
    }

    /// Answers a REGISTER that came from `source`.
    pub fn handle(&mut self, now: Now, request: &Request, source: SocketAddr) -> Response {
        if let Some((status, retry_after)) = self.manners.refuse {
            let mut response = Response::to(request, status);
            if let Some(seconds) = retry_after {
                response.fields.push("Retry-After", seconds.to_string());
            }
            return response;
        }
        let Some(user) = request.head.to.uri.user().map(|user| user.into_owned()) else {
            return Response::to(request, 400);
        };
        match self.verdict(now, request, &user, "Authorization") {
            Verdict::Right if self.knows(&user) => {}
            Verdict::Right => return Response::to(request, 404),
            Verdict::Wrong => {
                self.wrong += 1;
                return Response::to(request, 403);
            }
            verdict => return self.challenge(now, request, 401, verdict == Verdict::Stale),
        }
        match self.bind(now, request, &user, source) {
            Ok(()) => self.granted(now, request, &user),
            Err(status) => {
                let mut response = Response::to(request, status);
                if status == 423 {
                    response.fields.push("Min-Expires", self.manners.shortest.as_secs().to_string());
                }
                response
            }
        }
    }

    fn granted(&self, now: Now, request: &Request, user: &str) -> Response {
        let mut response = Response::to(request, 200);
        let bindings = self.bindings.get(user).map(Vec::as_slice).unwrap_or_default();
        for binding in bindings.iter().filter(|binding| binding.until > now.mono_us) {
            let mut contact = NameAddr::new(binding.contact.clone());
            let left = binding.until.saturating_sub(now.mono_us).div_ceil(1_000_000);
            contact.params.set("expires", Some(&left.to_string()));
            response.fields.push("Contact", contact.to_string());
        }
        let given = request.fields.credentials("Authorization");
        if let (Some(password), Some(given)) = (&self.manners.proof, given.first()) {
            let proof = digest::server_proof(given, password, &response.body);
            response.fields.push("Authentication-Info", proof.write());
        }
        response
    }

    fn bind(&mut self, now: Now, request: &Request, user: &str, source: SocketAddr) -> Result<(), u16> {
        let default = request.fields.number("Expires").map_err(|_| 400u16)?;
        let contacts = match request.fields.contacts().map_err(|_| 400u16)? {
            None => return Ok(()),
            // RFC 3261 §10.2.2.
            Some(Contacts::Star) if default != Some(0) => return Err(400),
            Some(Contacts::Star) => {
                self.bindings.remove(user);
                return Ok(());
            }
            Some(Contacts::List(contacts)) => contacts,
        };
        let longest = u32::try_from(self.manners.longest.as_secs()).unwrap_or(u32::MAX);
        let wish = |contact: NameAddr| {
            let expires = contact.expires().or(default).unwrap_or(longest);
            (contact.uri, expires)
        };
        let wishes: Vec<(Uri, u32)> = contacts.into_iter().map(wish).collect();
        let too_brief = |expires: u32| expires > 0 && u64::from(expires) < self.manners.shortest.as_secs();
        if wishes.iter().any(|(_, expires)| too_brief(*expires)) {
            return Err(423);
        }
        let bindings = self.bindings.entry(user.to_owned()).or_default();
        bindings.retain(|binding| binding.until > now.mono_us);
        let before = bindings.clone();
        for (contact, expires) in wishes {
            bindings.retain(|binding| !binding.contact.equivalent(&contact));
            if expires > 0 {
                let until = now.deadline(Duration::from_secs(u64::from(expires.min(longest))));
                bindings.push(Binding { contact, source, until });
            }
        }
        if self.manners.most_contacts.is_some_and(|most| bindings.len() > most) {
            *bindings = before;
            return Err(403);
        }
        // The oldest gives way: a phone that came back under another address must not be locked out.
        while bindings.len() > BINDINGS {
            bindings.remove(0);
        }
        Ok(())
    }

    /// What the credentials in `field` (Authorization or Proxy-Authorization) of a request are worth.
    pub fn verdict(&mut self, now: Now, request: &Request, user: &str, field: &str) -> Verdict {
        if self.manners.challenge.is_empty() {
            return Verdict::Right;
        }
        let credentials = request.fields.credentials(field);
        let Some(given) = credentials.into_iter().find(|given| given.realm == self.realm.as_bytes()) else {
            return Verdict::Missing;
        };
        let password = self.passwords.get(&given.username_text()).filter(|_| given.username_text() == user);
        let right = password
            .is_some_and(|password| digest::verify(&given, password, request.method.as_str(), &request.body));
        if !right {
            return Verdict::Wrong;
        }
        let nonce = String::from_utf8_lossy(&given.nonce).into_owned();
        match self.nonces.get_mut(&nonce) {
            Some(known) if known.until > now.mono_us && given.nc.is_none_or(|nc| nc > known.count) => {
                known.count = given.nc.unwrap_or(known.count);
                Verdict::Right
            }
            _ => Verdict::Stale,
        }
    }

    /// The challenges of a 401 or 407, as values of WWW-Authenticate or Proxy-Authenticate.
    pub fn challenges(&mut self, now: Now, stale: bool) -> Vec<Vec<u8>> {
        self.nonces.retain(|_, nonce| nonce.until > now.mono_us);
        while self.nonces.len() >= NONCES {
            let oldest =
                self.nonces.iter().min_by_key(|(_, nonce)| nonce.until).map(|(nonce, _)| nonce.clone());
            match oldest {
                Some(oldest) => self.nonces.remove(&oldest),
                None => break,
            };
        }
        let nonce = self.chance.token(16);
        let until = now.deadline(self.manners.nonce_lifetime);
        self.nonces.insert(nonce.clone(), Nonce { until, count: 0 });
        let challenge = |algorithm: &Algorithm| {
            let mut challenge = DigestChallenge::new(&self.realm, &nonce, *algorithm);
            challenge.stale = stale;
            challenge.write()
        };
        self.manners.challenge.iter().map(challenge).collect()
    }

    fn challenge(&mut self, now: Now, request: &Request, status: u16, stale: bool) -> Response {
        let mut response = Response::to(request, status);
        let name = if status == 407 { "Proxy-Authenticate" } else { "WWW-Authenticate" };
        for challenge in self.challenges(now, stale) {
            response.fields.push(name, challenge);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::digest::Question;
    use crate::sip::method::Method;

    const SOURCE: &str = "203.0.113.7:40000";

    fn registrar() -> Registrar {
        Registrar::new("pbx.example", [("1001".into(), "secret".into())], Chance::from_number(1))
    }

    fn request(contact: &str) -> Request {
        let aor = NameAddr::parse("<sip:1001@pbx.example>").unwrap();
        let uri = Uri::parse("sip:pbx.example").unwrap();
        let mut request = Request::new(Method::REGISTER, uri, aor.clone().with_tag("a"), aor, "id", 1);
        request.fields.push("Contact", contact);
        request
    }

    fn at(seconds: u64) -> Now {
        Now { mono_us: seconds * 1_000_000, utc_us: 0 }
    }

    /// The same request with an answer to the challenges of a response.
    fn answered(request: &Request, response: &Response, password: &str, nc: u32) -> Request {
        let challenges = response.fields.challenges("WWW-Authenticate");
        let answer = digest::answer(&Question {
            challenge: digest::strongest(&challenges).unwrap(),
            method: "REGISTER",
            uri: "sip:pbx.example",
            username: "1001",
            password,
            body: b"",
            cnonce: "c",
            nc,
        });
        let mut request = request.clone();
        request.fields.set("Authorization", answer);
        request
    }

    fn ask(registrar: &mut Registrar, now: Now, request: &Request) -> Response {
        registrar.handle(now, request, SOURCE.parse().unwrap())
    }

    #[test]
    fn whoever_proves_the_password_can_be_reached_where_the_request_came_from() {
        let mut registrar = registrar();
        let request = request("<sip:1001@10.0.0.2:5060>;expires=60");
        let challenge = ask(&mut registrar, at(0), &request);
        assert_eq!(challenge.status, 401);
        let algorithms: Vec<_> =
            challenge.fields.challenges("WWW-Authenticate").iter().filter_map(|one| one.algorithm).collect();
        assert_eq!(algorithms, [Algorithm::SHA_256, Algorithm::MD5]);
        let granted = ask(&mut registrar, at(0), &answered(&request, &challenge, "secret", 1));
        assert_eq!(granted.status, 200);
        assert_eq!(granted.fields.text("Contact").unwrap(), "<sip:1001@10.0.0.2:5060>;expires=60");
        let reach = registrar.reach(at(59), "1001");
        assert_eq!(reach.iter().map(ToString::to_string).collect::<Vec<_>>(), ["sip:1001@203.0.113.7:40000"]);
        assert!(registrar.reach(at(60), "1001").is_empty(), "a binding ends by itself");
    }

    #[test]
    fn a_wrong_password_is_refused_and_counted() {
        let mut registrar = registrar();
        let request = request("<sip:1001@10.0.0.2>");
        let challenge = ask(&mut registrar, at(0), &request);
        assert_eq!(ask(&mut registrar, at(0), &answered(&request, &challenge, "guess", 1)).status, 403);
        assert_eq!(registrar.wrong, 1);
        assert!(registrar.reach(at(0), "1001").is_empty());
    }

    #[test]
    fn an_old_or_repeated_nonce_is_stale() {
        let mut registrar = registrar();
        let request = request("<sip:1001@10.0.0.2>");
        let challenge = ask(&mut registrar, at(0), &request);
        let good = answered(&request, &challenge, "secret", 1);
        assert_eq!(ask(&mut registrar, at(0), &good).status, 200);
        for (now, request) in [(at(0), good), (at(300), answered(&request, &challenge, "secret", 2))] {
            let again = ask(&mut registrar, now, &request);
            assert_eq!(again.status, 401);
            assert!(again.fields.challenges("WWW-Authenticate").iter().all(|challenge| challenge.stale));
        }
    }

    #[test]
    fn a_registration_is_not_too_brief_and_not_too_long() {
        let mut registrar = registrar();
        registrar.manners.challenge.clear();
        let brief = ask(&mut registrar, at(0), &request("<sip:1001@10.0.0.2>;expires=5"));
        assert_eq!((brief.status, brief.fields.text("Min-Expires").as_deref()), (423, Some("30")));
        let long = ask(&mut registrar, at(0), &request("<sip:1001@10.0.0.2>;expires=99999999"));
        assert_eq!(long.fields.text("Contact").unwrap(), "<sip:1001@10.0.0.2>;expires=3600");
        ask(&mut registrar, at(0), &request("<sip:1001@10.0.0.2>;expires=0"));
        assert!(registrar.reach(at(0), "1001").is_empty());
        ask(&mut registrar, at(0), &request("<sip:1001@10.0.0.2>"));
        let mut all = request("*");
        assert_eq!(ask(&mut registrar, at(0), &all).status, 400, "only an end may be for all");
        all.fields.push("Expires", "0");
        assert_eq!(ask(&mut registrar, at(0), &all).status, 200);
        assert!(registrar.reach(at(0), "1001").is_empty());
    }

    #[test]
    fn bindings_and_nonces_are_bounded() {
        let mut registrar = registrar();
        for index in 0..1000 {
            ask(&mut registrar, at(0), &request(&format!("<sip:1001@10.0.0.2:{index}>")));
        }
        assert!(registrar.nonces.len() <= NONCES);
        registrar.manners.challenge.clear();
        for index in 1..100 {
            ask(&mut registrar, at(0), &request(&format!("<sip:1001@10.0.0.2:{index}>")));
        }
        assert_eq!(registrar.bindings["1001"].len(), BINDINGS);
    }
}
