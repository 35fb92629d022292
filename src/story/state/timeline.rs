//! One watermark of one boot: what was told of it, and what follows for the time in between.

use super::watermark::Watermark;

/// What is known of a watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    #[default]
    Unknown,
    /// It is this.
    Known(u64),
    /// Changes of it were not captured; since it only rises it is not below the first and not above
    /// the second.
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

    /// Whether it is at least this, if that is known.
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

/// What a record tells of a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What it was, and what it became.
    Change(u64, u64),
    /// What it is at this moment.
    Exact(u64),
    /// What it was at some moment while the record was made.
    Sample(u64),
    /// It means nothing any more.
    Forgotten,
}

/// A record that tells of a watermark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    /// How many events of the boot have happened with it.
    pub(super) place: usize,
    /// How many had happened when the record was begun.
    pub(super) opens: usize,
    /// The record's place in the recording.
    pub(super) event: usize,
    /// The member's clock from the beginning to the end of the record.
    pub(super) clocks: (u64, u64),
    /// What it tells.
    pub(super) told: Told,
}

/// What is known of a boot that makes agreement worth less.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubts {
    /// From which to which clock records are known to be missing.
    pub(super) lost: Vec<(u64, u64)>,
    /// The place of the first `log.truncate`.
    pub(super) truncated: Option<usize>,
}

/// Two records that disagree about what held between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Break {
    /// The later record's place in the recording.
    pub(super) event: usize,
    /// What the earlier one says.
    pub(super) expected: u64,
    /// What the later one says.
    pub(super) found: u64,
}

/// From which place on which value holds, by place.
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
    /// What held when so many events of the boot had happened.
    pub(super) fn at(&self, place: usize) -> Value {
        let after = self.0.partition_point(|(from, _)| *from <= place);
        after.checked_sub(1).map_or(Value::Unknown, |at| self.0[at].1)
    }

    /// Puts together what was told, in the order of the boot, and where it does not fit.
    pub(super) fn of(water: Watermark, told: &[Anchor], doubts: &Doubts) -> (Timeline, Vec<Break>) {
        let maker = Maker { water, doubts };
        let anchors = maker.without_racing(told);
        let (mut line, mut breaks) = (Vec::new(), Vec::new());
        if let Some(first) = anchors.first() {
            line.push((0, maker.before_all(first)));
            maker.while_sampled(None, (first, anchors.get(1)), &mut line);
        }
        for (at, pair) in anchors.windows(2).enumerate() {
            let (this, next) = (&pair[0], &pair[1]);
            if let (Some(expected), Some(found)) = (this.after(), next.before())
                && expected != found
            {
                breaks.push(Break { event: next.event, expected, found });
            }
            maker.between(this, next, &mut line);
            maker.while_sampled(Some(this), (next, anchors.get(at + 2)), &mut line);
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
    /// Whether it is sure not to have fallen before this place.
    fn is_rising(&self, place: usize) -> bool {
        let is_cut = self.doubts.truncated.is_some_and(|truncated| truncated <= place);
        self.water.is_rising() && !(is_cut && self.water.is_of_log())
    }

    /// What held before anything was told: a change says it, and of what rises there is a bound.
    fn before_all(&self, first: &Anchor) -> Value {
        let is_lossy = self.is_lossy(0, first.clocks.1);
        match first.told {
            Told::Change(old, _) if !is_lossy => Value::Known(old),
            Told::Forgotten => Value::Unknown,
            Told::Change(most, _) | Told::Exact(most) | Told::Sample(most) => {
                self.bounds((0, most), first.place, is_lossy)
            }
        }
    }

    /// What held from the last record on.
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
            let bounds = self.bounds((value, u64::MAX), usize::MAX, true);
            line.push((last.place + usize::from(!is_sample), bounds));
        }
    }

    /// What held from one record to the next one.
    fn between(&self, this: &Anchor, next: &Anchor, line: &mut Vec<(usize, Value)>) {
        let is_lossy = self.is_lossy(this.clocks.1, next.clocks.1);
        let is_rising = self.bounds((0, 0), next.place, is_lossy) != Value::Unknown;
        let value = match (this.after(), next.told) {
            (Some(value), Told::Forgotten) if !is_lossy => Value::Known(value),
            (None, Told::Change(old, _)) if !is_lossy => Value::Known(old),
            (Some(value), _) if next.before() == Some(value) && (is_rising || !is_lossy) => {
                Value::Known(value)
            }
            (Some(least), _) => next
                .before()
                .map_or(Value::Unknown, |most| self.bounds((least, most), next.place, is_lossy)),
            (None, _) => Value::Unknown,
        };
        let mut from = this.place;
        // Where a change takes effect its new value holds, whatever went by unseen after it.
        if let (false, Some(new), None) = (this.is_sample(), this.after(), value.known()) {
            line.push((from, Value::Known(new)));
            from += 1;
        }
        if from < next.place {
            line.push((from, value));
        }
    }

    /// A sample is that of some moment while its record was made. So until that has ended, what
    /// comes after it may hold already.
    fn while_sampled(
        &self,
        this: Option<&Anchor>,
        (next, after): (&Anchor, Option<&Anchor>),
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
        // What held from here on is said anew.
        while line.pop_if(|(place, _)| from <= *place).is_some() {}
        let last = after.unwrap_or(next);
        let is_lossy = self.is_lossy(this.map_or(0, |this| this.clocks.1), last.clocks.1);
        line.push((from, self.bounds((least, most), last.place, is_lossy)));
    }

    /// Of what is sure to have risen only, the bounds.
    fn bounds(&self, (least, most): (u64, u64), place: usize, is_lossy: bool) -> Value {
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
    /// each of them is set shortly before or after its change is recorded. So a sample may be that
    /// of a neighbour. What tells nothing is left out, so that it proves no gap where there is
    /// none.
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

    /// Whether the sample may be that of another moment: `since` are the changes since the one
    /// before it.
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
