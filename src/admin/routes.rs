//! The routes: one table that the router, the rights and the description of the API come from.

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};

use super::answer::Problem;
use super::{
    App, access, calls, cdr, doctor, journal, lines, metrics, monitor, openapi, recordings, rostelecom,
    settings, stream, subscriptions, trace, upstreams,
};
use crate::config::Role;

/// A path with its method.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// The path, its parts in braces.
    pub path: &'static str,
    /// What the caller must be; `None` for what anybody may ask.
    pub role: Option<Role>,
    /// What it does.
    pub summary: &'static str,
    /// Parameters of the query, each with its meaning.
    pub query: &'static [(&'static str, &'static str)],
    /// Fields of the body: name, JSON type, whether it must be there, meaning.
    pub body: &'static [(&'static str, &'static str, bool, &'static str)],
    /// The status and the content type of success.
    pub success: (u16, &'static str),
}

const JSON: (u16, &str) = (200, "application/json");
const CREATED: (u16, &str) = (201, "application/json");
const VIEW: Option<Role> = Some(Role::View);
const OPERATE: Option<Role> = Some(Role::Operate);
const ADMIN: Option<Role> = Some(Role::Admin);

const fn look(path: &'static str, summary: &'static str) -> Route {
    Route { method: "GET", path, role: VIEW, summary, query: &[], body: &[], success: JSON }
}

const fn act(path: &'static str, summary: &'static str) -> Route {
    Route { method: "POST", path, role: OPERATE, summary, query: &[], body: &[], success: JSON }
}

