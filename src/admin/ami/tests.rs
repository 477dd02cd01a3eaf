//! The session without a connection: what is said, and what is answered.

use std::sync::Arc;

use super::session::{Output, Session};
use crate::admin::ledger::Ledger;
use crate::chance::Chance;
use crate::config::Config;
use crate::events::cloud_event::Digits;
use crate::events::cloud_event::Recorder;
use crate::events::upstream::samples::leg;
use crate::events::{
    CallResult, Cause, Direction, Event, Kind, Leg, Number, Origin, Party, Side, Transfer, TransferWay,
};
use crate::now::Now;
use crate::phone::command::{Blame, Callback, Command, End, Outcome, Refusal, Reply};
use crate::phone::snapshot::{CallView, Snapshot};

const FILE: &str = "[ami]\nlisten = '127.0.0.1:5038'\nallow = ['127.0.0.1']\n\
    [[ami.users]]\nname = 'measoft'\nsecret = 'courier-42'\ndial = ['+7*', '10?']\ncalls_per_minute = 2\n\
    [[ami.contexts]]\nname = 'from-courier'\n[[ami.contexts]]\nname = 'mobile'\nline = 'mobile'\n\
    [[line]]\nname = 'office'\nuser = '101'\ndomain = 'pbx.example'\npassword = 'x'\n\
    [[line]]\nname = 'mobile'\nuser = '38'\ndomain = 'lc.example'\npassword = 'x'\n";

/// The packet that MeaSoft sends, all at once.
const MEASOFT: &str = "Action: login\r\nUsername: measoft\r\nSecret: courier-42\r\n\r\n\
    Action: originate\r\nChannel: SIP/office/+79001234567\r\nWaitTime: 30\r\nCallerId: 0\r\nExten: +79007654321\r\n\
    Context: from-courier\r\nPriority: 1\r\n\r\nAction: Logoff\r\n\r\n";

struct Talk {
    session: Session,
    ledger: Ledger,
    now: Now,
    /// Everything that was sent.
    sent: String,
    recorder: Recorder,
}

impl Talk {
    fn new() -> Talk {
        let config = Config::parse(FILE, "t.toml").unwrap_or_else(|findings| panic!("{findings:?}"));
        let now = Now { mono_us: 5_000_000, utc_us: 1_795_000_000_000_000 };
        Talk {
            session: Session::new(now, Arc::new(config), "840415273".into()),
            ledger: Ledger::default(),
            now,
            sent: String::new(),
            recorder: Recorder::new(0, Chance::from_number(1)),
        }
    }

    fn entered() -> Talk {
        let mut talk = Talk::new();
        talk.says("Action: Login\nUsername: measoft\nSecret: courier-42\nEvents: on\n\n");
        talk.sent.clear();
        talk
    }

    /// Says something; what the session wants of the phone or the machine then.
    fn says(&mut self, text: &str) -> Vec<Output> {
        self.session.receive(text.as_bytes());
        self.rest()
    }

    fn rest(&mut self) -> Vec<Output> {
        let mut wishes = Vec::new();
        while let Some(output) = self.session.poll(self.now, &mut self.ledger) {
            match output {
                Output::Send(text) => self.sent.push_str(&text),
                other => wishes.push(other),
            }
        }
        wishes
    }

    fn answers(&mut self, outcome: Outcome) -> Vec<Output> {
        self.session.answered(outcome);
        self.rest()
    }

    fn happens(&mut self, kind: Kind) {
        let recorded = self.recorder.record(self.now, Event::of_call("c1", kind));
        self.session.happened(&recorded.cloud_event(Digits::Hidden));
        self.rest();
    }

    /// What was sent since this was asked last.
    fn told(&mut self) -> String {
        std::mem::take(&mut self.sent)
    }
}

