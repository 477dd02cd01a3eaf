//! Offer and answer over the life of a call: versions, payload numbers, keys and order of media.

use super::capability::{Capability, Codec, Security};
use super::crypto::Suite;
use super::media::Direction;
use super::negotiation::Negotiation;
use super::offer_answer_tests::{capability, sdp, side};
use super::session::Session;
use crate::chance::Chance;

fn version(sdp: &[u8]) -> u64 {
    Session::read(sdp).unwrap().origin.version
}

fn secure() -> Capability {
    Capability { security: Security::Optional, ..capability() }
}

fn pair(ours: Capability, theirs: Capability, chance: &mut Chance) -> (Negotiation, Negotiation) {
    let (mut ours, mut theirs) = (side(ours), side(theirs));
    let offer = ours.offer(chance);
    let (answer, _) = theirs.answer(&offer, chance).unwrap();
    ours.accept(&answer).unwrap();
    (ours, theirs)
}

#[test]
fn the_version_rises_exactly_when_the_content_changes() {
    let mut chance = Chance::from_number(1);
    let mut side = side(capability());
    assert_eq!(version(&side.offer(&mut chance)), 1);
    side.accept(&sdp(&["m=audio 4000 RTP/AVP 8"])).unwrap();
    assert_eq!(version(&side.offer(&mut chance)), 1);
    side.capability_mut().direction = Direction::SendOnly;
    assert_eq!(version(&side.offer(&mut chance)), 2);
    assert_eq!(version(&side.offer(&mut chance)), 2);
    side.withdraw();
    side.capability_mut().direction = Direction::SendRecv;
    assert_eq!(version(&side.offer(&mut chance)), 3);
    let (answer, _) = side.answer(&sdp(&["m=audio 4000 RTP/AVP 8"]), &mut chance).unwrap();
    assert_eq!(version(&answer), 4);
    let (again, _) = side.answer(&sdp(&["m=audio 4000 RTP/AVP 8"]), &mut chance).unwrap();
    assert_eq!(again, answer);
}

#[test]
fn a_late_offer_while_held_by_the_peer_is_the_full_list_both_ways() {
    let mut chance = Chance::from_number(1);
    let mut side = side(capability());
    side.answer(&sdp(&["m=audio 4000 RTP/AVP 8"]), &mut chance).unwrap();
    let (held, _) = side.answer(&sdp(&["m=audio 4000 RTP/AVP 8", "a=sendonly"]), &mut chance).unwrap();
    let late = side.offer(&mut chance);
    let offer = Session::read(&late).unwrap();
    assert_eq!(version(&late), version(&held) + 1);
    assert_eq!(offer.media[0].direction(&offer), Direction::SendRecv);
    assert_eq!(offer.media[0].formats.len(), 6);
    let agreed = side.accept(&sdp(&["m=audio 4000 RTP/AVP 0"])).unwrap();
    assert_eq!((agreed.codecs[0].codec.name.as_str(), agreed.direction), ("PCMU", Direction::SendRecv));
}

#[test]
fn payload_numbers_keep_their_meaning() {
    let mut chance = Chance::from_number(1);
    let mut side = side(capability());
    // The peer's 96 is telephone-event and its 101 is Opus: both the other way round than ours.
    let offer = sdp(&[
        "m=audio 4000 RTP/AVP 101 96",
        "a=rtpmap:101 opus/48000/2",
        "a=rtpmap:96 telephone-event/48000",
    ]);
    side.answer(&offer, &mut chance).unwrap();
    let ours = Session::read(&side.offer(&mut chance)).unwrap();
    let maps: Vec<_> =
        ours.media[0].rtpmaps().into_iter().map(|m| (m.payload_type, m.name, m.clock)).collect();
    assert!(maps.contains(&(101, "opus".to_owned(), 48000)), "{maps:?}");
    assert!(maps.contains(&(96, "telephone-event".to_owned(), 48000)), "{maps:?}");
    let narrow = maps.iter().find(|m| m.1 == "telephone-event" && m.2 == 8000).unwrap();
    assert!(narrow.0 != 101 && narrow.0 != 96, "{maps:?}");
}

#[test]
fn media_keep_their_number_and_order() {
    let mut chance = Chance::from_number(1);
    let mut side = side(capability());
    side.answer(&sdp(&["m=video 4002 RTP/AVP 34", "m=audio 4000 RTP/AVP 8"]), &mut chance).unwrap();
    let ours = Session::read(&side.offer(&mut chance)).unwrap();
    let lines: Vec<_> = ours.media.iter().map(|m| (m.kind.name(), m.port)).collect();
    assert_eq!(lines, [("video", 0), ("audio", 10000)]);
    let answer = sdp(&["m=video 0 RTP/AVP 34", "m=audio 4000 RTP/AVP 8"]);
    assert_eq!(side.accept(&answer).unwrap().index, 1);
}

#[test]
fn an_identical_refresh_changes_nothing() {
    let mut chance = Chance::from_number(1);
    let (mut ours, mut theirs) = pair(secure(), secure(), &mut chance);
    let (before, before_theirs) = (ours.agreed().cloned(), theirs.agreed().cloned());
    let refresh = ours.offer(&mut chance);
    let (answer, _) = theirs.answer(&refresh, &mut chance).unwrap();
    ours.accept(&answer).unwrap();
    assert_eq!(ours.agreed().map(|a| &a.keys), before.as_ref().map(|a| &a.keys));
    assert_eq!(theirs.agreed(), before_theirs.as_ref());
    assert_eq!(ours.agreed().unwrap().codecs, before.unwrap().codecs);
    let (again, _) = theirs.answer(&refresh, &mut chance).unwrap();
    assert_eq!(again, answer);
}

