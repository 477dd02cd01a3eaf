//! A bad link: what passes between two namespaces is lost, late, out of order, doubled or held up, from a seed.
//!
//! The kernel carries the frames to here and on as VXLAN (RFC 7348): each end of the link is an interface that puts every
//! frame into a datagram to this process, which decides about it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::netns::Lab;
use crate::process::run;

/// What a link does to a packet, in each direction alike.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Percent that is lost.
    pub loss: f64,
    /// Time on the way, in milliseconds.
    pub delay: f64,
    /// So much more or less than that, evenly spread, in milliseconds.
    pub jitter: f64,
    /// Whether a packet may overtake another.
    pub overtaking: bool,
    /// Percent that arrives twice.
    pub doubled: f64,
    /// Kilobits per second; 0 is without a limit.
    pub rate: u32,
    /// Packets that wait for their turn at most, where there is a rate.
    pub queue: usize,
    /// Nothing passes.
    pub down: bool,
}

impl Link {
    /// A link that does nothing.
    pub const GOOD: Link = Link {
        loss: 0.0,
        delay: 0.0,
        jitter: 0.0,
        overtaking: false,
        doubled: 0.0,
        rate: 0,
        queue: 1000,
        down: false,
    };
    /// A bad line to an office: 2 % lost, 40 ± 15 ms on the way.
    pub const BAD: Link = Link { loss: 2.0, delay: 40.0, jitter: 15.0, ..Link::GOOD };
}

/// What has happened to packets of IPv4 so far. Whatever else two neighbours say to each other (ARP, IPv6) comes and goes by
/// itself: nobody could say how much of it there should be.
#[derive(Default, Debug)]
pub struct Counts {
    pub entered: AtomicU64,
    pub lost: AtomicU64,
    pub doubled: AtomicU64,
    /// Found the queue full.
    pub refused: AtomicU64,
}

/// A link at work, until it is dropped.
pub struct Emulator {
    link: Arc<Mutex<Link>>,
    counts: Arc<Counts>,
    over: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

/// Where the kind of a frame stands, behind the header of VXLAN and two addresses.
const ETHERTYPE: Range<usize> = 20..22;
const IPV4: [u8; 2] = [0x08, 0x00];

/// The port of VXLAN.
const PORT: u16 = 4789;

impl Emulator {
    /// A link whose ends are `wan0` in the first namespace and `port` in the second.
    pub fn between(lab: &Lab, role: &str, ends: [&str; 2], port: &str, link: Link) -> Emulator {
        let here = lab.space(&format!("{role}link"));
        let ends = [(ends[0], "wan0"), (ends[1], port)].map(|(space, interface)| {
            // The way to here has its own net, and room for a whole frame in a datagram.
            let net = if interface == "wan0" { 0 } else { 1 };
            let (near, far) = (format!("10.255.{net}.1"), format!("10.255.{net}.2"));
            let (below, above) = (format!("u{port}"), format!("v{net}"));
            lab.link(space, &below, &here, &above);
            for (space, interface, address) in [(space, &below, &far), (&here, &above, &near)] {
                run("ip", &["-n", space, "link", "set", interface, "mtu", "1600"]);
                run("ip", &["-n", space, "addr", "add", &format!("{address}/24"), "dev", interface]);
            }
            let number = PORT.to_string();
            let vxlan = ["-n", space, "link", "add", interface, "mtu", "1500", "type", "vxlan", "id", "1"];
            let to = ["local", &far, "remote", &near, "dstport", &number, "nolearning"];
            run("ip", &[&vxlan[..], &to[..]].concat());
            // What passes here has no hardware to fill in its checksums or to cut it up later.
            run("ip", &["netns", "exec", space, "ethtool", "-K", interface, "tx", "off"]);
            run("ip", &["-n", space, "link", "set", interface, "up"]);
            let socket = lab.known(here.clone(), &near).enter(|| UdpSocket::bind((near.as_str(), PORT)));
            (socket.expect("a socket of the link"), SocketAddr::new(far.parse().expect("an address"), PORT))
        });
        Emulator::start(ends, link, 7)
    }

