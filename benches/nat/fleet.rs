//! Phones of both makes, each in an office of its own behind the same kind of router, at one Asterisk. What happens, happens
//! to all of them in the same moment.

use std::time::{Duration, Instant};

use crate::asterisk::Asterisk;
use crate::baresip::Baresip;
use crate::coturn::Coturn;
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::router::{Office, Uplink};

/// The address of the PBX.
pub const PBX: &str = "203.0.113.10";

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Make {
    /// The program of this repository, watched by a STUN server or not.
    Tipring { stun: bool },
    /// Debian's baresip, which refreshes its registration so often, in seconds.
    Baresip { refresh: u32 },
}

/// One phone that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub make: Make,
    /// `udp`, `tcp` or `tls`.
    pub transport: &'static str,
}

enum Subject {
    Tipring(Box<Phone>),
    Baresip(Box<Baresip>),
}

/// One phone in its office.
pub struct Seat {
    pub account: String,
    pub office: Office,
    subject: Subject,
}

/// All of them.
pub struct Fleet {
    pub seats: Vec<Seat>,
    pub asterisk: Asterisk,
    _coturn: Coturn,
    pub lab: Lab,
}

impl Fleet {
    /// Starts everything and waits until all phones are registered; `None` (said loudly) where the lab can't be had.
    pub fn of(what: &str, uplink: impl Into<Uplink>, wishes: &[Wish]) -> Option<Fleet> {
        let uplink = uplink.into();
        let lab = Lab::new(what, &["unshare", "turnserver", "ss", "baresip"])?;
        let asterisk = Asterisk::start(&lab, what)?;
        let coturn = Coturn::start(&lab);
        let mut fleet = Fleet { seats: Vec::new(), asterisk, _coturn: coturn, lab };
        for (wish, number) in wishes.iter().zip(11u8..) {
            let account = format!("10{number}");
            let office = fleet.lab.office(&format!("office{number}"), 100 + number, uplink);
            let subject = fleet.start(*wish, &account, &office);
            fleet.asterisk.registered(&account);
            fleet.seats.push(Seat { account, office, subject });
        }
        Some(fleet)
    }

    fn start(&self, wish: Wish, account: &str, office: &Office) -> Subject {
        let transport = wish.transport;
        match wish.make {
            Make::Tipring { stun } => {
                let ca = Pki::of(&self.lab).ca_file;
                let mut setup = Setup::new(account, PBX)
                    .line("auto_answer = true")
                    .line(r#"codecs = ["PCMU"]"#)
                    .line(&format!("transport = {transport:?}"))
                    .line(&format!("ca_file = {ca:?}"));
                if stun {
                    setup = setup.line("[line.nat]\nstun = [\"203.0.113.11\"]");
                }
                Subject::Tipring(Box::new(setup.start(&self.lab, &office.host)))
            }
            Make::Baresip { refresh } => {
                let server = format!("{PBX};transport={transport}");
                let more = format!(";regint={refresh};audio_codecs=PCMU/8000/1");
                Subject::Baresip(Box::new(Baresip::start(&self.lab, &office.host, account, &server, &more)))
            }
        }
    }

    /// Calls all of them until each has answered; the seconds from `begun` to that, `None` for who has not within `limit`
    /// seconds.
    pub fn answered(&mut self, begun: Instant, limit: u64) -> Vec<Option<f64>> {
        let accounts: Vec<&str> = self.seats.iter().map(|seat| seat.account.as_str()).collect();
        let limit = Duration::from_secs(limit).saturating_sub(begun.elapsed());
        let answered = self.asterisk.until_answered(&accounts, limit);
        answered.iter().map(|at| at.map(|at| at.duration_since(begun).as_secs_f64())).collect()
    }
}

impl Seat {
    /// Makes it call a number.
    pub fn dial(&self, number: &str) {
        match &self.subject {
            Subject::Tipring(phone) => {
                phone.call(number);
            }
            Subject::Baresip(baresip) => {
                baresip.command("dial", &format!("sip:{number}@{PBX}"));
            }
        }
    }
}
