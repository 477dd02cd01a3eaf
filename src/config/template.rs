//! Texts with variables, `$name` or `${name}`, that are filled in with what events say.
//!
//! The text is the configuration's and is believed; the values come from whoever calls. So a value is cut to a bounded
//! length and escaped for the place where it stands: it never ends the query, the string or the line that it is in.

use std::fmt::Write;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::nearest::nearest;
use super::network::path_text;
use super::reader::{At, Mistake, Node, Setting, shortened};
use super::upstream_url::UpstreamUrl;

/// Bytes of a text.
const LONGEST: usize = 4096;
/// Variables in it.
const MOST_VARIABLES: usize = 64;
/// Bytes of one value before it is escaped.
const LONGEST_VALUE: usize = 256;

/// A text with variables. It is shown to nobody: in many of them stands a key.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Variable(String),
}

impl Template {
    const FORM: &'static str = "text with variables such as \"/call?from=$remote\"";

    /// The text with the variables in it; `$$` is a dollar sign.
    ///
    /// # Errors
    ///
    /// What is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Template, (String, String)> {
        if text.len() > LONGEST {
            let what = format!("is {} bytes long", text.len());
            return Err((what, format!("write {LONGEST} bytes at most")));
        }
        if text.chars().any(|it| it.is_control() && !matches!(it, '\n' | '\r' | '\t')) {
            return Err(("has a control character in it".into(), "leave it out".into()));
        }
        let mut template = Template::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            template.push_text(before);
            rest = match after.strip_prefix('$') {
                Some(after) => {
                    template.push_text("$");
                    after
                }
                None => {
                    let (name, after) = variable(after)?;
                    template.pieces.push(Piece::Variable(name.to_owned()));
                    after
                }
            };
        }
        template.push_text(rest);
        if template.variables().count() > MOST_VARIABLES {
            let what = format!("has {} variables", template.variables().count());
            return Err((what, format!("use {MOST_VARIABLES} at most")));
        }
        Ok(template)
    }

    fn push_text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    /// The names of the variables in it.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text as a part of a URL: values are percent-encoded (RFC 3986 §2.1), what is not known is empty.
    pub fn fill_url<V: AsRef<str>>(&self, value: impl Fn(&str) -> Option<V>) -> String {
        let mut url = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => url.push_str(text),
                Piece::Variable(name) => {
                    let value = value(name);
                    let value = cut(value.as_ref().map_or("", AsRef::as_ref));
                    // Many servers take a step in the path also where it is escaped.
                    if !value.split(['/', '\\']).any(|part| matches!(part, "." | "..")) {
                        url.push_str(&percent_encoded(value));
                    }
                }
            }
        }
        url
    }

    /// The text as JSON. Within quotes a value is the text of the field, elsewhere the field itself; what is not known
    /// is empty, or `null`.
    pub fn fill_json(&self, fields: &Map<String, Value>) -> String {
        let mut json = String::new();
        let mut scan = Scan::default();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => {
                    scan.pass(text);
                    json.push_str(text);
                }
                Piece::Variable(name) => json.push_str(&as_json(fields.get(name), scan.quoted)),
            }
        }
        json
    }

    /// Whether all variables are among these.
    pub(super) fn knows(&self, words: &[&'static str]) -> Result<(), Mistake> {
        let Some(wrong) = self.variables().find(|name| !words.contains(name)) else { return Ok(()) };
        let what = format!("has ${} in it, which nothing stands for", shortened(wrong));
        if let Some((_, instead)) = UNKNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(wrong)) {
            return Err((what, (*instead).to_owned()));
        }
        Err(match nearest(wrong, words.iter().copied()) {
            Some(right) => (what, format!("did you mean ${right}?")),
            None => (what, format!("the variables here are ${}", words.join(", $"))),
        })
    }

    /// Whether it is a path with a query, as it stands behind the host of a URL.
    pub(super) fn is_path(&self) -> Result<(), Mistake> {
        if !matches!(self.pieces.first(), Some(Piece::Text(first)) if first.starts_with('/')) {
            let instead =
                "write what stands behind the host, the host belongs in url: \"/call?from=$remote\"";
            return Err(("does not begin with /".into(), instead.into()));
        }
        self.has_url_text()
    }

    /// Whether it is a whole URL whose host is no variable.
    pub(super) fn is_link(&self) -> Result<(), Mistake> {
        let wrong = |instead: String| ("is no URL that can be used".to_owned(), instead);
        let Some(Piece::Text(first)) = self.pieces.first() else {
            return Err(wrong(format!("write {}", UpstreamUrl::FORM)));
        };
        let behind = first.split_once("://").map(|(_, rest)| rest);
        if !behind.is_some_and(|rest| rest.contains(['/', '?'])) {
            return Err(wrong("write https://HOST/ in front of the first variable".into()));
        }
        self.has_url_text()?;
        UpstreamUrl::parse(&self.fill_url(|_| Some("0"))).map(drop).map_err(wrong)
    }

    fn has_url_text(&self) -> Result<(), Mistake> {
        let texts = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text),
            Piece::Variable(_) => None,
        });
        for text in texts {
            path_text(text).map_err(|instead| ("has a character that no URL has".to_owned(), instead))?;
        }
        Ok(())
    }

    /// Whether it is JSON, whatever the variables are.
    pub(super) fn is_json(&self) -> Result<(), Mistake> {
        let mut scan = Scan::default();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => scan.pass(text),
                Piece::Variable(name) if scan.escaping => {
                    let what = format!("has a backslash in front of ${}", shortened(name));
                    return Err((what, "write $$ for a dollar sign".into()));
                }
                Piece::Variable(_) => {}
            }
        }
        let wrong = |error: serde_json::Error| {
            let what = format!("is no JSON: {error}, variables being null or empty");
            (what, "write for example '{\"number\": ${caller_id_number}}'".to_owned())
        };
        serde_json::from_str::<IgnoredAny>(&self.fill_json(&Map::new())).map_err(wrong)?;
        // Whoever could choose the name of a field could take the place of another one.
        let marked = crate::order::gathered(self.variables().map(|name| (name.to_owned(), MARK.into())));
        let marked: Value = serde_json::from_str(&self.fill_json(&marked)).map_err(wrong)?;
        if has_marked_name(&marked) {
            let what = "has a variable in the name of a field".to_owned();
            return Err((what, "put variables into values alone".into()));
        }
        Ok(())
    }
}

