//! The parts of a path in which a call waits for what is not its own entry or read.

use super::Chain;
use crate::trace::stage::Stage;

impl Chain<'_> {
    /// The waits that follow a call's own entry, or precede its read: for the lock, for the end of
    /// the compaction, for room for the answer, for other long reads.
    pub(super) fn wait(&mut self, serving: u8) {
        for stage in [Stage::LockWait, Stage::CompactWait, Stage::AnswerRoom, Stage::ReadQueue] {
            if let Some(end) = self.last_end(stage, serving) {
                self.until(self.steps.start(stage, serving));
                self.until(Some(end));
            }
        }
    }
}
