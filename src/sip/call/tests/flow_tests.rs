//! Two phones with real offers and answers between them, and flows of the field.

use super::super::{CallEvent, CallSettings, Description, Ending, InviteOptions};
use super::{Peer, World};
use crate::chance::Chance;
use crate::sip::message::{Message, Request};
use crate::sip::method::Method;
use crate::sip::sdp::{Capability, Codec, Direction, Negotiated, Negotiation, Session};

/// The media side of a phone: answers offers as the room above does.
pub(super) struct Phone {
    pub(super) world: World,
    pub(super) negotiation: Negotiation,
    pub(super) chance: Chance,
    pub(super) agreed: Option<Negotiated>,
    pub(super) ended: Option<Ending>,
    changes: usize,
}

fn negotiation(port: u16) -> Negotiation {
    let codecs = vec![Codec::new("G722", 8000, 9), Codec::new("PCMA", 8000, 8), Codec::new("PCMU", 8000, 0)];
    Negotiation::new(Capability::new("192.0.2.10".parse().unwrap(), port, codecs), 77)
}

impl Phone {
    pub(super) fn new(settings: CallSettings) -> Phone {
        Phone {
            world: World::new(settings),
            negotiation: negotiation(10000),
            chance: Chance::from_number(5),
            agreed: None,
            ended: None,
            changes: 0,
        }
    }

    fn agree(&mut self, negotiated: Negotiated) {
        if self.agreed.as_ref() != Some(&negotiated) {
            self.changes += 1;
        }
        self.agreed = Some(negotiated);
    }

    /// Does what the room above does with every event that waits.
    pub(super) fn attend(&mut self) {
        while let Some(event) = self.world.events.pop_front() {
            match event {
                CallEvent::Incoming(incoming) => {
                    let description = match incoming.offer {
                        Some(offer) => {
                            let (answer, negotiated) =
                                self.negotiation.answer(&offer, &mut self.chance).unwrap();
                            self.agree(negotiated);
                            answer
                        }
                        None => self.negotiation.offer(&mut self.chance),
                    };
                    self.world.does(|ua, now, call| ua.answer(now, call, description)).unwrap();
                }
                CallEvent::Offer { sdp, .. } => {
                    let reply = match sdp {
                        Some(offer) => match self.negotiation.answer(&offer, &mut self.chance) {
                            Ok((answer, negotiated)) => {
                                self.agree(negotiated);
                                Ok(answer)
                            }
                            Err(refusal) => Err(refusal.status()),
                        },
                        None => Ok(self.negotiation.offer(&mut self.chance)),
                    };
                    self.world.does(|ua, now, call| ua.reply_offer(now, call, reply)).unwrap();
                }
                CallEvent::Answered { sdp: Some(Description::Answer(sdp)), .. }
                | CallEvent::Answer { sdp, .. } => match self.negotiation.accept(&sdp) {
                    Ok(negotiated) => self.agree(negotiated),
                    Err(_) => self.world.hangs_up(),
                },
                CallEvent::OfferWanted => self.offer(),
                CallEvent::OfferFailed { .. } => self.negotiation.withdraw(),
                CallEvent::Ended(ended) => self.ended = Some(ended.ending),
                _ => {}
            }
        }
    }

    pub(super) fn offer(&mut self) {
        let offer = self.negotiation.offer(&mut self.chance);
        self.world.offers(offer);
    }

    fn hears(&mut self, message: impl Into<Message>) {
        self.world.hears(message);
        self.attend();
    }

    pub(super) fn agreed(&self) -> &Negotiated {
        self.agreed.as_ref().unwrap()
    }
}

fn media(lines: &[&str]) -> Vec<u8> {
    let mut text =
        "v=0\r\no=- 9 9 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n".to_owned();
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.into_bytes()
}

fn version(description: &[u8]) -> u64 {
    Session::read(description).unwrap().origin.version
}

/// A call of theirs in PCMU that the phone took.
fn taken() -> (Phone, Peer, Request) {
    let mut phone = Phone::new(CallSettings::default());
    let mut peer = Peer::calling();
    let invite = peer.invite(Some(media(&["m=audio 2000 RTP/AVP 0 8"])));
    phone.hears(invite.clone());
    let ok = phone.world.replies(200);
    peer.takes(&ok);
    phone.hears(peer.ack(invite.head.cseq.number, None));
    (phone, peer, invite)
}

/// The peer changes the session by re-INVITE; our answer or refusal.
fn reinvited(phone: &mut Phone, peer: &mut Peer, description: Option<Vec<u8>>, status: u16) -> Vec<u8> {
    let invite = peer.invite(description);
    phone.hears(invite.clone());
    let response = phone.world.replies(status);
    if status >= 300 {
        phone.hears(peer.ack_refusal(&invite));
    }
    response.body
}

