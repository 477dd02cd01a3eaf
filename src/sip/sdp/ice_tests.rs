//! ICE in the description: the grammar, both sides of a dialogue, peers of the field.

use super::agreement::Negotiated;
use super::capability::Capability;
use super::ice::{Candidate, CandidateKind, CandidateTransport, LocalIce, MAX_CANDIDATES};
use super::media::Direction;
use super::negotiation::Negotiation;
use super::offer_answer_tests::{answered, capability, sdp, side};
use super::session::{Address, Session};
use crate::chance::Chance;

const UFRAG: &str = "a=ice-ufrag:8hhY";
const PASSWORD: &str = "a=ice-pwd:asd88fgpdd777uzjYhagZg";
const HOST: &str = "a=candidate:1 1 UDP 2130706431 198.51.100.7 4000 typ host";

fn candidate(component: u16, address: &str, port: u16) -> Candidate {
    Candidate {
        foundation: "h1".to_owned(),
        component,
        transport: CandidateTransport::Udp,
        priority: 2_130_706_432 - u32::from(component),
        address: Address::Ip(address.parse().unwrap()),
        port,
        kind: CandidateKind::Host,
        related: None,
    }
}

fn with_ice(capability: Capability) -> Capability {
    let (address, port) = (capability.address.to_string(), capability.port);
    let candidates = vec![candidate(1, &address, port), candidate(2, &address, port + 1)];
    Capability { ice: Some(LocalIce { candidates, selected: Vec::new() }), ..capability }
}

fn other() -> Capability {
    with_ice(Capability::new("198.51.100.7".parse().unwrap(), 20000, super::offer_answer_tests::codecs()))
}

fn turn(ours: &mut Negotiation, theirs: &mut Negotiation, chance: &mut Chance) -> (Negotiated, Negotiated) {
    let offer = ours.offer(chance);
    let (answer, heard) = theirs.answer(&offer, chance).unwrap();
    (ours.accept(&answer).unwrap(), heard)
}

fn offered(lines: &[&str]) -> Vec<u8> {
    let mut media = vec!["m=audio 4000 RTP/AVP 8", UFRAG, PASSWORD];
    media.extend(lines);
    sdp(&media)
}

#[test]
fn candidates_are_read_and_written() {
    for (text, kind, related) in [
        ("1 1 UDP 2130706431 192.0.2.10 10000 typ host", CandidateKind::Host, None),
        (
            "Sab+/9 2 UDP 1 2001:db8::7 9 typ srflx raddr 10.0.0.1 rport 8998",
            CandidateKind::ServerReflexive,
            Some("10.0.0.1:8998"),
        ),
        (
            "r 256 UDP 4294967295 192.0.2.9 65535 typ relay raddr 2001:db8::1 rport 1",
            CandidateKind::Relayed,
            Some("[2001:db8::1]:1"),
        ),
    ] {
        let read = Candidate::read(text).unwrap();
        assert_eq!((read.kind, read.related), (kind, related.map(|it| it.parse().unwrap())), "{text}");
        assert_eq!(read.to_string(), text);
    }
    let odd = "1 1 udp 5 a1b2.local 4000 typ host generation 0 ufrag x network-cost 999";
    let odd = Candidate::read(odd).unwrap();
    assert_eq!(odd.address, Address::Name("a1b2.local".to_owned()));
    assert_eq!(odd.endpoint(), None, "names are not resolved");
    let tcp = Candidate::read("1 1 TCP 5 192.0.2.1 9 typ host tcptype active").unwrap();
    assert_eq!((tcp.transport.clone(), tcp.endpoint()), (CandidateTransport::Other("TCP".into()), None));
    let mapped = Candidate::read("1 1 UDP 5 ::ffff:192.0.2.1 7 typ host").unwrap();
    assert_eq!(mapped.endpoint(), "192.0.2.1:7".parse().ok());
    for nowhere in ["0.0.0.0 7", "224.0.0.1 7", "192.0.2.1 0"] {
        assert_eq!(Candidate::read(&format!("1 1 UDP 5 {nowhere} typ host")).unwrap().endpoint(), None);
    }
    for broken in [
        "",
        "1 1 UDP 5 192.0.2.1 7",
        "1 1 UDP 5 192.0.2.1 7 typ",
        "1 1 UDP 5 192.0.2.1 7 typ other",
        "1 0 UDP 5 192.0.2.1 7 typ host",
        "1 257 UDP 5 192.0.2.1 7 typ host",
        "1 1 UDP 4294967296 192.0.2.1 7 typ host",
        "1 1 UDP -1 192.0.2.1 7 typ host",
        "1 1 UDP 5 192.0.2.1 65536 typ host",
        "1 1 UDP 5 192.0.2.300 7 typ host",
        "a*b 1 UDP 5 192.0.2.1 7 typ host",
        "000000000000000000000000000000001 1 UDP 5 192.0.2.1 7 typ host",
    ] {
        assert_eq!(Candidate::read(broken), None, "{broken}");
    }
}

