//! What a CRM asks of Rostelecom's virtual PBX: the methods, and their bodies as they come.
//!
//! Types are taken as they are sent in practice: a number may be text, and what is not known is passed over. Sizes are not.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::MOSCOW_US;

/// Characters of a text.
const LONGEST: usize = 256;

/// A method; its word is the last part of the path that it is asked for at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Who is here.
    UsersInfo,
    /// What became of a call.
    CallInfo,
    /// A link to its recording.
    GetRecord,
    /// Ring somebody, then somebody else, and join them.
    CallBack,
    /// Have the calls of some time made ready.
    DomainCallHistory,
    /// Fetch those.
    DownloadCallHistory,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 6] = [
        Method::UsersInfo,
        Method::CallInfo,
        Method::GetRecord,
        Method::CallBack,
        Method::DomainCallHistory,
        Method::DownloadCallHistory,
    ];

    /// The word in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::UsersInfo => "users_info",
            Method::CallInfo => "call_info",
            Method::GetRecord => "get_record",
            Method::CallBack => "call_back",
            Method::DomainCallHistory => "domain_call_history",
            Method::DownloadCallHistory => "download_call_history",
        }
    }

    /// The method that [`Method::as_str`] names.
    pub fn from_word(word: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.as_str() == word)
    }

    /// Whether it does something, so that a request which somebody overheard must not be carried out again.
    pub fn acts(self) -> bool {
        matches!(self, Method::GetRecord | Method::CallBack)
    }
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Who is here.
    UsersInfo {
        /// In this domain alone.
        domain: Option<String>,
        /// With this short number alone.
        pin: Option<String>,
    },
    /// What became of a call.
    CallInfo {
        /// The call.
        session: String,
    },
    /// A link to the recording of a call.
    GetRecord {
        /// The call.
        session: String,
        /// Who alone may use the link.
        address: Option<IpAddr>,
    },
    /// Ring somebody, then somebody else, and join them.
    CallBack {
        /// Who is called.
        number: String,
        /// Who is rung first.
        from: Caller,
    },
    /// Have the calls of some time made ready.
    DomainCallHistory(Wanted),
    /// Fetch those.
    DownloadCallHistory {
        /// What the order is known by.
        order: String,
    },
}

/// Who is rung first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Caller {
    /// `user@domain`.
    Address(String),
    /// A short number.
    Pin {
        /// The number.
        pin: String,
        /// Its domain.
        domain: Option<String>,
    },
}

/// Which calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Those that began at this moment or later, in microseconds since 1970.
    pub since_utc_us: i64,
    /// Those that began before this one.
    pub until_utc_us: i64,
    /// As [`CallInfo`](super::call_info::CallInfo) has it; 0 for all.
    pub direction: u8,
    /// As there; 0 for all.
    pub state: u8,
    /// With this number on either side.
    pub number: Option<String>,
}

/// Why a body is none of its method.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misread(String);

/// Reads the body of a request.
///
/// # Errors
///
/// [`Misread`] says what is missing or wrong.
pub fn read(method: Method, body: &[u8]) -> Result<Request, Misread> {
    let fields: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| Misread(format!("the body is no JSON object: {error}")))?;
    let fields = Fields(fields);
    Ok(match method {
        Method::UsersInfo => {
            Request::UsersInfo { domain: fields.text("domain")?, pin: fields.text("user_pin")? }
        }
        Method::CallInfo => Request::CallInfo { session: fields.needed("session_id")? },
        Method::GetRecord => {
            let address = fields.text("ip_adress")?.map(|it| it.parse()).transpose();
            let address = address.map_err(|_| Misread("ip_adress is no address".to_owned()))?;
            Request::GetRecord { session: fields.needed("session_id")?, address }
        }
        Method::CallBack => {
            let from = match (fields.text("from_sipuri")?, fields.text("from_pin")?) {
                (Some(address), _) => Caller::Address(address),
                (None, Some(pin)) => Caller::Pin { pin, domain: fields.text("domain")? },
                (None, None) => return Err(Misread("from_sipuri is missing, and from_pin too".to_owned())),
            };
            Request::CallBack { number: fields.needed("request_number")?, from }
        }
        Method::DomainCallHistory => {
            let (since_utc_us, until_utc_us) = (fields.moment("date_start")?, fields.moment("date_end")?);
            if since_utc_us >= until_utc_us {
                return Err(Misread("date_end is not after date_start".to_owned()));
            }
            let (direction, state) = (fields.choice("direction", 3)?, fields.choice("state", 2)?);
            let number = fields.text("phone_number")?;
            Request::DomainCallHistory(Wanted { since_utc_us, until_utc_us, direction, state, number })
        }
        Method::DownloadCallHistory => Request::DownloadCallHistory { order: fields.needed("order_id")? },
    })
}

struct Fields(Map<String, Value>);