/// A value that no text of a configuration has in it.
const MARK: &str = "\u{1}";

fn has_marked_name(json: &Value) -> bool {
    match json {
        Value::Array(all) => all.iter().any(has_marked_name),
        Value::Object(all) => all.iter().any(|(name, value)| name.contains(MARK) || has_marked_name(value)),
        _ => false,
    }
}

/// Variables of desk phones that this one does not have, and what to do about it.
const UNKNOWN: &[(&str, &str)] = &[
    ("mac", "write $serial: [device] serial can be set to what the server knows the phone by"),
    ("ip", "leave it out: the server sees where a request comes from"),
    ("phone_ip", "leave it out: the server sees where a request comes from"),
    ("hardware_version", "leave it out"),
    ("language", "leave it out"),
];

/// The variable that begins a text behind its dollar sign, and what follows.
fn variable(text: &str) -> Result<(&str, &str), Mistake> {
    let wrong =
        |what: &str| (what.to_owned(), "write $$ for a dollar sign, $name or ${name} else".to_owned());
    let (name, rest) = match text.strip_prefix('{') {
        Some(inside) => inside.split_once('}').ok_or_else(|| wrong("has ${ without } in it"))?,
        None => {
            let end = text.find(|it: char| !it.is_ascii_alphanumeric() && it != '_').unwrap_or(text.len());
            text.split_at(end)
        }
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !name.bytes().all(fits) || !name.starts_with(|it: char| it.is_ascii_alphabetic()) {
        return Err(wrong("has a $ in it that no name of a variable follows"));
    }
    Ok((name, rest))
}

/// Where in JSON a text ends.
#[derive(Default)]
struct Scan {
    quoted: bool,
    escaping: bool,
}

impl Scan {
    fn pass(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaping => self.escaping = false,
                b'\\' if self.quoted => self.escaping = true,
                b'"' => self.quoted = !self.quoted,
                _ => {}
            }
        }
    }
}

fn as_json(value: Option<&Value>, quoted: bool) -> String {
    let text = match value {
        None | Some(Value::Null) => return if quoted { String::new() } else { "null".to_owned() },
        Some(Value::String(text)) => Value::from(cut(text)).to_string(),
        Some(other) if quoted => Value::from(cut(&other.to_string())).to_string(),
        Some(other) => return other.to_string(),
    };
    if quoted { text.get(1..text.len() - 1).unwrap_or_default().to_owned() } else { text }
}

/// As much of a value as may be told, at whole characters.
fn cut(value: &str) -> &str {
    value.get(..value.floor_char_boundary(LONGEST_VALUE)).unwrap_or_default()
}

/// A value as a part of a path or a query (RFC 3986 §2.1).
pub fn percent_encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to text can't fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

/// What is shown in place of a text.
const MASK: &str = "***";

