//! Do all members have the same keys? (etcd: `corrupt.go`.)
//!
//! ```text
//!   leader                                    each other member
//!     HashKV at revision r  ───────────────▶    HashKV at r           GET /members/hashkv
//!     compare, if both have compacted the same  ◀── hash, revisions
//!        └─ differ ─▶ alarm CORRUPT, which names the member
//! ```
//!
//! There are three occasions, each with its flag. At its *start* a member compares its newest
//! revision before it talks to anybody, and does not start if it differs. *Periodically* the leader
//! compares its newest revision. *After a compaction* it compares the compacted revision, once for
//! each compaction: that costs less, because of old revisions only those are left that are still
//! read.
//!
//! A hash finds what checksums of rows cannot: rows that are sound, and not those of the others.
//!
//! Who is wrong, if two differ? The others say so: if more than half of all members have the same
//! hash, those that have another are named. If not, the alarm names nobody (member 0), as in late
//! etcd 3.5, which never names one.
//!
//! Invariants
//! * A member that does not answer, that lags behind, or that has compacted another revision proves
//!   nothing, and raises no alarm.
//! * At most one check of each kind is under way on a member.
//!
//! Left out: etcd's leader hashes its own newest revision twice and compares; here the checksums of
//! rows are compared each time they are read. etcd keeps the hashes that it computes while it
//! compacts, of rows that it deletes; see [`mvcc`](super::mvcc). So after a compaction etcd's
//! answers are not comparable with ours, and are skipped.

mod own;
mod peer;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{
    Error,
    command::Command,
    internal::Internal,
    long_reads::LongReads,
    members::{Member, Members, hex},
    mvcc::{HashKv, Store},
    propose::Proposer,
    read_index::ReadIndex,
};
use crate::{
    pb::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction},
    set, stage,
};

pub(crate) use self::own::raise_own;
pub use self::peer::{Answerer, HASH_KV, Refused};

/// The occasions of a check, as records have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    Start = 0,
    Period = 1,
    Compaction = 2,
}

/// The part of a hash that is compared with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Compared {
    /// The member that has it.
    member: u64,
    hash: u32,
    /// The compacted revision; hashes at the same revision are comparable if it is the same.
    compacted: i64,
    /// The member's newest revision.
    revision: i64,
}

impl Compared {
    fn of(member: u64, found: HashKv) -> Compared {
        let HashKv { hash, compacted, revision, .. } = found;
        Compared { member, hash, compacted, revision }
    }
}

/// This member's data differ from those of others.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} found data inconsistency with peers. If the others agree, remove this member from the \
     cluster and add it again, with an empty data directory",
    hex(*member)
)]
pub struct Inconsistent {
    /// This member.
    member: u64,
}

/// Compares this member's keys with those of others.
pub(crate) struct Checker {
    pub(crate) member_id: u64,
    pub(crate) members: Arc<Members>,
    pub(crate) long_reads: Arc<LongReads>,
    /// The longest time that a member may take to answer.
    pub(crate) patience: Duration,
}

impl Checker {
    /// Compares the newest revision before the member serves anybody, for request `id`.
    ///
    /// # Errors
    /// Another member has other data. If no other answers, nothing is known, and the member starts.
    pub(crate) async fn initial(&self, id: u64) -> Result<(), Inconsistent> {
        tracing::info!("starting initial corruption check");
        let Ok((own, others)) = self.compare(id, Occasion::Start, 0).await else { return Ok(()) };
        if !differing(&own, &others).is_empty() {
            return Err(Inconsistent { member: self.member_id });
        }
        tracing::info!("initial corruption checking passed; no corruption");
        Ok(())
    }

    /// Hashes at this revision (0: the newest) here and on the other members.
    async fn compare(
        &self,
        id: u64,
        occasion: Occasion,
        revision: i64,
    ) -> Result<(Compared, Vec<Compared>), Error> {
        let mut span = stage!(CorruptCheck, id, occasion = occasion as u64);
        let own = self.long_reads.hash(id, move |store| store.hash_kv(id, revision)).await??;
        let others: Vec<Member> =
            self.members.list().into_iter().filter(|it| it.id != self.member_id).collect();
        let asking = others.iter().map(|member| self.ask(id, member, own));
        let answers: Vec<Compared> = join_all(asking).await.into_iter().flatten().collect();
        let own = Compared::of(self.member_id, own);
        let differ = answers.iter().filter(|it| is_comparable(&own, it) && it.hash != own.hash);
        set!(
            span,
            CorruptCheck,
            revision = own.revision,
            compacted = own.compacted.max(0),
            asked = others.len(),
            answered = answers.len(),
            differ = differ.count()
        );
        Ok((own, answers))
    }

