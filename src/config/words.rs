//! Settings that are one word of a few.

use super::nearest::nearest;
use super::reader::{At, Node, Setting, shortened};

/// Declares an enum whose variants are words of the file; `absent` words belong to features that are not there.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        pub enum $enum:ident {
            $(#[doc = $about_first:literal])* $first:ident = $word_first:literal,
            $( $(#[doc = $about:literal])* $variant:ident = $word:literal, )*
        }
        $( absent { $( $missing:literal is $feature:literal ),* } )?
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[derive(Default)]
        pub enum $enum { $(#[doc = $about_first])* #[default] $first, $( $(#[doc = $about])* $variant, )* }

        impl $enum {
            /// Every value.
            pub const ALL: &'static [$enum] = &[$enum::$first $(, $enum::$variant)*];

            /// The word in the file.
            pub fn as_str(self) -> &'static str {
                match self { $enum::$first => $word_first, $( $enum::$variant => $word, )* }
            }
        }

        impl Setting for $enum {
            const EXPECTS: &'static str = concat!("one of \"", $word_first, "\"" $(, ", \"", $word, "\"")*);

            fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
                let words = [$word_first $(, $word)*];
                let absent: &[(&str, &str)] = &[$( $(($missing, $feature)),* )?];
                let index = word(node, at, &words, absent, Self::EXPECTS)?;
                $enum::ALL.get(index).copied()
            }

            fn json(&self) -> serde_json::Value {
                self.as_str().into()
            }
        }
    };
}

/// The index of the word that a value is.
fn word(
    node: Node<'_>,
    at: &mut At<'_, '_>,
    words: &[&'static str],
    absent: &[(&str, &str)],
    expects: &str,
) -> Option<usize> {
    let Some(text) = node.text() else {
        at.wrong_type(node, expects);
        return None;
    };
    // Names of codecs are compared without case in SDP (RFC 3551 §3), and a capital is no misunderstanding anywhere.
    if let Some(index) = words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
        return Some(index);
    }
    let shown = shortened(text);
    let mistake = if let Some((_, feature)) = absent.iter().find(|(word, _)| word.eq_ignore_ascii_case(text))
    {
        (format!("is \"{shown}\": {feature} is not part of this version"), format!("write {expects}"))
    } else if let Some(right) = nearest(text, words.iter().copied()) {
        (format!("can't be \"{shown}\""), format!("did you mean \"{right}\"?"))
    } else {
        (format!("can't be \"{shown}\""), format!("write {expects}"))
    };
    at.wrong(node, mistake);
    None
}

words! {
    /// How SIP messages travel.
    pub enum Transport {
        /// UDP, and TCP for what is too large.
        Udp = "udp",
        /// TCP.
        Tcp = "tcp",
        /// TLS over TCP.
        Tls = "tls",
        /// WebSocket over TLS (RFC 7118).
        Wss = "wss",
    }
    absent { "ws" is "SIP over WebSocket without TLS" }
}

impl Transport {
    /// Whether nobody on the way can read what it carries.
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }
}

words! {
    /// Codecs of speech, by their names in SDP.
    pub enum Codec {
        /// Opus (RFC 7587), wide band and better.
        Opus = "opus",
        /// G.722, wide band.
        G722 = "G722",
        /// G.711 A-law.
        Pcma = "PCMA",
        /// G.711 µ-law.
        Pcmu = "PCMU",
    }
    absent { "G729" is "G.729", "iLBC" is "iLBC", "AMR" is "AMR", "GSM" is "GSM full rate", "speex" is "Speex" }
}

words! {
    /// Whether something is not used, used where the other side can, or insisted on.
    pub enum Policy {
        /// Never.
        Off = "off",
        /// Where the other side can, too.
        Optional = "optional",
        /// A call without it fails.
        Required = "required",
    }
}

words! {
    /// How the keys of SRTP are agreed on.
    pub enum SrtpKeys {
        /// In SDP (RFC 4568).
        Sdes = "sdes",
        /// By a handshake over the path of the audio (RFC 5763).
        Dtls = "dtls",
    }
}

words! {
    /// Whether a line does anything about the NATs on its way.
    pub enum NatMode {
        /// What its settings allow and the network needs.
        Auto = "auto",
        /// Nothing.
        Off = "off",
    }
}

words! {
    /// How pressed keys travel.
    pub enum Dtmf {
        /// As telephone-event where it was agreed on, else by INFO.
        Auto = "auto",
        /// As telephone-event only (RFC 4733).
        Rfc4733 = "rfc4733",
        /// By SIP INFO, `application/dtmf-relay`.
        Info = "info",
        /// As tones in the audio.
        Inband = "inband",
    }
}

words! {
    /// How a PBX wants outside numbers to be written.
    pub enum NumberFormat {
        /// As they were dialled.
        AsDialled = "as-dialled",
        /// `74954451120`: digits from the calling code on.
        E164 = "e164",
        /// `+74954451120`.
        PlusE164 = "+e164",
        /// `84954451120`: as people of the country dial it, with its prefix for other countries before theirs.
        National = "national",
        /// `4954451120`: the national number without a prefix; those of other countries as in `national`.
        Significant = "significant",
        /// `4451120`: without the own area code; numbers of other areas as in `national`.
        Local = "local",
    }
}

