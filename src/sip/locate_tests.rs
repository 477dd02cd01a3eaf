//! Look-ups with name servers from a table, in virtual time.

use super::*;
use crate::sip::uri::Uri;

const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

/// A locator with its name servers.
struct Stage {
    locator: Locator,
    now: Now,
    names: BTreeMap<Question, Result<Vec<RecordData>, LookupError>>,
    asked: Vec<Question>,
    silent: bool,
    ttl: u32,
    websocket: Option<Authority>,
}

impl Stage {
    fn new(names: &[(Question, Vec<RecordData>)]) -> Stage {
        Stage {
            locator: Locator::new(Families { v4: true, v6: true }, Chance::from_number(3)),
            now: Now { mono_us: 1, utc_us: 0 },
            names: names.iter().map(|(question, records)| (question.clone(), Ok(records.clone()))).collect(),
            asked: Vec::new(),
            silent: false,
            ttl: 60,
            websocket: None,
        }
    }

    fn find(&mut self, uri: &str, transports: &[Transport]) -> Result<Vec<Target>, LookupError> {
        let Ok(Uri::Sip(uri)) = Uri::parse(uri) else { panic!("no SIP URI: {uri}") };
        let destination = Destination::of(&uri, transports).with_websocket(self.websocket.as_ref());
        match self.locator.locate(self.now, &destination) {
            Located::Here(targets) => return Ok(targets),
            Located::Busy => panic!("busy"),
            Located::Soon => {}
        }
        while let Some(Output::Query { query, question, .. }) = self.locator.poll_output() {
            self.asked.push(question.clone());
            if self.silent {
                continue;
            }
            let result = match self.names.get(&question) {
                Some(Ok(records)) => {
                    let ttl = self.ttl;
                    Ok(records.iter().map(|data| Record { data: data.clone(), ttl }).collect())
                }
                Some(Err(error)) => Err(error.clone()),
                None => Ok(Vec::new()),
            };
            self.locator.handle_answer(self.now, query, result);
        }
        while let Some(deadline) = self.locator.poll_timeout() {
            self.now.mono_us = deadline;
            self.locator.handle_timeout(self.now);
        }
        let (of, result) = self.locator.poll_result().expect("a result");
        assert_eq!(of, destination);
        result
    }

    fn texts(&mut self, uri: &str, transports: &[Transport]) -> Vec<String> {
        let targets = self.find(uri, transports).unwrap();
        targets.iter().map(|target| format!("{} {}", target.transport, target.remote)).collect()
    }
}