fn view(leg: u8) -> CallView {
    CallView {
        id: "c1".into(),
        leg: format!("c1-{leg}"),
        callback: Some("cb".into()),
        line: "office".into(),
        direction: "out",
        number: "+79001234567".into(),
        name: None,
        did: None,
        diverted_by: None,
        state: "active",
        muted: false,
        held_by_peer: false,
        silent: false,
        recording: "off",
        transfer: None,
        codec: None,
        srtp: false,
        way: None,
        started: String::new(),
        duration_us: Some(61_000_000),
        quality: None,
    }
}

fn granted() -> Outcome {
    Ok(Reply::Call(Box::new(view(1))))
}

fn callback(number: &str, line: &str, to: &str, to_line: Option<&str>, seconds: u64) -> Output {
    let end = |number: &str, line: Option<&str>| End { number: number.into(), line: line.map(str::to_owned) };
    let ring_for = Some(std::time::Duration::from_secs(seconds));
    let (from, to) = (end(number, Some(line)), end(to, to_line));
    Output::Ask(Command::Callback(Callback { from, to, ring_for, request: None }))
}

/// A leg of a callback to a number.
fn part(number: u8, to: &str) -> Leg {
    let called = Party { name: None, ..Party::numbered(to) };
    Leg { leg_id: format!("c1-{number}"), called, callback_id: Some("cb".into()), ..leg(Direction::Out) }
}

fn answered(number: u8, to: &str) -> Kind {
    Kind::CallAnswered { leg: part(number, to), ring_us: 1, automatic: None }
}

fn result(result: CallResult, reached: bool) -> Kind {
    Kind::OriginateResult {
        callback_id: "cb".into(),
        request: "r".into(),
        origin: Origin::Ami,
        from: Number::new("+79001234567"),
        to: Number::new("+79007654321"),
        reached,
        result,
        cause: Cause::default(),
    }
}

fn ended(number: u8, to: &str, result: CallResult) -> Kind {
    Kind::CallEnded {
        leg: part(number, to),
        result,
        cause: Cause::default(),
        total_us: 1,
        ring_us: 1,
        talk_us: 0,
        hold_us: 0,
        quality: None,
        recording_id: None,
        vote: None,
    }
}

/// The names of events, in their order.
fn events(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("Event: ")).collect()
}

#[test]
fn measofts_packet_at_once_with_its_end_is_carried_out() {
    let mut talk = Talk::new();
    talk.session.receive(MEASOFT.as_bytes());
    talk.session.end_of_input();
    let wishes = talk.rest();
    assert_eq!(
        wishes,
        [Output::Entered("measoft".into()), callback("+79001234567", "office", "+79007654321", None, 30)]
    );
    let sent = talk.told();
    assert!(sent.starts_with("Asterisk Call Manager/"), "{sent}");
    assert!(sent.contains("Response: Success\r\nMessage: Authentication accepted\r\n\r\n"), "{sent}");
    // The rest waits for the first one to answer, as it does at Asterisk.
    assert_eq!(talk.answers(granted()), []);
    assert_eq!(talk.told(), "");
    talk.session.happened(
        &talk.recorder.record(talk.now, Event::of_call("c1", answered(1, "1"))).cloud_event(Digits::Hidden),
    );
    assert_eq!(talk.rest(), [Output::Close]);
    let sent = talk.told();
    assert!(sent.contains("Response: Success\r\nMessage: Originate successfully queued\r\n\r\n"), "{sent}");
    assert!(sent.ends_with("Response: Goodbye\r\nMessage: Logged off\r\n\r\n"), "{sent}");
}

#[test]
fn what_is_not_whole_at_the_end_is_not_carried_out() {
    let mut talk = Talk::entered();
    talk.session.receive(b"Action: originate\r\nChannel: SIP/office/101\r\nExten: +7900");
    talk.session.end_of_input();
    assert_eq!(talk.rest(), [Output::Close]);
}

