//! Somebody comes in the place of the far end (INVITE with Replaces): what the target of an attended transfer hears and tells,
//! and whoever's call was picked up by another phone.

use tipring::audio::g711::{self, Law};
use tipring::audio::similarity::similarity;
use tipring::events::{CallResult, EndedBy, Follows, Kind, Leg, Side, Transfer, TransferWay};
use tipring::phone::command::{Callback, Command, End, RecordAction};
use tipring::rtp::packet::Packet;
use tipring::sip::message::Request;
use tipring::sip::method::Method;

use crate::referred::{ends, replies, says};
use crate::script::{MEDIA, Peer, Script, Voice, audio};

/// Where whoever comes speaks.
const ELSEWHERE: &str = "198.51.100.1:20100";
/// Where the second one of a callback speaks.
const THIRD: &str = "198.51.100.1:20200";

fn a_law(address: &str) -> Option<String> {
    Some(audio(address, "RTP/AVP 8", &[]))
}

/// Somebody calls, with this tag.
fn caller(number: &str, tag: &str) -> Peer {
    let mut peer = Peer::calling(&format!("<sip:{number}@pbx.example>"));
    peer.local = peer.local.clone().with_tag(tag);
    peer
}

/// An INVITE that takes the place of another peer.
fn in_place_of(other: &Peer, peer: &mut Peer, sdp: Option<String>) -> Request {
    let mut invite = peer.request(Method::INVITE, sdp);
    let (ours, theirs) = (other.remote.tag().expect("our tag"), other.local.tag().expect("a tag"));
    invite.fields.push("Replaces", format!("{};to-tag={ours};from-tag={theirs}", other.call_id));
    invite
}

/// 102 takes the place of another peer and is answered; from then on media come to the new leg.
fn takes_place(script: &mut Script, other: &Peer) -> Peer {
    let mut carol = caller("102", "carol");
    let invite = in_place_of(other, &mut carol, a_law(ELSEWHERE));
    let number = invite.head.cseq.number;
    script.hears(invite);
    let ok = replies(script, 200);
    carol.takes(&ok);
    script.hears(carol.numbered(Method::ACK, number, None));
    script.port = port_in(&ok.body);
    carol
}

fn port_in(sdp: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(sdp);
    let port = text.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next()?.parse().ok());
    port.unwrap_or_else(|| panic!("no port in {text}"))
}

/// The phone hangs up with this peer.
fn is_hung_up(script: &mut Script, peer: &Peer) {
    let bye = says(script, Method::BYE);
    assert_eq!((bye.head.to_tag(), &bye.head.call_id), (peer.local.tag(), &peer.call_id));
    script.hears(peer.response(&bye, 200, None));
    script.millis(500);
}

/// What the phone has said to this address.
fn said_to(script: &Script, address: &str) -> Vec<i16> {
    let mut pcm = Vec::new();
    for datagram in script.voice_to(address) {
        let packet = Packet::parse(&datagram.bytes).expect("a packet");
        g711::decode(Law::A, packet.payload, &mut pcm);
    }
    pcm
}

/// The legs of each `call.transferred`: the one that was left and the one that goes on.
fn transfers(script: &Script) -> Vec<(&Leg, &Transfer, &str)> {
    let told = script.phone().all("call.transferred").into_iter().map(|kind| match kind {
        Kind::CallTransferred { leg, transfer, by: Side::Remote, next_leg: Some(next) } => {
            (leg, transfer, next.as_str())
        }
        other => panic!("{other:?}"),
    });
    told.collect()
}

