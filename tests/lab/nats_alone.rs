//! The routers, the bad link and the TURN server without the program: each NAT is what it says it is. When this fails, the
//! lab is to blame.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::coturn::{Coturn, PASSWORD, USER};
use crate::impair::Link;
use crate::netns::{Host, Lab};
use crate::router::{Nat, Office, Uplink};

/// A UDP socket in a host, that waits for an answer for a second at most.
fn socket(host: &Host, address: &str) -> UdpSocket {
    let socket = host.enter(|| UdpSocket::bind(address)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time limit");
    socket
}

/// Who sent the next datagram; `None` when there is none.
fn heard(socket: &UdpSocket) -> Option<SocketAddr> {
    socket.recv_from(&mut [0; 2000]).ok().map(|(_, from)| from)
}

/// Sockets of two public hosts: two ports of the first, one of the second.
struct Outside {
    first: Host,
    sockets: [UdpSocket; 3],
}

impl Outside {
    fn of(lab: &Lab) -> Outside {
        let (first, second) = (lab.host("first", 30), lab.host("second", 31));
        let sockets = [
            socket(&first, "203.0.113.30:4000"),
            socket(&first, "203.0.113.30:4001"),
            socket(&second, "203.0.113.31:4000"),
        ];
        Outside { first, sockets }
    }

    /// What the outside sees of a new socket that speaks to each of them in turn.
    fn mapping(&self, host: &Host) -> Vec<SocketAddr> {
        let inside = socket(host, &format!("{}:0", host.address));
        let see = |to: &UdpSocket| {
            inside.send_to(b"who am I", to.local_addr().expect("an address")).expect("sending");
            heard(to).expect("what was sent arrives")
        };
        self.sockets.iter().map(see).collect()
    }

    /// Which of them reach a new socket that has spoken to the first only.
    fn filtering(&self, host: &Host) -> [bool; 3] {
        let inside = socket(host, &format!("{}:0", host.address));
        inside.send_to(b"let me in", self.sockets[0].local_addr().expect("an address")).expect("sending");
        let mapped = heard(&self.sockets[0]).expect("what was sent arrives");
        self.sockets.each_ref().map(|from| {
            from.send_to(b"in", mapped).expect("sending");
            heard(&inside) == Some(from.local_addr().expect("an address"))
        })
    }
}

/// Whether mappings are the same for another port of a peer and for another peer, and who else is let in; `last` is the
/// public address.
#[track_caller]
fn is(what: &str, uplink: Uplink, same: [bool; 2], let_in: [bool; 2], last: u8) {
    let Some(lab) = Lab::new(what, &[]) else { return };
    let office = lab.office("office", 101, uplink);
    let outside = Outside::of(&lab);
    let seen = outside.mapping(&office.host);
    let public = seen[0].ip().to_string();
    assert_eq!(public, format!("203.0.113.{last}"), "{what}");
    assert_eq!([seen[1] == seen[0], seen[2] == seen[0]], same, "mapping of {what}: {seen:?}");
    assert_eq!(outside.filtering(&office.host), [true, let_in[0], let_in[1]], "filtering of {what}");
}

#[test]
fn every_kind_of_nat_maps_and_filters_as_it_says() {
    let (equal, other) = ([true, true], [false, false]);
    is("full cone", Nat::FullCone.into(), equal, [true, true], 101);
    is("address-restricted", Nat::AddressRestricted.into(), equal, [true, false], 101);
    is("port-restricted", Nat::PortRestricted.into(), equal, other, 101);
    is("symmetric", Nat::Symmetric.into(), other, other, 101);
}

#[test]
fn every_kind_of_nat_of_a_carrier_maps_and_filters_with_that_of_the_office() {
    let (equal, other) = ([true, true], [false, false]);
    // The router of the office filters by address and port, whatever the carrier lets in.
    is("full cone of a carrier", Uplink::carrier(Nat::FullCone), equal, other, 101);
    is("address-restricted carrier", Uplink::carrier(Nat::AddressRestricted), equal, other, 101);
    is("port-restricted carrier", Uplink::carrier(Nat::PortRestricted), equal, other, 101);
    is("symmetric carrier", Uplink::carrier(Nat::Symmetric), other, other, 101);
}

#[test]
fn two_sockets_of_one_port_are_two_cones() {
    let Some(lab) = Lab::new("full cone with two hosts", &[]) else { return };
    let office = lab.office("office", 101, Nat::FullCone);
    let colleague = office.router.desk(&lab, "colleague", 11);
    let outside = Outside::of(&lab);
    let mut mapped = Vec::new();
    let inside = [&office.host, &colleague].map(|host| {
        let inside = socket(host, &format!("{}:5060", host.address));
        inside.send_to(b"hello", "203.0.113.30:4000").expect("sending");
        mapped.push(heard(&outside.sockets[0]).expect("it arrives"));
        inside
    });
    assert_ne!(mapped[0], mapped[1]);
    for (inside, mapped) in inside.iter().zip(mapped) {
        outside.sockets[2].send_to(b"anybody", mapped).expect("sending");
        assert_eq!(heard(inside), Some("203.0.113.31:4000".parse().expect("an address")));
    }
}

#[test]
fn an_office_without_nat_is_seen_as_it_is() {
    let Some(lab) = Lab::new("no NAT", &[]) else { return };
    let early = lab.host("early", 32);
    let office = lab.office("office", 101, Nat::Open);
    let outside = Outside::of(&lab);
    assert!(outside.mapping(&office.host).iter().all(|seen| seen.ip().to_string() == "192.168.1.10"));
    let (inside, stranger) = (socket(&office.host, "192.168.1.10:4000"), socket(&early, "203.0.113.32:4000"));
    stranger.send_to(b"unasked", "192.168.1.10:4000").expect("sending");
    assert_eq!(heard(&inside), stranger.local_addr().ok());
}

/// Whether a port of the first host is reached by TCP.
fn reached_by_tcp(office: &Office, outside: &Outside, port: u16) -> bool {
    let to = SocketAddr::from(([203, 0, 113, 30], port));
    let listener = outside.first.enter(|| TcpListener::bind(to)).expect("a listener");
    listener.set_nonblocking(true).expect("a listener that does not wait");
    let stream = office.host.enter(|| TcpStream::connect_timeout(&to, Duration::from_millis(1500)));
    stream.is_ok() && listener.accept().is_ok()
}

#[test]
fn closed_routers_let_out_what_they_say() {
    let Some(lab) = Lab::new("closed routers", &[]) else { return };
    let outside = Outside::of(&lab);
    let send = |office: &Office| {
        let inside = socket(&office.host, "192.168.1.10:4000");
        inside.connect("203.0.113.30:4000").expect("an address");
        inside.send(b"out").expect("sending");
        let error = inside.recv(&mut [0; 9]).expect_err("nobody answers").kind();
        (heard(&outside.sockets[0]).is_some(), error)
    };
    let silent = ErrorKind::WouldBlock;
    let office = lab.office("blocked", 101, Nat::UdpBlocked);
    assert_eq!(send(&office), (false, silent));
    assert!(reached_by_tcp(&office, &outside, 5060));
    let office = lab.office("rejected", 102, Nat::UdpRejected);
    assert_eq!(send(&office), (false, ErrorKind::HostUnreachable));
    assert!(reached_by_tcp(&office, &outside, 5061));
    let office = lab.office("only443", 103, Nat::OnlyTcp443);
    assert_eq!(send(&office), (false, silent));
    assert!(reached_by_tcp(&office, &outside, 443));
    assert!(!reached_by_tcp(&office, &outside, 8443));
}

#[test]
fn a_sip_alg_rewrites_what_passes() {
    let Some(lab) = Lab::new("SIP ALG", &[]) else { return };
    let office = lab.office("office", 101, Nat::SipAlg);
    let registrar = socket(&lab.host("registrar", 30), "203.0.113.30:5060");
    let phone = socket(&office.host, "192.168.1.10:5060");
    let request = "REGISTER sip:203.0.113.30 SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.10:5060;branch=z9hG4bK1\r\n\
                   Max-Forwards: 70\r\nFrom: <sip:1@203.0.113.30>;tag=1\r\nTo: <sip:1@203.0.113.30>\r\nCall-ID: 1\r\n\
                   CSeq: 1 REGISTER\r\nContact: <sip:1@192.168.1.10:5060>\r\nExpires: 60\r\nContent-Length: 0\r\n\r\n";
    phone.send_to(request.as_bytes(), "203.0.113.30:5060").expect("sending");
    let mut buffer = [0; 2000];
    let length = registrar.recv(&mut buffer).expect("the request");
    let seen = String::from_utf8_lossy(&buffer[..length]);
    assert!(seen.contains("Via: SIP/2.0/UDP 203.0.113.101:5060;"), "{seen}");
    assert!(seen.contains("Contact: <sip:1@203.0.113.101:5060>"), "{seen}");
    assert!(!seen.contains("192.168.1.10"), "{seen}");
}

/// Sends out and tells what the outside sees; then whether the outside reaches that again after `seconds`.
fn reached_after(office: &Office, outside: &Outside, seconds: u64) -> bool {
    let inside = socket(&office.host, "192.168.1.10:0");
    inside.send_to(b"hello", "203.0.113.30:4000").expect("sending");
    let mapped = heard(&outside.sockets[0]).expect("it arrives");
    sleep(Duration::from_secs(seconds));
    outside.sockets[0].send_to(b"still there?", mapped).expect("sending");
    heard(&inside).is_some()
}

#[test]
fn mappings_live_as_long_as_they_should() {
    for nat in [Nat::FullCone, Nat::AddressRestricted, Nat::PortRestricted, Nat::Symmetric] {
        let Some(lab) = Lab::new("the lifetime of mappings", &[]) else { return };
        let office = lab.office("office", 101, Uplink::from(nat).lifetime(3));
        let outside = Outside::of(&lab);
        assert!(reached_after(&office, &outside, 0), "{nat:?}");
        assert!(!reached_after(&office, &outside, 4), "{nat:?} after its lifetime");
    }
}

#[test]
fn routers_forget_move_and_swallow() {
    for uplink in [Nat::FullCone.into(), Nat::Symmetric.into(), Uplink::carrier(Nat::Symmetric)] {
        let Some(lab) = Lab::new("a router's bad night", &[]) else { return };
        let office = lab.office("office", 101, uplink);
        let outside = Outside::of(&lab);
        let inside = socket(&office.host, "192.168.1.10:0");
        let seen = || {
            inside.send_to(b"hello", "203.0.113.30:4000").expect("sending");
            heard(&outside.sockets[0])
        };
        let reached = |mapped: SocketAddr| {
            outside.sockets[0].send_to(b"in", mapped).expect("sending");
            heard(&inside).is_some()
        };
        let before = seen().expect("it arrives");
        assert!(reached(before));
        office.edge().forget();
        assert!(!reached(before), "after a restart");
        let again = seen().expect("it arrives");
        assert!(reached(again));
        office.edge().readdress(177);
        assert!(!reached(again), "at the old address");
        assert_eq!(seen().expect("it arrives").ip().to_string(), "203.0.113.177");
        office.edge().swallow("udp dport 4000");
        assert_eq!(seen(), None);
        office.edge().swallow_nothing();
        let now = seen().expect("it arrives");
        office.edge().plugged(false);
        assert_eq!(seen(), None);
        office.edge().plugged(true);
        assert!(!reached(now), "a router forgets when its cable is out");
        assert!(seen().is_some());
        let [out, back] = office.edge().traffic();
        // Five datagrams of 5 bytes went out at least, two of 2 came back; IP and UDP are 28 bytes.
        assert!(out.packets >= 5 && out.bytes == out.packets * 33, "{out:?}");
        assert!(back.packets >= 2 && back.bytes == back.packets * 30, "{back:?}");
    }
}

#[test]
fn two_offices_have_the_same_addresses_inside() {
    let Some(lab) = Lab::new("two offices", &[]) else { return };
    let offices = [lab.office("one", 101, Nat::Symmetric), lab.office("two", 102, Nat::PortRestricted)];
    let outside = Outside::of(&lab);
    let seen = offices.each_ref().map(|office| {
        assert_eq!(office.host.address, "192.168.1.10");
        outside.mapping(&office.host)[0].ip().to_string()
    });
    assert_eq!(seen, ["203.0.113.101", "203.0.113.102"]);
}

/// Sends numbered datagrams through a link, so many at a time, and tells which arrived, in their order.
fn through(link: Link, count: u16, burst: usize) -> Option<(Vec<u16>, Office)> {
    let lab = Lab::new("a bad link", &[])?;
    let office = lab.office("office", 101, Uplink::from(Nat::PortRestricted).over(Link::GOOD));
    let outside = Outside::of(&lab);
    let inside = socket(&office.host, "192.168.1.10:4000");
    // The first one pays for the look-up of addresses.
    inside.send_to(b"hello", "203.0.113.30:4000").expect("sending");
    heard(&outside.sockets[0]).expect("a link that does nothing lets it pass");
    office.link.as_ref().expect("a link").becomes(link);
    let to = &outside.sockets[0];
    let arrived = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut arrived, mut buffer) = (Vec::new(), [0; 2000]);
            while let Ok(length) = to.recv(&mut buffer) {
                assert_eq!(length, 172);
                arrived.push(u16::from_be_bytes([buffer[0], buffer[1]]));
            }
            arrived
        });
        for number in 0..count {
            inside.send_to(&number.to_be_bytes().repeat(86), "203.0.113.30:4000").expect("sending");
            if usize::from(number) % burst == burst - 1 {
                sleep(Duration::from_millis(2));
            }
        }
        receiver.join().expect("the receiver")
    });
    Some((arrived, office))
}