#[test]
fn two_sides_agree_on_ice() {
    let mut chance = Chance::from_number(3);
    let (mut ours, mut theirs) = (side(with_ice(capability())), side(other()));
    assert_eq!(ours.ice_credentials(), None);
    let (told, heard) = turn(&mut ours, &mut theirs, &mut chance);
    let (told, heard) = (told.ice.unwrap(), heard.ice.unwrap());
    assert_eq!((&told.local, &heard.local), (&heard.remote.credentials, &told.remote.credentials));
    assert_eq!(ours.ice_credentials(), Some(&told.local));
    assert_eq!((told.controlling, heard.controlling), (true, false), "the offerer nominates");
    assert_eq!((told.restarted, told.remote.lite), (false, false));
    assert!(told.local.password.len() >= 22 && told.local != told.remote.credentials);
    assert!(!format!("{told:?}").contains(&told.local.password), "a secret");
    // rtcp-mux is agreed on: the answer has no second component, the offer had.
    assert_eq!(told.remote.candidates, [candidate(1, "198.51.100.7", 20000)]);
    assert_eq!(heard.remote.candidates.len(), 2);
    assert_eq!(ours.agreed().unwrap().remote_rtp, "198.51.100.7:20000".parse().ok());
}

#[test]
fn the_second_component_stays_where_ports_are_not_shared() {
    let mut chance = Chance::from_number(3);
    let mut theirs = side(Capability { rtcp_mux: false, ..other() });
    let (told, _) = turn(&mut side(with_ice(capability())), &mut theirs, &mut chance);
    let components: Vec<u16> = told.ice.unwrap().remote.candidates.iter().map(|it| it.component).collect();
    assert_eq!((components, told.rtcp_mux), (vec![1, 2], false));
}

#[test]
fn roles_and_credentials_stay_through_later_offers() {
    let mut chance = Chance::from_number(3);
    let (mut ours, mut theirs) = (side(with_ice(capability())), side(other()));
    let (first, first_theirs) = turn(&mut ours, &mut theirs, &mut chance);
    theirs.capability_mut().direction = Direction::SendOnly;
    let (hold, held) = turn(&mut theirs, &mut ours, &mut chance);
    let (hold, held) = (hold.ice.unwrap(), held.ice.unwrap());
    let (first, first_theirs) = (first.ice.unwrap(), first_theirs.ice.unwrap());
    assert_eq!((&held.local, &hold.local), (&first.local, &first_theirs.local), "a hold changes nothing");
    assert_eq!((held.controlling, hold.controlling), (true, false));
    assert!(!held.restarted && !hold.restarted);
}

#[test]
fn a_restart_of_one_side_is_one_of_both() {
    let mut chance = Chance::from_number(3);
    let (mut ours, mut theirs) = (side(with_ice(capability())), side(other()));
    let (first, _) = turn(&mut ours, &mut theirs, &mut chance);
    let first = first.ice.unwrap();
    theirs.restart_ice();
    let (told, heard) = turn(&mut theirs, &mut ours, &mut chance);
    let (told, heard) = (told.ice.unwrap(), heard.ice.unwrap());
    assert!(heard.restarted && told.restarted);
    assert_ne!(heard.local, first.local);
    assert_ne!(heard.remote.credentials, first.remote.credentials);
    assert_eq!((heard.controlling, told.controlling), (true, false), "roles stay (RFC 8445 §6.1.1)");
    let (again, _) = turn(&mut ours, &mut theirs, &mut chance);
    assert_eq!((again.ice.unwrap().restarted, ours.ice_credentials()), (false, Some(&heard.local)));
}

#[test]
fn a_restart_that_is_refused_leaves_the_credentials() {
    let mut chance = Chance::from_number(3);
    let (mut ours, mut theirs) = (side(with_ice(capability())), side(other()));
    let (first, _) = turn(&mut ours, &mut theirs, &mut chance);
    ours.restart_ice();
    ours.offer(&mut chance);
    assert_ne!(ours.ice_credentials(), Some(&first.ice.clone().unwrap().local));
    ours.withdraw();
    assert_eq!(ours.ice_credentials(), Some(&first.ice.unwrap().local));
}

#[test]
fn who_has_no_ice_gets_none() {
    let (answer, negotiated) = answered(with_ice(capability()), &sdp(&["m=audio 4000 RTP/AVP 8"]));
    assert_eq!((negotiated.ice, answer.media[0].has("ice-ufrag")), (None, false));
    let (answer, negotiated) = answered(capability(), &offered(&[HOST]));
    assert_eq!((negotiated.ice, answer.media[0].has("ice-ufrag")), (None, false));
    for broken in [
        ["a=ice-ufrag:abc", PASSWORD],
        ["a=ice-ufrag:ab cd", PASSWORD],
        [UFRAG, "a=ice-pwd:tooshort"],
        [UFRAG, "a=ice-mismatch"],
    ] {
        let offer = sdp(&["m=audio 4000 RTP/AVP 8", broken[0], broken[1], HOST]);
        let (_, negotiated) = answered(with_ice(capability()), &offer);
        assert_eq!((negotiated.ice, negotiated.remote_rtp), (None, "198.51.100.7:4000".parse().ok()));
    }
    let long = format!("a=ice-pwd:{}", "x".repeat(257));
    let (_, negotiated) =
        answered(with_ice(capability()), &sdp(&["m=audio 4000 RTP/AVP 8", UFRAG, &long, HOST]));
    assert_eq!(negotiated.ice, None);
}

