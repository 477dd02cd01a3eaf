//! A call between its first answer and its end: what its offers and answers mean for the media, and who hears what.

use super::call::{Call, Change, LONGEST_RINGING, Phase};
use super::media_plan::{DigitsBy, plan};
use super::{Output, Phone};
use crate::config::Backend;
use crate::events::store::Write;
use crate::events::{CallResult, Cause, EndedBy, Event, Kind, Side};
use crate::media::{self, Command, DtmfSource, LegId};
use crate::now::Now;
use crate::sip::call::{CallEvent, Description, DialogKey, Identity};
use crate::sip::handle::CallId;
use crate::sip::sdp::Negotiated;

/// After early media was promised, the far end has so long to be heard before the local ring-back begins.
const EARLY_MEDIA_WITHIN: std::time::Duration = std::time::Duration::from_millis(250);

impl Phone {
    pub(super) fn handle_call(&mut self, now: Now, sip: CallId, event: CallEvent) {
        if let CallEvent::Incoming(incoming) = event {
            if let Some(account) = self.agent.call_account(sip) {
                self.handle_incoming(now, sip, account, &incoming);
            }
            return;
        }
        let Some(index) = self.calls.iter().position(|call| call.sip == sip && !call.is_over()) else {
            return;
        };
        match event {
            CallEvent::Incoming(_) | CallEvent::Trying | CallEvent::Established | CallEvent::Refreshed => {}
            CallEvent::Progress { status, dialog, sdp, .. } => {
                self.progress(now, index, status, &dialog, sdp.as_ref())
            }
            CallEvent::Answered { dialog, sdp, identity } => {
                self.far_end_answered(now, index, &dialog, sdp.as_ref(), &identity)
            }
            CallEvent::Offer { sdp, dialog, .. } => self.far_end_offers(now, index, &dialog, sdp.as_deref()),
            CallEvent::Answer { sdp, dialog } => self.far_end_agrees(now, index, &dialog, &sdp),
            CallEvent::OfferFailed { .. } => self.offer_failed(now, index),
            CallEvent::OfferWanted => self.offer_again(now, index),
            CallEvent::Identity(identity) => self.identified(now, index, &identity),
            CallEvent::Info { content_type, body } => self.digits_by_info(now, index, &content_type, &body),
            CallEvent::InfoResult { .. } => self.next_info_digit(now, index),
            CallEvent::Referred(asked) => self.referred(now, index, &asked),
            CallEvent::Transfer(news) => self.transfer_news(now, index, news),
            CallEvent::Ended(ended) => self.call_ended(now, index, &ended),
        }
    }

    fn progress(
        &mut self,
        now: Now,
        index: usize,
        status: u16,
        dialog: &DialogKey,
        sdp: Option<&Description>,
    ) {
        let call = &mut self.calls[index];
        let mut agreed = None;
        if let Some(Description::Answer(sdp)) = sdp {
            let base = call.negotiation.clone();
            let fork = call.forks.entry(dialog.clone()).or_insert(base);
            // What an early description gets wrong, the final one may get right.
            agreed = fork.accept(sdp).ok();
        }
        if !matches!(call.phase, Phase::Dialing | Phase::Proceeding { .. }) {
            return;
        }
        (call.progressed, call.answer_by) = (true, now.deadline(LONGEST_RINGING));
        let early = agreed.is_some() || call.path.plan.is_some();
        let tone_at = match call.phase {
            // Once the far end sends its own ring-back, a later 180 without a description changes nothing.
            Phase::Proceeding { .. } if call.path.heard.is_some() => None,
            Phase::Proceeding { tone_at } if agreed.is_none() => tone_at,
            _ if early => Some(now.deadline(EARLY_MEDIA_WITHIN)),
            _ => Some(now.mono_us),
        };
        if status == 180 || early {
            call.phase = Phase::Proceeding { tone_at };
        }
        let (id, facts) = (call.id.clone(), call.facts.clone());
        let ringing = status == 180 && !call.told_ringing;
        call.told_ringing |= ringing;
        let first_early = agreed.is_some() && !call.told_early;
        call.told_early |= first_early;
        if let Some(agreed) = agreed {
            self.agree(now, index, &agreed);
        }
        if ringing {
            self.tell(now, Event::of_call(&id, Kind::CallRinging { leg: facts.clone() }));
            self.errand_rings(now, index);
        }
        if first_early {
            self.tell(now, Event::of_call(&id, Kind::CallEarly { leg: facts }));
        }
    }

