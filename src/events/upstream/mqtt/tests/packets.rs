//! What a broker sends, byte by byte.

use super::super::packet::{Fault, Packet, read};
use super::*;

#[test]
fn what_a_broker_sends_is_read_and_everything_else_refused() {
    let whole = |bytes: &[u8], version| match read(bytes, version) {
        Ok(Some((packet, used))) => {
            assert_eq!(used, bytes.len());
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end], version), Ok(None), "it is not all there");
            }
            packet
        }
        other => panic!("{other:?}"),
    };
    let plain = Properties::default;
    let greeting = |resumed, reason, properties| Packet::Greeting { resumed, reason, properties };
    assert_eq!(whole(&[0x20, 2, 1, 0], V311), greeting(true, 0, plain()));
    assert_eq!(whole(&[0x20, 2, 0, 5], V311), greeting(false, 5, plain()));
    assert_eq!(whole(&[0x20, 2, 0, 1], V5), greeting(false, 1, plain()));
    let said = [0x20, 16, 0, 0, 13, 0x21, 0, 9, 0x27, 0, 0, 1, 0, 0x24, 1, 0x13, 0, 7];
    let properties = Properties {
        receive_maximum: Some(9),
        largest: Some(256),
        quality: Some(1),
        keep_alive: Some(7),
        ..plain()
    };
    assert_eq!(whole(&said, V5), greeting(false, 0, properties));
    let moved = [0x20, 12, 0, 0x9d, 9, 0x1c, 0, 1, b'b', 0x1f, 0, 2, b'\n', b'<'];
    let properties = Properties { server: Some("b".into()), sentence: Some("?<".into()), ..plain() };
    assert_eq!(whole(&moved, V5), greeting(false, 0x9d, properties));
    let acknowledged = |reason| Packet::Acknowledged { packet_id: 258, reason, properties: plain() };
    assert_eq!(whole(&[0x40, 2, 1, 2], V311), acknowledged(0));
    assert_eq!(whole(&[0x40, 2, 1, 2], V5), acknowledged(0));
    assert_eq!(whole(&[0x40, 3, 1, 2, 0x97], V5), acknowledged(0x97));
    assert_eq!(whole(&[0x40, 4, 1, 2, 0x10, 0], V5), acknowledged(0x10));
    let message = |packet_id, retained, payload: &[u8]| {
        let (topic, payload) = ("a/b".to_owned(), payload.to_vec());
        Packet::Message(Message { topic, payload, packet_id, retained, properties: plain() })
    };
    assert_eq!(whole(&[0x30, 6, 0, 3, b'a', b'/', b'b', 1], V311), message(None, false, &[1]));
    assert_eq!(whole(&[0x3b, 7, 0, 3, b'a', b'/', b'b', 0, 1], V311), message(Some(1), true, &[]));
    assert_eq!(whole(&[0x90, 3, 0, 1, 0x80], V311), Packet::Subscribed { packet_id: 1, reasons: vec![0x80] });
    assert_eq!(whole(&[0xd0, 0], V311), Packet::Pong);
    let farewell = |reason| Packet::Farewell { reason, properties: plain() };
    assert_eq!(whole(&[0xe0, 0], V5), farewell(0));
    assert_eq!(whole(&[0xe0, 1, 0x8b], V5), farewell(0x8b));

    let faults: &[(&[u8], MqttVersion, Fault)] = &[
        (&[0x20, 0xff, 0xff, 0xff, 0xff], V5, Fault::Malformed("a length has no end")),
        (&[0x20, 2, 2, 0], V311, Fault::Malformed("flags of a greeting that mean nothing")),
        (&[0x20, 2, 1, 5], V311, Fault::Malformed("flags of a greeting that mean nothing")),
        (&[0x20, 1, 0], V311, Fault::Malformed("a packet ends too early")),
        (&[0x20, 3, 0, 0, 0], V311, Fault::Malformed("a packet is longer than what is in it")),
        (&[0x20, 4, 0, 0, 9, 0x21], V5, Fault::Malformed("a packet ends too early")),
        (&[0x20, 6, 0, 0, 3, 0x21, 0, 0], V5, Fault::Protocol("a property has a value that means nothing")),
        (&[0x20, 9, 0, 0, 6, 0x21, 0, 1, 0x21, 0, 1], V5, Fault::Protocol("a property is there twice")),
        (&[0x20, 5, 0, 0, 2, 0x7e, 0], V5, Fault::Protocol("a property that does not belong there")),
        (&[0x40, 2, 0, 0], V311, Fault::Protocol("a packet id is 0")),
        (&[0x41, 2, 0, 1], V311, Fault::Malformed("no broker sends such a packet")),
        (&[0x50, 2, 0, 1], V311, Fault::Protocol("it answers what nobody asked")),
        (&[0xe0, 0], V311, Fault::Malformed("no broker sends such a packet")),
        (&[0x10, 0], V5, Fault::Malformed("no broker sends such a packet")),
        (&[0xf0, 0], V5, Fault::Protocol("it wants a way to log in that nobody offered")),
        (&[0x30, 3, 0, 1, b'#'], V311, Fault::Protocol("a message has no topic that can be used")),
        (&[0x30, 2, 0, 0], V311, Fault::Protocol("a message has no topic that can be used")),
        (&[0x30, 3, 0, 1, 0xff], V311, Fault::Malformed("a text is not UTF-8")),
        (&[0x30, 3, 0, 1, 0], V311, Fault::Malformed("a text is not UTF-8")),
        (&[0x38, 3, 0, 1, b'a'], V311, Fault::Malformed("a message that nobody acknowledges is repeated")),
        (
            &[0x34, 5, 0, 1, b'a', 0, 1],
            V311,
            Fault::Protocol("a message of a quality of service that nobody subscribed to"),
        ),
        // An alias for a topic, though none was offered.
        (&[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 1], V5, Fault::Protocol("a property that does not belong there")),
        (&[0x40, 0xff, 0xff, 3], V311, Fault::TooLarge),
        (&[0x30, 0xff, 0xff, 0xff, 0x7f], V311, Fault::TooLarge),
    ];
    for (bytes, version, fault) in faults {
        assert_eq!(read(bytes, *version), Err(*fault), "{bytes:02x?}");
    }
}
