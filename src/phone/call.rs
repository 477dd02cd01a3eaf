//! One call: what is known of it, where it stands, and what its media do.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use uuid::Uuid;

use super::auto_answer::Automatic;
use super::diagnosis::Talk;
use super::media_plan::DigitsBy;
use super::referred::Errand;
use super::restart::Restart;
use super::rtcp_path::RtcpPath;
use super::snapshot::CallView;
use super::transfer::Asked;
use crate::events::cloud_event::rfc3339;
use crate::events::store::Entry;
use crate::events::{CallResult, Cause, Leg, Number, Origin, Quality, Way};
use crate::media::{LegId, Plan, PortId, RecordingId, Report, Room};
use crate::nat::candidate::{Candidate, Kind};
use crate::nat::gathering::Found;
use crate::nat::ice;
use crate::now::{Now, earliest};
use crate::rtp::srtp::Profile;
use crate::sip::call::DialogKey;
use crate::sip::handle::{AccountId, CallId};
use crate::sip::sdp::{Negotiated, Negotiation};

/// Proxies give up after three minutes (RFC 3261 §16.6, timer C), or a little more.
pub(super) const LONGEST_RINGING: std::time::Duration = std::time::Duration::from_secs(300);

/// Where a call stands.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Phase {
    /// Our INVITE is on its way.
    Dialing,
    /// It rings at the far end; until `tone_at` the far end may still send its own ring-back.
    Proceeding {
        /// When the local ring-back begins; `None` once the far end is heard.
        tone_at: Option<u64>,
    },
    /// The handset is still silent.
    Waiting {
        /// What for.
        what: Awaited,
        /// When it rings, whatever is known then.
        until: u64,
        /// As below.
        automatic: Option<Automatic>,
    },
    /// It rings here.
    Ringing {
        /// How far the call is from being answered by itself; `None` if somebody has to.
        automatic: Option<Automatic>,
    },
    /// Both sides talk.
    Active {
        /// Since when.
        since: Now,
        /// When the line's limit ends it.
        end_at: Option<u64>,
    },
    /// It was hung up here, and the far end is asked how it was.
    Rating {
        /// When it had been answered.
        since: Now,
        /// When no answer is waited for any more.
        until: u64,
    },
    /// It is over for people; the last figures of its media are still awaited.
    Ending {
        /// When they are no longer awaited.
        give_up_at: u64,
        /// What became of it.
        result: CallResult,
        /// Why.
        cause: Cause,
        /// When it ended.
        at: Now,
        /// When it had been answered.
        answered: Option<Now>,
    },
}

/// What a call waits for before the handset rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Awaited {
    /// Another system says who calls.
    Name,
    /// The journal says whom the caller belongs to; the question.
    Journal(Uuid),
    /// It rings at the extension that the caller belongs to.
    Extension,
}

/// What an offer of ours is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Hold,
    Resume,
}

/// The sockets and the leg of a call.
#[derive(Debug)]
pub(super) struct Path {
    pub leg: LegId,
    pub port: PortId,
    /// The UDP port of RTP.
    pub number: u16,
    /// What the engine was told last; `None` while the leg is not open.
    pub plan: Option<Plan>,
    /// Where the engine was told to put the leg.
    pub room: Room,
    /// When the far end was heard first.
    pub heard: Option<Now>,
    /// Where it was heard from last.
    pub source: Option<SocketAddr>,
    /// Whether packets came that failed SRTP's authentication.
    pub unauthentic: bool,
    /// The profile of SRTP whose keys came from a handshake.
    pub shaken: Option<Profile>,
    pub digits: DigitsBy,
    /// Whether nothing has been heard for the time that `[rtp] silence` says.
    pub silent: bool,
    /// The newest figures.
    pub report: Option<Report>,
    /// What the port can be reached at, if that was looked for.
    pub found: Option<Found>,
    /// Whether the outside sees the port elsewhere than before.
    pub moved: bool,
    /// Whether something was found after its description had gone out, and nobody has been told of it.
    pub late: bool,
    /// The route that the agent of the leg has found, and whence the far end sees us come on it.
    pub route: Option<(ice::Route, Option<SocketAddr>)>,
    /// Where we are as the far end was told, when both agreed last.
    pub told: Option<SocketAddr>,
    /// How often the far end no longer consented to be sent to.
    pub consents_lost: u64,
    /// Whether the far end was found to be behind our own NAT.
    pub hairpin: bool,
    /// Whether nothing comes back on the path, as far as its agent has said.
    pub broken: bool,
    /// The search for another path, while it goes on.
    pub restart: Option<Restart>,
    /// The path of RTCP, where it does not share that of the audio.
    pub rtcp: RtcpPath,
}

