//! Which extension may get a call that comes in, whoever names it: the look-up, or the journal.

use super::Phone;
use super::limits::{Called, permits};
use crate::config::{NumberPlan, NumberRule};
use crate::events::Leg;

impl Phone {
    /// Whether an extension may get a call that comes in; false where it would come back here, and an error that names the
    /// number where it is none of those that may. `rules` are the numbers that the configuration names for it.
    pub(super) fn may_get_call(
        &self,
        leg: &Leg,
        extension: &str,
        rules: &[NumberRule],
    ) -> Result<bool, &'static str> {
        let is_number = !extension.is_empty() && extension.bytes().all(|byte| byte.is_ascii_digit());
        let Some(line) = self.config.line(&leg.line) else { return Ok(false) };
        let plan = self.config.number_plan_of(line);
        if !is_number || NumberPlan::is_outside(extension) || plan.e164(extension).is_some() {
            return Err("what is no number inside of the PBX");
        }
        if self.config.emergency.number(extension).is_some() {
            return Err("an emergency number");
        }
        if !rules.is_empty() && !rules.iter().any(|rule| rule.matches(extension, &plan)) {
            return Err("a number that is not among those named for it");
        }
        let sent = Some((extension.to_owned(), line.name.clone()));
        let called = Called { numbers: vec![extension.to_owned()], sent, elsewhere: false };
        if permits(&self.config, &called).is_err() {
            return Err("a number that [limits] forbids");
        }
        // Two that send each other's calls on would do so without end.
        let by = leg.diverted.as_ref().map(|diverted| diverted.by.number.as_ref());
        let from_inside = by.is_some_and(|by| by.is_none_or(|by| !NumberPlan::is_outside(&by.dialled)));
        Ok(extension != line.user && !from_inside)
    }
}
