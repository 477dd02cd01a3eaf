//! The media thread: one for all legs. It owns the RTP sockets, opened ahead of the calls that will need them, and drives
//! the [`Engine`] by packets, orders and one deadline.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};

use super::clock;
use super::relay_stream::{RelayStream, Streams};
use super::rtp_port::{Binding, Component, RtpPort};
use super::sound::SoundPort;
use super::vital::Vital;
use crate::chance::Chance;
use crate::media::{Command, Engine, Event, PortId, Recorded, Settings};
use crate::nat::relay::{StreamId, StreamInput, StreamOrder};
use crate::nat::turn_server::Carriage;
use crate::now::Now;
use crate::rtp::dtls::{Failure, Identity};

/// Pairs of sockets that wait for a call: so many can come at the same instant.
const PORTS_AHEAD: usize = 16;
/// Orders and notices that may wait in a queue before the sender is told that it is full. The queue takes
/// its memory at once, some 120 bytes for each.
const QUEUE: usize = 1024;
/// Rounds over the sockets, a datagram of each, before orders and deadlines get their turn.
const ROUNDS_PER_TURN: usize = 64;
/// While the engine wants to be called this soon, packets wait in their sockets until then, in microseconds:
/// nothing is done with them earlier, and the kernel has stamped their arrival. One wake-up serves all calls.
const SOON_US: u64 = 25_000;
/// More rounds than this in one turn are a flood: it would fill a socket before the next turn, and push speech
/// out of it.
const ROUNDS_OF_A_FLOOD: usize = 8;
/// A phone without a free port looks for one this often, in microseconds.
const RETRY_PORTS_US: u64 = 5_000_000;
/// After a flood every packet is read as it comes, for this long.
const ALERT_US: u64 = 1_000_000;
/// Readiness of this many sockets is fetched at once.
const EVENTS_PER_WAIT: usize = 64;
/// Larger than any datagram that is looked at: what is longer is cut, and refused by the engine.
const DATAGRAM: usize = 2048;
/// The nice value of the media thread.
const NICE: i32 = -16;

/// What the media thread is asked to do.
pub enum Order {
    /// An order to the engine.
    Engine(Command),
    /// The sound device was opened, or is gone.
    Sound(Option<SoundPort>),
    /// What became of a stream that [`Notice::Stream`] has asked for.
    Stream {
        /// Its name.
        stream: StreamId,
        /// The stream, or why there is none.
        opened: Result<Box<RelayStream>, String>,
    },
    /// The configuration changed: ports opened from now on lie in this range and are bound like this.
    Ports(PortRange),
    /// A free port is closed; another one is opened for it.
    Discard(PortId),
    /// End in order: every leg is closed first.
    Stop,
}

/// What the media thread tells the control thread.
pub enum Notice {
    /// A pair of sockets is open and free.
    Port {
        /// Its name in a leg's `Command::Open`.
        port: PortId,
        /// The UDP port of RTP; RTCP is the next one.
        number: u16,
    },
    /// The SHA-256 fingerprint of the certificate that handshakes show; told before the first port.
    Identity([u8; 32]),
    /// There is no certificate.
    NoIdentity(Failure),
    /// No pair could be opened in the configured range.
    NoPort(io::Error),
    /// A stream to a TURN server is wanted; [`Order::Stream`] is the answer.
    Stream {
        /// Its name.
        stream: StreamId,
        /// Whither.
        server: SocketAddr,
        /// By TCP or TLS.
        carriage: Carriage,
    },
    /// Whether there is nothing for a sound device to do; true at first.
    Quiet(bool),
    /// Something that happened on a leg.
    Event(Event),
}

/// A piece of a recording, on its way to a file.
pub enum Taped {
    /// A recording begins.
    Started(Recorded),
    /// Samples of it.
    Samples(Recorded, Vec<i16>),
    /// It is complete.
    Finished(Recorded),
}

/// Where RTP sockets are opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    /// How they are bound.
    pub binding: Binding,
    /// Lowest port.
    pub first: u16,
    /// Highest port.
    pub last: u16,
}

/// The way of orders to the media thread.
#[derive(Clone)]
pub struct Orders {
    inbox: SyncSender<Box<Order>>,
    wake: Arc<OwnedFd>,
}

