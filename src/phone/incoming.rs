//! A call that comes in: whose is it, may it ring, and what the person at the device does with it.

use super::Phone;
use super::auto_answer::Automatic;
use super::call::{Awaited, Call, Path, Phase};
use super::command::{Blame, Outcome, Refusal, Reply};
use super::lookup::Known;
use super::media_plan::capability;
use super::paths::{Taken, describe};
use super::rtcp_path::RtcpPath;
use crate::config::{self, WhenClosed};
use crate::events::store::Write;
use crate::events::{CallResult, Cause, Event, Kind, Leg, Origin, Party};
use crate::media::LegId;
use crate::now::Now;
use crate::sip::call::Incoming;
use crate::sip::fields::FieldValue;
use crate::sip::handle::{AccountId, CallId};
use crate::sip::reason::Reason;
use crate::sip::sdp::{self, Negotiation};

/// Why a call does not ring.
struct Refused {
    status: u16,
    rule: &'static str,
    result: CallResult,
    text: String,
}

/// What a call that comes in is to be talked over.
pub(super) struct Prepared {
    pub path: Path,
    pub negotiation: Negotiation,
    /// Whether RTCP goes over the port of the audio, as far as an offer says so.
    pub shares_port: bool,
}

/// Why there is nothing to talk over.
pub(super) enum Unfit {
    /// No port, or no address of ours towards the PBX.
    NoPort,
    /// The offer can't be answered.
    NoMedia(sdp::Refusal),
}

impl Phone {
    pub(super) fn handle_incoming(&mut self, now: Now, sip: CallId, account: AccountId, incoming: &Incoming) {
        let Some(line) = self.line_of_account(account) else {
            let _ = self.agent.reject(now, sip, 404, None, &[]);
            return;
        };
        let name = line.config.name.clone();
        if let Some(predecessor) = incoming.predecessor {
            return self.replace(now, sip, account, incoming, predecessor);
        }
        let mut facts = self.incoming_facts(&name, incoming);
        let id = self.chance.token(6);
        let refused = self.refuse_incoming(now, &name, &facts.caller);
        let known = if refused.is_none() { self.recalled(now, &mut facts) } else { Known::NotAsked };
        let new = Kind::CallNew {
            leg: Leg { leg_id: format!("{id}-1"), ..facts.clone() },
            origin: Origin::Network,
        };
        if let Some(refused) = refused {
            self.tell(now, Event::of_call(&id, new));
            self.refuse(now, sip, id, facts, refused);
            return;
        }
        let prepared = match self.prepare(&name, account, incoming) {
            Ok(prepared) => prepared,
            Err(Unfit::NoPort) => {
                self.tell(now, Event::of_call(&id, new));
                let (rule, text) = ("rtp.ports", "no RTP port is free".into());
                let refused = Refused { status: 480, rule, result: CallResult::Congestion, text };
                self.refuse(now, sip, id, facts, refused);
                return;
            }
            Err(Unfit::NoMedia(refusal)) => {
                self.reject_offer(now, sip, &refusal);
                self.tell(now, Event::of_call(&id, new));
                let cause = Cause { status: Some(refusal.status()), ..Cause::local(refusal.to_string()) };
                self.close_story(now, &id, facts, CallResult::Failed, cause);
                return;
            }
        };
        let automatic = self.will_answer_by_itself(now, &name, &incoming.request.fields);
        let Prepared { path, negotiation, shares_port } = prepared;
        let mut call = Call::new(now, id, facts, sip, Phase::Ringing { automatic }, path, negotiation);
        call.offer.clone_from(&incoming.offer);
        let id = call.id.clone();
        self.begin_incoming(call, shares_port);
        self.tell(now, Event::of_call(&id, new));
        self.ring_or_ask(now, self.calls.len() - 1, known);
    }

    /// A call has waited long enough.
    pub(super) fn waited_for(&mut self, now: Now, index: usize, what: Awaited) {
        match what {
            Awaited::Name => self.ring_or_recall(now, index),
            Awaited::Journal(_) => self.begin_ringing(now, index),
            Awaited::Extension => {
                let call = self.calls[index].id.clone();
                self.stop_trying(now, &call, CallResult::NoAnswer, "nobody answered in time");
                self.begin_ringing(now, index);
            }
        }
    }

    /// The handset rings, or somebody has it answered at once.
    pub(super) fn begin_ringing(&mut self, now: Now, index: usize) {
        if let Phase::Waiting { automatic, .. } = self.calls[index].phase {
            self.calls[index].phase = Phase::Ringing { automatic };
        }
        let due = |it: &Automatic| it.due() <= now.mono_us;
        let call = &self.calls[index];
        if matches!(&call.phase, Phase::Ringing { automatic: Some(automatic) } if due(automatic))
            && !self.go_on_by_itself(now, index)
        {
            return;
        }
        self.tell_caller_it_rings(now, index);
    }

