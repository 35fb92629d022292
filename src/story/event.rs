//! A record as readers see it: decoded, with its member and with the text of its key.
//!
//! The player, `glass trace`, the lessons and the tests all work on [`Recording`]s, from live
//! members or from a file.

use crate::trace::{
    Reason,
    field::Slot,
    record::{Head, Kind, Record},
    stage::{Field, Stage},
};

/// A member that takes part in a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Raft's id of the member.
    pub member_id: u64,
    /// The id of its cluster.
    pub cluster_id: u64,
    /// The member's `--name`.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// Its starts, of which records were received.
    pub boots: Vec<BootInfo>,
    /// The members of its cluster that it knows, by raft's id, with their names. One that sent no
    /// records is named by these.
    pub members: Vec<(u64, String)>,
}

/// The name of a member: its own, or the one that others know. `None` if it has none.
pub fn name_of(members: &[MemberInfo], member_id: u64) -> Option<&str> {
    let own = members.iter().find(|member| member.member_id == member_id);
    let known = || {
        let mut known = members.iter().flat_map(|member| &member.members);
        known.find(|(id, _)| *id == member_id).map(|(_, name)| name.as_str())
    };
    let own = own.map(|member| member.name.as_str()).filter(|name| !name.is_empty());
    own.or_else(known).filter(|name| !name.is_empty())
}

/// One start of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootInfo {
    /// Counted in the data directory, from 1.
    pub boot: u16,
    /// Wall clock, nanoseconds since 1970, at tick 0 of this boot.
    pub wall_ns: u64,
}

/// One record of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Position of the member in [`Recording::members`].
    pub member: u8,
    /// The member's start, as counted in its data directory.
    pub boot: u16,
    /// The stage that the record belongs to.
    pub stage: Stage,
    /// Begin, span, mark or keyframe. A key record is merged into the event of its step.
    pub kind: Kind,
    /// `FLAG_` bits; bit 0 says that the request is kept.
    pub flags: u8,
    /// gRPC code; 0 on success.
    pub result: u8,
    /// Why the step failed.
    pub reason: Option<Reason>,
    /// Number of the thread in [`THREADS`](crate::trace::THREADS).
    pub thread: u8,
    /// Member clock at the start of the step.
    pub clock: u64,
    /// Member clock at its end, where its changes take effect. Equal for marks.
    pub clock_end: u64,
    /// Nanoseconds since the member's start.
    pub at_ns: u64,
    /// Duration in nanoseconds; 0 for marks.
    pub took_ns: u64,
    /// Id of the request or the round; 0 for steps of loops that serve many.
    pub id: u64,
    /// Connects a send to its receive (stream number in the upper 24 bits, frame number below), or
    /// a read to its round; 0 for none.
    pub link: u64,
    /// Values of the stage's fields, in the order of [`Stage::fields`]. Read them by `field!`.
    pub fields: [u64; 8],
    /// The key that the step names, or the first of a range, if it was captured.
    pub key: Option<KeyText>,
    /// The end of the range that begins with the key. `None` for a step that names one key.
    pub range_end: Option<KeyText>,
}

/// A key, or its first 88 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyText {
    /// The captured bytes, at most 88.
    pub bytes: Vec<u8>,
    /// Length of the whole key in bytes.
    pub length: u64,
}

/// The members of a cluster and the events received from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// The members, in the order of their first hello; events refer to them by position.
    pub members: Vec<MemberInfo>,
    /// The events, in order of arrival.
    pub events: Vec<Event>,
    /// Number of records known to be lost, per member.
    pub dropped: Vec<u64>,
}

impl Event {
    /// A step that takes no time, in the first start of a member. Its time, id, link and fields are
    /// 0. Tests begin with it and set the rest.
    pub fn mark(member: u8, stage: Stage, clock: u64) -> Event {
        Event {
            member,
            boot: 1,
            stage,
            kind: Kind::Mark,
            flags: 0,
            result: 0,
            reason: None,
            thread: 0,
            clock,
            clock_end: clock,
            at_ns: 0,
            took_ns: 0,
            id: 0,
            link: 0,
            fields: [0; 8],
            key: None,
            range_end: None,
        }
    }

