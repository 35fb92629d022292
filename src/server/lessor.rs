//! The leases, their keys and, while this member is the primary, their deadlines (etcd: `lessor`).
//!
//! The key space calls it to attach keys, and it calls nothing but the backend. The requests, the
//! loops, and the questions to the leader are in [`super::lease`].
//!
//! Invariants
//! * The row of an attached key names its lease, so the attachments are rebuilt from the key space.
//! * The lessor's lock is taken after the index and the buffers, and held briefly. No other lock is
//!   taken while it is held. (The watchers' lock is taken after it is released.)

mod schedule;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};

use self::schedule::Schedule;
use crate::{
    mark,
    metrics::recorded,
    pb::{etcdserverpb::LeaseCheckpoint, leasepb},
    server::Error,
    storage::backend::{Backend, Bucket, WriteGuard},
};

/// Upper limit on a TTL, in seconds (etcd: MaxLeaseTTL).
const TTL_MAX: i64 = 9_000_000_000;

/// The time before a revocation is proposed again (etcd: expiredLeaseRetryInterval).
const RETRY: Duration = Duration::from_secs(3);

/// Upper limit on queued requests to clear the logged remaining time of a lease. Beyond it, a
/// renewal waits for room in the queue.
const CLEARS_MAX: usize = 1024;

/// Upper limit on the deadlines within one second after a change of leader.
const DEADLINES_PER_SECOND: usize = 1000;

/// The shortest TTL that is granted, in seconds: one and a half election timeouts, so that a client
/// can renew its lease at the next leader. As in etcd, both are counted in whole heartbeats, and
/// only the result is rounded up: five heartbeats of a second make 7 s, not 8.
pub fn min_ttl(heartbeat: Duration, election: Duration) -> i64 {
    let heartbeat_ms = heartbeat.as_millis().max(1);
    let election_ticks = election.as_millis() / heartbeat_ms;
    let shortest_ms = election_ticks * 3 / 2 * heartbeat_ms;
    i64::try_from(shortest_ms.div_ceil(1000)).unwrap_or(TTL_MAX)
}

/// The leases of the cluster. See the module's text.
#[derive(Debug)]
pub struct Lessor {
    state: Mutex<State>,
    /// Changes when a lease is revoked, and when this member is no longer the primary.
    gone: watch::Sender<()>,
    /// From renewals that must first clear the logged remaining time of their lease.
    clears: mpsc::Sender<Clear>,
    /// The other end, until the loop of checkpoints takes it.
    cleared: Mutex<Option<mpsc::Receiver<Clear>>>,
}

/// Leases that are to be exchanged for the present ones.
#[derive(Debug)]
pub(super) struct Prepared(State);

#[derive(Debug, Default)]
struct State {
    leases: HashMap<i64, Lease>,
    /// The lease of each attached key.
    holders: HashMap<Bytes, i64>,
    /// Leases by the moment at which to revoke them, or to try again; empty unless primary.
    queue: BTreeSet<(Instant, i64)>,
    /// The term in which this member is the primary.
    primary: Option<u64>,
    /// When to log the remaining time of leases; empty unless primary.
    checkpoints: Schedule,
}

#[derive(Debug)]
struct Lease {
    /// As granted, in seconds.
    ttl: i64,
    /// Seconds that remained at the last checkpoint; 0 for the whole TTL.
    remaining: i64,
    keys: BTreeSet<Bytes>,
    /// When the lease expires; `None` unless this member is the primary.
    deadline: Option<Instant>,
    /// The moment under which the lease is in the queue.
    look: Option<Instant>,
}

/// The state of a lease at its primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Whole seconds that remain; after a renewal, those that were granted.
    pub ttl: i64,
    /// Seconds that were granted; 0 in the answer to a renewal.
    pub granted: i64,
    /// The attached keys in order, if the question asked for them.
    pub keys: Vec<Bytes>,
}

/// A lease to be revoked, because its deadline is past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) lease: i64,
    /// The time since its deadline.
    pub(super) overdue: Duration,
}

