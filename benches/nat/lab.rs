//! The lab of the tests stands here too: the same namespaces, routers and peers.
#![allow(dead_code, reason = "measuring needs a part of what the tests need")]

#[path = "../../tests/lab/asterisk.rs"]
pub mod asterisk;
#[path = "../../tests/lab/baresip.rs"]
pub mod baresip;
#[path = "../../tests/lab/coturn.rs"]
pub mod coturn;
#[path = "../../tests/lab/http.rs"]
pub mod http;
#[path = "../../tests/lab/impair.rs"]
pub mod impair;
#[path = "../../tests/lab/kamailio.rs"]
pub mod kamailio;
#[path = "../../tests/lab/netns.rs"]
pub mod netns;
#[path = "../../tests/lab/phone.rs"]
pub mod phone;
#[path = "../../tests/lab/pki.rs"]
pub mod pki;
#[path = "../../tests/lab/process.rs"]
pub mod process;
#[path = "../../tests/lab/router.rs"]
pub mod router;
#[path = "../../tests/lab/sound.rs"]
pub mod sound;
