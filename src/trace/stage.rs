//! The vocabulary of the glass: every step of a request or of a background loop that a trace can
//! show.
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
//! Every background loop that works for the store leaves stages, except for these:
//!
//! | loop                              | why                                                     |
//! |-----------------------------------|---------------------------------------------------------|
//! | probes of peers, dialling         | they carry nothing; later messages are `raft.send`      |
//! | the next log segment's space      | none waits as a rule; a write that must: in `wal.write` |
//! | answers of apply, refusals of raft | each is the end of one request's `raft.propose`        |
//! | what to keep, the flight recorder | the trace does not trace itself                         |
//!
//! Adding a step: a line here, a `stage!` where the work happens, a section in the book. Names of
//! stages and fields are public API: recordings, lessons and tests use them.

mod find;
mod make;
mod quick;

use make::stages;

pub(super) use find::same_name;

pub use super::{
    methods::METHODS,
    unit::{Family, Field, Grain, Unit},
};

/// Hands the list of stages to a macro: [`Stage`] is made of it, and the callsites of
/// [`bridge`](super::bridge).
macro_rules! vocabulary {
    ($each:ident) => { $each! {
    /// The client is connected, but the member has not taken the connection yet, and the client
    /// sends its request only after that. Known in steps of some milliseconds, from the handshake
    /// on, which the kernel completes by itself. Part of it may be a wait for a place among the
    /// clients.
    ConnectionAccept = "connection.accept" Request Story ["place" Nanos]
        "api/edge.rs", "none", "trace.md#at-the-socket";
    /// The request's first bytes lie in the receive buffer of its connection, and the member has
    /// not read them yet. The kernel tells the age of the newest of the bytes that lie there, so a
    /// request before others may have lain longer.
    SocketQueue = "socket.queue" Request Stage []
        "api/edge.rs", "none", "trace.md#at-the-socket";
    /// The request arrives in parts: from the read that returned its first frame to the read that
    /// returned the end of its last one.
    RpcReceive = "rpc.receive" Request Stage []
        "api/edge.rs", "none", "trace.md#at-the-socket";
    /// The request has been read from the socket. It is decoded, and waits until its task runs.
    RpcQueue = "rpc.queue" Request Stage [] "api/edge.rs", "none", "trace.md#at-the-socket";
    /// The request has come over HTTP: its JSON becomes the message that gRPC would have brought.
    GatewayDecode = "gateway.decode" Request Stage ["json" Bytes, "message" Bytes] "api/answers.rs", "grpc-gateway runtime JSONPb.NewDecoder", "interceptors.md#json-over-http";
    /// One RPC, from the decoded request to the response; or a request of the member itself, which
    /// no client has sent.
    Rpc = "rpc" Request Story ["method" Method, "bytes_in" Bytes, "bytes_out" Bytes, "revision" Revision, "code" Count]
        "api/interceptor.rs", "etcdserver/api/v3rpc newUnaryInterceptor", "interceptors.md";
    /// Is the request well formed? A request refused here costs the cluster nothing.
    RpcValidate = "rpc.validate" Request Stage ["operations" Count]
        "server/kv_server.rs", "etcdserver/api/v3rpc checkPutRequest, checkRangeRequest, checkTxnRequest", "interceptors.md";
    /// Which user sends the request? While auth is off, there are no users.
    AuthAuthenticate = "auth.authenticate" Request Raw ["enabled" Flag, "auth_revision" Count]
        "server/auth.rs", "etcdserver EtcdServer.AuthInfoFromCtx", "interceptors.md";
    /// Is there room in the backend for what this request would add? Compared is what is used: the
    /// pages in use after the last commit, and the rows of a commit under way; or the file's length
    /// without its last 16 MiB, if that is more.
    QuotaCheck = "quota.check" Request Stage ["used" Bytes, "limit" Bytes, "adds" Bytes, "in_use" Bytes, "file" Bytes]
        "server/admit.rs", "etcdserver/api/v3rpc quotaKVServer", "interceptors.md";
    /// Does apply keep up? With a backlog of more than 5000 entries, new writes are refused.
    Admit = "admit" Request Stage ["commit" Index, "applied" Index]
        "server/admit.rs", "etcdserver EtcdServer.processInternalRaftRequestOnce", "interceptors.md";
    /// The request is handed to raft, and waits until apply answers.
    RaftPropose = "raft.propose" Request Story ["bytes" Bytes, "leader" Member, "woken" Nanos]
        "server/propose.rs", "etcdserver EtcdServer.processInternalRaftRequestOnce", "one-put.md";
    /// The raft thread takes a proposal from its inbox, together with all others that wait there;
    /// or the question of a read round, or another member's message about one.
    RaftInbox = "raft.inbox" Request Stage ["queued" Count, "waited" Nanos, "from" Member]
        "raft/node.rs", "raft node.run", "one-put.md";
    /// The entry that carries the request gets its place in this member's log.
    RaftEntry = "raft.entry" Request Story ["term" Term, "index" Index, "bytes" Bytes, "waited" Nanos]
        "raft/node.rs", "raft raftLog.append", "one-put.md";
    /// There is no leader, or the leader hands over, or the members change and an earlier change is
    /// not applied yet: the raft thread keeps the proposal until it can be taken.
    RaftPark = "raft.park" Request Story ["term" Term, "parked" Count]
        "raft/proposals.rs", "raft node.run", "elections.md";
    /// A proposal that another member has forwarded is not appended: this member does not lead, or
    /// not in the term in which it was sent. Its sender proposes it again once it is proved lost.
    /// With a reason: this leader cannot carry it out, or it is too large.
    RaftRefuse = "raft.refuse" Request Story ["peer" Member, "sent_term" Term, "term" Term, "leader" Member]
        "raft/proposals.rs", "none", "commit-apply-respond.md";
    /// The proposal was lost with its leader: an entry of a later term is committed, and this one
    /// is not before it. The member proposes it again, or answers that the leader changed.
    RaftLost = "raft.lost" Request Story ["term" Term, "committed_term" Term, "again" Flag]
        "raft/node.rs", "none", "commit-apply-respond.md";
    /// Entries of a former leader are removed, because they conflict with the new leader's log.
    LogTruncate = "log.truncate" Loop Story ["last.old" Index, "last.new" Index, "term" Term]
        "raft/log.rs", "raft unstable.truncateAndAppend", "log-repair.md";
    /// The database on the disk has everything up to the index; a file says so, and later a record.
    SnapshotMake = "snapshot.make" Loop Story ["index" Index, "term" Term, "stored" Index, "bytes" Bytes]
        "server/snapshots.rs", "etcdserver EtcdServer.snapshot", "log-repair.md#where-the-beginning-of-the-log-goes";
    /// The log drops the entries before a snapshot, but for some that followers may still ask for.
    LogCompact = "log.compact" Loop Story ["first.old" Index, "first.new" Index, "term" Term]
        "raft/log.rs", "raft MemoryStorage.Compact", "log-repair.md#where-the-beginning-of-the-log-goes";
    /// The member removes segments of the log and files of snapshots that nobody needs any more.
    LogPurge = "log.purge" Loop Stage ["segments" Count, "files" Count]
        "server/snapshots.rs", "client/pkg/fileutil PurgeFile", "log-repair.md#where-the-beginning-of-the-log-goes";
    /// The leader copies its database, and sends it to a member that needs entries it has dropped.
    SnapshotSend = "snapshot.send" Loop Story ["peer" Member, "index" Index, "term" Term, "revision" Revision, "bytes" Bytes]
        "raft/rafthttp/snapshot_sender.rs", "etcdserver/api/rafthttp snapshotSender.send", "log-repair.md#when-the-log-no-longer-reaches";
    /// A member receives a database, compares its hash, and syncs it, before raft hears of it.
    SnapshotReceive = "snapshot.receive" Loop Story ["peer" Member, "index" Index, "term" Term, "bytes" Bytes]
        "raft/rafthttp/snapshot_receiver.rs", "etcdserver/api/rafthttp snapshotHandler.ServeHTTP", "log-repair.md#when-the-log-no-longer-reaches";
    /// A received snapshot takes the place of raft's whole log; the log's record of it comes next.
    SnapshotAccept = "snapshot.accept" Loop Story ["last.old" Index, "last.new" Index, "term" Term]
        "raft/node/snapshots.rs", "raft raft.restore", "log-repair.md#when-the-log-no-longer-reaches";
    /// A received database takes the place of the member's own: keys, leases, members, watchers.
    SnapshotInstall = "snapshot.install" Loop Story ["applied.old" Index, "applied.new" Index, "revision.old" Revision, "revision.new" Revision, "keys" Count, "watchers" Count]
        "server/apply/applier.rs", "etcdserver EtcdServer.applySnapshot", "log-repair.md#when-the-log-no-longer-reaches";
    /// A message to another member is encoded and handed to the connection.
    RaftSend = "raft.send" Loop Story
        ["peer" Member, "type" Message, "term" Term, "index" Index, "last" Index, "commit" Index, "reject" Flag, "waited" Nanos]
        "raft/rafthttp/glass.rs", "etcdserver/api/rafthttp streamWriter.run", "three-members.md";
    /// A message from another member arrives and is decoded.
    RaftReceive = "raft.receive" Loop Story ["peer" Member, "type" Message, "term" Term, "index" Index, "last" Index, "commit" Index, "reject" Flag]
        "raft/rafthttp/glass.rs", "etcdserver/api/rafthttp streamReader.decodeLoop", "three-members.md";
    /// Messages to a member, or from it, are dropped: no connection is open, a queue is full,
    /// raft's inbox is, or the link is cut. Raft repeats what matters. `messages` says how many of
    /// the type were dropped since the last record, `index` and `last` which entries they would
    /// have brought.
    RaftDrop = "raft.drop" Loop Story ["peer" Member, "type" Message, "term" Term, "messages" Count, "received" Flag, "cut" Flag, "index" Index, "last" Index]
        "raft/rafthttp/drops.rs", "etcdserver/api/rafthttp peer.send, streamReader.decodeLoop", "three-members.md";
    /// Log records are handed to the operating system. A crash of the machine can still lose them.
    WalWrite = "wal.write" Loop Stage ["first" Index, "last" Index, "written.old" Index, "written.new" Index, "segment" Count, "offset" Bytes, "gathered" Nanos]
        "storage/wal/writer.rs", "wal WAL.Save", "wal.md";
    /// The disk confirms. Everything written up to here survives a power failure.
    WalFsync = "wal.fsync" Loop Story ["first" Index, "last" Index, "synced.old" Index, "synced.new" Index, "bytes" Bytes, "term" Term, "vote" Member]
        "storage/wal/writer.rs", "wal WAL.sync", "wal.md";
    /// The raft thread learns from the wal thread up to which index this member's disk has the log.
    /// Only now may the member acknowledge these entries, or count its own disk.
    RaftStable = "raft.stable" Loop Stage ["stable.old" Index, "stable.new" Index, "waited" Nanos]
        "raft/node.rs", "raft raftLog.stableTo", "three-members.md";
    /// The leader learns up to which index a member has the leader's log on disk. A learner's disk
    /// counts for no majority.
    RaftProgress = "raft.progress" Loop Stage ["peer" Member, "match.old" Index, "match.new" Index, "learner" Flag]
        "raft/changes.rs", "raft/tracker Progress.MaybeUpdate", "three-members.md";
    /// A majority has the entry on disk, so it can no longer be lost. The leader counts the disks;
    /// another member learns the index from a message of the leader.
    RaftCommit = "raft.commit" Loop Story
        ["term" Term, "commit.old" Index, "commit.new" Index, "completed_by" Member, "waited" Nanos, "learned_from" Member]
        "raft/changes.rs", "raft raft.maybeCommit", "three-members.md";
    /// The state machine applies the entry, once, in log order.
    ApplyEntry = "apply.entry" Request Story ["term" Term, "index" Index, "applied.old" Index, "applied.new" Index, "waited" Nanos]
        "server/apply/applier.rs", "etcdserver EtcdServer.applyEntryNormal", "commit-apply-respond.md";
    /// The apply thread applies these entries without a pause, and no one reads in between. The
    /// answers leave after the last of them.
    ApplyBatch = "apply.batch" Loop Stage ["first" Index, "last" Index]
        "server/apply/applier.rs", "etcdserver EtcdServer.applyAll", "commit-apply-respond.md";
    /// May this user access these keys? While auth is off, every request may.
    AuthAuthorize = "auth.authorize" Request Raw ["enabled" Flag, "auth_revision" Count]
        "server/auth.rs", "etcdserver authApplierV3.Apply", "interceptors.md";
    /// A transaction compares version, revision or lease of a key with the number that the client
    /// wants; of several keys, up to the first that differs. A missing key counts as zero.
    TxnCompare = "txn.compare" Request Story
        ["level" Count, "target" Target, "operator" Operator, "wanted" Signed, "found" Signed, "keys" Count, "holds" Flag, "again" Count]
        "server/mvcc/compare.rs", "etcdserver applyCompare", "transactions.md";
    /// The comparisons of a transaction choose its operations: one that does not hold decides.
    /// Level 0 is the transaction that the client has sent, and the others are nested in it.
    TxnBranch = "txn.branch" Request Story ["level" Count, "compares" Count, "branch" Branch, "operations" Count, "again" Count]
        "server/mvcc/compare.rs", "etcdserver applyCompares", "transactions.md";
    /// One write transaction of the key space. All its operations share one main revision.
    MvccWrite = "mvcc.write" Request Stage ["revision.old" Revision, "revision.new" Revision, "operations" Count]
        "server/mvcc/write_txn.rs", "mvcc storeTxnWrite.End", "revisions.md";
    /// The in-memory index records the revision of the key's new value.
    TreeIndexPut = "tree_index.put" Request Story
        ["main" Revision, "sub" Count, "created" Revision, "version" Count, "generations.old" Count, "generations.new" Count]
        "server/mvcc/tree_index.rs", "mvcc treeIndex.Put", "revisions.md";
    /// The value goes into the write buffer, under its revision. It is not in the file yet.
    BufferPut = "buffer.put" Request Story ["length.old" Count, "length.new" Count, "bytes" Bytes]
        "storage/backend/buffer.rs", "mvcc/backend batchTxBuffered.UnsafeSeqPut", "buffer-and-backend.md";
    /// The write buffer is full. The writer waits until the commit of the one before has ended, and
    /// this one is frozen.
    BufferWait = "buffer.wait" Loop Stage ["limit" Count]
        "storage/backend.rs", "mvcc/backend batchTxBuffered.Unlock", "buffer-and-backend.md";
    /// The write buffer is frozen between two entries, so that it can be written into the file.
    BufferFreeze = "buffer.freeze" Loop Stage ["length" Count, "bytes" Bytes, "index" Index, "revision" Revision]
        "storage/backend/commit.rs", "mvcc/backend batchTxBuffered.commit", "buffer-and-backend.md";
    /// One transaction writes the frozen buffer and the consistent index into the file and syncs
    /// it.
    BackendCommit = "backend.commit" Loop Story
        ["index.old" Index, "index.new" Index, "revision.old" Revision, "revision.new" Revision, "writes" Count]
        "storage/backend/commit.rs", "mvcc/backend batchTx.commit", "buffer-and-backend.md";
    /// The read waits for the next ReadIndex round, which it shares with all other waiting reads.
    ReadIndexWait = "read_index.wait" Request Story ["round" Id, "place" Count, "woken" Nanos]
        "server/read_index.rs", "etcdserver EtcdServer.linearizableReadNotify", "read-index.md";
    /// All waiting reads share one question to a quorum: which index is committed now? An answer to
    /// an earlier attempt ends the round too; then the record names that attempt. The member asks
    /// again after 500 ms without an answer, and when its term changes or it learns of a leader;
    /// the attempt's reason says which.
    ReadIndexRound = "read_index.round" Loop Story
        ["reads" Count, "attempt" Count, "index" Index, "term" Term, "answered" Id, "woken" Nanos, "before" Id]
        "server/read_index.rs", "etcdserver EtcdServer.linearizableReadLoop", "read-index.md";
    /// Nobody can answer the question yet: there is no leader, or no entry of its term is
    /// committed. The raft thread keeps it.
    ReadIndexPark = "read_index.park" Loop Story ["term" Term, "leader" Member, "parked" Count]
        "raft/reads.rs", "raft stepLeader MsgReadIndex", "read-index.md";
    /// The question is lost: its leader ceased to lead before a quorum had answered, and the member
    /// that asked asks again; or that member has asked again before anybody could answer, or too
    /// many questions wait.
    ReadIndexLost = "read_index.lost" Loop Story ["term" Term, "leader" Member]
        "raft/reads.rs", "raft raft.reset", "read-index.md";
    /// A majority still follows this leader, so its commit index is the newest there is. Only the
    /// leader sees the acknowledgements; the member that asked receives nothing but the index.
    ReadIndexConfirmed = "read_index.confirmed" Loop Story ["index" Index, "acks" Count]
        "raft/changes.rs", "raft readOnly.advance", "read-index.md";
    /// The index is confirmed. The read waits until this member has applied up to it.
    ReadWaitApplied = "read.wait_applied" Request Story ["index" Index, "applied" Index]
        "server/read_index.rs", "etcdserver applyWait.Wait", "read-index.md";
    /// One read of the key space at one revision: that which the client has asked for, or the
    /// newest. Of the keys in the range, filters and limit leave those that are returned.
    MvccRange = "mvcc.range" Request Story
        ["asked" Revision, "revision" Revision, "keys" Count, "bytes" Bytes, "total" Count, "limit" Count, "more" Flag]
        "server/mvcc/read_txn.rs", "mvcc storeTxnRead.rangeKeys", "one-get.md";
    /// The in-memory index looks at the keys of the range, and gives the revisions that hold the
    /// values to return. If the read had to begin again, the field says how often.
    TreeIndexGet = "tree_index.get" Request Story ["revisions" Count, "main" Revision, "sub" Count, "visited" Count, "again" Count]
        "server/mvcc/tree_index.rs", "mvcc treeIndex.Revisions", "one-get.md";
    /// The two write buffers are searched for the values.
    BufferGet = "buffer.get" Request Story ["active" Count, "frozen" Count, "misses" Count, "again" Count]
        "storage/backend/read_tx.rs", "mvcc/backend txReadBuffer.Range", "one-get.md";
    /// Values that are in neither buffer are read from the file.
    BackendGet = "backend.get" Request Story ["file" Count]
        "storage/backend/read_tx.rs", "mvcc/backend baseReadTx.UnsafeRange", "one-get.md";
    /// A row of the file does not fit its checksum. The member raises the alarm CORRUPT and ends.
    /// Rows of tables without revisions count as 0.
    BackendDamaged = "backend.damaged" Loop Story ["main" Revision, "sub" Count]
        "storage/backend/checksum.rs", "none", "operating.md#a-corrupt-member";
    /// Older revisions can no longer be read. Their rows leave the file later, in batches.
    MvccCompact = "mvcc.compact" Request Story ["compacted.old" Revision, "compacted.new" Revision]
        "server/mvcc/compact.rs", "mvcc store.Compact", "compaction.md#the-figure";
    /// Rows of compacted revisions are deleted, a bounded number at a time.
    CompactBatch = "compact.batch" Loop Stage ["revision" Revision, "rows" Count, "deleted" Count]
        "server/mvcc/compact.rs", "mvcc store.scheduleCompaction", "compaction.md#the-figure";
    /// Between two portions of its work the thread that compacts pauses, so that others get the
    /// locks.
    CompactPause = "compact.pause" Loop Stage ["revision" Revision]
        "server/mvcc/compact.rs", "mvcc store.scheduleCompaction", "compaction.md#the-figure";
    /// A process starts: it opens the log and the file. Entries above `stored`, up to `committed`,
    /// are applied again.
    MemberStart = "member.start" Loop Story ["term" Term, "vote" Member, "last" Index, "committed" Index, "stored" Index]
        "member/start.rs", "etcdserver NewServer", "wal.md";
    /// The member has published its name and URLs, and serves clients from here on.
    MemberReady = "member.ready" Loop Story ["applied" Index, "since_start" Nanos]
        "member/start.rs", "etcdserver EtcdServer.publish", "wal.md";
    /// The member is asked to stop: by a signal, or because the cluster has removed it.
    MemberStop = "member.stop" Loop Story ["term" Term, "leader" Member]
        "member/start.rs", "etcdserver EtcdServer.Stop", "wal.md";
    /// The member has had no message from a leader for the election timeout. `silent` is the time
    /// since the last one, 0 if there was none since the start.
    ElectionTimeout = "election.timeout" Loop Story ["term" Term, "leader" Member, "silent" Nanos]
        "raft/changes.rs", "raft raft.tickElection", "elections.md";
    /// A leader that is about to stop, or that a client wants to be followed by another, asks a
    /// voter to campaign at once.
    ElectionTransfer = "election.transfer" Loop Story ["term" Term, "to" Member, "matched" Index, "last" Index]
        "raft/node.rs", "raft stepLeader MsgTransferLeader", "elections.md";
    /// The member asks the others for their votes: in a pre-vote whether they would vote for it,
    /// without raising its term, and then for the votes.
    ElectionCampaign = "election.campaign" Loop Story ["pre" Flag, "term.old" Term, "term.new" Term]
        "raft/changes.rs", "raft raft.campaign", "elections.md";
    /// Another member asks for a vote. This member grants it if the candidate's log is at least as
    /// new as its own and it has not voted in this term.
    ElectionVote = "election.vote" Loop Story
        ["candidate" Member, "granted" Flag, "pre" Flag, "term" Term, "last_term" Term, "last" Index, "own_last_term" Term, "own_last" Index]
        "raft/changes/vote.rs", "raft raft.Step", "elections.md";
    /// A candidate counts one more vote.
    ElectionTally = "election.tally" Loop Story
        ["voter" Member, "granted" Flag, "pre" Flag, "in_favour" Count, "against" Count, "term" Term]
        "raft/changes.rs", "raft raft.poll", "elections.md";
    /// The member's role, term, vote or leader has changed.
    RaftRole = "raft.role" Loop Story
        ["role.old" Role, "role.new" Role, "term.old" Term, "term.new" Term, "leader.old" Member, "leader.new" Member, "vote.old" Member, "vote.new" Member]
        "raft/changes.rs", "raft raft.becomeLeader, becomeFollower, becomeCandidate", "elections.md";
    /// This member's watermarks, sampled every 100 ms.
    Keyframe = "keyframe" Loop Raw
        ["role" Role, "term" Term, "commit" Index, "applied" Index, "revision" Revision, "leader" Member, "written" Index, "synced" Index]
        "trace/collect/drain.rs", "none", "trace.md#what-a-trace-says-of-itself";
    /// The second part of a keyframe: the state of the file and of the write buffers, the vote, and
    /// counts of requests.
    KeyframeBackend = "keyframe.backend" Loop Raw
        ["committed" Index, "committed_revision" Revision, "active" Count, "frozen" Count, "vote" Member, "seen" Count, "kept" Count, "dropped" Count]
        "trace/collect/drain.rs", "none", "trace.md#what-a-trace-says-of-itself";
    /// The third part of a keyframe: the memory of the process, 0 if unknown; the log's fsyncs in
    /// the last whole second; the alarms that the member knows, with a member that raised each.
    KeyframeProcess = "keyframe.process" Loop Raw
        ["memory" Bytes, "fsyncs" Count, "fsync_p99" Nanos, "alarms" Count, "no_space" Member, "corrupt" Member]
        "trace/collect/drain.rs", "none", "trace.md#what-a-trace-says-of-itself";
    /// One of the members, by raft's configuration from the entry `index` on. Each has a record,
    /// after each change and for everyone who begins to listen.
    RaftMembers = "raft.members" Loop Raw ["index" Index, "subject" Member, "learner" Flag, "number" Count, "members" Count]
        "trace/collect/drain.rs", "none", "trace.md#what-a-trace-says-of-itself";
    /// How long a stage usually takes on this member; an rpc, by its method. Half of the samples
    /// took at most p50, and 99 of 100 at most p99. The samples are the steps of loops and of
    /// requests kept by their ids, in the last minutes.
    Usual = "usual" Loop Raw ["stage" Stage, "method" Method, "p50" Nanos, "p99" Nanos, "samples" Count]
        "trace/collect/drain.rs", "none", "trace.md#what-a-trace-says-of-itself";
    /// The key that a kept request names: its first 88 bytes, with a flag if there are more.
    Key = "key" Request Raw ["length" Bytes]
        "trace/record.rs", "none", "trace.md#what-a-trace-says-of-itself";
    /// The process stood still: this time passed, and no thread of it ran, or waited for a CPU. It
    /// was stopped, or its machine was. The CPU time that it used meanwhile is given, and by how
    /// much the standstill may have begun earlier.
    ProcessStalled = "process.stalled" Loop Story ["cpu" Nanos, "margin" Nanos]
        "trace/collect/pulse.rs", "none", "trace.md#the-process";
    /// For how long, in this time, the threads were ready to run and had no CPU, as the scheduler
    /// counts it.
    CpuWait = "cpu.wait" Loop Raw
        ["grpc" Nanos, "peer" Nanos, "raft" Nanos, "wal" Nanos, "apply" Nanos, "commit" Nanos, "others" Nanos]
        "trace/collect/pulse.rs", "none", "trace.md#the-process";
    /// Records were overwritten before they were read. The steps that they held are unknown.
    Lost = "lost" Loop Stage ["from" Count, "to" Count, "records" Count]
        "trace/collect/drain.rs", "none", "trace.md#what-a-trace-says-of-itself";
    /// Under load a member leaves out the quick steps of requests that were not chosen to be kept,
    /// until the load is over. A request that is kept because it failed or was slow lacks them.
    Brief = "trace.brief" Loop Stage ["on" Flag, "records" Count]
        "trace/collect/drain.rs", "none", "trace.md#what-a-trace-says-of-itself";
    /// The first requests that a step of a loop was for, which began at this clock: a kept request
    /// stood behind it.
    Shared = "trace.shared" Loop Raw ["step" Count, "first" Id, "second" Id, "third" Id, "fourth" Id, "fifth" Id, "sixth" Id]
        "trace/collect/drain/late.rs", "none", "trace.md#what-a-trace-says-of-itself";
    /// A client asks for the changes of keys from a revision on. If that is in the past, the
    /// watcher must catch up first.
    WatchCreate = "watch.create" Request Story
        ["start" Revision, "revision" Revision, "watcher" Count, "watch_id" Count, "synced" Flag]
        "server/mvcc/watch.rs", "mvcc watchStream.Watch", "watch.md";
    /// The watcher ends, for this reason. One that was refused has no number.
    WatchCancel = "watch.cancel" Request Story ["watcher" Count, "watch_id" Signed, "why" WatchEnd, "compacted" Revision]
        "api/v3/watch/session.rs", "etcdserver/api/v3rpc serverWatchStream.recvLoop, sendLoop", "watch.md";
    /// The stream tells the client that its watcher has everything up to this revision.
    WatchProgress = "watch.progress" Request Story ["watch_id" Signed, "revision" Revision, "whole_stream" Flag]
        "api/v3/watch/session.rs", "etcdserver/api/v3rpc serverWatchStream.sendLoop", "watch.md";
    /// The write's events are handed to the watchers of its keys, before the write can be read.
    WatchNotify = "watch.notify" Request Story ["revision" Revision, "events" Count, "synced" Count, "victims" Count]
        "server/mvcc/watch.rs", "mvcc watchableStore.notify", "watch.md";
    /// One watcher's events enter the queue of its stream, or of the lock, campaign or observe call
    /// that waits for them. The request named here has created the watcher.
    WatchQueue = "watch.queue" Request Stage ["watcher" Count, "watch_id" Count, "depth" Count, "created_by" Id, "of_call" Flag]
        "server/mvcc/watch.rs", "mvcc watcher.send", "watch.md";
    /// The queue is full. The watcher keeps these events, gets nothing more from apply, and catches
    /// up later.
    WatchVictim = "watch.victim" Request Story ["watcher" Count, "revision" Revision, "depth" Count]
        "server/mvcc/watch.rs", "mvcc watchableStore.addVictim", "watch.md";
    /// One read of the backend, by revision, serves all watchers that are behind: the passes of a
    /// start of the member are numbered.
    WatchSync = "watch.sync" Loop Stage ["from" Revision, "to" Revision, "watchers" Count, "events" Count, "left" Count, "pass" Count]
        "server/mvcc/watch/sync.rs", "mvcc watchableStore.syncWatchers", "watch.md";
    /// The pass of this number has read for the watcher, which has everything before the new
    /// revision now.
    WatchForward = "watch.forward" Request Stage
        ["watcher" Count, "next.old" Revision, "next.new" Revision, "events" Count, "synced" Flag, "pass" Count]
        "server/mvcc/watch/sync.rs", "mvcc watchableStore.syncWatchers", "watch.md";
    /// The stream takes events from its queue and sends them. Path 0: from apply; 1: after catching
    /// up.
    WatchSend = "watch.send" Request Story
        ["watcher" Count, "watch_id" Count, "first" Revision, "last" Revision, "events" Count, "path" Count]
        "api/v3/watch/session.rs", "etcdserver/api/v3rpc serverWatchStream.sendLoop", "watch.md";
    /// What has come through a stream so far: messages of the client, each a request of its own,
    /// and messages to it. This record is about the request, or the write whose events were sent.
    StreamFlow = "stream.flow" Request Story ["request" Id, "write" Id, "received" Count, "sent" Count, "events" Count, "bytes" Bytes]
        "api/flow.rs", "none", "watch.md";
    /// A lease begins. It expires after its TTL, in seconds, unless it is renewed. A TTL that is
    /// shorter than the shortest that this cluster grants is raised to that.
    LeaseGrant = "lease.grant" Request Story ["lease" Id, "ttl" Count, "raised" Flag, "asked" Signed]
        "server/apply/lease.rs", "lease lessor.Grant", "leases.md";
    /// A key changes its lease. It will be deleted with the new lease, and not with the old one.
    LeaseAttach = "lease.attach" Request Stage ["lease.old" Id, "lease.new" Id]
        "server/lessor.rs", "lease lessor.Attach, lessor.Detach", "leases.md";
    /// The leader gives a lease its whole TTL again. That costs a log entry only if a checkpoint
    /// must be cleared.
    LeaseRenew = "lease.renew" Request Story ["lease" Id, "ttl" Count, "forwarded" Flag]
        "server/lease/requests.rs", "etcdserver EtcdServer.LeaseRenew", "leases.md";
    /// The leader says how much time a lease has left, and which keys it has if that is asked.
    LeaseRemaining = "lease.remaining" Request Story ["lease" Id, "ttl" Count, "granted" Count, "keys" Count, "forwarded" Flag]
        "server/lease/requests.rs", "etcdserver EtcdServer.LeaseTimeToLive", "leases.md";
    /// Another member leads, so it is asked, over HTTP at its peer URL. The link joins the question
    /// to the answer there.
    LeaseForward = "lease.forward" Request Story ["lease" Id, "leader" Member, "ttl" Count]
        "server/lease/requests.rs", "lease/leasehttp RenewHTTP, TimeToLiveHTTP", "leases.md";
    /// The leader answers the question of another member about the lease of a client.
    LeaseServe = "lease.serve" Request Story ["lease" Id, "from" Member, "renews" Flag, "ttl" Count, "keys" Count]
        "server/lease/primary.rs", "lease/leasehttp leaseHandler.ServeHTTP", "leases.md";
    /// All leases are listed.
    LeaseList = "lease.list" Request Story ["leases" Count]
        "server/lease/requests.rs", "etcdserver EtcdServer.LeaseLeases", "leases.md";
    /// A lease has expired. The leader proposes to revoke it, as the request named here.
    LeaseExpire = "lease.expire" Loop Story ["lease" Id, "request" Id, "overdue" Nanos]
        "server/lease/expiry.rs", "lease lessor.revokeExpiredLeases, etcdserver EtcdServer.run", "leases.md";
    /// A lease ends, and its keys are deleted with it, all at one revision.
    LeaseRevoke = "lease.revoke" Request Story ["lease" Id, "keys" Count]
        "server/apply/lease.rs", "lease lessor.Revoke", "leases.md";
    /// The in-memory index drops deleted keys and revisions that can no longer be read, a bounded
    /// number of keys at a time, before their rows.
    CompactIndex = "compact.index" Loop Stage ["revision" Revision, "visited" Count, "keys.old" Count, "keys.new" Count]
        "server/mvcc/compact.rs", "mvcc treeIndex.Compact", "compaction.md#the-figure";
    /// The remaining TTL of leases is recorded for the next leader; 0 means the whole TTL.
    LeaseCheckpoint = "lease.checkpoint" Request Story ["leases" Count, "lease" Id, "remaining" Count]
        "server/apply/lease.rs", "lease lessor.Checkpoint", "leases.md";
    /// The member grants a lease to a lock or campaign call that has none, as the request named
    /// here. It is never renewed.
    SessionGrant = "session.grant" Request Stage ["lease" Id, "ttl" Count, "request" Id]
        "server/concurrency.rs", "client/v3/concurrency NewSession", "leases.md#locks";
    /// The caller enters the queue: its key exists, and the oldest key below the name comes first.
    LockEnter = "lock.enter" Request Story ["own" Revision, "first" Revision, "put" Flag]
        "server/concurrency.rs", "client/v3/concurrency Mutex.tryAcquire, Election.Campaign", "leases.md#locks";
    /// The caller waits until the key before its own is deleted; the fields say at which revision,
    /// and by which request.
    LockWait = "lock.wait" Request Story ["own" Revision, "before" Revision, "ahead" Count, "deleted" Revision, "by" Id]
        "server/concurrency/queue.rs", "client/v3/concurrency waitDeletes, waitDelete", "leases.md#locks";
    /// No older key is left, and the caller's own still exists: it has the lock, or leads.
    LockAcquired = "lock.acquired" Request Story ["own" Revision, "revision" Revision, "waits" Count]
        "server/concurrency/queue.rs", "client/v3/concurrency Mutex.Lock, Election.Campaign", "leases.md#locks";
    /// The client has gone or the wait has failed. The member deletes the key, as the request named
    /// here.
    LockRelease = "lock.release" Request Story ["own" Revision, "request" Id]
        "server/concurrency.rs", "client/v3/concurrency Mutex.Unlock, Election.Resign", "leases.md#locks";
    /// A candidate that is already in the queue has a new value. Its key is put again, as the
    /// request named here.
    CampaignProclaim = "campaign.proclaim" Request Stage ["own" Revision, "request" Id]
        "server/concurrency/election.rs", "client/v3/concurrency Election.Proclaim", "leases.md#locks";
    /// The member sends an observer the present leader's key and value. The leader is named by the
    /// revision that created its key.
    ObserveLeader = "observe.leader" Request Story ["leader.old" Revision, "leader.new" Revision, "revision" Revision]
        "server/concurrency/observe.rs", "client/v3/concurrency Election.observe", "leases.md#locks";
    /// The member reads all rows of the key space up to a revision, and hashes them.
    MvccHash = "mvcc.hash" Request Story ["asked" Revision, "revision" Revision, "compacted" Revision, "rows" Count]
        "server/mvcc/hash.rs", "mvcc store.HashByRev", "buffer-and-backend.md";
    /// A member compares its hash with those of the others: 0 at its start, 1 periodically, 2 after
    /// a compaction. The alarm CORRUPT follows if some differ.
    CorruptCheck = "corrupt.check" Request Story
        ["occasion" Count, "revision" Revision, "compacted" Revision, "asked" Count, "answered" Count, "differ" Count]
        "server/corruption.rs", "etcdserver corruptionChecker.PeriodicCheck", "operating.md#a-corrupt-member";
    /// The member commits its write buffer and hashes the whole file, which has reached this.
    BackendHash = "backend.hash" Request Story ["index" Index, "revision" Revision]
        "server/views.rs", "mvcc/backend backend.Hash", "buffer-and-backend.md";
    /// The commit thread copies the used part of the database file into another and puts that in
    /// its place, while readers go on. The sizes are those of the file on the disk.
    BackendDefrag = "backend.defrag" Request Story ["size.old" Bytes, "size.new" Bytes]
        "server/maintenance.rs", "mvcc/backend backend.defrag", "compaction.md#the-file-does-not-shrink";
    /// The member commits its write buffer and copies the file as of that commit, in order to send
    /// it. Later commits do not change the copy.
    BackendSnapshot = "backend.snapshot" Request Story ["index" Index, "revision" Revision, "rows" Count, "size" Bytes]
        "server/maintenance.rs", "mvcc/backend backend.Snapshot", "buffer-and-backend.md";
    /// A client wants another voter to lead. The leader asks that voter to campaign, and the call
    /// waits until it leads.
    LeaderMove = "leader.move" Request Story ["to" Member, "leader" Member]
        "server/maintenance.rs", "etcdserver EtcdServer.MoveLeader", "elections.md";
    /// The member describes itself as it is at this moment, and asks nobody.
    MemberStatus = "member.status" Request Story
        ["leader" Member, "term" Term, "commit" Index, "applied" Index, "size" Bytes, "in_use" Bytes, "errors" Count]
        "server/views.rs", "etcdserver/api/v3rpc maintenanceServer.Status", "three-members.md";
    /// The members of the cluster are listed, as this member knows them.
    MembersList = "members.list" Request Story ["members" Count, "linearizable" Flag]
        "server/views.rs", "etcdserver/api/v3rpc ClusterServer.MemberList", "three-members.md";
    /// May the members change now? Compared are the voters that have published their name, and
    /// those that this member has been connected to for five seconds, itself among them, with a
    /// majority of those to come. For a promotion: how much of the log the learner has, and the
    /// leader.
    MembersCheck = "members.check" Request Story
        ["change" Change, "subject" Member, "voters" Count, "started" Count, "connected" Count, "matched" Index, "leader_matched" Index]
        "server/membership.rs", "etcdserver EtcdServer.mayAddMember, mayRemoveMember, mayPromoteMember", "membership.md#what-is-refused-and-why";
    /// Only the leader knows how much of the log a learner has, so it is asked to promote it.
    MembersForward = "members.forward" Request Story ["subject" Member, "leader" Member]
        "server/membership.rs", "etcdserver promoteMemberHTTP", "membership.md#promoting";
    /// The members of the cluster change, on every member at the same entry: raft gets its new
    /// configuration, the rows of the members change, and from here on the member talks to those
    /// that are left. With a reason: every member refuses the change.
    MembersChange = "members.change" Request Story
        ["change" Change, "subject" Member, "voters.old" Count, "voters.new" Count, "learners.old" Count, "learners.new" Count, "waited" Nanos]
        "server/apply/applier/membership.rs", "etcdserver EtcdServer.applyConfChange", "membership.md#adding";
    /// An alarm is raised or disarmed, or alarms are listed. 1 is NOSPACE, 2 CORRUPT, 0 all.
    AlarmApply = "alarm.apply" Request Story ["raise" Flag, "disarm" Flag, "alarm" Count, "owner" Member, "answered" Count]
        "server/alarm.rs", "etcdserver applierV3backend.Alarm", "interceptors.md";
    /// A physical compaction waits for its last batch.
    CompactWait = "compact.wait" Request Stage ["revision" Revision]
        "server/kv_server.rs", "etcdserver EtcdServer.Compact", "compaction.md#the-figure";
    /// A blocking thread waits until the file has the last batch of a physical compaction.
    CompactCommit = "compact.commit" Request Stage ["waited" Nanos]
        "server/kv_server.rs", "mvcc/backend backend.ForceCommit", "compaction.md#the-figure";
    /// The in-memory index records the revision that deleted the key: its generation ends.
    TreeIndexTombstone = "tree_index.tombstone" Request Story ["main" Revision, "sub" Count]
        "server/mvcc/tree_index.rs", "mvcc treeIndex.Tombstone", "revisions.md";
    /// The client has sent a W3C `traceparent`, which names its own trace and span.
    RpcContext = "rpc.context" Request Raw ["trace.high" Id, "trace.low" Id, "parent" Id, "sampled" Flag]
        "api/origin.rs", "none", "trace.md#at-the-socket";
    /// The two ends of the connection on which the request came, the client's and the member's: an
    /// address in two halves, and a port. One of IPv4 is written as IPv6.
    RpcConnection = "rpc.connection" Request Raw
        ["from.high" Id, "from.low" Id, "from.port" Count, "to.high" Id, "to.low" Id, "to.port" Count]
        "api/origin.rs", "none", "trace.md#at-the-socket";
    /// Too many bytes of answers are in flight. The answer waits until clients have read some of
    /// theirs.
    AnswerRoom = "answer.room" Request Story ["bytes" Bytes, "in_flight" Bytes, "limit" Bytes, "of_connection" Bytes, "ahead" Count]
        "server/answer/room.rs", "none", "trace.md#at-the-socket";
    /// The answer goes out over HTTP: its message becomes JSON, piece by piece if it is long.
    GatewayEncode = "gateway.encode" Request Stage ["message" Bytes, "json" Bytes] "api/gateway/answer.rs", "grpc-gateway runtime ForwardResponseMessage", "interceptors.md#json-over-http";
    /// The answer is encoded, split into frames and written, until the socket has taken its last
    /// byte.
    AnswerFlush = "answer.flush" Request Story []
        "api/edge.rs", "none", "trace.md#at-the-socket";
    /// Rows that did not fit into memory earlier are read again, now that they can be sent.
    AnswerPiece = "answer.piece" Request Stage ["revision" Revision, "rows" Count, "bytes" Bytes, "left" Count]
        "server/answer_reader.rs", "none", "trace.md#at-the-socket";
    /// The member resets an answer midway, with this HTTP/2 code: it held up others, or a
    /// compaction removed some of its rows.
    AnswerEnded = "answer.ended" Request Story ["sent" Bytes, "left" Bytes, "reason" Count]
        "api/answers.rs", "none", "trace.md#at-the-socket";
    /// All permits of this kind are taken: for long reads, for hashes of the key space, or for
    /// copies of the database file. The call waits until another one ends.
    ReadQueue = "read.queue" Request Story ["ahead" Count, "limit" Count, "pool" Pool]
        "server/long_reads.rs", "none", "trace.md#the-process";
    /// A long read, a hash of the key space, or a copy of the database file runs on a blocking
    /// thread. It holds one of the permits until it ends, even if its caller is gone.
    ReadThread = "read.thread" Request Stage ["waited" Nanos, "limit" Count, "pool" Pool]
        "server/long_reads.rs", "none", "trace.md#the-process";
    /// A blocking thread is done. The call that waits for its result has not run since.
    ThreadReturn = "thread.return" Request Stage []
        "server/blocking.rs", "none", "trace.md#the-process";
    /// A request changes the v2 store, or is refused by it with this error number. Each change of a
    /// node has the next index, which is v2's own and no revision.
    V2Apply = "v2.apply" Request Story
        ["action" V2Action, "index.old" Count, "index.new" Count, "nodes" Count, "watchers" Count, "code" Count]
        "server/v2store.rs", "etcdserver applierV2store", "v2.md";
    /// A read of the v2 store of this member, which may be behind the others.
    V2Get = "v2.get" Request Stage ["index" Count, "nodes" Count, "code" Count]
        "server/v2.rs", "etcdserver reqV2HandlerStore.Get", "v2.md";
    /// A watcher of v2 looks for its event in the window of the last thousand, and waits if there
    /// is none yet. An index that has left the window is refused: error 401.
    V2Watch = "v2.watch" Request Story ["since" Count, "index" Count, "found" Count, "code" Count]
        "server/v2.rs", "etcdserver/api/v2store watcherHub.watch", "v2.md";
    /// The watcher of v2 gets an event.
    V2Event = "v2.event" Request Stage ["action" V2Action, "index" Count]
        "api/v2/watch.rs", "etcdserver/api/v2http handleKeyWatch", "v2.md";
    /// `glass up` asks for a link with another member to be cut, or healed. While it is cut, all
    /// that would pass it is dropped.
    RaftLink = "raft.link" Loop Story ["peer" Member, "cut.old" Flag, "cut.new" Flag]
        "raft/rafthttp/links.rs", "none", "three-members.md";
} };
}

pub(in crate::trace) use vocabulary;

vocabulary!(stages);
