//! Links to recordings that need no token: they name one recording, end at a moment, and may hold for one address alone.
//!
//! A link is signed (HMAC-SHA-256) with a key that the program makes when it starts and keeps nowhere: who reads the disk
//! can make none, and a restart ends them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Deserialize;

use super::answer::Problem;
use super::lock;

/// The longest that a link may hold.
pub(super) const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// How long a link holds, where nobody says.
pub(super) const USUAL: Duration = Duration::from_secs(600);

/// Links of one time that were used and have not ended yet, at most; while there are so many, no other one can be used.
const MOST_USED: usize = 4096;

/// Makes links, and knows them again; neither where the system gave no random bytes.
#[derive(Debug)]
pub(super) struct Links {
    key: Option<hmac::Key>,
    /// The links of one time that were used, with their ends.
    used: Mutex<HashMap<u64, u64>>,
}

/// How often a link may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Times {
    /// Until it ends.
    Any,
    /// For one answer, be it a part of the recording.
    Once,
}

/// The query of a link; all of it is absent where somebody comes with a token instead.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    /// When it ends, in seconds since 1970 UTC.
    expires: Option<u64>,
    /// The only address that may use it.
    address: Option<IpAddr>,
    /// What tells it from all other links of one time.
    once: Option<u64>,
    /// Over all of it, in base64 for URLs.
    signature: Option<String>,
}

/// Why a link opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Useless {
    /// There is none, or only a part of one.
    Absent,
    /// It was not made here, not since the last start, or was changed.
    Forged,
    /// Its time is over.
    Expired,
    /// It was good for one time.
    Used,
    /// It is another's.
    Elsewhere,
}

impl From<Useless> for Problem {
    fn from(useless: Useless) -> Problem {
        let hint =
            "ask for a link with POST /api/v1/recordings/{id}/link, or send a token of the role operate";
        let (status, code, message) = match useless {
            Useless::Absent => (StatusCode::UNAUTHORIZED, "unauthorized", "a link or a token is needed"),
            Useless::Forged => {
                let message = "the link is not one of this device, or older than its last start";
                (StatusCode::FORBIDDEN, "wrong_link", message)
            }
            Useless::Expired => (StatusCode::GONE, "link_expired", "the link's time is over"),
            Useless::Used => (StatusCode::GONE, "link_used", "the link was good for one time"),
            Useless::Elsewhere => (StatusCode::FORBIDDEN, "wrong_address", "the link is for another address"),
        };
        Problem::new(status, code, message, hint)
    }
}

impl Links {
    /// Links of this run of the program.
    pub(super) fn new() -> Links {
        let mut key = [0; 32];
        let key = getrandom::fill(&mut key).is_ok().then(|| hmac::Key::new(hmac::HMAC_SHA256, &key));
        Links { key, used: Mutex::default() }
    }

    /// The path of a link to the recording `id` that ends at `expires` (seconds since 1970 UTC).
    pub(super) fn path(
        &self,
        id: &str,
        expires: u64,
        address: Option<IpAddr>,
        times: Times,
    ) -> Option<String> {
        let once = match times {
            Times::Any => None,
            Times::Once => {
                let mut octets = [0; 8];
                getrandom::fill(&mut octets).ok()?;
                Some(u64::from_ne_bytes(octets))
            }
        };
        let signature = hmac::sign(self.key.as_ref()?, text(id, expires, address, once).as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        let address = address.map(|address| format!("&address={address}")).unwrap_or_default();
        let once = once.map(|once| format!("&once={once}")).unwrap_or_default();
        Some(format!("/api/v1/recordings/{id}?expires={expires}{address}{once}&signature={signature}"))
    }

    /// Whether this link opens the recording `id` now, for somebody at `from` (absent at the local socket). With `use_up`, one
    /// that is good for one time does so no more.
    ///
    /// # Errors
    /// [`Useless`] says why not.
    pub(super) fn check(
        &self,
        id: &str,
        link: &Link,
        from: Option<IpAddr>,
        now_utc_s: u64,
        use_up: bool,
    ) -> Result<(), Useless> {
        let Link { expires: Some(expires), address, once, signature: Some(signature) } = link else {
            return Err(Useless::Absent);
        };
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| Useless::Forged)?;
        let key = self.key.as_ref().ok_or(Useless::Forged)?;
        hmac::verify(key, text(id, *expires, *address, *once).as_bytes(), &signature)
            .map_err(|_| Useless::Forged)?;
        if now_utc_s >= *expires {
            return Err(Useless::Expired);
        }
        match (address, from) {
            (Some(only), Some(from)) if from.to_canonical() != only.to_canonical() => Err(Useless::Elsewhere),
            _ => once.map_or(Ok(()), |once| self.spend(once, *expires, now_utc_s, use_up)),
        }
    }

