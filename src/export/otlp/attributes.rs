//! The attributes of a member and of a step.
//!
//! A field `x` of the vocabulary is the attribute `etcd.x`; the parts that every record has are
//! `glass.…`. Names that OpenTelemetry itself defines are used where the meaning is the same:
//! `service.name`, `thread.name`, and for an rpc those of its conventions for gRPC servers (as of
//! 2026, version 1.40). Nothing describes the machine, beyond the address at which the client has
//! reached the member.

use std::net::IpAddr;

use serde_json::Value as Json;

use super::{
    Attribute, CONNECTION_ATTRIBUTES, HTTP_ATTRIBUTES, REASON, RPC_ATTRIBUTES, SERVER_ERRORS,
    Value, is_request,
};
use crate::{
    story::{Event, MemberInfo, query::method_of, recording::json::key_value},
    trace::{
        FLAG_CANCELLED, FLAG_ERROR, Reason, THREADS,
        ends::Ends,
        stage::{Stage, Unit},
        value::{hex, value_of},
    },
};

/// OTLP's resource: the member, not the machine on which it runs.
pub(super) fn of_member(member: &MemberInfo) -> Vec<Attribute> {
    let text = |name: &str, value: String| (name.to_owned(), Value::Text(value));
    vec![
        text("service.name", "glass-etcd".to_owned()),
        text("service.instance.id", hex(member.member_id)),
        text("service.version", member.version.clone()),
        text("etcd.cluster.id", hex(member.cluster_id)),
        text("etcd.member.name", member.name.clone()),
    ]
}

/// The stage's fields by their names, as recordings show them, and the parts that every record has.
pub(super) fn of_step(event: &Event, member_id: u64) -> Vec<Attribute> {
    let mut all: Vec<Attribute> = Vec::new();
    let mut add = |name: &str, value: Json| {
        let value = match value {
            Json::Bool(is_set) => Value::Flag(is_set),
            Json::String(text) => Value::Text(text),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Value::Number(number),
                None => Value::Text(number.to_string()),
            },
            other => Value::Text(other.to_string()),
        };
        all.push((name.to_owned(), value));
    };
    for (field, value) in event.named() {
        // No member and no request has the number 0: it stands for none.
        if value != 0 || !matches!(field.unit, Unit::Member | Unit::Id) {
            add(&format!("etcd.{}", field.name), value_of(field, value));
        }
    }
    if is_request(event) {
        add("etcd.request.id", Json::from(hex(event.id)));
    } else if event.id != 0 {
        add("etcd.round.id", Json::from(hex(event.id)));
    }
    add("etcd.member.id", Json::from(hex(member_id)));
    add("thread.name", Json::from(*THREADS.get(usize::from(event.thread)).unwrap_or(&THREADS[0])));
    add("glass.boot", Json::from(event.boot));
    add("glass.clock", Json::from(event.clock));
    if event.stage == Stage::Rpc {
        of_rpc(event).into_iter().for_each(|(name, value)| add(name, value));
    } else if event.flags & FLAG_ERROR != 0 {
        let code = if event.result == 0 { "_OTHER" } else { code_name(event.result) };
        add("error.type", Json::from(event.reason.map_or(code, Reason::text)));
    }
    if let Some(reason) = event.reason {
        add(REASON, Json::from(reason.text()));
    }
    if event.flags & FLAG_CANCELLED != 0 {
        add("glass.cancelled", Json::from(true));
    }
    for (text, names) in [(&event.key, KEY_PARTS), (&event.range_end, END_PARTS)] {
        let Some(parts) = text.as_ref().map(key_value) else { continue };
        for (part, name) in names {
            if let Some(value) = parts.get(part).filter(|value| value.as_str() != Some("")) {
                add(name, value.clone());
            }
        }
    }
    all
}

