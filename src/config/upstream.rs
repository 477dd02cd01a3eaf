//! `[[upstream]]`: a system that is told what happens.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::dialects::{ActionUrl, Slack, Webitel};
use super::line::valid_name;
use super::network::{Host, url_parts};
use super::reader::{At, Mistake, Node, Scope, Setting, section, zero_or_within};
use super::secret::Secret;
use super::words::{Redaction, UpstreamKind};

/// What a secret of Standard Webhooks begins with.
pub const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a URL.
const LONGEST_URL: usize = 2048;

section! {
    /// `[[upstream]]`: a system that is told what happens. There may be several.
    pub struct Upstream {
        /// What the upstream is called here, in commands and events. Letters, digits, - _ . A new one is told what happens from
        /// then on; under another name it is a new one.
        name: String = required "\"crm\"", if valid_name;
        /// How it is told: "webhook" (Standard Webhooks: each event as a CloudEvent in a POST of its own), "slack" (a message on
        /// each missed call), "action-url" (a GET with variables, as desk phones send it), "webitel" (hooks and
        /// call detail records of Webitel, FreeSWITCH's words).
        kind: UpstreamKind = required "\"webhook\"";
        /// Where it is told: https://HOST/PATH. It is shown without its path, which may be a secret.
        url: HttpUrl = required "\"https://crm.example.com/hooks/tipring\"";
        /// kind = "webhook": what requests are signed with, as the receiver gave it: whsec_ and 24 to 64 bytes in base64; or
        /// secret_file = the file that holds it. A new one comes from: echo whsec_$(openssl rand -base64 32)
        secret: Secret = secret "\"whsec_c29tZSAzMiByYW5kb20gYnl0ZXMgaW4gYmFzZTY0\"";
        /// kind = "webhook", "action-url", "webitel": the whole value of a header Authorization, where the receiver wants one; or
        /// authorization_file = the file that holds it.
        authorization: Secret = secret "\"Bearer a-long-token\"";
        /// The lines whose events it is told; empty: all. Events that belong to no line are told in any case.
        lines: Vec<String> = default "[]";
        /// The types of events it is told, without `tipring.`: "call.ended", "call.*", "*"; with ! before it, not. The last one
        /// that fits counts. A hole in the record is told in any case.
        events: Vec<String> = default "[\"*\", \"!call.quality\"]", if valid_patterns;
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
    }
}

/// The keys that only some kinds have, with those.
const OF_KINDS: &[(&str, &[UpstreamKind])] = &[
    ("secret", &[UpstreamKind::Webhook]),
    ("authorization", &[UpstreamKind::Webhook, UpstreamKind::ActionUrl, UpstreamKind::Webitel]),
    ("slack", &[UpstreamKind::Slack]),
    ("action_url", &[UpstreamKind::ActionUrl]),
    ("webitel", &[UpstreamKind::Webitel]),
];

