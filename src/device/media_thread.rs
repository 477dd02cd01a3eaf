//! The media thread: one for all legs. It owns the RTP sockets, opened ahead of the calls that will need them, and drives
//! the [`Engine`] by packets, orders and one deadline.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, epoll, eventfd};

use super::clock;
use super::rtp_port::{Binding, Component, RtpPort};
use super::sound::SoundPort;
use crate::chance::Chance;
use crate::media::{Command, Engine, Event, PortId, Recorded, Settings};

/// Pairs of sockets that wait for a call. A burst of calls beyond it waits for the next ones, a millisecond each.
const PORTS_AHEAD: usize = 4;
/// Orders and notices that may wait in a queue before the sender is told that it is full.
const QUEUE: usize = 4096;
/// Datagrams read from one socket before the others get their turn.
const READS_PER_TURN: usize = 64;
/// Readiness of this many sockets is fetched at once.
const EVENTS_PER_WAIT: usize = 64;
/// Larger than any datagram that is looked at: what is longer is cut, and refused by the engine.
const DATAGRAM: usize = 2048;
/// The nice value of the media thread.
const NICE: i32 = -16;
/// The number under which the wake-up descriptor is known to epoll.
const WAKE: u64 = u64::MAX;

/// What the media thread is asked to do.
pub enum Order {
    /// An order to the engine.
    Engine(Command),
    /// The sound device was opened, or is gone.
    Sound(Option<SoundPort>),
    /// The configuration changed: ports opened from now on lie in this range and are bound like this.
    Ports(PortRange),
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
    /// No pair could be opened in the configured range.
    NoPort(io::Error),
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

/// The other end of the media thread.
pub struct MediaThread {
    orders: SyncSender<Order>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl MediaThread {
    /// Starts the thread. `notices` and `taped` are called on it and must not block.
    pub fn start(
        range: PortRange,
        settings: Settings,
        chance: Chance,
        notices: impl Fn(Notice) + Send + 'static,
        taped: impl Fn(Taped) + Send + 'static,
    ) -> io::Result<MediaThread> {
        let (orders, inbox) = sync_channel(QUEUE);
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let mut desk = Desk {
            engine: Engine::new(settings, chance.clone()),
            poll,
            wake: Arc::clone(&wake),
            ports: BTreeMap::new(),
            free: 0,
            next: 0,
            range,
            chance,
            sound: None,
            notices: Box::new(notices),
            taped: Box::new(taped),
            samples: Vec::with_capacity(4096),
        };
        let thread = std::thread::Builder::new().name("media".into()).spawn(move || {
            hurry();
            desk.run(&inbox);
        })?;
        Ok(MediaThread { orders, wake, thread: Some(thread) })
    }

    /// Hands over an order; false if the thread is so far behind that its queue is full.
    pub fn order(&self, order: Order) -> bool {
        let sent = match self.orders.try_send(order) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        };
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        sent
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
    free: usize,
    next: u32,
    range: PortRange,
    chance: Chance,
    sound: Option<SoundPort>,
    notices: Box<dyn Fn(Notice) + Send>,
    taped: Box<dyn Fn(Taped) + Send>,
    samples: Vec<i16>,
}

impl Desk {
    fn run(&mut self, inbox: &Receiver<Order>) {
        let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
        let mut datagram = [0; DATAGRAM];
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
        self.open_ahead();
        loop {
            let timeout = self.until_next();
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
                    }
                    name => self.read(name, &mut datagram, &mut control),
                }
            }
            if !self.obey(inbox) {
                return;
            }
            let now = clock::now();
            if let Some(sound) = &mut self.sound {
                sound.exchange(now, &mut self.engine);
            }
            if self.engine.poll_timeout().is_some_and(|due| due <= now.mono_us) {
                self.engine.handle_timeout(now);
            }
            self.drain();
        }
    }

    fn until_next(&self) -> Option<rustix::event::Timespec> {
        let due = crate::now::earliest(self.engine.poll_timeout(), self.sound.as_ref().map(SoundPort::poll_timeout))?;
        let us = due.saturating_sub(clock::now().mono_us);
        Some(rustix::event::Timespec {
            tv_sec: i64::try_from(us / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(us % 1_000_000 * 1_000).unwrap_or(0),
        })
    }

    /// Obeys what waits; false when the thread shall end.
    fn obey(&mut self, inbox: &Receiver<Order>) -> bool {
        loop {
            match inbox.try_recv() {
                Ok(Order::Engine(command)) => {
                    if let Command::Open { port, .. } = &command {
                        self.take(*port);
                    }
                    self.engine.handle(clock::now(), command);
                    self.drain();
                }
                Ok(Order::Sound(sound)) => self.sound = sound,
                Ok(Order::Ports(range)) => self.range = range,
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => {
                    self.drain();
                    return false;
                }
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn read(&mut self, name: u64, datagram: &mut [u8], control: &mut [u8]) {
        let component = if name & 1 == 0 { Component::Rtp } else { Component::Rtcp };
        let id = (name >> 1) as u32;
        for _ in 0..READS_PER_TURN {
            let Some(seat) = self.ports.get(&id) else { return };
            let Some(arrived) = seat.port.receive(component, datagram, control) else { return };
            let at = clock::arrival(clock::now(), arrived.stamp_utc_us);
            if let Some(bytes) = datagram.get_mut(..arrived.len) {
                self.engine.handle_packet(at, PortId(id), component, arrived.from, bytes);
            }
            self.drain();
        }
    }

    fn drain(&mut self) {
        let mut packet = [0; DATAGRAM];
        while let Some(transmit) = self.engine.poll_transmit(&mut packet) {
            if let (Some(seat), Some(bytes)) = (self.ports.get(&transmit.port.0), packet.get(..transmit.len)) {
                seat.port.send(transmit.component, transmit.to, bytes);
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
            let closed = if let Event::Closed { port, .. } = &event { self.ports.remove(&port.0) } else { None };
            (self.notices)(Notice::Event(event));
            if closed.is_some() {
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

    /// Opens pairs until enough wait. A port that was used is not opened again at once: late packets of the old call
    /// would be heard in the new one, so the search goes on from the last one.
    fn open_ahead(&mut self) {
        while self.free < PORTS_AHEAD {
            match self.open_next() {
                Ok((port, number)) => {
                    self.free += 1;
                    (self.notices)(Notice::Port { port, number });
                }
                Err(error) => {
                    if self.free == 0 {
                        (self.notices)(Notice::NoPort(error));
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
