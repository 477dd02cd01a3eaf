//! The rows: what happens to the phones, and what is counted.

use std::net::UdpSocket;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Make, PBX, Wish};
use crate::router::{Nat, Uplink};
use crate::table::Row;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Amount {
    /// How often each event happens.
    pub rounds: usize,
    /// Seconds over which idle traffic is counted.
    pub count: u64,
    /// Seconds of idleness before a call.
    pub idle: &'static [u64],
    /// Who is not back after so many seconds is not waited for.
    pub patience: u64,
}

const TRANSPORTS: [&str; 3] = ["udp", "tcp", "tls"];
/// As in the measurements that are given as today's: what baresip was asked for then.
const BARESIP: Make = Make::Baresip { refresh: 60 };

/// Each transport with each make.
fn all(makes: &[Make]) -> Vec<Wish> {
    let of = |transport| makes.iter().map(move |make| Wish { make: *make, transport });
    TRANSPORTS.into_iter().flat_map(of).collect()
}

fn pause(seconds: u64) {
    sleep(Duration::from_secs(seconds));
}

/// The figures of all rounds.
fn text(rounds: &[Option<f64>], amount: Amount) -> String {
    let none = || format!("not within {}", amount.patience);
    let each = rounds.iter().map(|it| it.map_or_else(none, |it| format!("{it:.1}")));
    each.collect::<Vec<_>>().join(" / ") + " s"
}

/// A row that says whether the figure is reached.
pub fn row(what: String, ours: String, theirs: String, target: String, reached: bool, field: &str) -> Row {
    Row { what, ours, theirs, target, reached: Some(reached), field: field.to_owned() }
}

/// Something happens to every office in one moment; how long after that each phone is reached.
fn after(what: &str, amount: Amount, field: [&str; 3], happens: impl Fn(&Fleet, usize)) -> Option<Vec<Row>> {
    let ours = [Make::Tipring { stun: true }, Make::Tipring { stun: false }];
    let wishes = all(&[ours[0], ours[1], BARESIP]);
    let mut took: Vec<Vec<Option<f64>>> = vec![Vec::new(); wishes.len()];
    for round in 0..amount.rounds {
        let mut fleet = Fleet::of(what, Nat::Symmetric, &wishes)?;
        // All answer before; then the event comes a while after the last registration.
        assert!(fleet.answered(Instant::now(), 30).iter().all(Option::is_some), "not all phones answer");
        pause(8);
        let begun = Instant::now();
        happens(&fleet, round);
        for (took, answered) in took.iter_mut().zip(fleet.answered(begun, amount.patience)) {
            took.push(answered);
        }
    }
    let rows =
        TRANSPORTS.into_iter().zip(took.chunks(3)).zip(field).flat_map(|((transport, took), field)| {
            let limits = [if transport == "tls" { 6.0 } else { 5.0 }, 15.0];
            let words = ["with `stun`", "without"];
            (0..2).map(move |at| {
                let reached = took[at].iter().all(|it| it.is_some_and(|it| it <= limits[at]));
                let what = format!("{what}, {}, {}: reachable again", transport.to_uppercase(), words[at]);
                let target = format!("≤ {} s", limits[at]);
                row(what, text(&took[at], amount), text(&took[2], amount), target, reached, field)
            })
        });
    Some(rows.collect())
}

/// The public address of every office changes.
pub fn address(amount: Amount) -> Option<Vec<Row>> {
    let field = ["baresip 48.8, linphone 8–25", "baresip 123", "baresip 116"];
    after("public address changes, idle, symmetric NAT", amount, field, |fleet, _| {
        for (seat, last) in fleet.seats.iter().zip(200..) {
            seat.office.edge().readdress(last);
        }
    })
}

/// Every router starts anew.
pub fn restart(amount: Amount) -> Option<Vec<Row>> {
    let field = ["baresip 48.6, linphone 40", "baresip 137", "baresip 131"];
    after("router forgets its mappings, idle, symmetric NAT", amount, field, |fleet, _| {
        fleet.seats.iter().for_each(|seat| seat.office.edge().forget());
    })
}

/// Whether the PBX answers OPTIONS.
fn answers(socket: &UdpSocket, number: u32) -> bool {
    let request = format!(
        "OPTIONS sip:{PBX} SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.30:5060;rport;branch=z9hG4bK{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:up@203.0.113.30>;tag=1\r\nTo: <sip:{PBX}>\r\nCall-ID: up\r\n\
         CSeq: 1 OPTIONS\r\nContact: <sip:up@203.0.113.30>\r\nContent-Length: 0\r\n\r\n"
    );
    socket.send_to(request.as_bytes(), (PBX, 5060)).is_ok()
        && socket.recv(&mut [0; 2000]).is_ok_and(|length| length > 0)
}

