//! A real Asterisk: newest of Debian in a root of its own, its configuration written here, driven over its manager.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::netns::{Host, Lab, skip};
use crate::pki::Pki;
use crate::process::{Process, within};
use crate::sound::{self, Wav};

/// A running PBX with the accounts of [`accounts`] and the numbers of `asterisk/extensions.conf`.
pub struct Asterisk {
    pub host: Host,
    folder: PathBuf,
    root: PathBuf,
    manager: Manager,
    process: Process,
}

/// Where the root is, made now if it has to be; `None` (said loudly) where it can't be had.
fn root(what: &str) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/asterisk-root");
    let output = Command::new(script).stdin(Stdio::null()).output().expect("scripts/asterisk-root");
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if !output.status.success() || !path.join("usr/sbin/asterisk").exists() {
        skip(what, "no Asterisk can be had today");
        return None;
    }
    Some(path)
}

impl Asterisk {
    /// Starts one at 203.0.113.10 and waits until it has booted.
    pub fn start(lab: &Lab, what: &str) -> Option<Asterisk> {
        let root = root(what)?;
        let host = lab.host("pbx", 10);
        let folder = lab.folder().join("asterisk");
        for part in ["etc", "varlib", "spool", "run", "log", "moh", "rec"] {
            fs::create_dir_all(folder.join(part)).expect("a folder");
        }
        configure(&folder, &host.address, &root);
        let pki = Pki::of(lab);
        for (name, text) in [("ca.pem", &pki.ca), ("pbx.crt", &pki.certificate), ("pbx.key", &pki.key)] {
            fs::write(folder.join("etc").join(name), text).expect("a certificate");
        }
        Wav::new(8000, sound::sine(523.0, 8000, 4.0, 8000)).write(&folder.join("moh/moh.wav"));

        let (process, manager) = boot(&host, &folder, &root);
        Some(Asterisk { host, folder, root, manager, process })
    }

    /// Whether its build can translate Opus; tests that need it say so when not.
    pub fn has_opus(&mut self) -> bool {
        self.command("core show translation").contains("opus")
    }

    /// Ends it as a power cut would and starts it again, with or without the registrations it knew.
    pub fn restart(&mut self, forget: bool) {
        self.stop_for(Duration::ZERO, forget);
    }

    /// The same with a pause in between.
    pub fn stop_for(&mut self, pause: Duration, forget: bool) {
        self.down();
        std::thread::sleep(pause);
        self.up(forget);
    }

    /// Ends it as a power cut would.
    pub fn down(&mut self) {
        self.process.kill();
    }

    /// Starts it again after that.
    pub fn up(&mut self, forget: bool) {
        if forget {
            let _ = fs::remove_file(self.folder.join("varlib/astdb.sqlite3"));
        }
        let (process, manager) = boot(&self.host, &self.folder, &self.root);
        self.process = process;
        self.manager = manager;
    }

    /// A command of its console.
    pub fn command(&mut self, text: &str) -> String {
        self.manager.command(text)
    }

    /// Calls a registered phone and, when it answers, connects it to `extension`.
    pub fn call(&mut self, account: &str, extension: &str) {
        self.originate(&format!("PJSIP/{account}"), extension);
    }

    /// The same with any channel: `Local/NUMBER@lab` dials a number of `extensions.conf`.
    pub fn originate(&mut self, channel: &str, extension: &str) {
        self.manager.send(&[
            ("Action", "Originate"),
            ("Channel", channel),
            ("Context", "lab"),
            ("Exten", extension),
            ("Priority", "1"),
            ("CallerID", "\"Lab Caller\" <5550123>"),
            ("Timeout", "20000"),
            ("Async", "true"),
        ]);
    }

    /// Waits until a phone is registered.
    pub fn registered(&mut self, account: &str) {
        let manager = &mut self.manager;
        within(&format!("{account} is registered at Asterisk"), Duration::from_secs(10), || {
            contact(manager, account).map(drop)
        });
    }