    fn far_end_answered(
        &mut self,
        now: Now,
        index: usize,
        dialog: &DialogKey,
        sdp: Option<&Description>,
        identity: &Identity,
    ) {
        let call = &mut self.calls[index];
        if let Some(fork) = call.forks.remove(dialog) {
            call.negotiation = fork;
        }
        call.forks.clear();
        let agreed = match sdp {
            Some(Description::Answer(sdp)) => {
                call.negotiation.accept(sdp).map_err(|refusal| refusal.to_string())
            }
            Some(Description::Offer(_)) => Err("the answer carried an offer".to_owned()),
            None => {
                call.negotiation.agreed().cloned().ok_or_else(|| "the answer had no description".to_owned())
            }
        };
        // Who has answered is told with the answer.
        self.connected(index, identity);
        match agreed {
            Ok(agreed) => {
                self.agree(now, index, &agreed);
                let call = &self.calls[index];
                // While it rang over there somebody else may have been answered, or taken up again.
                if call.bridge.is_none() && call.errand.is_none() {
                    self.quiet_others(now);
                }
                self.answered(now, index);
            }
            Err(why) => {
                let cause =
                    Cause { by: Some(EndedBy::Local), ..Cause::network(format!("no common media: {why}")) };
                self.calls[index].verdict = Some((CallResult::Failed, cause));
                let sip = self.calls[index].sip;
                let _ = self.agent.hang_up(now, sip, None);
            }
        }
    }

    /// The call stands: by the far end's 2xx, or by ours.
    pub(super) fn answered(&mut self, now: Now, index: usize) {
        let max_duration = self.config.limits.max_duration;
        let call = &mut self.calls[index];
        let limited = !max_duration.is_zero() && !call.emergency;
        // Also whoever was given away to help is let talk.
        let must_end_at = call.must_end_at.filter(|_| !call.emergency);
        let end_at = must_end_at.or_else(|| limited.then(|| now.deadline(max_duration)));
        call.phase = Phase::Active { since: now, end_at };
        let ring_us = now.mono_us.saturating_sub(call.began.mono_us);
        let entry = call.entry();
        let (id, leg, heard) = (call.id.clone(), call.facts.clone(), call.path.heard.is_some());
        let leg_id = leg.leg_id.clone();
        let automatic = call.answered_by.map(str::to_owned);
        self.keep(Write::Call(Box::new(entry)));
        self.tell(now, Event::of_call(&id, Kind::CallAnswered { leg, ring_us, automatic }));
        let call = &self.calls[index];
        let held_by_peer = call.negotiation.agreed().is_some_and(|agreed| agreed.hold.by_peer);
        self.note_peer_hold(now, index, held_by_peer);
        if heard {
            self.tell_media(now, index);
        }
        if self.calls[index].recorded_by_wish.unwrap_or(self.config.recording.enabled) {
            let _ = self.record(now, Some(&leg_id), super::command::RecordAction::Start);
        }
        self.tell_address(now, index);
        self.tell_late(now, index);
        self.bridge_leg_answered(now, index);
        self.errand_answered(now, index);
    }

    fn far_end_offers(&mut self, now: Now, index: usize, dialog: &DialogKey, sdp: Option<&[u8]>) {
        let call = &mut self.calls[index];
        let sip = call.sip;
        // Before the answer each early dialog has come to terms of its own.
        let negotiation = call.forks.get_mut(dialog).unwrap_or(&mut call.negotiation);
        match sdp {
            None => {
                let offer = negotiation.offer(&mut self.chance);
                let _ = self.agent.reply_offer(now, sip, Ok(offer));
            }
            Some(offer) => match negotiation.answer(offer, &mut self.chance) {
                Ok((answer, agreed)) => {
                    if self.agent.reply_offer(now, sip, Ok(answer)).is_ok() {
                        self.agree(now, index, &agreed);
                    }
                }
                Err(refusal) => {
                    let _ = self.agent.reply_offer(now, sip, Err(refusal.status()));
                }
            },
        }
    }

    fn far_end_agrees(&mut self, now: Now, index: usize, dialog: &DialogKey, sdp: &[u8]) {
        let call = &mut self.calls[index];
        let negotiation = call.forks.get_mut(dialog).unwrap_or(&mut call.negotiation);
        match negotiation.accept(sdp) {
            Ok(agreed) => {
                self.agree(now, index, &agreed);
                if let Some(change) = self.calls[index].change_answered() {
                    self.tell_change(now, index, change);
                }
            }
            Err(refusal) => {
                let cause = Cause {
                    by: Some(EndedBy::Local),
                    ..Cause::network(format!("unusable answer: {refusal}"))
                };
                call.verdict = Some((CallResult::Answered, cause));
                let sip = call.sip;
                let _ = self.agent.hang_up(now, sip, None);
            }
        }
    }

    /// This side has put the call on hold, or has taken it back.
    fn tell_change(&mut self, now: Now, index: usize, change: Change) {
        let call = &mut self.calls[index];
        call.note_hold(now);
        let (id, leg, by) = (call.id.clone(), call.facts.clone(), Side::Local);
        let kind = match change {
            Change::Hold => Kind::CallHeld { leg, by },
            Change::Resume => Kind::CallResumed { leg, by },
        };
        self.tell(now, Event::of_call(id, kind));
    }

