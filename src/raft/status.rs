//! Raft's state, for other threads to read without asking the raft thread.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use raft::{StateRole, eraftpb::ConfState};
use tokio::sync::watch;

use crate::{metrics::recorded, trace};

/// Notes for the trace that raft has this configuration, from the entry `index` on.
pub(super) fn configured(index: u64, members: &ConfState) {
    let (voters, learners) = (members.voters.clone(), members.learners.clone());
    trace::watermarks().configured(trace::Configuration { index, voters, learners });
}

/// The leader and the term, as far as this member knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Leadership {
    /// Raft's term in which `leader` leads, or in which there is none.
    pub(crate) term: u64,
    /// The leader's id; 0 for none.
    pub(crate) leader: u64,
}

/// Watermarks and leadership, written by the raft and apply threads.
#[derive(Debug)]
pub(crate) struct Status {
    term: AtomicU64,
    leader: AtomicU64,
    commit: AtomicU64,
    applied: AtomicU64,
    elected_at: Mutex<Option<Instant>>,
    leadership: watch::Sender<Leadership>,
    applied_watch: watch::Sender<u64>,
}

/// A role by the number that records carry: 0 follower, 1 candidate, 2 leader, 3 pre-candidate.
pub(crate) fn role_number(role: StateRole) -> u64 {
    match role {
        StateRole::Follower => 0,
        StateRole::Candidate => 1,
        StateRole::Leader => trace::value::LEADER,
        StateRole::PreCandidate => 3,
    }
}

impl Status {
    /// A status in which everything up to `applied` has been applied.
    pub(crate) fn new(applied: u64) -> Self {
        trace::watermarks().applied.store(applied, Ordering::Relaxed);
        Self {
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            commit: AtomicU64::new(applied),
            applied: AtomicU64::new(applied),
            elected_at: Mutex::new(None),
            leadership: watch::Sender::new(Leadership::default()),
            applied_watch: watch::Sender::new(applied),
        }
    }

    /// Raft's current term, as the raft thread last published it.
    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// The leader's id; 0 for none.
    pub(crate) fn leader(&self) -> u64 {
        self.leader.load(Ordering::Acquire)
    }

    /// The highest index that is known to be committed.
    pub(crate) fn commit(&self) -> u64 {
        self.commit.load(Ordering::Acquire)
    }

    /// The highest index that apply has made visible.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// When this member learned of the present leader; `None` if it never had one.
    pub(crate) fn elected_at(&self) -> Option<Instant> {
        *self.elected_at.lock().expect("nobody panics while holding it")
    }

    /// A receiver that sees each change of term or leader.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// A receiver that sees the applied index rise.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied_watch.subscribe()
    }

    /// Called by the apply thread: everything up to `index` is visible.
    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.store(index, Ordering::Release);
        trace::watermarks().applied.store(index, Ordering::Relaxed);
        self.applied_watch.send_replace(index);
    }

    /// Called by the raft thread: the highest index that is known to be committed.
    pub(super) fn set_commit(&self, commit: u64) {
        self.commit.store(commit, Ordering::Release);
        trace::watermarks().commit.store(commit, Ordering::Relaxed);
    }

    /// Called by the raft thread: role, term, vote or leader has changed.
    pub(crate) fn set_leadership(&self, role: StateRole, now: Leadership, vote: u64) {
        let marks = trace::watermarks();
        marks.role.store(role_number(role), Ordering::Relaxed);
        marks.term.store(now.term, Ordering::Relaxed);
        marks.leader.store(now.leader, Ordering::Relaxed);
        marks.vote.store(vote, Ordering::Relaxed);
        self.term.store(now.term, Ordering::Release);
        let before = self.leader.swap(now.leader, Ordering::AcqRel);
        if before != now.leader && now.leader != 0 {
            recorded::LEADER_CHANGES.increment();
            *self.elected_at.lock().expect("nobody panics while holding it") =
                Some(crate::clock::now());
        }
        self.leadership.send_if_modified(|old| {
            let changed = *old != now;
            *old = now;
            changed
        });
    }
}
