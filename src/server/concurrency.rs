//! Locks and elections, served by the member instead of being built by each client (etcd:
//! `v3lock`, `v3election`, on top of `client/v3/concurrency`).
//!
//! Both are the same queue of keys. A call that wants the lock, or wants to lead, puts a key below
//! the name, followed by the id of its lease. The owner of the oldest key has the lock:
//!
//! ```text
//!   name/3513a1fc   created at 12   ◀── has the lock, or leads
//!   name/3513a204   created at 15   ◀── waits until 12 is deleted, and for nothing else
//!   name/3513a20b   created at 19   ◀── waits until 15 is deleted: a release wakes one, not all
//! ```
//!
//! A key is deleted by its owner (Unlock, Resign), or with its lease. So the lock of a client that
//! dies is released once its lease has expired.
//!
//! Invariants
//! * A call waits by watching one key, from the revision after the look-up that found it. It does
//!   not poll, and changes between the look-up and the watch are part of the watch.
//! * The look-ups are local: this member has applied the call's own key, so it has applied every
//!   older one, too. An old state can show too many keys ahead, never too few; so no change of the
//!   raft leader disturbs a waiting call. They read the index and no rows.
//! * After waking, a call confirms with a quorum that its own key still exists. If its lease has
//!   expired meanwhile, the key is deleted and the place in the queue is lost.
//! * When a client disconnects, its key is deleted. The call is a task of its own, so it can do
//!   this after its client has gone. If its put is in flight, the task
//!   deletes the key once the put has been applied.
//! * A member that stops ends its waiting calls, after it has deleted their keys. Their clients can
//!   call another member, where they join the end of the queue.
//! * A waiting call occupies its key, one watcher, and one notice.
//!
//! The requests that go through the log are traced. The one that puts the key has the call's id;
//! others have ids of their own, which the stages name.
//!
//! As in etcd, a call without a lease gets one of 60 s, which is never renewed, not even while the
//! call waits. The differences from etcd: a campaign whose key was lost is refused ("election: not
//! leader"), where etcd answers that it leads; if a revision is compacted before the watch of it
//! begins, the call looks again, where etcd gives up; and a release is retried while there is no
//! leader.
//!
//! Reading order: this file, [`queue`], [`mutex`], [`election`], [`observe`].

mod election;
mod mutex;
pub(crate) mod observe;
mod queue;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Error,
    dropped::{self, End, Tidying},
    error::note,
    ids::RequestIds,
    kv_server::KvServer,
    lease::LeaseServer,
    mvcc::Store,
    stopping::Stopping,
};
use crate::{
    clock, mark,
    pb::{
        etcdserverpb::{
            Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
            ResponseHeader, TxnRequest, TxnResponse,
            compare::{CompareResult, CompareTarget, TargetUnion},
            range_request::{SortOrder, SortTarget},
            request_op::Request,
            response_op::Response,
        },
        mvccpb::KeyValue,
    },
    set, stage, trace,
};

/// The TTL of the lease of a call that names none, in seconds (etcd: defaultSessionTTL).
const SESSION_TTL: i64 = 60;
/// How long to retry deleting the key of a client that has disconnected. A lease that the member
/// granted for the call has expired by then, and the key with it.
const RELEASE_WITHIN: Duration = Duration::from_secs(60);
/// How long to retry once the member is stopping: it does not wait for a leader.
const RELEASE_AT_STOP: Duration = Duration::from_millis(500);
/// The pause between two attempts.
const RELEASE_PAUSE: Duration = Duration::from_millis(200);

/// Serves Lock and Election: keys through the key space, with leases that it grants where a call
/// names none.
pub(crate) struct Concurrency {
    pub(crate) kv: Arc<KvServer>,
    pub(crate) leases: Arc<LeaseServer>,
    /// For look-ups and watchers.
    pub(crate) store: Arc<Store>,
    pub(crate) ids: Arc<RequestIds>,
    pub(crate) stopping: Stopping,
}

/// Tells the call that its client has gone.
struct Departure {
    end: mpsc::Receiver<End>,
}

impl Departure {
    /// Returns when nobody waits for the call any more.
    async fn gone(&mut self) -> End {
        self.end.recv().await.unwrap_or(End::Gone)
    }

    /// Whether nobody waits for the call any more.
    fn has_gone(&self) -> bool {
        self.end.is_closed()
    }
}

/// Held on the client's behalf; its drop notifies the call.
struct Client {
    gone: mpsc::Sender<End>,
    /// Done when the call's task has ended.
    call: Option<Tidying>,
}

