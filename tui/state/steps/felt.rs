//! Felt time: a story at one thousandth of its speed, so that a millisecond takes a second.
//!
//! ```text
//!   steps   ──●─●──────────────●──▶ real time      40 µs, 815 µs
//!   cursor  ──●──●──────────────── 0.4 s ──┄┄┄●──▶ felt time  40 ms, 815 ms
//! ```
//!
//! An fsync is then felt, and a look-up in the tree index flashes by. The cursor moves to a step
//! when the felt time of that step has come. A step key goes there at once, and the time continues
//! from there: an election timeout of a second would take a quarter of an hour.
//!
//! Invariant: the player's clock is an input, so the same ticks give the same screens.

use super::{
    super::{lanes::Lane, words},
    Direction, Steps,
};

/// How many times slower than real time.
const SLOWER: u64 = 1_000;

/// The felt time of a story while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Felt {
    /// When the step at the cursor was reached, on the player's clock.
    since_ns: u64,
    /// Now, on the player's clock.
    now_ns: u64,
}

/// The way from the step at the cursor to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The position of the next step.
    next: usize,
    /// Real time from one to the other.
    pub(crate) real_ns: u64,
    /// How much of that has passed.
    pub(crate) passed_ns: u64,
}

impl Steps {
    /// Begins to feel time, or stops. At the end of the story it begins again.
    pub(crate) fn toggle_felt(&mut self, now_ns: u64) {
        self.is_playing = false;
        if self.felt.take().is_some() {
            return;
        }
        if self.next_felt().is_none() {
            self.jump(Direction::Back);
            self.notice = None;
        }
        self.felt = Some(Felt { since_ns: now_ns, now_ns });
    }

    /// A key has moved the cursor: felt time continues from there.
    pub(crate) fn feel_from_here(&mut self, now_ns: u64) {
        if self.felt.is_some() {
            self.felt = Some(Felt { since_ns: now_ns, now_ns });
        }
    }

    /// Moves to the steps whose felt time has come. Returns whether felt time runs.
    pub(crate) fn feel(&mut self, now_ns: u64) -> bool {
        let Some(Felt { mut since_ns, .. }) = self.felt else { return false };
        while let Some(next) = self.next_felt() {
            let due_ns = since_ns.saturating_add(self.real_ns(next).saturating_mul(SLOWER));
            if now_ns < due_ns {
                self.felt = Some(Felt { since_ns, now_ns });
                return true;
            }
            self.step(self.grain, Direction::Forward);
            since_ns = due_ns;
        }
        self.felt = None;
        true
    }

    /// The way to the next step, while time is felt.
    pub(crate) fn gap(&self) -> Option<Gap> {
        let Felt { since_ns, now_ns } = self.felt?;
        let next = self.next_felt()?;
        let real_ns = self.real_ns(next);
        let passed_ns = (now_ns.saturating_sub(since_ns) / SLOWER).min(real_ns);
        Some(Gap { next, real_ns, passed_ns })
    }

    /// Real time from the cursor to this step.
    fn real_ns(&self, step: usize) -> u64 {
        self.steps[step].wall_ns.saturating_sub(self.now_wall_ns())
    }

    /// What comes next and when: `to wal.fsync on etcd-02: 815 µs → 815 ms`; and how much of the
    /// story has passed.
    pub(crate) fn felt_words(&self, gap: &Gap, lanes: &[Lane]) -> [String; 2] {
        let step = &self.steps[gap.next];
        let (name, member) = (step.event.stage.name(), &lanes[step.lane].name);
        let [real, felt] = [gap.real_ns, gap.real_ns.saturating_mul(SLOWER)].map(words::duration);
        let since = self.now_wall_ns().saturating_sub(self.zero_ns);
        let passed = since.saturating_add(gap.passed_ns).saturating_mul(SLOWER);
        let next = format!("to {name} on {member}: {real} → {felt}");
        [next, format!("felt {}", words::duration(passed))]
    }

    /// The next step of the grain.
    fn next_felt(&self) -> Option<usize> {
        (self.now + 1..self.steps.len()).find(|at| self.stops(*at, self.grain))
    }
}

/// Of `width` cells, how many the passed part of a gap fills.
pub(crate) fn filled(gap: &Gap, width: u16) -> u16 {
    let cells = u128::from(width) * u128::from(gap.passed_ns) / u128::from(gap.real_ns.max(1));
    u16::try_from(cells).unwrap_or(width).min(width)
}

#[cfg(test)]
mod tests {
    use glass_etcd::trace::Grain;

    use super::*;
    use crate::state::{
        scenes::{self, PUT},
        story::Subject,
    };

    fn put() -> Steps {
        Steps::open(&scenes::put().recording, Subject::Request(PUT))
    }

    #[test]
    fn a_millisecond_takes_a_second() {
        let mut steps = put();
        let times: Vec<u64> = (steps.steps.iter())
            .filter(|step| step.grain == Grain::Story)
            .map(|step| step.wall_ns)
            .collect();
        let begun_ns = 5_000_000_000;
        steps.toggle_felt(begun_ns);
        let whole = (times[times.len() - 1] - times[0]) * SLOWER;
        for passed in (0..whole).step_by(usize::try_from(whole / 97).unwrap()) {
            assert!(steps.feel(begun_ns + passed));
            let reached = times.iter().filter(|time| (**time - times[0]) * SLOWER <= passed);
            assert_eq!(reached.count(), steps.position().0, "after {passed} ns");
            let gap = steps.gap().unwrap();
            assert!(gap.passed_ns < gap.real_ns, "{gap:?}");
        }
        assert!(steps.feel(begun_ns + whole));
        assert_eq!(None, steps.gap(), "the story has ended");
    }

    #[test]
    fn the_same_ticks_lead_to_the_same_step_however_they_are_divided() {
        let [mut one, mut many] = [put(), put()];
        one.toggle_felt(0);
        many.toggle_felt(0);
        one.feel(2_000_000_000);
        (0..=2_000).for_each(|ms| _ = many.feel(ms * 1_000_000));
        assert_eq!((one.now, one.felt), (many.now, many.felt));
    }

    #[test]
    fn a_step_key_skips_what_is_left_of_the_gap() {
        let mut steps = put();
        steps.toggle_felt(0);
        steps.feel(1);
        let before = steps.position().0;
        steps.step(Grain::Story, Direction::Forward);
        steps.feel_from_here(7);
        assert_eq!(before + 1, steps.position().0);
        assert_eq!(0, steps.gap().unwrap().passed_ns);
        steps.toggle_felt(8);
        assert!(!steps.feel(1 << 60));
        assert_eq!(before + 1, steps.position().0);
    }

    #[test]
    fn the_bar_is_full_only_at_the_end() {
        let gap = |passed_ns| Gap { next: 0, real_ns: 1_000, passed_ns };
        assert_eq!([0, 9, 10], [0, 999, 1_000].map(|passed| filled(&gap(passed), 10)));
    }
}
