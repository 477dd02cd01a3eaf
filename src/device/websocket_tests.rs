//! Both ends of WebSocket connections in memory, and raw bytes where a server misbehaves.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Asked, Response as Answer};
use tokio_tungstenite::{accept_hdr_async, tungstenite::protocol::Role};

use super::*;

fn run<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("an event loop");
    runtime.block_on(story)
}

fn place() -> Place<'static> {
    Place { server: "pbx.example", port: 8089, path: "/ws?tenant=a" }
}

/// A WebSocket to a server of this test, and its outbox, its reports and the server's end.
async fn pair()
-> (WebSocketStream<DuplexStream>, Sender<Vec<u8>>, impl Future<Output = (String, Vec<Vec<u8>>)>) {
    let (ours, theirs) = duplex(256 * 1024);
    #[expect(clippy::result_large_err, reason = "the type is the library's")]
    let accept = |asked: &Asked, mut answer: Answer| {
        assert_eq!(asked.uri().to_string(), "/ws?tenant=a");
        assert_eq!(asked.headers()["Host"], "pbx.example:8089");
        assert_eq!(asked.headers()["Sec-WebSocket-Protocol"], "sip");
        answer.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
        Ok(answer)
    };
    let place = place();
    let (opened, accepted) = tokio::join!(open(ours, &place), accept_hdr_async(theirs, accept));
    let socket = opened.expect("opened");
    let (outbox, letters) = mpsc::channel(16);
    let talk = async move {
        let (reports, mut inbox) = mpsc::channel(64);
        let why = converse(7, socket, letters, &reports).await;
        drop(reports);
        let mut seen = Vec::new();
        while let Some(reported) = inbox.recv().await {
            let Reported::Stream { connection: 7, bytes } = reported else { panic!("no message") };
            seen.push(bytes);
        }
        (why, seen)
    };
    (accepted.expect("accepted"), outbox, talk)
}

/// What opening a WebSocket comes to at a server that says just this.
fn refusal(answer: &'static [u8]) -> String {
    run(async {
        let (ours, mut theirs) = duplex(64 * 1024);
        let server = async {
            let mut asked = vec![0; 4096];
            let _ = theirs.read(&mut asked).await.expect("a request");
            theirs.write_all(answer).await.expect("an answer");
            drop(theirs);
        };
        let place = place();
        let (opened, ()) = tokio::join!(open(ours, &place), server);
        opened.expect_err("a refusal")
    })
}

