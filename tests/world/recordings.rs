//! What both sides are told of a recording.

use tipring::audio::similarity::similarity;
use tipring::audio::speech::Speech;
use tipring::config::Announcement;
use tipring::phone::command::{Command, RecordAction};

use crate::sound_card::RATE;
use crate::world::{World, config};

/// A voice that no phone of the world has.
pub fn sentence() -> Vec<i16> {
    let mut pcm = vec![0; 3 * RATE as usize];
    Speech::new(4711, RATE).fill(&mut pcm);
    pcm
}

/// How much of it a phone has heard in the last talk.
pub fn found(world: &World, phone: usize) -> f32 {
    let heard = &world.phones[phone].card.heard;
    similarity(&sentence(), heard, RATE, RATE as usize).map_or(0.0, |it| it.found)
}

#[test]
fn both_sides_hear_the_announcement_each_time_that_a_recording_begins() {
    assert_eq!(RATE, Announcement::RATE);
    let mut world = World::new(1);
    let mut settings = config("1001", "", "[recording]\nannouncement = \"recorded.wav\"\n");
    settings.recording.announcement.as_mut().expect("an announcement").read(&sentence());
    world.add_phone(settings);
    world.add_phone(config("1002", "", ""));
    world.seconds(1);
    world.connect();
    for phone in 0..2 {
        world.tell(phone, Command::Mute { call: None, on: true });
    }
    world.talk(5);
    assert_eq!([0, 1].map(|phone| found(&world, phone) > 0.0), [false; 2], "nothing is recorded yet");
    for _ in 0..2 {
        world.tell(0, Command::Record { call: None, action: RecordAction::Start });
        world.talk(5);
        assert!(
            [0, 1].iter().all(|phone| found(&world, *phone) > 0.75),
            "{:?}",
            [0, 1].map(|it| found(&world, it))
        );
        world.tell(0, Command::Record { call: None, action: RecordAction::Stop });
        world.talk(5);
        assert_eq!([0, 1].map(|phone| found(&world, phone) > 0.2), [false; 2], "it was said once");
    }
}
