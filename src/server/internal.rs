//! Requests that a member makes by itself: they have an `rpc` of their own in the trace, so that
//! they are listed, found and shown like those of clients.
//!
//! | request | why |
//! |---|---|
//! | `internal/Publish` | a member has started, and tells the others its name and its client URLs |
//! | `internal/SetVersion` | the leader raises the version of the cluster |
//! | `internal/LeaseExpire` | a lease has expired; the leader revokes it |
//! | `internal/LeaseCheckpoint` | the remaining time of leases is logged for the next leader |
//! | `internal/AutoCompact` | automatic compaction is due on the leader |
//! | `internal/RaiseAlarm` | the backend of a member is full, or damaged, or members differ |
//! | `internal/Promote` | another member asks the leader to promote a learner |
//! | `internal/CheckHash` | the leader compares the keys of all members |
//! | `internal/V2Sync` | the time of v2 keys is over; the leader says which time it is |
//!
//! Left out: the grant and the deletion inside Lock and Campaign, which belong to these calls.

use std::future::Future;

use super::Error;
use crate::{set, stage};

/// gRPC's code of a failed internal request. There is no client that could tell codes apart; the
/// reason says more.
const UNKNOWN: u8 = 2;

/// An internal request, with the number that records carry: its position in
/// [`METHODS`](crate::trace::METHODS).
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Internal {
    Publish = 12,
    SetVersion = 13,
    LeaseExpire = 32,
    LeaseCheckpoint = 33,
    AutoCompact = 34,
    RaiseAlarm = 35,
    Promote = 70,
    CheckHash = 71,
    V2Sync = 72,
}

impl Internal {
    /// Carries out an internal request within its `rpc`.
    pub(super) async fn request<T>(
        self,
        id: u64,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut span = stage!(Rpc, id, method = self as u8).begun();
        let result = request.await;
        if let Err(error) = &result {
            set!(span, Rpc, code = UNKNOWN);
            span.result(UNKNOWN);
            span.fail(error.reason());
        }
        result
    }

    /// The same, for a thread that waits.
    pub(super) fn request_at_once<T>(self, id: u64, request: impl FnOnce() -> T) -> T {
        let _span = stage!(Rpc, id, method = self as u8).begun();
        request()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::METHODS;

    #[test]
    fn each_internal_request_has_its_name_in_the_vocabulary() {
        let named = [
            (Internal::Publish, "internal/Publish"),
            (Internal::SetVersion, "internal/SetVersion"),
            (Internal::LeaseExpire, "internal/LeaseExpire"),
            (Internal::LeaseCheckpoint, "internal/LeaseCheckpoint"),
            (Internal::AutoCompact, "internal/AutoCompact"),
            (Internal::RaiseAlarm, "internal/RaiseAlarm"),
            (Internal::Promote, "internal/Promote"),
            (Internal::CheckHash, "internal/CheckHash"),
            (Internal::V2Sync, "internal/V2Sync"),
        ];
        for (request, name) in named {
            assert_eq!(name, METHODS[usize::from(request as u8)]);
        }
    }
}
