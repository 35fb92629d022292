//! Signs of life: whether a member runs at some moment, and since when it does not.
//!
//! ```text
//!   records of one member  ─●──●──●──●─ start 2 ─●──●──●─         ●──●──────────▶
//!                                    ▲ DOWN      starting  PAUSED        SILENT
//! ```
//!
//! A member that sends nothing may be down, stand still, or only be cut off; from the outside all
//! three look the same. In a recording, what it sent later decides: a later start means that the
//! process had ended, and `process.stalled` that it stood still. Where nothing decides, the member
//! is silent. Of live members, the supervisor that runs them knows (see [`super::room`]).
//!
//! Limit: of old records a member keeps one keyframe a second. Where keyframes are that far apart,
//! three tenths of a second without a record prove nothing.

use std::collections::BTreeMap;

use glass_etcd::{
    story::{
        Recording,
        order::Order,
        query::{stalls::standstills, thinned::FRAME_NS},
    },
    trace::{Kind, Stage},
};

use super::axis::clipped;

/// Silence in nanoseconds after which a member counts as silent.
pub(crate) const SILENT_NS: u64 = 300_000_000;
/// The time between two keyframes of a member that runs, as long as all of them are kept.
const FRAME_GAP_NS: u64 = 100_000_000;
/// The same where records are thin.
const SILENT_IF_THIN_NS: u64 = 1_500_000_000;

/// Whether a member runs, and sends records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It has never sent any.
    Never,
    /// Its process started this many nanoseconds ago, and is not ready.
    Starting(u64),
    /// Its process has ended, or its endpoint does not answer, for this many nanoseconds.
    Down(u64),
    /// Its process has stood still for this many nanoseconds.
    Paused(u64),
    /// It has sent nothing for this many nanoseconds.
    Silent(u64),
    /// It has sent something recently.
    Fresh,
}

/// The signs of one member, all in nanoseconds since 1970 on the axis of the recording's order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signs {
    boots: BTreeMap<u16, Boot>,
    frames: Vec<u64>,
    /// When it stood still, from and to.
    stalls: Vec<(u64, u64)>,
}

/// One start of the member.
#[derive(Clone, Copy, Debug, Default)]
struct Boot {
    began: u64,
    first: u64,
    last: u64,
    ready: Option<u64>,
    stops: Option<u64>,
}

impl Signs {
    /// The signs of all members, by position.
    pub(crate) fn of(recording: &Recording, order: &Order) -> Vec<Signs> {
        let mut all = vec![Signs::default(); recording.members.len()];
        for stood in standstills(recording, order) {
            if let Some(signs) = all.get_mut(usize::from(stood.member)) {
                signs.stalls.push((clipped(stood.from), clipped(stood.to)));
            }
        }
        for (event, time) in recording.events.iter().zip(&order.times) {
            let Some(signs) = all.get_mut(usize::from(event.member)) else { continue };
            let at = clipped(*time);
            let boot =
                signs.boots.entry(event.boot).or_insert(Boot { first: at, ..Boot::default() });
            (boot.first, boot.last) = (boot.first.min(at), boot.last.max(at));
            match event.stage {
                _ if event.kind == Kind::Begin => {}
                Stage::MemberReady => boot.ready = Some(at),
                Stage::MemberStop => boot.stops = Some(at),
                Stage::Keyframe => signs.frames.push(at),
                _ => {}
            }
        }
        for ((signs, member), place) in all.iter_mut().zip(&recording.members).zip(0..) {
            signs.frames.sort_unstable();
            for info in &member.boots {
                if let Some(boot) = signs.boots.get_mut(&info.boot) {
                    boot.began = order.clocks.common_ns(place, info.boot, info.wall_ns);
                }
            }
        }
        all
    }

    /// Whether the member runs at this moment, if its last record before it is from `heard`.
    pub(crate) fn heard(&self, at: u64, heard: Option<u64>) -> Heard {
        let next = self.boots.values().find(|boot| at < boot.first);
        // Of a start that the table of members lacks, nobody knows when it began.
        if let Some(boot) = next.filter(|boot| boot.began != 0 && boot.began <= at) {
            return Heard::Starting(at.saturating_sub(boot.began));
        }
        let Some(heard) = heard else { return Heard::Never };
        let ago = at.saturating_sub(heard);
        let stall = self.stalls.iter().find(|(from, to)| *from <= at && at < *to);
        let stops = self.boot(at).and_then(|boot| boot.stops);
        let has_ended = stops.is_some_and(|stops| stops <= at);
        // Of a start that another one followed, the last record is known: it ended soon after.
        let is_over = next.is_some() && self.boot(at).is_some_and(|boot| boot.last <= heard);
        match (ago, stall) {
            (_, Some((from, _))) => Heard::Paused(at - from),
            (FRAME_GAP_NS.., _) if is_over => Heard::Down(ago),
            (0..=SILENT_NS, _) => Heard::Fresh,
            _ if next.is_some() || has_ended => Heard::Down(ago),
            (0..=SILENT_IF_THIN_NS, _) if self.is_thin(at) => Heard::Fresh,
            _ => Heard::Silent(ago),
        }
    }

    /// Whether the keyframes before this moment are those of old records.
    fn is_thin(&self, at: u64) -> bool {
        match self.frames[..self.frames.partition_point(|frame| *frame <= at)] {
            [.., older, newer] => (FRAME_NS..=SILENT_IF_THIN_NS).contains(&(newer - older)),
            _ => false,
        }
    }

    /// The start whose records had begun at this moment.
    fn boot(&self, at: u64) -> Option<&Boot> {
        self.boots.values().rev().find(|boot| boot.first <= at)
    }

