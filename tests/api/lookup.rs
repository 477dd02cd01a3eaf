//! Asking systems who calls, over real connections: what they answer, and what they do instead of answering.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tipring::device::clock;
use tipring::events::lookup::{Answer, Failure, Question};
use tipring::events::{Event, Kind, Number, Party};
use uuid::Uuid;

use crate::bitrix24::Bitrix;
use crate::broker::{Broker, event, message};
use crate::leg;
use crate::office::{Asked, Paper, THEN, until};
use crate::receiver::{Got, Receiver, Reply};
use crate::tls::Pki;
use crate::upstreams::{open, view};

/// How long an answer to a question of these tests is of use.
const OF_USE: Duration = Duration::from_secs(3);

type Outcome = Result<Answer, Failure>;

/// The phone of paper, and what came of its questions.
struct Asker {
    paper: Paper,
    came: RefCell<BTreeMap<Uuid, Outcome>>,
}

impl Asker {
    fn new(name: &str, tables: &str) -> Asker {
        Asker { paper: open(name, tables), came: RefCell::default() }
    }

    /// Asks whose this number is.
    fn begin(&self, number: u64) -> Uuid {
        let id = Uuid::from_u128(0x0199_9f3e_7000_8000 << 64 | u128::from(number));
        let mut leg = leg("c1", "", "");
        leg.caller = Party::numbered(format!("+7495{number:07}"));
        leg.did = Some(Number::new("+74957654321"));
        let deadline = clock::now().deadline(OF_USE);
        self.paper.ask(Question { id, call: "c1".into(), leg, utc_us: THEN, deadline });
        id
    }

    fn answered(&self, id: Uuid) -> Outcome {
        until("it is answered", || {
            self.came.borrow_mut().extend(self.paper.asked().into_iter().filter_map(|asked| match asked {
                Asked::Answered { id, answer } => Some((id, answer)),
                _ => None,
            }));
            self.came.borrow().contains_key(&id)
        });
        self.came.borrow_mut().remove(&id).expect("an answer")
    }

    fn ask(&self, number: u64) -> Outcome {
        self.answered(self.begin(number))
    }

    /// Asks for something that fails: why.
    #[track_caller]
    fn fails(&self, number: u64) -> String {
        let failure = self.ask(number).expect_err("no answer").to_string();
        assert!(!failure.contains("planted") && !failure.contains("7495"), "{failure}");
        failure
    }
}

fn is(name: &str, pin: &str) -> Outcome {
    Ok(Answer::of(Some(name), Some(pin)))
}

fn body(text: &str) -> Reply {
    Reply::Full(200, "", text.as_bytes().to_vec())
}

#[test]
fn a_system_answers_or_does_something_else_and_the_phone_is_told_in_any_case() {
    let elsewhere = Receiver::of(|_| panic!("nobody follows"), |_, _| Reply::Status(200));
    let away: &'static str =
        Box::leak(format!("Location: http://{}/x\r\n", elsewhere.address).into_boxed_str());
    let look = |got: &Got| {
        assert_eq!(got.method, "GET");
        assert!(got.target.starts_with("/who?key=planted-path&n=%2B7495000000"), "{}", got.target);
        assert_eq!(got.authorization.as_deref(), Some("Bearer planted-bearer"));
    };
    let crm = Receiver::of(look, move |got, _| match got.target.rsplit('0').next() {
        Some("1") => body("{\"name\":\"Anna\",\"pin\":703}"),
        Some("2") => body("Anna & Co"),
        Some("3") => Reply::Status(404),
        Some("4") => Reply::Drip(200),
        Some("5") => Reply::SlowHead,
        Some("6") => Reply::Full(200, "", vec![b'x'; 3 << 20]),
        Some("7") => Reply::Full(302, away, Vec::new()),
        Some("8") => Reply::Close,
        _ => body("<html>planted-page</html>"),
    });
    let table = format!(
        "[lookup]\nkind = \"url\"\nurl = \"http://{}\"\npath = \"/who?key=planted-path&n=$remote_number\"\n\
         authorization = \"Bearer planted-bearer\"\n",
        crm.address
    );
    let asker = Asker::new("lookup", &table);
    assert_eq!(asker.ask(1), is("Anna", "703"));
    assert_eq!(asker.ask(2), is("Anna & Co", ""));
    assert_eq!(asker.ask(3), Ok(Answer::default()));
    // Whoever is slow keeps nobody else waiting.
    let slow = [asker.begin(4), asker.begin(5)];
    for (number, reason) in [
        (6, "cut off, or too large"),
        (7, "answers 302: it is elsewhere"),
        (8, "the connection gives no answer"),
        (9, "neither JSON nor a name"),
    ] {
        let failure = asker.fails(number);
        assert!(failure.contains(reason), "{number}: {failure}");
    }
    assert_eq!(asker.ask(1), is("Anna", "703"));
    for id in slow {
        let failure = asker.answered(id).expect_err("no answer");
        assert!(failure.what.contains("does not answer in time"), "{failure}");
    }
    let shown = asker.paper.local("GET", "/api/v1/config", None).text;
    assert!(!shown.contains("planted-path") && !shown.contains("planted-bearer"), "{shown}");
}

