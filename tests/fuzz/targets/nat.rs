//! What `nat/` reads from outside: STUN messages, and the machines that act on them.

use super::Target;
use std::time::Duration;
use tipring::chance::Chance;
use tipring::nat::binding::{Binding, Patience};
use tipring::nat::stun::{self, MAX_ATTRIBUTES, MAX_REASON, Message, Seal, TransactionId};
use tipring::now::Now;

pub const TARGETS: &[Target] = &[
    Target { name: "nat_stun", run: message, seeds: MESSAGES, dictionary: WORDS },
    Target { name: "nat_binding", run: binding, seeds: MESSAGES, dictionary: WORDS },
];

/// What is read can be written and is read as it was; nobody has guessed a password.
fn message(octets: &[u8]) {
    assert!(!stun::is_authentic(octets, "not the password of any seed"));
    let Ok(read) = Message::read(octets) else { return };
    assert!(stun::is_stun(octets) && TransactionId::of(octets) == Some(read.id));
    assert!(read.refusal.as_ref().is_none_or(|refusal| refusal.reason.len() <= MAX_REASON));
    assert!(read.unknown.len() <= MAX_ATTRIBUTES.max(octets.len() / 2));
    let written = read.write(Seal::Fingerprint);
    assert!(
        Message::read(&written).is_ok_and(|again| again.mapped == read.mapped && again.role == read.role)
    );
}

/// No answer but that of the server ends a transaction before its time.
fn binding(octets: &[u8]) {
    let server = "192.0.2.1:3478".parse().expect("an address");
    let mut binding = Binding::new(server, None, Patience::BRIEF, &mut Chance::from_number(1));
    let mut now = Now::default();
    let mut answer = octets.to_vec();
    for _ in 0..8 {
        let sent = binding.poll_transmit(now).map(|(_, request)| request.to_vec());
        if let (Some(request), Some(id)) = (sent, answer.get_mut(8..20)) {
            id.copy_from_slice(&request[8..20]);
        }
        assert!(!binding.handle_datagram(now, "192.0.2.9:3478".parse().expect("an address"), &answer));
        binding.handle_datagram(now, server, &answer);
        let Some(deadline) = binding.poll_timeout() else { break };
        now = now.plus(Duration::from_micros(deadline.saturating_sub(now.mono_us)));
        binding.handle_timeout(now);
    }
    assert!(binding.is_over() && binding.poll_outcome().is_some());
}

const MESSAGES: &[&[u8]] = &[
    b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl",
    b"\x00\x01\x00\x08\x21\x12\xa4\x42abcdefghijkl\x00\x03\x00\x04\x00\x00\x00\x06",
    b"\x01\x01\x00\x0c\x21\x12\xa4\x42abcdefghijkl\x00\x20\x00\x08\x00\x01\x32\x56\xea\x12\xd5\x45",
    b"\x01\x01\x00\x18\x21\x12\xa4\x42abcdefghijkl\x00\x01\x00\x08\x00\x01\x13\xc4\xcb\x00\x71\x09\x80\x2c\x00\x08\x00\x01\x0d\x97\xc0\x00\x02\x02",
    b"\x01\x11\x00\x18\x21\x12\xa4\x42abcdefghijkl\x00\x09\x00\x10\x00\x00\x04\x26Stale Nonce!\x80\x28\x00\x00",
    b"\x01\x11\x00\x18\x21\x12\xa4\x42abcdefghijkl\x00\x09\x00\x08\x00\x00\x03\x00Try.\x80\x23\x00\x08\x00\x01\x0d\x96\xc0\x00\x02\x05",
    b"\x00\x01\x00\x44\x21\x12\xa4\x42abcdefghijkl\x00\x06\x00\x08far:near\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x2a\x00\x08ABCDEFGH\x00\x25\x00\x00\x00\x08\x00\x14aaaaaaaaaaaaaaaaaaaa\x80\x28\x00\x04\x00\x00\x00\x00",
];
const WORDS: &[&[u8]] = &[
    b"\x21\x12\xa4\x42",
    b"\x00\x20\x00\x08",
    b"\x00\x20\x00\x14\x00\x02",
    b"\x00\x08\x00\x14",
    b"\x00\x1c\x00\x20",
    b"\x80\x28\x00\x04",
    b"\x00\x0a\x00\x02",
    b"\x7f\xff\x00\x00",
];
