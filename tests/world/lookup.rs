//! Who calls, as another system knows it: the name on the display, and the extension that gets the call instead.

use tipring::config::Config;
use tipring::events::lookup::{Answer, Failure, Question};
use tipring::events::{CallResult, Kind};
use tipring::phone::Input;
use tipring::sip::message::{Message, Request};
use tipring::sip::method::Method;

use crate::script::{MEDIA, Peer, Script, audio};
use crate::world::{ANSWER, HANG_UP, call, config};

/// Somebody is asked by a GET; how is the business of the driver, which the tests play.
const LOOKUP: &str = "[device]\ncountry = \"RU\"\n[lookup]\nkind = \"url\"\nurl = \"https://crm.example\"\npath = \"/?n=$remote_number\"\n";
const WAIT: &str = "wait = true\n";

/// The configuration of the phone with these keys of `[lookup]`, and more tables.
fn with(keys: &str) -> Config {
    let mut config = config("1001", "register = false\n", "");
    let text = format!("{LOOKUP}{keys}");
    let tables = Config::parse(&text, "lookup.toml").unwrap_or_else(|findings| panic!("{findings:?}"));
    (config.lookup, config.limits, config.blacklist) = (tables.lookup, tables.limits, tables.blacklist);
    config.device.country = tables.device.country;
    config
}

fn begin(keys: &str) -> Script {
    let mut script = Script::new("", "");
    configure(&mut script, with(keys));
    script
}

fn configure(script: &mut Script, config: Config) {
    let file = "world.toml".to_owned();
    script.world.input(0, Input::Configured { file, config: Box::new(config), warnings: 0 });
}

/// A call of this number comes in; who calls, and the INVITE.
fn comes(script: &mut Script, from: &str) -> (Peer, Request) {
    let calls = script.phone().all("call.new").len();
    let mut peer = Peer::calling(&format!("<sip:{from}@pbx.example>"));
    // Each call has a Call-ID and a branch of its own.
    peer.call_id = format!("{calls}-{}", peer.call_id);
    peer.local.set_tag(&format!("bob{calls}"));
    let invite = peer.request(Method::INVITE, Some(audio(MEDIA, "RTP/AVP 8", &[])));
    script.hears(invite.clone());
    (peer, invite)
}

/// The questions that were asked since this was called last.
fn asked(script: &mut Script) -> Vec<Question> {
    script.world.phones[0].questions.drain(..).collect()
}

#[track_caller]
fn question(script: &mut Script) -> Question {
    let mut asked = asked(script);
    assert_eq!(asked.len(), 1);
    asked.remove(0)
}

/// The system answers.
fn says(script: &mut Script, question: &Question, name: Option<&str>, pin: Option<&str>) {
    let answer = Ok(Answer::of(name, pin));
    script.world.input(0, Input::Answered { id: question.id, answer });
    script.millis(10);
}

/// The caller gives up.
fn gives_up(script: &mut Script, peer: &Peer, invite: &Request) {
    script.hears(peer.cancel(invite, ""));
    script.seconds(1);
    script.sip.clear();
    // The final answer is acknowledged, or it would be sent again.
    let mut peer = peer.clone();
    let mut ack = peer.numbered(Method::ACK, invite.head.cseq.number, None);
    ack.head.via.clone_from(&invite.head.via);
    script.hears(ack);
    script.seconds(40);
    script.sip.clear();
}

fn name(script: &Script) -> Option<String> {
    script.world.calls(0).remove(0).name
}

fn rings(script: &Script) -> bool {
    script.phone().tones.iter().any(|(at, tone)| *at == tipring::media::Sounder::Ringer && tone.is_some())
}

fn trouble(script: &Script) -> Vec<String> {
    let all = script.world.snapshot(0).degraded;
    all.into_iter().filter(|it| it.starts_with("lookup")).collect()
}

const OUTSIDE: &str = "+74954451120";

#[test]
fn the_phone_rings_at_once_and_the_name_comes_while_it_rings() {
    let mut script = begin("");
    comes(&mut script, OUTSIDE);
    script.replies(180);
    assert!(rings(&script));
    let question = question(&mut script);
    let number = question.leg.caller.number.clone().expect("a number");
    assert_eq!((number.e164.as_deref(), question.leg.line.as_str()), (Some(OUTSIDE), "office"));
    assert_eq!(name(&script), None);
    script.millis(2_000);
    says(&mut script, &question, Some("Anna & Co\r\nX: \u{202e}1"), Some("703"));
    assert_eq!(name(&script).as_deref(), Some("Anna & Co  X: 1"));
    let told = script.phone().all("call.party_changed");
    assert!(
        matches!(told[..], [Kind::PartyChanged { leg }] if leg.caller.name.as_deref() == Some("Anna & Co  X: 1")),
        "{told:?}"
    );
    script.is_silent();
    // The same answer once more is nobody's.
    says(&mut script, &question, Some("Eve"), None);
    assert_eq!(name(&script).as_deref(), Some("Anna & Co  X: 1"));
    script.world.tell(0, ANSWER);
    script.replies(200);
    assert_eq!(name(&script).as_deref(), Some("Anna & Co  X: 1"));
}

