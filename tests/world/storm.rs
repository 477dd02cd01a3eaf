//! Ten thousand devices, or flows of devices, lose their registrar together and find it again together: soon, and without
//! a storm.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tipring::chance::Chance;
use tipring::now::{Now, earliest};
use tipring::phone::reach::Reach;
use tipring::sip::account::{Account, Credentials, Settings};
use tipring::sip::auth::{Algorithm, DigestChallenge};
use tipring::sip::handle::AccountId;
use tipring::sip::message::{Message, Request, Response};
use tipring::sip::method::Method;
use tipring::sip::network::{Input, Output, Transport};
use tipring::sip::reader::read_datagram;
use tipring::sip::registration::RegistrationState;
use tipring::sip::uri::Uri;
use tipring::sip::user_agent::UserAgent;

/// Registrations: those of so many devices, or of half as many with two flows each.
const AGENTS: usize = 10_000;
const DELAY_US: u64 = 10_000;
const SECOND: u64 = 1_000_000;

/// The registrar, or the second proxy before it.
fn registrar(flow: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, flow as u8 + 1], 5060))
}

/// The user agent of one device and what keeps it reachable.
struct Device {
    agent: UserAgent,
    reach: Reach,
    begun: bool,
    /// Whether each of its flows is registered, as far as it knows.
    registered: Vec<(AccountId, bool)>,
    /// The deadline that is in the queue.
    due: Option<u64>,
    /// The connection that stands, and whether the registrar will ever hear it.
    connection: Option<(u64, bool)>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Deadline,
    /// By the first or the second flow.
    ToRegistrar(usize, Vec<u8>),
    ToDevice(usize, Vec<u8>),
    /// A connection of the device's stands.
    Connected(u64),
    /// One has ended, or was refused.
    Closed(u64),
}

/// What the registrar is at.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Registrar {
    Up,
    /// It hears nothing; connections are refused.
    Down,
    /// It takes connections and reads nothing of them, then or later.
    Boots,
}

struct Fleet {
    now: Now,
    devices: Vec<Device>,
    queue: BinaryHeap<Reverse<(u64, u64, usize, What)>>,
    order: u64,
    transport: Transport,
    registrar: Registrar,
    /// How many flows each device has.
    flows: usize,
    /// Whether the registrar has the bindings of this device's flows.
    bound: Vec<[bool; 2]>,
    /// Requests that reached the registrar.
    requests: Vec<(u64, Method)>,
    /// When somebody asked for a connection.
    connects: Vec<u64>,
}

impl Fleet {
    /// Devices that are switched on within `spread`.
    fn new(spread: Duration, transport: Transport, flows: usize) -> Fleet {
        let mut chance = Chance::from_number(11);
        let now = Now { mono_us: SECOND, utc_us: 0 };
        let mut fleet = Fleet {
            now,
            devices: Vec::new(),
            queue: BinaryHeap::new(),
            order: 0,
            transport,
            registrar: Registrar::Up,
            flows,
            bound: vec![[false; 2]; AGENTS / flows],
            requests: Vec::new(),
            connects: Vec::new(),
        };
        for index in 0..AGENTS / flows {
            let settings = Settings { udp: vec![address(index)], ..Settings::default() };
            let agent = UserAgent::new(settings, chance.fork());
            let reach = Reach::new(chance.fork());
            let at = now.mono_us + (chance.unit() * spread.as_micros() as f64) as u64;
            let due = Some(at);
            let registered = Vec::new();
            fleet.devices.push(Device { agent, reach, begun: false, registered, due, connection: None });
            fleet.put(at, index, What::Deadline);
        }
        fleet
    }

