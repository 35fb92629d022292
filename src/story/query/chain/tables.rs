//! The joins between requests, read from the records once.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Cause, Deletion, Delivery, KeepAlives, Why};
use crate::{
    change, field, fields,
    story::{Event, KeyText, Recording, order::Order},
    trace::{
        record::{FLAG_ERROR, KEY_BYTES, Kind},
        stage::Stage,
    },
};

/// The field `path` of `watch.send` for a watcher that caught up.
const CATCH_UP: u64 = 1;

/// A watcher: its member by position, that member's start, and its number there.
type Watcher = (u8, u16, u64);

/// A write of a key: its revision, the request, and the event.
#[derive(Clone, Copy)]
struct Write {
    main: u64,
    id: u64,
    at: usize,
}

/// The uses of a lease: rank, request, and reason.
#[derive(Default)]
struct Lease {
    grants: Vec<(usize, u64)>,
    requests: Vec<(usize, u64, Why)>,
    /// Positions of the ends of `lease.renew`.
    renewals: Vec<(usize, usize)>,
    /// Positions of `lease.expire`.
    expiries: Vec<(usize, usize)>,
}

/// What a lease did between two grants of it.
#[derive(Default)]
pub(super) struct Life {
    /// When the first one began, and all of them.
    pub(super) keep_alives: Option<(i128, KeepAlives)>,
    /// Positions of `lease.expire`, with the request that it names.
    pub(super) expiries: Vec<(usize, u64)>,
    pub(super) requests: Vec<(u64, Why)>,
}

