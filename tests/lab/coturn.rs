//! A real STUN and TURN server: coturn, on two addresses so that phones can find out what their NAT does (RFC 5780).

use std::fs;
use std::time::Duration;

use crate::netns::{Host, Lab};
use crate::pki::Pki;
use crate::process::{Process, within};

/// A running server at 203.0.113.11 and .12: UDP and TCP on 3478, TLS on 5349 and 443, the other ports of RFC 5780 on 3479.
pub struct Coturn {
    pub host: Host,
    process: Process,
}

/// Who may have relayed addresses there, by long-term credentials in the realm `lab.test`.
pub const USER: &str = "lab";
pub const PASSWORD: &str = "labpass";

/// Keys of a line that uses it as TURN server only.
pub fn relay() -> String {
    format!("[line.nat]\n{}", account())
}

/// Keys of a line that uses it as STUN server, on both addresses, and as TURN server.
pub fn stun_and_relay() -> String {
    format!("[line.nat]\nstun = [\"203.0.113.11\", \"203.0.113.12\"]\n{}", account())
}

/// The same with ICE.
pub fn ice() -> String {
    stun_and_relay().replacen('\n', "\nice = true\n", 1)
}

fn account() -> String {
    let ways = r#"["turn:203.0.113.11", "turn:203.0.113.11?transport=tcp", "turns:203.0.113.11:443"]"#;
    format!("[[line.nat.turn]]\nurl = {ways}\nusername = {USER:?}\npassword = {PASSWORD:?}")
}

impl Coturn {
    /// Starts it and waits until it answers.
    pub fn start(lab: &Lab) -> Coturn {
        let host = lab.host("turn", 11);
        host.run("ip", &["addr", "add", "203.0.113.12/24", "dev", "eth0"]);
        let (folder, pki) = (lab.folder().join("coturn"), Pki::of(lab));
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in [("turn.crt", &pki.certificate), ("turn.key", &pki.key)] {
            fs::write(folder.join(name), text).expect("a certificate");
        }
        let config = format!(
            "listening-ip=203.0.113.11\nlistening-ip=203.0.113.12\nrelay-ip=203.0.113.11\n\
             listening-port=3478\nalt-listening-port=3479\ntls-listening-port=5349\n\
             min-port=50000\nmax-port=50999\nlt-cred-mech\nuser={USER}:{PASSWORD}\nrealm=lab.test\nfingerprint\n\
             cert={folder}/turn.crt\npkey={folder}/turn.key\nuserdb={folder}/users.sqlite\npidfile={folder}/pid\n\
             no-cli\nlog-file=stdout\nverbose\n",
            folder = folder.display()
        );
        let file = folder.join("turnserver.conf");
        fs::write(&file, config).expect("a configuration");
        // Where everything but 443 is closed, TURN is reached there.
        let chain = "type nat hook prerouting priority dstnat;";
        host.run("nft", &["add", "table", "ip", "other"]);
        host.run("nft", &["add", "chain", "ip", "other", "pre", &format!("{{ {chain} }}")]);
        host.run("nft", &["add rule ip other pre tcp dport 443 redirect to :5349"]);
        let mut process = host.start("coturn", "turnserver", &["-c", file.to_str().expect("a path")]);
        within("coturn listens", Duration::from_secs(10), || {
            assert!(process.running(), "coturn ended:\n{}", process.tail());
            let sockets = host.run("ss", &["-Hltnu"]);
            ["udp", "tcp"]
                .iter()
                .all(|kind| {
                    let mut lines = sockets.lines().filter(|line| line.starts_with(kind));
                    lines.any(|line| line.contains("203.0.113.12:3479"))
                })
                .then_some(())
        });
        Coturn { host, process }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// How many packets it has carried between its clients and their peers, by the sums it has logged: it does so when an
    /// allocation ends.
    pub fn carried(&self) -> u64 {
        let log = self.log();
        let sums = log.lines().filter_map(|line| line.split_once(": peer usage: "));
        sums.flat_map(|(_, sum)| sum.split(", "))
            .filter_map(|part| part.strip_prefix("rp=").or(part.strip_prefix("sp=")))
            .map(|packets| packets.parse::<u64>().expect("a number"))
            .sum()
    }
}