#[test]
fn a_storm_of_calls_asks_a_slow_system_so_often_and_no_more() {
    let crm = Receiver::of(|_| {}, |_, _| Reply::SlowHead);
    let table = format!("[lookup]\nkind = \"url\"\nurl = \"http://{}\"\npath = \"/\"\n", crm.address);
    let asker = Asker::new("lookup-storm", &table);
    let questions: Vec<Uuid> = (0..40).map(|number| asker.begin(number)).collect();
    let failures: Vec<String> =
        questions.into_iter().map(|id| asker.answered(id).expect_err("no answer").what).collect();
    let many = failures.iter().filter(|what| what.contains("too many questions are open")).count();
    let late = failures.iter().filter(|what| what.contains("does not answer in time")).count();
    assert_eq!((many, late), (8, 32));
    assert_eq!(crm.connections.load(std::sync::atomic::Ordering::Relaxed), 32);
}

const CLIENT: &str = "000003C405E6525C64C184258C44EC99";
const KEY: &str = "planted-ABDA6D4DFF10F82BCBBFC532";

/// Believes get_number_info as a handler of Rostelecom's does: by its signature over the bytes that came.
fn handler(got: &Got) {
    assert_eq!((got.method.as_str(), got.target.as_str()), ("POST", "/rt/get_number_info"));
    assert_eq!((got.content_type.as_str(), got.field("x-client-id")), ("application/json", CLIENT));
    let hash = Sha256::digest(format!("{CLIENT}{}{KEY}", got.text));
    let expected: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(got.field("x-client-sign"), expected);
    let asked: Value = serde_json::from_str(&got.text).expect("JSON");
    assert_eq!((&asked["state"], &asked["type"]), (&json!("new"), &json!("incoming")));
    assert_eq!(
        (&asked["request_number"], &asked["request_pin"]),
        (&json!("sip:74957654321@example.ru"), &json!("607"))
    );
    assert!(asked["from_number"].as_str().is_some_and(|it| it.starts_with("sip:7495000000")), "{asked}");
}

#[test]
fn a_crm_of_rostelecom_is_asked_as_its_pbx_asks_and_believed_in_any_type() {
    let crm =
        Receiver::of(handler, |got, _| match got.event()["from_number"].as_str().map(|it| &it[4..15]) {
            Some("74950000001") => {
                body("{\"result\":\"0\",\"resultMessage\":\" \",\"displayName\":\"Anna\",\"PIN\":\"703\"}")
            }
            Some("74950000002") => body("{\"result\":0,\"displayName\":17,\"PIN\":703}"),
            Some("74950000003") => body("{\"result\":-20,\"resultMessage\":\"planted-error\"}"),
            Some("74950000004") => body("planted-nonsense"),
            _ => Reply::Status(404),
        });
    let table = format!(
        "[lookup]\nkind = \"rostelecom\"\nurl = \"http://{}/rt/get_number_info\"\n[lookup.rostelecom]\n\
         client_id = \"{CLIENT}\"\nkey = \"{KEY}\"\ndomain = \"example.ru\"\npin = \"607\"\n",
        crm.address
    );
    let asker = Asker::new("lookup-rostelecom", &table);
    assert_eq!(asker.ask(1), is("Anna", "703"));
    assert_eq!(asker.ask(2), is("17", "703"));
    assert!(asker.fails(3).contains("a result that is not 0"));
    assert!(asker.fails(4).contains("no JSON object"));
    assert!(asker.fails(5).contains("answers 404"), "who is not known has an answer of its own there");
    let connections = crm.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(connections < 5, "a connection is used again: {connections}");
    assert!(!asker.paper.local("GET", "/api/v1/config", None).text.contains("planted"));
}

