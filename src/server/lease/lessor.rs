//! The leases, their keys and, while this member is the primary, their deadlines (etcd: `lessor`).

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{mpsc, watch};

use super::checkpoint::{Clear, Schedule};
use crate::{
    mark,
    pb::{etcdserverpb::LeaseCheckpoint, leasepb},
    server::Error,
    storage::backend::{Backend, Bucket, WriteGuard},
};

/// The longest TTL, in seconds (etcd: MaxLeaseTTL).
const TTL_MAX: i64 = 9_000_000_000;

/// How long a revocation may take before it is proposed again (etcd: expiredLeaseRetryInterval).
const RETRY: Duration = Duration::from_secs(3);

/// Renewals that may wait for their lease's remaining time to be cleared; more wait before.
const CLEARS_MAX: usize = 1024;

/// So many leases may have their deadline within one second after a change of leader.
const DEADLINES_PER_SECOND: usize = 1000;

/// The shortest TTL that is granted, in seconds: one and a half election timeouts, so that a lease
/// can be renewed at the next leader. As in etcd both are counted in whole heartbeats, and only
/// the result is rounded up: five heartbeats of a second make 7 s, not 8.
pub fn min_ttl(heartbeat: Duration, election: Duration) -> i64 {
    let heartbeat_ms = heartbeat.as_millis().max(1);
    let election_ticks = election.as_millis() / heartbeat_ms;
    let shortest_ms = election_ticks * 3 / 2 * heartbeat_ms;
    i64::try_from(shortest_ms.div_ceil(1000)).unwrap_or(TTL_MAX)
}

/// All leases. See the module's text.
#[derive(Debug)]
pub struct Lessor {
    state: Mutex<State>,
    /// Changes when a lease is gone and when this member is no longer primary.
    gone: watch::Sender<()>,
    /// Renewals that must first clear what was written down of their lease's time.
    clears: mpsc::Sender<Clear>,
    /// Where those come out, until somebody takes it.
    cleared: Mutex<Option<mpsc::Receiver<Clear>>>,
}

#[derive(Debug, Default)]
struct State {
    leases: HashMap<i64, Lease>,
    /// Attached keys, and to which lease.
    holders: HashMap<Bytes, i64>,
    /// When to look at which lease, soonest first; empty unless primary.
    queue: BTreeSet<(Instant, i64)>,
    /// The term in which this member is the primary.
    primary: Option<u64>,
    /// When to tell the others how long leases have still to live; empty unless primary.
    checkpoints: Schedule,
}

#[derive(Debug)]
struct Lease {
    /// As granted, in seconds.
    ttl: i64,
    /// Seconds that it had left when that was last written into the log; 0 for all of them.
    remaining: i64,
    keys: BTreeSet<Bytes>,
    /// `None` unless primary.
    deadline: Option<Instant>,
    /// Its place in the queue.
    look: Option<Instant>,
}

/// A lease as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Seconds that are left; after a renewal all of them.
    pub ttl: i64,
    /// Seconds that were granted.
    pub granted: i64,
    /// The attached keys in order, when they were asked for.
    pub keys: Vec<Bytes>,
}

/// A lease whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its id.
    pub lease: i64,
    /// For how long it has been over.
    pub overdue: Duration,
}

/// What became of a wish to renew a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It has this many seconds again.
    Renewed(i64),
    /// There is no such lease.
    NotFound,
    /// Its time is over, and its revocation is on the way: whether that succeeds must be awaited.
    Expired,
    /// What was written down of its time must be cleared first, on all members: otherwise the next
    /// leader would take less for what is left than has been promised.
    Checkpointed,
    /// Not this member counts.
    NotPrimary,
}

