//! Secrets: given in the file or in a file of their own, shown to nobody.

use serde_json::json;

use super::finding::Severity;
use super::reader::{At, Node, Scope, Setting};

/// Bytes of a secret.
const LONGEST_SECRET: usize = 4096;
/// What is shown in place of a secret.
const MASK: &str = "***";

/// A password, a key or a token. Its text leaves it only by [`Secret::reveal`]; `Debug` and the API show a mask.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret {
    text: String,
    file: Option<String>,
}

impl Secret {
    /// A secret from elsewhere.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret { text: text.into(), file: None }
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.file.is_none()
    }

    /// The file it was read from.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { MASK })
    }
}

impl Setting for Secret {
    const EXPECTS: &'static str = "text in \"quotes\"";

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        let Some(text) = node.text() else {
            at.wrong_type(node, Self::EXPECTS);
            return None;
        };
        match usable(text) {
            Ok(()) => Some(Secret::new(text)),
            Err(why) => {
                at.wrong(node, (why.to_owned(), "write the secret on one line, or give its file".to_owned()));
                None
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        if self.is_empty() { serde_json::Value::Null } else { json!(MASK) }
    }
}

fn usable(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > LONGEST_SECRET {
        return Err("is longer than 4 KiB");
    }
    if text.chars().any(char::is_control) {
        return Err("has a line break or a control character in it");
    }
    Ok(())
}

/// The secret of the key `name`, from `name` or from the file that `name_file` names.
pub(super) fn read(scope: &mut Scope<'_, '_>, name: &'static str) -> Secret {
    let file_key = format!("{name}_file");
    let table = scope.table;
    let node = |key: &str| table.and_then(|table| table.get(key)).and_then(Node::of);
    match (node(name), node(&file_key)) {
        (Some(_), Some(_)) => {
            let what = format!("{name} and {file_key} are both given");
            scope.error(&file_key, what, "keep one of the two");
            Secret::default()
        }
        (Some(node), None) => {
            let mut at = At { reader: &mut *scope.reader, name, path: scope.path };
            Secret::read(node, &mut at).unwrap_or_default()
        }
        (None, Some(node)) => {
            let mut at = At { reader: &mut *scope.reader, name: &file_key, path: scope.path };
            let Some(path) = String::read(node, &mut at) else { return Secret::default() };
            let text = match (scope.reader.load)(&path) {
                Ok(None) => String::new(),
                Ok(Some(text)) => {
                    let text = text.trim_end_matches(['\r', '\n']).to_owned();
                    if let Err(why) = usable(&text) {
                        let what = format!("{file_key}: what {path} holds {why}");
                        scope.reader.tell(
                            node.span(),
                            Severity::Error,
                            what,
                            "put the secret on its only line",
                        );
                    }
                    text
                }
                Err(why) => {
                    let what = format!("{file_key}: {path} can't be read: {why}");
                    scope.reader.tell(node.span(), Severity::Error, what, "make it readable for tipring");
                    String::new()
                }
            };
            Secret { text, file: Some(path) }
        }
        (None, None) => Secret::default(),
    }
}
