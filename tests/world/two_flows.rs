//! A line by two proxies (RFC 5626): both flows are registered where the registrar tells them apart, and whatever
//! happens to one of them, calls go in and out by the other.

use tipring::events::store::{Binding, Write};
use tipring::phone::command::Command;
use tipring::phone::{Input, Remembered};
use tipring::sip::message::{Message, Response};
use tipring::sip::method::Method;

use crate::edges::{EDGES, Edge, Edges, PROXIES, line_of};
use crate::script::{MEDIA, at, audio};
use crate::world::{ANSWER, HANG_UP, call, parse};

const UP: [Edge; 2] = [Edge::Up; 2];
const FIRST_DOWN: [Edge; 2] = [Edge::Down, Edge::Up];
/// What a dead flow takes at most to be noticed: a question is out every 10 s or so, and its answer is waited for.
const NOTICED_MS: u64 = 15_000;

#[test]
fn both_flows_are_registered_as_one_instance_and_taken_back_one_by_one() {
    let mut edges = Edges::settled(true, "");
    let [one, two] = edges.registers.as_slice() else { panic!("{:?}", edges.registers) };
    assert_eq!((one.edge, two.edge), (0, 1));
    assert_eq!((one.flow().as_deref(), two.flow().as_deref()), (Some("1"), Some("2")));
    let instance =
        |one: &crate::edges::Registered| one.contacts()[0].param("+sip.instance").map(|id| id.into_owned());
    assert!(instance(one).is_some_and(|instance| instance.starts_with("<urn:uuid:")));
    assert_eq!(instance(one), instance(two), "RFC 5626 §4.1");
    assert_ne!(one.request.head.call_id, two.request.head.call_id);
    assert!(one.contacts().len() == 1 && two.contacts().len() == 1);
    assert_eq!(edges.states(), ("registered", vec!["registered", "registered"]));
    assert_eq!(edges.world.phones[0].all("line.registered").len(), 1, "the line is told, not each flow");
    assert!(edges.rings_by(0) && edges.rings_by(1));
    assert_eq!(edges.calls_by(), Some(0), "the first one is preferred");
    let flows = edges.world.snapshot(0).lines[0].flows.clone();
    for (flow, edge) in flows.iter().zip(EDGES) {
        assert_eq!(flow.via.as_deref(), Some(format!("udp:{edge}").as_str()));
        assert_eq!(flow.keep_alive, Some("options"));
    }
    edges.world.input(0, Input::Stop);
    edges.seconds(1);
    let gone: Vec<_> =
        edges.registers.iter().skip(2).map(|one| (one.edge, one.removes(), one.flow())).collect();
    assert_eq!(gone, [(0, true, Some("1".into())), (1, true, Some("2".into()))]);
    assert!(edges.bindings.is_empty() && edges.world.phones[0].stopped);
    assert_eq!(edges.world.phones[0].all("line.unregistered").len(), 1);
}

#[test]
fn an_edge_that_dies_is_left_for_the_other_one_and_returned_to() {
    for dead in [0, 1] {
        let other = 1 - dead;
        let mut edges = Edges::settled(true, "");
        edges.seconds(30);
        edges.edges[dead] = Edge::Down;
        assert!(edges.rings_by(other), "who calls by the other flow gets through at once");
        edges.millis(NOTICED_MS);
        assert_eq!(edges.calls_by(), Some(other));
        edges.registers.clear();
        edges.seconds(40);
        let mut states = vec!["registered"; 2];
        states[dead] = "retrying";
        assert_eq!(edges.states(), ("registered", states));
        assert!(edges.world.snapshot(0).degraded.iter().any(|what| what.contains("proxy")));
        edges.missed.clear();
        edges.seconds(600);
        // RFC 5626 §4.5, some flow being up: 32 s for a try, and from 45 s to the next one. Nothing else is sent there.
        let (tries, asked) = edges.tries();
        assert!((3..=6).contains(&tries.len()) && asked == 0, "{tries:?}, {asked}");
        assert!(tries.windows(2).skip(1).all(|two| two[1] - two[0] >= 77_000), "{tries:?}");
        assert!(edges.rings_by(other) && edges.calls_by() == Some(other));
        assert!(!edges.world.phones[0].has("line.unregistered"), "the line stands");
        edges.edges[dead] = Edge::Up;
        edges.seconds(1800);
        assert_eq!((edges.bound_by(), edges.calls_by()), (vec![0, 1], Some(0)));
        assert!(edges.rings_by(dead));
        assert_eq!(edges.states(), ("registered", vec!["registered"; 2]));
        assert!(edges.world.snapshot(0).degraded.is_empty());
        assert_eq!(edges.world.phones[0].all("line.registered").len(), 1);
    }
}

