//! What people see of the state and of a call.

use serde_json::Value;

use super::table::{Mood, Paint, Table, clean};

/// What is said of a call where it is so.
const WORDS: [(&str, &str); 4] =
    [("muted", "muted"), ("held_by_peer", "held by peer"), ("silent", "silent"), ("srtp", "encrypted")];
/// What is written where nothing is known.
pub(super) const NOTHING: &str = "-";

/// A value as a cell.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) if text.is_empty() => NOTHING.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The way that media take, as in `srflx to host by udp`.
fn way(way: &Value) -> String {
    match (&way["local"], &way["remote"], &way["transport"]) {
        (Value::Null, ..) => NOTHING.to_owned(),
        (local, Value::Null, transport) => format!("{} by {}", cell(local), cell(transport)),
        (local, remote, transport) => {
            format!("{} to {} by {}", cell(local), cell(remote), cell(transport))
        }
    }
}

/// The whole state.
pub(super) fn status(status: &Value, paint: Paint) -> String {
    let name = clean(&cell(&status["name"]));
    let mut text = format!(
        "{}  tipring {}  serial {}  since {}\n\n",
        paint.text(Mood::Strong, &name),
        cell(&status["version"]),
        clean(&cell(&status["serial"])),
        minute(&cell(&status["started"])),
    );
    text.push_str(&lines(status["lines"].as_array().map(Vec::as_slice).unwrap_or_default(), paint));
    let upstreams_there = status["upstreams"].as_array().filter(|all| !all.is_empty());
    if let Some(all) = upstreams_there {
        text.push('\n');
        text.push_str(&upstreams(all, paint));
    }
    let calls = status["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    if calls.is_empty() {
        text.push_str("\nno calls\n");
    } else {
        text.push('\n');
        text.push_str(&current(calls, paint));
    }
    let degraded: Vec<&str> =
        status["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if degraded.is_empty() {
        text.push_str(&format!("\n{}\n", paint.text(Mood::Good, "all is well")));
    } else {
        text.push('\n');
        for what in degraded {
            text.push_str(&format!("{} {}\n", paint.text(Mood::Bad, "degraded:"), clean(what)));
        }
    }
    text
}

/// What would become of numbers, each with the rules that were asked.
pub(super) fn routes(decided: &Value, paint: Paint) -> String {
    let mut text = String::new();
    for decision in decided["routes"].as_array().into_iter().flatten() {
        let (number, e164) = (cell(&decision["number"]), decision["e164"].as_str());
        let also = e164.filter(|e164| *e164 != number).map_or_else(String::new, |e164| format!("  ({e164})"));
        text.push_str(&format!("{}{also}\n", paint.text(Mood::Strong, &clean(&number))));
        let (mood, what) = route(decision);
        text.push_str(&format!("  {}\n", paint.text(mood, &clean(&what))));
        for tried in decision["tried"].as_array().into_iter().flatten() {
            let (rule, pattern, why) = (cell(&tried["rule"]), cell(&tried["match"]), cell(&tried["why"]));
            text.push_str(&clean(&format!("  rule {rule}  {pattern}  {why}")));
            text.push('\n');
        }
    }
    text
}

/// One decision in a sentence.
fn route(decision: &Value) -> (Mood, String) {
    if let Some(why) = decision["refused"]["text"].as_str() {
        return (Mood::Bad, format!("would be refused ({}): {why}", cell(&decision["refused"]["rule"])));
    }
    let said = &decision["agent"];
    if let Some(state) = said["state"].as_str() {
        let what = format!("calls nobody: says that the agent is {}", state.replace('_', " "));
        return (Mood::Good, format!("{what} ({})", cell(&said["rule"])));
    }
    let Some(line) = decision["line"].as_str() else {
        return (Mood::Bad, "can't be called: no line is registered".to_owned());
    };
    let goes = format!("goes out as {} over line {line}", cell(&decision["sent"]));
    let why = match (&decision["rule"], decision["emergency"] == true) {
        (Value::Null, true) => "an emergency number passes every rule".to_owned(),
        (Value::Null, false) => "no rule decides".to_owned(),
        (rule, true) => format!("rule {rule} makes it an emergency number"),
        (rule, false) => format!("by rule {rule}"),
    };
    (Mood::Good, format!("{goes}: {why}"))
}

