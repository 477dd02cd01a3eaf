//! Still reachable after what networks do: another public address of the router, another one of our own, a PBX that was
//! away. How soon is measured elsewhere; here it counts that a call rings long before any registration would be renewed.

use std::time::{Duration, Instant};

use crate::asterisk::Asterisk;
use crate::friendly::stage;
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::process::within;
use crate::router::Nat;

const PBX: &str = "203.0.113.10";

/// Waits until a call to `account` rings, tried every second.
fn rings(asterisk: &mut Asterisk, phone: &Phone, account: &str) -> Duration {
    let begun = Instant::now();
    let before = phone.count("call.ringing");
    within("a call rings", Duration::from_secs(40), || {
        asterisk.call(account, "603");
        std::thread::sleep(Duration::from_secs(1));
        (phone.count("call.ringing") > before).then_some(())
    });
    begun.elapsed()
}

/// A router with a symmetric NAT gets another address while nothing is going on.
fn moved_router(account: &str, transport: &str) {
    let what = format!("another public address, {transport}");
    let Some(lab) = Lab::new(&what, &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, &what) else { return };
    let office = lab.office("office", 101, Nat::Symmetric);
    let ca = Pki::of(&lab).ca_file;
    let mut setup = Setup::new(account, PBX).line(&format!("transport = {transport:?}"));
    if transport == "tls" {
        setup = setup.line(&format!("ca_file = {ca:?}"));
    }
    let phone = setup.start(&lab, &office.host);
    rings(&mut asterisk, &phone, account);
    std::thread::sleep(Duration::from_secs(5));
    let line = &phone.get("/api/v1/status")["lines"][0];
    assert_eq!(line["keep_alive"], "options", "{line}");
    office.edge().readdress(102);
    let took = rings(&mut asterisk, &phone, account);
    eprintln!("{transport}: reached {took:?} after the router got another address");
    // Well before the registration of ten minutes is renewed.
    let contact = asterisk.contact(account).expect("it is registered");
    assert!(contact.contains("203.0.113.102"), "{contact}");
    assert_eq!(phone.count("auth.failed") + phone.count("line.rejected"), 0, "{}", phone.story());
}

#[test]
fn a_router_with_another_address_is_noticed_over_udp() {
    moved_router("1001", "udp");
}

#[test]
fn a_router_with_another_address_is_noticed_over_tcp() {
    moved_router("1001", "tcp");
}

#[test]
fn a_router_with_another_address_is_noticed_over_tls() {
    moved_router("1001", "tls");
}

#[test]
fn another_address_of_our_own_is_registered_at_once() {
    let Some((lab, mut asterisk, host)) = stage("another address of our own") else { return };
    for transport in ["udp", "tcp"] {
        let phone = Setup::new("1001", PBX).line(&format!("transport = {transport:?}")).start(&lab, &host);
        asterisk.registered("1001");
        host.run("ip", &["addr", "flush", "dev", "eth0"]);
        host.run("ip", &["addr", "add", "203.0.113.59/24", "dev", "eth0"]);
        let changed = phone.wait_event_that(
            "device.network.changed",
            "with the new address",
            Duration::from_secs(5),
            |event| event["data"]["addresses"].to_string().contains("203.0.113.59"),
        );
        assert!(!changed["data"]["addresses"].to_string().contains("203.0.113.50"), "{changed}");
        within("the PBX has the new address", Duration::from_secs(10), || {
            asterisk.contact("1001").filter(|contact| contact.contains("203.0.113.59"))
        });
        rings(&mut asterisk, &phone, "1001");
        host.run("ip", &["addr", "flush", "dev", "eth0"]);
        host.run("ip", &["addr", "add", "203.0.113.50/24", "dev", "eth0"]);
        drop(phone);
    }
}

#[test]
fn a_pbx_that_forgot_its_registrations_gets_them_back() {
    let what = "a PBX that was away";
    let Some(lab) = Lab::new(what, &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, what) else { return };
    let office = lab.office("office", 101, Nat::Symmetric);
    let second = format!(
        "[[line]]\nname = \"second\"\nuser = \"1002\"\ndomain = {PBX:?}\npassword = \"pw1002\"\ntransport = \"tcp\""
    );
    let phone = Setup::new("1001", PBX).table(&second).start(&lab, &office.host);
    asterisk.registered("1001");
    asterisk.registered("1002");
    asterisk.stop_for(Duration::from_secs(30), true);
    for account in ["1001", "1002"] {
        let took = rings(&mut asterisk, &phone, account);
        eprintln!("{account}: reached {took:?} after the PBX was back");
    }
}
