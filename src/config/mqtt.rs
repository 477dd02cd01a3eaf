//! `[upstream.mqtt]`: what only an upstream of kind "mqtt" has.

use std::time::Duration;

use super::reader::{Mistake, Scope, section, within};
use super::secret::Secret;
use super::upstream::check_signing_key;
use super::words::{MqttVersion, RemoteCommand};

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
        /// What may be commanded over the same connection. Without this table nothing may.
        commands: Commands = default "{}";
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

section! {
    /// `[upstream.mqtt.commands]`: what somebody at the broker may have this device do. `[limits]` holds for it.
    pub struct Commands {
        /// The commands: "call", "callback", "hangup", "answer", "reject", "hold", "resume", "transfer", "dtmf", "dnd",
        /// "agent", "reload", "lookup" (answering what `[lookup]` asks).
        allow: Vec<RemoteCommand> = default "[]";
        /// The key that commands must be signed with: whsec_ and 24 to 64 bytes in base64; or secret_file = the file that holds it.
        secret: Secret = secret "\"whsec_c29tZSAzMiByYW5kb20gYnl0ZXMgaW4gYmFzZTY0\"";
        /// true: whoever the broker lets write to the topics of commands is believed, without a signature.
        trust_broker: bool = default "false";
        /// A command that was sent longer ago is refused. Duration, 5s to 2m.
        max_age: Duration = default "\"30s\"", if within(Duration::from_secs(5), Duration::from_secs(120));
        /// So many are looked at in a minute, 1 to 60; more are thrown away.
        per_minute: u32 = default "30", if within(1, 60);
    }
}

impl Commands {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        let signed = !self.secret.is_empty() || scope.has("secret") || scope.has("secret_file");
        if !self.allow.is_empty() && !signed && !self.trust_broker {
            let what = "allow lets commands in, and nobody is named who may give them";
            scope.error(
                "allow",
                what,
                "add secret or secret_file, or trust_broker = true if the broker's rights are enough",
            );
        }
        if signed && self.trust_broker {
            let what = "trust_broker is there beside secret";
            scope.error("trust_broker", what, "remove one of the two");
        }
        check_signing_key(&self.secret, scope);
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
