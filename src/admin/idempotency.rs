//! `Idempotency-Key`: a POST that dials, sent twice with one key, dials once.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use sha2::{Digest, Sha256};

use super::answer::Problem;
use super::lock;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Answers that are kept; the oldest goes.
const KEYS: usize = 1024;
/// Characters of a key.
const LONGEST_KEY: usize = 255;

/// What is remembered of the requests with a key.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<(String, String), Seen>>);

#[derive(Debug)]
struct Seen {
    at: Instant,
    /// How long it is kept.
    kept: Duration,
    request: [u8; 32],
    /// `None` while the first request is being worked on.
    answer: Option<Kept>,
}

/// An answer that is given again as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: String,
}

/// What a request with a key is.
#[derive(Debug)]
pub(super) enum Standing<'a> {
    /// New: it is carried out under this claim.
    New(Claim<'a>),
    /// A repetition of one that was granted.
    Repeated(Kept),
}

/// The right to carry a request out. Dropped without an answer, the key is free again.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    repeats: &'a Repeats,
    key: (String, String),
    granted: bool,
}

impl Repeats {
    /// What `caller`'s request with this key and body is.
    pub fn claim(&self, caller: &str, key: &str, body: &[u8], now: Instant) -> Result<Standing<'_>, Problem> {
        self.claim_for(KEPT, caller, key, body, now)
    }

    /// The same, with an answer that is kept so long.
    pub fn claim_for(
        &self,
        kept: Duration,
        caller: &str,
        key: &str,
        body: &[u8],
        now: Instant,
    ) -> Result<Standing<'_>, Problem> {
        if key.is_empty() || key.len() > LONGEST_KEY || !key.chars().all(|c| c.is_ascii_graphic()) {
            let hint = "send 1 to 255 visible ASCII characters, a new UUID for example";
            return Err(Problem::wrong("the Idempotency-Key can't be used", hint));
        }
        let name = (caller.to_owned(), key.to_owned());
        let request: [u8; 32] = Sha256::digest(body).into();
        let mut seen = lock(&self.0);
        if let Some(earlier) = seen.get(&name).filter(|it| now.duration_since(it.at) < it.kept) {
            if earlier.request != request {
                return Err(Problem::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "idempotency_key_reused",
                    "this Idempotency-Key was used for another request",
                    "send a new key with each new request",
                ));
            }
            return match &earlier.answer {
                Some(kept) => Ok(Standing::Repeated(kept.clone())),
                None => Err(Problem::new(
                    StatusCode::CONFLICT,
                    "in_progress",
                    "the first request with this Idempotency-Key is still being worked on",
                    "ask again in a moment",
                )),
            };
        }
        seen.retain(|_, it| now.duration_since(it.at) < it.kept);
        if seen.len() >= KEYS
            && let Some(oldest) = seen.iter().min_by_key(|(_, it)| it.at).map(|(name, _)| name.clone())
        {
            seen.remove(&oldest);
        }
        seen.insert(name.clone(), Seen { at: now, kept, request, answer: None });
        Ok(Standing::New(Claim { repeats: self, key: name, granted: false }))
    }
}

impl Claim<'_> {
    /// Keeps the answer for whoever asks again.
    pub fn granted(mut self, answer: Kept) {
        self.granted = true;
        if let Some(seen) = lock(&self.repeats.0).get_mut(&self.key) {
            seen.answer = Some(answer);
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.granted {
            lock(&self.repeats.0).remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        Kept { status: StatusCode::CREATED, body: "{\"id\":\"1\"}".into() }
    }

    #[test]
    fn a_repetition_gets_the_first_answer() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let Ok(Standing::New(claim)) = repeats.claim("crm", "k1", b"{}", now) else { panic!("not new") };
        let early = repeats.claim("crm", "k1", b"{}", now).expect_err("still being worked on");
        assert_eq!((early.status, early.code), (StatusCode::CONFLICT, "in_progress"));
        claim.granted(kept());
        let again = repeats.claim("crm", "k1", b"{}", now + KEPT / 2);
        assert!(matches!(again, Ok(Standing::Repeated(answer)) if answer == kept()));
        let other = repeats.claim("crm", "k1", b"{ }", now).expect_err("another body");
        assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(
            matches!(repeats.claim("anna", "k1", b"{}", now), Ok(Standing::New(_))),
            "keys are per caller"
        );
        assert!(matches!(repeats.claim("crm", "k1", b"{}", now + KEPT), Ok(Standing::New(_))), "after a day");
    }

    #[test]
    fn a_refused_request_frees_its_key() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        drop(repeats.claim("crm", "k1", b"{}", now));
        assert!(matches!(repeats.claim("crm", "k1", b"{}", now), Ok(Standing::New(_))));
    }

    #[test]
    fn keys_are_bounded_in_size_and_number() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        for wrong in ["", "a b", "ключ", &"x".repeat(256)] {
            assert!(repeats.claim("crm", wrong, b"", now).is_err(), "{wrong:?}");
        }
        for number in 0..3 * KEYS {
            let Ok(Standing::New(claim)) = repeats.claim("crm", &number.to_string(), b"", now) else {
                panic!("{number} is not new")
            };
            claim.granted(kept());
        }
        assert_eq!(lock(&repeats.0).len(), KEYS);
    }
}
