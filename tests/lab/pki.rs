//! A certificate authority for one lab, and the certificate of its servers.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use crate::netns::Lab;

/// PEM texts: the authority's certificate, the servers' certificate and its key.
pub struct Pki {
    pub ca: String,
    pub certificate: String,
    pub key: String,
    /// Where the authority's certificate lies, for `ca_file`.
    pub ca_file: PathBuf,
}

impl Pki {
    /// The authority of this lab; made on first use.
    pub fn of(lab: &Lab) -> Pki {
        Pki::valid_from(lab, 2020)
    }

    /// The same for certificates that begin with this year.
    pub fn valid_from(lab: &Lab, year: i32) -> Pki {
        let folder = lab.folder().join("pki");
        let paths = ["ca.pem", "server.crt", "server.key"].map(|name| folder.join(name));
        if !folder.exists() {
            let (ca, certificate, key) = make(year);
            fs::create_dir_all(&folder).expect("a folder");
            for (path, text) in paths.iter().zip([ca, certificate, key]) {
                fs::write(path, text).expect("a PEM file");
            }
        }
        let [ca, certificate, key] =
            paths.each_ref().map(|path| fs::read_to_string(path).expect("a PEM file"));
        let [ca_file, ..] = paths;
        Pki { ca, certificate, key, ca_file }
    }
}

fn make(year: i32) -> (String, String, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "Lab CA");
    let authority_key = KeyPair::generate().expect("a key");
    let ca = authority.self_signed(&authority_key).expect("a certificate");

    let names = ["pbx", "kam", "kam1", "kam2", "turn"].map(|name| format!("{name}.lab.test"));
    let names = names.into_iter().chain(["lab.test", "localhost"].map(String::from));
    let mut server = CertificateParams::new(names.collect::<Vec<_>>()).expect("names");
    let addresses = [10, 11, 12, 20, 21, 30].map(|last| format!("203.0.113.{last}"));
    for address in addresses.into_iter().chain(["127.0.0.1".to_owned()]) {
        server.subject_alt_names.push(SanType::IpAddress(address.parse().expect("an address")));
    }
    server.not_before = rcgen::date_time_ymd(year, 1, 1);
    server.distinguished_name.push(DnType::CommonName, "pbx.lab.test");
    let key = KeyPair::generate().expect("a key");
    let issuer = Issuer::new(authority, authority_key);
    let certificate = server.signed_by(&key, &issuer).expect("a certificate");
    (ca.pem(), certificate.pem(), key.serialize_pem())
}
