//! `[lookup]`: a system that knows who calls.

use std::time::Duration;

use super::dialects::{ActionUrl, Rostelecom, valid_action, valid_word};
use super::dialing::NumberRule;
use super::reader::{Mistake, Scope, section, within, zero_or_within};
use super::secret::Secret;
use super::template::Template;
use super::upstream::{Upstream, check_authorization};
use super::upstream_url::UpstreamUrl;
use super::words::{LookupKind, UpstreamKind};

section! {
    /// `[lookup]`: a system that is asked who calls, before or while the call rings here. It is told the caller's number.
    pub struct Lookup {
        /// How it is asked: "off", "url" (a GET with variables; JSON or a name comes back), "rostelecom" (get_number_info, signed,
        /// as Rostelecom's virtual PBX asks a CRM), "bitrix24" (the portal's CRM) or "mqtt" (a message to a broker; a command comes
        /// back).
        kind: LookupKind = default "\"off\"";
        /// kind = "url": https://HOST alone. kind = "rostelecom": the whole URL of get_number_info. Shown without its path.
        url: Option<UpstreamUrl> = optional "\"https://crm.example.com\"";
        /// kind = "url": path and query behind the host of url, with the variables that `[upstream.action_url]` has.
        path: Option<Template> = optional "\"/who?number=$remote_number&line=$line\"", if valid_action;
        /// kind = "url": where a JSON answer has the name; dots lead inwards: "contact.name". Other text is a name as it is.
        name_field: String = default "\"name\"", if valid_field;
        /// kind = "url": where a JSON answer has the inside number that is to get the call.
        pin_field: String = default "\"pin\"", if valid_field;
        /// kind = "url": the whole value of a header Authorization; or authorization_file = the file that holds it.
        authorization: Secret = secret "\"Bearer a-long-token\"";
        /// kind = "bitrix24": the name of the upstream whose portal is asked. kind = "mqtt": that over whose broker it is asked; its
        /// commands must allow "lookup".
        upstream: Option<String> = optional "\"broker\"";
        /// A file with the certificates (PEM) that the server must be signed by, instead of the usual ones.
        ca_file: Option<String> = optional "\"/etc/tipring/crm-ca.pem\"";
        /// false: the call rings at once, and the name is shown when it comes. true: the handset rings once the answer is there or
        /// timeout is over; only then may the answer send the call on to another extension.
        wait: bool = default "false";
        /// How long the handset waits at most. A later answer still names the caller. Duration, 100ms to 5s.
        timeout: Duration = default "\"800ms\"", if within(Duration::from_millis(100), Duration::from_secs(5));
        /// With wait: the inside numbers that an answer may send a call on to, as `[limits] allow` has them; empty: all. A
        /// number outside of the PBX gets none in any case.
        pins: Vec<NumberRule> = default "[]";
        /// How long an answer counts for the next call of the same number, "nobody is known" too. Duration, 1s to 7d; "0s" is
        /// not at all.
        remember: Duration = default "\"10m\"", if zero_or_within(Duration::from_secs(1), Duration::from_secs(604_800));
        /// Numbers whose answers are remembered at most, 1 to 4096.
        most: u32 = default "512", if within(1, 4096);
        /// true: callers inside of the PBX are asked about, too.
        internal: bool = default "false";
        /// true: who is called from here is asked about, too, for the display.
        outgoing: bool = default "false";
        /// The lines whose calls are asked about; empty: all.
        lines: Vec<String> = default "[]";
        /// kind = "rostelecom": how requests are signed, and who this extension is.
        rostelecom: NumberInfo = default "{}";
    }
}

section! {
    /// `[lookup.rostelecom]`: how get_number_info is signed, and who this extension is.
    pub struct NumberInfo {
        /// The identification code that the CRM expects (X-Client-ID).
        client_id: Option<String> = optional "\"000003C405E6525C64C184258C44EC99\"", if valid_word;
        /// The key that questions are signed with (X-Client-Sign), as the CRM has it; or key_file = the file that holds it.
        key: Secret = secret "\"00000716ABDA6D4DFF10F82BCBBFC532\"";
        /// The domain of SIP addresses; without it that of the line.
        domain: Option<String> = optional "\"example.ru\"", if valid_word;
        /// The short number of this extension at its PBX; without it the user name of the line.
        pin: Option<String> = optional "\"607\"", if valid_word;
    }
}

impl NumberInfo {
    fn check(&self, _: &mut Scope<'_, '_>) {}

