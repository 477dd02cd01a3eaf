//! A portal of paper: what it is sent, by what it answers.

use serde_json::{Value, json};

use super::*;
use crate::config::{Config, Secret};
use crate::events::upstream::samples::{TODAY, leg, recorded};
use crate::events::{CallResult, Cause, Direction, Event, Kind, Origin};

const TABLE: &str = "client_id = \"local.1\"\nclient_secret = \"planted-key\"\nrefresh_token = \"first\"\n\
                     line_number = \"74957654321\"\nusers = [{ who = \"office\", user_id = 67 }]\n";

fn settings(more: &str) -> config::Upstream {
    let text = format!(
        "[[upstream]]\nname = \"crm\"\nkind = \"bitrix24\"\nurl = \"https://x.bitrix24.example\"\n\
         [upstream.bitrix24]\n{TABLE}{more}\n"
    );
    Config::parse(&text, "t.toml").expect("a configuration").upstream.remove(0)
}

struct Paper {
    dialect: Bitrix24,
    kept: Notes,
    /// Methods and bodies, without the token where it is the right one.
    asked: Vec<(String, Value)>,
    now: Now,
}

impl Paper {
    fn new(more: &str) -> Paper {
        let dialect = Bitrix24::new(&settings(more));
        let now = Now { mono_us: 1_000_000, utc_us: TODAY };
        Paper { dialect, kept: Notes::new(), asked: Vec::new(), now }
    }

    /// With a token that was brought a moment ago.
    fn signed_in(more: &str) -> Paper {
        let mut paper = Paper::new(more);
        let dialled = Kind::CallNew { leg: leg(Direction::Out), origin: Origin::Keys };
        let answers = [tokens("a1", "r1"), registered("c0")];
        let warm = Event::of_call("c0", dialled);
        assert_eq!(paper.deliver(warm, &answers), Some(Verdict::Taken));
        let mut fresh = Bitrix24::new(&settings(more));
        std::mem::swap(&mut fresh.tokens, &mut paper.dialect.tokens);
        paper.dialect = fresh;
        paper.kept.retain(|key, _| key == "tokens");
        paper.asked.clear();
        paper
    }

    /// Delivers an event with these answers in turn; `None` when nothing was answered in the end.
    fn deliver(&mut self, event: Event, answers: &[Outcome]) -> Option<Verdict> {
        let frozen = self.dialect.render(&recorded(event))?;
        self.go_on(&frozen, answers).0
    }

    fn go_on(&mut self, frozen: &Frozen, answers: &[Outcome]) -> (Option<Verdict>, Option<String>) {
        let mut answers = answers.iter();
        let mut answered = None;
        loop {
            match self.dialect.step(frozen, self.now) {
                Step::Done => {
                    assert_eq!(answers.next(), None, "something else was expected: {:?}", self.asked);
                    return (answered, None);
                }
                Step::Remember(notes) => self.keep(notes),
                Step::Send(request) => {
                    self.sent(&request);
                    let outcome = answers.next().unwrap_or_else(|| panic!("asked for: {:?}", self.asked));
                    let heard = self.dialect.heard(frozen, outcome, self.now);
                    let brought = was_renewal(&self.dialect, frozen) && heard.over.is_none();
                    assert!(!brought || !self.dialect.is_ready(), "not before it is kept");
                    self.keep(heard.notes);
                    self.dialect.remembered(frozen);
                    if let Some(verdict) = heard.over {
                        assert_eq!(answers.next(), None, "it is over: {:?}", self.asked);
                        return (Some(verdict), heard.trouble.map(|(what, _)| what));
                    }
                    answered = Some(Verdict::Taken);
                }
            }
        }
    }

    fn keep(&mut self, notes: Vec<Note>) {
        for Note { key, value } in notes {
            match value {
                Some(value) => drop(self.kept.insert(key, value)),
                None => drop(self.kept.remove(&key)),
            }
        }
    }