#[test]
fn a_portal_is_asked_with_a_token_that_the_call_itself_renews() {
    let bitrix = Bitrix::open();
    let table = format!("[lookup]\nkind = \"bitrix24\"\nupstream = \"crm\"\n{}", bitrix.told_of_the_past());
    let asker = Asker::new("lookup-bitrix24", &table);
    // Nothing was told yet, so there is no token, and nobody to ask.
    let id = asker.begin(1);
    let ringing = Kind::CallRinging { leg: leg("c1", "+7 495 000-00-01", "") };
    asker.paper.tell(Event::of_call("c1", ringing));
    assert_eq!(asker.answered(id), is("Anna", "703"));
    assert_eq!(asker.ask(2), Ok(Answer::default()), "nobody is known");
    let methods = bitrix.methods();
    assert_eq!(methods.iter().filter(|it| *it == "renewal").count(), 1, "{methods:?}");
    // Its hour is over: the next call that is told brings another one.
    bitrix.portal().access = "another".into();
    assert!(asker.fails(1).contains("wants a new token"));
    asker.paper.tell(Event::of_call("c2", Kind::CallRinging { leg: leg("c2", "+7 495 000-00-02", "") }));
    until("it is renewed", || bitrix.portal().renewals == 2 && view(&asker.paper, "crm")["state"] == "idle");
    assert_eq!(asker.ask(1), is("Anna", "703"));
    bitrix.portal().refresh = "another".into();
    bitrix.portal().access = "another".into();
    assert!(asker.fails(1).contains("wants a new token"));
}

#[test]
fn only_the_system_that_the_authority_signed_is_asked() {
    let pki = Pki::new("lookup");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let crm = Receiver::on(listener, Some(pki.server()), |_| {}, |_, _| body("Anna"));
    let table = |host: &str, ca: &str| {
        format!(
            "[lookup]\nkind = \"url\"\nurl = \"https://{host}:{}\"\npath = \"/\"\n{ca}",
            crm.address.port()
        )
    };
    let ca = format!("ca_file = {:?}\n", pki.file("ca.pem").display().to_string());
    assert_eq!(Asker::new("lookup-right", &table("localhost", &ca)).ask(1), is("Anna", ""));
    let unknown = Asker::new("lookup-unknown", &table("localhost", "")).fails(1);
    assert!(unknown.contains("is signed by nobody who is known"), "{unknown}");
    let other = Asker::new("lookup-other", &table("127.0.0.1", &ca)).fails(1);
    assert!(other.contains("the certificate is not for 127.0.0.1"), "{other}");
}

#[test]
fn a_question_is_a_message_and_its_answer_a_command() {
    let broker = Broker::willing();
    let mqtt = "[upstream.mqtt.commands]\nallow = [\"lookup\"]\ntrust_broker = true";
    let table =
        format!("[lookup]\nkind = \"mqtt\"\nupstream = \"broker\"\n{}", broker.table("broker", "", mqtt));
    let asker = Asker::new("lookup-mqtt", &table);
    until("it listens", || broker.listens("v1/acme/TR-1/command/+"));
    until("it is connected", || view(&asker.paper, "broker")["state"] == "idle");
    let id = asker.begin(1);
    let asked = || broker.got().into_iter().find(|it| it.topic == "v1/acme/TR-1/lookup");
    until("it is asked", || asked().is_some());
    let question = event(&asked().expect("a question"));
    assert_eq!((&question["type"], &question["id"]), (&json!("tipring.lookup"), &json!(id.to_string())));
    assert_eq!(question["data"]["caller"]["e164"], "+74950000001");
    let answer = |command: &str, more: &str| {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64();
        let payload = format!("{{\"id\":\"{command}\",\"at\":{at},{more}}}");
        broker.post(message(true, "v1/acme/TR-1/command/lookup", payload.as_bytes(), 5, false, &[]));
        until("it is answered", || broker.answers().iter().any(|it| it["id"] == command));
        broker.answers().into_iter().find(|it| it["id"] == command).expect("an answer")
    };
    let other = Uuid::from_u128(7);
    let refused = answer("a-1", &format!("\"question\":\"{other}\",\"name\":\"Eve\""));
    assert_eq!(refused["error"]["code"], "bad_request", "{refused}");
    let said = format!("\"question\":\"{id}\",\"name\":\"Anna\",\"pin\":\"703\"");
    assert_eq!(answer("a-2", &said)["result"], "done");
    assert_eq!(asker.answered(id), is("Anna", "703"));
    let late = answer("a-3", &said);
    assert_eq!(late["error"]["code"], "bad_request", "it is over: {late}");
    let silent = asker.fails(2);
    assert!(silent.contains("does not answer in time"), "{silent}");
}
