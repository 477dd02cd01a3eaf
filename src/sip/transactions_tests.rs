//! Matching, repeating and acknowledging, without a user agent around.

use super::*;
use crate::sip::message::Message;
use crate::sip::reader::read_datagram;

fn flow(transport: Transport) -> Flow {
    let remote = "198.51.100.1:5060".parse().unwrap();
    Flow { transport, local: None, remote, connection: (transport != Transport::Udp).then_some(1) }
}

fn request(method: &str, branch: &str) -> Request {
    let text = format!(
        "{method} sip:bob@b.example SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1:5060;branch={branch};rport\r\n\
         Route: <sip:p1;lr>\r\nMax-Forwards: 70\r\nFrom: <sip:alice@a.example>;tag=from\r\n\
         To: <sip:bob@b.example>\r\n\
         Call-ID: c1\r\nCSeq: 7 {method}\r\nContent-Length: 0\r\n\r\n"
    );
    match read_datagram(text.as_bytes()) {
        Ok(Some(Message::Request(request))) => request,
        other => panic!("no request: {other:?}"),
    }
}

fn response(to: &Request, status: u16) -> Response {
    let mut response = Response::to(to, status);
    response.head.to.set_tag("to");
    response
}

fn layer() -> Transactions {
    Transactions::new(Timing::default(), 100)
}

fn at(ms: u64) -> Now {
    Now { mono_us: ms * 1000, utc_us: 0 }
}

fn sent(layer: &mut Transactions) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(effect) = layer.poll_effect() {
        if let Effect::Send { bytes, .. } = effect {
            let text = String::from_utf8(bytes).unwrap();
            lines.push(text.lines().next().unwrap_or_default().to_owned());
        }
    }
    lines
}

#[test]
fn responses_match_by_branch_and_method() {
    let mut layer = layer();
    let invite = request("INVITE", "z9hG4bKa");
    let mut cancel = request("CANCEL", "z9hG4bKa");
    cancel.head.cseq.method = Method::CANCEL;
    layer.send(at(0), Some(RequestId(1)), invite.clone(), flow(Transport::Udp));
    layer.send(at(0), None, cancel.clone(), flow(Transport::Udp));
    assert_eq!(
        layer.handle_response(at(1), &response(&cancel, 200)),
        Ok(None),
        "nobody waits for a CANCEL's answer"
    );
    let provisional = layer.handle_response(at(1), &response(&invite, 180)).unwrap();
    assert_eq!(provisional.map(|(request, _)| request), Some(RequestId(1)));
    assert_eq!(layer.handle_response(at(1), &response(&request("INVITE", "z9hG4bKb"), 200)), Err(Stray));
    assert_eq!(layer.handle_response(at(1), &response(&request("BYE", "z9hG4bKa"), 200)), Err(Stray));
    let mut two_vias = response(&invite, 200);
    two_vias.head.via.push(two_vias.head.via[0].clone());
    assert_eq!(layer.handle_response(at(1), &two_vias), Err(Stray), "it is for somebody behind us");
}

#[test]
fn a_refusal_is_acknowledged_on_the_invites_way_with_its_route() {
    let mut layer = layer();
    let invite = request("INVITE", "z9hG4bKa");
    layer.send(at(0), Some(RequestId(1)), invite.clone(), flow(Transport::Udp));
    sent(&mut layer);
    assert!(layer.handle_response(at(1), &response(&invite, 486)).unwrap().is_some());
    let Some(Effect::Send { flow: way, bytes, .. }) = layer.poll_effect() else { panic!("no ACK") };
    assert_eq!(way, flow(Transport::Udp));
    let Ok(Some(Message::Request(ack))) = read_datagram(&bytes) else { panic!("unreadable") };
    assert_eq!((ack.method.as_str(), ack.head.cseq.to_string().as_str()), ("ACK", "7 ACK"));
    assert_eq!(ack.head.via, invite.head.via);
    assert_eq!((ack.head.to_tag(), ack.fields.text("Route").as_deref()), (Some("to"), Some("<sip:p1;lr>")));
    // The refusal comes again: so does the ACK, and nobody is told twice.
    assert_eq!(layer.handle_response(at(500), &response(&invite, 486)), Ok(None));
    assert_eq!(sent(&mut layer), ["ACK sip:bob@b.example SIP/2.0"]);
    layer.handle_timeout(at(32_002));
    assert_eq!(layer.count(), (0, 0));
}

