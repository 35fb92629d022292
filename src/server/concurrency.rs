//! Locks and elections, served by the member instead of being built by each client (etcd:
//! `v3lock`, `v3election`, on top of `client/v3/concurrency`).
//!
//! Both are the same queue of keys. Whoever wants the lock, or wants to lead, puts a key below the
//! name, and the lease's id makes it their own. The oldest key holds the lock:
//!
//! ```text
//!   name/3513a1fc   created at 12   ◀── holds the lock, or leads
//!   name/3513a204   created at 15   ◀── waits for 12 to go, and for nothing else
//!   name/3513a20b   created at 19   ◀── waits for 15: a release wakes one, not all
//! ```
//!
//! A key goes when it is deleted (Unlock, Resign), or with its lease. So a client that dies lets
//! go of the lock once its lease has run out.
//!
//! Invariants
//! * Waiting is watching one key from the revision after the look that found it. Nothing is
//!   asked again and again, and what happens between the look and the watch is in the watch.
//! * The looks are local: this member has applied the call's own key, so it has applied every
//!   older one, too. An old state can show too many keys ahead, never too few; so no change of the
//!   raft leader disturbs a call that waits. They read the index and no rows.
//! * Who was woken asks a quorum whether its own key is still there: a lease that ran out meanwhile
//!   has taken the place in the queue with it.
//! * A client that goes away takes its key along. The call runs as a task of its own, so that it
//!   can do so when nobody asks for its result any more; one that came just now is deleted
//!   once the put has been applied.
//! * A member that stops ends its waiting calls, and deletes their keys before it says so. Their
//!   clients can call another member, where they stand last.
//! * A waiting call keeps its key, one watcher, and one notice.
//!
//! The requests that go through the log are traced. The one that puts the key has the call's id;
//! others have ids of their own, which the stages name.
//!
//! As in etcd, a call without a lease gets one of 60 s, and nobody renews that one, not even while
//! the call waits. What differs from etcd: a campaign whose key was lost is refused ("election: not
//! leader"), where etcd tells it that it leads; a revision that is compacted before the watch has
//! begun makes the call look again, where etcd gives up; and releasing is tried again while there
//! is no leader.
//!
//! Reading order: this file, [`queue`], [`mutex`], [`election`], [`observe`].

pub mod election;
pub mod mutex;
pub mod observe;
mod queue;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Error, Server,
    dropped::{self, End, Tidying},
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

/// The time to live of the lease of a call that brings none, in seconds (etcd: defaultSessionTTL).
const SESSION_TTL: i64 = 60;
/// For so long the key of a client that has gone is tried to be deleted. After it, its lease has
/// done it, if the lease was ours.
const RELEASE_WITHIN: Duration = Duration::from_secs(60);
/// And for so long from the order to stop on: a member without a leader does not wait for one.
const RELEASE_AT_STOP: Duration = Duration::from_millis(500);
/// Between two tries.
const RELEASE_PAUSE: Duration = Duration::from_millis(200);

/// The call's side of the line to its client.
struct Caller {
    line: mpsc::Receiver<End>,
}

impl Caller {
    /// Returns when nobody waits any more.
    async fn gone(&mut self) -> End {
        self.line.recv().await.unwrap_or(End::Gone)
    }

    /// Whether that is so.
    fn has_gone(&self) -> bool {
        self.line.is_closed()
    }
}

/// The client's side of it; dropping it tells the call.
struct Line {
    end: mpsc::Sender<End>,
    /// Done when the call is.
    call: Option<Tidying>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if dropped::is_expiring() {
            // There is room for the only message.
            let _ = self.end.try_send(End::Expired);
            self.call.take().into_iter().for_each(dropped::leave);
        }
    }
}

/// Runs a call as a task, which outlives the future that is returned here: when that is dropped,
/// because the client has gone or the call's time is over, the task is told and tidies up.
async fn attended<T, F>(call: impl FnOnce(Caller) -> F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (end, line) = mpsc::channel(1);
    let (tidier, tidying) = dropped::tidying();
    let call = call(Caller { line });
    let call = tokio::spawn(async move {
        let _tidier = tidier;
        call.await
    });
    let line = Line { end, call: Some(tidying) };
    let result = call.await;
    drop(line);
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
    /// What all keys of the queue begin with: the name and a slash.
    prefix: Bytes,
    /// The prefix, and the lease's id in hex.
    key: Bytes,
    /// The revision at which the key was created; the order of the queue.
    created: i64,
}

/// What a call has found when it put its key.
struct Entered {
    queued: QueuedKey,
    /// The key as it stood there before, if it did: the same lease has called before.
    before: Option<KeyValue>,
    /// Nobody is ahead.
    is_first: bool,
    /// The header of the transaction.
    header: Option<ResponseHeader>,
}

