//! What leaves the device holds no secret, and the same seed tells the same story.

use tipring::phone::command::Command;

use crate::network::Link;
use crate::world::{ANSWER, HANG_UP, World, call, config};

/// A day in the life of two phones; everything that was told.
fn story(seed: u64) -> (World, String) {
    let mut world = World::new(seed);
    world.network.seen = Some(Vec::new());
    for user in ["1001", "1002"] {
        world.add_phone(config(
            user,
            "srtp = \"required\"",
            "[[admin.tokens]]\nname = \"crm\"\ntoken = \"planted-token-0123456789\"\n",
        ));
    }
    for phone in 0..2 {
        let address = world.phones[phone].address;
        world
            .network
            .set_link(address, Link { loss: 0.02, jitter_us: 20_000, reorder: 0.02, ..Link::default() });
    }
    world.seconds(40);
    for _ in 0..2 {
        world.tell(0, call("1002"));
        world.seconds(3);
        world.tell(1, ANSWER);
        world.seconds(8);
        world.tell(0, Command::Dtmf { call: None, digits: "9182736450".into() });
        world.seconds(3);
        world.tell(1, Command::Hold { call: None });
        world.seconds(5);
        world.tell(1, Command::Resume { call: None });
        world.seconds(5);
        world.tell(0, HANG_UP);
        world.seconds(40);
    }
    let told = world.phones.iter().map(|phone| phone.stream()).collect();
    (world, told)
}

#[test]
fn the_same_seed_tells_the_same_story_to_the_last_byte() {
    let (first, second, other) = (story(5).1, story(5).1, story(6).1);
    assert_eq!(first, second);
    assert_ne!(first, other);
    assert!(first.matches("tipring.call.closed").count() >= 4, "{first}");
}

#[test]
fn planted_secrets_leave_by_no_door() {
    let (world, mut told) = story(5);
    for phone in 0..2 {
        let snapshot = world.snapshot(phone);
        told += &serde_json::to_string(&snapshot).expect("a snapshot");
        told += &format!("{snapshot:?}");
        let trace = world.phones[phone].phone.trace(0, None, None);
        assert!(trace.len() > 20, "{}", trace.len());
        told += &trace.iter().map(|traced| format!("{traced:?}")).collect::<String>();
        told +=
            &trace.iter().map(|traced| serde_json::to_string(traced).expect("a trace")).collect::<String>();
    }
    // What was on the wire: keys of SRTP and answers to challenges.
    let wire = world.network.seen.as_ref().expect("the wire was watched");
    let texts = wire.iter().filter_map(|bytes| std::str::from_utf8(bytes).ok());
    let mut secrets: Vec<String> =
        ["secret-1001", "secret-1002", "planted-token-0123456789", "9182736450"].map(str::to_owned).into();
    for text in texts {
        for (before, after) in [("inline:", &['|', '\r', ' '][..]), ("response=\"", &['"'][..])] {
            secrets.extend(
                text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).map(str::to_owned),
            );
        }
    }
    assert!(secrets.len() > 12, "keys and digests were on the wire: {}", secrets.len());
    for secret in secrets {
        assert!(!told.contains(&secret), "{secret} is told");
    }
    assert!(told.contains("REGISTER") && told.contains("crypto"), "the trace is there");
}