/// Lines with their registration.
pub(super) fn lines(lines: &[Value], paint: Paint) -> String {
    let mut table = Table::new(&[
        "LINE",
        "ADDRESS",
        "STATE",
        "VIA",
        "EXPIRES",
        "KEPT BY",
        "DND",
        "AGENT",
        "VOICEMAIL",
        "REASON",
    ]);
    let state = |of: &Value| {
        let state = cell(&of["state"]);
        let mood = match state.as_str() {
            "registered" => Mood::Good,
            "registering" | "retrying" => Mood::Fair,
            "rejected" => Mood::Bad,
            _ => Mood::Quiet,
        };
        (state, Some(mood))
    };
    let expires =
        |of: &Value| of["expires_s"].as_u64().map_or_else(|| NOTHING.to_owned(), |s| format!("{s} s"));
    for line in lines {
        let dnd =
            if line["dnd"] == true { ("on".to_owned(), Some(Mood::Fair)) } else { ("off".to_owned(), None) };
        table.row(vec![
            (cell(&line["name"]), None),
            (cell(&line["aor"]), None),
            state(line),
            (cell(&line["via"]), None),
            (expires(line), None),
            (kept(line), None),
            dnd,
            agent(&line["agent"]),
            voicemail(&line["voicemail"]),
            (cell(&line["reason"]), None),
        ]);
        let flows = line["flows"].as_array().filter(|flows| flows.len() > 1);
        for flow in flows.into_iter().flatten() {
            table.row(vec![
                (String::new(), None),
                (format!("flow {}", cell(&flow["flow"])), None),
                state(flow),
                (cell(&flow["via"]), None),
                (expires(flow), None),
                (kept(flow), None),
                (String::new(), None),
                (String::new(), None),
                (cell(&flow["reason"]), None),
            ]);
        }
    }
    table.text(paint)
}

/// Upstreams with what waits for them.
pub(super) fn upstreams(upstreams: &[Value], paint: Paint) -> String {
    if upstreams.is_empty() {
        return "no upstreams\n".to_owned();
    }
    let headings = [
        "UPSTREAM",
        "KIND",
        "URL",
        "STATE",
        "WAITING",
        "DELIVERED",
        "SET ASIDE",
        "MISSING",
        "LAST",
        "REASON",
        "CURE",
    ];
    let mut table = Table::new(&headings);
    for upstream in upstreams {
        let state = cell(&upstream["state"]);
        let mood = match state.as_str() {
            "idle" | "delivering" => Mood::Good,
            "retrying" => Mood::Bad,
            _ => Mood::Fair,
        };
        let last = upstream["last"].as_str().map_or_else(|| NOTHING.to_owned(), minute);
        let mut row = vec![
            (cell(&upstream["name"]), None),
            (cell(&upstream["kind"]), None),
            (cell(&upstream["url"]), None),
            (state, Some(mood)),
        ];
        row.extend(["waiting", "delivered", "set_aside", "missing"].map(|key| (cell(&upstream[key]), None)));
        row.push((last, None));
        row.extend(["reason", "cure"].map(|key| (cell(&upstream[key]), None)));
        table.row(row);
    }
    table.text(paint)
}

/// How a test of an upstream ended.
pub(super) fn tested(tested: &Value) -> String {
    let millis = tested["duration_us"].as_u64().unwrap_or(0) / 1000;
    if tested["taken"] == true {
        return format!("taken with status {} after {millis} ms\n", cell(&tested["status"]));
    }
    format!("not taken: {}; {}", cell(&tested["reason"]), cell(&tested["cure"]))
}

