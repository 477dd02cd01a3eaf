//! Looks servers up as the phone does, with the reason where there are none.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::device::clock;
use crate::device::resolver::Resolver;
use crate::phone::diagnosis::Lookup;
use crate::sip::locate::{Destination, Families, Located, Locator, Target};
use crate::sip::network::{LookupError, Output};
use crate::sip::srv::ServerName;

/// How long a server is looked up.
const WITHIN: Duration = Duration::from_secs(5);

/// Where a server is, the preferred address first; there is one at least.
pub(super) async fn look_up(
    resolver: Option<&Resolver>,
    name: &ServerName,
    chance: Chance,
) -> Result<Vec<SocketAddr>, Lookup> {
    let found = tokio::time::timeout(WITHIN, locate(resolver, name, chance)).await;
    let targets = found.unwrap_or(Err(LookupError::Timeout)).map_err(|error| Lookup::from(&error))?;
    Ok(targets.into_iter().map(|target| target.remote).collect())
}

/// Of the addresses of a server, the one that the phone would use: the first that this machine has a way to. `local`
/// tells the address of this machine that faces another one.
pub(super) fn preferred<E>(
    addresses: &[SocketAddr],
    local: impl Fn(IpAddr) -> Result<IpAddr, E>,
) -> Option<SocketAddr> {
    let faced = addresses.iter().find(|address| local(address.ip()).is_ok());
    faced.or(addresses.first()).copied()
}

async fn locate(
    resolver: Option<&Resolver>,
    name: &ServerName,
    chance: Chance,
) -> Result<Vec<Target>, LookupError> {
    let mut locator = Locator::new(Families { v4: true, v6: true }, chance);
    match locator.locate(clock::now(), &Destination::of_service(name)) {
        Located::Here(targets) => return Ok(targets),
        Located::Busy => return Err(LookupError::Failed("too many questions".into())),
        Located::Soon => {}
    }
    let none = || LookupError::Failed("there is none; check /etc/resolv.conf".into());
    let resolver = resolver.ok_or_else(none)?;
    loop {
        if let Some((_, result)) = locator.poll_result() {
            return result;
        }
        let Some(Output::Query { query, question, .. }) = locator.poll_output() else {
            return Err(LookupError::NoAddress);
        };
        let result = resolver.ask(&question).await;
        locator.handle_answer(clock::now(), query, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_family_that_the_machine_lacks_is_the_last_choice() {
        let both: Vec<SocketAddr> =
            ["192.0.2.1:3478", "[2001:db8::1]:3478"].iter().map(|one| one.parse().unwrap()).collect();
        let only = |v4: bool| move |to: IpAddr| if to.is_ipv4() == v4 { Ok(to) } else { Err("no route") };
        assert_eq!(preferred(&both, only(true)), Some(both[0]));
        assert_eq!(preferred(&both, only(false)), Some(both[1]));
        assert_eq!(preferred(&both[1..], only(true)), Some(both[1]), "what fails is told with it");
        assert_eq!(preferred(&[], only(true)), None);
    }
}
