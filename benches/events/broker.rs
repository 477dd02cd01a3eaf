//! A broker that takes everything at once.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::Sender;

use crate::receiver::{Delivery, utc_us};

#[allow(dead_code, reason = "tests use the rest")]
#[path = "../../src/events/upstream/mqtt/paper_broker.rs"]
mod paper;

use paper::Heard;

/// What an upstream of the kind `mqtt` says first (CONNECT).
pub const HELLO: u8 = 0x10;

/// Serves one client until it ends; of what it publishes the events are deliveries, its state is none.
pub fn converse(mut stream: TcpStream, deliveries: &Sender<Delivery>) -> io::Result<()> {
    let (mut five, mut unread, mut chunk) = (false, Vec::new(), [0; 16 << 10]);
    loop {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        let arrived_us = utc_us();
        unread.extend(&chunk[..length]);
        let mut answers = Vec::new();
        while let Some(heard) = paper::hear(&mut unread, five) {
            answers.extend(match heard {
                Heard::Connect(hello) => {
                    five = hello.five;
                    paper::greeting(five, false, 0, &[])
                }
                Heard::Publish(told) => {
                    let answer = told.id.map(|id| paper::acknowledgement(id, 0)).unwrap_or_default();
                    let event = told.topic.ends_with("/event");
                    if event && deliveries.send(Delivery { arrived_us, body: told.payload }).is_err() {
                        return Ok(());
                    }
                    answer
                }
                Heard::Subscribe { id, .. } => paper::granted(five, id, 1),
                Heard::Ping => paper::pong(),
                Heard::Acknowledged(_) | Heard::Disconnect(_) => Vec::new(),
            });
        }
        stream.write_all(&answers)?;
    }
}
