//! One session description (RFC 8866): text ↔ type.
//!
//! The reader forgives what the field does (bare LF, missing `s=` or `t=`, lines in odd order, foreign line
//! types) and bounds what it keeps; the writer prints only what the grammar allows.

use super::media::{Media, MediaKind, Protocol};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest description that is read, in bytes.
pub const MAX_BYTES: usize = 32 * 1024;
/// The longest single line that is read, in bytes.
pub const MAX_LINE: usize = 4096;
/// The most media (`m=` lines) a description may have; an answer has to name each of them again.
pub const MAX_MEDIA: usize = 16;
/// The most attributes that are kept per section; later ones are passed over.
pub const MAX_ATTRIBUTES: usize = 256;
/// The most formats (payload types) that are kept per medium; later ones are passed over.
pub const MAX_FORMATS: usize = 64;

/// Why a body is not a session description that can be used. The peer is to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// The body has more than [`MAX_BYTES`].
    #[error("the session description is longer than 32 KiB")]
    TooLong,
    /// A line has more than [`MAX_LINE`] bytes.
    #[error("a line of the session description is longer than 4 KiB")]
    LineTooLong,
    /// There are more than [`MAX_MEDIA`] media.
    #[error("the session description has more than 16 media")]
    TooManyMedia,
    /// Nothing in it is a line of SDP, or it is of another version.
    #[error("the body is no session description (no v=0)")]
    NotSdp,
    /// An `m=` or `c=` line can't be understood.
    #[error("the session description has a broken {0}= line")]
    BadLine(char),
}

/// An address in an `o=` or `c=` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A literal IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A name; we do not resolve names for media.
    Name(String),
}

impl Address {
    /// The literal address; an IPv4 address written as IPv6 (RFC 5118 §4.10) becomes IPv4 again. `None` for a
    /// name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Ip(ip) => Some(ip.to_canonical()),
            Address::Name(_) => None,
        }
    }

    /// Whether this is an address that means "send nothing" (RFC 3264 §8.4, §6): 0.0.0.0, `::` or a name
    /// under `.invalid`.
    pub fn is_hold(&self) -> bool {
        match self {
            Address::Ip(ip) => ip.to_canonical().is_unspecified(),
            Address::Name(name) => name == "invalid" || name.ends_with(".invalid"),
        }
    }

    pub(super) fn read(text: &str) -> Option<Address> {
        let bare = text.split('/').next().unwrap_or_default();
        let bare = bare.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(bare);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(Address::Ip(ip));
        }
        let is_name = !bare.is_empty()
            && bare.len() <= 255
            && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
            && bare.bytes().any(|b| b.is_ascii_alphabetic());
        is_name.then(|| Address::Name(bare.to_ascii_lowercase()))
    }
}

impl fmt::Display for Address {
    /// As in a `c=` line: network type, address type, address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(IpAddr::V4(ip)) => write!(f, "IN IP4 {ip}"),
            Address::Ip(IpAddr::V6(ip)) => write!(f, "IN IP6 {ip}"),
            Address::Name(name) => write!(f, "IN IP4 {}", clean(name)),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Address {
        Address::Ip(ip)
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Address {
        Address::Ip(IpAddr::V4(ip))
    }
}

impl From<Ipv6Addr> for Address {
    fn from(ip: Ipv6Addr) -> Address {
        Address::Ip(IpAddr::V6(ip))
    }
}

/// The `o=` line: who made the description, and which state of it this is (RFC 8866 §5.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The user name, `-` if there is none.
    pub user: String,
    /// The session's number, as text because the field uses more than 64 bits.
    pub session: String,
    /// The version; larger than all before, if the text is a number of 64 bits.
    pub version: u64,
    /// The address of the machine that made it (never used to send to).
    pub address: Address,
}

impl Default for Origin {
    fn default() -> Origin {
        Origin {
            user: "-".to_owned(),
            session: "0".to_owned(),
            version: 0,
            address: Address::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        }
    }
}

impl Origin {
    fn read(value: &str) -> Option<Origin> {
        let mut words = value.split_ascii_whitespace();
        let (user, session, version) = (words.next()?, words.next()?, words.next()?);
        let (_network, _kind, address) = (words.next()?, words.next()?, words.next()?);
        Some(Origin {
            user: user.to_owned(),
            session: session.to_owned(),
            version: version.parse().unwrap_or(0),
            address: Address::read(address)?,
        })
    }
}

/// An `a=` line: a name and perhaps a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attribute {
    /// The name, as written (attributes are case-sensitive, RFC 8866 §5.13).
    pub name: String,
    /// What follows the colon.
    pub value: Option<String>,
}

impl Attribute {
    /// An attribute with a value, `a=name:value`.
    pub fn new(name: &str, value: impl Into<String>) -> Attribute {
        Attribute { name: name.to_owned(), value: Some(value.into()) }
    }

    /// An attribute without a value, `a=name`.
    pub fn flag(name: &str) -> Attribute {
        Attribute { name: name.to_owned(), value: None }
    }

    fn read(value: &str) -> Attribute {
        match value.split_once(':') {
            Some((name, value)) => Attribute::new(name.trim(), value.trim()),
            None => Attribute::flag(value.trim()),
        }
    }
}

