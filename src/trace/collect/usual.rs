//! How long each stage usually takes on this member.
//!
//! ```text
//!   spans that the drain copies ──▶ two histograms a stage ──▶ `usual` records, on change
//! ```
//!
//! The drain copies every span of a loop and of the requests that are kept by their id, so those
//! are the samples: counting them costs the threads that serve nothing. Requests that are pinned
//! because they failed or were slow do not count, and neither do heartbeats, failed and cancelled
//! steps: the sample would not be a fair one.
//!
//! A histogram is closed after a minute, if it has a hundred samples by then; the figures come from
//! the open one and the last closed one. So they cover the last minute at least, and a stage that
//! is seldom taken keeps its older samples. A bucket is an eighth of a power of two wide, and its
//! middle stands for it: a figure is off by a sixteenth at most.
//!
//! Invariants: no memory for a stage that was not taken; at most one record a stage and second.

use crate::{
    field, numbers,
    trace::{
        METHODS,
        record::{FLAG_CANCELLED, FLAG_ERROR, FLAG_NOISE, Kind, Record},
        stage::Stage,
    },
};

/// How long a histogram collects, in nanoseconds.
const OPEN_NS: u64 = 60_000_000_000;
/// The fewest samples with which a histogram is closed.
const CLOSED_MIN: u64 = 100;
/// How often a figure with new samples is recorded although it has hardly changed.
const REPEAT_NS: u64 = 30_000_000_000;
/// Buckets in a power of two.
const PARTS: u32 = 8;
/// Buckets: up to 2^43 nanoseconds, more than two hours.
const BUCKETS: usize = 8 * 41;

/// Durations, by bucket.
#[derive(Clone)]
struct Histogram {
    counts: Box<[u32; BUCKETS]>,
    samples: u64,
    opened_ns: u64,
}

/// The samples of one stage; of one method, for `rpc`.
struct Samples {
    open: Histogram,
    closed: Option<Histogram>,
    /// The figures of the last record, and when it was made.
    told: Option<(Figures, u64)>,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    p50: u64,
    p99: u64,
    samples: u64,
}

/// The samples of all stages: of `rpc` by method, then of the others by number.
pub(super) struct Usual {
    places: Vec<Option<Box<Samples>>>,
}

impl Default for Usual {
    fn default() -> Usual {
        Usual { places: (0..METHODS.len() + Stage::ALL.len()).map(|_| None).collect() }
    }
}

impl Usual {
    /// Counts a span that the drain has copied, unless it is no fair sample. The caller leaves out
    /// steps of requests that were pinned.
    pub(super) fn count(&mut self, record: &Record, now_ns: u64) {
        const UNFAIR: u8 = FLAG_ERROR | FLAG_CANCELLED | FLAG_NOISE;
        let head = record.head();
        let Some(stage) = record.stage() else { return };
        if head.kind != Kind::Span as u8 || head.flags & UNFAIR != 0 || head.result != 0 {
            return;
        }
        let place = match stage {
            Stage::Rpc => usize::try_from(field!(record, Rpc, method)).unwrap_or(0),
            stage => METHODS.len() + stage as usize,
        };
        if let Some(samples) = self.places.get_mut(place) {
            let samples = samples.get_or_insert_with(|| Box::new(Samples::new(now_ns)));
            samples.count(record.took_ns(), now_ns);
        }
    }

    /// The numbers of the `usual` records that are due: of figures with new samples that have
    /// changed, or were not repeated for half a minute.
    pub(super) fn due(&mut self, now_ns: u64) -> Vec<[u64; 8]> {
        let all = self.places.iter_mut().enumerate();
        let due = all
            .filter_map(|(place, samples)| Some(numbers_of(place, samples.as_mut()?.due(now_ns)?)));
        due.collect()
    }