    /// The address that an account is registered from now.
    pub fn contact(&mut self, account: &str) -> Option<String> {
        contact(&mut self.manager, account)
    }

    /// Calls these phones, which answer by themselves, again and again until each has answered or the time is over: when
    /// each did.
    pub fn until_answered(&mut self, accounts: &[&str], limit: Duration) -> Vec<Option<Instant>> {
        let begun = Instant::now();
        let mut answered = vec![None; accounts.len()];
        let mut next = begun;
        while begun.elapsed() < limit && answered.contains(&None) {
            if Instant::now() >= next {
                for (account, _) in accounts.iter().zip(&answered).filter(|(_, answered)| answered.is_none())
                {
                    self.manager.send(&[
                        ("Action", "Originate"),
                        ("ActionID", &format!("try-{account}-")),
                        ("Channel", &format!("PJSIP/{account}")),
                        ("Context", "lab"),
                        ("Exten", "624"),
                        ("Priority", "1"),
                        ("Timeout", "1000"),
                        ("Async", "true"),
                    ]);
                }
                // Who needs long is not asked so often.
                let often = begun.elapsed() < Duration::from_secs(20);
                next += Duration::from_millis(if often { 250 } else { 1000 });
            }
            let Some(block) = self.manager.block() else { continue };
            let success =
                block.contains("Event: OriginateResponse\r\n") && block.contains("Response: Success\r\n");
            let whose = accounts.iter().position(|account| block.contains(&format!("try-{account}-\r\n")));
            if let (true, Some(at)) = (success, whose) {
                answered[at].get_or_insert_with(Instant::now);
            }
        }
        self.command("channel request hangup all");
        answered
    }

    /// The numbers of each channel's line of `pjsip show channelstats` behind its codec: received, lost, percent, jitter,
    /// sent, lost (as the other side says), percent, jitter, round trip.
    fn statistics(&mut self) -> Vec<Vec<f64>> {
        let table = self.manager.command("pjsip show channelstats");
        let numbers = table.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let codec = words.iter().position(|word| ["ulaw", "alaw", "g722", "opus"].contains(word))?;
            let number = |word: &&str| word.trim_end_matches('K').parse().unwrap_or(f64::NAN);
            Some(words[codec + 1..].iter().map(number).collect())
        });
        numbers.collect()
    }

    /// RTP packets received from all channels together, as counted now.
    pub fn packets_received(&mut self) -> u64 {
        self.statistics().iter().filter_map(|numbers| numbers.first()).map(|count| *count as u64).sum()
    }

    /// How long it takes to the other side of each channel and back, in seconds, as RTCP has told.
    pub fn round_trips(&mut self) -> Vec<f64> {
        self.statistics().iter().filter_map(|row| row.get(8)).copied().collect()
    }

    /// RTP packets of all channels together that did not come here, and that did not arrive there as far as the other
    /// side has told.
    pub fn packets_lost(&mut self) -> [u64; 2] {
        let table = self.statistics();
        [1, 5].map(|column| table.iter().filter_map(|row| row.get(column)).map(|count| *count as u64).sum())
    }

    /// Waits for a manager event with this name and, if given, this text in it.
    #[track_caller]
    pub fn event(&mut self, name: &str, text: &str) -> String {
        self.manager.event(name, text, Duration::from_secs(10))
    }

    /// Waits for a line of its log.
    #[track_caller]
    pub fn logged(&self, text: &str) {
        within(&format!("Asterisk logs {text:?}"), Duration::from_secs(12), || {
            self.log().contains(text).then_some(())
        });
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log/messages.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Takes all messages out of a mailbox, as its owner does at another phone.
    pub fn empty_mailbox(&mut self, mailbox: &str) {
        fs::remove_dir_all(self.folder.join("spool/voicemail/default").join(mailbox).join("INBOX"))
            .expect("the messages of the mailbox");
    }

    /// What a number that records has heard so far (see `extensions.conf`).
    pub fn recording(&self, name: &str) -> Wav {
        Wav::read(&self.folder.join("rec").join(name))
    }

    /// Waits until no channel is left: the call has ended on this side too.
    #[track_caller]
    pub fn idle(&mut self) {
        let manager = &mut self.manager;
        within("no channel is left at Asterisk", Duration::from_secs(8), || {
            manager.command("core show channels count").contains("0 active channels").then_some(())
        });
    }
}

