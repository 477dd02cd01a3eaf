//! One subscription against a server that says anything at any time.

use std::time::Duration;

use super::Target;
use tipring::chance::Chance;
use tipring::now::Now;
use tipring::sip::account::Account;
use tipring::sip::dialog::Sequence;
use tipring::sip::message::{Request, Response};
use tipring::sip::method::Method;
use tipring::sip::subscription::Subscription;
use tipring::sip::uri::Uri;

pub const TARGETS: &[Target] =
    &[Target { name: "sip_subscription", run: subscription, seeds: SCRIPTS, dictionary: WORDS }];

/// Steps of one script.
const STEPS_MAX: usize = 200;
/// SUBSCRIBEs that follow from answers alone: a longer time each time (423), and one anew (481).
const AT_ONCE: u32 = 6;

const STATUSES: [u16; 12] = [200, 202, 423, 481, 489, 404, 401, 500, 503, 408, 302, 603];
const EXPIRES: [&str; 6] = ["0", "1", "60", "3600", "4294967296", "soon"];
const STATES: [&str; 6] = [
    "active;expires=1",
    "active;expires=90000",
    "pending",
    "terminated;reason=timeout",
    "terminated;reason=giveup;retry-after=4294967295",
    "terminated;reason=noresource",
];

/// Whatever happens: one SUBSCRIBE at a time, no two in a row without a pause but those that the RFC wants, and a
/// deadline or an answer to wait for as long as it is wanted.
fn subscription(script: &[u8]) {
    let Ok(Uri::Sip(aor)) = Uri::parse("sip:alice@198.51.100.1") else { return };
    let account = Account::new(aor);
    let mut chance = Chance::from_number(1);
    let mut now = Now { mono_us: 1_000_000, utc_us: 0 };
    let mut machine = Subscription::new(&mut chance);
    let mut in_flight: Option<Request> = None;
    let address = || tipring::sip::name_addr::NameAddr::new(Uri::Sip(account.aor.clone()));
    let mut last =
        Request::new(Method::SUBSCRIBE, Uri::Sip(account.aor.clone()), address(), address(), "c", 1);
    let (mut at_once, mut wanted) = (0, false);
    for step in script.chunks(2).take(STEPS_MAX) {
        let (action, detail) = (step[0], usize::from(step.get(1).copied().unwrap_or(0)));
        let send = match action % 6 {
            0 => {
                (wanted, at_once) = (true, 0);
                machine.start(["a", "b"][detail % 2])
            }
            1 => {
                (wanted, at_once) = (false, 0);
                machine.stop()
            }
            2 => {
                let Some(request) = in_flight.take() else { continue };
                let mut response = Response::to(&request, STATUSES[detail % STATUSES.len()]);
                response.head.to.set_tag(["x", "y"][detail / 16 % 2]);
                let seconds = EXPIRES[detail / 32 % EXPIRES.len()];
                for field in ["Expires", "Min-Expires", "Retry-After"] {
                    response.fields.push(field, seconds);
                }
                if detail % 5 != 0 {
                    response.fields.push("Contact", "<sip:pbx@198.51.100.1>");
                }
                let again = machine.handle_response(now, &response, &mut chance);
                at_once = if again { at_once + 1 } else { 0 };
                again
            }
            3 => {
                if in_flight.take().is_some() {
                    machine.handle_failure(now, &mut chance);
                    at_once = 0;
                }
                false
            }
            4 => {
                let _ = machine.handle_notify(now, &notify(&last, detail), &mut chance);
                false
            }
            _ => {
                // As many quarters of an hour as it says, in steps of the machine.
                let until = now.plus(Duration::from_secs(900 * (1 + detail as u64)));
                now = match machine.poll_timeout().filter(|due| *due <= until.mono_us) {
                    Some(due) => now.plus(Duration::from_micros(due.saturating_sub(now.mono_us))),
                    None => until,
                };
                at_once = 0;
                machine.handle_timeout(now)
            }
        };
        if send {
            assert!(in_flight.is_none(), "two SUBSCRIBEs at a time");
            let (request, _): (Request, Sequence) = machine.request(&account);
            last = request.clone();
            in_flight = Some(request);
        }
        assert!(at_once <= AT_ONCE, "a server that refuses is asked all the time");
        let waits = in_flight.is_some() || machine.poll_timeout().is_some();
        assert!(waits || !wanted, "it is wanted and waits for nothing");
        assert!(
            in_flight.is_none() || machine.poll_timeout().is_none(),
            "it waits for an answer and for a time"
        );
    }
}

/// A NOTIFY under the names of a SUBSCRIBE.
fn notify(subscribe: &Request, detail: usize) -> Request {
    let mut from = subscribe.head.to.clone();
    from.set_tag(["x", "y"][detail / 16 % 2]);
    let head = &subscribe.head;
    let uri = subscribe.uri.clone();
    let number = (detail / 8) as u32;
    let mut notify = Request::new(Method::NOTIFY, uri, from, head.from.clone(), &head.call_id, number);
    notify.fields.push("Subscription-State", STATES[detail % STATES.len()]);
    notify
}

const SCRIPTS: &[&[u8]] = &[
    // Asked, granted, told, renewed, forgotten, asked anew.
    b"\x00\x00\x02\x61\x04\x08\x05\x04\x02\x61\x05\x04\x02\x03\x02\x61\x05\xff",
    // Too brief, over and over; then no such thing.
    b"\x00\x00\x02\x42\x02\x62\x02\x82\x02\x02\x05\x01\x02\x04\x05\x05",
    // Ended by the server, moved, stopped while it asks.
    b"\x00\x00\x04\x03\x02\x60\x04\x03\x05\x00\x00\x01\x01\x00\x02\x61\x02\x60\x00\x00",
];

const WORDS: &[&[u8]] =
    &[b"\x00\x00", b"\x00\x01", b"\x01\x00", b"\x02\x61", b"\x02\x03", b"\x05\xff", b"\x04\x13"];