/// What was dropped of calls, by what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Dropped {
    pub rtp: u64,
    pub stun: u64,
    pub candidates: u64,
    pub consents: u64,
}

impl std::ops::AddAssign for Dropped {
    fn add_assign(&mut self, other: Dropped) {
        self.rtp += other.rtp;
        self.stun += other.stun;
        self.candidates += other.candidates;
        self.consents += other.consents;
    }
}

/// A recording that runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Recording {
    pub number: RecordingId,
    /// The name that events and files have.
    pub id: String,
    pub paused: bool,
}

#[derive(Debug)]
pub(super) struct Call {
    pub id: String,
    /// What every event of the call repeats.
    pub facts: Leg,
    pub sip: CallId,
    /// Who wanted it.
    pub origin: Origin,
    pub began: Now,
    /// Whether the PBX has said more of it than that it tries.
    pub progressed: bool,
    /// When a far end that has neither answered nor said anything more is given up, in microseconds of the monotonic clock.
    pub answer_by: u64,
    pub phase: Phase,
    pub path: Path,
    pub negotiation: Negotiation,
    /// The caller's offer, until the call is answered.
    pub offer: Option<Vec<u8>>,
    /// Offer and answer of early dialogs, until one of them answers.
    pub forks: BTreeMap<DialogKey, Negotiation>,
    /// What the offer of ours changes that is not answered yet.
    pub change: Option<Change>,
    /// That offer has not gone out yet: another one is under way.
    pub change_waits: bool,
    pub held: bool,
    pub held_by_peer: bool,
    pub held_since: Option<Now>,
    pub hold_us: u64,
    pub muted: bool,
    pub recording: Option<Recording>,
    pub recorded: Option<String>,
    /// Whether it is recorded from its answer on, where the configuration does not decide that.
    pub recorded_by_wish: Option<bool>,
    /// What the far end was asked to do with the call, until it is known what came of it.
    pub transfer: Option<Asked>,
    /// The bridge that it is joined in with another leg, or will be: the person at the device has no part in it then.
    pub bridge: Option<u32>,
    /// What is shown at the far end of who calls, instead of the line's name.
    pub shown_as: Option<String>,
    /// To whom the far end was given.
    pub given_to: Option<Number>,
    /// The far end has us call somebody else, who is listened to instead.
    pub sent_on: bool,
    /// The far end of another leg that this one was begun for.
    pub errand: Option<Errand>,
    /// When the leg must end whose place it takes: it is the same call.
    pub must_end_at: Option<u64>,
    /// More fields of its INVITE, should it be sent once more.
    pub fields: Vec<(String, String)>,
    /// Digits that wait for the INFO before them to be answered.
    pub info_digits: VecDeque<char>,
    pub info_waits: bool,
    pub emergency: bool,
    /// When this side let go of it, where the far end was asked to stay; what it says of the call, 1 to 5.
    pub parted: Option<Now>,
    pub vote: Option<u8>,
    /// The flow that our INVITE left by, and whether another one has been tried before.
    pub by: Option<AccountId>,
    pub rerouted: bool,
    /// The reason this side ends the call for, once it has decided to.
    pub verdict: Option<(CallResult, Cause)>,
    /// Whether `call.ringing` and `call.early` have been told.
    pub told_ringing: bool,
    pub told_early: bool,
    pub told_media: bool,
    /// The configuration key that answers it without anybody, once it does.
    pub answered_by: Option<&'static str>,
}