#[test]
fn a_handset_that_waits_rings_when_the_answer_is_there() {
    let mut script = begin(WAIT);
    comes(&mut script, OUTSIDE);
    script.millis(500);
    script.is_silent();
    assert!(!rings(&script) && !script.phone().has("call.ringing"));
    let question = question(&mut script);
    says(&mut script, &question, Some("Anna"), None);
    script.replies(180);
    assert!(rings(&script));
    let told = script.phone().all("call.ringing");
    assert!(
        matches!(told[..], [Kind::CallRinging { leg }] if leg.caller.name.as_deref() == Some("Anna")),
        "{told:?}"
    );
    script.seconds(5);
    script.is_silent();
}

#[test]
fn without_an_answer_it_rings_when_the_time_is_over_and_a_late_one_still_names() {
    let mut script = begin(WAIT);
    comes(&mut script, OUTSIDE);
    let question = question(&mut script);
    script.millis(700);
    script.is_silent();
    script.millis(200);
    script.replies(180);
    assert!(rings(&script));
    says(&mut script, &question, Some("Anna"), Some("703"));
    script.is_silent();
    assert_eq!(name(&script).as_deref(), Some("Anna"));
    assert!(trouble(&script).is_empty());
}

#[test]
fn a_system_that_fails_costs_nothing_but_the_name_and_is_told() {
    let mut script = begin(WAIT);
    let (peer, invite) = comes(&mut script, OUTSIDE);
    let first = question(&mut script);
    let failure = Failure::new("nobody answers", "look into its log");
    script.world.input(0, Input::Answered { id: first.id, answer: Err(failure) });
    script.replies(180);
    assert_eq!(trouble(&script), ["lookup: nobody answers; look into its log"]);
    gives_up(&mut script, &peer, &invite);
    // What failed is asked again.
    comes(&mut script, OUTSIDE);
    let second = question(&mut script);
    says(&mut script, &second, None, None);
    script.replies(180);
    assert!(trouble(&script).is_empty() && script.phone().has("device.recovered"));
}

#[test]
fn a_system_that_is_away_keeps_no_caller_waiting_for_long() {
    let mut script = begin(WAIT);
    let waits = |script: &mut Script, number: usize| {
        let (peer, invite) = comes(script, &format!("+7495445112{number}"));
        script.millis(100);
        let waits =
            script.sip.iter().all(|(_, message)| matches!(message, Message::Response(it) if it.status < 180));
        (question(script), waits, peer, invite)
    };
    let failure = || Err(Failure::new("nobody answers", "look into its log"));
    for number in 0..5 {
        let (question, waited, peer, invite) = waits(&mut script, number);
        assert_eq!(waited, number < 3, "{number}");
        script.world.input(0, Input::Answered { id: question.id, answer: failure() });
        gives_up(&mut script, &peer, &invite);
    }
    // It is asked all the same; what it says names the caller, and the next one may be sent on again.
    let (question, waited, peer, invite) = waits(&mut script, 5);
    assert!(!waited);
    says(&mut script, &question, Some("Anna"), Some("703"));
    assert_eq!(name(&script).as_deref(), Some("Anna"));
    assert!(trouble(&script).is_empty());
    gives_up(&mut script, &peer, &invite);
    let (question, waited, ..) = waits(&mut script, 6);
    assert!(waited);
    says(&mut script, &question, Some("Boris"), Some("703"));
    script.sip.retain(|(_, message)| !matches!(message, Message::Response(it) if it.status == 100));
    script.replies(302);
}

