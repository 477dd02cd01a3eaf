//! Drives an [`Inspection`]: sockets, name servers and TLS as the phone has them, for as long as it asks.

use std::net::SocketAddr;
use std::time::Duration;

use super::sip_network::{Reported, SipNetwork};
use super::{StartError, clock, control};
use crate::chance::Chance;
use crate::config::Config;
use crate::now::Now;
use crate::phone::inspection::{Inspection, LineReport};
use crate::sip::network::Input;

/// The longest that a look may take; each question has a time of its own.
const LONGEST: Duration = Duration::from_secs(60);
/// The largest SIP datagram.
const DATAGRAM: usize = 65_535;

/// Asks the servers of all enabled lines; the reports are in the order of the file. It takes as long as the slowest
/// server of each eight lines, 20 s at most.
///
/// # Errors
/// [`StartError`] if the machine gives no socket.
pub fn inspect(config: &Config) -> Result<Vec<LineReport>, StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| StartError::System { what: "randomness", error: error.into() })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::System { what: "an event loop", error })?;
    let reports = runtime.block_on(ask(config, Inspection::new, Chance::from_seed(seed), LONGEST));
    runtime.shutdown_background();
    reports
}

/// The same within a time, for a look at what `begin` is about.
pub(super) async fn ask(
    config: &Config,
    begin: fn(Now, &Config, SocketAddr, Chance) -> Inspection,
    chance: Chance,
    within: Duration,
) -> Result<Vec<LineReport>, StartError> {
    let until = clock::now().deadline(within);
    let binding = control::binding(config, config.sip.dscp);
    // A phone that runs has the port of the configuration.
    let (mut network, mut reports) = SipNetwork::bind(binding, 0, None)
        .map_err(|error| StartError::Bind { address: binding.address.to_string(), error })?;
    let local = network.udp_local();
    let mut inspection = begin(clock::now(), config, local, chance);
    let mut datagram = Vec::with_capacity(DATAGRAM);
    loop {
        for (line, account) in inspection.accounts() {
            network.set_line(account, line);
        }
        while let Some(output) = inspection.poll_output() {
            network.perform(output);
        }
        if let Some(reports) = inspection.reports() {
            return Ok(reports.into_iter().cloned().collect());
        }
        let now = clock::now();
        if until <= now.mono_us {
            inspection.give_up(now);
            continue;
        }
        let due = inspection.poll_timeout().unwrap_or(u64::MAX).saturating_sub(now.mono_us);
        tokio::select! {
            received = network.receive(&mut datagram) => match received {
                Ok(remote) => {
                    inspection.handle(clock::now(), Input::Datagram { local, remote, bytes: &datagram });
                }
                Err(reported) => inspection.handle(clock::now(), reported.input()),
            },
            Some(reported) = reports.recv() => {
                network.note(&reported);
                if let Reported::Connected { remote, certificate_until_utc_us: Some(until), .. } = reported {
                    inspection.handle_certificate(remote, until);
                }
                inspection.handle(clock::now(), reported.input());
            }
            () = tokio::time::sleep(Duration::from_micros(due).min(Duration::from_secs(1))) => {
                inspection.handle_timeout(clock::now());
            }
        }
    }
}
