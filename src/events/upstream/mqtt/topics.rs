//! The tree of topics of one device at a broker: rights are given to `<tree>/#`, and nothing of it is anywhere else.

use serde_json::Value;

use crate::config;
use crate::config::template::percent_encoded;
use crate::events::CloudEvent;

/// Where a device tells what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topics {
    tree: String,
}

impl Topics {
    /// The tree that the settings name for the device with this serial number.
    pub fn of(settings: &config::Mqtt, serial: &str) -> Topics {
        Topics { tree: settings.topic.replace("$serial", &percent_encoded(serial)) }
    }

    /// Where an event is told: those of one leg, of one call as a whole, of one line, of the device.
    pub fn of_event(&self, event: &CloudEvent) -> String {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let of = |key: &str| data[key].as_str();
        let (branch, name) = match (of("leg_id").or(event.subject.as_deref()), of("line")) {
            (Some(leg), _) => ("call", leg),
            (None, Some(line)) => ("line", line),
            (None, None) => return format!("{}/event", self.tree),
        };
        format!("{}/{branch}/{}/event", self.tree, percent_encoded(name))
    }

    /// Where commands are awaited, whatever they are called.
    pub fn commands(&self) -> String {
        format!("{}/command/+", self.tree)
    }

    /// The command that is meant by a topic, if it is one of commands.
    pub fn command_in<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&self.tree)?.strip_prefix("/command/")
    }

    /// Where commands are answered that do not say where.
    pub fn response(&self) -> String {
        format!("{}/response", self.tree)
    }

    /// Where it is asked who calls.
    pub fn questions(&self) -> String {
        format!("{}/lookup", self.tree)
    }

    /// Whether a topic is in the tree of this device.
    pub fn owns(&self, topic: &str) -> bool {
        topic.strip_prefix(&self.tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Where the broker keeps how the device is.
    pub fn state(&self) -> String {
        format!("{}/state", self.tree)
    }
}
