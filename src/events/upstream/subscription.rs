//! Subscriptions: programs that have themselves told of an extension's events through the API, in the form that Ringme and
//! Telphin have for it.
//!
//! Each is an upstream of its own: it has its own place in the record, its own retries, and keeps no other one waiting. It
//! belongs to whoever asked for it; others can neither see where it leads nor end it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::chance::Chance;
use crate::config::upstream_url::is_opaque;
use crate::config::{self, Config, HttpMethod, Line, Template, UpstreamKind, UpstreamUrl, dialects};

/// The events that can be subscribed to.
pub const EVENTS: &[&str] =
    &["dial-in", "dial-out", "answer", "hangup", "available", "logged_out", "voicemail"];
/// What the name of a subscription's upstream begins with; no name in a configuration has a colon.
const NAME: &str = "subscription:";
/// Random bytes in a URL that is proposed.
const RANDOM: usize = 16;

/// One subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Its number, unique on this device.
    pub id: u32,
    /// The extension, as it was named: a line's name or its user.
    pub extension: String,
    /// One of [`EVENTS`].
    pub event: String,
    /// Where it is told.
    pub url: UpstreamUrl,
    /// How.
    pub method: HttpMethod,
    /// Who asked for it: `token:crm`.
    pub owner: String,
}

impl Subscription {
    /// The name of its upstream.
    pub fn name(&self) -> String {
        format!("{NAME}{}", self.id)
    }

    /// The settings of its upstream.
    fn settings(&self, config: &Config) -> config::Upstream {
        let path = self.url.path().replace('$', "$$");
        let mut ringme = dialects::Ringme {
            method: self.method,
            // What has a number at its PBX is asked for by that.
            extension_id: Some(self.extension.clone()).filter(|id| id.bytes().all(|it| it.is_ascii_digit())),
            external_only: config.subscriptions.external_only,
            call_flow: config.subscriptions.call_flow,
            ..dialects::Ringme::default()
        };
        ringme.tell_at(&self.event, Template::parse(&path).unwrap_or_default());
        let line = line(config, &self.extension).map_or(&self.extension, |line| &line.name);
        config::Upstream {
            name: self.name(),
            kind: UpstreamKind::Ringme,
            url: self.url.clone(),
            lines: vec![line.clone()],
            ringme,
            ..config::Upstream::default()
        }
    }
}

/// Whether an upstream of this name is a subscription: its URL is not the configuration's.
pub fn is_subscribed(name: &str) -> bool {
    name.starts_with(NAME)
}

/// The line that an extension is.
fn line<'c>(config: &'c Config, extension: &str) -> Option<&'c Line> {
    let named = config.line.iter().find(|line| line.name == extension);
    named.or_else(|| config.line.iter().find(|line| line.user == extension))
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applicant {
    /// As the API knows them: `token:crm`.
    pub name: String,
    /// Whether all subscriptions are theirs to see and end.
    pub admin: bool,
}

impl Applicant {
    fn may(&self, subscription: &Subscription) -> bool {
        self.admin || self.name == subscription.owner
    }
}

/// What somebody wants to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The extension.
    pub extension: String,
    /// One of [`EVENTS`].
    pub event: String,
    /// Where.
    pub url: String,
    /// `GET` or `POST`.
    pub method: String,
}

/// Why somebody does not get what they want.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// No line has this name or user.
    #[error("there is no extension {extension}")]
    NoExtension {
        /// What was asked for.
        extension: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// No subscription of the extension has this number.
    #[error("extension {extension} has no subscription {id}")]
    Unknown {
        /// The extension.
        extension: String,
        /// The number.
        id: u32,
    },
    /// What is asked for can't be.
    #[error("{what}")]
    Wrong {
        /// Why not.
        what: String,
        /// What to write instead.
        instead: String,
    },
    /// The extension has as many as it may.
    #[error("extension {extension} has {limit} subscriptions, and more are not allowed: {owners}")]
    Full {
        /// The extension.
        extension: String,
        /// How many it may have.
        limit: u32,
        /// Whose they are, and how many: `10 of token:crm, 6 of user:anna`.
        owners: String,
    },
    /// It belongs to somebody else.
    #[error("subscription {id} belongs to {owner}")]
    Foreign {
        /// The number.
        id: u32,
        /// Whose it is.
        owner: String,
    },
    /// The store can't keep it.
    #[error("the subscription can't be kept: {0}")]
    NotKept(String),
}

