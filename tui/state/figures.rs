//! Measures of each member over time, from its keyframes: what the cluster view draws as lines.
//!
//! ```text
//!   keyframes  ┊··········┊··········┊·······   ┊
//!   seconds    ┊    0     ┊    1     ┊    2     ┊ running
//!   bars       ┊    ▃     ┊    ▇     ┊    ▅     ┊ not drawn yet
//! ```
//!
//! A bar is one whole second, so bars do not change once they are drawn. The number beside them is
//! of the last second before the moment that is looked at. A second without a keyframe has no bar:
//! the member was down, stood still, or its records are gone.

use std::collections::BTreeMap;

use glass_etcd::{
    field, fields,
    story::{Event, Recording, order::Order},
    trace::{Kind, Stage, value::LEADER},
};

use super::axis::clipped;

const SECOND_NS: u64 = 1_000_000_000;
/// The oldest keyframe, in nanoseconds, that still says how a member is now.
const RECENT_NS: u64 = 1_500_000_000;
/// The shortest time, in nanoseconds, from which a rate is computed.
const RATE_MIN_NS: u64 = 90_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Requests that the member finished in a second.
    Requests,
    /// Of a second's fsyncs of the log, 99 of 100 took at most this many nanoseconds.
    Fsync,
    /// How many committed entries were not applied.
    Behind,
    /// Memory of the process, in bytes.
    Memory,
}

impl Measure {
    /// In the order of the screen.
    pub(crate) const ALL: [Measure; 4] =
        [Measure::Requests, Measure::Fsync, Measure::Behind, Measure::Memory];
}

/// The alarms that a member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarms {
    /// How many there are.
    pub(crate) count: u64,
    /// A member that has raised NOSPACE; 0 for none.
    pub(crate) no_space: u64,
    /// A member that has raised CORRUPT; 0 for none.
    pub(crate) corrupt: u64,
}

/// One keyframe of a member.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    /// On the axis of the recording's order.
    wall_ns: u64,
    boot: u16,
    behind: Option<u64>,
    seen: Option<u64>,
    /// Memory, fsyncs of the last second, and their p99. Older recordings do not have them.
    process: Option<[u64; 3]>,
    alarms: Option<Alarms>,
}

/// The keyframes of one member, by time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    frames: Vec<Frame>,
    /// When the member's records said that it led.
    led: Vec<u64>,
}

impl Figures {
    /// The figures of all members, by position.
    pub(crate) fn of(recording: &Recording, order: &Order) -> Vec<Figures> {
        let mut all: Vec<BTreeMap<(u16, u64), Frame>> =
            vec![BTreeMap::new(); recording.members.len()];
        let mut led = vec![Vec::new(); recording.members.len()];
        for (event, time) in recording.events.iter().zip(&order.times) {
            let place = usize::from(event.member);
            let Some(frames) = all.get_mut(place) else { continue };
            let wall_ns = clipped(*time);
            if event.kind == Kind::Keyframe && event.stage != Stage::Usual {
                let frame = frames.entry((event.boot, event.clock)).or_default();
                (frame.wall_ns, frame.boot) = (wall_ns, event.boot);
                learn(frame, event);
            }
            if says_led(event) {
                led[place].push(wall_ns);
            }
        }
        let figures = |(frames, mut led): (BTreeMap<_, Frame>, Vec<u64>)| {
            let mut frames: Vec<Frame> = frames.into_values().collect();
            frames.sort_by_key(|frame| frame.wall_ns);
            led.sort_unstable();
            Figures { frames, led }
        };
        all.into_iter().zip(led).map(figures).collect()
    }

    /// The keyframes up to this moment.
    fn until(&self, at: u64) -> &[Frame] {
        &self.frames[..self.frames.partition_point(|frame| frame.wall_ns <= at)]
    }

    /// The measure at this moment; `None` if no recent keyframe has it.
    pub(crate) fn number(&self, measure: Measure, at: u64) -> Option<u64> {
        let frames = self.until(at);
        let recent = frames.partition_point(|frame| frame.wall_ns.saturating_add(RECENT_NS) < at);
        match measure {
            Measure::Requests => {
                let last = frames[recent..].iter().rev().find(|frame| frame.seen.is_some())?;
                rate(frames, last, last.wall_ns.saturating_sub(SECOND_NS))
            }
            _ => newest(measure, &frames[recent..]),
        }
    }

    /// The measure in each of the last `count` whole seconds before this moment.
    pub(crate) fn bars(&self, measure: Measure, at: u64, count: usize) -> Vec<Option<u64>> {
        let running = at / SECOND_NS;
        let seconds = (1..=u64::try_from(count).unwrap_or(0)).rev();
        let bar = |back: u64| {
            let begin = running.checked_sub(back)? * SECOND_NS;
            let until = self.until(begin + SECOND_NS - 1);
            let before = until.partition_point(|frame| frame.wall_ns < begin);
            let own = &until[before..];
            match measure {
                Measure::Requests => {
                    let last = own.iter().rev().find(|frame| frame.seen.is_some())?;
                    rate(until, last, begin)
                }
                Measure::Behind => own.iter().filter_map(|frame| frame.behind).max(),
                _ => newest(measure, own),
            }
        };
        seconds.map(bar).collect()
    }

    /// When the member's records said last, up to this moment, that it led.
    pub(crate) fn led(&self, at: u64) -> Option<u64> {
        self.led[..self.led.partition_point(|led| *led <= at)].last().copied()
    }

    /// The alarms that the member knew at this moment.
    pub(crate) fn alarms(&self, at: u64) -> Option<Alarms> {
        self.until(at).iter().rev().find_map(|frame| frame.alarms)
    }
}

