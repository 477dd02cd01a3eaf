//! From facts to findings: what is wrong, whose matter it is, and what to do next.

use serde::Serialize;

use super::{Facts, Line, Reached, Turn, TurnReached, Watched, Way, calls};
use crate::nat::discovery::{Dependence, Discovered};
use crate::phone::inspection::{SOON_US, date};

/// A clock that is wrong by no more than this, in seconds, harms nothing.
const CLOCK_TOLERANCE_S: i64 = 120;
/// A mapping that dies within so many seconds is shorter than what keeps ways open.
const SHORT_LIFETIME_S: u64 = 20;

/// A public address that changed so often, and once an hour or more, is restless.
const MOST_CHANGES: u32 = 3;
const HOUR_US: u64 = 3_600_000_000;
const RESTLESS: &str = "ask who runs the router or the provider; transport = \"tls\" suffers less from it";

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something works by luck, or not always.
    Warning,
    /// Good to know.
    Note,
}

/// Whose matter it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The configuration of this device.
    Configuration,
    /// This device itself.
    Device,
    /// The network between the two: router, firewall, provider.
    Network,
    /// The name servers, or what they were told.
    Dns,
    /// The PBX.
    Pbx,
    /// A STUN or TURN server.
    Server,
}

/// One thing that was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name for programs, in snake case.
    pub code: &'static str,
    /// The line, server or call that it is about; `None` for the device and its network as a whole.
    pub subject: Option<String>,
    /// Whose matter it is.
    pub blame: Blame,
    /// What is the matter, for people.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        code: &'static str,
        blame: Blame,
        what: String,
        cure: &str,
    ) -> Finding {
        Finding { severity, code, subject: None, blame, what, cure: cure.to_owned() }
    }

    pub(super) fn about(self, subject: &str) -> Finding {
        Finding { subject: Some(subject.to_owned()), ..self }
    }
}

/// What follows from the facts, the worst first.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    clock(facts, &mut found);
    udp(facts, &mut found);
    for line in &facts.lines {
        registrar(facts, line, &mut found);
        account(line, &mut found);
        way(line, &mut found);
    }
    network(facts, &mut found);
    for server in &facts.turn {
        relay(server, &mut found);
    }
    facts.calls.iter().for_each(|talk| found.extend(calls::finding(facts, talk)));
    crate::order::sort_by_key(&mut found, |finding| finding.severity);
    found
}

use Blame::{Configuration, Device, Dns, Network, Pbx, Server};
use Severity::{Error, Note, Warning};

fn clock(facts: &Facts, found: &mut Vec<Finding>) {
    if !facts.clock.set {
        let what = "the clock of this device was never set: no certificate can be checked".to_owned();
        found.push(Finding::new(Error, "clock", Device, what, SET_CLOCK));
    } else if let Some((ahead, server)) = wrong_by(facts) {
        let by = span(ahead.unsigned_abs());
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let what = format!("the clock of this device is {by} {side} that of {server}");
        let mut ways = facts.lines.iter().flat_map(|line| &line.ways);
        let harms = ways.any(|way| way.configured && way.reached == Reached::CertificateTime);
        let severity = if harms { Error } else { Warning };
        found.push(Finding::new(severity, "clock", Device, what, SET_CLOCK));
    }
}

const SET_CLOCK: &str = "let it reach a time server (NTP), or set it by hand";

/// By how much the clock is wrong, and by whose.
fn wrong_by(facts: &Facts) -> Option<(i64, &str)> {
    let ahead = facts.clock.ahead_s.filter(|ahead| ahead.abs() > CLOCK_TOLERANCE_S)?;
    Some((ahead, facts.clock.server.as_deref().unwrap_or("the PBX")))
}