/// A renewal that waits until the logged remaining time of its lease is cleared.
#[derive(Debug)]
pub(super) struct Clear {
    pub(super) lease: i64,
    /// Takes whether it was cleared. `false` makes the renewal ask the leader again.
    pub(super) done: oneshot::Sender<bool>,
}

/// The result of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The lease has its whole TTL again, in seconds.
    Renewed(i64),
    /// No lease has this id.
    NotFound,
    /// The lease has expired, and its revocation may be in flight: the caller must wait for its
    /// result.
    Expired,
    /// The logged remaining time must be cleared first. Otherwise the next leader would start with
    /// less than this renewal promises.
    Checkpointed,
    /// This member keeps no deadlines.
    NotPrimary,
}

impl Lessor {
    /// Reads the leases from the backend. `attached` has the lease of each key in the key space; a
    /// key of a lease that does not exist is skipped.
    pub fn open(
        backend: &Backend,
        attached: HashMap<Bytes, i64>,
    ) -> Result<Lessor, prost::DecodeError> {
        let rows = backend.range(Bucket::Lease, b"", None, usize::MAX);
        let state = read(rows.into_iter().map(|(_, row)| row), attached)?;
        let (clears, cleared) = mpsc::channel(CLEARS_MAX);
        let (state, cleared) = (Mutex::new(state), Mutex::new(Some(cleared)));
        Ok(Lessor { state, gone: watch::Sender::new(()), clears, cleared })
    }

    /// Reads the leases of a received database, to be exchanged for these. The arguments are as for
    /// [`Lessor::open`] and [`Lessor::raise`].
    ///
    /// # Errors
    /// A row does not decode.
    pub(super) fn prepare(
        &self,
        rows: impl Iterator<Item = Bytes>,
        attached: HashMap<Bytes, i64>,
        min_ttl: i64,
    ) -> Result<Prepared, prost::DecodeError> {
        let mut state = read(rows, attached)?;
        for lease in state.leases.values_mut() {
            lease.ttl = lease.ttl.max(min_ttl);
        }
        Ok(Prepared(state))
    }

    /// Apply thread: exchanges the leases for those of a received database. Only a follower gets
    /// one, so there are no deadlines any more.
    pub(super) fn exchange(&self, Prepared(new): Prepared) {
        let mut state = self.lock();
        (state.leases, state.holders) = (new.leases, new.holders);
        state.primary = None;
        state.queue.clear();
        state.checkpoints.clear();
        drop(state);
        self.gone.send_replace(());
    }

