//! What makes a TLS connection one of this line: whose certificates it believes. And what the API shows as its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use super::{certificate, clock};
use crate::config;
use crate::events::cloud_event::rfc3339;
use crate::nat::turn_server::Trust;
use crate::now::Now;

/// Whose certificates a line believes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Belief {
    /// A file of certificates in PEM that are believed instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// Believe every certificate: the connection is hidden from listeners, but not from an impostor.
    pub anyone: bool,
}

impl Belief {
    /// What the settings of an upstream say.
    pub fn of_upstream(upstream: &config::Upstream) -> Belief {
        Belief { ca_file: upstream.ca_file.as_ref().map(PathBuf::from), anyone: false }
    }

    /// What the settings of a line say.
    pub fn of(line: &config::Line) -> Belief {
        Belief { ca_file: line.ca_file.as_ref().map(PathBuf::from), anyone: !line.tls_verify }
    }
}

impl From<&Trust> for Belief {
    fn from(trust: &Trust) -> Belief {
        Belief { ca_file: trust.ca_file.as_ref().map(PathBuf::from), anyone: !trust.verify }
    }
}

/// Why no TLS connection can be made; the configuration is to blame.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can't be read.
    #[error("can't read {key} {file}: {error}; give the path of a PEM file that this user may read")]
    Unreadable {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        file: String,
        /// What is the matter with it.
        error: String,
    },
    /// The file holds no certificate.
    #[error("{key} {file} has no certificate in it; it must hold -----BEGIN CERTIFICATE----- blocks")]
    Empty {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        file: String,
    },
    /// The file holds no key that can be used.
    #[error(
        "tls_key {0} has no private key in it; it must hold a -----BEGIN PRIVATE KEY----- block without passphrase"
    )]
    NoKey(String),
    /// Key and certificate are strangers to each other.
    #[error(
        "tls_key {key} is not the key of tls_cert {cert}; give the key that the certificate was made with"
    )]
    Strangers {
        /// The file of the key.
        key: String,
        /// The file of the certificate.
        cert: String,
    },
    /// rustls refuses the settings.
    #[error("TLS can't be set up: {0}")]
    Settings(#[from] rustls::Error),
}

/// The client side of TLS 1.2 and 1.3 for a line.
pub fn client(belief: &Belief) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let config = if belief.anyone {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth()
    } else {
        let roots = match &belief.ca_file {
            Some(file) => roots_of(file, "ca_file")?,
            None => public_roots(),
        };
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    Ok(Arc::new(config))
}

/// The client side of TLS for a command that talks to an appliance: it believes the authorities of `ca`, or the public
/// ones.
///
/// # Errors
/// [`TlsError`] if the file can't be used.
pub fn command(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match ca {
        Some(file) => roots_of(file, "--ca")?,
        None => public_roots(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn public_roots() -> RootCertStore {
    RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned())
}

fn roots_of(file: &Path, key: &'static str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, key)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The certificates of a PEM file; there is one at least.
fn certificates(file: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| unreadable(key, file, error);
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(unreadable)?.collect();
    let all = all.map_err(unreadable)?;
    if all.is_empty() { Err(TlsError::Empty { key, file: file.display().to_string() }) } else { Ok(all) }
}

fn unreadable(key: &'static str, file: &Path, error: pem::Error) -> TlsError {
    let error = match error {
        pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    TlsError::Unreadable { key, file: file.display().to_string(), error }
}

/// The server side of TLS 1.2 and 1.3 for the API, and when its certificate ends (UTC, microseconds).
///
/// # Errors
/// [`TlsError`] if the files can't be read or do not belong together.
pub fn server(cert: &Path, key: &Path) -> Result<(Arc<ServerConfig>, Option<i64>), TlsError> {
    let chain = certificates(cert, "tls_cert")?;
    let until = chain.first().and_then(|first| certificate::not_after(first));
    let secret = match PrivateKeyDer::from_pem_file(key) {
        Ok(secret) => secret,
        Err(pem::Error::NoItemsFound) => return Err(TlsError::NoKey(key.display().to_string())),
        Err(error) => return Err(unreadable("tls_key", key, error)),
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    let mut config = builder.with_single_cert(chain, secret).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Strangers { key: key.display().to_string(), cert: cert.display().to_string() }
        }
        other => TlsError::Settings(other),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), until))
}

/// Why a TLS connection to a server could not be made, and behind a semicolon what to do about it.
pub fn explain(error: &std::io::Error, server: &str, belief: &Belief, now: Now) -> String {
    use rustls::{CertificateError as Bad, Error};
    let clock = || date(now.utc_us);
    let seconds =
        |time: &UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(_)) if now.utc_us < clock::EARLIEST_CREDIBLE_US => format!(
            "the certificate of {server} can't be checked: the clock of this device was never set and says {}; \
             let it reach a time server, or set it by hand",
            clock()
        ),
        Some(Error::InvalidCertificate(Bad::ExpiredContext { not_after, .. })) => format!(
            "the certificate of {server} ended on {}; have it renewed, unless the clock of this device is wrong: \
             it says {}",
            date(seconds(not_after)),
            clock()
        ),
        Some(Error::InvalidCertificate(Bad::NotValidYetContext { not_before, .. })) => format!(
            "the certificate of {server} is good from {} on; set the clock of this device, it says {}",
            date(seconds(not_before)),
            clock()
        ),
        Some(Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature)) => match &belief.ca_file {
            Some(file) => format!(
                "the certificate of {server} is not signed by one of ca_file {}; give the file of the authority \
                 that signed it as ca_file",
                file.display()
            ),
            None => format!(
                "the certificate of {server} is signed by nobody who is known; give the certificate of the \
                 authority that signed it as ca_file"
            ),
        },
        Some(Error::InvalidCertificate(Bad::NotValidForNameContext { presented, .. })) => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).take(MOST_NAMES).collect();
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            format!(
                "the certificate is not for {server} but for {names}; write a name that it is for, or have one \
                 made for {server}"
            )
        }
        Some(Error::InvalidCertificate(other)) => {
            format!("the certificate of {server} can't be believed: {other}; have it made anew")
        }
        Some(Error::InvalidMessage(_)) => {
            format!(
                "what answers at {server} does not speak TLS; write the port that does, most often 5061, for a \
                 WebSocket 443 or 8089"
            )
        }
        _ => {
            format!("TLS with {server} failed: {error}; look into the log of the server, and check the port")
        }
    }
}

/// Names of a certificate that a message repeats.
const MOST_NAMES: usize = 5;

/// A name as rustls shows it, `DnsName("pbx.example")`, without what is around it.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inside.trim_matches('"')
}

/// The day of a moment (UTC, microseconds).
fn date(utc_us: i64) -> String {
    rfc3339(utc_us).chars().take(10).collect()
}

/// Believes every certificate, for `tls_verify = false`; signatures are still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
