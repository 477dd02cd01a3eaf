//! The tables below `[[upstream]]` that only one kind of upstream has.

use super::network::Network;
use super::reader::{Mistake, Scope, section};
use super::secret::Secret;
use super::settings::strong_enough;
use super::template::Template;
use super::words::{HttpMethod, LetterCase, Sender};

section! {
    /// `[upstream.slack]`: what a message in Slack has beyond the facts.
    pub struct Slack {
        /// Where a click in the message leads: a URL of the CRM with $number (in E.164 where that is certain), $name, $line,
        /// $called, $did or $call_id in it. It is left out where the number is withheld.
        link: Option<Template> = optional "\"https://crm.example.com/search?number=$number\"", if valid_link;
    }
}

/// The variables of [`Slack::link`].
pub const SLACK_WORDS: &[&str] = &["number", "name", "line", "called", "did", "call_id"];

impl Slack {
    fn check(&self, _: &mut Scope<'_, '_>) {}
}

fn valid_link(link: &Option<Template>) -> Result<(), Mistake> {
    let Some(link) = link else { return Ok(()) };
    link.is_link()?;
    link.knows(SLACK_WORDS)
}

section! {
    /// `[upstream.action_url]`: what is asked for, by what happened. The names are those that desk phones have for it.
    pub struct ActionUrl {
        /// A call rings here: path and query behind the host of url, with variables: $event, $line, $call_id, $callDirection,
        /// $duration (seconds), $local and $remote (SIP URIs), $local_number and $remote_number (in E.164 where that is certain),
        /// $did (the number that was dialled from outside), $diverted_number (who sent the call on), $display_local, $display_remote, $active_url, $active_user, $active_host, $serial, $model, $product, $firmware,
        /// $program_version. $$ is a dollar sign. What is not known is empty.
        incoming_call: Option<Template> = optional "\"/phone?event=ring&from=$remote_number&name=$display_remote\"", if valid_action;
        /// A call is dialled here.
        outgoing_call: Option<Template> = optional "\"/phone?event=dial&to=$remote_number\"", if valid_action;
        /// A call is answered, on either side.
        call_established: Option<Template> = optional "\"/phone?event=talk&with=$remote_number\"", if valid_action;
        /// A call is over, answered or not.
        call_terminated: Option<Template> = optional "\"/phone?event=end&call=$call_id&seconds=$duration\"", if valid_action;
        /// A call came that somebody should return: not one that another phone answered.
        missed_call: Option<Template> = optional "\"/phone?event=missed&from=$remote_number\"", if valid_action;
        /// This side puts a call on hold.
        hold: Option<Template> = optional "\"/phone?event=hold&call=$call_id\"", if valid_action;
        /// This side takes it back.
        unhold: Option<Template> = optional "\"/phone?event=unhold&call=$call_id\"", if valid_action;
        /// The PBX knows where the line is.
        registered: Option<Template> = optional "\"/phone?event=registered&line=$line\"", if valid_action;
        /// The line can't be called.
        unregistered: Option<Template> = optional "\"/phone?event=unregistered&line=$line\"", if valid_action;
        /// The PBX refuses the account.
        register_failed: Option<Template> = optional "\"/phone?event=refused&line=$line\"", if valid_action;
        /// The phone has started.
        setup_completed: Option<Template> = optional "\"/phone?event=started&phone=$serial\"", if valid_action;
        /// The addresses of the phone are others than before.
        ip_change: Option<Template> = optional "\"/phone?event=moved&phone=$serial\"", if valid_action;
    }
}

/// The variables of [`ActionUrl`].
pub const ACTION_WORDS: &[&str] = &[
    "event",
    "line",
    "call_id",
    "callDirection",
    "duration",
    "local",
    "remote",
    "local_number",
    "remote_number",
    "did",
    "diverted_number",
    "display_local",
    "display_remote",
    "active_url",
    "active_user",
    "active_host",
    "serial",
    "model",
    "product",
    "firmware",
    "program_version",
];

impl ActionUrl {
    /// What is asked for by each name that is there.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Template)> {
        [
            ("setup_completed", &self.setup_completed),
            ("ip_change", &self.ip_change),
            ("registered", &self.registered),
            ("unregistered", &self.unregistered),
            ("register_failed", &self.register_failed),
            ("incoming_call", &self.incoming_call),
            ("outgoing_call", &self.outgoing_call),
            ("call_established", &self.call_established),
            ("call_terminated", &self.call_terminated),
            ("missed_call", &self.missed_call),
            ("hold", &self.hold),
            ("unhold", &self.unhold),
        ]
        .into_iter()
        .filter_map(|(name, template)| Some((name, template.as_ref()?)))
    }

    fn check(&self, _: &mut Scope<'_, '_>) {}
}

