//! One watermark of one boot: its records, and what follows from them for the time in between.

use super::watermark::Watermark;

/// A watermark's value, as far as known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Nothing is known of it.
    #[default]
    Unknown,
    /// The records on both sides agree on this value.
    Known(u64),
    /// Changes were not captured; because the watermark only rises, it is at least the first and at
    /// most the second value.
    Within(u64, u64),
}

impl Value {
    /// The value, if it is known.
    pub fn known(self) -> Option<u64> {
        match self {
            Value::Known(value) => Some(value),
            Value::Unknown | Value::Within(..) => None,
        }
    }

    /// Whether it is at least `index`, if that is known.
    pub fn reaches(self, index: u64) -> Option<bool> {
        match self {
            Value::Unknown => None,
            Value::Known(value) => Some(index <= value),
            Value::Within(least, _) if index <= least => Some(true),
            Value::Within(_, most) if most < index => Some(false),
            Value::Within(..) => None,
        }
    }
}

/// The statement of a record about a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its old and its new value.
    Change(u64, u64),
    /// Its value at this moment.
    Exact(u64),
    /// Its value at some moment while the record was made.
    Sample(u64),
    /// Its earlier values no longer mean anything.
    Forgotten,
}

/// A record about a watermark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    /// Number of the boot's events up to and including it.
    pub(super) place: usize,
    /// Number of events that had happened when the record was begun.
    pub(super) opens: usize,
    /// The record's position in the recording.
    pub(super) event: usize,
    /// The member's clock at the beginning and the end of the record.
    pub(super) clocks: (u64, u64),
    /// The value that it gives.
    pub(super) told: Told,
}

/// Facts about a boot that make agreement of records less conclusive.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubts {
    /// Intervals of clocks in which records are known to be missing.
    pub(super) lost: Vec<(u64, u64)>,
    /// Number of events before the first `log.truncate`.
    pub(super) truncated: Option<usize>,
}

/// Two records that disagree about the value between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Break {
    /// The later record's position in the recording.
    pub(super) event: usize,
    /// The value according to the earlier one.
    pub(super) expected: u64,
    /// The value according to the later one.
    pub(super) found: u64,
}

/// The values, each with the number of events after which it holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline(Vec<(usize, Value)>);

impl Anchor {
    fn before(&self) -> Option<u64> {
        match self.told {
            Told::Change(old, _) => Some(old),
            Told::Exact(value) | Told::Sample(value) => Some(value),
            Told::Forgotten => None,
        }
    }

    fn after(&self) -> Option<u64> {
        match self.told {
            Told::Change(_, new) => Some(new),
            Told::Exact(value) | Told::Sample(value) => Some(value),
            Told::Forgotten => None,
        }
    }

    fn is_sample(&self) -> bool {
        matches!(self.told, Told::Sample(_))
    }
}

impl Timeline {
    /// The value after this many events of the boot.
    pub(super) fn at(&self, place: usize) -> Value {
        let after = self.0.partition_point(|(from, _)| *from <= place);
        after.checked_sub(1).map_or(Value::Unknown, |at| self.0[at].1)
    }

    /// Combines the records, in the order of the boot; returns also where they disagree.
    pub(super) fn of(water: Watermark, told: &[Anchor], doubts: &Doubts) -> (Timeline, Vec<Break>) {
        let maker = Maker { water, doubts };
        let anchors = maker.without_racing(told);
        let (mut line, mut breaks) = (Vec::new(), Vec::new());
        if let Some(first) = anchors.first() {
            line.push((0, maker.before_all(first)));
            maker.while_sampled(None, first, anchors.get(1), &mut line);
        }
        for (at, pair) in anchors.windows(2).enumerate() {
            let (this, next) = (&pair[0], &pair[1]);
            if let (Some(expected), Some(found)) = (this.after(), next.before())
                && expected != found
            {
                breaks.push(Break { event: next.event, expected, found });
            }
            maker.between(this, next, &mut line);
            maker.while_sampled(Some(this), next, anchors.get(at + 2), &mut line);
        }
        if let Some(last) = anchors.last() {
            maker.after_all(last, &mut line);
        }
        (Timeline(line), breaks)
    }
}

struct Maker<'a> {
    water: Watermark,
    doubts: &'a Doubts,
}