    /// The numbers that the last records gave, for a reader that comes late.
    pub(super) fn told(&self) -> Vec<[u64; 8]> {
        let all = self.places.iter().enumerate();
        all.filter_map(|(place, samples)| Some(numbers_of(place, samples.as_ref()?.told?.0)))
            .collect()
    }
}

fn numbers_of(place: usize, figures: Figures) -> [u64; 8] {
    let Figures { p50, p99, samples } = figures;
    let (stage, method) = match place.checked_sub(METHODS.len()) {
        None => (Stage::Rpc as usize, place),
        Some(stage) => (stage, 0),
    };
    numbers!(Usual, stage = stage, method = method, p50 = p50, p99 = p99, samples = samples)
}

impl Samples {
    fn new(now_ns: u64) -> Samples {
        Samples { open: Histogram::new(now_ns), closed: None, told: None }
    }

    fn count(&mut self, ns: u64, now_ns: u64) {
        if self.open.opened_ns + OPEN_NS <= now_ns && CLOSED_MIN <= self.open.samples {
            let open = std::mem::replace(&mut self.open, Histogram::new(now_ns));
            self.closed = Some(open);
        }
        let bucket = &mut self.open.counts[bucket_of(ns)];
        *bucket = bucket.saturating_add(1);
        self.open.samples += 1;
    }

    fn figures(&self) -> Figures {
        let samples = self.open.samples + self.closed.as_ref().map_or(0, |closed| closed.samples);
        let quantile = |percent: u64| {
            let wanted = (samples * percent).div_ceil(100).max(1);
            let mut seen = 0;
            for (bucket, count) in self.open.counts.iter().enumerate() {
                let older = self.closed.as_ref().map_or(0, |closed| closed.counts[bucket]);
                seen += u64::from(*count) + u64::from(older);
                if wanted <= seen {
                    return middle_of(bucket);
                }
            }
            middle_of(BUCKETS - 1)
        };
        Figures { p50: quantile(50), p99: quantile(99), samples }
    }

    fn due(&mut self, now_ns: u64) -> Option<Figures> {
        let figures = self.figures();
        let is_due = self.told.is_none_or(|(told, at)| {
            told.samples != figures.samples && (at + REPEAT_NS <= now_ns || differ(told, figures))
        });
        is_due.then(|| {
            self.told = Some((figures, now_ns));
            figures
        })
    }
}

/// Whether a reader would conclude something else: a quarter longer or shorter, or twice as many
/// samples.
fn differ(before: Figures, now: Figures) -> bool {
    let is_other = |a: u64, b: u64| a.min(b) + a.min(b) / 4 < a.max(b);
    is_other(before.p50, now.p50)
        || is_other(before.p99, now.p99)
        || 2 * before.samples <= now.samples
}

impl Histogram {
    fn new(now_ns: u64) -> Histogram {
        Histogram { counts: Box::new([0; BUCKETS]), samples: 0, opened_ns: now_ns }
    }
}

