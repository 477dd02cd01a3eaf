//! How a table of the file becomes a struct: the schema, the kinds of keys, and the findings on the way.
//!
//! [`section!`](super::section) declares a struct and its keys in one place: type, default and explanation. The reader,
//! the example file, the nearest right word and the masked view of the API all come from that declaration.

use std::ops::Range;

use toml_edit::{ArrayOfTables, Item, Table, TableLike, Value};

use super::absent;
use super::finding::{Finding, Severity};
use super::nearest::nearest;
use super::source::Source;

/// Findings after which the reader says no more.
const MOST_FINDINGS: usize = 200;
/// Entries of one list, and tables of one name.
const MOST_ENTRIES: usize = 1024;
/// Characters of a value that a message repeats.
const SHOWN: usize = 40;

/// One key of the schema.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What it means, with its unit: lines that begin with a space.
    pub doc: &'static str,
    /// What is there without it.
    pub presence: Presence,
    /// The keys of the table that it names, if it names one.
    pub nested: &'static [Key],
    /// Whether it is written `[[name]]`.
    pub repeated: bool,
}

/// What is there when a key is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// This value, in TOML.
    Default(&'static str),
    /// Nothing; the value is an example.
    Optional(&'static str),
    /// The file is wrong without it; the value is an example.
    Required(&'static str),
    /// Nothing; it is a secret and may also be given as `…_file`. The value is an example.
    Secret(&'static str),
}

/// A value of the document, whatever way it is written.
#[derive(Clone, Copy)]
pub(super) enum Node<'a> {
    Value(&'a Value),
    Table(&'a Table),
    Tables(&'a ArrayOfTables),
}

impl<'a> Node<'a> {
    pub(super) fn of(item: &'a Item) -> Option<Node<'a>> {
        match item {
            Item::None => None,
            Item::Value(value) => Some(Node::Value(value)),
            Item::Table(table) => Some(Node::Table(table)),
            Item::ArrayOfTables(tables) => Some(Node::Tables(tables)),
        }
    }

    pub(super) fn table(self) -> Option<&'a dyn TableLike> {
        match self {
            Node::Value(Value::InlineTable(table)) => Some(table),
            Node::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Node::Value(Value::String(text)) => Some(text.value()),
            _ => None,
        }
    }

    pub(super) fn span(self) -> Range<usize> {
        let span = match self {
            Node::Value(value) => value.span(),
            Node::Table(table) => table.span(),
            Node::Tables(tables) => tables.iter().next().and_then(Table::span),
        };
        span.unwrap_or(0..0)
    }

    fn kind(self) -> &'static str {
        match self {
            Node::Value(Value::String(_)) => "text",
            Node::Value(Value::Integer(_)) => "a whole number",
            Node::Value(Value::Float(_)) => "a fraction",
            Node::Value(Value::Boolean(_)) => "true or false",
            Node::Value(Value::Datetime(_)) => "a date",
            Node::Value(Value::Array(_)) => "a list",
            Node::Value(Value::InlineTable(_)) | Node::Table(_) => "a table",
            Node::Tables(_) => "a list of tables",
        }
    }
}

/// A mistake in a value: what is wrong (to follow the name of the key), and what to write instead.
pub(super) type Mistake = (String, String);

/// What a value must be beyond its type.
pub(super) type Check<'c, T> = dyn Fn(&T) -> Result<(), Mistake> + 'c;

/// A type that a key can have.
pub(super) trait Setting: Default {
    /// What to write: `a duration such as "30s"`.
    const EXPECTS: &'static str;
    /// The keys inside, if it is a table or a list of tables.
    const NESTED: &'static [Key] = &[];
    /// Whether it is a list of tables.
    const REPEATED: bool = false;

    /// The value, or `None` after having told what is wrong.
    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self>;

    /// The value as the API shows it: durations as text, secrets masked.
    fn json(&self) -> serde_json::Value;
}

/// A table of the file: what [`section!`](super::section) makes.
pub(super) trait Section: Sized {
    const KEYS: &'static [Key];
    fn read_keys(scope: &mut Scope<'_, '_>) -> Self;
    /// Looks at the whole: what no single key can tell.
    fn examine(&self, _scope: &mut Scope<'_, '_>) {}
}

/// Reads the file that holds a secret; `None` if files are not read now.
pub(super) type Load<'l> = dyn FnMut(&str) -> Result<Option<String>, String> + 'l;

/// What all of the reading shares.
pub(super) struct Reader<'s> {
    pub(super) source: &'s Source<'s>,
    pub(super) findings: Vec<Finding>,
    pub(super) load: &'s mut Load<'s>,
}

impl Reader<'_> {
    pub(super) fn tell(
        &mut self,
        span: Range<usize>,
        severity: Severity,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) {
        // However much there is to say: without a mistake among it the file would be taken for right.
        if !self.has_said_enough() || severity == Severity::Error && !self.has_mistakes() {
            let finding = self.source.finding(span, severity, what, instead);
            self.findings.push(finding);
        }
    }

    fn has_said_enough(&self) -> bool {
        self.findings.len() >= MOST_FINDINGS
    }

    fn has_mistakes(&self) -> bool {
        self.findings.iter().any(Finding::is_error)
    }
}

/// A key while its value is read.
pub(super) struct At<'r, 's> {
    pub(super) reader: &'r mut Reader<'s>,
    /// The key as messages name it.
    pub(super) name: &'r str,
    /// The path of the table that this key names: `line`, `admin.tokens`.
    pub(super) path: &'r str,
}

impl At<'_, '_> {
    pub(super) fn wrong(&mut self, node: Node<'_>, mistake: Mistake) {
        let (what, instead) = mistake;
        self.reader.tell(node.span(), Severity::Error, format!("{} {what}", self.name), instead);
    }

    pub(super) fn wrong_type(&mut self, node: Node<'_>, expects: &str) {
        self.wrong(node, (format!("is {}", node.kind()), format!("write {expects}")));
    }
}

/// A table while its keys are read.
pub(super) struct Scope<'r, 's> {
    pub(super) reader: &'r mut Reader<'s>,
    pub(super) table: Option<&'r dyn TableLike>,
    /// `sip`, `line`, `admin.tokens`; empty at the top.
    pub(super) path: &'r str,
    /// Where the table begins.
    pub(super) span: Range<usize>,
}

impl Scope<'_, '_> {
    /// Where a key stands, or where its table begins if it isn't there.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.table
            .and_then(|table| table.key(key))
            .and_then(|key| key.span())
            .unwrap_or_else(|| self.span.clone())
    }

    pub(super) fn error(&mut self, key: &str, what: impl Into<String>, instead: impl Into<String>) {
        self.reader.tell(self.span_of(key), Severity::Error, what, instead);
    }

    pub(super) fn warn(&mut self, key: &str, what: impl Into<String>, instead: impl Into<String>) {
        self.reader.tell(self.span_of(key), Severity::Warning, what, instead);
    }

    /// Warns of the first of these keys that is written, though nothing comes of it.
    pub(super) fn warn_idle(&mut self, keys: &[&str], why: &str, instead: &str) {
        if let Some(key) = keys.iter().find(|key| self.has(key)) {
            self.warn(key, format!("{key} has no effect: {why}"), instead);
        }
    }

    /// The value of a key that has a default, an example or must be there.
    pub(super) fn value<T: Setting>(
        &mut self,
        name: &'static str,
        presence: Presence,
        check: Option<&Check<'_, T>>,
    ) -> T {
        let node = self.table.and_then(|table| table.get(name)).and_then(Node::of);
        if let Some(node) = node {
            let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
            let mut at = At { reader: &mut *self.reader, name, path: &path };
            if let Some(value) = T::read(node, &mut at) {
                match check.map_or(Ok(()), |check| check(&value)) {
                    Ok(()) => return value,
                    Err(mistake) => at.wrong(node, mistake),
                }
            }
        } else if let Presence::Required(example) = presence {
            let what = format!("{} has no {name}", self.title());
            self.reader.tell(self.span.clone(), Severity::Error, what, format!("add {name} = {example}"));
        }
        match presence {
            Presence::Default(text) => default(text),
            _ => T::default(),
        }
    }

    /// Whether a key is written, the right way or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// What is written at a key, if that is text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.table.and_then(|table| table.get(key)).and_then(Node::of).and_then(Node::text)
    }

    /// `[sip]`, as messages name the table.
    pub(super) fn title(&self) -> String {
        match self.path {
            "" => "the file".to_owned(),
            path if is_repeated(path) => format!("[[{path}]]"),
            path => format!("[{path}]"),
        }
    }

    /// Reports the keys that are not in the schema.
    pub(super) fn refuse_unknown(&mut self, keys: &'static [Key]) {
        let Some(table) = self.table else { return };
        for (name, item) in table.iter() {
            if super::source::is_taken_out(name) || keys.iter().any(|key| key.accepts(name)) {
                continue;
            }
            if self.reader.has_said_enough() && self.reader.has_mistakes() {
                return;
            }
            let span = table.key(name).and_then(|key| key.span()).or_else(|| item.span());
            let (what, instead) = self.unknown(name, keys);
            self.reader.tell(span.unwrap_or_else(|| self.span.clone()), Severity::Error, what, instead);
        }
    }

    fn unknown(&self, name: &str, keys: &'static [Key]) -> Mistake {
        let shown = shortened(name);
        if let Some(feature) = absent::feature(self.path, name) {
            return (format!("{shown}: {feature} is not part of this version"), "remove it".to_owned());
        }
        let what = if self.path.is_empty() {
            format!("[{shown}] is not a table of this file")
        } else {
            format!("{shown} is not a key of {}", self.title())
        };
        let words = keys.iter().map(|key| key.name);
        let instead = if let Some(home) = home(name, self.path) {
            format!("it belongs in {home}")
        } else if let Some(right) = nearest(name, words.clone()) {
            format!("did you mean {right}?")
        } else {
            format!("the keys here are {}", words.collect::<Vec<_>>().join(", "))
        };
        (what, instead)
    }
}

