//! The RPCs and the plain requests that a member serves.

use crate::trace;

/// The RPCs, with the numbers that records carry: positions in [`trace::METHODS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Method {
    Range = 1,
    Put = 2,
    DeleteRange = 3,
    Txn = 4,
    Compact = 5,
    Status = 6,
    Alarm = 7,
    MemberList = 8,
    HealthCheck = 9,
    HttpHealth = 10,
    HttpVersion = 11,
    HealthWatch = 14,
    Watch = 15,
    LeaseGrant = 16,
    LeaseRevoke = 17,
    LeaseKeepAlive = 18,
    LeaseTimeToLive = 19,
    LeaseLeases = 20,
    HashKv = 21,
    Hash = 22,
    Lock = 23,
    Unlock = 24,
    Campaign = 25,
    Proclaim = 26,
    Leader = 27,
    Observe = 28,
    Resign = 29,
    HttpLivez = 30,
    HttpReadyz = 31,
    Defragment = 38,
    Snapshot = 39,
    MoveLeader = 40,
    Downgrade = 41,
    MemberAdd = 42,
    MemberRemove = 43,
    MemberUpdate = 44,
    MemberPromote = 45,
    WatchStream = 63,
    LeaseKeepAliveStream = 64,
    HttpLivezSerializableRead = 65,
    HttpReadyzDataCorruption = 66,
    HttpReadyzSerializableRead = 67,
    HttpReadyzLinearizableRead = 68,
    HttpReadyzNonLearner = 69,
    V2Get = 73,
    V2Put = 74,
    V2Post = 75,
    V2Delete = 76,
    V2Watch = 77,
    V2Members = 78,
    V2MemberAdd = 79,
    V2MemberUpdate = 80,
    V2MemberRemove = 81,
    V2MembersLeader = 82,
    V2Machines = 83,
    V2Stats = 84,
    V2Auth = 85,
}

impl Method {
    /// Whether its answers are a stream, which ends later than its rpc or never.
    pub(super) fn is_stream(self) -> bool {
        use Method::{
            HealthWatch, LeaseKeepAlive, LeaseKeepAliveStream, Observe, Snapshot, V2Watch, Watch,
            WatchStream,
        };
        let is_message = matches!(self, Watch | LeaseKeepAlive);
        let is_stream = matches!(self, WatchStream | LeaseKeepAliveStream | Observe | HealthWatch);
        is_message || is_stream || matches!(self, Snapshot | V2Watch)
    }

    /// Whether it is a plain HTTP request.
    pub(super) fn is_http(self) -> bool {
        trace::METHODS[self as usize].contains(' ')
    }

    /// Whether a learner serves it, whose state may be far behind. It serves serializable ranges,
    /// too (etcd: isRPCSupportedForLearner).
    pub(super) fn is_served_by_learners(self) -> bool {
        matches!(self, Method::Status | Method::Snapshot)
    }

    /// Whether it belongs to Lock or Election, whose errors have no codes.
    pub(super) fn is_plain(self) -> bool {
        use Method::{Campaign, Leader, Lock, Observe, Proclaim, Resign, Unlock};
        matches!(self, Lock | Unlock | Campaign | Proclaim | Leader | Observe | Resign)
    }
}
