//! Calls between two engines over an impaired link, in virtual time.

use super::link::{LEG, Link, Path, address, codec, format, held, plan};
use super::*;
use crate::audio::resample::Resampler;
use crate::audio::similarity::{self, Similarity};
use crate::audio::speech::Speech;
use crate::rtp::srtp::{Keys, Profile};

fn speech(seed: u64, rate: u32, seconds: u32) -> Vec<i16> {
    let mut samples = vec![0; (rate * seconds) as usize];
    Speech::new(seed, rate).fill(&mut samples);
    samples
}

/// How the last `seconds` that end `end` played resemble what the other one said in a loop.
fn resemblance(link: &Link, end: usize, seconds: usize) -> Similarity {
    let rate_of = |end: usize| link.ends[end].device.as_ref().expect("a device").rate;
    let rate = rate_of(end);
    let mut spoken = Vec::new();
    let mut resampler = Resampler::new(rate_of(1 - end), rate).expect("rates of the table");
    resampler.process(&link.ends[1 - end].speech, &mut spoken);
    let played = &link.ends[end].played;
    let recent = &played[played.len() - seconds * rate as usize..];
    // The loop makes it unimportant where in the speech the recording begins.
    let reference: Vec<i16> = recent[..recent.len() - rate as usize].to_vec();
    let twice = [spoken.as_slice(), &spoken].concat();
    similarity::similarity(&reference, &twice, rate, spoken.len()).expect("sound on both sides")
}

fn talking(seed: u64, codec: &str, rates: [u32; 2], ppm: [i64; 2]) -> Link {
    let mut link = Link::new(seed);
    for end in 0..2 {
        link.device(end, rates[end], ppm[end]);
        link.ends[end].speech = speech(seed * 2 + end as u64, rates[end], 7);
    }
    link.call([plan(0, codec), plan(1, codec)]);
    link
}

fn events(link: &Link, end: usize) -> &[Event] {
    &link.ends[end].events
}

fn last_report(link: &Link, end: usize) -> &Report {
    let last = events(link, end).iter().rev().find_map(|event| match event {
        Event::Quality { report, .. } | Event::Closed { report, .. } => Some(report.as_ref()),
        _ => None,
    });
    last.expect("a report")
}

#[test]
fn a_call_is_heard_on_both_sides_and_ends_with_figures() {
    let mut link = talking(1, "PCMU", [8000, 8000], [0, 0]);
    link.run_ms(10_000);
    for end in 0..2 {
        let found = resemblance(&link, end, 4);
        assert!(found.correlation > 0.95, "{found:?}");
        assert!(matches!(
            events(&link, end).iter().find(|event| matches!(event, Event::FirstPacket { .. })),
            Some(Event::FirstPacket { codec, from, .. })
                if codec.name == "PCMU" && *from == address(1 - end, Component::Rtp)
        ));
        let report = link.close(end);
        assert!((480..=520).contains(&report.packets_received), "{report:?}");
        assert_eq!((report.packets_lost, report.packets_refused, report.concealed_ms), (0, 0, 0));
        assert!(report.mos > 4.0 && report.mos_scale == "G.107", "{report:?}");
        assert!(report.buffer_mean_ms < 60.0, "{report:?}");
    }
    assert_eq!(link.ends[0].engine.legs(), 0);
}

#[test]
fn ten_minutes_with_jitter_loss_and_drift_keep_their_delay_and_their_sound() {
    let mut link = talking(2, "PCMA", [8000, 8000], [150, -150]);
    link.paths = [Path { delay_us: 30_000, jitter_us: 6_000, reorders: true, loss: 0.01, doubles: 0.005 }; 2];
    for end in &mut link.ends {
        end.played.reserve(8_000 * 610);
    }
    let mut delays = Vec::new();
    for _ in 0..10 {
        link.run_ms(60_000);
        delays.push((last_report(&link, 0).buffer_ms, last_report(&link, 1).buffer_ms));
    }
    for end in 0..2 {
        let found = resemblance(&link, end, 6);
        assert!(found.found > 0.8, "{end} {found:?}");
        let report = link.close(end);
        // Copies count as received (RFC 3550 A.3).
        assert!((0.3..0.7).contains(&report.loss_percent), "{report:?}");
        assert!(report.buffer_mean_ms < 80.0, "{report:?} {delays:?}");
        assert!(report.concealed_ms < 600_000 / 25, "{report:?}");
        // 300 ppm over 10 minutes are 180 ms, which one side must shrink and the other stretch or conceal.
        assert!(report.shrunk_ms + report.stretched_ms > 60, "{report:?}");
    }
    assert!(delays.iter().all(|&(one, other)| one < 100.0 && other < 100.0), "{delays:?}");
}