#[test]
fn a_number_inside_gets_the_call_by_302() {
    let mut script = begin(WAIT);
    let (mut peer, invite) = comes(&mut script, OUTSIDE);
    let question = question(&mut script);
    says(&mut script, &question, Some("Anna"), Some("703"));
    let moved = script.replies(302);
    let contact = moved.fields.get("Contact").map(|value| String::from_utf8_lossy(value).into_owned());
    assert_eq!(contact.as_deref(), Some("<sip:703@pbx.example>"));
    peer.takes(&moved);
    let mut ack = peer.numbered(Method::ACK, invite.head.cseq.number, None);
    ack.head.via.clone_from(&invite.head.via);
    script.hears(ack);
    script.seconds(1);
    assert!(!rings(&script) && !script.phone().has("call.ringing"));
    assert!(script.world.calls(0).is_empty());
    let told = script.phone().all("call.transferred");
    assert!(
        matches!(told[..], [Kind::CallTransferred { transfer, .. }]
            if transfer.target.uri.as_deref() == Some("sip:703@pbx.example")),
        "{told:?}"
    );
    let ended = script.phone().all("call.ended");
    assert!(
        matches!(ended[..], [Kind::CallEnded { result: CallResult::AnsweredElsewhere, .. }]),
        "nobody has missed anything: {ended:?}"
    );
    // The answer is remembered, with the number in it.
    comes(&mut script, "84954451120");
    script.replies(302);
    assert!(asked(&mut script).is_empty());
}

#[test]
fn no_answer_leads_out_of_the_pbx() {
    for (keys, pin) in [
        ("", "+74951234567"),
        ("", "84951234567"),
        ("", "4451120"),
        ("", "112"),
        ("", "703@evil.example"),
        ("", "703;x=y"),
        ("", "*21*84951234567#"),
        ("", "\u{ff17}03"),
        ("", "anna"),
        ("pins = [\"2??\"]\n", "703"),
        ("[limits]\ndeny = [\"703\"]\n", "703"),
        ("[limits]\nallow = [\"2??\"]\n", "703"),
    ] {
        let mut script = begin(&format!("{WAIT}{keys}"));
        comes(&mut script, OUTSIDE);
        let question = question(&mut script);
        says(&mut script, &question, Some("Anna"), Some(pin));
        script.replies(180);
        assert!(rings(&script), "{pin}");
        assert_eq!(name(&script).as_deref(), Some("Anna"), "{pin}");
        let told = trouble(&script);
        assert!(matches!(&told[..], [one] if one.contains("sends a call on to")), "{pin}: {told:?}");
        assert!(!told[0].contains(pin) || pin == "112", "{told:?}");
        script.is_silent();
    }
    let mut script = begin(&format!("{WAIT}pins = [\"7??\"]\n"));
    comes(&mut script, OUTSIDE);
    let question = question(&mut script);
    says(&mut script, &question, None, Some("703"));
    script.replies(302);
}

#[test]
fn a_call_does_not_go_in_circles() {
    // This extension itself; and a call that another extension has sent on already.
    for (pin, diversion, status) in [
        ("1001", "", 180),
        ("703", "<sip:702@pbx.example>;reason=deflection", 180),
        ("703", "<sip:+74957000000@pbx.example>;reason=unconditional", 302),
    ] {
        let mut script = begin(WAIT);
        let mut peer = Peer::calling("<sip:+74954451120@pbx.example>");
        let mut invite = peer.request(Method::INVITE, Some(audio(MEDIA, "RTP/AVP 8", &[])));
        if !diversion.is_empty() {
            invite.fields.push("Diversion", diversion);
        }
        script.hears(invite);
        let question = question(&mut script);
        says(&mut script, &question, None, Some(pin));
        script.replies(status);
        assert!(trouble(&script).is_empty());
    }
}

#[test]
fn a_number_in_any_spelling_is_asked_about_once_also_if_nobody_knows_it() {
    let mut script = begin("remember = \"60s\"\nmost = 2\n");
    let mut again = |from: &str, answers: Option<Option<&str>>| {
        let (peer, invite) = comes(&mut script, from);
        script.replies(180);
        let questions = asked(&mut script);
        assert_eq!(questions.len(), usize::from(answers.is_some()), "{from}");
        if let (Some(question), Some(answer)) = (questions.first(), answers) {
            says(&mut script, question, answer, None);
        }
        let name = name(&script);
        gives_up(&mut script, &peer, &invite);
        name
    };
    assert_eq!(again("+74954451120", Some(Some("Anna"))).as_deref(), Some("Anna"));
    // Each call takes 41 seconds.
    assert_eq!(again("84954451120", None).as_deref(), Some("Anna"));
    assert_eq!(again("+74954451120", Some(None)), None, "it lives for a minute");
    assert_eq!(again("84954451120", None), None, "that nobody knows it is remembered, too");
    let named = script.phone().all("call.new").into_iter().filter_map(|kind| match kind {
        Kind::CallNew { leg, .. } => Some(leg.caller.name.is_some()),
        _ => None,
    });
    assert_eq!(named.collect::<Vec<_>>(), [false, true, false, false], "it is known from the beginning");
    // Two have room; the oldest goes.
    let mut script = begin("remember = \"1h\"\nmost = 2\n");
    for (from, asks) in
        [("101111111", 1), ("102222222", 1), ("103333333", 1), ("102222222", 0), ("101111111", 1)]
    {
        let (peer, invite) = comes(&mut script, from);
        let questions = asked(&mut script);
        assert_eq!(questions.len(), asks, "{from}");
        if let Some(question) = questions.first() {
            says(&mut script, question, Some("Anna"), None);
        }
        gives_up(&mut script, &peer, &invite);
    }
}