#[test]
fn who_can_not_log_in_waits_and_goes() {
    for (said, user) in [
        ("Username: measoft\nSecret: wrong\n", "measoft"),
        ("Username: nobody\nSecret: courier-42\n", "nobody"),
        ("Username: measoft\n", "measoft"),
        ("Username: measoft\nAuthType: MD5\nKey: 8ca4bfb8fe8c5b1e5d5b1e8a6bd04b7b\n", "measoft"),
        ("", ""),
    ] {
        let mut talk = Talk::new();
        let wishes = talk.says(&format!("Action: Login\n{said}\nAction: Ping\n\n"));
        assert_eq!(wishes, [Output::Wrong(user.into()), Output::Close], "{said}");
        let sent = talk.told();
        assert!(sent.ends_with("Response: Error\r\nMessage: Authentication failed\r\n\r\n"), "{sent}");
    }
    let mut talk = Talk::new();
    assert_eq!(
        talk.says(
            "Action: Originate\nChannel: SIP/101\nExten: 102\n\nAction: Command\nCommand: core stop now\n\n"
        ),
        []
    );
    assert_eq!(talk.told().matches("Message: Permission denied").count(), 2);
    talk.now.mono_us += 30_000_000;
    assert_eq!(talk.rest(), [Output::Close], "there is a time to log in");
}

#[test]
fn a_log_in_may_answer_a_challenge_instead_of_showing_the_secret() {
    let mut talk = Talk::new();
    talk.says("Action: Challenge\nAuthType: MD5\nActionID: 1\n\n");
    assert!(talk.told().ends_with("Response: Success\r\nActionID: 1\r\nChallenge: 840415273\r\n\r\n"));
    // md5("840415273" + "courier-42")
    let key = "e8eae4da98ae9febabfcda41f4319f2a";
    let wishes =
        talk.says(&format!("Action: Login\nAuthType: md5\nUsername: measoft\nKey: {key}\nEvents: off\n\n"));
    assert_eq!(wishes, [Output::Entered("measoft".into())]);
    assert_eq!(talk.told(), "Response: Success\r\nMessage: Authentication accepted\r\n\r\n");
    // A key without a challenge is somebody else's.
    let mut talk = Talk::new();
    let wishes = talk.says(&format!("Action: Login\nAuthType: md5\nUsername: measoft\nKey: {key}\n\n"));
    assert_eq!(wishes, [Output::Wrong("measoft".into()), Output::Close]);
}

#[test]
fn an_originate_names_lines_contexts_and_numbers_that_the_user_may_have_called() {
    let mut talk = Talk::entered();
    talk.ledger = Ledger::default();
    for (said, why) in [
        ("Exten: 101\n", "Channel not specified"),
        ("Channel: SIP/office/101\nContext: mobile\n", "there is no Exten"),
        ("Channel: SIP/nowhere/101\nExten: 102\nContext: mobile\n", "no line of this device"),
        ("Channel: DAHDI/1/101\nExten: 102\nContext: mobile\n", "none that can be rung"),
        ("Channel: SIP/office/101\nExten: 102\nContext: from-internal\n", "Extension does not exist"),
        ("Channel: SIP/office/101\nExten: 102\n", "Extension does not exist"),
        ("Channel: SIP/office/101\nExten: +49301234567\nContext: mobile\n", "may not have that number"),
        ("Channel: SIP/office/900123\nExten: 101\nContext: mobile\n", "may not have that number"),
        ("Channel: SIP/office/101\nApplication: System\nData: rm -rf /\n", "no applications"),
        ("Channel: SIP/office/101\nExten: 102\nContext: mobile\nApplication: System\n", "no applications"),
    ] {
        assert_eq!(talk.says(&format!("Action: Originate\n{said}\n")), [], "{said}");
        let told = talk.told();
        assert!(told.starts_with("Response: Error\r\n") && told.contains(why), "{said}: {told}");
    }
    let wishes = talk
        .says("Action: Originate\nChannel: SIP/101@office\nExten: 102\nContext: mobile\nTimeout: 20000\n\n");
    assert_eq!(wishes, [callback("101", "office", "102", Some("mobile"), 20)]);
    talk.answers(Err(Refusal::new(Blame::Rule, "refused", "102 may not be called", "see limits")));
    assert_eq!(talk.told(), "Response: Error\r\nMessage: Originate failed: 102 may not be called\r\n\r\n");
    talk.says("Action: Originate\nChannel: SIP/101@office\nExten: 102\nContext: mobile\nAsync: true\n\n");
    talk.answers(granted());
    talk.told();
    // Two a minute are this user's.
    assert_eq!(talk.says("Action: Originate\nChannel: SIP/101@office\nExten: 102\nContext: mobile\n\n"), []);
    assert!(talk.told().contains("too many calls within a minute"));
    talk.now.mono_us += 60_000_000;
    assert_eq!(
        talk.says("Action: Originate\nChannel: SIP/101@office\nExten: 102\nContext: mobile\n\n").len(),
        1
    );
}

