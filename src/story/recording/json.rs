//! Conversion of a recording's lines to JSON and back.

use std::io::{self, Write};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{
    story::{BootInfo, Event, KeyText, MemberInfo},
    trace::{
        Reason, THREADS,
        record::Kind,
        stage::Stage,
        value::{flag_names, flags_of, hex, number_of, unhex, value_of},
    },
};

/// One line after the header.
pub(super) enum Line {
    Event(Box<Event>),
    /// An event whose stage this version does not know.
    Unknown,
    Members(Vec<MemberInfo>),
    Dropped(Vec<u64>),
}

pub(super) fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

#[derive(Serialize, Deserialize)]
struct MemberLine {
    id: String,
    cluster: String,
    name: String,
    version: String,
    boots: Vec<BootLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    members: Vec<NamedLine>,
}

#[derive(Serialize, Deserialize)]
struct NamedLine {
    id: String,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct BootLine {
    boot: u16,
    wall_ns: u64,
}

#[derive(Serialize)]
pub(super) struct HeaderLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    glass: Option<u64>,
    members: Vec<MemberLine>,
}

#[derive(Serialize)]
pub(super) struct DroppedLine<'a> {
    dropped: &'a [u64],
}

#[derive(Deserialize)]
struct AnyLine {
    glass: Option<u64>,
    members: Option<Vec<MemberLine>>,
    dropped: Option<Vec<u64>>,
}

pub(super) fn header(version: u64, members: &[MemberInfo]) -> HeaderLine {
    HeaderLine { glass: Some(version), members: members.iter().map(member_line).collect() }
}

pub(super) fn members(members: &[MemberInfo]) -> HeaderLine {
    HeaderLine { glass: None, members: members.iter().map(member_line).collect() }
}

pub(super) fn dropped(dropped: &[u64]) -> DroppedLine<'_> {
    DroppedLine { dropped }
}

fn member_line(member: &MemberInfo) -> MemberLine {
    MemberLine {
        id: hex(member.member_id),
        cluster: hex(member.cluster_id),
        name: member.name.clone(),
        version: member.version.clone(),
        boots: member
            .boots
            .iter()
            .map(|boot| BootLine { boot: boot.boot, wall_ns: boot.wall_ns })
            .collect(),
        members: (member.members.iter())
            .map(|(id, name)| NamedLine { id: hex(*id), name: name.clone() })
            .collect(),
    }
}

fn member_info(line: MemberLine) -> Result<MemberInfo, String> {
    let boots = line.boots.into_iter();
    let named = |line: NamedLine| Some((unhex(&line.id)?, line.name));
    let members: Option<Vec<_>> = line.members.into_iter().map(named).collect();
    Ok(MemberInfo {
        member_id: unhex(&line.id).ok_or("a member's id is not hex")?,
        cluster_id: unhex(&line.cluster).ok_or("a cluster's id is not hex")?,
        name: line.name,
        version: line.version,
        boots: boots.map(|boot| BootInfo { boot: boot.boot, wall_ns: boot.wall_ns }).collect(),
        members: members.ok_or("a member's id is not hex")?,
    })
}

/// An event in its written form.
pub(super) struct EventLine<'a>(pub(super) &'a Event);

impl Serialize for EventLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("member", &event.member)?;
        map.serialize_entry("boot", &event.boot)?;
        map.serialize_entry("stage", event.stage.name())?;
        map.serialize_entry("kind", event.kind.name())?;
        map.serialize_entry("clock", &event.clock)?;
        map.serialize_entry("end", &event.clock_end)?;
        map.serialize_entry("at", &event.at_ns)?;
        map.serialize_entry("took", &event.took_ns)?;
        map.serialize_entry("thread", THREADS.get(usize::from(event.thread)).unwrap_or(&"other"))?;
        optional_parts(&mut map, event)?;
        map.serialize_entry("fields", &Fields(event))?;
        map.end()
    }
}

/// The optional parts: id, link, flags, code, reason, key and range end. Zeros are left out.
pub(crate) fn optional_parts<M: SerializeMap>(map: &mut M, event: &Event) -> Result<(), M::Error> {
    for (name, value) in [("id", event.id), ("link", event.link)] {
        if value != 0 {
            map.serialize_entry(name, &hex(value))?;
        }
    }
    if event.flags != 0 {
        map.serialize_entry("flags", &FlagNames(event.flags))?;
    }
    if event.result != 0 {
        map.serialize_entry("code", &event.result)?;
    }
    if let Some(reason) = event.reason {
        map.serialize_entry("reason", reason.text())?;
    }
    if let Some(key) = &event.key {
        map.serialize_entry("key", &key_value(key))?;
    }
    if let Some(end) = &event.range_end {
        map.serialize_entry("range_end", &key_value(end))?;
    }
    Ok(())
}

