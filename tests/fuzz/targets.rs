//! What is fuzzed: one file per room, one function per parser.

#[path = "targets/admin.rs"]
pub mod admin;
#[path = "targets/audio.rs"]
pub mod audio;
#[path = "targets/call.rs"]
pub mod call;
#[path = "targets/config.rs"]
pub mod config;
#[path = "targets/device.rs"]
pub mod device;
#[path = "targets/lookup.rs"]
pub mod lookup;
#[path = "targets/media.rs"]
pub mod media;
#[path = "targets/nat.rs"]
pub mod nat;
#[path = "targets/rtp.rs"]
pub mod rtp;
#[path = "targets/sdp.rs"]
pub mod sdp;
#[path = "targets/search.rs"]
pub mod search;
#[path = "targets/sip.rs"]
pub mod sip;
#[path = "targets/subscription.rs"]
pub mod subscription;
#[path = "targets/upstream.rs"]
pub mod upstream;

/// A parser and what it must keep to.
pub struct Target {
    /// Its name, also that of its folder of inputs.
    pub name: &'static str,
    /// Feeds it one input; panics if it breaks its word.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: &'static [&'static [u8]],
    /// Words of its language.
    pub dictionary: &'static [&'static [u8]],
}

/// The targets of every room.
pub fn rooms() -> impl Iterator<Item = &'static [Target]> {
    [
        admin::TARGETS,
        audio::TARGETS,
        call::TARGETS,
        config::TARGETS,
        device::TARGETS,
        lookup::TARGETS,
        media::TARGETS,
        nat::TARGETS,
        rtp::TARGETS,
        sdp::TARGETS,
        search::TARGETS,
        sip::TARGETS,
        subscription::TARGETS,
        upstream::TARGETS,
    ]
    .into_iter()
}
