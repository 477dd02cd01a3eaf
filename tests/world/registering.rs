//! Lines and their registrar.

use std::time::Duration;

use tipring::events::Kind;
use tipring::sip::auth::Algorithm;

use crate::world::{World, config};

#[test]
fn a_line_registers_with_digest() {
    for (challenge, seed) in [
        (vec![Algorithm::MD5], 1),
        (vec![Algorithm::SHA_256], 2),
        (vec![Algorithm::SHA_512_256, Algorithm::MD5], 3),
    ] {
        let mut world = World::new(seed);
        world.pbx.manners().challenge = challenge;
        world.add_phone(config("1001", "", ""));
        world.seconds(1);
        let line = &world.snapshot(0).lines[0];
        assert_eq!((line.state, line.via.as_deref()), ("registered", Some("udp:198.51.100.1:5060")));
        assert_eq!(
            world.pbx.registrar().sources(world.now(), "1001"),
            ["192.0.2.11:5060".parse::<std::net::SocketAddr>().unwrap()]
        );
        assert_eq!(world.phones[0].told(), ["device.started", "line.registered"]);
        assert_eq!(world.pbx.registrar().wrong, 0);
    }
}

#[test]
fn a_registration_is_kept_up_over_stale_nonces() {
    let mut world = World::new(1);
    world.pbx.manners().nonce_lifetime = Duration::from_secs(60);
    world.add_phone(config("1001", "expires = \"2m\"", ""));
    for _ in 0..30 {
        world.seconds(60);
        assert_eq!(world.pbx.registrar().sources(world.now(), "1001").len(), 1);
    }
    assert_eq!(world.phones[0].told(), ["device.started", "line.registered"]);
    assert_eq!(world.pbx.registrar().wrong, 0);
}

#[test]
fn a_wrong_password_stops_the_line_and_says_what_to_do() {
    let mut world = World::new(1);
    let mut config = config("1001", "", "");
    config.line[0].password = crate::world::parse(
        "[[line]]\nname = \"x\"\nuser = \"x\"\ndomain = \"x.example\"\npassword = \"guess\"\n",
    )
    .line[0]
        .password
        .clone();
    world.add_phone(config);
    world.seconds(3600);
    assert!(
        world.pbx.registrar().wrong <= 2,
        "an office is locked out by more: {}",
        world.pbx.registrar().wrong
    );
    let rejected = world.phones[0].all("line.rejected");
    let [Kind::LineRejected { cause, cure, .. }] = rejected.as_slice() else { panic!("{rejected:?}") };
    assert_eq!(cause.status, Some(403));
    assert!(cure.contains("password"), "{cure}");
    assert_eq!(world.snapshot(0).lines[0].state, "rejected");
}

#[test]
fn too_brief_a_registration_is_asked_for_again_with_what_the_pbx_wants() {
    let mut world = World::new(1);
    world.pbx.manners().shortest = Duration::from_secs(300);
    world.add_phone(config("1001", "expires = \"1m\"", ""));
    world.seconds(1);
    let registered = world.phones[0].all("line.registered");
    let [Kind::LineRegistered { expires_us, .. }] = registered.as_slice() else { panic!("{registered:?}") };
    assert_eq!(*expires_us, 300_000_000);
}

#[test]
fn an_overloaded_registrar_is_left_alone_as_long_as_it_says() {
    let mut world = World::new(1);
    world.pbx.manners().refuse = Some((503, Some(120)));
    world.add_phone(config("1001", "", ""));
    world.seconds(1);
    let unregistered = world.phones[0].all("line.unregistered");
    let [Kind::LineUnregistered { cause, retry_us, .. }] = unregistered.as_slice() else {
        panic!("{unregistered:?}")
    };
    assert_eq!(cause.status, Some(503));
    assert!(retry_us.is_some_and(|retry_us| retry_us >= 119_000_000), "{retry_us:?}");
    world.pbx.manners().refuse = None;
    world.seconds(60);
    assert!(!world.phones[0].has("line.registered"));
    world.seconds(120);
    assert!(world.phones[0].has("line.registered"));
}

#[test]
fn a_pbx_that_was_gone_is_found_again() {
    let mut world = World::new(1);
    world.add_phone(config("1001", "expires = \"1m\"", ""));
    world.seconds(1);
    world.pbx.silent = true;
    world.seconds(180);
    assert_eq!(world.phones[0].told(), ["device.started", "line.registered", "line.unregistered"]);
    assert!(world.snapshot(0).degraded[0].contains("office"), "{:?}", world.snapshot(0).degraded);
    world.pbx.silent = false;
    world.seconds(600);
    assert_eq!(world.phones[0].told().last(), Some(&"line.registered"));
    assert!(world.snapshot(0).degraded.is_empty());
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let mut world = World::new(1);
    world.names = crate::names::Names::default();
    world.add_phone(config("1001", "", ""));
    world.seconds(1);
    let told = world.snapshot(0).degraded;
    assert!(told[0].contains("pbx.example"), "{told:?}");
    world.names.add_address("pbx.example", crate::world::PBX);
    world.seconds(300);
    assert!(world.phones[0].has("line.registered"), "{:?}", world.phones[0].told());
}

#[test]
fn a_server_that_proves_another_password_is_told_and_still_used() {
    let mut world = World::new(1);
    world.pbx.manners().proof = Some("secret-1001".into());
    world.add_phone(config("1001", "expires = \"1m\"", ""));
    world.seconds(200);
    let reason = |world: &World| world.snapshot(0).lines[0].reason.clone();
    assert!(!world.phones[0].has("auth.failed") && reason(&world).is_none());
    world.pbx.manners().proof = Some("another".into());
    world.seconds(200);
    let told = world.phones[0].all("auth.failed");
    let [Kind::AuthFailed { interface, from, line, text, .. }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((interface.as_str(), from.as_str()), ("sip", "198.51.100.1:5060"));
    assert_eq!(line.as_deref(), Some("office"));
    assert!(text.as_deref().is_some_and(|text| text.contains("another password")), "{text:?}");
    assert_eq!(world.snapshot(0).lines[0].state, "registered");
    assert!(reason(&world).is_some_and(|what| what.contains("rspauth")), "{:?}", reason(&world));
    assert!(world.snapshot(0).degraded.is_empty(), "the line works");
    world.pbx.manners().proof = None;
    world.seconds(200);
    assert!(reason(&world).is_some(), "nothing has been proved since");
    world.pbx.manners().proof = Some("secret-1001".into());
    world.seconds(200);
    assert_eq!(reason(&world), None);
    assert_eq!(world.phones[0].told(), ["device.started", "line.registered", "auth.failed"]);
}
