//! Where in the text a table or a key stands: for what is found only after the reading, when the network was asked or a
//! file was opened.

use toml_edit::Document;

use super::finding::{Finding, Severity};
use super::reader::Node;
use super::source::Source;

/// The text of a configuration file, to look up places in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    file: String,
    text: String,
}

/// Something in the file: a key of a table, and of which one where there are several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'p> {
    /// The table: `admin`, `line`.
    pub table: &'p str,
    /// Which of the tables of that name, from 0.
    pub index: usize,
    /// The keys to point to: the first one that is written. The table itself if none is.
    pub keys: &'p [&'p str],
}

impl Places {
    /// The places of a text; `file` is what findings call it.
    pub fn of(text: &str, file: &str) -> Places {
        Places { file: file.to_owned(), text: text.to_owned() }
    }

    /// A finding at a place, in line 1 if the text does not have it.
    pub fn finding(&self, at: Place<'_>, severity: Severity, what: &str, instead: &str) -> Finding {
        let source = Source::new(&self.text, &self.file);
        let span = Document::parse(source.text().to_owned()).ok().and_then(|document| {
            let node = Node::of(document.as_table().get(at.table)?)?;
            let node = match node {
                Node::Tables(tables) => Node::Table(tables.get(at.index)?),
                Node::Value(toml_edit::Value::Array(array)) => Node::Value(array.get(at.index)?),
                node => node,
            };
            let key = node.table().and_then(|table| at.keys.iter().find_map(|key| table.key(key)?.span()));
            Some(key.unwrap_or_else(|| node.span()))
        });
        source.finding(span.unwrap_or(0..0), severity, what, instead)
    }
}