#[test]
fn repetitions_are_made_over_udp_only() {
    for (transport, times) in [(Transport::Udp, 7), (Transport::Tcp, 1), (Transport::Tls, 1)] {
        let mut layer = layer();
        layer.send(at(0), Some(RequestId(1)), request("INVITE", "z9hG4bKa"), flow(transport));
        let mut count = 0;
        let mut failed = None;
        loop {
            while let Some(effect) = layer.poll_effect() {
                match effect {
                    Effect::Send { .. } => count += 1,
                    Effect::Failed { request, why, .. } => failed = Some((request, why)),
                    other => panic!("{other:?}"),
                }
            }
            let Some(due) = layer.poll_timeout() else { break };
            layer.handle_timeout(Now { mono_us: due, utc_us: 0 });
        }
        assert_eq!((count, failed), (times, Some((Some(RequestId(1)), None))), "{transport}");
    }
}

#[test]
fn a_lost_way_fails_what_waits_for_it() {
    let mut layer = layer();
    let (waiting, answered) = (request("INFO", "z9hG4bKa"), request("OPTIONS", "z9hG4bKb"));
    layer.send(at(0), Some(RequestId(1)), waiting, flow(Transport::Tcp));
    layer.send(at(0), Some(RequestId(2)), answered.clone(), flow(Transport::Udp));
    layer.handle_response(at(1), &response(&answered, 200)).unwrap();
    sent(&mut layer);
    layer.handle_unreachable("reset", |_| true);
    let Some(Effect::Failed { request, why, .. }) = layer.poll_effect() else { panic!("no failure") };
    assert_eq!((request, why.as_deref()), (Some(RequestId(1)), Some("reset")));
    assert!(layer.poll_effect().is_none());
}

#[test]
fn requests_match_by_branch_sent_by_and_method() {
    let mut layer = layer();
    let invite = request("INVITE", "z9hG4bKa");
    let Belongs::New(id) = layer.handle_request(at(0), &invite, &flow(Transport::Udp), false) else {
        panic!()
    };
    assert_eq!(layer.handle_request(at(1), &invite, &flow(Transport::Udp), false), Belongs::Absorbed);
    let cancel = request("CANCEL", "z9hG4bKa");
    assert_eq!(layer.cancelled(&cancel), Some(id));
    assert!(matches!(layer.handle_request(at(1), &cancel, &flow(Transport::Udp), false), Belongs::New(_)));
    let mut elsewhere = invite.clone();
    elsewhere.head.via[0].port = Some(5099);
    assert!(matches!(
        layer.handle_request(at(1), &elsewhere, &flow(Transport::Udp), false),
        Belongs::Merged(_)
    ));
    layer.respond(at(2), id, &response(&invite, 486));
    assert_eq!(sent(&mut layer).last().map(String::as_str), Some("SIP/2.0 486 Busy Here"));
    let mut ack = request("ACK", "z9hG4bKa");
    assert_eq!(layer.handle_request(at(3), &ack, &flow(Transport::Udp), false), Belongs::Absorbed);
    ack = request("ACK", "z9hG4bKnew");
    assert_eq!(
        layer.handle_request(at(3), &ack, &flow(Transport::Udp), false),
        Belongs::Ack,
        "an ACK of a 2xx is its own"
    );
}

#[test]
fn the_2xx_of_an_invite_is_repeated_by_the_usage_through_the_transaction() {
    let mut layer = layer();
    let invite = request("INVITE", "z9hG4bKa");
    let Belongs::New(id) = layer.handle_request(at(0), &invite, &flow(Transport::Udp), false) else {
        panic!()
    };
    for ms in [10, 510, 1510] {
        layer.respond(at(ms), id, &response(&invite, 200));
        assert_eq!(sent(&mut layer), ["SIP/2.0 200 OK"]);
    }
    layer.respond(at(1600), id, &response(&invite, 486));
    assert!(sent(&mut layer).is_empty());
    assert_eq!(
        layer.handle_request(at(1700), &request("ACK", "z9hG4bKa"), &flow(Transport::Udp), false),
        Belongs::Ack
    );
    layer.handle_timeout(at(32_011));
    assert!(matches!(layer.poll_effect(), Some(Effect::Ended(ended)) if ended == id));
    assert_eq!(layer.count(), (0, 0));
}