/// All subscriptions of this device.
#[derive(Debug, Default)]
pub struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    /// Those that an earlier life left.
    pub fn new(all: Vec<Subscription>) -> Subscriptions {
        Subscriptions(all)
    }

    /// The settings of their upstreams.
    pub fn settings(&self, config: &Config) -> Vec<config::Upstream> {
        self.0.iter().map(|subscription| subscription.settings(config)).collect()
    }

    /// Those of an extension that this one may see.
    ///
    /// # Errors
    ///
    /// There is no such extension.
    pub fn list(
        &self,
        config: &Config,
        extension: &str,
        who: &Applicant,
    ) -> Result<Vec<Subscription>, SubscriptionError> {
        let own = self.of(config, extension)?;
        Ok(own.filter(|it| who.may(it)).cloned().collect())
    }

    /// What becomes of a wish: a new subscription, or the one that says the same already. It counts from now on; whoever keeps
    /// it says by [`Subscriptions::forget`] that it could not be kept.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or that there is no room.
    pub fn add(
        &mut self,
        config: &Config,
        wanted: Wanted,
        who: &Applicant,
        chance: &mut Chance,
    ) -> Result<(Subscription, bool), SubscriptionError> {
        let wrong = |what: String, instead: String| Err(SubscriptionError::Wrong { what, instead });
        let Wanted { extension, event, url, method } = wanted;
        let own: Vec<&Subscription> = self.of(config, &extension)?.collect();
        if !EVENTS.contains(&event.as_str()) {
            return wrong(
                "event_type is none that this phone tells".into(),
                format!("write one of {}", EVENTS.join(", ")),
            );
        }
        let Some(method) = HttpMethod::ALL.iter().find(|it| it.as_str().eq_ignore_ascii_case(&method)) else {
            return wrong("method is neither GET nor POST".into(), "write POST".into());
        };
        let url = match UpstreamUrl::parse(&url) {
            Ok(url) => url,
            Err(instead) => return wrong("url can't be used".into(), instead),
        };
        let near = url.is_near().then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let address = url.host().parse().ok().or(near);
        if address.is_some_and(|address| !config.subscriptions.permit(address)) {
            let instead =
                "have it lead to a public address, or have the network named in [subscriptions] private";
            return wrong("url leads to this machine or into a private network".into(), instead.into());
        }
        let same = |it: &&&Subscription| {
            it.event == event && it.url == url && it.method == *method && it.owner == who.name
        };
        if let Some(same) = own.iter().find(same) {
            return Ok(((*same).clone(), false));
        }
        let limit = config.subscriptions.limit;
        if own.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            let mut owners: BTreeMap<&str, u32> = BTreeMap::new();
            own.iter().for_each(|it| *owners.entry(&it.owner).or_default() += 1);
            let owners: Vec<_> = owners.iter().map(|(owner, count)| format!("{count} of {owner}")).collect();
            return Err(SubscriptionError::Full { extension, limit, owners: owners.join(", ") });
        }
        let id = loop {
            // Thirty-one bits: programs keep it as an integer.
            let id = chance.next_u32() >> 1;
            if id > 0 && self.0.iter().all(|it| it.id != id) {
                break id;
            }
        };
        let new = Subscription { id, extension, event, url, method: *method, owner: who.name.clone() };
        self.0.push(new.clone());
        crate::order::sort_by_key(&mut self.0, |it| it.id);
        Ok((new, true))
    }

    /// The subscription that somebody wants to end, if it is theirs.
    ///
    /// # Errors
    ///
    /// There is none of this number, or it is somebody else's.
    pub fn to_end(
        &self,
        config: &Config,
        extension: &str,
        id: u32,
        who: &Applicant,
    ) -> Result<Subscription, SubscriptionError> {
        let found = self.of(config, extension)?.find(|it| it.id == id);
        match found {
            None => Err(SubscriptionError::Unknown { extension: extension.to_owned(), id }),
            Some(it) if !who.may(it) => Err(SubscriptionError::Foreign { id, owner: it.owner.clone() }),
            Some(it) => Ok(it.clone()),
        }
    }

    /// It is none any more.
    pub fn forget(&mut self, id: u32) {
        self.0.retain(|it| it.id != id);
    }

    /// Those of a line, by whichever of its names they were asked for.
    fn of<'s>(
        &'s self,
        config: &'s Config,
        extension: &str,
    ) -> Result<impl Iterator<Item = &'s Subscription>, SubscriptionError> {
        let Some(own) = line(config, extension) else {
            let known = config.line.iter().map(|line| line.name.clone()).collect();
            return Err(SubscriptionError::NoExtension { extension: extension.to_owned(), known });
        };
        Ok(self
            .0
            .iter()
            .filter(move |it| line(config, &it.extension).is_some_and(|line| line.name == own.name)))
    }
}

