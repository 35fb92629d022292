//! What a member says about itself and its cluster.

use std::sync::Arc;

use super::{
    Error, Server,
    health::alarm_name,
    members::Member,
    mvcc::{HashKv, Store},
    wait::Wait,
};
use crate::{
    pb::etcdserverpb::{self, AlarmType, StatusResponse},
    raft::{Leadership, Status, inbox::Inbox},
};

/// The API level that this server meets.
pub const ETCD_VERSION: &str = "3.5.33";

impl Server {
    /// This member's id.
    pub fn member_id(&self) -> u64 {
        self.member_id
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.members.cluster_id()
    }

    /// The raft term.
    pub fn term(&self) -> u64 {
        self.status.term()
    }

    /// The leader's id; 0 for none.
    pub fn leader(&self) -> u64 {
        self.status.leader()
    }

    /// Whether this member hears any other.
    pub fn has_heard_peers(&self) -> bool {
        self.peers.connected() != 0
    }

    /// Changes of term and leader.
    pub fn leadership(&self) -> tokio::sync::watch::Receiver<Leadership> {
        self.status.leadership()
    }

    /// The requests that wait for apply.
    pub fn wait(&self) -> &Wait {
        &self.wait
    }

    /// The key space.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The way to raft.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Where raft and apply stand.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// `--max-request-bytes`.
    pub fn max_request_bytes(&self) -> usize {
        self.settings.max_request_bytes
    }

    /// `--quota-backend-bytes`, in bytes; `None` for no quota.
    pub fn quota_bytes(&self) -> Option<u64> {
        self.settings.quota_bytes
    }

    /// `--watch-progress-notify-interval`.
    pub fn progress_interval(&self) -> std::time::Duration {
        self.settings.progress_interval
    }

    /// `--election-timeout`.
    pub fn election(&self) -> std::time::Duration {
        self.settings.election
    }

    /// The current revision.
    pub fn revision(&self) -> i64 {
        self.store.revision()
    }

    /// How many watchers there are, and how many of them are behind.
    pub fn watcher_counts(&self) -> (usize, usize) {
        let (synced, unsynced, victims) = self.store.watcher_counts();
        (synced + unsynced + victims, unsynced + victims)
    }

    /// Mints a request's id, and decides with it whether all members keep its trace: because the
    /// caller asks for it (`forced`), because somebody watches for requests like it, or by chance.
    /// `method` is a place in [`METHODS`](crate::trace::METHODS).
    pub fn next_id(&self, method: u64, key: &[u8], forced: bool) -> u64 {
        let forced = forced || self.collector.is_armed(method, key);
        self.ids.next(self.sampler.keep_next(forced))
    }

    /// The members, by id. A linearizable list is as new as the moment of asking.
    pub(crate) async fn member_list(
        &self,
        id: u64,
        linearizable: bool,
    ) -> Result<Vec<etcdserverpb::Member>, Error> {
        if linearizable {
            self.linearize(id).await?;
        }
        Ok(self.members.list().into_iter().map(etcdserverpb::Member::from).collect())
    }

    /// Maintenance.HashKV: reads the whole key bucket.
    pub(crate) async fn hash_kv(&self, id: u64, revision: i64) -> Result<HashKv, Error> {
        self.hash_aside(id, move |store| store.hash_kv(revision)).await?
    }

    /// Maintenance.Hash: all that the file has, with the revision of then; also away from there.
    pub(crate) async fn hash(&self, id: u64) -> Result<(u32, i64), Error> {
        let backend = Arc::clone(&self.backend);
        let (hash, committed) = self.hash_aside(id, move |_| backend.hash()).await?;
        Ok((hash, committed.revision))
    }

    /// Maintenance.Status: this member, as it is now.
    pub fn member_status(&self) -> StatusResponse {
        let mut errors: Vec<String> =
            self.alarms.list(AlarmType::None as i32).iter().map(alarm_text).collect();
        if self.leader() == 0 {
            errors.push("etcdserver: no leader".to_owned());
        }
        StatusResponse {
            version: ETCD_VERSION.to_owned(),
            db_size: i64::try_from(self.backend.size()).unwrap_or(i64::MAX),
            db_size_in_use: i64::try_from(self.backend.size_in_use()).unwrap_or(i64::MAX),
            leader: self.leader(),
            raft_index: self.status.commit(),
            raft_term: self.term(),
            raft_applied_index: self.status.applied(),
            errors,
            is_learner: self.is_learner(),
            ..StatusResponse::default()
        }
    }

    /// Whether this member does not vote yet.
    pub fn is_learner(&self) -> bool {
        self.members.get(self.member_id).is_some_and(|member| member.is_learner)
    }

    /// The members as peers ask for them.
    pub fn members(&self) -> Vec<Member> {
        self.members.list()
    }
}

fn alarm_text(alarm: &etcdserverpb::AlarmMember) -> String {
    format!("memberID:{} alarm:{} ", alarm.member_id, alarm_name(alarm.alarm))
}
