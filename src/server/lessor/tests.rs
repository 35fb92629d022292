//! The lessor, with a clock that the test advances.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::{
    clock,
    pb::etcdserverpb::{
        DeleteRangeRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantRequest,
        LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op,
    },
    server::{
        Error,
        apply::key_space::KvRequest,
        mvcc::{Batch, ReplyTo, Store},
        txn::Txn,
    },
    storage::backend::{Backend, Options},
};

const ELECTION: Duration = Duration::from_secs(1);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn empty() -> Lessor {
    let folder = TempDir::new().unwrap();
    let backend = Backend::open(&folder.path().join("db"), Options::default()).unwrap();
    Lessor::open(&backend, HashMap::new()).unwrap()
}

fn keys(lessor: &Lessor, lease: i64) -> Vec<String> {
    let keys = lessor.keys(lease).unwrap();
    keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
}

fn due(lessor: &Lessor, now: std::time::Instant) -> Vec<i64> {
    lessor.take_due(now, 1000).iter().map(|due| due.lease).collect()
}

#[test]
fn the_shortest_ttl_is_one_and_a_half_election_timeouts_in_whole_heartbeats() {
    for (heartbeat, election, shortest) in [
        (100, 1000, 2),
        (100, 2000, 3),
        (10, 100, 1),
        (1000, 5000, 7),
        (1000, 5999, 7),
        (1000, 6000, 9),
        (700, 4000, 5),
        (100, 5000, 8),
        (10_000, 50_000, 70),
    ] {
        assert_eq!(min_ttl(ms(heartbeat), ms(election)), shortest, "{heartbeat} {election}");
    }
}

#[test]
fn a_longer_election_timeout_lengthens_existing_leases() {
    let (lessor, now) = (empty(), clock::now());
    lessor.add(1, 2, now).unwrap();
    lessor.add(2, 60, now).unwrap();
    lessor.raise(7);
    lessor.promote(1, ms(0), now);
    let granted = |lease| lessor.view(lease, false, now).unwrap().granted;
    assert_eq!((granted(1), granted(2)), (7, 60));
    assert_eq!(lessor.renew(1, now), Renewal::Renewed(7));
}

#[test]
fn a_key_is_attached_to_its_last_lease_only() {
    let (lessor, now) = (empty(), clock::now());
    lessor.add(1, 10, now).unwrap();
    lessor.add(2, 10, now).unwrap();
    for key in ["c", "a", "b"] {
        lessor.attach(0, key.as_bytes(), 1);
    }
    assert_eq!(keys(&lessor, 1), ["a", "b", "c"]);
    lessor.attach(0, b"b", 2);
    lessor.attach(0, b"c", 0);
    assert_eq!(keys(&lessor, 1), ["a"]);
    assert_eq!(keys(&lessor, 2), ["b"]);
    lessor.take_away(2);
    lessor.attach(0, b"b", 1);
    assert_eq!(keys(&lessor, 1), ["a", "b"]);
    assert_eq!(lessor.keys(2), None);
}

#[test]
fn only_the_primary_keeps_deadlines_and_a_new_one_starts_with_the_whole_ttl() {
    let (lessor, start) = (empty(), clock::now());
    lessor.add(7, 10, start).unwrap();
    assert_eq!(lessor.renew(7, start), Renewal::NotPrimary);
    assert_eq!(lessor.view(7, false, start), None);
    assert!(!lessor.has_due(start + s(100)));

    lessor.promote(3, ELECTION, start + s(100));
    let view = lessor.view(7, true, start + s(100)).unwrap();
    assert_eq!((view.ttl, view.granted), (11, 10));
    assert!(!lessor.has_due(start + s(110)));
    assert!(lessor.has_due(start + s(111)));

    lessor.demote();
    assert!(!lessor.has_due(start + s(1000)));
    assert_eq!((lessor.primary(), lessor.renew(7, start)), (None, Renewal::NotPrimary));
}

