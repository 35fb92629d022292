//! The watchers that wait for a change (etcd: `watcherHub`).
//!
//! A watcher is found by its path: a change looks at the node's path and at each directory above
//! it, and the removal of a directory at everything in it. One without `stream` gets one event and
//! is forgotten. Nobody waits for a watcher: one that has not taken a hundred events is given up,
//! and its answer ends (etcd leaves it open, without further events).
//!
//! The removal of a node looks at its own path twice, so a stream there gets two equal events, as
//! from etcd.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{event::Event, path::Path};

/// Events that a watcher may leave in its queue.
const QUEUE: usize = 100;

/// What a watcher wants to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Changes below the path, too.
    pub(crate) recursive: bool,
    /// All changes, and not only the next one.
    pub(crate) stream: bool,
    /// The first index that counts; 0: the next one.
    pub(crate) since: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    wish: Wish,
    events: Sender<Arc<Event>>,
}

/// The watchers by path.
#[derive(Debug, Default)]
pub(super) struct Hub {
    waiting: HashMap<Path, Vec<Waiting>>,
    last_number: u64,
    /// How many watchers wait.
    pub(super) count: usize,
}

/// The path at which watchers are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// That of the change, or a directory above it.
    Above,
    /// That of a node that was removed, alone or with its directory.
    Removed,
}

impl Hub {
    /// Adds a watcher, and returns the number by which it is removed.
    pub(super) fn add(&mut self, key: &Path, wish: Wish) -> (u64, Receiver<Arc<Event>>) {
        let (events, receiver) = channel(QUEUE);
        self.last_number += 1;
        let number = self.last_number;
        self.waiting.entry(key.clone()).or_default().push(Waiting { number, wish, events });
        self.count += 1;
        (number, receiver)
    }

    /// Forgets a watcher, if it still waits.
    pub(super) fn remove(&mut self, key: &Path, number: u64) {
        self.retain(key, |waiting| waiting.number != number);
    }

    /// Ends all watchers.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.count = 0;
    }

    /// Tells the watchers of the node, and of the directories above it. Returns how many.
    pub(super) fn notify(&mut self, event: &Arc<Event>) -> usize {
        if self.count == 0 {
            return 0;
        }
        let key = &event.node.key;
        key.prefixes().map(|path| self.notify_at(event, &path, Place::Above)).sum()
    }

    /// Tells the watchers at one path.
    pub(super) fn notify_at(&mut self, event: &Arc<Event>, path: &Path, place: Place) -> usize {
        let is_own = event.node.key == *path;
        if self.count == 0 || (!is_own && path.hides(&event.node.key)) {
            return 0;
        }
        let mut told = 0;
        self.retain(path, |waiting| {
            let wanted = waiting.wish.recursive || is_own || place == Place::Removed;
            if !wanted || event.index() < waiting.wish.since {
                return true;
            }
            told += 1;
            let is_taken = waiting.events.try_send(Arc::clone(event)).is_ok();
            is_taken && waiting.wish.stream
        });
        told
    }

    fn retain(&mut self, path: &Path, keep: impl FnMut(&Waiting) -> bool) {
        let Some(list) = self.waiting.get_mut(path) else { return };
        let before = list.len();
        list.retain(keep);
        self.count -= before - list.len();
        if list.is_empty() {
            self.waiting.remove(path);
        }
    }
}
