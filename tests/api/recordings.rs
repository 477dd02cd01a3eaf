//! Recordings by links that end, and by rights.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tipring::events::Kind;
use tipring::events::store::{Entry, Write};

use crate::leg;
use crate::office::{Asked, PASSWORD, Paper, THEN, TOKEN};

/// A WAV file whose sound is "0123456789" again and again, which reads as text.
pub fn recording(paper: &Paper, id: &str, complete: bool) -> PathBuf {
    let folder = paper.folder.join("data/recordings");
    std::fs::create_dir_all(&folder).expect("a folder");
    let sound = "0123456789".repeat(20_000);
    let size = if complete { sound.len() as u32 } else { 0 };
    let mut bytes = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x00\x7d\x00\x00\x02\x00\x10\x00data".to_vec();
    // Of the sizes only whether there is one counts; seven bits keep the answer text.
    bytes.extend((size & 0x7f7f_7f7f).to_le_bytes());
    bytes.extend(sound.as_bytes());
    let path = folder.join(format!("{id}.wav"));
    std::fs::write(&path, bytes).expect("a recording");
    path
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_link_opens_one_recording_without_a_token() {
    let paper = Paper::open("links");
    recording(&paper, "c1-1", true);
    recording(&paper, "c2-1", true);
    let host = ("Host", "localhost");
    let none = paper.remote("GET", "/api/v1/recordings/c1-1", &[host], "");
    assert_eq!((none.status, none.code()), (401, "unauthorized".to_owned()));

    let linked = paper.local("POST", "/api/v1/recordings/c1-1/link", Some(r#"{"seconds":60}"#)).json();
    let path = linked["path"].as_str().expect("a path");
    assert!(linked["expires"].as_str().is_some_and(|it| it.ends_with('Z')), "{linked}");
    let heard = paper.remote("GET", path, &[host], "");
    assert_eq!((heard.status, heard.text.len()), (200, 44 + 200_000));
    assert!(heard.text.ends_with("0123456789"));
    assert_eq!(field(&heard.head, "content-type"), Some("audio/wav"));

    let part = paper.remote("GET", path, &[host, ("Range", "bytes=65580-65589")], "");
    assert_eq!((part.status, part.text.as_str()), (206, "6789012345"), "over the edge of a piece");
    assert_eq!(field(&part.head, "content-range"), Some("bytes 65580-65589/200044"));
    let outside = paper.remote("GET", path, &[host, ("Range", "bytes=200044-")], "");
    assert_eq!((outside.status, outside.code()), (416, "no_such_part".to_owned()));

    let other = paper.remote("GET", &path.replace("c1-1", "c2-1"), &[host], "");
    assert_eq!((other.status, other.code()), (403, "wrong_link".to_owned()));
    let changed = paper.remote("GET", &path.replace("expires=1", "expires=2"), &[host], "");
    assert_eq!((changed.status, changed.code()), (403, "wrong_link".to_owned()));
}

#[test]
fn a_link_for_another_address_opens_nothing() {
    let paper = Paper::open("link-address");
    recording(&paper, "c1-1", true);
    let get = |address: &str| {
        let wish = format!(r#"{{"seconds":60,"address":"{address}"}}"#);
        let linked = paper.local("POST", "/api/v1/recordings/c1-1/link", Some(&wish)).json();
        paper.remote("GET", linked["path"].as_str().expect("a path"), &[("Host", "localhost")], "")
    };
    assert_eq!(get("127.0.0.1").status, 200);
    let elsewhere = get("192.0.2.7");
    assert_eq!((elsewhere.status, elsewhere.code()), (403, "wrong_address".to_owned()));
}

#[test]
fn recordings_are_for_the_role_operate() {
    let paper = Paper::open("recording-rights");
    recording(&paper, "c1-1", true);
    let bearer = format!("Bearer {TOKEN}");
    let basic = format!("Basic {}", STANDARD.encode(format!("anna:{PASSWORD}")));
    let get = |rights: &str| {
        let fields = [("Host", "localhost"), ("Authorization", rights)];
        paper.remote("GET", "/api/v1/recordings/c1-1", &fields, "").status
    };
    assert_eq!((get(&bearer), get(&basic)), (200, 403), "anna may only look");

    let mut entry = Entry::begun("c1", leg("c1", "600", "Anna"), THEN);
    entry.recording_id = Some("c1-1".into());
    paper.keep(Write::Call(Box::new(entry)));
    let look = |rights: &str, kind: &str| {
        let fields = [("Host", "localhost"), ("Authorization", rights), ("Accept", kind)];
        paper.remote("GET", "/api/v1/journal?links=60", &fields, "")
    };
    let refused = look(&basic, "application/json");
    assert_eq!((refused.status, refused.code()), (403, "forbidden".to_owned()));
    let rows = look(&bearer, "application/json").json();
    let link = rows["entries"][0]["recording_link"].as_str().expect("a link").to_owned();
    assert_eq!(paper.remote("GET", &link, &[("Host", "localhost")], "").status, 200);
    let csv = look(&bearer, "text/csv").text;
    let row = csv.lines().nth(1).expect("a row");
    assert!(row.contains(",c1-1,,/api/v1/recordings/c1-1?expires="), "{row}");
    let plain = paper.local("GET", "/api/v1/journal", None);
    assert!(!plain.text.contains("recording_link"), "nobody asked for it: {}", plain.text);
}

#[test]
fn what_is_no_recording_is_said() {
    let paper = Paper::open("no-recording");
    recording(&paper, "c1-1", false);
    for (path, status, code) in [
        ("c1-1", 409, "still_recording"),
        ("c9-1", 404, "no_such_recording"),
        ("..%2Fstore", 404, "no_such_recording"),
    ] {
        let answer = paper.local("GET", &format!("/api/v1/recordings/{path}"), None);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
    }
    for seconds in ["0", "604801", "-1"] {
        let wish = format!(r#"{{"seconds":{seconds}}}"#);
        assert_eq!(paper.local("POST", "/api/v1/recordings/c1-1/link", Some(&wish)).status, 400, "{wish}");
    }
}

#[test]
fn a_deleted_recording_is_gone_and_told() {
    let paper = Paper::open("delete-recording");
    let path = recording(&paper, "c1-1", true);
    assert_eq!(paper.local("DELETE", "/api/v1/recordings/c1-1", None).status, 200);
    assert!(!path.exists());
    // Its answer comes after what the phone was told before.
    assert_eq!(paper.local("GET", "/api/v1/status", None).status, 200);
    let told = Kind::RecordingDeleted { recording_id: "c1-1".into(), reason: "asked".into() };
    assert_eq!(paper.asked(), [Asked::Tell(Box::new(told))]);
    assert_eq!(paper.local("DELETE", "/api/v1/recordings/c1-1", None).status, 404, "once");
}