/// A session description. Line types we have no use for (`i= u= e= p= b= r= z= k=`) are not kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Session {
    /// `o=`
    pub origin: Origin,
    /// `s=`; written as `-` if empty.
    pub name: String,
    /// `c=` of the session, for media that have none of their own.
    pub connection: Option<Address>,
    /// `a=` lines of the session, all of them, in order.
    pub attributes: Vec<Attribute>,
    /// The media, in order: an answer has the same number (RFC 3264 §6).
    pub media: Vec<Media>,
}

impl Session {
    /// Reads a description.
    ///
    /// # Errors
    /// [`Unreadable`] says what is wrong with it.
    pub fn read(body: &[u8]) -> Result<Session, Unreadable> {
        if body.len() > MAX_BYTES {
            return Err(Unreadable::TooLong);
        }
        let mut session = Session::default();
        let mut is_sdp = false;
        for line in body.split(|&b| b == b'\n' || b == b'\r') {
            if line.len() > MAX_LINE {
                return Err(Unreadable::LineTooLong);
            }
            let line = String::from_utf8_lossy(line);
            let Some((kind, value)) = line.trim_start().split_once('=') else { continue };
            let value = value.trim_matches([' ', '\t', '\0']);
            match kind {
                "v" if value == "0" => is_sdp = true,
                "v" => return Err(Unreadable::NotSdp),
                "o" => session.origin = Origin::read(value).unwrap_or_default(),
                "s" => session.name = value.to_owned(),
                "c" => session.read_connection(value)?,
                "a" if !value.is_empty() => {
                    let attributes = match session.media.last_mut() {
                        Some(media) => &mut media.attributes,
                        None => &mut session.attributes,
                    };
                    if attributes.len() < MAX_ATTRIBUTES {
                        attributes.push(Attribute::read(value));
                    }
                }
                "m" => {
                    if session.media.len() == MAX_MEDIA {
                        return Err(Unreadable::TooManyMedia);
                    }
                    session.media.push(Media::read(value).ok_or(Unreadable::BadLine('m'))?);
                }
                _ => {}
            }
        }
        if is_sdp { Ok(session) } else { Err(Unreadable::NotSdp) }
    }

    /// Of several `c=` lines in a section (layered multicast) the first counts.
    fn read_connection(&mut self, value: &str) -> Result<(), Unreadable> {
        let mut words = value.split_ascii_whitespace();
        let address = match (words.next(), words.next(), words.next()) {
            (Some(_network), Some(_kind), Some(address)) => Address::read(address),
            _ => None,
        };
        let address = address.ok_or(Unreadable::BadLine('c'))?;
        let place = match self.media.last_mut() {
            Some(media) => &mut media.connection,
            None => &mut self.connection,
        };
        place.get_or_insert(address);
        Ok(())
    }

    /// The address that media of `self.media[index]` are sent to: its own `c=` or the session's.
    pub fn connection_of(&self, media: &Media) -> Option<Address> {
        media.connection.clone().or_else(|| self.connection.clone())
    }

    /// The value of the session's first attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name).and_then(|a| a.value.as_deref())
    }

    /// Whether the session has this attribute, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        find(&self.attributes, name).is_some()
    }

    /// The description as text, in the order of RFC 8866 §5. No value can add a line.
    pub fn write(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { user, session, version, address } = &self.origin;
        let name = if self.name.trim().is_empty() { "-" } else { &self.name };
        write!(f, "v=0\r\no={} {} {version} {address}\r\n", word(user), word(session))?;
        write!(f, "s={}\r\n", clean(name))?;
        if let Some(address) = &self.connection {
            write!(f, "c={address}\r\n")?;
        }
        f.write_str("t=0 0\r\n")?;
        write_attributes(f, &self.attributes)?;
        for media in &self.media {
            write_media(f, media)?;
        }
        Ok(())
    }
}

fn write_media(f: &mut fmt::Formatter<'_>, media: &Media) -> fmt::Result {
    let kind = match &media.kind {
        MediaKind::Other(name) => word(name),
        known => known.name().to_owned(),
    };
    let protocol = match &media.protocol {
        Protocol::Other(name) => word(name),
        known => known.name().to_owned(),
    };
    write!(f, "m={kind} {}", media.port)?;
    if media.ports > 1 {
        write!(f, "/{}", media.ports)?;
    }
    write!(f, " {protocol}")?;
    if media.formats.is_empty() {
        f.write_str(" 0")?;
    }
    for format in &media.formats {
        write!(f, " {}", word(format))?;
    }
    f.write_str("\r\n")?;
    if let Some(address) = &media.connection {
        write!(f, "c={address}\r\n")?;
    }
    write_attributes(f, &media.attributes)
}

fn write_attributes(f: &mut fmt::Formatter<'_>, attributes: &[Attribute]) -> fmt::Result {
    for Attribute { name, value } in attributes {
        match value {
            Some(value) => write!(f, "a={}:{}\r\n", word(name), clean(value))?,
            None => write!(f, "a={}\r\n", word(name))?,
        }
    }
    Ok(())
}

pub(super) fn find<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a Attribute> {
    attributes.iter().find(|attribute| attribute.name == name)
}

/// Whether media can be sent to an address.
pub(super) fn is_unicast(ip: &IpAddr) -> bool {
    !ip.is_multicast() && !ip.is_unspecified() && *ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// A value without anything that would end its line.
fn clean(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).collect()
}

/// A value that has to be one word.
fn word(value: &str) -> String {
    let word: String = value.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}