fn acknowledges(phone: &mut Phone, peer: &mut Peer, description: Option<Vec<u8>>) {
    let number = peer.cseq;
    phone.hears(peer.ack(number, description));
}

#[test]
fn flow_2_direct_media_and_back() {
    let (mut phone, mut peer, _) = taken();
    let pbx = phone.agreed().remote_rtp;
    let direct =
        b"v=0\r\no=- 9 10 IN IP4 192.0.2.77\r\nc=IN IP4 192.0.2.77\r\nm=audio 3000 RTP/AVP 0\r\n".to_vec();
    reinvited(&mut phone, &mut peer, Some(direct), 200);
    acknowledges(&mut phone, &mut peer, None);
    assert_eq!(phone.agreed().remote_rtp.unwrap().to_string(), "192.0.2.77:3000");
    // Our hold crosses the way back: both are refused, theirs comes first, then ours goes through.
    phone.negotiation.capability_mut().direction = Direction::SendOnly;
    phone.offer();
    let ours = phone.world.says(Method::INVITE);
    reinvited(&mut phone, &mut peer, Some(media(&["m=audio 2000 RTP/AVP 0"])), 491);
    phone.hears(peer.response(&ours, 491));
    phone.world.says(Method::ACK);
    phone.negotiation.withdraw();
    let answer = reinvited(&mut phone, &mut peer, Some(media(&["m=audio 2000 RTP/AVP 0"])), 200);
    acknowledges(&mut phone, &mut peer, None);
    assert!(String::from_utf8(answer.clone()).unwrap().contains("a=sendonly"));
    assert_eq!(phone.agreed().remote_rtp, pbx);
    phone.world.seconds(3);
    phone.attend();
    let ours = phone.world.says(Method::INVITE);
    assert!(version(&ours.body) > version(&answer));
    phone.hears(peer.success(&ours, Some(media(&["m=audio 2000 RTP/AVP 0", "a=recvonly"]))));
    assert_eq!((phone.agreed().direction, phone.agreed().hold.by_us), (Direction::SendOnly, true));
}

#[test]
fn flow_3_reinvite_without_description_while_on_hold() {
    let (mut phone, mut peer, _) = taken();
    let held = reinvited(&mut phone, &mut peer, Some(media(&["m=audio 2000 RTP/AVP 0", "a=sendonly"])), 200);
    acknowledges(&mut phone, &mut peer, None);
    assert!(String::from_utf8(held.clone()).unwrap().contains("a=recvonly"));
    assert!(phone.agreed().hold.by_peer);
    let offer = reinvited(&mut phone, &mut peer, None, 200);
    assert_eq!(version(&offer), version(&held) + 1);
    let offer = Session::read(&offer).unwrap();
    assert_eq!(offer.media[0].direction(&offer), Direction::SendRecv);
    assert_eq!(offer.media[0].rtpmaps().len(), 4);
    acknowledges(&mut phone, &mut peer, Some(media(&["m=audio 4000 RTP/AVP 8", "a=ptime:30"])));
    let agreed = phone.agreed();
    assert_eq!(
        (agreed.codecs[0].codec.name.as_str(), agreed.ptime_ms, agreed.hold.by_peer),
        ("PCMA", 30, false)
    );
    assert_eq!(agreed.remote_rtp.unwrap().port(), 4000);
    // A description in the ACK that can't be used: BYE.
    reinvited(&mut phone, &mut peer, None, 200);
    acknowledges(&mut phone, &mut peer, Some(b"rubbish".to_vec()));
    phone.world.says(Method::BYE);
    assert_eq!(phone.ended, Some(Ending::HungUp));
}

#[test]
fn flow_3_reinvite_with_one_other_codec() {
    let (mut phone, mut peer, _) = taken();
    assert_eq!(phone.agreed().codecs[0].codec.name, "PCMU");
    reinvited(&mut phone, &mut peer, Some(media(&["m=audio 2000 RTP/AVP 8"])), 200);
    assert_eq!(phone.agreed().codecs[0].codec.name, "PCMA");
}

#[test]
fn flow_4_an_identical_reinvite_changes_no_media() {
    let (mut phone, mut peer, invite) = taken();
    let changes = phone.changes;
    phone.world.seconds(900);
    let answer = reinvited(&mut phone, &mut peer, Some(invite.body), 200);
    acknowledges(&mut phone, &mut peer, None);
    assert_eq!((phone.changes, version(&answer)), (changes, 1));
    // The same after an offer of ours, when the answer has to be made anew.
    phone.offer();
    let ours = phone.world.says(Method::INVITE);
    phone.hears(peer.success(&ours, Some(media(&["m=audio 2000 RTP/AVP 0 8"]))));
    phone.world.says(Method::ACK);
    let before = phone.agreed().clone();
    reinvited(&mut phone, &mut peer, Some(media(&["m=audio 2000 RTP/AVP 0 8"])), 200);
    let after = phone.agreed();
    assert_eq!(
        (after.codecs[0].send_payload_type, after.remote_rtp),
        (before.codecs[0].send_payload_type, before.remote_rtp)
    );
}

