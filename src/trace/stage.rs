//! The vocabulary of the glass: every step that a request, or a background loop, can be seen taking.
//!
//! There are two families, because consensus batches. A **request stage** belongs to one id and
//! answers "where did *my* time go?". A **loop stage** serves many requests at once and belongs to
//! none: it carries a range, and the requests point to it.
//!
//! | to find                        | join                                           |
//! |--------------------------------|------------------------------------------------|
//! | the fsync that made a put safe | `raft.entry` by id, `wal.fsync` by index       |
//! | the commit that stored it      | `apply.entry` by index, `backend.commit`       |
//! | the round that let a read go   | `read_index.wait` by round, `read_index.round` |
//!
//! Every background loop that works for the store leaves stages. These do not, on purpose:
//!
//! | loop                              | why                                                     |
//! |-----------------------------------|---------------------------------------------------------|
//! | probes of peers, dialling         | they carry nothing; what is sent later is `raft.send`   |
//! | the next log segment's space      | nobody waits for it; who must is in `wal.write`         |
//! | answers of apply, refusals of raft | each is the end of one request's `raft.propose`        |
//! | accepting connections             | nothing is asked yet; `rpc` begins with a request       |
//! | what to keep, the flight recorder | the trace does not trace itself                         |
//!
//! Adding a step: a line here, a `stage!` where the work happens, a section in the book. Names of
//! stages and fields are public API: recordings, lessons and tests use them.

/// To whom a stage belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// One request; the record's id is the request's.
    Request,
    /// A loop that serves many; the record's id is 0, or that of a round.
    Loop,
}

/// How much a reader wants to see: `Story` is told to everybody, `Raw` to those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grain {
    /// The steps that make the story of a request.
    Story,
    /// Every boundary between layers.
    Stage,
    /// Everything.
    Raw,
}

/// What a field's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanos,
    /// A place in the raft log.
    Index,
    /// A raft term.
    Term,
    /// A revision of the key space.
    Revision,
    /// A member id, shown as hex.
    Member,
    /// 1 for yes.
    Flag,
    /// One of [`METHODS`], by place.
    Method,
    /// A raft message type, by etcd's number.
    Message,
    /// 0 follower, 1 candidate, 2 leader, 3 pre-candidate.
    Role,
    /// A request or round id, shown as hex.
    Id,
}

/// One of the record's eight words: its name and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name; `x.old` and `x.new` make a change.
    pub name: &'static str,
    /// What the number counts.
    pub unit: Unit,
}

/// The RPCs by the number that the field `method` carries. New ones go to the end.
pub const METHODS: &[&str] = &[
    "unknown",
    "KV/Range",
    "KV/Put",
    "KV/DeleteRange",
    "KV/Txn",
    "KV/Compact",
    "Maintenance/Status",
    "Maintenance/Alarm",
    "Cluster/MemberList",
    "Health/Check",
    "GET /health",
    "GET /version",
    "internal/Publish",
    "internal/SetVersion",
    "Health/Watch",
    "Watch/Watch",
    "Lease/LeaseGrant",
    "Lease/LeaseRevoke",
    "Lease/LeaseKeepAlive",
    "Lease/LeaseTimeToLive",
    "Lease/LeaseLeases",
    "Maintenance/HashKV",
    "Maintenance/Hash",
    "Lock/Lock",
    "Lock/Unlock",
    "Election/Campaign",
    "Election/Proclaim",
    "Election/Leader",
    "Election/Observe",
    "Election/Resign",
    "GET /livez",
    "GET /readyz",
];

