//! Why the audio of a call went one way, or nowhere.

use super::findings::{Blame, Finding, Severity};
use super::{Facts, Talk};
use crate::nat::candidate::is_inside;

/// A call that was talked for less than this, in microseconds, tells nothing.
const TOO_SHORT_US: u64 = 2_000_000;
/// Who loses so much of ours, in percent, hears nothing.
const DEAF_PERCENT: f64 = 95.0;

/// The reason why somebody did not hear the other, if somebody did not.
pub(super) fn finding(facts: &Facts, talk: &Talk) -> Option<Finding> {
    if talk.talk_us < TOO_SHORT_US {
        return None;
    }
    let warn = |code, blame, what: String, cure: &str| {
        Some(Finding::new(Severity::Warning, code, blame, what, cure).about(&talk.call))
    };
    let inside = |address: Option<std::net::SocketAddr>| address.filter(|address| is_inside(address.ip()));
    // An address inside is reached from here only if this device is of the same network.
    let own = facts.network.own;
    let near = |address: std::net::SocketAddr| match (own, address.ip()) {
        (Some(std::net::IpAddr::V4(own)), std::net::IpAddr::V4(address)) => {
            own.octets()[..2] == address.octets()[..2]
        }
        _ => false,
    };
    let far_private = inside(talk.expected).filter(|expected| !near(*expected) && !talk.ice);
    let silent = talk.packets_received == 0;
    if silent && talk.packets_refused > 0 {
        if talk.unauthentic {
            let what = "nothing was heard: the audio that came failed SRTP's check".to_owned();
            let cure = "both sides have different keys: restart the call; if it stays so, ask the PBX's administrator";
            return warn("audio_unauthentic", Blame::Pbx, what, cure);
        }
        let expected = talk.expected.map_or_else(|| "nowhere".to_owned(), |at| at.to_string());
        let what = format!(
            "nothing was heard: {} packets came from elsewhere than SDP said ({expected}) and were refused",
            talk.packets_refused
        );
        let cure = "let the PBX send its audio from where its SDP says (external media address), or name its networks in \
                    [sip] trusted";
        return warn("audio_refused", Blame::Pbx, what, cure);
    }
    if let Some(expected) = far_private
        && (silent || is_deaf(talk))
    {
        let what = format!(
            "audio was one way or none: SDP of the other side names {expected}, which is not reached from here"
        );
        let cure = "let the PBX name its public address (external media address), or carry the audio itself \
                    (direct media off)";
        return warn("audio_far_private", Blame::Pbx, what, cure);
    }
    let outside = facts.network.nat.as_ref().and_then(|nat| nat.translated).unwrap_or(true);
    let own_private = inside(talk.advertised)
        .filter(|_| outside && !talk.ice && talk.expected.is_some_and(|expected| !is_inside(expected.ip())));
    if let Some(advertised) = own_private.filter(|_| silent) {
        let what = format!(
            "nothing was heard: our SDP named the private address {advertised}, which the PBX can't reach"
        );
        let cure = "write stun = [\"HOST\"] into [line.nat], or have the PBX answer audio where it comes from \
                    (symmetric RTP; Asterisk: rtp_symmetric = yes)";
        return warn("audio_own_private", Blame::Configuration, what, cure);
    }
    if silent {
        let from = talk.expected.map_or_else(|| "the other side".to_owned(), |at| at.to_string());
        let what = format!("nothing was heard: no packet came from {from}, {} were sent", talk.packets_sent);
        let cure = "open UDP for RTP in the firewalls on the way, and check the other side's microphone";
        return warn("audio_nothing_came", Blame::Network, what, cure);
    }
    if is_deaf(talk) {
        let what = format!(
            "nothing was heard at the other side: it reports that {} packets of ours are lost",
            talk.packets_sent
        );
        let cure = "open UDP for RTP outwards in the firewalls on the way";
        return warn("audio_not_heard", Blame::Network, what, cure);
    }
    None
}

fn is_deaf(talk: &Talk) -> bool {
    talk.packets_sent > 0 && talk.remote_loss_percent.is_some_and(|lost| lost >= DEAF_PERCENT)
}