#[test]
fn without_outbound_there_is_one_binding_and_the_second_proxy_stands_in() {
    let mut edges = Edges::settled(false, "");
    assert_eq!((edges.bound_by(), edges.states()), (vec![0], ("registered", vec!["registered", "standby"])));
    edges.seconds(30);
    edges.edges[0] = Edge::Down;
    // Noticed, and then waited for so long that a flow which is only made anew is made by then.
    edges.millis(NOTICED_MS + 7_100);
    assert!(edges.bound_by().contains(&1), "{:?}", edges.registers);
    assert!(edges.rings_by(1) && edges.calls_by() == Some(1));
    assert!(!edges.world.phones[0].has("line.unregistered"));
    edges.seconds(60);
    assert_eq!(edges.states(), ("registered", vec!["retrying", "registered"]));
    assert!(edges.rings_by(1) && edges.calls_by() == Some(1));
    // The first one comes back: the binding by the second is taken back, and nothing else is.
    edges.edges[0] = Edge::Up;
    edges.seconds(200);
    assert_eq!((edges.bound_by(), edges.states()), (vec![0], ("registered", vec!["registered", "standby"])));
    let last = edges.registers.last().expect("a REGISTER");
    assert_eq!((last.edge, last.removes(), last.contacts().len()), (1, true, 1));
    assert!(edges.rings_by(0) && edges.calls_by() == Some(0));
    assert!(!edges.world.phones[0].has("line.unregistered"));
}

#[test]
fn a_first_proxy_that_is_dead_from_the_start_is_not_waited_for() {
    for outbound in [false, true] {
        let mut edges = Edges::new(FIRST_DOWN, outbound, "");
        edges.seconds(8);
        assert_eq!((edges.bound_by(), edges.states().0), (vec![1], "registered"));
        assert!(edges.rings_by(1) && edges.calls_by() == Some(1));
        edges.edges[0] = Edge::Up;
        edges.seconds(200);
        assert_eq!(edges.bound_by(), if outbound { vec![0, 1] } else { vec![0] });
        assert_eq!(edges.calls_by(), Some(0));
    }
}

#[test]
fn a_second_edge_that_does_not_do_outbound_adds_no_second_binding() {
    let mut edges = Edges::new([Edge::Up, Edge::Lacks], true, "");
    edges.seconds(10);
    assert_eq!((edges.bound_by(), edges.states()), (vec![0], ("registered", vec!["registered", "standby"])));
    let second: Vec<_> = edges.registers.iter().filter(|one| one.edge == 1).map(|one| one.flow()).collect();
    assert_eq!(second, [Some("2".to_owned()), None, None], "with reg-id, without (439), and taken back");
    edges.seconds(3600);
    assert_eq!(edges.registers.iter().filter(|one| one.edge == 1).count(), 3, "and that is the end of it");
    // It may stand in all the same.
    edges.edges[0] = Edge::Down;
    edges.seconds(30);
    assert!(edges.rings_by(1) && edges.calls_by() == Some(1));
}

#[test]
fn a_call_whose_edge_fails_leaves_by_the_other_one() {
    for answer in [430, 503, 408] {
        let mut edges = Edges::settled(true, "");
        edges.edges[0] = Edge::Answers(answer);
        edges.world.tell(0, call("2000"));
        edges.millis(300);
        assert_eq!(edges.asked(&Method::INVITE), [0, 1], "{answer}");
        let renewed = edges.registers.iter().skip(2).any(|one| one.edge == 0);
        assert_eq!(renewed, answer == 430, "a flow that failed is made anew (RFC 5626 §4.3): {answer}");
        assert_eq!(edges.world.calls(0)[0].state, "dialing");
        // The other one can't either: that is the end.
        edges.world.tell(0, HANG_UP);
        edges.edges[1] = Edge::Answers(503);
        edges.seconds(1);
        edges.said.clear();
        edges.world.tell(0, call("2000"));
        edges.millis(500);
        assert_eq!(edges.asked(&Method::INVITE), [0, 1]);
        assert_eq!(edges.world.phones[0].all("call.new").len(), 2, "it stays one call");
    }
    // Without any answer the keep-alive tells.
    let mut edges = Edges::settled(true, "");
    edges.edges[0] = Edge::Down;
    edges.world.tell(0, call("2000"));
    edges.millis(NOTICED_MS);
    let asked = edges.asked(&Method::INVITE);
    assert!(!asked.is_empty() && asked.iter().all(|edge| *edge == 1), "{asked:?}");
    assert_eq!(edges.world.calls(0).len(), 1);
    // Should the first one have heard it all the same, nobody rings twice.
    let invite = edges.missed.iter().map(|(_, request)| request).find(|one| one.method == Method::INVITE);
    let invite = invite.expect("the INVITE by the first one").clone();
    edges.edges[0] = Edge::Up;
    edges.hears(0, Response::to(&invite, 180));
    assert_eq!(edges.asked(&Method::CANCEL), [0]);
    assert_eq!(edges.world.calls(0).len(), 1);
    // A refusal is a refusal.
    let mut edges = Edges::settled(true, "");
    edges.edges[0] = Edge::Answers(486);
    edges.world.tell(0, call("2000"));
    edges.millis(500);
    assert_eq!(edges.asked(&Method::INVITE), [0]);
}

