//! Payload types over the life of a call: a number that once meant a codec keeps its meaning (RFC 3264
//! §8.3.2).

use super::capability::{Capability, Codec, TelephoneEvent};
use super::media::RtpMap;

/// Our codecs and events with the payload types they have in this call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Numbers {
    pub(super) codecs: Vec<Codec>,
    pub(super) events: Vec<TelephoneEvent>,
}

impl Numbers {
    /// Payload types for an offer: a number that once meant a codec in this call keeps its meaning (RFC 3264
    /// §8.3.2).
    pub(super) fn assign(capability: &Capability, used: &[RtpMap]) -> Numbers {
        let mut used = used.to_vec();
        let mut number =
            |name: &str, clock: u32, channels: u8, wish: u8, is: &dyn Fn(&RtpMap) -> bool| -> Option<u8> {
                if let Some(map) = used.iter().find(|map| is(map)) {
                    return Some(map.payload_type);
                }
                let free = |number: &u8| !used.iter().any(|map| map.payload_type == *number);
                let payload_type = std::iter::once(wish).chain(96..=127).find(free)?;
                used.push(RtpMap { payload_type, name: name.to_owned(), clock, channels });
                Some(payload_type)
            };
        let mut numbers = Numbers::default();
        for codec in &capability.codecs {
            let found =
                number(&codec.name, codec.clock, codec.channels, codec.payload_type, &|map| codec.is(map));
            numbers.codecs.extend(found.map(|payload_type| Codec { payload_type, ..codec.clone() }));
        }
        for event in &capability.events {
            if !capability.codecs.iter().any(|codec| codec.clock == event.clock) {
                continue;
            }
            let is = |map: &RtpMap| is_event(map) && map.clock == event.clock;
            let found = number("telephone-event", event.clock, 1, event.payload_type, &is);
            numbers.events.extend(found.map(|payload_type| TelephoneEvent { payload_type, ..*event }));
        }
        // Opus with event/8000 only is a common pair: 8000 is offered with whatever codec there is.
        if let Some(event) = capability.events.iter().find(|event| event.clock == 8000)
            && !numbers.events.iter().any(|numbered| numbered.clock == 8000)
        {
            let is = |map: &RtpMap| is_event(map) && map.clock == 8000;
            let found = number("telephone-event", 8000, 1, event.payload_type, &is);
            numbers.events.extend(found.map(|payload_type| TelephoneEvent { payload_type, clock: 8000 }));
        }
        numbers
    }
}

/// Whether a payload type stands for telephone-event (RFC 4733).
pub(super) fn is_event(map: &RtpMap) -> bool {
    map.name.eq_ignore_ascii_case("telephone-event")
}
