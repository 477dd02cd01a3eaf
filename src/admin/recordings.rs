//! Recordings: heard by whoever may operate the phone or has a [link](super::links), and deleted.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, Problem};
use super::links::{self, Times};
use super::request::{Named, Told};
use super::{App, now_utc_us};
use crate::config::Config;
use crate::events::Kind;
use crate::events::cloud_event::rfc3339;

/// Bytes that are read from a file at once.
const PIECE: usize = 64 * 1024;
/// Bytes before the sound in the WAV files that this program writes.
const HEAD: usize = 44;
/// Where they say how much sound there is (the `data` chunk's size); 0 until the file is complete.
const SOUND_SIZE: std::ops::Range<usize> = HEAD - 4..HEAD;

/// The file of a recording; `None` if this is no name of one.
pub(super) fn file(config: &Config, id: &str) -> Option<PathBuf> {
    let plain = !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    plain.then(|| config.recordings().join(format!("{id}.wav")))
}

/// The recordings that calls have, as their files are named: the call, and a number for each.
pub(super) fn of_calls(config: &Config, calls: &[String]) -> Vec<String> {
    let is_number = |number: &str| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    // Without a folder there are none.
    let files = std::fs::read_dir(config.recordings()).into_iter().flatten().flatten();
    let names = files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".wav")?.to_owned()));
    let of_one = |name: &String| {
        name.rsplit_once('-')
            .is_some_and(|(call, number)| is_number(number) && calls.iter().any(|it| it == call))
    };
    names.filter(of_one).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkWish {
    #[serde(default)]
    seconds: Option<u64>,
    #[serde(default)]
    address: Option<IpAddr>,
}

pub(super) async fn link(State(app): State<App>, Named(id): Named, Told(wish): Told<LinkWish>) -> Answer {
    let lifetime = wish.seconds.map_or(Ok(links::USUAL), lifetime)?;
    complete(&app, &id).await?;
    let link = new_link(&app, &id, lifetime, wish.address, Times::Any);
    let (path, expires) = link.ok_or_else(|| {
        let hint = "links work again after a restart; a token of the role operate opens recordings, too";
        Problem::unavailable("no_links", "the system gave no random bytes at the start", hint)
    })?;
    Ok(Json(json!({ "path": path, "expires": expires })).into_response())
}

/// How long a link shall hold.
pub(super) fn lifetime(seconds: u64) -> Result<Duration, Problem> {
    let lifetime = Duration::from_secs(seconds);
    let fits = seconds > 0 && lifetime <= links::LONGEST;
    fits.then_some(lifetime)
        .ok_or_else(|| Problem::wrong("a link can't hold so long", "write 1 to 604800 seconds (7 days)"))
}

/// A link to a recording, and the moment when it ends (RFC 3339).
pub(super) fn new_link(
    app: &App,
    id: &str,
    lifetime: Duration,
    address: Option<IpAddr>,
    times: Times,
) -> Option<(String, String)> {
    let expires = now_utc_s().saturating_add(lifetime.as_secs());
    let path = app.links.path(id, expires, address, times)?;
    let us = i64::try_from(expires.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    Some((path, rfc3339(us)))
}

pub(super) async fn get(State(app): State<App>, Named(id): Named, headers: HeaderMap) -> Answer {
    let (file, size) = complete(&app, &id).await?;
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (status, first, last) = match range.map(|range| part(range, size)) {
        None | Some(Part::Unknown) => (StatusCode::OK, 0, size),
        Some(Part::Bytes(first, end)) => (StatusCode::PARTIAL_CONTENT, first, end),
        Some(Part::Outside) => {
            let hint = "ask for less, or for all of it without Range";
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            return Err(Problem::new(status, "no_such_part", format!("it has {size} bytes"), hint));
        }
    };
    let mut response = (status, Body::from_stream(pieces(file, first, last))).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(last - first));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = HeaderValue::try_from(format!("bytes {first}-{}/{size}", last - 1))
    {
        headers.insert(header::CONTENT_RANGE, range);
    }
    if let Ok(name) = HeaderValue::try_from(format!("inline; filename=\"{id}.wav\"")) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

pub(super) async fn delete(State(app): State<App>, Named(id): Named) -> Answer {
    let config = app.office.config.borrow().clone();
    let path = file(&config, &id).ok_or_else(|| absent(&id))?;
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(absent(&id)),
        Err(error) => {
            let hint = format!("delete it by hand in {}", config.recordings().display());
            return Err(Problem::unavailable("recording_kept", format!("{id}: {error}"), hint));
        }
    }
    tell_deleted(&app, id, "asked");
    Ok(Json(json!({ "done": true })).into_response())
}

