//! `[numbers]`: how people here dial.

use super::reader::{Mistake, Scope, section};
use super::settings::valid_country;

/// Digits of the longest area code.
const LONGEST_AREA: usize = 6;

section! {
    /// `[numbers]`: how people here dial. Emergency numbers are never changed.
    pub struct Numbers {
        /// The area code, without prefixes: numbers dialled without it get it. Digits.
        area_code: Option<String> = optional "\"495\"", if valid_area;
        /// By the habits of which country people here dial, where that is not the device's: what 8 or 00 before a number
        /// means. Two capital letters.
        dial_habit: Option<String> = optional "\"RU\"", if valid_country_if_any;
    }
}

impl Numbers {
    fn check(&self, _: &mut Scope<'_, '_>) {}
}

pub(super) fn valid_country_if_any(country: &Option<String>) -> Result<(), Mistake> {
    country.as_ref().map_or(Ok(()), valid_country)
}

fn valid_area(area: &Option<String>) -> Result<(), Mistake> {
    let area = area.as_deref().unwrap_or_default();
    if area.len() > LONGEST_AREA || !area.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err((
            format!("is not 1 to {LONGEST_AREA} digits"),
            "write it without prefixes: \"495\"".into(),
        ));
    }
    if area.starts_with('0') {
        let bare = area.trim_start_matches('0');
        return Err(("begins with the prefix 0".into(), format!("write it without: \"{bare}\"")));
    }
    Ok(())
}