    fn start(ends: [(UdpSocket, SocketAddr); 2], link: Link, seed: u64) -> Emulator {
        let (link, counts, over) =
            (Arc::new(Mutex::new(link)), Arc::<Counts>::default(), Arc::<AtomicBool>::default());
        let mut wire = Wire {
            ends,
            link: Arc::clone(&link),
            counts: Arc::clone(&counts),
            chance: seed,
            waiting: BinaryHeap::new(),
            number: 0,
            sides: Default::default(),
        };
        let end = Arc::clone(&over);
        let worker = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                wire.turn();
            }
        });
        Emulator { link, counts, over, worker: Some(worker) }
    }

    /// What it does from now on.
    pub fn becomes(&self, link: Link) {
        *self.link.lock().expect("the link") = link;
    }

    /// What it has done.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// A frame on its way: when it arrives, its number, to which side.
type Due = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// The state of one direction.
#[derive(Clone, Copy, Default)]
struct Side {
    /// When the packet before arrives.
    last: Option<Instant>,
    /// When the sender has nothing more to send.
    free: Option<Instant>,
}

struct Wire {
    ends: [(UdpSocket, SocketAddr); 2],
    link: Arc<Mutex<Link>>,
    counts: Arc<Counts>,
    chance: u64,
    waiting: BinaryHeap<Due>,
    number: u64,
    sides: [Side; 2],
}

impl Wire {
    /// Waits for the next frame or the next departure, and does what is due.
    fn turn(&mut self) {
        let longest = Duration::from_millis(50);
        let wait = self
            .waiting
            .peek()
            .map_or(longest, |Reverse((due, ..))| due.saturating_duration_since(Instant::now()).min(longest));
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut ready = self.ends.each_ref().map(|(socket, _)| PollFd::new(socket, PollFlags::IN));
        let _ = poll(&mut ready, Some(&wait));
        let ready = ready.map(|it| it.revents().contains(PollFlags::IN));
        for (from, ready) in ready.into_iter().enumerate() {
            if ready {
                let mut frame = vec![0; 2000];
                match self.ends[from].0.recv(&mut frame) {
                    Ok(length) => {
                        frame.truncate(length);
                        self.enter(1 - from, frame);
                    }
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    Err(error) => panic!("the link: {error}"),
                }
            }
        }
        while self.waiting.peek().is_some_and(|Reverse((due, ..))| *due <= Instant::now()) {
            let Some(Reverse((_, _, to, frame))) = self.waiting.pop() else { return };
            // An end that is gone loses it.
            let (socket, end) = &self.ends[to];
            let _ = socket.send_to(&frame, end);
        }
    }

    /// A number from 0 to 1 (SplitMix64).
    fn random(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn enter(&mut self, to: usize, frame: Vec<u8>) {
        let link = *self.link.lock().expect("the link");
        let is_counted = frame.get(ETHERTYPE) == Some(&IPV4);
        let count = |counter: &AtomicU64| {
            counter.fetch_add(u64::from(is_counted), Ordering::Relaxed);
        };
        let counts = Arc::clone(&self.counts);
        count(&counts.entered);
        if link.down || self.random() * 100.0 < link.loss {
            return count(&counts.lost);
        }
        let now = Instant::now();
        let mut leaves = now;
        if link.rate > 0 {
            let takes = Duration::from_secs_f64(frame.len() as f64 * 8.0 / (f64::from(link.rate) * 1e3));
            let begins = self.sides[to].free.map_or(now, |free| free.max(now));
            if begins.duration_since(now).as_secs_f64() > takes.as_secs_f64() * link.queue as f64 {
                return count(&counts.refused);
            }
            leaves = begins + takes;
            self.sides[to].free = Some(leaves);
        }
        let copies = if self.random() * 100.0 < link.doubled {
            count(&counts.doubled);
            2
        } else {
            1
        };
        for _ in 0..copies {
            let way = link.delay + (self.random() * 2.0 - 1.0) * link.jitter;
            let mut due = leaves + Duration::from_secs_f64(way.max(0.0) / 1e3);
            if !link.overtaking {
                due = self.sides[to].last.map_or(due, |last| due.max(last));
            }
            self.sides[to].last = Some(due);
            self.number += 1;
            self.waiting.push(Reverse((due, self.number, to, frame.clone())));
        }
    }
}
