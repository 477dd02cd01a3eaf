//! What networks do to phones behind NAT at night, and in the middle of a call: the public address changes, the router
//! starts anew, the PBX forgets. Whoever was registered can be called again.

use std::thread::sleep;
use std::time::Duration;

use crate::asterisk::Asterisk;
use crate::coturn::Coturn;
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::router::{Nat, Office};

const PBX: &str = "203.0.113.10";
/// Phones of each transport, the first also with a STUN server.
const TRANSPORTS: [&str; 4] = ["udp", "udp", "tcp", "tls"];
const ACCOUNTS: [&str; 4] = ["1011", "1012", "1013", "1014"];

struct Night {
    phones: Vec<Phone>,
    offices: Vec<Office>,
    asterisk: Asterisk,
    _coturn: Coturn,
    _lab: Lab,
}

/// Each phone in an office of its own behind a symmetric NAT; all have been called.
fn night(what: &str) -> Option<Night> {
    let lab = Lab::new(what, &["unshare", "turnserver", "ss"])?;
    let mut asterisk = Asterisk::start(&lab, what)?;
    let coturn = Coturn::start(&lab);
    let ca = format!("ca_file = {:?}", Pki::of(&lab).ca_file);
    let (mut phones, mut offices) = (Vec::new(), Vec::new());
    for (at, (transport, account)) in TRANSPORTS.into_iter().zip(ACCOUNTS).enumerate() {
        let office = lab.office(&format!("office{at}"), 101 + at as u8, Nat::Symmetric);
        let setup = Setup::new(account, PBX)
            .line("auto_answer = true")
            .line(&format!("transport = {transport:?}"))
            .line(&ca)
            .line(if at == 0 { "[line.nat]\nstun = [\"203.0.113.11\"]" } else { "" });
        phones.push(setup.start(&lab, &office.host));
        asterisk.registered(account);
        offices.push(office);
    }
    let mut night = Night { phones, offices, asterisk, _coturn: coturn, _lab: lab };
    night.all_answer("at first");
    Some(night)
}

impl Night {
    #[track_caller]
    fn all_answer(&mut self, when: &str) {
        let answered = self.asterisk.until_answered(&ACCOUNTS, Duration::from_secs(45));
        for (at, answered) in answered.iter().enumerate() {
            let transport = TRANSPORTS[at];
            assert!(answered.is_some(), "{when}, {transport}: not called:\n{}", self.phones[at].story());
        }
        self.asterisk.idle();
    }
}

#[test]
fn after_a_change_of_the_public_address_phones_are_called_again() {
    let Some(mut night) = night("another public address") else { return };
    for (at, office) in night.offices.iter().enumerate() {
        office.edge().readdress(201 + at as u8);
    }
    night.all_answer("with another public address");
    for (at, account) in ACCOUNTS.iter().enumerate() {
        let contact = night.asterisk.contact(account).expect("it is registered");
        assert!(contact.contains(&format!("@203.0.113.{}:", 201 + at)), "{account}: {contact}");
    }
}

#[test]
fn after_the_router_started_anew_phones_are_called_again() {
    let Some(mut night) = night("a router that forgets") else { return };
    night.offices.iter().for_each(|office| office.edge().forget());
    night.all_answer("with a router that has forgotten");
    night.offices.iter().for_each(|office| office.edge().plugged(false));
    sleep(Duration::from_secs(8));
    night.offices.iter().for_each(|office| office.edge().plugged(true));
    night.all_answer("after the cable was out");
}

#[test]
fn after_the_pbx_forgot_phones_are_called_again() {
    let Some(mut night) = night("a PBX that was away and forgot") else { return };
    night.asterisk.stop_for(Duration::from_secs(15), true);
    night.all_answer("with a PBX that has forgotten");
}

#[test]
fn a_call_without_ice_goes_on_when_the_public_address_changes() {
    let what = "another public address in a call";
    let Some(lab) = Lab::new(what, &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, what) else { return };
    for (nat, last) in [(Nat::Symmetric, 101), (Nat::PortRestricted, 111)] {
        let role = format!("office{last}");
        let office = lab.office(&role, last, nat);
        let account = if nat == Nat::Symmetric { "1001" } else { "1002" };
        let phone = Setup::new(account, PBX).line(r#"codecs = ["PCMU"]"#).start(&lab, &office.host);
        let call = phone.call("603");
        phone.wait_event("call.media");
        sleep(Duration::from_secs(3));
        office.edge().readdress(last + 100);
        sleep(Duration::from_secs(4));
        let [lost, _] = asterisk.packets_lost();
        assert!(lost < 50, "{nat:?}: the PBX lost {lost} packets");
        phone.act(&call, "hangup");
        phone.closed();
        asterisk.idle();
        let (here, there) = (phone.heard(), asterisk.recording("heard.wav"));
        assert!(here.seconds_of(1004.0) > 6.0, "{nat:?}: heard {} s", here.seconds_of(1004.0));
        assert!(there.seconds_of(440.0) > 6.0, "{nat:?}: the PBX heard {} s", there.seconds_of(440.0));
    }
}