    /// The event with these fields, by name.
    #[cfg(test)]
    pub(crate) fn with(mut self, fields: &[(&str, u64)]) -> Event {
        for (name, value) in fields {
            self.set(self.stage.slot(name), *value);
        }
        self
    }

    /// Converts a record of the member at this position in [`Recording::members`]. `None` for key
    /// records, and for stages and kinds that this version does not know.
    pub fn of(record: &Record, member: u8) -> Option<Event> {
        let (head, kind) = (record.head(), record.kind()?);
        if kind == Kind::Key {
            return None;
        }
        Some(Event {
            member,
            boot: head.boot,
            stage: record.stage()?,
            kind,
            flags: head.flags,
            result: head.result,
            reason: record.reason(),
            thread: head.thread,
            clock: record.clock(),
            clock_end: record.clock_end(),
            at_ns: record.words[3],
            took_ns: record.took_ns(),
            id: record.id(),
            link: record.words[6],
            fields: record.fields(),
            key: None,
            range_end: None,
        })
    }

    /// Converts back to a record, without the text of its key.
    pub fn record(&self) -> Record {
        let head = Head {
            stage: self.stage as u8,
            kind: self.kind as u8,
            flags: self.flags,
            thread: self.thread,
            member: self.member,
            result: self.result,
            boot: self.boot,
        };
        let mut record = Record::new(head, self.clock, self.at_ns, self.id, &self.fields);
        record.set_length(self.clock_end - self.clock, self.took_ns);
        record.set_reason(self.reason);
        record.words[6] = self.link;
        record
    }

    /// The value of the field with this name, if the stage has it. For names known only at run
    /// time; `field!` reads one known at compile time, and checks it.
    pub fn field(&self, name: &str) -> Option<u64> {
        self.named().find(|(field, _)| field.name == name).map(|(_, number)| number)
    }

    /// All fields of the stage with their values, in the order of [`Stage::fields`].
    pub fn named(&self) -> impl Iterator<Item = (&'static Field, u64)> {
        self.stage.fields().iter().zip(self.fields)
    }

    /// The value of the one of these fields that the event's stage has. For `field!`.
    pub fn number(&self, slots: &[Slot]) -> u64 {
        Slot::find(Some(self.stage), slots).map_or(0, |at| self.fields[at])
    }

    /// Sets the field at this position. For `set!`, which finds the position.
    pub fn set(&mut self, slot: usize, value: u64) {
        self.fields[slot] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{change, field, fields, trace::record::sample_of};

    #[test]
    fn an_event_has_the_parts_of_its_record() {
        let head = Head {
            stage: Stage::WalFsync as u8,
            kind: Kind::Span as u8,
            thread: 4,
            flags: 1,
            result: 14,
            member: 2,
            boot: 0x1234,
        };
        let mut record = Record::new(head, 77, 5_000_000_123, 9, &[1, 2, 3, 4, 5, 6, 7, u64::MAX]);
        record.set_length(3, 1_600_000);
        record.words[6] = 0xb1b2;
        let event = Event::of(&record, 2).unwrap();
        assert_eq!((77, 80, 1_600_000), (event.clock, event.clock_end, event.took_ns));
        assert_eq!(record, event.record());
    }

    #[test]
    fn fields_are_read_by_name_where_the_step_s_own_stage_has_them() {
        let event = |stage| Event::of(&sample_of(stage), 0).unwrap();
        for (stage, index) in [(Stage::RaftEntry, 11), (Stage::BufferFreeze, 12)] {
            assert_eq!(index, field!(event(stage), RaftEntry | BufferFreeze, index));
        }
        assert_eq!([14, 10], fields!(event(Stage::WalFsync), WalFsync: bytes, first));
        assert_eq!([12, 13], change!(event(Stage::WalFsync), WalFsync, synced));
    }

    #[test]
    fn unknown_stages_and_kinds_are_no_events() {
        for (stage, kind) in [(250, Kind::Mark as u8), (0, 9)] {
            let head = Head { stage, kind, ..Head::default() };
            assert_eq!(None, Event::of(&Record::new(head, 1, 1, 1, &[0; 8]), 0));
        }
    }
}
