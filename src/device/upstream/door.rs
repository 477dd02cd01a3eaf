//! The way to an upstream: its name, a connection to one of its addresses, and TLS over it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::clock;
use super::super::resolver::Resolver;
use super::super::sip_network::Stream;
use super::super::tls::{self, Belief};
use crate::config::{Subscriptions, Upstream, UpstreamUrl};
use crate::sip::network::{Question, RecordData};

/// For one address to take a connection.
const CONNECTING: Duration = Duration::from_secs(4);
/// For a name, a connection and a handshake.
const OPENING: Duration = Duration::from_secs(12);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;

/// What went wrong, and what to do about it.
pub type Trouble = (String, String);

/// Where an upstream is, and whom is believed there.
pub struct Door {
    url: UpstreamUrl,
    belief: Belief,
    /// Made when it is needed first.
    tls: OnceLock<Arc<ClientConfig>>,
    /// Where it may lead, if the URL is not the configuration's.
    guard: Option<Subscriptions>,
    /// The folder of recordings that may be sent there.
    recordings: PathBuf,
}

impl Door {
    /// The door that these settings name.
    pub fn of(settings: &Upstream) -> Door {
        let belief = Belief::of_upstream(settings);
        Door { belief, ..Door::to(settings.url.clone()) }
    }

    /// The door of another place, where the public authorities are believed.
    pub fn to(url: UpstreamUrl) -> Door {
        let belief = Belief { ca_file: None, anyone: false };
        Door { url, belief, tls: OnceLock::new(), guard: None, recordings: PathBuf::new() }
    }

    /// The same, but that it leads only where these settings let a URL from outside lead, whatever its name stands for.
    pub fn guarded(self, guard: Subscriptions) -> Door {
        Door { guard: Some(guard), ..self }
    }

    /// The same, for the recordings in this folder, too.
    pub fn for_recordings(self, recordings: PathBuf) -> Door {
        Door { recordings, ..self }
    }

    /// The folder of recordings that may be sent there.
    pub fn recordings(&self) -> &Path {
        &self.recordings
    }

    /// Host and port, as the configuration has them.
    pub fn authority(&self) -> &str {
        self.url.authority()
    }

    /// A connection, with TLS where the URL asks for it.
    pub async fn open(&self) -> Result<Box<dyn Stream>, Trouble> {
        let opening = async {
            let stream = self.connect().await?;
            if !self.url.is_secure() {
                return Ok(Box::new(stream) as Box<dyn Stream>);
            }
            let host = self.url.host();
            let failed = |text: String| {
                let (what, cure) = text.split_once("; ").unwrap_or((&text, "check url"));
                (what.to_owned(), cure.to_owned())
            };
            let believed = match self.tls.get() {
                Some(believed) => believed.clone(),
                None => {
                    let made = tls::client(&self.belief).map_err(|error| failed(error.to_string()))?;
                    self.tls.get_or_init(|| made).clone()
                }
            };
            let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
            let stream = TlsConnector::from(believed).connect(name, stream).await;
            let explain = |error| failed(tls::explain(&error, host, &self.belief, clock::now()));
            Ok(Box::new(stream.map_err(explain)?) as Box<dyn Stream>)
        };
        timeout(OPENING, opening).await.unwrap_or_else(|_| {
            let what = format!("no connection within {} seconds", OPENING.as_secs());
            Err((what, "check url, and the way to it".to_owned()))
        })
    }

    async fn connect(&self) -> Result<TcpStream, Trouble> {
        let port = self.url.port();
        let mut last = "there is none".to_owned();
        for address in self.addresses().await? {
            if self.guard.as_ref().is_some_and(|guard| !guard.permit(address)) {
                last = "it leads to this machine or into a private network".to_owned();
                continue;
            }
            match timeout(CONNECTING, TcpStream::connect(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => {
                    // What can't be set costs a moment, no more.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "nobody answers".to_owned(),
            }
        }
        let what = format!("no connection to {}: {last}", self.url.authority());
        Err((what, "check that it runs, url, and the way to it".to_owned()))
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>, Trouble> {
        let host = self.url.host();
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let failed = |error: &dyn std::fmt::Display| {
            let error = error.to_string();
            // What to do about it is said there to somebody who set up a line.
            let what = format!("{host}: {}", error.split("; ").next().unwrap_or(&error));
            (what, "check url, and the name servers of this device".to_owned())
        };
        // Made anew each time: the network may be another one, and connections are kept.
        let resolver = Resolver::from_system().map_err(|error| failed(&error))?;
        let (four, six) = (Question::A(host.to_owned()), Question::Aaaa(host.to_owned()));
        let (four, six) = tokio::join!(resolver.ask(&four), resolver.ask(&six));
        let mut trouble = None;
        let mut found = Vec::new();
        for records in [four, six] {
            match records {
                Ok(records) => found.extend(records.into_iter().filter_map(|record| match record.data {
                    RecordData::Address(address) => Some(address),
                    _ => None,
                })),
                Err(error) => trouble = Some(error),
            }
        }
        found.truncate(ADDRESSES);
        match trouble {
            Some(error) if found.is_empty() => Err(failed(&error)),
            _ if found.is_empty() => Err(failed(&"the name has no address")),
            _ => Ok(found),
        }
    }
}
