//! What systemd is told: ready, reloading, stopping, still alive (sd_notify(3)). Silent where nobody listens.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::ClockId;

/// Everything is up: lines registered and sound open, or known not to be.
pub fn ready() {
    tell("READY=1");
}

/// The configuration is being read again; `ready` follows.
pub fn reloading() {
    // systemd compares it with its own clock, which runs since the machine was started.
    let since_boot = ClockId::CLOCK_MONOTONIC.now().map(Duration::from).unwrap_or_default();
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", since_boot.as_micros()));
}

/// The appliance is ending in order.
pub fn stopping() {
    tell("STOPPING=1");
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    tell(&format!("STATUS={}", text.replace('\n', " ")));
}

fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let path = path.to_string_lossy();
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path.as_ref()),
    };
    // Nobody to tell is no reason to stop.
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}