impl Drop for Client {
    fn drop(&mut self) {
        if dropped::is_expiring() {
            // This is the only message, so there is room.
            let _ = self.gone.try_send(End::Expired);
            self.call.take().into_iter().for_each(dropped::leave);
        }
    }
}

/// Runs a call as a task that outlives the returned future. When that future is dropped, because
/// the client has disconnected or the deadline has passed, the task is notified and tidies up.
async fn attended<T, F>(call: impl FnOnce(Departure) -> F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (gone, end) = mpsc::channel(1);
    let (tidier, tidying) = dropped::tidying();
    let call = call(Departure { end });
    let call = tokio::spawn(async move {
        let _tidier = tidier;
        call.await
    });
    let client = Client { gone, call: Some(tidying) };
    let result = call.await;
    drop(client);
    match result {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The member is stopping.
        Err(_) => Err(Error::Stopped),
    }
}

/// A place in the queue of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct QueuedKey {
    /// The name and a slash, with which all keys of the queue begin.
    prefix: Bytes,
    /// The prefix, and the lease's id in hex.
    key: Bytes,
    /// The revision at which the key was created. The queue is ordered by it.
    created: i64,
}

/// The result of the transaction that puts a call's key.
struct Entered {
    queued: QueuedKey,
    /// The key as it was before, if it existed: an earlier call with the same lease has put it.
    before: Option<KeyValue>,
    /// Whether no older key is ahead.
    is_first: bool,
    /// The header of the transaction's answer.
    header: Option<ResponseHeader>,
}

