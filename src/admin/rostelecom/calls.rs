//! Who is here, what became of calls, their recordings, and calls that are begun.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Asked, No, Outcome, yes};
use crate::admin::{links, recordings};
use crate::events::store::Entry;
use crate::events::upstream::rostelecom::call_info::CallInfo;
use crate::events::upstream::rostelecom::requests::Caller;
use crate::events::{AgentState, Origin};
use crate::phone::command::{Callback, Command, End, Reply};

/// The lines, each as a user; a phone has no groups.
pub(super) async fn users_info(asked: &Asked, domain: Option<String>, pin: Option<String>) -> Outcome {
    let Reply::Status(snapshot) = asked.app.office.desk.ask(Command::Status, Origin::Upstream).await? else {
        return Err(No::new("the phone does not say how it is; try again"));
    };
    let recording = u8::from(asked.config.recording.enabled);
    let users = asked.config.line.iter().filter(|line| asked.knows(&line.name)).filter_map(|line| {
        let own_pin = asked.place().pin.unwrap_or(&line.user);
        let is_meant = pin.as_deref().is_none_or(|pin| pin == own_pin)
            && domain.as_deref().is_none_or(|it| it.eq_ignore_ascii_case(asked.domain_of(line)));
        let agent = snapshot.lines.iter().find(|it| it.name == line.name).and_then(|it| it.agent);
        is_meant.then(|| {
            json!({
                "display_name": line.display_name.as_deref().unwrap_or(&line.name),
                "name": line.user,
                "pin": own_pin,
                "is_supervisor": false,
                "is_operator": agent == Some(AgentState::Available),
                "email": "",
                "recording": recording,
            })
        })
    });
    Ok(yes(json!({ "users": users.collect::<Vec<Value>>(), "groups": [] })))
}

pub(super) async fn call_info(asked: &Asked, session: String) -> Outcome {
    let legs = legs(asked, session).await?;
    let info = CallInfo::of(&legs, asked.place()).ok_or_else(no_session)?;
    Ok(yes(json!({ "info": info })))
}

/// A link that opens the recording of a call once.
pub(super) async fn get_record(asked: &Asked, session: String, address: Option<IpAddr>) -> Outcome {
    let legs = legs(asked, session).await?;
    let id = legs.iter().find_map(|leg| leg.recording_id.as_deref());
    let id =
        id.ok_or_else(|| No::new("this session_id has no recording, or none yet: ask again in 30 seconds"))?;
    recordings::complete(&asked.app, id).await?;
    let link = recordings::new_link(&asked.app, id, links::USUAL, address, links::Times::Once);
    let (Some((path, _)), Some(host)) = (link, &asked.host) else {
        return Err(No::new("no link can be made; ask with a Host, and look at `tipring status`"));
    };
    let scheme = if asked.app.office.tls.borrow().is_some() { "https" } else { "http" };
    // Their own answer has text here.
    let mut answer = yes(json!({ "url": format!("{scheme}://{host}{path}") }));
    answer.insert("result".to_owned(), "0".into());
    answer.insert("resultMessage".to_owned(), " ".into());
    Ok(answer)
}

pub(super) async fn call_back(asked: &Asked, number: String, from: Caller) -> Outcome {
    let first_line = asked.settings().and_then(|it| it.lines.first()).cloned();
    let line = first_line.as_ref().and_then(|name| asked.config.line.iter().find(|it| it.name == *name));
    let line = line.or_else(|| asked.config.line.first());
    let (user, domain) = match from {
        Caller::Pin { pin, domain } => (pin, domain),
        Caller::Address(address) => {
            let address = address.strip_prefix("sip:").unwrap_or(&address);
            match address.split_once('@') {
                Some((user, domain)) => (user.to_owned(), Some(domain.to_owned())),
                None => (address.to_owned(), None),
            }
        }
    };
    let known = line.is_some_and(|line| {
        domain.as_deref().is_none_or(|it| {
            it.eq_ignore_ascii_case(asked.domain_of(line)) || it.eq_ignore_ascii_case(line.domain.as_str())
        })
    });
    if !known {
        return Err(No::new("from_sipuri or domain is of another domain than this phone"));
    }
    // The short number of this phone is the phone itself: then it calls at once, and is heard here.
    let is_here = asked.place().pin == Some(user.as_str());
    let first = line.filter(|_| is_here).map_or(user, |line| line.name.clone());
    let end = |number| End { number, line: first_line.clone() };
    let wish = Callback { from: end(first), to: end(number), ring_for: None, request: None };
    match asked.app.office.desk.ask(Command::Callback(wish), Origin::Upstream).await? {
        Reply::Call(call) => Ok(yes(json!({ "session_id": call.id }))),
        Reply::Done | Reply::Routes(_) | Reply::Status(_) => Err(No::new("the phone gave no call")),
    }
}

fn no_session() -> No {
    No::new("this session_id is none of a call that is kept here")
}

/// The legs of a call of which the upstream may know.
pub(super) async fn legs(asked: &Asked, session: String) -> Result<Vec<Entry>, No> {
    let mut legs =
        asked.app.office.archive.call(session).await.map_err(crate::admin::answer::Problem::from)?;
    legs.retain(|leg| asked.knows(&leg.leg.line));
    match legs.is_empty() {
        true => Err(no_session()),
        false => Ok(legs),
    }
}
