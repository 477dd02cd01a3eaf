//! Who the peer says it is, and who we say we are: From, P-Asserted-Identity (RFC 3325), Remote-Party-ID,
//! Privacy (RFC 3323). Whether to believe it is decided above: only trusted peers get this far.

use crate::sip::call::settings::InviteOptions;
use crate::sip::fields::Fields;
use crate::sip::message::{Request, Response};
use crate::sip::name_addr::NameAddr;
use crate::sip::uri::Uri;

/// The identities of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// From of a request, To of a response.
    pub from: NameAddr,
    /// P-Asserted-Identity: a SIP and perhaps a `tel:` identity.
    pub asserted: Vec<NameAddr>,
    /// Remote-Party-ID.
    pub remote_party: Option<NameAddr>,
    /// The peer asks that its identity be withheld from others (`Privacy: id` or `user`, RPID
    /// `privacy=full`).
    pub private: bool,
}

impl Identity {
    /// The identity that a request of the peer tells.
    pub fn of_request(request: &Request) -> Identity {
        Identity::of(&request.head.from, &request.fields)
    }

    /// The identity that a response of the peer tells (the one who answered).
    pub fn of_response(response: &Response) -> Identity {
        Identity::of(&response.head.to, &response.fields)
    }

    fn of(from: &NameAddr, fields: &Fields) -> Identity {
        let remote_party = fields.name_addrs("Remote-Party-ID").ok().and_then(|list| list.into_iter().next());
        let hides = |party: &NameAddr| {
            party.param("privacy").is_some_and(|value| ["full", "uri", "name"].contains(&value.as_ref()))
        };
        let privacy = fields.text("Privacy").unwrap_or_default().to_ascii_lowercase();
        let asked = privacy.split([';', ',']).any(|token| matches!(token.trim(), "id" | "user" | "header"));
        Identity {
            from: from.clone(),
            asserted: fields.name_addrs("P-Asserted-Identity").unwrap_or_default(),
            private: asked || remote_party.as_ref().is_some_and(hides),
            remote_party,
        }
    }

    /// The one to show: the asserted one (SIP before `tel:`), else Remote-Party-ID, else From.
    pub fn shown(&self) -> &NameAddr {
        let is_sip = |address: &&NameAddr| address.uri.as_sip().is_some();
        self.asserted
            .iter()
            .find(is_sip)
            .or(self.asserted.first())
            .or(self.remote_party.as_ref())
            .unwrap_or(&self.from)
    }

    /// Whether anything but From is told.
    pub(super) fn is_told(&self) -> bool {
        !self.asserted.is_empty() || self.remote_party.is_some()
    }

    /// Whether `other` names somebody else than this.
    pub(super) fn differs(&self, other: &Identity) -> bool {
        let (ours, theirs) = (self.shown(), other.shown());
        ours.uri != theirs.uri || ours.display != theirs.display
    }
}

/// From of an outgoing call.
pub(super) fn from(line: NameAddr, options: &InviteOptions) -> NameAddr {
    match Uri::parse("sip:anonymous@anonymous.invalid") {
        Ok(anonymous) if options.anonymous => NameAddr::new(anonymous).with_display(Some("Anonymous")),
        _ if options.display_name.is_some() => line.with_display(options.display_name.as_deref()),
        _ => line,
    }
}

/// Writes who calls into the fields of an outgoing INVITE, where it is not simply the line.
pub(super) fn write(line: &NameAddr, options: &InviteOptions, fields: &mut Fields) {
    if options.anonymous {
        fields.push("Privacy", "id");
    }
    if !options.anonymous && options.identity.is_none() {
        return;
    }
    let identity = options.identity.as_ref().unwrap_or(line);
    fields.push("P-Preferred-Identity", identity.to_string());
    if options.identity.is_some() {
        fields.push("P-Asserted-Identity", identity.to_string());
        let privacy = if options.anonymous { "full" } else { "off" };
        fields.push("Remote-Party-ID", format!("{identity};party=calling;screen=no;privacy={privacy}"));
    }
}
