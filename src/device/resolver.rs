//! Name servers, as `/etc/resolv.conf` and `/etc/hosts` name them.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::sip::network::{LookupError, Question, Record, RecordData};

/// A phone with one PBX asks few names; an attacker's Contacts must not fill memory.
const CACHED_NAMES: u64 = 256;

/// Which versions of the machine's settings there are: of each file when it was changed, its size and its number on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings([Option<(SystemTime, u64, u64)>; 2]);

/// Asks name servers; cheap to clone.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

impl Resolver {
    /// What [`Resolver::from_system`] would read now. A lease that is renewed may bring other name servers and change nothing else.
    pub fn settings() -> Settings {
        Settings(["/etc/resolv.conf", "/etc/hosts"].map(|file| {
            let file = std::fs::metadata(file).ok()?;
            Some((file.modified().ok()?, file.len(), file.ino()))
        }))
    }

    /// Reads the machine's settings.
    pub fn from_system() -> Result<Resolver, LookupError> {
        let failed = |error: NetError| LookupError::Failed(format!("{error}; check /etc/resolv.conf"));
        let mut builder = TokioResolver::builder_tokio().map_err(failed)?;
        let options = builder.options_mut();
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        options.cache_size = CACHED_NAMES;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        builder.build().map(Resolver).map_err(failed)
    }

    /// The records for one question; none if the name has none of that type.
    pub async fn ask(&self, question: &Question) -> Result<Vec<Record>, LookupError> {
        let answers = match question {
            Question::Naptr(name) => self.records(name, RecordType::NAPTR).await,
            Question::Srv(name) => self.records(name, RecordType::SRV).await,
            Question::A(name) => self.records(name, RecordType::A).await,
            Question::Aaaa(name) => self.records(name, RecordType::AAAA).await,
        };
        match answers {
            Ok(records) => Ok(records),
            Err(error) if error.is_nx_domain() => Err(LookupError::NoSuchName),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(NetError::Timeout) => Err(LookupError::Timeout),
            Err(error) => Err(LookupError::Failed(error.to_string())),
        }
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, NetError> {
        // A name is taken as it stands: the search list of the machine has no say in where a call goes, and one in another
        // script has been written in ASCII (xn--…) by whoever told it.
        let mut name = Name::from_ascii(name)?;
        name.set_fqdn(true);
        let lookup = self.0.lookup(name, kind).await?;
        Ok(lookup.answers().iter().filter_map(|record| typed(&record.data, record.ttl)).collect())
    }
}

fn typed(data: &RData, ttl: u32) -> Option<Record> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let data = match data {
        RData::A(address) => RecordData::Address(address.0.into()),
        RData::AAAA(address) => RecordData::Address(address.0.into()),
        RData::SRV(srv) => RecordData::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: srv.target.to_ascii(),
        },
        RData::NAPTR(naptr) => RecordData::Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: text(&naptr.flags),
            service: text(&naptr.services),
            replacement: naptr.replacement.to_ascii(),
        },
        _ => return None,
    };
    Some(Record { data, ttl })
}