    /// The caller hears that it rings, here or elsewhere.
    pub(super) fn tell_caller_it_rings(&mut self, now: Now, index: usize) {
        let call = &mut self.calls[index];
        if std::mem::replace(&mut call.told_ringing, true) {
            return;
        }
        let (sip, id, leg) = (call.sip, call.id.clone(), call.facts.clone());
        // Where it has to be acknowledged, the first word is the place of an offer that the caller left to us (RFC 3262 §5).
        let offer = call.offer.is_none().then(|| call.negotiation.offer(&mut self.chance));
        let _ = self.agent.ring(now, sip, 180, offer);
        if self.agent.has_offered(sip) {
            // The caller's checks may begin with the acknowledgement.
            let call = &self.calls[index];
            let (port, negotiation) = (call.path.port, call.negotiation.clone());
            self.expect_checks(port, &negotiation);
        }
        self.tell(now, Event::of_call(id, Kind::CallRinging { leg }));
    }

    /// A port for a call that comes in, and what can be said of it; an offer that can't be answered is found out before
    /// anybody is disturbed.
    pub(super) fn prepare(
        &mut self,
        name: &str,
        account: AccountId,
        incoming: &Incoming,
    ) -> Result<Prepared, Unfit> {
        let address = self.agent.local_address(account).ok_or(Unfit::NoPort)?;
        let Taken { port, number, found } = self.take_port(name, address).ok_or(Unfit::NoPort)?;
        let Some(line) = self.line(name) else { return Err(Unfit::NoPort) };
        let mut capability = capability(&line.config, &self.config.rtp, address, number, self.fingerprint);
        if let Some(found) = &found {
            let server = self.agent.server(account).map(|(_, server)| server.ip());
            describe(&mut capability, &line.config, found, &RtcpPath::default(), server);
        }
        let negotiation = Negotiation::new(capability, self.chance.next_u64());
        let mut shares_port = true;
        match incoming.offer.as_ref().map(|offer| negotiation.clone().answer(offer, &mut self.chance)) {
            None => {}
            Some(Ok((_, agreed))) => {
                shares_port = agreed.rtcp_mux;
                self.permit_early(port, &agreed);
            }
            Some(Err(refusal)) => {
                self.give_back(port, number);
                return Err(Unfit::NoMedia(refusal));
            }
        }
        let path = Path { found, ..Path::new(LegId(self.number()), port, number) };
        Ok(Prepared { path, negotiation, shares_port })
    }

    pub(super) fn reject_offer(&mut self, now: Now, sip: CallId, refusal: &sdp::Refusal) {
        let warning = format!("{} tipring \"{refusal}\"", refusal.warning());
        let _ = self.agent.reject(now, sip, refusal.status(), None, &[("Warning".into(), warning)]);
    }

    /// A call that comes in is one of ours from now on.
    pub(super) fn begin_incoming(&mut self, call: Call, shares_port: bool) {
        self.keep(Write::Call(Box::new(call.entry())));
        self.calls.push(call);
        if !shares_port {
            self.gather_rtcp(self.calls.len() - 1);
        }
    }

    /// Whether a rule of the configuration keeps a call from ringing.
    fn refuse_incoming(&self, now: Now, name: &str, caller: &Party) -> Option<Refused> {
        let line = self.line(name)?;
        if self.stop_by.is_some() {
            let text = "the phone is ending".into();
            return Some(Refused { status: 480, rule: "device", result: CallResult::Unreachable, text });
        }
        // Who was called for help may call back, also after that call was cut off.
        let helper_expected = self.expects_helper(now);
        if !helper_expected && let Some(refused) = self.refuse_caller(now, &line.config, caller) {
            return Some(refused);
        }
        if line.dnd && !helper_expected {
            let text = "do-not-disturb is on".into();
            return Some(Refused { status: 486, rule: "line.dnd", result: CallResult::Busy, text });
        }
        let calls = self.calls_on(name);
        if calls >= usize::from(line.config.max_calls) {
            let text = format!("the line has {calls} calls already");
            return Some(Refused { status: 486, rule: "line.max_calls", result: CallResult::Busy, text });
        }
        None
    }

    /// Whether help is being called, or whoever was called for help may call back.
    pub(super) fn expects_helper(&self, now: Now) -> bool {
        self.guard.expects_call_back(now) || self.calls.iter().any(|call| call.emergency)
    }