#[test]
fn nobody_is_asked_about_whom_nothing_is_to_be_known() {
    let asks = |keys: &str, from: &str| {
        let mut script = begin(keys);
        comes(&mut script, from);
        asked(&mut script).len()
    };
    assert_eq!(asks("", OUTSIDE), 1);
    assert_eq!(asks("[blacklist]\nnumbers = [\"84954451120\"]\n", OUTSIDE), 0);
    assert_eq!(asks("", "102"), 0);
    assert_eq!(asks("internal = true\n", "102"), 1);
    assert_eq!(asks("internal = true\n", "112"), 0);
    for (line, asks) in [("office", 1), ("reception", 0)] {
        let mut script = Script::new("", "");
        let mut config = with("");
        config.lookup.lines = vec![line.into()];
        configure(&mut script, config);
        comes(&mut script, OUTSIDE);
        assert_eq!(asked(&mut script).len(), asks, "{line}");
    }
    let mut script = begin(WAIT);
    let mut peer = Peer::calling("\"Anonymous\" <sip:anonymous@anonymous.invalid>");
    let invite = peer.request(Method::INVITE, Some(audio(MEDIA, "RTP/AVP 8", &[])));
    script.hears(invite);
    script.replies(180);
    assert!(asked(&mut script).is_empty());
    // Whoever was called for help calls back: nothing is asked, and nothing waits.
    let mut script = begin(&format!("{WAIT}outgoing = true\n"));
    script.world.tell(0, call("112"));
    script.says(Method::INVITE);
    comes(&mut script, OUTSIDE);
    script.replies(180);
    assert!(asked(&mut script).is_empty());
}

#[test]
fn a_caller_who_hangs_up_while_it_is_asked_leaves_an_answer_behind() {
    let mut script = begin(WAIT);
    let (peer, invite) = comes(&mut script, OUTSIDE);
    script.millis(300);
    gives_up(&mut script, &peer, &invite);
    assert!(!rings(&script) && script.world.calls(0).is_empty());
    let mut script = begin(WAIT);
    let (peer, invite) = comes(&mut script, OUTSIDE);
    let second = question(&mut script);
    script.hears(peer.cancel(&invite, ""));
    script.millis(100);
    says(&mut script, &second, Some("Anna"), None);
    script.sip.clear();
    assert!(!script.phone().has("call.party_changed"));
    comes(&mut script, OUTSIDE);
    script.replies(180);
    assert!(asked(&mut script).is_empty() && name(&script).as_deref() == Some("Anna"));
}

#[test]
fn a_new_configuration_waits_for_no_system_that_is_gone() {
    let mut script = begin(WAIT);
    comes(&mut script, OUTSIDE);
    let question = question(&mut script);
    script.millis(100);
    // What has nothing to do with it changes nothing.
    let mut other = with(WAIT);
    other.numbers.area_code = Some("812".into());
    configure(&mut script, other);
    script.millis(100);
    script.is_silent();
    configure(&mut script, with("outgoing = true\n"));
    script.replies(180);
    says(&mut script, &question, Some("Anna"), None);
    assert_eq!(name(&script), None, "it is another system's word now");
}

#[test]
fn somebody_may_answer_or_refuse_before_the_answer() {
    let mut script = begin(WAIT);
    comes(&mut script, OUTSIDE);
    let first = question(&mut script);
    script.world.tell(0, ANSWER);
    script.replies(180);
    script.replies(200);
    says(&mut script, &first, Some("Anna"), Some("703"));
    assert_eq!(name(&script).as_deref(), Some("Anna"));
    assert_eq!(script.world.calls(0)[0].state, "active");
    let mut script = begin(WAIT);
    comes(&mut script, OUTSIDE);
    script.world.tell(0, HANG_UP);
    script.replies(603);
}

#[test]
fn whom_one_calls_is_named_too_if_that_is_wanted() {
    for (keys, asks) in [("", 0), ("outgoing = true\n", 1)] {
        let mut script = begin(keys);
        script.world.tell(0, call("84954451120"));
        script.says(Method::INVITE);
        let questions = asked(&mut script);
        assert_eq!(questions.len(), asks);
        if let Some(question) = questions.first() {
            says(&mut script, question, Some("Anna"), Some("703"));
            assert_eq!(name(&script).as_deref(), Some("Anna"));
            script.is_silent();
        }
    }
}
