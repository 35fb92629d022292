//! A record as readers see it: decoded, with the member that made it, and with the text of its key.
//!
//! The player, `glass trace`, the lessons and the tests all work on [`Recording`]s, whether they
//! come from live members or from a file.

use super::{
    field::Slot,
    record::Kind,
    stage::{Field, Stage},
};

/// A member that takes part in a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Raft's id of the member.
    pub member_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// `--name`.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Wall clock, nanoseconds since 1970, at the member's tick 0; one for each boot seen.
    pub boots: Vec<BootInfo>,
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
    /// Place in [`Recording::members`].
    pub member: u8,
    /// Which start of the member.
    pub boot: u16,
    /// The step.
    pub stage: Stage,
    /// Begin, span, mark or keyframe. Key records are folded into the event that they belong to.
    pub kind: Kind,
    /// `FLAG_` bits; bit 0 says that the request is kept.
    pub flags: u8,
    /// gRPC code; 0 when all is well.
    pub result: u8,
    /// Which thread: see [`THREADS`].
    pub thread: u8,
    /// Member clock at the start of the step.
    pub clock: u64,
    /// Member clock at its end, where its changes take effect. Equal for marks.
    pub clock_end: u64,
    /// Nanoseconds since the member's start.
    pub at_ns: u64,
    /// How long it took, in nanoseconds.
    pub took_ns: u64,
    /// Request or round; 0 for loop stages that serve many.
    pub id: u64,
    /// Joins a send to its receive (stream number in the upper 24 bits, frame below), or a read to
    /// its round; 0 for none.
    pub link: u64,
    /// The stage's fields, in the order of [`Stage::fields`]. Read them by `field!`.
    pub fields: [u64; 8],
    /// The key that the request names, at most 88 bytes, where it was captured.
    pub key: Option<KeyText>,
}

/// The beginning of a key, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyText {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How long the key really is.
    pub length: u64,
}

/// Names of threads, by the number that records carry.
pub const THREADS: &[&str] =
    &["other", "grpc", "peer", "raft", "wal", "apply", "commit", "background"];

/// What was heard of a cluster: the members and their events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// The members, in the order of their first hello; events name them by place.
    pub members: Vec<MemberInfo>,
    /// The events, in the order in which they were heard.
    pub events: Vec<Event>,
    /// Records known to be lost, per member.
    pub dropped: Vec<u64>,
}

impl Event {
    /// The number of the field with this name, if the stage has one. For a name that is known only
    /// at run time; `field!` reads one that is known while compiling, and checks it.
    pub fn field(&self, name: &str) -> Option<u64> {
        self.named().find(|(field, _)| field.name == name).map(|(_, number)| number)
    }

    /// All fields of the stage with their numbers, in the order of [`Stage::fields`].
    pub fn named(&self) -> impl Iterator<Item = (&'static Field, u64)> {
        self.stage.fields().iter().zip(self.fields)
    }

    /// The number of the field that the event's own stage has among these. `field!` calls it.
    pub fn number(&self, slots: &[Slot]) -> u64 {
        Slot::find(Some(self.stage), slots).map_or(0, |at| self.fields[at])
    }

    /// Sets the field at this place. `set!` calls it, and finds the place.
    pub fn set(&mut self, slot: usize, value: u64) {
        self.fields[slot] = value;
    }
}