    fn sent(&mut self, request: &Request) {
        assert_eq!(request.method, "POST");
        assert!(!format!("{request:?}").contains("planted"));
        if let Some(url) = &request.elsewhere {
            assert_eq!((url.authority(), url.path()), ("oauth.bitrix.info", "/oauth/token/"));
            let form = String::from_utf8(request.body.clone()).expect("a form");
            return self.asked.push(("renewal".into(), form.into()));
        }
        if let Some(enclosed) = &request.enclosed {
            let whole = format!("{} {}", request.target, String::from_utf8_lossy(&request.body));
            return self.asked.push((whole, enclosed.recording.clone().into()));
        }
        let method = request.target.strip_prefix("/rest/").expect("a method");
        assert_eq!(request.headers, [("content-type", "application/json".to_owned())]);
        let mut body: Value = serde_json::from_slice(&request.body).expect("JSON");
        let token = body["auth"].take();
        assert!(token.as_str().is_some_and(|it| it.starts_with('a')), "{body}");
        body.as_object_mut().expect("an object").remove("auth");
        self.asked.push((method.trim_start_matches("telephony.externalCall.").to_owned(), body));
    }

    /// The program ends, and begins again with what was kept.
    fn restart(&mut self, more: &str) {
        self.dialect = Bitrix24::new(&settings(more));
        self.dialect.recall(self.kept.clone());
    }

    fn methods(&self) -> Vec<&str> {
        self.asked.iter().map(|(method, _)| method.as_str()).collect()
    }
}

fn was_renewal(dialect: &Bitrix24, frozen: &Frozen) -> bool {
    dialect.asked.get(&frozen.id) == Some(&Asked::Renewal)
}

fn answer(status: u16, said: Value) -> Outcome {
    Outcome::Answered { status, retry_after: None, said: said.to_string().into_bytes() }
}

fn result(result: Value) -> Outcome {
    answer(200, json!({ "result": result, "time": { "start": 1773130778 } }))
}

fn registered(call: &str) -> Outcome {
    result(
        json!({ "CALL_ID": call, "CRM_CREATED_LEAD": null, "CRM_ENTITY_TYPE": "CONTACT", "CRM_ENTITY_ID": 797 }),
    )
}

fn refused(status: u16, code: &str, text: &str) -> Outcome {
    answer(status, json!({ "error": code, "error_description": text }))
}

fn tokens(access: &str, refresh: &str) -> Outcome {
    answer(
        200,
        json!({ "access_token": access, "expires_in": 3600, "refresh_token": refresh, "domain": "oauth.bitrix.info" }),
    )
}

fn lost() -> Outcome {
    Outcome::Failed { what: "no answer".into(), cure: "wait".into() }
}

fn unknown_call() -> Outcome {
    refused(400, "ERROR_CORE", "Call is not found (call should be registered prior to finishing)")
}

fn ringing() -> Event {
    Event::of_call("c1", Kind::CallRinging { leg: leg(Direction::In) })
}

fn answered() -> Event {
    Event::of_call("c1", Kind::CallAnswered { leg: leg(Direction::In), ring_us: 1, automatic: None })
}

fn ended_as(direction: Direction, result: CallResult, cause: Cause, recording: Option<&str>) -> Event {
    let talked = matches!(result, CallResult::Answered | CallResult::MediaLost);
    let kind = Kind::CallEnded {
        leg: leg(direction),
        result,
        cause,
        total_us: 100_900_000,
        ring_us: 5_000_000,
        talk_us: if talked { 95_999_999 } else { 0 },
        hold_us: 0,
        quality: None,
        recording_id: recording.map(str::to_owned),
        vote: None,
    };
    Event::of_call("c1", kind)
}

fn ended() -> Event {
    ended_as(Direction::In, CallResult::Answered, Cause::default(), None)
}

fn ready() -> Event {
    let kind = Kind::RecordingReady {
        recording_id: "c1-1".into(),
        leg_id: "c1-1".into(),
        line: "office".into(),
        duration_us: 1,
        bytes: 9,
    };
    Event::of_call("c1", kind)
}