#[test]
fn a_bad_link_loses_doubles_and_mixes_up_what_it_should() {
    let Some((arrived, _)) = through(Link { loss: 20.0, ..Link::GOOD }, 1000, 1) else { return };
    assert!((700..900).contains(&arrived.len()), "{} of 1000 at 20 % of loss", arrived.len());
    assert!(arrived.is_sorted(), "nothing overtakes");

    let Some((arrived, office)) = through(Link { doubled: 10.0, ..Link::BAD }, 1000, 1) else { return };
    let different: BTreeSet<u16> = arrived.iter().copied().collect();
    assert!((955..=997).contains(&different.len()), "{} of 1000 at 2 % of loss", different.len());
    let twice = arrived.len() - different.len();
    assert!((50..150).contains(&twice), "{twice} of 1000 came twice");
    assert!(arrived.is_sorted(), "jitter alone mixes nothing up");
    let counts = office.link.as_ref().expect("a link").counts();
    assert_eq!(counts.lost.load(Ordering::Relaxed), 1000 - different.len() as u64);

    let Some((arrived, _)) = through(Link { overtaking: true, loss: 0.0, ..Link::BAD }, 500, 1) else {
        return;
    };
    assert_eq!(arrived.len(), 500);
    assert!(!arrived.is_sorted(), "with jitter one overtakes another");

    // 250 bytes with all headers: at 128 kbit/s far more than a second for a burst, of which 20 may wait.
    let slow = Link { rate: 128, queue: 20, ..Link::GOOD };
    let Some((arrived, _)) = through(slow, 100, 1000) else { return };
    assert!((20..40).contains(&arrived.len()), "{} of a burst of 100 passed a slow link", arrived.len());

    let Some((arrived, _)) = through(Link { down: true, ..Link::GOOD }, 10, 1) else { return };
    assert!(arrived.is_empty(), "{arrived:?}");
}