fn contact(manager: &mut Manager, account: &str) -> Option<String> {
    let contacts = manager.command("pjsip show contacts");
    let begin = contacts.find(&format!("{account}/sip"))?;
    contacts[begin..].split_whitespace().next().map(str::to_owned)
}

fn boot(host: &Host, folder: &Path, root: &Path) -> (Process, Manager) {
    let mut command = host.command("unshare");
    let script = format!(
        "mount --bind {} {root}/inst && mount -t proc proc {root}/proc && \
         exec chroot {root} /usr/sbin/asterisk -C /inst/etc/asterisk.conf -f",
        folder.display(),
        root = root.display()
    );
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let process = Process::start("asterisk", command, folder.parent().expect("the lab's folder"));
    let manager = within("Asterisk has booted", Duration::from_secs(40), || Manager::connect(host));
    (process, manager)
}

fn configure(folder: &Path, address: &str, root: &Path) {
    let modules =
        ["/usr/lib/x86_64-linux-gnu/asterisk/modules", "/usr/lib/aarch64-linux-gnu/asterisk/modules"]
            .into_iter()
            .find(|path| root.join(&path[1..]).exists())
            .unwrap_or("/usr/lib/asterisk/modules");
    let files = [
        ("asterisk.conf", include_str!("asterisk/asterisk.conf")),
        ("extensions.conf", include_str!("asterisk/extensions.conf")),
        ("http.conf", include_str!("asterisk/http.conf")),
        ("logger.conf", include_str!("asterisk/logger.conf")),
        ("manager.conf", include_str!("asterisk/manager.conf")),
        ("modules.conf", include_str!("asterisk/modules.conf")),
        ("musiconhold.conf", include_str!("asterisk/musiconhold.conf")),
        ("voicemail.conf", include_str!("asterisk/voicemail.conf")),
        ("rtp.conf", include_str!("asterisk/rtp.conf")),
    ];
    for (name, text) in files {
        fs::write(
            folder.join("etc").join(name),
            text.replace("@MODULES@", modules).replace("@ADDRESS@", address),
        )
        .expect("a configuration file");
    }
    fs::write(folder.join("etc/pjsip.conf"), accounts(address)).expect("pjsip.conf");
}