/// The PBX is away for a minute and has forgotten who was registered.
pub fn pbx(amount: Amount) -> Option<Vec<Row>> {
    let what = "PBX down 60 s, back without registrations";
    let wishes = all(&[Make::Tipring { stun: false }, BARESIP]);
    let mut took: Vec<Vec<Option<f64>>> = vec![Vec::new(); wishes.len()];
    for _ in 0..amount.rounds {
        let mut fleet = Fleet::of(what, Nat::Symmetric, &wishes)?;
        let watcher = fleet.lab.host("watcher", 30).enter(|| UdpSocket::bind("203.0.113.30:5060"));
        let watcher = watcher.expect("a socket");
        watcher.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        assert!(fleet.answered(Instant::now(), 30).iter().all(Option::is_some), "not all phones answer");
        pause(8);
        fleet.asterisk.down();
        pause(60);
        let begun = thread::scope(|scope| {
            let back = scope.spawn(|| {
                let mut number = 0;
                while !answers(&watcher, number) {
                    number += 1;
                    sleep(Duration::from_millis(50));
                }
                Instant::now()
            });
            fleet.asterisk.up(true);
            back.join().expect("the watcher")
        });
        for (took, answered) in took.iter_mut().zip(fleet.answered(begun, amount.patience)) {
            took.push(answered);
        }
    }
    let field = ["baresip 1", "baresip 35", "–"];
    let rows = TRANSPORTS.into_iter().zip(took.chunks(2)).zip(field).map(|((transport, took), field)| {
        let reached = took[0].iter().all(|it| it.is_some_and(|it| it <= 5.0));
        let what = format!("{what}, {}: reachable, from its first answer", transport.to_uppercase());
        row(what, text(&took[0], amount), text(&took[1], amount), "≤ 5 s".to_owned(), reached, field)
    });
    Some(rows.collect())
}

/// Mappings of 30 s, and nobody calls for longer than that; both kinds of router at once, each in a lab of its own.
pub fn mapping(amount: Amount) -> Option<Vec<Row>> {
    let of = |nat| move || mapping_of(nat, amount);
    let [symmetric, cone] = thread::scope(|scope| {
        let both = [Nat::Symmetric, Nat::FullCone].map(|nat| scope.spawn(of(nat)));
        both.map(|one| one.join().expect("the row of a router"))
    });
    Some([symmetric?, cone?].concat())
}

fn mapping_of(nat: Nat, amount: Amount) -> Option<Vec<Row>> {
    let what = format!("mapping of 30 s, {}", if nat == Nat::Symmetric { "symmetric" } else { "full cone" });
    let makes = [Make::Tipring { stun: false }, Make::Baresip { refresh: 600 }];
    let wishes = makes.map(|make| Wish { make, transport: "udp" });
    let mut fleet = Fleet::of(&what, Uplink::from(nat).lifetime(30), &wishes)?;
    let rows = amount.idle.iter().map(|idle| {
        pause(*idle);
        // One chance: an answer within 4 s.
        let answered = fleet.answered(Instant::now(), 4);
        let word = |at: usize| if answered[at].is_some() { "reached" } else { "not reached" }.to_owned();
        let what = format!("{what}, called after {idle} s of idle, UDP");
        row(what, word(0), word(1), "reached".to_owned(), answered[0].is_some(), "not reachable")
    });
    Some(rows.collect())
}

/// The public address changes in a call without ICE.
pub fn call(amount: Amount) -> Option<Vec<Row>> {
    let what = "public address changes in a plain RTP call, symmetric NAT: packets lost on the way to the PBX, on the way back";
    let wishes = [Make::Tipring { stun: false }, BARESIP].map(|make| Wish { make, transport: "udp" });
    let mut lost: [Vec<[u64; 2]>; 2] = Default::default();
    for round in 0..amount.rounds {
        let mut fleet = Fleet::of(what, Nat::Symmetric, &wishes)?;
        for (at, lost) in lost.iter_mut().enumerate() {
            let seat = &fleet.seats[at];
            seat.dial("603");
            pause(4);
            let before = fleet.asterisk.packets_lost();
            let last = 200 + (2 * round + at) as u8;
            seat.office.edge().readdress(last);
            // The other side tells each five seconds what it lost.
            pause(11);
            let after = fleet.asterisk.packets_lost();
            lost.push([after[0] - before[0], after[1] - before[1]]);
            fleet.asterisk.command("channel request hangup all");
            fleet.asterisk.idle();
        }
    }
    let text = |rounds: &[[u64; 2]]| {
        rounds.iter().map(|[there, here]| format!("{there}, {here}")).collect::<Vec<_>>().join(" / ")
    };
    let reached = lost[0].iter().flatten().all(|lost| *lost <= 5);
    Some(vec![row(what.to_owned(), text(&lost[0]), text(&lost[1]), "≤ 5".to_owned(), reached, "4–5")])
}

/// What keeping all this up costs while nobody calls.
pub fn cost(amount: Amount) -> Option<Vec<Row>> {
    let makes = [Make::Tipring { stun: true }, Make::Tipring { stun: false }, BARESIP];
    let wishes = makes.map(|make| Wish { make, transport: "udp" });
    let fleet = Fleet::of("idle traffic", Nat::Symmetric, &wishes)?;
    // Finding out how the registrar can be asked is done by then.
    pause(15);
    let bytes = |fleet: &Fleet| -> Vec<u64> {
        let both = fleet.seats.iter().map(|seat| seat.office.edge().traffic());
        both.map(|[out, back]| out.bytes + back.bytes).collect()
    };
    let before = bytes(&fleet);
    pause(amount.count);
    let hour =
        |at: usize, after: &[u64]| (after[at] - before[at]) as f64 * 3600.0 / amount.count as f64 / 1000.0;
    let after = bytes(&fleet);
    let theirs = format!("{:.0} KB (refresh each 60 s, no keep-alive)", hour(2, &after));
    let kinds = [("with `stun`", 200.0), ("without `stun`", 400.0)];
    let rows = kinds.into_iter().enumerate().map(|(at, (kind, limit))| {
        let ours = hour(at, &after);
        let what =
            format!("idle traffic per hour, UDP, {kind}: IP bytes both ways (from {} s)", amount.count);
        row(what, format!("{ours:.0} KB"), theirs.clone(), format!("≤ {limit} KB"), ours <= limit, "–")
    });
    Some(rows.collect())
}