macro_rules! stages {
    ($($(#[doc = $doc:literal])+
        $stage:ident = $name:literal $family:ident $grain:ident
        [$($field:literal $unit:ident),*]
        $rust:literal, $go:literal, $book:literal;)+) => {
        /// A named step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Stage { $($(#[doc = $doc])+ $stage,)+ }

        impl Stage {
            /// Every stage, in the order in which a put, then a get, then an election meets them.
            pub const ALL: &'static [Stage] = &[$(Stage::$stage,)+];

            /// The name that recordings and screens show.
            pub const fn name(self) -> &'static str {
                match self { $(Stage::$stage => $name,)+ }
            }

            /// Whether it belongs to one request or to a loop.
            pub const fn family(self) -> Family {
                match self { $(Stage::$stage => Family::$family,)+ }
            }

            /// The coarsest grain at which the stage is shown.
            pub const fn grain(self) -> Grain {
                match self { $(Stage::$stage => Grain::$grain,)+ }
            }

            /// The record's words 7 to 14, as far as the stage uses them.
            pub const fn fields(self) -> &'static [Field] {
                match self {
                    $(Stage::$stage => &[$(Field { name: $field, unit: Unit::$unit }),*],)+
                }
            }

            /// One sentence or two for the panel that says why.
            pub const fn meaning(self) -> &'static str {
                match self { $(Stage::$stage => concat!($($doc),+),)+ }
            }

            /// The file below `src` in which the step happens.
            pub const fn rust_path(self) -> &'static str {
                match self { $(Stage::$stage => $rust,)+ }
            }

            /// Package and function of etcd 3.5.1 that does the same.
            pub const fn go_counterpart(self) -> &'static str {
                match self { $(Stage::$stage => $go,)+ }
            }

            /// The section of the book, by the numbers of its table of contents.
            pub const fn book_section(self) -> &'static str {
                match self { $(Stage::$stage => $book,)+ }
            }
        }
    };
}