impl Call {
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. })
    }

    /// Whether it is still somebody's business on this side.
    pub fn is_going_on(&self) -> bool {
        !matches!(self.phase, Phase::Rating { .. } | Phase::Ending { .. })
    }

    pub fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active { .. })
    }

    /// Whether it waits here for an answer.
    pub fn is_ringing_here(&self) -> bool {
        self.is_heard_ringing() || self.waits_for().is_some()
    }

    /// Whether the handset rings for it.
    pub fn is_heard_ringing(&self) -> bool {
        matches!(self.phase, Phase::Ringing { .. })
    }

    /// What the handset waits for, if it does.
    pub fn waits_for(&self) -> Option<Awaited> {
        match self.phase {
            Phase::Waiting { what, .. } => Some(what),
            _ => None,
        }
    }

    /// The handset stays silent until something is known, or until a time.
    pub fn wait_for(&mut self, what: Awaited, until: u64) {
        if let Phase::Waiting { automatic, .. } | Phase::Ringing { automatic } = self.phase {
            self.phase = Phase::Waiting { what, until, automatic };
        }
    }

    /// Whether the far end is heard by somebody: in an early call, and in an active one that is not held and
    /// whose far end has not sent us on.
    fn is_open(&self) -> bool {
        match self.phase {
            Phase::Active { .. } => !self.held && !self.sent_on,
            Phase::Dialing | Phase::Proceeding { .. } => true,
            Phase::Waiting { .. } | Phase::Ringing { .. } | Phase::Rating { .. } | Phase::Ending { .. } => {
                false
            }
        }
    }

    /// Whether the person at the device hears this call.
    pub fn is_heard(&self) -> bool {
        self.bridge.is_none() && self.is_open()
    }

    /// Whether the person at the device talks in it.
    pub fn is_talked_in(&self) -> bool {
        self.is_active() && self.is_heard()
    }

    /// The room that the leg belongs in now.
    pub fn room(&self) -> Room {
        match self.bridge {
            _ if !self.is_open() => Room::Apart,
            Some(bridge) => Room::Bridge(bridge),
            None => Room::Terminal,
        }
    }

    pub fn answered(&self) -> Option<Now> {
        match &self.phase {
            Phase::Active { since, .. } | Phase::Rating { since, .. } => Some(*since),
            Phase::Ending { answered, .. } => *answered,
            _ => None,
        }
    }

    pub fn poll_timeout(&self) -> Option<u64> {
        let path = earliest(self.path.restart.map(Restart::due), self.path.rtcp.due());
        earliest(self.phase_timeout(), path)
    }

    /// When a limit ends it, once it is answered.
    pub fn end_at(&self) -> Option<u64> {
        match self.phase {
            Phase::Active { end_at, .. } => end_at,
            _ => None,
        }
    }

    /// When the phase of the call has something to do.
    pub fn phase_timeout(&self) -> Option<u64> {
        match &self.phase {
            Phase::Dialing => Some(self.answer_by),
            Phase::Proceeding { tone_at } => earliest(*tone_at, Some(self.answer_by)),
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Ringing { automatic } => {
                earliest(automatic.as_ref().map(Automatic::due), Some(self.answer_by))
            }
            Phase::Active { end_at, .. } => *end_at,
            Phase::Rating { until, .. } => Some(*until),
            Phase::Ending { give_up_at, .. } => Some(*give_up_at),
        }
    }

    /// Keeps account of the time on hold, whoever holds.
    pub fn note_hold(&mut self, now: Now) {
        let on_hold = self.held || self.held_by_peer;
        match (on_hold, self.held_since) {
            (true, None) => self.held_since = Some(now),
            (false, Some(since)) => {
                self.hold_us += now.mono_us.saturating_sub(since.mono_us);
                self.held_since = None;
            }
            _ => {}
        }
    }

    /// What the journal knows of the call from its beginning.
    pub fn entry(&self) -> Entry {
        let answered_utc_us = self.answered().map(|since| since.utc_us);
        let transferred_to = self.given_to.clone();
        let begun = Entry::begun(&self.id, self.facts.clone(), self.began.utc_us);
        Entry { answered_utc_us, transferred_to, ..begun }
    }

    pub fn quality(&self) -> Option<Quality> {
        let path = &self.path;
        path.report.as_ref().map(|report| {
            let figures = quality(report);
            // Without a path there are no keys, and without either no reports.
            let fault = path.rtcp.fault().map(str::to_owned).or_else(|| figures.rtcp_fault.clone());
            Quality { way: path.way(), rtcp_fault: fault, ..figures }
        })
    }

    /// What its audio tells of the way, once it is over.
    pub fn talk(&self, ended: Now, talk_us: u64) -> Talk {
        let report = self.path.report.clone().unwrap_or_default();
        let plan = self.path.plan.as_ref();
        let ours = self.negotiation.capability();
        Talk {
            call: self.id.clone(),
            line: self.facts.line.clone(),
            ended: rfc3339(ended.utc_us),
            talk_us,
            advertised: Some(SocketAddr::new(ours.address, ours.port)),
            expected: plan.and_then(|plan| plan.remote).map(|remote| remote.rtp),
            source: self.path.source,
            ice: plan.is_some_and(|plan| plan.ice.is_some()),
            packets_sent: report.packets_sent,
            packets_received: report.packets_received,
            packets_refused: report.packets_refused,
            unauthentic: self.path.unauthentic,
            remote_loss_percent: report.remote_loss_percent.map(f64::from),
        }
    }

    pub fn view(&self, now: Now) -> CallView {
        let far_end = self.facts.remote();
        let codec = self.path.plan.as_ref().and_then(|plan| plan.send);
        CallView {
            id: self.id.clone(),
            leg: self.facts.leg_id.clone(),
            callback: self.facts.callback_id.clone(),
            line: self.facts.line.clone(),
            direction: self.facts.direction.as_str(),
            number: far_end.number.as_ref().map(|number| number.dialled.clone()).unwrap_or_default(),
            name: far_end.name.clone(),
            did: self.facts.did.as_ref().map(|number| number.dialled.clone()),
            diverted_by: self
                .facts
                .diverted
                .as_ref()
                .and_then(|it| it.by.number.as_ref())
                .map(|it| it.dialled.clone()),
            state: self.state(),
            muted: self.muted,
            held_by_peer: self.held_by_peer,
            silent: self.path.silent,
            recording: match &self.recording {
                None => "off",
                Some(recording) if recording.paused => "paused",
                Some(_) => "on",
            },
            transfer: self.transfer.as_ref().map(Asked::number),
            codec: codec.map(|format| format!("{}/{}", format.codec.name, format.codec.clock_rate)),
            srtp: self.path.profile().is_some(),
            way: self.path.way(),
            started: rfc3339(self.began.utc_us),
            duration_us: self.answered().map(|since| now.mono_us.saturating_sub(since.mono_us)),
            quality: self.quality(),
        }
    }

    fn state(&self) -> &'static str {
        match &self.phase {
            Phase::Dialing => "dialing",
            Phase::Proceeding { .. } if self.path.plan.is_some() => "early",
            Phase::Proceeding { .. } | Phase::Waiting { .. } | Phase::Ringing { .. } => "ringing",
            Phase::Active { .. } if self.held => "held",
            Phase::Active { .. } => "active",
            Phase::Rating { .. } => "rating",
            Phase::Ending { .. } => "ending",
        }
    }
}