#[test]
fn messages_go_whole_both_ways() {
    run(async {
        let (mut server, outbox, talk) = pair().await;
        let story = async {
            outbox.send(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n".to_vec()).await.expect("sent");
            let got = server.next().await.expect("a message").expect("right");
            assert_eq!(got, Message::text("OPTIONS sip:a@b SIP/2.0\r\n\r\n"));
            outbox.send(vec![b'M', 0xff, 0]).await.expect("sent");
            let got = server.next().await.expect("a message").expect("right");
            assert_eq!(got, Message::binary(vec![b'M', 0xff, 0]));
            server.send(Message::text("SIP/2.0 200 OK\r\n\r\n")).await.expect("sent");
            server.send(Message::binary(b"\r\n\0".to_vec())).await.expect("sent");
            let code = CloseCode::Away;
            let reason = Utf8Bytes::from_static("restart\u{7}now");
            server.close(Some(CloseFrame { code, reason })).await.expect("closed");
        };
        let ((), (why, seen)) = tokio::join!(story, talk);
        assert_eq!(seen, [b"SIP/2.0 200 OK\r\n\r\n".to_vec(), b"\r\n\0".to_vec()]);
        assert_eq!(why, "the PBX closed the WebSocket (1001: \"restartnow\")");
    });
}

#[test]
fn a_ping_of_ours_is_answered_by_its_own_pong_only_and_theirs_is_answered() {
    run(async {
        let (mut server, outbox, talk) = pair().await;
        let story = async {
            outbox.send(b"\r\n\r\n".to_vec()).await.expect("sent");
            let Some(Ok(Message::Ping(of))) = server.next().await else { panic!("a ping") };
            // The library answers it by itself.
            server.flush().await.expect("sent");
            server.send(Message::Pong(vec![9].into())).await.expect("sent");
            server.send(Message::Ping(b"alive?".to_vec().into())).await.expect("sent");
            let Some(Ok(Message::Pong(back))) = server.next().await else { panic!("a pong") };
            assert_eq!((&back[..], of.len()), (&b"alive?"[..], 4));
            drop(outbox);
            let Some(Ok(Message::Close(Some(frame)))) = server.next().await else { panic!("an end") };
            assert_eq!(frame.code, CloseCode::Normal);
            while let Some(Ok(_)) = server.next().await {}
        };
        let ((), (why, seen)) = tokio::join!(story, talk);
        assert_eq!(seen, [b"\r\n".to_vec()], "one pong, the stranger's counts for nothing");
        assert_eq!(why, "closed here");
    });
}

#[test]
fn fragments_are_joined_and_what_is_too_long_ends_the_connection() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let piece = |first: bool, last: bool, size: usize| {
        let opcode = OpCode::Data(if first { Data::Binary } else { Data::Continue });
        Message::Frame(Frame::message(vec![b'x'; size], opcode, last))
    };
    run(async {
        let (mut server, _outbox, talk) = pair().await;
        let story = async {
            server.send(piece(true, false, 40_000)).await.expect("sent");
            server.send(piece(false, true, 25_535)).await.expect("sent");
            server.send(piece(true, false, 40_000)).await.expect("sent");
            server.send(piece(false, true, 25_536)).await.expect("sent");
            loop {
                match server.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => break assert_eq!(frame.code, CloseCode::Size),
                    Some(Ok(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        let ((), (why, seen)) = tokio::join!(story, talk);
        assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_MESSAGE]);
        assert_eq!(why, "the PBX sent a message of more than 65535 bytes");
    });
}

#[test]
fn a_frame_that_breaks_the_protocol_ends_the_connection() {
    run(async {
        let (ours, mut theirs) = duplex(64 * 1024);
        let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let (reports, _inbox) = mpsc::channel(4);
        let (_outbox, letters) = mpsc::channel(4);
        // Reserved bits, then a frame that is masked though a server sent it.
        for frame in [&[0xf1, 0x00][..], &[0x81, 0x80, 1, 2, 3, 4]] {
            theirs.write_all(frame).await.expect("sent");
        }
        let why = converse(7, socket, letters, &reports).await;
        assert!(why.starts_with("the PBX does not keep to WebSocket: "), "{why}");
    });
}

#[test]
fn refusals_say_what_to_do_next() {
    for (answer, what, instead) in [
        (
            "401 Unauthorized",
            "wants a login before it opens wss://pbx.example:8089/ws?tenant=a (401",
            "have the path",
        ),
        ("403 Forbidden", "wants a login", "write the URL"),
        (
            "404 Not Found",
            "there is no WebSocket at wss://pbx.example:8089/ws?tenant=a (404",
            "most often wss://HOST:8089/ws",
        ),
        ("426 Upgrade Required", "does not take SIP over WebSocket (426", "res_pjsip_transport_websocket"),
        ("400 Bad Request", "does not take SIP over WebSocket (400", "check the path"),
        ("502 Bad Gateway", "does not reach the PBX behind", "settings of the proxy"),
        ("429 Too Many Requests", "too often", "later"),
        ("200 OK", "is a web page", "write the URL"),
        ("500 Oops", "opens no WebSocket (500", "log of the PBX"),
    ] {
        let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
        let why = refusal(Box::leak(text.into_bytes().into_boxed_slice()));
        let (said, next) = why.split_once("; ").expect("a next step");
        assert!(said.contains(what) && next.contains(instead), "{answer}: {why}");
    }
    let elsewhere = b"HTTP/1.1 302 Found\r\nLocation: https://login.example/\x09x\r\n\r\n";
    let why = refusal(elsewhere);
    assert!(why.contains("sends elsewhere (302 Found): \"https://login.example/x\""), "{why}");
}

#[test]
fn what_is_no_websocket_for_sip_is_refused() {
    let why = refusal(b"SSH-2.0-OpenSSH_9.2\r\n");
    assert!(why.contains("is no web server; write the port"), "{why}");
    let why = refusal(b"");
    assert!(why.contains("ended before a WebSocket was opened"), "{why}");
    let why = refusal(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    assert!(why.contains("does not open a WebSocket as it should"), "{why}");
    // A server of something else than SIP: it opens, and confirms no subprotocol.
    let why = run(async {
        let (ours, theirs) = duplex(64 * 1024);
        let place = place();
        #[expect(clippy::result_large_err, reason = "the type is the library's")]
        let accept = |_: &Asked, answer: Answer| Ok(answer);
        let (opened, _server) = tokio::join!(open(ours, &place), accept_hdr_async(theirs, accept));
        opened.expect_err("a refusal")
    });
    assert!(why.contains("does not speak SIP over it; write the path"), "{why}");
}

#[test]
fn the_place_is_written_as_in_a_url() {
    for (server, port, url) in [
        ("pbx.example", 443, "wss://pbx.example/ws"),
        ("192.0.2.1", 8089, "wss://192.0.2.1:8089/ws"),
        ("2001:db8::1", 443, "wss://[2001:db8::1]/ws"),
        ("[2001:db8::1]", 8089, "wss://[2001:db8::1]:8089/ws"),
    ] {
        assert_eq!(Place { server, port, path: "/ws" }.url(), url);
    }
}
