//! Encrypted audio behind NATs, with Asterisk: keys in the description and from a handshake, with and without ICE, where the
//! line insists on them and where it does without. What was said is checked on both sides.

use std::thread::sleep;
use std::time::Duration;

use crate::asterisk::Asterisk;
use crate::coturn::{Coturn, ice, stun_and_relay};
use crate::friendly::{PBX, tone_call};
use crate::netns::Lab;
use crate::phone::Setup;
use crate::router::Nat;

const SDES: &str = "srtp = \"required\"";
const DTLS: &str = "srtp = \"required\"\nsrtp_keys = \"dtls\"";
const MAYBE_SDES: &str = "srtp = \"optional\"";
const MAYBE_DTLS: &str = "srtp = \"optional\"\nsrtp_keys = \"dtls\"";

/// One call out and one that comes, behind this NAT, with an account of the PBX and these keys of the line.
fn behind(nat: Nat, account: &str, keys: &str, help: &str, sealed: bool) {
    let what = format!("encrypted audio, {account}, {nat:?}");
    let Some(lab) = Lab::new(&what, &["unshare", "turnserver"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, &what) else { return };
    let _coturn = Coturn::start(&lab);
    let office = lab.office("office", 101, nat);
    let phone =
        Setup::new(account, PBX).line(keys).line(r#"codecs = ["PCMA"]"#).line(help).start(&lab, &office.host);
    asterisk.registered(account);
    sleep(Duration::from_secs(1));
    tone_call(&phone, &mut asterisk, "PCMA");
    asterisk.call(account, "603");
    let call = phone.wait_event("call.ringing")["subject"].as_str().expect("an id").to_owned();
    phone.act(&call, "answer");
    phone.wait_event("call.media");
    sleep(Duration::from_secs(3));
    phone.hang_up(&call);
    asterisk.idle();
    let (heard, said) = (phone.heard().seconds_of(1004.0), asterisk.recording("heard.wav").seconds_of(440.0));
    assert!(heard > 2.5 && said > 2.5, "called: 1004 Hz was heard for {heard} s, 440 Hz for {said} s");
    let is_sealed = phone.count_that("call.media", |event| event["data"]["srtp"].is_string());
    assert_eq!(is_sealed, if sealed { 2 } else { 0 }, "{}", phone.story());
}

/// Each line is a test: NAT, account, what the line wants, what helps it, and whether the calls are encrypted.
macro_rules! calls {
    ($($name:ident: $nat:expr, $account:expr, $keys:expr, $help:expr => $sealed:expr;)*) => {
        $(#[test]
        fn $name() {
            behind($nat, $account, $keys, &$help, $sealed);
        })*
    };
}

// Without ICE Asterisk sends its handshakes where the description says, whatever comes from elsewhere: behind a NAT the
// description has to be right.
calls! {
    sdes: Nat::Symmetric, "1101", SDES, "" => true;
    dtls_with_stun: Nat::PortRestricted, "1601", DTLS, stun_and_relay() => true;
    dtls_with_stun_where_we_begin: Nat::PortRestricted, "1605", DTLS, stun_and_relay() => true;
    dtls_with_a_relay: Nat::Symmetric, "1601", DTLS, stun_and_relay() => true;
    ice_with_sdes: Nat::Symmetric, "1712", SDES, ice() => true;
    ice_with_dtls: Nat::Symmetric, "1711", DTLS, ice() => true;
    ice_with_dtls_behind_a_softer_nat: Nat::PortRestricted, "1711", DTLS, ice() => true;
    optional_sdes_where_it_is_demanded: Nat::Symmetric, "1101", MAYBE_SDES, "" => true;
    optional_dtls_where_it_is_demanded: Nat::Symmetric, "1601", MAYBE_DTLS, stun_and_relay() => true;
    optional_dtls_where_early_feedback_is_demanded: Nat::Symmetric, "1603", MAYBE_DTLS, stun_and_relay() => true;
    optional_dtls_where_nobody_knows_it: Nat::Symmetric, "1001", MAYBE_DTLS, "" => false;
    optional_dtls_with_ice: Nat::Symmetric, "1711", MAYBE_DTLS, ice() => true;
}
