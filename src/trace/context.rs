//! W3C trace context: the trace that a client names, and the one that the answer names.
//!
//! ```text
//!   traceparent: 00-<trace, 32 hex digits>-<the caller's span, 16>-<flags, 2>     into the server
//!   traceresponse: 00-<trace, 32>-<our rpc's span, 16>-<flags, 2>                 out of it
//! ```
//!
//! `traceparent` is a recommendation of the W3C; every OpenTelemetry client sends it. Sampled, it
//! makes the server keep the request; valid, sampled or not, it is written down (`rpc.context`), so
//! that an export can hang the request below the caller's span. `traceresponse` is a draft of the
//! same group (Trace Context, level 2): a client that reads it finds our span without a search.
//!
//! Invariant: a header that does not have exactly this form is ignored, as the recommendation
//! demands.
//!
//! Left out: `tracestate`, which belongs to the tools along the way and not to us; and a
//! `traceparent` on messages between members, whose bytes stay etcd's.

use super::id;

/// The trace and the span that a caller is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace; never 0.
    pub trace: u128,
    /// The caller's span; never 0.
    pub span: u64,
    /// Whether the caller records this trace.
    pub is_sampled: bool,
}

impl Context {
    /// Reads a `traceparent`. A later version may have more parts, which are ignored.
    pub fn parse(text: &str) -> Option<Context> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = hex(parts.next()?, 2)?;
        let is_whole = version != 0 || parts.next().is_none();
        let is_sampled = flags & 1 == 1;
        (version != 0xff && is_whole && trace != 0 && span != 0).then_some(Context {
            trace,
            span,
            is_sampled,
        })
    }

    /// The `traceparent` of a request that this caller sends.
    pub fn parent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }

    /// The `traceresponse` for a request of this caller: its trace, our span in it, and whether we
    /// keep it.
    pub fn response(&self, request: u64, is_kept: bool) -> String {
        let (span, flags) = (root_span(request), u8::from(is_kept));
        format!("00-{:032x}-{span:016x}-{flags:02x}", self.trace)
    }

    /// The trace id in two halves, high first, as records carry it.
    pub fn halves(&self) -> [u64; 2] {
        let low = self.trace & u128::from(u64::MAX);
        [self.trace >> 64, low].map(|half| u64::try_from(half).expect("64 bits of 128"))
    }
}

/// The id of a request's first span, its `rpc`. Every member derives it from the request's id, so
/// that steps on the other members become its children.
pub fn root_span(request: u64) -> u64 {
    id::hash(request ^ ROOT_SALT).max(1)
}

/// The id of the trace in which a request, or a round, is exported, unless its caller named one.
/// The first half is the request's id, so that either can be found from the other; the second half
/// is well distributed, because samplers use it. Never 0.
pub fn own_trace(request: u64, cluster: u64) -> u128 {
    u128::from(request) << 64 | u128::from(id::hash(request ^ cluster).max(1))
}

/// Separates the ids of first spans from other hashes of request ids.
const ROOT_SALT: u64 = 0x6765_7463_645f_7270;

/// A number of exactly `digits` hex digits, in lower case only.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != digits || !text.bytes().all(is_hex) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_whole_or_not_at_all() {
        let context = Context::parse(PARENT).unwrap();
        assert_eq!(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, context.trace);
        assert_eq!((0xb7ad_6b71_6920_3331, true), (context.span, context.is_sampled));
        assert_eq!([0x0af7_6519_16cd_43dd, 0x8448_eb21_1c80_319c], context.halves());
        let unsampled = PARENT.replace("-01", "-00");
        assert!(!Context::parse(&unsampled).unwrap().is_sampled);
        assert!(Context::parse(&PARENT.replacen("00", "cc", 1)).is_some(), "a later version");
        assert!(Context::parse(&format!("cc{}-what", &PARENT[2..])).is_some(), "with more in it");
        for wrong in [
            "",
            "-",
            "00",
            &PARENT[1..],
            &PARENT[..PARENT.len() - 3],
            &format!("{PARENT}-00"),
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replace("b7ad6b7169203331", "0000000000000000"),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &PARENT.replace('b', "+"),
        ] {
            assert_eq!(None, Context::parse(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_response_names_the_callers_trace_and_our_span() {
        let context = Context::parse(PARENT).unwrap();
        let text = context.response(77, true);
        let read = Context::parse(&text).unwrap();
        assert_eq!((context.trace, root_span(77), true), (read.trace, read.span, read.is_sampled));
        assert!(context.response(77, false).ends_with("-00"));
        assert_ne!(root_span(77), root_span(78));
    }
}
