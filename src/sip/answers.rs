//! What becomes of the answers to a request of ours: handed up, answered with credentials, or taken
//! elsewhere.

use std::time::Duration;

use crate::now::Now;
use crate::sip::authentication::{Unauthorized, Verdict};
use crate::sip::exchange::{Owner, Phase};
use crate::sip::handle::RequestId;
use crate::sip::locate::Target;
use crate::sip::message::Response;
use crate::sip::retry_after::RetryAfter;
use crate::sip::transport::Flow;
use crate::sip::ua_event::{Event, Failure};
use crate::sip::wire::{Delivery, Wire};

/// The edge has lost the flow to us (RFC 5626 §11.5).
const FLOW_FAILED: u16 = 430;

impl Wire {
    /// A response to an attempt.
    pub(crate) fn handle_exchange_response(
        &mut self,
        now: Now,
        id: RequestId,
        flow: &Flow,
        branch: &str,
        response: Response,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        // An answer to an attempt that was given up for another one.
        if matches!(&exchange.phase, Phase::Sent { branch: current, .. } if current != branch) {
            return;
        }
        exchange.answered = true;
        exchange.heard_on = flow.connection;
        exchange.rang |= (101..200).contains(&response.status);
        if let Phase::Accepted { .. } = exchange.phase {
            self.deliver(id, response);
            return;
        }
        let Phase::Sent { target, .. } = &exchange.phase else {
            return;
        };
        let target = target.clone();
        let is_look = exchange.owner == Owner::Transport;
        if exchange.owner == Owner::Registration
            && let Some(line) = self.lines.get_mut(&exchange.account)
        {
            line.unheard = 0;
        }
        if exchange.cancel.is_none() {
            exchange.deadline = None;
            self.index(id);
        }
        match response.status {
            ..200 => {
                self.send_cancel(now, id);
                self.deliver(id, response);
            }
            200..300 => self.succeeded(now, id, flow, target, response),
            401 | 407 if !is_look => self.challenged(now, id, flow, response),
            503 => self.unavailable(now, id, &target, response),
            status => {
                let account = self.exchanges.get(&id).map(|exchange| exchange.account);
                self.finish(id);
                self.deliver_final(id, response);
                if let Some(account) = account.filter(|_| status == FLOW_FAILED) {
                    // An ACK still leaves by the old way.
                    self.settle(now);
                    self.renew(now, account);
                }
            }
        }
    }