#[test]
fn every_codec_and_every_packet_length_carries_speech() {
    for (seed, name) in [(10, "PCMU"), (11, "PCMA"), (12, "G722"), (13, "opus")] {
        let lengths: &[u8] = if name == "PCMU" { &[10, 20, 30, 40, 50, 60] } else { &[10, 30, 60] };
        for &ptime in lengths {
            let mut link = Link::new(seed);
            for end in 0..2 {
                link.device(end, 16_000, 0);
                link.ends[end].speech = speech(seed + end as u64, 16_000, 3);
            }
            let mut plans = [plan(0, name), plan(1, name)];
            // The other side keeps its 20 ms.
            plans[0].ptime_ms = ptime;
            link.call(plans);
            link.run_ms(7_000);
            for end in 0..2 {
                let found = resemblance(&link, end, 3);
                assert!(found.found > 0.9, "{name} {ptime} {end} {found:?}");
            }
            let report = link.close(0);
            let expected = 7_000 / u64::from(codec(name).ptime(u32::from(ptime)));
            assert!(report.packets_sent.abs_diff(expected) <= 3, "{name} {ptime} {report:?}");
            assert_eq!(report.mos_scale, if codec(name).wideband { "G.107.1" } else { "G.107" });
        }
    }
}

#[test]
fn hold_is_silence_without_alarm_and_resume_is_heard_at_once() {
    let mut link = talking(3, "PCMU", [8000, 8000], [0, 0]);
    link.run_ms(3_000);
    // End 0 holds: it sends silence, end 1 only listens.
    link.order(0, Command::Place { leg: LEG, room: Room::Apart });
    link.order(0, Command::Update { leg: LEG, plan: Box::new(held(plan(0, "PCMU"), Direction::SendOnly)) });
    link.order(1, Command::Update { leg: LEG, plan: Box::new(held(plan(1, "PCMU"), Direction::RecvOnly)) });
    link.run_ms(20_000);
    let silent = |link: &Link, end: usize| {
        let played = &link.ends[end].played;
        played[played.len() - 8000..].iter().all(|sample| sample.abs() < 16)
    };
    assert!(silent(&link, 0) && silent(&link, 1));
    for end in 0..2 {
        assert!(!events(&link, end).iter().any(|event| matches!(event, Event::Silence { .. })));
    }
    link.order(0, Command::Update { leg: LEG, plan: Box::new(plan(0, "PCMU")) });
    link.order(0, Command::Place { leg: LEG, room: Room::Terminal });
    link.order(1, Command::Update { leg: LEG, plan: Box::new(plan(1, "PCMU")) });
    link.run_ms(4_000);
    for end in 0..2 {
        let found = resemblance(&link, end, 3);
        assert!(found.found > 0.95, "{end} {found:?}");
        assert!(link.close(end).buffer_ms < 60.0);
    }
}

#[test]
fn inactive_both_ways_sends_nothing_but_rtcp() {
    let mut link = talking(4, "PCMU", [8000, 8000], [0, 0]);
    link.run_ms(1_000);
    for end in 0..2 {
        let plan = held(plan(end, "PCMU"), Direction::Inactive);
        link.order(end, Command::Update { leg: LEG, plan: Box::new(plan) });
    }
    link.run_ms(100);
    link.ends[0].keep_sent = true;
    link.run_ms(30_000);
    let (rtp, rtcp): (Vec<_>, Vec<_>) =
        link.ends[0].sent.iter().partition(|(_, component, _)| *component == Component::Rtp);
    assert!(rtp.is_empty());
    assert!(rtcp.len() >= 3, "{}", rtcp.len());
    assert!(
        !events(&link, 0).iter().any(|event| matches!(event, Event::Silence { .. } | Event::TimedOut { .. }))
    );
}