/// The bucket of a duration: below 8 ns one for each, then eight for each power of two.
fn bucket_of(ns: u64) -> usize {
    let Some(power) = ns.checked_ilog2().filter(|power| 3 <= *power) else {
        return usize::try_from(ns).unwrap_or(0);
    };
    let part = (ns >> (power - 3)) & u64::from(PARTS - 1);
    let bucket = u64::from((power - 2) * PARTS) + part;
    usize::try_from(bucket).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The middle of a bucket, in nanoseconds.
fn middle_of(bucket: usize) -> u64 {
    let (power, part) = (bucket / 8, bucket as u64 % 8);
    match power {
        0 => part,
        power => ((8 + part) << (power - 1)) + ((1 << (power - 1)) >> 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::Head;

    const SECOND_NS: u64 = 1_000_000_000;

    fn span(stage: Stage, method: u64, took_ns: u64, flags: u8) -> Record {
        let head = Head { stage: stage as u8, kind: Kind::Span as u8, flags, ..Head::default() };
        let mut record = Record::new(head, 1, 1, 0, &[method, 0, 0, 0, 0, 0, 0, 0]);
        record.set_length(1, took_ns);
        record
    }

    fn of(usual: &mut Usual, now_ns: u64) -> Vec<[u64; 5]> {
        let due = usual.due(now_ns);
        due.into_iter().map(|numbers| std::array::from_fn(|at| numbers[at])).collect()
    }

    #[test]
    fn a_figure_is_off_by_a_sixteenth_at_most() {
        for ns in (0..40).flat_map(|power| [1 << power, (1 << power) * 7 / 5, (2 << power) - 1]) {
            let middle = middle_of(bucket_of(ns));
            assert!(middle.abs_diff(ns) <= ns / 16 + 1, "{ns} {middle}");
        }
        assert_eq!(BUCKETS - 1, bucket_of(u64::MAX));
    }

    #[test]
    fn methods_have_figures_of_their_own_and_loops_one_for_the_stage() {
        let mut usual = Usual::default();
        for took in 1..=100 {
            usual.count(&span(Stage::Rpc, 2, took * 1000, 0), 0);
            usual.count(&span(Stage::Rpc, 1, 10, 0), 0);
            usual.count(&span(Stage::WalFsync, 2, 5, 0), 0);
        }
        let rpc = Stage::Rpc as u64;
        let [short, long, fsync] = of(&mut usual, 0)[..] else { panic!("three figures") };
        assert_eq!([rpc, 1, 10, 10, 100], short);
        assert_eq!([rpc, 2, 100], [long[0], long[1], long[4]]);
        assert!(long[2].abs_diff(50_000) < 3_200 && long[3].abs_diff(99_000) < 6_200, "{long:?}");
        assert_eq!([Stage::WalFsync as u64, 0, 5, 5, 100], fsync);
    }

    #[test]
    fn failures_cancellations_and_heartbeats_are_no_samples() {
        let mut usual = Usual::default();
        for flag in [FLAG_ERROR, FLAG_CANCELLED, FLAG_NOISE] {
            usual.count(&span(Stage::RaftSend, 0, 5, flag), 0);
        }
        assert!(usual.due(0).is_empty());
    }

    #[test]
    fn figures_are_told_on_change_and_twice_a_minute_while_there_are_samples() {
        let mut usual = Usual::default();
        (0..100).for_each(|_| usual.count(&span(Stage::WalFsync, 0, 5, 0), 0));
        assert_eq!((1, 0), (usual.due(0).len(), usual.due(SECOND_NS).len()));
        usual.count(&span(Stage::WalFsync, 0, 5, 0), SECOND_NS);
        assert_eq!(0, usual.due(SECOND_NS).len());
        (0..10).for_each(|_| usual.count(&span(Stage::WalFsync, 0, 50, 0), SECOND_NS));
        assert_eq!(1, usual.due(2 * SECOND_NS).len(), "another p99");
        assert_eq!(0, usual.due(100 * SECOND_NS).len(), "no new sample");
        usual.count(&span(Stage::WalFsync, 0, 5, 0), 31 * SECOND_NS);
        assert_eq!(0, usual.due(31 * SECOND_NS).len());
        assert_eq!(1, usual.due(32 * SECOND_NS).len());
        assert_eq!(1, usual.told().len());
    }

    /// Goal: what was usual two minutes ago is no longer so, but without newer samples it stays.
    #[test]
    fn old_samples_go_when_there_are_newer_ones() {
        let mut usual = Usual::default();
        (0..100).for_each(|_| usual.count(&span(Stage::WalFsync, 0, 5, 0), 0));
        assert_eq!(100, of(&mut usual, 1000 * SECOND_NS)[0][4]);
        for minute in [20, 21] {
            let now = minute * OPEN_NS;
            (0..100).for_each(|_| usual.count(&span(Stage::WalFsync, 0, 7, 0), now));
        }
        assert_eq!([7, 200], [of(&mut usual, 30 * OPEN_NS)[0][2], usual.told()[0][4]]);
    }
}