#[test]
fn a_call_is_registered_and_finished_by_the_name_that_the_portal_gives_it() {
    let mut paper = Paper::new("");
    assert_eq!(paper.deliver(ringing(), &[tokens("a1", "r1"), registered("ext.1")]), Some(Verdict::Taken));
    assert_eq!(paper.deliver(answered(), &[]), None, "nobody else was shown its card");
    assert_eq!(paper.deliver(ended(), &[result(json!({ "CALL_DURATION": "95" }))]), Some(Verdict::Taken));
    let form = "grant_type=refresh_token&client_id=local.1&client_secret=planted-key&refresh_token=first";
    let expected = [
        ("renewal", json!(form)),
        (
            "register",
            json!({
                "USER_ID": 67, "PHONE_NUMBER": "74951234567", "TYPE": 3, "CALL_START_DATE": "2026-11-20T00:00:00+00:00",
                "EXTERNAL_CALL_ID": "c1-1", "SHOW": 1, "CRM_CREATE": 0, "ADD_TO_CHAT": 1, "LINE_NUMBER": "74957654321",
            }),
        ),
        (
            "finish",
            json!({ "CALL_ID": "ext.1", "USER_ID": 67, "DURATION": 95, "STATUS_CODE": "200", "ADD_TO_CHAT": 1 }),
        ),
    ];
    let asked: Vec<(&str, Value)> =
        paper.asked.iter().map(|(method, body)| (method.as_str(), body.clone())).collect();
    assert_eq!(asked, expected);
    assert!(
        paper.kept["tokens"].contains("\"r1\"") && !paper.kept["tokens"].contains("first"),
        "the next one"
    );
}

#[test]
fn each_end_has_its_code() {
    use CallResult as R;
    for (direction, result_was, sip, expected) in [
        (Direction::In, R::Answered, None, "200"),
        (Direction::In, R::MediaLost, None, "200"),
        (Direction::In, R::NoAnswer, None, "304"),
        (Direction::Out, R::NoAnswer, None, "480"),
        (Direction::In, R::Cancelled, None, "304"),
        (Direction::Out, R::Cancelled, None, "603-S"),
        (Direction::Out, R::Busy, Some(486), "486"),
        (Direction::In, R::Rejected, None, "603"),
        (Direction::Out, R::Barred, Some(403), "403"),
        (Direction::Out, R::InvalidNumber, Some(404), "404"),
        (Direction::Out, R::InvalidNumber, Some(484), "484"),
        (Direction::Out, R::Unreachable, Some(480), "480"),
        (Direction::Out, R::Congestion, Some(503), "503"),
        (Direction::Out, R::Failed, None, "503"),
        (Direction::Out, R::NoFunds, Some(402), "402"),
    ] {
        let mut paper = Paper::signed_in("cost_per_minute = \"1.5\"\ncost_currency = \"RUB\"\n");
        let cause = Cause { status: sip, text: Some("why\r\n".into()), ..Cause::default() };
        let event = ended_as(direction, result_was, cause, None);
        let answers = [registered("x"), result(json!({}))];
        assert_eq!(paper.deliver(event, &answers), Some(Verdict::Taken), "{result_was}");
        assert_eq!(paper.methods(), ["register", "finish"], "what was not registered is now");
        let (register, finish) = (&paper.asked[0].1, &paper.asked[1].1);
        assert_eq!(
            (&register["SHOW"], &finish["STATUS_CODE"]),
            (&json!(0), &json!(expected)),
            "{result_was}"
        );
        assert_eq!(register["CALL_START_DATE"], "2026-11-19T23:58:19+00:00");
        let talked = matches!(result_was, R::Answered | R::MediaLost);
        assert_eq!(finish["DURATION"], if talked { 95 } else { 0 });
        let reason = (result_was != R::Answered).then_some("why");
        assert_eq!(finish["FAILED_REASON"].as_str(), reason);
        let cost = (direction == Direction::Out).then_some(0.0);
        assert_eq!(finish["COST"].as_f64(), cost, "{result_was}");
    }
    let mut paper = Paper::signed_in("cost_per_minute = \"1.5\"\ncost_currency = \"RUB\"\n");
    let event = ended_as(Direction::Out, R::Answered, Cause::default(), None);
    paper.deliver(event, &[registered("x"), result(json!({}))]);
    let finish = &paper.asked[1].1;
    assert_eq!((&finish["COST"], &finish["COST_CURRENCY"]), (&json!(3.0), &json!("RUB")), "two minutes");
    assert_eq!(paper.asked[0].1["TYPE"], 1);
}

