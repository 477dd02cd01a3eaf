//! A small internet of network namespaces: hosts on one public net; offices behind routers are in `router.rs`.
//!
//! Every lab has names of its own (from the process id), so that any number of labs stand side by side; dropping it
//! removes everything. What a killed run left behind is removed by the next one.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Process, program, run};

/// The whole net of one test: made by [`Lab::new`], gone when dropped.
pub struct Lab {
    prefix: String,
    folder: PathBuf,
    links: Cell<u32>,
    spaces: RefCell<Vec<String>>,
    /// The namespaces on the public net.
    public: RefCell<Vec<String>>,
    /// Private nets that are routed there, and by which address: offices without NAT.
    routed: RefCell<Vec<[String; 2]>>,
}

/// One namespace with an address.
#[derive(Clone, Debug)]
pub struct Host {
    space: String,
    pub address: String,
    folder: PathBuf,
}

/// Says that something could not be tested, and why; `make test` counts these lines.
pub fn skip(what: &str, why: &str) {
    use std::io::Write;
    let line = format!("SKIP: {what}: {why}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("TIPRING_SKIPS")
        && let Ok(mut file) = fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = writeln!(file, "{line}");
    }
}

impl Lab {
    /// An empty public net 203.0.113.0/24, or `None` (said loudly) when this process may not make namespaces or a
    /// program that `what` needs is missing.
    pub fn new(what: &str, programs: &[&str]) -> Option<Lab> {
        if !rustix::process::geteuid().is_root() {
            skip(what, "network namespaces need root");
            return None;
        }
        for name in ["ip", "nft", "conntrack", "ethtool", "setpriv"].iter().chain(programs) {
            if program(name).is_none() {
                skip(what, &format!("the program {name} is not installed"));
                return None;
            }
        }
        sweep();
        static LABS: AtomicU32 = AtomicU32::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("tipring{}.{number}", std::process::id());
        let folder = std::env::temp_dir().join(format!("tipring-lab-{}.{number}", std::process::id()));
        // Another process with this number may have left its files for whoever looks into a failure.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder for the lab");
        let lab = Lab {
            prefix,
            folder,
            links: Cell::new(0),
            spaces: RefCell::default(),
            public: RefCell::default(),
            routed: RefCell::default(),
        };
        let wan = lab.space("wan");
        run("ip", &["-n", &wan, "link", "add", "br0", "type", "bridge"]);
        run("ip", &["-n", &wan, "link", "set", "br0", "up"]);
        Some(lab)
    }

    /// Where peers keep their files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An empty namespace of this lab, with nothing but its loopback.
    pub fn space(&self, role: &str) -> String {
        let name = self.inside(role);
        let etc = Path::new("/etc/netns").join(&name);
        fs::create_dir_all(&etc).expect("a folder for the namespace");
        // No name server unless a test brings one: looking up fails at once instead of after seconds.
        fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
            .expect("resolv.conf");
        let own = fs::read_to_string("/etc/hostname").unwrap_or_default();
        fs::write(etc.join("hosts"), format!("127.0.0.1 localhost\n127.0.1.1 {}\n", own.trim()))
            .expect("hosts");
        run("ip", &["netns", "add", &name]);
        self.spaces.borrow_mut().push(name.clone());
        run("ip", &["-n", &name, "link", "set", "lo", "up"]);
        name
    }

    /// A cable between two namespaces.
    pub fn link(&self, a: &str, interface_a: &str, b: &str, interface_b: &str) {
        run(
            "ip",
            &[
                "link",
                "add",
                "name",
                interface_a,
                "netns",
                a,
                "type",
                "veth",
                "peer",
                "name",
                interface_b,
                "netns",
                b,
            ],
        );
        run("ip", &["-n", a, "link", "set", interface_a, "up"]);
        run("ip", &["-n", b, "link", "set", interface_b, "up"]);
    }

    /// A cable from a namespace to the public net.
    pub fn attach(&self, space: &str, interface: &str, address: &str) {
        let port = self.port();
        self.link(space, interface, &self.inside("wan"), &port);
        self.plug(&port);
        run("ip", &["-n", space, "addr", "add", &format!("{address}/24"), "dev", interface]);
    }

