//! A peer made by hand: it answers a call, speaks a tone into it and keeps what it hears, packet by packet (PCMU).

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use tipring::audio::g711::{Law, decode, encode};

use crate::attack::{Wire, answer, field, sdp};
use crate::netns::Host;
use crate::sound::{Wav, sine};

/// Bytes of 20 ms.
const FRAME: usize = 160;

/// One call with the phone, answered by hand.
pub struct Speaker {
    pub invite: String,
    /// Where it speaks from and listens.
    pub rtp: UdpSocket,
    /// Where the phone listens.
    pub phone: SocketAddr,
    heard: Arc<Mutex<Vec<i16>>>,
    silent: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An RTP packet of PCMU.
pub fn packet(ssrc: [u8; 4], number: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend((number as u16).to_be_bytes());
    bytes.extend((number * FRAME as u32).to_be_bytes());
    bytes.extend(ssrc);
    bytes.extend(payload);
    bytes
}

/// A tone as 20 ms frames of PCMU, one second in a circle.
pub fn frames(hertz: f64) -> Vec<Vec<u8>> {
    let mut octets = Vec::new();
    encode(Law::Mu, &sine(hertz, 8000, 1.0, 8000), &mut octets);
    octets.chunks(FRAME).map(<[u8]>::to_vec).collect()
}

/// The address and port of audio in a message's SDP.
pub fn media_of(message: &str) -> SocketAddr {
    let value = |start: &str| message.lines().find_map(|line| line.strip_prefix(start)).expect(start);
    let port = value("m=audio ").split(' ').next().expect("a port");
    format!("{}:{port}", value("c=IN IP4 ").trim()).parse().expect("an address")
}

/// Plays the registrar for the next REGISTER and grants what is asked for.
#[track_caller]
pub fn register(wire: &Wire, phone: &str) {
    let register = wire.expect("REGISTER", "");
    let contact = format!("{};expires=600\r\n", field(&register, "Contact:"));
    wire.send(phone, answer(&register, "200 OK", &contact, "").as_bytes());
}

impl Speaker {
    /// Answers the next call that comes to `wire` with this Contact, and speaks this tone.
    #[track_caller]
    pub fn answers(host: &Host, wire: &Wire, phone: &str, contact: &str, hertz: f64) -> Speaker {
        let invite = wire.expect("INVITE", "");
        let rtp = host.enter(|| UdpSocket::bind((host.address.as_str(), 0)).expect("a socket"));
        let port = rtp.local_addr().expect("an address").port();
        let more = format!("Contact: <{contact}>\r\n");
        wire.send(phone, answer(&invite, "200 OK", &more, &sdp(&host.address, port)).as_bytes());
        wire.expect("ACK", field(&invite, "Call-ID:"));
        let [silent, stop] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let phone = media_of(&invite);
        let thread = {
            let socket = rtp.try_clone().expect("a second handle");
            let (heard, silent, stop) = (Arc::clone(&heard), Arc::clone(&silent), Arc::clone(&stop));
            thread::spawn(move || talk(&socket, phone, &frames(hertz), &heard, &silent, &stop))
        };
        Speaker { invite, rtp, phone, heard, silent, stop, thread: Some(thread) }
    }

    /// Says nothing for a while, not even silence.
    pub fn falls_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// What it has heard from the phone.
    pub fn heard(&self) -> Wav {
        Wav::new(8000, self.heard.lock().expect("a lock").clone())
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn talk(
    socket: &UdpSocket,
    phone: SocketAddr,
    frames: &[Vec<u8>],
    heard: &Mutex<Vec<i16>>,
    silent: &AtomicBool,
    stop: &AtomicBool,
) {
    socket.set_nonblocking(true).expect("a mode");
    let begin = Instant::now();
    for (number, frame) in (0u32..).zip(frames.iter().cycle()) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if !silent.load(Ordering::Relaxed) {
            let _ = socket.send_to(&packet(*b"good", number, frame), phone);
        }
        let mut buffer = [0; 2000];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if from == phone && length == 12 + FRAME {
                decode(Law::Mu, &buffer[12..length], &mut heard.lock().expect("a lock"));
            }
        }
        let due = Duration::from_millis(20) * (number + 1);
        sleep(due.saturating_sub(begin.elapsed()));
    }
}