impl Key {
    /// Whether a word of the file is this key.
    pub fn accepts(&self, word: &str) -> bool {
        let secret = matches!(self.presence, Presence::Secret(_));
        word == self.name || (secret && word.strip_suffix("_file") == Some(self.name))
    }
}

/// Whether the table of this path is written with two brackets.
fn is_repeated(path: &str) -> bool {
    let mut keys = super::Config::schema();
    let mut repeated = false;
    for part in path.split('.') {
        let Some(key) = keys.iter().find(|key| key.name == part) else { return false };
        (keys, repeated) = (key.nested, key.repeated);
    }
    repeated
}

/// The table that a key belongs to, for one that stands in the wrong place, in the table `path`: one below that, else the
/// one nearest to the top.
fn home(name: &str, path: &str) -> Option<String> {
    let below = format!("{path}.");
    let mut nearest = None;
    let mut level: Vec<(String, &Key)> =
        super::Config::schema().iter().map(|key| (key.name.to_owned(), key)).collect();
    while !level.is_empty() {
        let holds = |(_, table): &&(String, &Key)| table.nested.iter().any(|key| key.accepts(name));
        let written = |(path, table): &(String, &Key)| {
            if table.repeated { format!("[[{path}]]") } else { format!("[{path}]") }
        };
        if let Some(inside) = level.iter().filter(|(path, _)| path.starts_with(&below)).find(holds) {
            return Some(written(inside));
        }
        nearest = nearest.or_else(|| level.iter().find(holds).map(written));
        level = level
            .iter()
            .flat_map(|(path, table)| {
                table.nested.iter().map(move |key| (format!("{path}.{}", key.name), key))
            })
            .collect();
    }
    nearest
}

