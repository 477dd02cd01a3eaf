//! A real broker: Mosquitto, with passwords, rights and TLS, and what subscribes to it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::netns::{Host, Lab};
use crate::pki::Pki;
use crate::process::{Process, within};

/// The phone's password at the broker.
pub const PASSWORD: &str = "planted-broker-word";
/// Where it is.
pub const ADDRESS: &str = "203.0.113.12";

/// A running broker at 203.0.113.12: 1883, and 8883 with TLS. `phone` may do what the rights say, `crm` everything.
pub struct Mosquitto {
    pub host: Host,
    process: Process,
    file: PathBuf,
    starts: u32,
}

/// What somebody who subscribed has got.
pub struct Subscriber(Process);

impl Mosquitto {
    /// Starts it with these rights of the phone and waits until it listens.
    pub fn start(lab: &Lab, rights: &str) -> Mosquitto {
        let (host, folder, pki) = (lab.host("broker", 12), lab.folder().join("mosquitto"), Pki::of(lab));
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in [("ca.pem", &pki.ca), ("server.crt", &pki.certificate), ("server.key", &pki.key)]
        {
            fs::write(folder.join(name), text).expect("a certificate");
        }
        fs::write(folder.join("rights"), format!("user crm\ntopic readwrite #\nuser phone\n{rights}\n"))
            .expect("rights");
        let path = |name: &str| folder.join(name).display().to_string();
        host.run("mosquitto_passwd", &["-b", "-c", &path("passwords"), "phone", PASSWORD]);
        host.run("mosquitto_passwd", &["-b", &path("passwords"), "crm", "crm"]);
        let config = format!(
            "user root\nallow_anonymous false\npassword_file {passwords}\nacl_file {rights}\npersistence true\n\
             persistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n\
             listener 1883\nlistener 8883\ncafile {ca}\ncertfile {crt}\nkeyfile {key}\n",
            passwords = path("passwords"),
            rights = path("rights"),
            folder = folder.display(),
            ca = path("ca.pem"),
            crt = path("server.crt"),
            key = path("server.key"),
        );
        let file = folder.join("mosquitto.conf");
        fs::write(&file, config).expect("a configuration");
        let process = run(&host, &file, 0);
        Mosquitto { host, process, file, starts: 0 }
    }

    /// Kill -9, and after this pause it is there again with what it had saved.
    pub fn kill(&mut self, pause: Duration) {
        self.process.kill();
        std::thread::sleep(pause);
        self.starts += 1;
        self.process = run(&self.host, &self.file, self.starts);
    }

    /// Follows a topic as `mosquitto_sub` does, with QoS 1.
    pub fn follow(&self, name: &str, topic: &str) -> Subscriber {
        let arguments = [
            "-h", ADDRESS, "-V", "5", "-u", "crm", "-P", "crm", "-i", name, "-c", "-x", "600", "-q", "1",
            "-t", topic, "-F", "%r %t %p",
        ];
        Subscriber(self.host.start(name, "mosquitto_sub", &arguments))
    }

    /// Publishes with QoS 1.
    pub fn publish(&self, topic: &str, payload: &str) {
        self.host.run(
            "mosquitto_pub",
            &["-h", ADDRESS, "-V", "5", "-u", "crm", "-P", "crm", "-q", "1", "-t", topic, "-m", payload],
        );
    }
}

fn run(host: &Host, file: &std::path::Path, starts: u32) -> Process {
    let arguments = ["-c", file.to_str().expect("a path")];
    let mut process = host.start(&format!("mosquitto-{starts}"), "mosquitto", &arguments);
    within("mosquitto listens", Duration::from_secs(10), || {
        assert!(process.running(), "mosquitto ended:\n{}", process.tail());
        let sockets = host.run("ss", &["-Hltn"]);
        (sockets.contains(":1883 ") && sockets.contains(":8883 ")).then_some(())
    });
    process
}

impl Subscriber {
    /// What came: whether it was kept, the topic, and the JSON.
    pub fn got(&self) -> Vec<(bool, String, Value)> {
        let text = self.0.output();
        let lines = text.lines().filter_map(|line| {
            let (kept, rest) = line.split_once(' ')?;
            let (topic, json) = rest.split_once(' ')?;
            Some((kept == "1", topic.to_owned(), serde_json::from_str(json).ok()?))
        });
        lines.collect()
    }

    /// Waits for one that fits.
    #[track_caller]
    pub fn wait(&self, what: &str, fits: impl Fn(&str, &Value) -> bool) -> Value {
        within(what, Duration::from_secs(30), || {
            self.got().into_iter().find(|(_, topic, json)| fits(topic, json)).map(|(.., json)| json)
        })
    }
}
