//! Random writes, watchers, reads and compactions against a model: each watcher gets every event
//! once and in order.

use std::collections::BTreeMap;

use super::*;
use crate::random::Random;

/// The model of a watcher.
struct Expected {
    key: String,
    end: String,
    filters: Filters,
    /// The first revision that it has not received.
    next: i64,
}

impl Expected {
    fn wants(&self, event: &Event) -> bool {
        let kv = event.kv.as_ref().unwrap();
        let is_put = event.r#type == EventType::Put as i32;
        KeyRange::new(self.key.as_bytes(), self.end.as_bytes()).contains(&kv.key)
            && !(if is_put { self.filters.puts } else { self.filters.deletes })
    }

    /// The events that it is still to receive, up to revision `last`.
    fn of(&self, history: &[(i64, Vec<Event>)], last: i64) -> Vec<String> {
        let wanted = history.iter().filter(|(at, _)| self.next <= *at && *at <= last);
        let events = wanted.flat_map(|(_, events)| events).filter(|event| self.wants(event));
        events.map(line).collect()
    }
}

struct World {
    random: Random,
    seed: u64,
    space: Space,
    /// The events of all revisions.
    history: Vec<(i64, Vec<Event>)>,
    clients: Vec<(Client, BTreeMap<i64, Expected>)>,
    /// The number of watchers that a compaction has cancelled.
    compacted: usize,
    /// The number of victims, summed over all steps.
    victims: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random::new(seed),
            seed,
            space: Space::new(),
            history: Vec::new(),
            clients: Vec::new(),
            compacted: 0,
            victims: 0,
        };
        for _ in 0..4 {
            let queue_len = 1 + usize::try_from(world.random.below(3)).unwrap();
            let client = Client::of(&world.space, queue_len);
            world.clients.push((client, BTreeMap::new()));
        }
        world
    }

    fn key(&mut self) -> String {
        format!("k{}", self.random.below(8))
    }

    /// One to three puts and deletions of different keys, in one transaction.
    fn write(&mut self) {
        let mut ops: BTreeMap<String, Option<String>> = BTreeMap::new();
        for _ in 0..=self.random.below(3) {
            let (key, value) = (self.key(), self.random.below(1000).to_string());
            ops.insert(key, (self.random.below(3) > 0).then_some(value));
        }
        let revision = self.space.store.revision() + 1;
        let keys = self.space.keys(&all());
        let event = |key: &str, value: &Option<String>| {
            let kind = if value.is_some() { EventType::Put } else { EventType::Delete };
            let value = text(value.as_deref().unwrap_or_default());
            let (key, mod_revision) = (text(key), revision);
            let kv = Some(crate::pb::mvccpb::KeyValue {
                key,
                value,
                mod_revision,
                ..Default::default()
            });
            Event { r#type: kind as i32, kv, prev_kv: None }
        };
        let happens = |(key, value): &(&String, &Option<String>)| {
            value.is_some() || keys.contains(key.as_str())
        };
        let events: Vec<Event> =
            ops.iter().filter(happens).map(|(key, value)| event(key, value)).collect();
        let success = ops.iter().map(|(key, value)| match value {
            Some(value) => put_op(key, value),
            None => delete_op(key),
        });
        let txn = TxnRequest { success: success.collect(), ..TxnRequest::default() };
        self.space.apply(KvRequest::Txn(&expand(&txn))).unwrap();
        if !events.is_empty() {
            self.history.push((revision, events));
        }
    }

    fn watch(&mut self) {
        let at = usize::try_from(self.random.below(4)).unwrap();
        let current = self.space.store.revision();
        let start = i64::try_from(self.random.below(u64::try_from(current).unwrap() + 8)).unwrap();
        let (key, mut end) = (self.key(), String::new());
        match self.random.below(4) {
            0 => end = "\0".to_owned(),
            1 => end = self.key(),
            _ => {}
        }
        let filters =
            Filters { puts: self.random.below(6) == 0, deletes: self.random.below(6) == 0 };
        let (client, expected) = &mut self.clients[at];
        if let Ok(id) = client.create(&WatchRequest { filters, ..request(&key, &end, start) }) {
            let next = if start == 0 { current + 1 } else { start };
            expected.insert(id, Expected { key, end, filters, next });
        }
    }

    fn cancel(&mut self) {
        let at = usize::try_from(self.random.below(4)).unwrap();
        let (client, expected) = &mut self.clients[at];
        if let Some((id, _)) = expected.pop_first() {
            assert!(client.stream.cancel(id));
        }
    }

    /// Takes one notice out of a queue, and compares it with the model. Returns false if there is
    /// none.
    fn read(&mut self, at: usize) -> bool {
        let (client, expected) = &mut self.clients[at];
        let Ok(notice) = client.notices.try_recv() else { return false };
        let is_wanted = client.stream.is_wanted(&notice);
        let context = format!("seed {}: {notice:?}", self.seed);
        match notice.news {
            News::StreamProgress(revision) if is_wanted => {
                for watcher in expected.values() {
                    assert!(watcher.of(&self.history, revision).is_empty(), "{context}");
                }
            }
            News::StreamProgress(_) => {}
            _ if !is_wanted => assert!(!expected.contains_key(&notice.watch_id), "{context}"),
            News::Compacted(revision) => {
                let watcher = expected.remove(&notice.watch_id).expect(&context);
                assert!(watcher.next < revision, "{context}");
                assert!(revision <= self.space.store.compacted(), "{context}");
                assert!(client.stream.cancel(notice.watch_id));
                self.compacted += 1;
            }
            News::Progress(revision) => {
                let watcher = expected.get(&notice.watch_id).expect(&context);
                assert!(watcher.of(&self.history, revision).is_empty(), "{context}");
            }
            News::Events(news) => {
                let watcher = expected.get_mut(&notice.watch_id).expect(&context);
                let last = news.events.last().unwrap().kv.as_ref().unwrap().mod_revision;
                assert!(last <= news.revision, "{context}");
                let events: Vec<String> = news.events.iter().map(line).collect();
                assert_eq!(events, watcher.of(&self.history, last), "{context}");
                watcher.next = last + 1;
            }
        }
        true
    }

    fn step(&mut self) {
        let at = usize::try_from(self.random.below(4)).unwrap();
        match self.random.below(20) {
            0..7 => self.write(),
            7..9 => self.watch(),
            9 => self.cancel(),
            10..15 => _ = self.read(at),
            15 => match self.clients[at].1.first_key_value() {
                Some((id, _)) if self.random.below(2) == 0 => {
                    self.clients[at].0.stream.request_progress(*id);
                }
                _ => self.clients[at].0.stream.request_progress_all(),
            },
            16 => _ = self.space.store.sync_watchers(),
            17 => _ = self.space.store.retry_victims(),
            18 => _ = self.space.store.step_compaction(3),
            _ => {
                let current = self.space.store.revision();
                let back = i64::try_from(self.random.below(30)).unwrap();
                let _ = self.space.compact((current - back).max(1));
            }
        }
        self.victims += self.space.store.watcher_counts().2;
    }

    /// Reads all queues until nothing more comes, and checks that every event has arrived.
    fn finish(&mut self) {
        loop {
            let has_victims = self.space.store.retry_victims();
            let is_behind = self.space.store.sync_watchers();
            let mut was_read = false;
            for at in 0..4 {
                while self.read(at) {
                    was_read = true;
                }
            }
            if !(has_victims || is_behind || was_read) {
                break;
            }
        }
        let current = self.space.store.revision();
        for (_, expected) in &self.clients {
            for (id, watcher) in expected {
                let missing = watcher.of(&self.history, current);
                assert!(missing.is_empty(), "seed {}, {id} missed {missing:?}", self.seed);
            }
        }
    }
}

#[test]
fn watchers_get_every_event_once_and_in_order() {
    let (mut compacted, mut victims) = (0, 0);
    for seed in 1..=40 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        world.finish();
        compacted += world.compacted;
        victims += world.victims;
    }
    // Otherwise the test has exercised too little.
    assert!(compacted > 20 && victims > 1000, "{compacted}, {victims}");
}