#[test]
fn whoever_comes_in_the_place_of_the_far_end_is_heard_and_it_is_one_call() {
    let mut script = Script::new("", "");
    let bob = script.answered();
    let id = script.world.calls(0)[0].id.clone();
    let mut voice = Voice::new(MEDIA, 1);
    script.listen();
    script.talk(4_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.75, "{}", script.heard(&voice));
    let mut carol = takes_place(&mut script, &bob);
    is_hung_up(&mut script, &bob);
    let mut other = Voice::new(ELSEWHERE, 2);
    script.listen();
    script.talk(4_000, &mut [&mut other]);
    assert!(script.heard(&other) > 0.75, "{}", script.heard(&other));
    assert!(script.voice_to(ELSEWHERE).len() > 140 && script.voice_to(MEDIA).is_empty());
    let calls = script.world.calls(0);
    let shown: Vec<_> = calls.iter().map(|call| (&*call.id, &*call.leg, &*call.number, call.state)).collect();
    assert_eq!(shown, [(id.as_str(), format!("{id}-2").as_str(), "102", "active")]);
    script.hears(carol.request(Method::BYE, None));
    replies(&mut script, 200);
    script.seconds(1);
    let told = transfers(&script);
    let [(leg, transfer, next)] = told[..] else { panic!("{told:?}") };
    assert_eq!((&leg.leg_id, next), (&format!("{id}-1"), format!("{id}-2").as_str()));
    assert_eq!(transfer.way, TransferWay::Attended);
    assert_eq!(transfer.target.number.as_ref().map(|number| number.dialled.as_str()), Some("102"));
    match script.phone().all("call.ended")[..] {
        [Kind::CallEnded { cause, .. }, _] => {
            assert_eq!((cause.text.as_deref(), cause.by), (Some("taken over by 102"), Some(EndedBy::Remote)));
        }
        ref others => panic!("{others:?}"),
    }
    use CallResult::Answered;
    let legs = vec![("1".to_owned(), Answered), ("2".to_owned(), Answered)];
    assert_eq!(ends(&script), (legs, vec![(2, Answered)]));
    match script.phone().all("call.closed")[..] {
        [Kind::CallClosed { total_us, talk_us, called, .. }] => {
            assert_eq!(called.number.as_ref().map(|number| number.dialled.as_str()), Some("2000"));
            assert!(*talk_us > 8_000_000 && talk_us <= total_us && *total_us < 12_000_000, "{talk_us}");
        }
        ref others => panic!("{others:?}"),
    }
    assert!(!script.phone().has("call.ringing"), "nobody was disturbed");
    let follows = Follows { leg_id: format!("{id}-1"), way: TransferWay::Attended };
    let answered = script.phone().all("call.answered").pop().and_then(Kind::leg).expect("a leg");
    assert_eq!((answered.leg_id.as_str(), answered.follows.as_deref()), (next, Some(&follows)));
}

