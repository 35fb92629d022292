//! Spans as OTLP's protobuf.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    export::otlp::{self, Attribute, Value},
    pb::otlp::{
        AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource,
        ResourceSpans, ScopeSpans, Span, Status, any_value, span,
    },
};

/// A request to a collector, encoded: an `ExportTraceServiceRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The export request in protobuf.
    pub bytes: Bytes,
    /// How many spans it holds.
    pub spans: u64,
}

/// Encodes a member's spans; [`otlp::chunks`] makes portions that are not too large.
pub fn portion(resource: &otlp::Resource) -> Portion {
    let scope = InstrumentationScope {
        name: otlp::SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let spans = resource.spans.iter().map(encode).collect();
    let resource_spans = ResourceSpans {
        resource: Some(Resource { attributes: attributes(&resource.attributes) }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
    };
    let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
    Portion { bytes: request.encode_to_vec().into(), spans: resource.spans.len() as u64 }
}

fn encode(span: &otlp::Span) -> Span {
    let status = span.failure.clone().map(|message| Status { message, code: 2 });
    Span {
        trace_id: trace_id(span.place),
        span_id: span_id(span.place.span),
        parent_span_id: if span.parent == 0 { Bytes::new() } else { span_id(span.parent) },
        name: span.name.clone(),
        kind: span.kind,
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.end_ns,
        attributes: attributes(&span.attributes),
        links: span.links.iter().map(link).collect(),
        status,
        flags: otlp::flags(span),
    }
}

fn link(link: &otlp::Link) -> span::Link {
    let why = (otlp::LINK.to_owned(), Value::Text(link.why.to_owned()));
    span::Link {
        trace_id: trace_id(link.to),
        span_id: span_id(link.to.span),
        attributes: attributes(&[why]),
    }
}

fn trace_id(place: otlp::SpanIds) -> Bytes {
    Bytes::copy_from_slice(&place.trace.to_be_bytes())
}

fn span_id(span: u64) -> Bytes {
    Bytes::copy_from_slice(&span.to_be_bytes())
}

fn attributes(attributes: &[Attribute]) -> Vec<KeyValue> {
    let pair = |(key, value): &Attribute| {
        let value = match value {
            Value::Text(text) => any_value::Value::StringValue(text.clone()),
            Value::Number(number) => any_value::Value::IntValue(*number),
            Value::Flag(is_set) => any_value::Value::BoolValue(*is_set),
        };
        KeyValue { key: key.clone(), value: Some(AnyValue { value: Some(value) }) }
    };
    attributes.iter().map(pair).collect()
}