impl Maker<'_> {
    /// Whether the watermark certainly has not fallen before this event.
    fn is_rising(&self, place: usize) -> bool {
        let is_cut = self.doubts.truncated.is_some_and(|truncated| truncated <= place);
        self.water.is_rising() && !(is_cut && self.water.is_of_log())
    }

    /// The value before the first record: a change gives it; for a rising watermark there is a
    /// bound.
    fn before_all(&self, first: &Anchor) -> Value {
        let is_lossy = self.is_lossy(0, first.clocks.1);
        match first.told {
            Told::Change(old, _) if !is_lossy => Value::Known(old),
            Told::Forgotten => Value::Unknown,
            Told::Change(most, _) | Told::Exact(most) | Told::Sample(most) => {
                self.bounds(0, most, first.place, is_lossy)
            }
        }
    }

    /// The value from the last record on.
    fn after_all(&self, last: &Anchor, line: &mut Vec<(usize, Value)>) {
        let Some(value) = last.after() else {
            return line.push((last.place, Value::Unknown));
        };
        let is_sample = last.is_sample();
        let from = if is_sample { last.clocks.0 } else { last.clocks.1 };
        let is_lossy = self.is_lossy(from, u64::MAX);
        if !(is_sample && is_lossy) {
            line.push((last.place, Value::Known(value)));
        }
        if is_lossy {
            let bounds = self.bounds(value, u64::MAX, usize::MAX, true);
            line.push((last.place + usize::from(!is_sample), bounds));
        }
    }

    /// The value from one record to the next.
    fn between(&self, this: &Anchor, next: &Anchor, line: &mut Vec<(usize, Value)>) {
        let is_lossy = self.is_lossy(this.clocks.1, next.clocks.1);
        let is_rising = self.bounds(0, 0, next.place, is_lossy) != Value::Unknown;
        let value = match (this.after(), next.told) {
            (Some(value), Told::Forgotten) if !is_lossy => Value::Known(value),
            (None, Told::Change(old, _)) if !is_lossy => Value::Known(old),
            (Some(value), _) if next.before() == Some(value) && (is_rising || !is_lossy) => {
                Value::Known(value)
            }
            (Some(least), _) => next
                .before()
                .map_or(Value::Unknown, |most| self.bounds(least, most, next.place, is_lossy)),
            (None, _) => Value::Unknown,
        };
        let mut from = this.place;
        // A change sets its new value, even if unseen changes followed.
        if let (false, Some(new), None) = (this.is_sample(), this.after(), value.known()) {
            line.push((from, Value::Known(new)));
            from += 1;
        }
        if from < next.place {
            line.push((from, value));
        }
    }

    /// A sample is from some moment while its record was made. So until that has ended, a later
    /// value may hold already.
    fn while_sampled(
        &self,
        this: Option<&Anchor>,
        next: &Anchor,
        after: Option<&Anchor>,
        line: &mut Vec<(usize, Value)>,
    ) {
        let most = match after {
            Some(after) => after.before(),
            None if self.is_lossy(next.clocks.0, u64::MAX) => Some(u64::MAX),
            None => next.after(),
        };
        let least = this.map_or(Some(0), Anchor::after);
        let (true, Some(least), Some(most)) = (next.is_sample(), least, most) else { return };
        let earliest = this.map_or(0, |this| this.place + usize::from(!this.is_sample()));
        let from = next.opens.max(earliest);
        if next.after() == Some(most) || next.place <= from {
            return;
        }
        // The values from here on are replaced.
        while line.pop_if(|(place, _)| from <= *place).is_some() {}
        let last = after.unwrap_or(next);
        let is_lossy = self.is_lossy(this.map_or(0, |this| this.clocks.1), last.clocks.1);
        line.push((from, self.bounds(least, most, last.place, is_lossy)));
    }

    /// The bounds, for a watermark that certainly has only risen.
    fn bounds(&self, least: u64, most: u64, place: usize, is_lossy: bool) -> Value {
        let is_sure = !(is_lossy && self.water.is_rising_if_whole());
        if is_sure && self.is_rising(place) && least <= most {
            Value::Within(least, most)
        } else {
            Value::Unknown
        }
    }

    /// Whether records between these clocks are known to be missing.
    fn is_lossy(&self, from: u64, to: u64) -> bool {
        self.doubts.lost.iter().any(|(first, last)| from <= *last && *first <= to)
    }

    /// A keyframe is read while the member works: its clock is taken first, then the numbers, and
    /// each number is set shortly before or after its change is recorded. So a sample may show the
    /// value of a neighbouring moment. Samples that add nothing are left out, so that they do not
    /// prove gaps that do not exist.
    fn without_racing(&self, told: &[Anchor]) -> Vec<Anchor> {
        let mut next: Option<Anchor> = None;
        let nexts: Vec<Option<Anchor>> = told
            .iter()
            .rev()
            .map(|anchor| {
                let later = next;
                next = if anchor.is_sample() { next } else { Some(*anchor) };
                later
            })
            .collect();
        let mut previous: Option<Anchor> = None;
        let mut since_sample = 0;
        let mut kept = Vec::with_capacity(told.len());
        for ((at, anchor), next) in told.iter().enumerate().zip(nexts.into_iter().rev()) {
            if !anchor.is_sample() {
                previous = Some(*anchor);
                kept.push(*anchor);
                continue;
            }
            if !self.is_racing(anchor, previous, next, &told[since_sample..at]) {
                kept.push(*anchor);
            }
            since_sample = at + 1;
        }
        kept
    }

    /// Whether the sample may be from another moment: `since` are the changes since the previous
    /// sample.
    fn is_racing(
        &self,
        sample: &Anchor,
        previous: Option<Anchor>,
        next: Option<Anchor>,
        since: &[Anchor],
    ) -> bool {
        let value = sample.after();
        let (least, most) =
            (previous.and_then(|anchor| anchor.after()), next.and_then(|anchor| anchor.before()));
        if least == value {
            return false;
        }
        let is_near = |other: &&Anchor| self.water.lags() || sample.clocks.0 <= other.clocks.1;
        let is_late = since
            .iter()
            .filter(is_near)
            .any(|other| other.before() == value || other.after() == value);
        let is_early = most != value && next.is_some_and(|anchor| anchor.after() == value);
        let is_outside = least.is_some_and(|least| value < Some(least))
            || most.is_some_and(|most| Some(most) < value);
        is_late || is_early || (is_outside && self.is_rising(sample.place))
    }
}
