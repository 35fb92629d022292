//! How the leader brings a member's log up to date after a start: the probe, its refusals, and the
//! database if the log no longer reaches.
//!
//! ```text
//!   leader   MsgApp after 12          MsgApp after 9 ─ entries 10 to 12
//!               │        ▲ refused          │        ▲ accepted: the logs match
//!   member      ▼ ───────┘                  ▼ ───────┘
//!
//!   leader   snapshot.send ──┐        MsgApp after the snapshot
//!   member                   ▼ snapshot.receive, snapshot.accept, snapshot.install
//! ```
//!
//! Invariant: the refusals and the snapshots bound what the story contains, and not the entries
//! that the member lacks: with the first answer that accepts, the logs match, and what follows is
//! ordinary work of raft.

use std::collections::BTreeMap;

use super::{Finder, Relation};
use crate::{
    field,
    story::Event,
    trace::{Kind, message, stage::Stage},
};

/// How many answers that accept a story contains after a start.
const ANSWERS: usize = 1;
/// And after a snapshot: that to the snapshot itself, and that to the entries after it.
const AFTER_SNAPSHOT: usize = 2;

/// The type of a message that the member receives, or answers with.
fn message_of(event: &Event) -> Option<u64> {
    let is_message = matches!(event.stage, Stage::RaftSend | Stage::RaftReceive);
    (is_message && event.kind != Kind::Begin).then(|| field!(event, RaftSend | RaftReceive, type))
}

impl Finder<'_> {
    /// Adds the repair of a log to the story of a start: `own` are the start's events in playback
    /// order, and `member_id` is the member's.
    pub(super) fn repair(&mut self, own: &[usize], member_id: u64) {
        let mut picked: BTreeMap<usize, Relation> = BTreeMap::new();
        let mut answers = ANSWERS;
        for at in own {
            let event = self.event(*at);
            match (event.stage, message_of(event)) {
                (Stage::SnapshotAccept, _) => {
                    answers = AFTER_SNAPSHOT;
                    picked.insert(*at, Relation::Own);
                }
                (Stage::SnapshotReceive | Stage::SnapshotInstall | Stage::LogTruncate, _) => {
                    picked.insert(*at, Relation::Own);
                }
                (Stage::RaftReceive, Some(message::APP)) if 0 < answers => {
                    picked.insert(*at, Relation::Message);
                }
                (Stage::RaftSend, Some(message::APP_RESP)) => {
                    let is_refusal = field!(event, RaftSend, reject) != 0;
                    if is_refusal || 0 < answers {
                        picked.insert(*at, Relation::Message);
                    }
                    answers = match is_refusal {
                        true => answers.max(ANSWERS),
                        false => answers.saturating_sub(1),
                    };
                }
                _ => (),
            }
        }
        let ends: Vec<usize> = picked.keys().copied().collect();
        let partners = ends.iter().filter_map(|at| self.stories.order.partner.get(at));
        self.picked.extend(partners.map(|at| (*at, Relation::Message)));
        self.picked.extend(picked);
        self.sent_databases(own, member_id);
    }

    /// Adds the databases that other members sent to this one while it started.
    fn sent_databases(&mut self, own: &[usize], member_id: u64) {
        let ranks = own.iter().map(|at| self.rank(*at));
        let (Some(first), Some(last)) = (ranks.clone().min(), ranks.max()) else { return };
        let rows = &self.stories.order.rows;
        let last = last.min(rows.len().saturating_sub(1));
        let is_sent = |at: &usize| {
            let event = self.event(*at);
            event.stage == Stage::SnapshotSend && field!(event, SnapshotSend, peer) == member_id
        };
        let sent = rows.get(first..=last).unwrap_or_default().iter().copied().filter(is_sent);
        let sent: Vec<usize> = sent.collect();
        self.picked.extend(sent.into_iter().map(|at| (at, Relation::Message)));
    }
}