/// A span as people say it.
fn span(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// Whether anything that goes by UDP gets through; `None` if nothing was tried, or nothing else gets through either.
fn udp_passes(facts: &Facts) -> Option<bool> {
    let ways = || facts.lines.iter().flat_map(|line| &line.ways);
    let stun = facts.network.nat.iter().flat_map(|nat| &nat.servers);
    let relays = || facts.turn.iter().flat_map(|turn| &turn.ways);
    let answers = ways().any(|way| is_udp(way) && matches!(way.reached, Reached::Yes | Reached::Refused))
        || stun.clone().any(|seen| seen.mapped.is_some() || seen.refused.is_some())
        || relays().any(|way| way.transport == "udp" && way.reached != TurnReached::No);
    if answers {
        return Some(true);
    }
    let tried = ways().any(is_udp) || stun.clone().next().is_some();
    let streams = ways()
        .any(|way| !is_udp(way) && way.reached != Reached::Silent && way.reached != Reached::Unreachable)
        || relays().any(|way| way.transport != "udp" && way.reached != TurnReached::No);
    (tried && streams).then_some(false)
}

fn is_udp(way: &Way) -> bool {
    way.transport == "udp"
}

fn udp(facts: &Facts, found: &mut Vec<Finding>) {
    if udp_passes(facts) != Some(false) {
        return;
    }
    let ways = || facts.lines.iter().flat_map(|line| &line.ways);
    let rejected = ways().any(|way| is_udp(way) && way.reached == Reached::Unreachable);
    let how = if rejected { "a router refuses it" } else { "nothing comes back" };
    let best = ways().find(|way| way.reached == Reached::Yes).map_or("tcp", |way| way.transport);
    let what = format!("UDP does not get out of this network ({how}), {best} does: no audio without it");
    let cure = format!(
        "open UDP in the router or firewall for SIP, STUN and RTP; until then register by transport = {best:?}, and \
         relay audio over TCP or TLS (TURN)"
    );
    found.push(Finding::new(Error, "udp_blocked", Network, what, &cure));
}

/// Whether the registrar of a line is found and answers.
fn registrar(facts: &Facts, line: &Line, found: &mut Vec<Finding>) {
    let name = &line.name;
    if let Some(lookup) = &line.lookup {
        let (code, blame) = match lookup.code {
            "no_such_name" => ("dns_no_such_name", Configuration),
            "no_address" => ("dns_no_address", Dns),
            "timeout" => ("dns_timeout", Dns),
            _ => ("dns_failed", Dns),
        };
        let (what, cure) = lookup.what.split_once("; ").unwrap_or((&lookup.what, "check the name servers"));
        let what = format!("{} can't be found: {what}", line.destination);
        found.push(Finding::new(Error, code, blame, what, cure).about(name));
        return;
    }
    let own = || line.ways.iter().filter(|way| way.configured);
    if own().any(|way| way.reached == Reached::Yes) {
        for way in own().filter(|way| way.reached != Reached::Yes) {
            found.push(failed(facts, way, Warning).about(name));
        }
        let soon = |until: &i64| facts.clock.set && until.saturating_sub(facts.clock.utc_us) < SOON_US;
        for (way, until) in
            own().filter_map(|way| Some((way, way.told.certificate_until_utc_us.filter(soon)?)))
        {
            let what = format!("the certificate of {} ends on {}", way.address, date(until));
            let cure = "have the PBX's certificate renewed";
            found.push(Finding::new(Warning, "certificate_ends", Pbx, what, cure).about(name));
        }
        return;
    }
    if let Some(way) = own().find(|way| is_told(way)) {
        found.push(failed(facts, way, Error).about(name));
        return;
    }
    let Some(first) = own().next() else { return };
    if let Some(other) = line.ways.iter().find(|way| !way.configured && way.reached == Reached::Yes) {
        // That UDP does not pass at all is told once, with what else follows from it.
        if udp_passes(facts) != Some(false) || !own().all(is_udp) {
            let what = format!(
                "the PBX does not answer over {} at {}, over {} at {} it does",
                first.transport, first.address, other.transport, other.address
            );
            let cure = format!(
                "write transport = {:?}, or have the firewalls and the PBX let {} through",
                other.transport, first.transport
            );
            found.push(Finding::new(Error, "transport_unreachable", Network, what, &cure).about(name));
        }
        return;
    }
    let at = first.address;
    if line.ways.iter().any(|way| way.reached == Reached::Refused) {
        let what = format!("the registrar is down: the host of {at} answers that nobody listens there");
        let cure = "start the PBX, or write the port that it listens at";
        found.push(Finding::new(Error, "registrar_down", Pbx, what, cure).about(name));
    } else if let Some(witness) = witness(facts, line) {
        let what = format!("the registrar is down: nothing answers at {at}, while {witness} answers");
        let cure = "check that the PBX runs and has this address, and the firewall before it";
        found.push(Finding::new(Error, "registrar_down", Pbx, what, cure).about(name));
    } else {
        let what = format!("the registrar does not answer at {at}, and nobody else does");
        let cure = "check cable, router and firewall of this network first, then whether the PBX runs";
        found.push(Finding::new(Error, "registrar_unreachable", Network, what, cure).about(name));
    }
}

/// Somebody else outside who answers: so the network works.
fn witness(facts: &Facts, but: &Line) -> Option<String> {
    let others = facts.lines.iter().filter(|line| line.name != but.name).flat_map(|line| &line.ways);
    let host = but.ways.first().map(|way| way.address.ip());
    let mut others = others.filter(|way| way.reached == Reached::Yes && Some(way.address.ip()) != host);
    let stun = || facts.network.nat.iter().flat_map(|nat| &nat.servers).find(|seen| seen.mapped.is_some());
    let relay = || facts.turn.iter().flat_map(|turn| &turn.ways).find(|way| way.reached != TurnReached::No);
    others
        .next()
        .map(|way| format!("the PBX at {}", way.address))
        .or_else(|| stun().map(|seen| format!("the STUN server at {}", seen.server)))
        .or_else(|| relay().map(|way| format!("the TURN server at {}", way.address)))
}

/// Whether the failure has a reason of its own to tell.
fn is_told(way: &Way) -> bool {
    matches!(way.reached, Reached::CertificateTime | Reached::Certificate | Reached::Failed)
}

/// One way that failed although the line may use it.
fn failed(facts: &Facts, way: &Way, severity: Severity) -> Finding {
    let place = format!("{} {}", way.address, way.transport);
    let (why, cure) = way
        .why
        .as_deref()
        .map_or(("", None), |why| why.split_once("; ").map_or((why, None), |(why, cure)| (why, Some(cure))));
    match way.reached {
        Reached::CertificateTime if wrong_by(facts).is_some() || !facts.clock.set => {
            let what = format!("{place} is not believed: {why}");
            Finding::new(severity, "clock", Device, what, SET_CLOCK)
        }
        Reached::CertificateTime if facts.clock.ahead_s.is_some() => {
            let what =
                format!("{place} is not believed: {why}; the clock of this device agrees with the PBX's");
            Finding::new(severity, "certificate", Pbx, what, "have the PBX's certificate renewed")
        }
        Reached::CertificateTime => {
            let what = format!("{place} is not believed: {why}");
            let cure = format!(
                "compare the clock of this device with the real time: it says {}; if it is right, have the PBX's \
                 certificate renewed",
                facts.time
            );
            Finding::new(severity, "clock_or_certificate", Device, what, &cure)
        }
        Reached::Certificate => {
            let what = format!("{place} is not believed: {why}");
            let cure = cure.unwrap_or("have the PBX's certificate made anew");
            Finding::new(severity, "certificate", Pbx, what, cure)
        }
        Reached::Failed => {
            let cure = cure.unwrap_or("look into the log of the PBX, and check the port");
            Finding::new(severity, "server_failed", Pbx, format!("{place} can't be used: {why}"), cure)
        }
        Reached::Refused => {
            let what = format!("nobody listens at {place}");
            Finding::new(
                severity,
                "server_unreachable",
                Pbx,
                what,
                "check that the PBX runs there, and its port",
            )
        }
        Reached::Silent | Reached::Unreachable | Reached::Yes => {
            let cure = "check that the PBX runs there, its port, and the firewalls on the way";
            Finding::new(severity, "server_unreachable", Network, format!("{place} does not answer"), cure)
        }
    }
}

/// What the registrar says to user and password, and how the running phone stands with it.
fn account(line: &Line, found: &mut Vec<Finding>) {
    let says = line.password_says.as_deref().unwrap_or_default();
    let (what, cure) =
        says.split_once("; ").unwrap_or((says, "check user, auth_user and password of the line"));
    let mut tell = |severity, code, blame, what: String, cure: &str| {
        found.push(Finding::new(severity, code, blame, what, cure).about(&line.name));
    };
    match line.password {
        "wrong" => tell(Error, "password", Configuration, what.to_owned(), cure),
        "missing" => {
            let what = "the registrar asks for a password and the line has none".to_owned();
            tell(Error, "password", Configuration, what, "add password or password_file");
        }
        "refused" => {
            let what = format!("the registrar does not want this user: {says}");
            tell(Error, "user_refused", Pbx, what, "check user and domain, or ask the PBX's administrator");
        }
        _ => {}
    }
    let answers = line.ways.iter().any(|way| way.configured && way.reached == Reached::Yes);
    if let Some(phone) =
        line.phone.as_ref().filter(|phone| phone.state == "retrying" || phone.state == "rejected")
        && answers
        && matches!(line.password, "right" | "not_needed")
    {
        let reason = phone.reason.as_deref().unwrap_or("no reason known");
        let what = format!("the registrar answers now, but the phone is not registered: {reason}");
        let cure = format!("tipring line {} register", line.name);
        tell(Warning, "not_registered", Device, what, &cure);
    }
    if line.keys_in_clear {
        let what =
            "audio is encrypted, but its keys travel in clear: anybody on the way can listen".to_owned();
        tell(Warning, "keys_in_clear", Configuration, what, "write transport = \"tls\"");
    }
}

/// What somebody on the way does to the line's messages.
fn way(line: &Line, found: &mut Vec<Finding>) {
    let Some(reflection) = line.reflection.as_ref().filter(|reflection| reflection.is_rewritten()) else {
        return;
    };
    let shown = |address: Option<std::net::SocketAddr>| {
        address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string())
    };
    let sent = reflection.sent.to_string();
    let what = match &reflection.returned {
        Some(returned) if *returned != sent => {
            format!(
                "a router on the way rewrites SIP (SIP ALG): Via left as {sent} and came back as {returned}"
            )
        }
        _ => format!(
            "a router on the way rewrites SIP (SIP ALG): the PBX saw {}, and its answer was changed to say {}",
            shown(reflection.seen_veiled),
            shown(reflection.seen)
        ),
    };
    let cure = "switch off SIP ALG (\"SIP helper\", \"SIP passthrough\") in the router; or write transport = \"tls\", or \
                another port of the PBX than 5060";
    found.push(Finding::new(Warning, "sip_alg", Network, what, cure).about(&line.name));
}

