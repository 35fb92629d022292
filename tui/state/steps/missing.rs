//! Steps that have no row: which of them have happened at the cursor, as far as is known.
//!
//! The story names the steps that its request takes on every member and that were not captured. No
//! time is known of them, so they stand below the last row. But the watermarks of their member say
//! whether it is past them: one that has applied an entry has committed it. At a step before that,
//! such a step is no gap, it has not happened yet, and is left out.
//!
//! At the end of the story the newest records count, also those after its last step.

use glass_etcd::trace::Stage;

use super::{
    super::{
        story::{Moment, Step, Unknown},
        watermarks::{Moment as Clock, Water},
    },
    Steps,
};

impl Steps {
    /// Of these steps, those that have happened at the cursor, and those of which even that is
    /// unknown.
    pub(crate) fn missing(&self, unknown: &Unknown) -> [Vec<Stage>; 2] {
        let mut missing = [Vec::new(), Vec::new()];
        let is_at_end = self.is_at_end();
        for stage in &unknown.stages {
            match unknown.place.and_then(|place| self.has_passed(place, *stage)) {
                Some(true) => missing[0].push(*stage),
                // Whether it ever happened, no record says.
                Some(false) if is_at_end => missing[1].push(*stage),
                Some(false) => {}
                None => missing[1].push(*stage),
            }
        }
        missing
    }

    /// Whether something is to be said of these steps at the cursor.
    pub(super) fn says_of(&self, unknown: &Unknown) -> bool {
        unknown.stages.is_empty() || self.missing(unknown).iter().any(|stages| !stages.is_empty())
    }

    /// Whether no step of the story is to come.
    fn is_at_end(&self) -> bool {
        let to_come = self.steps.iter().skip(self.now + 1);
        to_come.filter(|step| step.is_own).all(|step| self.grain < step.grain)
    }

    /// Whether the member is past this stage of the story, if that is known.
    fn has_passed(&self, place: u8, stage: Stage) -> Option<bool> {
        let water = match stage {
            Stage::RaftEntry | Stage::WalWrite => Water::Written,
            Stage::WalFsync => Water::Synced,
            Stage::RaftCommit => Water::Commit,
            Stage::ApplyEntry => Water::Applied,
            Stage::BackendCommit => Water::Stored,
            _ => return self.has_answered(place, stage),
        };
        let index = self.log.as_ref()?.entry.1;
        let newest = self.axis.reached(place, u64::MAX).filter(|_| self.is_at_end());
        let cut: Clock = newest.or_else(|| self.cut(place))?;
        self.marks_at(place, cut).reaches(water, index)
    }

    /// Whether the member is past a wait whose end is missing: steps of the request on that member
    /// come before its answer, and a round before the end of the wait for it.
    fn has_answered(&self, place: u8, stage: Stage) -> Option<bool> {
        let after = |step: &Step| match stage {
            Stage::ReadIndexRound => {
                step.event.stage == Stage::ReadIndexWait && step.moment == Moment::Done
            }
            _ => step.event.stage == Stage::AnswerFlush,
        };
        let is_later = |step: &Step| !after(step) && step.event.id != 0;
        let own = |step: &&Step| step.is_own && step.is_captured && step.event.member == place;
        let (past, to_come) = self.steps.split_at(self.steps.len().min(self.now + 1));
        if past.iter().filter(own).any(after) {
            return Some(true);
        }
        let is_begun = past.iter().filter(own).any(|step| step.event.stage == Stage::Rpc);
        let waits = to_come.iter().filter(own).any(is_later);
        (!is_begun || waits).then_some(false)
    }
}