#[test]
fn a_renewal_moves_the_deadline_unless_the_lease_has_expired() {
    let (lessor, start) = (empty(), clock::now());
    lessor.promote(1, ELECTION, start);
    lessor.add(7, 10, start).unwrap();
    assert_eq!(lessor.add(7, 5, start), Err(Error::LeaseExists));
    assert_eq!(lessor.renew(7, start + s(9)), Renewal::Renewed(10));
    assert!(due(&lessor, start + s(18)).is_empty());
    assert_eq!(lessor.view(7, false, start + s(18)).unwrap().ttl, 1);
    assert_eq!(lessor.renew(7, start + s(19)), Renewal::Expired);
    assert_eq!(lessor.view(7, false, start + s(19)), None);
    let at = start + s(20);
    assert_eq!(lessor.take_due(at, 10), [Due { lease: 7, overdue: s(1) }]);
    lessor.take_away(7);
    assert_eq!(lessor.renew(7, at), Renewal::NotFound);
}

/// The id was taken as due before its first lease was revoked, and then another lease got it.
#[test]
fn a_lease_with_the_id_of_an_expired_one_has_not_expired() {
    let (lessor, start) = (empty(), clock::now());
    lessor.promote(1, ELECTION, start);
    lessor.add(7, 5, start).unwrap();
    assert!(!lessor.is_over(7, start + s(4)));
    let now = start + s(5);
    assert_eq!(due(&lessor, now), [7]);
    assert!(lessor.is_over(7, now), "its revocation is awaited");
    lessor.take_away(7);
    assert!(!lessor.is_over(7, now));
    lessor.add(7, 5, now).unwrap();
    assert!(!lessor.is_over(7, now));
    assert!(lessor.is_over(7, now + s(5)));
}

#[test]
fn due_leases_come_in_order_in_portions_and_again_until_they_are_revoked() {
    let (lessor, start) = (empty(), clock::now());
    lessor.promote(1, ELECTION, start);
    for (lease, ttl) in [(1, 5), (2, 3), (3, 4), (4, 60)] {
        lessor.add(lease, ttl, start).unwrap();
    }
    assert_eq!(lessor.list(), [2, 3, 1, 4]);
    let at = start + s(10);
    let portion: Vec<i64> = lessor.take_due(at, 2).iter().map(|due| due.lease).collect();
    assert_eq!(portion, [2, 3]);
    assert_eq!(due(&lessor, at), [1]);
    assert!(due(&lessor, at + ms(2999)).is_empty());
    lessor.take_away(3);
    assert_eq!(due(&lessor, at + s(3)), [1, 2]);
}

#[test]
fn deadlines_that_coincide_after_a_change_of_leader_are_spread() {
    let (lessor, start) = (empty(), clock::now());
    for lease in 1..=3500 {
        lessor.add(lease, 10, start).unwrap();
    }
    lessor.promote(1, ELECTION, start);
    let mut at = start + s(11);
    for expected in [1000, 1000, 1000, 500] {
        let due = due(&lessor, at);
        assert_eq!(due.len(), expected);
        for lease in due {
            lessor.take_away(lease);
        }
        at += s(1);
    }
}

/// A key space to which entries are applied, one per batch.
struct Space {
    folder: TempDir,
    store: Arc<Store>,
    index: u64,
}

impl Space {
    fn new() -> Space {
        let folder = TempDir::new().unwrap();
        let store = Store::open(Space::backend(&folder)).unwrap();
        Space { folder, store, index: 0 }
    }

    fn backend(folder: &TempDir) -> Arc<Backend> {
        Backend::open(&folder.path().join("db"), Options::default()).unwrap()
    }

    fn reopen(self) -> Space {
        let Space { folder, store, index } = self;
        store.backend().stop();
        drop(store);
        let store = Store::open(Space::backend(&folder)).unwrap();
        Space { folder, store, index }
    }