#[test]
fn what_the_caller_says_of_a_call_is_its_vote() {
    for said in [None, Some(1), Some(5)] {
        let mut event = ended();
        if let Kind::CallEnded { vote, .. } = &mut event.kind {
            *vote = said;
        }
        let mut paper = Paper::signed_in("");
        paper.deliver(event, &[registered("x"), result(json!({}))]);
        let (method, finish) = &paper.asked[1];
        assert_eq!((method.as_str(), finish.get("VOTE").cloned()), ("finish", said.map(Value::from)));
    }
}

#[test]
fn cards_of_others_open_while_it_rings_and_close() {
    let more = "show_to = [7, 8]\n";
    let mut paper = Paper::signed_in(more);
    let done = || result(json!(true));
    paper.deliver(ringing(), &[registered("x"), done()]);
    paper.deliver(answered(), &[done()]);
    paper.deliver(ended(), &[done()]);
    assert_eq!(paper.methods(), ["register", "show", "hide", "finish"]);
    assert_eq!(paper.asked[1].1, json!({ "CALL_ID": "x", "USER_ID": [7, 8] }));
    assert_eq!(paper.asked[2].1, json!({ "CALL_ID": "x", "USER_ID": [7, 8] }));
    let mut paper = Paper::signed_in(more);
    let elsewhere = || ended_as(Direction::In, CallResult::AnsweredElsewhere, Cause::default(), None);
    paper.deliver(ringing(), &[registered("x"), done()]);
    paper.deliver(elsewhere(), &[done()]);
    assert_eq!(paper.methods(), ["register", "show", "hide"], "it is no call of this user's");
    assert_eq!(paper.asked[2].1, json!({ "CALL_ID": "x", "USER_ID": [7, 8, 67] }));
    assert_eq!(paper.deliver(elsewhere(), &[]), None, "once");
}

#[test]
fn whom_the_portal_knows_how_and_what_is_none_of_its_business() {
    let mut paper = Paper::signed_in("");
    let mut inner = leg(Direction::In);
    inner.line = "other".into();
    paper.deliver(Event::of_call("c1", Kind::CallRinging { leg: inner.clone() }), &[registered("x")]);
    assert_eq!(paper.asked[0].1["USER_PHONE_INNER"], "101");
    inner.caller.number = Some(crate::events::Number::new("102"));
    inner.leg_id = "c2-1".into();
    let internal = || Event::of_call("c2", Kind::CallRinging { leg: inner.clone() });
    assert_eq!(paper.deliver(internal(), &[]), None, "an inside call");
    let mut told = Paper::signed_in("internal = true\n");
    assert_eq!(told.deliver(internal(), &[registered("x")]), Some(Verdict::Taken));
    inner.caller.number = None;
    assert_eq!(paper.deliver(Event::of_call("c2", Kind::CallRinging { leg: inner }), &[]), None, "withheld");
    let barred = ended_as(Direction::In, CallResult::Barred, Cause::local("on the black list"), None);
    assert_eq!(paper.deliver(barred, &[result(json!({}))]), Some(Verdict::Taken), "it rang before");
    let mut paper = Paper::signed_in("");
    let barred = ended_as(Direction::In, CallResult::Barred, Cause::local("on the black list"), None);
    assert_eq!(paper.deliver(barred, &[]), None, "nobody was rung");
}