    /// A name for the next interface of the public net.
    pub fn port(&self) -> String {
        let number = self.links.get();
        self.links.set(number + 1);
        format!("p{number}")
    }

    /// Joins an interface in the namespace of the public net to it.
    pub fn plug(&self, port: &str) {
        run("ip", &["-n", &self.inside("wan"), "link", "set", port, "master", "br0"]);
    }

    /// Makes a net known to all hosts of the public net, those to come too.
    pub fn route(&self, net: &str, by: &str) {
        for space in self.public.borrow().iter() {
            run("ip", &["-n", space, "route", "add", net, "via", by]);
        }
        self.routed.borrow_mut().push([net.to_owned(), by.to_owned()]);
    }

    /// A host on the public net, at `203.0.113.<last>`.
    pub fn host(&self, role: &str, last: u8) -> Host {
        let space = self.space(role);
        let address = format!("203.0.113.{last}");
        self.attach(&space, "eth0", &address);
        for [net, by] in self.routed.borrow().iter() {
            run("ip", &["-n", &space, "route", "add", net, "via", by]);
        }
        self.public.borrow_mut().push(space.clone());
        self.known(space, &address)
    }

    /// A namespace as a host with that address.
    pub fn known(&self, space: String, address: &str) -> Host {
        Host { space, address: address.to_owned(), folder: self.folder.clone() }
    }

    /// The same with 2001:db8::<last> besides.
    pub fn host_of_both(&self, role: &str, last: u8) -> Host {
        let host = self.host(role, last);
        // Nobody else has the address: no need to look for duplicates first.
        let address = format!("2001:db8::{last}/64");
        run("ip", &["-n", &host.space, "-6", "addr", "add", &address, "dev", "eth0", "nodad"]);
        host
    }

    /// The name that a namespace of this role has in this lab.
    pub fn inside(&self, role: &str) -> String {
        format!("{}-{role}", self.prefix)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in self.spaces.borrow().iter() {
            remove(space);
        }
        if thread::panicking() {
            eprintln!("the files of this lab are kept in {}", self.folder.display());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn remove(space: &str) {
    // Workers outlive a server that was slow to end.
    let pids = Command::new("ip").args(["netns", "pids", space]).output();
    let pids = pids.map(|told| String::from_utf8_lossy(&told.stdout).into_owned()).unwrap_or_default();
    for pid in pids.split_whitespace() {
        if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "del", space]).stderr(Stdio::null()).status();
    let _ = fs::remove_dir_all(Path::new("/etc/netns").join(space));
}

/// Removes namespaces of labs whose process is gone.
fn sweep() {
    let Ok(spaces) = fs::read_dir("/run/netns") else { return };
    for space in spaces.flatten() {
        let name = space.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("tipring").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&name);
        }
    }
}

impl Host {
    /// The name of its namespace.
    pub fn space(&self) -> &str {
        &self.space
    }

    /// A command that runs inside this host and dies with this process.
    pub fn command(&self, program_name: &str) -> Command {
        let mut command = Command::new("setpriv");
        let path = program(program_name).map_or_else(|| program_name.into(), PathBuf::into_os_string);
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.space]).arg(path);
        command
    }

    /// Starts a peer inside this host.
    pub fn start(&self, name: &str, program_name: &str, arguments: &[&str]) -> Process {
        let mut command = self.command(program_name);
        command.args(arguments).current_dir(&self.folder);
        Process::start(name, command, &self.folder)
    }

    /// Runs a short command inside this host to its end; panics when it fails.
    #[track_caller]
    pub fn run(&self, program_name: &str, arguments: &[&str]) -> String {
        let mut all = vec!["netns", "exec", &self.space, program_name];
        all.extend(arguments);
        run("ip", &all)
    }

    /// Does something with this host's network from within the test, on a thread of its own: sockets that it opens
    /// stay in this host.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let space = File::open(Path::new("/run/netns").join(&self.space)).expect("the namespace");
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).expect("entering");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
