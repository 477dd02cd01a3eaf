//! What programs say at the manager interface.

use std::sync::{Arc, LazyLock};

use super::Target;
use tipring::admin::ami::channel::Wanted;
use tipring::admin::ami::packet::Reader;
use tipring::admin::ami::session::{Output, Session};
use tipring::admin::ledger::Ledger;
use tipring::config::Config;
use tipring::now::Now;
use tipring::phone::command::{Blame, Command, Refusal, Reply};

pub const TARGETS: &[Target] = &[
    Target { name: "admin_ami_packet", run: packet, seeds: SAID, dictionary: WORDS },
    Target { name: "admin_ami_session", run: session, seeds: SAID, dictionary: WORDS },
];

/// Packets are the same in whatever pieces they come, and what is kept of one that is not whole is bounded.
fn packet(octets: &[u8]) {
    let read = |size: usize| {
        let (mut reader, mut packets) = (Reader::default(), Vec::new());
        for piece in octets.chunks(size.max(1)) {
            reader.feed(piece);
            loop {
                match reader.poll() {
                    Ok(Some(packet)) => packets.push(packet),
                    Ok(None) => break,
                    Err(_) => return packets,
                }
            }
            assert!(reader.waiting() <= 1024 + piece.len(), "{}", reader.waiting());
        }
        packets
    };
    let whole = read(octets.len());
    assert_eq!(read(1), whole);
    for packet in &whole {
        if let Some(wanted) = packet.text("Channel").and_then(Wanted::read) {
            assert!(!wanted.number.is_empty() && !wanted.number.contains(['@', '/', '\r', '\n']));
        }
    }
}

/// Whoever is not logged in has nothing done; who is, only calls of numbers that the user may have called; and what is said
/// stands in lines of its own.
fn session(octets: &[u8]) {
    static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| {
        let file = "[ami]\nlisten = '127.0.0.1:5038'\nallow = ['127.0.0.1']\n\
                    [[ami.users]]\nname = 'a'\nsecret = 'longenough'\ndial = ['10?']\n\
                    [[line]]\nname = 'office'\nuser = '101'\ndomain = 'pbx.example'\npassword = 'x'\n";
        Arc::new(Config::parse(file, "fuzz.toml").expect("a configuration"))
    });
    let now = Now { mono_us: 1, utc_us: 1 };
    let (mut session, mut ledger) = (Session::new(now, CONFIG.clone(), "1".into()), Ledger::default());
    session.receive(octets);
    session.end_of_input();
    let (mut entered, mut closed) = (false, false);
    while let Some(output) = session.poll(now, &mut ledger) {
        assert!(!closed, "nothing follows the end");
        match output {
            Output::Send(text) => {
                assert!(text.ends_with("\r\n") && text.matches('\n').count() == text.matches("\r\n").count());
            }
            Output::Ask(command) => {
                assert!(entered, "{command:?}");
                match command {
                    Command::Callback(wish) => {
                        for number in [&wish.from.number, &wish.to.number] {
                            let digits: String = number.chars().filter(char::is_ascii_digit).collect();
                            assert!(digits.starts_with("10") && digits.len() <= 3, "{number}");
                        }
                        let refusal = Refusal::new(Blame::Rule, "refused", "no", "no");
                        session.answered(Err(refusal));
                    }
                    Command::Status | Command::HangUp { .. } => session.answered(Ok(Reply::Done)),
                    other => panic!("{other:?}"),
                }
            }
            Output::Entered(user) => {
                assert_eq!(user, "a");
                entered = true;
            }
            Output::Wrong(_) => assert!(!entered),
            Output::Close => closed = true,
        }
    }
    assert!(closed, "everything has an end");
}

const SAID: &[&[u8]] = &[
    b"Action: login\r\nUsername: a\r\nSecret: longenough\r\n\r\nAction: originate\r\nChannel: SIP/office/102\r\n\
      WaitTime: 30\r\nCallerId: 0\r\nExten: 103\r\nContext: x\r\nPriority: 1\r\n\r\nAction: Logoff\r\n\r\n",
    b"Action: Login\nUsername: a\nSecret: longenough\nEvents: call,system\n\nAction: Hangup\nChannel: SIP/office-1\n\n\
      Action: Originate\nAsync: true\nTimeout: 1000\nChannel: PJSIP/102@office\nExten: 104\nActionID: 5\n\n",
    b"Action: Challenge\r\nAuthType: MD5\r\n\r\nAction: Login\r\nAuthType: MD5\r\nUsername: a\r\nKey: 00\r\n\r\n",
    b"Action: Login\nUsername: a\nSecret: longenough\n\nAction: Status\n\nAction: CoreShowChannels\n\nAction: Events\nEventMask: off\n\n",
];
const WORDS: &[&[u8]] = &[
    b"Action: ",
    b"\r\n\r\n",
    b"\n\n",
    b"Local/102@x",
    b"SIP/102@office",
    b"ActionID: ",
    b"Application: System",
    b"Command",
    b"Ping",
];
