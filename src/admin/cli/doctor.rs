//! `tipring doctor`: what was found, worst first, and the facts behind it.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::table::{Mood, Paint, Table, clean};
use super::{DONE, FAILED, Terminal};

/// How much longer an answer may take than the lifetime that is looked for.
const ANSWERING: Duration = Duration::from_secs(40);
/// Calls that are shown.
const CALLS: usize = 5;

/// Asks a running appliance.
///
/// # Errors
/// [`ClientError`], as for every command; [`ClientError::Absent`] if there is none.
pub fn ask(client: &Client, lifetime_s: Option<u64>) -> Result<Value, ClientError> {
    let broken =
        |error: std::io::Error| ClientError::Broken(format!("the system refuses an event loop: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    let body = lifetime_s.map_or_else(|| json!({}), |lifetime_s| json!({ "lifetime_s": lifetime_s }));
    let within = ANSWERING + Duration::from_secs(lifetime_s.unwrap_or(0));
    let answer = runtime.block_on(client.post_within("/api/v1/doctor", &body, within));
    runtime.shutdown_background();
    answer
}

/// Prints a diagnosis; the exit code says whether all is well.
pub fn print(terminal: &Terminal, diagnosis: &Value) -> u8 {
    if let Err(error) = terminal.answer(diagnosis, || show(diagnosis, terminal.paint)) {
        return error.code();
    }
    if diagnosis["healthy"] == true { DONE } else { FAILED }
}

/// A diagnosis for people.
pub fn show(diagnosis: &Value, paint: Paint) -> String {
    let mut text = String::new();
    let found = diagnosis["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    for finding in found {
        let (word, mood) = match finding["severity"].as_str() {
            Some("error") => ("error  ", Mood::Bad),
            Some("warning") => ("warning", Mood::Fair),
            _ => ("note   ", Mood::Quiet),
        };
        let subject = finding["subject"].as_str().map(|subject| format!("{subject}: ")).unwrap_or_default();
        let what = clean(&format!("{subject}{}", said(&finding["what"])));
        text.push_str(&format!("{}  {what}\n", paint.text(mood, word)));
        text.push_str(&format!(
            "         {}\n",
            paint.text(Mood::Strong, &format!("→ {}", clean(&said(&finding["cure"]))))
        ));
    }
    if diagnosis["healthy"] == true {
        let well = "nothing stands between this device and its PBX";
        text.push_str(&format!("{}  {well}\n", paint.text(Mood::Good, "well   ")));
    }
    text.push('\n');
    text.push_str(&facts(&diagnosis["facts"], paint));
    text
}

fn said(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The facts as a table: what, how it is.
fn facts(facts: &Value, paint: Paint) -> String {
    let mut table = Table::default();
    let mut row =
        |name: &str, value: String| table.row(vec![(name.to_owned(), Some(Mood::Quiet)), (value, None)]);
    let network = &facts["network"];
    let nat = &network["nat"];
    row("clock", clock(&facts["clock"], &facts["time"]));
    row("address", place(network, facts));
    row("NAT", kind(nat));
    if nat.is_object() {
        row("idle mapping", lifetime(&nat["lifetime"]));
        row("public address", stability(nat, &network["watched"]));
    }
    row("routers", hops(network));
    row("DSCP", marks(network));
    for line in facts["lines"].as_array().into_iter().flatten() {
        row(&format!("line {}", said(&line["name"])), account(line));
        for way in line["ways"].as_array().into_iter().flatten() {
            row(&format!("  {}", said(&way["transport"])), registrar(way));
        }
    }
    for turn in facts["turn"].as_array().into_iter().flatten() {
        let ways = turn["ways"].as_array().into_iter().flatten();
        let ways: Vec<String> =
            ways.map(|way| format!("{} {}", said(&way["transport"]), word(&way["reached"]))).collect();
        let ways = if ways.is_empty() { said(&turn["lookup"]["what"]) } else { ways.join(", ") };
        row(&format!("TURN {}", said(&turn["server"])), ways);
    }
    for talk in facts["calls"].as_array().into_iter().flatten().take(CALLS) {
        row(&format!("call {}", said(&talk["call"])), heard(talk));
    }
    if facts["running"] != true {
        row("phone", "not running: from the configuration alone".to_owned());
    }
    table.text(paint)
}

fn clock(clock: &Value, time: &Value) -> String {
    let time = said(time).get(..19).unwrap_or_default().replace('T', " ");
    match (clock["set"].as_bool(), clock["ahead_s"].as_i64()) {
        (Some(false), _) => format!("{time} UTC, was never set"),
        (_, None) => format!("{time} UTC, nobody to compare it with"),
        (_, Some(0)) => format!("{time} UTC, as the PBX"),
        (_, Some(ahead)) => {
            format!("{time} UTC, {} s {} the PBX", ahead.abs(), if ahead > 0 { "ahead of" } else { "behind" })
        }
    }
}

fn place(network: &Value, facts: &Value) -> String {
    let own = network["own"].as_str().unwrap_or("unknown");
    let mapped = network["nat"]["mapped"].as_str().map(str::to_owned);
    let lines = facts["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    let seen = lines.iter().find_map(|line| {
        let reflection = &line["reflection"];
        reflection["seen_veiled"].as_str().or(reflection["seen"].as_str()).map(str::to_owned)
    });
    match mapped.or(seen) {
        Some(outside) => format!("{own}, seen outside as {outside}"),
        None => format!("{own}, nobody tells how it is seen outside"),
    }
}

/// The kind of NAT in the words of RFC 4787, with the old name that people know.
fn kind(nat: &Value) -> String {
    if !nat.is_object() {
        return "unknown: no STUN server to ask".to_owned();
    }
    let filtering = word(&nat["filtering"]);
    let hairpin = match nat["hairpin"].as_bool() {
        Some(true) => ", hairpins",
        Some(false) => ", does not hairpin",
        None => "",
    };
    match (nat["translated"].as_bool(), nat["mapping"].as_str()) {
        (None, _) => "unknown: no STUN server answers".to_owned(),
        (Some(false), _) => format!("none; incoming packets: {filtering}"),
        (Some(true), mapping) => {
            let known = match (mapping, nat["filtering"].as_str()) {
                (Some("endpoint_independent"), Some("endpoint_independent")) => " (full cone)",
                (Some("endpoint_independent"), Some("address_dependent")) => " (restricted cone)",
                (Some("endpoint_independent"), Some("address_and_port_dependent")) => {
                    " (port-restricted cone)"
                }
                (Some("address_dependent" | "address_and_port_dependent" | "peer_dependent"), _) => {
                    " (symmetric)"
                }
                _ => "",
            };
            format!("mapping {}, filtering {filtering}{known}{hairpin}", word(&nat["mapping"]))
        }
    }
}

/// A word of the JSON as people read it; `unknown` where there is none.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| "unknown".to_owned(), |word| word.replace('_', " "))
}

fn lifetime(lifetime: &Value) -> String {
    match (lifetime["alive_s"].as_u64(), lifetime["gone_s"].as_u64()) {
        (Some(alive), Some(gone)) => format!("lives {alive} s, is gone after {gone} s"),
        (Some(alive), None) => format!("lives {alive} s or longer"),
        (None, Some(gone)) => format!("is gone within {gone} s"),
        (None, None) => "not tested (--lifetime 60 does)".to_owned(),
    }
}

fn stability(nat: &Value, watched: &Value) -> String {
    let changed = watched["changes"].as_u64().map(|times| format!("; {times} changes since the phone runs"));
    let seen = match nat["stable"].as_bool() {
        Some(true) => "the same at the end as at the beginning".to_owned(),
        Some(false) => "changed while it was looked at".to_owned(),
        None => "unknown".to_owned(),
    };
    format!("{seen}{}", changed.unwrap_or_default())
}

fn hops(network: &Value) -> String {
    let hops: Vec<String> = network["hops"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|hop| hop.as_str().unwrap_or("?").to_owned())
        .collect();
    let shown = if hops.is_empty() { "none shows itself".to_owned() } else { hops.join(" → ") };
    let double = match network["double_nat"].as_bool() {
        Some(true) => "; two NATs",
        Some(false) => "; no second NAT",
        None => "; a second NAT can't be told",
    };
    format!("{shown}{double}")
}

fn marks(network: &Value) -> String {
    let received: Vec<String> =
        network["dscp_received"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    let came = if received.is_empty() {
        "no answer came".to_owned()
    } else {
        format!("answers came with {}", received.join(", "))
    };
    format!("{} is sent, {came}; whether ours is kept can't be seen from here", network["dscp_sent"])
}

fn account(line: &Value) -> String {
    if let Some(why) = line["lookup"]["what"].as_str() {
        return format!("{} can't be found: {why}", said(&line["destination"]));
    }
    let state = line["phone"]["state"].as_str().map(str::to_owned);
    let password = match line["password"].as_str() {
        Some("not_asked") | None => None,
        Some("not_needed") => Some("no password asked for".to_owned()),
        Some(password) => Some(format!("password {password}")),
    };
    let words: Vec<String> = state.into_iter().chain(password).collect();
    if words.is_empty() { said(&line["destination"]) } else { words.join(", ") }
}

fn registrar(way: &Value) -> String {
    let reached = match (way["reached"].as_str(), way["status"].as_u64()) {
        (Some("yes"), Some(status)) => format!("answers {status}"),
        (Some("silent"), _) => "does not answer".to_owned(),
        (Some("refused"), _) => "nobody listens".to_owned(),
        (Some("certificate" | "certificate_time"), _) => "certificate not believed".to_owned(),
        _ => word(&way["reached"]),
    };
    let aside = if way["configured"] == true { "" } else { " (not used)" };
    format!("{} {reached}{aside}", said(&way["address"]))
}

fn heard(talk: &Value) -> String {
    let or_nobody = |value: &Value| value.as_str().unwrap_or("nobody").to_owned();
    format!(
        "heard from {} (expected {}), {} packets sent, {} received, {} refused",
        or_nobody(&talk["source"]),
        or_nobody(&talk["expected"]),
        talk["packets_sent"],
        talk["packets_received"],
        talk["packets_refused"],
    )
}
