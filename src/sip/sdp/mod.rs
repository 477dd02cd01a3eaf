//! SDP: what two sides of a call tell each other about their media.
//!
//! Text and typed session are two things: [`session`] reads what arrives (tolerant, bounded) and writes what
//! we say (strict, RFC 8866); [`media`] gives the lines of one medium their meaning; [`crypto`] holds SRTP
//! keys (RFC 4568), [`fingerprint`] what DTLS-SRTP is agreed on with, [`ice`] credentials and candidates;
//! [`multipart`] finds the session in a body of several parts. RFC 3264 works on these
//! types: a [`capability`] becomes an offer or an answer (`offer_answer`, `payload_types`), both become an
//! [`agreement`], and [`negotiation`] is the memory of all that over the life of one dialog. Nothing here
//! knows sockets, codecs' insides or SIP messages: addresses, names and numbers only.

pub mod agreement;
pub mod capability;
pub mod crypto;
pub mod fingerprint;
pub mod ice;
pub mod media;
pub mod multipart;
pub mod negotiation;
mod offer_answer;
mod payload_types;
pub mod session;

#[cfg(test)]
mod dtls_tests;
#[cfg(test)]
mod ice_tests;
#[cfg(test)]
mod negotiation_tests;
#[cfg(test)]
mod offer_answer_tests;
#[cfg(test)]
mod session_tests;

pub use agreement::{Agreed, AgreedEvent, Hold, Negotiated, Refusal, SrtpKeys};
pub use capability::{Capability, Codec, Preference, Security, TelephoneEvent};
pub use crypto::{Crypto, Key, Suite};
pub use fingerprint::{Dtls, DtlsRole, Fingerprint, Hash};
pub use ice::{Candidate, CandidateKind, CandidateTransport, Credentials, Ice, LocalIce, RemoteIce};
pub use media::{Direction, Media, MediaKind, Protocol};
pub use multipart::session_of_body;
pub use negotiation::Negotiation;
pub use session::{Address, Attribute, Origin, Session, Unreadable};
