//! `[upstream.bitrix24]`: what only an upstream of kind "bitrix24" has.

use super::reader::{Mistake, Scope, section};
use super::secret::Secret;
use super::upstream_url::UpstreamUrl;

/// Decimals of a price.
const DECIMALS: usize = 4;
/// Digits before them.
const LONGEST_PRICE: usize = 6;

section! {
    /// `[upstream.bitrix24]`: how a Bitrix24 portal is told of the calls of this phone.
    pub struct Bitrix24 {
        /// The code of the portal's application (client_id), which has the permission "telephony".
        client_id: Option<String> = optional "\"local.6667fc928a50a9.70414732\"", if valid_code;
        /// The application's key (client_secret); or client_secret_file = the file that holds it.
        client_secret: Secret = secret "\"ZeKyeYIgy2NsHZqsIHY6GfG1V\"";
        /// The refresh token that the application was given when it was installed; or refresh_token_file = the file that holds it.
        /// It is used once: from then on this device keeps the one that the last renewal brought.
        refresh_token: Secret = secret "\"53239066006e9f06006b12e4000000010000\"";
        /// Where tokens are renewed.
        sign_in: UpstreamUrl = default "\"https://oauth.bitrix.info/oauth/token/\"";
        /// Whose calls they are: lines or extensions of this phone, and users of the portal. Who is not named is known to the
        /// portal by the extension (USER_PHONE_INNER).
        users: Vec<Bitrix24User> = default "[]";
        /// true: the card of the call opens on the user's screen when it begins.
        show: bool = default "true";
        /// Further users of the portal (USER_ID) whose card opens while it rings here, and closes when it is answered.
        show_to: Vec<u32> = default "[]";
        /// true: the portal makes a lead of a caller that it does not know.
        crm_create: bool = default "false";
        /// The source of such leads (STATUS_ID).
        crm_source: Option<String> = optional "\"CALL\"", if valid_code;
        /// true: the call is told in the user's chat.
        add_to_chat: bool = default "true";
        /// The number of the portal's external line that the calls belong to.
        line_number: Option<String> = optional "\"74957654321\"", if valid_code;
        /// true: calls between extensions (numbers of two to five digits) are told, too.
        internal: bool = default "false";
        /// What a begun minute of an outgoing call costs. Without it nothing is said about costs.
        cost_per_minute: Option<String> = optional "\"1.50\"", if valid_price;
        /// The currency of it, as the portal's CRM has it.
        cost_currency: Option<String> = optional "\"RUB\"", if valid_code;
        /// A telephony controller of one's own at url, instead of a portal: it is posted the forms of Bitrix24's scenarios.
        controller: Bitrix24Controller = default "{}";
    }
}

section! {
    /// `[upstream.bitrix24.controller]`: what a telephony controller is posted.
    pub struct Bitrix24Controller {
        /// The licence key that requests are signed with (X-Request-Key); or key_file = the file that holds it.
        key: Secret = secret "\"a long licence key\"";
        /// ACCOUNT_ID.
        account_id: Option<String> = optional "\"17\"", if valid_code;
        /// ACCOUNT_SEARCH_ID.
        account_search_id: Option<String> = optional "\"test\"", if valid_code;
        /// APPLICATION_ID.
        application_id: Option<String> = optional "\"39\"", if valid_code;
        /// PORTAL_TYPE.
        portal_type: String = default "\"RENT\"";
        /// URL: the portal's.
        portal_url: Option<String> = optional "\"https://example.bitrix24.com\"", if valid_code;
        /// The address of this device's API, for CALL_LOG: whoever has a token there reads the log of the call behind it. Without
        /// the key CALL_LOG is the call, as `tipring calls show CALL --log` takes it.
        log_address: Option<UpstreamUrl> = optional "\"https://phone.example.com\"";
    }
}

impl Bitrix24Controller {
    fn check(&self, _: &mut Scope<'_, '_>) {}
}

section! {
    /// `[[upstream.bitrix24.users]]`: whose calls they are.
    pub struct Bitrix24User {
        /// A line of this phone by its name, or an extension by its number.
        who: String = required "\"office\"";
        /// The user of the portal (USER_ID).
        user_id: Option<u32> = optional "67";
        /// The internal number by which the portal knows the user (USER_PHONE_INNER), where there is no user_id.
        phone_inner: Option<String> = optional "\"105\"", if valid_code;
    }
}

impl Bitrix24User {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        if self.user_id.is_none() && self.phone_inner.is_none() {
            let what = format!("{} is no user of the portal", self.who);
            scope.error("who", what, "write user_id, or phone_inner");
        }
    }
}

impl Bitrix24 {
    /// Whether a controller is told, and no portal.
    pub fn has_controller(&self) -> bool {
        !self.controller.key.is_empty()
    }

    /// Whether there is all that the portal, or the controller, is entered with.
    pub(super) fn is_known(&self) -> bool {
        self.has_controller()
            || self.client_id.is_some() && !self.client_secret.is_empty() && !self.refresh_token.is_empty()
    }

    /// What a begun minute costs, in ten-thousandths of the currency.
    pub fn price(&self) -> Option<u64> {
        price(self.cost_per_minute.as_deref()?)
    }

    fn check(&self, scope: &mut Scope<'_, '_>) {
        if self.cost_currency.is_some() != self.cost_per_minute.is_some() {
            let key = if self.cost_currency.is_some() { "cost_currency" } else { "cost_per_minute" };
            let what = format!("{key} says nothing alone");
            scope.error(key, what, "have both cost_per_minute and cost_currency, or neither");
        }
        if self.sign_in.host() != "" && !self.sign_in.is_secure() && !self.sign_in.is_near() {
            scope.error("sign_in", "sign_in gets the application's key in clear", "write https://");
        }
    }
}

/// A decimal number in ten-thousandths.
fn price(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let fits = (1..=LONGEST_PRICE).contains(&whole.len()) && decimals.len() <= DECIMALS;
    let digits = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
    let whole = fits.then(|| format!("{whole}{decimals:0<DECIMALS$}")).filter(|it| digits(it))?;
    whole.parse().ok()
}

fn valid_price(text: &Option<String>) -> Result<(), Mistake> {
    match text.as_deref().is_none_or(|text| price(text).is_some()) {
        true => Ok(()),
        false => Err(("is no price".into(), "write a decimal number such as \"1.50\"".into())),
    }
}

fn valid_code(code: &Option<String>) -> Result<(), Mistake> {
    super::dialects::valid_word(code)
}