    /// Whether a caller is not wanted, or nobody is there.
    fn refuse_caller(&self, now: Now, line: &config::Line, caller: &Party) -> Option<Refused> {
        let number = caller.number.as_ref().map(|number| number.dialled.as_str());
        let list = &self.config.blacklist;
        if list.means(number, &self.config.number_plan_of(line)) {
            let text = "the caller is on the black list".into();
            let rule = "blacklist.numbers";
            return Some(Refused { status: list.status, rule, result: CallResult::Barred, text });
        }
        let refuses = self.config.hours.closed == WhenClosed::Refuse;
        let rule = self.closed_by(now).filter(|_| refuses)?;
        // It counts as missed: somebody should call back in the morning.
        let text = "nobody is there at this time".into();
        Some(Refused { status: 480, rule, result: CallResult::NoAnswer, text })
    }

    fn refuse(&mut self, now: Now, sip: CallId, id: String, facts: Leg, refused: Refused) {
        // What the PBX may tell the caller (RFC 6432): incoming calls barred.
        let reason = (refused.result == CallResult::Barred)
            .then(|| (Reason::NAME.to_owned(), Reason::q850(54, "incoming call barred").write()));
        let _ = self.agent.reject(now, sip, refused.status, None, reason.as_slice());
        let leg = Leg { leg_id: format!("{id}-1"), ..facts.clone() };
        let kind = Kind::CallRefused {
            leg,
            origin: Origin::Network,
            rule: refused.rule.to_owned(),
            text: refused.text.clone(),
        };
        self.tell(now, Event::of_call(&id, kind));
        let cause = Cause { status: Some(refused.status), ..Cause::local(refused.text) };
        self.close_story(now, &id, facts, refused.result, cause);
    }

    pub(super) fn answer(&mut self, now: Now, id: Option<&str>) -> Outcome {
        let index = self.find(id, "ringing", Call::is_ringing_here)?;
        if self.calls[index].waits_for().is_some() {
            // Somebody is quicker than the answer, or than the extension.
            self.calls[index].phase = Phase::Ringing { automatic: None };
            self.tell_caller_it_rings(now, index);
            let call = self.calls[index].id.clone();
            self.stop_trying(now, &call, CallResult::AnsweredElsewhere, "the call was answered here");
        }
        self.quiet_others(now);
        self.take(now, index)?;
        Ok(Reply::Call(Box::new(self.calls[index].view(now))))
    }

    /// Answers a call, and has its audio begin.
    pub(super) fn take(&mut self, now: Now, index: usize) -> Result<(), Refusal> {
        let call = &mut self.calls[index];
        let sdp = match call.offer.take() {
            Some(offer) => call
                .negotiation
                .answer(&offer, &mut self.chance)
                .map(|(answer, agreed)| (answer, Some(agreed))),
            // It is what the caller answers, or has answered, whatever has become of our addresses since.
            None if self.agent.has_offered(call.sip) => Ok((Vec::new(), None)),
            None => Ok((call.negotiation.offer(&mut self.chance), None)),
        };
        let (sdp, agreed) = match sdp {
            Ok(sdp) => sdp,
            Err(refusal) => {
                let _ = self.agent.reject(now, call.sip, refusal.status(), None, &[]);
                let hint =
                    "the caller's phone offers nothing that this line can use; see its codecs and srtp";
                return Err(Refusal::new(Blame::State, "no_media", refusal.to_string(), hint));
            }
        };
        let sip = call.sip;
        if let Err(error) = self.agent.answer(now, sip, sdp) {
            return Err(Refusal::new(
                Blame::State,
                "not_ringing",
                error.to_string(),
                "the caller may have given up",
            ));
        }
        if let Some(agreed) = agreed {
            self.agree(now, index, &agreed);
        }
        self.answered(now, index);
        Ok(())
    }

    pub(super) fn reject(&mut self, now: Now, id: Option<&str>, status: u16) -> Outcome {
        if !matches!(status, 480 | 486 | 600 | 603) {
            let hint = "use 486 (busy here), 603 (decline), 480 or 600";
            return Err(Refusal::new(
                Blame::Wish,
                "wrong_status",
                format!("{status} does not refuse a call"),
                hint,
            ));
        }
        let index = self.find(id, "ringing", Call::is_ringing_here)?;
        let result = if matches!(status, 486 | 600) { CallResult::Busy } else { CallResult::Rejected };
        let cause = Cause { status: Some(status), ..Cause::local("rejected here") };
        self.calls[index].verdict = Some((result, cause));
        let sip = self.calls[index].sip;
        let _ = self.agent.reject(now, sip, status, None, &[]);
        Ok(Reply::Done)
    }
}
