//! The key space against a simple model, which copies all keys for each revision. Restarts, commits
//! and steps of compaction happen at random, and must not change any answer.

use std::collections::BTreeMap;

use super::*;
use crate::{
    pb::etcdserverpb::{RequestOp, TxnRequest, request_op::Request},
    random::Random,
};

fn random_key(random: &mut Random) -> String {
    format!("k{}", random.below(12))
}

/// A revision from 0 to one above the current one.
fn random_revision(random: &mut Random, current: i64) -> i64 {
    i64::try_from(random.below(u64::try_from(current).unwrap() + 2)).unwrap()
}

#[derive(Clone, Debug, PartialEq)]
struct Value {
    value: String,
    created: i64,
    modified: i64,
    version: i64,
}

type Keys = BTreeMap<String, Value>;

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

struct Model {
    /// `states[n]` is the key space at revision n + 1.
    states: Vec<Keys>,
    compacted: i64,
}

impl Model {
    fn revision(&self) -> i64 {
        i64::try_from(self.states.len()).unwrap()
    }

    fn put(keys: &mut Keys, key: String, value: String, modified: i64) {
        let old = keys.get(&key);
        let created = old.map_or(modified, |old| old.created);
        let version = old.map_or(1, |old| old.version + 1);
        keys.insert(key, Value { value, created, modified, version });
    }

    fn at(&self, revision: i64) -> Result<&Keys, Error> {
        let at = if revision <= 0 { self.revision() } else { revision };
        if at > self.revision() {
            return Err(Error::FutureRevision);
        }
        if at < self.compacted {
            return Err(Error::Compacted);
        }
        Ok(&self.states[usize::try_from(at - 1).unwrap()])
    }
}

fn within(key: &str, from: &str, end: &str) -> bool {
    match end {
        "" => key == from,
        "\0" => key >= from,
        end => key >= from && key < end,
    }
}

struct Check {
    random: Random,
    space: Option<Space>,
    model: Model,
}

impl Check {
    fn space(&mut self) -> &mut Space {
        self.space.as_mut().unwrap()
    }

    fn end(&mut self) -> String {
        match self.random.below(4) {
            0 => random_key(&mut self.random),
            1 => "\0".to_owned(),
            _ => String::new(),
        }
    }

    fn put(&mut self) {
        let key = random_key(&mut self.random);
        let value = self.random.below(1000).to_string();
        let mut keys = self.model.states.last().unwrap().clone();
        let revision = self.model.revision() + 1;
        Model::put(&mut keys, key.clone(), value.clone(), revision);
        self.model.states.push(keys);
        assert_eq!(self.space().put(&key, &value), revision);
    }

    fn delete(&mut self) {
        let (key, end) = (random_key(&mut self.random), self.end());
        let mut keys = self.model.states.last().unwrap().clone();
        let before = keys.len();
        keys.retain(|other, _| !within(other, &key, &end));
        let deleted = before - keys.len();
        if deleted > 0 {
            self.model.states.push(keys);
        }
        let expected = (i64::try_from(deleted).unwrap(), self.model.revision());
        assert_eq!(self.space().delete(&key, &end), expected);
    }

    /// A transaction of puts and deletions in any order, with a read of a revision that may be
    /// unreadable. It may write a key more than once: the check for overlaps does not see deletions
    /// without an upper bound, so one transaction may delete a key and put it again.
    fn txn(&mut self) {
        let revision = random_revision(&mut self.random, self.model.revision());
        let read = RangeRequest {
            key: text(&random_key(&mut self.random)),
            revision,
            ..Default::default()
        };
        let mut ops = vec![Request::RequestRange(read)];
        let mut keys = self.model.states.last().unwrap().clone();
        let (next, mut changes) = (self.model.revision() + 1, 0);
        for _ in 0..=self.random.below(4) {
            let key = random_key(&mut self.random);
            if self.random.below(2) == 0 {
                let put = PutRequest { key: text(&key), value: text("t"), ..Default::default() };
                ops.push(Request::RequestPut(put));
                Model::put(&mut keys, key, "t".to_owned(), next);
                changes += 1;
            } else {
                let end = self.end();
                let (from, range_end) = (text(&key), text(&end));
                let delete = DeleteRangeRequest { key: from, range_end, prev_kv: false };
                ops.push(Request::RequestDeleteRange(delete));
                let before = keys.len();
                keys.retain(|other, _| !within(other, &key, &end));
                changes += before - keys.len();
            }
        }
        let expected = self.model.at(revision).map(|_| ());
        if expected.is_ok() && changes > 0 {
            self.model.states.push(keys);
        }
        let request =
            TxnRequest { success: ops.into_iter().map(op).collect(), ..Default::default() };
        assert_eq!(self.space().apply(KvRequest::Txn(&expand(&request))).map(drop), expected);
    }

    /// Compacts, often at the newest revision.
    fn compact(&mut self) {
        let newest = self.model.revision();
        let revision = if self.random.below(2) == 0 {
            newest
        } else {
            random_revision(&mut self.random, newest)
        };
        let expected = if revision <= self.model.compacted {
            Err(Error::Compacted)
        } else if revision > self.model.revision() {
            Err(Error::FutureRevision)
        } else {
            self.model.compacted = revision;
            Ok(())
        };
        assert_eq!(self.space().compact(revision), expected);
    }

