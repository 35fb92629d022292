//! Where a member stands: the numbers that keyframes carry.
//!
//! The code that changes one of them stores it here; no decision depends on them. A process is one
//! member, so there is one set.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::numbers;

/// How many configurations are remembered until the collector has recorded them. Each is an entry
/// of its own, so more than a few in the tenth of a second between two looks are not expected; of
/// more, the oldest are not recorded.
const CONFIGURATIONS_MAX: usize = 64;

/// Who votes and who only learns, by raft's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The entry from which on it is known to hold.
    pub index: u64,
    /// Raft's ids of the members whose disks count for a majority.
    pub voters: Vec<u64>,
    /// Raft's ids of the others.
    pub learners: Vec<u64>,
}

impl Configuration {
    /// The fields of `raft.members` for each member.
    pub fn fields(&self) -> Vec<[u64; 8]> {
        let members = self.voters.len() + self.learners.len();
        let voters = self.voters.iter().map(|id| (*id, false));
        let all = voters.chain(self.learners.iter().map(|id| (*id, true)));
        all.zip(1_u64..)
            .map(|((id, learner), number)| {
                numbers!(
                    RaftMembers,
                    index = self.index,
                    subject = id,
                    learner = learner,
                    number = number,
                    members = members as u64
                )
            })
            .collect()
    }
}

/// Numbers that describe the state of this process's member, for keyframes.
#[derive(Debug, Default)]
pub struct Watermarks {
    /// 0 follower, 1 candidate, 2 leader, 3 pre-candidate.
    pub role: AtomicU64,
    /// Raft's current term.
    pub term: AtomicU64,
    /// Highest index known to be committed.
    pub commit: AtomicU64,
    /// Highest index that the state machine has applied.
    pub applied: AtomicU64,
    /// Revision of the key space.
    pub revision: AtomicU64,
    /// The leader's member id, 0 for none.
    pub leader: AtomicU64,
    /// Highest index handed to the operating system.
    pub written: AtomicU64,
    /// Highest index that an fsync has covered.
    pub synced: AtomicU64,
    /// Consistent index in the backend's file.
    pub committed: AtomicU64,
    /// Revision in the backend's file.
    pub committed_revision: AtomicU64,
    /// Rows in the active write buffer.
    pub active: AtomicU64,
    /// Rows in the frozen write buffer.
    pub frozen: AtomicU64,
    /// The member that this one voted for in this term, 0 for none.
    pub vote: AtomicU64,
    /// How many alarms are raised.
    pub alarms: AtomicU64,
    /// A member that has raised NOSPACE, 0 for none.
    pub no_space: AtomicU64,
    /// A member that has raised CORRUPT, 0 for none.
    pub corrupt: AtomicU64,
    /// The newest configurations, the oldest first.
    configurations: Mutex<VecDeque<Configuration>>,
}

static WATERMARKS: Watermarks = Watermarks::new();

/// The watermarks of this process's member.
pub fn watermarks() -> &'static Watermarks {
    &WATERMARKS
}

impl Watermarks {
    /// All numbers 0, as at a start.
    pub const fn new() -> Watermarks {
        Watermarks {
            role: AtomicU64::new(0),
            term: AtomicU64::new(0),
            commit: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            committed_revision: AtomicU64::new(0),
            active: AtomicU64::new(0),
            frozen: AtomicU64::new(0),
            vote: AtomicU64::new(0),
            alarms: AtomicU64::new(0),
            no_space: AtomicU64::new(0),
            corrupt: AtomicU64::new(0),
            configurations: Mutex::new(VecDeque::new()),
        }
    }

    /// Notes a configuration that is new. One without members says nothing: a member that joins has
    /// none yet.
    pub fn configured(&self, configuration: Configuration) {
        if configuration.voters.is_empty() && configuration.learners.is_empty() {
            return;
        }
        let mut known = self.configurations();
        if known.len() == CONFIGURATIONS_MAX {
            known.pop_front();
        }
        known.push_back(configuration);
    }

    /// The configurations since the last call, the oldest first; the newest is repeated by every
    /// call.
    pub fn take_configurations(&self) -> Vec<Configuration> {
        let mut known = self.configurations();
        let all = known.iter().cloned().collect();
        let older = known.len().saturating_sub(1);
        known.drain(..older);
        all
    }

    fn configurations(&self) -> MutexGuard<'_, VecDeque<Configuration>> {
        self.configurations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fields of `keyframe`, in their order.
    pub fn keyframe(&self) -> [u64; 8] {
        numbers!(
            Keyframe,
            role = now(&self.role),
            term = now(&self.term),
            commit = now(&self.commit),
            applied = now(&self.applied),
            revision = now(&self.revision),
            leader = now(&self.leader),
            written = now(&self.written),
            synced = now(&self.synced),
        )
    }

    /// The fields of `keyframe.backend`, with the counts that only the collector knows.
    pub fn keyframe_backend(&self, seen: u64, kept: u64, dropped: u64) -> [u64; 8] {
        numbers!(
            KeyframeBackend,
            committed = now(&self.committed),
            committed_revision = now(&self.committed_revision),
            active = now(&self.active),
            frozen = now(&self.frozen),
            vote = now(&self.vote),
            seen = seen,
            kept = kept,
            dropped = dropped,
        )
    }

    /// The fields of `keyframe.process`, with the figures that only the collector knows: the memory
    /// of the process in bytes, how many fsyncs the last second had, and their p99 in nanoseconds.
    pub fn keyframe_process(&self, memory: u64, fsyncs: u64, fsync_p99: u64) -> [u64; 8] {
        numbers!(
            KeyframeProcess,
            memory = memory,
            fsyncs = fsyncs,
            fsync_p99 = fsync_p99,
            alarms = now(&self.alarms),
            no_space = now(&self.no_space),
            corrupt = now(&self.corrupt),
        )
    }
}

fn now(mark: &AtomicU64) -> u64 {
    mark.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Stage;

    #[test]
    fn keyframes_carry_each_watermark_in_the_field_of_its_name() {
        let marks = Watermarks::new();
        marks.commit.store(42, Ordering::Relaxed);
        marks.synced.store(43, Ordering::Relaxed);
        marks.committed_revision.store(7, Ordering::Relaxed);
        let frame = marks.keyframe();
        assert_eq!([42, 43], ["commit", "synced"].map(|name| frame[Stage::Keyframe.slot(name)]));
        let backend = marks.keyframe_backend(100, 10, 1);
        let names = ["committed_revision", "seen", "kept", "dropped"];
        let values = names.map(|name| backend[Stage::KeyframeBackend.slot(name)]);
        assert_eq!([7, 100, 10, 1], values);
        marks.no_space.store(9, Ordering::Relaxed);
        let process = marks.keyframe_process(4_096, 3, 1_000);
        let names = ["memory", "fsyncs", "fsync_p99", "alarms", "no_space", "corrupt"];
        let values = names.map(|name| process[Stage::KeyframeProcess.slot(name)]);
        assert_eq!([4_096, 3, 1_000, 0, 9, 0], values);
    }
}
