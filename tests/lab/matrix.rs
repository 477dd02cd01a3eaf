//! The matrix: behind every kind of NAT, with a PBX that is kind to phones behind NAT and with one that is not, a phone
//! registers, calls, is called, and is still called after three lifetimes of an idle mapping. What is said is checked on
//! both sides.

use std::thread::sleep;
use std::time::Duration;

use crate::asterisk::Asterisk;
use crate::impair::Link;
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::router::{Nat, Uplink};
use crate::sound::{Wav, sine};

const PBX: &str = "203.0.113.10";
/// Seconds after which the routers forget an idle mapping.
const LIFETIME: u32 = 8;

/// Where audio finds its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Voice {
    BothWays,
    /// The PBX hears the phone, but sends to the address that the phone has inside.
    Outward,
    /// Nothing but TCP passes.
    Nowhere,
}

/// A phone of a row.
struct Seat<'a> {
    account: &'a str,
    /// More of its line.
    keys: &'a str,
    voice: Voice,
    /// Seconds of the tone that have to arrive of a call of 2.5 s.
    least: f64,
}

/// Seconds of the tone that arrive at least where nothing is lost.
const LEAST: f64 = 1.8;

/// Of a PBX that answers and sends to where packets come from.
fn kind(voice: Voice) -> Seat<'static> {
    Seat { account: "1001", keys: "", voice, least: LEAST }
}

/// Of one that believes what Contact and SDP say.
fn hostile(voice: Voice) -> Seat<'static> {
    Seat { account: "1501", keys: "", voice, least: LEAST }
}

/// What was said in a call of 2.5 s, as it arrived.
fn heard(seat: &Seat<'_>, phone: &Phone, asterisk: &Asterisk, when: &str) {
    let (here, there) = (phone.heard(), asterisk.recording("heard.wav"));
    let (heard, said) = (here.seconds_of(1004.0), there.seconds_of(440.0));
    let account = seat.account;
    if seat.voice != Voice::Nowhere {
        let length = there.seconds();
        assert!(said > seat.least, "{account}, {when}: the PBX heard 440 Hz for {said} s of {length} s");
    }
    if seat.voice == Voice::BothWays {
        let length = here.seconds();
        assert!(heard > seat.least, "{account}, {when}: 1004 Hz was heard for {heard} s of {length} s");
    }
}

fn talk(seat: &Seat<'_>, phone: &Phone, asterisk: &mut Asterisk, call: &str, when: &str) {
    if seat.voice == Voice::BothWays {
        phone.wait_event("call.media");
    } else {
        phone.wait_event("call.answered");
    }
    sleep(Duration::from_millis(2500));
    let closed = phone.hang_up(call);
    assert_eq!(closed["result"], "answered", "{} {when}: {closed}", seat.account);
    asterisk.idle();
    heard(seat, phone, asterisk, when);
}

fn calls(seat: &Seat<'_>, phone: &Phone, asterisk: &mut Asterisk) {
    let call = phone.call("603");
    talk(seat, phone, asterisk, &call, "calling out");
}

fn is_called(seat: &Seat<'_>, phone: &Phone, asterisk: &mut Asterisk, when: &str) {
    asterisk.call(seat.account, "603");
    let ringing = phone.wait_event_that("call.ringing", when, Duration::from_secs(10), |_| true);
    let call = ringing["subject"].as_str().expect("an id").to_owned();
    phone.act(&call, "answer");
    talk(seat, phone, asterisk, &call, when);
}