fn learn(frame: &mut Frame, event: &Event) {
    match event.stage {
        Stage::Keyframe => {
            let [commit, applied] = fields!(event, Keyframe: commit, applied);
            frame.behind = Some(commit.saturating_sub(applied));
        }
        Stage::KeyframeBackend => frame.seen = Some(field!(event, KeyframeBackend, seen)),
        Stage::KeyframeProcess => {
            frame.process = Some(fields!(event, KeyframeProcess: memory, fsyncs, fsync_p99));
            let [count, no_space, corrupt] =
                fields!(event, KeyframeProcess: alarms, no_space, corrupt);
            frame.alarms = Some(Alarms { count, no_space, corrupt });
        }
        _ => {}
    }
}

/// Whether the member led when it made this record, or just before.
fn says_led(event: &Event) -> bool {
    match event.stage {
        _ if event.kind == Kind::Begin => false,
        Stage::Keyframe => field!(event, Keyframe, role) == LEADER,
        Stage::RaftRole => fields!(event, RaftRole: role_old, role_new).contains(&LEADER),
        _ => false,
    }
}

/// The measure in the newest of these keyframes that has it; 0 memory is unknown.
fn newest(measure: Measure, frames: &[Frame]) -> Option<u64> {
    frames.iter().rev().find_map(|frame| match measure {
        Measure::Requests => None,
        Measure::Behind => frame.behind,
        Measure::Memory => frame.process.map(|[memory, ..]| memory).filter(|bytes| *bytes != 0),
        Measure::Fsync => frame.process.map(|[_, _, p99]| p99),
    })
}

/// Requests a second, from the last keyframe of the same start that is older than `begin` to
/// `last`. If there is none, the first one of that start counts.
fn rate(frames: &[Frame], last: &Frame, begin: u64) -> Option<u64> {
    let mut own = frames.iter().filter(|frame| frame.boot == last.boot && frame.seen.is_some());
    let first = own.clone().rev().find(|frame| frame.wall_ns <= begin).or_else(|| own.next())?;
    let ns = last.wall_ns.checked_sub(first.wall_ns).filter(|ns| RATE_MIN_NS <= *ns)?;
    let requests = u128::from(last.seen?.saturating_sub(first.seen?));
    // To the nearest number: keyframes are a little more than a second apart, and a single request
    // is not none.
    let ns = u128::from(ns);
    u64::try_from((requests * u128::from(SECOND_NS) + ns / 2) / ns).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use glass_etcd::{
        set,
        story::{BootInfo, MemberInfo},
    };

    const MS: u64 = 1_000_000;

    /// One member whose keyframes, each of them three records with one clock, have these
    /// milliseconds, boots and counts of requests.
    fn figures(frames: &[(u64, u16, u64)]) -> Figures {
        let boots = [1, 2].map(|boot| BootInfo { boot, wall_ns: 0 });
        let member = MemberInfo {
            member_id: 7,
            cluster_id: 1,
            name: "etcd-01".to_owned(),
            version: String::new(),
            boots: boots.to_vec(),
            members: Vec::new(),
        };
        let parts = [Stage::Keyframe, Stage::KeyframeBackend, Stage::KeyframeProcess];
        let mut events = Vec::new();
        for (clock, (ms, boot, seen)) in (1_u64..).zip(frames) {
            for stage in parts {
                let mut event = Event::mark(0, stage, clock);
                (event.kind, event.boot, event.at_ns) = (Kind::Keyframe, *boot, ms * MS);
                match stage {
                    Stage::Keyframe => {
                        set!(event, Keyframe, commit = seen + 3, applied = *seen);
                    }
                    Stage::KeyframeBackend => {
                        set!(event, KeyframeBackend, seen = *seen);
                    }
                    _ => {
                        let (fsyncs, p99) = (clock, 1_000 * clock);
                        set!(event, KeyframeProcess, fsyncs = fsyncs, fsync_p99 = p99);
                    }
                }
                events.push(event);
            }
        }
        let recording = Recording { members: vec![member], events, dropped: vec![0] };
        Figures::of(&recording, &Order::of(&recording)).remove(0)
    }

    #[test]
    fn a_bar_is_a_whole_second_and_a_second_without_a_keyframe_has_none() {
        let figures = figures(&[
            (1_900, 1, 100),
            (2_900, 1, 150),
            (4_900, 1, 350),
            (5_100, 1, 360),
            (5_900, 2, 0),
        ]);
        let bars = figures.bars(Measure::Requests, 5_950 * MS, 4);
        assert_eq!(bars, [None, Some(50), None, Some(100)], "the fifth second is not over");
        assert_eq!(figures.bars(Measure::Fsync, 5_000 * MS, 2), [None, Some(3_000)]);
        assert_eq!(figures.bars(Measure::Behind, 3_000 * MS, 1), [Some(3)]);
        assert_eq!(figures.bars(Measure::Memory, 3_000 * MS, 1), [None], "0 is unknown");
    }

    #[test]
    fn a_rate_does_not_reach_over_a_restart_and_an_old_number_is_unknown() {
        let figures = figures(&[(1_000, 1, 100), (2_000, 1, 150), (5_900, 2, 10), (6_400, 2, 40)]);
        let rate = |ms: u64| figures.number(Measure::Requests, ms * MS);
        assert_eq!(rate(2_000), Some(50));
        assert_eq!(rate(3_600), None, "no keyframe for 1.6 seconds");
        assert_eq!(rate(5_900), None, "one keyframe alone gives no rate");
        assert_eq!(rate(6_400), Some(60));
    }

    #[test]
    fn a_single_request_is_not_none() {
        let figures = figures(&[(900, 1, 7), (1_000, 1, 7), (2_050, 1, 8)]);
        assert_eq!(figures.number(Measure::Requests, 2_100 * MS), Some(1));
    }
}
