//! The steps of a request that are not in the recording: those that were not captured, and those
//! that had not happened yet.
//!
//! A watermark only rises, so a later record with a lower value than the entry's index proves that
//! the member had not come to the entry by then. As long as records of a member follow, and none of
//! them ends the rpc, it has not ended; and if the member has started again since, it never will. A
//! member that has lost records proves nothing.

use std::collections::BTreeSet;

use super::{Finder, Missing};
use crate::{
    story::{Event, state::Watermark},
    trace::{record::Kind, stage::Stage},
};

impl Finder<'_> {
    /// Steps that are known to have happened, but are not in the recording.
    pub(super) fn missing(
        &self,
        id: u64,
        entry: Option<(u64, u64)>,
        rounds: &BTreeSet<u64>,
    ) -> Vec<Missing> {
        const OF_ENTRY: &[Stage] = &[
            Stage::RaftEntry,
            Stage::WalWrite,
            Stage::WalFsync,
            Stage::RaftCommit,
            Stage::ApplyEntry,
            Stage::BackendCommit,
        ];
        let has = |member: u8, stage: Stage| {
            self.picked.keys().map(|at| self.event(*at)).any(|event| {
                (event.member, event.stage) == (member, stage) && event.kind != Kind::Begin
            })
        };
        let mut missing = Vec::new();
        if let Some((_, index)) = entry {
            let since = self.picked.keys().map(|at| self.rank(*at)).min().unwrap_or(0);
            for place in 0..self.stories.recording.members.len() {
                let member = u8::try_from(place).unwrap_or(u8::MAX);
                let unknown = OF_ENTRY.iter().filter(|stage| !has(member, **stage));
                missing.extend(unknown.map(|stage| {
                    let water = water_of(*stage);
                    let not_by =
                        water.and_then(|water| self.stories.not_by(member, water, (index, since)));
                    Missing { member, stage: *stage, not_by, is_never: false }
                }));
            }
        }
        let own = || self.stories.with_id(id).iter().map(|at| self.event(*at));
        // A member that asked the leader about a lease has no round: the leader has.
        let waited = own().filter(|event| event.stage == Stage::ReadIndexWait);
        let waited: BTreeSet<u8> = waited.map(|event| event.member).collect();
        let round = Stage::ReadIndexRound;
        if !rounds.is_empty() {
            let unknown = waited.into_iter().filter(|member| !has(*member, round));
            let missed = |member| Missing { member, stage: round, not_by: None, is_never: false };
            missing.extend(unknown.map(missed));
        }
        let rpc = own().find(|event| event.stage == Stage::Rpc);
        if let Some(Event { member, boot, .. }) = rpc.filter(|rpc| !has(rpc.member, Stage::Rpc)) {
            // What follows the end of an rpc, or comes just before it, shows that it has ended.
            let is_over = has(*member, Stage::RaftPropose) || has(*member, Stage::AnswerFlush);
            let last = self.stories.last_of((*member, *boot)).filter(|_| !is_over);
            let is_never = last.is_some() && self.stories.has_ended((*member, *boot));
            missing.push(Missing { member: *member, stage: Stage::Rpc, not_by: last, is_never });
        }
        missing
    }
}

/// The watermark of a member that passes an entry's index when the entry takes a step of this
/// stage.
fn water_of(stage: Stage) -> Option<Watermark> {
    Some(match stage {
        Stage::WalWrite => Watermark::Written,
        Stage::WalFsync => Watermark::Synced,
        Stage::RaftCommit => Watermark::Commit,
        Stage::ApplyEntry => Watermark::Applied,
        Stage::BackendCommit => Watermark::Stored,
        _ => return None,
    })
}
