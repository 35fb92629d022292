//! The store as a state machine: one request in, an answer and the changed nodes out (etcd:
//! `store`, `node`).
//!
//! Invariants
//! * A request that is refused changes nothing but counters.
//! * Each change raises the index by one and leaves one event in the window, so indexes in the
//!   window have no gaps.
//! * `expiring` has exactly the nodes that have a time of expiry.
//! * Nodes and events depend on the requests alone. Only the TTL that an event shows depends on the
//!   clock of the member.
//!
//! The order of the checks is etcd's, because clients see the first error.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    error::{Code, Refusal},
    event::{Action, Event, View, Window},
    hub::{Hub, Place},
    path::Path,
    stats::{Kind, Writes},
};

/// The directory of clients' keys (etcd: StoreKeysPrefix). etcd keeps its members in `/0`.
pub(super) const KEYS: &[u8] = b"/1";
pub(super) const CLUSTER: &[u8] = b"/0";

/// A time of expiry before this means none in new nodes: 2000-01-01 (etcd: minExpireTime).
const EXPIRES_MIN: i64 = 946_684_800_000_000_000;

const NANOS: i64 = 1_000_000_000;

/// A file or a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Its value; a directory has none.
    pub(super) value: Option<Bytes>,
    pub(super) created: u64,
    pub(super) modified: u64,
    /// When it expires, in nanoseconds since 1970; 0: never.
    pub(super) expires: i64,
}

impl Node {
    pub(super) fn is_dir(&self) -> bool {
        self.value.is_none()
    }

    fn view(&self, key: &Path, now: i64) -> View {
        View {
            key: key.clone(),
            value: self.value.clone(),
            is_dir: self.is_dir(),
            expires: self.expires,
            ttl: ttl(self.expires, now),
            modified: self.modified,
            created: self.created,
        }
    }
}

/// The seconds from `now` to a time of expiry, begun ones included; 0 without one.
pub(super) fn ttl(expires: i64, now: i64) -> i64 {
    if expires == 0 {
        return 0;
    }
    let left = expires.saturating_sub(now);
    left / NANOS + i64::from(0 < left % NANOS)
}

/// How a write sets the time of expiry (etcd: `TTLOptionSet`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ttl {
    /// In nanoseconds since 1970; 0: never.
    pub(super) expires: i64,
    /// Keep the value, and tell no watcher.
    pub(super) is_refresh: bool,
}

/// What a comparison demands; an empty value and the index 0 demand nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'r> {
    pub(super) value: &'r [u8],
    pub(super) index: u64,
}

/// What is to be created, or to take another's place.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// `None` for a directory.
    pub(super) value: Option<Bytes>,
    pub(super) ttl: Ttl,
}

/// The answer to a request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) event: Arc<Event>,
    /// A read's nodes below the one that was asked for, each directory before what is in it.
    pub(crate) below: Vec<View>,
    /// The store's index at that moment.
    pub(crate) index: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<Path, Node>,
    pub(super) expiring: BTreeSet<(i64, Path)>,
    pub(super) index: u64,
    pub(super) window: Window,
    pub(super) writes: Writes,
    pub(super) hub: Hub,
    /// The nodes that the present request has changed, added or removed.
    pub(super) touched: Vec<Path>,
    /// The index of the event that the present request has pushed out of the window.
    pub(super) gone: Vec<u64>,
    /// How many watchers the present request has told something.
    pub(super) told: usize,
}

impl Default for State {
    fn default() -> Self {
        let root = Node { value: None, created: 0, modified: 0, expires: 0 };
        let paths = [b"/", CLUSTER, KEYS].map(Path::clean);
        Self {
            nodes: paths.into_iter().map(|path| (path, root.clone())).collect(),
            expiring: BTreeSet::new(),
            index: 0,
            window: Window::default(),
            writes: Writes::default(),
            hub: Hub::default(),
            touched: Vec::new(),
            gone: Vec::new(),
            told: 0,
        }
    }
}

impl State {
    fn refusal(&self, code: Code, path: &Path) -> Refusal {
        Refusal::new(code, path.text(), self.index)
    }

    fn read_only(&self, path: &Path) -> Result<(), Refusal> {
        let fixed = [b"/", CLUSTER, KEYS].map(Path::clean);
        match fixed.contains(path) {
            true => Err(Refusal::new(Code::RootReadOnly, b"/".to_vec(), self.index)),
            false => Ok(()),
        }
    }

