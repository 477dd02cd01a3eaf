//! Facts and what follows from them: a table of faults, each by its name, whose matter it is, and the step that helps.

use super::*;
use crate::nat::discovery::{Dependence, Lifetime, Seen};
use serde_json::json;

/// 2026-11-21T08:00:00Z.
const NOW_US: i64 = 1_795_248_000_000_000;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn way(transport: &'static str, configured: bool, reached: Reached) -> Way {
    let port = if transport == "tls" { 5061 } else { 5060 };
    let status = (reached == Reached::Yes).then_some(200);
    let address = SocketAddr::new("203.0.113.10".parse().unwrap(), port);
    let told = Registrar { status, certificate_until_utc_us: None };
    Way { transport, configured, address, reached, why: None, told }
}

fn nat(mapping: Dependence) -> Discovered {
    let mapped = Some(at("203.0.113.101:40000"));
    let seen = Seen {
        server: at("203.0.113.11:3478"),
        mapped,
        refused: None,
        has_other_address: true,
        round_trip_us: Some(2_000),
    };
    Discovered {
        own: at("192.168.1.10:40000"),
        servers: vec![seen],
        mapped,
        translated: Some(true),
        mapping: Some(mapping),
        filtering: Some(Dependence::AddressAndPortDependent),
        hairpin: Some(false),
        stable: Some(true),
        lifetime: None,
    }
}

fn reflection() -> Reflection {
    let outside = Some(at("203.0.113.101:40000"));
    let sent = at("192.168.1.10:40000");
    Reflection { sent, returned: Some(sent.to_string()), seen: outside, seen_veiled: outside }
}

fn relay(reached: [TurnReached; 3]) -> Turn {
    let ways = ["udp", "tcp", "tls"].into_iter().zip(reached).map(|(transport, reached)| TurnWay {
        transport,
        configured: transport == "udp",
        address: at("203.0.113.11:3478"),
        reached,
        why: None,
        told: Relaying::default(),
    });
    Turn { server: "203.0.113.11".into(), lookup: None, ways: ways.collect() }
}

/// A phone behind a port-restricted NAT with which all is well.
fn well() -> Facts {
    let phone = LineState {
        state: "registered".into(),
        reason: None,
        via: Some("udp:203.0.113.10:5060".into()),
        keep_alive: Some("watch options".into()),
    };
    let line = Line {
        name: "main".into(),
        destination: "pbx.example".into(),
        ways: vec![way("udp", true, Reached::Yes), way("tcp", false, Reached::Silent)],
        password: "right",
        reflection: Some(reflection()),
        stun: true,
        phone: Some(phone),
        ..Line::default()
    };
    Facts {
        time: "2026-11-21T08:00:00.000000Z".into(),
        running: true,
        clock: Clock {
            utc_us: NOW_US,
            set: true,
            ahead_s: Some(1),
            server: Some("203.0.113.10:5060".into()),
        },
        network: Surroundings {
            own: "192.168.1.10".parse().ok(),
            nat: Some(nat(Dependence::EndpointIndependent)),
            double_nat: Some(false),
            ..Surroundings::default()
        },
        lines: vec![line],
        ..Facts::default()
    }
}

fn talk() -> Talk {
    Talk {
        call: "c1".into(),
        line: "main".into(),
        talk_us: 10_000_000,
        advertised: Some(at("192.168.1.10:10000")),
        expected: Some(at("203.0.113.10:12000")),
        source: Some(at("203.0.113.10:12000")),
        packets_sent: 500,
        packets_received: 500,
        ..Talk::default()
    }
}

/// Severity and code of each finding.
fn found(facts: &Facts) -> Vec<String> {
    findings(facts).iter().map(|it| format!("{:?} {}", it.severity, it.code).to_lowercase()).collect()
}