impl Lessor {
    /// Reads the leases from the backend, and attaches keys to those that are there.
    pub fn open(
        backend: &Backend,
        attached: HashMap<Bytes, i64>,
    ) -> Result<Lessor, prost::DecodeError> {
        let mut state = State::default();
        for (_, row) in backend.range(Bucket::Lease, b"", None, usize::MAX) {
            let row = leasepb::Lease::decode(row)?;
            let lease = Lease { remaining: row.remaining_ttl, ..Lease::new(row.ttl) };
            state.leases.insert(row.id, lease);
        }
        for (key, lease) in attached {
            state.attach(&key, lease);
        }
        let (clears, cleared) = mpsc::channel(CLEARS_MAX);
        let (state, cleared) = (Mutex::new(state), Mutex::new(Some(cleared)));
        Ok(Lessor { state, gone: watch::Sender::new(()), clears, cleared })
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

    /// Whether there is such a lease.
    pub fn contains(&self, lease: i64) -> bool {
        self.lock().leases.contains_key(&lease)
    }

    /// Apply thread: makes a lease with this id and TTL in seconds, and its row.
    pub(in crate::server) fn grant(
        &self,
        (lease, ttl): (i64, i64),
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

    /// The lease's keys in order; `None` when there is no such lease.
    pub fn keys(&self, lease: i64) -> Option<Vec<Bytes>> {
        self.lock().leases.get(&lease).map(|lease| lease.keys.iter().cloned().collect())
    }

    /// Bytes that the lease's keys take in an answer, decoded.
    pub fn keys_bytes(&self, lease: i64) -> usize {
        let state = self.lock();
        let keys = state.leases.get(&lease).into_iter().flat_map(|lease| &lease.keys);
        keys.map(|key| size_of::<Bytes>() + key.len()).sum()
    }

    /// Apply thread: takes a lease and its row away; its keys are the caller's to delete.
    pub(in crate::server) fn remove(&self, lease: i64, backend: &mut WriteGuard<'_>) {
        self.take_away(lease);
        backend.delete(Bucket::Lease, &lease.to_be_bytes());
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

    /// Apply thread: request `id` has written a key; it now belongs to this lease, or to none (0).
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
    pub fn primary(&self) -> Option<u64> {
        self.lock().primary
    }

    /// This member leads in `term`, and counts from now on. Each lease gets its whole TTL again, or
    /// what the last checkpoint says was left of it, and `extend` more, for the time in which nobody
    /// could renew it; deadlines that would come all at once are spread.
    pub fn promote(&self, term: u64, extend: Duration, now: Instant) {
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

    /// This member no longer leads.
    pub fn demote(&self) {
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

    /// Gives a lease its whole TTL again.
    pub fn renew(&self, lease: i64, now: Instant) -> Renewal {
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

    /// How long a lease has still to live; `None` when it is gone or its time is over. Only the
    /// primary knows.
    pub fn view(&self, lease: i64, with_keys: bool, now: Instant) -> Option<View> {
        let state = self.lock();
        let lease = state.leases.get(&lease)?;
        let left = lease.deadline?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let keys = if with_keys { lease.keys.iter().cloned().collect() } else { Vec::new() };
        let ttl = i64::try_from(left.as_secs()).unwrap_or(TTL_MAX);
        Some(View { ttl, granted: lease.ttl, keys })
    }

    /// All leases, those that end first first; who does not count goes by id.
    pub fn list(&self) -> Vec<i64> {
        let state = self.lock();
        let mut leases: Vec<(Option<Instant>, i64)> =
            state.leases.iter().map(|(id, lease)| (lease.deadline, *id)).collect();
        leases.sort_unstable();
        leases.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether a lease should be revoked now.
    pub fn has_due(&self, now: Instant) -> bool {
        self.lock().queue.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Whether a lease's time is over: since it was taken, another may have been granted its id.
    pub fn is_over(&self, lease: i64, now: Instant) -> bool {
        let deadline = self.lock().leases.get(&lease).and_then(|lease| lease.deadline);
        deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Up to `limit` leases to be revoked, the longest overdue first. They come again after three
    /// seconds unless they are gone by then.
    pub fn take_due(&self, now: Instant, limit: usize) -> Vec<Due> {
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

    /// From now on, while it is the primary, this member tells the others every so often how long
    /// leases have still to live (etcd: SetCheckpointer).
    pub fn enable_checkpoints(&self, interval: Duration) {
        self.lock().checkpoints = Schedule::every(interval);
    }

    /// Up to `limit` leases whose remaining time is to be written down now, with what is left of
    /// each. They come again after an interval (etcd: findDueScheduledCheckpoints).
    pub fn take_checkpoints(&self, now: Instant, limit: usize) -> Vec<LeaseCheckpoint> {
        let mut state = self.lock();
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(lease) = state.checkpoints.take_due(now)
        {
            let Some(found) = state.leases.get(&lease) else { continue };
            let left = found.deadline.map(|deadline| deadline.saturating_duration_since(now));
            let Some(left) = left.filter(|left| !left.is_zero()) else { continue };
            let left = i64::try_from(left.as_nanos().div_ceil(1_000_000_000)).unwrap_or(TTL_MAX);
            // Whoever was just renewed has all its time, and the others think so as well.
            if left < found.ttl {
                due.push(LeaseCheckpoint { id: lease, remaining_ttl: left });
            }
            state.checkpoints.plan(lease, left, now);
        }
        due
    }

    /// Whether [`Lessor::take_checkpoints`] would have to look at a lease.
    pub fn has_checkpoints(&self, now: Instant) -> bool {
        self.lock().checkpoints.is_due(now)
    }

    /// Apply thread: notes how long leases have still to live, 0 for their whole time; and, where
    /// it is to be kept (`backend`), in their rows. Leases that are gone are passed over.
    pub(in crate::server) fn checkpoint(
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

    /// Takes the place where renewals wait for [`Renewal::Checkpointed`] to be cleared; once.
    pub(super) fn take_clears(&self) -> Option<mpsc::Receiver<Clear>> {
        self.cleared.lock().expect("nobody panics while holding it").take()
    }

    /// Asks for a lease's remaining time to be cleared.
    pub(super) fn clears(&self) -> &mpsc::Sender<Clear> {
        &self.clears
    }

    /// Tells when a lease has gone, or this member is no longer the primary.
    pub fn gone(&self) -> watch::Receiver<()> {
        self.gone.subscribe()
    }
}

impl Lease {
    fn new(ttl: i64) -> Lease {
        Lease { ttl, remaining: 0, keys: BTreeSet::new(), deadline: None, look: None }
    }

    /// What a new leader gives it, in seconds (etcd: getRemainingTTL).
    fn left(&self) -> i64 {
        if 0 < self.remaining { self.remaining } else { self.ttl }
    }
}

impl State {
    /// A lease that is not there gets no keys: whoever names one is refused before.
    fn attach(&mut self, key: &[u8], lease: i64) {
        if let Some(found) = self.leases.get_mut(&lease) {
            // The key is a slice of a buffer of the network that should not be kept for it.
            let key = Bytes::copy_from_slice(key);
            found.keys.insert(key.clone());
            self.holders.insert(key, lease);
        }
    }

    /// Returns the lease that had the key, or 0.
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

/// A TTL as a time; rows that another program has written may have any.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl.min(TTL_MAX)).unwrap_or(0))
}
