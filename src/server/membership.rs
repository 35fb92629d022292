//! The requests that change the members: add, promote, remove, update.
//!
//! ```text
//!   request ──▶ URLs? ──▶ may the members change now? ──▶ the log ──▶ apply, on every member
//!                             │ a promotion, elsewhere
//!                             └──────────────────────▶ the leader, over HTTP
//! ```
//!
//! The check comes before the log and depends on this member: whether enough voters have started,
//! and whether it is connected to enough of them (`--strict-reconfig-check`). It protects the
//! quorum from an operator in a hurry: a new voter counts for the majority before it runs. What
//! depends on the members alone is checked by apply, the same on every member.
//!
//! Only the leader knows how much of the log a learner has, so a promotion is forwarded to it
//! (etcd: `POST /members/promote/ID` at its peer URL).
//!
//! (etcd: `EtcdServer.AddMember`, `PromoteMember`, `RemoveMember`, `UpdateMember`)

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    Error,
    error::note,
    internal::Internal,
    members::{Member, Refusal, change::Change},
    propose::{Proposer, refused},
    read_index::ReadIndex,
    wait_step::WaitStep,
};
use crate::{
    clock, config,
    metrics::recorded,
    raft::{
        inbox::{Input, Matched},
        rafthttp::questions::{self, Limits},
    },
    set, stage,
    trace::Span,
};

/// How long a member must be connected to count (etcd: HealthInterval).
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// The path at which the leader promotes a learner, before its id in decimal (etcd:
/// peerMemberPromotePrefix).
pub const PROMOTE: &str = "/members/promote/";

/// etcd's texts in the leader's answer, by which its members tell two refusals apart.
const NOT_READY: &str =
    "etcdserver: can only promote a learner member which is in sync with leader";
const NOT_LEARNER: &str = "membership: can only promote a learner member";

/// The pause between two attempts to reach a leader.
const PAUSE: Duration = Duration::from_millis(100);

/// Limits on the leader's answer, which comes after apply.
const LIMITS: Limits = Limits { patience: Duration::from_secs(7), body: 1 << 20 };

/// Changes the members of the cluster.
#[derive(Clone)]
pub struct Membership {
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) reads: Arc<ReadIndex>,
    /// `--strict-reconfig-check`.
    pub(crate) is_strict: bool,
}

/// What the check compares: voters now, and those that have started or are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Voters {
    /// All.
    count: usize,
    /// Those that have published their name.
    started: usize,
    /// Those that this member has been connected to long enough, and itself.
    connected: usize,
}

impl Membership {
    /// Cluster.MemberAdd. Returns the new member, and all members.
    pub(crate) async fn add(
        &self,
        id: u64,
        peer_urls: &[String],
        is_learner: bool,
    ) -> Result<(Member, Vec<Member>), Error> {
        let peer_urls = check_urls(id, peer_urls)?;
        let seconds = clock::wall().as_secs();
        let member_id = config::ids::member_id(&peer_urls, "", Some(seconds));
        let member = Member { id: member_id, peer_urls, is_learner, ..Member::default() };
        let change = Change::Add(member.clone());
        self.authenticate(id);
        self.check(id, &change, |voters, _| voters.may_add(is_learner))?;
        Ok((member, self.propose(id, &change).await?))
    }

    /// Cluster.MemberRemove.
    pub(crate) async fn remove(&self, id: u64, member: u64) -> Result<Vec<Member>, Error> {
        let change = Change::Remove(member);
        self.authenticate(id);
        let is_learner = self.proposer.members.is_learner(member);
        self.check(id, &change, |voters, without| match is_learner {
            true => Ok(()),
            false => voters.may_remove(without, self.is_active(member)),
        })?;
        self.propose(id, &change).await
    }

    /// Cluster.MemberUpdate. etcd does not look at the URLs here, and ends when it dials them.
    pub(crate) async fn update(
        &self,
        id: u64,
        member: u64,
        peer_urls: &[String],
    ) -> Result<Vec<Member>, Error> {
        let change = Change::Update(member, check_urls(id, peer_urls)?);
        self.authenticate(id);
        self.propose(id, &change).await
    }