#[test]
fn what_passes_a_bad_link_is_late() {
    let Some(lab) = Lab::new("a late link", &[]) else { return };
    let office = lab.office("office", 101, Uplink::from(Nat::Symmetric).over(Link::GOOD));
    let outside = Outside::of(&lab);
    let inside = socket(&office.host, "192.168.1.10:4000");
    // Lost or not, an echo takes both delays at least: 2 × (40 − 15) ms.
    office.link.as_ref().expect("a link").becomes(Link { loss: 0.0, ..Link::BAD });
    for _ in 0..5 {
        let begun = Instant::now();
        inside.send_to(&[0; 1472], "203.0.113.30:4000").expect("sending");
        let mapped = heard(&outside.sockets[0]).expect("it arrives");
        outside.sockets[0].send_to(&[0; 1472], mapped).expect("sending");
        assert!(heard(&inside).is_some());
        assert!(begun.elapsed() >= Duration::from_millis(50), "{:?}", begun.elapsed());
    }
}

#[test]
fn coturn_tells_what_a_nat_does() {
    let programs = ["turnserver", "turnutils_natdiscovery", "ss"];
    let Some(lab) = Lab::new("coturn", &programs) else { return };
    let coturn = Coturn::start(&lab);
    let offices = [
        (
            lab.office("full", 101, Nat::FullCone),
            ["Endpoint Independent Mapping", "Endpoint Independent Filtering"],
        ),
        (
            lab.office("symmetric", 102, Uplink::carrier(Nat::Symmetric)),
            ["Address and Port Dependent Mapping", "Address and Port Dependent Filtering"],
        ),
    ];
    for (office, words) in offices {
        let said = office.host.run("turnutils_natdiscovery", &["-m", "-f", &coturn.host.address]);
        for words in words {
            assert!(said.contains(words), "{words} is not in:\n{said}");
        }
    }
}