impl Path {
    pub fn new(leg: LegId, port: PortId, number: u16) -> Path {
        Path {
            leg,
            port,
            number,
            plan: None,
            room: Room::Apart,
            heard: None,
            source: None,
            unauthentic: false,
            shaken: None,
            digits: DigitsBy::Media,
            silent: false,
            report: None,
            found: None,
            moved: false,
            late: false,
            route: None,
            told: None,
            consents_lost: 0,
            hairpin: false,
            broken: false,
            restart: None,
            rtcp: RtcpPath::default(),
        }
    }

    /// Whether our description named an address at a TURN server, as it was agreed on.
    pub fn is_relayed(&self, agreed: &Negotiated) -> bool {
        let mut candidates = self.found.iter().flat_map(|found| &found.candidates);
        let relayed = |candidate: &Candidate| candidate.kind == Kind::Relayed;
        agreed.ice.is_none() && candidates.any(|it| relayed(it) && it.address == agreed.local_rtp)
    }

    /// How media are encrypted, once they are.
    pub fn profile(&self) -> Option<Profile> {
        let plan = self.plan.as_ref()?;
        let told = plan.srtp.as_ref().map(|srtp| srtp.send.profile());
        if plan.dtls.is_some() { self.shaken } else { told }
    }

    /// The way that the audio takes, once it has one.
    pub fn way(&self) -> Option<Way> {
        let plan = self.plan.as_ref()?;
        let own = |at: SocketAddr| {
            let known = self.found.iter().flat_map(|found| &found.candidates);
            known.filter(|candidate| candidate.address == at).map(|candidate| candidate.kind).next()
        };
        let (local, remote) = match &plan.ice {
            Some(ice) => {
                let (route, seen_as) = self.route?;
                let known = ice.peer.candidates.iter().find(|candidate| candidate.address == route.to);
                let remote = known.map_or(Kind::PeerReflexive, |candidate| candidate.kind);
                let direct = seen_as.map_or(Kind::Host, |at| own(at).unwrap_or(Kind::PeerReflexive));
                (if route.way == ice::Way::Relayed { Kind::Relayed } else { direct }, Some(remote))
            }
            None if plan.relayed => (Kind::Relayed, None),
            None => (self.told.and_then(own).unwrap_or(Kind::Host), None),
        };
        let carriage = self.found.as_ref().and_then(|found| found.relay).filter(|_| local == Kind::Relayed);
        Some(Way {
            local: local.word().to_owned(),
            remote: remote.map(|kind| kind.word().to_owned()),
            transport: carriage.unwrap_or("udp").to_owned(),
        })
    }