/// How a line's way is kept open: what is asked, how often, and when that was answered last.
fn kept(line: &Value) -> String {
    let Some(way) = line["keep_alive"].as_str() else { return NOTHING.to_owned() };
    let mut text = way.to_owned();
    if let Some(every) = line["keep_alive_s"].as_f64() {
        text.push_str(&format!(" / {every:.0} s"));
    }
    if let Some(heard) = line["heard_s"].as_u64() {
        text.push_str(&format!(", {heard} s ago"));
    }
    text
}

/// Whether the agent of a line is there, once somebody has said so.
fn agent(state: &Value) -> (String, Option<Mood>) {
    let mood = if state == "available" { Mood::Good } else { Mood::Quiet };
    (cell(state).replace('_', " "), Some(mood))
}

/// What waits in a mailbox, in two words.
fn voicemail(mailbox: &Value) -> (String, Option<Mood>) {
    let count = |key: &str| mailbox[key].as_u64().filter(|count| *count > 0);
    match (mailbox["waiting"].as_bool(), count("new"), count("old")) {
        (None, ..) => (NOTHING.to_owned(), None),
        (Some(true), Some(new), _) => (format!("{new} new"), Some(Mood::Fair)),
        (Some(true), None, _) => ("waiting".to_owned(), Some(Mood::Fair)),
        (Some(false), _, Some(old)) => (format!("{old} old"), None),
        (Some(false), _, None) => ("none".to_owned(), None),
    }
}

fn current(calls: &[Value], paint: Paint) -> String {
    let mut table = Table::new(&["CALL", "LINE", "", "NUMBER", "NAME", "STATE", "TIME", "CODEC", "MOS"]);
    for call in calls {
        let mut state = cell(&call["state"]);
        for (key, word) in WORDS {
            if call[key] == true {
                state.push_str(", ");
                state.push_str(word);
            }
        }
        for (key, words) in [("did", ", for "), ("diverted_by", ", sent on by ")] {
            if let Some(number) = call[key].as_str() {
                state.push_str(&format!("{words}{}", clean(number)));
            }
        }
        if let Some(target) = call["transfer"].as_str() {
            state.push_str(&format!(", being transferred to {}", clean(target)));
        }
        match call["recording"].as_str() {
            Some("on") => state.push_str(", recording"),
            Some("paused") => state.push_str(", recording paused"),
            _ => {}
        }
        let mood = match call["state"].as_str() {
            Some("active") => Some(Mood::Good),
            Some("rating" | "ending") => Some(Mood::Quiet),
            _ => Some(Mood::Fair),
        };
        table.row(vec![
            (cell(&call["id"]), None),
            (cell(&call["line"]), None),
            (arrow(&call["direction"]).to_owned(), None),
            (cell(&call["number"]), None),
            (cell(&call["name"]), None),
            (state, mood),
            (call["duration_us"].as_u64().map_or_else(|| NOTHING.to_owned(), duration), None),
            (cell(&call["codec"]), None),
            mos(&call["quality"]["mos"]),
        ]);
    }
    table.text(paint)
}

/// One call in one line: what a command led to.
pub(super) fn call(call: &Value) -> String {
    if call["id"].is_null() {
        return String::new();
    }
    let words = [&call["id"], &call["direction"], &call["number"], &call["state"]].map(|it| clean(&cell(it)));
    format!("{}\n", words.join("  "))
}

pub(super) fn arrow(direction: &Value) -> &'static str {
    if direction == "in" { "←" } else { "→" }
}

pub(super) fn mos(value: &Value) -> (String, Option<Mood>) {
    let Some(mos) = value.as_f64() else { return (NOTHING.to_owned(), None) };
    let mood = match mos {
        mos if mos >= 3.6 => Mood::Good,
        mos if mos >= 3.1 => Mood::Fair,
        _ => Mood::Bad,
    };
    (format!("{mos:.2}"), Some(mood))
}

pub(super) fn result(value: &Value) -> (String, Option<Mood>) {
    let mood = match value.as_str() {
        Some("answered" | "answered_elsewhere") => Mood::Good,
        Some("busy" | "no_answer" | "cancelled" | "rejected") => Mood::Fair,
        Some(_) => Mood::Bad,
        None => Mood::Quiet,
    };
    (cell(value), Some(mood))
}