#[test]
fn silence_is_told_once_then_resumed_or_timed_out() {
    let mut link = talking(5, "PCMU", [8000, 8000], [0, 0]);
    link.run_ms(2_000);
    link.paths[0].loss = 1.0;
    link.run_ms(8_000);
    let told = |link: &Link| -> Vec<Event> {
        let told = events(link, 1).iter().filter(|event| {
            matches!(event, Event::Silence { .. } | Event::Resumed { .. } | Event::TimedOut { .. })
        });
        told.cloned().collect()
    };
    assert!(matches!(told(&link)[..], [Event::Silence { for_ms: 5000.., .. }]), "{:?}", told(&link));
    link.paths[0].loss = 0.0;
    link.run_ms(1_000);
    assert!(matches!(told(&link)[1..], [Event::Resumed { after_ms: 7_500..8_600, .. }]), "{:?}", told(&link));
    link.paths[0].loss = 1.0;
    link.run_ms(70_000);
    assert!(matches!(told(&link)[2..], [Event::Silence { .. }, Event::TimedOut { .. }]), "{:?}", told(&link));
}

#[test]
fn digits_arrive_by_event_and_by_tone() {
    for (name, path) in [
        ("PCMU", DtmfPath::Rfc4733(TelephoneEvent { payload_type: 101, clock: 8000 })),
        ("opus", DtmfPath::Rfc4733(TelephoneEvent { payload_type: 110, clock: 48_000 })),
        ("opus", DtmfPath::Rfc4733(TelephoneEvent { payload_type: 101, clock: 8000 })),
        ("PCMA", DtmfPath::Inband),
        ("G722", DtmfPath::Inband),
    ] {
        let mut link = Link::new(6);
        for end in 0..2 {
            link.device(end, 16_000, 0);
        }
        let mut plans = [plan(0, name), plan(1, name)];
        plans[0].dtmf = path;
        match path {
            DtmfPath::Rfc4733(event) => plans[1].events.push(event),
            _ => plans[1].detect_inband = true,
        }
        link.call(plans);
        link.paths[0] = Path { delay_us: 20_000, jitter_us: 3_000, loss: 0.02, ..Path::CLEAN };
        link.run_ms(1_000);
        let digits = "0123456789*#ABCD11";
        link.order(0, Command::Dtmf { leg: LEG, dtmf: Dtmf::new(digits) });
        link.run_ms(10_000);
        let told: String = events(&link, 1)
            .iter()
            .filter_map(|event| match event {
                Event::Dtmf { digit, duration_ms: 40..=180, .. } => Some(*digit),
                _ => None,
            })
            .collect();
        assert_eq!(told, digits, "{name} {path:?}");
        let sent = events(&link, 0).iter().filter(|event| matches!(event, Event::DtmfSent { .. })).count();
        assert_eq!(sent, 1);
    }
}

#[test]
fn digits_without_a_way_are_answered_at_once() {
    let mut link = talking(7, "PCMU", [8000, 8000], [0, 0]);
    link.order(0, Command::Dtmf { leg: LEG, dtmf: Dtmf::new("123") });
    assert!(events(&link, 0).contains(&Event::DtmfSent { leg: LEG }));
}

#[test]
fn opus_with_fec_bridges_loss_better_than_its_share() {
    let mut link = Link::new(8);
    for end in 0..2 {
        link.device(end, 16_000, 0);
        link.ends[end].speech = speech(40 + end as u64, 16_000, 7);
    }
    let mut plans = [plan(0, "opus"), plan(1, "opus")];
    for plan in &mut plans {
        plan.fec = true;
    }
    link.call(plans);
    link.paths = [Path { loss: 0.08, ..Path::CLEAN }; 2];
    link.run_ms(20_000);
    for end in 0..2 {
        let found = resemblance(&link, end, 6);
        assert!(found.found > 0.85, "{found:?}");
        let report = link.close(end);
        assert!(report.loss_percent > 5.0 && report.concealed_ms < 20_000 * 5 / 100, "{report:?}");
    }
}

