//! A real ICE-lite agent: rtpengine, which a Kamailio on the same host puts between the two sides of a call.

use std::time::Duration;

use crate::netns::Host;
use crate::process::{Process, within};

/// A running relay, in user space.
pub struct Rtpengine(Process);

impl Rtpengine {
    /// Starts it and waits until it takes commands.
    pub fn start(host: &Host) -> Rtpengine {
        let interface = format!("--interface={}", host.address);
        let arguments = [
            "--config-file=none",
            "--foreground",
            "--log-stderr",
            "--log-level=6",
            "--log-level-ice=7",
            "--table=-1",
            "--listen-ng=127.0.0.1:2223",
            "--port-min=30000",
            "--port-max=30999",
            &interface,
        ];
        let mut process = host.start("rtpengine", "rtpengine", &arguments);
        within("rtpengine listens", Duration::from_secs(15), || {
            assert!(process.running(), "rtpengine ended:\n{}", process.tail());
            host.run("ss", &["-lnu"]).contains("127.0.0.1:2223").then_some(())
        });
        Rtpengine(process)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.0.output()
    }
}