#[test]
fn what_was_wanted_of_the_call_holds_for_whoever_comes() {
    let mut script = Script::new("", "");
    let bob = script.answered();
    for action in [RecordAction::Start, RecordAction::Pause] {
        script.world.tell(0, Command::Record { call: None, action });
    }
    script.world.tell(0, Command::Mute { call: None, on: true });
    script.world.tell(0, Command::Hold { call: None });
    let hold = says(&mut script, Method::INVITE);
    script.hears(bob.response(&hold, 200, Some(audio(MEDIA, "RTP/AVP 8", &["a=recvonly"]))));
    says(&mut script, Method::ACK);
    takes_place(&mut script, &bob);
    is_hung_up(&mut script, &bob);
    let call = &script.world.calls(0)[0];
    // Whoever comes has not been put on hold.
    assert_eq!((call.state, call.muted, call.recording), ("active", true, "paused"));
    let is_loud =
        |script: &Script| said_to(script, ELSEWHERE).iter().any(|sample| sample.unsigned_abs() > 1_000);
    script.listen();
    script.seconds(2);
    assert!(!is_loud(&script), "it is muted");
    script.world.tell(0, Command::Mute { call: None, on: false });
    script.listen();
    script.seconds(2);
    assert!(is_loud(&script));
    let recorded: Vec<_> = script
        .phone()
        .all("recording.started")
        .into_iter()
        .map(|kind| match kind {
            Kind::RecordingStarted { leg_id, .. } => leg_id.rsplit('-').next().expect("a number").to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(recorded, ["1", "2"]);
}

#[test]
fn a_call_that_rings_at_one_phone_is_taken_by_another_one() {
    let mut script = Script::new("", "");
    let (invite, bob) = script.calls();
    script.hears(bob.response(&invite, 180, None));
    let mut carol = takes_place(&mut script, &bob);
    let cancel = says(&mut script, Method::CANCEL);
    let reason = cancel.fields.text("Reason").unwrap_or_default().into_owned();
    assert_eq!(reason, "SIP;cause=200;text=\"Call completed elsewhere\"", "nobody has missed anything");
    script.hears(bob.response(&cancel, 200, None));
    script.hears(bob.response(&invite, 487, None));
    says(&mut script, Method::ACK);
    let mut voice = Voice::new(ELSEWHERE, 2);
    script.listen();
    script.talk(4_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.75, "{}", script.heard(&voice));
    script.hears(carol.request(Method::BYE, None));
    replies(&mut script, 200);
    script.seconds(1);
    use CallResult::{Answered, Cancelled};
    let legs = vec![("1".to_owned(), Cancelled), ("2".to_owned(), Answered)];
    assert_eq!(ends(&script), (legs, vec![(2, Answered)]));
}

#[test]
fn nothing_that_keeps_calls_from_ringing_keeps_this_one() {
    let list = "[blacklist]\nnumbers = [\"102\"]\nstatus = 603\n";
    let mut script = Script::new("dnd = true\nmax_calls = 1", list);
    let bob = script.answered();
    let unwanted = caller("102", "eve").request(Method::INVITE, a_law(ELSEWHERE));
    script.hears(unwanted);
    replies(&mut script, 603);
    takes_place(&mut script, &bob);
    is_hung_up(&mut script, &bob);
    assert_eq!(script.world.calls(0)[0].number, "102");
}

#[test]
fn whoever_can_not_be_understood_leaves_the_call_as_it_is() {
    let mut script = Script::new("", "");
    let bob = script.answered();
    let mut eve = caller("104", "eve");
    let invite = in_place_of(&bob, &mut eve, Some(audio(ELSEWHERE, "RTP/AVP 3", &[])));
    script.hears(invite);
    replies(&mut script, 488);
    script.is_silent();
    let mut guess = bob.clone();
    guess.local = guess.local.with_tag("guess");
    let invite = in_place_of(&guess, &mut caller("105", "mallory"), a_law(ELSEWHERE));
    script.hears(invite);
    replies(&mut script, 481);
    script.is_silent();
    assert_eq!((script.phone().all("call.new").len(), script.world.calls(0)[0].number.as_str()), (1, "2000"));
    // One who lets us offer is understood when the answer comes.
    let mut carol = caller("102", "carol");
    let invite = in_place_of(&bob, &mut carol, None);
    let number = invite.head.cseq.number;
    script.hears(invite);
    let ok = replies(&mut script, 200);
    carol.takes(&ok);
    script.hears(carol.numbered(Method::ACK, number, a_law(ELSEWHERE)));
    is_hung_up(&mut script, &bob);
    script.port = port_in(&ok.body);
    let mut voice = Voice::new(ELSEWHERE, 2);
    script.listen();
    script.talk(4_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.75, "{}", script.heard(&voice));
}

/// Both talk whom the phone has rung one after the other: their sides, and the port where it hears the first one.
fn joined(first: &str, second: &str) -> (Script, Peer, Peer, u16) {
    let mut script = Script::new("max_calls = 4", "");
    let end = |number: &str| End { number: number.to_owned(), line: None };
    let wish = Callback { from: end(first), to: end(second), ring_for: None, request: None };
    script.world.tell(0, Command::Callback(wish));
    let invite = says(&mut script, Method::INVITE);
    let port = port_in(&invite.body);
    let bob = Peer::answering(&invite, "bob");
    script.hears(bob.response(&invite, 200, a_law(MEDIA)));
    says(&mut script, Method::ACK);
    let invite = says(&mut script, Method::INVITE);
    let dora = Peer::answering(&invite, "dora");
    script.hears(dora.response(&invite, 200, a_law(THIRD)));
    says(&mut script, Method::ACK);
    (script, bob, dora, port)
}

#[test]
fn the_other_one_in_a_bridge_talks_with_whoever_comes() {
    somebody_comes_into_a_bridge(joined("103", "104"));
}

#[test]
fn a_caller_who_was_given_back_talks_with_whoever_comes_for_the_extension() {
    somebody_comes_into_a_bridge(given_back());
}

/// Somebody takes the place of the second one in a bridge: the first one's and the second one's sides, and the port where the
/// phone hears the first one.
fn somebody_comes_into_a_bridge((mut script, bob, dora, port): (Script, Peer, Peer, u16)) {
    let mut carol = takes_place(&mut script, &dora);
    is_hung_up(&mut script, &dora);
    let told: Vec<_> = script
        .phone()
        .all("call.bridged")
        .into_iter()
        .map(|kind| match kind {
            Kind::CallBridged { leg, with } => {
                [&leg.leg_id, with].map(|leg| leg.rsplit('-').next().expect("a number").to_owned())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [["1", "2"], ["2", "1"], ["1", "3"], ["3", "1"]]);
    let likeness = |said: &Voice, heard: &[i16]| {
        similarity(&said.said, heard, 8_000, 8_000).map_or(0.0, |likeness| likeness.found)
    };
    let mut comer = Voice::new(ELSEWHERE, 2);
    script.listen();
    script.talk(4_000, &mut [&mut comer]);
    let heard = likeness(&comer, &said_to(&script, MEDIA));
    assert!(heard > 0.75, "{heard}");
    script.port = port;
    let mut voice = Voice::new(MEDIA, 1);
    script.listen();
    script.talk(4_000, &mut [&mut voice]);
    let heard = likeness(&voice, &said_to(&script, ELSEWHERE));
    assert!(heard > 0.75 && script.voice_to(THIRD).is_empty(), "{heard}");
    // Whoever leaves takes the other one along.
    script.hears(carol.request(Method::BYE, None));
    replies(&mut script, 200);
    is_hung_up(&mut script, &bob);
    script.seconds(1);
    assert_eq!(ends(&script).1, [(3, CallResult::Answered)]);
}

/// A caller of outside whose call goes to the extension that called that number before.
fn given_back() -> (Script, Peer, Peer, u16) {
    let mut script = Script::new("max_calls = 4", "[sticky]\nwithin = \"30m\"\n");
    crate::sticky::remember(&mut script.world, "12125550100", "104");
    let mut bob = Peer::calling("<sip:12125550100@pbx.example>");
    let invite = bob.request(Method::INVITE, a_law(MEDIA));
    let number = invite.head.cseq.number;
    script.hears(invite);
    let forth = says(&mut script, Method::INVITE);
    assert_eq!(forth.uri.to_string(), "sip:104@pbx.example");
    assert_eq!(forth.head.from.display.as_deref(), Some("12125550100"));
    replies(&mut script, 180);
    let dora = Peer::answering(&forth, "dora");
    script.hears(dora.response(&forth, 200, a_law(THIRD)));
    says(&mut script, Method::ACK);
    let ok = replies(&mut script, 200);
    let port = port_in(&ok.body);
    bob.takes(&ok);
    script.hears(bob.numbered(Method::ACK, number, None));
    (script, bob, dora, port)
}

#[test]
fn strangers_do_not_come_together_by_the_place_of_another_one() {
    let (mut script, _, dora, _) = joined("12125550100", "104");
    let mut stranger = caller("12125550101", "stranger");
    let invite = in_place_of(&dora, &mut stranger, a_law(ELSEWHERE));
    script.hears(invite);
    replies(&mut script, 603);
    match script.phone().all("call.refused")[..] {
        [Kind::CallRefused { rule, .. }] => assert_eq!(rule, "limits.external_to_external"),
        ref others => panic!("{others:?}"),
    }
    assert_eq!(script.world.calls(0).len(), 2);
    // Somebody of the house may come.
    takes_place(&mut script, &dora);
    is_hung_up(&mut script, &dora);
}
