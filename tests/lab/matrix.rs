//! The matrix: behind every kind of NAT, with a PBX that is kind to phones behind NAT and with one that is not, a phone
//! registers, calls, is called, and is still called after three lifetimes of an idle mapping. What is said is checked on
//! both sides.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use crate::asterisk::Asterisk;
use crate::coturn::{Coturn, relay, stun_and_relay};
use crate::impair::Link;
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::process::within;
use crate::router::{Nat, Office, Uplink};
use crate::sound::{Wav, sine};

const PBX: &str = "203.0.113.10";
/// Seconds after which most of the routers forget an idle mapping.
const LIFETIME: u32 = 8;
/// The share of a call in which its tone is heard at least. What is missing is the time until audio flows, and the last
/// packets before the end.
const HEARD: f64 = 0.72;

/// Where a description tells the PBX to send audio to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    /// An address in the office: the PBX looks where packets come from.
    Inside,
    /// The address of the office's router, as STUN servers see it.
    Outside,
    /// One at the TURN server.
    Relay,
}

/// One row: its network, how long its calls last in seconds, what the lines need to register, and what the phones of a kind
/// and of a hostile account tell the PBX. The kind PBX answers and sends to where packets come from; the hostile one
/// believes what it is told.
struct Row {
    uplink: Uplink,
    call: f64,
    transport: &'static str,
    kind: Told,
    hostile: Told,
}

/// A row of calls of 2.5 s over UDP.
fn udp(uplink: impl Into<Uplink>, hostile: Told) -> Row {
    let uplink = uplink.into().lifetime(LIFETIME);
    Row { uplink, call: 2.5, transport: "", kind: Told::Inside, hostile }
}

/// The same where mappings live for so many seconds.
fn lasting(seconds: u32, row: Row) -> Row {
    Row { uplink: row.uplink.lifetime(seconds), ..row }
}

/// A row where no datagram passes: signalling takes a stream, and so does the voice, to the TURN server.
fn streams(nat: Nat, transport: &'static str) -> Row {
    Row { transport, kind: Told::Relay, ..udp(nat, Told::Relay) }
}

/// Each line is a test: its name, and its row.
macro_rules! matrix {
    ($($name:ident: $row:expr;)*) => {
        $(#[test]
        fn $name() {
            row(stringify!($name), $row);
        })*
    };
}

