//! The direction of the house: which room may use which. The table is the plan of `src/lib.rs`; an arrow that it does
//! not have fails here, with the file and line that drew it.
#![allow(clippy::disallowed_methods, reason = "the test reads the sources")]

use std::fs;
use std::path::{Path, PathBuf};

/// Room, and the rooms that it may name. `now`, `chance` and `order` are open to all.
const ROOMS: &[(&str, &[&str])] = &[
    ("sip", &[]),
    ("rtp", &[]),
    ("audio", &[]),
    ("nat", &[]),
    ("media", &["rtp", "audio", "nat"]),
    ("config", &[]),
    ("events", &["config"]),
    ("phone", &["sip", "nat", "rtp", "audio", "media", "config", "events"]),
    ("device", &["sip", "nat", "rtp", "audio", "media", "config", "events", "phone"]),
    ("admin", &["phone", "events", "config"]),
    ("demo", &["sip", "nat", "rtp", "audio", "config", "events", "phone", "device"]),
];
const OPEN_TO_ALL: &[&str] = &["now", "chance", "order"];

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

/// Whether a file has a test of this name, or one that a table of its makes of a row.
fn has_test(file: &Path, test: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    let is_row = |line: &str| line.trim_start().strip_prefix(test).is_some_and(|rest| rest.starts_with(": "));
    if text.contains("fn $name() {") && text.lines().any(is_row) {
        return true;
    }
    text.find(&format!("fn {test}(")).is_some_and(|at| text[..at].trim_end().ends_with("#[test]"))
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/README.md")).expect("the README of the tests");
    let mut named = 0;
    for (file, test) in text.split('`').filter_map(|part| part.split_once("::")) {
        named += 1;
        let path = match file.split_once('/') {
            Some(("src", _)) => root.join(file),
            Some(("media", rest)) => root.join("src/media").join(rest),
            Some(("call", rest)) => root.join("src/sip/call/tests").join(rest),
            _ => root.join("tests").join(file),
        };
        assert!(has_test(&path, test), "{file} has no test {test}");
    }
    assert!(named > 50, "{named}");
}

/// A file that its table does not name is not looked for by anybody.
#[test]
fn every_file_of_the_lab_is_in_its_table() {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab");
    let table = fs::read_to_string(lab.join("README.md")).expect("the README of the lab");
    let mut files = Vec::new();
    sources(&lab, &mut files);
    let names: Vec<&str> = files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
    assert!(names.len() > 40, "{names:?}");
    let missing: Vec<&str> =
        names.into_iter().filter(|it| *it != "main.rs" && !table.contains(&format!("`{it}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The 49 messages of RFC 4475 §3 and the 11 of RFC 5118 §4, each with a test of its name.
#[test]
fn every_torture_message_has_a_test() {
    let cases = "wsinv intmeth esc01 escnull esc02 lwsdisp longreq dblreq semiuri transports mpart01 unreason noreason \
                 badinv01 clerr ncl scalar02 scalarlg quotbal ltgtruri lwsruri lwsstart trws escruri baddate regbadct \
                 badaspec baddn badvers mismatch01 mismatch02 bigcode badbranch insuf unkscm novelsc unksm2 bext01 invut \
                 regaut01 multi01 mcl01 bcast zeromf cparam01 cparam02 regescrt sdp01 inv2543 \
                 ipv6_good ipv6_bad port_ambiguous port_unambiguous via_received_param_with_delim \
                 via_received_param_no_delim ipv6_in_sdp mult_ip_in_header mult_ip_in_sdp ipv4_mapped_ipv6 \
                 ipv6_bug_abnf_3_colons";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sip/torture");
    let mut files = Vec::new();
    sources(&folder, &mut files);
    let missing: Vec<&str> =
        cases.split_whitespace().filter(|case| !files.iter().any(|file| has_test(file, case))).collect();
    assert_eq!((cases.split_whitespace().count(), missing), (60, Vec::new()));
}