    /// For how long the process had run at this moment; `None` before its first record.
    pub(crate) fn runs_for(&self, at: u64) -> Option<u64> {
        let boot = self.boot(at).filter(|boot| boot.began != 0)?;
        Some(at.saturating_sub(boot.began))
    }

    /// The same while the member votes and writes, but did not serve clients before a later record.
    pub(crate) fn starts_for(&self, at: u64) -> Option<u64> {
        let is_early = self.boot(at)?.ready.is_some_and(|ready| at < ready);
        self.runs_for(at).filter(|_| is_early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glass_etcd::story::{BootInfo, Event, MemberInfo};

    const MS: u64 = 1_000_000;

    /// A member with the stages at these milliseconds, each with its boot and duration.
    fn signs(steps: &[(u64, u16, Stage, u64)]) -> Signs {
        let boots = [(1, 0), (2, 5_000 * MS)];
        let boots = boots.map(|(boot, ms)| BootInfo { boot, wall_ns: 1_000_000 * MS + ms });
        let member = MemberInfo {
            member_id: 7,
            cluster_id: 1,
            name: "etcd-01".to_owned(),
            version: String::new(),
            boots: boots.to_vec(),
            members: Vec::new(),
        };
        let event = |(clock, (ms, boot, stage, took)): (u64, &(u64, u16, Stage, u64))| Event {
            boot: *boot,
            at_ns: (ms - took) * MS - if *boot == 2 { 5_000 * MS } else { 0 },
            took_ns: took * MS,
            clock_end: 2 * clock + 1,
            kind: if *took == 0 { Kind::Mark } else { Kind::Span },
            ..Event::mark(0, *stage, 2 * clock)
        };
        let events = (1..).zip(steps).map(event).collect();
        let recording = Recording { members: vec![member], events, dropped: vec![0] };
        Signs::of(&recording, &Order::of(&recording)).remove(0)
    }

    fn at(ms: u64) -> u64 {
        (1_000_000 + ms) * MS
    }

    #[test]
    fn a_later_start_proves_that_the_process_had_ended() {
        let frames = [100, 200, 300].map(|ms| (ms, 1, Stage::Keyframe, 0));
        let cut = signs(&frames);
        assert_eq!(cut.heard(at(400), Some(at(300))), Heard::Fresh);
        assert_eq!(cut.heard(at(900), Some(at(300))), Heard::Silent(600 * MS));
        let later = [(5_300, 2, Stage::Keyframe, 0), (5_500, 2, Stage::MemberReady, 0)];
        let restarted = signs(&[frames.as_slice(), &later].concat());
        assert_eq!(restarted.heard(at(900), Some(at(300))), Heard::Down(600 * MS));
        assert_eq!(restarted.heard(at(350), Some(at(300))), Heard::Fresh);
        assert_eq!(restarted.heard(at(450), Some(at(300))), Heard::Down(150 * MS), "no keyframe");
        assert_eq!(restarted.heard(at(5_100), Some(at(300))), Heard::Starting(100 * MS));
        assert_eq!(restarted.heard(at(5_400), Some(at(5_300))), Heard::Fresh, "it votes already");
        assert_eq!(restarted.starts_for(at(5_400)), Some(400 * MS));
        assert_eq!(restarted.starts_for(at(5_600)), None);
        assert_eq!(restarted.runs_for(at(5_600)), Some(600 * MS));
    }

    #[test]
    fn a_member_that_was_told_to_stop_is_down_when_it_is_silent() {
        let stopped = signs(&[(100, 1, Stage::Keyframe, 0), (200, 1, Stage::MemberStop, 0)]);
        assert_eq!(stopped.heard(at(300), Some(at(200))), Heard::Fresh, "it is still at work");
        assert_eq!(stopped.heard(at(900), Some(at(200))), Heard::Down(700 * MS));
    }

    #[test]
    fn a_standstill_is_a_pause_from_its_beginning_to_its_end() {
        let stalled = signs(&[
            (100, 1, Stage::Keyframe, 0),
            (200, 1, Stage::Keyframe, 0),
            (2_200, 1, Stage::ProcessStalled, 2_000),
        ]);
        assert_eq!(stalled.heard(at(1_200), Some(at(200))), Heard::Paused(1_000 * MS));
        assert_eq!(stalled.heard(at(2_300), Some(at(2_200))), Heard::Fresh);
    }

    /// Method: the recording's table has no third start.
    #[test]
    fn a_start_of_unknown_time_is_not_said_to_have_begun() {
        let frames = [(100, 1, Stage::Keyframe, 0), (200, 3, Stage::Keyframe, 0)];
        let mut unknown = signs(&frames);
        unknown.boots.get_mut(&3).unwrap().first = at(900);
        assert_eq!(unknown.heard(at(150), Some(at(100))), Heard::Fresh);
        assert_eq!(unknown.heard(at(800), Some(at(100))), Heard::Down(700 * MS));
    }

    #[test]
    fn where_records_are_thin_a_second_without_one_is_no_silence() {
        let thin = signs(&[1_000, 2_000].map(|ms| (ms, 1, Stage::Keyframe, 0)));
        assert_eq!(thin.heard(at(2_900), Some(at(2_000))), Heard::Fresh);
        assert_eq!(thin.heard(at(4_000), Some(at(2_000))), Heard::Silent(2_000 * MS));
        let dense = signs(&[1_900, 2_000].map(|ms| (ms, 1, Stage::Keyframe, 0)));
        assert_eq!(dense.heard(at(2_900), Some(at(2_000))), Heard::Silent(900 * MS));
    }
}
