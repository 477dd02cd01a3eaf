use super::*;

fn challenge(realm: &str, nonce: &str, algorithm: &str, qop: &[Qop]) -> DigestChallenge {
    DigestChallenge {
        realm: realm.into(),
        nonce: nonce.into(),
        opaque: None,
        algorithm: Algorithm::parse(algorithm.as_bytes()),
        stale: false,
        qop: qop.to_vec(),
    }
}

fn response_of(question: &Question<'_>) -> String {
    String::from_utf8(credentials(question).response).unwrap()
}

#[test]
fn the_example_of_rfc_2617_3_5() {
    let challenge =
        challenge("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "", &[Qop::Auth, Qop::AuthInt]);
    let question = Question {
        challenge: &challenge,
        method: "GET",
        uri: "/dir/index.html",
        username: "Mufasa",
        password: "Circle Of Life",
        body: b"",
        cnonce: "0a4f113b",
        nc: 1,
    };
    assert_eq!(response_of(&question), "6629fae49393a05397450978507c4ef1");
}

#[test]
fn the_examples_of_rfc_7616_3_9() {
    for (algorithm, response) in [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let challenge = challenge(
            "http-auth@example.org",
            "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            algorithm,
            &[Qop::Auth, Qop::AuthInt],
        );
        let question = Question {
            challenge: &challenge,
            method: "GET",
            uri: "/dir/index.html",
            username: "Mufasa",
            password: "Circle of Life",
            body: b"",
            cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            nc: 1,
        };
        assert_eq!(response_of(&question), response);
    }
    let challenge = challenge(
        "api@example.org",
        "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
        "SHA-512-256",
        &[Qop::Auth],
    );
    let question = Question {
        challenge: &challenge,
        method: "GET",
        uri: "/doe.json",
        username: "J\u{e4}s\u{f8}n Doe",
        password: "Secret, or not?",
        body: b"",
        cnonce: "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
        nc: 1,
    };
    // As corrected by erratum 4897.
    assert_eq!(response_of(&question), "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5");
}

/// Computed with Python's hashlib.
const VECTORS: [(&str, Option<Qop>, &str); 18] = [
    ("MD5", None, "9a363cde841a2f5f485d4bb35e6b2fd4"),
    ("MD5", Some(Qop::Auth), "28176085de29a6b3aae58a86b517de4c"),
    ("MD5", Some(Qop::AuthInt), "c0bdb1b7ec681adbd8379f0788a8e38c"),
    ("MD5-sess", None, "af7710e21b95ac6d44a6fad638488435"),
    ("MD5-sess", Some(Qop::Auth), "09f805d08d28dfad14fe3ac29666e62a"),
    ("MD5-sess", Some(Qop::AuthInt), "2d8b3cd56878faa20c1bd69362ab0082"),
    ("SHA-256", None, "7fd6fed54c52f2f04b3181d828f9d482dc10202141b5beea856f0376720a2294"),
    ("SHA-256", Some(Qop::Auth), "5ee186fa8852ba15623be9499cc9260ed1ca99026b6ab8c615cdd6579adb948c"),
    ("SHA-256", Some(Qop::AuthInt), "1a952c4d695513bd6defebb6dc71b62f2204543178c77d2211e085c41508f520"),
    ("SHA-256-sess", None, "9427f29acb563a73cd8f687f3d576a77812faed3d2fbca53837f745536ada65a"),
    ("SHA-256-sess", Some(Qop::Auth), "753c64898304caf0799149a0c63cb06961ab8e66e1cbcc5340bb6fccc1981aaa"),
    ("SHA-256-sess", Some(Qop::AuthInt), "c44254b61c22b9a209b98d2b8e06e0921231c93e588593af7710fd7cb897120a"),
    ("SHA-512-256", None, "582407f54aa181599903a3b8b57d0323d3f3e298a8b5dc06e21e6b6c3ada5430"),
    ("SHA-512-256", Some(Qop::Auth), "01cf5aa04ae947c6374da0eda22d968ffd8982a1b12da3028967542b14fd04c0"),
    ("SHA-512-256", Some(Qop::AuthInt), "630261ca23d7bb8898b78e0e3c3caad2e2cca1ba233e46abce0c378c82388cf9"),
    ("SHA-512-256-sess", None, "1e56ff5851976cb8679bda51e3ef3cf0d8710ab38435a66f7c809678f3294f21"),
    ("SHA-512-256-sess", Some(Qop::Auth), "e9aab0a621cfaff5b5707dd0d120ff73f0714cd8c5df4d272208054dd34622a3"),
    (
        "SHA-512-256-sess",
        Some(Qop::AuthInt),
        "bbb2eeaae17e0af18b3def92e72d791f068da01f92ba670eac4d1eaa2b55e3da",
    ),
];

#[test]
fn every_algorithm_with_every_protection_and_both_sides_agree() {
    for (algorithm, qop, response) in VECTORS {
        let challenge = challenge("pbx.example", "abc/+=", algorithm, &Vec::from_iter(qop));
        let question = Question {
            challenge: &challenge,
            method: "REGISTER",
            uri: "sip:pbx.example",
            username: "1001",
            password: "s3cret",
            body: b"\x00\xffbody",
            cnonce: "0a4f113b",
            nc: 10,
        };
        assert_eq!(response_of(&question), response, "{algorithm} {qop:?}");
        let written = crate::sip::fields::Fields::from_one("Authorization", answer(&question));
        let [read] = written.credentials("Authorization").try_into().unwrap();
        assert_eq!(read, credentials(&question));
        assert!(verify(&read, "s3cret", "REGISTER", question.body));
        assert!(!verify(&read, "secret", "REGISTER", question.body));
        assert!(!verify(&read, "s3cret", "INVITE", question.body));
        assert_eq!(verify(&read, "s3cret", "REGISTER", b"other"), qop != Some(Qop::AuthInt));
        let proof = server_proof(&read, "s3cret", b"answer");
        assert_eq!(verify_server(&question, &proof, b"answer"), Some(true));
        assert_eq!(
            verify_server(&question, &server_proof(&read, "guess", b"answer"), b"answer"),
            Some(false)
        );
        let other_count = AuthenticationInfo { nc: Some(11), ..proof };
        assert_eq!(verify_server(&question, &other_count, b"answer"), Some(false));
        assert_eq!(verify_server(&question, &AuthenticationInfo::default(), b""), None);
    }
}

#[test]
fn the_strongest_challenge_is_answered() {
    let list =
        ["MD5", "SHA-256-sess", "SHA-256", "MD5-sess"].map(|algorithm| challenge("r", "n", algorithm, &[]));
    assert_eq!(strongest(&list), Some(&list[1]));
    assert_eq!(strongest(&list[..1]), Some(&list[0]));
    assert_eq!(strongest(&[]), None);
}

#[test]
fn what_the_challenge_did_not_say_is_not_answered() {
    let challenge = challenge("r", "n", "", &[]);
    let question = Question {
        challenge: &challenge,
        method: "REGISTER",
        uri: "sip:r",
        username: "a",
        password: "b",
        body: b"",
        cnonce: "c",
        nc: 1,
    };
    let text = String::from_utf8(answer(&question)).unwrap();
    for absent in ["algorithm", "qop", "cnonce", "nc=", "opaque"] {
        assert!(!text.contains(absent), "{text}");
    }
}