#[test]
fn there_is_no_shell_no_file_and_no_end_of_actions() {
    let mut talk = Talk::entered();
    for action in
        ["Command", "GetConfig", "UpdateConfig", "ListCommands", "DBPut", "ModuleLoad", "Login", "dance"]
    {
        assert_eq!(talk.says(&format!("Action: {action}\nActionID: a-1\nCommand: x\n\n")), []);
        let told = talk.told();
        assert!(told.starts_with("Response: Error\r\nActionID: a-1\r\nMessage: "), "{action}: {told}");
    }
    let wishes = talk.says(&"Action: Ping\n\n".repeat(100));
    assert_eq!(wishes, [Output::Close]);
    assert!(talk.told().ends_with("Message: Too many actions\r\n\r\n"));
    let mut talk = Talk::entered();
    assert_eq!(talk.says(&"x".repeat(2000)), [Output::Close]);
}

#[test]
fn a_callback_is_told_in_the_order_of_asterisk() {
    let (a, b) = ("+79001234567", "+79007654321");
    let mut talk = Talk::entered();
    talk.says("Action: Originate\nActionID: 7\nChannel: SIP/office/+79001234567\nExten: +79007654321\nContext: mobile\nAsync: yes\n\n");
    talk.answers(granted());
    assert_eq!(
        talk.told(),
        "Response: Success\r\nActionID: 7\r\nMessage: Originate successfully queued\r\n\r\n"
    );
    talk.happens(Kind::CallNew { leg: part(1, a), origin: Origin::Ami });
    talk.happens(Kind::CallDialing { leg: part(1, a) });
    talk.happens(Kind::CallRinging { leg: part(1, a) });
    talk.happens(answered(1, a));
    let first = talk.told();
    assert_eq!(
        events(&first),
        ["Newchannel", "DialBegin", "Newstate", "Newstate", "DialEnd", "OriginateResponse"]
    );
    assert!(
        first.contains(
            "Event: OriginateResponse\r\nPrivilege: call,all\r\nActionID: 7\r\nResponse: Success\r\n"
        ),
        "{first}"
    );
    assert!(first.contains("Reason: 4\r\nUniqueid: c1.1\r\n"), "{first}");
    talk.happens(Kind::CallNew { leg: part(2, b), origin: Origin::Ami });
    talk.happens(Kind::CallDialing { leg: part(2, b) });
    talk.happens(Kind::CallRinging { leg: part(2, b) });
    talk.happens(answered(2, b));
    let second = talk.told();
    assert_eq!(events(&second), ["Newchannel", "DialBegin", "Newstate", "Newstate", "DialEnd"]);
    let begin = second.split("\r\n\r\n").find(|it| it.starts_with("Event: DialBegin")).expect("a DialBegin");
    for line in [
        "Channel: SIP/office-c11",
        "ChannelStateDesc: Up",
        "Linkedid: c1.1",
        "DestChannel: SIP/office-c12",
        "DestCallerIDNum: +79007654321",
        "DestUniqueid: c1.2",
        "DestLinkedid: c1.1",
        "DialString: +79007654321",
    ] {
        assert!(begin.lines().any(|it| it == line), "{line}: {begin}");
    }
    for (own, other) in [(1, "c1-2"), (2, "c1-1")] {
        talk.happens(Kind::CallBridged { leg: part(own, if own == 1 { a } else { b }), with: other.into() });
    }
    talk.happens(result(CallResult::Answered, true));
    talk.happens(ended(2, b, CallResult::Answered));
    talk.happens(ended(1, a, CallResult::Answered));
    let end = talk.told();
    assert_eq!(
        events(&end),
        ["BridgeEnter", "BridgeEnter", "BridgeLeave", "Hangup", "BridgeLeave", "Hangup"]
    );
    assert!(
        end.contains("BridgeNumChannels: 2\r\n")
            && end.contains("Cause: 16\r\nCause-txt: Normal Clearing\r\n"),
        "{end}"
    );
}