/// One row: two phones in one office.
fn row(what: &str, uplink: impl Into<Uplink>, lifetime: u32, seats: [Seat<'_>; 2]) {
    let Some(lab) = Lab::new(what, &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, what) else { return };
    let office = lab.office("office", 101, uplink.into().lifetime(lifetime));
    let desks = [office.host.clone(), office.router.desk(&lab, "desk", 11)];
    let ca = format!("ca_file = {:?}", Pki::of(&lab).ca_file);
    let mut phones = Vec::new();
    for (seat, host) in seats.iter().zip(&desks) {
        let setup = Setup::new(seat.account, PBX).line(r#"codecs = ["PCMU"]"#).line(&ca).line(seat.keys);
        phones.push(setup.start(&lab, host));
        asterisk.registered(seat.account);
    }
    for (seat, phone) in seats.iter().zip(&phones) {
        calls(seat, phone, &mut asterisk);
        is_called(seat, phone, &mut asterisk, "called");
    }
    sleep(Duration::from_secs(u64::from(3 * lifetime + 1)));
    for (seat, phone) in seats.iter().zip(&phones) {
        is_called(seat, phone, &mut asterisk, "called after three lifetimes of a mapping");
        assert_eq!(phone.count("line.unregistered"), 0, "{}", phone.story());
    }
}

#[test]
fn no_nat() {
    row("matrix: open", Nat::Open, LIFETIME, [kind(Voice::BothWays), hostile(Voice::BothWays)]);
}

#[test]
fn full_cone() {
    row("matrix: full cone", Nat::FullCone, LIFETIME, [kind(Voice::BothWays), hostile(Voice::Outward)]);
}

#[test]
fn address_restricted() {
    let nat = Nat::AddressRestricted;
    row("matrix: address-restricted", nat, LIFETIME, [kind(Voice::BothWays), hostile(Voice::Outward)]);
}

#[test]
fn port_restricted() {
    let nat = Nat::PortRestricted;
    row("matrix: port-restricted", nat, LIFETIME, [kind(Voice::BothWays), hostile(Voice::Outward)]);
}

#[test]
fn symmetric() {
    row("matrix: symmetric", Nat::Symmetric, LIFETIME, [kind(Voice::BothWays), hostile(Voice::Outward)]);
}

#[test]
fn carrier_full_cone() {
    let uplink = Uplink::carrier(Nat::FullCone);
    row("matrix: full-cone carrier", uplink, LIFETIME, [kind(Voice::BothWays), hostile(Voice::Outward)]);
}

#[test]
fn carrier_address_restricted() {
    let uplink = Uplink::carrier(Nat::AddressRestricted);
    row(
        "matrix: address-restricted carrier",
        uplink,
        LIFETIME,
        [kind(Voice::BothWays), hostile(Voice::Outward)],
    );
}

#[test]
fn carrier_port_restricted() {
    let uplink = Uplink::carrier(Nat::PortRestricted);
    row(
        "matrix: port-restricted carrier",
        uplink,
        LIFETIME,
        [kind(Voice::BothWays), hostile(Voice::Outward)],
    );
}

#[test]
fn carrier_symmetric() {
    let uplink = Uplink::carrier(Nat::Symmetric);
    row("matrix: symmetric carrier", uplink, LIFETIME, [kind(Voice::BothWays), hostile(Voice::Outward)]);
}

#[test]
fn sip_alg() {
    row("matrix: SIP ALG", Nat::SipAlg, LIFETIME, [kind(Voice::BothWays), hostile(Voice::BothWays)]);
}

#[test]
fn mapping_of_20_seconds() {
    row("matrix: 20 s", Nat::Symmetric, 20, [kind(Voice::BothWays), hostile(Voice::Outward)]);
}

#[test]
fn bad_link() {
    let uplink = Uplink::from(Nat::Symmetric).over(Link::BAD);
    // What is lost is lost to the recording of the PBX.
    row(
        "matrix: 2 % loss, 40±15 ms",
        uplink,
        LIFETIME,
        [kind(Voice::BothWays), hostile(Voice::Outward)].map(|seat| Seat { least: 1.5, ..seat }),
    );
}

/// Phones that may use a stream where datagrams do not pass.
fn by_stream(nat: Nat, keys: &str) {
    let seats = ["1001", "1501"].map(|account| Seat { account, keys, voice: Voice::Nowhere, least: LEAST });
    row(&format!("matrix: {nat:?}"), nat, LIFETIME, seats);
}

#[test]
fn udp_blocked() {
    by_stream(Nat::UdpBlocked, r#"transport = ["udp", "tcp"]"#);
}

#[test]
fn udp_rejected() {
    by_stream(Nat::UdpRejected, r#"transport = ["udp", "tls"]"#);
}

#[test]
fn only_tcp_443() {
    let registrar = "registrar = \"sips:203.0.113.10:443\"";
    by_stream(Nat::OnlyTcp443, &format!("{registrar}\ntransport = \"tls\""));
}

#[test]
fn two_offices() {
    let what = "matrix: two offices with the same addresses inside";
    let Some(lab) = Lab::new(what, &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, what) else { return };
    let one = lab.office("one", 101, Uplink::from(Nat::Symmetric).lifetime(LIFETIME));
    let two = lab.office("two", 102, Uplink::from(Nat::PortRestricted).lifetime(LIFETIME));
    let setup = |account: &str, hertz: f64| {
        let tone = Wav::new(16000, sine(hertz, 16000, 2.0, 8000));
        Setup::new(account, PBX).line(r#"codecs = ["PCMA"]"#).speaks(tone)
    };
    let a = setup("1001", 440.0).start(&lab, &one.host);
    let b = setup("1002", 660.0).line("auto_answer = true").start(&lab, &two.host);
    asterisk.registered("1001");
    asterisk.registered("1002");
    for (from, pause) in [(&a, 0), (&a, u64::from(3 * LIFETIME + 1))] {
        sleep(Duration::from_secs(pause));
        let call = from.call("1002");
        a.wait_event("call.media");
        b.wait_event("call.media");
        sleep(Duration::from_millis(2500));
        let closed = from.hang_up(&call);
        assert_eq!(closed["result"], "answered", "{closed}");
        b.closed();
        asterisk.idle();
        let (at_a, at_b) = (a.heard(), b.heard());
        assert!(at_a.seconds_of(660.0) > 1.8, "A heard {} s after {pause} s", at_a.seconds_of(660.0));
        assert!(at_b.seconds_of(440.0) > 1.8, "B heard {} s after {pause} s", at_b.seconds_of(440.0));
    }
}