#[test]
fn a_token_that_ends_between_two_requests_is_renewed_and_the_delivery_goes_on() {
    let mut paper = Paper::signed_in("");
    paper.deliver(ringing(), &[registered("x")]);
    let expired = refused(401, "expired_token", "The access token provided has expired");
    let answers = [expired.clone(), tokens("a2", "r2"), result(json!({}))];
    assert_eq!(paper.deliver(ended(), &answers), Some(Verdict::Taken));
    assert_eq!(paper.methods(), ["register", "finish", "renewal", "finish"]);
    assert!(paper.asked[2].1.as_str().is_some_and(|form| form.ends_with("refresh_token=r1")));
    // One that is refused from the beginning is not renewed without end.
    paper.asked.clear();
    let frozen = paper.dialect.render(&recorded(ringing())).expect("words");
    paper.dialect.legs = Legs::default();
    let (verdict, _) = paper.go_on(&frozen, &[expired.clone(), tokens("a3", "r3"), expired]);
    assert_eq!(
        (verdict, paper.methods()),
        (Some(Verdict::Unavailable), vec!["register", "renewal", "register"])
    );
    // Before its hour is over it is renewed without being asked for.
    paper.now = paper.now.plus(std::time::Duration::from_secs(3600));
    paper.asked.clear();
    paper.go_on(&frozen, &[tokens("a4", "r4"), registered("y")]);
    assert_eq!(paper.methods(), ["renewal", "register"]);
    // An earlier life's token is taken as it is.
    paper.restart("");
    paper.asked.clear();
    paper.deliver(ended(), &[result(json!({}))]);
    assert_eq!(paper.methods(), ["finish"]);
}

#[test]
fn another_first_token_begins_another_chain() {
    let mut paper = Paper::signed_in("");
    paper.restart("");
    assert!(paper.dialect.tokens.access(paper.now).is_some());
    let mut other = settings("");
    other.bitrix24.refresh_token = Secret::new("second");
    paper.dialect = Bitrix24::new(&other);
    paper.dialect.recall(paper.kept.clone());
    paper.deliver(ringing(), &[tokens("a9", "r9"), registered("x")]);
    assert!(paper.asked[0].1.as_str().is_some_and(|form| form.ends_with("refresh_token=second")));
}

#[test]
fn while_tokens_are_renewed_nothing_else_begins() {
    let mut paper = Paper::new("");
    let frozen = paper.dialect.render(&recorded(ringing())).expect("words");
    assert!(paper.dialect.is_ready());
    assert!(matches!(paper.dialect.step(&frozen, paper.now), Step::Send(_)));
    assert!(!paper.dialect.is_ready());
    let heard = paper.dialect.heard(&frozen, &lost(), paper.now);
    assert!(paper.dialect.is_ready() && heard.over == Some(Verdict::Unavailable));
}

#[test]
fn a_registration_whose_answer_was_lost_is_made_again_with_the_same_identity() {
    let mut paper = Paper::signed_in("");
    assert_eq!(paper.deliver(ringing(), &[lost()]), Some(Verdict::Unavailable));
    assert_eq!(paper.deliver(ringing(), &[registered("x")]), Some(Verdict::Taken));
    assert_eq!(paper.asked[0].1, paper.asked[1].1);
    assert_eq!(paper.deliver(ringing(), &[]), None, "once");
}

#[test]
fn what_was_finished_is_not_registered_again_whatever_was_lost() {
    // The answer to a finish is lost.
    let mut paper = Paper::signed_in("");
    paper.deliver(ringing(), &[registered("x")]);
    assert_eq!(paper.deliver(ended(), &[lost()]), Some(Verdict::Unavailable));
    assert_eq!(paper.deliver(ended(), &[unknown_call()]), Some(Verdict::Taken));
    assert_eq!(paper.methods(), ["register", "finish", "finish"]);
    // The program ends before it has kept that it was finished, or after.
    for kept_before in [true, false] {
        let mut paper = Paper::signed_in("");
        paper.deliver(ringing(), &[registered("x")]);
        let before = paper.kept.clone();
        paper.deliver(ended(), &[result(json!({}))]);
        if !kept_before {
            paper.kept = before;
        }
        paper.restart("");
        paper.deliver(ringing(), &[]);
        let answers: Vec<Outcome> = (!kept_before).then(unknown_call).into_iter().collect();
        paper.deliver(ended(), &answers);
        let expected: &[&str] = if kept_before { &[] } else { &["finish"] };
        assert_eq!(paper.methods()[2..], *expected);
    }
    // A portal that has forgotten the call is told it anew, once.
    let mut paper = Paper::signed_in("");
    paper.deliver(ringing(), &[registered("x")]);
    paper.deliver(ended(), &[unknown_call(), registered("y"), result(json!({}))]);
    assert_eq!(paper.methods(), ["register", "finish", "register", "finish"]);
    assert_eq!(paper.asked[3].1["CALL_ID"], "y");
    let mut paper = Paper::signed_in("");
    paper.deliver(ringing(), &[registered("x")]);
    let verdict = paper.deliver(ended(), &[unknown_call(), registered("y"), unknown_call()]);
    assert_eq!(verdict, Some(Verdict::Refused));
}