fn secured(end: usize, keys: &[Keys; 2]) -> Plan {
    let mut plan = plan(end, "PCMU");
    plan.srtp = Some(Srtp { send: keys[end].clone(), receive: keys[1 - end].clone() });
    plan
}

fn keys(seed: u64, profile: Profile) -> [Keys; 2] {
    let mut chance = crate::chance::Chance::from_number(seed);
    [Keys::random(profile, &mut chance), Keys::random(profile, &mut chance)]
}

#[test]
fn srtp_past_the_roll_over_and_through_new_keys() {
    for profile in [Profile::AesCm128HmacSha1_80, Profile::AeadAes128Gcm] {
        let mut link = Link::new(9);
        let first = keys(1, profile);
        for end in 0..2 {
            link.device(end, 8000, 0);
            link.ends[end].speech = speech(50 + end as u64, 8000, 5);
        }
        let mut plans = [secured(0, &first), secured(1, &first)];
        for plan in &mut plans {
            plan.ptime_ms = 10;
        }
        link.call(plans);
        link.run_ms(660_000);
        assert!(last_report(&link, 0).packets_received > 65_536);
        // The same key once more, then another one at the same address.
        for keys in [first.clone(), keys(2, profile)] {
            for end in 0..2 {
                link.order(end, Command::Update { leg: LEG, plan: Box::new(secured(end, &keys)) });
                link.run_ms(40);
            }
            // With the new key another source begins, and finds its delay.
            link.run_ms(10_000);
            for end in 0..2 {
                let found = resemblance(&link, end, 3);
                assert!(found.correlation > 0.9, "{profile:?} {end} {found:?}");
            }
        }
        for end in 0..2 {
            let report = link.close(end);
            assert!(report.srtp && report.packets_refused < 10 && report.concealed_ms < 300, "{report:?}");
        }
    }
}

#[test]
fn another_key_is_told_and_nothing_is_heard() {
    let mut link = Link::new(10);
    let (ours, theirs) = (keys(1, Profile::AesCm128HmacSha1_80), keys(2, Profile::AesCm128HmacSha1_80));
    for end in 0..2 {
        link.device(end, 8000, 0);
        link.ends[end].speech = speech(60 + end as u64, 8000, 5);
    }
    link.call([secured(0, &ours), secured(1, &theirs)]);
    link.run_ms(4_000);
    assert!(events(&link, 0).contains(&Event::Unauthentic { leg: LEG }));
    assert!(link.ends[0].played.iter().all(|sample| *sample == 0));
    assert!(!events(&link, 0).iter().any(|event| matches!(event, Event::FirstPacket { .. })));
}

