//! What a member says about itself and its cluster.

use std::sync::Arc;

use super::{Error, Server, health::alarm_name, mvcc::HashKv};
use crate::pb::etcdserverpb::{self, AlarmType, StatusResponse};

/// The API level that this server meets.
pub const ETCD_VERSION: &str = "3.5.33";

impl Server {
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
        self.hash_long(id, move |store| store.hash_kv(revision)).await?
    }

    /// Maintenance.Hash: all that the file has, with the revision of then; also away from there.
    pub(crate) async fn hash(&self, id: u64) -> Result<(u32, i64), Error> {
        let backend = Arc::clone(&self.backend);
        let (hash, committed) = self.hash_long(id, move |_| backend.hash()).await?;
        Ok((hash, committed.revision))
    }

    /// Maintenance.Status: this member, as it is now.
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

    /// Whether this member does not vote yet.
    pub fn is_learner(&self) -> bool {
        self.members.get(self.member_id).is_some_and(|member| member.is_learner)
    }
}

fn alarm_text(alarm: &etcdserverpb::AlarmMember) -> String {
    format!("memberID:{} alarm:{} ", alarm.member_id, alarm_name(alarm.alarm))
}