    fn apply<T>(&mut self, entry: impl FnOnce(&mut Batch<'_>, u64) -> T) -> T {
        self.index += 1;
        let mut batch = self.store.batch();
        let outcome = entry(&mut batch, self.index);
        batch.set_applied(self.index, 1);
        outcome
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Result<i64, Error> {
        let request = LeaseGrantRequest { id, ttl };
        let response = self.apply(|batch, entry| batch.lease_grant(entry, &request, 2));
        response.map(|response| response.ttl)
    }

    fn revoke(&mut self, id: i64) -> Result<i64, Error> {
        let request = LeaseRevokeRequest { id };
        let response = self.apply(|batch, entry| batch.lease_revoke(entry, &request));
        response.map(|response| response.header.unwrap().revision)
    }

    fn put(&mut self, request: &PutRequest) -> Result<(), Error> {
        self.apply(|batch, entry| batch.kv(entry, KvRequest::Put(request), ReplyTo::Client))
            .map(|_| ())
    }

    fn keys(&self, lease: i64) -> Vec<String> {
        keys(self.store.lessor(), lease)
    }

    fn count(&self, revision: i64) -> i64 {
        let all = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            revision,
            ..RangeRequest::default()
        };
        self.store.range(0, &all).unwrap().count
    }
}

fn put(key: &'static str, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), lease, ..PutRequest::default() }
}

#[test]
fn grants_are_raised_refused_and_not_repeated_as_in_etcd() {
    let mut space = Space::new();
    assert_eq!(space.grant(1, -5), Ok(2));
    assert_eq!(space.grant(1, 5), Err(Error::LeaseExists));
    assert_eq!(space.grant(2, 9_000_000_000), Ok(9_000_000_000));
    assert_eq!(space.grant(3, 9_000_000_001), Err(Error::LeaseTtlTooLarge));
    assert_eq!(space.grant(-4, 3), Ok(3));
    assert_eq!(space.grant(0, 3), Err(Error::LeaseNotFound));
    assert_eq!(space.store.lessor().list(), [-4, 1, 2]);
}

#[test]
fn a_revocation_takes_one_revision_for_all_keys_and_none_without_keys() {
    let mut space = Space::new();
    space.grant(1, 10).unwrap();
    space.grant(2, 10).unwrap();
    for key in ["b", "a", "c"] {
        space.put(&put(key, 1)).unwrap();
    }
    space.put(&put("d", 0)).unwrap();
    assert_eq!(space.revoke(2), Ok(5));
    assert_eq!(space.revoke(1), Ok(6));
    assert_eq!((space.count(5), space.count(0)), (4, 1));
    assert_eq!(space.revoke(1), Err(Error::LeaseNotFound));
    assert_eq!(space.put(&put("e", 1)), Err(Error::LeaseNotFound));
}

#[test]
fn puts_and_deletions_attach_and_detach() {
    let mut space = Space::new();
    space.grant(1, 10).unwrap();
    space.grant(2, 10).unwrap();
    for key in ["a", "b", "c", "d"] {
        space.put(&put(key, 1)).unwrap();
    }
    space.put(&put("a", 0)).unwrap();
    space.put(&put("b", 2)).unwrap();
    space.put(&PutRequest { ignore_lease: true, ..put("c", 0) }).unwrap();
    let delete = DeleteRangeRequest { key: "d".into(), ..DeleteRangeRequest::default() };
    space
        .apply(|batch, entry| batch.kv(entry, KvRequest::DeleteRange(&delete), ReplyTo::Client))
        .unwrap();
    assert_eq!((space.keys(1), space.keys(2)), (vec!["c".to_owned()], vec!["b".to_owned()]));
}

#[test]
fn a_txn_that_names_an_unknown_lease_writes_nothing() {
    let mut space = Space::new();
    space.grant(1, 10).unwrap();
    let op = |put| RequestOp { request: Some(request_op::Request::RequestPut(put)) };
    let txn = |lease| {
        let success = vec![op(put("a", 1)), op(put("b", lease))];
        Txn::expand(TxnRequest { success, ..TxnRequest::default() }, 128).unwrap()
    };
    let refused = txn(9);
    let result =
        space.apply(|batch, entry| batch.kv(entry, KvRequest::Txn(&refused), ReplyTo::Client));
    assert_eq!(result.err(), Some(Error::LeaseNotFound));
    assert_eq!((space.store.revision(), space.keys(1).len()), (1, 0));
    let taken = txn(1);
    space.apply(|batch, entry| batch.kv(entry, KvRequest::Txn(&taken), ReplyTo::Client)).unwrap();
    assert_eq!(space.keys(1), ["a", "b"]);
}

#[test]
fn leases_and_their_keys_survive_a_restart() {
    let mut space = Space::new();
    for lease in 1..=3 {
        space.grant(lease, 10 * lease).unwrap();
    }
    for (key, lease) in [("a", 1), ("b", 1), ("c", 1), ("d", 3), ("a", 2), ("b", 0)] {
        space.put(&put(key, lease)).unwrap();
    }
    space.revoke(3).unwrap();
    let mut space = space.reopen();
    assert_eq!(space.store.lessor().list(), [1, 2]);
    assert_eq!((space.keys(1), space.keys(2)), (vec!["c".to_owned()], vec!["a".to_owned()]));
    let now = clock::now();
    space.store.lessor().promote(1, ELECTION, now);
    assert_eq!(space.store.lessor().view(2, false, now).unwrap().granted, 20);
    assert_eq!(space.revoke(1), Ok(9));
    assert_eq!(space.count(0), 2);
}

/// Five minutes, as in etcd.
const INTERVAL: Duration = Duration::from_secs(300);

fn with_checkpoints() -> Lessor {
    let lessor = empty();
    lessor.enable_checkpoints(INTERVAL);
    lessor
}

fn note(lessor: &Lessor, lease: i64, remaining_ttl: i64, now: std::time::Instant) {
    lessor.checkpoint(&[LeaseCheckpoint { id: lease, remaining_ttl }], now, None);
}

/// The checkpoints that are due: lease and remaining seconds.
fn checkpoints(lessor: &Lessor, now: std::time::Instant) -> Vec<(i64, i64)> {
    let due = lessor.take_checkpoints(now, 1000);
    due.iter().map(|checkpoint| (checkpoint.id, checkpoint.remaining_ttl)).collect()
}

#[test]
fn long_leases_are_checkpointed_every_five_minutes_and_short_ones_never() {
    let (lessor, start) = (with_checkpoints(), clock::now());
    lessor.promote(1, ELECTION, start);
    for (lease, ttl) in [(1, 900), (2, 300), (3, 301)] {
        lessor.add(lease, ttl, start).unwrap();
    }
    assert!(!lessor.has_checkpoints(start + s(299)));
    assert!(lessor.has_checkpoints(start + s(300)));
    assert_eq!(checkpoints(&lessor, start + s(300)), [(1, 600), (3, 1)]);
    assert!(checkpoints(&lessor, start + s(300)).is_empty());
    // A fraction of a second counts as a second.
    assert_eq!(checkpoints(&lessor, start + ms(600_001)), [(1, 300)]);
    assert!(checkpoints(&lessor, start + s(899)).is_empty());
}

#[test]
fn only_a_primary_with_checkpoints_enabled_makes_them() {
    let start = clock::now();
    for (lessor, is_primary) in [(empty(), true), (with_checkpoints(), false)] {
        if is_primary {
            lessor.promote(1, ELECTION, start);
        }
        lessor.add(1, 900, start).unwrap();
        note(&lessor, 1, 700, start);
        assert!(!lessor.has_checkpoints(start + s(600)));
    }
    let lessor = with_checkpoints();
    lessor.add(1, 900, start).unwrap();
    lessor.promote(1, ELECTION, start);
    lessor.demote();
    assert!(!lessor.has_checkpoints(start + s(600)));
}

#[test]
fn a_new_leader_continues_from_the_last_checkpoint() {
    let (lessor, start) = (with_checkpoints(), clock::now());
    for lease in 1..=3 {
        lessor.add(lease, 900, start).unwrap();
    }
    note(&lessor, 1, 600, start);
    note(&lessor, 2, 600, start);
    note(&lessor, 2, 0, start);
    note(&lessor, 99, 600, start);
    lessor.promote(2, ELECTION, start);
    let left = |lease| lessor.view(lease, false, start).unwrap();
    assert_eq!((left(1).ttl, left(1).granted), (601, 900));
    assert_eq!((left(2).ttl, left(3).ttl), (901, 901));
    assert_eq!(lessor.list(), [1, 2, 3]);
    assert_eq!(checkpoints(&lessor, start + s(300)), [(1, 301), (2, 601), (3, 601)]);
}

/// Otherwise the next leader would start with less time than the renewal promises.
#[test]
fn a_renewal_waits_until_the_checkpoint_is_cleared() {
    let (lessor, start) = (empty(), clock::now());
    lessor.add(1, 900, start).unwrap();
    note(&lessor, 1, 600, start);
    // Even if this leader makes no checkpoints itself.
    lessor.promote(2, ELECTION, start);
    let now = start + s(100);
    assert_eq!(lessor.renew(1, now), Renewal::Checkpointed);
    assert_eq!(lessor.view(1, false, now).unwrap().ttl, 501);
    note(&lessor, 1, 0, now);
    assert_eq!(lessor.renew(1, now), Renewal::Renewed(900));
    assert_eq!(lessor.view(1, false, now).unwrap().ttl, 900);
    // A lease that has expired meanwhile is not renewed.
    note(&lessor, 1, 600, now);
    assert_eq!(lessor.renew(1, now + s(900)), Renewal::Expired);
}

#[test]
fn a_lease_that_was_just_renewed_is_not_checkpointed_until_the_next_interval() {
    let (lessor, start) = (with_checkpoints(), clock::now());
    lessor.promote(1, ELECTION, start);
    lessor.add(1, 900, start).unwrap();
    assert_eq!(lessor.renew(1, start + s(300)), Renewal::Renewed(900));
    assert!(checkpoints(&lessor, start + s(300)).is_empty());
    assert_eq!(checkpoints(&lessor, start + s(600)), [(1, 600)]);
    lessor.take_away(1);
    assert!(!lessor.has_checkpoints(start + s(10_000)));
}

#[test]
fn many_checkpoints_come_in_portions_and_again_after_an_interval() {
    let (lessor, start) = (with_checkpoints(), clock::now());
    lessor.promote(1, ELECTION, start);
    for lease in 0..2500 {
        lessor.add(lease, 10_000, start).unwrap();
    }
    for round in 1..=2 {
        let at = start + round * INTERVAL;
        let counts = [(); 4].map(|()| lessor.take_checkpoints(at, 1000).len());
        assert_eq!(counts, [1000, 1000, 500, 0]);
    }
}

#[test]
fn a_checkpoint_survives_a_restart_where_it_is_persisted() {
    for (persisted, expected) in [(true, 100), (false, 900)] {
        let mut space = Space::new();
        space.grant(1, 900).unwrap();
        let checkpoints = vec![LeaseCheckpoint { id: 1, remaining_ttl: 100 }];
        let request = LeaseCheckpointRequest { checkpoints };
        space.apply(|batch, entry| batch.lease_checkpoint(entry, &request, persisted));
        let now = clock::now();
        let space = space.reopen();
        space.store.lessor().promote(1, Duration::ZERO, now);
        let view = space.store.lessor().view(1, false, now).unwrap();
        assert_eq!((view.ttl, view.granted), (expected, 900));
    }
}