    /// Cluster.MemberPromote: by this member if it leads, otherwise by the leader.
    pub(crate) async fn promote(&self, id: u64, member: u64) -> Result<Vec<Member>, Error> {
        let promoted = async {
            loop {
                let result = match self.proposer.leads() {
                    true => self.promote_here(id, member).await,
                    false => self.forward(id, member).await,
                };
                match result {
                    Err(Error::NotLeader) => sleep(PAUSE).await,
                    result => return result,
                }
            }
        };
        let limit = self.proposer.settings.request_timeout;
        timeout(limit, promoted).await.unwrap_or(Err(Error::Timeout))
    }

    /// The promotion that another member has asked this one for.
    pub(crate) async fn serve_promotion(&self, member: u64) -> Result<Vec<Member>, Error> {
        let id = self.proposer.ids.of_member(false);
        Internal::Promote.request(id, self.promote(id, member)).await
    }

    async fn promote_here(&self, id: u64, member: u64) -> Result<Vec<Member>, Error> {
        self.authenticate(id);
        let promoted = self.try_promote(id, member).await;
        match promoted {
            Ok(_) => recorded::PROMOTIONS.increment(),
            Err(error) => recorded::PROMOTIONS_REFUSED.count(error.reason().text()),
        }
        promoted
    }

    async fn try_promote(&self, id: u64, member: u64) -> Result<Vec<Member>, Error> {
        let limit = self.proposer.settings.request_timeout;
        self.reads.wait_applied(id, self.proposer.status.commit(), limit).await?;
        let matched = self.matched(member).await?;
        let change = Change::Promote(member);
        let mut span = self.open(id, &change, self.voters(None));
        if let Some(Matched { member, leader }) = matched {
            let member = member.unwrap_or_default();
            set!(span, MembersCheck, matched = member, leader_matched = leader);
        }
        note(&mut span, is_ready(matched))?;
        let voters = self.voters(None);
        note(&mut span, if self.is_strict { voters.may_promote() } else { Ok(()) })?;
        drop(span);
        self.propose(id, &change).await
    }

    /// Asks the leader, at each of its URLs. [`Error::NotLeader`] if another attempt makes sense.
    async fn forward(&self, id: u64, member: u64) -> Result<Vec<Member>, Error> {
        let leader = self.proposer.status.leader();
        let Some(known) = self.proposer.members.get(leader) else { return Err(Error::NotLeader) };
        for url in &known.peer_urls {
            let span = stage!(MembersForward, id, subject = member, leader = leader);
            let mut step = WaitStep::begin(span);
            match step.end(ask(url, member).await) {
                Err(Error::NotLeader) => {}
                result => return result,
            }
        }
        Err(Error::NotLeader)
    }

    /// How much of the log a member has, if this one leads.
    async fn matched(&self, member: u64) -> Result<Option<Matched>, Error> {
        let (answer, matched) = oneshot::channel();
        self.proposer.inbox.offer(Input::AskMatch { member, answer }).map_err(refused)?;
        matched.await.map_err(|_| Error::Stopped)
    }

    /// The user of the request. While auth is off, everybody may change the members.
    fn authenticate(&self, id: u64) {
        self.proposer.auth.authenticate(id);
    }

    /// Checks whether the members may change now; `may` gets the voters, and those without the
    /// member that is concerned.
    fn check(
        &self,
        id: u64,
        change: &Change,
        may: impl FnOnce(Voters, Voters) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (all, without) = (self.voters(None), self.voters(Some(change.member())));
        let mut span = self.open(id, change, all);
        let result = if self.is_strict { may(all, without) } else { Ok(()) };
        if let Err(error) = result {
            tracing::warn!(?change, ?all, ?error, "refused to change the members");
        }
        note(&mut span, result)
    }

    fn open(&self, id: u64, change: &Change, voters: Voters) -> Span {
        let Voters { count, started, connected } = voters;
        let (change, member) = (change.number(), change.member());
        let mut span = stage!(MembersCheck, id, change = change, subject = member);
        set!(span, MembersCheck, voters = count, started = started, connected = connected);
        span
    }