#[test]
fn without_a_device_the_timer_plays_the_loop_and_hands_out_what_is_heard() {
    let mut link = Link::new(11);
    let said = [speech(70, 8000, 3), speech(71, 8000, 3)];
    for (end, said) in said.iter().enumerate() {
        let input = TerminalInput::Loop(said.clone().into());
        let output = Some(RecordingId(77));
        link.order(end, Command::Terminal(Terminal::Timer { rate: 8000, input, output }));
    }
    for round in 0..2 {
        link.call([plan(0, "PCMU"), plan(1, "PCMU")]);
        let (mut heard, mut chunk, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        for step in 0..60 {
            if step == 55 {
                link.order(0, Command::Close { leg: LEG });
            }
            link.run_ms(100);
            while let Some(recorded) = link.ends[0].engine.poll_recording(&mut chunk) {
                match recorded {
                    Recorded::Samples { recording: RecordingId(77) } => heard.extend_from_slice(&chunk),
                    mark => marks.push(mark),
                }
            }
        }
        let id = RecordingId(77);
        assert_eq!(
            marks,
            [
                Recorded::Started { recording: id, rate: 8000, channels: 1 },
                Recorded::Finished { recording: id, lost_ms: 0 }
            ],
            "{round}"
        );
        let twice = [said[1].as_slice(), &said[1]].concat();
        let found = similarity::similarity(&heard[28_000..40_000], &twice, 8000, 24_000).expect("sound");
        assert!(found.found > 0.95, "{found:?}");
        let (begin, found) = (found.delay, 28_000 % 24_000);
        assert!((2_000..4_000).contains(&begin) && begin < found, "the loop begins with the call: {begin}");
        link.order(1, Command::Close { leg: LEG });
    }
}

#[test]
fn a_leg_is_recorded_in_stereo_and_a_pause_leaves_out() {
    let mut link = talking(12, "PCMU", [8000, 8000], [0, 0]);
    link.run_ms(5_000);
    let recording = RecordingId(5);
    let record = |record| Command::Record { leg: LEG, record };
    link.order(
        0,
        record(Record::Start { recording, layout: Layout::Stereo, beep: false, announcement: None }),
    );
    let (mut left, mut right, mut chunk) = (Vec::new(), Vec::new(), Vec::new());
    let mut collect = |link: &mut Link| {
        let mut finished = false;
        while let Some(recorded) = link.ends[0].engine.poll_recording(&mut chunk) {
            match recorded {
                Recorded::Samples { .. } => {
                    left.extend(chunk.iter().step_by(2).copied());
                    right.extend(chunk.iter().skip(1).step_by(2).copied());
                }
                Recorded::Finished { lost_ms, .. } => finished = lost_ms == 0,
                Recorded::Started { .. } => {}
            }
        }
        finished
    };
    for step in 0..50 {
        match step {
            20 => link.order(0, record(Record::Pause)),
            30 => link.order(0, record(Record::Resume)),
            _ => {}
        }
        link.run_ms(100);
        assert!(!collect(&mut link));
    }
    link.order(0, record(Record::Stop));
    assert!(collect(&mut link));
    assert!(left.len().abs_diff(32_000) < 1_000 && left.len() == right.len(), "{}", left.len());
    for (side, speaker) in [(&left, 1), (&right, 0)] {
        let said = &link.ends[speaker].speech;
        let twice = [said.as_slice(), said].concat();
        let found = similarity::similarity(&side[..14_000], &twice, 8000, said.len()).expect("sound");
        assert!(found.found > 0.95, "{speaker} {found:?}");
    }
}

#[test]
fn a_device_that_vanishes_leaves_a_call_that_goes_on() {
    let mut link = talking(13, "PCMU", [8000, 8000], [0, 0]);
    link.run_ms(2_000);
    link.ends[0].device = None;
    link.run_ms(5_000);
    assert!(!events(&link, 1).iter().any(|event| matches!(event, Event::Silence { .. })));
    link.ends[0].keep_sent = true;
    link.run_ms(1_000);
    let packets = link.ends[0].sent.iter().filter(|(_, component, _)| *component == Component::Rtp).count();
    assert!((49..=51).contains(&packets), "{packets}");
    link.device(0, 8000, 0);
    link.run_ms(5_000);
    let found = resemblance(&link, 0, 3);
    assert!(found.correlation > 0.95, "{found:?}");
}

#[test]
fn muted_is_silence_and_a_tone_replaces_the_room() {
    use crate::audio::tones::Tone;
    let mut link = talking(14, "PCMU", [8000, 8000], [0, 0]);
    link.run_ms(1_000);
    link.order(0, Command::Mute { leg: LEG, muted: true });
    link.run_ms(1_500);
    let loudest = |link: &Link, end: usize| {
        let played = &link.ends[end].played;
        played[played.len() - 4_000..].iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0)
    };
    assert!(loudest(&link, 1) < 16);
    link.order(0, Command::Tone { at: Sounder::Leg(LEG), tone: Some(Tone::Busy) });
    link.run_ms(1_500);
    assert!(loudest(&link, 1) > 1_000);
    link.order(0, Command::Tone { at: Sounder::Leg(LEG), tone: None });
    link.order(0, Command::Mute { leg: LEG, muted: false });
    link.run_ms(4_000);
    let found = resemblance(&link, 1, 3);
    assert!(found.correlation > 0.95, "{found:?}");
}

