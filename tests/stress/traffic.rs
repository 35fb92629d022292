//! Writers and the answers that they get: puts, deletions, transactions and leases on few keys.
//!
//! Every value is written once, so a put that is in the record twice, or that no writer sent,
//! shows. An operation without an answer may or may not have been applied: its values may be in the
//! record, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use glass_etcd::pb::{
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
        RequestOp, ResponseHeader, TxnRequest, request_op::Request, response_op::Response,
    },
    mvccpb::Event,
};
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::history::{Record, is_put, pair};
use crate::{client::Client, random::Random};

/// Few keys, so that their histories are long.
pub(super) const KEYS: usize = 10;
/// Time after which an outcome counts as unknown.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Pause between two operations of a writer.
const PAUSE: Duration = Duration::from_millis(5);
/// How many revisions compaction stays behind the record, at most.
const COMPACT_BEHIND: u64 = 150;

/// A key by its number.
pub(super) fn key(number: u64) -> Bytes {
    Bytes::from(format!("k/{number}"))
}

/// One change of an operation: the key, and its new value unless it was deleted.
type Change = (Bytes, Option<Bytes>);

/// State that the tasks of a run share.
#[derive(Default)]
pub(super) struct Shared {
    /// Changes by acknowledged revision.
    acknowledged: Mutex<BTreeMap<i64, Vec<Change>>>,
    /// Every value sent.
    sent: Mutex<BTreeSet<Bytes>>,
    unknown: AtomicI64,
    /// The highest revision for which a compaction was requested.
    pub(super) compacted: AtomicI64,
    /// The last revision that the watcher of everything has received.
    pub(super) seen: AtomicI64,
    /// Whether writers have to end.
    pub(super) stop: AtomicBool,
    /// The last revision of the run, once it is known.
    pub(super) end: AtomicI64,
}

impl Shared {
    /// Records an acknowledgement, for a writer or for the run itself.
    pub(super) fn acknowledge(&self, header: Option<ResponseHeader>, changes: Vec<Change>) -> i64 {
        let revision = header.map_or(0, |header| header.revision);
        let before = self.acknowledged.lock().unwrap().insert(revision, changes);
        assert!(before.is_none(), "revision {revision} was acknowledged twice");
        revision
    }

    /// Records a value before it is sent.
    pub(super) fn send(&self, value: String) -> Bytes {
        let value = Bytes::from(value);
        assert!(self.sent.lock().unwrap().insert(value.clone()), "values are used once");
        value
    }

    /// Number of acknowledged revisions, and of operations with an unknown outcome.
    pub(super) fn counts(&self) -> (usize, i64) {
        (self.acknowledged.lock().unwrap().len(), self.unknown.load(Ordering::Relaxed))
    }

    /// Contradictions between the record and the answers.
    pub(super) fn contradictions(&self, record: &Record) -> Vec<String> {
        let mut found = Vec::new();
        for (revision, changes) in &*self.acknowledged.lock().unwrap() {
            let there = record.at(*revision);
            let of = |event: &Event| {
                let kv = pair(event);
                (kv.key, is_put(event).then_some(kv.value))
            };
            if !there.iter().map(of).eq(changes.iter().cloned()) {
                found.push(format!("{revision}: answered {changes:?}, recorded {there:?}"));
            }
        }
        let (mut left, newest) = (self.sent.lock().unwrap().clone(), record.newest());
        for event in (2..=newest).flat_map(|at| record.at(at)).filter(|event| is_put(event)) {
            if !left.remove(&pair(event).value) {
                found.push(format!("no writer sent this, or it is there twice: {event:?}"));
            }
        }
        found
    }
}

/// One client that writes.
pub(super) struct Writer {
    pub(super) name: u64,
    pub(super) clients: Vec<Client>,
    pub(super) random: Random,
    pub(super) shared: Arc<Shared>,
}

impl Writer {
    /// Writes until `stop` is set.
    pub(super) async fn run(mut self) {
        for number in 0.. {
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            self.clients.rotate_left(1);
            let client = self.clients[0].clone();
            let outcome = timeout(PATIENCE, self.write(client, number)).await;
            if !matches!(outcome, Ok(Ok(()))) {
                self.shared.unknown.fetch_add(1, Ordering::Relaxed);
            }
            sleep(PAUSE).await;
        }
    }