    fn as_upstream(&self) -> Rostelecom {
        let NumberInfo { client_id, key, domain, pin } = self.clone();
        Rostelecom { client_id, key, domain, pin, ..Rostelecom::default() }
    }
}

/// The keys that only some kinds have, with those.
const OF_KINDS: &[(&str, &[LookupKind])] = &[
    ("url", &[LookupKind::Url, LookupKind::Rostelecom]),
    ("ca_file", &[LookupKind::Url, LookupKind::Rostelecom]),
    ("path", &[LookupKind::Url]),
    ("name_field", &[LookupKind::Url]),
    ("pin_field", &[LookupKind::Url]),
    ("authorization", &[LookupKind::Url]),
    ("upstream", &[LookupKind::Mqtt, LookupKind::Bitrix24]),
    ("rostelecom", &[LookupKind::Rostelecom]),
];

impl Lookup {
    /// Whether somebody is asked at all.
    pub fn is_on(&self) -> bool {
        self.kind != LookupKind::Off
    }

    /// The kind of the upstream through which it is asked, if it is one of those.
    pub(super) fn through(&self) -> Option<UpstreamKind> {
        match self.kind {
            LookupKind::Mqtt => Some(UpstreamKind::Mqtt),
            LookupKind::Bitrix24 => Some(UpstreamKind::Bitrix24),
            LookupKind::Off | LookupKind::Url | LookupKind::Rostelecom => None,
        }
    }

    /// The system as an upstream of the kind that is spoken to in the same words: its place, its authorities, its keys.
    pub fn as_upstream(&self) -> Upstream {
        Upstream {
            name: "lookup".to_owned(),
            kind: match self.kind {
                LookupKind::Rostelecom => UpstreamKind::Rostelecom,
                _ => self.through().unwrap_or(UpstreamKind::ActionUrl),
            },
            url: self.url.clone().unwrap_or_default(),
            authorization: self.authorization.clone(),
            ca_file: self.ca_file.clone(),
            rostelecom: self.rostelecom.as_upstream(),
            action_url: ActionUrl { incoming_call: self.path.clone(), ..ActionUrl::default() },
            ..Upstream::default()
        }
    }

    fn check(&self, scope: &mut Scope<'_, '_>) {
        // Of a kind that is misspelt nobody knows what it needs.
        let known = scope.text("kind").is_none_or(|kind| kind.eq_ignore_ascii_case(self.kind.as_str()));
        if !known {
            return;
        }
        for (key, kinds) in OF_KINDS.iter().filter(|(_, kinds)| self.is_on() && !kinds.contains(&self.kind)) {
            if scope.has(key) || scope.has(&format!("{key}_file")) {
                let kinds: Vec<_> = kinds.iter().map(|kind| format!("\"{}\"", kind.as_str())).collect();
                let what = format!("{key} belongs to kind {}", kinds.join(", "));
                scope.error(key, what, "remove one of the two");
            }
        }
        match self.kind {
            LookupKind::Off => {}
            LookupKind::Url => {
                self.check_url(scope);
                if self.path.is_none() && !scope.has("path") {
                    scope.error("kind", "path is missing", "add path = \"/who?number=$remote_number\"");
                }
                if self.url.as_ref().is_some_and(|url| url.path() != "/") {
                    scope.error("url", "url has a path", "write https://HOST alone, and the rest as path");
                }
            }
            LookupKind::Rostelecom => {
                self.check_url(scope);
                if self.rostelecom.client_id.is_none() || self.rostelecom.key.is_empty() {
                    let what = "there is no client_id or no key: the system would believe nothing";
                    scope.error("kind", what, "add [lookup.rostelecom] with client_id, and key or key_file");
                }
            }
            LookupKind::Mqtt | LookupKind::Bitrix24 => {
                if self.upstream.is_none() {
                    let cure = format!("add upstream, the name of one of kind \"{}\"", self.kind.as_str());
                    scope.error("kind", "upstream is missing", cure);
                }
            }
        }
        check_authorization(&self.authorization, scope);
        if !self.pins.is_empty() && !self.wait {
            let what = "pins has no effect without wait: no answer sends a call on then";
            scope.warn("pins", what, "add wait = true, or remove pins");
        }
    }

