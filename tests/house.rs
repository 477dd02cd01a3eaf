//! The direction of the house: which room may use which. The table is the plan of `src/lib.rs`; an arrow that it does
//! not have fails here, with the file and line that drew it.
#![allow(clippy::disallowed_methods, reason = "the test reads the sources")]

use std::fs;
use std::path::{Path, PathBuf};

/// Room, and the rooms that it may name. `now` and `chance` are open to all.
const ROOMS: &[(&str, &[&str])] = &[
    ("sip", &[]),
    ("rtp", &[]),
    ("audio", &[]),
    ("media", &["rtp", "audio"]),
    ("config", &[]),
    ("events", &["config"]),
    ("phone", &["sip", "rtp", "audio", "media", "config", "events"]),
    ("device", &["sip", "rtp", "audio", "media", "config", "events", "phone"]),
    ("admin", &["phone", "events", "config"]),
    ("demo", &["sip", "rtp", "audio", "config", "events", "phone", "device"]),
];
const OPEN_TO_ALL: &[&str] = &["now", "chance"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every room that a line of code names by `crate::room`, single or within braces.
fn rooms_named(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for name in names {
            let room: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            named.push(room);
        }
    }
    named
}

fn strangers(src: &Path) -> Vec<String> {
    let mut complaints = Vec::new();
    for (room, may_use) in ROOMS {
        let mut files = Vec::new();
        sources(&src.join(room), &mut files);
        assert!(!files.is_empty(), "room {room} is empty");
        for file in files {
            let text = fs::read_to_string(&file).expect("a source file");
            for (number, line) in text.lines().enumerate() {
                for named in rooms_named(line) {
                    let is_room = ROOMS.iter().any(|(other, _)| *other == named);
                    let allowed = named == *room || may_use.contains(&named.as_str());
                    if (is_room && !allowed) || (!is_room && !OPEN_TO_ALL.contains(&named.as_str())) {
                        complaints.push(format!(
                            "{}:{}: room `{room}` may not use `{named}`",
                            file.display(),
                            number + 1
                        ));
                    }
                }
            }
        }
    }
    complaints
}

#[test]
fn rooms_only_use_the_rooms_above_them() {
    let complaints = strangers(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_folder_of_the_sources_is_a_room_of_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).expect("src") {
        let entry = entry.expect("an entry");
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().expect("a plain name");
            assert!(ROOMS.iter().any(|(room, _)| *room == name), "src/{name} is not in the table of rooms");
        }
    }
}

#[test]
fn the_scan_sees_a_wrong_arrow() {
    assert_eq!(rooms_named("use crate::phone::Phone;"), ["phone"]);
    assert_eq!(rooms_named("use crate::{sip, media::Plan};"), ["sip", "media"]);
    assert_eq!(rooms_named("let x = crate::device::run(crate::now::Now::default());"), ["device", "now"]);
    assert!(rooms_named("// crate::phone is not named by a comment").is_empty());
}
