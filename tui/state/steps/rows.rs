//! The lines of the step view: the steps of its grain, and what is folded between them.

use glass_etcd::trace::{FLAG_NOISE, Kind};

use super::{
    super::story::{Step, rounds},
    Steps,
};

/// A line of the step view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// The step at this position.
    Step(usize),
    /// Events that only happened meanwhile, folded into one line.
    Folded {
        /// How many heartbeats and keyframes.
        noise: usize,
        /// How many records of other requests and loops.
        others: usize,
        /// How many rounds of pre-votes like those around them.
        rounds: usize,
    },
    /// Missing records of a member, by position in [`Steps::unknown`].
    Unknown(usize),
}

impl Steps {
    /// The rows of the current grain.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            if step.grain <= self.grain {
                rows.push(Row::Step(at));
            } else if !step.is_own || rounds::is_left_out(step) {
                fold(&mut rows, step);
            }
        }
        while matches!(rows.last(), Some(Row::Folded { .. })) {
            rows.pop();
        }
        if !rows.is_empty() {
            let told = |at: &usize| self.says_of(&self.unknown[*at]);
            rows.extend((0..self.unknown.len()).filter(told).map(Row::Unknown));
        }
        rows
    }

    /// More records can make a round of pre-votes one of many. The steps at which the cursors stand
    /// stay where they are.
    pub(super) fn keep_cursors_shown(&mut self) {
        for at in [self.now, self.look] {
            if let Some(step) = self.steps.get_mut(at).filter(|step| rounds::is_of_round(step)) {
                step.grain = step.grain.min(self.grain);
            }
        }
    }
}

fn fold(rows: &mut Vec<Row>, step: &Step) {
    if matches!(rows.last(), Some(Row::Step(_) | Row::Unknown(_))) {
        rows.push(Row::Folded { noise: 0, others: 0, rounds: 0 });
    }
    if let Some(Row::Folded { noise, others, rounds }) = rows.last_mut() {
        let event = &step.event;
        let is_noise = event.flags & FLAG_NOISE != 0 || event.kind == Kind::Keyframe;
        let more = match (step.is_own, is_noise) {
            (true, _) => rounds,
            (false, true) => noise,
            (false, false) => others,
        };
        *more += 1;
    }
}