    /// Raises shorter leases to `min_ttl` seconds, for a member that starts with a longer election
    /// timeout than when they were granted (etcd: `initAndRecover`). Their rows stay as they are.
    pub fn raise(&self, min_ttl: i64) {
        for lease in self.lock().leases.values_mut() {
            lease.ttl = lease.ttl.max(min_ttl);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// Whether a lease with this id exists.
    pub fn contains(&self, lease: i64) -> bool {
        self.lock().leases.contains_key(&lease)
    }

    /// Apply thread: creates a lease with this id and TTL in seconds, and its row.
    pub(super) fn grant(
        &self,
        lease: i64,
        ttl: i64,
        now: Instant,
        backend: &mut WriteGuard<'_>,
    ) -> Result<(), Error> {
        if lease == 0 {
            return Err(Error::LeaseNotFound);
        }
        if TTL_MAX < ttl {
            return Err(Error::LeaseTtlTooLarge);
        }
        self.add(lease, ttl, now)?;
        let row = leasepb::Lease { id: lease, ttl, remaining_ttl: 0 };
        backend.put(Bucket::Lease, &lease.to_be_bytes(), row.encode_to_vec().into());
        recorded::LEASES_GRANTED.increment();
        recorded::LEASE_TTLS.observe(u64::try_from(ttl).unwrap_or(0));
        Ok(())
    }

    pub(super) fn add(&self, lease: i64, ttl: i64, now: Instant) -> Result<(), Error> {
        let mut state = self.lock();
        if state.leases.contains_key(&lease) {
            return Err(Error::LeaseExists);
        }
        state.leases.insert(lease, Lease::new(ttl));
        if state.primary.is_some() {
            state.set_deadline(lease, now + seconds(ttl));
            state.checkpoints.plan(lease, ttl, now);
        }
        Ok(())
    }

    /// The attached keys in order; `None` if no lease has this id.
    pub fn keys(&self, lease: i64) -> Option<Vec<Bytes>> {
        self.lock().leases.get(&lease).map(|lease| lease.keys.iter().cloned().collect())
    }

    /// Bytes that the lease's keys take in an answer, decoded.
    pub(super) fn keys_bytes(&self, lease: i64) -> usize {
        let state = self.lock();
        let keys = state.leases.get(&lease).into_iter().flat_map(|lease| &lease.keys);
        keys.map(|key| size_of::<Bytes>() + key.len()).sum()
    }

    /// Apply thread: deletes a lease and its row. The caller deletes the attached keys.
    pub(super) fn remove(&self, lease: i64, backend: &mut WriteGuard<'_>) {
        self.take_away(lease);
        backend.delete(Bucket::Lease, &lease.to_be_bytes());
        recorded::LEASES_REVOKED.increment();
    }

    pub(super) fn take_away(&self, lease: i64) {
        let mut state = self.lock();
        state.unqueue(lease);
        state.checkpoints.forget(lease);
        if let Some(lease) = state.leases.remove(&lease) {
            for key in lease.keys {
                state.holders.remove(&key);
            }
        }
        drop(state);
        self.gone.send_replace(());
    }

    /// Apply thread: attaches a key that request `id` has written to this lease, or to none (0).
    pub fn attach(&self, id: u64, key: &[u8], lease: i64) {
        let mut state = self.lock();
        if lease == 0 && state.holders.is_empty() {
            return;
        }
        let before = state.detach(key);
        state.attach(key, lease);
        drop(state);
        if before != 0 || lease != 0 {
            let (before, lease) = (before.cast_unsigned(), lease.cast_unsigned());
            mark!(LeaseAttach, id, lease_old = before, lease_new = lease);
        }
    }

    /// The term in which this member is the primary, if it is.
    pub(super) fn primary(&self) -> Option<u64> {
        self.lock().primary
    }

    /// Makes this member the primary of `term`. Each lease starts with its whole TTL, or with the
    /// remaining time of its last checkpoint, and `extend` more, for the time in which it could not
    /// be renewed. Deadlines that would come all at once are spread.
    pub(super) fn promote(&self, term: u64, extend: Duration, now: Instant) {
        let mut state = self.lock();
        state.primary = Some(term);
        let deadline = |lease: &Lease| now + extend + seconds(lease.left());
        let mut deadlines: Vec<(Instant, i64)> =
            state.leases.iter().map(|(id, lease)| (deadline(lease), *id)).collect();
        deadlines.sort_unstable();
        for at in DEADLINES_PER_SECOND..deadlines.len() {
            let earliest = deadlines[at - DEADLINES_PER_SECOND].0 + Duration::from_secs(1);
            deadlines[at].0 = deadlines[at].0.max(earliest);
        }
        for (deadline, lease) in deadlines {
            state.set_deadline(lease, deadline);
            let left = state.leases.get(&lease).map_or(0, Lease::left);
            state.checkpoints.plan(lease, left, now);
        }
    }

    /// Drops all deadlines: this member is no longer the primary.
    pub(super) fn demote(&self) {
        let mut state = self.lock();
        state.primary = None;
        state.queue.clear();
        state.checkpoints.clear();
        for lease in state.leases.values_mut() {
            (lease.deadline, lease.look) = (None, None);
        }
        drop(state);
        self.gone.send_replace(());
    }

    /// Sets the deadline of a lease to its whole TTL from `now`, if it has not expired.
    pub(super) fn renew(&self, lease: i64, now: Instant) -> Renewal {
        let mut state = self.lock();
        if state.primary.is_none() {
            return Renewal::NotPrimary;
        }
        let Some(found) = state.leases.get(&lease) else { return Renewal::NotFound };
        if found.deadline.is_some_and(|deadline| deadline <= now) {
            return Renewal::Expired;
        }
        if 0 < found.remaining {
            return Renewal::Checkpointed;
        }
        let ttl = found.ttl;
        state.set_deadline(lease, now + seconds(ttl));
        Renewal::Renewed(ttl)
    }

    /// The state of a lease; `None` if no lease has this id, if it has expired, or if this member
    /// is not the primary.
    pub(super) fn view(&self, lease: i64, with_keys: bool, now: Instant) -> Option<View> {
        let state = self.lock();
        let lease = state.leases.get(&lease)?;
        let left = lease.deadline?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let keys = if with_keys { lease.keys.iter().cloned().collect() } else { Vec::new() };
        let ttl = i64::try_from(left.as_secs()).unwrap_or(TTL_MAX);
        Some(View { ttl, granted: lease.ttl, keys })
    }

    /// All leases. On the primary they come in the order of their deadlines, elsewhere of their
    /// ids.
    pub(super) fn list(&self) -> Vec<i64> {
        let state = self.lock();
        let mut leases: Vec<(Option<Instant>, i64)> =
            state.leases.iter().map(|(id, lease)| (lease.deadline, *id)).collect();
        leases.sort_unstable();
        leases.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether [`Lessor::take_due`] would return a lease.
    pub(super) fn has_due(&self, now: Instant) -> bool {
        self.lock().queue.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Whether a lease has expired. Asked again before its revocation is proposed, because another
    /// lease may have been granted with its id meanwhile.
    pub(super) fn is_over(&self, lease: i64, now: Instant) -> bool {
        let deadline = self.lock().leases.get(&lease).and_then(|lease| lease.deadline);
        deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Up to `limit` leases to revoke, the longest overdue first. They are due again after three
    /// seconds, unless they are revoked by then.
    pub(super) fn take_due(&self, now: Instant, limit: usize) -> Vec<Due> {
        let mut state = self.lock();
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(&(at, lease)) = state.queue.first()
            && at <= now
        {
            state.look_at(lease, now + RETRY);
            let deadline = state.leases.get(&lease).and_then(|lease| lease.deadline);
            let overdue = deadline.map(|deadline| now.saturating_duration_since(deadline));
            due.push(Due { lease, overdue: overdue.unwrap_or_default() });
        }
        due
    }

    /// Makes this member log the remaining time of leases at this interval, while it is the primary
    /// (etcd: SetCheckpointer).
    pub fn enable_checkpoints(&self, interval: Duration) {
        self.lock().checkpoints = Schedule::every(interval);
    }

    /// Checkpoints of up to `limit` leases that are due. The leases are due again after an interval
    /// (etcd: findDueScheduledCheckpoints).
    pub(super) fn take_checkpoints(&self, now: Instant, limit: usize) -> Vec<LeaseCheckpoint> {
        let mut state = self.lock();
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(lease) = state.checkpoints.take_due(now)
        {
            let Some(found) = state.leases.get(&lease) else { continue };
            let left = found.deadline.map(|deadline| deadline.saturating_duration_since(now));
            let Some(left) = left.filter(|left| !left.is_zero()) else { continue };
            let left = i64::try_from(left.as_nanos().div_ceil(1_000_000_000)).unwrap_or(TTL_MAX);
            // A lease that was just renewed has its whole TTL, as the other members assume anyway.
            if left < found.ttl {
                due.push(LeaseCheckpoint { id: lease, remaining_ttl: left });
            }
            state.checkpoints.plan(lease, left, now);
        }
        due
    }

    /// Whether a lease is due for [`Lessor::take_checkpoints`].
    pub(super) fn has_checkpoints(&self, now: Instant) -> bool {
        self.lock().checkpoints.is_due(now)
    }

    /// Apply thread: notes the remaining time of leases, 0 for the whole TTL, and writes it into
    /// their rows if there is a `backend`. Ids without a lease are skipped.
    pub(super) fn checkpoint(
        &self,
        checkpoints: &[LeaseCheckpoint],
        now: Instant,
        mut backend: Option<&mut WriteGuard<'_>>,
    ) {
        let mut state = self.lock();
        for &LeaseCheckpoint { id, remaining_ttl } in checkpoints {
            let Some(lease) = state.leases.get_mut(&id) else { continue };
            lease.remaining = remaining_ttl.max(0);
            let (ttl, remaining_ttl) = (lease.ttl, lease.remaining);
            let left = lease.left();
            if let Some(backend) = &mut backend {
                let row = leasepb::Lease { id, ttl, remaining_ttl };
                backend.put(Bucket::Lease, &id.to_be_bytes(), row.encode_to_vec().into());
            }
            if state.primary.is_some() {
                state.checkpoints.plan(id, left, now);
            }
        }
    }

    /// The requests of renewals that got [`Renewal::Checkpointed`]. `None` after the first call.
    pub(super) fn take_clears(&self) -> Option<mpsc::Receiver<Clear>> {
        self.cleared.lock().expect("nobody panics while holding it").take()
    }

    /// The way to ask for the logged remaining time of a lease to be cleared.
    pub(super) fn clears(&self) -> &mpsc::Sender<Clear> {
        &self.clears
    }

    /// Changes when a lease is revoked, and when this member is no longer the primary.
    pub(super) fn gone(&self) -> watch::Receiver<()> {
        self.gone.subscribe()
    }
}

/// The leases in these rows, with the attached keys.
fn read(
    rows: impl Iterator<Item = Bytes>,
    attached: HashMap<Bytes, i64>,
) -> Result<State, prost::DecodeError> {
    let mut state = State::default();
    for row in rows {
        let row = leasepb::Lease::decode(row)?;
        let lease = Lease { remaining: row.remaining_ttl, ..Lease::new(row.ttl) };
        state.leases.insert(row.id, lease);
    }
    for (key, lease) in attached {
        state.attach(&key, lease);
    }
    Ok(state)
}

impl Lease {
    fn new(ttl: i64) -> Lease {
        Lease { ttl, remaining: 0, keys: BTreeSet::new(), deadline: None, look: None }
    }

    /// Seconds with which a new leader starts the lease (etcd: getRemainingTTL).
    fn left(&self) -> i64 {
        if 0 < self.remaining { self.remaining } else { self.ttl }
    }
}

impl State {
    /// Skips a lease that does not exist: apply refuses a request that names one before it gets
    /// here.
    fn attach(&mut self, key: &[u8], lease: i64) {
        if let Some(found) = self.leases.get_mut(&lease) {
            // Copied, because the key may be a slice of a network buffer, which it would keep
            // alive.
            let key = Bytes::copy_from_slice(key);
            found.keys.insert(key.clone());
            self.holders.insert(key, lease);
        }
    }

    /// Returns the lease to which the key was attached, or 0.
    fn detach(&mut self, key: &[u8]) -> i64 {
        let Some(lease) = self.holders.remove(key) else { return 0 };
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.remove(key);
        }
        lease
    }

    fn set_deadline(&mut self, lease: i64, deadline: Instant) {
        self.look_at(lease, deadline);
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.deadline = Some(deadline);
        }
    }

    fn look_at(&mut self, lease: i64, at: Instant) {
        self.unqueue(lease);
        if let Some(found) = self.leases.get_mut(&lease) {
            found.look = Some(at);
            self.queue.insert((at, lease));
        }
    }

    fn unqueue(&mut self, lease: i64) {
        let found = self.leases.get_mut(&lease);
        if let Some(at) = found.and_then(|lease| lease.look.take()) {
            self.queue.remove(&(at, lease));
        }
    }
}

/// A TTL as a duration. A row that another program has written may hold any number.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl.min(TTL_MAX)).unwrap_or(0))
}