    fn spend(&self, once: u64, expires: u64, now_utc_s: u64, use_up: bool) -> Result<(), Useless> {
        let mut used = lock(&self.used);
        used.retain(|_, end| *end > now_utc_s);
        if used.contains_key(&once) || used.len() >= MOST_USED {
            return Err(Useless::Used);
        }
        if use_up {
            used.insert(once, expires);
        }
        Ok(())
    }
}

/// What is signed. No part can hold the line feed that parts them.
fn text(id: &str, expires: u64, address: Option<IpAddr>, once: Option<u64>) -> String {
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    let once = once.map(|once| once.to_string()).unwrap_or_default();
    format!("{id}\n{expires}\n{address}\n{once}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn query(path: Option<String>) -> Link {
        let uri: axum::http::Uri = path.expect("a link").parse().expect("a path");
        axum::extract::Query::try_from_uri(&uri).expect("a query").0
    }

    #[test]
    fn a_link_opens_its_recording_until_its_end() {
        let links = Links::new();
        let link = query(links.path("c1-1", NOW + 60, None, Times::Any));
        let home = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(links.check("c1-1", &link, home, NOW, true), Ok(()));
        assert_eq!(links.check("c1-1", &link, home, NOW + 59, true), Ok(()));
        assert_eq!(links.check("c1-1", &link, home, NOW + 60, true), Err(Useless::Expired));
        assert_eq!(links.check("c1-2", &link, home, NOW, true), Err(Useless::Forged), "another recording");
        let longer = Link { expires: Some(NOW + 61), ..link.clone() };
        assert_eq!(links.check("c1-1", &longer, home, NOW, true), Err(Useless::Forged), "a later end");
        let other = Links::new();
        assert_eq!(other.check("c1-1", &link, home, NOW, true), Err(Useless::Forged), "after a restart");
        assert_eq!(links.check("c1-1", &Link::default(), home, NOW, true), Err(Useless::Absent));
    }

    #[test]
    fn a_link_for_one_address_opens_nothing_from_another() {
        let links = Links::new();
        let (mine, yours) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let link = query(links.path("c1-1", NOW + 60, Some(mine), Times::Any));
        assert_eq!(links.check("c1-1", &link, Some(mine), NOW, true), Ok(()));
        let mapped = "::ffff:192.0.2.1".parse().ok();
        assert_eq!(links.check("c1-1", &link, mapped, NOW, true), Ok(()), "the same, at a socket of IPv6");
        assert_eq!(links.check("c1-1", &link, Some(yours), NOW, true), Err(Useless::Elsewhere));
        let theirs = Link { address: Some(yours), ..link.clone() };
        assert_eq!(links.check("c1-1", &theirs, Some(yours), NOW, true), Err(Useless::Forged));
        let anybodys = Link { address: None, ..link };
        assert_eq!(links.check("c1-1", &anybodys, Some(yours), NOW, true), Err(Useless::Forged));
    }

    #[test]
    fn a_link_of_one_time_opens_once() {
        let links = Links::new();
        let (mine, yours) = (IpAddr::from([192, 0, 2, 1]), Some(IpAddr::from([192, 0, 2, 2])));
        let link = query(links.path("c1-1", NOW + 60, Some(mine), Times::Once));
        assert_eq!(
            links.check("c1-1", &link, yours, NOW, true),
            Err(Useless::Elsewhere),
            "which does not use it up"
        );
        assert_eq!(links.check("c1-1", &link, Some(mine), NOW, false), Ok(()), "who only asks for its size");
        assert_eq!(links.check("c1-1", &link, Some(mine), NOW, true), Ok(()));
        assert_eq!(links.check("c1-1", &link, Some(mine), NOW, false), Err(Useless::Used));
        let ever = Link { once: None, ..link.clone() };
        assert_eq!(links.check("c1-1", &ever, Some(mine), NOW, true), Err(Useless::Forged));
        let other = query(links.path("c1-1", NOW + 60, Some(mine), Times::Once));
        assert_eq!(links.check("c1-1", &other, Some(mine), NOW, true), Ok(()), "another one");
        for number in 0..2 * MOST_USED as u64 {
            let _ = links.spend(number, NOW + 60, NOW, true);
        }
        assert_eq!(lock(&links.used).len(), MOST_USED);
        assert_eq!(links.spend(9, NOW + 120, NOW + 60, true), Ok(()), "what has ended makes room");
    }

    #[test]
    fn no_signature_is_no_panic() {
        let links = Links::new();
        for wrong in ["", "zz", "é", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32), &"0".repeat(63)] {
            let link =
                Link { expires: Some(NOW + 9), address: None, once: None, signature: Some(wrong.to_owned()) };
            assert_eq!(links.check("c1-1", &link, None, NOW, true), Err(Useless::Forged), "{wrong:?}");
        }
    }
}
