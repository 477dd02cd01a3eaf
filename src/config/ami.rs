//! `[ami]`: the manager protocol of Asterisk, for programs that start calls through it.

use super::dialing::NumberRule;
use super::network::{Listen, Network};
use super::reader::{Scope, section};
use super::secret::Secret;
use super::settings::strong_enough;

section! {
    /// `[ami]`: the manager protocol of Asterisk, for programs that know a PBX by it. Never open it to everybody.
    pub struct Ami {
        /// Address and port, usually 5038; or "off".
        listen: Listen = default "\"off\"";
        /// Networks and addresses that may connect; nobody else is answered.
        allow: Vec<Network> = default "[]";
        /// Programs that may log in.
        users: Vec<AmiUser> = default "[]";
        /// The contexts that they may name, each with what it means here; without any, every name means the number plan.
        contexts: Vec<AmiContext> = default "[]";
    }
}

impl Ami {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        let Listen::At(address) = self.listen else { return };
        if self.allow.is_empty() && !scope.has("allow") {
            scope.error(
                "listen",
                "nobody may connect",
                "add allow = [\"192.0.2.0/24\"], the networks of those who may",
            );
        }
        if self.users.is_empty() && !scope.has("users") {
            scope.warn("listen", "nobody can log in", "add [[ami.users]] with name and secret");
        }
        if self.allow.iter().any(|network| network.prefix == 0) {
            let what = "the whole world may connect: whoever guesses a secret dials at your expense";
            scope.warn("allow", what, "name the addresses of those who may");
        }
        if !address.ip().is_loopback() {
            let what = format!("what is said at {address} travels in clear");
            scope.warn("listen", what, "let it through a tunnel only, or keep it within the office");
        }
    }
}

section! {
    /// `[[ami.users]]`: a program that may log in.
    pub struct AmiUser {
        /// The name to log in with.
        name: String = required "\"measoft\"";
        /// The secret; or secret_file = the file that holds it.
        secret: Secret = secret "\"a long random text\"";
        /// The numbers that it may have called, on either side, as `[limits] allow` has them.
        dial: Vec<NumberRule> = default "[\"*\"]";
        /// Calls that it may start in one minute.
        calls_per_minute: u32 = default "10";
    }
}

impl AmiUser {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        strong_enough(&self.secret, "secret", &self.name, scope);
    }
}

section! {
    /// `[[ami.contexts]]`: a context that programs may name.
    pub struct AmiContext {
        /// The name that programs write.
        name: String = required "\"from-courier\"";
        /// The line that numbers of it are called over; without it, as the number plan says.
        line: Option<String> = optional "\"office\"";
    }
}

impl AmiContext {
    fn check(&self, _: &mut Scope<'_, '_>) {}
}
