//! Streams over loopback to a server that the test plays.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use super::*;

/// A packet to a peer, `length` octets of it.
fn speech(length: u8) -> Vec<u8> {
    [&[0x40, 0, 0, length][..], &vec![0xD5; usize::from(length)]].concat()
}

/// A request, of which nothing may be lost.
fn question(number: u8) -> Vec<u8> {
    [&[0x00, 0x04, 0x00, 0x00, 0x21, 0x12, 0xA4, 0x42][..], &[number; 12]].concat()
}

fn poll() -> OwnedFd {
    epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()
}

/// Both ends of a connection; ours is taken by the streams of a media thread.
fn pair(tls: Option<ClientConnection>) -> (Streams, OwnedFd, StreamId, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let (mut streams, poll, stream) = (Streams::default(), poll(), StreamId(7));
    streams.expect(stream, PortId(3));
    let carrier = Box::new(RelayStream::new(near, tls).unwrap());
    assert_eq!(streams.adopt(poll.as_fd(), stream, Ok(carrier)), Some((PortId(3), Ok(()))));
    (streams, poll, stream, far)
}

/// What comes until the far end has nothing more to say; `true` at the end if it has closed.
fn exchange(streams: &mut Streams, poll: &OwnedFd, stream: StreamId) -> (Vec<u8>, bool) {
    let (mut heard, mut closed) = (Vec::new(), false);
    streams.exchange(poll.as_fd(), stream, &mut [0; 100], |port, input| {
        assert_eq!(port, PortId(3));
        match input {
            StreamInput::Bytes(octets) => heard.extend_from_slice(octets),
            StreamInput::Closed(_) => closed = true,
            StreamInput::Open => panic!("it was open"),
        }
    });
    (heard, closed)
}

#[test]
fn octets_go_both_ways_and_the_end_is_told_once() {
    let (mut streams, poll, stream, mut far) = pair(None);
    streams.send(poll.as_fd(), stream, &speech(8));
    let mut arrived = [0; 12];
    far.read_exact(&mut arrived).unwrap();
    assert_eq!(arrived[..], speech(8));
    far.write_all(b"answer").unwrap();
    let mut heard = Vec::new();
    while heard.len() < 6 {
        heard.extend(exchange(&mut streams, &poll, stream).0);
    }
    assert_eq!(heard, b"answer");
    drop(far);
    while !exchange(&mut streams, &poll, stream).1 {}
    assert_eq!(exchange(&mut streams, &poll, stream), (Vec::new(), false), "it is gone");
    let late = streams.adopt(poll.as_fd(), stream, Err("refused".into()));
    assert_eq!(late, None, "nobody waits for it any more");
}

#[test]
fn a_clogged_stream_loses_speech_but_no_question_and_stays_in_step() {
    let (mut streams, poll, stream, mut far) = pair(None);
    // Nobody reads: after some time nothing goes into the kernel any more.
    let mut sent = 0u64;
    for number in 0..200_000u32 {
        streams.send(poll.as_fd(), stream, &speech(160));
        sent += 164;
        if number % 10_000 == 0 {
            streams.send(poll.as_fd(), stream, &question((number / 10_000) as u8));
        }
    }
    let (_, carrier) = &streams.all[&stream];
    let carrier = carrier.as_ref().unwrap();
    assert!(carrier.waiting.len() <= MOST_WAITING && carrier.watched, "{}", carrier.waiting.len());
    far.set_nonblocking(true).unwrap();
    let (mut arrived, mut buffer, mut idle) = (Vec::new(), [0; 65_536], 0);
    while idle < 100 {
        exchange(&mut streams, &poll, stream);
        match far.read(&mut buffer) {
            Ok(length) => {
                arrived.extend_from_slice(&buffer[..length]);
                idle = 0;
            }
            Err(_) => {
                idle += 1;
                std::thread::yield_now();
            }
        }
    }
    assert!((arrived.len() as u64) < sent / 2, "{} of {sent} octets were kept", arrived.len());
    let mut inbox = crate::nat::turn_stream::Inbox::default();
    inbox.push(&arrived);
    let mut questions = Vec::new();
    while let Some(message) = inbox.pop().expect("in step") {
        if message[0] == 0 {
            questions.push(message[8]);
        } else {
            assert_eq!(message, speech(160));
        }
    }
    assert_eq!(questions, (0..20).collect::<Vec<u8>>());
    assert!(inbox.is_empty());
}

/// Both ends of TLS, after their handshake.
fn handshake() -> (ClientConnection, ServerConnection) {
    let made = rcgen::generate_simple_self_signed(vec!["turn.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let client = super::super::tls::client(&Belief { ca_file: None, anyone: true }).unwrap();
    let mut client = ClientConnection::new(client, "turn.example".try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut up).unwrap();
        }
        server.read_tls(&mut up.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        while server.wants_write() {
            server.write_tls(&mut down).unwrap();
        }
        client.read_tls(&mut down.as_slice()).unwrap();
        client.process_new_packets().unwrap();
    }
    (client, server)
}

#[test]
fn under_tls_the_same_octets_come_out_and_what_is_broken_ends_it() {
    let (client, mut server) = handshake();
    let (mut streams, poll, stream, mut far) = pair(Some(client));
    for number in 0..3 {
        streams.send(poll.as_fd(), stream, &question(number));
    }
    let mut arrived = Vec::new();
    while arrived.len() < 60 {
        server.read_tls(&mut far).unwrap();
        server.process_new_packets().unwrap();
        let mut piece = [0; 64];
        if let Ok(length) = server.reader().read(&mut piece) {
            arrived.extend_from_slice(&piece[..length]);
        }
    }
    assert_eq!(arrived, [question(0), question(1), question(2)].concat());
    // More than the reader's buffer holds, in one record.
    let long = vec![0x5A; 5_000];
    server.writer().write_all(&long).unwrap();
    while server.wants_write() {
        server.write_tls(&mut far).unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < long.len() {
        heard.extend(exchange(&mut streams, &poll, stream).0);
    }
    assert_eq!(heard, long);
    far.write_all(&[0x17, 3, 3, 0, 4, 1, 2, 3, 4]).unwrap();
    while !exchange(&mut streams, &poll, stream).1 {}
    assert!(streams.all.is_empty());
}