impl NumberFormat {
    /// Whether the numbering of the country has to be known for it.
    pub(super) fn needs_country(self) -> bool {
        matches!(self, NumberFormat::National | NumberFormat::Significant | NumberFormat::Local)
    }
}

words! {
    /// What becomes of calls when nobody is there.
    pub enum WhenClosed {
        /// They ring like any other.
        Ring = "ring",
        /// They are refused.
        Refuse = "refuse",
    }
    absent { "forward" is "call forwarding", "voicemail" is "voicemail on the device" }
}

words! {
    /// When a rule holds.
    pub enum When {
        /// While somebody is there.
        Open = "open",
        /// While nobody is.
        Closed = "closed",
    }
}

words! {
    /// Where sound comes from and goes to.
    pub enum Backend {
        /// A sound device (ALSA, PulseAudio).
        Cpal = "cpal",
        /// WAV files.
        File = "file",
        /// A tone is sent; what comes is dropped.
        Tone = "tone",
        /// Silence is sent; what comes is dropped.
        None = "none",
    }
}

words! {
    /// How an upstream is told what happens.
    pub enum UpstreamKind {
        /// Standard Webhooks, with CloudEvents.
        Webhook = "webhook",
        /// A message in Slack on each missed call.
        Slack = "slack",
        /// A GET with variables, as desk phones send it.
        ActionUrl = "action-url",
        /// Hooks and call detail records of Webitel.
        Webitel = "webitel",
        /// Messages to a broker.
        Mqtt = "mqtt",
        /// The events of an extension, as Ringme, Telphin and VoipNow send them.
        Ringme = "ringme",
        /// The call events of Rostelecom's virtual PBX.
        Rostelecom = "rostelecom",
        /// The telephony methods of Bitrix24.
        Bitrix24 = "bitrix24",
    }
}

impl UpstreamKind {
    /// The name of the table that only this kind has, where it has one.
    pub(super) fn table(self) -> String {
        self.as_str().replace('-', "_")
    }
}

words! {
    /// How a request brings its fields.
    pub enum HttpMethod {
        /// In the body.
        Post = "POST",
        /// In the query.
        Get = "GET",
    }
}

words! {
    /// How a word is written.
    pub enum LetterCase {
        /// `in`
        Lower = "lower",
        /// `IN`
        Upper = "upper",
    }
}

words! {
    /// What an extension is at its PBX.
    pub enum Sender {
        /// A phone.
        Phone = "phone",
        /// A menu that callers hear first.
        Ivr = "ivr",
        /// A queue before several phones.
        Queue = "queue",
    }
}

words! {
    /// Which MQTT a broker is spoken to in.
    pub enum MqttVersion {
        /// MQTT 5.
        V5 = "5",
        /// MQTT 3.1.1.
        V311 = "3.1.1",
    }
}

words! {
    /// What a broker may have the phone do.
    pub enum RemoteCommand {
        /// Call a number.
        Call = "call",
        /// Ring somebody, then somebody else, and join both.
        Callback = "callback",
        /// End a call, or refuse it.
        HangUp = "hangup",
        /// Answer a ringing call.
        Answer = "answer",
        /// Refuse a ringing call.
        Reject = "reject",
        /// Put a call on hold.
        Hold = "hold",
        /// Take it back.
        Resume = "resume",
        /// Give a call away.
        Transfer = "transfer",
        /// Send digits.
        Dtmf = "dtmf",
        /// Do-not-disturb.
        Dnd = "dnd",
        /// Whether the agent of a line is there.
        Agent = "agent",
        /// Load the configuration again.
        Reload = "reload",
        /// Answer the question who calls.
        Lookup = "lookup",
    }
}

words! {
    /// How a system is asked who calls.
    pub enum LookupKind {
        /// Nobody is asked.
        Off = "off",
        /// A GET with variables.
        Url = "url",
        /// `get_number_info`, as Rostelecom's virtual PBX asks.
        Rostelecom = "rostelecom",
        /// A message to a broker.
        Mqtt = "mqtt",
        /// `searchCrmEntities` of a portal.
        Bitrix24 = "bitrix24",
    }
}

words! {
    /// What an upstream is not told.
    pub enum Redaction {
        /// Telephone numbers, but for their end.
        Numbers = "numbers",
        /// Names of callers and called ones.
        Names = "names",
    }
}

words! {
    /// How much the log tells.
    pub enum Level {
        /// What we failed at.
        Error = "error",
        /// What an operator would act on.
        Warn = "warn",
        /// What a user would notice.
        Info = "info",
        /// Addresses and numbers.
        Debug = "debug",
        /// Every packet.
        Trace = "trace",
    }
}

words! {
    /// What somebody at the API may do.
    pub enum Role {
        /// Look.
        View = "view",
        /// Look and handle calls.
        Operate = "operate",
        /// Everything, the configuration too.
        Admin = "admin",
    }
}

words! {
    /// Who is asked how a call was.
    pub enum Asked {
        /// Callers.
        In = "in",
        /// Those who were called from here.
        Out = "out",
        /// Both.
        Both = "both",
    }
}

words! {
    /// The form of recordings.
    pub enum RecordingFormat {
        /// WAV, 16 bit.
        Wav = "wav",
    }
    absent { "mp3" is "MP3", "ogg" is "Ogg", "opus" is "Opus" }
}