fn prefix_of(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// etcd prints the id with its sign.
fn key_of(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// All keys below a prefix, which ends in a slash.
fn below(prefix: &Bytes) -> RangeRequest {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    RangeRequest { key: prefix.clone(), range_end: end.into(), ..RangeRequest::default() }
}

/// The oldest key of a queue.
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

/// The pairs that the transaction's operation `at` has read.
fn kvs(response: &mut TxnResponse, at: usize) -> Vec<KeyValue> {
    match response.responses.get_mut(at).and_then(|op| op.response.as_mut()) {
        Some(Response::ResponseRange(range)) => std::mem::take(&mut range.kvs),
        _ => Vec::new(),
    }
}

impl Server {
    /// An id for a further request of the call `id`; kept if that is.
    fn next_of(&self, id: u64) -> u64 {
        self.ids.next(trace::kept(id))
    }

    /// The lease of a call: that which it brings, or a new one (etcd: NewSession). What it brings
    /// is not looked at before a key is put.
    async fn session(&self, id: u64, lease: i64) -> Result<i64, Error> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = self.next_of(id);
        let mut span = stage!(SessionGrant, id, ttl = SESSION_TTL, request = request);
        span.flag(trace::FLAG_ERROR);
        let grant = LeaseGrantRequest { id: 0, ttl: SESSION_TTL };
        let granted = self.lease_grant(request, grant).await?;
        span.clear_flag(trace::FLAG_ERROR);
        set!(span, SessionGrant, lease = granted.id);
        Ok(granted.id)
    }

    /// Puts the call's key, unless it is there, and sees who is first (etcd: tryAcquire).
    async fn enter(
        &self,
        id: u64,
        name: &[u8],
        (lease, value): (i64, Bytes),
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
        let mut response = self.own_txn(id, txn).await?;
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

    /// Writes the key, if it is still the one that was created then; otherwise whoever asks leads
    /// no more (etcd: Election.Proclaim).
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
        let response = self.own_txn(id, txn).await?;
        if response.succeeded { Ok(response.header) } else { Err(Error::ElectionNotLeader) }
    }

    /// Deletes the key, if it is still the one that was created then (etcd: Election.Resign).
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
        Ok(self.own_txn(id, txn).await?.header)
    }

    /// Leaves the queue: nobody waits for the call's result any more, or it has failed. The answer
    /// to a client that is still there comes after it: who reads the error has left the queue, if
    /// that was possible.
    async fn release(&self, id: u64, queued: &QueuedKey) {
        let no_longer = async {
            self.stopped().await;
            tokio::time::sleep(RELEASE_AT_STOP).await;
        };
        tokio::select! {
            () = self.try_release(id, queued) => {}
            // The key goes with its lease.
            () = no_longer => {}
        }
    }

    /// Deletes the key, which may be repeated, so it is tried again when its outcome is not known.
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
}

/// What a call that has put its key has to show for it.
enum Outcome {
    /// It is first, at the revision of this header; after so many waits.
    First(Option<ResponseHeader>),
    /// Its key is gone.
    Lost,
}

/// Waits until the call is first, and gives its place back if it fails, its client goes, or the
/// member stops.
async fn hold(
    server: &Arc<Server>,
    id: u64,
    entered: &Entered,
    mut caller: Caller,
) -> Result<Outcome, Error> {
    let queued = &entered.queued;
    if entered.is_first {
        let revision = revision_of(entered.header.as_ref());
        mark!(LockAcquired, id, own = queued.created, revision = revision);
        // Whoever had the key before still has it, even if this call of theirs goes unanswered.
        if caller.has_gone() && entered.before.is_none() {
            server.release(id, queued).await;
            return Err(Error::Canceled);
        }
        return Ok(Outcome::First(entered.header));
    }
    let turn = tokio::select! {
        biased;
        turn = dropped::until(server.wait_deletes(id, queued), caller.gone()) => {
            turn.unwrap_or(Err(Error::Canceled))
        }
        () = server.stopped() => Err(Error::Stopped),
    };
    let is_unheard = caller.has_gone() && entered.before.is_none();
    if turn.is_err() || is_unheard {
        server.release(id, queued).await;
    }
    turn
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
    fn a_queue_is_what_is_below_the_slash() {
        let range = below(&prefix_of(b"n"));
        assert_eq!((range.key.as_ref(), range.range_end.as_ref()), (&b"n/"[..], &b"n0"[..]));
    }

    #[tokio::test]
    async fn a_call_whose_client_goes_is_told_and_runs_to_its_end() {
        let (report, mut reports) = mpsc::channel(4);
        let call = attended(move |mut caller| async move {
            assert!(!caller.has_gone());
            report.send("began").await.unwrap();
            caller.gone().await;
            assert!(caller.has_gone());
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