pub(super) fn valid_action(template: &Option<Template>) -> Result<(), Mistake> {
    let Some(template) = template else { return Ok(()) };
    template.is_path()?;
    template.knows(ACTION_WORDS)
}

section! {
    /// `[upstream.webitel]`: what a server that knows Webitel's hooks and call detail records is sent.
    pub struct Webitel {
        /// domain_name and the host of presence_id.
        domain: Option<String> = optional "\"example.webitel.com\"";
        /// What is sent when a leg begins: JSON with variables, ${event} and the fields of a call detail record. In quotes a
        /// variable is text in a text, else a whole value; what is not known is empty, or null. Without the key nothing is sent.
        channel_create: Option<Template> = optional "'{\"event\": ${event}, \"from\": ${caller_id_number}}'", if valid_body;
        /// What is sent when a leg is answered. Without the key nothing is.
        channel_answer: Option<Template> = optional "'{\"event\": ${event}, \"call\": ${uuid}}'", if valid_body;
        /// What is sent when a call comes outside of `[hours]` that refuse it: ${rule} is what said so (hours.open, hours.holidays),
        /// ${sip_to_user} the number that was called from outside. Without the key nothing is.
        out_of_hours: Option<Template> = optional "'{\"call_back\": ${caller_id_number}, \"called\": ${sip_to_user}}'", if valid_body;
        /// What is sent when a leg is over. Without the key it is the call detail record.
        on_disconnect: Option<Template> = optional "'{\"text\": \"${caller_id_number}: ${hangup_cause}\"}'", if valid_body;
    }
}

/// The variables of [`Webitel`]: the fields of a call detail record that this phone knows, those in its `variables`, and the name
/// of the event and the rule behind it.
pub const WEBITEL_WORDS: &[&str] = &[
    "event",
    "rule",
    "uuid",
    "parent_uuid",
    "direction",
    "caller_id_name",
    "caller_id_number",
    "destination_number",
    "rdnis",
    "domain_name",
    "extension",
    "presence_id",
    "gateway",
    "hangup_cause",
    "hangup_cause_q850",
    "hangup_disposition",
    "created_time",
    "duration",
    "billsec",
    "talksec",
    "waitsec",
    "holdsec",
    "answersec",
    "sip_call_id",
    "sip_to_user",
    "sip_term_status",
];

impl Webitel {
    fn check(&self, _: &mut Scope<'_, '_>) {}
}

fn valid_body(body: &Option<Template>) -> Result<(), Mistake> {
    let Some(body) = body else { return Ok(()) };
    body.knows(WEBITEL_WORDS)?;
    body.is_json()
}

section! {
    /// `[upstream.ringme]`: how the events of this extension are told to what knows those of Ringme, Telphin or VoipNow.
    pub struct Ringme {
        /// "POST" (a form in the body) or "GET" (the same in the query).
        method: HttpMethod = default "\"POST\"";
        /// The number of this extension at its PBX, CLIENT*EXTENSION; without it the user name of the line.
        extension: Option<String> = optional "\"13596*106\"", if valid_word;
        /// The domain behind it; without it that of the line.
        domain: Option<String> = optional "\"sipproxy.telphin.ru\"", if valid_word;
        /// The number by which the PBX's API knows the extension: CalledExtensionID, and in front of SubCallID.
        extension_id: Option<String> = optional "\"1138241\"", if valid_word;
        /// What this extension is: "phone"; or "ivr" or "queue", which send hangup alone, with Bridged.
        sender: Sender = default "\"phone\"";
        /// How CallFlow is written: "lower" (in, out) or "upper" (IN, OUT).
        call_flow: LetterCase = default "\"lower\"";
        /// true: calls between two extensions (CLIENT*EXTENSION on both sides) are not told.
        external_only: bool = default "false";
        /// Path and query behind the host of url, for events of one type: somebody calls this extension. With any of these keys
        /// nothing else is told than what they name; without, all goes to url. Have 16 random bytes in it, and others in each.
        dial_in: Option<Template> = optional "\"/ext-event/f2a8vdrfae0s1ku5d2rj3iximjf3twyz\"", if valid_target;
        /// This extension calls somebody.
        dial_out: Option<Template> = optional "\"/ext-event/k5d2rj3iximjf3twyzf2a8vdrfae0s1u\"", if valid_target;
        /// The call is answered.
        answer: Option<Template> = optional "\"/ext-event/rfae0s1ku5d2rj3iximjf3twyzf2a8vd\"", if valid_target;
        /// It is over.
        hangup: Option<Template> = optional "\"/ext-event/imjf3twyzf2a8vdrfae0s1ku5d2rj3ix\"", if valid_target;
        /// The agent of this extension is there for calls.
        available: Option<Template> = optional "\"/ext-event/ku5d2rj3iximjf3twyzf2a8vdrfae0s1\"", if valid_target;
        /// The agent is not there.
        logged_out: Option<Template> = optional "\"/ext-event/twyzf2a8vdrfae0s1ku5d2rj3iximjf3\"", if valid_target;
        /// A message has come into its mailbox.
        voicemail: Option<Template> = optional "\"/ext-event/vdrfae0s1ku5d2rj3iximjf3twyzf2a8\"", if valid_target;
    }
}

