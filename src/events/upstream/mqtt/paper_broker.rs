//! The broker's side of MQTT for tests, written on its own from the standard: it takes what a client may send and panics at
//! anything else. Tests over real sockets use the same file.

/// What a client sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    Connect(Connect),
    Publish(Told),
    Acknowledged(u16),
    Subscribe { id: u16, topic: String },
    Ping,
    Disconnect(u8),
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Connect {
    pub five: bool,
    pub clean: bool,
    pub client_id: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub keep_alive: u16,
    pub will: Option<Told>,
    /// Session expiry and maximum packet size, as five has them.
    pub expiry: Option<u32>,
    pub largest: Option<u32>,
}

/// A message of a client.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told {
    pub topic: String,
    pub payload: Vec<u8>,
    pub id: Option<u16>,
    pub again: bool,
    pub retain: bool,
    pub correlation: Option<Vec<u8>>,
}

/// Takes the first packet from the bytes, if it is all there. `five` says what the CONNECT said.
pub fn hear(bytes: &mut Vec<u8>, five: bool) -> Option<Heard> {
    let (mut length, mut at, mut shift) = (0usize, 1, 0);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << shift;
        (at, shift) = (at + 1, shift + 7);
        if byte < 0x80 {
            break;
        }
    }
    if bytes.len() < at + length {
        return None;
    }
    let packet: Vec<u8> = bytes.drain(..at + length).collect();
    let mut rest = Rest(&packet[at..]);
    let heard = match packet[0] {
        0x10 => Heard::Connect(connect(&mut rest)),
        first if first >> 4 == 3 => Heard::Publish(told(first, &mut rest, five)),
        0x40 => Heard::Acknowledged(rest.number(2) as u16),
        0x82 => {
            let id = rest.number(2) as u16;
            if five {
                assert_eq!(rest.number(1), 0, "no properties");
            }
            let topic = rest.text();
            assert_eq!(
                rest.number(1),
                if five { 0x21 } else { 1 },
                "QoS 1, in five without what is retained"
            );
            Heard::Subscribe { id, topic }
        }
        0xc0 => Heard::Ping,
        0xe0 => Heard::Disconnect(if rest.0.is_empty() { 0 } else { rest.number(1) as u8 }),
        other => panic!("no client sends {other:02x}"),
    };
    assert!(rest.0.is_empty(), "{heard:?} has more in it: {:02x?}", rest.0);
    Some(heard)
}

fn connect(rest: &mut Rest<'_>) -> Connect {
    assert_eq!(rest.text(), "MQTT");
    let five = match rest.number(1) {
        4 => false,
        5 => true,
        other => panic!("version {other}"),
    };
    let flags = rest.number(1);
    assert_eq!(flags & 1, 0, "reserved");
    let mut connect = Connect { five, clean: flags & 2 != 0, ..Connect::default() };
    connect.keep_alive = rest.number(2) as u16;
    if five {
        let mut properties = Rest(rest.binary_of(1));
        while !properties.0.is_empty() {
            match properties.number(1) {
                0x11 => connect.expiry = Some(properties.number(4)),
                0x27 => connect.largest = Some(properties.number(4)),
                other => panic!("a property {other:02x} in CONNECT"),
            }
        }
    }
    connect.client_id = rest.text();
    if flags & 4 != 0 {
        if five {
            assert_eq!(rest.number(1), 0, "no properties of the will");
        }
        let (topic, payload) = (rest.text(), rest.binary_of(2).to_vec());
        assert_eq!(flags >> 3 & 3, 1, "the will comes with QoS 1");
        connect.will = Some(Told { topic, payload, retain: flags & 0x20 != 0, ..Told::default() });
    }
    connect.user = (flags & 0x80 != 0).then(|| rest.text());
    connect.password = (flags & 0x40 != 0).then(|| rest.text());
    connect
}

fn told(first: u8, rest: &mut Rest<'_>, five: bool) -> Told {
    let mut told = Told { topic: rest.text(), ..Told::default() };
    assert!(!told.topic.is_empty() && !told.topic.contains(['+', '#']), "{}", told.topic);
    told.id = match first >> 1 & 3 {
        0 => None,
        1 => Some(rest.number(2) as u16),
        other => panic!("QoS {other}"),
    };
    assert_ne!(told.id, Some(0));
    (told.again, told.retain) = (first & 8 != 0, first & 1 != 0);
    assert!(told.id.is_some() || !told.again, "what nobody acknowledges is not repeated");
    if five {
        let mut properties = Rest(rest.binary_of(1));
        while !properties.0.is_empty() {
            match properties.number(1) {
                0x01 => assert_eq!(properties.number(1), 1, "UTF-8"),
                0x09 => told.correlation = Some(properties.binary_of(2).to_vec()),
                other => panic!("a property {other:02x} in PUBLISH"),
            }
        }
    }
    told.payload = std::mem::take(&mut rest.0).to_vec();
    told
}

struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn number(&mut self, bytes: usize) -> u32 {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
    }

    fn binary_of(&mut self, bytes: usize) -> &'b [u8] {
        let length = self.number(bytes) as usize;
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.binary_of(2).to_vec()).expect("UTF-8")
    }
}

/// A packet with this first byte and body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        packet.push((length % 0x80) as u8 | 0x80);
        length /= 0x80;
    }
    packet.push(length as u8);
    packet.extend(body);
    packet
}

pub fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// CONNACK with these properties, where the version has some.
pub fn greeting(five: bool, resumed: bool, reason: u8, properties: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::from(resumed), reason];
    if five {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    packet(0x20, &body)
}

/// PUBACK; a reason is only told where there is one.
pub fn acknowledgement(id: u16, reason: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend((reason != 0).then_some(reason));
    packet(0x40, &body)
}

/// SUBACK.
pub fn granted(five: bool, id: u16, reason: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(five.then_some(0));
    body.push(reason);
    packet(0x90, &body)
}

/// PUBLISH with QoS 1 and these properties, where the version has some.
pub fn message(
    five: bool,
    topic: &str,
    payload: &[u8],
    id: u16,
    retained: bool,
    properties: &[u8],
) -> Vec<u8> {
    let mut body = with_length(topic.as_bytes());
    body.extend(id.to_be_bytes());
    if five {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    body.extend(payload);
    packet(0x32 | u8::from(retained), &body)
}

/// PINGRESP.
pub fn pong() -> Vec<u8> {
    packet(0xd0, &[])
}
