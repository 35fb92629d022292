//! The apply thread's loop, and what each kind of entry does (etcd: `applyAll`,
//! `applyEntryNormal`).

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, mpsc::Receiver},
};

use raft::eraftpb::{Entry, EntryType, SnapshotMetadata};
use tokio::sync::mpsc::UnboundedSender;

use super::key_space::KvRequest;
use crate::{
    metrics::recorded,
    pb::etcdserverpb::{AlarmType, Request},
    raft::{Status, inbox::Inbox, node::Committed, rafthttp},
    server::{
        Error, Server,
        admit::{GRANT_COST, put_cost, txn_cost},
        alarm::{Alarms, NoSpace},
        auth::AuthStore,
        command::{Command, decode},
        members::Members,
        mvcc::{Batch, ReplyTo, Store},
        outcome::{Outcome, Outcomes, Response},
        slow::{SlowRequests, error_text},
        snapshots::Wishes,
        v2store::{self, V2Store},
        wait::Wait,
    },
    stage,
    storage::{backend::Backend, fatal, snap},
    trace::{self, raw_clock},
};

mod membership;

/// The most entries applied before the locks are released for readers.
const BATCH_LEN_MAX: usize = 128;

/// The apply thread's state: everything that committed entries may change.
pub(crate) struct Applier {
    member_id: u64,
    quota_bytes: Option<u64>,
    /// The shortest TTL of a lease, in seconds.
    min_ttl: i64,
    /// Whether the remaining time of a lease is kept in its row.
    persist_checkpoints: bool,
    store: Arc<Store>,
    v2: Arc<V2Store>,
    backend: Arc<Backend>,
    members: Arc<Members>,
    alarms: Arc<Alarms>,
    auth: Arc<AuthStore>,
    no_space: Arc<NoSpace>,
    wait: Arc<Wait>,
    status: Arc<Status>,
    inbox: Inbox,
    peers: rafthttp::Sender,
    outcomes: UnboundedSender<Outcomes>,
    snapshots: Wishes,
    /// Logs requests that take long.
    slow: Arc<SlowRequests>,
    /// Where received databases are.
    snap_dir: PathBuf,
    /// Entries up to this index were committed before the member started.
    replayed: u64,
}

/// Whether the quota had room for a write before it was applied.
#[derive(Clone, Copy)]
enum Room {
    Enough,
    None,
}

impl Applier {
    /// Makes the applier of a server. It connects to new members through `peers`, and sends
    /// outcomes for the waiting requests through `outcomes`, whose length their number bounds. It
    /// asks for `snapshots`.
    pub(crate) fn new(
        server: &Server,
        peers: rafthttp::Sender,
        outcomes: UnboundedSender<Outcomes>,
        (snapshots, snap_dir): (Wishes, PathBuf),
        replayed: u64,
    ) -> Self {
        Self {
            member_id: server.member_id,
            quota_bytes: server.settings.quota_bytes,
            min_ttl: server.settings.min_ttl,
            persist_checkpoints: server.settings.persist_checkpoints,
            store: Arc::clone(&server.store),
            v2: Arc::clone(&server.v2.store),
            backend: Arc::clone(&server.backend),
            members: Arc::clone(&server.members),
            alarms: Arc::clone(&server.alarms),
            auth: Arc::clone(&server.proposer.auth),
            no_space: Arc::clone(&server.proposer.no_space),
            wait: Arc::clone(&server.proposer.wait),
            status: Arc::clone(&server.status),
            inbox: server.proposer.inbox.clone(),
            slow: Arc::clone(&server.slow),
            peers,
            outcomes,
            snapshots,
            snap_dir,
            replayed,
        }
    }

    /// Runs until raft closes the channel, or stops answering.
    pub(crate) fn run(self, committed: &Receiver<Committed>) {
        trace::set_thread("apply");
        while let Ok(next) = committed.recv() {
            if let Some(snapshot) = &next.snapshot {
                self.install(snapshot);
            }
            if self.apply_all(&next).is_break() {
                return;
            }
        }
    }