#[test]
fn flow_5_forks_with_their_own_early_media() {
    let mut phone = Phone::new(CallSettings::default());
    let offer = phone.negotiation.offer(&mut phone.chance);
    let (invite, peer) = phone.world.calls(InviteOptions { offer: Some(offer), ..InviteOptions::default() });
    let (left, right) = (peer.fork("left"), peer.fork("right"));
    let descriptions = [media(&["m=audio 2000 RTP/AVP 8"]), media(&["m=audio 3000 RTP/AVP 0"])];
    phone.world.hears(left.with_description(left.response(&invite, 183), Some(descriptions[0].clone())));
    phone.world.hears(right.with_description(right.response(&invite, 183), Some(descriptions[1].clone())));
    let mut forks = Vec::new();
    for event in phone.world.events.drain(..) {
        if let CallEvent::Progress { dialog, sdp: Some(Description::Answer(sdp)), .. } = event {
            let mut fork = phone.negotiation.clone();
            forks.push((dialog, fork.accept(&sdp).unwrap().codecs[0].codec.name.clone()));
        }
    }
    let told: Vec<_> = forks.iter().map(|(dialog, codec)| (dialog.0.as_str(), codec.as_str())).collect();
    assert_eq!(told, [("left", "PCMA"), ("right", "PCMU")]);
    phone.hears(right.success(&invite, Some(descriptions[1].clone())));
    phone.hears(left.success(&invite, Some(descriptions[0].clone())));
    assert_eq!(phone.agreed().codecs[0].codec.name, "PCMU");
    phone.world.says(Method::ACK);
    phone.world.says(Method::ACK);
    assert_eq!(phone.world.says(Method::BYE).head.to_tag(), Some("left"));
    assert_eq!(phone.ended, None);
}

#[test]
fn flow_11_fax_video_and_keys() {
    let (mut phone, mut peer, _) = taken();
    let before = phone.agreed().clone();
    reinvited(&mut phone, &mut peer, Some(media(&["m=image 4000 udptl t38"])), 488);
    assert_eq!((phone.agreed(), &phone.ended), (&before, &None));
    let both = reinvited(
        &mut phone,
        &mut peer,
        Some(media(&["m=audio 2000 RTP/AVP 0", "m=video 2002 RTP/AVP 34"])),
        200,
    );
    let both = Session::read(&both).unwrap();
    assert_eq!((both.media[0].port, both.media[1].port), (10000, 0));
    acknowledges(&mut phone, &mut peer, None);
    reinvited(
        &mut phone,
        &mut peer,
        Some(media(&["m=audio 2000 RTP/SAVP 0", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x"])),
        488,
    );
    assert_eq!(phone.ended, None);
}

#[test]
fn two_phones_hold_and_resume_each_other() {
    let (mut phone, mut peer, _) = taken();
    for (ours, theirs, direction) in [
        (Direction::SendOnly, "a=recvonly", Direction::SendOnly),
        (Direction::SendOnly, "a=inactive", Direction::Inactive),
        (Direction::SendRecv, "a=sendonly", Direction::RecvOnly),
        (Direction::SendRecv, "a=sendrecv", Direction::SendRecv),
    ] {
        phone.negotiation.capability_mut().direction = ours;
        phone.offer();
        let invite = phone.world.says(Method::INVITE);
        assert!(String::from_utf8_lossy(&invite.body).contains(&format!("a={}\r\n", ours.name())));
        phone.hears(peer.success(&invite, Some(media(&["m=audio 2000 RTP/AVP 0", theirs]))));
        phone.world.says(Method::ACK);
        assert_eq!(phone.agreed().direction, direction);
    }
    reinvited(&mut phone, &mut peer, Some(media(&["m=audio 2000 RTP/AVP 0", "c=IN IP4 0.0.0.0"])), 200);
    acknowledges(&mut phone, &mut peer, None);
    assert_eq!((phone.agreed().hold.by_peer, phone.agreed().remote_rtp), (true, None));
}

#[test]
fn flow_6_the_end_of_a_cancelled_call_comes_late() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    world.hears(peer.response(&invite, 180));
    world.events.clear();
    world.hangs_up();
    let cancel = world.says(Method::CANCEL);
    world.hears(crate::sip::message::Response::to(&cancel, 200));
    assert_eq!(world.ended().ending, Ending::Cancelled);
    world.seconds(10);
    world.is_silent();
    world.hears(peer.response(&invite, 487));
    world.says(Method::ACK);
    world.seconds(40);
    world.no_event();
    world.is_silent();
    world.forgot_everything();
}