/// What a fault does to the facts; what is found then; whose matter it is; words of it and of its cure.
type Fault = (&'static str, fn(&mut Facts), &'static [&'static str], Blame, &'static [&'static str]);

fn ways(facts: &mut Facts, ways: &[(&'static str, bool, Reached)]) {
    facts.lines[0].ways =
        ways.iter().map(|(transport, own, reached)| way(transport, *own, *reached)).collect();
    facts.lines[0].reflection = None;
}

fn unheard(facts: &mut Facts, change: fn(&mut Talk)) {
    let mut talk = Talk { packets_received: 0, source: None, ..talk() };
    change(&mut talk);
    facts.calls.push(talk);
}

const FAULTS: &[Fault] = &[
    ("no clock", |it| it.clock.set = false, &["error clock"], Blame::Device, &["never set", "NTP"]),
    (
        "clock ahead",
        |it| it.clock.ahead_s = Some(3 * 3_600),
        &["warning clock"],
        Blame::Device,
        &["3 hours ahead of", "203.0.113.10:5060"],
    ),
    (
        "no such name",
        |it| {
            ways(it, &[]);
            it.lines[0].lookup = Some((&LookupError::NoSuchName).into());
        },
        &["error dns_no_such_name"],
        Blame::Configuration,
        &["pbx.example can't be found", "does not exist", "check the domain"],
    ),
    (
        "no name server",
        |it| {
            ways(it, &[]);
            it.lines[0].lookup = Some((&LookupError::Timeout).into());
        },
        &["error dns_timeout"],
        Blame::Dns,
        &["no name server answered", "check the network and its DNS"],
    ),
    (
        "UDP blocked",
        |it| {
            ways(it, &[("udp", true, Reached::Silent), ("tcp", false, Reached::Yes)]);
            it.network.nat.as_mut().unwrap().servers[0].mapped = None;
        },
        &["error udp_blocked"],
        Blame::Network,
        &["nothing comes back", "tcp does", "transport = \"tcp\""],
    ),
    (
        "UDP rejected, TCP in use",
        |it| {
            ways(it, &[("tcp", true, Reached::Yes), ("udp", false, Reached::Unreachable)]);
            it.network.nat = None;
        },
        &["error udp_blocked"],
        Blame::Network,
        &["a router refuses it"],
    ),
    (
        "the PBX has no UDP",
        |it| ways(it, &[("udp", true, Reached::Silent), ("tcp", false, Reached::Yes)]),
        &["error transport_unreachable"],
        Blame::Network,
        &["not answer over udp", "over tcp", "transport = \"tcp\""],
    ),
    (
        "PBX down, host up",
        |it| ways(it, &[("udp", true, Reached::Refused), ("tcp", false, Reached::Refused)]),
        &["error registrar_down"],
        Blame::Pbx,
        &["nobody listens", "start the PBX"],
    ),
    (
        "PBX gone",
        |it| ways(it, &[("udp", true, Reached::Silent), ("tcp", false, Reached::Silent)]),
        &["error registrar_down"],
        Blame::Pbx,
        &["while the STUN server at 203.0.113.11:3478 answers"],
    ),
    (
        "nothing answers",
        |it| {
            ways(it, &[("udp", true, Reached::Silent), ("tcp", false, Reached::Silent)]);
            it.network.nat = None;
        },
        &["error registrar_unreachable"],
        Blame::Network,
        &["nobody else does", "cable"],
    ),
    (
        "one of two servers",
        |it| it.lines[0].ways.push(way("udp", true, Reached::Silent)),
        &["warning server_unreachable"],
        Blame::Network,
        &["203.0.113.10:5060 udp does not answer"],
    ),
    (
        "wrong password",
        |it| {
            it.lines[0].password = "wrong";
            it.lines[0].password_says = Some("the server refuses it; check auth_user".into());
        },
        &["error password"],
        Blame::Configuration,
        &["the server refuses it", "check auth_user"],
    ),
    (
        "unknown user",
        |it| {
            it.lines[0].password = "refused";
            it.lines[0].password_says = Some("404 Not Found".into());
        },
        &["error user_refused"],
        Blame::Pbx,
        &["404 Not Found"],
    ),
    (
        "not registered",
        |it| {
            let phone = it.lines[0].phone.as_mut().unwrap();
            (phone.state, phone.reason) = ("retrying".into(), Some("the server did not answer".into()));
        },
        &["warning not_registered"],
        Blame::Device,
        &["did not answer", "tipring line main register"],
    ),
    (
        "SIP ALG that restores",
        |it| it.lines[0].reflection.as_mut().unwrap().seen = Some(at("192.168.1.10:40000")),
        &["warning sip_alg"],
        Blame::Network,
        &[
            "the PBX saw 203.0.113.101:40000",
            "to say 192.168.1.10:40000",
            "switch off SIP ALG",
            "tls",
            "another port",
        ],
    ),
    (
        "SIP ALG that does not",
        |it| it.lines[0].reflection.as_mut().unwrap().returned = Some("203.0.113.101:40000".into()),
        &["warning sip_alg"],
        Blame::Network,
        &["left as 192.168.1.10:40000 and came back as 203.0.113.101:40000"],
    ),
    (
        "keys in clear",
        |it| it.lines[0].keys_in_clear = true,
        &["warning keys_in_clear"],
        Blame::Configuration,
        &["anybody on the way can listen", "tls"],
    ),
    (
        "symmetric NAT",
        |it| it.network.nat = Some(nat(Dependence::AddressAndPortDependent)),
        &["warning symmetric_nat"],
        Blame::Network,
        &["another port for every peer", "[[line.nat.turn]]"],
    ),
    (
        "symmetric NAT that only the registrar shows",
        |it| {
            it.network.nat.as_mut().unwrap().mapping = None;
            let reflection = it.lines[0].reflection.as_mut().unwrap();
            reflection.seen = Some(at("203.0.113.101:51000"));
            reflection.seen_veiled = reflection.seen;
        },
        &["warning symmetric_nat"],
        Blame::Network,
        &[],
    ),
    (
        "symmetric NAT that nothing depends on",
        |it| {
            it.network.nat = Some(nat(Dependence::AddressDependent));
            it.lines[0].stun = false;
        },
        &["note symmetric_nat"],
        Blame::Network,
        &[],
    ),
    (
        "two NATs",
        |it| it.network.double_nat = Some(true),
        &["note double_nat"],
        Blame::Network,
        &["NAT of the provider"],
    ),
    (
        "short memory",
        |it| {
            let lifetime = Lifetime { alive_s: Some(10), gone_s: Some(15) };
            it.network.nat.as_mut().unwrap().lifetime = Some(lifetime);
        },
        &["warning short_mapping"],
        Blame::Network,
        &["within 15 s"],
    ),
    (
        "restless address",
        |it| it.network.nat.as_mut().unwrap().stable = Some(false),
        &["warning public_address_unstable"],
        Blame::Network,
        &["changed while"],
    ),
    (
        "address that changes every ten minutes",
        |it| {
            let address = at("203.0.113.101:40000");
            it.network.watched = Some(Watched { address, changes: 12, for_us: 2 * 3_600_000_000 });
        },
        &["warning public_address_unstable"],
        Blame::Network,
        &["12 times within 2 hours"],
    ),
    (
        "certificate that ends",
        |it| {
            ways(it, &[("tls", true, Reached::Yes)]);
            it.lines[0].ways[0].told.certificate_until_utc_us = Some(NOW_US + 5 * 86_400_000_000);
        },
        &["warning certificate_ends"],
        Blame::Pbx,
        &["203.0.113.10:5061 ends on 2026-11-26"],
    ),
    (
        "two addresses",
        |it| {
            let servers = &mut it.network.nat.as_mut().unwrap().servers;
            let other = Seen { mapped: Some(at("203.0.113.102:40000")), ..servers[0].clone() };
            servers.push(other);
        },
        &["warning several_public_addresses"],
        Blame::Network,
        &["203.0.113.101, 203.0.113.102"],
    ),
    (
        "silent STUN server",
        |it| it.network.nat.as_mut().unwrap().servers[0].mapped = None,
        &["warning stun_silent"],
        Blame::Server,
        &["does not answer", "stun of [line.nat]"],
    ),
    (
        "unknown STUN server",
        |it| it.network.unresolved.push(("stun.example".into(), LookupError::NoSuchName.to_string())),
        &["warning stun_unresolved"],
        Blame::Configuration,
        &["does not exist", "check stun of [line.nat]"],
    ),
    ("no STUN server", |it| it.network.nat = None, &["note no_stun"], Blame::Configuration, &["stun = "]),
    (
        "wrong password at the relay",
        |it| it.turn.push(relay([TurnReached::Unauthorized; 3])),
        &["error turn_password"],
        Blame::Configuration,
        &["user name or password", "[[line.nat.turn]]"],
    ),
    (
        "relay over TLS alone",
        |it| it.turn.push(relay([TurnReached::No, TurnReached::No, TurnReached::Yes])),
        &["warning turn_other_way"],
        Blame::Network,
        &["not reached over udp", "over tls it is", "turns:203.0.113.11:3478"],
    ),
    (
        "relay is full",
        |it| it.turn.push(relay([TurnReached::Refused; 3])),
        &["error turn_refused"],
        Blame::Server,
        &["gives no relay"],
    ),
    (
        "relay is gone",
        |it| it.turn.push(relay([TurnReached::No; 3])),
        &["error turn_unreachable"],
        Blame::Server,
        &["not reached"],
    ),
    (
        "our SDP is private",
        |it| unheard(it, |_| {}),
        &["warning audio_own_private"],
        Blame::Configuration,
        &["192.168.1.10:10000", "stun =", "rtp_symmetric"],
    ),
    (
        "their SDP is private",
        |it| unheard(it, |talk| talk.expected = Some(at("10.0.0.5:4000"))),
        &["warning audio_far_private"],
        Blame::Pbx,
        &["10.0.0.5:4000", "direct media off"],
    ),
    (
        "audio from elsewhere",
        |it| unheard(it, |talk| talk.packets_refused = 480),
        &["warning audio_refused"],
        Blame::Pbx,
        &["480 packets", "203.0.113.10:12000"],
    ),
    (
        "audio with other keys",
        |it| {
            unheard(it, |talk| {
                talk.packets_refused = 480;
                talk.unauthentic = true;
            });
        },
        &["warning audio_unauthentic"],
        Blame::Pbx,
        &["SRTP"],
    ),
    (
        "nothing came",
        |it| unheard(it, |talk| talk.advertised = Some(at("203.0.113.101:40010"))),
        &["warning audio_nothing_came"],
        Blame::Network,
        &["no packet came from 203.0.113.10:12000", "500 were sent"],
    ),
    (
        "they heard nothing",
        |it| it.calls.push(Talk { remote_loss_percent: Some(100.0), ..talk() }),
        &["warning audio_not_heard"],
        Blame::Network,
        &["500 packets of ours are lost"],
    ),
];

#[test]
fn every_fault_has_its_name_its_blame_and_its_cure() {
    for (name, fault, expected, blame, words) in FAULTS {
        let mut facts = well();
        fault(&mut facts);
        let findings = findings(&facts);
        assert_eq!(found(&facts), *expected, "{name}: {findings:#?}");
        let first = &findings[0];
        assert_eq!(first.blame, *blame, "{name}: {first:?}");
        let text = format!("{}; {}", first.what, first.cure);
        for word in *words {
            assert!(text.contains(word), "{name}: {word:?} is not in {text}");
        }
        assert!(!first.cure.is_empty() && !first.what.ends_with('.'), "{name}: {text}");
        let well = expected.iter().all(|it| it.starts_with("note"));
        assert_eq!(Diagnosis::of(facts).healthy, well, "{name}");
    }
}

#[test]
fn where_all_is_well_nothing_is_found() {
    let mut facts = well();
    facts.calls.push(talk());
    assert_eq!(found(&facts), [""; 0]);
    // Too short to tell, or under ICE, where SDP's address is not the one in use.
    unheard(&mut facts, |talk| talk.talk_us = 1_000_000);
    assert_eq!(found(&facts), [""; 0]);
    // A relay makes up for a symmetric NAT.
    facts.network.nat = Some(nat(Dependence::AddressAndPortDependent));
    facts.turn.push(relay([TurnReached::Yes, TurnReached::Yes, TurnReached::No]));
    assert_eq!(found(&facts), [""; 0]);
    // Once a night is what providers do.
    let address = at("203.0.113.101:40000");
    facts.network.watched = Some(Watched { address, changes: 7, for_us: 7 * 86_400_000_000 });
    assert_eq!(found(&facts), [""; 0]);
    // A PBX in the same network.
    facts.network.nat.as_mut().unwrap().translated = Some(false);
    facts.network.nat.as_mut().unwrap().mapping = None;
    facts.network.double_nat = Some(true);
    assert_eq!(found(&facts), [""; 0]);
    assert!(Diagnosis::of(facts).healthy);
}

#[test]
fn the_worst_comes_first() {
    let mut facts = well();
    facts.network.double_nat = Some(true);
    facts.lines[0].keys_in_clear = true;
    facts.lines[0].password = "missing";
    assert_eq!(found(&facts), ["error password", "warning keys_in_clear", "note double_nat"]);
}

#[test]
fn a_certificate_is_blamed_as_far_as_the_clocks_tell() {
    let why =
        "the certificate of pbx is good from 2090-01-01 on; set the clock of this device, it says 2026-11-21";
    let told = |change: fn(&mut Clock)| {
        let mut facts = well();
        ways(&mut facts, &[("tls", true, reached(Some(why)))]);
        facts.lines[0].ways[0].why = Some(why.into());
        change(&mut facts.clock);
        found(&facts)
    };
    assert_eq!(told(|_| {}), ["error certificate"]);
    assert_eq!(told(|clock| clock.ahead_s = None), ["error clock_or_certificate"]);
    assert_eq!(told(|clock| clock.ahead_s = Some(-864_000)), ["error clock", "error clock"]);
}

#[test]
fn the_words_of_the_machine_are_understood() {
    for (why, expected) in [
        (None, Reached::Silent),
        (Some("Connection refused (os error 111)"), Reached::Refused),
        (Some("No route to host (os error 113)"), Reached::Unreachable),
        (Some("Network is unreachable (os error 101)"), Reached::Unreachable),
        (Some("no answer to the connection"), Reached::Silent),
        (Some("the certificate of pbx ended on 2020-01-01; have it renewed"), Reached::CertificateTime),
        (Some("the certificate of pbx can't be checked: the clock of this"), Reached::CertificateTime),
        (Some("the certificate of pbx is signed by nobody who is known"), Reached::Certificate),
        (Some("the certificate is not for pbx but for other"), Reached::Certificate),
        (Some("what answers at pbx does not speak TLS; write the port"), Reached::Failed),
    ] {
        assert_eq!(reached(why), expected, "{why:?}");
    }
}

#[test]
fn a_second_nat_is_seen_by_the_addresses_that_only_providers_have() {
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let home = ip("192.168.1.10");
    for (own, hops, translated, expected) in [
        (home, vec![ip("192.168.1.1"), ip("100.64.0.1")], Some(true), Some(true)),
        (ip("100.72.3.4"), vec![], Some(true), Some(true)),
        (home, vec![ip("192.168.1.1"), ip("198.51.100.1")], Some(true), Some(false)),
        (home, vec![ip("192.168.1.1"), ip("10.0.0.1"), ip("198.51.100.1")], Some(true), None),
        (home, vec![ip("192.168.1.1"), None, ip("198.51.100.1")], Some(true), None),
        (home, vec![], None, None),
        (ip("203.0.113.5"), vec![ip("100.64.0.1")], Some(false), Some(false)),
    ] {
        assert_eq!(double_nat(own, &hops, translated), expected, "{own:?} {hops:?}");
    }
}

#[test]
fn programs_find_the_same_names_for_ever() {
    let mut facts = well();
    facts.calls.push(talk());
    facts.turn.push(relay([TurnReached::Unauthorized; 3]));
    let told = serde_json::to_value(Diagnosis::of(facts)).unwrap();
    let finding = &told["findings"][0];
    assert_eq!(told["healthy"], false);
    assert_eq!(
        finding,
        &json!({
            "severity": "error",
            "code": "turn_password",
            "subject": "203.0.113.11",
            "blame": "configuration",
            "what": "the TURN server does not take user name or password",
            "cure": "check username and password of [[line.nat.turn]]",
        })
    );
    let facts = &told["facts"];
    assert_eq!(facts["network"]["nat"]["filtering"], "address_and_port_dependent");
    assert_eq!(facts["lines"][0]["ways"][0]["reached"], "yes");
    assert_eq!(facts["lines"][0]["reflection"]["seen"], "203.0.113.101:40000");
    assert_eq!(facts["turn"][0]["ways"][0]["reached"], "unauthorized");
    assert_eq!(facts["calls"][0]["source"], "203.0.113.10:12000");
    assert_eq!(
        facts["clock"],
        json!({ "utc_us": NOW_US, "set": true, "ahead_s": 1, "server": "203.0.113.10:5060" })
    );
}
