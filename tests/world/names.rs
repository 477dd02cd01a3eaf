//! The name server of the world: a table.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tipring::sip::network::{LookupError, Question, Record, RecordData};

/// How long a record may be kept, in seconds.
const TTL: u32 = 60;

/// What every name leads to.
#[derive(Default, Debug)]
pub struct Names {
    table: BTreeMap<Question, Vec<RecordData>>,
    /// Nobody answers.
    pub silent: bool,
}

impl Names {
    /// Gives a name one more address.
    pub fn add_address(&mut self, name: &str, address: IpAddr) {
        let question = if address.is_ipv4() { Question::A(name.into()) } else { Question::Aaaa(name.into()) };
        self.table.entry(question).or_default().push(RecordData::Address(address));
    }

    /// Gives a service of a domain one more server.
    pub fn add_service(&mut self, service: &str, priority: u16, target: &str, port: u16) {
        let data = RecordData::Srv { priority, weight: 0, port, target: format!("{target}.") };
        self.table.entry(Question::Srv(service.into())).or_default().push(data);
    }

    /// What a resolver finds.
    pub fn answer(&self, question: &Question) -> Result<Vec<Record>, LookupError> {
        if self.silent {
            return Err(LookupError::Timeout);
        }
        let found = self.table.get(question).map(Vec::as_slice).unwrap_or_default();
        Ok(found.iter().map(|data| Record { data: data.clone(), ttl: TTL }).collect())
    }
}
