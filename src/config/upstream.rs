//! `[[upstream]]`: a system that is told what happens.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::bitrix24::Bitrix24;
use super::condition::Condition;
use super::dialects::{ActionUrl, Ringme, Rostelecom, Slack, Webitel};
use super::line::valid_name;
use super::mqtt::Mqtt;
use super::reader::{Mistake, Scope, section, zero_or_within};
use super::secret::Secret;
use super::upstream_url::{UpstreamUrl, is_opaque};
use super::words::{Redaction, UpstreamKind};

/// What a secret of Standard Webhooks begins with.
pub const SECRET_PREFIX: &str = "whsec_";

section! {
    /// `[[upstream]]`: a system that is told what happens. There may be several.
    pub struct Upstream {
        /// What the upstream is called here, in commands and events. Letters, digits, - _ . A new one is told what happens from
        /// then on; under another name it is a new one.
        name: String = required "\"crm\"", if valid_name;
        /// How it is told: "webhook" (Standard Webhooks: each event as a CloudEvent in a POST of its own), "slack" (a message on
        /// each missed call), "action-url" (a GET with variables, as desk phones send it), "webitel" (hooks and
        /// call detail records of Webitel, FreeSWITCH's words), "ringme" (the events of an extension of Ringme, Telphin, VoipNow),
        /// "rostelecom" (the call events of Rostelecom's virtual PBX, signed), "bitrix24" (the telephony methods of a Bitrix24
        /// portal), "mqtt" (each event as a CloudEvent in a message to a broker).
        kind: UpstreamKind = required "\"webhook\"";
        /// Where it is told: https://HOST/PATH, or mqtts://HOST of a broker. It is shown without its path, which may be a secret.
        url: UpstreamUrl = required "\"https://crm.example.com/hooks/tipring\"";
        /// kind = "webhook": what requests are signed with, as the receiver gave it: whsec_ and 24 to 64 bytes in base64; or
        /// secret_file = the file that holds it. A new one comes from: echo whsec_$(openssl rand -base64 32)
        secret: Secret = secret "\"whsec_c29tZSAzMiByYW5kb20gYnl0ZXMgaW4gYmFzZTY0\"";
        /// kind = "webhook", "action-url", "webitel", "ringme": the whole value of a header Authorization, where the receiver wants one; or
        /// authorization_file = the file that holds it.
        authorization: Secret = secret "\"Bearer a-long-token\"";
        /// The lines whose events it is told; empty: all. Events that belong to no line are told in any case.
        lines: Vec<String> = default "[]";
        /// The types of events it is told, without `tipring.`: "call.ended", "call.*", "*"; with ! before it, not. The last one
        /// that fits counts. A hole in the record is told in any case.
        events: Vec<String> = default "[\"*\", \"!call.quality\"]", if valid_patterns;
        /// Conditions that a call must fulfil for its events to be told, all of them, seen from this device: "direction=in" or out,
        /// "party=outside" or inside (of the PBX; who withholds the number is outside), "number=+7495*" (the far end's; * is any
        /// rest, ? one digit); != is the opposite. Of a call of several legs those are told that fulfil them.
        filter: Vec<Condition> = default "[]";
        /// What is left out: "numbers" (but for their last three digits), "names" of callers.
        redact: Vec<Redaction> = default "[]";
        /// true: it is told the digits that are dialled in calls, where `[journal] digits` keeps them.
        digits: bool = default "false";
        /// What lasts for a moment only (call.dialing, call.ringing, call.early) is not told when it is older than this.
        /// Duration, 1s to 7d; "0s" tells it in any case.
        expire_after: Duration = default "\"30s\"", if zero_or_within(Duration::from_secs(1), Duration::from_secs(604_800));
        /// A file with the certificates (PEM) that the server must be signed by, instead of the usual ones.
        ca_file: Option<String> = optional "\"/etc/tipring/crm-ca.pem\"";
        /// kind = "slack": what a message has beyond the facts.
        slack: Slack = default "{}";
        /// kind = "action-url": what is asked for when something happens; only what is named is told.
        action_url: ActionUrl = default "{}";
        /// kind = "webitel": what is sent when something happens.
        webitel: Webitel = default "{}";
        /// kind = "ringme": how the events of this extension are told.
        ringme: Ringme = default "{}";
        /// kind = "mqtt": how the broker is spoken to.
        mqtt: Mqtt = default "{}";
        /// kind = "rostelecom": how the calls of this extension are told.
        rostelecom: Rostelecom = default "{}";
        /// kind = "bitrix24": how the portal is told of calls; url is the portal's, https://HOST.
        bitrix24: Bitrix24 = default "{}";
    }
}

