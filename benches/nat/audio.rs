//! The rows of audio under ICE: how soon both sides hear each other, and how long they do not when an address changes.
//!
//! baresip has no clock that says when it heard something. What is missing of its call, counted from the answer to the end,
//! is what it lost at the beginning; nothing else loses packets here.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::asterisk::Asterisk;
use crate::baresip::Baresip;
use crate::coturn::{self, Coturn, PASSWORD, USER};
use crate::fleet::PBX;
use crate::kamailio::Kamailio;
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::router::{Nat, Office};
use crate::rows::{Amount, row};
use crate::sound::{Wav, sine};
use crate::table::Row;

/// How long a call lasts.
const TALK: Duration = Duration::from_secs(6);
/// What is spoken: by the callee, the caller, the PBX and baresip.
const CALLEE: f64 = 700.0;
const CALLER: f64 = 440.0;
const MILLIWATT: f64 = 1004.0;
const BARESIP: f64 = 880.0;
/// What may be missing at both ends of a recording of a call that lost nothing.
const EDGES: f64 = 0.4;
/// A port is gathered while nobody calls.
const GATHERED: Duration = Duration::from_secs(2);

/// The figures of all rounds.
fn text(rounds: &[Option<f64>]) -> String {
    let each = rounds.iter().map(|it| it.map_or("none".to_owned(), |it| format!("{it:.2} s")));
    each.collect::<Vec<_>>().join(" / ")
}

fn within(rounds: &[Option<f64>], limit: f64) -> bool {
    rounds.iter().all(|it| it.is_some_and(|it| it <= limit))
}

/// The row of these figures.
fn figures(what: &str, ours: &[Option<f64>], theirs: &[Option<f64>], limit: f64, field: &str) -> Row {
    let theirs = if theirs.is_empty() { "–".to_owned() } else { text(theirs) };
    row(what.to_owned(), text(ours), theirs, format!("≤ {limit} s"), within(ours, limit), field)
}

/// The seconds of the day at which something was told.
fn at(event: &Value) -> f64 {
    let time = event["time"].as_str().and_then(|time| time.get(11..26)).expect("a time");
    let parts = time.split(':').map(|part| part.parse::<f64>().expect("a number"));
    parts.fold(0.0, |all, part| all * 60.0 + part)
}

/// From one event to another, over midnight too.
fn between(first: &Value, second: &Value) -> f64 {
    let seconds = at(second) - at(first);
    if seconds < -43_200.0 { seconds + 86_400.0 } else { seconds }
}

/// What is missing of a tone that was to be heard for so long; `None` if nothing was heard.
fn missing(heard: &Wav, tone: f64, talked: f64) -> Option<f64> {
    let there = heard.seconds_of(tone);
    (there > 0.1).then(|| (talked - there).max(0.0))
}