/// The attributes of OpenTelemetry's conventions for RPC and HTTP servers.
fn of_rpc(event: &Event) -> Vec<(&'static str, Json)> {
    let method = method_of(event);
    if let Some(method) = grpc_method(method) {
        let code = code_name(event.result);
        let [system, name, status, error] = RPC_ATTRIBUTES;
        let mut all = vec![
            (system, Json::from("grpc")),
            (name, Json::from(method)),
            (status, Json::from(code)),
        ];
        if SERVER_ERRORS.contains(&event.result) {
            all.push((error, Json::from(code)));
        }
        return all;
    }
    let Some((verb, path)) = method.split_once(' ') else { return Vec::new() };
    let [verb_name, route, path_name, scheme, status_name, _] = HTTP_ATTRIBUTES;
    let mut all = vec![
        (verb_name, Json::from(verb)),
        (route, Json::from(path)),
        (path_name, Json::from(path)),
        (scheme, Json::from("http")),
    ];
    if let Some(status) = http_status(event) {
        all.push((status_name, Json::from(status)));
        if 500 <= status {
            all.push((RPC_ATTRIBUTES[3], Json::from(status.to_string())));
        }
    }
    all
}

/// The ends of the connection of an rpc. Over HTTP the client's address has a second name, which
/// is to be that behind all proxies, if it is known; here it is not.
pub(super) fn of_connection(event: &Event, ends: Ends) -> Vec<Attribute> {
    let [server, server_port, peer, peer_port] = CONNECTION_ATTRIBUTES;
    let text = |name: &str, ip: IpAddr| (name.to_owned(), Value::Text(ip.to_string()));
    let port = |name: &str, port: u16| (name.to_owned(), Value::Number(i64::from(port)));
    let mut all = vec![
        text(server, ends.to().ip()),
        port(server_port, ends.to().port()),
        text(peer, ends.from().ip()),
        port(peer_port, ends.from().port()),
    ];
    if is_http(event) {
        all.push(text(HTTP_ATTRIBUTES[5], ends.from().ip()));
    }
    all
}

fn is_http(event: &Event) -> bool {
    method_of(event).contains(' ')
}

/// The status of an answer over HTTP: the handlers answer with 503 if anything fails. `None` if the
/// client left before there was one, and for gRPC.
pub(super) fn http_status(event: &Event) -> Option<u16> {
    let is_answered = event.flags & FLAG_CANCELLED == 0;
    (is_http(event) && is_answered).then_some(if event.result == 0 { 200 } else { 503 })
}

/// The full name of a gRPC method, by its name in [`METHODS`](crate::trace::METHODS); `None` for
/// what is none: HTTP, and requests of the member itself.
pub(super) fn grpc_method(method: &str) -> Option<String> {
    if method == "unknown method" {
        // The conventions' word for a method that the server does not know.
        return Some("_OTHER".to_owned());
    }
    let method = method.trim_end_matches("(stream)");
    let package = match method.split_once('/')?.0 {
        "KV" | "Maintenance" | "Cluster" | "Watch" | "Lease" | "Auth" => "etcdserverpb",
        "Lock" => "v3lockpb",
        "Election" => "v3electionpb",
        "Health" => "grpc.health.v1",
        _ => return None,
    };
    Some(format!("{package}.{method}"))
}

/// The name of a gRPC code.
pub(super) fn code_name(code: u8) -> &'static str {
    CODES.get(usize::from(code)).unwrap_or(&"UNKNOWN")
}

/// The names of gRPC's codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Parts of a key, and the attributes that they become.
const KEY_PARTS: [(&str, &str); 3] =
    [("text", "etcd.key"), ("hex", "etcd.key.hex"), ("length", "etcd.key.length")];
/// The same of the end of a range.
const END_PARTS: [(&str, &str); 3] = [
    ("text", "etcd.range_end"),
    ("hex", "etcd.range_end.hex"),
    ("length", "etcd.range_end.length"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::METHODS;

    #[test]
    fn every_method_is_a_grpc_method_or_http_or_the_member_s_own() {
        for method in METHODS.iter().skip(1) {
            let is_other = method.contains(" /") || method.starts_with("internal/");
            assert_eq!(is_other, grpc_method(method).is_none(), "{method}");
        }
        assert_eq!(Some("etcdserverpb.KV/Put"), grpc_method("KV/Put").as_deref());
        let stream = grpc_method("Watch/Watch(stream)");
        assert_eq!(Some("etcdserverpb.Watch/Watch"), stream.as_deref());
        assert_eq!(Some("grpc.health.v1.Health/Check"), grpc_method("Health/Check").as_deref());
    }
}