#[test]
fn one_who_does_not_answer_is_told_in_both_ways() {
    for (became, reason, status, cause) in [
        (CallResult::NoAnswer, 3, "NOANSWER", 19),
        (CallResult::Busy, 5, "BUSY", 17),
        (CallResult::Congestion, 8, "CONGESTION", 34),
    ] {
        let mut talk = Talk::entered();
        talk.says(
            "Action: Originate\nActionID: 8\nChannel: SIP/101\nExten: 102\nContext: mobile\nAsync: true\n\n",
        );
        talk.answers(granted());
        talk.happens(Kind::CallNew { leg: part(1, "101"), origin: Origin::Ami });
        talk.told();
        talk.happens(result(became, false));
        talk.happens(ended(1, "101", became));
        let told = talk.told();
        assert_eq!(events(&told), ["OriginateResponse", "DialEnd", "Hangup"]);
        assert!(
            told.contains(&format!("Reason: {reason}\r\n")) && told.contains("Response: Failure\r\n"),
            "{told}"
        );
        assert!(
            told.contains(&format!("DialStatus: {status}\r\n"))
                && told.contains(&format!("Cause: {cause}\r\n")),
            "{told}"
        );
    }
    let mut talk = Talk::entered();
    talk.says(
        "Action: Originate\nActionID: 9\nChannel: SIP/101\nExten: 102\nContext: mobile\n\nAction: Ping\n\n",
    );
    talk.answers(granted());
    talk.happens(result(CallResult::Busy, false));
    let told = talk.told();
    assert!(told.starts_with("Response: Error\r\nActionID: 9\r\nMessage: Originate failed\r\n\r\nResponse: Success\r\nPing: Pong"), "{told}");
}

#[test]
fn events_can_be_left_out_and_names_stay_within_their_lines() {
    let mut talk = Talk::entered();
    talk.says("Action: Events\nEventMask: off\n\n");
    assert_eq!(talk.told(), "Response: Success\r\nEvents: Off\r\n\r\n");
    talk.happens(answered(1, "101"));
    assert_eq!(talk.told(), "");
    talk.says("Action: events\nEventMask: call,cdr\n\n");
    talk.told();
    let caller = Party { name: Some("Eve\r\nEvent: Hangup\r\n\r\n".into()), ..Party::numbered("1\r\nX: y") };
    talk.happens(Kind::CallNew { leg: Leg { caller, ..leg(Direction::In) }, origin: Origin::Network });
    let told = talk.told();
    assert_eq!(events(&told), ["Newchannel"]);
    assert!(
        told.contains("CallerIDName: Eve  Event: Hangup\r\n") && told.contains("ChannelStateDesc: Ring\r\n"),
        "{told}"
    );
    talk.happens(Kind::LineUnregistered { line: "office".into(), cause: Cause::default(), retry_us: None });
    assert_eq!(talk.told(), "", "of another class");
}