#[test]
fn who_is_recorded_hears_it_every_15_seconds() {
    let mut link = talking(16, "PCMU", [8000, 8000], [0, 0]);
    link.run_ms(1_000);
    link.order(0, Command::Mute { leg: LEG, muted: true });
    link.run_ms(1_000);
    let record = |record| Command::Record { leg: LEG, record };
    let recording = RecordingId(5);
    let begun = link.ends[1].played.len();
    link.order(
        0,
        record(Record::Start { recording, layout: Layout::Stereo, beep: true, announcement: None }),
    );
    link.run_ms(31_000);
    link.order(0, record(Record::Pause));
    link.run_ms(29_000);
    // Ten milliseconds each: loud ones are the tone, as a muted leg sends nothing else.
    let heard: Vec<usize> = link.ends[1].played[begun..]
        .chunks(80)
        .enumerate()
        .filter(|(_, piece)| piece.iter().any(|sample| sample.unsigned_abs() > 1_000))
        .map(|(at, _)| at)
        .collect();
    let beeps: Vec<usize> =
        heard.iter().copied().filter(|at| *at == 0 || !heard.contains(&(at - 1))).collect();
    assert_eq!(beeps.len(), 3, "at once, after 15 s and 30 s, not while it is paused: {beeps:?}");
    assert!(beeps.windows(2).all(|pair| (1_480..=1_520).contains(&(pair[1] - pair[0]))), "{beeps:?}");
    assert!((114..=126).contains(&heard.len()), "400 ms each: {}", heard.len());
    link.order(0, record(Record::Resume));
    link.order(0, Command::Mute { leg: LEG, muted: false });
    link.run_ms(5_000);
    let found = resemblance(&link, 1, 3);
    assert!(found.found > 0.8, "it is heard beside what is said: {found:?}");
}

#[test]
fn an_announcement_is_heard_once_on_both_sides_at_their_rates_and_is_in_the_recording() {
    let mut link = talking(18, "G722", [8000, 48_000], [0, 0]);
    link.run_ms(1_000);
    for end in 0..2 {
        link.order(end, Command::Mute { leg: LEG, muted: true });
    }
    link.run_ms(1_000);
    let sentence = |rate: u32| {
        let mut pcm = vec![0; 3 * rate as usize];
        Speech::new(77, 8000).fill(&mut pcm[..24_000]);
        if rate == 8000 {
            return pcm;
        }
        let mut other = Vec::new();
        Resampler::new(8000, rate).expect("rates of the table").process(&pcm[..24_000], &mut other);
        other
    };
    let begun = [0, 1].map(|end| link.ends[end].played.len());
    let clip = Clip { rate: 16_000, pcm: sentence(16_000).into() };
    let (layout, announcement) = (Layout::Stereo, Some(clip));
    let start = Record::Start { recording: RecordingId(5), layout, beep: false, announcement };
    link.order(0, Command::Record { leg: LEG, record: start });
    link.run_ms(5_000);
    for (end, rate) in [(0, 8_000), (1, 48_000)] {
        let heard = &link.ends[end].played[begun[end]..];
        let found = similarity::similarity(&sentence(rate), heard, rate, rate as usize).expect("sound");
        assert!(found.found > 0.9, "{end}: {found:?}");
        let rest = &heard[4 * rate as usize..];
        assert!(rest.iter().all(|sample| sample.unsigned_abs() < 200), "{end} hears it once");
    }
    let (mut received, mut sent, mut chunk) = (Vec::new(), Vec::new(), Vec::new());
    while link.ends[0].engine.poll_recording(&mut chunk).is_some() {
        received.extend(chunk.iter().step_by(2).copied());
        sent.extend(chunk.iter().skip(1).step_by(2).copied());
    }
    let found = similarity::similarity(&sentence(16_000), &sent, 16_000, 16_000).expect("sound");
    assert!(found.found > 0.9, "{found:?}");
    assert!(received.iter().all(|sample| sample.unsigned_abs() < 200), "the far end has not said it");
}