/// Tells that a recording is gone.
pub(super) fn tell_deleted(app: &App, recording_id: String, reason: &str) {
    let told = Kind::RecordingDeleted { recording_id, reason: reason.to_owned() };
    if !app.office.desk.tell(Box::new(told)) {
        tracing::warn!("a recording was deleted, but the phone is too busy to tell it");
    }
}

/// A recording that is complete, and its size in bytes.
pub(super) async fn complete(app: &App, id: &str) -> Result<(File, u64), Problem> {
    let config = app.office.config.borrow().clone();
    let path = file(&config, id).ok_or_else(|| absent(id))?;
    let opened = tokio::task::spawn_blocking(move || {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut head = [0; HEAD];
        file.read_exact(&mut head)?;
        Ok((file, size, head.get(SOUND_SIZE) == Some(&[0; 4]) && size > head.len() as u64))
    });
    match opened.await.unwrap_or_else(|_| Err(std::io::Error::other("the reader ended"))) {
        Ok((_, _, true)) => {
            let hint = "it is complete when the event recording.ready comes";
            let message = format!("{id} is still being written");
            Err(Problem::new(StatusCode::CONFLICT, "still_recording", message, hint))
        }
        Ok((file, size, false)) => Ok((file, size)),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(absent(id)),
        Err(error) => {
            let hint = "look at the disk: `tipring status` names what is degraded";
            Err(Problem::unavailable("recording_unreadable", format!("{id}: {error}"), hint))
        }
    }
}

fn absent(id: &str) -> Problem {
    let hint = "the journal names the recordings of calls; old ones go by [recording] retention and size";
    Problem::new(StatusCode::NOT_FOUND, "no_such_recording", format!("there is no recording {id}"), hint)
}

/// The bytes `first..end` of a file, piece by piece as they are taken.
fn pieces(file: File, first: u64, end: u64) -> impl stream::Stream<Item = Result<Bytes, std::io::Error>> {
    stream::try_unfold((file, first), move |(mut file, at)| async move {
        if at >= end {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let wanted = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let mut piece = vec![0; wanted];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut piece)?;
            Ok((Bytes::from(piece), (file, at + wanted as u64)))
        });
        read.await.unwrap_or_else(|_| Err(std::io::Error::other("the reader ended"))).map(Some)
    })
}

/// What a `Range` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// From the first number to before the second.
    Bytes(u64, u64),
    /// Nothing that is there.
    Outside,
    /// Several parts, or another unit: all of it is an answer, too (RFC 9110 §14.2).
    Unknown,
}

fn part(range: &str, size: u64) -> Part {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|it| it.split_once('-')) else {
        return Part::Unknown;
    };
    match (first.trim().parse::<u64>(), last.trim()) {
        (Ok(first), _) if first >= size => Part::Outside,
        (Ok(first), "") => Part::Bytes(first, size),
        (Ok(first), last) => match last.parse::<u64>() {
            Ok(last) if last >= first => Part::Bytes(first, last.saturating_add(1).min(size)),
            _ => Part::Unknown,
        },
        (Err(_), last) if first.trim().is_empty() => match last.parse::<u64>() {
            Ok(0) => Part::Outside,
            Ok(last) if size > 0 => Part::Bytes(size.saturating_sub(last), size),
            _ => Part::Unknown,
        },
        _ => Part::Unknown,
    }
}

pub(super) fn now_utc_s() -> u64 {
    u64::try_from(now_utc_us() / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_rfc_9110_says() {
        for (range, expected) in [
            ("bytes=0-", Part::Bytes(0, 100)),
            ("bytes=10-19", Part::Bytes(10, 20)),
            ("bytes=90-1000", Part::Bytes(90, 100)),
            ("bytes=-10", Part::Bytes(90, 100)),
            ("bytes=-1000", Part::Bytes(0, 100)),
            ("bytes=100-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=20-10", Part::Unknown),
            ("bytes=0-1,5-6", Part::Unknown),
            ("bytes=-", Part::Unknown),
            ("lines=1-2", Part::Unknown),
            ("bytes=0-18446744073709551615", Part::Bytes(0, 100)),
            ("", Part::Unknown),
        ] {
            assert_eq!(part(range, 100), expected, "{range}");
        }
    }

    #[test]
    fn a_name_never_leaves_the_folder() {
        let config = Config::parse("[recording]\nfolder = \"/r\"\n", "t.toml").expect("a configuration");
        assert_eq!(file(&config, "01ab-1"), Some(PathBuf::from("/r/01ab-1.wav")));
        for wrong in ["", "../x", "a/b", "a.b", "a%2fb", "ü", "a b"] {
            assert_eq!(file(&config, wrong), None, "{wrong:?}");
        }
    }
}