#[test]
fn both_edges_are_searched_for_when_both_are_gone() {
    let mut edges = Edges::settled(true, "");
    edges.edges = [Edge::Down; 2];
    edges.seconds(100);
    assert_eq!(edges.states().0, "retrying");
    assert_eq!(edges.world.phones[0].all("line.unregistered").len(), 1, "one outage, one event");
    edges.registers.clear();
    edges.edges = UP;
    edges.seconds(10);
    assert_eq!((edges.bound_by(), edges.states().0), (vec![0, 1], "registered"));
    assert!(edges.registers.len() <= 4, "{:?}", edges.registers);
    assert_eq!(edges.world.phones[0].all("line.registered").len(), 2);
}

#[test]
fn an_invite_that_comes_by_both_flows_rings_once() {
    let mut edges = Edges::settled(true, "");
    let (_, invite) = edges.called(0);
    let mut copy = invite.clone();
    copy.uri = edges.bindings.iter().find(|one| one.edge == 1).expect("a binding").contact.uri.clone();
    copy.head.via[0].params.set("branch", Some("z9hG4bK-other-fork"));
    edges.hears(1, copy);
    assert_eq!((edges.status_at(0), edges.status_at(1)), (Some(180), Some(482)), "RFC 3261 §8.2.2.2");
    assert_eq!(edges.world.calls(0).len(), 1);
}

#[test]
fn a_call_goes_on_when_the_flow_it_came_by_dies() {
    let mut edges = Edges::settled(true, "");
    let (mut peer, invite) = edges.called(0);
    edges.world.tell(0, ANSWER);
    edges.millis(50);
    let ok = edges.said.iter().find_map(|(_, message)| match message {
        Message::Response(response) if response.status == 200 => Some(response.clone()),
        _ => None,
    });
    let ok = ok.expect("an answer");
    assert!(ok.fields.text("Contact").is_some_and(|contact| contact.contains(";ob")), "RFC 5626 §4.3");
    peer.takes(&ok);
    let ack = peer.numbered(Method::ACK, invite.head.cseq.number, None);
    edges.hears(0, ack);
    edges.edges[0] = Edge::Down;
    edges.seconds(55);
    assert_eq!(edges.states(), ("registered", vec!["retrying", "registered"]));
    assert_eq!(edges.world.calls(0)[0].state, "active");
    // The far end reaches us by the other edge, and we go by the dialog's own route: straight to it.
    let reinvite = peer.request(Method::INVITE, Some(audio(MEDIA, "RTP/AVP 8", &[])));
    edges.said.clear();
    edges.hears(1, reinvite.clone());
    assert_eq!(edges.status_at(1), Some(200));
    let ack = peer.numbered(Method::ACK, reinvite.head.cseq.number, None);
    edges.hears(1, ack);
    edges.said.clear();
    edges.world.tell(0, HANG_UP);
    edges.millis(100);
    let bye = edges.said.iter().find_map(|(to, message)| match message {
        Message::Request(request) if request.method == Method::BYE => Some(*to),
        _ => None,
    });
    assert_eq!(bye, Some(at("198.51.100.1:5060")));
}

