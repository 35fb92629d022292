//! What is said of a member and of a step, by names.
//!
//! A field `x` of the vocabulary is the attribute `etcd.x`; what every record has is `glass.…`.
//! Names that OpenTelemetry itself gives (`service.name`, `thread.name`, `rpc.grpc.status_code`)
//! are used where they mean the same. Of the machine nothing is said.

use serde_json::Value as Json;

use super::{Attribute, Value, is_request};
use crate::{
    story::{Event, MemberInfo, recording::json::key_value},
    trace::{
        FLAG_CANCELLED, THREADS,
        stage::{Stage, Unit},
        value::{hex, value_of},
    },
};

/// What OTLP calls the resource: the member, and not the machine on which it runs.
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

/// The stage's fields by their names, as recordings show them, and what every record has.
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
        // No member and no request has the number 0: nobody is meant.
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
        add("rpc.grpc.status_code", Json::from(event.result));
    }
    if event.flags & FLAG_CANCELLED != 0 {
        add("glass.cancelled", Json::from(true));
    }
    if let Some(key) = &event.key {
        let parts = key_value(key);
        for (part, name) in KEY_PARTS {
            if let Some(value) = parts.get(part).filter(|value| value.as_str() != Some("")) {
                add(name, value.clone());
            }
        }
    }
    all
}

/// A key's parts, and the attributes that they become.
const KEY_PARTS: [(&str, &str); 3] =
    [("text", "etcd.key"), ("hex", "etcd.key.hex"), ("length", "etcd.key.length")];