/// The accounts (password `pw` + number):
/// 1001–1004 and 1011–1029 friendly, plain RTP · 1101–1104 friendly, SDES · 1201–1204 friendly, and hold is passed on instead of music ·
/// 1301–1302 friendly, their mailboxes are told to whoever registers · 1303–1304 the same for whoever subscribes ·
/// 1701–1702 friendly, with ICE · 1711 the same with DTLS-SRTP · 1712 with SDES ·
/// 1713 the same with DTLS-SRTP and, as 1701, 1702 and 1712, a port for RTCP ·
/// 1501–1504 hostile but legal · 1505–1506 the same with SDES · 1507 for phones behind NAT, with one contact and never
/// a second · 1601–1602 friendly, DTLS-SRTP without ICE · 1603 the same with early feedback in the transport's name ·
/// 1604 the same with a port for RTCP · 1605 the same, and it waits for the phone to begin ·
/// 1801 friendly, DTLS-SRTP with ICE · 1802 the same with early feedback.
fn accounts(address: &str) -> String {
    let mut text = format!(
        "[global]\ntype=global\nuser_agent=LabPBX\nkeep_alive_interval=30\n\n\
         [udp]\ntype=transport\nprotocol=udp\nbind={address}:5060\n\n\
         [tcp]
type=transport
protocol=tcp
bind={address}:5060

\
         [wss]
type=transport
protocol=wss
bind={address}

"
    );
    // 443 is for phones in offices where nothing else is open.
    for (name, port) in [("tls", 5061), ("tls443", 443)] {
        text.push_str(&format!(
            "[{name}]\ntype=transport\nprotocol=tls\nbind={address}:{port}\nmethod=tlsv1_2\n\
             cert_file=/inst/etc/pbx.crt\npriv_key_file=/inst/etc/pbx.key\nca_list_file=/inst/etc/ca.pem\n\n"
        ));
    }
    let friendly = "direct_media=no\nrtp_symmetric=yes\nforce_rport=yes\nrewrite_contact=yes\n";
    let hostile = "direct_media=yes\nrtp_symmetric=no\nforce_rport=no\nrewrite_contact=no\n100rel=required\n\
                   timers=always\ntimers_sess_expires=90\nsend_pai=yes\ntrust_id_outbound=yes\n\
                   media_encryption_optimistic=yes\n";
    let kind_aor = "max_contacts=1\nremove_existing=yes\n";
    let hostile_aor = "max_contacts=1\nremove_existing=no\nqualify_frequency=5\n";
    let mailboxes = |n: u16| format!("mailboxes={n}@default\n");
    let mut groups: Vec<(std::ops::RangeInclusive<u16>, String, &str)> = vec![
        (1001..=1004, friendly.to_owned(), kind_aor),
        (1011..=1029, friendly.to_owned(), kind_aor),
        (1101..=1104, format!("{friendly}media_encryption=sdes\n"), kind_aor),
        (1201..=1204, format!("{friendly}moh_passthrough=yes\n"), kind_aor),
        (1301..=1304, friendly.to_owned(), kind_aor),
        (1501..=1504, hostile.to_owned(), hostile_aor),
    ];
    groups.push((1505..=1506, format!("{hostile}media_encryption=sdes\n"), hostile_aor));
    groups.push((1507..=1507, friendly.to_owned(), hostile_aor));
    let dtls = "media_encryption=dtls\ndtls_auto_generate_cert=yes\ndtls_verify=fingerprint\n";
    for (numbers, more) in [
        (1601..=1602, "dtls_setup=actpass\nrtcp_mux=yes\n"),
        (1603..=1603, "dtls_setup=actpass\nrtcp_mux=yes\nuse_avpf=yes\n"),
        (1604..=1604, "dtls_setup=actpass\nrtcp_mux=no\n"),
        (1605..=1605, "dtls_setup=passive\nrtcp_mux=yes\n"),
        (1801..=1801, "dtls_setup=actpass\nrtcp_mux=yes\nice_support=yes\n"),
        (1802..=1802, "dtls_setup=actpass\nrtcp_mux=yes\nice_support=yes\nuse_avpf=yes\n"),
    ] {
        groups.push((numbers, format!("{friendly}{dtls}{more}"), kind_aor));
    }
    for (numbers, keys, more) in [
        (1701..=1702, "", ""),
        (1711..=1711, dtls, "dtls_setup=actpass\nrtcp_mux=yes\n"),
        (1712..=1712, "media_encryption=sdes\n", ""),
        (1713..=1713, dtls, "dtls_setup=actpass\nrtcp_mux=no\n"),
    ] {
        groups.push((numbers, format!("{friendly}ice_support=yes\n{keys}{more}"), kind_aor));
    }
    for (numbers, endpoint, aor) in groups {
        for n in numbers {
            let (endpoint, aor) = match n {
                1301..=1302 => (format!("{endpoint}{}", mailboxes(n)), aor.to_owned()),
                1303..=1304 => (endpoint.clone(), format!("{aor}{}", mailboxes(n))),
                _ => (endpoint.clone(), aor.to_owned()),
            };
            text.push_str(&format!(
                "[{n}]\ntype=endpoint\ncontext=lab\ndisallow=all\nallow=opus,g722,ulaw,alaw\ndtmf_mode=rfc4733\n\
                 auth={n}\naors={n}\n{endpoint}\n\
                 [{n}]\ntype=auth\nauth_type=userpass\nusername={n}\npassword=pw{n}\n\n\
                 [{n}]\ntype=aor\nminimum_expiration=20\ndefault_expiration=120\n{aor}\n"
            ));
        }
    }
    // SIPp, known by its address.
    text.push_str(
        "[sipp]\ntype=endpoint\ncontext=lab\ndisallow=all\nallow=ulaw,alaw\naors=sipp\n\n\
         [sipp]\ntype=aor\n\n[sipp]\ntype=identify\nendpoint=sipp\nmatch=203.0.113.30\n",
    );
    text
}