#[test]
fn what_an_earlier_life_bound_is_replaced_flow_by_flow() {
    let edges = Edges::settled(true, "");
    let kept = |edges: &Edges| -> Vec<Binding> {
        let kept = edges.world.phones[0].kept.iter().filter_map(|write| match write {
            Write::Binding(binding) => Some(binding.clone()),
            _ => None,
        });
        kept.collect()
    };
    let mut bindings = kept(&edges);
    assert_eq!(bindings.iter().map(|one| one.flow).collect::<Vec<_>>(), [1, 2]);
    for binding in &mut bindings {
        binding.contact = binding.contact.replace("192.0.2.11", "192.0.2.99");
    }
    let (first, second) = (bindings[0].contact.clone(), bindings[1].contact.clone());
    let memory = || Remembered { clean: false, bindings: bindings.clone(), ..Remembered::default() };
    let removed = |edges: &Edges| -> Vec<(usize, Vec<String>)> {
        let of = |one: &crate::edges::Registered| {
            let stale = one.contacts().into_iter().skip(1);
            stale.map(|contact| contact.uri.to_string()).collect::<Vec<_>>()
        };
        edges.registers.iter().map(|one| (one.edge, of(one))).collect()
    };
    let two = format!("{}{PROXIES}\n", line_of("office", "1001"));
    let mut again = Edges::with(UP, true, &two, memory());
    again.seconds(2);
    assert_eq!(removed(&again), [(0, vec![first.clone()]), (1, vec![second.clone()])]);
    // A flow that is configured no more is the first one's to remove.
    let one = format!("{}outbound_proxy = \"sip:edge1.example\"\n", line_of("office", "1001"));
    let mut again = Edges::with(UP, true, &one, memory());
    again.seconds(2);
    assert_eq!(removed(&again), [(0, vec![first, second])]);
}

#[test]
fn settings_and_commands_concern_both_flows() {
    let mut edges = Edges::settled(true, "");
    let line = || "office".to_owned();
    edges.world.tell(0, Command::Unregister { line: line() });
    edges.seconds(1);
    assert_eq!(
        (edges.bound_by(), edges.states()),
        (vec![], ("unregistered", vec!["unregistered", "standby"]))
    );
    edges.seconds(600);
    assert_eq!(edges.bound_by(), [0usize; 0], "as wished");
    edges.world.tell(0, Command::Register { line: line() });
    edges.seconds(1);
    assert_eq!(edges.bound_by(), [0, 1]);
    // Another name for the line: both stay.
    let configure = |edges: &mut Edges, keys: &str| {
        let config = Box::new(parse(&format!("{}{keys}\n", line_of("office", "1001"))));
        edges.world.input(0, Input::Configured { file: "file".into(), config, warnings: 0 });
        edges.registers.clear();
        edges.seconds(3);
    };
    configure(&mut edges, &format!("{PROXIES}\ndisplay_name = \"Reception\""));
    assert_eq!((edges.bound_by(), edges.registers.len()), (vec![0, 1], 2));
    assert!(edges.registers.iter().all(|one| !one.removes()));
    // The second proxy goes and comes.
    configure(&mut edges, "outbound_proxy = \"sip:edge1.example\"");
    assert_eq!((edges.bound_by(), edges.states().1), (vec![0], vec!["registered"]));
    configure(&mut edges, PROXIES);
    assert_eq!((edges.bound_by(), edges.states().1), (vec![0, 1], vec!["registered"; 2]));
}

#[test]
fn waiting_messages_are_asked_for_by_the_flow_that_stands() {
    let mut edges = Edges::new(FIRST_DOWN, false, "subscribe_mwi = true");
    edges.seconds(10);
    assert_eq!(edges.asked(&Method::SUBSCRIBE).first(), Some(&1));
    let mut edges = Edges::settled(true, "subscribe_mwi = true");
    assert!(edges.asked(&Method::SUBSCRIBE).iter().all(|edge| *edge == 0), "once, not by both");
    edges.seconds(1);
}

#[test]
fn an_office_does_not_turn_to_the_second_proxy_in_step() {
    let lines: String = (1..=9)
        .map(|number| format!("{}{PROXIES}\n", line_of(&format!("line{number}"), &format!("100{number}"))))
        .collect();
    let mut edges = Edges::with(FIRST_DOWN, false, &lines, Remembered::default());
    edges.seconds(8);
    let mut times: Vec<u64> = edges.registers.iter().map(|one| one.at_ms).collect();
    assert_eq!(times.len(), 9, "each once");
    times.dedup();
    assert!(times.len() >= 8 && times[times.len() - 1] - times[0] > 1_500, "{times:?}");
}