/// The value that a piece of TOML from the schema means.
fn default<T: Setting>(text: &str) -> T {
    let Ok(value) = text.parse::<Value>() else { return T::default() };
    let source = Source::new("", "default");
    let mut reader = Reader { source: &source, findings: Vec::new(), load: &mut |_| Ok(None) };
    let mut at = At { reader: &mut reader, name: "default", path: "" };
    T::read(Node::Value(&value), &mut at).unwrap_or_default()
}

/// A table with a schema, from wherever it is written.
pub(super) fn read_section<S: Section>(node: Node<'_>, at: &mut At<'_, '_>) -> Option<S> {
    let table = match (node, node.table()) {
        (_, Some(table)) => table,
        (Node::Tables(tables), None) => {
            let instead = format!("write [{}], once", at.name);
            at.wrong(node, ("is there as a list of tables".to_owned(), instead));
            tables.iter().next()?
        }
        _ => {
            at.wrong_type(node, &format!("[{}] with its keys below", at.name));
            return None;
        }
    };
    let mut scope = Scope { reader: &mut *at.reader, table: Some(table), path: at.path, span: node.span() };
    scope.refuse_unknown(S::KEYS);
    let section = S::read_keys(&mut scope);
    section.examine(&mut scope);
    Some(section)
}

impl<T: Setting> Setting for Vec<T> {
    const EXPECTS: &'static str = "a list in [ ]";
    const NESTED: &'static [Key] = T::NESTED;
    const REPEATED: bool = !T::NESTED.is_empty();

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        let entries: Vec<Node<'_>> = match node {
            Node::Value(Value::Array(array)) => array.iter().map(Node::Value).collect(),
            Node::Tables(tables) if Self::REPEATED => tables.iter().map(Node::Table).collect(),
            Node::Table(_) if Self::REPEATED => {
                let name = at.path;
                at.wrong(
                    node,
                    (format!("is there as [{name}]"), format!("write [[{name}]]: there may be several")),
                );
                vec![node]
            }
            _ => {
                let expects =
                    if Self::REPEATED { format!("[[{}]]", at.path) } else { Self::EXPECTS.to_owned() };
                at.wrong_type(node, &format!("{expects} of {}", T::EXPECTS));
                return None;
            }
        };
        if entries.len() > MOST_ENTRIES {
            let what = format!("has {} entries", entries.len());
            at.wrong(node, (what, format!("there may be {MOST_ENTRIES} at most")));
            return None;
        }
        let count = entries.len();
        let values: Vec<T> = entries.into_iter().filter_map(|entry| T::read(entry, at)).collect();
        // Half a list of words would be looked at as if it were meant; of tables each stands for itself.
        (values.len() == count || Self::REPEATED).then_some(values)
    }

    fn json(&self) -> serde_json::Value {
        self.iter().map(Setting::json).collect()
    }
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTS: &'static str = T::EXPECTS;
    const NESTED: &'static [Key] = T::NESTED;
    const REPEATED: bool = T::REPEATED;

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        T::read(node, at).map(Some)
    }

    fn json(&self) -> serde_json::Value {
        self.as_ref().map_or(serde_json::Value::Null, Setting::json)
    }
}

