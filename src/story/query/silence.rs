//! Processes that were not heard of any more: their records end before those of the others.
//!
//! ```text
//!   etcd-01   ─●──●──●                       its newest record
//!   etcd-02   ─●──●──●──●──●──●──●──●──▶     the others go on
//!                    ├────── silence ─────┤
//! ```
//!
//! A process that was killed leaves no record of that. Without a later start it looks the same as
//! one that stands still, and as one whose records do not arrive. So what had not ended in its
//! records is neither under way nor over: how it ended is unknown.
//!
//! A process that runs writes a keyframe a second at least, also where its other records are
//! thinned out (`thinned`). So only the silence of one that has written keyframes proves anything:
//! a recording that is cut to stories has none. The clocks of two members are compared only if
//! their messages have told how these are set.

use super::thinned::FRAME_NS;
use crate::{
    story::{Recording, order::Order},
    trace::{record::Kind, stage::Stage},
};

/// How long the others go on without a record of a process until it counts as silent, in
/// nanoseconds: longer than two keyframes are ever apart.
pub const SILENT_NS: i128 = 1_500_000_000;
/// The same while all its keyframes are kept, ten a second.
const SILENT_IF_DENSE_NS: i128 = 1_000_000_000;

/// The newest process of a member, when it was not heard of any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The member, by position.
    pub member: u8,
    /// Its newest start.
    pub boot: u16,
    /// Position of its newest record.
    pub last: usize,
    /// When it wrote that, on the common axis in nanoseconds.
    pub from: i128,
    /// When the others wrote their newest record.
    pub to: i128,
    /// Whether it had been asked to stop.
    pub was_stopping: bool,
}

/// The silent processes of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Silences(Vec<Silence>);

impl Silences {
    /// Reads a recording once.
    pub fn of(recording: &Recording, order: &Order) -> Silences {
        let mut newest: Vec<Option<Process>> = vec![None; recording.members.len()];
        for (at, (event, time)) in recording.events.iter().zip(&order.times).enumerate() {
            let Some(known) = newest.get_mut(usize::from(event.member)) else { continue };
            let begun = Process { boot: event.boot, ..Process::begun(at, *time) };
            let process = known.get_or_insert(begun);
            if process.boot < event.boot {
                *process = begun;
            }
            if event.boot < process.boot {
                continue;
            }
            if process.time <= *time {
                (process.last, process.time) = (at, *time);
            }
            if (event.stage, event.kind) == (Stage::Keyframe, Kind::Keyframe) {
                process.frames = [process.frames[1], Some(*time)];
            }
            process.was_stopping |= event.stage == Stage::MemberStop;
        }
        let all = (0_u8..).zip(newest).filter_map(|(member, known)| Some((member, known?)));
        let is_set =
            |(member, process): &(u8, Process)| order.clocks.are_told(*member, process.boot);
        let all: Vec<(u8, Process)> = all.filter(is_set).collect();
        let silence = |(member, process): &(u8, Process)| {
            let others = all.iter().filter(|(other, _)| other != member);
            let to = others.map(|(_, other)| other.time).max()?;
            let Process { boot, last, time, was_stopping, .. } = *process;
            let silence = Silence { member: *member, boot, last, from: time, to, was_stopping };
            (process.silent_ns()? < to - time).then_some(silence)
        };
        Silences(all.iter().filter_map(silence).collect())
    }

    /// The silence of a process: a member, by position, and its start.
    pub fn of_process(&self, (member, boot): (u8, u16)) -> Option<Silence> {
        self.0.iter().find(|known| (known.member, known.boot) == (member, boot)).copied()
    }
}

/// What the records of a member's newest process say of it.
#[derive(Clone, Copy, Debug)]
struct Process {
    boot: u16,
    last: usize,
    time: i128,
    /// When it wrote the newest keyframe but one, and the newest.
    frames: [Option<i128>; 2],
    was_stopping: bool,
}

impl Process {
    fn begun(last: usize, time: i128) -> Process {
        Process { boot: 0, last, time, frames: [None; 2], was_stopping: false }
    }

    /// How long it may be without a record until it counts as silent; `None` if it has written no
    /// keyframe.
    fn silent_ns(&self) -> Option<i128> {
        let [older, newer] = self.frames;
        let apart = older.map(|older| newer.map(|newer| newer - older));
        let is_dense = apart.flatten().is_some_and(|apart| apart <= i128::from(FRAME_NS));
        newer.map(|_| if is_dense { SILENT_IF_DENSE_NS } else { SILENT_NS })
    }
}