    /// An offer of ours was refused: what was agreed on stays. But whoever was to wait for another call does not come back into
    /// it uninvited: silence is sent, and nobody is heard, whatever the PBX calls that; and it can be taken back.
    fn offer_failed(&mut self, now: Now, index: usize) {
        let one_pair_of_ears = self.has_one_pair_of_ears();
        let is_another = |(at, call): (usize, &Call)| at != index && call.is_talked_in();
        let talks_elsewhere = one_pair_of_ears && self.calls.iter().enumerate().any(is_another);
        let call = &mut self.calls[index];
        call.negotiation.withdraw();
        let agreed_on_hold = call.negotiation.agreed().is_some_and(|agreed| agreed.hold.by_us);
        // A change that waits behind the refused offer goes out next.
        let change = call.change_answered();
        let done = match change {
            Some(Change::Hold) => talks_elsewhere,
            Some(Change::Resume) => !agreed_on_hold,
            None => false,
        };
        match change {
            Some(Change::Hold) => call.held = done,
            Some(Change::Resume) => call.held = !done,
            None => {}
        }
        call.set_direction();
        call.note_hold(now);
        if let Some(change) = change.filter(|_| done) {
            self.tell_change(now, index, change);
        }
    }

    /// An offer that had to wait can go out now.
    fn offer_again(&mut self, now: Now, index: usize) {
        let call = &mut self.calls[index];
        call.change_waits = false;
        let offer = call.negotiation.offer(&mut self.chance);
        let sip = call.sip;
        if self.agent.offer(now, sip, offer).is_err() {
            self.calls[index].negotiation.withdraw();
        }
    }

    /// Tells the engine what was agreed on, and people what it means for them.
    pub(super) fn agree(&mut self, now: Now, index: usize, agreed: &Negotiated) {
        let Some(line) = self.lines.iter().find(|line| line.config.name == self.calls[index].facts.line)
        else {
            return;
        };
        let signalling = self.server_of_call(index);
        let relayed = self.calls[index].path.is_relayed(agreed);
        let Some((plan, digits)) = plan(agreed, &line.config, &self.config.rtp, signalling, relayed) else {
            // Keys that can't be used must not become a call in clear.
            self.end_call(now, index, Some(Cause::local("the SRTP keys can't be used")));
            return;
        };
        self.agree_rtcp(now, index, agreed);
        let call = &mut self.calls[index];
        let leg = call.path.leg;
        if agreed.ice.as_ref().is_some_and(|ice| ice.restarted) {
            (call.path.restart, call.path.late) = (None, false);
        }
        call.path.digits = digits;
        call.path.told = Some(agreed.local_rtp);
        let changed = call.path.plan.as_ref() != Some(&plan);
        let opened = call.path.plan.replace(plan.clone()).is_some();
        let plan = Box::new(plan);
        if !opened {
            let port = call.path.port;
            self.outputs.push_back(Output::Media(Command::Open { leg, port, plan }));
            if call.muted {
                self.outputs.push_back(Output::Media(Command::Mute { leg, muted: true }));
            }
            // One whose caller let us offer was answered, and its recording begun, before.
            self.record_leg(index);
        } else if changed {
            self.outputs.push_back(Output::Media(Command::Update { leg, plan }));
        }
        self.note_peer_hold(now, index, agreed.hold.by_peer);
        self.avoid_hairpin(now, index, agreed);
    }

    /// The far end of an answered call has put us on hold, or has taken us back.
    fn note_peer_hold(&mut self, now: Now, index: usize, held: bool) {
        let call = &mut self.calls[index];
        if !call.is_active() || call.held_by_peer == held {
            return;
        }
        call.held_by_peer = held;
        call.note_hold(now);
        let (id, leg, by) = (call.id.clone(), call.facts.clone(), Side::Remote);
        let kind = if held { Kind::CallHeld { leg, by } } else { Kind::CallResumed { leg, by } };
        self.tell(now, Event::of_call(id, kind));
    }

