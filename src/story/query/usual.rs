//! How long a step usually takes on its member, and what was unusual about a request.
//!
//! Members record the figures beside their steps (the stage `usual`): for each stage, and for an
//! rpc by its method, the median and the 99th percentile of the last minutes. A step is compared
//! with the figures that its member had when the step ended.
//!
//! Invariant: with fewer than [`SAMPLES_MIN`] samples nothing is concluded.

use std::collections::HashMap;

use super::{
    path::{Segment, Wait},
    requests::add,
};
use crate::{
    field, fields,
    story::{Event, Recording},
    trace::{
        METHODS,
        record::{FLAG_NOISE, Kind},
        stage::Stage,
        waiting::is_waiting,
    },
};

/// The fewest samples with which a step is compared.
pub const SAMPLES_MIN: u64 = 20;
/// The fewest samples of which one in a hundred says anything.
pub const P99_SAMPLES_MIN: u64 = 100;
/// How many times the median a request takes if it is unusual.
const TIMES_MIN: u64 = 2;

/// How long something usually takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    /// The median, in nanoseconds.
    pub p50_ns: u64,
    /// Only one in a hundred takes longer, in nanoseconds.
    pub p99_ns: u64,
    /// The number of samples behind it.
    pub samples: u64,
}

impl Usual {
    /// Whether there are samples enough to compare.
    pub fn is_known(&self) -> bool {
        SAMPLES_MIN <= self.samples
    }

    /// The 99th percentile, if there are samples enough for one.
    pub fn p99(&self) -> Option<u64> {
        (P99_SAMPLES_MIN <= self.samples).then_some(self.p99_ns)
    }
}

/// Whether the usual duration of this stage says anything: that of `cpu.wait` is the time between
/// two looks at the threads, and no process usually stands still.
fn is_compared(stage: Stage) -> bool {
    !matches!(stage, Stage::LockWait | Stage::CpuWait | Stage::ProcessStalled)
}

/// A member's place, its start, the stage, and the method of an rpc.
type What = (u8, u16, Stage, u64);

/// The figures of all members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usuals {
    /// In the order of time.
    by_time: HashMap<What, Vec<(u64, Usual)>>,
}

impl Usuals {
    /// Reads the figures of a recording.
    pub fn of(recording: &Recording) -> Usuals {
        let mut all = Usuals::default();
        for event in recording.events.iter().filter(|event| event.stage == Stage::Usual) {
            let [stage, method, p50_ns, p99_ns, samples] =
                fields!(event, Usual: stage, method, p50, p99, samples);
            let stage = u8::try_from(stage).ok().and_then(Stage::from_number);
            let Some(stage) = stage else { continue };
            let known = all.by_time.entry((event.member, event.boot, stage, method)).or_default();
            known.push((event.at_ns, Usual { p50_ns, p99_ns, samples }));
        }
        all.by_time.values_mut().for_each(|list| list.sort_by_key(|(at, _)| *at));
        all
    }

    /// Whether no member has recorded any.
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }

    /// How long this step usually took at that time: by the last figure before its end or, if there
    /// was none with samples enough, by the first one after it. `None` for steps that take no time
    /// or are meant to wait, and for heartbeats, which are no samples.
    pub fn of_step(&self, event: &Event) -> Option<Usual> {
        if event.kind != Kind::Span || event.flags & FLAG_NOISE != 0 {
            return None;
        }
        let method = if event.stage == Stage::Rpc { field!(event, Rpc, method) } else { 0 };
        let name = usize::try_from(method).ok().and_then(|method| METHODS.get(method));
        if !is_compared(event.stage) || name.is_some_and(|name| is_waiting(name)) {
            return None;
        }
        let list = self.by_time.get(&(event.member, event.boot, event.stage, method))?;
        let ended = event.at_ns.saturating_add(event.took_ns);
        let later = list.partition_point(|(at, _)| *at <= ended);
        let (before, after) = list.split_at(later);
        let is_known = |(_, usual): &&(u64, Usual)| usual.is_known();
        let known = before.iter().rfind(is_known).or_else(|| after.iter().find(is_known));
        known.or_else(|| before.last()).or_else(|| after.first()).map(|(_, usual)| *usual)
    }
}

/// A request's duration beside the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It took longer than usual.
    Unusual {
        /// How long requests of its method usually take on its member.
        usual: Usual,
        /// The piece of its path that explains it best.
        piece: Option<Piece>,
    },
    /// Its rpc did not, but much time passed before it or after it.
    Outside {
        /// How much, in nanoseconds.
        outside_ns: u64,
        /// The piece of its path that explains it best.
        piece: Option<Piece>,
    },
    /// There are too few samples of its method on its member to tell.
    TooFew(Usual),
}

/// A piece of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The piece.
    pub segment: Segment,
    /// Its part of the whole, in percent.
    pub percent: u64,
    /// How long it usually takes, if enough samples are known.
    pub usual: Option<Usual>,
}