/// The keys that only some kinds have, with those.
const OF_KINDS: &[(&str, &[UpstreamKind])] = &[
    ("secret", &[UpstreamKind::Webhook]),
    (
        "authorization",
        &[UpstreamKind::Webhook, UpstreamKind::ActionUrl, UpstreamKind::Webitel, UpstreamKind::Ringme],
    ),
    ("slack", &[UpstreamKind::Slack]),
    ("action_url", &[UpstreamKind::ActionUrl]),
    ("webitel", &[UpstreamKind::Webitel]),
    ("ringme", &[UpstreamKind::Ringme]),
    ("mqtt", &[UpstreamKind::Mqtt]),
    ("rostelecom", &[UpstreamKind::Rostelecom]),
    ("bitrix24", &[UpstreamKind::Bitrix24]),
];

impl Upstream {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        check_authorization(&self.authorization, scope);
        // Of a kind that is misspelt nobody knows what it needs.
        if scope.text("kind").is_some_and(|kind| kind.eq_ignore_ascii_case(self.kind.as_str())) {
            self.check_kind(scope);
        }
        if !self.url.is_secure() && !self.url.host().is_empty() && !self.url.is_near() {
            let what = format!("upstream {} is told numbers and names of callers in clear", self.name);
            scope.warn("url", what, if self.url.is_broker() { "write mqtts://" } else { "write https://" });
        }
        if self.ca_file.is_some() && !self.url.is_secure() {
            scope.error(
                "ca_file",
                "ca_file has no effect without TLS",
                "remove it, or write https:// or mqtts://",
            );
        }
    }

    /// What this kind must have, and must not.
    fn check_kind(&self, scope: &mut Scope<'_, '_>) {
        for (key, kinds) in OF_KINDS.iter().filter(|(_, kinds)| !kinds.contains(&self.kind)) {
            let file = format!("{key}_file");
            for key in [*key, &file] {
                if scope.has(key) {
                    let kinds: Vec<_> = kinds.iter().map(|kind| format!("\"{}\"", kind.as_str())).collect();
                    let what = format!(
                        "upstream {} is of kind \"{}\", and {key} belongs to kind {}",
                        self.name,
                        self.kind.as_str(),
                        kinds.join(", ")
                    );
                    scope.error(key, what, "remove one of the two");
                }
            }
        }
        match self.kind {
            UpstreamKind::Webhook => self.check_secret(scope),
            UpstreamKind::Slack => self.check_link(scope),
            UpstreamKind::ActionUrl => self.check_actions(scope),
            UpstreamKind::Webitel | UpstreamKind::Mqtt => {}
            UpstreamKind::Ringme => self.check_targets(scope),
            UpstreamKind::Rostelecom => self.check_signing(scope),
            UpstreamKind::Bitrix24 => self.check_portal(scope),
        }
        if !self.url.host().is_empty() && self.url.is_broker() != (self.kind == UpstreamKind::Mqtt) {
            let what = format!(
                "upstream {} is of kind \"{}\", and url is for another",
                self.name,
                self.kind.as_str()
            );
            let right = if self.url.is_broker() { "https://HOST/PATH" } else { "mqtts://HOST" };
            scope.error("url", what, format!("write {right}"));
        }
    }

    fn check_secret(&self, scope: &mut Scope<'_, '_>) {
        let tried = scope.has("secret") || scope.has("secret_file");
        if self.secret.is_empty() && !tried {
            let what =
                format!("upstream {} has no secret: nobody could tell its requests from others", self.name);
            scope.error("secret", what, "add secret or secret_file");
        }
        check_signing_key(&self.secret, scope);
    }

    fn check_actions(&self, scope: &mut Scope<'_, '_>) {
        if self.action_url.all().next().is_none() && !scope.has("action_url") {
            let what =
                format!("upstream {} has no [upstream.action_url]: it would be told nothing", self.name);
            scope.error(
                "kind",
                what,
                "add [upstream.action_url] with incoming_call = \"/PATH?from=$remote\"",
            );
        }
        self.check_host_alone(scope);
    }

    /// Where each event has a path of its own, the URL has none.
    fn check_host_alone(&self, scope: &mut Scope<'_, '_>) {
        if self.url.path() != "/" {
            let what = format!("url has a path, which belongs to each of [upstream.{}]", self.kind.table());
            scope.error("url", what, "write https://HOST alone, and paths there");
        }
    }

    /// Whoever knows where events are taken can make some up: nothing else in them says who sends them.
    fn check_targets(&self, scope: &mut Scope<'_, '_>) {
        if self.ringme.urls().next().is_some() {
            self.check_host_alone(scope);
        }
        let guessed = self.ringme.urls().find(|(_, path)| !is_opaque(&path.fill_url(|_| None::<&str>)));
        let single = self.ringme.urls().next().is_none() && !is_opaque(self.url.path());
        if (single || guessed.is_some()) && !self.url.host().is_empty() && !self.url.is_near() {
            let key = guessed.map_or("url", |_| "ringme");
            let place = guessed.map_or("url".to_owned(), |(event, _)| event.replace('-', "_"));
            let what = format!("{place} can be guessed: whoever does sends events of his own there");
            scope.warn(key, what, "have 16 random bytes in its path: openssl rand -hex 16");
        }
    }

    fn check_signing(&self, scope: &mut Scope<'_, '_>) {
        if self.rostelecom.client_id.is_none() || self.rostelecom.key.is_empty() {
            let what =
                format!("upstream {} has no client_id or no key: the CRM would believe nothing", self.name);
            scope.error("kind", what, "add [upstream.rostelecom] with client_id, and key or key_file");
        }
        if self.rostelecom.answer && !self.redact.is_empty() {
            let what = "redact takes out what call_info and the history would tell whoever asks";
            scope.error("redact", what, "remove it, or write answer = false");
        }
    }

    fn check_portal(&self, scope: &mut Scope<'_, '_>) {
        if !self.bitrix24.is_known() {
            let what = format!("upstream {} has no way into its portal", self.name);
            let instead = "add [upstream.bitrix24] with client_id, client_secret_file and refresh_token_file of the application";
            scope.error("kind", what, instead);
        }
        let hidden = |what| self.redact.contains(&what);
        if hidden(Redaction::Numbers) {
            let what = "redact takes out the numbers by which Bitrix24 knows who calls";
            scope.error("redact", what, "remove \"numbers\" there");
        }
    }

    fn check_link(&self, scope: &mut Scope<'_, '_>) {
        let shown = |what| self.slack.link.iter().flat_map(|link| link.variables()).any(|it| it == what);
        let hidden = |what| self.redact.contains(&what);
        if (hidden(Redaction::Numbers) && (shown("number") || shown("called")))
            || (hidden(Redaction::Names) && shown("name"))
        {
            let what = "redact takes out what link has as a variable";
            scope.error("redact", what, "remove it there or here");
        }
    }
}