impl Setting for Template {
    const EXPECTS: &'static str = Template::FORM;

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        let Some(text) = node.text() else {
            at.wrong_type(node, Self::EXPECTS);
            return None;
        };
        Template::parse(text).map_err(|mistake| at.wrong(node, mistake)).ok()
    }

    fn json(&self) -> Value {
        MASK.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What callers call themselves to get out of the place where their name is put.
    const HOSTILE: &[&str] = &[
        "&cmd=x",
        "a\r\nX-Evil: 1",
        "\",\"admin\":true,\"x\":\"",
        "\\\",\"admin\":true}",
        "../../admin",
        "..",
        "#f",
        "%0d%0a",
        "$remote ${local}",
        "\u{202e}+123\u{2066}",
        "שלום \u{1f600}",
        "\u{0}",
    ];

    fn filled(text: &str, value: &str) -> String {
        Template::parse(text).expect("a template").fill_url(|_| Some(value))
    }

    #[test]
    fn variables_have_two_forms_and_a_dollar_sign_one() {
        for (text, expected) in [
            ("/a?x=$b", "/a?x=1"),
            ("/a?x=${b}c", "/a?x=1c"),
            ("/$b/${call-id}$c_2?$$d=$$$e", "/1/11?$d=$1"),
            ("$b$b", "11"),
            ("", ""),
        ] {
            assert_eq!(filled(text, "1"), expected, "{text}");
        }
        for wrong in ["$", "a$ b", "$1", "${", "${}", "${a b}", "${ä}", "$-a", "\u{7f}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Template::parse(&"a".repeat(LONGEST + 1)).is_err());
        assert!(Template::parse(&"$a".repeat(MOST_VARIABLES + 1)).is_err());
    }

    #[test]
    fn nothing_gets_out_of_a_query() {
        for value in HOSTILE.iter().copied().chain([&*"x".repeat(100_000)]) {
            let url = filled("/p/$a?a=$a&b=2", value);
            assert!(url.len() < 2000 && url.bytes().all(|byte| byte.is_ascii_graphic()), "{url}");
            assert_eq!((url.matches('&').count(), url.matches(['?', '=', '#']).count()), (1, 3), "{url}");
            assert!(!url.contains("/..") && url.matches('/').count() == 2, "{url}");
        }
        assert_eq!(filled("?a=$a", "+7 (495) ÿ"), "?a=%2B7%20%28495%29%20%C3%BF");
    }

    #[test]
    fn nothing_gets_out_of_json_quoted_or_not() {
        let template =
            Template::parse("{\"a\": \"<${v}>\", \"b\": $v, \"c\": [$n, \"$n\", $none, \"$none\"]}");
        let template = template.expect("a template");
        assert_eq!(template.is_json(), Ok(()));
        for value in HOSTILE {
            let fields = Map::from_iter([("v".into(), Value::from(*value)), ("n".into(), 7.into())]);
            let json: Value = serde_json::from_str(&template.fill_json(&fields)).expect("JSON");
            let expected =
                serde_json::json!({ "a": format!("<{value}>"), "b": value, "c": [7, "7", null, ""] });
            assert_eq!(json, expected);
        }
        for wrong in ["{", "{\"a\": \"\\$v\"}", "[\"\\${v}\"]\",\"]", "{$v}", "", "a=$v", "{\"<$v>\": 1}"] {
            assert!(Template::parse(wrong).expect("a template").is_json().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_may_stand_in_a_url_is_checked_before_it_is_used() {
        let of = |text: &str| Template::parse(text).expect("a template");
        for (text, path, link) in [
            ("/a?b=$c", true, false),
            ("https://crm.example/?n=$number", false, true),
            ("http://crm.example:81?n=$number", false, true),
            ("https://crm.example", false, false),
            ("https://$host/", false, false),
            ("https://crm.example$x/", false, false),
            ("javascript:alert($x)", false, false),
            ("$x", false, false),
            ("/a b", false, false),
            ("/a#b", false, false),
            ("/a\nb", false, false),
            ("/ä", false, false),
        ] {
            assert_eq!((of(text).is_path().is_ok(), of(text).is_link().is_ok()), (path, link), "{text}");
        }
        let (_, instead) = of("/?$remot").knows(&["remote", "local"]).expect_err("it is wrong");
        assert_eq!(instead, "did you mean $remote?");
        assert!(of("/?$mac").knows(&["remote"]).expect_err("it is wrong").1.contains("$serial"));
        assert_eq!(format!("{:?} {}", of("/?key=1"), of("/?key=1").json()), "*** \"***\"");
    }
}
