//! The first hop of a request of ours (RFC 3261 §8.1.2, RFC 3608), and what every request carries.

use crate::sip::exchange::Owner;
use crate::sip::line::Line;
use crate::sip::locate::Destination;
use crate::sip::message::Request;
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::network::Transport;
use crate::sip::uri::{SipUri, Uri};

/// Adds the routes that a request outside a dialog starts with: the outbound proxy and the Service-Route.
pub(crate) fn preload_routes(request: &mut Request, line: &Line) {
    if request.head.to_tag().is_some() || request.fields.has("Route") || !goes_home(&request.uri, line) {
        return;
    }
    let mut routes = Vec::new();
    let services = line.registration.service_route();
    if let Some(proxy) = &line.account.outbound_proxy {
        let first = services.first().filter(|_| request.method != Method::REGISTER);
        let same = first.and_then(|route| route.uri.as_sip()).is_some_and(|first| first.host == proxy.host);
        if !same {
            let mut proxy: SipUri = proxy.clone();
            proxy.set_user(None);
            proxy.params.set("lr", None);
            routes.push(NameAddr::new(Uri::Sip(proxy)));
        }
    }
    if request.method != Method::REGISTER {
        routes.extend(services.iter().cloned());
    }
    request.fields.push_name_addrs("Route", &routes);
}

/// Whether a request outside a dialog goes by way of the line's own server: it is for the line's domain, or
/// for a number that names no server, or everything goes through a proxy.
fn goes_home(uri: &Uri, line: &Line) -> bool {
    let account = &line.account;
    match uri.as_sip() {
        None => true,
        Some(_) if account.outbound_proxy.is_some() => true,
        // A PBX is its own server: what it calls is where the URI says.
        Some(_) if account.catch_all => false,
        Some(uri) => {
            uri.host == account.aor.host && (uri.port.is_none() || uri.port == line.destination().port)
        }
    }
}

/// RFC 3261 §8.1.2: the first Route if there is one, else the Request-URI.
pub(crate) fn next_hop(request: &Request, line: &Line) -> Destination {
    let allowed = &line.account.transports;
    let routes = request.fields.routes().unwrap_or_default();
    let route = routes.first().and_then(|route| route.uri.as_sip());
    // A strict router has put itself into the Request-URI (RFC 3261 §12.2.1.1).
    let loose = route.filter(|route| route.lr());
    if let Some(route) = loose {
        return line.account.destination_of(route);
    }
    match request.uri.as_sip() {
        Some(uri) if request.head.to_tag().is_none() && goes_home(&request.uri, line) => {
            if request.method == Method::REGISTER {
                line.account.destination_of(uri)
            } else {
                line.destination()
            }
        }
        // Of a PBX's own phones each says how it is reached (RFC 3263 §4.1).
        Some(uri) if line.account.catch_all && uri.transport().is_none() => {
            Destination::of(uri, &[Transport::Udp])
        }
        Some(uri) => Destination::of(uri, allowed),
        None => line.destination(),
    }
}

/// Fills in what every request has and its maker need not know; `contact` is ours as the registrar knows it, and as it
/// stands in a dialog.
pub(crate) fn complete(
    request: &mut Request,
    line: &mut Line,
    owner: Owner,
    contact: (NameAddr, NameAddr),
    user_agent: &str,
) {
    let makes_target = matches!(
        request.method,
        Method::INVITE | Method::UPDATE | Method::SUBSCRIBE | Method::REFER | Method::NOTIFY
    );
    let (own, in_dialog) = contact;
    if owner == Owner::Registration {
        let contacts = line.registration.contacts(own);
        request.fields.push_name_addrs("Contact", &contacts);
    } else if makes_target && !request.fields.has("Contact") {
        request.fields.push("Contact", in_dialog.to_string());
    }
    if !request.fields.has("User-Agent") {
        request.fields.push("User-Agent", user_agent);
    }
}