/// All of one call: its legs, why they ended, how they sounded, and what was told of it.
pub(super) fn story(call: &Value, paint: Paint) -> String {
    let mut text = format!(
        "{}\n",
        paint.text(Mood::Strong, &clean(&format!("call {}  {}", cell(&call["id"]), cell(&call["state"]))))
    );
    for leg in call["legs"].as_array().into_iter().flatten() {
        let cause = &leg["cause"];
        let quality = &leg["quality"];
        let mut table = Table::default();
        let mut say = |name: &str, value: String| {
            if value != NOTHING && !value.is_empty() {
                table.row(vec![(format!("  {name}"), Some(Mood::Quiet)), (value, None)]);
            }
        };
        say("leg", cell(&leg["leg_id"]));
        say("line", format!("{} {}", cell(&leg["line"]), cell(&leg["direction"])));
        say("from", party(&leg["caller"]));
        say("to", party(&leg["called"]));
        say("then", leg["connected"].as_object().map(|_| party(&leg["connected"])).unwrap_or_default());
        say("dialled", cell(&leg["did"]["dialled"]));
        let reason = leg["diverted"]["reason"].as_str().map(|it| format!(", {}", it.replace('_', " ")));
        let by = leg["diverted"]["by"].as_object().map(|_| party(&leg["diverted"]["by"]));
        say("sent on by", by.map(|by| by + &reason.unwrap_or_default()).unwrap_or_default());
        say("began", leg["started_utc_us"].as_i64().map(moment).unwrap_or_default());
        say("rang", leg["ring_us"].as_u64().map(duration).unwrap_or_default());
        say("talked", leg["talk_us"].as_u64().map(duration).unwrap_or_default());
        say("result", cell(&leg["result"]));
        let status = cause["status"].as_u64().map(|it| format!("SIP {it}"));
        let q850 = cause["q850"].as_u64().map(|it| format!("Q.850 {it}"));
        let by = cause["by"].as_str().map(|by| format!("by {by}"));
        let why: Vec<String> =
            [status, q850, cause["text"].as_str().map(str::to_owned), by].into_iter().flatten().collect();
        say("cause", why.join(", "));
        if quality.is_object() {
            let lost = cell(&quality["packets_lost"]);
            say("codec", cell(&quality["codec"]));
            say("MOS", format!("{} ({})", mos(&quality["mos"]).0, cell(&quality["mos_scale"])));
            say(
                "packets",
                format!(
                    "{} sent, {} received, {lost} lost",
                    cell(&quality["packets_sent"]),
                    cell(&quality["packets_received"])
                ),
            );
            say(
                "jitter",
                quality["jitter_us"]
                    .as_u64()
                    .map(|us| format!("{:.1} ms", us as f64 / 1e3))
                    .unwrap_or_default(),
            );
            say("encrypted", cell(&quality["srtp"]));
            say("way", way(&quality["way"]));
        }
        say("vote", leg["vote"].as_u64().map(|vote| format!("{vote} of 5")).unwrap_or_default());
        say("recording", cell(&leg["recording_id"]));
        say("Call-ID", cell(&leg["sip_call_id"]));
        text.push_str(&table.text(paint));
    }
    let events = call["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !events.is_empty() {
        text.push('\n');
        for told in events {
            text.push_str(&event(told, paint));
        }
    }
    text.push('\n');
    text
}

fn party(party: &Value) -> String {
    match (party["name"].as_str(), party["dialled"].as_str()) {
        (Some(name), Some(number)) => format!("{number} ({name})"),
        (None, Some(number)) => number.to_owned(),
        (Some(name), None) => name.to_owned(),
        (None, None) => cell(&party["uri"]),
    }
}