/// The joins, by id.
pub(super) struct Tables<'a> {
    recording: &'a Recording,
    order: &'a Order,
    rank: Vec<usize>,
    /// The first event of each request.
    first: HashMap<u64, usize>,
    leases: HashMap<u64, Lease>,
    /// The leases that a request granted.
    grants: HashMap<u64, Vec<u64>>,
    /// The causes of requests by leases, with the rank of the use.
    leased: HashMap<u64, (u64, usize)>,
    expiries: HashSet<u64>,
    /// The requests of a lock or campaign call, and the call of each.
    parts: HashMap<u64, Vec<(u64, Why)>>,
    calls: HashMap<u64, u64>,
    /// The calls that a request woke, and the ends of their waits.
    woken: HashMap<u64, Vec<(u64, usize)>>,
    woken_by: HashMap<u64, u64>,
    writes: HashMap<Vec<u8>, Vec<Write>>,
    tombstones: HashMap<u64, BTreeMap<(u64, u64), usize>>,
    revoked: HashMap<u64, u64>,
    sends: HashMap<u64, BTreeMap<Watcher, usize>>,
    caught_up: HashMap<u64, BTreeMap<Watcher, usize>>,
    creators: HashMap<Watcher, u64>,
    /// Requests that wait for a lock or observe an election, whose watchers are their own.
    waiting: HashSet<u64>,
    /// The revision that each request wrote.
    revisions: HashMap<u64, u64>,
    /// The uses of leases, and the writes of keys, that are noted already: every member repeats
    /// them.
    used: HashSet<(u64, u64, Why)>,
    written: HashSet<(u64, u64)>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(recording: &'a Recording, order: &'a Order) -> Tables<'a> {
        let mut tables = Tables {
            recording,
            order,
            rank: vec![usize::MAX; recording.events.len()],
            first: HashMap::new(),
            leases: HashMap::new(),
            grants: HashMap::new(),
            leased: HashMap::new(),
            expiries: HashSet::new(),
            parts: HashMap::new(),
            calls: HashMap::new(),
            woken: HashMap::new(),
            woken_by: HashMap::new(),
            writes: HashMap::new(),
            tombstones: HashMap::new(),
            revoked: HashMap::new(),
            sends: HashMap::new(),
            caught_up: HashMap::new(),
            creators: HashMap::new(),
            waiting: HashSet::new(),
            revisions: HashMap::new(),
            used: HashSet::new(),
            written: HashSet::new(),
        };
        for (rank, at) in order.rows.iter().enumerate() {
            tables.rank[*at] = rank;
            tables.note(*at);
        }
        tables
    }

    fn event(&self, at: usize) -> &'a Event {
        &self.recording.events[at]
    }

    /// Takes in one event. All members apply the same: what they repeat counts once.
    fn note(&mut self, at: usize) {
        let event = self.event(at);
        let id = event.id;
        if id != 0 {
            self.first.entry(id).or_insert(at);
        }
        let is_end = event.kind != Kind::Begin;
        match event.stage {
            Stage::LeaseGrant if is_end && event.flags & FLAG_ERROR == 0 => {
                let lease = field!(event, LeaseGrant, lease);
                let grants = &mut self.leases.entry(lease).or_default().grants;
                if grants.iter().all(|(_, known)| *known != id) {
                    grants.push((self.rank[at], id));
                    self.grants.entry(id).or_default().push(lease);
                }
            }
            Stage::LeaseAttach => match field!(event, LeaseAttach, lease_new) {
                0 => (),
                lease => self.use_lease(lease, at, Why::Attached),
            },
            Stage::LeaseRevoke if is_end => {
                self.use_lease(field!(event, LeaseRevoke, lease), at, Why::Revoked);
                let keys = self.revoked.entry(id).or_default();
                *keys = (*keys).max(field!(event, LeaseRevoke, keys));
            }
            Stage::LeaseRenew if is_end => {
                let lease = field!(event, LeaseRenew, lease);
                let rank = self.rank[at];
                self.leases.entry(lease).or_default().renewals.push((rank, at));
                self.leased.entry(id).or_insert((lease, rank));
            }
            Stage::LeaseExpire => {
                let [lease, request] = fields!(event, LeaseExpire: lease, request);
                let rank = self.rank[at];
                self.leases.entry(lease).or_default().expiries.push((rank, at));
                self.leased.entry(request).or_insert((lease, rank));
                self.expiries.insert(request);
            }
            _ => self.note_calls(at),
        }
    }

    /// Takes in the events of calls that wait, of keys and of watchers.
    fn note_calls(&mut self, at: usize) {
        let event = self.event(at);
        let id = event.id;
        let is_end = event.kind != Kind::Begin;
        match event.stage {
            Stage::SessionGrant if is_end => {
                self.part(id, field!(event, SessionGrant, request), Why::Session);
            }
            Stage::LockRelease => self.part(id, field!(event, LockRelease, request), Why::Released),
            Stage::CampaignProclaim => {
                self.part(id, field!(event, CampaignProclaim, request), Why::Proclaimed);
            }
            Stage::LockWait => {
                self.waiting.insert(id);
                if let Some(by) = super::woken_by(event) {
                    self.woken.entry(by).or_default().push((id, at));
                    self.woken_by.insert(id, by);
                }
            }
            Stage::ObserveLeader => _ = self.waiting.insert(id),
            Stage::MvccWrite if is_end => {
                let [old, new] = change!(event, MvccWrite, revision);
                if old < new {
                    self.revisions.insert(id, new);
                }
            }
            Stage::TreeIndexPut | Stage::TreeIndexTombstone if is_end => self.note_key(at),
            Stage::WatchCreate if is_end => {
                let watcher = field!(event, WatchCreate, watcher);
                self.creators.insert((event.member, event.boot, watcher), id);
            }
            Stage::WatchQueue | Stage::WatchSend if is_end => self.note_watcher(at),
            _ => (),
        }
    }

    fn note_key(&mut self, at: usize) {
        let event = self.event(at);
        let [main, sub] = fields!(event, TreeIndexPut | TreeIndexTombstone: main, sub);
        if event.stage == Stage::TreeIndexTombstone {
            let known = self.tombstones.entry(event.id).or_default().entry((main, sub));
            let known = known.or_insert(at);
            if self.recording.events[*known].key.is_none() {
                *known = at;
            }
        }
        let Some(key) = &event.key else { return };
        if self.written.insert((main, sub)) {
            self.writes.entry(name(key)).or_default().push(Write { main, id: event.id, at });
        }
    }

    fn note_watcher(&mut self, at: usize) {
        let event = self.event(at);
        let number = field!(event, WatchQueue | WatchSend, watcher);
        let watcher = (event.member, event.boot, number);
        let is_send = event.stage == Stage::WatchSend;
        if is_send && field!(event, WatchSend, path) == CATCH_UP {
            let [first, last] = fields!(event, WatchSend: first, last);
            for revision in [first, last] {
                self.caught_up.entry(revision).or_default().entry(watcher).or_insert(at);
            }
            return;
        }
        let known = self.sends.entry(event.id).or_default().entry(watcher).or_insert(at);
        if is_send && self.recording.events[*known].stage == Stage::WatchQueue {
            *known = at;
        }
    }

    fn use_lease(&mut self, lease: u64, at: usize, why: Why) {
        let id = self.event(at).id;
        let rank = self.rank[at];
        if self.used.insert((lease, id, why)) {
            self.leases.entry(lease).or_default().requests.push((rank, id, why));
        }
        self.leased.entry(id).or_insert((lease, rank));
    }

    fn part(&mut self, call: u64, request: u64, why: Why) {
        if self.calls.insert(request, call).is_none() {
            self.parts.entry(call).or_default().push((request, why));
        }
    }

    /// What a request follows from. A call that was woken follows from the request that woke it,
    /// even if its key has a lease.
    pub(super) fn cause(&self, id: u64) -> Option<Cause> {
        let call = self.calls.get(&id).or_else(|| self.woken_by.get(&id));
        if let Some(above) = call {
            return Some(Cause::Request(*above));
        }
        let (lease, rank) = *self.leased.get(&id)?;
        let grant = self.grant_of(lease, rank);
        let is_own = grant.is_some_and(|grant| self.calls.get(&grant) == Some(&id));
        (!is_own).then_some(Cause::Lease(lease, rank))
    }

    /// When a request began, as far as captured.
    pub(super) fn began(&self, id: u64) -> Option<i128> {
        self.first.get(&id).map(|at| self.start(*at))
    }

    /// When an event took effect.
    pub(super) fn time(&self, at: usize) -> i128 {
        self.order.times[at]
    }

    fn start(&self, at: usize) -> i128 {
        let event = self.event(at);
        let is_at_end = event.kind == Kind::Span && event.stage != Stage::RaftSend;
        self.time(at) - if is_at_end { i128::from(event.took_ns) } else { 0 }
    }

    /// The requests that wrote or deleted a key, in playback order.
    pub(super) fn touched(&self, key: &[u8]) -> Vec<u64> {
        let cut = key[..key.len().min(KEY_BYTES)].to_vec();
        let named = name(&KeyText { bytes: cut, length: key.len() as u64 });
        self.writes.get(&named).into_iter().flatten().map(|write| write.id).collect()
    }

    /// The requests that granted a lease, in playback order.
    pub(super) fn granted(&self, lease: u64) -> Vec<u64> {
        let grants = self.leases.get(&lease).map(|lease| lease.grants.as_slice());
        grants.unwrap_or_default().iter().map(|(_, id)| *id).collect()
    }

    /// The leases that a request granted.
    pub(super) fn granted_by(&self, id: u64) -> Vec<u64> {
        self.grants.get(&id).cloned().unwrap_or_default()
    }

    /// Whether a lease was used before its first captured grant.
    pub(super) fn is_used_ungranted(&self, lease: u64) -> bool {
        let life = self.life(lease, None);
        life.keep_alives.is_some() || !life.expiries.is_empty() || !life.requests.is_empty()
    }

    /// The grant to which a use of the lease at this rank belongs.
    pub(super) fn grant_of(&self, lease: u64, rank: usize) -> Option<u64> {
        let grants = &self.leases.get(&lease)?.grants;
        grants.iter().rev().find(|(granted, _)| *granted <= rank).map(|(_, id)| *id)
    }

    /// What a lease did after this grant of it; before the first one, for `None`.
    pub(super) fn life(&self, lease: u64, grant: Option<u64>) -> Life {
        let Some(uses) = self.leases.get(&lease) else { return Life::default() };
        let is_meant = |rank: usize| self.grant_of(lease, rank) == grant;
        // The call that needs the lease has put its own key with it.
        let call = grant.and_then(|grant| self.calls.get(&grant));
        let renewals = uses.renewals.iter().filter(|(rank, _)| is_meant(*rank));
        let expiries = uses.expiries.iter().filter(|(rank, _)| is_meant(*rank));
        let requests = uses.requests.iter();
        let requests = requests.filter(|(rank, id, _)| is_meant(*rank) && call != Some(id));
        Life {
            keep_alives: self.keep_alives(renewals.map(|(_, at)| *at)),
            expiries: expiries
                .map(|(_, at)| (*at, field!(self.event(*at), LeaseExpire, request)))
                .collect(),
            requests: requests.map(|(_, id, why)| (*id, *why)).collect(),
        }
    }

    /// Counts messages by their ids: one that is forwarded may leave records on two members.
    fn keep_alives(&self, renewals: impl Iterator<Item = usize>) -> Option<(i128, KeepAlives)> {
        let mut messages: BTreeMap<u64, (i128, i128, bool)> = BTreeMap::new();
        for at in renewals {
            let event = self.event(at);
            let has_failed = event.flags & FLAG_ERROR != 0 || field!(event, LeaseRenew, ttl) == 0;
            let (start, end) = (self.start(at), self.time(at));
            let known = messages.entry(event.id).or_insert((start, end, has_failed));
            *known = (known.0.min(start), known.1.max(end), known.2 || has_failed);
        }
        let first = messages.values().map(|(start, ..)| *start).min()?;
        let last = messages.values().map(|(_, end, _)| *end).max()?;
        let failed = messages.values().filter(|(.., failed)| *failed).count() as u64;
        Some((first, KeepAlives { count: messages.len() as u64, failed, last }))
    }

    /// Whether the member made this request because a lease had expired.
    pub(super) fn is_expiry(&self, id: u64) -> bool {
        self.expiries.contains(&id)
    }

    /// The requests that a lock or campaign call made.
    pub(super) fn parts(&self, call: u64) -> &[(u64, Why)] {
        self.parts.get(&call).map_or(&[], Vec::as_slice)
    }

    /// The calls that a request woke, with the position of the end of each wait.
    pub(super) fn woken(&self, id: u64) -> &[(u64, usize)] {
        self.woken.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The keys that a revocation deleted, as it says.
    pub(super) fn revoked_keys(&self, id: u64) -> u64 {
        self.revoked.get(&id).copied().unwrap_or(0)
    }

    /// The keys that a request deleted.
    pub(super) fn deletions(&self, id: u64) -> Vec<Deletion> {
        let marks = self.tombstones.get(&id).into_iter().flatten();
        marks.map(|(revision, at)| self.deletion(revision.0, *at)).collect()
    }

    fn deletion(&self, main: u64, at: usize) -> Deletion {
        let key = self.event(at).key.clone();
        // Two long keys may have the same beginning; and a redacted key has no text.
        let whole = key.as_ref().filter(|key| key.bytes.len() as u64 == key.length);
        let writes = whole.and_then(|key| self.writes.get(&name(key)));
        let before = writes
            .into_iter()
            .flatten()
            .filter(|write| write.main < main && self.event(write.at).stage == Stage::TreeIndexPut);
        let wrote = before.max_by_key(|write| write.main).map(|write| write.id);
        Deletion { event: at, key, wrote }
    }

    /// The watchers that received a request's write, without those of waiting calls.
    pub(super) fn deliveries(&self, id: u64) -> Vec<Delivery> {
        let revision = self.revisions.get(&id);
        let late = revision.and_then(|revision| self.caught_up.get(revision));
        let mut all = self.sends.get(&id).cloned().unwrap_or_default();
        for (watcher, at) in late.into_iter().flatten() {
            all.entry(*watcher).or_insert(*at);
        }
        let delivery = |(watcher, event): (Watcher, usize)| Delivery {
            event,
            creator: self.creators.get(&watcher).copied(),
        };
        let is_told = |delivery: &Delivery| {
            delivery.creator.is_none_or(|creator| !self.waiting.contains(&creator))
        };
        all.into_iter().map(delivery).filter(is_told).collect()
    }

    /// Whether anything follows from a request.
    pub(super) fn has_effects(&self, id: u64) -> bool {
        let has_parts = self.parts.contains_key(&id) || self.grants.contains_key(&id);
        has_parts
            || self.woken.contains_key(&id)
            || self.tombstones.contains_key(&id)
            || !self.deliveries(id).is_empty()
    }
}

/// A key as a name in the tables: what was captured of it, and its length.
fn name(key: &KeyText) -> Vec<u8> {
    [&key.length.to_be_bytes()[..], &key.bytes].concat()
}
