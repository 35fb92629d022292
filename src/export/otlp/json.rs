//! OTLP as JSON lines, the format of OpenTelemetry's file exporter: one export request per line.
//!
//! Rules of OTLP's JSON: names in camel case, ids as hex digits, numbers of 64 bits as text, enums
//! as numbers.

use std::io::{self, BufWriter, Write};

use serde_json::{Value as Json, json};

use super::{Attribute, Exporter, Resource, Scope, Span, Value, chunks, flags};
use crate::story::{Recording, order::Order};

/// Number of elements written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Members that have spans.
    pub members: usize,
    /// Spans of all members.
    pub spans: usize,
    /// Links of all spans.
    pub links: usize,
}

impl Counts {
    /// Counts the elements of these resources.
    pub fn of(resources: &[Resource]) -> Counts {
        let spans = || resources.iter().flat_map(|resource| &resource.spans);
        Counts {
            members: resources.len(),
            spans: spans().count(),
            links: spans().map(|span| span.links.len()).sum(),
        }
    }
}

/// All spans of a recording.
pub fn resources(recording: &Recording, order: &Order) -> Vec<Resource> {
    let exporter = Exporter::new(recording, order, Scope::Cluster);
    exporter.export(&exporter.choose(|_| true))
}

/// Writes all of a recording. Errors are those of `out`.
pub fn write<W: Write>(out: W, recording: &Recording) -> io::Result<Counts> {
    let order = Order::of(recording);
    let resources = resources(recording, &order);
    let counts = Counts::of(&resources);
    let mut out = BufWriter::new(out);
    for resource in chunks(resources) {
        serde_json::to_writer(&mut out, &request(&resource))?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(counts)
}

fn request(resource: &Resource) -> Json {
    let spans: Vec<Json> = resource.spans.iter().map(span).collect();
    let scope = json!({ "name": super::SCOPE, "version": env!("CARGO_PKG_VERSION") });
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(&resource.attributes) },
        "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] })
}

fn span(span: &Span) -> Json {
    let link = |link: &super::Link| {
        json!({
            "traceId": format!("{:032x}", link.to.trace),
            "spanId": format!("{:016x}", link.to.span),
            "attributes": [{ "key": super::LINK, "value": { "stringValue": link.why } }],
        })
    };
    let links: Vec<Json> = span.links.iter().map(link).collect();
    let mut line = json!({
        "traceId": format!("{:032x}", span.place.trace),
        "spanId": format!("{:016x}", span.place.span),
        "flags": flags(span),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.end_ns.to_string(),
        "attributes": attributes(&span.attributes),
        "links": links,
    });
    if span.parent != 0 {
        line["parentSpanId"] = Json::from(format!("{:016x}", span.parent));
    }
    if let Some(message) = &span.failure {
        line["status"] = json!({ "code": 2, "message": message });
    }
    line
}

fn attributes(attributes: &[Attribute]) -> Json {
    let pair = |(name, value): &Attribute| {
        let value = match value {
            Value::Text(text) => json!({ "stringValue": text }),
            Value::Number(number) => json!({ "intValue": number.to_string() }),
            Value::Flag(is_set) => json!({ "boolValue": is_set }),
        };
        json!({ "key": name, "value": value })
    };
    attributes.iter().map(pair).collect()
}
