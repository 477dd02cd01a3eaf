use super::*;

fn uri(text: &str) -> Uri {
    Uri::parse(text).unwrap_or_else(|_| panic!("{text} should be read"))
}

fn sip(text: &str) -> SipUri {
    match uri(text) {
        Uri::Sip(uri) => uri,
        other => panic!("{other} should be a SIP URI"),
    }
}

#[test]
fn every_part_of_a_sip_uri_is_read() {
    let uri = sip("SIPS:john.doe:se%20cret@Example.com:5071;transport=TCP;lr;maddr=192.0.2.9?Subject=a%20b&\
         Route=%3Csip:x%3E");
    assert!(uri.secure);
    assert_eq!(uri.user().as_deref(), Some("john.doe"));
    assert_eq!(uri.password().as_deref(), Some("se cret"));
    assert_eq!((uri.host.clone(), uri.port), (Host::Name("example.COM".into()), Some(5071)));
    assert_eq!(uri.transport().as_deref(), Some("TCP"));
    assert!(uri.lr());
    assert_eq!(uri.maddr(), Host::parse("192.0.2.9"));
    assert_eq!(uri.headers[1], ("Route".into(), "%3Csip:x%3E".into()));
}

#[test]
fn a_uri_is_written_as_it_was_read() {
    for text in [
        "sip:a@b",
        "sips:a:p@b:5061;x;y=z?h=v",
        "sip:[2001:db8::10]:5070",
        "sip:%00@h",
        "sip:host",
        "sip:user;par=u%40example.net@example.com",
        "tel:+1-201;ext=5",
        "urn:service:sos",
        "http://www.example.com/a?b=c",
        "sip:1001@203.0.113.101:49152;ob;x-ast-orig-host=192.0.2.1~5060",
        "sip:ping@h;alias=203.0.113.101~5060~1;fs_path=sip:h;\
         gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    ] {
        assert_eq!(uri(text).to_string(), text);
        assert_eq!(uri(&uri(text).to_string()), uri(text));
    }
}

#[test]
fn malformed_uris_are_refused() {
    for bad in [
        "",
        "sip:",
        "sip",
        ":a",
        "sip:@host",
        "sip:a@",
        "sip:a@b@c",
        "sip:2001:db8::10",
        "sip:a@b:99999",
        "sip:a@b:",
        "sip:a b@c",
        "sip:a\"@b",
        "sip:<a>@b",
        "sip:a%4@b",
        "sip:a%zz@b",
        "sip:a@b;",
        "sip:a@b;;lr",
        "sip:a@b;lr;LR",
        "sip:a@b;x=\"q\"",
        "sip:a@b?",
        "sip:a@b?x",
        "sip:a@b?x=1&",
        "sip:a@b c",
        "sip:a:b:c@d",
        "1x:y",
        "x:",
        "x:a b",
        "x:<a>",
        "sip:a@h\u{e9}",
        "sip:a@b\r\nVia: x",
    ] {
        assert!(Uri::parse(bad).is_err(), "{bad:?}");
    }
    assert!(Uri::parse(format!("sip:{}@h", "a".repeat(MAX_URI))).is_err());
    assert!(Uri::parse(format!("sip:h?{}a=1", "a=1&".repeat(MAX_URI_HEADERS))).is_err());
}

#[test]
fn user_parts_are_escaped_for_the_wire_and_back() {
    let mut uri = SipUri::new(Some("*43#"), Host::parse("pbx").unwrap());
    assert_eq!(uri.to_string(), "sip:*43%23@pbx");
    uri.set_user(Some("ä b@c\r\nX"));
    assert_eq!(uri.to_string(), "sip:%C3%A4%20b%40c%0D%0AX@pbx");
    assert_eq!(uri.user().as_deref(), Some("ä b@c\r\nX"));
    assert_eq!(sip("sip:*43#@pbx").user().as_deref(), Some("*43#"));
    assert_eq!(sip("sip:J\u{fc}rgen@pbx").user_raw(), Some("J%C3%BCrgen"));
    assert_eq!(Uri::parse(b"sip:J\xfcrgen@pbx").unwrap().user().as_deref(), Some("Jürgen"));
}

#[test]
fn the_number_with_phone_context_in_a_user_part_stays_together() {
    let uri = sip("sip:7042;phone-context=+1@host;user=phone");
    assert_eq!(uri.user().as_deref(), Some("7042;phone-context=+1"));
    assert_eq!(uri.param("user").as_deref(), Some("phone"));
}

// The pairs are of the kinds that RFC 3261 §19.1.4 lists.
#[test]
fn equivalent_uris() {
    for (a, b) in [
        ("sip:%61lice@atlanta.example;transport=TCP", "sip:alice@AtLanTa.example;Transport=tcp"),
        ("sip:carol@chicago.example", "sip:carol@chicago.example;newparam=5"),
        ("sip:carol@chicago.example", "sip:carol@chicago.example;security=on"),
        ("sip:carol@chicago.example;newparam=5", "sip:carol@chicago.example;security=on"),
        (
            "sip:biloxi.example;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.example",
            "sip:biloxi.example;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.example",
        ),
        (
            "sip:alice@atlanta.example?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.example?priority=urgent&subject=project%20x",
        ),
        ("sip:a@h;%6C%72", "sip:a@h;lr"),
        ("sip:h;a=%42", "sip:h;a=b"),
        ("URN:service:sos", "urn:service:sos"),
    ] {
        assert!(uri(a).equivalent(&uri(b)) && uri(b).equivalent(&uri(a)), "{a} {b}");
    }
}

#[test]
fn different_uris() {
    for (a, b) in [
        ("sip:ALICE@atlanta.example", "sip:alice@atlanta.example"),
        ("sip:bob@biloxi.example", "sip:bob@biloxi.example:5060"),
        ("sip:bob@biloxi.example", "sip:bob@biloxi.example;transport=udp"),
        ("sip:bob@biloxi.example", "sip:bob@biloxi.example;user=phone"),
        ("sip:bob@biloxi.example", "sip:bob@biloxi.example;maddr=192.0.2.1"),
        ("sip:bob@biloxi.example:6000", "sip:bob@biloxi.example:6000;transport=tcp"),
        ("sip:carol@chicago.example", "sip:carol@chicago.example?Subject=next%20meeting"),
        ("sip:bob@phone21.example", "sip:bob@192.0.2.4"),
        ("sip:carol@c.example;security=on", "sip:carol@c.example;security=off"),
        ("sip:bob@c.example", "sips:bob@c.example"),
        ("sip:a%40b@c", "sip:a%2Cb@c"),
        ("sip:a%2Cb@c", "sip:a,b@c"),
        ("sip:%00@h", "sip:%00%00@h"),
        ("sip:a:x@h", "sip:a@h"),
        ("tel:123", "sip:123@h"),
        ("urn:service:sos", "urn:service:SOS"),
    ] {
        assert!(!uri(a).equivalent(&uri(b)) && !uri(b).equivalent(&uri(a)), "{a} {b}");
    }
}
