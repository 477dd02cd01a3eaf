//! A tiny name server for one host: what a test says the names are, over UDP.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::netns::Host;

/// What a name has.
#[derive(Clone, Debug)]
pub enum Record {
    /// IPv4 address.
    A([u8; 4]),
    /// IPv6 address.
    Aaaa(std::net::Ipv6Addr),
    /// RFC 2782: priority, weight, port, target.
    Srv(u16, u16, u16, &'static str),
    /// RFC 3403 as RFC 3263 uses it: order, preference, service, replacement (flag "s").
    Naptr(u16, u16, &'static str, &'static str),
}

/// A running server at 127.0.0.1:53 of a host.
pub struct Dns {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Serves these records to the programs of `host`.
    pub fn start(host: &Host, records: Vec<(&'static str, Record)>) -> Dns {
        let socket = host.enter(|| UdpSocket::bind("127.0.0.1:53")).expect("port 53 of the namespace");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time limit");
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (flag, counter) = (Arc::clone(&stop), Arc::clone(&asked));
        let thread = thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !flag.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer)
                    && let Some(answer) = answer(&buffer[..length], &records)
                {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Dns { stop, asked, thread: Some(thread) }
    }

    /// How many questions were answered.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn encode(name: &str, out: &mut Vec<u8>) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
}

fn text(value: &str, out: &mut Vec<u8>) {
    out.push(value.len() as u8);
    out.extend(value.as_bytes());
}

fn answer(question: &[u8], records: &[(&'static str, Record)]) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*question.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let name = labels.join(".");
    let end = at + 5;
    let kind = u16::from_be_bytes([*question.get(at + 1)?, *question.get(at + 2)?]);
    let known = records.iter().any(|(owner, _)| *owner == name);
    let mut body = Vec::new();
    let mut count = 0u16;
    for (owner, record) in records {
        let mut data = Vec::new();
        let number = match record {
            Record::A(address) => {
                data.extend(address);
                1
            }
            Record::Aaaa(address) => {
                data.extend(address.octets());
                28
            }
            Record::Srv(priority, weight, port, target) => {
                for value in [priority, weight, port] {
                    data.extend(value.to_be_bytes());
                }
                encode(target, &mut data);
                33
            }
            Record::Naptr(order, preference, service, replacement) => {
                data.extend(order.to_be_bytes());
                data.extend(preference.to_be_bytes());
                for value in ["s", service, ""] {
                    text(value, &mut data);
                }
                encode(replacement, &mut data);
                35
            }
        };
        if *owner != name || number != kind {
            continue;
        }
        count += 1;
        body.extend([0xc0, 12]);
        body.extend(number.to_be_bytes());
        body.extend([0, 1, 0, 0, 0, 60]);
        body.extend((data.len() as u16).to_be_bytes());
        body.extend(data);
    }
    let mut reply = question.get(..2)?.to_vec();
    // A name without records of this kind is "no error, nothing there"; a name that nobody has is NXDOMAIN.
    reply.extend([0x85, if known { 0x80 } else { 0x83 }, 0, 1]);
    reply.extend(count.to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(question.get(12..end)?);
    reply.extend(body);
    Some(reply)
}