/// One event in one line.
pub(super) fn event(event: &Value, paint: Paint) -> String {
    let kind = cell(&event["type"]);
    let kind = kind.strip_prefix("tipring.").unwrap_or(&kind);
    let mood = match kind {
        "line.registered" | "call.answered" | "call.media" | "device.recovered" => Mood::Good,
        "line.rejected" | "auth.failed" | "device.degraded" | "config.rejected" | "call.refused"
        | "limit.reached" | "gap" => Mood::Bad,
        "line.unregistered" | "call.emergency" => Mood::Fair,
        _ => Mood::Strong,
    };
    let sequence = cell(&event["sequence"]);
    let padded = format!("{:<18}", clean(kind));
    format!(
        "{}  {:>6}  {}  {}\n",
        paint.text(Mood::Quiet, &clock(&cell(&event["time"]))),
        clean(sequence.trim_start_matches('0')),
        paint.text(mood, &padded),
        clean(summary(event).trim()),
    )
}

/// What is worth saying of an event, in a few words.
fn summary(event: &Value) -> String {
    let data = &event["data"];
    let mut words = Vec::new();
    words.extend(event["subject"].as_str().map(str::to_owned));
    if let Some(direction) = data["direction"].as_str() {
        words.push(format!("{} {direction}", cell(&data["line"])));
        let other = if direction == "in" { &data["caller"] } else { &data["called"] };
        words.push(party(if data["connected"].is_object() { &data["connected"] } else { other }));
    } else {
        words.extend(data["line"].as_str().map(str::to_owned));
    }
    for key in [
        "by",
        "codec",
        "digits",
        "result",
        "rule",
        "text",
        "part",
        "what",
        "cure",
        "registrar",
        "transport",
        "version",
        "file",
        "from",
        "user",
        "limit",
    ] {
        words.extend(data[key].as_str().map(str::to_owned));
    }
    if data["waiting"].is_boolean() {
        words.push(voicemail(data).0);
    }
    let cause = &data["cause"];
    words.extend(cause["status"].as_u64().map(|it| it.to_string()));
    words.extend(cause["text"].as_str().map(str::to_owned));
    words.extend(data["talk_us"].as_u64().filter(|us| *us > 0).map(duration));
    let quality = &data["quality"];
    if quality.is_object() {
        words.push(format!("MOS {}, {} lost", mos(&quality["mos"]).0, cell(&quality["packets_lost"])));
    }
    words.join("  ")
}

