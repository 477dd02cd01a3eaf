//! A recording on its way into the portal: announced by its name, then sent to the place that the portal names for it.
//!
//! It is sent and not fetched: a phone behind a NAT can be reached by nobody, and a portal fetches from no private address.

use serde_json::{Value, json};

use super::answer;
use super::legs::{Leg, Upload};
use crate::config::UpstreamUrl;
use crate::events::upstream::dialect::{Enclosed, Request};

/// Bytes of the name of a field.
const LONGEST_FIELD: usize = 64;

/// What a portal says to an announcement.
pub enum Place {
    /// It has the recording.
    Attached,
    /// It wants it sent here.
    Upload(Upload),
    /// It wants it sent to somewhere that is not its own.
    Elsewhere,
}

/// What announces the recording of a leg.
pub fn announcement(leg: &Leg) -> Value {
    json!({ "FILENAME": format!("{}.wav", leg.recording.as_deref().unwrap_or_default()) })
}

/// Where the portal wants it. A recording goes to nobody but the portal, whatever it says.
pub fn place(result: &Value, portal: &UpstreamUrl) -> Place {
    let Some(url) = answer::word(&result["uploadUrl"]) else { return Place::Attached };
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"_-[]".contains(&it);
    let fits = |it: &String| it.len() <= LONGEST_FIELD && it.bytes().all(plain);
    let field = answer::word(&result["fieldName"]).filter(fits);
    let own = |url: &UpstreamUrl| {
        (url.is_secure(), url.port()) == (portal.is_secure(), portal.port())
            && url.host().eq_ignore_ascii_case(portal.host())
    };
    match (UpstreamUrl::parse(&url).ok().filter(own), field) {
        (Some(url), Some(field)) => Place::Upload(Upload { target: url.path().to_owned(), field }),
        _ => Place::Elsewhere,
    }
}

/// The request that sends the recording of a leg (RFC 7578).
pub fn upload(leg: &Leg, id: &str) -> Request {
    let (Some(recording), Some(Upload { target, field })) = (leg.recording.clone(), leg.upload.clone())
    else {
        return Request::default();
    };
    // No recording has the name of its leg in it at the beginning of a line, by any chance that matters.
    let boundary: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let boundary = format!("tipring-{boundary}");
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{recording}.wav\"\r\n\
         Content-Type: audio/wav\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n").into_bytes();
    Request {
        method: "POST",
        target,
        headers: vec![("content-type", format!("multipart/form-data; boundary={boundary}"))],
        body: head.into_bytes(),
        enclosed: Some(Enclosed { recording, tail }),
        reads: answer::LONGEST,
        ..Request::default()
    }
}