#[test]
fn a_call_that_is_given_away_is_told_with_the_channels_that_there_are() {
    let given = |by, way, with: Option<&str>| Kind::CallTransferred {
        leg: part(1, "101"),
        transfer: Transfer { way, target: Party::numbered("603\r\nX: y"), with: with.map(str::to_owned) },
        by,
        next_leg: None,
    };
    let mut talk = Talk::entered();
    talk.happens(Kind::CallNew { leg: part(1, "101"), origin: Origin::Ami });
    talk.told();
    talk.happens(given(Side::Remote, TransferWay::Blind, None));
    let blind = talk.told();
    for line in [
        "Event: BlindTransfer",
        "Privilege: call,all",
        "Result: Success",
        "TransfererChannel: SIP/office-c11",
        "TransfererUniqueid: c1.1",
        "IsExternal: Yes",
        "Context: office",
        "Extension: 603  X: y",
    ] {
        assert!(blind.lines().any(|it| it == line), "{line}: {blind}");
    }
    talk.happens(given(Side::Remote, TransferWay::Attended, None));
    let taken_over = talk.told();
    assert_eq!(events(&taken_over), ["AttendedTransfer"]);
    assert!(taken_over.contains("OrigTransfererChannel: SIP/office-c11\r\n"), "{taken_over}");
    talk.happens(given(Side::Local, TransferWay::Attended, Some("c1")));
    let joined = talk.told();
    for line in ["TransfereeChannel: SIP/office-c11", "TransferTargetChannel: SIP/office-c11"] {
        assert!(joined.lines().any(|it| it == line), "{line}: {joined}");
    }
}

#[test]
fn channels_are_listed_and_ended() {
    let status = || {
        let calls = vec![view(1), view(2)];
        let (lines, degraded) = (Vec::new(), Vec::new());
        let name = String::new();
        let (serial, started, dropped) = (String::new(), String::new(), Default::default());
        Ok(Reply::Status(Box::new(Snapshot {
            sequence: 1,
            version: "1",
            name,
            serial,
            started,
            lines,
            calls,
            degraded,
            dropped,
        })))
    };
    let mut talk = Talk::entered();
    assert_eq!(talk.says("Action: CoreShowChannels\nActionID: 3\n\n"), [Output::Ask(Command::Status)]);
    talk.answers(status());
    let told = talk.told();
    assert_eq!(events(&told), ["CoreShowChannel", "CoreShowChannel", "CoreShowChannelsComplete"]);
    assert!(
        told.contains("Channel: SIP/office-c12\r\n") && told.contains("Duration: 00:01:01\r\n"),
        "{told}"
    );
    assert_eq!(told.matches("ActionID: 3\r\n").count(), 4);
    talk.says("Action: Status\n\n");
    talk.answers(status());
    assert_eq!(events(&talk.told()), ["Status", "Status", "StatusComplete"]);
    // Whoever is asked how it was is connected still.
    for state in ["active", "held", "rating", "ending"] {
        let Ok(Reply::Status(mut snapshot)) = status() else { panic!() };
        snapshot.calls.iter_mut().for_each(|call| call.state = state);
        talk.says("Action: Status\n\n");
        talk.answers(Ok(Reply::Status(snapshot)));
        assert_eq!(talk.told().matches("ChannelStateDesc: Up\r\n").count(), 2, "{state}");
    }
    assert_eq!(talk.says("Action: Hangup\nChannel: SIP/office-c12\n\n"), [Output::Ask(Command::Status)]);
    let wish = Output::Ask(Command::HangUp { call: Some("c1-2".into()) });
    assert_eq!(talk.answers(status()), [wish]);
    talk.answers(Ok(Reply::Done));
    assert_eq!(talk.told(), "Response: Success\r\nMessage: Channel Hungup\r\n\r\n");
    talk.says("Action: Hangup\nChannel: /.*/\n\n");
    talk.answers(status());
    assert_eq!(talk.told(), "Response: Error\r\nMessage: No such channel\r\n\r\n");
}