    /// One member's hash; `None`, with a line in the log, if it has none to compare.
    async fn ask(&self, id: u64, member: &Member, own: HashKv) -> Option<Compared> {
        let answer = peer::ask(self, id, member, own.hash_revision).await;
        let peer = hex(member.id);
        match answer {
            Ok(found) if found.compacted != own.compacted => {
                let (here, there) = (own.compacted, found.compacted);
                tracing::info!(%peer, here, there, "a member has compacted another revision");
                Some(found)
            }
            Ok(found) => {
                if found.hash != own.hash {
                    let (here, there) = (own.hash, found.hash);
                    let revision = own.hash_revision;
                    tracing::warn!(
                        %peer, revision, here, there,
                        "found different hash values from remote peer"
                    );
                }
                Some(found)
            }
            Err(why) => {
                tracing::warn!(%peer, revision = own.hash_revision, %why, "failed hash kv request");
                None
            }
        }
    }
}

fn is_comparable(own: &Compared, other: &Compared) -> bool {
    own.compacted == other.compacted
}

/// The members that are wrong, if these are all: 0 if nobody can tell which; none if those that can
/// be compared agree.
///
/// A learner counts like a voter, as in etcd (checkPeerHashes): it has applied the same entries,
/// and the question is who has done so rightly, not who may vote.
fn wrong(own: &Compared, others: &[Compared], members: &[Member]) -> Vec<u64> {
    let comparable = others.iter().filter(|other| is_comparable(own, other));
    let mut by_hash = BTreeMap::<u32, Vec<u64>>::new();
    for found in comparable.chain([own]) {
        by_hash.entry(found.hash).or_default().push(found.member);
    }
    if by_hash.len() == 1 {
        return Vec::new();
    }
    match by_hash.values().find(|agree| members.len() < 2 * agree.len()) {
        Some(right) => by_hash.values().filter(|it| *it != right).flatten().copied().collect(),
        None => vec![0],
    }
}

/// The members with another hash.
fn differing(own: &Compared, others: &[Compared]) -> Vec<u64> {
    let differ = |other: &&Compared| is_comparable(own, other) && other.hash != own.hash;
    others.iter().filter(differ).map(|other| other.member).collect()
}

/// What the leader's checks need.
pub(crate) struct Watch {
    pub(crate) checker: Checker,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) reads: Arc<ReadIndex>,
    pub(crate) store: Arc<Store>,
}

/// Starts the checks that were asked for: periodically, and after compactions.
pub(crate) fn start(watch: &Arc<Watch>, period: Option<Duration>, compaction: Option<Duration>) {
    if let Some(every) = period {
        tracing::info!(?every, "enabled corruption checking");
        tokio::spawn(every_period(Arc::clone(watch), every));
    }
    if let Some(every) = compaction {
        tokio::spawn(after_compactions(Arc::clone(watch), every));
    }
}

async fn every_period(watch: Arc<Watch>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if watch.proposer.leads()
            && let Err(error) = watch.check_newest().await
        {
            tracing::warn!(?error, "failed to check hash KV");
        }
    }
}

async fn after_compactions(watch: Arc<Watch>, every: Duration) {
    // The newest compaction that all members have been compared at.
    let mut checked = -1;
    loop {
        tokio::time::sleep(every).await;
        let finished = watch.store.finished_compaction();
        if !watch.proposer.leads() || finished <= checked {
            continue;
        }
        match watch.check_compacted(finished).await {
            Ok(true) => checked = finished,
            // Some member lags behind: again after a while.
            Ok(false) => {}
            Err(error) => tracing::warn!(?error, "failed compaction hash check"),
        }
    }
}

impl Watch {
    /// Compares the newest revision, and raises the alarm if members differ.
    async fn check_newest(&self) -> Result<(), Error> {
        let id = self.proposer.ids.of_member(true);
        let check = async {
            let (own, others) = self.checker.compare(id, Occasion::Period, 0).await?;
            // By then this member has applied all that any earlier leader has committed.
            self.reads.linearize(id).await?;
            let (newest, compacted) = self.store.newest_and_compacted();
            let ahead = |it: &&Compared| newest < it.revision || compacted < it.compacted;
            let ahead: Vec<u64> = others.iter().filter(ahead).map(|it| it.member).collect();
            for member in &ahead {
                let member = hex(*member);
                tracing::warn!(%member, newest, compacted, "a member has more than was committed");
            }
            let mut wrong = self.wrong(&own, &others);
            wrong.extend(ahead);
            self.raise(wrong).await;
            tracing::info!(members = others.len(), "finished peer corruption check");
            Ok(())
        };
        Internal::CheckHash.request(id, check).await
    }