    fn put(&mut self, at: u64, index: usize, what: What) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order, index, what)));
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now.mono_us + seconds * SECOND;
        while self.queue.peek().is_some_and(|Reverse((at, ..))| *at <= end) {
            let Some(Reverse((at, _, index, what))) = self.queue.pop() else { return };
            self.now.mono_us = at;
            match what {
                What::ToRegistrar(flow, bytes) => self.registrar_hears(index, flow, &bytes),
                What::ToDevice(flow, bytes) => {
                    let (local, remote) = (address(index), registrar(flow));
                    let input = match self.devices[index].connection {
                        Some((connection, _)) => Input::Stream { connection, bytes: &bytes },
                        None => Input::Datagram { local, remote, bytes: &bytes },
                    };
                    self.tell(index, input);
                }
                What::Connected(connection) => {
                    self.devices[index].connection = Some((connection, self.registrar == Registrar::Up));
                    let (local, remote) = (address(index), registrar(0));
                    self.tell(index, Input::Connected { connection, local, remote });
                }
                What::Closed(connection) => {
                    self.devices[index].connection.take_if(|(there, _)| *there == connection);
                    self.tell(index, Input::Closed { connection, why: "closed".to_owned() });
                }
                What::Deadline if self.devices[index].due == Some(at) => {
                    let device = &mut self.devices[index];
                    device.due = None;
                    if !std::mem::replace(&mut device.begun, true) {
                        for flow in 0..self.flows {
                            let account = account(index, self.transport, flow);
                            device.registered.push((device.agent.add_account(self.now, account), false));
                        }
                    }
                    device.agent.handle_timeout(self.now);
                    device.reach.handle_timeout(self.now, &mut device.agent);
                    self.drain(index);
                }
                What::Deadline => {}
            }
        }
        self.now.mono_us = end;
    }

    fn tell(&mut self, index: usize, input: Input<'_>) {
        self.devices[index].agent.handle(self.now, input);
        self.drain(index);
    }

    /// The registrar goes down and says so to whoever is connected.
    fn down(&mut self) {
        self.registrar = Registrar::Down;
        self.bound.fill([false; 2]);
        for index in 0..self.devices.len() {
            if let Some((connection, _)) = self.devices[index].connection {
                self.put(self.now.mono_us + DELAY_US, index, What::Closed(connection));
            }
        }
    }

    fn drain(&mut self, index: usize) {
        loop {
            let device = &mut self.devices[index];
            let mut quiet = true;
            while let Some(event) = device.agent.poll_event() {
                quiet = false;
                device.reach.handle_event(self.now, &event, &mut device.agent);
                if let tipring::sip::ua_event::Event::Registration { account, state, .. } = &event {
                    let registered = matches!(state, RegistrationState::Registered { .. });
                    let mut flows = device.registered.iter_mut();
                    flows.find(|(one, _)| one == account).expect("a flow of its").1 = registered;
                }
            }
            while let Some(output) = self.devices[index].agent.poll_output() {
                quiet = false;
                match output {
                    Output::Datagram { remote, bytes, .. } => {
                        let flow = usize::from(remote == registrar(1));
                        self.put(self.now.mono_us + DELAY_US, index, What::ToRegistrar(flow, bytes));
                    }
                    Output::RouteTo { query, .. } => {
                        let input = Input::LocalAddress { query, result: Ok(address(index).ip()) };
                        self.devices[index].agent.handle(self.now, input);
                    }
                    Output::Connect { connection, .. } => {
                        self.connects.push(self.now.mono_us);
                        let refused = self.registrar == Registrar::Down;
                        let what =
                            if refused { What::Closed(connection) } else { What::Connected(connection) };
                        self.put(self.now.mono_us + 2 * DELAY_US, index, what);
                    }
                    Output::Stream { connection, bytes } => {
                        if self.devices[index].connection == Some((connection, true)) {
                            self.put(self.now.mono_us + DELAY_US, index, What::ToRegistrar(0, bytes));
                        }
                    }
                    Output::Close { connection } => {
                        self.devices[index].connection.take_if(|(there, _)| *there == connection);
                    }
                    other => panic!("{other:?}"),
                }
            }
            if quiet {
                break;
            }
        }
        let device = &mut self.devices[index];
        let due = earliest(device.agent.poll_timeout(), device.reach.poll_timeout());
        let due = due.map(|due| due.max(self.now.mono_us));
        if device.due != due {
            device.due = due;
            if let Some(due) = due {
                self.put(due, index, What::Deadline);
            }
        }
    }

    fn registrar_hears(&mut self, index: usize, flow: usize, bytes: &[u8]) {
        if self.registrar != Registrar::Up {
            return;
        }
        if bytes == b"\r\n\r\n" {
            return self.put(self.now.mono_us + DELAY_US, index, What::ToDevice(flow, b"\r\n".to_vec()));
        }
        let Ok(Some(Message::Request(request))) = read_datagram(bytes) else { return };
        self.requests.push((self.now.mono_us, request.method.clone()));
        let response = if request.method == Method::REGISTER {
            self.register(index, flow, &request)
        } else {
            Response::to(&request, 200)
        };
        self.put(self.now.mono_us + DELAY_US, index, What::ToDevice(flow, response.write()));
    }

    fn register(&mut self, index: usize, flow: usize, request: &Request) -> Response {
        if !request.fields.has("Authorization") {
            let mut response = Response::to(request, 401);
            let challenge = DigestChallenge::new("pbx.example", "nonce", Algorithm::MD5);
            response.fields.push("WWW-Authenticate", challenge.write());
            return response;
        }
        let mut response = Response::to(request, 200);
        response.fields.push("Contact", request.fields.text("Contact").expect("a Contact").into_owned());
        response.fields.push("Expires", "600");
        self.bound[index][flow] = true;
        response
    }

    /// How many flows the registrar has no binding of.
    fn missing(&self) -> usize {
        self.bound.iter().flat_map(|flows| &flows[..self.flows]).filter(|bound| !**bound).count()
    }

    fn all_registered(&self) -> bool {
        self.devices.iter().all(|device| device.registered.iter().all(|(_, registered)| *registered))
    }
}

