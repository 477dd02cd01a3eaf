//! What the user agent answers by itself (RFC 3261 §8.2, §11): OPTIONS, and requests that can't be served.

use crate::sip::account::Settings;
use crate::sip::fields::FieldValue;
use crate::sip::media_type;
use crate::sip::message::{Request, Response};
use crate::sip::message_summary;
use crate::sip::method::Method;
use crate::sip::replaces::Replaces;
use crate::sip::uri::Uri;

/// What is always served: the methods of a call, REFER among them, and NOTIFY.
const ALWAYS: [Method; 10] = [
    Method::INVITE,
    Method::ACK,
    Method::CANCEL,
    Method::BYE,
    Method::OPTIONS,
    Method::PRACK,
    Method::UPDATE,
    Method::INFO,
    Method::NOTIFY,
    Method::REFER,
];

/// The value of Allow.
pub fn allow(settings: &Settings) -> String {
    let served = settings.serves.iter().filter(|method| !ALWAYS.contains(method));
    ALWAYS.iter().chain(served).map(Method::as_str).collect::<Vec<_>>().join(", ")
}

/// The answer to a request that can't be served, by the order of RFC 3261 §8.2; `None` if it can. ACK and
/// CANCEL are not to be asked about.
pub fn refuse(settings: &Settings, request: &Request) -> Option<Response> {
    if !ALWAYS.contains(&request.method) && !settings.serves.contains(&request.method) {
        // 501: never heard of; 405: known, but not here (§8.2.1, §21.5.2).
        let mut response = Response::to(request, if request.method.is_known() { 405 } else { 501 });
        response.fields.push("Allow", allow(settings));
        return Some(response);
    }
    if matches!(request.uri, Uri::Other(_)) {
        return Some(Response::to(request, 416));
    }
    let unsupported: Vec<String> = request
        .fields
        .tokens("Require")
        .into_iter()
        .filter(|tag| !settings.supported.iter().any(|known| known.eq_ignore_ascii_case(tag)))
        .collect();
    if !unsupported.is_empty() {
        let mut response = Response::to(request, 420);
        response.fields.push("Unsupported", unsupported.join(", "));
        return Some(response);
    }
    refuse_replaces(request).or_else(|| refuse_body(request))
}

/// A Replaces that says nothing clear: in another request than INVITE, twice, or beside Join (RFC 3891 §3).
fn refuse_replaces(request: &Request) -> Option<Response> {
    let count = request.fields.count(Replaces::NAME);
    let clear = request.method == Method::INVITE
        && count == 1
        && !request.fields.has("Join")
        && request.fields.typed::<Replaces>().is_ok();
    (count > 0 && !clear).then(|| Response::with_reason(request, 400, "Bad Replaces"))
}

/// Bodies that must be understood and are not (RFC 3261 §8.2.3), and answers that the peer could not (§20.1).
fn refuse_body(request: &Request) -> Option<Response> {
    if !matches!(request.method, Method::INVITE | Method::UPDATE | Method::PRACK) {
        return None;
    }
    if !request.body.is_empty() && !is_optional(request) {
        let coded = request
            .fields
            .tokens("Content-Encoding")
            .iter()
            .any(|coding| !coding.eq_ignore_ascii_case("identity"));
        if coded {
            let mut response = Response::to(request, 415);
            response.fields.push("Accept-Encoding", "identity");
            return Some(response);
        }
        let kind = request.fields.text("Content-Type");
        let Some(kind) = kind else {
            return Some(Response::with_reason(request, 400, "Missing Content-Type"));
        };
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !matches!(kind.as_str(), "application/sdp" | "multipart/mixed" | "multipart/alternative") {
            let mut response = Response::to(request, 415);
            response.fields.push("Accept", "application/sdp");
            return Some(response);
        }
    }
    if request.method == Method::INVITE && !media_type::accepts(&request.fields, "application", "sdp") {
        let mut response = Response::to(request, 406);
        response.fields.push("Accept", "application/sdp");
        return Some(response);
    }
    None
}

fn is_optional(request: &Request) -> bool {
    let disposition = request.fields.text("Content-Disposition").unwrap_or_default().to_ascii_lowercase();
    disposition.split(';').skip(1).any(|param| param.replace(' ', "") == "handling=optional")
}

/// The 200 to OPTIONS (RFC 3261 §11.2): what we could do if this were an INVITE.
pub fn capabilities(settings: &Settings, request: &Request) -> Response {
    let mut response = Response::to(request, 200);
    response.fields.push("Allow", allow(settings));
    response.fields.push("Allow-Events", message_summary::PACKAGE);
    response.fields.push("Accept", "application/sdp, application/dtmf-relay, application/dtmf");
    response.fields.push("Accept-Encoding", "identity");
    response.fields.push("Accept-Language", "en");
    response.fields.push("Supported", settings.supported.join(", "));
    response
}