/// Compares a request with what is usual. `rpc` is the end of its rpc, and `path` its critical
/// path. `None` if nothing is unusual, or nothing usual is known.
pub fn finding(
    recording: &Recording,
    usuals: &Usuals,
    rpc: usize,
    path: &[Segment],
) -> Option<Finding> {
    let event = &recording.events[rpc];
    let usual = usuals.of_step(event)?;
    if !usual.is_known() {
        return Some(Finding::TooFew(usual));
    }
    let is_long = usual.p50_ns.saturating_mul(TIMES_MIN) <= event.took_ns
        && usual.p99().is_none_or(|p99| p99 < event.took_ns);
    if is_long {
        return Some(Finding::Unusual { usual, piece: longest(recording, usuals, path) });
    }
    let mut whole_ns = 0;
    path.iter().for_each(|segment| add(&mut whole_ns, segment.ns));
    let outside_ns = whole_ns.saturating_sub(event.took_ns);
    let [p50, p99] = with_edges(recording, usuals, usual, path);
    let is_outside = event.took_ns <= outside_ns && p50.saturating_mul(TIMES_MIN) <= whole_ns;
    (is_outside && p99 < whole_ns)
        .then(|| Finding::Outside { outside_ns, piece: longest(recording, usuals, path) })
}

/// The usual duration of an rpc, and its p99, with those of the steps before it and after it, as
/// far as these are known.
fn with_edges(recording: &Recording, usuals: &Usuals, rpc: Usual, path: &[Segment]) -> [u64; 2] {
    let mut all = [rpc.p50_ns, rpc.p99().unwrap_or(0)];
    for segment in path {
        let is_edge = matches!(segment.wait, Wait::Step(stage) if stage.is_at_edge());
        let usual =
            of_piece(recording, usuals, segment).filter(|usual| is_edge && usual.is_known());
        if let Some(usual) = usual {
            add(&mut all[0], usual.p50_ns);
            add(&mut all[1], usual.p99().unwrap_or(0));
        }
    }
    all
}

/// The piece that exceeds its usual duration most; or the longest, if it is longer than that excess
/// and its usual duration is unknown.
fn longest(recording: &Recording, usuals: &Usuals, path: &[Segment]) -> Option<Piece> {
    let total = path.iter().map(|segment| u128::from(segment.ns)).sum::<u128>().max(1);
    let pieces = path.iter().map(|segment| {
        let percent = u64::try_from(u128::from(segment.ns) * 100 / total).unwrap_or(100);
        let usual = of_piece(recording, usuals, segment);
        Piece { segment: *segment, percent, usual: usual.filter(Usual::is_known) }
    });
    pieces.max_by_key(|piece| {
        piece.segment.ns.saturating_sub(piece.usual.map_or(0, |usual| usual.p50_ns))
    })
}

