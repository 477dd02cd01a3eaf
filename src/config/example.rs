//! The example file, written from the schema.

use super::reader::{Key, Presence};

const HEAD: &str = "\
# Every setting of tipring, with its default.
#
# A key that is commented out has no default; what stands there is an example.
# Durations are written \"30s\", \"15m\", \"1h30m\"; sizes \"64KiB\", \"1GiB\". A secret may be given as the name of a file
# that holds it: password_file in place of password. Paths are relative to the folder of this file.
";

/// The whole file. As it is written it means the defaults; lines, users and tokens are commented out.
pub(super) fn text(tables: &[Key]) -> String {
    let mut text = HEAD.to_owned();
    for table in tables {
        write_table(&mut text, table, table.name, false);
    }
    text
}

/// `inside` if it belongs to a table that is commented out, and is so itself.
fn write_table(text: &mut String, table: &Key, path: &str, inside: bool) {
    let inside = inside || table.repeated;
    let comment = if inside { "#" } else { "" };
    let header = if table.repeated { format!("[[{path}]]") } else { format!("[{path}]") };
    text.push('\n');
    explain(text, table.doc);
    text.push_str(&format!("{comment}{header}\n"));
    for key in table.nested.iter().filter(|key| key.nested.is_empty()) {
        explain(text, key.doc);
        let (comment, value) = match key.presence {
            Presence::Default(value) => (comment, value),
            Presence::Optional(value) | Presence::Required(value) | Presence::Secret(value) => ("#", value),
        };
        text.push_str(&format!("{comment}{} = {value}\n", key.name));
    }
    for inner in table.nested.iter().filter(|key| !key.nested.is_empty()) {
        write_table(text, inner, &format!("{path}.{}", inner.name), inside);
    }
}

fn explain(text: &mut String, doc: &str) {
    for line in doc.lines() {
        text.push_str(&format!("#{line}\n"));
    }
}
