//! Why a step failed: a reason for each error with which a request can end, for each cause for
//! which a read round asks again, and for a vote that was refused.
//!
//! A record has a byte for it. Recordings carry the text, so that a later version may add or
//! reorder reasons. `server::Error` says which reason belongs to which error.

macro_rules! reasons {
    ($($name:ident = $text:literal;)+) => {
        /// Why a step failed. Where etcd has the error, the text is etcd's, without its prefix.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the texts say it")]
        pub enum Reason {
            $($name,)+
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// The reason in words, as recordings and screens show it.
            pub const fn text(self) -> &'static str {
                match self { $(Reason::$name => $text,)+ }
            }
        }
    };
}

reasons! {
    Other = "a reason that this version does not know";
    EmptyKey = "key is not provided";
    KeyNotFound = "key not found";
    ValueProvided = "value is provided";
    LeaseProvided = "lease is provided";
    TooManyOps = "too many operations in txn request";
    Malformed = "a nested transaction does not decode";
    DuplicateKey = "duplicate key given in txn request";
    InvalidSortOption = "invalid sort option";
    Compacted = "required revision has been compacted";
    FutureRevision = "required revision is a future revision";
    NoSpace = "database space exceeded";
    LeaseNotFound = "requested lease not found";
    RequestTooLarge = "request is too large";
    TooManyRequests = "too many requests";
    ProposalDropped = "raft proposal dropped";
    AnswerTooLong = "the answer is too long for gRPC";
    Corrupt = "corrupt cluster";
    NoLeader = "no leader";
    LeaderChanged = "leader changed";
    Stopped = "server stopped";
    Timeout = "request timed out";
    TimeoutDueToLeaderFail = "request timed out, possibly due to previous leader failure";
    TimeoutDueToConnectionLost = "request timed out, possibly due to connection lost";
    TimeoutWaitAppliedIndex = "request timed out, waiting for the applied index took too long";
    Unhealthy = "unhealthy cluster";
    WatchCanceled = "watch canceled";
    LeaseExists = "lease already exists";
    LeaseTtlTooLarge = "too large lease TTL";
    Canceled = "request canceled";
    SessionExpired = "session is expired";
    ElectionNotLeader = "not leader";
    ElectionNoLeader = "the election has no leader";
    MissingLeaderKey = "\"leader\" field must be provided";
    NoAnswer = "no answer in time; the member asks again";
    NotPrimary = "not a primary lessor";
    PeerSilent = "the peer gave no answer";
    UnknownMethod = "the member does not serve this method";
    UnknownService = "unknown service";
    Undecodable = "the request's message is missing or does not decode";
    AuthNotEnabled = "authentication is not enabled";
    MalformedTimeout = "malformed grpc-timeout";
    TooMuchMetadata = "the connection's calls carry too much metadata";
    NotLeader = "this member is not the leader";
    BadLeaderTransferee = "bad leader transferee";
    TimeoutLeaderTransfer = "request timed out, leader transfer took too long";
    NotCopied = "the database file could not be copied";
    VoteOldTerm = "the candidate's term is older than the member's own";
    VoteOldLog = "the candidate's log is older than the member's own";
    VoteLeads = "the member leads";
    VoteLeaderHeard = "the member has heard of a leader within the election timeout";
    VoteGiven = "the member has voted for another in this term";
    VoteFollows = "the member follows a leader in this term";
    LeadershipChanged = "the term or the leader changed; the member asks again";
    Unsupported = "this version cannot carry the request out";
    MemberBadUrls = "given member URLs are invalid";
    MemberNotFound = "member not found";
    MemberExists = "member ID already exist";
    PeerUrlExists = "Peer URLs already exists";
    MemberNotLearner = "can only promote a learner member";
    TooManyLearners = "too many learner members in cluster";
    LearnerNotReady = "can only promote a learner member which is in sync with leader";
    NotEnoughStarted = "re-configuration failed due to not enough started members";
    MalformedChange = "the change carries no member";
    NotSupportedForLearner = "rpc not supported for learner";
    WrongDowngradeVersion = "wrong downgrade target version format";
    InvalidDowngradeTarget = "invalid downgrade target version";
    ClusterVersionUnavailable = "cluster version not found during downgrade";
    NoInflightDowngrade = "no inflight downgrade job";
    V2Refused = "the v2 store refuses it; the code says why";
}

impl Reason {
    /// The byte of a record: 0 stands for none.
    pub(super) fn number(reason: Option<Reason>) -> u8 {
        reason.map_or(0, |reason| reason as u8 + 1)
    }

    /// The reason with this byte.
    pub(super) fn from_number(number: u8) -> Option<Reason> {
        let at = usize::from(number.checked_sub(1)?);
        Some(Reason::ALL.get(at).copied().unwrap_or(Reason::Other))
    }

    /// The reason with this text, as recordings carry it.
    pub fn from_text(text: &str) -> Reason {
        let known = Reason::ALL.iter().copied().find(|reason| reason.text() == text);
        known.unwrap_or(Reason::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_number_and_by_its_text() {
        assert_eq!(None, Reason::from_number(Reason::number(None)));
        for reason in Reason::ALL {
            assert_eq!(Some(*reason), Reason::from_number(Reason::number(Some(*reason))));
            assert_eq!(*reason, Reason::from_text(reason.text()));
        }
        assert_eq!(Some(Reason::Other), Reason::from_number(250));
        assert_eq!(Reason::Other, Reason::from_text("of a later version"));
    }
}
