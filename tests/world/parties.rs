//! Who calls whom, as PBXs tell it: the number that was dialled from outside, and who sent the call on.

use tipring::events::store::Write;
use tipring::events::{Direction, Kind, Leg};
use tipring::phone::command::Command;
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

/// The numbers that `call.party_changed` has told so far; `None` where it was withheld or the first party came back.
fn changes(script: &Script) -> Vec<Option<String>> {
    let told = script.phone().all("call.party_changed").into_iter().map(|kind| match kind {
        Kind::PartyChanged { leg } => {
            leg.connected.as_ref().and_then(|it| it.number.as_ref()).map(|number| number.dialled.clone())
        }
        other => panic!("{other:?}"),
    });
    told.collect()
}

/// What `tipring status` shows of the other end.
fn shown(script: &Script) -> (String, Option<String>) {
    let call = script.world.calls(0).remove(0);
    (call.number, call.name)
}

/// The PBX says by UPDATE who is there now.
fn updates(script: &mut Script, peer: &mut Peer, fields: &[(&str, &str)]) {
    let mut update = peer.request(Method::UPDATE, None);
    fields.iter().for_each(|(name, value)| update.fields.push(name, *value));
    script.hears(update);
    script.replies(200);
}

#[test]
fn whoever_takes_over_at_the_other_end_is_shown_told_and_remembered() {
    let mut script = Script::new("", "");
    let mut peer = script.answered();
    updates(&mut script, &mut peer, &[("P-Asserted-Identity", "<sip:2000@pbx.example>")]);
    assert_eq!(changes(&script), [], "it is the one who was called");
    updates(&mut script, &mut peer, &[("P-Asserted-Identity", "\"Anna\" <sip:+74951234567@pbx.example>")]);
    assert_eq!(shown(&script), ("+74951234567".to_owned(), Some("Anna".to_owned())));
    // Another spelling is nobody else.
    updates(&mut script, &mut peer, &[("P-Asserted-Identity", "\"Anna\" <tel:+7-495-123-45-67>")]);
    let rpid = [("Remote-Party-ID", "\"Ben\" <sip:2002@pbx.example>;party=called;privacy=off")];
    updates(&mut script, &mut peer, &rpid);
    assert_eq!(shown(&script), ("2002".to_owned(), Some("Ben".to_owned())));
    // By re-INVITE, and by the answer to ours.
    let mut invite = peer.request(Method::INVITE, Some(audio(MEDIA, "RTP/AVP 8", &["a=ptime:20"])));
    invite.fields.push("P-Asserted-Identity", "<sip:2003@pbx.example>");
    let number = invite.head.cseq.number;
    script.hears(invite);
    script.replies(200);
    script.hears(peer.numbered(Method::ACK, number, None));
    script.world.tell(0, Command::Hold { call: None });
    let hold = script.says(Method::INVITE);
    let mut held = peer.response(&hold, 200, Some(audio(MEDIA, "RTP/AVP 8", &["a=recvonly"])));
    held.fields.push("P-Asserted-Identity", "<sip:2004@pbx.example>");
    script.hears(held);
    script.says(Method::ACK);
    let hidden = [("P-Asserted-Identity", "<sip:2005@pbx.example>"), ("Privacy", "id")];
    updates(&mut script, &mut peer, &hidden);
    assert_eq!(shown(&script), (String::new(), None));
    updates(&mut script, &mut peer, &[("P-Asserted-Identity", "<sip:2000@pbx.example>")]);
    assert_eq!(shown(&script).0, "2000");
    let text = |text: &str| Some(text.to_owned());
    let expected = [text("+74951234567"), text("2002"), text("2003"), text("2004"), None, None];
    assert_eq!(changes(&script), expected);
    let kept: Vec<_> = script.phone().kept.iter().filter(|it| matches!(it, Write::Call(_))).collect();
    let of = |number: &str| {
        kept.iter().any(|it| matches!(it, Write::Call(entry) if entry.leg.remote().number.as_ref().is_some_and(|it| it.dialled == number)))
    };
    assert!(of("2003") && of("2004"), "the journal knows who was there if the power goes now");
    script.hears(peer.request(Method::BYE, None));
    script.replies(200);
    script.seconds(1);
}

#[test]
fn a_caller_that_changes_while_it_rings_is_shown_before_somebody_answers() {
    let mut script = Script::new("", "");
    let mut peer = Peer::calling("<sip:102@pbx.example>");
    script.hears(peer.request(Method::INVITE, Some(audio(MEDIA, "RTP/AVP 8", &[]))));
    peer.takes(&script.replies(180));
    updates(&mut script, &mut peer, &[("P-Asserted-Identity", "\"Anna\" <sip:+74951234567@pbx.example>")]);
    assert_eq!(shown(&script).0, "+74951234567");
    match script.phone().all("call.party_changed")[..] {
        [Kind::PartyChanged { leg }] => {
            assert_eq!(leg.direction, Direction::In);
            assert_eq!(leg.caller.number.as_ref().map(|it| it.dialled.as_str()), Some("102"), "as it began");
        }
        ref others => panic!("{others:?}"),
    }
    // Nobody outside of the dialog has a say in it.
    let mut stranger = Peer::calling("<sip:103@pbx.example>");
    stranger.remote = peer.remote.clone().with_tag("guessed");
    let mut update = stranger.request(Method::UPDATE, None);
    update.fields.push("P-Asserted-Identity", "<sip:666@pbx.example>");
    script.hears(update);
    script.replies(481);
    assert_eq!(changes(&script).len(), 1);
}