    /// Puts a received database in the place of everything that this thread changes. Its log record
    /// is on the disk, so there is no way back to the old state: a file that has become damaged
    /// since it was received is removed, and ends the member. At its next start it gets another.
    fn install(&self, snapshot: &SnapshotMetadata) {
        let (index, before) = (snapshot.index, self.status.applied());
        if index <= before {
            return;
        }
        let _in_progress = recorded::INSTALLS_IN_PROGRESS.during();
        let mut span = stage!(SnapshotInstall, 0, applied_old = before, applied_new = index);
        fail::fail_point!("snapshot-before-install");
        let path = snap::received_path(&self.snap_dir, index);
        let installed = self.store.install(&path, index, self.min_ttl);
        let installed = installed.unwrap_or_else(|error| {
            // What cannot be removed is looked at again at the next start.
            let _ = std::fs::remove_file(&path);
            fatal(&error)
        });
        self.alarms.reload(&self.backend).unwrap_or_else(|error| fatal(&error));
        // Auth must be off in it, as at a start.
        AuthStore::open(&self.backend).map(drop).unwrap_or_else(|error| fatal(&error));
        self.members.reload(&self.backend).unwrap_or_else(|error| fatal(&error));
        self.v2.reload(&self.backend).unwrap_or_else(|error| fatal(&error));
        self.dial_all();
        crate::set!(
            span,
            SnapshotInstall,
            revision_old = installed.revision_old,
            revision_new = installed.revision_new,
            keys = installed.keys,
            watchers = installed.watchers
        );
        drop(span);
        self.status.set_applied(index);
        self.snapshots.installed(index);
        tracing::info!("snapshot-index" = index, "applied a snapshot that was received");
        fail::fail_point!("snapshot-after-install");
    }

    /// Connects to the members that a received database names, and to no others that were removed.
    fn dial_all(&self) {
        for member in self.members.list() {
            if member.id != self.member_id {
                self.peers.set_peer(rafthttp::Peer { id: member.id, urls: member.peer_urls });
            }
        }
        self.members.removed().into_iter().for_each(|id| self.peers.remove_peer(id));
    }

    fn apply_all(&self, committed: &Committed) -> ControlFlow<()> {
        let mut rest = committed.entries.as_slice();
        while let Some(first) = rest.first() {
            if first.get_entry_type() != EntryType::EntryNormal {
                self.apply_conf_change(first, committed.since)?;
                rest = &rest[1..];
                continue;
            }
            let normal = |entry: &&Entry| entry.get_entry_type() == EntryType::EntryNormal;
            let len = rest.iter().take(BATCH_LEN_MAX).take_while(normal).count();
            self.apply_batch(&rest[..len], committed.since);
            rest = &rest[len..];
        }
        ControlFlow::Continue(())
    }

    /// Applies entries under the locks, which are taken once, then sends the outcomes.
    fn apply_batch(&self, entries: &[Entry], since: u64) {
        let [first, last] = [entries.first(), entries.last()].map(|it| it.map_or(0, |it| it.index));
        let _span = stage!(ApplyBatch, 0, first = first, last = last);
        recorded::APPLY_BATCH_ENTRIES.observe(entries.len() as u64);
        let mut outcomes = Vec::new();
        let mut batch = self.store.batch();
        for entry in entries {
            if entry.index <= self.status.applied() {
                tracing::warn!(index = entry.index, "an entry came to apply a second time");
                continue;
            }
            self.apply_entry(entry, since, &mut batch, &mut outcomes);
        }
        drop(batch);
        self.finish(entries.last(), outcomes);
    }

    fn finish(&self, last: Option<&Entry>, outcomes: Vec<Outcome>) {
        if let Some(last) = last {
            self.status.set_applied(last.index);
            self.snapshots.note(last.index, last.term, || self.backend.conf_state());
        }
        if !outcomes.is_empty() {
            // A closed channel means that the member is shutting down.
            let _ = self.outcomes.send(Outcomes { list: outcomes, since: trace::handed_over() });
        }
    }

