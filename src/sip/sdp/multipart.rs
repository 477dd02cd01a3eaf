//! The session description inside a body: the body itself, or a part of `multipart/…` (RFC 2046 §5.1, RFC
//! 5621).

/// The most parts of a body that are looked at.
const MAX_PARTS: usize = 16;
/// How deep multiparts may lie in each other.
const MAX_DEPTH: usize = 3;
/// The longest boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;

/// What a body holds for offer and answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionBody<'a> {
    /// A session description.
    Session(&'a [u8]),
    /// Nothing of the kind, and nothing that would have to be understood.
    Absent,
    /// A body of a type that we can't process and that is not optional: 415 (RFC 3261 §8.2.3).
    Unsupported,
}

/// The session description in a body with this Content-Type, Content-Disposition and content.
///
/// A body without Content-Type is taken for SDP, as the field does. `optional` is true if the disposition of
/// the whole body says `handling=optional`.
pub fn session_of_body<'a>(content_type: Option<&str>, optional: bool, body: &'a [u8]) -> SessionBody<'a> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return SessionBody::Absent;
    }
    look(content_type.unwrap_or("application/sdp"), optional, body, MAX_DEPTH)
}

fn look<'a>(content_type: &str, optional: bool, body: &'a [u8], depth: usize) -> SessionBody<'a> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/sdp" {
        return SessionBody::Session(body);
    }
    let boundary = parameter(content_type, "boundary").filter(|b| !b.is_empty() && b.len() <= MAX_BOUNDARY);
    let unknown = if optional { SessionBody::Absent } else { SessionBody::Unsupported };
    let (true, Some(boundary)) = (kind.starts_with("multipart/") && depth > 0, boundary) else {
        return unknown;
    };
    let mut found = SessionBody::Absent;
    for part in parts(body, &boundary).into_iter().take(MAX_PARTS) {
        let (content_type, optional, content) = split_part(part);
        match look(content_type.as_deref().unwrap_or("text/plain"), optional, content, depth - 1) {
            SessionBody::Session(session) => return SessionBody::Session(session),
            // Of the alternatives only one has to be understood.
            SessionBody::Unsupported if kind == "multipart/alternative" && found == SessionBody::Absent => {
                found = SessionBody::Unsupported;
            }
            SessionBody::Unsupported => found = SessionBody::Unsupported,
            SessionBody::Absent => {}
        }
    }
    found
}

/// The parts between the boundary lines; preamble and epilogue are left out.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut start = None;
    let mut line_start = 0;
    while line_start < body.len() && parts.len() < MAX_PARTS {
        let rest = &body[line_start..];
        let line_len = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |at| at + 1);
        let line = rest[..line_len].trim_ascii_end();
        let is_close = line.strip_prefix(delimiter.as_bytes()) == Some(b"--");
        if is_close || line == delimiter.as_bytes() {
            if let Some(start) = start {
                let part = &body[start..line_start];
                let part = part.strip_suffix(b"\n").unwrap_or(part);
                parts.push(part.strip_suffix(b"\r").unwrap_or(part));
            }
            start = (!is_close).then_some(line_start + line_len);
            if is_close {
                break;
            }
        }
        line_start += line_len;
    }
    // A body that ends without its closing line still gives its last part.
    if let Some(start) =
        start.filter(|&start| start <= body.len() && parts.len() < MAX_PARTS && line_start >= body.len())
    {
        parts.push(&body[start..]);
    }
    parts
}

/// Content-Type, whether handling is optional, and the content of one part.
fn split_part(part: &[u8]) -> (Option<String>, bool, &[u8]) {
    let mut content_type = None;
    let mut optional = false;
    let mut rest = part;
    while !rest.is_empty() {
        let line_len = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |at| at + 1);
        let line = String::from_utf8_lossy(rest[..line_len].trim_ascii());
        rest = &rest[line_len..];
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.trim().eq_ignore_ascii_case("content-type") || name.trim() == "c" {
            content_type = Some(value.trim().to_owned());
        } else if name.trim().eq_ignore_ascii_case("content-disposition") {
            optional = parameter(value, "handling")
                .is_some_and(|handling| handling.eq_ignore_ascii_case("optional"));
        }
    }
    (content_type, optional, rest)
}

/// The value of a parameter of a header field such as `multipart/mixed; boundary="x"`.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        let value = value.trim();
        let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        key.trim().eq_ignore_ascii_case(name).then(|| bare.to_owned())
    })
}
