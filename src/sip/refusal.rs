//! The answer to a request that could not be read: what could be copied from it is copied, word by word.

use super::fault::Fault;
use super::grammar;
use super::name_addr::NameAddr;
use super::via::Via;
use super::writer::Writer;

/// A response to a malformed request (RFC 3261 §8.2, RFC 4475).
///
/// It is sent statelessly: note `received` and `rport` in [`Refusal::via`], write it, send it where the Via
/// says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400, or what fits better.
    pub status: u16,
    /// What is wrong.
    pub reason: String,
    /// The topmost hop, which the answer goes to.
    pub via: Via,
    /// The other hops, and From, To, Call-ID and CSeq: name and value, as they stood there.
    copied: Vec<(&'static str, Vec<u8>)>,
}

/// The fields of a malformed request that its answer repeats.
#[derive(Default)]
pub(super) struct Copied<'a> {
    /// Every Via field.
    pub(super) via: Vec<&'a [u8]>,
    /// The first field of each of these names.
    pub(super) from: Option<&'a [u8]>,
    pub(super) to: Option<&'a [u8]>,
    pub(super) call_id: Option<&'a [u8]>,
    pub(super) cseq: Option<&'a [u8]>,
}

impl Refusal {
    /// The answer; `None` if the topmost Via does not say where to send it.
    pub(super) fn new(why: Fault, request: &Copied<'_>) -> Option<Refusal> {
        let (first, others) = request.via.split_first()?;
        let via = Via::read_leniently(first)?;
        let mut copied = Vec::new();
        // What follows the first hop in the same field, if that field can be read at all.
        let mut hops = Vec::new();
        if Via::read_list(first, &mut hops).is_ok() {
            copied.extend(hops.iter().skip(1).map(|hop| ("Via", hop.to_string().into_bytes())));
        }
        copied.extend(others.iter().map(|hop| ("Via", hop.to_vec())));
        if let Some(from) = request.from {
            copied.push(("From", from.to_vec()));
        }
        if let Some(to) = request.to {
            copied.push(("To", tagged(to, request)));
        }
        if let Some(call_id) = request.call_id {
            copied.push(("Call-ID", call_id.to_vec()));
        }
        if let Some(cseq) = request.cseq {
            copied.push(("CSeq", cseq.to_vec()));
        }
        Some(Refusal { status: why.status(), reason: why.phrase().into_owned(), via, copied })
    }

    /// The response as it goes over the wire.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Writer::new(self.copied.len(), 0);
        out.line(format_args!("SIP/2.0 {:03} {}", self.status, self.reason));
        out.line(format_args!("Via: {}", self.via));
        for (name, value) in &self.copied {
            out.field(name, value);
        }
        out.finish(b"")
    }
}

/// To with a tag, if it can be read and has none. The tag is the same for each retransmission of the request
/// (RFC 3261 §8.2.7).
fn tagged(to: &[u8], request: &Copied<'_>) -> Vec<u8> {
    match NameAddr::parse(to) {
        Ok(address) if address.tag().is_none() => {
            let seen = [request.via.first().copied(), request.call_id, request.cseq, request.from];
            let hash = seen
                .into_iter()
                .flatten()
                .flatten()
                .fold(FNV_BASIS, |hash, &octet| (hash ^ u64::from(octet)).wrapping_mul(FNV_PRIME));
            address.with_tag(&format!("{hash:016x}")).to_string().into_bytes()
        }
        _ => grammar::trim(to).to_vec(),
    }
}

/// FNV-1a: it need not be secret, only the same each time.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
