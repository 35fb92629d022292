//! Shortens the wait for the first election after a start (etcd: `adjustTicks`).
//!
//! ```text
//!   ticks   0 ────────────── election time-out ── random part ──▶ campaign
//!           └── skipped: all but one or two ────┘└ half, or all ┘
//! ```
//!
//! A member that starts has already been without a leader for an unknown time, so it need not wait
//! for the whole election timeout. It leaves two ticks, in which a leader's heartbeat can arrive.
//! The random part keeps candidates apart. A lone member skips it. In larger clusters half of it is
//! enough with PreVote, because colliding pre-candidates do not raise the term. Without PreVote the
//! members wait for all of it, as etcd's do.

use raft::Raft;

use super::{log::LogStorage, timing::Timing};

/// How many ticks may be skipped now; `None` if none. `connected` is the number of active peers.
pub(super) fn skip(raft: &Raft<LogStorage>, timing: &Timing, connected: usize) -> Option<usize> {
    let can_elect = match timing.is_alone {
        // Before that raft-rs refuses to campaign, and starts the wait anew.
        true => raft.raft_log.applied == raft.raft_log.committed,
        false => 1 < connected,
    };
    if timing.advance == 0 || !can_elect {
        return None;
    }
    let random = raft.randomized_election_timeout().saturating_sub(raft.election_timeout());
    let of_random = match (timing.is_alone, raft.pre_vote) {
        (true, _) => random,
        (false, true) => random / 2,
        (false, false) => 0,
    };
    Some(timing.advance + of_random)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use raft::{RawNode, StateRole, eraftpb::ConfState};

    use super::*;
    use crate::{
        raft::{log::Start, logger::logger},
        storage::wal::{Metadata, Options, create},
    };

    const TICKS: usize = 10;

    /// A follower among `voters`, with an empty log.
    fn follower(voters: u64, pre_vote: bool) -> (RawNode<LogStorage>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata { node_id: 1, cluster_id: 2 };
        let log = create(&dir.path().join("wal"), &metadata, &Options::default());
        let start = Start {
            conf_state: ConfState::from(((1..=voters).collect::<Vec<_>>(), vec![])),
            ..Start::default()
        };
        let config = raft::Config {
            id: 1,
            election_tick: TICKS,
            heartbeat_tick: 1,
            check_quorum: true,
            pre_vote,
            ..raft::Config::default()
        };
        let log = LogStorage::new(start, log.unwrap().1);
        (RawNode::new(&config, log, &logger()).unwrap(), dir)
    }

    fn timing(advance: usize, is_alone: bool) -> Timing {
        let tick = Duration::from_millis(100);
        Timing { tick, advance, is_alone, patience: Duration::from_secs(7) }
    }

    /// Ticks until the member campaigns, those that are skipped not counted.
    fn wait(voters: u64, pre_vote: bool, advance: usize) -> usize {
        let (mut raw, _dir) = follower(voters, pre_vote);
        let timing = timing(advance, voters == 1);
        let skipped = skip(&raw.raft, &timing, 2).unwrap_or(0);
        (0..skipped).for_each(|_| _ = raw.tick());
        assert_eq!(raw.raft.state, StateRole::Follower, "while it skips, it does not campaign");
        (1..).find(|_| raw.tick() && raw.raft.state != StateRole::Follower).unwrap()
    }

    #[test]
    fn a_lone_member_waits_for_a_tick_and_others_for_two_and_half_of_the_random_part() {
        let waits = |voters, pre_vote, advance| {
            let mut waits: Vec<usize> = (0..40).map(|_| wait(voters, pre_vote, advance)).collect();
            waits.sort_unstable();
            (waits[0], waits[39])
        };
        assert_eq!(waits(1, true, TICKS - 1), (1, 1));
        let (least, most) = waits(3, true, TICKS - 2);
        assert!(2 <= least && (4..=2 + TICKS / 2).contains(&most), "{least} to {most}");
        let (least, most) = waits(3, false, TICKS - 2);
        assert!(2 <= least && 2 + TICKS / 2 < most, "{least} to {most}: all of it");
        let (least, _) = waits(3, true, 0);
        assert!(TICKS <= least, "--initial-election-tick-advance=false");
    }

    #[test]
    fn no_tick_is_skipped_before_others_are_active() {
        let (raw, _dir) = follower(3, true);
        assert_eq!(skip(&raw.raft, &timing(TICKS - 2, false), 1), None);
        assert!(skip(&raw.raft, &timing(TICKS - 2, false), 2).is_some());
    }
}