/// All routes.
pub const ROUTES: &[Route] = &[
    Route { role: None, ..look("/healthz", "Is the program alive?") },
    Route {
        query: &[("strict", "1: 503 unless every line and the sound are up")],
        ..look("/readyz", "Has the appliance started, and what is degraded?")
    },
    Route { success: (200, "text/plain"), ..look("/metrics", "Numbers in the text format of Prometheus") },
    look("/api/v1/status", "The whole state, with the sequence number of the last event in it"),
    Route {
        query: &[("since", "sequence number of the last event that is known; Last-Event-ID wins over it")],
        success: (200, "text/event-stream"),
        ..look(
            "/api/v1/events",
            "Events as server-sent events: `id` is the sequence number, `data` a CloudEvent",
        )
    },
    look("/api/v1/calls", "Calls that are going on, oldest first"),
    Route {
        body: &[
            (
                "to",
                "string",
                true,
                "digits, a user name or a SIP URI; a code of [numbers] calls nobody and is answered 200",
            ),
            ("line", "string", false, "the line; without it the first one that is registered"),
        ],
        success: CREATED,
        ..act("/api/v1/calls", "Call somebody; with an Idempotency-Key a repetition does not dial again")
    },
    look("/api/v1/calls/{id}", "One call: its state, its rows in the journal and its events"),
    Route {
        success: (200, "text/plain"),
        ..look("/api/v1/calls/{id}/log", "One call as a session log of Voximplant, for support")
    },
    Route { method: "DELETE", ..act("/api/v1/calls/{id}", "End a call, or refuse it if it still rings") },
    act(
        "/api/v1/calls/{id}/answer",
        "Answer a call; the id `current` is the one call that can only be meant",
    ),
    act("/api/v1/calls/{id}/hangup", "End a call, or refuse it if it still rings"),
    Route {
        body: &[("status", "integer", false, "486 (busy here, the default) or 603 (decline)")],
        ..act("/api/v1/calls/{id}/reject", "Refuse a ringing call")
    },
    act("/api/v1/calls/{id}/hold", "Put a call on hold"),
    act("/api/v1/calls/{id}/resume", "Take a call back from hold"),
    act("/api/v1/calls/{id}/mute", "Send silence instead of the microphone"),
    act("/api/v1/calls/{id}/unmute", "Send the microphone again"),
    Route {
        body: &[("digits", "string", true, "0-9, *, #, A-D")],
        ..act("/api/v1/calls/{id}/dtmf", "Send DTMF digits")
    },
    Route {
        body: &[
            ("to", "string", false, "who is called for it: digits, a user name or a SIP URI (blind)"),
            ("call", "string", false, "or the id of another answered call, whose far end gets it (attended)"),
        ],
        ..act("/api/v1/calls/{id}/transfer", "Give an answered call away; events tell what came of it")
    },
    Route {
        body: &[("action", "string", true, "start, pause, resume or stop")],
        ..act("/api/v1/calls/{id}/record", "Record a call")
    },
    Route {
        body: &[
            ("from", "string", true, "who is rung first; a line's own name or number is this device itself"),
            ("to", "string", true, "who is called once the first one has answered"),
            ("line", "string", false, "the line for both; without it as the number plan says"),
        ],
        success: CREATED,
        ..act(
            "/api/v1/callback",
            "Ring somebody, then somebody else, and join both; with an Idempotency-Key once",
        )
    },
    look("/api/v1/lines", "The lines in the order of the configuration"),
    act("/api/v1/lines/{name}/register", "Register a line now, also one that was told to stop"),
    act("/api/v1/lines/{name}/unregister", "Remove a line's registration until asked otherwise"),
    Route {
        body: &[("on", "boolean", true, "whether the line refuses calls")],
        ..act("/api/v1/lines/{name}/dnd", "Do-not-disturb; the name `*` is all lines")
    },
    Route {
        body: &[("state", "string", true, "available or logged_out")],
        ..act("/api/v1/agents/{name}", "Whether the agent of a line is there; the name `*` is all lines")
    },
    Route {
        role: VIEW,
        body: &[
            ("numbers", "array", true, "1 to 100 numbers or names, as somebody would dial them"),
            ("line", "string", false, "the line that would be asked for"),
        ],
        ..act("/api/v1/route", "What would become of dialled numbers, and why; nothing is called")
    },
    Route {
        query: &[
            ("since", "RFC 3339 time, date, or an age such as 2h or 7d"),
            ("until", "before this time, written likewise"),
            ("number", "a number of either side, in any spelling"),
            ("direction", "in or out"),
            ("result", "answered, busy, no_answer …"),
            ("line", "name of the line"),
            ("cursor", "`next` of the page before"),
            ("limit", "rows, 1 to 1000; 100 without it"),
            ("format", "json, or CSV in the columns of csv, asterisk, freeswitch, rostelecom or telphin"),
            ("links", "seconds: links to the recordings that hold so long, for the role operate"),
        ],
        ..look("/api/v1/journal", "Past calls, newest first; Accept: text/csv gives CSV")
    },
    Route {
        query: &[
            ("by", "rows: day (the default), hour (of the day) or line"),
            ("since", "RFC 3339 time, date, or an age such as 2h or 7d"),
            ("until", "before this time, written likewise"),
            ("line", "name of the line"),
        ],
        ..look("/api/v1/journal/report", "How past calls add up: the answered share, averages, by day")
    },
    Route {
        role: VIEW,
        body: &[
            (
                "query",
                "string",
                false,
                "in Lucene's language: destination_number:/PATTERN/ OR caller_id_number:NUMBER",
            ),
            ("filter", "array", false, "filters of Elasticsearch: term, terms, range, bool …"),
            ("columns", "array", false, "fields that are wanted; all without it"),
            ("limit", "integer", false, "records, 1 to 1000; 40 without it"),
            ("sort", "object", false, "{\"created_time\": {\"order\": \"desc\"}}: there is no other order"),
            ("index", "string", false, "of no meaning: there is one"),
            ("scroll", "string", false, "1s to 10m: how long the next page may be asked for"),
            ("scroll_id", "string", false, "`_scroll_id` of the page before, without a query"),
        ],
        ..act("/api/v2/cdr/text", "Past calls as Webitel's call detail records, searched as those are")
    },
    Route {
        method: "DELETE",
        role: ADMIN,
        query: &[("id", "of this call"), ("number", "of this number, in any spelling")],
        ..act("/api/v1/journal", "Erase rows, events and recordings of a call or a number")
    },
    Route { method: "DELETE", role: ADMIN, ..act("/api/v1/journal/{id}", "Erase all of one call") },
    Route {
        role: OPERATE,
        query: &[
            ("expires", "of a link: when it ends, in seconds since 1970"),
            ("address", "of a link: the only address that may use it"),
            ("once", "of a link: it is good for one time"),
            ("signature", "of a link"),
        ],
        success: (200, "audio/wav"),
        ..look("/api/v1/recordings/{id}", "A recording; a link opens it without a token")
    },
    Route {
        body: &[
            ("seconds", "integer", false, "how long it holds: 600 without it, 604800 (7 days) at most"),
            ("address", "string", false, "the only IP address that may use it"),
        ],
        ..act("/api/v1/recordings/{id}/link", "A path to a recording that needs no token until it ends")
    },
    Route { method: "DELETE", role: ADMIN, ..act("/api/v1/recordings/{id}", "Delete a recording") },
    look("/api/v1/upstreams", "The systems that are told what happens, and what waits for them"),
    act("/api/v1/upstreams/{name}/test", "Send an upstream a test event and tell what it answers"),
    act("/api/v1/upstreams/{name}/pause", "Deliver nothing to an upstream until it is resumed; events wait"),
    act("/api/v1/upstreams/{name}/resume", "Deliver to an upstream, at once, also after it answered 410"),
    Route {
        role: ADMIN,
        body: &[("since", "integer", true, "sequence number after which it begins; 0 for all that is kept")],
        ..act("/api/v1/upstreams/{name}/replay", "Deliver everything after a number once more")
    },
    Route { role: ADMIN, ..look("/api/v1/config", "The configuration in force, secrets masked") },
    Route {
        role: ADMIN,
        ..act("/api/v1/reload", "Read the configuration again; with a mistake the old one stays")
    },
    Route {
        body: &[(
            "lifetime_s",
            "integer",
            false,
            "5 to 600: how long an idle mapping of the NAT lives, up to this",
        )],
        ..act("/api/v1/doctor", "What stands between this device and its PBX; takes 5 to 15 seconds")
    },
    Route {
        query: &[
            ("line", "of this line"),
            ("call", "of this call"),
            ("after", "number of the last message that is known"),
        ],
        ..look("/api/v1/trace", "The last SIP messages, secrets masked")
    },
    look("/api/ver1.0/extension/{id}/event/", "What a program has itself told of an extension's events"),
    Route {
        body: &[
            ("url", "string", true, "where events are told"),
            ("event_type", "string", true, "dial-in, dial-out, answer or hangup"),
            ("method", "string", false, "POST (a form) or GET (a query); POST without it"),
        ],
        success: CREATED,
        ..act(
            "/api/ver1.0/extension/{id}/event/",
            "Have an event of an extension told, as at Ringme and Telphin",
        )
    },
    Route {
        method: "DELETE",
        ..act("/api/ver1.0/extension/{id}/event/{event}", "End a subscription of one's own")
    },
    look("/api/v1/openapi.json", "This description"),
];

