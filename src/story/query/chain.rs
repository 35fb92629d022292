//! Chains across requests: what one request made others do.
//!
//! ```text
//!   Lease/LeaseGrant ─┬▶ 4 keep-alives
//!                     ├▶ KV/Put ──▶ sent to a watcher
//!                     └▶ lease.expire ──▶ internal/LeaseExpire ─┬▶ a key is deleted
//!                                                               └▶ wakes Lock/Lock
//! ```
//!
//! A number in a record joins two requests: the lease, the key, the watcher, the id of the request
//! that a step names. Each request appears under its cause, and once: where it appears again, the
//! tree says only that it is shown elsewhere ([`What::Again`]).
//!
//! Only captured records are joined. A cause whose record is missing is called unknown, and a count
//! that a record states (a revocation's keys) is kept beside what was captured.
//!
//! Invariants: children are in playback order; a tree is no deeper than [`DEPTH_MAX`].

use std::collections::HashSet;

use crate::{
    field,
    story::{Event, KeyText, Recording, order::Order},
    trace::{Kind, Stage},
};

mod tables;

use tables::Tables;

/// The most levels of a tree. A request at the last one is [`What::More`] if others follow it.
pub const DEPTH_MAX: usize = 32;

/// What the chains are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// These requests.
    Requests(Vec<u64>),
    /// Every request that wrote or deleted this key.
    Key(Vec<u8>),
    /// The lease with this id: every time that it was granted.
    Lease(u64),
}

/// Why an element of a chain follows the one above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Nothing is above it.
    First,
    /// It wrote a key with the lease above.
    Attached,
    /// It renewed the lease above.
    Renewed,
    /// The lease above has expired.
    Expired,
    /// It revoked the lease above.
    Revoked,
    /// The lock or campaign call above needs the lease.
    Session,
    /// The lock or campaign call above gives its key back.
    Released,
    /// The campaign above, repeated, has a new value.
    Proclaimed,
    /// The request above deleted the key.
    Deleted,
    /// The write above was sent to the watcher.
    Delivered,
    /// The request above deleted the key for which the call waited.
    Woken,
}

/// An element of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A request.
    Request(u64),
    /// A request that is shown elsewhere in these chains.
    Again(u64),
    /// A request at the greatest depth, which others follow.
    More(u64),
    /// A lease whose grant was not captured.
    Lease(u64),
    /// All messages that renewed a lease.
    KeepAlives(KeepAlives),
    /// An expired lease: position of the `lease.expire`.
    Expiry(usize),
    /// A deleted key.
    Deletion(Deletion),
    /// Keys that a revocation deleted, as it says, but whose deletion was not captured.
    Uncaptured(u64),
    /// A watcher that received a write.
    Delivery(Delivery),
}

/// The messages that renewed a lease, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepAlives {
    /// All of them.
    pub count: u64,
    /// Those that were refused, or found no such lease.
    pub failed: u64,
    /// When the last one ended, in nanoseconds since 1970 on the common axis.
    pub last: i128,
}

/// The deletion of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Position of the `tree_index.tombstone`.
    pub event: usize,
    /// The key; `None` if its text was not captured.
    pub key: Option<KeyText>,
    /// The last captured write of that key before it.
    pub wrote: Option<u64>,
}

/// A write's way to a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Position of the `watch.send`, or of the `watch.queue` if no send was captured.
    pub event: usize,
    /// The request that created the watcher.
    pub creator: Option<u64>,
}

/// An element with what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The element.
    pub what: What,
    /// Why it follows the element above.
    pub why: Why,
    /// When it began, or woke a waiting call: nanoseconds since 1970 on the common axis. `None` if
    /// that was not captured.
    pub began: Option<i128>,
    /// What follows from it.
    pub then: Vec<Link>,
}

/// The request that ended a wait for a lock or an election, as this step says.
pub fn woken_by(event: &Event) -> Option<u64> {
    let is_end = event.stage == Stage::LockWait && event.kind != Kind::Begin;
    is_end.then(|| field!(event, LockWait, by)).filter(|by| *by != 0)
}

/// The chains to which the target belongs, each from its first cause on.
pub fn chains(recording: &Recording, order: &Order, target: &Target) -> Vec<Link> {
    let tables = Tables::new(recording, order);
    let mut firsts: Vec<First> = Vec::new();
    for first in firsts_of(&tables, target) {
        if !firsts.contains(&first) {
            firsts.push(first);
        }
    }
    let mut builder = Builder { tables: &tables, shown: HashSet::new() };
    let mut all: Vec<Link> = firsts.into_iter().map(|first| builder.first(first)).collect();
    all.sort_by_key(|link| link.began);
    all
}

/// Where a chain begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Request(u64),
    Lease(u64),
}

/// What an element follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Request(u64),
    /// A lease, at this rank: its grant if that was captured.
    Lease(u64, usize),
}