/// Whether the outside port depends on who is spoken to.
pub(super) fn is_symmetric(facts: &Facts, nat: &Discovered) -> bool {
    if nat.mapping.is_some_and(|mapping| mapping != Dependence::EndpointIndependent) {
        return true;
    }
    // The registrar saw the same socket as the STUN server.
    let seen = facts.lines.iter().filter_map(|line| line.reflection.as_ref()?.outside());
    nat.translated == Some(true)
        && seen.into_iter().any(|seen| nat.mapped.is_some_and(|mapped| mapped != seen))
}

fn network(facts: &Facts, found: &mut Vec<Finding>) {
    let network = &facts.network;
    for (server, why) in &network.unresolved {
        let (why, cure) = why.split_once("; ").unwrap_or((why, "check stun of [line.nat]"));
        let what = format!("the STUN server can't be found: {why}");
        let cure = if cure.contains("domain or registrar") { "check stun of [line.nat]" } else { cure };
        found.push(Finding::new(Warning, "stun_unresolved", Configuration, what, cure).about(server));
    }
    if let Some(nat) = &network.nat {
        stun(facts, nat, found);
    }
    let often = |watched: &Watched| {
        watched.changes >= MOST_CHANGES && u64::from(watched.changes) * HOUR_US >= watched.for_us
    };
    if let Some(watched) = network.watched.filter(often) {
        let hours = span(watched.for_us / 1_000_000);
        let what = format!("the public address or port changed {} times within {hours}", watched.changes);
        found.push(Finding::new(Warning, "public_address_unstable", Network, what, RESTLESS));
    }
    let translated = network.nat.as_ref().and_then(|nat| nat.translated);
    if network.double_nat == Some(true) && translated != Some(false) {
        let what = "there is a NAT of the provider behind that of the office".to_owned();
        let cure = "nothing while calls work; forwarded ports do not help here, a public address from the provider does";
        found.push(Finding::new(Note, "double_nat", Network, what, cure));
    }
    let behind = |line: &Line| {
        let seen = line.reflection.as_ref();
        seen.is_some_and(|seen| seen.outside().is_some_and(|outside| outside.ip() != seen.sent.ip()))
    };
    if network.nat.is_none() && network.unresolved.is_empty() && facts.lines.iter().any(behind) {
        let what = "there is a NAT, and no STUN server to ask about it".to_owned();
        let cure = "write stun = [\"HOST\"] into [line.nat]: a changed public address is noticed sooner then";
        found.push(Finding::new(Note, "no_stun", Configuration, what, cure));
    }
}

