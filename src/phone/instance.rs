//! The name by which registrars know this device again, whatever its address (RFC 5626 §4.1).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::chance::Chance;
use crate::events::store::Write;

/// The name under which it is kept.
const SETTING: &str = "sip.instance";

/// The URN of this device: the one that was kept, else one made from the serial number, else one from chance. What has
/// to be kept comes with it.
pub(super) fn instance(
    settings: &BTreeMap<String, String>,
    serial: Option<&str>,
    chance: &mut Chance,
) -> (String, Option<Write>) {
    if let Some(kept) = settings.get(SETTING).filter(|kept| is_urn(kept)) {
        return (kept.clone(), None);
    }
    let mut bytes = [0; 16];
    let version = match serial {
        Some(serial) => {
            let digest = Sha256::digest(format!("tipring instance {serial}"));
            bytes.iter_mut().zip(digest.iter()).for_each(|(byte, of)| *byte = *of);
            // RFC 9562 §5.8: a UUID of one's own making.
            uuid::Builder::from_custom_bytes(bytes)
        }
        None => {
            chance.fill(&mut bytes);
            uuid::Builder::from_random_bytes(bytes)
        }
    };
    let urn = version.into_uuid().urn().to_string();
    let write = Write::Setting { name: SETTING.to_owned(), value: Some(urn.clone()) };
    (urn, Some(write))
}

fn is_urn(text: &str) -> bool {
    text.strip_prefix("urn:uuid:").is_some_and(|uuid| uuid.len() == 36 && uuid::Uuid::try_parse(uuid).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_for_the_whole_life_of_a_device() {
        let nothing = BTreeMap::new();
        let (of_serial, kept) = instance(&nothing, Some("TR-1"), &mut Chance::from_number(1));
        assert!(is_urn(&of_serial), "{of_serial}");
        assert_eq!(instance(&nothing, Some("TR-1"), &mut Chance::from_number(2)).0, of_serial);
        assert_ne!(instance(&nothing, Some("TR-2"), &mut Chance::from_number(2)).0, of_serial);
        let Some(Write::Setting { name, value: Some(value) }) = kept else { panic!("{kept:?}") };
        let settings = BTreeMap::from([(name, value)]);
        assert_eq!(instance(&settings, Some("TR-3"), &mut Chance::from_number(3)), (of_serial, None));
        let (of_chance, _) = instance(&nothing, None, &mut Chance::from_number(4));
        assert!(is_urn(&of_chance) && of_chance != instance(&nothing, None, &mut Chance::from_number(5)).0);
        let broken = BTreeMap::from([(SETTING.to_owned(), "urn:uuid:no".to_owned())]);
        assert!(instance(&broken, None, &mut Chance::from_number(4)).1.is_some());
    }
}