impl Ringme {
    /// Has an event told at a path of its own.
    pub fn tell_at(&mut self, event: &str, path: Template) {
        let place = match event {
            "dial-in" => &mut self.dial_in,
            "dial-out" => &mut self.dial_out,
            "answer" => &mut self.answer,
            "hangup" => &mut self.hangup,
            "available" => &mut self.available,
            "logged_out" => &mut self.logged_out,
            "voicemail" => &mut self.voicemail,
            _ => return,
        };
        *place = Some(path);
    }

    /// What is asked for by each event that has a URL of its own.
    pub fn urls(&self) -> impl Iterator<Item = (&'static str, &Template)> {
        [
            ("dial-in", &self.dial_in),
            ("dial-out", &self.dial_out),
            ("answer", &self.answer),
            ("hangup", &self.hangup),
            ("available", &self.available),
            ("logged_out", &self.logged_out),
            ("voicemail", &self.voicemail),
        ]
        .into_iter()
        .filter_map(|(name, path)| Some((name, path.as_ref()?)))
    }

    fn check(&self, _: &mut Scope<'_, '_>) {}
}

section! {
    /// `[upstream.rostelecom]`: how the calls of this extension are told to what knows those of Rostelecom's virtual PBX.
    pub struct Rostelecom {
        /// The identification code that the CRM expects (X-Client-ID).
        client_id: Option<String> = optional "\"000003C405E6525C64C184258C44EC99\"", if valid_word;
        /// The key that requests are signed with (X-Client-Sign), as the CRM has it; or key_file = the file that holds it.
        key: Secret = secret "\"00000716ABDA6D4DFF10F82BCBBFC532\"";
        /// The domain of SIP addresses; without it that of the line.
        domain: Option<String> = optional "\"example.ru\"", if valid_word;
        /// The short number of this extension at its PBX; without it the user name of the line.
        pin: Option<String> = optional "\"607\"", if valid_word;
        /// true: the CRM may ask this phone at `[admin] listen`, as it would ask the PBX, with /rostelecom/NAME/ (the name of this
        /// upstream) in front of each method, and with the same code and key: call_info, get_record, call_back and so on.
        answer: bool = default "false";
        /// Networks and addresses that may ask; nobody else is answered.
        allow: Vec<Network> = default "[]";
    }
}

impl Rostelecom {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        if !self.answer {
            return;
        }
        if self.allow.is_empty() && !scope.has("allow") {
            let cure = "add allow = [\"192.0.2.7\"], the addresses of the CRM";
            scope.error("answer", "nobody may ask", cure);
        }
        if self.allow.iter().any(|network| network.prefix == 0) {
            let what = "the whole world may ask: a request that is overheard can be sent again by anybody";
            scope.warn("allow", what, "name the addresses of the CRM");
        }
        strong_enough(&self.key, "key", "the upstream", scope);
    }
}

fn valid_target(path: &Option<Template>) -> Result<(), Mistake> {
    let Some(path) = path else { return Ok(()) };
    path.is_path()?;
    match path.variables().next() {
        Some(_) => {
            Err(("has a variable in it".into(), "write the path as it is: $$ is a dollar sign".into()))
        }
        None => Ok(()),
    }
}

pub(super) fn valid_word(word: &Option<String>) -> Result<(), Mistake> {
    let fits =
        |word: &String| (1..=128).contains(&word.len()) && word.bytes().all(|it| it.is_ascii_graphic());
    match word.as_ref().is_none_or(fits) {
        true => Ok(()),
        false => Err(("is no such name".into(), "write 1 to 128 visible ASCII characters".into())),
    }
}
