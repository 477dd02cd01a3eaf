//! What is said of a server that is not believed: real handshakes with certificates made for the purpose, without a
//! socket.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// 2026-11-21 08:00 UTC.
const NOW: Now = Now { mono_us: 0, utc_us: 1_795_248_000_000_000 };

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let file = std::env::temp_dir().join(format!("tipring-{}-{name}.pem", std::process::id()));
    std::fs::write(&file, params.self_signed(&key).expect("a certificate").pem()).expect("a file");
    Authority { issuer: Issuer::new(params, key), file }
}

/// A server with a certificate for pbx.example of these years.
fn server(authority: &Authority, years: (i32, i32)) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new(["pbx.example".to_owned()]).expect("a name");
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &authority.issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).expect("a server"))
}

/// What is said after a handshake, if it failed. Without a server there is one that speaks something else.
fn said(server: Option<Arc<ServerConfig>>, belief: &Belief, name: &str, now: Now) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let peer = tokio::spawn(async move {
            match server {
                Some(config) => drop(TlsAcceptor::from(config).accept(theirs).await),
                None => {
                    drop(tokio::io::AsyncWriteExt::write_all(&mut theirs, b"SIP/2.0 400 Bad\r\n\r\n").await)
                }
            }
        });
        let connector = TlsConnector::from(client(belief).expect("settings"));
        let name_in_certificate = ServerName::try_from(name.to_owned()).expect("a name");
        let outcome = connector.connect(name_in_certificate, ours).await;
        let _ = peer.await;
        outcome.err().map(|error| explain(&error, name, belief, now))
    })
}

#[test]
fn each_fault_of_a_certificate_has_its_cure() {
    let (known, other) = (authority("known"), authority("other"));
    let file = known.file.display().to_string();
    let belief = Belief { ca_file: Some(known.file.clone()), anyone: false };
    let public = Belief::default();
    let good = server(&known, (2020, 3000));
    let pbx = "pbx.example";
    let never_set = Now { utc_us: 5_000_000, ..NOW };
    let cases = [
        (Some(good.clone()), &belief, pbx, NOW, None),
        (
            Some(good.clone()),
            &belief,
            "sip.example",
            NOW,
            Some(
                "the certificate is not for sip.example but for pbx.example; write a name that it is for, or have \
                 one made for sip.example"
                    .to_owned(),
            ),
        ),
        (
            Some(server(&other, (2020, 3000))),
            &belief,
            pbx,
            NOW,
            Some(format!(
                "the certificate of pbx.example is not signed by one of ca_file {file}; give the file of the \
                 authority that signed it as ca_file"
            )),
        ),
        (
            Some(good.clone()),
            &public,
            pbx,
            NOW,
            Some(
                "the certificate of pbx.example is signed by nobody who is known; give the certificate of the \
                 authority that signed it as ca_file"
                    .to_owned(),
            ),
        ),
        (
            Some(server(&known, (2020, 2024))),
            &belief,
            pbx,
            NOW,
            Some(
                "the certificate of pbx.example ended on 2024-01-01; have it renewed, unless the clock of this \
                 device is wrong: it says 2026-11-21"
                    .to_owned(),
            ),
        ),
        (
            Some(server(&known, (2990, 3000))),
            &belief,
            pbx,
            NOW,
            Some(
                "the certificate of pbx.example is good from 2990-01-01 on; set the clock of this device, it says \
                 2026-11-21"
                    .to_owned(),
            ),
        ),
        (
            Some(server(&known, (2990, 3000))),
            &belief,
            pbx,
            never_set,
            Some(
                "the certificate of pbx.example can't be checked: the clock of this device was never set and says \
                 1970-01-01; let it reach a time server, or set it by hand"
                    .to_owned(),
            ),
        ),
        (
            None,
            &belief,
            pbx,
            NOW,
            Some(
                "what answers at pbx.example does not speak TLS; write the port that does, most often 5061, for a WebSocket \
                 443 or 8089".to_owned(),
            ),
        ),
        (Some(server(&other, (2020, 2024))), &Belief { ca_file: None, anyone: true }, pbx, NOW, None),
    ];
    for (index, (server, belief, name, now, expected)) in cases.into_iter().enumerate() {
        assert_eq!(said(server, belief, name, now), expected, "case {index}");
    }
    for authority in [known, other] {
        let _ = std::fs::remove_file(authority.file);
    }
}

#[test]
fn files_of_authorities_that_can_not_be_used_are_named() {
    let belief = |file: &str| Belief { ca_file: Some(file.into()), anyone: false };
    let missing = client(&belief("/nowhere/ca.pem")).expect_err("no file").to_string();
    assert!(
        missing.starts_with("can't read ca_file /nowhere/ca.pem: ") && missing.contains("; give"),
        "{missing}"
    );
    let empty = client(&belief("/dev/null")).expect_err("an empty file").to_string();
    assert_eq!(
        empty,
        "ca_file /dev/null has no certificate in it; it must hold -----BEGIN CERTIFICATE----- blocks"
    );
}