/// The manager interface: actions in, answers and events out, as blocks of `Key: value`.
struct Manager {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    events: VecDeque<String>,
}

impl Manager {
    fn connect(host: &Host) -> Option<Manager> {
        let stream = host.enter(|| TcpStream::connect("127.0.0.1:5038")).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
        let reader = BufReader::new(stream.try_clone().ok()?);
        let mut manager = Manager { stream, reader, events: VecDeque::new() };
        let mut banner = String::new();
        manager.reader.read_line(&mut banner).ok()?;
        manager.send(&[("Action", "Login"), ("Username", "lab"), ("Secret", "lab")]);
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            match manager.block() {
                Some(block) if block.contains("Event: FullyBooted") => return Some(manager),
                _ => {}
            }
        }
        None
    }

    fn send(&mut self, fields: &[(&str, &str)]) {
        let text: String = fields.iter().map(|(key, value)| format!("{key}: {value}\r\n")).collect();
        self.stream.write_all(format!("{text}\r\n").as_bytes()).expect("the manager connection");
    }

    /// The next block, or `None` when none came for a moment.
    fn block(&mut self) -> Option<String> {
        let mut block = String::new();
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let before = block.len();
            match self.reader.read_line(&mut block) {
                Ok(0) => return None,
                Ok(_) if block[before..].trim().is_empty() && before > 0 => return Some(block),
                Ok(_) if block.trim().is_empty() => block.clear(),
                Ok(_) => {}
                // A pause in the middle of a block is waited out; between two blocks it means "nothing now".
                Err(_) if block.is_empty() || Instant::now() > end => return None,
                Err(_) => {}
            }
        }
    }

    fn command(&mut self, text: &str) -> String {
        self.send(&[("Action", "Command"), ("ActionID", "command"), ("Command", text)]);
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            let Some(block) = self.block() else { continue };
            if block.contains("ActionID: command") {
                return block
                    .lines()
                    .filter_map(|line| line.strip_prefix("Output: "))
                    .collect::<Vec<_>>()
                    .join("\n");
            }
            self.keep(block);
        }
        panic!("Asterisk does not answer the command {text:?}");
    }

    #[track_caller]
    fn event(&mut self, name: &str, text: &str, limit: Duration) -> String {
        let wanted = |block: &String| block.contains(&format!("Event: {name}\r\n")) && block.contains(text);
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.events.iter().position(wanted) {
                return self.events.remove(at).expect("it is there");
            }
            assert!(Instant::now() < end, "no manager event {name} with {text:?} within {limit:?}");
            if let Some(block) = self.block() {
                self.keep(block);
            }
        }
    }

    fn keep(&mut self, block: String) {
        if block.starts_with("Event: ") {
            if self.events.len() == 2000 {
                self.events.pop_front();
            }
            self.events.push_back(block);
        }
    }
}
