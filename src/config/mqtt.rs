//! `[upstream.mqtt]`: what only an upstream of kind "mqtt" has.

use std::time::Duration;

use super::reader::{Mistake, Scope, section, within};
use super::secret::Secret;
use super::words::MqttVersion;

/// Bytes of a topic tree, and of a name at a broker.
const LONGEST_NAME: usize = 128;

section! {
    /// `[upstream.mqtt]`: how a broker is spoken to.
    pub struct Mqtt {
        /// Which MQTT the broker speaks: "5", or "3.1.1" for an old one.
        version: MqttVersion = default "\"5\"";
        /// The tree of topics of this device, below which everything is told: a tenant or a site, and $serial, which stands for
        /// the serial number of the device.
        topic: String = default "\"v1/tipring/$serial\"", if valid_topic;
        /// What the device is called at the broker, with $serial in it. Two with the same name throw each other out.
        client_id: String = default "\"tipring-$serial\"", if valid_client_id;
        /// The user that the broker knows the device by.
        user: Option<String> = optional "\"TR-000001\"";
        /// The password of that user; or password_file = the file that holds it.
        password: Secret = secret "\"a long password\"";
        /// After this time without a word the broker is asked whether it is there, and may take the device for gone after one
        /// and a half of it. Duration, 5s to 1h.
        keep_alive: Duration = default "\"1m\"", if within(Duration::from_secs(5), Duration::from_secs(3600));
        /// A connection is made at a random moment within this time after the start or a loss, so that the devices of a fleet
        /// do not come back together. Duration, to 10m.
        spread: Duration = default "\"5s\"", if within(Duration::ZERO, Duration::from_secs(600));
    }
}

impl Mqtt {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        if self.user.is_none() && !self.password.is_empty() && self.version == MqttVersion::V311 {
            scope.error(
                "password",
                "password is there without user",
                "add user: MQTT 3.1.1 has no other way",
            );
        }
    }
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
fn valid_topic(topic: &String) -> Result<(), Mistake> {
    let instead = "write levels with / between them, such as \"v1/acme/$serial\"".to_owned();
    let what = if topic.len() > LONGEST_NAME {
        format!("is longer than {LONGEST_NAME} bytes")
    } else if topic.is_empty() || topic.split('/').any(str::is_empty) {
        "has an empty level".to_owned()
    } else if topic.contains(['+', '#']) || topic.chars().any(char::is_control) {
        "has a character that no topic has".to_owned()
    } else if topic.replace("$serial", "").contains('$') {
        "has a $ that does not begin $serial".to_owned()
    } else {
        return Ok(());
    };
    Err((what, instead))
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
fn valid_client_id(name: &String) -> Result<(), Mistake> {
    let fits = name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    let what = format!("is longer than {LONGEST_NAME} bytes, or has a control character in it");
    Err((what, "write for example \"tipring-$serial\"".into()))
}