/// A URL at the same place that nobody can guess, for one that can be.
pub fn opaque_instead(url: &UpstreamUrl, chance: &mut Chance) -> Option<String> {
    let scheme = if url.is_secure() { "https" } else { "http" };
    (!is_opaque(url.path()))
        .then(|| format!("{scheme}://{}/ext-event/{}", url.authority(), chance.token(RANDOM)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://crm.example/ext-event/f2a8vdrfae0s1ku5d2rj3iximjf3twyz";

    fn config() -> Config {
        let line = |name: &str, user: &str| {
            format!(
                "[[line]]\nname = \"{name}\"\nuser = \"{user}\"\ndomain = \"x.example\"\npassword = \"a\"\n"
            )
        };
        let text = line("office", "1138241") + &line("spare", "13596*106");
        Config::parse(&text, "t.toml").expect("a configuration")
    }

    fn who(name: &str) -> Applicant {
        Applicant { name: name.into(), admin: false }
    }

    fn wanted(extension: &str, event: &str, url: &str) -> Wanted {
        Wanted { extension: extension.into(), event: event.into(), url: url.into(), method: "post".into() }
    }

    #[test]
    fn the_seventeenth_is_refused_with_the_names_of_the_owners_and_others_are_not_touched() {
        let (config, mut chance) = (config(), Chance::from_number(1));
        let mut all = Subscriptions::default();
        let (crm, desk) = (who("token:crm"), who("token:desk"));
        for number in 0..16 {
            let who = if number < 10 { &crm } else { &desk };
            // By its name or its user: it is one extension.
            let extension = if number % 2 == 0 { "office" } else { "1138241" };
            let (_, new) = all
                .add(&config, wanted(extension, "hangup", &format!("{URL}{number}")), who, &mut chance)
                .expect("there is room");
            assert!(new);
        }
        let (_, new) =
            all.add(&config, wanted("office", "hangup", &format!("{URL}0")), &crm, &mut chance).unwrap();
        assert!(!new, "who asks for the same again gets what there is");
        let full =
            all.add(&config, wanted("office", "hangup", URL), &crm, &mut chance).expect_err("it is full");
        assert_eq!(
            full.to_string(),
            "extension office has 16 subscriptions, and more are not allowed: 10 of token:crm, 6 of token:desk"
        );
        assert!(
            all.add(&config, wanted("spare", "hangup", URL), &crm, &mut chance).is_ok(),
            "it has its own"
        );
        let own = all.list(&config, "1138241", &desk).expect("an extension");
        assert_eq!(own.len(), 6);
        let foreign = own[0].id;
        let refused = all.to_end(&config, "office", foreign, &crm).expect_err("it is another's");
        assert_eq!(refused, SubscriptionError::Foreign { id: foreign, owner: "token:desk".into() });
        assert!(all.to_end(&config, "spare", foreign, &desk).is_err(), "it is none of that extension");
        let admin = Applicant { name: "uid:0".into(), admin: true };
        assert_eq!(all.list(&config, "office", &admin).map(|it| it.len()), Ok(16));
        assert_eq!(all.to_end(&config, "office", foreign, &admin).map(|it| it.id), Ok(foreign));
        all.forget(foreign);
        assert!(all.add(&config, wanted("office", "hangup", URL), &crm, &mut chance).is_ok());
    }

    #[test]
    fn what_leads_inside_or_is_no_event_is_refused_and_what_can_be_guessed_gets_a_proposal() {
        let (config, mut chance) = (config(), Chance::from_number(1));
        let mut all = Subscriptions::default();
        let mut asked = |extension: &str, event: &str, url: &str| {
            all.add(&config, wanted(extension, event, url), &who("token:crm"), &mut chance).map(|_| ())
        };
        for (extension, event, url, expected) in [
            ("nobody", "hangup", URL, "there is no extension nobody"),
            ("office", "message-in", URL, "event_type is none that this phone tells"),
            ("office", "hangup", "ftp://crm.example/", "url can't be used"),
            ("office", "hangup", "http://localhost:8080/x", "url leads to this machine"),
            ("office", "hangup", "http://127.0.0.1/x", "url leads to this machine"),
            ("office", "hangup", "http://[::ffff:10.0.0.1]/x", "url leads to this machine"),
            ("office", "hangup", "https://169.254.169.254/latest", "url leads to this machine"),
        ] {
            let error = asked(extension, event, url).expect_err(url).to_string();
            assert!(error.starts_with(expected), "{url}: {error}");
        }
        let guessed = UpstreamUrl::parse("https://crm.example/cid/807/queue/33334").expect("a URL");
        let proposed = opaque_instead(&guessed, &mut chance).expect("a proposal");
        assert!(proposed.starts_with("https://crm.example/ext-event/") && is_opaque(&proposed), "{proposed}");
        assert_eq!(opaque_instead(&UpstreamUrl::parse(URL).expect("a URL"), &mut chance), None);
    }

    #[test]
    fn each_is_an_upstream_that_is_told_its_event_of_its_line_alone() {
        let (config, mut chance) = (config(), Chance::from_number(1));
        let mut all = Subscriptions::default();
        let url = format!("{URL}?key=$1");
        all.add(&config, wanted("1138241", "answer", &url), &who("token:crm"), &mut chance)
            .expect("it is right");
        let [settings] = all.settings(&config).try_into().expect("one upstream");
        assert!(is_subscribed(&settings.name) && settings.lines == ["office"]);
        assert_eq!(settings.ringme.extension_id.as_deref(), Some("1138241"));
        let urls: Vec<_> =
            settings.ringme.urls().map(|(event, path)| (event, path.fill_url(|_| Some("")))).collect();
        assert_eq!(urls, [("answer", "/ext-event/f2a8vdrfae0s1ku5d2rj3iximjf3twyz?key=$1".to_owned())]);
        let empty = Config::parse("", "t.toml").expect("a configuration");
        assert_eq!(
            all.settings(&empty)[0].lines,
            ["1138241"],
            "no line is its own: it is told nothing, and waits"
        );
    }
}
