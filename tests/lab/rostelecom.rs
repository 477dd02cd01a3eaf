//! A CRM that was written for Rostelecom's virtual PBX asks the phone what became of a call through Asterisk.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::friendly::{PBX, stage};
use crate::netns::skip;
use crate::phone::Setup;
use crate::sound::Wav;

const PYTHON: &str = "/usr/bin/python3";
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/rostelecom_client.py");

#[test]
fn what_a_crm_is_told_of_a_call_agrees_with_what_happened_and_its_link_has_the_sound() {
    let Some((lab, mut asterisk, host)) = stage("a CRM of Rostelecom") else { return };
    let crm = lab.host("crm", 60);
    if !crm.command(PYTHON).arg("--version").output().is_ok_and(|it| it.status.success()) {
        return skip("a CRM of Rostelecom", "python3 is missing: scripts/setup peers");
    }
    let upstream = format!(
        "[[upstream]]\nname = \"crm\"\nkind = \"rostelecom\"\nurl = \"http://{crm}:9/call_events\"\n\
         [upstream.rostelecom]\nclient_id = \"000003C405E6525C64C184258C44EC99\"\n\
         key = \"00000716ABDA6D4DFF10F82BCBBFC532\"\npin = \"607\"\nanswer = true\nallow = [\"{crm}\"]\n\
         [recording]\nenabled = true",
        crm = crm.address
    );
    let phone = Setup::new("1001", PBX)
        .line(r#"codecs = ["PCMA"]"#)
        .admin(r#"listen = "0.0.0.0:8080""#)
        .table(&upstream)
        .start(&lab, &host);
    let call = phone.call("603");
    phone.wait_event("call.answered");
    phone.wait_event("call.media");
    sleep(Duration::from_secs(4));
    let ended = phone.hang_up(&call);
    asterisk.idle();
    let base = format!("http://{}:8080/rostelecom/crm/", phone.host.address);
    let file = lab.folder().join("fetched.wav");
    let path = file.to_str().expect("a path");
    let told = crm.run(PYTHON, &[CLIENT, &base, &call, &crm.address, path]);
    let told: Value = serde_json::from_str(told.trim()).unwrap_or_else(|_| panic!("{told}"));
    let info = &told["info"];
    let facts =
        [("call_type", json!(1)), ("direction", json!(3)), ("state", json!(1)), ("status_code", json!("0"))];
    for (name, expected) in facts {
        assert_eq!(info[name], expected, "{info}");
    }
    assert_eq!((&info["orig_pin"], &info["is_record"]), (&json!("607"), &json!(true)), "{info}");
    assert_eq!(info["answering_sipuri"], format!("603@{PBX}"), "{info}");
    let total = ended["total_us"].as_u64().expect("microseconds") / 1_000_000;
    assert_eq!(info["duration"], total, "{info}, {ended}");
    let log = info["session_log"].as_str().expect("a log");
    let steps: Vec<Vec<&str>> = log.split_terminator(';').map(|step| step.split(':').collect()).collect();
    let codes: Vec<&str> = steps.iter().map(|step| step[1]).collect();
    assert_eq!(codes, ["ct", "cc", "cd"], "{log}");
    let seconds: Vec<u64> = steps.iter().map(|step| step[0].parse().expect("seconds")).collect();
    assert!(seconds.is_sorted() && seconds[2] == total, "{log}");
    let rows = told["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 1, "{told}");
    assert_eq!((&rows[0]["session_id"], &rows[0]["duration"]), (&json!(call), &json!(total.to_string())));
    let [theirs, ours] = Wav::read_stereo(&file);
    assert!(theirs.seconds_of(1004.0) > 3.0, "{} s of what was heard", theirs.seconds_of(1004.0));
    assert!(ours.seconds_of(440.0) > 3.0, "{} s of what was said", ours.seconds_of(440.0));
}
