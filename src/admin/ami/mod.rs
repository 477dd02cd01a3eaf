//! The manager protocol of Asterisk (AMI), for programs that know a PBX by it and start calls through it.
//!
//! [`packet`] is its grammar, [`channel`] its names, [`session`] one connection without the connection, [`story`] what
//! happens in its words; `door` alone has sockets. There is no shell behind it, no dial plan and no file: an action is a
//! command of the phone that anybody else can give, or it does not exist.

pub mod channel;
mod door;
pub mod packet;
pub mod session;
pub mod story;
#[cfg(test)]
mod tests;

pub(super) use door::serve;