    /// The server can't serve: another one may, but not the same one over another transport. Whoever has heard it ring is
    /// not rung for a second time.
    fn unavailable(&mut self, now: Now, id: RequestId, target: &Target, response: Response) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let is_another =
            |one: &Target| one.remote.ip() != target.remote.ip() || one.transport == target.transport;
        exchange.targets.retain(&is_another);
        exchange.racing.retain(|(_, one)| is_another(one));
        let rang = exchange.rang && exchange.is_invite();
        if exchange.cancel.is_some() || rang || exchange.targets.is_empty() {
            self.finish(id);
            self.deliver_final(id, response);
            return;
        }
        let wish = response.fields.typed::<RetryAfter>().ok().flatten();
        let wish = wish.map(|wish| Duration::from_secs(u64::from(wish.seconds.min(3600))));
        self.locator.mark_failed(now, target.transport, target.remote, wish);
        exchange.unavailable = Some(Box::new(response));
        self.try_next(now, id);
    }

    fn succeeded(&mut self, now: Now, id: RequestId, flow: &Flow, target: Target, response: Response) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let mut left = None;
        if let Some(destination) = &exchange.destination {
            self.locator.mark_good(destination, target.transport, target.remote);
        }
        if let Some(line) = self.lines.get_mut(&exchange.account) {
            let uri = exchange.request.uri.to_string();
            let credentials = line.account.credentials.as_ref();
            let news = line.authenticator.handle_success(&response, credentials, &uri, &exchange.attempts);
            if let Some(right) = news {
                let (account, remote) = (exchange.account, flow.remote);
                self.events.push_back(Event::ServerProof { account, remote, right });
            }
            if exchange.owner == Owner::Registration {
                let returned = line.choice.handle_registered(now, flow.transport, &mut self.chance);
                line.target = Some(target);
                line.registered_at = Some(now);
                let old = line.flow.replace(flow.clone()).and_then(|old| old.connection);
                let old = old.filter(|old| Some(*old) != flow.connection);
                if let Some(connection) = flow.connection {
                    self.connections.keep(now, connection, true);
                }
                let is_used = |old: u64| self.lines.values().any(|line| line.is_registered_over(old));
                if let Some(old) = old.filter(|old| !is_used(*old)) {
                    self.connections.keep(now, old, false);
                    left = returned.then_some(old);
                }
            }
        }
        if exchange.is_invite() {
            exchange.phase = Phase::Accepted { flow: flow.clone() };
            exchange.deadline =
                Some(now.deadline(self.settings.timing.transaction() + Duration::from_secs(1)));
            self.index(id);
            self.deliver(id, response);
        } else {
            self.finish(id);
            self.deliver_final(id, response);
        }
        if let Some(left) = left {
            // No call needs it, and many a PBX forgets with it the binding that came by it.
            self.connections.ask_close(left);
            self.handle_closed(now, left, "the line is registered over a better transport");
        }
    }

    fn challenged(&mut self, now: Now, id: RequestId, flow: &Flow, response: Response) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let Some(line) = self.lines.get_mut(&exchange.account) else {
            self.fail(id, Failure::Transport("the line is gone".to_owned()));
            return;
        };
        let verdict = if exchange.cancel.is_some() {
            Verdict::Refuse(Unauthorized::Stranger)
        } else if !line.is_server(&self.locator, flow) {
            self.counters.unanswered_challenges += 1;
            Verdict::Refuse(Unauthorized::Stranger)
        } else {
            line.authenticator.handle_challenge(
                now,
                &response,
                line.account.credentials.as_ref(),
                &mut exchange.attempts,
            )
        };
        match verdict {
            Verdict::Again => {
                let number = exchange.sequence.next();
                exchange.request.head.cseq.number = number;
                let Phase::Sent { target, flow, .. } =
                    std::mem::replace(&mut exchange.phase, Phase::Locating)
                else {
                    return;
                };
                exchange.answered = false;
                self.resend(now, id, target, flow);
            }
            Verdict::Refuse(why) => {
                if matches!(why, Unauthorized::ForeignRealm { .. }) {
                    self.counters.unanswered_challenges += 1;
                }
                let (owner, account) = (exchange.owner, exchange.account);
                if matches!(why, Unauthorized::Refused { .. } | Unauthorized::ForeignRealm { .. }) {
                    let event = Event::AuthenticationFailed {
                        account,
                        realm: why.realm().to_owned(),
                        why: why.explain(),
                    };
                    self.events.push_back(event);
                }
                self.finish(id);
                if owner == Owner::Registration {
                    self.exchanges.remove(&id);
                    self.deliveries.push_back(Delivery::Unauthorized {
                        account,
                        status: response.status,
                        why,
                    });
                } else {
                    self.deliver_final(id, response);
                }
            }
        }
    }

    /// The same request once more on the way it took, with credentials.
    fn resend(&mut self, now: Now, id: RequestId, target: Target, flow: Flow) {
        let stands = flow.connection.is_none_or(|connection| self.connections.flow(connection).is_some());
        let local = match flow.connection {
            Some(_) => flow.local,
            None => self.local_towards(now, target.remote),
        };
        match local {
            Some(local) if stands => self.transmit(now, id, target, flow, local),
            _ => self.approach(now, id, target),
        }
    }

    pub(crate) fn finish(&mut self, id: RequestId) {
        self.exchange_timers.set(id, None);
    }

    pub(crate) fn deliver(&mut self, id: RequestId, response: Response) {
        if let Some(exchange) = self.exchanges.get(&id) {
            let (owner, account) = (exchange.owner, exchange.account);
            self.deliveries.push_back(Delivery::Response {
                owner,
                account,
                request: id,
                response: Box::new(response),
            });
        }
    }

    pub(crate) fn deliver_final(&mut self, id: RequestId, response: Response) {
        self.deliver(id, response);
        self.exchanges.remove(&id);
    }
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