impl Fields {
    /// Text, or a whole number in its place; what is empty is not there.
    fn text(&self, name: &str) -> Result<Option<String>, Misread> {
        let text = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) if !number.is_f64() => number.to_string(),
            Some(_) => return Err(Misread(format!("{name} is no text"))),
        };
        if text.len() > LONGEST || text.chars().any(char::is_control) {
            return Err(Misread(format!("{name} is longer than {LONGEST} characters, or not in one line")));
        }
        Ok(Some(text).filter(|it| !it.is_empty()))
    }

    fn needed(&self, name: &str) -> Result<String, Misread> {
        self.text(name)?.ok_or_else(|| Misread(format!("{name} is missing")))
    }

    /// 0, where it is absent, to `most`.
    fn choice(&self, name: &str, most: u8) -> Result<u8, Misread> {
        let Some(text) = self.text(name)? else { return Ok(0) };
        let number = text.parse().ok().filter(|number| *number <= most);
        number.ok_or_else(|| Misread(format!("{name} is not 0 to {most}")))
    }

    /// A moment of Moscow's clocks, `2026-11-21 10:00:00`.
    fn moment(&self, name: &str) -> Result<i64, Misread> {
        let text = self.needed(name)?;
        let wrong = || Misread(format!("{name} is not written as 2026-11-21 10:00:00"));
        let form = text.len() == 19 && text.as_bytes().get(10) == Some(&b' ');
        let civil: jiff::civil::DateTime =
            Some(text).filter(|_| form).and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
        let utc = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
        Ok(utc.timestamp().as_microsecond().saturating_sub(MOSCOW_US))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_clients_send_them() {
        let body = br#"{"request_number": "+74951234567","from_sipuri": "test_user@cloudpbx.rt.ru"}"#;
        let from = Caller::Address("test_user@cloudpbx.rt.ru".into());
        let expected = Request::CallBack { number: "+74951234567".into(), from };
        assert_eq!(read(Method::CallBack, body), Ok(expected), "the printed one");
        let body = br#"{"request_number":74951234567,"domain":"example.ru","from_pin":607,"from_sipuri":""}"#;
        let from = Caller::Pin { pin: "607".into(), domain: Some("example.ru".into()) };
        let expected = Request::CallBack { number: "74951234567".into(), from };
        assert_eq!(read(Method::CallBack, body), Ok(expected));
        let users = Request::UsersInfo { domain: Some("example.ru".into()), pin: None };
        assert_eq!(
            read(Method::UsersInfo, br#"{"domain":"example.ru","user_pin":null,"more":[{}]}"#),
            Ok(users)
        );
        let expected =
            Request::GetRecord { session: "c1".into(), address: Some(IpAddr::from([192, 0, 2, 7])) };
        assert_eq!(read(Method::GetRecord, br#"{"session_id":"c1","ip_adress":"192.0.2.7"}"#), Ok(expected));
        let wanted = Wanted {
            since_utc_us: 1_795_132_800_000_000,
            until_utc_us: 1_795_219_199_000_000,
            direction: 1,
            state: 2,
            number: None,
        };
        let body = br#"{"date_start":"2026-11-20 03:00:00","date_end":"2026-11-21 02:59:59","direction":"1","state":2}"#;
        assert_eq!(read(Method::DomainCallHistory, body), Ok(Request::DomainCallHistory(wanted)));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let long = format!("{{\"session_id\":\"{}\"}}", "x".repeat(257));
        for (method, body, expected) in [
            (Method::CallInfo, "", "the body is no JSON object"),
            (Method::CallInfo, "[]", "the body is no JSON object"),
            (Method::CallInfo, "{}", "session_id is missing"),
            (Method::CallInfo, r#"{"session_id":" "}"#, "session_id is missing"),
            (Method::CallInfo, r#"{"session_id":{"a":1}}"#, "session_id is no text"),
            (Method::CallInfo, r#"{"session_id":1.5}"#, "session_id is no text"),
            (Method::CallInfo, r#"{"session_id":"a\r\nb"}"#, "session_id is longer"),
            (Method::CallInfo, &long, "session_id is longer"),
            (Method::GetRecord, r#"{"session_id":"1","ip_adress":"crm"}"#, "ip_adress is no address"),
            (Method::CallBack, r#"{"request_number":"1"}"#, "from_sipuri is missing"),
            (Method::CallBack, r#"{"from_pin":"1"}"#, "request_number is missing"),
            (Method::DownloadCallHistory, "{}", "order_id is missing"),
        ] {
            let error = read(method, body.as_bytes()).expect_err(body).to_string();
            assert!(error.starts_with(expected), "{body}: {error}");
        }
        let history = |more: &str| {
            let body = format!(r#"{{"date_start":"2026-11-20 03:00:00",{more}}}"#);
            read(Method::DomainCallHistory, body.as_bytes()).expect_err(more).to_string()
        };
        for wrong in ["2026-11-21", "2026-11-21T10:00:00", "2026-13-21 10:00:00", "2026-11-21 10:00:0é"] {
            assert!(
                history(&format!(r#""date_end":"{wrong}""#)).starts_with("date_end is not written"),
                "{wrong}"
            );
        }
        assert_eq!(history(r#""date_end":"2026-11-20 03:00:00""#), "date_end is not after date_start");
        assert_eq!(history(r#""date_end":"2027-01-01 00:00:00","direction":4"#), "direction is not 0 to 3");
        assert_eq!(history(r#""date_end":"2027-01-01 00:00:00","state":-1"#), "state is not 0 to 2");
    }

    #[test]
    fn methods_are_named_by_their_words() {
        assert!(Method::ALL.iter().all(|it| Method::from_word(it.as_str()) == Some(*it)));
        assert_eq!(Method::from_word("call_events"), None);
    }
}