#[test]
fn ring_sounds_where_the_ring_device_is() {
    use crate::audio::tones::Tone;
    let mut link = Link::new(15);
    let now = link.now;
    let loud = |samples: &[i16]| samples.iter().any(|sample| sample.unsigned_abs() > 500);
    for ring in [None, Some(16_000)] {
        let engine = &mut link.ends[0].engine;
        engine.handle(now, Command::Terminal(Terminal::Device { rate: 8000, ring }));
        engine.handle(now, Command::Tone { at: Sounder::Ringer, tone: Some(Tone::Ring) });
        let (mut ear, mut bell) = ([0; 80], [0; 160]);
        let (mut ear_rang, mut bell_rang) = (false, false);
        for _ in 0..20 {
            engine.play(now, &mut ear);
            engine.play_ring(now, &mut bell);
            ear_rang |= loud(&ear);
            bell_rang |= loud(&bell);
        }
        assert_eq!((ear_rang, bell_rang), (ring.is_none(), ring.is_some()));
    }
}

#[test]
fn what_sounds_goes_on_when_another_device_is_opened() {
    use crate::audio::tones::Tone;
    let mut link = Link::new(15);
    let now = link.now;
    let engine = &mut link.ends[0].engine;
    engine.handle(now, Command::Tone { at: Sounder::Terminal, tone: Some(Tone::Dial) });
    let silent = Terminal::Timer { rate: 8000, input: TerminalInput::Silence, output: None };
    for terminal in [silent, Terminal::Device { rate: 16_000, ring: None }] {
        engine.handle(now, Command::Terminal(terminal));
        assert!(!engine.is_quiet());
    }
    let mut heard = [0; 1600];
    heard.chunks_mut(160).for_each(|period| engine.play(now, period));
    // 350 and 440 Hz, which is 395 Hz that swell and fade; at another rate it would be twice or half of that.
    let crossings = heard.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
    assert!((70..=90).contains(&crossings), "{crossings} crossings in 100 ms");
}

/// The device is opened for the beep, and that takes longer than the beep is wanted.
#[test]
fn the_beep_before_the_microphone_is_heard_whole_and_then_it_is_quiet() {
    use crate::audio::tones::Tone;
    let mut link = Link::new(15);
    let now = link.now;
    let engine = &mut link.ends[0].engine;
    engine.handle(now, Command::Terminal(Terminal::Device { rate: 8000, ring: None }));
    let tone = |tone| Command::Tone { at: Sounder::Terminal, tone };
    let heard = |engine: &mut Engine| {
        let mut heard = [0; 8000];
        heard.chunks_mut(80).for_each(|period| engine.play(now, period));
        heard.iter().filter(|sample| sample.unsigned_abs() > 100).count()
    };
    engine.handle(now, tone(Some(Tone::Beep)));
    let whole = heard(engine);
    assert!(whole > 800, "{whole} samples of a beep");
    assert!(engine.is_quiet(), "it beeps once");
    engine.handle(now, tone(None));
    engine.handle(now, tone(Some(Tone::Beep)));
    engine.handle(now, tone(None));
    assert!(!engine.is_quiet());
    assert_eq!(heard(engine), whole);
    assert!(engine.is_quiet());
    engine.handle(now, tone(Some(Tone::Dial)));
    engine.handle(now, tone(None));
    assert!(engine.is_quiet(), "others end when they are not wanted");
}

#[test]
fn what_can_not_be_opened_is_told() {
    let mut link = Link::new(16);
    link.order(0, Command::Open { leg: LEG, port: PortId(1), plan: Box::new(plan(0, "PCMU")) });
    link.order(0, Command::Open { leg: LEG, port: PortId(2), plan: Box::new(plan(0, "PCMU")) });
    link.order(0, Command::Open { leg: LegId(2), port: PortId(1), plan: Box::new(plan(0, "PCMU")) });
    let failed = events(&link, 0).iter().filter(|event| matches!(event, Event::Failed { .. })).count();
    assert_eq!((failed, link.ends[0].engine.legs()), (2, 1));
    assert_eq!(format("PCMU").payload_type, 0);
}
