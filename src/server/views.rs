//! The requests of Cluster and Maintenance: the state of a member and of its cluster.

use std::sync::Arc;

use super::{
    Error, Server,
    command::Command,
    health::alarm_name,
    mvcc::{HashKv, Store},
};
use crate::{
    clock,
    config::ETCD_VERSION,
    metrics::recorded,
    pb::etcdserverpb::{self, AlarmRequest, AlarmResponse, AlarmType, StatusResponse},
    set, stage,
};

impl Server {
    /// Cluster.MemberList: the members in the order of their ids. A linearizable list has every
    /// change that was committed before the call.
    pub(crate) async fn member_list(
        &self,
        id: u64,
        linearizable: bool,
    ) -> Result<Vec<etcdserverpb::Member>, Error> {
        if linearizable {
            self.reads.linearize(id).await?;
        }
        let mut span = stage!(MembersList, id, linearizable = linearizable);
        let members = self.members.list();
        set!(span, MembersList, members = members.len());
        Ok(members.into_iter().map(etcdserverpb::Member::from).collect())
    }

    /// Whether this member has no vote.
    pub(crate) fn is_learner(&self) -> bool {
        self.members.is_learner(self.member_id)
    }

    /// Maintenance.HashKV: reads the whole key bucket.
    pub(crate) async fn hash_kv(&self, id: u64, revision: i64) -> Result<HashKv, Error> {
        self.long_reads.hash(id, move |store| store.hash_kv(id, revision)).await?
    }

    /// Maintenance.Hash: a hash of the whole file, and the revision that was committed to it then.
    pub(crate) async fn hash(&self, id: u64) -> Result<(u32, i64), Error> {
        let backend = Arc::clone(&self.backend);
        let hash = move |_: &Store| {
            let mut span = stage!(BackendHash, id);
            let began = clock::now();
            let (hash, committed) = backend.hash();
            recorded::HASHES.observe_duration(began.elapsed());
            let (index, revision) = (committed.index, committed.revision);
            set!(span, BackendHash, index = index, revision = revision);
            (hash, revision)
        };
        self.long_reads.hash(id, hash).await
    }

    /// Maintenance.Alarm. Every action is proposed, even listing, as in etcd.
    pub(crate) async fn alarm(&self, id: u64, alarm: AlarmRequest) -> Result<AlarmResponse, Error> {
        let header = self.proposer.prepare(id)?;
        let alarms = self.proposer.propose(header, Command::Alarm(alarm)).await?.alarms();
        Ok(AlarmResponse { header: None, alarms })
    }

    /// Maintenance.Status: the state of this member now, without a quorum.
    pub(crate) fn status_for(&self, id: u64) -> StatusResponse {
        let mut span = stage!(MemberStatus, id);
        let status = self.member_status();
        set!(
            span,
            MemberStatus,
            leader = status.leader,
            term = status.raft_term,
            commit = status.raft_index,
            applied = status.raft_applied_index,
            size = status.db_size,
            in_use = status.db_size_in_use,
            errors = status.errors.len()
        );
        status
    }

    /// The state of this member now, as Status describes it.
    pub fn member_status(&self) -> StatusResponse {
        let mut errors: Vec<String> =
            self.alarms.list(AlarmType::None as i32).iter().map(alarm_text).collect();
        if self.status.leader() == 0 {
            errors.push("etcdserver: no leader".to_owned());
        }
        StatusResponse {
            version: ETCD_VERSION.to_owned(),
            db_size: i64::try_from(self.backend.size()).unwrap_or(i64::MAX),
            db_size_in_use: i64::try_from(self.backend.size_in_use()).unwrap_or(i64::MAX),
            leader: self.status.leader(),
            raft_index: self.status.commit(),
            raft_term: self.status.term(),
            raft_applied_index: self.status.applied(),
            errors,
            is_learner: self.is_learner(),
            ..StatusResponse::default()
        }
    }
}

fn alarm_text(alarm: &etcdserverpb::AlarmMember) -> String {
    let name = alarm_name(alarm.alarm);
    // As Go writes the message: fields that are 0 are left out.
    match alarm.member_id {
        0 => format!("alarm:{name} "),
        member => format!("memberID:{member} alarm:{name} "),
    }
}
