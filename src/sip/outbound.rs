//! The user agent's part of RFC 5626 (outbound), of RFC 6223 (`keep`) and of RFC 5627 (GRUU): who we are to the
//! registrar, whatever our address is, and what it offers for that.
//!
//! Registrars that know nothing of it overlook what is said here.

use std::time::Duration;

use crate::sip::message::Response;
use crate::sip::name_addr::NameAddr;
use crate::sip::uri::Uri;

/// Longer silences are not believed to be meant, nor none at all.
const LONGEST_SILENCE: u32 = 24 * 3600;

/// What was agreed on with one registrar.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outbound {
    /// `urn:uuid:…`, the same for the device's whole life.
    instance: Option<String>,
    /// Which of the line's flows this is (RFC 5626 §4.2), the same after a restart.
    reg_id: u8,
    /// The first hop can't do it (439).
    refused: bool,
    in_force: bool,
    longest: Option<Duration>,
    public: Option<Uri>,
    temporary: Option<Uri>,
}

impl Outbound {
    /// With the URN of this device (RFC 5626 §4.1), without which nothing is offered, for the flow of this number.
    pub fn new(instance: Option<String>, reg_id: u8) -> Outbound {
        Outbound { instance, reg_id, ..Outbound::default() }
    }

    /// The value of Supported in a REGISTER.
    pub fn supported(&self) -> &'static str {
        match (&self.instance, self.refused) {
            (None, _) => "path",
            (Some(_), true) => "path, gruu",
            (Some(_), false) => "path, outbound, gruu",
        }
    }

    /// Our Contact as a REGISTER carries it.
    pub fn own(&self, mut contact: NameAddr) -> NameAddr {
        if let Some(instance) = &self.instance {
            contact.params.set("+sip.instance", Some(&format!("<{instance}>")));
            if !self.refused {
                contact.params.set("reg-id", Some(&self.reg_id.to_string()));
            }
        }
        contact
    }

    /// 439: the first hop lacks outbound support. True if it is worth another try, without it.
    pub fn refuse(&mut self) -> bool {
        self.instance.is_some() && !std::mem::replace(&mut self.refused, true)
    }

    /// Reads what a 200 to REGISTER agrees to; `ours` is our Contact among those of the answer.
    pub fn handle_granted(&mut self, response: &Response, ours: Option<&NameAddr>) {
        self.in_force = !self.refused && response.fields.has_token("Require", "outbound");
        let flow_timer = response.fields.number("Flow-Timer").ok().flatten();
        let keep = response.head.top_via().and_then(|via| via.params.value("keep"));
        let keep = keep.and_then(|keep| keep.parse().ok());
        let wished =
            [flow_timer, keep].into_iter().flatten().filter(|wish| (1..=LONGEST_SILENCE).contains(wish));
        self.longest = wished.min().map(|wish| Duration::from_secs(u64::from(wish)));
        let gruu = |name| {
            let uri = Uri::parse(&*ours?.param(name)?).ok()?;
            uri.as_sip().is_some().then_some(uri)
        };
        (self.public, self.temporary) = (gruu("pub-gruu"), gruu("temp-gruu"));
    }

    /// The registration is gone, and what was agreed on with it.
    pub fn handle_lost(&mut self) {
        *self = Outbound { refused: self.refused, ..Outbound::new(self.instance.take(), self.reg_id) };
    }

    /// Whether the registrar sends requests by the flow of the registration (`Require: outbound` in its answer).
    pub fn is_in_force(&self) -> bool {
        self.in_force
    }

    /// The longest silence on the flow that the registrar wants: Flow-Timer, or `keep` of Via.
    pub fn longest_silence(&self) -> Option<Duration> {
        self.longest
    }

    /// Our Contact inside a dialog, where the registrar goes by flows: the GRUU if there is one (RFC 5627 §4.4), the
    /// temporary one for who wants to be `anonymous`; else the address with `ob` (RFC 5626 §4.3).
    // A Kamailio offers GRUUs by default while its usual script leads nobody there inside a dialog: without outbound in
    // force the address is what works.
    pub fn in_dialog(&self, contact: NameAddr, anonymous: bool) -> NameAddr {
        let gruu = if anonymous { self.temporary.as_ref() } else { self.public.as_ref() };
        match (gruu, contact.uri) {
            (_, uri) if !self.in_force => NameAddr::new(uri),
            (Some(gruu), _) => NameAddr::new(gruu.clone()),
            (None, Uri::Sip(mut uri)) => {
                uri.params.set("ob", None);
                NameAddr::new(Uri::Sip(uri))
            }
            (None, uri) => NameAddr::new(uri),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::Request;
    use crate::sip::method::Method;
    use crate::sip::via::Via;

    fn answer(via: &str, fields: &[(&str, &str)]) -> Response {
        let aor = NameAddr::parse("<sip:1001@pbx.example>").unwrap();
        let uri = Uri::parse("sip:pbx.example").unwrap();
        let mut request = Request::new(Method::REGISTER, uri, aor.clone().with_tag("a"), aor, "id", 1);
        request.head.via.push(Via::parse(via).unwrap());
        let mut response = Response::to(&request, 200);
        fields.iter().for_each(|(name, value)| response.fields.push(name, *value));
        response
    }

    fn granted(via: &str, fields: &[(&str, &str)], ours: &str) -> Outbound {
        let mut outbound = Outbound::new(Some("urn:uuid:1".into()), 1);
        outbound.handle_granted(&answer(via, fields), Some(&NameAddr::parse(ours).unwrap()));
        outbound
    }

    const VIA: &str = "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;keep";
    const CONTACT: &str = "<sip:1001@192.0.2.10:5060>";

    #[test]
    fn the_silence_that_the_registrar_wants_is_the_shorter_of_both_and_never_none() {
        for (via, timer, longest) in [
            (VIA.to_owned(), None, None),
            (VIA.to_owned(), Some("120"), Some(120)),
            (format!("{VIA}=25"), None, Some(25)),
            (format!("{VIA}=25"), Some("120"), Some(25)),
            (format!("{VIA}=0"), Some("0"), None),
            (format!("{VIA}=x"), Some("99999999"), None),
        ] {
            let fields: Vec<_> = timer.into_iter().map(|timer| ("Flow-Timer", timer)).collect();
            let outbound = granted(&via, &fields, CONTACT);
            assert_eq!(outbound.longest_silence(), longest.map(Duration::from_secs), "{via} {timer:?}");
        }
    }

    #[test]
    fn a_contact_in_a_dialog_is_the_gruu_where_there_is_one() {
        let contact = || NameAddr::parse(CONTACT).unwrap();
        let plain = granted(VIA, &[], CONTACT);
        assert_eq!(plain.in_dialog(contact(), false).to_string(), CONTACT);
        let flows = granted(VIA, &[("Require", "outbound")], CONTACT);
        assert_eq!(flows.in_dialog(contact(), true).to_string(), "<sip:1001@192.0.2.10:5060;ob>");
        let ours = format!(
            "{CONTACT};pub-gruu=\"sip:1001@pbx.example;gr=urn:uuid:1\";temp-gruu=\"sip:tgruu.7@pbx.example;gr\""
        );
        let gruu = granted(VIA, &[("Require", "outbound")], &ours);
        assert_eq!(gruu.in_dialog(contact(), false).to_string(), "<sip:1001@pbx.example;gr=urn:uuid:1>");
        assert_eq!(gruu.in_dialog(contact(), true).to_string(), "<sip:tgruu.7@pbx.example;gr>");
        let only_offered = granted(VIA, &[], &ours);
        assert_eq!(only_offered.in_dialog(contact(), false).to_string(), CONTACT);
        let bad = granted(VIA, &[], &format!("{CONTACT};pub-gruu=\"mailto:x@y\""));
        assert_eq!(bad.in_dialog(contact(), false).to_string(), CONTACT);
    }

    #[test]
    fn without_support_in_the_first_hop_the_instance_stays() {
        let mut outbound = Outbound::new(Some("urn:uuid:1".into()), 2);
        let own = |outbound: &Outbound| outbound.own(NameAddr::parse(CONTACT).unwrap()).to_string();
        assert_eq!(own(&outbound), format!("{CONTACT};+sip.instance=\"<urn:uuid:1>\";reg-id=2"));
        assert_eq!(outbound.supported(), "path, outbound, gruu");
        assert!(outbound.refuse() && !outbound.refuse());
        assert_eq!(own(&outbound), format!("{CONTACT};+sip.instance=\"<urn:uuid:1>\""));
        assert_eq!(outbound.supported(), "path, gruu");
        assert_eq!(own(&Outbound::default()), CONTACT);
    }
}
