//! Gathers the facts of a diagnosis: asks registrars, STUN and TURN servers with sockets of its own, so that a phone that
//! runs is not disturbed, and within a bounded time.

mod names;
mod outside;
mod relay;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::inspect::ask;
use super::resolver::Resolver;
use super::sip_network::local_address;
use super::{StartError, clock, control};
use crate::chance::Chance;
use crate::config::Config;
use crate::events::cloud_event::rfc3339;
use crate::now::micros;
use crate::phone::diagnosis::servers::stun_servers;
use crate::phone::diagnosis::{self, Clock, Diagnosis, Facts, Line, Surroundings, Told};
use crate::phone::inspection::{Inspection, LineReport, ServerReport};
use names::{look_up, preferred};
use outside::Outside;

/// How long registrars are asked.
const REGISTRARS_WITHIN: Duration = Duration::from_secs(9);
/// The ages, in seconds, that an idle mapping is tried at, up to what was asked for.
const AGES: [u64; 14] = [5, 10, 15, 20, 25, 30, 45, 60, 90, 120, 180, 240, 300, 600];

/// Looks at everything and tells what was found. It takes 5 s where all is well and 15 s at most; with a `lifetime`, that
/// of an idle mapping is looked for as well, and it takes so much longer.
///
/// # Errors
/// [`StartError`] if the machine gives no socket.
pub fn examine(config: &Config, lifetime: Option<Duration>) -> Result<Diagnosis, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::System { what: "an event loop", error })?;
    let diagnosis = runtime.block_on(diagnose(config, lifetime, None));
    runtime.shutdown_background();
    diagnosis
}

/// The same inside a runtime, with what a running phone tells of itself.
///
/// # Errors
/// [`StartError`] if the machine gives no socket.
pub async fn diagnose(
    config: &Config,
    lifetime: Option<Duration>,
    told: Option<Told>,
) -> Result<Diagnosis, StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| StartError::System { what: "randomness", error: error.into() })?;
    let mut chance = Chance::from_seed(seed);
    let begun = Instant::now();
    let binding = control::binding(config, config.sip.dscp);
    let longest = lifetime.map_or(0, |lifetime| lifetime.as_secs());
    let ages = AGES.into_iter().filter(|age| *age <= longest).map(Duration::from_secs).collect();
    let own = ask(config, Inspection::new, chance.fork(), REGISTRARS_WITHIN);
    let others = ask(config, Inspection::of_other_ways, chance.fork(), REGISTRARS_WITHIN);
    let resolver = Resolver::from_system().ok();
    let mut fork = chance.fork();
    let stun = async {
        let (servers, unresolved) = stun_addresses(config, resolver.as_ref(), &mut fork).await;
        (Outside::explore(binding, &servers, ages, fork).await, unresolved)
    };
    let relays = relay::try_all(config, resolver.as_ref(), binding, chance.fork());
    let (own, others, (mut outside, unresolved), turn) = tokio::join!(own, others, stun, relays);
    let (own, others) = (own?, others?);
    let mut facts = Facts {
        running: told.is_some(),
        clock: compared(own.iter().flat_map(|report| &report.servers)),
        network: Surroundings { unresolved, dscp_sent: config.sip.dscp, ..Surroundings::default() },
        lines: own.iter().filter_map(|report| of_line(config, report, &others)).collect(),
        turn,
        ..Facts::default()
    };
    look_closer(config, &mut facts, &mut outside, chance).await;
    if let Some(told) = told {
        for line in &mut facts.lines {
            line.phone =
                told.lines.iter().find(|(name, _)| *name == line.name).map(|(_, state)| state.clone());
        }
        facts.calls = told.calls;
        facts.network.watched = told.watched;
    }
    facts.time = rfc3339(clock::now().utc_us);
    facts.took_us = micros(begun.elapsed());
    Ok(Diagnosis::of(facts))
}

fn of_line(config: &Config, report: &LineReport, others: &[LineReport]) -> Option<Line> {
    let others: Vec<ServerReport> = others
        .iter()
        .filter(|other| other.index == report.index)
        .flat_map(|other| other.servers.clone())
        .collect();
    Some(Line::of(config.line.get(report.index)?, report, &others))
}

fn compared<'a>(servers: impl Iterator<Item = &'a ServerReport>) -> Clock {
    let told = servers.filter_map(|server| Some((server.ahead_s?, server.address))).next();
    let utc_us = clock::now().utc_us;
    Clock {
        utc_us,
        set: utc_us >= clock::EARLIEST_CREDIBLE_US,
        ahead_s: told.map(|(ahead, _)| ahead),
        server: told.map(|(_, server)| server.to_string()),
    }
}

/// What is asked from the socket that the STUN servers have seen, and what the routers on the way show.
async fn look_closer(config: &Config, facts: &mut Facts, outside: &mut Option<Outside>, chance: Chance) {
    let Some(outside) = outside else { return };
    let answers = |line: &Line| {
        line.udp_servers().find(|server| server.is_ipv4() == outside.own().is_none_or(|own| own.is_ipv4()))
    };
    let lines: Vec<(usize, SocketAddr)> =
        facts.lines.iter().enumerate().filter_map(|(index, line)| Some((index, answers(line)?))).collect();
    let target = outside.server().or_else(|| lines.first().map(|(_, server)| *server));
    let target =
        target.or_else(|| facts.lines.iter().flat_map(|line| &line.ways).map(|way| way.address).next());
    let asked = lines.iter().filter_map(|(index, server)| {
        let line = facts.lines.get(*index)?;
        let config = config.line.iter().find(|config| config.name == line.name)?;
        Some((*server, crate::phone::inspection::address_of(config)))
    });
    let asked: Vec<_> = asked.collect();
    let hops = outside::hops(target);
    let (reflected, hops) = tokio::join!(outside.reflect(&asked, chance), hops);
    for ((index, _), reflection) in lines.iter().zip(reflected) {
        if let Some(line) = facts.lines.get_mut(*index) {
            line.reflection = reflection;
        }
    }
    let network = &mut facts.network;
    network.nat = outside.found().cloned();
    network.own = target.and_then(|target| local_address(target.ip()).ok());
    network.dscp_received = outside.marks();
    let translated = network.nat.as_ref().and_then(|nat| nat.translated);
    network.double_nat = diagnosis::double_nat(network.own, &hops, translated);
    network.hops = hops;
}

/// The addresses of the STUN servers of all lines, and the names that lead nowhere.
async fn stun_addresses(
    config: &Config,
    resolver: Option<&Resolver>,
    chance: &mut Chance,
) -> (Vec<SocketAddr>, Vec<(String, String)>) {
    let (mut found, mut unresolved) = (Vec::new(), Vec::new());
    for name in stun_servers(config) {
        match look_up(resolver, &name, chance.fork()).await {
            Ok(addresses) => found.extend(preferred(&addresses, local_address)),
            Err(lookup) => unresolved.push((name.host, lookup.what)),
        }
    }
    (found, unresolved)
}
