//! Whether a member's records of some time are all there, or only those of stories.
//!
//! ```text
//!   keyframes   ┊     ┊     ┊     ┊     ┊     ┊ ┊ ┊ ┊ ┊ ┊ ┊ ┊ ┊
//!               only stories, one keyframe a second   everything: heartbeats too
//! ```
//!
//! Of older times a member keeps its stories, and one keyframe a second (`trace/collect/history`).
//! Then the newest message that a recording holds need not be the last one that came: heartbeats
//! between it and the event in question may have been forgotten. Where keyframes are as close as
//! they are written, nothing was.

use std::collections::{BTreeSet, HashMap};

use crate::{
    story::{Event, Recording},
    trace::{record::Kind, stage::Stage},
};

/// How many messages of a stream before one show whether all of them were kept.
const BEFORE: usize = 3;
/// The part of a link that numbers the frames of a stream.
const FRAME: u64 = (1 << 40) - 1;

/// Whether the messages of a stream that were received just before this one, a receipt, are in the
/// recording, by the numbers of their frames. Without numbers that is not known.
pub(super) fn is_dense(recording: &Recording, receipt: usize) -> bool {
    let own = &recording.events[receipt];
    if own.link == 0 {
        return false;
    }
    let before = recording.events.iter().filter(|event| {
        (event.stage, event.member, event.boot) == (own.stage, own.member, own.boot)
            && event.kind != Kind::Begin
            && event.link & !FRAME == own.link & !FRAME
            && event.link < own.link
    });
    let mut links: BTreeSet<u64> = before.map(|event| event.link).collect();
    (1..=BEFORE as u64).all(|back| links.pop_last().is_none_or(|link| link == own.link - back))
}

/// The farthest that two keyframes of a member are apart while all of them are kept.
pub const FRAME_NS: u64 = 150_000_000;

/// When each start of a member wrote keyframes, on the common axis in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    times: HashMap<(u8, u16), Vec<i128>>,
}

impl Frames {
    /// Notes an event, if it is a keyframe. They come in the order of time.
    pub(super) fn note(&mut self, event: &Event, time: i128) {
        if (event.stage, event.kind) == (Stage::Keyframe, Kind::Keyframe) {
            self.times.entry((event.member, event.boot)).or_default().push(time);
        }
    }

    /// Whether all records that this start of the member has made in this time were kept, as far as
    /// they were written and sent.
    pub(super) fn is_whole(&self, lane: (u8, u16), (from, to): (i128, i128)) -> bool {
        let frame = i128::from(FRAME_NS);
        let times = self.times.get(&lane).map_or(&[][..], Vec::as_slice);
        let inside = times.iter().copied().filter(|time| (from..=to).contains(time));
        let mut last = from;
        for time in inside.chain([to]) {
            if frame < time - last {
                return false;
            }
            last = time;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_whole_where_keyframes_are_as_close_as_they_are_written() {
        let mut frames = Frames::default();
        for time in [100, 200, 300, 1_300, 2_300] {
            let frame = Event { kind: Kind::Keyframe, ..Event::mark(0, Stage::Keyframe, time) };
            frames.note(&frame, i128::from(time) * 1_000_000);
        }
        let is_whole = |from: i128, to: i128| {
            frames.is_whole((0, frames_boot()), (from * 1_000_000, to * 1_000_000))
        };
        assert!(is_whole(90, 400));
        assert!(!is_whole(90, 500), "a keyframe is missing");
        assert!(!is_whole(1_250, 2_350), "one a second");
        assert!(is_whole(2_310, 2_400), "too short for a keyframe");
        assert!(!frames.is_whole((1, frames_boot()), (0, 300_000_000)), "of another member");
    }

    fn frames_boot() -> u16 {
        Event::mark(0, Stage::Keyframe, 0).boot
    }
}