#[test]
fn an_address_that_was_changed_on_the_way_is_a_mismatch() {
    // An ALG has written its own address into c= and left the candidates.
    let changed = offered(&["c=IN IP4 203.0.113.9", HOST]);
    let (answer, negotiated) = answered(with_ice(capability()), &changed);
    assert_eq!((negotiated.ice, negotiated.remote_rtp), (None, "203.0.113.9:4000".parse().ok()));
    assert!(answer.media[0].has("ice-mismatch") && !answer.media[0].has("ice-ufrag"));
    let mut ours = side(with_ice(capability()));
    ours.offer(&mut Chance::from_number(1));
    assert_eq!(ours.accept(&changed).unwrap().ice, None);
    assert_eq!(ours.accept(&sdp(&["m=audio 4000 RTP/AVP 8", "a=ice-mismatch"])).unwrap().ice, None);
    assert!(ours.accept(&offered(&[HOST])).unwrap().ice.is_some(), "the 200 after such a 183");
}

#[test]
fn an_ice_lite_peer_leaves_nominating_to_us() {
    let text = "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\na=ice-lite\r\n\
                a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\nm=audio 4000 RTP/AVP 8\r\n";
    let offer = format!("{text}{HOST}\r\na=remote-candidates:1 192.0.2.10 10000 2 192.0.2.10 10001 3 x\r\n");
    let (_, negotiated) = answered(with_ice(capability()), offer.as_bytes());
    let ice = negotiated.ice.unwrap();
    assert!(ice.remote.lite && ice.controlling);
    let selected = [(1, "192.0.2.10:10000".parse().unwrap()), (2, "192.0.2.10:10001".parse().unwrap())];
    assert_eq!(ice.remote.selected, selected);
}

#[test]
fn a_browser_that_hides_its_addresses_does_not_hold_the_call() {
    let offer = sdp(&[
        "m=audio 9 RTP/AVP 8",
        "c=IN IP4 0.0.0.0",
        UFRAG,
        PASSWORD,
        "a=ice-options:trickle",
        "a=candidate:1 1 udp 5 0d1c.local 4000 typ host",
    ]);
    let (_, negotiated) = answered(with_ice(capability()), &offer);
    assert_eq!((negotiated.direction, negotiated.remote_rtp), (Direction::SendRecv, None));
    assert!(!negotiated.hold.by_peer && negotiated.ice.is_some());
    let (_, without) = answered(capability(), &offer);
    assert_eq!((without.direction, without.hold.by_peer), (Direction::RecvOnly, true), "no way to it");
}

#[test]
fn a_bundle_of_one_is_answered_as_one() {
    let text = "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
                a=group:BUNDLE 0 1\r\nm=audio 4000 RTP/AVP 8\r\na=mid:0\r\na=rtcp-mux\r\n\
                m=video 4000 RTP/AVP 96\r\na=mid:1\r\n";
    let (answer, _) = answered(capability(), text.as_bytes());
    assert_eq!((answer.attribute("group"), answer.media[0].attribute("mid")), (Some("BUNDLE 0"), Some("0")));
    assert_eq!(answer.media[1].port, 0);
    let apart = text.replace("a=rtcp-mux\r\n", "");
    assert_eq!(answered(capability(), apart.as_bytes()).0.attribute("group"), None);
}

#[test]
fn candidates_without_end_are_not_kept() {
    let mut lines = vec!["m=audio 4000 RTP/AVP 8".to_owned(), UFRAG.to_owned(), PASSWORD.to_owned()];
    lines.push(HOST.to_owned());
    lines.extend((1..2000).map(|n| format!("a=candidate:{n} 1 UDP {n} 10.1.2.3 {n} typ host")));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let offer: Vec<u8> = sdp(&lines).into_iter().take(super::session::MAX_BYTES).collect();
    let (_, negotiated) = answered(with_ice(capability()), &offer);
    assert_eq!(negotiated.ice.unwrap().remote.candidates.len(), MAX_CANDIDATES);
}

#[test]
fn what_was_selected_is_told() {
    let mut ours = side(with_ice(capability()));
    let selected = vec![(1, "198.51.100.7:20000".parse().unwrap())];
    ours.capability_mut().ice.as_mut().unwrap().selected = selected;
    let offer = Session::read(&ours.offer(&mut Chance::from_number(1))).unwrap();
    assert_eq!(offer.media[0].attribute("remote-candidates"), Some("1 198.51.100.7 20000"));
    assert_eq!(offer.media[0].attribute("ice-options"), Some("ice2"));
    assert_eq!(offer.media[0].values("candidate").count(), 2);
}