impl Orders {
    /// Hands over an order; false if the thread is so far behind that its queue is full.
    pub fn order(&self, order: Order) -> bool {
        let sent = self.line_up(order);
        self.wake();
        sent
    }

    fn line_up(&self, order: Order) -> bool {
        match self.inbox.try_send(Box::new(order)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// The other end of the media thread.
pub struct MediaThread {
    orders: Orders,
    thread: Option<JoinHandle<()>>,
}

impl MediaThread {
    /// Starts the thread, which makes its certificate and opens ports once it is woken for the first time. `notices` and
    /// `taped` are called on it and must not block.
    pub fn start(
        range: PortRange,
        mut settings: Settings,
        chance: Chance,
        notices: impl Fn(Notice) + Send + 'static,
        taped: impl Fn(Taped) + Send + 'static,
    ) -> io::Result<MediaThread> {
        let (orders, inbox) = sync_channel(QUEUE);
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let awake = Arc::clone(&wake);
        let thread = std::thread::Builder::new().name("media".into()).spawn(move || {
            let vital = Vital::thread("media");
            let _ = rustix::event::poll(&mut [PollFd::new(&awake, PollFlags::IN)], None);
            hurry();
            match Identity::generate(std::time::Instant::now()) {
                Ok(identity) => {
                    notices(Notice::Identity(identity.fingerprint()));
                    settings.identity = Some(Arc::new(identity));
                }
                Err(failure) => notices(Notice::NoIdentity(failure)),
            }
            let mut desk = Desk {
                engine: Engine::new(settings, chance.clone()),
                poll,
                wake: awake,
                ports: BTreeMap::new(),
                streams: Streams::default(),
                free: 0,
                next: 0,
                range,
                retry_us: None,
                chance,
                sound: None,
                quiet: true,
                alert_us: 0,
                notices: Box::new(notices),
                taped: Box::new(taped),
                samples: Vec::with_capacity(4096),
            };
            match desk.run(&inbox) {
                Ok(()) => vital.ends(),
                Err(error) => tracing::error!("RTP can't be waited for: {error}"),
            }
        })?;
        Ok(MediaThread { orders: Orders { inbox: orders, wake }, thread: Some(thread) })
    }

    /// The way of orders to the thread, for others.
    pub fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Hands over an order; false if the thread is so far behind that its queue is full.
    pub fn order(&self, order: Order) -> bool {
        self.orders.order(order)
    }

    /// The same without waking the thread, which [`MediaThread::wake`] does when everything is in line.
    pub fn line_up(&self, order: Order) -> bool {
        self.orders.line_up(order)
    }

    /// Wakes the thread.
    pub fn wake(&self) {
        self.orders.wake();
    }

    /// Closes every leg and waits for the thread's end.
    pub fn stop(mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks the scheduler to put this thread before ordinary work: a packet that waits for a compiler is heard as a gap.
fn hurry() {
    // Refused without CAP_SYS_NICE or a limit that allows it; then the calls share the machine like everybody.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

/// One pair of sockets and whether a leg uses it.
struct Seat {
    port: RtpPort,
    used: bool,
}

struct Desk {
    engine: Engine,
    poll: OwnedFd,
    wake: Arc<OwnedFd>,
    ports: BTreeMap<u32, Seat>,
    streams: Streams,
    free: usize,
    next: u32,
    range: PortRange,
    /// When ports are looked for again, because there are none.
    retry_us: Option<u64>,
    chance: Chance,
    sound: Option<SoundPort>,
    quiet: bool,
    /// Until then packets are read as they come.
    alert_us: u64,
    notices: Box<dyn Fn(Notice) + Send>,
    taped: Box<dyn Fn(Taped) + Send>,
    samples: Vec<i16>,
}

impl Desk {
    fn run(&mut self, inbox: &Receiver<Box<Order>>) -> rustix::io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
        let mut datagram = [0; DATAGRAM];
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
        self.open_ahead();
        loop {
            // Orders before packets: the first packet of a call may be there already when its leg is opened.
            self.wait()?;
            if !self.obey(inbox) {
                return Ok(());
            }
            for round in 0..ROUNDS_PER_TURN {
                events.clear();
                let none = Timespec { tv_sec: 0, tv_nsec: 0 };
                match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&none)) {
                    Ok(0) => break,
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
                let now = clock::now();
                if round >= ROUNDS_OF_A_FLOOD {
                    self.alert_us = now.mono_us + ALERT_US;
                }
                for event in &events {
                    self.read(now, event.data.u64(), &mut datagram, &mut control);
                }
            }
            let now = clock::now();
            if let Some(sound) = &mut self.sound {
                sound.exchange(now, &mut self.engine);
            }
            if self.engine.poll_timeout().is_some_and(|due| due <= now.mono_us) {
                self.engine.handle_timeout(now);
            }
            if self.retry_us.is_some_and(|due| due <= now.mono_us) {
                self.open_ahead();
            }
            if std::mem::replace(&mut self.quiet, self.engine.is_quiet()) != self.quiet {
                (self.notices)(Notice::Quiet(self.quiet));
            }
            self.drain();
        }
    }

    /// Sleeps until an order, a deadline, or, where no deadline is near, a packet.
    fn wait(&self) -> rustix::io::Result<()> {
        let due = crate::now::earliest(
            self.engine.poll_timeout(),
            self.sound.as_ref().and_then(SoundPort::poll_timeout),
        );
        let due = crate::now::earliest(due, self.retry_us);
        let now_us = clock::now().mono_us;
        let left_us = due.map(|due| due.saturating_sub(now_us));
        let timeout = left_us.map(|us| Timespec {
            tv_sec: i64::try_from(us / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(us % 1_000_000 * 1_000).unwrap_or(0),
        });
        let soon = left_us.is_some_and(|us| us <= SOON_US) && self.alert_us <= now_us;
        let order = PollFd::new(&self.wake, PollFlags::IN);
        let packet = PollFd::new(&self.poll, PollFlags::IN);
        let woken = match soon {
            true => poll(&mut [order], timeout.as_ref()),
            false => poll(&mut [order, packet], timeout.as_ref()),
        };
        match woken {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
            Ok(_) => {
                // There is nothing to read if it was a packet.
                let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Obeys what waits; false when the thread shall end.
    fn obey(&mut self, inbox: &Receiver<Box<Order>>) -> bool {
        loop {
            match inbox.try_recv().map(|order| *order) {
                Ok(Order::Engine(command)) => {
                    if let Command::Open { port, .. } = &command {
                        self.take(*port);
                    }
                    self.engine.handle(clock::now(), command);
                    self.drain();
                }
                Ok(Order::Stream { stream, opened }) => self.stream_opened(stream, opened),
                Ok(Order::Sound(sound)) => self.sound = sound,
                Ok(Order::Ports(range)) => {
                    self.range = range;
                    self.open_ahead();
                }
                Ok(Order::Discard(port)) => self.discard(port),
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => {
                    self.drain();
                    return false;
                }
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn stream_opened(&mut self, stream: StreamId, opened: Result<Box<RelayStream>, String>) {
        let Some((port, result)) = self.streams.adopt(self.poll.as_fd(), stream, opened) else { return };
        let input = match &result {
            Ok(()) => StreamInput::Open,
            Err(why) => StreamInput::Closed(why),
        };
        self.engine.handle_stream(clock::now(), port, stream, input);
        self.drain();
    }

    /// Reads what a stream has, and writes what waited for it.
    fn read_stream(&mut self, now: Now, stream: StreamId, buffer: &mut [u8]) {
        let (poll, engine) = (self.poll.as_fd(), &mut self.engine);
        self.streams.exchange(poll, stream, buffer, |port, input| {
            engine.handle_stream(now, port, stream, input);
        });
    }

    fn read(&mut self, now: Now, name: u64, datagram: &mut [u8], control: &mut [u8]) {
        if let Some(stream) = Streams::named(name) {
            return self.read_stream(now, stream, datagram);
        }
        let component = if name & 1 == 0 { Component::Rtp } else { Component::Rtcp };
        let id = (name >> 1) as u32;
        let Some(seat) = self.ports.get(&id) else { return };
        let Some(arrived) = seat.port.receive(component, datagram, control) else { return };
        let at = clock::arrival(now, arrived.stamp_utc_us);
        if let Some(bytes) = datagram.get_mut(..arrived.len) {
            self.engine.handle_packet(at, PortId(id), component, arrived.from, bytes);
        }
    }

    fn drain(&mut self) {
        let mut packet = [0; DATAGRAM];
        while let Some(transmit) = self.engine.poll_transmit(&mut packet) {
            let Some(bytes) = packet.get(..transmit.len) else { continue };
            if let Some(stream) = transmit.stream {
                self.streams.send(self.poll.as_fd(), stream, bytes);
            } else if let Some(seat) = self.ports.get(&transmit.port.0) {
                seat.port.send(transmit.component, transmit.to, bytes);
            }
        }
        while let Some((port, order)) = self.engine.poll_stream() {
            match order {
                StreamOrder::Open { stream, server, carriage } => {
                    self.streams.expect(stream, port);
                    (self.notices)(Notice::Stream { stream, server, carriage });
                }
                StreamOrder::Close { stream } => self.streams.remove(stream),
            }
        }
        while let Some(recorded) = self.engine.poll_recording(&mut self.samples) {
            let taped = match recorded {
                Recorded::Started { .. } => Taped::Started(recorded),
                Recorded::Samples { .. } => Taped::Samples(recorded, self.samples.clone()),
                Recorded::Finished { .. } => Taped::Finished(recorded),
            };
            (self.taped)(taped);
        }
        while let Some(event) = self.engine.poll_event() {
            let closed = if let Event::Closed { port, .. } = &event { Some(*port) } else { None };
            (self.notices)(Notice::Event(event));
            // Its sockets are closed before others are opened: they may be the only ones of the range.
            if closed.is_some_and(|port| self.ports.remove(&port.0).is_some()) {
                self.open_ahead();
            }
        }
    }

    fn take(&mut self, port: PortId) {
        if let Some(seat) = self.ports.get_mut(&port.0)
            && !seat.used
        {
            seat.used = true;
            self.free -= 1;
            self.open_ahead();
        }
    }

    fn discard(&mut self, port: PortId) {
        if self.ports.get(&port.0).is_some_and(|seat| !seat.used) {
            self.ports.remove(&port.0);
            self.free -= 1;
            self.open_ahead();
        }
    }

    /// Opens pairs until enough wait. A port that was used is not opened again at once: late packets of the old call
    /// would be heard in the new one, so the search goes on from the last one.
    fn open_ahead(&mut self) {
        self.retry_us = None;
        while self.free < PORTS_AHEAD {
            match self.open_next() {
                Ok((port, number)) => {
                    self.free += 1;
                    (self.notices)(Notice::Port { port, number });
                }
                Err(error) => {
                    if self.free == 0 {
                        (self.notices)(Notice::NoPort(error));
                        self.retry_us = Some(clock::now().mono_us + RETRY_PORTS_US);
                    }
                    return;
                }
            }
        }
    }

    fn open_next(&mut self) -> io::Result<(PortId, u16)> {
        let first = self.range.first.next_multiple_of(2);
        let pairs = u32::from(self.range.last.saturating_sub(first).div_ceil(2)).max(1);
        if self.next == 0 {
            self.next = self.chance.below(pairs).max(1);
        }
        let mut refusal = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..pairs {
            let number = first + (self.next % pairs * 2) as u16;
            self.next = self.next.wrapping_add(1).max(1);
            match RtpPort::open(self.range.binding, number) {
                Ok(port) => {
                    let id = self.next;
                    self.watch(id, &port)?;
                    self.ports.insert(id, Seat { port, used: false });
                    return Ok((PortId(id), number));
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn watch(&self, id: u32, port: &RtpPort) -> io::Result<()> {
        for (component, bit) in [(Component::Rtp, 0), (Component::Rtcp, 1)] {
            let name = epoll::EventData::new_u64(u64::from(id) << 1 | bit);
            epoll::add(self.poll.as_fd(), port.descriptor(component), name, epoll::EventFlags::IN)?;
        }
        Ok(())
    }
}