#[test]
fn keys_stay_through_hold_and_change_with_the_address() {
    let mut chance = Chance::from_number(1);
    let (mut ours, mut theirs) = pair(secure(), secure(), &mut chance);
    let key = |side: &Negotiation| side.agreed().unwrap().keys.clone().unwrap().send;
    let (first, first_theirs) = (key(&ours), key(&theirs));
    ours.capability_mut().direction = Direction::SendOnly;
    let hold = ours.offer(&mut chance);
    assert_eq!(Session::read(&hold).unwrap().media[0].cryptos().len(), 1);
    let (answer, _) = theirs.answer(&hold, &mut chance).unwrap();
    ours.accept(&answer).unwrap();
    assert_eq!((key(&ours), key(&theirs)), (first.clone(), first_theirs.clone()));
    ours.capability_mut().port = 10020;
    let moved = ours.offer(&mut chance);
    let (answer, _) = theirs.answer(&moved, &mut chance).unwrap();
    ours.accept(&answer).unwrap();
    assert_ne!(key(&ours), first);
    assert_ne!(key(&theirs), first_theirs);
    assert_eq!(ours.agreed().unwrap().keys.clone().unwrap().receive, key(&theirs));
}

#[test]
fn direct_media_moves_to_the_other_phone_and_back() {
    let mut chance = Chance::from_number(1);
    let mut side = side(Capability { codecs: vec![Codec::new("PCMA", 8000, 8)], ..capability() });
    let pbx = sdp(&["m=audio 4000 RTP/AVP 8"]);
    let phone = b"v=0\r\no=- 1 2 IN IP4 192.0.2.30\r\nc=IN IP4 192.0.2.30\r\nm=audio 16384 RTP/AVP 8\r\n";
    let (_, first) = side.answer(&pbx, &mut chance).unwrap();
    let (_, direct) = side.answer(phone, &mut chance).unwrap();
    let (_, back) = side.answer(&pbx, &mut chance).unwrap();
    assert_eq!(direct.remote_rtp.unwrap().to_string(), "192.0.2.30:16384");
    assert_eq!(first, back);
}

#[test]
fn each_fork_has_its_own_keys_and_codecs() {
    let mut chance = Chance::from_number(1);
    let mut ours = side(secure());
    let offer = ours.offer(&mut chance);
    let (mut left, mut right) = (ours.clone(), ours);
    let mut phones =
        [side(secure()), side(Capability { codecs: vec![Codec::new("PCMU", 8000, 0)], ..secure() })];
    let (first, _) = phones[0].answer(&offer, &mut chance).unwrap();
    let (second, _) = phones[1].answer(&offer, &mut chance).unwrap();
    let (left, right) = (left.accept(&first).unwrap(), right.accept(&second).unwrap());
    assert_eq!((left.codecs[0].codec.name.as_str(), right.codecs[0].codec.name.as_str()), ("opus", "PCMU"));
    assert_ne!(left.keys.as_ref().unwrap().receive, right.keys.as_ref().unwrap().receive);
    assert_eq!(left.keys.unwrap().suite, Suite::AeadAes128Gcm);
}

#[test]
fn a_later_answer_to_the_same_offer_takes_the_place_of_the_first() {
    let mut chance = Chance::from_number(1);
    let mut side = side(capability());
    side.offer(&mut chance);
    side.accept(&sdp(&["m=audio 4000 RTP/AVP 8"])).unwrap();
    let last = side.accept(&sdp(&["m=audio 5000 RTP/AVP 0"])).unwrap();
    assert_eq!((last.remote_rtp.unwrap().port(), last.codecs[0].codec.name.as_str()), (5000, "PCMU"));
}

#[test]
fn a_refused_offer_leaves_everything_as_it_was() {
    let mut chance = Chance::from_number(1);
    let mut side = side(capability());
    let (answer, before) = side.answer(&sdp(&["m=audio 4000 RTP/AVP 8"]), &mut chance).unwrap();
    assert_eq!(side.answer(&sdp(&["m=image 4004 udptl t38"]), &mut chance).unwrap_err().status(), 488);
    assert_eq!(side.agreed(), Some(&before));
    let (again, _) = side.answer(&sdp(&["m=audio 4000 RTP/AVP 8"]), &mut chance).unwrap();
    assert_eq!(again, answer);
}

#[test]
fn an_offer_that_could_not_go_out_leaves_the_one_before_open() {
    let mut chance = Chance::from_number(1);
    let mut side = side(capability());
    side.offer(&mut chance);
    side.accept(&sdp(&["m=audio 4000 RTP/AVP 8"])).unwrap();
    side.capability_mut().direction = Direction::SendOnly;
    side.offer(&mut chance);
    side.capability_mut().direction = Direction::SendRecv;
    side.offer(&mut chance);
    side.withdraw();
    let agreed = side.accept(&sdp(&["m=audio 4000 RTP/AVP 8", "a=recvonly"])).unwrap();
    assert_eq!((agreed.direction, agreed.hold.by_us), (Direction::SendOnly, true));
}