/// The highest number within a second, since a moment.
fn peak(times: impl Iterator<Item = u64>, since: u64) -> usize {
    let times: Vec<u64> = times.filter(|at| *at >= since).collect();
    let within =
        |at: &u64| times.partition_point(|one| *one < at + SECOND) - times.partition_point(|one| one < at);
    times.iter().map(within).max().unwrap_or_default()
}

fn address(index: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, (index / 250) as u8, (index % 250) as u8 + 1]), 5060)
}

fn account(index: usize, transport: Transport, flow: usize) -> Account {
    let Ok(Uri::Sip(aor)) = Uri::parse(format!("sip:{index}@198.51.100.1")) else { panic!("a URI") };
    let mut account = Account::new(aor);
    account.credentials =
        Some(Credentials { user: index.to_string(), password: "secret".into(), realm: None });
    account.expires = Duration::from_secs(600);
    account.transports = vec![transport];
    if flow == 1 {
        account.reg_id = 2;
        account.outbound_proxy = Uri::parse("sip:198.51.100.2").ok().and_then(|uri| uri.as_sip().cloned());
    }
    account
}

/// All are registered and lose their registrar for a minute and `boots` seconds more; the moment when it is back.
fn back(transport: Transport, flows: usize, boots: u64) -> (Fleet, u64) {
    let mut fleet = Fleet::new(Duration::from_secs(20), transport, flows);
    fleet.run(22);
    assert!(fleet.missing() == 0 && fleet.all_registered());
    fleet.down();
    fleet.run(60);
    fleet.registrar = Registrar::Boots;
    fleet.run(boots);
    fleet.registrar = Registrar::Up;
    let back = fleet.now.mono_us;
    fleet.run(5);
    assert_eq!(fleet.missing(), 0, "are left behind");
    fleet.run(10);
    assert!(fleet.all_registered());
    (fleet, back)
}

fn come_back(flows: usize) {
    let (fleet, back) = back(Transport::Udp, flows, 0);
    // One second of everybody at once would be twenty thousand and more.
    let peak = peak(fleet.requests.iter().map(|(at, _)| *at), back);
    assert!(peak <= 9_000, "{peak} requests in a second");
    let registers =
        fleet.requests.iter().filter(|(at, method)| *at >= back && *method == Method::REGISTER).count();
    assert!(registers <= 2 * AGENTS + AGENTS / 10, "{registers} REGISTERs");
    let total = fleet.requests.iter().filter(|(at, _)| *at >= back).count();
    assert!(total <= 5 * AGENTS, "{total} requests in a quarter of a minute");
    eprintln!("peak {peak}/s, {registers} REGISTERs, {total} requests");
}

#[test]
fn ten_thousand_devices_come_back_without_a_storm() {
    come_back(1);
}

#[test]
fn ten_thousand_flows_two_by_each_device_come_back_without_a_storm() {
    come_back(2);
}

#[test]
fn ten_thousand_devices_that_a_booting_registrar_swallowed_come_back_without_a_storm() {
    let (fleet, back) = back(Transport::Tcp, 1, 9);
    let connects = || fleet.connects.iter().copied();
    // While it is away, a connection is asked for every four seconds, and no sooner where it swallows.
    let away = peak(connects().filter(|at| *at < back), back - 60 * SECOND);
    assert!(away <= AGENTS / 2, "{away} connections in a second while it was away");
    let peak = peak(connects(), back);
    assert!(peak <= AGENTS / 2, "{peak} connections in a second");
    let total = connects().filter(|at| *at >= back).count();
    assert!(total <= AGENTS + AGENTS / 10, "{total} connections for {AGENTS} devices");
    eprintln!("away {away}/s, back {peak}/s, {total} connections");
}