#[test]
fn a_recording_is_sent_to_the_portal_once_the_call_is_finished() {
    let upload = |url: &str| result(json!({ "uploadUrl": url, "fieldName": "file" }));
    let own = "https://x.bitrix24.example/rest/upload.json?auth=1&token=planted";
    let recorded_end = || ended_as(Direction::In, CallResult::Answered, Cause::default(), Some("c1-1"));
    let sent = "/rest/upload.json?auth=1&token=planted --tipring-c11\r\nContent-Disposition: form-data; name=\"file\"; \
                filename=\"c1-1.wav\"\r\nContent-Type: audio/wav\r\n\r\n";
    // The file is complete after the end, or before.
    for before in [false, true] {
        let mut paper = Paper::signed_in("");
        paper.deliver(ringing(), &[registered("x")]);
        let attaching = [upload(own), result(json!({ "FILE_ID": 9079 }))];
        if before {
            assert_eq!(paper.deliver(ready(), &[]), None);
            paper.restart("");
            paper.deliver(recorded_end(), &[&[result(json!({}))], &attaching[..]].concat());
        } else {
            paper.deliver(recorded_end(), &[result(json!({}))]);
            paper.restart("");
            paper.deliver(ready(), &attaching);
        }
        assert_eq!(paper.methods(), ["register", "finish", "attachRecord", sent], "{before}");
        assert_eq!(paper.asked[2].1, json!({ "CALL_ID": "x", "FILENAME": "c1-1.wav" }));
        assert_eq!(paper.asked[3].1, "c1-1");
    }
    for elsewhere in [
        "https://evil.example/rest/upload.json",
        "http://x.bitrix24.example/rest/upload.json",
        "https://x.bitrix24.example:444/",
        "https://x.bitrix24.example@127.0.0.1/",
        "nonsense",
    ] {
        let mut paper = Paper::signed_in("");
        paper.deliver(ringing(), &[registered("x")]);
        paper.deliver(recorded_end(), &[result(json!({}))]);
        assert_eq!(paper.deliver(ready(), &[upload(elsewhere)]), Some(Verdict::Refused), "{elsewhere}");
    }
    // A place is good for once, and a file that was deleted meanwhile is missed by nobody.
    let mut paper = Paper::signed_in("");
    paper.deliver(ringing(), &[registered("x")]);
    paper.deliver(recorded_end(), &[result(json!({}))]);
    assert_eq!(paper.deliver(ready(), &[upload(own), lost()]), Some(Verdict::Unavailable));
    let gone = Outcome::Unwritable { what: "the recording can't be read".into() };
    assert_eq!(paper.deliver(ready(), &[upload(own), gone]), Some(Verdict::Taken));
}

#[test]
fn an_answer_that_is_none_is_bounded_told_and_asked_for_again() {
    let mut paper = Paper::signed_in("");
    for said in [
        json!({ "result": { "CALL_ID": null } }),
        json!({ "result": { "CALL_ID": ["x"] } }),
        json!({ "result": { "CALL_ID": "" } }),
        json!({ "result": { "CALL_ID": "x\r\ny" } }),
        json!({ "result": { "CALL_ID": "x".repeat(3000) } }),
        json!({ "result": "0" }),
        json!({ "result": 0 }),
        json!([]),
        json!("0"),
        json!({}),
    ] {
        assert_eq!(
            paper.deliver(ringing(), &[answer(200, said.clone())]),
            Some(Verdict::Unavailable),
            "{said}"
        );
    }
    for said in ["<html>", "", "{\"result\": {\"CALL_ID\": \"x\"", "\u{0}"] {
        let html = Outcome::Answered { status: 200, retry_after: None, said: said.as_bytes().to_vec() };
        assert_eq!(paper.deliver(ringing(), &[html]), Some(Verdict::Unavailable), "{said}");
    }
    // A number is as good as a text.
    let number = result(json!({ "CALL_ID": 17 }));
    assert_eq!(paper.deliver(ringing(), &[number]), Some(Verdict::Taken));
    for said in
        [json!({ "access_token": 7 }), json!({ "access_token": "a", "refresh_token": "r\n" }), json!("x")]
    {
        let mut paper = Paper::new("");
        assert_eq!(paper.deliver(ringing(), &[answer(200, said)]), Some(Verdict::Unavailable));
        assert!(paper.dialect.is_ready());
    }
}