/// What can't be written into a header would be tried for ever.
pub(super) fn check_authorization(authorization: &Secret, scope: &mut Scope<'_, '_>) {
    if !authorization.reveal().bytes().all(|octet| (b' '..=b'~').contains(&octet)) {
        let key = if scope.has("authorization") { "authorization" } else { "authorization_file" };
        let what = format!("{key} has a character that no header has");
        scope.error(key, what, "write it in ASCII");
    }
}

/// Whether a secret that is given is a key of Standard Webhooks.
pub(super) fn check_signing_key(secret: &Secret, scope: &mut Scope<'_, '_>) {
    let secret = secret.reveal();
    let key = secret.strip_prefix(SECRET_PREFIX).and_then(|it| BASE64_STANDARD.decode(it).ok());
    if !secret.is_empty() && !key.is_some_and(|key| (24..=64).contains(&key.len())) {
        let key = if scope.has("secret") { "secret" } else { "secret_file" };
        let what = format!("{key} is not whsec_ and 24 to 64 bytes in base64");
        scope.error(key, what, "make one with: echo whsec_$(openssl rand -base64 32)");
    }
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
fn valid_patterns(patterns: &Vec<String>) -> Result<(), Mistake> {
    if patterns.is_empty() {
        return Err(("is empty: nothing would be told".into(), "write [\"*\"] for everything".into()));
    }
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte));
    let right = |pattern: &&String| {
        let name = pattern.strip_prefix('!').unwrap_or(pattern);
        !name.is_empty() && is_name(name.strip_suffix('*').unwrap_or(name))
    };
    match patterns.iter().find(|pattern| !right(pattern)) {
        Some(wrong) => {
            let what = format!("has \"{}\" in it", super::reader::shortened(wrong));
            Err((what, "write types of events: \"call.ended\", \"call.*\", \"!call.quality\"".into()))
        }
        None => Ok(()),
    }
}
