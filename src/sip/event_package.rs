//! Event and Subscription-State: what is subscribed to, and how the subscription stands (RFC 6665).

use super::fields::FieldValue;
use super::grammar::{self, Cursor, Malformed};
use super::params::Params;

/// Event: the package, such as `message-summary` or `refer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPackage {
    /// The package with its templates, in lower case.
    pub package: String,
    /// Tells several subscriptions of one dialog apart.
    pub id: Option<String>,
}

impl FieldValue for EventPackage {
    const NAME: &'static str = "Event";

    fn parse(value: &[u8]) -> Result<EventPackage, Malformed> {
        let (package, params) = read_token_and_params(value).ok_or(Malformed("Event"))?;
        Ok(EventPackage {
            package: package.to_ascii_lowercase(),
            id: params.value("id").map(|id| id.into_owned()),
        })
    }

    fn write(&self) -> String {
        let mut params = Params::new();
        if let Some(id) = &self.id {
            params.set("id", Some(id));
        }
        format!("{}{params}", self.package)
    }
}

/// Subscription-State.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionState {
    /// `active`, `pending`, `terminated`, or another one, in lower case.
    pub state: String,
    /// Why it ended, in lower case.
    pub reason: Option<String>,
    /// How long it lasts, in seconds.
    pub expires: Option<u32>,
    /// When to subscribe again, in seconds.
    pub retry_after: Option<u32>,
}

impl SubscriptionState {
    /// Whether there will be no more notifications.
    pub fn is_terminated(&self) -> bool {
        self.state == "terminated"
    }
}

impl FieldValue for SubscriptionState {
    const NAME: &'static str = "Subscription-State";

    fn parse(value: &[u8]) -> Result<SubscriptionState, Malformed> {
        let (state, params) = read_token_and_params(value).ok_or(Malformed("Subscription-State"))?;
        let seconds =
            |name| params.value(name).and_then(|value| grammar::saturating_number(value.as_bytes()));
        Ok(SubscriptionState {
            state: state.to_ascii_lowercase(),
            reason: params.value("reason").map(|reason| reason.to_ascii_lowercase()),
            expires: seconds("expires"),
            retry_after: seconds("retry-after"),
        })
    }

    fn write(&self) -> String {
        let mut params = Params::new();
        let numbers = [("expires", self.expires), ("retry-after", self.retry_after)];
        if let Some(reason) = &self.reason {
            params.set("reason", Some(reason));
        }
        for (name, value) in numbers {
            if let Some(value) = value {
                params.set(name, Some(&value.to_string()));
            }
        }
        format!("{}{params}", self.state)
    }
}

/// `token *(;param)`.
pub(super) fn read_token_and_params(value: &[u8]) -> Option<(&str, Params)> {
    let mut cursor = Cursor::new(value);
    let token = cursor.token()?;
    let params = Params::read(&mut cursor)?;
    cursor.skip_blanks();
    cursor.is_at_end().then_some((token, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_states() {
        let event = EventPackage::parse(b"Refer;id=93809824").unwrap();
        assert_eq!((event.package.as_str(), event.id.as_deref()), ("refer", Some("93809824")));
        assert_eq!(event.write(), "refer;id=93809824");
        let state = SubscriptionState::parse(b"terminated ;reason=noresource;retry-after=5").unwrap();
        assert!(state.is_terminated());
        assert_eq!((state.reason.as_deref(), state.retry_after), (Some("noresource"), Some(5)));
        assert_eq!(SubscriptionState::parse(state.write().as_bytes()), Ok(state));
        assert!(EventPackage::parse(b"a b").is_err());
    }
}