fn stun(facts: &Facts, nat: &Discovered, found: &mut Vec<Finding>) {
    for seen in nat.servers.iter().filter(|seen| seen.mapped.is_none() && udp_passes(facts) != Some(false)) {
        let what = match seen.refused {
            Some(code) => format!("the STUN server refuses to answer ({code})"),
            None => "the STUN server does not answer".to_owned(),
        };
        let cure = "name another one in stun of [line.nat], or open UDP to it";
        found.push(Finding::new(Warning, "stun_silent", Server, what, cure).about(&seen.server.to_string()));
    }
    if nat.stable == Some(false) {
        let what = "the public address or port changed while it was looked at".to_owned();
        found.push(Finding::new(Warning, "public_address_unstable", Network, what, RESTLESS));
    }
    let mapped = nat.servers.iter().filter_map(|seen| seen.mapped);
    let addresses: std::collections::BTreeSet<_> = crate::order::gathered(mapped.map(|mapped| mapped.ip()));
    if addresses.len() > 1 {
        let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let what = format!("this device has several public addresses at once: {}", shown.join(", "));
        let cure = "have the router use one address for one device (RFC 4787 REQ-2)";
        found.push(Finding::new(Warning, "several_public_addresses", Network, what, cure));
    }
    if let Some(gone) =
        nat.lifetime.and_then(|lifetime| lifetime.gone_s).filter(|gone| *gone <= SHORT_LIFETIME_S)
    {
        let what = format!("the NAT forgets an idle mapping within {gone} s");
        let cure = "have the router keep UDP mappings for 60 s or more, or write transport = \"tls\"";
        found.push(Finding::new(Warning, "short_mapping", Network, what, cure));
    }
    if !is_symmetric(facts, nat) {
        return;
    }
    let relayed = facts.turn.iter().any(|turn| turn.ways.iter().any(|way| way.reached == TurnReached::Yes));
    let depends = facts.lines.iter().any(|line| line.stun || line.ice);
    let what = "the NAT gives this device another port for every peer (symmetric): the address that STUN tells is good \
                for nobody else"
        .to_owned();
    if !relayed {
        let severity = if depends { Warning } else { Note };
        let cure = "name a TURN server in [[line.nat.turn]], best with ice = true; a PBX that answers audio where it came \
                    from (symmetric RTP) is heard without";
        found.push(Finding::new(severity, "symmetric_nat", Network, what, cure));
    }
}