    /// What of other people, and what was broken, was dropped.
    pub fn refused(&self) -> Dropped {
        let report = self.report.as_ref();
        let path = report.map(|report| report.path).unwrap_or_default();
        Dropped {
            rtp: report.map_or(0, |report| report.packets_refused) + path.unchecked,
            stun: path.forged,
            candidates: path.candidates,
            consents: self.consents_lost,
        }
    }
}

/// The figures of the engine in the words of the events.
pub(super) fn quality(report: &Report) -> Quality {
    let us = |ms: f32| (f64::from(ms.max(0.0)) * 1000.0) as u64;
    let heard_ms = report.duration_ms.max(1) as f64;
    Quality {
        codec: report
            .codec_received
            .or(report.codec_sent)
            .map(|codec| codec.name.to_owned())
            .unwrap_or_default(),
        mos: (report.packets_received > 0).then_some(f64::from(report.mos)),
        mos_scale: (report.packets_received > 0).then(|| report.mos_scale.to_owned()),
        packets_sent: report.packets_sent,
        packets_received: report.packets_received,
        packets_lost: report.packets_lost,
        packets_late: report.packets_late,
        packets_refused: report.packets_refused + report.path.unchecked,
        stun_refused: report.path.forged,
        way: None,
        concealed_percent: (report.concealed_ms as f64 * 100.0 / heard_ms).min(100.0),
        jitter_us: us(report.jitter_ms),
        buffer_us: us(report.buffer_ms),
        rtcp_received: report.rtcp_received,
        rtcp_fault: report.rtcp_fault.clone(),
        round_trip_us: report.rtt_ms.map(us),
        remote_loss_percent: report.remote_loss_percent.map(f64::from),
        srtp: report.srtp.then(|| "SRTP".to_owned()),
    }
}

impl Call {
    pub fn new(
        now: Now,
        id: String,
        facts: Leg,
        sip: CallId,
        phase: Phase,
        path: Path,
        negotiation: Negotiation,
    ) -> Call {
        Call {
            facts: Leg { leg_id: format!("{id}-1"), ..facts },
            id,
            sip,
            origin: Origin::Network,
            progressed: false,
            answer_by: now.deadline(LONGEST_RINGING),
            began: now,
            phase,
            path,
            negotiation,
            offer: None,
            forks: BTreeMap::new(),
            change: None,
            change_waits: false,
            held: false,
            held_by_peer: false,
            held_since: None,
            hold_us: 0,
            muted: false,
            recording: None,
            recorded: None,
            recorded_by_wish: None,
            transfer: None,
            shown_as: None,
            given_to: None,
            sent_on: false,
            errand: None,
            must_end_at: None,
            fields: Vec::new(),
            bridge: None,
            info_digits: VecDeque::new(),
            info_waits: false,
            emergency: false,
            parted: None,
            vote: None,
            by: None,
            rerouted: false,
            verdict: None,
            told_ringing: false,
            told_early: false,
            told_media: false,
            answered_by: None,
        }
    }
}
