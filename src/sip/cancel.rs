//! Taking back an INVITE of ours (RFC 3261 §9.1).

use crate::now::Now;
use crate::sip::exchange::{Cancel, Phase};
use crate::sip::handle::RequestId;
use crate::sip::message::Request;
use crate::sip::method::Method;
use crate::sip::ua_event::Failure;
use crate::sip::wire::Wire;

impl Wire {
    /// Cancels an INVITE; see [`Wire::cancel`].
    pub(crate) fn cancel_exchange(&mut self, now: Now, id: RequestId, reason: Option<String>) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        if exchange.cancel.is_some() {
            return;
        }
        exchange.cancel = Some(Cancel { reason, sent: false });
        match exchange.phase {
            Phase::Sent { .. } if exchange.answered => self.send_cancel(now, id),
            // The first provisional response, or timer B, decides.
            Phase::Sent { .. } => {
                exchange.deadline = None;
                self.index(id);
            }
            Phase::Accepted { .. } => {}
            _ => self.fail(id, Failure::Cancelled),
        }
    }

    /// RFC 3261 §9.1: CANCEL has the Via, Route and CSeq number of the INVITE it is for, and takes its way.
    pub(crate) fn send_cancel(&mut self, now: Now, id: RequestId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let (Some(cancel), Phase::Sent { branch, .. }) = (&mut exchange.cancel, &exchange.phase) else {
            return;
        };
        if cancel.sent {
            return;
        }
        let Some((invite, flow)) = self.transactions.sent(branch, &Method::INVITE) else {
            return;
        };
        cancel.sent = true;
        let head = &invite.head;
        let (from, to) = (head.from.clone(), head.to.clone());
        let mut request =
            Request::new(Method::CANCEL, invite.uri.clone(), from, to, &head.call_id, head.cseq.number);
        request.head.via = head.via.clone();
        for route in invite.fields.all("Route") {
            request.fields.push("Route", route);
        }
        if let Some(reason) = &cancel.reason {
            request.fields.push("Reason", reason.as_str());
        }
        request.fields.push("User-Agent", self.settings.user_agent.as_str());
        let flow = flow.clone();
        exchange.deadline = Some(now.deadline(self.settings.timing.transaction()));
        self.index(id);
        self.transactions.send(now, None, request, flow);
    }
}