    /// The node at a path. The error names the first component that is missing, or that is a file
    /// and should be a directory.
    fn find(&self, path: &Path) -> Result<&Node, Refusal> {
        for at in path.prefixes() {
            match self.nodes.get(&at) {
                Some(node) if at == *path => return Ok(node),
                Some(node) if node.is_dir() => {}
                Some(_) => return Err(self.refusal(Code::NotDir, &at)),
                None => return Err(self.refusal(Code::KeyNotFound, &at)),
            }
        }
        Err(self.refusal(Code::KeyNotFound, path))
    }

    /// A node, and what is in it: its own nodes, or all below it.
    pub(super) fn get(&self, path: &Path, recursive: bool, now: i64) -> Result<Answer, Refusal> {
        let node = self.find(path)?.view(path, now);
        let below = if node.is_dir { self.below(path, recursive, now) } else { Vec::new() };
        let event = Event { action: Action::Get, node, prev: None, is_refresh: false };
        Ok(Answer { event: Arc::new(event), below, index: self.index })
    }

    fn below(&self, dir: &Path, recursive: bool, now: i64) -> Vec<View> {
        let (mut found, mut from) = (Vec::new(), dir.child(b""));
        let depth = dir.depth() + 1;
        'seek: loop {
            for (path, node) in self.nodes.range(&from..) {
                if !dir.is_above(path) {
                    break 'seek;
                }
                if path.is_hidden() || (!recursive && depth < path.depth()) {
                    // Neither it nor anything below it.
                    let shown = path.prefixes().nth(depth).filter(|_| !path.is_hidden());
                    from = shown.as_ref().unwrap_or(path).after();
                    continue 'seek;
                }
                found.push(node.view(path, now));
            }
            break;
        }
        found
    }

    /// `set`: creates a file or a directory, or replaces a file.
    pub(super) fn set(
        &mut self,
        path: &Path,
        content: Content,
        now: i64,
    ) -> Result<Answer, Refusal> {
        let result = self.try_set(path, content, now);
        self.writes.count(Kind::Set, result.is_ok());
        result
    }

    fn try_set(&mut self, path: &Path, content: Content, now: i64) -> Result<Answer, Refusal> {
        let (found, ttl) = (self.find(path).cloned(), content.ttl);
        let value = match &found {
            Err(refusal) if refusal.code != Code::KeyNotFound || ttl.is_refresh => {
                return Err(refusal.clone());
            }
            Ok(node) if ttl.is_refresh && content.value.is_some() => {
                Some(node.value.clone().unwrap_or_default())
            }
            _ => content.value,
        };
        let prev = found.ok().map(|node| node.view(path, now));
        let node = self.place(path, Content { value, ttl }, true, now)?;
        Ok(self.changed(Event { action: Action::Set, node, prev, is_refresh: ttl.is_refresh }))
    }

    /// `create`: only if there is no such node. `unique`: under the next index, in this directory.
    pub(super) fn create(
        &mut self,
        path: &Path,
        content: Content,
        unique: bool,
        now: i64,
    ) -> Result<Answer, Refusal> {
        let path = match unique {
            true => path.child(format!("{:020}", self.index + 1).as_bytes()),
            false => path.clone(),
        };
        let placed = self.place(&path, content, false, now);
        self.writes.count(Kind::Create, placed.is_ok());
        let event = |node| Event { action: Action::Create, node, prev: None, is_refresh: false };
        placed.map(|node| self.changed(event(node)))
    }

    /// Puts a node at a path, in directories that are made if need be.
    fn place(
        &mut self,
        path: &Path,
        content: Content,
        replace: bool,
        now: i64,
    ) -> Result<View, Refusal> {
        self.read_only(path)?;
        let dir = path.parent().unwrap_or_default();
        let file = dir.prefixes().find(|at| self.nodes.get(at).is_some_and(|it| !it.is_dir()));
        if let Some(file) = file {
            self.writes.count(Kind::Set, false);
            return Err(self.refusal(Code::NotDir, &file));
        }
        match self.nodes.get(path) {
            Some(_) if !replace => return Err(self.refusal(Code::NodeExist, path)),
            Some(node) if node.is_dir() => return Err(self.refusal(Code::NotFile, path)),
            _ => {}
        }
        let next = self.index + 1;
        let made: Vec<Path> = dir.prefixes().filter(|at| !self.nodes.contains_key(at)).collect();
        for at in made {
            let node = Node { value: None, created: next, modified: next, expires: 0 };
            self.store(at, node);
        }
        let Content { value, ttl: Ttl { expires, .. } } = content;
        let expires = if expires < EXPIRES_MIN { 0 } else { expires };
        let node = Node { value, created: next, modified: next, expires };
        let view = node.view(path, now);
        self.store(path.clone(), node);
        Ok(view)
    }

    /// `update`: the value and the TTL of a file, or the TTL of a directory, whose index stays (as
    /// in etcd 3.4; 3.5 refuses it).
    pub(super) fn update(
        &mut self,
        path: &Path,
        content: Content,
        now: i64,
    ) -> Result<Answer, Refusal> {
        let result = self.try_update(path, content, now);
        let is_counted = match &result {
            Ok(_) => true,
            Err(refusal) => matches!(refusal.code, Code::RootReadOnly | Code::NotFile),
        };
        self.writes.count(Kind::Update, is_counted);
        result
    }

    fn try_update(&mut self, path: &Path, content: Content, now: i64) -> Result<Answer, Refusal> {
        self.read_only(path)?;
        let mut node = self.find(path)?.clone();
        let value = content.value.unwrap_or_default();
        if node.is_dir() && !value.is_empty() {
            return Err(self.refusal(Code::NotFile, path));
        }
        let (prev, next) = (node.view(path, now), self.index + 1);
        if node.value.is_some() {
            let kept = node.value.take().filter(|_| content.ttl.is_refresh);
            node.value = Some(kept.unwrap_or(value));
            node.modified = next;
        }
        node.expires = content.ttl.expires;
        let view = View { modified: next, ..node.view(path, now) };
        self.store(path.clone(), node);
        Ok(self.changed(Event {
            action: Action::Update,
            node: view,
            prev: Some(prev),
            is_refresh: content.ttl.is_refresh,
        }))
    }

    /// `compareAndSwap`: only if the file has the value and the index that are expected.
    pub(super) fn compare_and_swap(
        &mut self,
        path: &Path,
        expected: Expected<'_>,
        content: Content,
        now: i64,
    ) -> Result<Answer, Refusal> {
        let result = self.try_swap(path, expected, content, now);
        let is_counted = match &result {
            Ok(_) => true,
            Err(refusal) => refusal.code == Code::RootReadOnly,
        };
        self.writes.count(Kind::CompareAndSwap, is_counted);
        result
    }

    fn try_swap(
        &mut self,
        path: &Path,
        expected: Expected<'_>,
        content: Content,
        now: i64,
    ) -> Result<Answer, Refusal> {
        self.read_only(path)?;
        let mut node = self.find_file(path, expected)?;
        let prev = node.view(path, now);
        if !content.ttl.is_refresh {
            node.value = Some(content.value.unwrap_or_default());
        }
        node.modified = self.index + 1;
        node.expires = content.ttl.expires;
        let view = node.view(path, now);
        self.store(path.clone(), node);
        Ok(self.changed(Event {
            action: Action::CompareAndSwap,
            node: view,
            prev: Some(prev),
            is_refresh: content.ttl.is_refresh,
        }))
    }

    /// `compareAndDelete`: the same, for a deletion. What fails after the file was found is counted
    /// as a success.
    pub(super) fn compare_and_delete(
        &mut self,
        path: &Path,
        expected: Expected<'_>,
        now: i64,
    ) -> Result<Answer, Refusal> {
        let is_counted = self.find(path).is_ok();
        self.writes.count(Kind::CompareAndDelete, is_counted);
        let node = self.find_file(path, expected)?;
        Ok(self.removed(Action::CompareAndDelete, path, &node, now))
    }

    /// `delete`: a file, an empty directory with `dir`, any directory with `recursive`.
    pub(super) fn delete(
        &mut self,
        path: &Path,
        dir: bool,
        recursive: bool,
        now: i64,
    ) -> Result<Answer, Refusal> {
        let found = self.check_delete(path, dir, recursive);
        let is_counted = match &found {
            Ok(_) => true,
            Err(refusal) => refusal.code == Code::RootReadOnly,
        };
        self.writes.count(Kind::Delete, is_counted);
        let node = found?;
        Ok(self.removed(Action::Delete, path, &node, now))
    }

    fn check_delete(&self, path: &Path, dir: bool, recursive: bool) -> Result<Node, Refusal> {
        self.read_only(path)?;
        let node = self.find(path)?;
        if node.is_dir() && !dir && !recursive {
            return Err(self.refusal(Code::NotFile, path));
        }
        let first = self.nodes.range(path.child(b"")..).next();
        if !recursive && first.is_some_and(|(first, _)| path.is_above(first)) {
            return Err(self.refusal(Code::DirNotEmpty, path));
        }
        Ok(node.clone())
    }

    fn find_file(&self, path: &Path, expected: Expected<'_>) -> Result<Node, Refusal> {
        let node = self.find(path)?;
        let Some(value) = &node.value else { return Err(self.refusal(Code::NotFile, path)) };
        let Expected { value: wanted, index } = expected;
        let is_value = wanted.is_empty() || value == wanted;
        let is_index = index == 0 || index == node.modified;
        if is_value && is_index {
            return Ok(node.clone());
        }
        let values = || [b"[", wanted, b" != ", value, b"]"].concat();
        let indexes = || format!("[{index} != {}]", node.modified).into_bytes();
        let cause = match (is_value, is_index) {
            (true, false) => indexes(),
            (false, true) => values(),
            _ => [values(), indexes()].join(&b' '),
        };
        Err(Refusal::new(Code::TestFailed, cause, self.index))
    }

    /// Removes the nodes whose time is over at `cutoff`, the earliest first.
    pub(super) fn expire(&mut self, cutoff: i64, now: i64) {
        while let Some((expires, path)) = self.expiring.first().cloned() {
            if cutoff < expires {
                return;
            }
            let Some(node) = self.nodes.get(&path).cloned() else {
                self.expiring.remove(&(expires, path));
                continue;
            };
            self.writes.expired += 1;
            self.removed(Action::Expire, &path, &node, now);
        }
    }

    /// Notes a change that etcd makes in its own directory. Nothing can read it, but it has an
    /// index, and a place in the window.
    pub(super) fn note_cluster(&mut self, kind: Kind) {
        self.writes.count(kind, true);
        let next = self.index + 1;
        let node =
            View { key: Path::clean(CLUSTER), modified: next, created: next, ..View::default() };
        let action = Action::Set;
        self.remember(Arc::new(Event { action, node, prev: None, is_refresh: true }));
    }

    fn store(&mut self, path: Path, node: Node) {
        let expires = node.expires;
        let old = self.nodes.insert(path.clone(), node);
        if let Some(old) = old.filter(|old| old.expires != 0) {
            self.expiring.remove(&(old.expires, path.clone()));
        }
        if expires != 0 {
            self.expiring.insert((expires, path.clone()));
        }
        self.touched.push(path);
    }

    fn removed(&mut self, action: Action, path: &Path, node: &Node, now: i64) -> Answer {
        let view = View {
            key: path.clone(),
            is_dir: node.is_dir(),
            modified: self.index + 1,
            created: node.created,
            ..View::default()
        };
        let prev = Some(node.view(path, now));
        let event = Arc::new(Event { action, node: view, prev, is_refresh: false });
        let below = self.nodes.range(path.child(b"")..);
        let below = below.map(|(below, _)| below).take_while(|below| path.is_above(below));
        let all: Vec<Path> = below.cloned().chain([path.clone()]).collect();
        for path in all {
            if let Some(node) = self.nodes.remove(&path)
                && node.expires != 0
            {
                self.expiring.remove(&(node.expires, path.clone()));
            }
            self.told += self.hub.notify_at(&event, &path, Place::Removed);
            self.touched.push(path);
        }
        self.told += self.hub.notify(&event);
        self.remember(Arc::clone(&event));
        Answer { event, below: Vec::new(), index: self.index }
    }

    fn changed(&mut self, event: Event) -> Answer {
        let event = Arc::new(event);
        if !event.is_refresh {
            self.told += self.hub.notify(&event);
        }
        self.remember(Arc::clone(&event));
        Answer { event, below: Vec::new(), index: self.index }
    }

    fn remember(&mut self, event: Arc<Event>) {
        self.index = event.index();
        self.gone.extend(self.window.push(event));
    }
}