impl Upstream {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        self.check_authorization(scope);
        // Of a kind that is misspelt nobody knows what it needs.
        if scope.text("kind").is_some_and(|kind| kind.eq_ignore_ascii_case(self.kind.as_str())) {
            self.check_kind(scope);
        }
        if !self.url.is_secure() && !self.url.host.is_empty() && !self.url.is_near() {
            let what = format!("upstream {} is told numbers and names of callers in clear", self.name);
            scope.warn("url", what, "write https://");
        }
        if self.ca_file.is_some() && !self.url.is_secure() {
            scope.error("ca_file", "ca_file has no effect without https://", "remove one of the two");
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
            UpstreamKind::Webitel => {}
        }
    }

    fn check_secret(&self, scope: &mut Scope<'_, '_>) {
        let tried = scope.has("secret") || scope.has("secret_file");
        let secret = self.secret.reveal();
        if self.secret.is_empty() && !tried {
            let what =
                format!("upstream {} has no secret: nobody could tell its requests from others", self.name);
            scope.error("secret", what, "add secret or secret_file");
        } else if !secret.is_empty() {
            let key = secret.strip_prefix(SECRET_PREFIX).and_then(|it| BASE64_STANDARD.decode(it).ok());
            if !key.is_some_and(|key| (24..=64).contains(&key.len())) {
                let key = if scope.has("secret") { "secret" } else { "secret_file" };
                let what = format!("{key} is not whsec_ and 24 to 64 bytes in base64");
                scope.error(key, what, "make one with: echo whsec_$(openssl rand -base64 32)");
            }
        }
    }

    /// What can't be written into a header would be tried for ever.
    fn check_authorization(&self, scope: &mut Scope<'_, '_>) {
        if !self.authorization.reveal().bytes().all(|octet| (b' '..=b'~').contains(&octet)) {
            let key = if scope.has("authorization") { "authorization" } else { "authorization_file" };
            let what = format!("{key} has a character that no header has");
            scope.error(key, what, "write it in ASCII");
        }
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
        if self.url.path() != "/" {
            let what = "url has a path, which belongs to each of [upstream.action_url]";
            scope.error("url", what, "write https://HOST alone, and paths there");
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

/// Where a system takes HTTP requests. Its path is shown to nobody: for many systems it is the only secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HttpUrl {
    secure: bool,
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl HttpUrl {
    pub(super) const FORM: &'static str = "a URL such as \"https://crm.example.com/hooks/tipring\"";

    /// Whether nobody on the way can read what it is sent.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Host and port as a `Host` field has them.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Host name or address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The URL without what may be secret.
    pub fn masked(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let rest = if self.path.len() > 1 { "/***" } else { "/" };
        format!("{scheme}://{}{rest}", self.authority)
    }

    /// Whether it is this machine itself.
    fn is_near(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    pub(super) fn parse(text: &str) -> Result<HttpUrl, String> {
        let form = || format!("write {}", Self::FORM);
        let (scheme, rest) = text.trim().split_once("://").ok_or_else(form)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(form()),
        };
        let (authority, path) = url_parts(rest)?;
        let Host { host, port } = Host::parse(&authority)?;
        let path = path.unwrap_or_else(|| "/".to_owned());
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Ok(HttpUrl { secure, authority, host, port, path })
    }
}

impl std::fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Setting for HttpUrl {
    const EXPECTS: &'static str = HttpUrl::FORM;

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        let Some(text) = node.text() else {
            at.wrong_type(node, Self::EXPECTS);
            return None;
        };
        let parsed = if text.len() > LONGEST_URL {
            Err(format!("write {LONGEST_URL} bytes at most"))
        } else {
            HttpUrl::parse(text)
        };
        // The text is not repeated: what is nearly right may hold the right secret.
        parsed.map_err(|instead| at.wrong(node, ("is no URL that can be used".to_owned(), instead))).ok()
    }

    fn json(&self) -> serde_json::Value {
        self.masked().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_a_port_and_a_path_that_nobody_sees() {
        for (text, host, port, path, masked) in [
            (
                "https://crm.example.com/a?k=1",
                "crm.example.com",
                443,
                "/a?k=1",
                "https://crm.example.com/***",
            ),
            ("HTTPS://crm.example.com", "crm.example.com", 443, "/", "https://crm.example.com/"),
            ("http://127.0.0.1:8081?x", "127.0.0.1", 8081, "/?x", "http://127.0.0.1:8081/***"),
            ("http://[2001:db8::1]:81/", "2001:db8::1", 81, "/", "http://[2001:db8::1]:81/"),
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path), "{text}");
            assert_eq!(url.masked(), masked);
            assert_eq!(format!("{url:?}"), masked);
        }
        for (wrong, cure) in [
            ("crm.example.com/hook", "https://"),
            ("ftp://crm.example.com", "https://"),
            ("https://", "a host name"),
            ("https://user:word@crm.example.com/", "before the @"),
            ("https://crm.example.com/a b", "ASCII"),
            ("https://crm.example.com/a#b", "without #"),
            ("https://crm.example.com:0/", "a port from 1"),
        ] {
            assert!(HttpUrl::parse(wrong).unwrap_err().contains(cure), "{wrong}");
        }
    }
}