fn prefix_of(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of a lease, whose id is printed with its sign, as in etcd.
fn key_of(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// A range over all keys below a prefix, which must end in a slash.
fn below(prefix: &Bytes) -> RangeRequest {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    RangeRequest { key: prefix.clone(), range_end: end.into(), ..RangeRequest::default() }
}

/// A range that returns the oldest key of a queue.
fn oldest(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        limit: 1,
        ..below(prefix)
    }
}

fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn revision_of(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// The pairs that operation `at` of a transaction has read.
fn kvs(response: &mut TxnResponse, at: usize) -> Vec<KeyValue> {
    match response.responses.get_mut(at).and_then(|op| op.response.as_mut()) {
        Some(Response::ResponseRange(range)) => std::mem::take(&mut range.kvs),
        _ => Vec::new(),
    }
}

impl Concurrency {
    /// An id for another request of the call `id`. Its trace is kept if the call's is.
    fn next_of(&self, id: u64) -> u64 {
        self.ids.next(trace::kept(id))
    }

    /// The lease of a call: the one that it names, or a new one (etcd: NewSession). Whether the
    /// named lease exists is checked only when a key is put.
    async fn session(&self, id: u64, lease: i64) -> Result<i64, Error> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = self.next_of(id);
        let mut span = stage!(SessionGrant, id, ttl = SESSION_TTL, request = request);
        let grant = LeaseGrantRequest { id: 0, ttl: SESSION_TTL };
        let granted = note(&mut span, self.leases.grant(request, grant).await)?;
        set!(span, SessionGrant, lease = granted.id);
        Ok(granted.id)
    }

    /// Puts the call's key, unless it exists, and reads the oldest key (etcd: tryAcquire).
    async fn enter(
        &self,
        id: u64,
        name: &[u8],
        lease: i64,
        value: Bytes,
    ) -> Result<Entered, Error> {
        let prefix = prefix_of(name);
        let key = key_of(&prefix, lease);
        let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
        let own = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let first = Request::RequestRange(oldest(&prefix));
        let txn = TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Request::RequestPut(put)), op(first.clone())],
            failure: vec![op(Request::RequestRange(own)), op(first)],
        };
        let mut response = self.kv.own_txn(id, txn).await?;
        let mut created = revision_of(response.header.as_ref());
        let before = kvs(&mut response, 0).pop();
        if let Some(before) = &before {
            created = before.create_revision;
        }
        let first = kvs(&mut response, 1).pop().map_or(created, |first| first.create_revision);
        mark!(LockEnter, id, own = created, first = first, put = response.succeeded);
        let queued = QueuedKey { prefix, key, created };
        Ok(Entered { queued, before, is_first: first == created, header: response.header })
    }

    /// Puts the key, if it is still the one that was created at this revision. Otherwise the caller
    /// no longer leads (etcd: Election.Proclaim).
    async fn proclaim_at(
        &self,
        id: u64,
        created: i64,
        put: PutRequest,
    ) -> Result<Option<ResponseHeader>, Error> {
        let txn = TxnRequest {
            compare: vec![created_at(&put.key, created)],
            success: vec![op(Request::RequestPut(put))],
            failure: Vec::new(),
        };
        let response = self.kv.own_txn(id, txn).await?;
        if response.succeeded { Ok(response.header) } else { Err(Error::ElectionNotLeader) }
    }

    /// Deletes the key, if it is still the one that was created at this revision (etcd:
    /// Election.Resign).
    async fn resign_at(
        &self,
        id: u64,
        key: &Bytes,
        created: i64,
    ) -> Result<Option<ResponseHeader>, Error> {
        let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
        let txn = TxnRequest {
            compare: vec![created_at(key, created)],
            success: vec![op(Request::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        Ok(self.kv.own_txn(id, txn).await?.header)
    }

    /// Leaves the queue, because nobody waits for the call's result any more, or because the call
    /// has failed. A client that is still connected gets its error after this, so by then its key
    /// is deleted, if that was possible.
    async fn release(&self, id: u64, queued: &QueuedKey) {
        let no_longer = async {
            self.stopping.given().await;
            tokio::time::sleep(RELEASE_AT_STOP).await;
        };
        tokio::select! {
            () = self.try_release(id, queued) => {}
            // The key will be deleted with its lease.
            () = no_longer => {}
        }
    }

    /// Deletes the key. Retries if the outcome is unknown, because deleting twice does no harm.
    async fn try_release(&self, id: u64, queued: &QueuedKey) {
        let deadline = clock::now() + RELEASE_WITHIN;
        loop {
            let request = self.next_of(id);
            mark!(LockRelease, id, own = queued.created, request = request);
            match self.resign_at(request, &queued.key, queued.created).await {
                Ok(_) | Err(Error::Stopped) => return,
                Err(_) if deadline <= clock::now() => return,
                Err(_) => tokio::time::sleep(RELEASE_PAUSE).await,
            }
        }
    }

    /// Waits until the call is first. Gives its place back if the wait fails, the client
    /// disconnects, or the member stops.
    async fn hold(
        &self,
        id: u64,
        entered: &Entered,
        mut client: Departure,
    ) -> Result<Outcome, Error> {
        let queued = &entered.queued;
        if entered.is_first {
            let revision = revision_of(entered.header.as_ref());
            mark!(LockAcquired, id, own = queued.created, revision = revision);
            // An earlier call has put the key and still owns it, even if this one is not answered.
            if client.has_gone() && entered.before.is_none() {
                self.release(id, queued).await;
                return Err(Error::Canceled);
            }
            return Ok(Outcome::First(entered.header));
        }
        let first = tokio::select! {
            biased;
            first = dropped::until(self.wait_deletes(id, queued), client.gone()) => {
                first.unwrap_or(Err(Error::Canceled))
            }
            () = self.stopping.given() => Err(Error::Stopped),
        };
        let has_no_client = client.has_gone() && entered.before.is_none();
        if first.is_err() || has_no_client {
            self.release(id, queued).await;
        }
        first
    }
}

/// The result of a call's wait in the queue.
enum Outcome {
    /// The call is first, at the revision of this header.
    First(Option<ResponseHeader>),
    /// The call's key was deleted.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_name_and_the_lease_as_etcd_prints_it() {
        let key = |name: &[u8], lease| key_of(&prefix_of(name), lease);
        assert_eq!(key(b"n", 0x3513_a1fc), "n/3513a1fc");
        assert_eq!(key(b"", 10), "/a");
        assert_eq!(key(b"n", -42), "n/-2a");
        assert_eq!(key(b"\xff", i64::MIN), &b"\xff/-8000000000000000"[..]);
    }

    #[test]
    fn a_queue_has_the_keys_below_the_slash() {
        let range = below(&prefix_of(b"n"));
        assert_eq!((range.key.as_ref(), range.range_end.as_ref()), (&b"n/"[..], &b"n0"[..]));
    }

    #[tokio::test]
    async fn a_call_whose_client_disconnects_is_notified_and_runs_to_its_end() {
        let (report, mut reports) = mpsc::channel(4);
        let call = attended(move |mut client| async move {
            assert!(!client.has_gone());
            report.send("began").await.unwrap();
            client.gone().await;
            assert!(client.has_gone());
            report.send("tidied up").await.unwrap();
            Ok(())
        });
        let call = tokio::spawn(call);
        assert_eq!(reports.recv().await, Some("began"));
        call.abort();
        assert_eq!(reports.recv().await, Some("tidied up"));
        let answer = attended(|_| async { Err::<(), _>(Error::SessionExpired) }).await;
        assert_eq!(answer, Err(Error::SessionExpired));
    }
}