/// Hands the list of stages to a macro: [`Stage`] is made of it, and the callsites of
/// [`bridge`](super::bridge).
macro_rules! vocabulary {
    ($each:ident) => { $each! {
    /// One RPC, from the decoded request to the response.
    Rpc = "rpc" Request Story
        ["method" Method, "bytes_in" Bytes, "bytes_out" Bytes, "revision" Revision, "code" Count]
        "api/interceptor.rs", "etcdserver/api/v3rpc newUnaryInterceptor", "0.1";
    /// Is the request well formed? What is refused here costs the cluster nothing.
    RpcValidate = "rpc.validate" Request Stage ["operations" Count]
        "server/kv.rs", "etcdserver/api/v3rpc checkPutRequest, checkRangeRequest, checkTxnRequest", "0.1";
    /// Who is asking? While auth is off, everybody is anybody.
    AuthAuthenticate = "auth.authenticate" Request Raw ["enabled" Flag, "auth_revision" Count]
        "server/auth.rs", "etcdserver EtcdServer.AuthInfoFromCtx", "0.1";
    /// Is there room in the backend for what this would add?
    QuotaCheck = "quota.check" Request Stage ["used" Bytes, "limit" Bytes]
        "server/admit.rs", "etcdserver/api/v3rpc quotaKVServer", "0.1";
    /// Has apply kept up? Beyond 5000 entries of backlog new writes are refused.
    Admit = "admit" Request Stage ["commit" Index, "applied" Index]
        "server/admit.rs", "etcdserver EtcdServer.processInternalRaftRequestOnce", "0.1";
    /// Handing the request to raft, and waiting until apply answers.
    RaftPropose = "raft.propose" Request Story ["bytes" Bytes, "leader" Member]
        "server/propose.rs", "etcdserver EtcdServer.processInternalRaftRequestOnce", "0.1";
    /// The raft thread takes the proposal from its inbox, with all others that wait there.
    RaftInbox = "raft.inbox" Request Stage ["queued" Count, "waited" Nanos]
        "raft/node.rs", "raft node.run", "0.1";
    /// The entry that carries the request has its place in this member's log.
    RaftEntry = "raft.entry" Request Story ["term" Term, "index" Index, "bytes" Bytes]
        "raft/node.rs", "raft raftLog.append", "0.1";
    /// The proposal went down with its leader: an entry of a later term is committed, and this one is
    /// not before it. It is proposed again, or its client learns that the leader changed.
    RaftLost = "raft.lost" Request Story ["term" Term, "committed_term" Term, "again" Flag]
        "raft/node.rs", "none", "0.1";
    /// Entries that a former leader left here are thrown away: the new leader's log decides.
    LogTruncate = "log.truncate" Loop Story ["last.old" Index, "last.new" Index, "term" Term]
        "raft/log.rs", "raft unstable.truncateAndAppend", "0.1";
    /// A message leaves for another member: encoded, and handed to its connection.
    RaftSend = "raft.send" Loop Story
        ["peer" Member, "type" Message, "term" Term, "index" Index, "last" Index, "commit" Index, "reject" Flag]
        "raft/rafthttp/glass.rs", "etcdserver/api/rafthttp streamWriter.run", "0.1";
    /// A message of another member has arrived and is decoded.
    RaftReceive = "raft.receive" Loop Story
        ["peer" Member, "type" Message, "term" Term, "index" Index, "last" Index, "commit" Index, "reject" Flag]
        "raft/rafthttp/glass.rs", "etcdserver/api/rafthttp streamReader.decodeLoop", "0.1";
    /// Bytes are handed to the operating system. A crash of the machine can still lose them.
    WalWrite = "wal.write" Loop Stage
        ["first" Index, "last" Index, "written.old" Index, "written.new" Index, "segment" Count, "offset" Bytes]
        "storage/wal/writer.rs", "wal WAL.Save", "0.1";
    /// The disk has promised. What was written up to here survives a power failure.
    WalFsync = "wal.fsync" Loop Story
        ["first" Index, "last" Index, "synced.old" Index, "synced.new" Index, "bytes" Bytes, "term" Term, "vote" Member]
        "storage/wal/writer.rs", "wal WAL.sync", "0.1";
    /// The leader learns how far a member's log agrees with its own, on disk.
    RaftProgress = "raft.progress" Loop Stage ["peer" Member, "match.old" Index, "match.new" Index]
        "raft/changes.rs", "raft/tracker Progress.MaybeUpdate", "0.1";
    /// A majority has it on disk: the entry can no longer be lost.
    RaftCommit = "raft.commit" Loop Story
        ["term" Term, "commit.old" Index, "commit.new" Index, "completed_by" Member]
        "raft/changes.rs", "raft raft.maybeCommit", "0.1";
    /// The state machine takes the entry, once, in log order.
    ApplyEntry = "apply.entry" Request Story
        ["term" Term, "index" Index, "applied.old" Index, "applied.new" Index, "waited" Nanos]
        "server/apply/applier.rs", "etcdserver EtcdServer.applyEntryNormal", "0.1";
    /// May this user do this to these keys? While auth is off, everybody may.
    AuthAuthorize = "auth.authorize" Request Raw ["enabled" Flag, "auth_revision" Count]
        "server/auth.rs", "etcdserver authApplierV3.Apply", "0.1";
    /// One write transaction of the key space: all its operations share one main revision.
    MvccWrite = "mvcc.write" Request Story ["revision.old" Revision, "revision.new" Revision, "operations" Count]
        "server/mvcc/write_txn.rs", "mvcc storeTxnWrite.End", "0.1";
    /// The index in memory learns under which revision the key's new value stands.
    TreeIndexPut = "tree_index.put" Request Story
        ["main" Revision, "sub" Count, "created" Revision, "version" Count, "generations.old" Count, "generations.new" Count]
        "server/mvcc/tree_index.rs", "mvcc treeIndex.Put", "0.1";
    /// The value goes into the write buffer, under its revision. The file does not have it yet.
    BufferPut = "buffer.put" Request Story ["length.old" Count, "length.new" Count, "bytes" Bytes]
        "storage/backend/buffer.rs", "mvcc/backend batchTxBuffered.UnsafeSeqPut", "0.1";
    /// The write buffer is set aside, whole entries only, to be written into the file.
    BufferFreeze = "buffer.freeze" Loop Stage ["length" Count, "bytes" Bytes, "index" Index, "revision" Revision]
        "storage/backend/commit.rs", "mvcc/backend batchTxBuffered.commit", "0.1";
    /// One transaction puts the frozen buffer and the consistent index into the file, and syncs it.
    BackendCommit = "backend.commit" Loop Story
        ["index.old" Index, "index.new" Index, "revision.old" Revision, "revision.new" Revision, "writes" Count]
        "storage/backend/commit.rs", "mvcc/backend batchTx.commit", "0.1";
    /// The read waits for the next question to the quorum, together with all others that wait.
    ReadIndexWait = "read_index.wait" Request Story ["round" Id, "place" Count]
        "server/read_index.rs", "etcdserver EtcdServer.linearizableReadNotify", "0.1";
    /// Reads that wait share one question to the quorum: which index is committed now?
    ReadIndexRound = "read_index.round" Loop Story
        ["reads" Count, "attempt" Count, "index" Index, "term" Term]
        "server/read_index.rs", "etcdserver EtcdServer.linearizableReadLoop", "0.1";
    /// A majority still follows this leader, so its commit index is the newest there is. Only here
    /// the acknowledgements are known: the member that asked hears nothing but the index.
    ReadIndexConfirmed = "read_index.confirmed" Loop Story ["index" Index, "acks" Count]
        "raft/changes.rs", "raft readOnly.advance", "0.1";
    /// This member has confirmed the index but must still apply up to it.
    ReadWaitApplied = "read.wait_applied" Request Story ["index" Index, "applied" Index]
        "server/read_index.rs", "etcdserver applyWait.Wait", "0.1";
    /// One read of the key space at one revision.
    MvccRange = "mvcc.range" Request Story ["revision" Revision, "keys" Count, "bytes" Bytes, "total" Count]
        "server/mvcc/read_txn.rs", "mvcc storeTxnRead.rangeKeys", "0.1";
    /// The index in memory answers which revisions hold the keys' values.
    TreeIndexGet = "tree_index.get" Request Story ["revisions" Count, "main" Revision, "sub" Count]
        "server/mvcc/tree_index.rs", "mvcc treeIndex.Revisions", "0.1";
    /// Was the value in one of the two write buffers?
    BufferGet = "buffer.get" Request Story ["active" Count, "frozen" Count, "misses" Count]
        "storage/backend/read_tx.rs", "mvcc/backend txReadBuffer.Range", "0.1";
    /// What the buffers did not have is read from the file.
    BackendGet = "backend.get" Request Story ["file" Count]
        "storage/backend/read_tx.rs", "mvcc/backend baseReadTx.UnsafeRange", "0.1";
    /// Old revisions are forgotten: at once for readers, in the file little by little.
    MvccCompact = "mvcc.compact" Request Story ["compacted.old" Revision, "compacted.new" Revision]
        "server/mvcc/compact.rs", "mvcc store.Compact", "0.1";
    /// Some rows of forgotten revisions are deleted, a bounded number at a time.
    CompactBatch = "compact.batch" Loop Stage ["revision" Revision, "rows" Count, "deleted" Count]
        "server/mvcc/compact.rs", "mvcc store.scheduleCompaction", "0.1";
    /// Nothing was heard from a leader for longer than the election timeout.
    ElectionTimeout = "election.timeout" Loop Stage ["term" Term, "leader" Member]
        "raft/node.rs", "raft raft.tickElection", "0.1";
    /// A leader that is about to stop asks another voter to campaign at once.
    ElectionTransfer = "election.transfer" Loop Story
        ["term" Term, "to" Member, "matched" Index, "last" Index]
        "raft/node.rs", "raft stepLeader MsgTransferLeader", "0.1";
    /// The member asks the others for their votes; first without raising the term (pre-vote).
    ElectionCampaign = "election.campaign" Loop Story ["pre" Flag, "term.old" Term, "term.new" Term]
        "raft/changes.rs", "raft raft.campaign", "0.1";
    /// Another member asks for a vote: it gets it if its log is as new, and this term has none yet.
    ElectionVote = "election.vote" Loop Story
        ["candidate" Member, "granted" Flag, "pre" Flag, "term" Term, "last_term" Term, "last" Index, "own_last_term" Term, "own_last" Index]
        "raft/changes.rs", "raft raft.Step", "0.1";
    /// One more vote is counted.
    ElectionTally = "election.tally" Loop Story
        ["voter" Member, "granted" Flag, "pre" Flag, "in_favour" Count, "against" Count, "term" Term]
        "raft/changes.rs", "raft raft.poll", "0.1";
    /// The member's part has changed: follower, candidate or leader, and whom it follows.
    RaftRole = "raft.role" Loop Story
        ["role.old" Role, "role.new" Role, "term.old" Term, "term.new" Term, "leader.old" Member, "leader.new" Member, "vote.old" Member, "vote.new" Member]
        "raft/changes.rs", "raft raft.becomeLeader, becomeFollower, becomeCandidate", "0.1";
    /// Every 100 ms: where this member's watermarks stand.
    Keyframe = "keyframe" Loop Raw
        ["role" Role, "term" Term, "commit" Index, "applied" Index, "revision" Revision, "leader" Member, "written" Index, "synced" Index]
        "trace/collect/drain.rs", "none", "0.1";
    /// The second half of a keyframe: what the file has, and what waits before it.
    KeyframeBackend = "keyframe.backend" Loop Raw
        ["committed" Index, "committed_revision" Revision, "active" Count, "frozen" Count, "vote" Member, "seen" Count, "kept" Count, "dropped" Count]
        "trace/collect/drain.rs", "none", "0.1";
    /// Text of the key that a kept request names; at most 88 bytes, a flag says when it was cut.
    Key = "key" Request Raw ["length" Bytes]
        "trace/record.rs", "none", "0.1";
    /// Records were overwritten before anybody could read them: something happened here, unseen.
    Lost = "lost" Loop Stage ["from" Count, "to" Count, "records" Count]
        "trace/collect/drain.rs", "none", "0.1";
    /// Somebody wants to hear of changes, from a revision on; of the past, it must catch up first.
    WatchCreate = "watch.create" Request Story
        ["start" Revision, "revision" Revision, "watcher" Count, "watch_id" Count, "synced" Flag]
        "server/mvcc/watch.rs", "mvcc watchStream.Watch", "0.1";
    /// The write's events are handed to those who watch its keys, before anybody can read it.
    WatchNotify = "watch.notify" Request Story
        ["revision" Revision, "events" Count, "synced" Count, "victims" Count]
        "server/mvcc/watch.rs", "mvcc watchableStore.notify", "0.1";
    /// One watcher's events stand in the queue of its stream, behind others.
    WatchQueue = "watch.queue" Request Stage ["watcher" Count, "watch_id" Count, "depth" Count]
        "server/mvcc/watch.rs", "mvcc watcher.send", "0.1";
    /// The queue is full: the watcher keeps this, gets nothing more from apply, and catches up later.
    WatchVictim = "watch.victim" Request Story ["watcher" Count, "revision" Revision, "depth" Count]
        "server/mvcc/watch.rs", "mvcc watchableStore.addVictim", "0.1";
    /// One read of the backend, by revision, for all watchers that are behind.
    WatchSync = "watch.sync" Loop Stage
        ["from" Revision, "to" Revision, "watchers" Count, "events" Count, "left" Count]
        "server/mvcc/watch/sync.rs", "mvcc watchableStore.syncWatchers", "0.1";
    /// The stream takes events out of its queue and sends them. Path 0: from apply; 1: caught up.
    WatchSend = "watch.send" Request Story
        ["watcher" Count, "watch_id" Count, "first" Revision, "last" Revision, "events" Count, "path" Count]
        "api/v3/watch/session.rs", "etcdserver/api/v3rpc serverWatchStream.sendLoop", "0.1";
    /// A lease begins: for so many seconds, unless it is renewed.
    LeaseGrant = "lease.grant" Request Story ["lease" Id, "ttl" Count]
        "server/apply/lease.rs", "lease lessor.Grant", "0.1";
    /// A key changes its lease: it will be deleted with the new one, and not with the old one.
    LeaseAttach = "lease.attach" Request Stage ["lease.old" Id, "lease.new" Id]
        "server/lease/lessor.rs", "lease lessor.Attach, lessor.Detach", "0.1";
    /// The leader gives a lease its whole time again. Only a checkpoint costs an entry, to clear it.
    LeaseRenew = "lease.renew" Request Story ["lease" Id, "ttl" Count, "forwarded" Flag]
        "server/lease/requests.rs", "etcdserver EtcdServer.LeaseRenew", "0.1";
    /// A lease's time is over: the leader proposes to revoke it, as the request named here.
    LeaseExpire = "lease.expire" Loop Story ["lease" Id, "request" Id, "overdue" Nanos]
        "server/lease/expiry.rs", "etcdserver EtcdServer.revokeExpiredLeases", "0.1";
    /// A lease ends, and its keys are deleted with it, all at one revision.
    LeaseRevoke = "lease.revoke" Request Story ["lease" Id, "keys" Count]
        "server/apply/lease.rs", "lease lessor.Revoke", "0.1";
    /// The index in memory forgets keys that are gone and revisions that nobody can ask for; some
    /// keys at a time, before their rows.
    CompactIndex = "compact.index" Loop Stage
        ["revision" Revision, "visited" Count, "keys.old" Count, "keys.new" Count]
        "server/mvcc/compact.rs", "mvcc treeIndex.Compact", "0.1";
    /// How long leases have still to live is noted, for the next leader; 0 means their whole time.
    LeaseCheckpoint = "lease.checkpoint" Request Story ["leases" Count, "lease" Id, "remaining" Count]
        "server/apply/lease.rs", "lease lessor.Checkpoint", "0.1";
    /// Who brings no lease to a lock or an election gets one, granted as the request named here;
    /// nobody renews it.
    SessionGrant = "session.grant" Request Stage ["lease" Id, "ttl" Count, "request" Id]
        "server/concurrency.rs", "client/v3/concurrency NewSession", "0.1";
    /// The caller stands in the queue: its key is there, and the oldest key of the name comes first.
    LockEnter = "lock.enter" Request Story ["own" Revision, "first" Revision, "put" Flag]
        "server/concurrency.rs", "client/v3/concurrency Mutex.tryAcquire, Election.Campaign", "0.1";
    /// Waiting until the key before one's own is deleted: at which revision, and by which request.
    LockWait = "lock.wait" Request Story
        ["own" Revision, "before" Revision, "ahead" Count, "deleted" Revision, "by" Id]
        "server/concurrency/turn.rs", "client/v3/concurrency waitDeletes, waitDelete", "0.1";
    /// No older key is left, and one's own is still there: the caller has the lock, or leads.
    LockAcquired = "lock.acquired" Request Story ["own" Revision, "revision" Revision, "waits" Count]
        "server/concurrency/turn.rs", "client/v3/concurrency Mutex.Lock, Election.Campaign", "0.1";
    /// The client has gone or the wait has failed: the key is deleted, as the request named here.
    LockRelease = "lock.release" Request Story ["own" Revision, "request" Id]
        "server/concurrency.rs", "client/v3/concurrency Mutex.Unlock, Election.Resign", "0.1";
    /// Who stands already says something new: its key is put again, as the request named here.
    CampaignProclaim = "campaign.proclaim" Request Stage ["own" Revision, "request" Id]
        "server/concurrency/election.rs", "client/v3/concurrency Election.Proclaim", "0.1";
    /// An observer is told who leads now, by the revision that created its key, and what it says.
    ObserveLeader = "observe.leader" Request Story
        ["leader.old" Revision, "leader.new" Revision, "revision" Revision]
        "server/concurrency/observe.rs", "client/v3/concurrency Election.observe", "0.1";
    /// The client wants a compaction's rows to be gone: waiting for the last batch, and the file.
    CompactWait = "compact.wait" Request Stage ["revision" Revision]
        "server/kv.rs", "etcdserver EtcdServer.Compact", "0.1";
    /// The index in memory learns that the key is gone since this revision: its generation ends.
    TreeIndexTombstone = "tree_index.tombstone" Request Story ["main" Revision, "sub" Count]
        "server/mvcc/tree_index.rs", "mvcc treeIndex.Tombstone", "0.1";
    /// The caller has sent a W3C `traceparent`: the trace and the span that it is in itself.
    RpcContext = "rpc.context" Request Raw
        ["trace.high" Id, "trace.low" Id, "parent" Id, "sampled" Flag]
        "api/interceptor.rs", "none", "0.1";
    /// Too many bytes of answers are in flight: waiting until clients have read some of theirs.
    AnswerRoom = "answer.room" Request Story
        ["bytes" Bytes, "in_flight" Bytes, "limit" Bytes, "of_connection" Bytes, "ahead" Count]
        "server/answer/room.rs", "none", "0.1";
    /// Rows of an answer that there was no room to keep are read again, now that they can be sent.
    AnswerPiece = "answer.piece" Request Stage
        ["revision" Revision, "rows" Count, "bytes" Bytes, "left" Count]
        "server/answer.rs", "none", "0.1";
    /// An answer is ended in the middle, with this code of HTTP/2: it held up others, or a compaction
    /// has taken rows of it.
    AnswerEnded = "answer.ended" Request Story ["sent" Bytes, "left" Bytes, "reason" Count]
        "api/answers.rs", "none", "0.1";
    /// As many long reads as may run are running: waiting for the end of one of them.
    ReadTurn = "read.turn" Request Story ["ahead" Count, "limit" Count]
        "server/aside.rs", "none", "0.1";
} };
}

pub(in crate::trace) use vocabulary;

vocabulary!(stages);

impl Stage {
    /// The stage with this number, as records carry it.
    pub fn from_number(number: u8) -> Option<Stage> {
        Stage::ALL.get(usize::from(number)).copied()
    }

    /// The stage with this name, as recordings carry it.
    pub fn from_name(name: &str) -> Option<Stage> {
        Stage::ALL.iter().copied().find(|stage| stage.name() == name)
    }

    /// Where among the eight fields `ident` stands; `_` in it also stands for a dot. Used by
    /// `stage!` at compile time, so that a wrong name does not build.
    pub const fn slot(self, ident: &str) -> usize {
        let fields = self.fields();
        let mut at = 0;
        while at < fields.len() {
            if same_name(fields[at].name.as_bytes(), ident.as_bytes()) {
                return at;
            }
            at += 1;
        }
        panic!("the stage has no field of this name")
    }
}

const fn same_name(name: &[u8], ident: &[u8]) -> bool {
    if name.len() != ident.len() {
        return false;
    }
    let mut at = 0;
    while at < name.len() {
        if name[at] != ident[at] && !(name[at] == b'.' && ident[at] == b'_') {
            return false;
        }
        at += 1;
    }
    true
}