    /// Compares a compacted revision. Returns whether it was compared on all members.
    async fn check_compacted(&self, revision: i64) -> Result<bool, Error> {
        let id = self.proposer.ids.of_member(true);
        let check = async {
            let (own, others) = self.checker.compare(id, Occasion::Compaction, revision).await?;
            self.raise(self.wrong(&own, &others)).await;
            let compared = others.iter().filter(|other| is_comparable(&own, other)).count();
            let is_whole = compared + 1 == self.checker.members.list().len();
            tracing::info!(revision, compared, is_whole, "finished compaction hash check");
            Ok(is_whole)
        };
        Internal::CheckHash.request(id, check).await
    }

    fn wrong(&self, own: &Compared, others: &[Compared]) -> Vec<u64> {
        wrong(own, others, &self.checker.members.list())
    }

    /// Raises the alarm for each of these members that has none.
    async fn raise(&self, mut members: Vec<u64>) {
        members.sort_unstable();
        members.dedup();
        for member in members {
            if self.proposer.alarms.has(AlarmType::Corrupt, member) {
                continue;
            }
            tracing::error!(member = %hex(member), "members differ: raising the alarm");
            let id = self.proposer.ids.next(true);
            let raised = async {
                let header = self.proposer.prepare(id)?;
                self.proposer.propose(header, Command::Alarm(corrupt(member))).await
            };
            if let Err(error) = Internal::RaiseAlarm.request(id, raised).await {
                // The next check raises it.
                tracing::warn!(?error, "could not raise the alarm yet");
            }
        }
    }
}

/// The request that raises the alarm for a member.
fn corrupt(member_id: u64) -> AlarmRequest {
    let (action, alarm) = (AlarmAction::Activate as i32, AlarmType::Corrupt as i32);
    AlarmRequest { action, member_id, alarm }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [u64; 0] = [];

    fn has(member: u64, hash: u32) -> Compared {
        Compared { member, hash, compacted: 5, revision: 9 }
    }

    /// This many members, of which the last is a learner.
    fn of(count: u64) -> Vec<Member> {
        let member = |id| Member { id, is_learner: id == count, ..Member::default() };
        (1..=count).map(member).collect()
    }

    #[test]
    fn the_members_that_a_majority_contradicts_are_wrong() {
        let wrong = |own, others: &[_], members| wrong(&own, others, &of(members));
        assert_eq!(wrong(has(1, 7), &[has(2, 7), has(3, 7)], 3), NOBODY);
        assert_eq!(wrong(has(1, 7), &[has(2, 8), has(3, 7)], 3), [2]);
        assert_eq!(wrong(has(1, 7), &[has(2, 8), has(3, 8)], 3), [1], "the leader itself");
        let two = [has(2, 8), has(3, 7), has(4, 9), has(5, 7)];
        assert_eq!(wrong(has(1, 7), &two, 5), [2, 4]);
    }

    #[test]
    fn a_learner_counts_like_a_voter() {
        // With it two of three agree, and of two voters alone neither would be in the majority.
        assert_eq!(wrong(&has(1, 7), &[has(2, 8), has(3, 7)], &of(3)), [2]);
        assert_eq!(wrong(&has(1, 7), &[has(2, 7), has(3, 8)], &of(3)), [3], "a learner is named");
        // Two voters agree, but the learner makes them two of four with the one that is silent.
        assert_eq!(wrong(&has(1, 7), &[has(2, 7), has(4, 8)], &of(4)), [0]);
    }

    #[test]
    fn without_a_majority_nobody_is_named() {
        let wrong = |own, others: &[_], members| wrong(&own, others, &of(members));
        assert_eq!(wrong(has(1, 7), &[has(2, 8)], 2), [0]);
        // The third has not answered, or is not comparable.
        assert_eq!(wrong(has(1, 7), &[has(2, 8)], 3), [0]);
        let elsewhere = Compared { compacted: 4, ..has(3, 8) };
        assert_eq!(wrong(has(1, 7), &[has(2, 8), elsewhere], 3), [0]);
        assert_eq!(wrong(has(1, 7), &[has(2, 7), elsewhere], 3), NOBODY);
        assert_eq!(wrong(has(1, 7), &[has(2, 8), has(3, 9)], 3), [0]);
    }

    #[test]
    fn a_member_that_cannot_be_compared_does_not_differ() {
        let elsewhere = Compared { compacted: 4, ..has(3, 8) };
        assert_eq!(differing(&has(1, 7), &[has(2, 7), elsewhere]), NOBODY);
        assert_eq!(differing(&has(1, 7), &[has(2, 8), elsewhere]), [2]);
    }
}