    fn apply_entry(
        &self,
        entry: &Entry,
        since: u64,
        batch: &mut Batch<'_>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let (id, command) = decode(entry).unwrap_or_else(|error| fatal(&error));
        let mut span = self.open(entry, id, since);
        let began = raw_clock::now();
        let result = self.dispatch(id, &command, batch);
        let took = raw_clock::to_ns(raw_clock::now() - began);
        if let Some(operation) = command.operation() {
            let is_success = !matches!(&result, Err(_) | Ok(Response::V2(Err(_))));
            recorded::applied(operation, is_success, took);
        }
        batch.set_applied(entry.index, entry.term);
        self.slow.applied(id, took, || (command.describe(), error_text(result.as_ref().err())));
        if let Err(error) = &result {
            span.fail(error.reason());
        }
        if self.is_own(id) {
            outcomes.push(Outcome { id, result });
        }
    }

    /// Opens the step in which the entry of request `id` is applied.
    fn open(&self, entry: &Entry, id: u64, since: u64) -> trace::Span {
        let mut span = stage!(
            ApplyEntry,
            id,
            term = entry.term,
            index = entry.index,
            applied_old = entry.index - 1,
            applied_new = entry.index
        );
        let waited = span.waited_ns(since);
        crate::set!(span, ApplyEntry, waited = waited);
        if entry.index <= self.replayed {
            span.flag(trace::FLAG_REPLAY);
        }
        span
    }

    /// Whether this member has assigned the id of a request.
    fn is_own(&self, id: u64) -> bool {
        id >> 48 == self.member_id & 0xffff
    }

    fn dispatch(
        &self,
        id: u64,
        command: &Command,
        batch: &mut Batch<'_>,
    ) -> Result<Response, Error> {
        match command {
            Command::Nothing => Ok(Response::Empty),
            Command::Range(range) => self.kv(id, KvRequest::Range(range), 0, batch),
            Command::Put(put) => self.kv(id, KvRequest::Put(put), put_cost(put), batch),
            Command::DeleteRange(delete) => self.kv(id, KvRequest::DeleteRange(delete), 0, batch),
            Command::Txn(txn) => self.kv(id, KvRequest::Txn(txn), txn_cost(txn), batch),
            Command::Compact(compact) => self.kv(id, KvRequest::Compact(compact), 0, batch),
            Command::LeaseGrant(grant) => {
                let room = self.admit(id, GRANT_COST)?;
                let granted = batch.lease_grant(id, grant, self.min_ttl)?;
                self.answer(room, Response::LeaseGrant(granted))
            }
            Command::LeaseRevoke(revoke) => {
                self.admit(id, 0)?;
                batch.lease_revoke(id, revoke).map(Response::LeaseRevoke)
            }
            Command::LeaseCheckpoint(checkpoint) => {
                batch.lease_checkpoint(id, checkpoint, self.persist_checkpoints);
                Ok(Response::Empty)
            }
            Command::Alarm(alarm) => {
                Ok(Response::Alarm(self.alarms.apply(id, alarm, batch.backend())))
            }
            Command::SetVersion(version) => {
                self.members.set_version(version, batch.backend());
                self.v2.note_cluster(&[v2store::Kind::Set], batch.backend());
                Ok(Response::Empty)
            }
            Command::SetAttributes(member, attributes) => {
                if self.members.set_attributes(*member, attributes.clone(), batch.backend()) {
                    self.v2.note_cluster(&[v2store::Kind::Set], batch.backend());
                }
                Ok(Response::Empty)
            }
            Command::V2(request) => Ok(Response::V2(self.apply_v2(id, request, batch))),
        }
    }

    /// Applies a request to the key space. `cost`: the bytes that count against the quota.
    fn kv(
        &self,
        id: u64,
        request: KvRequest<'_>,
        cost: u64,
        batch: &mut Batch<'_>,
    ) -> Result<Response, Error> {
        let room = self.admit(id, cost)?;
        let reply = batch.kv(id, request, self.reply_to(id, request))?;
        self.answer(room, Response::Kv(reply))
    }

