//! The native kind: each event as a CloudEvent in a POST of its own, signed as Standard Webhooks 1.0 asks.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

use super::dialect::{Dialect, Frozen, Request, authorization};
use crate::config::upstream::SECRET_PREFIX;
use crate::config::{self, Secret};
use crate::events::CloudEvent;
use crate::now::Now;

/// States of a call that lasts no longer than the moment; all others are history.
pub(super) const MOMENTARY: &[&str] = &["call.dialing", "call.ringing", "call.early"];

/// Standard Webhooks over the URL of the settings. Identity and body are frozen; the signature is of the attempt,
/// because receivers refuse one that is older than some minutes.
pub struct Webhook {
    serial: String,
    target: String,
    authorization: Option<(&'static str, String)>,
    key: hmac::Key,
}

impl Webhook {
    /// The kind `webhook` with these settings.
    pub fn new(settings: &config::Upstream, serial: &str) -> Webhook {
        Webhook {
            serial: serial.to_owned(),
            target: settings.url.path().to_owned(),
            authorization: authorization(settings),
            key: key(&settings.secret),
        }
    }

    fn signature(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut signed = hmac::Context::with_key(&self.key);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            signed.update(part);
        }
        format!("v1,{}", BASE64_STANDARD.encode(signed.sign()))
    }
}

/// The key in a secret of Standard Webhooks.
pub(super) fn key(secret: &Secret) -> hmac::Key {
    let secret = secret.reveal();
    let encoded = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
    // The configuration is refused unless this can be read.
    hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(encoded).unwrap_or_default())
}

impl Dialect for Webhook {
    fn speaks_of(&self, _: &str) -> bool {
        true
    }

    fn pops_up(&self, kind: &str) -> bool {
        MOMENTARY.contains(&kind)
    }

    fn render(&self, event: &CloudEvent) -> Option<Frozen> {
        Some(self.test(event))
    }

    fn request(&self, frozen: &Frozen, now: Now) -> Request {
        let timestamp = now.utc_us.div_euclid(1_000_000).to_string();
        let signature = self.signature(&frozen.id, &timestamp, &frozen.body);
        let mut request = Request::post(frozen, "application/cloudevents+json; charset=utf-8");
        request.headers.extend([
            ("webhook-id", frozen.id.clone()),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
        ]);
        request.headers.extend(self.authorization.clone());
        request
    }

    fn test(&self, event: &CloudEvent) -> Frozen {
        let body = event.to_json(&self.serial).into_bytes();
        Frozen { id: event.id.to_string(), target: self.target.clone(), body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the specification of Standard Webhooks publishes for its reference implementations.
    #[test]
    fn the_published_example_has_the_published_signature() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let webhook = Webhook::new(&config::Upstream { secret, ..config::Upstream::default() }, "TR-1");
        let frozen = Frozen {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            target: "/".to_owned(),
            body: br#"{"test": 2432232314}"#.to_vec(),
        };
        let request = webhook.request(&frozen, Now { mono_us: 0, utc_us: 1_614_265_330_999_999 });
        let field =
            |name| request.headers.iter().find(|(it, _)| *it == name).map(|(_, value)| value.as_str());
        assert_eq!(field("webhook-id"), Some("msg_p5jXN8AQM9LWM0D4loKWxJek"));
        assert_eq!(field("webhook-timestamp"), Some("1614265330"));
        assert_eq!(field("webhook-signature"), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        assert_eq!((request.method, field("authorization")), ("POST", None));
    }
}
