//! Where a call comes from: the trace of its caller, and the connection on which it came.
//!
//! A caller's trace is recorded in any case, because a call that turns out to be slow belongs to it
//! as well. The ends of the connection are recorded for calls that are kept, and at the end of
//! those that may be kept after all, so other calls do not pay for the record.

use http::HeaderValue;
use tonic::metadata::MetadataMap;

use super::answers;
use crate::{
    mark,
    trace::{self, context::Context, ends::Ends},
};

/// See the module's text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// The trace that the caller names: a valid W3C `traceparent`.
    pub(super) context: Option<Context>,
    /// Both ends of the connection; `None` if it is unknown, or over a socket file.
    ends: Option<Ends>,
}

impl Origin {
    /// Of the present call, which has this metadata.
    pub fn of(metadata: &MetadataMap) -> Self {
        let traceparent = metadata.get("traceparent").and_then(|value| value.to_str().ok());
        Self::named(traceparent, answers::ends())
    }

    /// Of the present call over HTTP, whose trace is not read.
    pub fn of_http() -> Self {
        Self { context: None, ends: answers::ends() }
    }

    /// Of a call with this header, on a connection with these ends.
    pub(super) fn new(traceparent: Option<&HeaderValue>, ends: Option<Ends>) -> Self {
        Self::named(traceparent.and_then(|value| value.to_str().ok()), ends)
    }

    fn named(traceparent: Option<&str>, ends: Option<Ends>) -> Self {
        Self { context: traceparent.and_then(Context::parse), ends }
    }

    /// Whether the caller asks for a trace.
    pub(super) fn is_sampled(&self) -> bool {
        self.context.is_some_and(|context| context.is_sampled)
    }

    /// Records what is to be known from the beginning of request `id`.
    pub(super) fn note(&self, id: u64) {
        if let Some(context) = self.context {
            let [high, low] = context.halves();
            let sampled = u8::from(context.is_sampled);
            mark!(
                RpcContext,
                id,
                trace_high = high,
                trace_low = low,
                parent = context.span,
                sampled = sampled
            );
        }
        if trace::kept(id) {
            self.note_connection(id);
        }
    }

    /// Request `id` has ended. If it was not kept from its beginning, it may be from now on.
    pub(super) fn note_late(&self, id: u64) {
        if !trace::kept(id) {
            self.note_connection(id);
        }
    }

    fn note_connection(&self, id: u64) {
        let Some(ends) = self.ends else { return };
        let [[from_high, from_low, from_port], [to_high, to_low, to_port]] = ends.numbers();
        mark!(
            RpcConnection,
            id,
            from_high = from_high,
            from_low = from_low,
            from_port = from_port,
            to_high = to_high,
            to_low = to_low,
            to_port = to_port
        );
    }
}