    pub(super) fn handle_media(&mut self, now: Now, event: media::Event) {
        match event {
            media::Event::FirstPacket { leg, from, .. } => {
                let Some(index) = self.call_of_leg(leg) else { return };
                let call = &mut self.calls[index];
                call.path.source = Some(from);
                call.path.heard.get_or_insert(now);
                if let Phase::Proceeding { tone_at } = &mut call.phase {
                    *tone_at = None;
                }
                if call.is_active() {
                    self.tell_media(now, index);
                }
            }
            media::Event::Dtmf { leg, digit, duration_ms, source } => {
                let Some(index) = self.call_of_leg(leg) else { return };
                let method = match source {
                    DtmfSource::Rfc4733 => "rfc4733",
                    DtmfSource::Inband => "inband",
                };
                self.tell_digits(
                    now,
                    index,
                    Side::Remote,
                    digit.to_string(),
                    Some(u64::from(duration_ms) * 1000),
                    method,
                );
                self.key_pressed(now, index, digit);
                // Tones in the audio have crossed with it.
                if source == DtmfSource::Rfc4733 {
                    self.pass_on_digit(now, index, digit, duration_ms);
                }
            }
            media::Event::Quality { leg, report } => {
                let Some(index) = self.call_of_leg(leg) else { return };
                let call = &mut self.calls[index];
                call.path.report = Some(*report);
                let (Some(quality), true) = (call.quality(), call.is_active()) else { return };
                let (id, leg) = (call.id.clone(), call.facts.clone());
                self.tell(now, Event::of_call(id, Kind::CallQuality { leg, quality }));
            }
            media::Event::TimedOut { leg } => self.media_lost(now, leg),
            media::Event::Silence { leg, .. } => self.note_silence(leg, true),
            media::Event::Resumed { leg, .. } => self.note_silence(leg, false),
            media::Event::Closed { leg, report, .. } => {
                let Some(index) = self.calls.iter().position(|call| call.path.leg == leg) else { return };
                self.calls[index].path.report = Some(*report);
                self.finish_call(now, index);
            }
            media::Event::Failed { leg, why } => {
                let Some(index) = self.call_of_leg(leg) else { return };
                self.end_call(now, index, Some(Cause::local(why)));
            }
            media::Event::Secured { leg, profile, .. } => {
                if let Some(index) = self.call_of_leg(leg) {
                    self.calls[index].path.shaken = Some(profile);
                }
            }
            media::Event::Gathered { port, component, found } => {
                self.path_found(now, port, component, *found)
            }
            media::Event::Seen { port, server, moved } => self.port_seen(now, port, server, moved),
            media::Event::Path { leg, component, event, seen_as } => {
                self.path_event(now, leg, component, event, seen_as)
            }
            media::Event::Latched { leg, remote } => {
                if let Some(index) = self.call_of_leg(leg) {
                    self.calls[index].path.source = Some(remote);
                }
            }
            media::Event::Unauthentic { leg } => {
                if let Some(index) = self.call_of_leg(leg) {
                    self.calls[index].path.unauthentic = true;
                }
            }
            media::Event::Codec { .. } | media::Event::DtmfSent { .. } => {}
        }
    }

    fn tell_media(&mut self, now: Now, index: usize) {
        let call = &mut self.calls[index];
        if std::mem::replace(&mut call.told_media, true) {
            return;
        }
        let (Some(since), Some(heard)) = (call.answered(), call.path.heard) else { return };
        let plan = call.path.plan.as_ref();
        let codec =
            plan.and_then(|plan| plan.send).map(|format| format.codec.name.to_owned()).unwrap_or_default();
        let srtp = call.path.profile().map(|profile| profile.as_str().to_owned());
        let way = call.path.way();
        let after_answer_us = heard.mono_us.saturating_sub(since.mono_us);
        let (id, leg) = (call.id.clone(), call.facts.clone());
        self.tell(now, Event::of_call(id, Kind::CallMedia { leg, codec, srtp, way, after_answer_us }));
    }

    /// A real sound device has one pair of ears: whoever is talked to waits while another call is taken or made.
    pub(super) fn quiet_others(&mut self, now: Now) {
        if self.has_one_pair_of_ears() {
            let heard: Vec<_> =
                self.calls.iter().filter(|call| call.is_talked_in()).map(|call| call.id.clone()).collect();
            for id in heard {
                let _ = self.hold(now, Some(&id));
            }
        }
    }

    pub(super) fn has_one_pair_of_ears(&self) -> bool {
        self.config.audio.backend == Backend::Cpal
    }

    /// Tells the engine which room each leg belongs in, where that has changed.
    pub(super) fn place_legs(&mut self) {
        for call in &mut self.calls {
            let room = call.room();
            if call.path.plan.is_some() && !call.is_over() && call.path.room != room {
                call.path.room = room;
                self.outputs.push_back(Output::Media(Command::Place { leg: call.path.leg, room }));
            }
        }
    }

    fn note_silence(&mut self, leg: LegId, silent: bool) {
        if let Some(index) = self.call_of_leg(leg) {
            self.calls[index].path.silent = silent;
            if silent {
                self.doubt_relay(index);
            }
        }
    }

    fn call_of_leg(&self, leg: LegId) -> Option<usize> {
        self.calls.iter().position(|call| call.path.leg == leg && !call.is_over())
    }

    pub(super) fn sends_digits_by_info(&self, index: usize) -> bool {
        self.calls[index].path.digits == DigitsBy::Info
    }
}
