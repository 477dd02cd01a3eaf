//! The manager protocol over real connections: one program that reads slowly is the others' business in nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use tipring::events::{CallResult, Event, Kind, Origin};

use crate::dialects::ended;
use crate::leg;
use crate::office::{Paper, until};

/// Calls that are told, each with a name that makes its events large: some megabytes, of which the system keeps a few hundred
/// kilobytes for a reader with a small window.
const CALLS: usize = 600;
/// Calls between two looks at the quick reader: one that is thousands of events behind would be cut.
const AT_ONCE: usize = 200;

/// A program that has logged in, and where it reads from.
fn listener(port: u16) -> BufReader<TcpStream> {
    let connected = || TcpStream::connect(("127.0.0.1", port)).ok();
    let mut stream = None;
    until("the manager interface listens", || {
        stream = connected();
        stream.is_some()
    });
    let mut stream = stream.expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    stream
        .write_all(b"Action: Login\r\nUsername: panel\r\nSecret: panel-42\r\nEvents: call\r\n\r\n")
        .expect("sent");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains("Authentication accepted") {
        line.clear();
        assert!(reader.read_line(&mut line).expect("an answer") > 0, "it is let in");
    }
    reader
}

/// The calls whose channels begin in what is read, until this many have; fewer where the connection ends.
fn begun(reader: &mut impl BufRead, most: usize) -> Vec<String> {
    let (mut calls, mut new, mut line) = (Vec::new(), false, String::new());
    while calls.len() < most {
        line.clear();
        if reader.read_line(&mut line).is_ok_and(|count| count > 0) {
            new = line.starts_with("Event: Newchannel") || new && !line.trim().is_empty();
            if let Some(number) = line.strip_prefix("CallerIDNum: ").filter(|_| new) {
                calls.push(number.trim().to_owned());
            }
        } else {
            break;
        }
    }
    calls
}

fn tell(paper: &Paper, number: usize) {
    let id = format!("c{number}");
    let leg = leg(&id, &format!("{number}"), &"é".repeat(200));
    paper.tell(Event::of_call(id.clone(), Kind::CallNew { leg: leg.clone(), origin: Origin::Network }));
    paper.tell(Event::of_call(id.clone(), Kind::CallRinging { leg: leg.clone() }));
    paper.tell(Event::of_call(id, ended(&leg, CallResult::Cancelled)));
}

#[test]
fn a_program_that_reads_nothing_is_told_no_lies_and_delays_no_other() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let table = format!(
        "[ami]\nlisten = \"127.0.0.1:{port}\"\nallow = [\"127.0.0.1\"]\n\
         [[ami.users]]\nname = \"panel\"\nsecret = \"panel-42\"\n"
    );
    let paper = Paper::with("ami-slow", &table);
    let (mut quick, mut slow) = (listener(port), listener(port));
    rustix::net::sockopt::set_socket_recv_buffer_size(slow.get_ref(), 32 << 10).expect("a small window");
    let expected: Vec<String> = (0..CALLS).map(|number| number.to_string()).collect();
    let mut told = Vec::new();
    for from in (0..CALLS).step_by(AT_ONCE) {
        (from..from + AT_ONCE).for_each(|number| tell(&paper, number));
        told.extend(begun(&mut quick, AT_ONCE));
    }
    assert_eq!(told, expected, "one program knows every call, in order");
    // The other one reads at last: what it gets is in order, too, however far that goes.
    let late = begun(&mut slow, AT_ONCE);
    assert_eq!(late, expected[..AT_ONCE], "nothing was left out for it");
}