    fn range(&mut self) {
        let (key, end) = (random_key(&mut self.random), self.end());
        let revision = random_revision(&mut self.random, self.model.revision());
        let (from, range_end) = (text(&key), text(&end));
        let request = RangeRequest { key: from, range_end, revision, ..RangeRequest::default() };
        let found = self.space().range(&request).map(|response| {
            assert_eq!(usize::try_from(response.count).unwrap(), response.kvs.len());
            let value = |kv: crate::pb::mvccpb::KeyValue| {
                let value = Value {
                    value: show(&kv.value),
                    created: kv.create_revision,
                    modified: kv.mod_revision,
                    version: kv.version,
                };
                (show(&kv.key), value)
            };
            response.kvs.into_iter().map(value).collect::<Vec<_>>()
        });
        let expected = self.model.at(revision).map(|keys| {
            let keys = keys.iter().filter(|(other, _)| within(other, &key, &end));
            keys.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
        });
        assert_eq!(found, expected, "{request:?}");
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..5 => self.put(),
            5..7 => self.delete(),
            7..9 => self.txn(),
            9 => self.compact(),
            10..13 => {
                let limit = usize::try_from(self.random.below(5)).unwrap();
                self.space().store.step_compaction(limit);
            }
            13 => self.space().store.backend().commit_now(),
            14 if self.random.below(5) == 0 => {
                let hash = self.space().hash(0);
                let space = self.space.take().unwrap().restart();
                assert_eq!(space.hash(0), hash);
                self.space = Some(space);
            }
            _ => self.range(),
        }
        assert_eq!(self.space().store.revision(), self.model.revision());
        assert_eq!(self.space().store.compacted(), self.model.compacted);
    }
}

impl Space {
    /// Deletes all keys from `key` on and puts `key` again, in one transaction.
    fn delete_and_put(&mut self, key: &str) -> i64 {
        let (key, range_end, value) = (text(key), text("\0"), text("again"));
        let delete = DeleteRangeRequest { key: key.clone(), range_end, prev_kv: false };
        let put = PutRequest { key, value, ..PutRequest::default() };
        let ops = [Request::RequestDeleteRange(delete), Request::RequestPut(put)];
        let request = TxnRequest { success: ops.map(op).to_vec(), ..TxnRequest::default() };
        match self.apply(KvRequest::Txn(&expand(&request))) {
            Ok(KvResponse::Txn(response)) => response.header.unwrap().revision,
            other => panic!("{other:?}"),
        }
    }
}

/// As in etcd, a transaction may delete a key and put it, if the deletion has no upper bound.
#[test]
fn a_key_that_one_transaction_deletes_and_puts_survives_a_compaction_at_that_revision() {
    let mut space = Space::new();
    space.put("b", "1");
    space.put("c", "1");
    let revision = space.delete_and_put("b");
    space.compact(revision).unwrap();
    let hash = space.hash(0);
    while space.store.step_compaction(1) {}
    let now = RangeRequest { revision, ..all() };
    for step in 0..3 {
        assert_eq!(space.pairs(&now), [("b".to_owned(), "again".to_owned())], "step {step}");
        let kv = space.range(&now).unwrap().kvs.remove(0);
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (revision, revision, 1));
        assert_eq!(space.hash(0), hash, "step {step}");
        space = space.restart();
    }
    let put = space.put("b", "2");
    space.compact_rows(put);
    let space = space.restart();
    assert_eq!(space.range(&all()).unwrap().kvs[0].version, 2);
}

#[test]
fn the_key_space_agrees_with_the_model() {
    for seed in 1..=12 {
        let model = Model { states: vec![Keys::new()], compacted: -1 };
        let random = Random::new(seed);
        let mut check = Check { random, space: Some(Space::new()), model };
        for _ in 0..600 {
            check.step();
        }
    }
}

/// Two members apply the same entries, and compact and restart at different times.
#[test]
fn members_whose_compactions_and_restarts_differ_agree_on_the_hash() {
    for seed in 1..=6 {
        let mut random = Random::new(seed);
        let mut members = [Space::new(), Space::new()];
        for _ in 0..300 {
            let (key, choice) = (random_key(&mut random), random.below(10));
            let revision = random_revision(&mut random, members[0].store.revision());
            let outcomes = members.each_mut().map(|member| match choice {
                3 => member.delete_and_put(&key) > 0,
                0 => member.compact(revision).is_ok(),
                1 | 2 => member.delete(&key, "").0 > 0,
                _ => member.put(&key, "v") > 0,
            });
            assert_eq!(outcomes[0], outcomes[1]);
            members[usize::try_from(random.below(2)).unwrap()].store.step_compaction(2);
            let [first, second] = members;
            members =
                if random.below(60) == 0 { [first.restart(), second] } else { [first, second] };
            let at = random_revision(&mut random, members[0].store.revision());
            assert_eq!(members[0].store.hash_kv(0, at), members[1].store.hash_kv(0, at), "at {at}");
        }
    }
}
