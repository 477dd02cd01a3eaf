//! HTTPS in the network: with a real TLS client and with the command line.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use tipring::device::tls;

use crate::commands::{Done, done, tipring};
use crate::office::{Answer, Paper, TOKEN, exchange, until};

/// An authority and what it signed, as files of a folder.
pub struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub fn new(name: &str) -> Pki {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{name}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.join("ca.pem"), certificate.pem()).expect("a file");
        let pki = Pki { folder, issuer: Issuer::new(params, key) };
        pki.sign();
        pki
    }

    /// Writes api.crt and api.key, for localhost; the certificate itself.
    fn sign(&self) -> Vec<u8> {
        self.sign_until(3000)
    }

    fn sign_until(&self, year: i32) -> Vec<u8> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(self.file("api.crt"), certificate.pem()).expect("a file");
        std::fs::write(self.file("api.key"), key.serialize_pem()).expect("a file");
        certificate.der().to_vec()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn client(&self) -> Arc<ClientConfig> {
        tls::command(Some(&self.file("ca.pem"))).expect("a client")
    }

    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        tls::server(&self.file("api.crt"), &self.file("api.key")).expect("a server").0
    }
}

fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(config.clone(), name).expect("a client");
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    StreamOwned::new(connection, stream)
}

fn status(stream: impl Read + Write) -> Answer {
    let token = format!("Bearer {TOKEN}");
    let fields = [("Host", "localhost"), ("Authorization", token.as_str())];
    exchange(stream, "GET", "/api/v1/status", &fields, "")
}

fn at(address: SocketAddr, more: &[&str], arguments: &[&str]) -> Done {
    let api = format!("https://localhost:{}", address.port());
    let mut command = tipring(&["--api", &api, "--token", TOKEN]);
    done(command.args(more).args(arguments).output().expect("the program runs"))
}

#[test]
fn the_api_speaks_https_and_nothing_else_there() {
    let pki = Pki::new("https");
    let paper = Paper::open("https");
    paper.tls.send_replace(Some(pki.server()));
    until("the address opens", || TcpStream::connect(paper.address).is_ok());
    let answer = status(connect(&pki.client(), paper.address));
    assert_eq!((answer.status, answer.json()["lines"][0]["name"].as_str()), (200, Some("main")));
    let mut stream = connect(&pki.client(), paper.address);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
    assert_eq!(stream.conn.alpn_protocol(), None, "who offers nothing is not told anything");
    // Plain HTTP gets no answer, so that no token is sent in clear by habit.
    let mut plain = TcpStream::connect(paper.address).expect("a connection");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP/"), "{said:?}");
    // A token is wanted as before, and the local socket is as it was.
    let none = exchange(
        connect(&pki.client(), paper.address),
        "GET",
        "/api/v1/status",
        &[("Host", "localhost")],
        "",
    );
    assert_eq!((none.status, none.code()), (401, "unauthorized".to_owned()));
    assert_eq!(paper.local("GET", "/healthz", None).status, 200);
}

#[test]
fn the_commands_speak_https_and_believe_nobody_without_reason() {
    let (pki, other) = (Pki::new("commands"), Pki::new("stranger"));
    let paper = Paper::open("https-commands");
    paper.tls.send_replace(Some(pki.server()));
    until("the address opens", || TcpStream::connect(paper.address).is_ok());
    let ca = pki.file("ca.pem").display().to_string();
    let good = at(paper.address, &["--ca", &ca], &["status", "--json"]);
    let shown: Value = serde_json::from_str(&good.out).expect("JSON");
    assert_eq!((good.code, shown["lines"][0]["name"].as_str()), (Some(0), Some("main")), "{}", good.err);
    let stranger = other.file("ca.pem").display().to_string();
    for believed in [&[][..], &["--ca", stranger.as_str()]] {
        let refused = at(paper.address, believed, &["status"]);
        assert_eq!(refused.code, Some(1), "{}", refused.err);
        assert!(
            refused.err.contains("can't be believed: ") && refused.err.contains("with --ca FILE"),
            "{}",
            refused.err
        );
    }
    let by_number = done(
        tipring(&["--api", &format!("https://{}", paper.address), "--ca", &ca, "status"])
            .output()
            .expect("runs"),
    );
    assert_eq!(by_number.code, Some(1), "the certificate is for localhost: {}", by_number.out);
    let missing = at(paper.address, &["--ca", "/nowhere.pem"], &["status"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.starts_with("can't read --ca /nowhere.pem: "), "{}", missing.err);
    let useless =
        done(tipring(&["--api", "http://localhost:1", "--ca", &ca, "status"]).output().expect("runs"));
    assert_eq!((useless.code, useless.err.contains("https://")), (Some(2), true), "{}", useless.err);
    assert!(paper.asked().is_empty(), "nobody showed a token to a stranger");
}

#[test]
fn who_stands_in_the_door_keeps_nobody_out() {
    let pki = Pki::new("stalled");
    let paper = Paper::open("https-stalled");
    paper.tls.send_replace(Some(pki.server()));
    until("the address opens", || TcpStream::connect(paper.address).is_ok());
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(paper.address).expect("a connection")).collect();
    assert_eq!(status(connect(&pki.client(), paper.address)).status, 200);
    let still_open = |mut stream: &TcpStream| {
        stream.set_nonblocking(true).expect("a mode");
        let read = stream.read(&mut [0]);
        stream.set_nonblocking(false).expect("a mode");
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    assert!(silent.iter().all(still_open), "nobody had to go for it: the silent take no place");
    // The beginning of a handshake record, and no more.
    let begun: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(paper.address).expect("a connection");
            stream.write_all(&[22, 3, 1, 2, 0, 1]).expect("written");
            stream
        })
        .collect();
    assert_eq!(status(connect(&pki.client(), paper.address)).status, 200, "their time is over at last");
    for mut stream in silent.into_iter().chain(begun) {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let waited = ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!waited, "the connection was ended by the other side");
    }
    let mut garbage = TcpStream::connect(paper.address).expect("a connection");
    garbage.write_all(&[0xff; 4000]).expect("written");
    assert_eq!(status(connect(&pki.client(), paper.address)).status, 200);
}