#[test]
fn a_refusal_says_who_is_to_blame() {
    let failing = |outcome: Outcome| {
        let mut paper = Paper::signed_in("");
        let frozen = paper.dialect.render(&recorded(ringing())).expect("words");
        paper.go_on(&frozen, &[outcome])
    };
    for (outcome, verdict, expected) in [
        (
            refused(403, "WRONG_AUTH_TYPE", "denied"),
            Verdict::Locked,
            "calls from applications alone (WRONG_AUTH_TYPE)",
        ),
        (refused(401, "insufficient_scope", ""), Verdict::Locked, "nothing with telephony"),
        (refused(401, "ACCESS_DENIED", ""), Verdict::Locked, "no REST API"),
        (
            refused(403, "ACCESS_DENIED", "Access denied!"),
            Verdict::Refused,
            "it says: Access denied! (ACCESS_DENIED)",
        ),
        (refused(401, "SOMETHING_NEW", ""), Verdict::Locked, "it says SOMETHING_NEW"),
        (refused(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"), Verdict::Unavailable, "enough requests"),
        (refused(429, "OPERATION_TIME_LIMIT", ""), Verdict::Unavailable, "enough requests"),
        (refused(500, "INTERNAL_SERVER_ERROR", "x"), Verdict::Unavailable, "it says: x"),
        (
            refused(400, "ERROR_CORE", "Unsupported phone number format"),
            Verdict::Refused,
            "phone number format",
        ),
        (refused(400, "", "\u{202e}a\nb"), Verdict::Refused, "it says: a b"),
        (refused(200, "ERROR_CORE", "as a success"), Verdict::Refused, "as a success"),
    ] {
        let (was, what) = failing(outcome.clone());
        let what = what.unwrap_or_default();
        assert!(was == Some(verdict) && what.contains(expected), "{outcome:?}: {was:?} {what}");
    }
    let mut paper = Paper::new("");
    let frozen = paper.dialect.render(&recorded(ringing())).expect("words");
    let (was, what) = paper.go_on(&frozen, &[refused(400, "invalid_grant", "")]);
    assert!(
        was == Some(Verdict::Locked) && what.is_some_and(|what| what.contains("refresh token is not taken"))
    );
    assert_eq!(paper.go_on(&frozen, &[answer(502, json!("x"))]).0, Some(Verdict::Unavailable));
}

#[test]
fn legs_that_are_remembered_have_a_bound_and_unfinished_ones_stay_longest() {
    let mut legs = Legs::default();
    legs.change("open", 1, |leg| leg.call = Some("x".into()));
    for number in 0..600 {
        let notes = legs.change(&format!("l{number}"), 2 + number, |leg| leg.finished = true);
        assert_eq!(notes.len(), if number < 255 { 1 } else { 2 });
    }
    assert!(legs.get("open").call.is_some() && legs.get("l599").finished && !legs.get("l0").finished);
}

#[test]
fn a_test_asks_for_the_application_and_nothing_of_a_call() {
    let mut paper = Paper::new("");
    let event = recorded(Event::new(Kind::NetworkChanged { addresses: vec![] }));
    let test = paper.dialect.test(&event);
    let info = result(json!({ "ID": 1, "CODE": "local.1" }));
    assert_eq!(paper.go_on(&test, &[tokens("a1", "r1"), info]).0, Some(Verdict::Taken));
    assert_eq!(paper.asked[1], ("app.info".to_owned(), json!({})));
    assert_eq!(paper.dialect.render(&CloudEvent::gap(1, 2, None, 0)), None);
}
