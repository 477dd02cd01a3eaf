//! Who calls whom, as PBXs tell it: the number that was dialled from outside, and who sent the call on.

use tipring::events::{Kind, Leg};
use tipring::sip::method::Method;
use tipring::sip::name_addr::NameAddr;

use crate::script::{MEDIA, Peer, Script, audio};

const RUSSIA: &str = "country = \"RU\"\n";

/// The leg of a call to 1001 that comes in with this To and these fields, and what `tipring status` shows of it.
fn comes(line: &str, to: &str, fields: &[(&str, &str)]) -> (Leg, Option<String>, Option<String>) {
    let mut script = Script::new(&format!("{RUSSIA}{line}"), "");
    let mut peer = Peer::calling("<sip:+74954451120@pbx.example>");
    peer.remote = NameAddr::parse(to).expect("an address");
    let mut invite = peer.request(Method::INVITE, Some(audio(MEDIA, "RTP/AVP 8", &[])));
    for (name, value) in fields {
        invite.fields.push(name, *value);
    }
    script.hears(invite);
    script.replies(180);
    let call = script.world.calls(0).remove(0);
    match script.phone().all("call.new")[..] {
        [Kind::CallNew { leg, .. }] => (leg.clone(), call.did, call.diverted_by),
        ref others => panic!("{others:?}"),
    }
}

const OURS: &str = "<sip:1001@pbx.example>";
const X_DID: &str = "did_header = \"x-did\"\n";
const CALLED_PARTY: (&str, &str) = ("P-Called-Party-ID", "<sip:84957000001@pbx.example>");
const HISTORY: (&str, &str) =
    ("History-Info", "<sip:+74957000002@pbx.example>;index=1, <sip:1001@pbx.example>;index=1.1;rc=1");
const DIVERSION: (&str, &str) =
    ("Diversion", "<sip:102@pbx.example>;reason=no-answer, <tel:+74957000003>;reason=unconditional");

#[test]
fn the_number_that_was_dialled_from_outside_is_found_where_it_is_believed_most() {
    let did = |line: &str, to: &str, fields: &[(&str, &str)]| {
        let (leg, shown, _) = comes(line, to, fields);
        assert_eq!(shown, leg.did.as_ref().map(|number| number.dialled.clone()));
        leg.did.and_then(|number| number.e164)
    };
    let to = "<sip:84957000004@pbx.example;user=phone>";
    let all = [("X-DID", "8 (495) 700-00-00"), CALLED_PARTY, HISTORY, DIVERSION];
    let of = |last: u8| Some(format!("+7495700000{last}"));
    // Each source is taken away in turn; a header that nobody configured is none.
    assert_eq!(did(X_DID, to, &all), of(0));
    assert_eq!(did("", to, &all), of(1));
    assert_eq!(did(X_DID, to, &all[2..]), of(2));
    assert_eq!(did("", to, &all[3..]), of(3));
    assert_eq!(did("", to, &[]), of(4));
    assert_eq!(did("", OURS, &[]), None);
    // What names the line itself, or another extension, was not dialled from outside.
    for nothing in [
        ("P-Called-Party-ID", OURS),
        ("History-Info", "<sip:102@pbx.example>;index=1, <sip:1001@pbx.example>;index=1.1;mp=1"),
        ("Diversion", "<sip:102@pbx.example>;reason=user-busy"),
    ] {
        assert_eq!(did("", OURS, &[nothing]), None, "{nothing:?}");
        assert_eq!(did("", OURS, &[nothing, HISTORY]), of(2), "{nothing:?}");
    }
    // An address is read as well as a number; what is neither leads to the next source.
    for (value, last) in [
        ("<tel:+74957000005>", 5),
        ("sip:84957000006@trunk.example", 6),
        ("\"Sales\" <sip:+74957000007@x>;x=y", 7),
        ("", 3),
        ("Sales", 3),
        ("<sip:+74957000008@x", 3),
        (&"7".repeat(65), 3),
        ("+7495700\t0009\u{202e}", 3),
    ] {
        assert_eq!(did(X_DID, OURS, &[("X-DID", value), DIVERSION]), of(last), "{value:?}");
    }
}

#[test]
fn who_sent_the_call_on_is_told_unless_that_is_withheld() {
    let by = |fields: &[(&str, &str)]| {
        let (leg, _, shown) = comes("", OURS, fields);
        let diverted = leg.diverted?;
        let number = diverted.by.number.map(|number| number.dialled);
        assert_eq!(shown, number);
        Some((number, diverted.by.name, diverted.by.uri, diverted.reason))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(by(&[DIVERSION]), Some((text("102"), None, text("sip:102@pbx.example"), text("no_answer"))));
    let named = [("Diversion", "\"The Boss\" <sip:102@pbx.example;x=y>;reason=x-moon")];
    assert_eq!(by(&named), Some((text("102"), text("The Boss"), text("sip:102@pbx.example"), None)));
    let hidden = [("Diversion", "\"The Boss\" <sip:102@pbx.example>;privacy=full;reason=away")];
    assert_eq!(by(&hidden), Some((None, None, None, text("away"))));
    let cause = "<sip:103@pbx.example?Reason=SIP%3Bcause%3D486>;index=1, <sip:1001@pbx.example>;index=1.1";
    let busy = Some((text("103"), None, text("sip:103@pbx.example"), text("busy")));
    assert_eq!(by(&[("History-Info", cause)]), busy);
    assert_eq!(by(&[HISTORY]), None, "a number became an extension, nobody sent anything on");
    // More than a list may hold says nothing, and the call rings all the same.
    let many = vec!["<sip:102@pbx.example>;reason=away"; 71].join(", ");
    assert_eq!(by(&[("Diversion", &many)]), None);
    assert_eq!(by(&[("Diversion", "<sip:102@pbx.example>;reason=\"away")]), None);
}
