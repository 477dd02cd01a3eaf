//! The far end's RTP: packets of 20 ms to every call and what comes back, on one thread. The calls are spread over the
//! 20 ms, as calls that began at different times are.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::sound::Payloads;

/// The length of a packet.
const PTIME: Duration = Duration::from_millis(20);
/// Bytes of an RTP header without extension.
const HEADER: usize = 12;

/// One call's end.
pub struct Seat {
    /// The socket that the offer named.
    pub socket: UdpSocket,
    /// Where the answer wants RTP.
    pub to: SocketAddr,
}

/// What a call heard.
#[derive(Default)]
pub struct Tally {
    /// Packets sent to the program.
    pub sent: u64,
    /// Packets that came from it.
    pub received: u64,
    /// Their payloads, if they were to be kept.
    pub payloads: Vec<Vec<u8>>,
}

/// The running far end.
pub struct Streams {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Tally>>,
}

impl Streams {
    /// Begins to send and to listen; `keep` keeps the payloads.
    pub fn start(seats: Vec<Seat>, payloads: Arc<Payloads>, keep: bool) -> Streams {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || run(&seats, &payloads, keep, &told));
        Streams { stop, thread }
    }

    /// Ends it; what each call heard.
    pub fn finish(self) -> Vec<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn run(seats: &[Seat], payloads: &Payloads, keep: bool, stop: &AtomicBool) -> Vec<Tally> {
    let mut tallies: Vec<Tally> = seats.iter().map(|_| Tally::default()).collect();
    let step = PTIME / seats.len().max(1) as u32;
    let mut due = Instant::now();
    let mut packet = Vec::with_capacity(1500);
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        for (number, (seat, tally)) in seats.iter().zip(&mut tallies).enumerate() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += step;
            // Each call begins elsewhere in the speech.
            let payload = &payloads.packets[(tally.sent as usize + 37 * number) % payloads.packets.len()];
            packet.clear();
            packet.extend_from_slice(&[0x80, payloads.number]);
            packet.extend_from_slice(&(tally.sent as u16).to_be_bytes());
            packet.extend_from_slice(&(tally.sent as u32).wrapping_mul(payloads.ticks).to_be_bytes());
            packet.extend_from_slice(&(number as u32 + 1).to_be_bytes());
            packet.extend_from_slice(payload);
            // A program that is gone is noticed by what does not come back.
            let _ = seat.socket.send_to(&packet, seat.to);
            tally.sent += 1;
            while let Ok((length, _)) = seat.socket.recv_from(&mut buffer) {
                let ours = length > HEADER && buffer[1] & 0x7f == payloads.number;
                tally.received += u64::from(ours);
                if ours && keep {
                    tally.payloads.push(buffer[HEADER..length].to_vec());
                }
            }
        }
    }
    tallies
}
