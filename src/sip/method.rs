//! The method of a request (RFC 3261 §7.1, §27.4): the registered ones by `rsip`'s names, any other as its
//! text.

use super::grammar::is_token_text;
use std::fmt;

/// What a request asks for. Methods are case-sensitive: `invite` is not INVITE but an unknown one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A method that is registered.
    Known(rsip::Method),
    /// Any other token.
    Other(String),
}

macro_rules! methods {
    ($($constant:ident $variant:ident $standard:literal),* $(,)?) => {
        impl Method {
            $(
                #[doc = concat!(stringify!($constant), " (", $standard, ").")]
                pub const $constant: Method = Method::Known(rsip::Method::$variant);
            )*

            /// Every registered method.
            pub const ALL: &'static [Method] = &[$(Method::$constant),*];

            /// The method as it stands in a message.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Method::Known(rsip::Method::$variant) => stringify!($constant),)*
                    Method::Other(method) => method,
                }
            }

            fn known(text: &[u8]) -> Option<Method> {
                $(
                    if text == stringify!($constant).as_bytes() {
                        return Some(Method::$constant);
                    }
                )*
                None
            }
        }
    };
}

methods! {
    INVITE Invite "RFC 3261",
    ACK Ack "RFC 3261",
    BYE Bye "RFC 3261",
    CANCEL Cancel "RFC 3261",
    REGISTER Register "RFC 3261",
    OPTIONS Options "RFC 3261",
    PRACK PRack "RFC 3262",
    UPDATE Update "RFC 3311",
    INFO Info "RFC 6086",
    REFER Refer "RFC 3515",
    NOTIFY Notify "RFC 6665",
    SUBSCRIBE Subscribe "RFC 6665",
    MESSAGE Message "RFC 3428",
    PUBLISH Publish "RFC 3903",
}

impl Method {
    /// Reads a method; `None` if it is no token.
    pub fn parse(text: &[u8]) -> Option<Method> {
        if let Some(method) = Method::known(text) {
            return Some(method);
        }
        is_token_text(text).then(|| Method::Other(String::from_utf8_lossy(text).into_owned()))
    }

    /// Whether the method is a registered one.
    pub fn is_known(&self) -> bool {
        matches!(self, Method::Known(_))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive_tokens() {
        assert_eq!(Method::parse(b"PRACK"), Some(Method::PRACK));
        assert_eq!(Method::parse(b"invite"), Some(Method::Other("invite".into())));
        assert_eq!(Method::parse(b"RE%47IST%45R"), Some(Method::Other("RE%47IST%45R".into())));
        assert_eq!(Method::parse(b""), None);
        assert_eq!(Method::parse(b"IN VITE"), None);
    }

    #[test]
    fn every_registered_method_is_read_back() {
        for method in Method::ALL {
            assert_eq!(Method::parse(method.as_str().as_bytes()).as_ref(), Some(method));
        }
        assert_eq!(Method::ALL.len(), rsip::Method::all().len());
    }
}