/// A running appliance without lines; ended when dropped.
struct Appliance(Child);

impl Drop for Appliance {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_renewed_certificate_is_shown_after_a_reload() {
    let pki = Pki::new("reload");
    let first = pki.sign();
    let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let file = pki.file("tipring.toml");
    let text = format!(
        "[device]\ndata = \"{folder}/data\"\n[sip]\nport_udp = 0\nport_tcp = 0\n[audio]\nbackend = \"none\"\n\
         [admin]\nlisten = \"{address}\"\nsocket = \"{folder}/api.sock\"\n\
         tls_cert = \"api.crt\"\ntls_key = \"api.key\"\n\
         tokens = [{{ name = \"crm\", token = \"{TOKEN}\", role = \"admin\" }}]\n",
        folder = pki.folder.display()
    );
    std::fs::write(&file, text).expect("a file");
    let run = tipring(&["run", "--config"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _appliance = Appliance(run.expect("the program runs"));
    until("the address opens", || TcpStream::connect(address).is_ok());
    let shown = || {
        let mut stream = connect(&pki.client(), address);
        let answer = exchange(&mut stream, "GET", "/healthz", &[("Host", "localhost")], "");
        assert_eq!(answer.status, 200);
        stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
    };
    assert_eq!(shown(), first);
    let second = pki.sign();
    let ca = pki.file("ca.pem").display().to_string();
    let reloaded = at(address, &["--ca", &ca], &["reload"]);
    assert_eq!((reloaded.code, reloaded.err.as_str()), (Some(0), ""));
    assert_eq!(shown(), second);
    // Files that do not belong together leave the good ones in force.
    std::fs::copy(pki.file("ca.pem"), pki.file("api.crt")).expect("a copy");
    let refused = at(address, &["--ca", &ca], &["reload"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("is not the key of tls_cert"), "{}", refused.err);
    assert_eq!(shown(), second);
}

#[test]
fn files_that_can_not_be_used_are_findings_of_check() {
    let pki = Pki::new("check");
    let other = Pki::new("check-other");
    let check = |keys: &str| {
        let file = pki.file("tipring.toml");
        std::fs::write(&file, format!("[admin]\nlisten = \"192.0.2.1:8443\"\n{keys}\n")).expect("a file");
        let done = done(tipring(&["check", "--config"]).arg(&file).output().expect("the program runs"));
        (done.code, done.out.replace(&format!("{}:", file.display()), "FILE:"))
    };
    let folder = pki.folder.display();
    let both = "tls_cert = \"api.crt\"\ntls_key = \"api.key\"";
    assert_eq!(check(both), (Some(0), "FILE: right, 0 lines\n".to_owned()));
    let plain = check("");
    assert_eq!(plain.0, Some(0));
    assert!(
        plain.1.starts_with(
            "FILE:2: warning: the API listens at 192.0.2.1:8443 without TLS: tokens travel in clear; \
             add tls_cert and tls_key, or write listen = \"127.0.0.1:8080\"\n"
        ),
        "{}",
        plain.1
    );
    pki.sign_until(2020);
    let ended = check(both);
    assert_eq!(ended.0, Some(0), "who has let it end must still be able to start");
    assert!(ended.1.starts_with("FILE:3: warning: the certificate of tls_cert has ended, "), "{}", ended.1);
    pki.sign();
    std::fs::copy(other.file("api.key"), pki.file("other.key")).expect("a copy");
    std::fs::write(pki.file("broken.crt"), "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n")
        .expect("a file");
    for (keys, finding) in [
        (
            "tls_cert = \"api.crt\"",
            "FILE:3: tls_cert is there without tls_key; add tls_key, the file of its key".to_owned(),
        ),
        (
            "tls_key = \"api.key\"",
            "FILE:3: tls_key is there without tls_cert; add tls_cert, the file it belongs to".to_owned(),
        ),
        (
            "tls_cert = \"gone.crt\"\ntls_key = \"api.key\"",
            format!(
                "FILE:3: can't read tls_cert {folder}/gone.crt: No such file or directory (os error 2); give"
            ),
        ),
        (
            "tls_cert = \"api.crt\"\ntls_key = \"gone.key\"",
            format!(
                "FILE:4: can't read tls_key {folder}/gone.key: No such file or directory (os error 2); give"
            ),
        ),
        (
            "tls_cert = \"api.key\"\ntls_key = \"api.key\"",
            format!("FILE:3: tls_cert {folder}/api.key has no certificate in it; it must hold"),
        ),
        (
            "tls_cert = \"api.crt\"\ntls_key = \"api.crt\"",
            format!("FILE:4: tls_key {folder}/api.crt has no private key in it; it must hold"),
        ),
        (
            "tls_cert = \"api.crt\"\ntls_key = \"other.key\"",
            format!(
                "FILE:4: tls_key {folder}/other.key is not the key of tls_cert {folder}/api.crt; give the key"
            ),
        ),
        (
            "tls_cert = \"broken.crt\"\ntls_key = \"api.key\"",
            format!("FILE:3: can't read tls_cert {folder}/broken.crt: "),
        ),
    ] {
        let (code, said) = check(keys);
        assert_eq!((code, said.starts_with(&finding)), (Some(2), true), "{keys}:\n{said}{finding}");
    }
}