    /// The voters now, without one of them if a removal is asked for.
    fn voters(&self, without: Option<u64>) -> Voters {
        let own = self.proposer.member_id;
        let mut voters = Voters::default();
        let peers: BTreeSet<u64> = match clock::now().checked_sub(HEALTH_INTERVAL) {
            Some(since) => self.proposer.peers.active_since(since).collect(),
            None => BTreeSet::new(),
        };
        for member in self.proposer.members.voters() {
            if Some(member.id) == without {
                continue;
            }
            voters.count += 1;
            voters.started += usize::from(!member.name.is_empty());
            voters.connected += usize::from(member.id == own || peers.contains(&member.id));
        }
        voters
    }

    /// Whether the loss of this member would be felt: it is this one, or sends messages.
    fn is_active(&self, member: u64) -> bool {
        member == self.proposer.member_id || self.proposer.peers.since(member).is_some()
    }

    /// Proposes a change, and returns the members after it.
    async fn propose(&self, id: u64, change: &Change) -> Result<Vec<Member>, Error> {
        Ok(self.proposer.propose_change(id, change.encode(id)).await?.members())
    }
}

impl Voters {
    /// etcd: `mayAddMember`. The new voter counts for the majority and has not started. A lone
    /// member may always add another.
    fn may_add(self, is_learner: bool) -> Result<(), Error> {
        let is_lone = self.count == 1 && self.started == 1;
        if !is_learner && !is_lone && self.started < quorum(self.count + 1) {
            return Err(Error::Members(Refusal::NotEnoughStarted));
        }
        match self.count != 1 && self.connected < quorum(self.count + 1) {
            true => Err(Error::Unhealthy),
            false => Ok(()),
        }
    }

    /// etcd: `mayRemoveMember`, for a voter. `self` has it, and `without` does not. One that is not
    /// active takes nothing from those that are.
    fn may_remove(self, without: Voters, is_active: bool) -> Result<(), Error> {
        if without.started < quorum(without.count) {
            return Err(Error::Members(Refusal::NotEnoughStarted));
        }
        let left = self.connected.saturating_sub(1);
        match is_active && left < quorum(self.count.saturating_sub(1)) {
            true => Err(Error::Unhealthy),
            false => Ok(()),
        }
    }

    /// etcd: `IsReadyToPromoteMember`. The learner counts as started.
    fn may_promote(self) -> Result<(), Error> {
        match self.started + 1 < quorum(self.count + 1) {
            true => Err(Error::Members(Refusal::NotEnoughStarted)),
            false => Ok(()),
        }
    }
}

/// The majority of this many voters.
fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether the learner has enough of the leader's log (etcd: `isLearnerReady`, readyPercent).
fn is_ready(matched: Option<Matched>) -> Result<(), Error> {
    let Matched { member, leader } = matched.ok_or(Error::NotLeader)?;
    let member = member.ok_or(Error::Members(Refusal::NotFound))?;
    match u128::from(member) * 10 < u128::from(leader) * 9 {
        true => Err(Error::Members(Refusal::NotReady)),
        false => Ok(()),
    }
}

/// The URLs in the form in which etcd keeps them. An `https` URL is refused as well, because no
/// member of this version could be reached there.
fn check_urls(id: u64, urls: &[String]) -> Result<Vec<String>, Error> {
    let mut span = stage!(RpcValidate, id, operations = urls.len());
    note(&mut span, config::peer_urls(urls).ok_or(Error::Members(Refusal::BadUrls)))
}

/// Asks the member at this URL to promote a learner.
async fn ask(url: &str, member: u64) -> Result<Vec<Member>, Error> {
    let request = Request::post(format!("{PROMOTE}{member}")).body(Bytes::new());
    let request = request.map_err(|_| Error::NotLeader)?;
    let answer = questions::ask(url, request, LIMITS).await.ok_or(Error::NotLeader)?;
    let text = String::from_utf8_lossy(answer.body());
    match answer.status() {
        StatusCode::OK => serde_json::from_slice(answer.body()).map_err(|_| Error::NotLeader),
        StatusCode::NOT_FOUND if text.contains("membership: ID not found") => {
            Err(Error::Members(Refusal::NotFound))
        }
        StatusCode::PRECONDITION_FAILED if text.contains(NOT_READY) => {
            Err(Error::Members(Refusal::NotReady))
        }
        StatusCode::PRECONDITION_FAILED if text.contains(NOT_LEARNER) => {
            Err(Error::Members(Refusal::NotLearner))
        }
        _ => Err(Error::NotLeader),
    }
}

