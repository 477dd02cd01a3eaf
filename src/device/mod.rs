//! Everything that touches the machine: sockets, clocks, randomness, name servers, TLS, sound, files, threads.
//!
//! It decides nothing: it moves bytes between the machine and the state machines, and `phone` decides. The threads are
//! a fixed number, and hand values to each other through bounded queues:
//!
//! * *control* ([`control`], on the thread that calls [`Appliance::run`]) owns the phone and the SIP sockets, and opens
//!   streams to TURN servers;
//! * *media* ([`media_thread`]) owns the RTP sockets, those streams once they stand, and the engine of all legs;
//! * *sound* ([`sound_thread`]) opens sound devices, closes them when nothing is heard, and writes recordings, all of which may block;
//! * *store* ([`store_thread`]) commits events to the database before anybody is told;
//! * *office* belongs to `admin` and is started by `main.rs`; upstreams are told on it ([`upstream`]).
//!
//! None of them is done without: if one fails, the process ends and is started anew ([`vital`]).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this room is where the machine is touched"
)]

mod announcement;
pub mod certificate;
pub mod clock;
pub mod control;
pub mod doctor;
pub mod inspect;
pub mod media_thread;
pub mod netlink;
pub mod notify;
mod relay_stream;
pub mod resolver;
pub mod rtp_port;
pub mod settings;
pub mod sip_network;
pub mod sound;
pub mod sound_thread;
pub mod store_thread;
pub mod tls;
pub mod upstream;
pub mod vital;
mod websocket;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use settings::Settings;
use tokio::sync::watch;

use crate::chance::Chance;
use crate::config::Config;
use crate::events::archive::Archive;
use crate::phone::Phone;
use crate::phone::desk::Desk;
pub use control::Progress;

/// Why the appliance could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A SIP port can't be had.
    #[error(
        "SIP can't be received at {address}: {error}; end the program that uses the port, or change [sip] bind and ports"
    )]
    Bind {
        /// Where.
        address: String,
        /// The system's words.
        error: io::Error,
    },
    /// The system refuses something basic.
    #[error("the system refuses {what}: {error}")]
    System {
        /// What.
        what: &'static str,
        /// Its words.
        error: io::Error,
    },
}

/// The appliance, set up and not yet running.
pub struct Appliance {
    /// Makes the control thread's part once the store has told what an earlier life left.
    control: Box<dyn FnOnce() -> Box<control::Control>>,
    runtime: tokio::runtime::Runtime,
    sound: std::thread::JoinHandle<()>,
    handles: Handles,
}

/// What others need to talk to a running appliance.
#[derive(Clone)]
pub struct Handles {
    /// Where the phone is asked.
    pub desk: Desk,
    /// Where events and the journal are read.
    pub archive: Archive,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// What HTTPS at `[admin] listen` needs, while it is wanted.
    pub tls: watch::Receiver<Option<Arc<ServerConfig>>>,
}

/// A generator with a seed of the operating system.
///
/// # Errors
/// The system has none to give.
pub fn chance() -> io::Result<Chance> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(Chance::from_seed(seed))
}

impl Appliance {
    /// Opens sockets and starts threads, while the store opens on its own. The first REGISTER leaves with
    /// [`Appliance::run`].
    pub fn start(file: PathBuf, settings: Settings) -> Result<Appliance, StartError> {
        let Settings { config, tls, .. } = settings;
        let system = |what| move |error| StartError::System { what, error };
        let (notices, inbox) = control::notices();
        let tell = notices.clone();
        let data = PathBuf::from(&config.device.data);
        let (store, archive, remembered) =
            store_thread::StoreThread::start(&data, config.journal.clone(), move |notice| {
                let _ = tell.blocking_send(control::Notice::Store(notice));
            })
            .map_err(system("a thread"))?;
        let mut chance = chance().map_err(system("randomness"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("an event loop"))?;
        let binding = control::binding(&config, config.sip.dscp);
        let (udp_port, tcp_port) = (config.sip.port_udp, config.sip.port_tcp);
        let tcp_port = Some(tcp_port).filter(|port| *port != 0);
        let address =
            format!("{}, UDP port {udp_port} and TCP port {}", binding.address, config.sip.port_tcp);
        let signals = runtime.block_on(async { control::Signals::listen() }).map_err(system("signals"))?;
        let (network, reports) = runtime
            .block_on(async { sip_network::SipNetwork::bind(binding, udp_port, tcp_port) })
            .map_err(|error| StartError::Bind { address, error })?;
        let netlink = runtime.block_on(async { netlink::Netlink::open() });
        let (told_config, new_config) = watch::channel(Arc::new(config.clone()));
        let (told_tls, tls) = watch::channel(tls);
        let (desk, wishes) = Desk::open();
        let (sound, sound_thread) = {
            let tell = notices.clone();
            sound_thread::SoundThread::start(move |notice| {
                let _ = tell.blocking_send(control::Notice::Sound(notice));
            })
            .map_err(system("a thread"))?
        };
        let tape = sound.clone();
        let media = media_thread::MediaThread::start(
            control::port_range(&config),
            crate::media::Settings {
                country: config.device.country.clone(),
                ..crate::media::Settings::default()
            },
            chance.fork(),
            move |notice| {
                // The media thread never waits: a control thread that is this far behind has lost its calls anyway.
                if notices.try_send(control::Notice::Media(notice)).is_err() {
                    tracing::error!("the control thread does not keep up; a notice was lost");
                }
            },
            move |taped| {
                if !tape.order(sound_thread::Order::Taped(taped)) {
                    tracing::warn!("the disk does not keep up with a recording; a piece is missing");
                }
            },
        )
        .map_err(system("a thread"))?;
        let handles = Handles { desk, archive, config: new_config, tls };
        // Looked at while the store still opens.
        let surroundings = netlink::Surroundings::look();
        let control = Box::new(move || {
            let remembered = remembered.recv().unwrap_or_default();
            let udp = network.udp_local();
            let phone = Phone::new(clock::now(), config.clone(), udp, tcp_port, remembered, chance);
            Box::new(control::Control {
                file,
                phone,
                network,
                reports,
                media,
                sound,
                store,
                notices: inbox,
                wishes,
                config,
                told_config,
                signals,
                told_tls,
                later: Vec::new(),
                patience: None,
                stopped: false,
                netlink: control::Control::telling(netlink),
                surroundings,
                look_at: None,
                sleep: netlink::Sleep::new(),
                clock_wrong: false,
                told: None,
                asker: None,
                examination: None,
            })
        });
        Ok(Appliance { control, runtime, sound: sound_thread, handles })
    }

    /// What others need to talk to it.
    pub fn handles(&self) -> Handles {
        self.handles.clone()
    }

    /// Runs until somebody asks it to end; then ends in order. `progress` is told when everything is up.
    pub fn run(self, progress: impl FnMut(Progress)) -> Ended {
        let Appliance { control, runtime, sound, handles } = self;
        drop(handles);
        // Boxed: it would be copied from frame to frame.
        let parts = runtime.block_on(Box::pin(async { control().run(progress).await }));
        parts.media.stop();
        parts.sound.stop();
        let _ = sound.join();
        Ended(parts.store)
    }
}

/// An appliance that has ended, but for its store: readers can still fetch the last events.
pub struct Ended(store_thread::StoreThread);

impl Ended {
    /// Closes the store.
    pub fn close(self) {
        self.0.stop();
    }
}