/// A phone with ICE.
fn phone(lab: &Lab, office: &Office, account: &str, more: &str, tone: f64) -> Phone {
    let setup = Setup::new(account, PBX).line(r#"codecs = ["PCMU"]"#).line(more);
    let tone = Wav::new(16000, sine(tone, 16000, 2.0, 8000));
    setup.line(&coturn::ice()).speaks(tone).start(lab, &office.host)
}

fn baresip(lab: &Lab, office: &Office, account: &str, more: &str) -> Baresip {
    let ice = format!(
        ";medianat=ice;stunserver=turn:203.0.113.11:3478;stunuser={USER};stunpass={PASSWORD}\
         ;audio_codecs=PCMU/8000/1{more}"
    );
    Baresip::start(lab, &office.host, account, PBX, &ice)
}

/// Two phones behind routers of this kind at a proxy that touches no media.
struct Pair {
    caller: Phone,
    callee: Phone,
    offices: [Office; 2],
    _proxy: Kamailio,
    _coturn: Coturn,
    lab: Lab,
}

impl Pair {
    fn of(what: &str, nat: Nat) -> Option<Pair> {
        let lab = Lab::new(what, &["turnserver", "kamailio", "ss", "baresip"])?;
        let (proxy, coturn) = (Kamailio::start(&lab, "pbx", 10), Coturn::start(&lab));
        let offices = [101, 102].map(|last| lab.office(&format!("office{last}"), last, nat));
        let caller = phone(&lab, &offices[0], "1001", "", CALLER);
        let callee = phone(&lab, &offices[1], "1002", "", CALLEE);
        sleep(GATHERED);
        Some(Pair { caller, callee, offices, _proxy: proxy, _coturn: coturn, lab })
    }

    /// A call that rings for a second: its name, and how long after the answer both hear each other.
    fn call(&self) -> (String, f64) {
        let call = self.caller.call("1002");
        let ringing = self.callee.wait_event("call.ringing");
        sleep(Duration::from_secs(1));
        self.callee.act(ringing["subject"].as_str().expect("an id"), "answer");
        let answered = self.callee.wait_event("call.answered");
        let heard = [&self.caller, &self.callee].map(|phone| phone.wait_event("call.media"));
        (call, heard.iter().map(|heard| between(&answered, heard)).fold(0.0, f64::max))
    }

    /// Hangs up; what each has heard, the caller first, with the tone that it was to hear.
    fn hang_up(&self, call: &str) -> [(Wav, f64); 2] {
        self.caller.hang_up(call);
        self.callee.closed();
        [(self.caller.heard(), CALLEE), (self.callee.heard(), CALLER)]
    }
}

/// Two phones behind symmetric NATs, with a TURN server.
pub fn relay(amount: Amount) -> Option<Vec<Row>> {
    let what =
        "two phones behind symmetric NATs, no media relay in the proxy, TURN: answer → audio both ways";
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..amount.rounds {
        let pair = Pair::of(what, Nat::Symmetric)?;
        let (call, late) = pair.call();
        sleep(TALK);
        let heard = pair.hang_up(&call);
        // What the phone says is so.
        let complete = heard.iter().all(|(heard, tone)| {
            missing(heard, *tone, TALK.as_secs_f64()).is_some_and(|missing| missing < EDGES)
        });
        ours.push(complete.then_some(late));
        let Pair { caller, callee, offices, lab, _proxy, _coturn } = pair;
        drop((caller, callee));
        let callee = baresip(&lab, &offices[1], "1004", "");
        let caller = baresip(&lab, &offices[0], "1003", "");
        caller.command("dial", &format!("sip:1004@{PBX}"));
        caller.says("Call established");
        let begun = Instant::now();
        sleep(TALK);
        let talked = begun.elapsed().as_secs_f64();
        caller.command("hangup", "");
        sleep(Duration::from_secs(1));
        let late = [&caller, &callee].map(|phone| missing(&phone.heard(), BARESIP, talked));
        theirs.push(late.into_iter().try_fold(0.0, |worst: f64, late| late.map(|late| worst.max(late))));
    }
    Some(vec![figures(what, &ours, &theirs, 0.3, "baresip ICE 18.5 s, TURN alone 0.01 s")])
}

/// A call to Asterisk by ICE, from behind a symmetric NAT; `accounts` are ours and baresip's.
fn with_asterisk(
    what: &str,
    amount: Amount,
    accounts: [&str; 2],
    more: [&str; 2],
) -> Option<[Vec<Option<f64>>; 2]> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..amount.rounds {
        let lab = Lab::new(what, &["unshare", "turnserver", "ss", "baresip"])?;
        let mut asterisk = Asterisk::start(&lab, what)?;
        let _coturn = Coturn::start(&lab);
        let office = lab.office("office", 101, Nat::Symmetric);
        let phone = phone(&lab, &office, accounts[0], more[0], CALLER);
        asterisk.registered(accounts[0]);
        sleep(GATHERED);
        let call = phone.call("603");
        let answered = phone.wait_event("call.answered");
        let here = between(&answered, &phone.wait_event("call.media"));
        sleep(TALK);
        let talked = between(&answered, &{
            phone.act(&call, "hangup");
            phone.wait_event("call.ended")
        });
        phone.closed();
        asterisk.idle();
        let heard = missing(&phone.heard(), MILLIWATT, talked).filter(|missing| *missing < here + EDGES);
        let there = missing(&asterisk.recording("heard.wav"), CALLER, talked);
        ours.push(heard.and(there).map(|there| there.max(here)));
        drop(phone);

        let office = lab.office("second", 102, Nat::Symmetric);
        let peer = baresip(&lab, &office, accounts[1], more[1]);
        asterisk.registered(accounts[1]);
        peer.command("dial", &format!("sip:603@{PBX}"));
        asterisk.event("Newstate", &format!("Channel: PJSIP/{}-", accounts[1]));
        let begun = Instant::now();
        sleep(TALK);
        let talked = begun.elapsed().as_secs_f64();
        peer.command("hangup", "");
        asterisk.idle();
        let here = missing(&peer.heard(), MILLIWATT, talked);
        let there = missing(&asterisk.recording("heard.wav"), BARESIP, talked);
        theirs.push(here.zip(there).map(|(here, there)| here.max(there)));
    }
    Some([ours, theirs])
}

/// Plain RTP by ICE to a PBX.
pub fn ice(amount: Amount) -> Option<Vec<Row>> {
    let what = "ICE behind symmetric NAT to Asterisk: answer → audio both ways";
    let [ours, theirs] = with_asterisk(what, amount, ["1701", "1702"], ["", ""])?;
    Some(vec![figures(what, &ours, &theirs, 0.3, "baresip 5 s late, browser 0.31")])
}

/// The same, encrypted by DTLS.
pub fn dtls(amount: Amount) -> Option<Vec<Row>> {
    let what = "DTLS-SRTP with ICE behind symmetric NAT: answer → audio";
    let more = ["srtp = \"required\"\nsrtp_keys = \"dtls\"", ";mediaenc=dtls_srtp"];
    let [ours, theirs] = with_asterisk(what, amount, ["1801", "1802"], more)?;
    Some(vec![figures(what, &ours, &theirs, 0.5, "baresip none within 7 s")])
}

/// How long a tone was away in the middle of a call; `None` if it did not come back.
fn away(heard: &Wav, tone: f64) -> Option<f64> {
    let gap = heard.longest_gap_in(tone);
    // A second before the end it was there again.
    let tail = (heard.rate * 3 / 2) as usize;
    let end = Wav::new(heard.rate, heard.samples[heard.samples.len().saturating_sub(tail)..].to_vec());
    (end.seconds_of(tone) > 0.7).then_some(gap)
}

/// The public address of one of two phones changes in the middle of their call.
pub fn moved(amount: Amount) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    for (nat, path) in [(Nat::PortRestricted, "direct pair"), (Nat::Symmetric, "relay only")] {
        let what = format!("public address changes during an ICE call, {path}: audio both ways again");
        let mut ours = Vec::new();
        for round in 0..amount.rounds {
            let pair = Pair::of(&what, nat)?;
            let (call, _) = pair.call();
            sleep(Duration::from_secs(4));
            // By turns it is the caller's and the callee's.
            pair.offices[round % 2].edge().readdress(201);
            sleep(Duration::from_secs(12));
            let heard = pair.hang_up(&call);
            let away = heard.iter().map(|(heard, tone)| away(heard, *tone));
            ours.push(away.into_iter().try_fold(0.0, |worst: f64, away| away.map(|away| worst.max(away))));
        }
        rows.push(figures(&what, &ours, &[], 3.0, "browser + Asterisk: never"));
    }
    Some(rows)
}
