//! The tokens of an application (OAuth 2.0, RFC 6749 §6): an access token for an hour, and a refresh token that is good for one
//! renewal, which brings the next one.
//!
//! The first refresh token is the configuration's; from then on the chain is this device's own. A chain ends when another first
//! token is configured, or when the answer to a renewal was lost: that one can't be had again, and the sign-in server says so.

use std::time::Duration;

use ring::digest;
use serde::{Deserialize, Serialize};

use super::answer::{self, Answer};
use crate::config::{self, UpstreamUrl};
use crate::events::upstream::dialect::Request;
use crate::events::upstream::form::Form;
use crate::events::upstream::outcome::Outcome;
use crate::events::upstream::turn::{Heard, Note, Notes};
use crate::now::Now;

/// The name of the note.
const KEY: &str = "tokens";
/// An access token is renewed so long before it ends.
const AHEAD: Duration = Duration::from_secs(60);
/// How long one lives, where the server does not say.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The tokens, and how they are renewed.
pub struct Tokens {
    sign_in: UpstreamUrl,
    client_id: String,
    client_secret: String,
    kept: Kept,
    /// When the access token is to be renewed; absent for one of an earlier life.
    until: Option<u64>,
    /// The portal has believed the access token before.
    proven: bool,
    /// A renewal is under way, or what it brought is not kept yet.
    pub renewing: bool,
}

/// What is remembered.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    /// Which first token the chain began with.
    origin: String,
    refresh: String,
    access: Option<String>,
}

impl Tokens {
    /// Tokens with which nothing was done yet.
    pub fn new(settings: &config::Bitrix24) -> Tokens {
        let first = settings.refresh_token.reveal();
        Tokens {
            sign_in: settings.sign_in.clone(),
            client_id: settings.client_id.clone().unwrap_or_default(),
            client_secret: settings.client_secret.reveal().to_owned(),
            kept: Kept { origin: fingerprint(first), refresh: first.to_owned(), access: None },
            until: None,
            proven: true,
            renewing: false,
        }
    }

    /// Goes on where an earlier life ended, unless it was given another first token since.
    pub fn recall(&mut self, notes: &Notes) {
        let kept = notes.get(KEY).and_then(|note| serde_json::from_str::<Kept>(note).ok());
        if let Some(kept) = kept.filter(|kept| kept.origin == self.kept.origin) {
            self.kept = kept;
        }
    }

    /// The access token, if there is one that can be used now.
    pub fn access(&self, now: Now) -> Option<&str> {
        let over = self.until.is_some_and(|until| until <= now.mono_us);
        self.kept.access.as_deref().filter(|_| !over)
    }

    /// The portal believes the access token.
    pub fn believed(&mut self) {
        self.proven = true;
    }

    /// The portal says that the access token is over; false if it never believed it: then another one would help as little.
    pub fn expired(&mut self) -> bool {
        if self.proven {
            self.kept.access = None;
        }
        self.proven
    }

    /// The request that renews them.
    pub fn renewal(&self) -> Request {
        let mut form = Form::default();
        form.put("grant_type", Some("refresh_token"));
        form.put_whole("client_id", &self.client_id);
        form.put_whole("client_secret", &self.client_secret);
        form.put_whole("refresh_token", &self.kept.refresh);
        Request {
            method: "POST",
            target: self.sign_in.path().to_owned(),
            headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
            body: form.into_text().into_bytes(),
            elsewhere: Some(self.sign_in.clone()),
            reads: answer::LONGEST,
            ..Request::default()
        }
    }

    /// What a renewal brought. The new tokens are to be kept before anything is done with them.
    pub fn renewed(&mut self, outcome: &Outcome, now: Now) -> Heard {
        let answer = Answer::of(outcome);
        let brought = match &answer {
            Answer::Result(tokens) => {
                answer::word(&tokens["access_token"]).zip(answer::word(&tokens["refresh_token"]))
            }
            _ => None,
        };
        let (Some((access, refresh)), Answer::Result(tokens)) = (brought, &answer) else {
            self.renewing = false;
            return answer::refusal(&answer, outcome);
        };
        let seconds = answer::word(&tokens["expires_in"]).and_then(|it| it.parse().ok());
        let lifetime = seconds.map_or(LIFETIME, Duration::from_secs).clamp(2 * AHEAD, LIFETIME * 24);
        (self.until, self.proven) = (Some(now.deadline(lifetime - AHEAD)), false);
        self.kept = Kept { origin: self.kept.origin.clone(), refresh, access: Some(access) };
        let value = serde_json::to_string(&self.kept).ok();
        Heard::go_on(vec![Note { key: KEY.to_owned(), value }])
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tokens")
    }
}

/// By which a first token is known again without being kept.
fn fingerprint(token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
