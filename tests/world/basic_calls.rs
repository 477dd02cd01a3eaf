//! A call from its first ring to its end, as both sides see it.

use tipring::audio::tones::Tone;
use tipring::demo::pbx::Service;
use tipring::events::{CallResult, EndedBy, Kind};
use tipring::media::{self, Sounder, Terminal, TerminalInput};
use tipring::phone::command::Command;

use crate::world::{ANSWER, HANG_UP, World, call, config};

/// How the calls of a phone ended, in order.
fn results(world: &World, phone: usize) -> Vec<(CallResult, Option<u16>, bool)> {
    let mut found = Vec::new();
    for recorded in &world.phones[phone].events {
        match &recorded.event.kind {
            Kind::CallEnded { result, cause, .. } => found.push((*result, cause.status, false)),
            Kind::CallClosed { missed, result, .. } => {
                let last = found.last_mut().expect("an end before the close");
                assert_eq!(last.0, *result);
                last.2 = *missed;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn two_phones_talk_and_hear_each_other() {
    let mut world = World::with_phones(1, 2);
    world.tell(0, call("1002"));
    world.millis(500);
    assert_eq!(world.calls(0)[0].state, "ringing");
    assert_eq!((world.calls(1)[0].state, world.calls(1)[0].number.as_str()), ("ringing", "1001"));
    assert!(
        world.phones[0].tones.contains(&(Sounder::Terminal, Some(Tone::RingBack))),
        "{:?}",
        world.phones[0].tones
    );
    assert_eq!(world.phones[1].tones, [(Sounder::Ringer, Some(Tone::Ring))]);
    world.tell(1, ANSWER);
    world.seconds(1);
    world.talk(5);
    world.assert_heard(0, 1);
    world.assert_heard(1, 0);
    world.tell(0, HANG_UP);
    world.seconds(1);
    let story = ["call.new", "call.dialing", "call.ringing", "call.answered", "call.media"];
    assert_eq!(world.phones[0].told()[2..7], story);
    let story = ["call.new", "call.ringing", "call.answered", "call.media"];
    assert_eq!(world.phones[1].told()[2..6], story);
    for phone in 0..2 {
        assert!(world.calls(phone).is_empty());
        assert_eq!(results(&world, phone), [(CallResult::Answered, None, false)]);
        let ended = world.phones[phone].all("call.ended");
        let [Kind::CallEnded { cause, talk_us, quality: Some(quality), .. }] = ended.as_slice() else {
            panic!("{ended:?}")
        };
        assert_eq!(cause.by, Some(if phone == 0 { EndedBy::Local } else { EndedBy::Remote }));
        assert!((5_900_000..6_200_000).contains(talk_us), "{talk_us}");
        assert_eq!((quality.codec.as_str(), quality.packets_lost), ("opus", 0));
        assert!(quality.mos.is_some_and(|mos| mos > 4.0), "{quality:?}");
    }
    assert_eq!(world.pbx.calls(), 0, "the PBX forgot the call");
}

#[test]
fn every_codec_carries_the_words() {
    for codec in ["opus", "G722", "PCMA", "PCMU"] {
        let mut world = World::new(4);
        for user in ["1001", "1002"] {
            world.add_phone(config(user, &format!("codecs = [\"{codec}\"]"), ""));
        }
        world.seconds(1);
        world.connect();
        world.talk(4);
        world.assert_heard(0, 1);
        world.assert_heard(1, 0);
        let media = world.phones[0].all("call.media");
        assert!(
            matches!(media.as_slice(), [Kind::CallMedia { codec: told, .. }] if told == codec),
            "{media:?}"
        );
    }
}

#[test]
fn srtp_carries_the_words_and_no_stranger_reads_them() {
    let mut world = World::new(4);
    for user in ["1001", "1002"] {
        world.add_phone(config(user, "srtp = \"required\"\ncodecs = [\"PCMA\"]", ""));
    }
    world.seconds(1);
    world.connect();
    world.talk(3);
    world.assert_heard(0, 1);
    assert!(world.calls(0)[0].srtp && world.calls(1)[0].srtp);
}

#[test]
fn the_echo_says_it_again() {
    let mut world = World::with_phones(1, 1);
    world.tell(0, call("600"));
    world.seconds(2);
    world.talk(5);
    world.assert_heard(0, 0);
    world.tell(0, HANG_UP);
    world.seconds(1);
    assert_eq!(results(&world, 0), [(CallResult::Answered, None, false)]);
}

#[test]
fn a_call_that_nobody_takes_is_missed() {
    let mut world = World::with_phones(1, 2);
    world.tell(0, call("1002"));
    world.seconds(5);
    world.tell(0, HANG_UP);
    world.seconds(1);
    assert_eq!(results(&world, 0), [(CallResult::Cancelled, None, false)]);
    let missed = results(&world, 1);
    assert_eq!((missed[0].0, missed[0].2), (CallResult::Cancelled, true), "{missed:?}");
    assert_eq!(world.phones[1].tones.last(), Some(&(Sounder::Ringer, None)));
}

#[test]
fn a_call_answered_elsewhere_is_not_missed() {
    let mut world = World::with_phones(1, 2);
    // A second phone of the same extension.
    world.add_phone(config("1002", "", ""));
    world.seconds(1);
    world.tell(0, call("1002"));
    world.seconds(1);
    assert_eq!((world.calls(1)[0].state, world.calls(2)[0].state), ("ringing", "ringing"));
    world.tell(2, ANSWER);
    world.seconds(1);
    world.talk(3);
    world.assert_heard(0, 2);
    world.assert_not_heard(0, 1);
    let lost = results(&world, 1);
    assert_eq!((lost[0].0, lost[0].2), (CallResult::AnsweredElsewhere, false), "{lost:?}");
    world.tell(0, HANG_UP);
    world.seconds(1);
    assert_eq!(results(&world, 2), [(CallResult::Answered, None, false)]);
}

#[test]
fn whoever_is_called_may_refuse() {
    let mut world = World::with_phones(1, 2);
    for (status, result) in [(486, CallResult::Busy), (603, CallResult::Rejected)] {
        world.tell(0, call("1002"));
        world.seconds(1);
        world.tell(1, Command::Reject { call: None, status });
        world.seconds(1);
        let caller = *results(&world, 0).last().unwrap();
        assert_eq!((caller.0, caller.1), (result, Some(status)));
        let called = *results(&world, 1).last().unwrap();
        assert_eq!((called.0, called.1, called.2), (result, Some(status), result == CallResult::Busy));
    }
    assert!(world.phones[0].tones.contains(&(Sounder::Terminal, Some(Tone::Busy))));
}

#[test]
fn busy_not_found_and_absent_are_told_apart() {
    let mut world = World::with_phones(1, 1);
    world.pbx.set_number("601", Service::Refuse(486));
    for (number, status, result) in [
        ("601", 486, CallResult::Busy),
        ("777", 404, CallResult::InvalidNumber),
        ("1009", 480, CallResult::Unreachable),
    ] {
        world.tell(0, call(number));
        world.seconds(6);
        let last = *results(&world, 0).last().unwrap();
        assert_eq!((last.0, last.1), (result, Some(status)), "{number}");
    }
    assert_eq!(world.phones[0].tones.last(), Some(&(Sounder::Terminal, None)), "no tone sounds on");
}

#[test]
fn early_media_are_heard_before_the_answer() {
    let mut world = World::with_phones(1, 1);
    world.pbx.set_number("602", Service::EarlyEcho);
    world.tell(0, call("602"));
    world.millis(400);
    world.talk(1);
    world.assert_heard(0, 0);
    assert_eq!(world.calls(0)[0].state, "early");
    assert!(!world.phones[0].tones.contains(&(Sounder::Terminal, Some(Tone::RingBack))), "the PBX is heard");
    world.seconds(3);
    assert_eq!(world.calls(0)[0].state, "active");
    let story = ["call.new", "call.dialing", "call.early", "call.answered", "call.media"];
    assert_eq!(world.phones[0].told()[2..7], story);
}

#[test]
fn a_phone_without_a_sound_card_invents_nothing() {
    for seed in 0..8 {
        let mut world = World::with_phones(seed, 2);
        // The timer's grid lies anywhere against the packets of the other side.
        world.millis(1 + 3 * seed);
        let now = world.now();
        let terminal = Terminal::Timer { rate: 8_000, input: TerminalInput::Silence, output: None };
        world.phones[1].card.unplug();
        world.phones[1].engine.handle(now, media::Command::Terminal(terminal));
        world.connect();
        world.seconds(20);
        world.tell(0, HANG_UP);
        world.seconds(1);
        let ended = world.phones[1].all("call.ended");
        let [Kind::CallEnded { quality: Some(quality), .. }] = ended.as_slice() else { panic!("{ended:?}") };
        assert!(quality.packets_received > 900, "{quality:?}");
        assert!(quality.concealed_percent < 0.5, "seed {seed}: {quality:?}");
    }
}

#[test]
fn dtls_gives_the_keys_that_carry_the_words() {
    for (ours, theirs) in [("required", "required"), ("optional", "required"), ("optional", "optional")] {
        let mut world = World::new(4);
        for (user, srtp) in [("1001", ours), ("1002", theirs)] {
            let line = format!("srtp = \"{srtp}\"\nsrtp_keys = \"dtls\"\ncodecs = [\"PCMA\"]");
            world.add_phone(config(user, &line, ""));
        }
        world.seconds(1);
        // RTP/AVP with a fingerprint is enough for who requires it (RFC 8643).
        world.connect();
        world.talk(3);
        world.assert_heard(0, 1);
        world.assert_heard(1, 0);
        assert!(world.calls(0)[0].srtp && world.calls(1)[0].srtp, "{ours} {theirs}");
        for phone in 0..2 {
            let media = world.phones[phone].all("call.media");
            let [Kind::CallMedia { srtp, .. }] = media[..] else { panic!("{media:?}") };
            assert_eq!(srtp.as_deref(), Some("AEAD_AES_128_GCM"));
        }
    }
}

#[test]
fn a_line_with_dtls_calls_one_without_srtp_only_if_it_may() {
    for (srtp, result) in [("required", CallResult::Failed), ("optional", CallResult::Answered)] {
        let mut world = World::new(4);
        let line = format!("srtp = \"{srtp}\"\nsrtp_keys = \"dtls\"\ncodecs = [\"PCMA\"]");
        world.add_phone(config("1001", &line, ""));
        world.add_phone(config("1002", "codecs = [\"PCMA\"]", ""));
        world.seconds(1);
        world.tell(0, call("1002"));
        world.seconds(2);
        if result == CallResult::Answered {
            world.tell(1, ANSWER);
            world.talk(2);
            world.assert_heard(0, 1);
            assert!(!world.calls(0)[0].srtp && !world.calls(1)[0].srtp);
            world.tell(0, HANG_UP);
            world.seconds(1);
        }
        assert_eq!(results(&world, 0)[0].0, result, "{srtp}");
    }
}