/// A value as a message may repeat it.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// A check of a number, a duration or a size against its bounds, both included.
pub(super) fn within<T: Setting + PartialOrd>(least: T, most: T) -> impl Fn(&T) -> Result<(), Mistake> {
    move |value| {
        if *value < least || *value > most {
            let what = format!("is {}, out of range", value.json());
            return Err((what, format!("write a value from {} to {}", least.json(), most.json())));
        }
        Ok(())
    }
}

/// Like [`within`], where zero means "none".
pub(super) fn zero_or_within<T: Setting + PartialOrd>(
    least: T,
    most: T,
) -> impl Fn(&T) -> Result<(), Mistake> {
    let within = within(least, most);
    move |value| if *value == T::default() { Ok(()) } else { within(value) }
}

/// Declares a table of the file: the struct, and from the same lines its reader, its defaults, its explanation.
///
/// Each key is `name: Type = presence "TOML"`, where presence is `default`, `optional`, `required` or `secret`, and may
/// end with `, if check`.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        pub struct $struct:ident {
            $( $(#[doc = $about:literal])* $key:ident : $type:ty = $presence:ident $toml:literal $(, if $check:expr)? ; )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $struct {
            $( $(#[doc = $about])* pub $key: $type, )*
        }

        impl $crate::config::reader::Section for $struct {
            const KEYS: &'static [$crate::config::reader::Key] = &[$(
                $crate::config::reader::Key {
                    name: $crate::config::reader::plain(stringify!($key)),
                    doc: concat!($($about, "\n"),*),
                    presence: $crate::config::reader::section!(@presence $presence $toml),
                    nested: <$type as $crate::config::reader::Setting>::NESTED,
                    repeated: <$type as $crate::config::reader::Setting>::REPEATED,
                },
            )*];

            fn read_keys(scope: &mut $crate::config::reader::Scope<'_, '_>) -> Self {
                $(
                    let $key = $crate::config::reader::section!(
                        @read scope, $key, $type, $presence $toml $(, $check)?
                    );
                )*
                Self { $($key),* }
            }

            fn examine(&self, scope: &mut $crate::config::reader::Scope<'_, '_>) {
                self.check(scope);
            }
        }

        impl $crate::config::reader::Setting for $struct {
            const EXPECTS: &'static str = "tables";
            const NESTED: &'static [$crate::config::reader::Key] = <Self as $crate::config::reader::Section>::KEYS;

            fn read(
                node: $crate::config::reader::Node<'_>,
                at: &mut $crate::config::reader::At<'_, '_>,
            ) -> Option<Self> {
                $crate::config::reader::read_section(node, at)
            }

            fn json(&self) -> serde_json::Value {
                let mut map = serde_json::Map::new();
                $(
                    map.insert(
                        $crate::config::reader::plain(stringify!($key)).to_owned(),
                        $crate::config::reader::Setting::json(&self.$key),
                    );
                )*
                serde_json::Value::Object(map)
            }
        }

        impl Default for $struct {
            /// What an empty table means.
            fn default() -> Self {
                $crate::config::reader::empty()
            }
        }
    };
    (@presence default $toml:literal) => { $crate::config::reader::Presence::Default($toml) };
    (@presence optional $toml:literal) => { $crate::config::reader::Presence::Optional($toml) };
    (@presence required $toml:literal) => { $crate::config::reader::Presence::Required($toml) };
    (@presence secret $toml:literal) => { $crate::config::reader::Presence::Secret($toml) };
    (@read $scope:ident, $key:ident, $type:ty, secret $toml:literal) => {
        $crate::config::secret::read($scope, stringify!($key))
    };
    (@read $scope:ident, $key:ident, $type:ty, $presence:ident $toml:literal) => {
        $scope.value::<$type>(
            $crate::config::reader::plain(stringify!($key)),
            $crate::config::reader::section!(@presence $presence $toml),
            None,
        )
    };
    (@read $scope:ident, $key:ident, $type:ty, $presence:ident $toml:literal, $check:expr) => {
        $scope.value::<$type>(
            $crate::config::reader::plain(stringify!($key)),
            $crate::config::reader::section!(@presence $presence $toml),
            Some(&$check),
        )
    };
}
pub(super) use section;

/// The name of a key; one that is a word of Rust is declared with `r#` before it.
pub(super) const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// A section of which nothing is written; what it must have is empty.
pub(super) fn empty<S: Section>() -> S {
    let source = Source::new("", "default");
    let mut reader = Reader { source: &source, findings: Vec::new(), load: &mut |_| Ok(None) };
    S::read_keys(&mut Scope { reader: &mut reader, table: None, path: "", span: 0..0 })
}
