//! `[numbers]`: how people here dial.

use super::reader::{Mistake, Scope, section};
use super::settings::valid_country;

/// Digits of the longest area code.
const LONGEST_AREA: usize = 6;
/// Characters of the longest code.
const LONGEST_CODE: usize = 8;

section! {
    /// `[numbers]`: how people here dial. Emergency numbers are never changed.
    pub struct Numbers {
        /// The area code, without prefixes: numbers dialled without it get it. Digits.
        area_code: Option<String> = optional "\"495\"", if valid_area;
        /// By the habits of which country people here dial, where that is not the device's: what 8 or 00 before a number
        /// means. Two capital letters.
        dial_habit: Option<String> = optional "\"RU\"", if valid_country_if_any;
        /// What is dialled here to say that the agent of a line is there for calls; nobody is called then. A star or a hash, and
        /// digits.
        agent_available: Option<String> = optional "\"*45\"", if valid_code;
        /// The same to say that the agent is not there.
        agent_logged_out: Option<String> = optional "\"*46\"", if valid_code;
    }
}

impl Numbers {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        if self.agent_available.is_some() && self.agent_available == self.agent_logged_out {
            scope.error(
                "agent_logged_out",
                "agent_logged_out is agent_available as well",
                "give it another code",
            );
        }
    }
}

/// A star or a hash, and digits: nobody has such a number.
fn valid_code(code: &Option<String>) -> Result<(), Mistake> {
    let Some(code) = code else { return Ok(()) };
    let digits = code.strip_prefix(['*', '#']).unwrap_or_default();
    let last = digits.strip_suffix('#').unwrap_or(digits);
    if last.is_empty()
        || code.len() > LONGEST_CODE
        || !last.bytes().all(|it| it.is_ascii_digit() || it == b'*')
    {
        return Err((
            "is no code".into(),
            format!("write a star or a hash, and digits, {LONGEST_CODE} in all: \"*45\""),
        ));
    }
    Ok(())
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