/// The answer to [`ask`]: a status, and etcd's text.
pub fn refusal(error: Error) -> (StatusCode, &'static str) {
    match error {
        Error::Members(Refusal::NotFound | Refusal::Removed) => {
            (StatusCode::NOT_FOUND, "membership: ID not found")
        }
        Error::Members(Refusal::NotLearner) => (StatusCode::PRECONDITION_FAILED, NOT_LEARNER),
        Error::Members(Refusal::NotReady) => (StatusCode::PRECONDITION_FAILED, NOT_READY),
        Error::Timeout => (StatusCode::REQUEST_TIMEOUT, "etcdserver: request timed out"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(count: usize, started: usize, connected: usize) -> Voters {
        Voters { count, started, connected }
    }

    #[test]
    fn a_new_voter_must_not_endanger_the_quorum() {
        for (now, is_learner, expected) in [
            (voters(1, 1, 1), false, Ok(())),
            (voters(1, 0, 1), false, Err(Error::Members(Refusal::NotEnoughStarted))),
            (voters(2, 1, 2), false, Err(Error::Members(Refusal::NotEnoughStarted))),
            (voters(2, 1, 2), true, Ok(())),
            (voters(2, 2, 2), false, Ok(())),
            (voters(3, 3, 3), false, Ok(())),
            (voters(3, 3, 2), false, Err(Error::Unhealthy)),
            (voters(3, 3, 2), true, Err(Error::Unhealthy)),
            (voters(3, 2, 3), false, Err(Error::Members(Refusal::NotEnoughStarted))),
            (voters(4, 3, 3), false, Ok(())),
            (voters(4, 3, 2), false, Err(Error::Unhealthy)),
        ] {
            assert_eq!(now.may_add(is_learner), expected, "{now:?} {is_learner}");
        }
    }

    #[test]
    fn a_removal_must_leave_a_quorum_that_runs() {
        for (now, without, is_active, expected) in [
            (
                voters(1, 1, 1),
                voters(0, 0, 0),
                true,
                Err(Error::Members(Refusal::NotEnoughStarted)),
            ),
            (voters(2, 2, 2), voters(1, 1, 1), true, Ok(())),
            (voters(2, 1, 1), voters(1, 1, 1), false, Ok(())),
            (
                voters(2, 1, 1),
                voters(1, 0, 0),
                true,
                Err(Error::Members(Refusal::NotEnoughStarted)),
            ),
            (voters(3, 3, 3), voters(2, 2, 2), true, Ok(())),
            (voters(3, 3, 2), voters(2, 2, 2), true, Err(Error::Unhealthy)),
            (voters(3, 3, 2), voters(2, 2, 2), false, Ok(())),
            (voters(4, 3, 3), voters(3, 2, 2), true, Ok(())),
            (
                voters(4, 2, 3),
                voters(3, 1, 2),
                true,
                Err(Error::Members(Refusal::NotEnoughStarted)),
            ),
        ] {
            assert_eq!(now.may_remove(without, is_active), expected, "{now:?} {without:?}");
        }
    }

    #[test]
    fn a_learner_is_promoted_with_nine_tenths_of_the_leaders_log() {
        let matched = |member, leader| Some(Matched { member, leader });
        for (matched, expected) in [
            (None, Err(Error::NotLeader)),
            (matched(None, 10), Err(Error::Members(Refusal::NotFound))),
            (matched(Some(8), 10), Err(Error::Members(Refusal::NotReady))),
            (matched(Some(9), 10), Ok(())),
            (matched(Some(899), 1000), Err(Error::Members(Refusal::NotReady))),
            (matched(Some(u64::MAX), u64::MAX), Ok(())),
            (matched(Some(0), 0), Ok(())),
        ] {
            assert_eq!(is_ready(matched), expected, "{matched:?}");
        }
        assert_eq!(voters(2, 0, 1).may_promote(), Err(Error::Members(Refusal::NotEnoughStarted)));
        assert_eq!(voters(3, 2, 1).may_promote(), Ok(()));
    }
}