fn naptr(order: u16, service: &str, replacement: &str) -> RecordData {
    RecordData::Naptr {
        order,
        preference: 10,
        flags: "s".into(),
        service: service.into(),
        replacement: replacement.into(),
    }
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RecordData {
    RecordData::Srv { priority, weight, port, target: target.into() }
}

fn address(text: &str) -> RecordData {
    RecordData::Address(text.parse().unwrap())
}

#[test]
fn numbers_need_no_name_server() {
    let mut stage = Stage::new(&[]);
    assert_eq!(stage.texts("sip:1@192.0.2.1", &[Transport::Udp]), ["udp 192.0.2.1:5060"]);
    assert_eq!(stage.texts("sip:1@192.0.2.1:5080;transport=tcp", &ALL), ["tcp 192.0.2.1:5080"]);
    assert_eq!(stage.texts("sips:1@[2001:db8::1]", &ALL), ["tls [2001:db8::1]:5061"]);
    assert_eq!(stage.texts("sip:1@192.0.2.1;transport=sctp", &[Transport::Udp]), ["udp 192.0.2.1:5060"]);
    assert_eq!(stage.texts("sip:1@pbx.example;maddr=192.0.2.9", &[Transport::Udp]), ["udp 192.0.2.9:5060"]);
    assert_eq!(stage.texts("sip:1@192.0.2.1", &[]), ["udp 192.0.2.1:5060"]);
    assert!(stage.asked.is_empty());
}

#[test]
fn a_port_means_addresses_only() {
    let mut stage = Stage::new(&[
        (Question::A("pbx.example".into()), vec![address("192.0.2.1")]),
        (Question::Aaaa("pbx.example".into()), vec![address("2001:db8::1")]),
    ]);
    let found = stage.texts("sip:1@PBX.example:5070", &[Transport::Udp, Transport::Tcp]);
    let expected =
        ["udp 192.0.2.1:5070", "udp [2001:db8::1]:5070", "tcp 192.0.2.1:5070", "tcp [2001:db8::1]:5070"];
    assert_eq!(found, expected);
    assert_eq!(stage.asked, [Question::A("pbx.example".into()), Question::Aaaa("pbx.example".into())]);
}

#[test]
fn naptr_leads_to_srv_leads_to_addresses() {
    let mut stage = Stage::new(&[
        (
            Question::Naptr("pbx.example".into()),
            vec![
                naptr(20, "SIP+D2U", "_sip._udp.elsewhere.example"),
                naptr(10, "SIPS+D2T", "_sips._tcp.secure.example"),
                naptr(5, "SIP+D2S", "_sip._sctp.elsewhere.example"),
            ],
        ),
        (Question::Srv("_sip._udp.elsewhere.example".into()), vec![srv(1, 0, 5066, "u.example.")]),
        (Question::Srv("_sips._tcp.secure.example".into()), vec![srv(1, 0, 5071, "t.example")]),
        (Question::A("u.example".into()), vec![address("192.0.2.1")]),
        (Question::A("t.example".into()), vec![address("192.0.2.2")]),
    ]);
    // In the order that the line lists, not the domain; TCP is not offered there.
    assert_eq!(stage.texts("sip:1@pbx.example", &ALL), ["udp 192.0.2.1:5066", "tls 192.0.2.2:5071"]);
    let found = stage.find("sip:1@pbx.example", &[Transport::Tls, Transport::Udp]).unwrap();
    assert_eq!(found[0].transport, Transport::Tls);
    assert_eq!(
        found[0].server_name, "pbx.example",
        "the certificate names the domain, not what DNS made of it"
    );
}

#[test]
fn without_naptr_every_transport_is_asked_for_and_without_srv_the_host_itself() {
    let mut stage = Stage::new(&[
        (Question::Srv("_sip._tcp.pbx.example".into()), vec![srv(1, 0, 5062, "t.example")]),
        (Question::A("t.example".into()), vec![address("192.0.2.2")]),
        (Question::A("plain.example".into()), vec![address("192.0.2.3")]),
    ]);
    assert_eq!(stage.texts("sip:1@pbx.example", &ALL), ["tcp 192.0.2.2:5062"]);
    let found = stage.texts("sip:1@plain.example", &ALL);
    assert_eq!(found, ["udp 192.0.2.3:5060", "tcp 192.0.2.3:5060", "tls 192.0.2.3:5061"]);
    stage.asked.clear();
    stage.texts("sip:1@plain.example;transport=tls", &ALL);
    assert_eq!(stage.asked[0], Question::Srv("_sips._tcp.plain.example".into()), "NAPTR could tell nothing");
}

#[test]
fn priorities_order_and_weights_share() {
    let mut first = BTreeMap::new();
    for seed in 0..400 {
        let mut stage = Stage::new(&[
            (
                Question::Srv("_sip._udp.pbx.example".into()),
                vec![srv(2, 0, 1, "c.example"), srv(1, 10, 1, "a.example"), srv(1, 30, 1, "b.example")],
            ),
            (Question::A("a.example".into()), vec![address("192.0.2.1")]),
            (Question::A("b.example".into()), vec![address("192.0.2.2")]),
            (Question::A("c.example".into()), vec![address("192.0.2.3")]),
        ]);
        stage.locator.chance = Chance::from_number(seed);
        let found = stage.texts("sip:1@pbx.example", &[Transport::Udp]);
        assert_eq!((found.len(), found[2].as_str()), (3, "udp 192.0.2.3:1"));
        *first.entry(found[0].clone()).or_insert(0) += 1;
    }
    let heavy = first["udp 192.0.2.2:1"];
    assert!((260..=340).contains(&heavy), "three quarters of 400: {heavy}");
}

#[test]
fn a_service_that_is_declared_absent_is_absent() {
    let mut stage = Stage::new(&[
        (Question::Srv("_sip._udp.pbx.example".into()), vec![srv(0, 0, 0, ".")]),
        (Question::A("pbx.example".into()), vec![address("192.0.2.1")]),
    ]);
    assert!(stage.find("sip:1@pbx.example", &[Transport::Udp]).is_err());
}

#[test]
fn a_silent_name_server_is_given_up_and_an_old_answer_used() {
    let mut stage = Stage::new(&[(Question::A("pbx.example".into()), vec![address("192.0.2.1")])]);
    stage.silent = true;
    assert_eq!(stage.find("sip:1@pbx.example:5060", &[Transport::Udp]), Err(LookupError::Timeout));
    assert_eq!(stage.now.mono_us, 8_000_001);
    stage.silent = false;
    assert_eq!(stage.texts("sip:1@pbx.example:5060", &[Transport::Udp]), ["udp 192.0.2.1:5060"]);
    stage.silent = true;
    stage.now = stage.now.plus(Duration::from_secs(3600));
    assert_eq!(stage.texts("sip:1@pbx.example:5060", &[Transport::Udp]), ["udp 192.0.2.1:5060"]);
    // But a name that is gone is gone.
    stage.silent = false;
    stage.now = stage.now.plus(Duration::from_secs(3600));
    stage.names.insert(Question::A("pbx.example".into()), Err(LookupError::NoSuchName));
    assert_eq!(stage.find("sip:1@pbx.example:5060", &[Transport::Udp]), Err(LookupError::NoSuchName));
}

#[test]
fn answers_are_kept_for_their_time_to_live() {
    let mut stage = Stage::new(&[(Question::A("pbx.example".into()), vec![address("192.0.2.1")])]);
    stage.texts("sip:1@pbx.example:5060", &[Transport::Udp]);
    stage.now = stage.now.plus(Duration::from_secs(59));
    stage.texts("sip:2@pbx.example:5060", &[Transport::Udp]);
    assert_eq!(stage.asked.len(), 2);
    stage.now = stage.now.plus(Duration::from_secs(2));
    stage.texts("sip:1@pbx.example:5060", &[Transport::Udp]);
    assert_eq!(stage.asked.len(), 4);
}

#[test]
fn the_server_in_use_stays_first_among_equals_only() {
    let records = vec![srv(1, 1, 1, "a.example"), srv(1, 1, 1, "b.example"), srv(2, 0, 1, "c.example")];
    let mut stage = Stage::new(&[
        (Question::Srv("_sip._udp.pbx.example".into()), records),
        (Question::A("a.example".into()), vec![address("192.0.2.1")]),
        (Question::A("b.example".into()), vec![address("192.0.2.2")]),
        (Question::A("c.example".into()), vec![address("192.0.2.3")]),
    ]);
    let uri = "sip:1@pbx.example";
    let found = stage.find(uri, &[Transport::Udp]).unwrap();
    let Ok(Uri::Sip(parsed)) = Uri::parse(uri) else { panic!() };
    let destination = Destination::of(&parsed, &[Transport::Udp]);
    for (index, in_use) in found.iter().enumerate() {
        stage.locator.mark_good(&destination, in_use.transport, in_use.remote);
        for _ in 0..20 {
            stage.now = stage.now.plus(Duration::from_secs(61));
            let again = stage.find(uri, &[Transport::Udp]).unwrap();
            assert_eq!(again[0].remote == in_use.remote, index < 2, "a fallback never goes first");
        }
    }
}

#[test]
fn failed_servers_go_last_for_a_while_that_doubles() {
    let mut stage = Stage::new(&[]);
    let targets: Vec<Target> = ["192.0.2.1", "192.0.2.2"]
        .iter()
        .flat_map(|host| stage.find(&format!("sip:{host}"), &[Transport::Udp]).unwrap())
        .collect();
    let mut penalties = Vec::new();
    for _ in 0..6 {
        stage.locator.mark_failed(stage.now, Transport::Udp, targets[0].remote, None);
        assert_eq!(stage.locator.in_order(stage.now, &targets)[0], targets[1]);
        let start = stage.now;
        while stage.locator.in_order(stage.now, &targets)[0] == targets[1] {
            stage.now = stage.now.plus(Duration::from_secs(1));
        }
        penalties.push(stage.now.since(start.mono_us).as_secs());
    }
    assert_eq!(penalties, [60, 120, 240, 480, 600, 600]);
    // A server that names its time is left alone for that time; when both failed, the order is the old one.
    stage.locator.mark_failed(stage.now, Transport::Udp, targets[1].remote, Some(Duration::from_secs(7)));
    stage.locator.mark_failed(stage.now, Transport::Udp, targets[0].remote, None);
    assert_eq!(stage.locator.in_order(stage.now, &targets), targets);
    stage.now = stage.now.plus(Duration::from_secs(8));
    assert_eq!(stage.locator.in_order(stage.now, &targets)[0], targets[1]);
}

#[test]
fn a_name_without_an_address_is_told_as_such() {
    let mut stage =
        Stage::new(&[(Question::Srv("_sip._udp.pbx.example".into()), vec![srv(1, 0, 5060, "h.example")])]);
    for question in [Question::A("h.example".into()), Question::Aaaa("h.example".into())] {
        stage.names.insert(question, Ok(Vec::new()));
    }
    assert_eq!(stage.find("sip:1@pbx.example", &[Transport::Udp]), Err(LookupError::NoAddress));
}

#[test]
fn bombs_of_records_are_cut_short() {
    let many: Vec<RecordData> =
        (0..5000u16).map(|number| srv(number, 0, 1, &format!("h{number}.example"))).collect();
    let mut stage = Stage::new(&[(Question::Srv("_sip._udp.pbx.example".into()), many)]);
    let addresses: Vec<RecordData> = (0..200).map(|number| address(&format!("192.0.2.{number}"))).collect();
    for number in 0..5000 {
        stage.names.insert(Question::A(format!("h{number}.example")), Ok(addresses.clone()));
    }
    let found = stage.find("sip:1@pbx.example", &[Transport::Udp]).unwrap();
    assert_eq!(found.len(), 32);
    assert_eq!(stage.asked.len(), 1 + 2 * 32);
}

#[test]
fn look_ups_in_flight_are_bounded() {
    let mut locator = Locator::new(Families { v4: true, v6: false }, Chance::from_number(1));
    let now = Now::default();
    let mut busy = 0;
    for number in 0..1000 {
        let Ok(Uri::Sip(uri)) = Uri::parse(format!("sip:h{number}.example")) else { panic!() };
        busy += usize::from(locator.locate(now, &Destination::of(&uri, &[Transport::Udp])) == Located::Busy);
    }
    assert_eq!(busy, 1000 - 64);
}

#[test]
fn websocket_is_found_by_naptr_or_at_the_web_servers_port() {
    let list = [Transport::Udp, Transport::Wss];
    let mut stage = Stage::new(&[
        (Question::Naptr("pbx.example".into()), vec![naptr(10, "SIPS+D2W", "_sips._ws.edge.example")]),
        (Question::Srv("_sips._ws.edge.example".into()), vec![srv(1, 0, 8443, "edge.example")]),
        (Question::A("edge.example".into()), vec![address("192.0.2.7")]),
        (Question::A("plain.example".into()), vec![address("192.0.2.3")]),
    ]);
    assert_eq!(stage.texts("sip:1@pbx.example", &list), ["wss 192.0.2.7:8443"]);
    let found = stage.find("sip:1@pbx.example", &[Transport::Wss]).unwrap_err();
    assert_eq!(found, LookupError::NoAddress, "one transport alone asks no NAPTR, and there is no SRV");
    assert_eq!(stage.texts("sip:1@plain.example", &[Transport::Wss]), ["wss 192.0.2.3:443"]);
    assert_eq!(stage.texts("sip:1@plain.example;transport=ws", &list), ["wss 192.0.2.3:443"]);
    // The port of the domain is that of SIP; alone it is WebSocket's own.
    let found = stage.texts("sip:1@plain.example:5070", &list);
    assert_eq!(found, ["udp 192.0.2.3:5070", "wss 192.0.2.3:443"]);
    assert_eq!(stage.texts("sip:1@plain.example:8089", &[Transport::Wss]), ["wss 192.0.2.3:8089"]);
    assert_eq!(stage.texts("sips:1@192.0.2.9", &Transport::ALL), ["tls 192.0.2.9:5061", "wss 192.0.2.9:443"]);
    assert_eq!(stage.texts("sips:1@192.0.2.9", &[Transport::Udp]), ["tls 192.0.2.9:5061"]);
}

#[test]
fn a_websocket_server_of_its_own_takes_its_place_in_the_list() {
    let names = [
        (Question::Srv("_sip._udp.pbx.example".into()), vec![srv(1, 0, 5062, "u.example")]),
        (Question::Srv("_sips._tcp.pbx.example".into()), vec![srv(1, 0, 5071, "u.example")]),
        (Question::A("u.example".into()), vec![address("192.0.2.2")]),
        (Question::A("edge.example".into()), vec![address("192.0.2.7")]),
        (Question::A("plain.example".into()), vec![address("192.0.2.3")]),
    ];
    let find = |uri: &str, host: &str, transports: &[Transport]| {
        let mut stage = Stage::new(&names);
        stage.websocket = Some(Authority { host: host.into(), address: host.parse().ok(), port: 8089 });
        let targets = stage.find(uri, transports).unwrap();
        let shown =
            |target: &Target| format!("{} {} {}", target.transport, target.remote, target.server_name);
        assert!(targets.is_sorted_by_key(|target| target.rank), "{targets:?}");
        targets.iter().map(shown).collect::<Vec<_>>()
    };
    let (udp, tls) = ("udp 192.0.2.2:5062 pbx.example", "tls 192.0.2.2:5071 pbx.example");
    let wss = "wss 192.0.2.7:8089 edge.example";
    use Transport::{Tls, Udp, Wss};
    assert_eq!(find("sip:1@pbx.example", "edge.example", &[Udp, Tls, Wss]), [udp, tls, wss]);
    assert_eq!(find("sip:1@pbx.example", "edge.example", &[Udp, Wss, Tls]), [udp, wss, tls]);
    assert_eq!(find("sip:1@pbx.example", "edge.example", &[Wss, Udp]), [wss, udp]);
    assert_eq!(find("sip:1@pbx.example", "edge.example", &[Wss]), [wss]);
    assert_eq!(find("sip:1@pbx.example", "edge.example", &[Udp]), [udp]);
    assert_eq!(find("sip:1@plain.example", "edge.example", &[Udp, Wss])[1], wss);
    assert_eq!(find("sip:1@192.0.2.9", "edge.example", &[Udp, Wss])[1], wss);
    assert_eq!(find("sip:1@192.0.2.9", "192.0.2.7", &[Udp, Wss])[1], "wss 192.0.2.7:8089 192.0.2.7");
}