fn firsts_of(tables: &Tables<'_>, target: &Target) -> Vec<First> {
    match target {
        Target::Requests(ids) => ids.iter().map(|id| first_of(tables, *id)).collect(),
        Target::Key(key) => tables.touched(key).iter().map(|id| first_of(tables, *id)).collect(),
        Target::Lease(lease) => {
            let granted = tables.granted(*lease);
            let firsts = granted.iter().map(|id| first_of(tables, *id));
            let is_older = tables.is_used_ungranted(*lease);
            firsts.chain(is_older.then_some(First::Lease(*lease))).collect()
        }
    }
}

/// Follows the causes of a request up to the first one.
fn first_of(tables: &Tables<'_>, id: u64) -> First {
    let (mut at, mut seen) = (id, HashSet::from([id]));
    loop {
        match tables.cause(at) {
            None => return First::Request(at),
            Some(Cause::Request(above)) if !seen.insert(above) => return First::Request(at),
            Some(Cause::Request(above)) => at = above,
            Some(Cause::Lease(lease, rank)) => match tables.grant_of(lease, rank) {
                Some(grant) if seen.insert(grant) => at = grant,
                Some(_) => return First::Request(at),
                None => return First::Lease(lease),
            },
        }
    }
}

/// Builds the trees.
struct Builder<'a> {
    tables: &'a Tables<'a>,
    /// The requests that a tree has already.
    shown: HashSet<u64>,
}

impl Builder<'_> {
    fn first(&mut self, first: First) -> Link {
        match first {
            First::Request(id) => self.request(id, Why::First, 0),
            First::Lease(lease) => {
                let then = self.of_lease(lease, None, 1);
                Link { what: What::Lease(lease), why: Why::First, began: None, then }
            }
        }
    }

    fn request(&mut self, id: u64, why: Why, depth: usize) -> Link {
        let began = self.tables.began(id);
        let leaf = |what| Link { what, why, began, then: Vec::new() };
        if !self.shown.insert(id) {
            return leaf(What::Again(id));
        }
        if DEPTH_MAX <= depth + 1 {
            let is_last = !self.tables.has_effects(id);
            return leaf(if is_last { What::Request(id) } else { What::More(id) });
        }
        let then = self.effects(id, depth + 1);
        Link { what: What::Request(id), why, began, then }
    }

    /// What follows from a request, in playback order.
    fn effects(&mut self, id: u64, depth: usize) -> Vec<Link> {
        let tables = self.tables;
        let mut then = Vec::new();
        for (request, why) in tables.parts(id) {
            then.push(self.request(*request, *why, depth));
        }
        for lease in tables.granted_by(id) {
            then.extend(self.of_lease(lease, Some(id), depth));
        }
        let deletions = tables.deletions(id);
        let left = tables.revoked_keys(id).saturating_sub(deletions.len() as u64);
        for deletion in deletions {
            let began = tables.time(deletion.event);
            let what = What::Deletion(deletion);
            then.push(Link { what, why: Why::Deleted, began: Some(began), then: Vec::new() });
        }
        if left != 0 {
            let what = What::Uncaptured(left);
            then.push(Link { what, why: Why::Deleted, began: None, then: Vec::new() });
        }
        for delivery in tables.deliveries(id) {
            let began = Some(tables.time(delivery.event));
            let what = What::Delivery(delivery);
            then.push(Link { what, why: Why::Delivered, began, then: Vec::new() });
        }
        for (waiter, wait) in tables.woken(id) {
            let began = Some(tables.time(*wait));
            then.push(Link { began, ..self.request(*waiter, Why::Woken, depth) });
        }
        then.sort_by_key(|link| link.began.unwrap_or(i128::MAX));
        then
    }

    /// What follows from a lease, between this grant of it and the next one.
    fn of_lease(&mut self, lease: u64, grant: Option<u64>, depth: usize) -> Vec<Link> {
        let tables = self.tables;
        let life = tables.life(lease, grant);
        let mut then = Vec::new();
        if let Some(keep_alives) = life.keep_alives {
            let (began, what) = (Some(keep_alives.0), What::KeepAlives(keep_alives.1));
            then.push(Link { what, why: Why::Renewed, began, then: Vec::new() });
        }
        // An expiry shows the request that it makes, also if nothing else of that was captured.
        for (at, request) in life.expiries {
            let below = vec![self.request(request, Why::Revoked, depth + 1)];
            let began = Some(tables.time(at));
            then.push(Link { what: What::Expiry(at), why: Why::Expired, began, then: below });
        }
        for (id, why) in life.requests {
            let is_expiry = why == Why::Revoked && tables.is_expiry(id);
            if !is_expiry {
                then.push(self.request(id, why, depth));
            }
        }
        then.sort_by_key(|link| link.began.unwrap_or(i128::MAX));
        then
    }
}

#[cfg(test)]
mod tests;
