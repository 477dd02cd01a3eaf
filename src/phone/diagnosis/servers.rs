//! Which STUN and TURN servers are asked, and by which ways.

use crate::config::{Config, Line, NatMode, TurnTransport, TurnUrl};
use crate::nat::discovery::MOST_SERVERS;
use crate::nat::stun::DEFAULT_PORT;
use crate::nat::turn_server::{Carriage, SECURE_PORT};
use crate::phone::paths::{carriage, turn_server};
use crate::phone::reach::stun_server;
use crate::sip::srv::ServerName;

/// TURN servers that are tried.
const MOST_RELAYS: usize = 8;

/// A TURN server, and the ways to it.
#[derive(Clone, PartialEq, Debug)]
pub struct Relay {
    /// Its host, for people.
    pub host: String,
    /// The account there.
    pub username: String,
    /// Its secret.
    pub password: String,
    /// The ways, those of the configuration first.
    pub ways: Vec<RelayWay>,
}

/// One way to a TURN server.
#[derive(Clone, PartialEq, Debug)]
pub struct RelayWay {
    /// What is looked for.
    pub name: ServerName,
    /// How it is reached.
    pub carriage: Carriage,
    /// Whether the configuration says so.
    pub configured: bool,
}

fn lines(config: &Config) -> impl Iterator<Item = &Line> {
    config.line.iter().filter(|line| line.enabled && line.nat.mode == NatMode::Auto)
}

/// The STUN servers of all lines, each once.
pub fn stun_servers(config: &Config) -> Vec<ServerName> {
    let mut servers: Vec<ServerName> = Vec::new();
    for server in lines(config).flat_map(|line| &line.nat.stun).map(stun_server) {
        if !servers.contains(&server) && servers.len() < MOST_SERVERS {
            servers.push(server);
        }
    }
    servers
}

/// The TURN servers of all lines, each once.
pub fn relays(config: &Config) -> Vec<Relay> {
    let mut relays: Vec<Relay> = Vec::new();
    for (line, server) in
        lines(config).flat_map(|line| line.nat.turn.iter().map(move |server| (line, server)))
    {
        let Some(first) = server.url.0.first() else { continue };
        let way = |url: &TurnUrl, configured: bool| RelayWay {
            name: turn_server(url),
            carriage: carriage(line, url),
            configured,
        };
        let own = server.url.0.iter().map(|url| way(url, true));
        let is_own = |transport| server.url.0.iter().any(|url| url.transport == transport);
        let all = [TurnTransport::Udp, TurnTransport::Tcp, TurnTransport::Tls];
        let others = all.into_iter().filter(|transport| !is_own(*transport)).map(|transport| {
            // A usual port belongs to its transport; another one may be there for all of them.
            let port = first.port.filter(|port| ![DEFAULT_PORT, SECURE_PORT].contains(port));
            way(&TurnUrl { host: first.host.clone(), port, transport }, false)
        });
        let relay = Relay {
            host: first.host.clone(),
            username: server.username.clone(),
            password: server.password.reveal().to_owned(),
            ways: own.chain(others).collect(),
        };
        if !relays.contains(&relay) && relays.len() < MOST_RELAYS {
            relays.push(relay);
        }
    }
    relays
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_tried_by_its_own_ways_first_and_by_all_others_then() {
        let line = |name: &str, url: &str| {
            format!(
                "[[line]]\nname = {name:?}\nuser = \"1\"\ndomain = \"pbx\"\npassword = \"x\"\n[line.nat]\n\
                 stun = [\"stun.example\", \"192.0.2.1:19302\"]\nice = true\n[[line.nat.turn]]\nurl = {url}\n\
                 username = \"u\"\npassword = \"p\"\n"
            )
        };
        let told = |urls: &[&str]| {
            let lines: String =
                urls.iter().enumerate().map(|(at, url)| line(&format!("l{at}"), url)).collect();
            let config = Config::parse(&lines, "t.toml").expect("a configuration");
            assert_eq!(stun_servers(&config).len(), 2, "each once");
            let shown = |way: &RelayWay| {
                format!(
                    "{} {:?} {}",
                    way.carriage.word(),
                    way.name.port,
                    if way.configured { "own" } else { "other" }
                )
            };
            let relays = relays(&config);
            relays.iter().map(|relay| relay.ways.iter().map(shown).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&["\"turn:turn.example\"", "\"turn:turn.example\""]),
            [["udp None own", "tcp None other", "tls None other"]]
        );
        assert_eq!(
            told(&["[\"turns:turn.example:443\", \"turn:turn.example:3478\"]"]),
            [["tls Some(443) own", "udp Some(3478) own", "tcp Some(443) other"]]
        );
        assert_eq!(
            told(&["\"turn:turn.example:3478?transport=tcp\""]),
            [["tcp Some(3478) own", "udp None other", "tls None other"]]
        );
    }
}