pub(crate) struct FlagNames(pub(crate) u8);

impl Serialize for FlagNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(flag_names(self.0))
    }
}

struct Fields<'a>(&'a Event);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (field, value) in self.0.named() {
            map.serialize_entry(field.name, &value_of(field, value))?;
        }
        map.end()
    }
}

pub(crate) fn key_value(key: &KeyText) -> Value {
    match std::str::from_utf8(&key.bytes) {
        Ok(text) => serde_json::json!({ "text": text, "length": key.length }),
        Err(_) => {
            let hex: String = key.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            serde_json::json!({ "hex": hex, "length": key.length })
        }
    }
}

#[derive(Deserialize)]
struct KeyIn {
    text: Option<String>,
    hex: Option<String>,
    length: u64,
}

impl KeyIn {
    fn text(self) -> Option<KeyText> {
        let bytes = match (self.text, self.hex) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(hex)) => hex
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect::<Option<_>>()?,
            (None, None) => return None,
        };
        Some(KeyText { bytes, length: self.length })
    }
}

#[derive(Deserialize)]
struct EventIn {
    member: u8,
    boot: u16,
    stage: String,
    kind: String,
    clock: u64,
    end: u64,
    at: u64,
    took: u64,
    #[serde(default)]
    thread: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    link: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    code: u8,
    reason: Option<String>,
    key: Option<KeyIn>,
    range_end: Option<KeyIn>,
    #[serde(default)]
    fields: serde_json::Map<String, Value>,
}

pub(super) fn read_header(line: &[u8]) -> Result<(u64, Vec<MemberInfo>), String> {
    let exports = [("\"traceEvents\"", "--chrome"), ("\"resourceSpans\"", "--otlp")];
    let has = |word: &str| line.windows(word.len()).any(|part| part == word.as_bytes());
    if let Some((_, option)) = exports.iter().find(|(word, _)| has(word)) {
        return Err(format!("an export of {option}, which cannot be read back"));
    }
    let line: AnyLine = serde_json::from_slice(line)
        .map_err(|error| format!("its first line is no header: {error}"))?;
    let version = line.glass.ok_or("its first line has no version")?;
    let members = line.members.ok_or("its first line has no members")?;
    Ok((version, read_members(members)?))
}

pub(super) fn read_line(line: &[u8], members: usize) -> Result<Line, String> {
    let any: AnyLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if any.glass.is_some() {
        return Err("another recording begins here; split the file before this line".to_owned());
    }
    if let Some(members) = any.members {
        return read_members(members).map(Line::Members);
    }
    if let Some(dropped) = any.dropped {
        return Ok(Line::Dropped(dropped));
    }
    let line: EventIn = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if members <= usize::from(line.member) {
        return Err(format!("there is no member {} in the table", line.member));
    }
    match Stage::from_name(&line.stage) {
        Some(stage) => Ok(Line::Event(Box::new(read_event(line, stage)?))),
        None => Ok(Line::Unknown),
    }
}

fn read_members(lines: Vec<MemberLine>) -> Result<Vec<MemberInfo>, String> {
    lines.into_iter().map(member_info).collect()
}

fn read_event(line: EventIn, stage: Stage) -> Result<Event, String> {
    let kind = Kind::from_name(&line.kind).ok_or_else(|| format!("no kind {:?}", line.kind))?;
    if line.end < line.clock {
        return Err(format!("the step ends at {} before it starts at {}", line.end, line.clock));
    }
    let mut fields = [0; 8];
    for (field, place) in stage.fields().iter().zip(&mut fields) {
        if let Some(value) = line.fields.get(field.name) {
            *place = number_of(field, value)
                .ok_or_else(|| format!("{} of {} is {value}", field.name, line.stage))?;
        }
    }
    let thread = THREADS.iter().position(|name| *name == line.thread).unwrap_or(0);
    let text = |key: Option<KeyIn>| match key {
        Some(key) => key.text().ok_or("a key has neither text nor hex").map(Some),
        None => Ok(None),
    };
    let (key, range_end) = (text(line.key)?, text(line.range_end)?);
    Ok(Event {
        member: line.member,
        boot: line.boot,
        stage,
        kind,
        flags: flags_of(&line.flags),
        result: line.code,
        reason: line.reason.as_deref().map(Reason::from_text),
        thread: u8::try_from(thread).unwrap_or(0),
        clock: line.clock,
        clock_end: line.end,
        at_ns: line.at,
        took_ns: line.took,
        id: optional_hex(&line.id).ok_or("the id is not hex")?,
        link: optional_hex(&line.link).ok_or("the link is not hex")?,
        fields,
        key,
        range_end,
    })
}

fn optional_hex(text: &str) -> Option<u64> {
    if text.is_empty() { Some(0) } else { unhex(text) }
}