/// How long a piece of a path usually takes: only steps are counted.
pub fn of_piece(recording: &Recording, usuals: &Usuals, segment: &Segment) -> Option<Usual> {
    match segment.wait {
        Wait::Step(stage) => {
            let event = Some(&recording.events[segment.to]);
            usuals.of_step(event.filter(|event| event.stage == stage)?)
        }
        Wait::Between(..)
        | Wait::HandOver(_)
        | Wait::Network(..)
        | Wait::SilentLeader
        | Wait::NoLeader
        | Wait::InVain(_)
        | Wait::Unknown(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::query::path::{Point, Side};

    const PUT: u64 = 2;
    const MS: u64 = 1_000_000;

    fn span(stage: Stage, at_ns: u64, took_ns: u64, fields: &[(&str, u64)]) -> Event {
        let kind = Kind::Span;
        Event { at_ns, took_ns, kind, ..Event::mark(0, stage, 1) }.with(fields)
    }

    fn figure(stage: Stage, method: u64, at_ns: u64, (p50, samples): (u64, u64)) -> Event {
        let p99 = 3 * p50;
        let fields = [("stage", stage as u64), ("method", method), ("p50", p50), ("p99", p99)];
        let mut event = span(Stage::Usual, at_ns, 0, &fields);
        event.kind = Kind::Keyframe;
        event.with(&[("samples", samples)])
    }

    /// A put of this duration, 71 % of it for its fsync.
    fn put(took_ns: u64, known: (u64, u64)) -> (Recording, [Segment; 2]) {
        let fsync_ns = took_ns * 71 / 100;
        let events = vec![
            figure(Stage::Rpc, PUT, 0, known),
            figure(Stage::WalFsync, 0, 0, (MS / 16, 100)),
            span(Stage::Rpc, MS, took_ns, &[("method", PUT)]),
            span(Stage::WalFsync, MS, fsync_ns, &[]),
        ];
        let rest = Point { stage: Stage::WalFsync, side: Side::End };
        let end = Point { stage: Stage::Rpc, side: Side::End };
        let piece = |wait, to, ns| Segment {
            from: 2,
            to,
            member: 0,
            wait,
            ns,
            until: 0,
            clocks: [(0, 1); 2],
        };
        let path = [
            piece(Wait::Step(Stage::WalFsync), 3, fsync_ns),
            piece(Wait::Between(rest, end), 2, took_ns - fsync_ns),
        ];
        (Recording { members: vec![], events, dropped: vec![] }, path)
    }

    fn found(took_ns: u64, known: (u64, u64)) -> Option<Finding> {
        let (recording, path) = put(took_ns, known);
        finding(&recording, &Usuals::of(&recording), 2, &path)
    }

    #[test]
    fn a_slow_request_is_explained_by_the_piece_that_is_longest_beyond_its_usual() {
        let Some(Finding::Unusual { usual, piece }) = found(30 * MS, (MS, 100)) else { panic!() };
        let piece = piece.unwrap();
        assert_eq!(
            (MS, 71, Some(MS / 16)),
            (usual.p50_ns, piece.percent, piece.usual.map(|u| u.p50_ns))
        );
        assert_eq!(Wait::Step(Stage::WalFsync), piece.segment.wait);
    }

    #[test]
    fn nothing_is_said_of_a_usual_request_and_too_few_samples_are_called_so() {
        assert_eq!(None, found(3 * MS / 2, (MS, 100)), "less than twice");
        assert_eq!(None, found(5 * MS / 2, (MS, 100)), "within the p99");
        assert!(matches!(found(5 * MS / 2, (MS, 99)), Some(Finding::Unusual { .. })), "no p99");
        assert!(matches!(found(30 * MS, (MS, 19)), Some(Finding::TooFew(_))));
        let (mut recording, path) = put(30 * MS, (MS, 100));
        recording.events[0].stage = Stage::Keyframe;
        assert_eq!(None, finding(&recording, &Usuals::of(&recording), 2, &path));
    }

    /// Goal: what the caller waited for before the rpc is unusual too.
    #[test]
    fn a_request_that_waited_in_its_socket_is_explained_by_that() {
        let (mut recording, [fsync, rest]) = put(MS, (MS, 100));
        recording.events.push(figure(Stage::SocketQueue, 0, 0, (MS / 100, 100)));
        recording.events.push(span(Stage::SocketQueue, MS, 90 * MS, &[]));
        let wait = Wait::Step(Stage::SocketQueue);
        let queue = Segment { from: 5, to: 5, wait, ns: 90 * MS, ..fsync };
        let usuals = Usuals::of(&recording);
        let of = |path: &[Segment]| finding(&recording, &usuals, 2, path);
        let Some(Finding::Outside { outside_ns, piece }) = of(&[queue, fsync, rest]) else {
            panic!("{:?}", of(&[queue, fsync, rest]))
        };
        let piece = piece.unwrap();
        assert_eq!((90 * MS, wait, 98), (outside_ns, piece.segment.wait, piece.percent));
        assert_eq!(Some(MS / 100), piece.usual.map(|usual| usual.p50_ns));
        let short = Segment { ns: MS / 10, ..queue };
        assert_eq!(None, of(&[short, fsync, rest]), "less than the rpc");
    }

    #[test]
    fn the_time_between_two_looks_at_the_threads_is_compared_with_nothing() {
        let events = [Stage::CpuWait, Stage::ProcessStalled]
            .map(|stage| [figure(stage, 0, 0, (100 * MS, 100)), span(stage, MS, MS, &[])]);
        let events = events.concat();
        let recording = Recording { members: vec![], events, dropped: vec![] };
        let usuals = Usuals::of(&recording);
        assert!(recording.events.iter().all(|event| usuals.of_step(event).is_none()));
    }

    /// Goal: a step is compared with the figure of its time, not with a later one.
    #[test]
    fn the_last_figure_before_the_end_counts() {
        let events = [(1, 10), (5, 50), (9, 90)]
            .map(|(at, p50)| figure(Stage::WalFsync, 0, at * MS, (p50, 100)));
        let recording = Recording { members: vec![], events: events.to_vec(), dropped: vec![] };
        let usuals = Usuals::of(&recording);
        let of = |at_ns: u64, took_ns| {
            let step = span(Stage::WalFsync, at_ns, took_ns, &[]);
            usuals.of_step(&step).map(|usual| usual.p50_ns)
        };
        assert_eq!(
            [Some(10), Some(10), Some(50), Some(90)],
            [of(0, 0), of(4 * MS, 0), of(4 * MS, MS), of(10 * MS, 0)]
        );
        let few = figure(Stage::WalWrite, 0, MS, (1, 19));
        let enough = figure(Stage::WalWrite, 0, 9 * MS, (90, 20));
        let recording = Recording { members: vec![], events: vec![few, enough], dropped: vec![] };
        let step = span(Stage::WalWrite, 2 * MS, 1, &[]);
        let usual = Usuals::of(&recording).of_step(&step).unwrap();
        assert_eq!((90, 20), (usual.p50_ns, usual.samples));
        let waits = span(Stage::LockWait, 10 * MS, 0, &[]);
        assert_eq!(None, usuals.of_step(&waits));
    }
}
