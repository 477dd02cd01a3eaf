//! A real Kamailio: registrar and proxy, users in memory, password `pw` + number.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::netns::{Host, Lab};
use crate::pki::Pki;
use crate::process::{Process, within};

/// A running registrar at 203.0.113.<last>, over UDP and TCP on 5060 and TLS on 5061.
pub struct Kamailio {
    pub host: Host,
    folder: PathBuf,
    process: Process,
}

impl Kamailio {
    /// Starts one and waits until it answers on its socket.
    pub fn start(lab: &Lab, role: &str, last: u8) -> Kamailio {
        Self::start_on(lab, lab.host(role, last), role, "", "")
    }

    /// The same, and over WebSocket at wss://203.0.113.<last>:8443/ws.
    pub fn start_with_websocket(lab: &Lab, role: &str, last: u8) -> Kamailio {
        let host = lab.host(role, last);
        let more = format!("listen=tls:{}:8443\n", host.address);
        Self::start_on(lab, host, role, &more, include_str!("kamailio/websocket.cfg"))
    }

    /// The same, and over IPv6 at 2001:db8::<last>.
    pub fn start_with_ipv6(lab: &Lab, role: &str, last: u8) -> Kamailio {
        let more: String = [("udp", 5060), ("tcp", 5060), ("tls", 5061)]
            .map(|(transport, port)| format!("listen={transport}:[2001:db8::{last}]:{port}\n"))
            .concat();
        Self::start_on(lab, lab.host_of_both(role, last), role, &more, "")
    }

    /// A registrar that tells the flows of a line apart (RFC 5626 §6), for phones behind edge proxies.
    pub fn start_with_outbound(lab: &Lab, role: &str, last: u8) -> Kamailio {
        Self::start_on(lab, lab.host(role, last), role, "#!define OUTBOUND", "")
    }

    /// A registrar whose calls have their media by the [`Rtpengine`](crate::rtpengine::Rtpengine) of the same host.
    pub fn start_with_media(lab: &Lab, host: Host, role: &str) -> Kamailio {
        Self::start_on(lab, host, role, "#!define RTPENGINE", "")
    }

    /// An edge proxy over UDP and TCP: by it requests go to wherever their URI says.
    pub fn start_edge(lab: &Lab, role: &str, last: u8) -> Kamailio {
        Self::start_as(lab, lab.host(role, last), role, include_str!("kamailio/edge.cfg"), ["", ""])
    }

    fn start_on(lab: &Lab, host: Host, role: &str, more: &str, modules: &str) -> Kamailio {
        Self::start_as(lab, host, role, include_str!("kamailio/kamailio.cfg"), [more, modules])
    }

    fn start_as(lab: &Lab, host: Host, role: &str, config: &str, [more, modules]: [&str; 2]) -> Kamailio {
        let folder = lab.folder().join(role);
        fs::create_dir_all(&folder).expect("a folder");
        let pki = Pki::of(lab);
        fs::write(folder.join("server.crt"), &pki.certificate).expect("a certificate");
        fs::write(folder.join("server.key"), &pki.key).expect("a key");
        let fill = |text: &str| {
            let text = text.replace("@FOLDER@", folder.to_str().expect("a path"));
            text.replace("@ADDRESS@", &host.address).replace("@MORE@", more).replace("@MODULES@", modules)
        };
        fs::write(folder.join("kamailio.cfg"), fill(config)).expect("a file");
        fs::write(folder.join("tls.cfg"), fill(include_str!("kamailio/tls.cfg"))).expect("a file");
        let process = Self::spawn(&host, &folder);
        Kamailio { host, folder, process }
    }

    fn spawn(host: &Host, folder: &std::path::Path) -> Process {
        let config = folder.join("kamailio.cfg");
        let run = folder.to_str().expect("a path");
        let arguments = [
            "-DD",
            "-E",
            "-m",
            "32",
            "-M",
            "8",
            "-f",
            config.to_str().expect("a path"),
            "-Y",
            run,
            "-w",
            run,
        ];
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let mut process = host.start(&name, "kamailio", &arguments);
        let address = format!("{}:5060", host.address);
        within("Kamailio listens", Duration::from_secs(15), || {
            assert!(process.running(), "Kamailio ended:\n{}", process.tail());
            host.run("ss", &["-lnu"]).contains(&address).then_some(())
        });
        process
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        // The main process leads a group of workers: they all go with its namespace's processes.
        for pid in crate::process::run("ip", &["netns", "pids", self.host.space()]).split_whitespace() {
            if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        self.process.kill();
    }

    /// Starts it again, with no registrations.
    pub fn again(&mut self) {
        self.process = Self::spawn(&self.host, &self.folder);
    }

    /// Waits for a line of its log.
    #[track_caller]
    pub fn logged(&self, text: &str, limit: Duration) {
        within(&format!("{} logs {text:?}", self.host.address), limit, || {
            self.process.output().contains(text).then_some(())
        });
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        self.process.output()
    }
}