    /// Applies a request to the v2 store. As in etcd, no alarm and no quota keeps it from that.
    fn apply_v2(&self, id: u64, request: &Request, batch: &mut Batch<'_>) -> v2store::Applied {
        self.v2.apply(id, request, batch.backend())
    }

    /// Checks alarms first, then auth. A write without room is applied all the same, but refused in
    /// its answer, as in etcd (quotaApplierV3).
    fn admit(&self, id: u64, cost: u64) -> Result<Room, Error> {
        if self.alarms.is_raised(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        if 0 < cost && self.alarms.is_raised(AlarmType::Nospace) {
            return Err(Error::NoSpace);
        }
        self.auth.authorize(id);
        let has_room =
            self.quota_bytes.is_none_or(|limit| cost == 0 || self.backend.used() + cost <= limit);
        Ok(if has_room { Room::Enough } else { Room::None })
    }

    /// Returns the response to a request that was applied. If the quota had no room for it, this
    /// member raises the alarm, which was not raised yet.
    fn answer(&self, room: Room, response: Response) -> Result<Response, Error> {
        match room {
            Room::Enough => Ok(response),
            Room::None => {
                self.no_space.wish();
                Err(Error::NoSpace)
            }
        }
    }

    /// Whether a client of this member waits for rows that the request reads. No client waits when
    /// entries are replayed at the start.
    fn reply_to(&self, id: u64, request: KvRequest<'_>) -> ReplyTo {
        let is_awaited = request.reads() && self.is_own(id) && self.wait.is_waiting(id);
        if is_awaited { ReplyTo::Client } else { ReplyTo::Nobody }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use prost::Message as _;

    use super::*;
    use crate::{
        pb::etcdserverpb::{
            DeleteRangeRequest, InternalRaftRequest, PutRequest, RequestHeader, RequestOp,
            TxnRequest, request_op::Request as RequestUnion,
        },
        raft::inbox::inbox,
        storage::{backend, own_process},
    };

    /// An applier over an empty data directory, with a transport; no raft thread runs.
    fn applier(dir: &std::path::Path) -> (Applier, rafthttp::Transport) {
        let backend = Backend::open(&dir.join("db"), backend::Options::default()).unwrap();
        let (to_raft, _) = inbox();
        let config = rafthttp::Config {
            connections: 64,
            member_id: 1,
            cluster_id: 2,
            peer_urls: vec!["http://127.0.0.1:1".to_owned()],
            peers: Vec::new(),
            server_version: "3.5.33",
            cuts: None,
            database: None,
            election: std::time::Duration::from_secs(1),
            extra: axum::Router::new(),
        };
        let transport = rafthttp::spawn(config, Vec::new(), to_raft.clone()).unwrap();
        let applier = Applier {
            member_id: 1,
            quota_bytes: None,
            persist_checkpoints: false,
            min_ttl: 2,
            store: Store::open(Arc::clone(&backend)).unwrap(),
            v2: Arc::new(V2Store::open(&backend).unwrap()),
            members: Arc::new(Members::open(2, &backend).unwrap()),
            alarms: Arc::new(Alarms::open(&backend).unwrap()),
            auth: Arc::new(AuthStore::open(&backend).unwrap()),
            backend,
            no_space: Arc::default(),
            wait: Arc::default(),
            snapshots: Wishes::unheard(),
            snap_dir: dir.to_owned(),
            status: Arc::new(Status::new(0)),
            inbox: to_raft,
            slow: Arc::new(SlowRequests::new(std::time::Duration::MAX)),
            peers: transport.sender(),
            outcomes: tokio::sync::mpsc::unbounded_channel().0,
            replayed: 0,
        };
        (applier, transport)
    }

    /// Applies one entry in a process of its own, and returns its exit code and its error output.
    fn applied_alone(test: &str, data: Vec<u8>) -> Option<(Option<i32>, String)> {
        if !own_process::is_alone() {
            let path = format!("server::apply::applier::tests::{test}");
            let output = own_process::run(&path);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Some((output.status.code(), said));
        }
        let dir = tempfile::tempdir().unwrap();
        let (applier, _transport) = applier(dir.path());
        let (sender, committed) = channel();
        let entries = vec![Entry { index: 1, term: 1, data: data.into(), ..Entry::default() }];
        sender.send(Committed { entries, ..Committed::default() }).unwrap();
        drop(sender);
        applier.run(&committed);
        None
    }

    #[test]
    fn an_entry_with_an_unknown_request_ends_the_member() {
        let auth_enable = Some(crate::pb::etcdserverpb::AuthEnableRequest {});
        let request =
            InternalRaftRequest { id: 0x77, auth_enable, ..InternalRaftRequest::default() };
        let test = "an_entry_with_an_unknown_request_ends_the_member";
        let Some((code, said)) = applied_alone(test, request.encode_to_vec()) else { return };
        assert_eq!(Some(1), code, "{said}");
        assert!(said.contains("entry 1 of the log is AuthEnable"), "{said}");
    }

    #[test]
    fn an_entry_that_does_not_decode_ends_the_member() {
        let test = "an_entry_that_does_not_decode_ends_the_member";
        let Some((code, said)) = applied_alone(test, vec![0xff; 9]) else { return };
        assert_eq!(Some(1), code, "{said}");
        assert!(said.contains("entry 1 of the log does not decode"), "{said}");
    }

    /// Goal: only the member whose client waits plans the rows of an answer; a request that reads
    /// nothing has no plan. Method: each request twice; a client waits for the first one only.
    #[test]
    fn the_rows_of_an_answer_are_planned_only_if_a_client_waits_here() {
        let dir = tempfile::tempdir().unwrap();
        let (mut applier, transport) = applier(dir.path());
        let (sender, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
        applier.outcomes = sender;
        let (wait, backend) = (Arc::clone(&applier.wait), Arc::clone(&applier.backend));
        let put = |prev_kv| PutRequest {
            key: "a".into(),
            value: "1".into(),
            prev_kv,
            ..PutRequest::default()
        };
        let (key, range_end) = ("a".into(), Default::default());
        let delete_range = Some(DeleteRangeRequest { key, range_end, prev_kv: true });
        let read = RequestOp { request: Some(RequestUnion::RequestPut(put(true))) };
        let txn = Some(TxnRequest { success: vec![read], ..TxnRequest::default() });
        let plain = InternalRaftRequest::default;
        let requests = [
            InternalRaftRequest { put: Some(put(false)), ..plain() },
            InternalRaftRequest { put: Some(put(true)), ..plain() },
            InternalRaftRequest { txn, ..plain() },
            InternalRaftRequest { delete_range, ..plain() },
        ];
        // All ids are of this member; clients wait for the even ones.
        const FIRST: u64 = 1 << 48;
        const FILLER: u64 = FIRST + 1000;
        let _waiting: Vec<_> = (0..4).map(|at| wait.register(FIRST + 2 * at)).collect();
        let mut entries = Vec::new();
        for (at, request) in (0..).zip(requests) {
            for id in [FIRST + 2 * at, FIRST + 2 * at + 1] {
                // A put before each request, so that each finds the key.
                for (id, request) in [(FILLER, plain_put(put(false))), (id, request.clone())] {
                    let header = Some(RequestHeader { id, ..RequestHeader::default() });
                    let data = InternalRaftRequest { header, ..request }.encode_to_vec().into();
                    let index = entries.len() as u64 + 1;
                    entries.push(Entry { index, term: 1, data, ..Entry::default() });
                }
            }
        }
        let (sender, committed) = channel();
        sender.send(Committed { entries, ..Committed::default() }).unwrap();
        drop(sender);
        applier.run(&committed);
        let mut rows = Vec::new();
        while let Ok(batch) = outcomes.try_recv() {
            for outcome in batch.list.into_iter().filter(|outcome| outcome.id != FILLER) {
                let Ok(Response::Kv(reply)) = outcome.result else { panic!("{outcome:?}") };
                rows.push((outcome.id - FIRST, reply.rows()));
            }
        }
        let expected = [(0, 0), (1, 0), (2, 1), (3, 0), (4, 1), (5, 0), (6, 1), (7, 0)];
        assert_eq!(rows, expected);
        backend.stop();
        transport.stop();
    }

    #[test]
    fn entries_that_were_committed_before_the_start_are_marked_as_applied_again() {
        const FIRST: u64 = 0x0bb1_0000_0000_0001;
        let dir = tempfile::tempdir().unwrap();
        let (mut applier, transport) = applier(dir.path());
        applier.replayed = 2;
        let backend = Arc::clone(&applier.backend);
        let entry = |index: u64| {
            let header = Some(RequestHeader { id: FIRST + index, ..RequestHeader::default() });
            let put = PutRequest { key: "a".into(), ..PutRequest::default() };
            let data = InternalRaftRequest { header, ..plain_put(put) }.encode_to_vec().into();
            Entry { index, term: 1, data, ..Entry::default() }
        };
        let (sender, committed) = channel();
        sender
            .send(Committed { entries: (1..=3).map(entry).collect(), ..Committed::default() })
            .unwrap();
        drop(sender);
        applier.run(&committed);
        let mut marked = Vec::new();
        for ring in trace::ring::rings() {
            let records = (ring.oldest()..ring.head()).filter_map(|number| ring.get(number).ok());
            let own = records.filter(|record| record.stage() == Some(trace::Stage::ApplyEntry));
            let own = own.filter(|record| (FIRST + 1..=FIRST + 3).contains(&record.id()));
            marked.extend(own.map(|record| {
                (record.id() - FIRST, record.head().flags & trace::FLAG_REPLAY != 0)
            }));
        }
        assert_eq!(marked, [(1, true), (2, true), (3, false)]);
        backend.stop();
        transport.stop();
    }

    fn plain_put(put: PutRequest) -> InternalRaftRequest {
        InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() }
    }

    #[test]
    fn an_auth_status_request_is_applied_without_effect() {
        let dir = tempfile::tempdir().unwrap();
        let (applier, transport) = applier(dir.path());
        let (status, backend) = (Arc::clone(&applier.status), Arc::clone(&applier.backend));
        let auth_status = Some(crate::pb::etcdserverpb::AuthStatusRequest {});
        let request = InternalRaftRequest { id: 7, auth_status, ..InternalRaftRequest::default() };
        let data = request.encode_to_vec().into();
        let (sender, committed) = channel();
        let entries = vec![Entry { index: 1, term: 1, data, ..Entry::default() }];
        sender.send(Committed { entries, ..Committed::default() }).unwrap();
        drop(sender);
        applier.run(&committed);
        assert_eq!(1, status.applied());
        backend.stop();
        transport.stop();
    }

    #[test]
    fn nothing_is_applied_after_a_configuration_change_that_raft_did_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let (applier, transport) = applier(dir.path());
        let (status, backend) = (Arc::clone(&applier.status), Arc::clone(&applier.backend));
        let change = Entry { index: 1, term: 1, ..Entry::default() };
        let change = Entry { entry_type: EntryType::EntryConfChange, ..change };
        let normal = Entry { index: 2, term: 1, ..Entry::default() };
        let (sender, committed) = channel();
        // Two batches of committed entries: the second must not be applied either.
        for entries in [vec![change, normal.clone()], vec![Entry { index: 3, ..normal }]] {
            sender.send(Committed { entries, ..Committed::default() }).unwrap();
        }
        applier.run(&committed);
        assert_eq!((0, 0), (status.applied(), backend.consistent_index().0));
        backend.stop();
        transport.stop();
    }
}