#[test]
fn coturn_relays_by_every_transport() {
    let programs = ["turnserver", "turnutils_uclient", "openssl", "ss"];
    let Some(lab) = Lab::new("coturn", &programs) else { return };
    let coturn = Coturn::start(&lab);
    let office = lab.office("office", 101, Nat::Symmetric);
    for transport in [&[][..], &["-t"]] {
        let common = ["-u", USER, "-w", PASSWORD, "-y", "-n", "5", "-m", "1", "-c"];
        let said =
            office.host.run("turnutils_uclient", &[&common[..], transport, &["203.0.113.11"]].concat());
        assert!(
            said.contains("Total lost packets 0 ") && said.contains("tot_recv_msgs=10"),
            "{transport:?}: {said}"
        );
    }
    assert!(coturn.log().contains("user <lab>"), "{}", coturn.log());
    // With TLS it has a certificate of the lab's authority, also where only 443 is open.
    let ca = crate::pki::Pki::of(&lab).ca_file;
    for at in ["203.0.113.11:5349", "203.0.113.12:443"] {
        let mut client = office.host.command("openssl");
        client.args(["s_client", "-connect", at, "-verify_return_error", "-CAfile"]).arg(&ca);
        let output = client.stdin(std::process::Stdio::null()).output().expect("openssl");
        assert!(output.status.success(), "{at}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