    fn check_url(&self, scope: &mut Scope<'_, '_>) {
        let Some(url) = &self.url else {
            if !scope.has("url") {
                scope.error("kind", "url is missing", "add url = \"https://HOST\"");
            }
            return;
        };
        if url.is_broker() {
            scope.error("url", "url is that of a broker", "write https://HOST, or kind = \"mqtt\"");
        }
        if !url.is_secure() && !url.is_near() {
            let what = "numbers of callers travel in clear, and whoever is on the way can name them";
            scope.warn("url", what, "write https://");
        }
        if self.ca_file.is_some() && !url.is_secure() {
            scope.error("ca_file", "ca_file has no effect without TLS", "remove it, or write https://");
        }
    }
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
fn valid_field(field: &String) -> Result<(), Mistake> {
    if field.split('.').any(str::is_empty) {
        return Err((
            "has an empty part".into(),
            "write names with dots between them: \"contact.name\"".into(),
        ));
    }
    valid_word(&Some(field.clone()))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn findings(text: &str) -> Vec<String> {
        let found = Config::read(text, "t.toml", &mut |_| Ok(None)).findings;
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_kind_says_what_it_needs_and_what_is_not_its_own() {
        const URL: &str =
            "[lookup]\nkind = \"url\"\nurl = \"https://crm.example\"\npath = \"/?n=$remote_number\"\n";
        const RT: &str = "[lookup.rostelecom]\nclient_id = \"A\"\nkey = \"B\"\n";
        const BROKER: &str = "[[upstream]]\nname = \"b\"\nkind = \"mqtt\"\nurl = \"mqtts://b.example\"\n";
        const MAY: &str = "[upstream.mqtt.commands]\nallow = [\"lookup\"]\ntrust_broker = true\n";
        const PORTAL: &str = "[[upstream]]\nname = \"p\"\nkind = \"bitrix24\"\nurl = \"https://p.example\"\n\
                              [upstream.bitrix24]\nclient_id = \"A\"\nclient_secret = \"B\"\nrefresh_token = \"C\"\n";
        for right in [
            "",
            "[lookup]\n",
            URL,
            &format!("{URL}wait = true\npins = [\"2??\"]\nname_field = \"a.b\"\n"),
            &format!("[lookup]\nkind = \"rostelecom\"\nurl = \"https://crm.example/rt\"\n{RT}"),
            &format!("[lookup]\nkind = \"mqtt\"\nupstream = \"b\"\n{BROKER}{MAY}"),
            &format!("[lookup]\nkind = \"bitrix24\"\nupstream = \"p\"\n{PORTAL}"),
        ] {
            assert_eq!(findings(right), Vec::<String>::new(), "{right}");
        }
        for (wrong, expected) in [
            ("[lookup]\nkind = \"url\"\npath = \"/\"\n".to_owned(), "url is missing"),
            ("[lookup]\nkind = \"url\"\nurl = \"https://crm.example\"\n".into(), "path is missing"),
            (URL.replace("example\"", "example/who\""), "url has a path"),
            (URL.replace("https", "http"), "whoever is on the way"),
            (URL.replace("https", "mqtts"), "that of a broker"),
            (URL.replace("remote_number", "remote_numbr"), "did you mean $remote_number?"),
            (format!("{URL}name_field = \"a..b\"\n"), "an empty part"),
            (format!("{URL}upstream = \"b\"\n"), "upstream belongs to kind \"mqtt\""),
            (format!("{URL}pins = [\"2??\"]\n"), "no effect without wait"),
            (format!("{URL}lines = [\"nowhere\"]\n"), "there is no line nowhere"),
            (format!("{URL}authorization = \"Käse\"\n"), "no header has"),
            ("[lookup]\nkind = \"rostelecom\"\nurl = \"https://crm.example/rt\"\n".into(), "no client_id"),
            ("[lookup]\nkind = \"mqtt\"\n".into(), "upstream is missing"),
            (format!("[lookup]\nkind = \"bitrix24\"\n{PORTAL}"), "the name of one of kind \"bitrix24\""),
            (
                format!("[lookup]\nkind = \"bitrix24\"\nupstream = \"b\"\n{BROKER}"),
                "no upstream b of kind \"bitrix24\"",
            ),
            ("[lookup]\nkind = \"mqtt\"\nupstream = \"b\"\n".into(), "no upstream b of kind \"mqtt\""),
            (format!("[lookup]\nkind = \"mqtt\"\nupstream = \"b\"\n{BROKER}"), "do not allow \"lookup\""),
        ] {
            let found = findings(&wrong);
            assert!(found.iter().any(|it| it.contains(expected)), "{wrong}: {found:?}");
        }
    }
}