/// The route of a method and a path pattern. HEAD is a GET without its body.
pub(super) fn find(method: &Method, path: &str) -> Option<&'static Route> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    ROUTES.iter().find(|route| route.path == path && route.method == method)
}

/// The router of all connections.
pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(monitor::healthz))
        .route("/readyz", get(monitor::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/status", get(monitor::status))
        .route("/api/v1/events", get(stream::events))
        .route("/api/v1/calls", get(calls::list).post(calls::dial))
        .route("/api/v1/calls/{id}", get(calls::show).delete(calls::hang_up))
        .route("/api/v1/calls/{id}/log", get(calls::log))
        .route("/api/v1/calls/{id}/answer", post(calls::answer))
        .route("/api/v1/calls/{id}/hangup", post(calls::hang_up))
        .route("/api/v1/calls/{id}/reject", post(calls::reject))
        .route("/api/v1/calls/{id}/hold", post(calls::hold))
        .route("/api/v1/calls/{id}/resume", post(calls::resume))
        .route("/api/v1/calls/{id}/mute", post(calls::mute))
        .route("/api/v1/calls/{id}/unmute", post(calls::unmute))
        .route("/api/v1/calls/{id}/dtmf", post(calls::dtmf))
        .route("/api/v1/calls/{id}/transfer", post(calls::transfer))
        .route("/api/v1/calls/{id}/record", post(calls::record))
        .route("/api/v1/callback", post(calls::callback))
        .route("/api/v1/lines", get(lines::list))
        .route("/api/v1/lines/{name}/register", post(lines::register))
        .route("/api/v1/lines/{name}/unregister", post(lines::unregister))
        .route("/api/v1/lines/{name}/dnd", post(lines::dnd))
        .route("/api/v1/agents/{name}", post(lines::agent))
        .route("/api/v1/route", post(lines::route))
        .route("/api/v1/journal", get(journal::list).delete(journal::erase))
        .route("/api/v1/journal/report", get(journal::report))
        .route("/api/v2/cdr/text", post(cdr::search))
        .route("/api/v1/journal/{id}", delete(journal::erase_call))
        .route("/api/v1/recordings/{id}", get(recordings::get).delete(recordings::delete))
        .route("/api/v1/recordings/{id}/link", post(recordings::link))
        .route("/api/v1/upstreams", get(upstreams::list))
        .route("/api/v1/upstreams/{name}/test", post(upstreams::test))
        .route("/api/v1/upstreams/{name}/pause", post(upstreams::pause))
        .route("/api/v1/upstreams/{name}/resume", post(upstreams::resume))
        .route("/api/v1/upstreams/{name}/replay", post(upstreams::replay))
        .route("/api/v1/config", get(settings::config))
        .route("/api/v1/reload", post(settings::reload))
        .route("/api/v1/doctor", post(doctor::doctor))
        .route("/api/v1/trace", get(trace::trace))
        .route("/api/ver1.0/extension/{id}/event/", get(subscriptions::list).post(subscriptions::add))
        .route("/api/ver1.0/extension/{id}/event/{event}", delete(subscriptions::end))
        .route("/api/v1/openapi.json", get(openapi::openapi))
        .fallback(async |request: Request| Problem::no_path(request.uri().path()))
        .method_not_allowed_fallback(async || {
            let hint = "GET /api/v1/openapi.json lists the methods of each path";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this path has no such method", hint)
        })
        .layer(from_fn_with_state(app.clone(), access::guard))
        // Behind no guard: what counts there is a signature, and neither a token nor the local socket.
        .route("/rostelecom/{upstream}/{method}", post(rostelecom::answer))
        .with_state(app)
}
