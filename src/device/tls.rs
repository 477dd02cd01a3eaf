//! What makes a TLS connection one of this line: whose certificates it believes.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Whose certificates a line believes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Belief {
    /// A file of certificates in PEM that are believed instead of the public ones.
    pub ca_file: Option<std::path::PathBuf>,
    /// Believe every certificate: the connection is hidden from listeners, but not from an impostor.
    pub anyone: bool,
}

/// Why no TLS connection can be made; the configuration is to blame.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can't be read.
    #[error("can't read ca_file {file}: {error}; give the path of a PEM file that this user may read")]
    Unreadable {
        /// The file.
        file: String,
        /// What is the matter with it.
        error: String,
    },
    /// The file holds no certificate.
    #[error("ca_file {0} has no certificate in it; it must hold -----BEGIN CERTIFICATE----- blocks")]
    Empty(String),
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
            Some(file) => roots_of(file)?,
            None => RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        };
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    Ok(Arc::new(config))
}

fn roots_of(file: &Path) -> Result<RootCertStore, TlsError> {
    let shown = file.display().to_string();
    let unreadable = |error: rustls::pki_types::pem::Error| TlsError::Unreadable {
        file: shown.clone(),
        error: error.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
        roots.add(certificate.map_err(unreadable)?)?;
    }
    if roots.is_empty() { Err(TlsError::Empty(shown)) } else { Ok(roots) }
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
