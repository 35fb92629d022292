//! Stages that are treated apart: at the edges of a request, and quick ones.

use super::Stage;

impl Stage {
    /// Whether a client waits in this stage before its rpc begins or after it has ended.
    pub const fn is_at_edge(self) -> bool {
        matches!(
            self,
            Stage::ConnectionAccept
                | Stage::SocketQueue
                | Stage::RpcReceive
                | Stage::RpcQueue
                | Stage::AnswerFlush
        )
    }

    /// Whether the step is a quick check or look-up in memory, which a member leaves out under load
    /// unless the request was chosen to be kept (see [`Stage::Brief`]).
    pub const fn is_quick(self) -> bool {
        matches!(
            self,
            Stage::RpcValidate
                | Stage::AuthAuthenticate
                | Stage::QuotaCheck
                | Stage::Admit
                | Stage::AuthAuthorize
                | Stage::TxnCompare
                | Stage::TxnBranch
                | Stage::MvccWrite
                | Stage::TreeIndexPut
                | Stage::TreeIndexTombstone
                | Stage::TreeIndexGet
                | Stage::BufferPut
                | Stage::BufferGet
        )
    }

    /// Whether the step takes little of the time of a slow request, as a rule: under load a member
    /// leaves it out if it was short, unless the request was chosen to be kept.
    pub const fn is_usually_short(self) -> bool {
        matches!(
            self,
            Stage::RaftPropose
                | Stage::RaftInbox
                | Stage::ApplyEntry
                | Stage::ReadIndexWait
                | Stage::ReadWaitApplied
                | Stage::MvccRange
        )
    }
}
