//! NOTIFY (RFC 6665 §4.1.3): what the PBX tells by itself or because a line has subscribed to it; and the line's
//! subscriptions on their way.
//!
//! The one package that is understood is `message-summary`. Many PBXs send it to whoever registers, without any
//! subscription; so one without a To-tag is taken like one that was asked for.

use crate::now::Now;
use crate::sip::event_package::EventPackage;
use crate::sip::exchange::{Owner, Way};
use crate::sip::handle::{AccountId, TransactionId};
use crate::sip::media_type::MediaType;
use crate::sip::message::{Head, Request, Response};
use crate::sip::message_summary::{MEDIA_TYPE, MessageSummary, PACKAGE};
use crate::sip::ua_event::{Event, Failure};
use crate::sip::user_agent::UserAgent;
use crate::sip::wire::Wire;

impl Wire {
    /// The line whose subscription a NOTIFY belongs to.
    pub(crate) fn subscriber(&self, head: &Head) -> Option<AccountId> {
        self.lines.iter().find(|(_, line)| line.subscription.is_for(head)).map(|(account, _)| *account)
    }

    /// The answer to a NOTIFY, and what it says.
    pub(crate) fn handle_notify(
        &mut self,
        now: Now,
        account: Option<AccountId>,
        notify: &Request,
    ) -> (Response, Option<Event>) {
        let refuse = |status| (Response::to(notify, status), None);
        let package = notify.fields.typed::<EventPackage>();
        if !matches!(&package, Ok(Some(event)) if event.package == PACKAGE) {
            let mut response = Response::to(notify, 489);
            response.fields.push("Allow-Events", PACKAGE);
            return (response, None);
        }
        let account = match notify.head.to_tag() {
            None => account,
            Some(_) => self.subscriber(&notify.head),
        };
        let Some(account) = account else {
            return refuse(if notify.head.to_tag().is_some() { 481 } else { 404 });
        };
        if notify.head.to_tag().is_some()
            && let Some(line) = self.lines.get_mut(&account)
            && let Err(status) = line.subscription.handle_notify(now, notify, &mut self.chance)
        {
            return refuse(status);
        }
        // A subscription that is pending or over may have nothing to tell.
        if notify.body.is_empty() {
            return (Response::to(notify, 200), None);
        }
        let kind = notify.fields.typed::<MediaType>();
        if !matches!(&kind, Ok(Some(kind)) if kind.is("application", "simple-message-summary")) {
            let mut response = Response::to(notify, 415);
            response.fields.push("Accept", MEDIA_TYPE);
            return (response, None);
        }
        match MessageSummary::parse(&notify.body) {
            Ok(summary) => (Response::to(notify, 200), Some(Event::MessageSummary { account, summary })),
            Err(_) => (Response::with_reason(notify, 400, "Bad Message Summary"), None),
        }
    }

    /// The registrar knows the line under this Contact: what it wants to subscribe to is subscribed to.
    pub(crate) fn subscribe(&mut self, now: Now, account: AccountId, contact: &str) {
        if let Some(line) = self.lines.get_mut(&account)
            && line.account.subscribe_mwi
            && line.subscription.start(contact)
        {
            self.send_subscribe(now, account);
        }
    }

    /// Ends a line's subscription.
    pub(crate) fn unsubscribe(&mut self, now: Now, account: AccountId) {
        if self.lines.get_mut(&account).is_some_and(|line| line.subscription.stop()) {
            self.send_subscribe(now, account);
        }
    }

    /// What came of a SUBSCRIBE.
    pub(crate) fn handle_subscribed(
        &mut self,
        now: Now,
        account: AccountId,
        outcome: Result<&Response, &Failure>,
    ) {
        let Some(line) = self.lines.get_mut(&account) else { return };
        let again = match outcome {
            Ok(response) if response.status < 200 => false,
            Ok(response) => line.subscription.handle_response(now, response, &mut self.chance),
            Err(_) => {
                line.subscription.handle_failure(now, &mut self.chance);
                false
            }
        };
        if again {
            self.send_subscribe(now, account);
        }
    }

    /// A subscription's deadline may have come.
    pub(crate) fn handle_subscription_timeout(&mut self, now: Now, account: AccountId) {
        if self.lines.get_mut(&account).is_some_and(|line| line.subscription.handle_timeout(now)) {
            self.send_subscribe(now, account);
        }
    }

    fn send_subscribe(&mut self, now: Now, account: AccountId) {
        let Some(line) = self.lines.get_mut(&account) else { return };
        let (request, sequence) = line.subscription.request(&line.account);
        let flow = line.flow.clone();
        self.begin(now, Owner::Subscription, account, request, &sequence, Way::Flow(flow));
    }
}

impl UserAgent {
    pub(crate) fn answer_notify(
        &mut self,
        now: Now,
        transaction: TransactionId,
        account: Option<AccountId>,
        notify: &Request,
    ) {
        let (response, event) = self.wire.handle_notify(now, account, notify);
        self.wire.events.extend(event);
        if response.is_success() {
            self.respond(now, transaction, response);
        } else {
            self.refuse(now, transaction, response);
        }
    }
}

#[cfg(test)]
#[path = "notify_tests.rs"]
mod tests;