fn relay(server: &Turn, found: &mut Vec<Finding>) {
    let mut tell = |severity, code, blame, what: String, cure: &str| {
        found.push(Finding::new(severity, code, blame, what, cure).about(&server.server));
    };
    if let Some(lookup) = server.lookup.as_ref().filter(|_| !server.ways.iter().any(|way| way.configured)) {
        let what = lookup.what.split_once("; ").map_or(lookup.what.as_str(), |(what, _)| what);
        return tell(
            Error,
            "turn_unresolved",
            Configuration,
            format!("the TURN server can't be found: {what}"),
            "check url of [[line.nat.turn]]",
        );
    }
    let with = |reached| server.ways.iter().find(|way| way.reached == reached);
    let configured = server.ways.iter().find(|way| way.configured);
    if with(TurnReached::Unauthorized).is_some() {
        let what = "the TURN server does not take user name or password".to_owned();
        return tell(
            Error,
            "turn_password",
            Configuration,
            what,
            "check username and password of [[line.nat.turn]]",
        );
    }
    if server.ways.iter().any(|way| way.configured && way.reached == TurnReached::Yes) {
        return;
    }
    let why = configured.and_then(|way| way.why.clone()).unwrap_or_else(|| "it does not answer".to_owned());
    match with(TurnReached::Yes) {
        Some(other) => {
            let over = configured.map_or("udp", |way| way.transport);
            let what =
                format!("the TURN server is not reached over {over} ({why}), over {} it is", other.transport);
            let uri = match other.transport {
                "tls" => format!("turns:{}:{}", server.server, other.address.port()),
                "tcp" => format!("turn:{}:{}?transport=tcp", server.server, other.address.port()),
                _ => format!("turn:{}:{}", server.server, other.address.port()),
            };
            let cure = format!("add {uri:?} to its url, which may be a list");
            tell(Warning, "turn_other_way", Network, what, &cure);
        }
        None if with(TurnReached::Refused).is_some() => {
            let what = format!("the TURN server gives no relay: {why}");
            tell(Error, "turn_refused", Server, what, "ask who runs it: quota, or relaying is switched off");
        }
        None => {
            let cure = "check its address and port, that it runs, and the firewalls on the way";
            tell(Error, "turn_unreachable", Server, format!("the TURN server is not reached: {why}"), cure);
        }
    }
}
