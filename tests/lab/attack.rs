//! What attackers have: sockets that say anything, floods at a chosen pace, and a look at what the victim's process uses.

use std::fs;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::netns::Host;

/// A datagram socket in a host, to talk SIP by hand or to send whatever else.
pub struct Wire {
    pub socket: UdpSocket,
    pub address: SocketAddr,
}

impl Wire {
    /// A socket at this port of the host; 0 takes a free one.
    pub fn open(host: &Host, port: u16) -> Wire {
        let socket = host.enter(|| UdpSocket::bind((host.address.as_str(), port)).expect("a socket"));
        let address = socket.local_addr().expect("an address");
        Wire { socket, address }
    }

    /// Sends bytes; a full queue of the kernel is no failure, it is what a flood does.
    pub fn send(&self, to: &str, bytes: &[u8]) {
        let _ = self.socket.send_to(bytes, to);
    }

    /// The next datagram as text, or `None` when there is none within this time.
    pub fn next(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).expect("a time limit");
        let mut buffer = [0; 65_535];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Waits for a message whose first line begins so and that has this part; others before it are passed over.
    #[track_caller]
    pub fn expect(&self, start: &str, part: &str) -> String {
        let end = Instant::now() + Duration::from_secs(10);
        while let Some(text) =
            self.next(end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
        {
            if text.starts_with(start) && text.contains(part) {
                return text;
            }
        }
        panic!("no {start} with {part:?} came to {}", self.address);
    }

    /// What has arrived.
    pub fn waiting(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("a mode");
        let mut buffer = [0; 65_535];
        let mut texts = Vec::new();
        while let Ok(length) = self.socket.recv(&mut buffer) {
            texts.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        self.socket.set_nonblocking(false).expect("a mode");
        texts
    }

    /// Everything that has arrived and that comes within this time.
    pub fn all(&self, patience: Duration) -> Vec<String> {
        std::iter::from_fn(|| self.next(patience)).collect()
    }
}

/// The field of a message, its name included; empty if it has none.
pub fn field<'a>(message: &'a str, name: &str) -> &'a str {
    message
        .lines()
        .take_while(|line| !line.is_empty())
        .find(|line| line.starts_with(name))
        .unwrap_or_default()
}

/// An answer to a request: its fields back, a tag, whatever else is given, and a body.
pub fn answer(request: &str, status: &str, more: &str, body: &str) -> String {
    let to = field(request, "To:");
    let tag = if to.contains("tag=") { "" } else { ";tag=peer" };
    let vias: String =
        request.lines().filter(|line| line.starts_with("Via:")).map(|via| format!("{via}\r\n")).collect();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {status}\r\n{vias}{}\r\n{to}{tag}\r\n{}\r\n{}\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
        field(request, "From:"),
        field(request, "Call-ID:"),
        field(request, "CSeq:"),
        body.len()
    )
}

/// A request to the phone's number 1001 from this address; every `number` is another one.
pub fn request(method: &str, number: u32, from: SocketAddr, to: &str, more: &str, body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:1001@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bK-{method}-{number}\r\n\
         Max-Forwards: 70\r\nFrom: \"sipvicious\" <sip:100@{from}>;tag=f{number}\r\nTo: <sip:1001@{to}>\r\n\
         Call-ID: {method}-{number}@{from}\r\nCSeq: 1 {method}\r\nContact: <sip:100@{from}>\r\n\
         User-Agent: friendly-scanner\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A plain offer or answer: PCMU at this address.
pub fn sdp(address: &str, port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

/// Calls `shot` with 0, 1, 2 … so often, evenly spread over this time.
pub fn paced(count: u32, over: Duration, mut shot: impl FnMut(u32)) {
    let begin = Instant::now();
    for number in 0..count {
        let due = over * number / count;
        let early = due.saturating_sub(begin.elapsed());
        if early > Duration::from_millis(2) {
            sleep(early);
        }
        shot(number);
    }
}

/// What a process has of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Memory that is its own, in KiB (RssAnon).
    pub memory: i64,
    pub descriptors: usize,
    pub threads: usize,
}

impl Usage {
    /// Of this process, now.
    pub fn of(pid: u32) -> Usage {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.split_whitespace().next().and_then(|text| text.parse::<i64>().ok()).expect("a number")
        };
        assert!(status.starts_with("Name:\ttipring\n"), "another program: {status}");
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count();
        Usage { memory: value("RssAnon:"), descriptors, threads: value("Threads:") as usize }
    }
}

/// Looks at a process every 20 ms and keeps the highest values until asked.
pub struct Watch {
    most: Arc<Mutex<Usage>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn over(pid: u32) -> Watch {
        let (most, stop) = (Arc::new(Mutex::new(Usage::of(pid))), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (Arc::clone(&most), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = Usage::of(pid);
                let mut most = shared.lock().expect("a lock");
                most.memory = most.memory.max(now.memory);
                most.descriptors = most.descriptors.max(now.descriptors);
                most.threads = most.threads.max(now.threads);
                drop(most);
                sleep(Duration::from_millis(20));
            }
        });
        Watch { most, stop, thread: Some(thread) }
    }

    /// The highest values that were seen.
    pub fn most(mut self) -> Usage {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("once").join().expect("the process lived");
        *self.most.lock().expect("a lock")
    }
}

/// A connection out of this host, not waiting long for it.
pub fn connect(to: &str) -> Option<TcpStream> {
    TcpStream::connect_timeout(&to.parse().expect("an address"), Duration::from_secs(2)).ok()
}

/// Lets this process have so many descriptors at least.
pub fn allow_descriptors(count: u64) {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.current.map(|now| now.max(count));
    limits.maximum = limits.maximum.map(|now| now.max(count));
    setrlimit(Resource::Nofile, limits).expect("more descriptors");
}