/// `1:02:03` or `2:03`, from microseconds.
pub(super) fn duration(us: u64) -> String {
    let seconds = us / 1_000_000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Date and time of day.
pub(super) fn moment(utc_us: i64) -> String {
    let text = crate::events::cloud_event::rfc3339(utc_us);
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// Date, hour and minute of a text in RFC 3339.
fn minute(text: &str) -> String {
    clean(&text.get(..16).unwrap_or(text).replace('T', " "))
}

/// The time of day with milliseconds, of a text in RFC 3339.
pub(super) fn clock(text: &str) -> String {
    clean(text.get(11..23).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_read_like_a_telephone_display() {
        assert_eq!([0, 61_900_000, 3_723_000_000].map(duration), ["0:00", "1:01", "1:02:03"]);
    }

    #[test]
    fn a_status_tells_lines_calls_and_troubles() {
        let shown = status(
            &json!({
                "name": "Reception", "version": "0.1.0", "serial": "T1",
                "started": "2026-11-21T08:00:00.000000Z",
                "lines": [{ "name": "main", "aor": "sip:1001@pbx", "state": "registered",
                            "via": "udp:192.0.2.1:5060", "expires_s": 300, "dnd": false, "agent": "logged_out", "reason": null,
                            "keep_alive": "watch options", "keep_alive_s": 61.4, "heard_s": 17,
                            "voicemail": { "waiting": true, "new": 2, "old": 5 } }],
                "calls": [{ "id": "c1", "line": "main", "direction": "in", "number": "1002",
                            "did": "84957\x1b[2J", "diverted_by": "102",
                            "name": "Anna\x1b[2J", "state": "active", "muted": true, "recording": "on", "duration_us": 61_000_000,
                            "codec": "opus/48000", "quality": { "mos": 4.21 } }],
                "degraded": ["sound: no device; plug one in"],
            }),
            Paint::none(),
        );
        assert!(
            shown.starts_with("Reception  tipring 0.1.0  serial T1  since 2026-11-21 08:00\n"),
            "{shown}"
        );
        assert!(
            shown
                .contains("main  sip:1001@pbx  registered  udp:192.0.2.1:5060  300 s    watch options / 61 s, 17 s ago  off  logged out  2 new      -\n"),
            "{shown}"
        );
        assert!(
            shown.contains(
                "active, muted, for 84957\u{fffd}[2J, sent on by 102, recording  1:01  opus/48000  4.21\n"
            ),
            "{shown}"
        );
        assert!(shown.contains("degraded: sound: no device; plug one in\n"), "{shown}");
        assert!(!shown.contains('\x1b'), "a display name reached the terminal");
    }

    #[test]
    fn a_way_that_nobody_keeps_is_told_by_nothing() {
        assert_eq!(kept(&json!({ "keep_alive": null, "heard_s": 3 })), "-");
        assert_eq!(kept(&json!({ "keep_alive": "crlf", "keep_alive_s": 8.2 })), "crlf / 8 s");
    }

    #[test]
    fn a_line_by_two_proxies_shows_both_of_its_flows() {
        let flow = |number: u8, state: &str, via: &str| json!({ "flow": number, "state": state, "via": via, "expires_s": 60, "keep_alive": "stun", "heard_s": number });
        let (one, two) =
            (flow(1, "retrying", "udp:192.0.2.1:5060"), flow(2, "registered", "udp:192.0.2.2:5060"));
        let line = |flows: Value| json!({ "name": "main", "aor": "sip:1001@pbx", "state": "registered", "flows": flows });
        let shown = lines(&[line(json!([one, two]))], Paint::none());
        let rows: Vec<Vec<&str>> = shown.lines().map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(rows.len(), 4, "{shown}");
        assert_eq!(
            rows[2][..7],
            ["flow", "1", "retrying", "udp:192.0.2.1:5060", "60", "s", "stun,"],
            "{shown}"
        );
        assert_eq!(rows[3][..4], ["flow", "2", "registered", "udp:192.0.2.2:5060"], "{shown}");
        assert_eq!(
            lines(&[line(json!([one]))], Paint::none()).lines().count(),
            2,
            "one flow is the line itself"
        );
    }

    #[test]
    fn a_mailbox_is_two_words() {
        let shown = |mailbox: Value| voicemail(&mailbox).0;
        assert_eq!(shown(Value::Null), "-");
        assert_eq!(shown(json!({ "waiting": true })), "waiting");
        assert_eq!(shown(json!({ "waiting": true, "new": 0, "old": 1 })), "waiting");
        assert_eq!(shown(json!({ "waiting": false, "new": 0, "old": 3 })), "3 old");
        assert_eq!(shown(json!({ "waiting": false, "new": 0, "old": 0 })), "none");
        let told = json!({
            "type": "tipring.voicemail.waiting", "sequence": "7", "time": "2026-11-21T08:00:01.123456Z",
            "data": { "line": "main", "waiting": true, "new": 2, "old": 0 },
        });
        assert_eq!(event(&told, Paint::none()), "08:00:01.123       7  voicemail.waiting   main  2 new\n");
    }

    #[test]
    fn an_event_is_one_line() {
        let told = event(
            &json!({
                "type": "tipring.call.ended", "sequence": "00000000000000000042", "subject": "c1",
                "time": "2026-11-21T08:00:01.123456Z",
                "data": { "line": "main", "direction": "out", "called": { "dialled": "600" },
                          "result": "busy", "cause": { "status": 486, "text": "Busy\nHere" }, "talk_us": 0 },
            }),
            Paint::none(),
        );
        assert_eq!(
            told,
            "08:00:01.123      42  call.ended          c1  main out  600  busy  486  Busy\u{fffd}Here\n"
        );
    }
}