matrix! {
    no_nat: udp(Nat::Open, Told::Inside);
    full_cone: udp(Nat::FullCone, Told::Outside);
    address_restricted: udp(Nat::AddressRestricted, Told::Outside);
    port_restricted: udp(Nat::PortRestricted, Told::Outside);
    symmetric: udp(Nat::Symmetric, Told::Relay);
    carrier_full_cone: udp(Uplink::carrier(Nat::FullCone), Told::Outside);
    carrier_address_restricted: udp(Uplink::carrier(Nat::AddressRestricted), Told::Outside);
    carrier_port_restricted: udp(Uplink::carrier(Nat::PortRestricted), Told::Outside);
    carrier_symmetric: udp(Uplink::carrier(Nat::Symmetric), Told::Relay);
    // The router writes its own address where a description names one inside: nobody else has to.
    sip_alg: udp(Nat::SipAlg, Told::Inside);
    mapping_of_20_seconds: lasting(20, udp(Nat::Symmetric, Told::Relay));
    // 2 % loss, 40±15 ms. What is lost is lost to both recordings; a longer call has room for it.
    bad_link: Row { call: 6.0, ..udp(Uplink::from(Nat::Symmetric).over(Link::BAD), Told::Relay) };
    udp_blocked: streams(Nat::UdpBlocked, r#"transport = ["udp", "tcp"]"#);
    udp_rejected: streams(Nat::UdpRejected, r#"transport = ["udp", "tls"]"#);
    only_tcp_443: streams(Nat::OnlyTcp443, "registrar = \"sips:203.0.113.10:443\"\ntransport = \"tls\"");
}

/// A phone of a row, its account and what it tells.
struct Seat {
    phone: Phone,
    account: &'static str,
    told: Told,
    call: f64,
}

impl Seat {
    fn calls(&self, asterisk: &mut Asterisk) {
        let call = self.phone.call("603");
        self.talk(asterisk, &call, "calling out");
    }

    fn is_called(&self, asterisk: &mut Asterisk, when: &str) {
        asterisk.call(self.account, "603");
        let ringing = self.phone.wait_event_that("call.ringing", when, Duration::from_secs(10), |_| true);
        let call = ringing["subject"].as_str().expect("an id").to_owned();
        self.phone.act(&call, "answer");
        self.talk(asterisk, &call, when);
    }

    fn talk(&self, asterisk: &mut Asterisk, call: &str, when: &str) {
        let (phone, account) = (&self.phone, self.account);
        phone.wait_event("call.media");
        sleep(Duration::from_secs_f64(self.call));
        let closed = phone.hang_up(call);
        assert_eq!(closed["result"], "answered", "{account} {when}: {closed}");
        asterisk.idle();
        let (here, there) = (phone.heard(), asterisk.recording("heard.wav"));
        let (heard, said) = (here.seconds_of(1004.0), there.seconds_of(440.0));
        let least = HEARD * self.call;
        let of = here.seconds();
        assert!(heard > least, "{account}, {when}: 1004 Hz was heard for {heard} s of {of} s");
        let of = there.seconds();
        assert!(said > least, "{account}, {when}: the PBX heard 440 Hz for {said} s of {of} s");
        println!("{account}, {when}: heard {heard} s, the PBX {said} s of {} s", self.call);
    }

    /// Every description has named what it should.
    fn told_the_right_address(&self) {
        let is_right = |address: &String| match self.told {
            Told::Inside => address.starts_with("192.168.1."),
            Told::Outside => address == "203.0.113.101",
            Told::Relay => address == "203.0.113.11",
        };
        let told = addresses_told(&self.phone);
        assert!(!told.is_empty() && told.iter().all(is_right), "{} told {told:?}", self.account);
    }
}

/// The addresses in the descriptions that a phone has sent.
fn addresses_told(phone: &Phone) -> BTreeSet<String> {
    let trace = phone.get("/api/v1/trace");
    let sent = trace["messages"].as_array().expect("messages").iter().filter(|it| it["sent"] == true);
    let lines = sent.flat_map(|message| message["text"].as_str().unwrap_or_default().lines());
    lines.filter_map(|line| line.strip_prefix("c=IN IP4 ")).map(|address| address.trim().to_owned()).collect()
}

/// Plays a row with two phones in one office.
fn row(name: &str, row: Row) {
    let what = format!("matrix: {name}");
    let Some(lab) = Lab::new(&what, &["unshare", "turnserver"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, &what) else { return };
    let _coturn = Coturn::start(&lab);
    let office = lab.office("office", 101, row.uplink);
    let desks = [office.host.clone(), office.router.desk(&lab, "desk", 11)];
    let ca = format!("ca_file = {:?}", Pki::of(&lab).ca_file);
    let seats = [("1001", row.kind, 10_000), ("1501", row.hostile, 20_000)];
    let seats: Vec<Seat> = seats
        .into_iter()
        .zip(&desks)
        .map(|((account, told, port), host)| {
            let nat = if told == Told::Inside { String::new() } else { stun_and_relay() };
            // Two hosts with one port outside are more than these routers can tell apart.
            let ports = format!("[rtp]\nports = \"{port}-{}\"", port + 99);
            let setup = Setup::new(account, PBX).table(&ports).line(r#"codecs = ["PCMU"]"#).line(&ca);
            let phone = setup.line(row.transport).line(&nat).start(&lab, host);
            asterisk.registered(account);
            Seat { phone, account, told, call: row.call }
        })
        .collect();
    // A port of those with helpers is gathered while nobody calls.
    sleep(Duration::from_secs(2));
    for seat in &seats {
        seat.calls(&mut asterisk);
        seat.is_called(&mut asterisk, "called");
    }
    sleep(Duration::from_secs(u64::from(3 * row.uplink.lifetime + 1)));
    for seat in &seats {
        seat.is_called(&mut asterisk, "called after three lifetimes of a mapping");
        seat.told_the_right_address();
        assert_eq!(seat.phone.count("line.unregistered"), 0, "{}", seat.phone.story());
    }
}

/// Two phones, what they say and hear of each other.
struct Pair {
    phones: [Phone; 2],
    accounts: [&'static str; 2],
}

impl Pair {
    /// The second answers by itself.
    fn start(
        lab: &Lab,
        asterisk: &mut Asterisk,
        hosts: [&crate::netns::Host; 2],
        accounts: [&'static str; 2],
        nat: &str,
    ) -> Pair {
        let phones = [0, 1].map(|at| {
            let tone = Wav::new(16000, sine([440.0, 660.0][at], 16000, 2.0, 8000));
            let ports = ["[rtp]\nports = \"10000-10099\"", "[rtp]\nports = \"20000-20099\""];
            let setup = Setup::new(accounts[at], PBX).table(ports[at]).line(r#"codecs = ["PCMA"]"#);
            let setup = setup.line(&format!("auto_answer = {}", at == 1)).line(nat).speaks(tone);
            let phone = setup.start(lab, hosts[at]);
            asterisk.registered(accounts[at]);
            phone
        });
        sleep(Duration::from_secs(1));
        Pair { phones, accounts }
    }

    /// One call of so many seconds after `settled`; both hear the other's tone.
    fn talk(&self, asterisk: &mut Asterisk, seconds: f64, what: &str, settled: impl FnOnce()) {
        let [a, b] = &self.phones;
        let call = a.call(self.accounts[1]);
        a.wait_event("call.media");
        b.wait_event("call.media");
        settled();
        sleep(Duration::from_secs_f64(seconds));
        let closed = a.hang_up(&call);
        assert_eq!(closed["result"], "answered", "{closed}");
        b.closed();
        asterisk.idle();
        for (phone, hertz) in [(a, 660.0), (b, 440.0)] {
            let heard = phone.heard().seconds_of(hertz);
            assert!(heard > HEARD * seconds, "{what}: {hertz} Hz was heard for {heard} s of {seconds} s");
            println!("{what}: {hertz} Hz was heard for {heard} s of {seconds} s");
        }
    }
}

/// Two offices with the same addresses inside, one behind each of these.
fn two_offices(accounts: [&'static str; 2], nats: [Nat; 2], nat: &str) {
    let what = format!("matrix: two offices with the same addresses inside, {nats:?}, {accounts:?}");
    let Some(lab) = Lab::new(&what, &["unshare", "turnserver"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, &what) else { return };
    let _coturn = Coturn::start(&lab);
    let office =
        |name: &str, last: u8, nat: Nat| lab.office(name, last, Uplink::from(nat).lifetime(LIFETIME));
    let (one, two) = (office("one", 101, nats[0]), office("two", 102, nats[1]));
    asterisk.command("pjsip set logger on");
    let pair = Pair::start(&lab, &mut asterisk, [&one.host, &two.host], accounts, nat);
    pair.talk(&mut asterisk, 2.5, "at first", || {});
    sleep(Duration::from_secs(u64::from(3 * LIFETIME + 1)));
    pair.talk(&mut asterisk, 2.5, "after three lifetimes of a mapping", || {});
}

#[test]
fn two_offices_of_kind_accounts() {
    two_offices(["1001", "1002"], [Nat::Symmetric, Nat::PortRestricted], "");
}

#[test]
fn two_offices_of_hostile_accounts_with_one_relay() {
    two_offices(["1501", "1502"], [Nat::Symmetric, Nat::PortRestricted], &stun_and_relay());
}

#[test]
fn two_offices_of_hostile_accounts_with_two_relays() {
    two_offices(["1501", "1502"], [Nat::Symmetric, Nat::Symmetric], &stun_and_relay());
}

/// Two phones in one office, whose PBX sends hostile ones to each other.
fn one_office(accounts: [&'static str; 2], nat: &str, settled: impl FnOnce(&Office)) {
    let what = format!("matrix: two phones in one office, {accounts:?}");
    let Some(lab) = Lab::new(&what, &["unshare", "turnserver"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, &what) else { return };
    let _coturn = Coturn::start(&lab);
    let office = lab.office("office", 101, Uplink::from(Nat::PortRestricted).lifetime(LIFETIME));
    let colleague = office.router.desk(&lab, "colleague", 11);
    let pair = Pair::start(&lab, &mut asterisk, [&office.host, &colleague], accounts, nat);
    pair.talk(&mut asterisk, 3.0, &what, || settled(&office));
}

/// Packets that the router passes within a second, both ways.
fn rate(office: &Office) -> u64 {
    let passed = || office.router.traffic().iter().map(|traffic| traffic.packets).sum::<u64>();
    let before = passed();
    sleep(Duration::from_secs(1));
    passed() - before
}

#[test]
fn two_phones_of_one_office_by_the_pbx() {
    one_office(["1001", "1002"], "", |office| assert!(rate(office) > 150, "their voice goes by the PBX"));
}

#[test]
fn two_phones_of_one_office_are_sent_to_each_other() {
    one_office(["1501", "1502"], "", |office| {
        // Four streams of 50 packets a second would pass the router else.
        within("their voice stays inside", Duration::from_secs(10), || (rate(office) < 20).then_some(()));
    });
}

#[test]
fn two_phones_of_one_office_are_sent_to_each_others_relay() {
    one_office(["1501", "1502"], &relay(), |_| {});
}

/// The router turns nothing round that is sent to its outside: the PBX has to be told another address then.
#[test]
fn two_phones_of_one_office_with_one_public_address() {
    one_office(["1501", "1502"], &stun_and_relay(), |_| {});
}
