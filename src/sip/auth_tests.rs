use super::*;

fn fields(name: &str, values: &[&str]) -> Fields {
    let mut fields = Fields::new();
    values.iter().for_each(|value| fields.push(name, *value));
    fields
}

#[test]
fn a_challenge_is_read_with_blanks_lists_and_any_case() {
    let fields = fields(
        "WWW-Authenticate",
        &["dIGEST  Realm = \"At, lanta \\\"x\\\"\" ,nonce=\"84a4=,/\", QOP=\"auth , auth-int\", \
             opaque=\"\", Stale=TRUE, \
           algorithm=sha-256, domain=\"sip:a\", userhash=true, charset=UTF-8"],
    );
    let [challenge] = fields.challenges("WWW-Authenticate").try_into().unwrap();
    assert_eq!(challenge.realm, br#"At, lanta \"x\""#);
    assert_eq!(challenge.realm_text(), "At, lanta \"x\"");
    assert_eq!(challenge.nonce, b"84a4=,/");
    assert_eq!(challenge.qop, [Qop::Auth, Qop::AuthInt]);
    assert_eq!(challenge.opaque.as_deref(), Some(&b""[..]));
    assert!(challenge.stale);
    assert_eq!(challenge.effective_algorithm(), Algorithm::SHA_256);
}

#[test]
fn several_challenges_in_one_line_and_in_several() {
    let fields = fields(
        "Proxy-Authenticate",
        &[
            "Basic realm=\"b\", Digest realm=\"1\", nonce=\"n1\", algorithm=MD5, Negotiate, \
             Digest realm=\"2\", \
             nonce=\"n2\",algorithm=SHA-512-256-sess",
            "Digest realm=\"3\", nonce=\"n3\", algorithm=SHA-3, qop=\"auth\"",
            "Digest realm=\"4\", nonce=\"n4\", qop=auth-int",
            "Digest realm=\"5\", nonce=\"n5\", qop=\"auth-conf\"",
            "Digest realm=\"6\"",
            "Digest",
        ],
    );
    let read: Vec<_> = fields
        .challenges("Proxy-Authenticate")
        .iter()
        .map(|challenge| {
            (challenge.realm_text(), challenge.effective_algorithm().as_str(), challenge.chosen_qop())
        })
        .collect();
    assert_eq!(
        read,
        [
            ("1".into(), "MD5", None),
            ("2".into(), "SHA-512-256-sess", None),
            ("4".into(), "MD5", Some(Qop::AuthInt)),
        ]
    );
}

#[test]
fn credentials_are_read_back_as_written() {
    let credentials = DigestCredentials {
        username: quotable("bo\"b\r\nX"),
        realm: b"r".to_vec(),
        nonce: b"n,=".to_vec(),
        uri: b"sip:pbx;a=\"".to_vec(),
        response: b"0123456789abcdef0123456789abcdef".to_vec(),
        algorithm: Some(Algorithm { hash: Hash::Sha256, session: true }),
        opaque: Some(b"o".to_vec()),
        qop: Some(Qop::AuthInt),
        cnonce: Some(b"c".to_vec()),
        nc: Some(0x1f),
    };
    let credentials = DigestCredentials { uri: b"sip:pbx".to_vec(), ..credentials };
    let text = String::from_utf8(credentials.write()).unwrap();
    assert!(text.starts_with("Digest username=\"bo\\\"b  X\", realm=\"r\""), "{text}");
    assert!(text.ends_with("qop=auth-int, nc=0000001f"), "{text}");
    let fields = fields("Authorization", &[&text]);
    assert_eq!(fields.credentials("Authorization"), [credentials]);
    assert_eq!(fields.credentials("Authorization")[0].username_text(), "bo\"b  X");
}

#[test]
fn credentials_that_are_not_complete_are_none() {
    for value in [
        "NoOneKnowsThisScheme opaque-data=here",
        "Digest username=\"a\"",
        "Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"u\", response=\"x\", qop=auth",
        "Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"u\", response=\"x\", nc=xyz",
        "Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"u\", response=\"x\", nc=+1",
        "Digest username=\"a, realm=\"r\", nonce=\"n\", uri=\"u\", response=\"x",
        "Digest username=a\"b, realm=\"r\", nonce=\"n\", uri=\"u\", response=\"x\"",
        "",
        "=",
    ] {
        assert!(fields("Authorization", &[value]).credentials("Authorization").is_empty(), "{value}");
    }
}

#[test]
fn the_number_of_challenges_and_parameters_is_limited() {
    let many = "Digest realm=\"r\", nonce=\"n\", ".repeat(MAX_CHALLENGES + 5);
    assert_eq!(fields("WWW-Authenticate", &[&many]).challenges("WWW-Authenticate").len(), MAX_CHALLENGES);
    let padding: String = (0..MAX_AUTH_PARAMS).map(|n| format!("p{n}=1,")).collect();
    let late = format!("Digest {padding}realm=\"r\",nonce=\"n\"");
    assert!(fields("WWW-Authenticate", &[&late]).challenges("WWW-Authenticate").is_empty());
}

#[test]
fn authentication_info_is_read_and_written() {
    let info =
        AuthenticationInfo::parse(b"nextnonce=\"n2\", qop=auth , rspauth=\"ab\", cnonce=\"c\", nc=00000001");
    assert_eq!(info.nextnonce.as_deref(), Some(&b"n2"[..]));
    assert_eq!((info.qop, info.nc), (Some(Qop::Auth), Some(1)));
    assert_eq!(AuthenticationInfo::parse(&info.write()), info);
    assert_eq!(AuthenticationInfo::parse(b"rubbish,,=,nc=zz"), AuthenticationInfo::default());
}

#[test]
fn our_own_challenge_is_read_back() {
    let mut challenge = DigestChallenge::new("tip\"ring", "n0", Algorithm::SHA_256);
    challenge.stale = true;
    challenge.opaque = Some(b"x".to_vec());
    let mut fields = Fields::new();
    fields.push("WWW-Authenticate", challenge.write());
    assert_eq!(fields.challenges("WWW-Authenticate"), [challenge]);
}