    async fn write(&mut self, mut client: Client, number: i64) -> Result<(), Status> {
        let value = |at: usize| format!("{}/{number}/{at}", self.name);
        let keys: [Bytes; 3] = {
            let first = self.random.below(KEYS as u64);
            [0, 1, 2].map(|step| key((first + step) % KEYS as u64))
        };
        match self.random.below(20) {
            0..10 => {
                let put = self.put(&keys[0], value(0));
                let value = put.value.clone();
                let answer = client.kv.put(put).await?.into_inner();
                self.shared.acknowledge(answer.header, vec![(keys[0].clone(), Some(value))]);
            }
            10..13 => self.delete(&mut client, &keys).await?,
            13..18 => {
                let puts = [self.put(&keys[0], value(0)), self.put(&keys[1], value(1))];
                self.txn(&mut client, puts, &keys[2]).await?;
            }
            _ => {
                let id = self.name as i64 * 1_000_000 + number + 1;
                let puts = [self.put(&keys[0], value(0)), self.put(&keys[1], value(1))];
                self.lease(&mut client, id, puts).await?;
            }
        }
        Ok(())
    }

    fn put(&self, key: &Bytes, value: String) -> PutRequest {
        PutRequest { key: key.clone(), value: self.shared.send(value), ..Default::default() }
    }

    /// Deletes one key, or several.
    async fn delete(&mut self, client: &mut Client, keys: &[Bytes; 3]) -> Result<(), Status> {
        let range_end = if self.random.below(3) == 0 { keys[2].clone() } else { Bytes::new() };
        let delete = DeleteRangeRequest { key: keys[0].clone(), range_end, prev_kv: true };
        let answer = client.kv.delete_range(delete).await?.into_inner();
        if 0 < answer.deleted {
            let changes = answer.prev_kvs.into_iter().map(|kv| (kv.key, None)).collect();
            self.shared.acknowledge(answer.header, changes);
        }
        Ok(())
    }

    async fn txn(
        &self,
        client: &mut Client,
        puts: [PutRequest; 2],
        deleted: &Bytes,
    ) -> Result<(), Status> {
        let mut changes: Vec<Change> =
            puts.iter().map(|put| (put.key.clone(), Some(put.value.clone()))).collect();
        let delete = DeleteRangeRequest { key: deleted.clone(), ..Default::default() };
        let mut success: Vec<Request> = puts.into_iter().map(Request::RequestPut).collect();
        success.push(Request::RequestDeleteRange(delete));
        let success = success.into_iter().map(|op| RequestOp { request: Some(op) }).collect();
        let answer =
            client.kv.txn(TxnRequest { success, ..Default::default() }).await?.into_inner();
        let last = answer.responses.last().and_then(|op| op.response.as_ref());
        if matches!(last, Some(Response::ResponseDeleteRange(answer)) if answer.deleted == 1) {
            changes.push((deleted.clone(), None));
        }
        self.shared.acknowledge(answer.header, changes);
        Ok(())
    }

    /// Two keys that are deleted with their lease, unless they are overwritten before.
    async fn lease(
        &self,
        client: &mut Client,
        id: i64,
        puts: [PutRequest; 2],
    ) -> Result<(), Status> {
        client.lease.lease_grant(LeaseGrantRequest { id, ttl: 1000 }).await?;
        for put in puts {
            let change = (put.key.clone(), Some(put.value.clone()));
            let answer = client.kv.put(PutRequest { lease: id, ..put }).await?.into_inner();
            self.shared.acknowledge(answer.header, vec![change]);
        }
        // The answer does not say which keys it still had; the record does.
        client.lease.lease_revoke(LeaseRevokeRequest { id }).await?;
        Ok(())
    }
}

/// Compacts repeatedly, never beyond the record.
pub(super) async fn compact(clients: Vec<Client>, mut random: Random, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(100 + random.below(300))).await;
        let behind = random.below(COMPACT_BEHIND) as i64;
        let revision = shared.seen.load(Ordering::Relaxed) - behind;
        if revision <= shared.compacted.load(Ordering::Relaxed) {
            continue;
        }
        shared.compacted.store(revision, Ordering::Relaxed);
        let mut client = clients[random.index(clients.len())].clone();
        let request = CompactionRequest { revision, physical: random.below(2) == 0 };
        // If it fails, the next one goes further.
        let _ = timeout(PATIENCE, client.kv.compact(request)).await;
    }
}
