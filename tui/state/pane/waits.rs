//! Who waits for what: open watchers, leases that run out, and the queues of locks and elections.
//!
//! ```text
//!   watch.create ──▶ synced ⇄ unsynced, victim ──▶ watch.cancel
//!   lease.grant ──▶ renewed, renewed … ──▶ lease.revoke      the countdown starts anew
//!   lock.enter ──▶ waits for the key before ──▶ lock.acquired ──▶ its key is deleted
//! ```
//!
//! A watcher belongs to one member. Leases and the keys of locks are the same on all members, so
//! what one has applied counts. Only the leader counts a lease down, from its last grant or
//! renewal, or from the moment when it began to lead: the countdown here is computed from those
//! records.
//!
//! Left out: waits that began before the records.

use std::collections::{BTreeMap, HashMap};

use glass_etcd::{
    change, field, fields,
    story::{
        Event, KeyText, Recording,
        order::Clocks,
        query::{method_of, requests},
    },
    trace::{FLAG_ERROR, Kind, Stage, value::LEADER},
};

use super::{
    super::{
        seek::{self, Forms},
        watermarks::{self, Moment, Water, moment},
    },
    Sight,
};

/// What rows have for a search.
pub(crate) const FORMS: Forms = Forms {
    forms: &["k:", "m:", "l:", "r:", "is:"],
    kinds: &["watcher", "synced", "unsynced", "victim", "lease", "lock", "holder", "waiter"],
};

/// The view of those who wait.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    facts: Facts,
    /// The chosen row, by position; `None` is the first.
    pub(crate) chosen: Option<usize>,
}

/// What the records say, each in the order of its member's clock.
#[derive(Debug, Default)]
struct Facts {
    /// Records about watchers, leases, locks and the keys of locks.
    told: Vec<Told>,
    /// The method and the key of each request.
    titles: HashMap<u64, (&'static str, Option<KeyText>)>,
}

/// A record, when it took effect on its member, and by the first member's clock.
#[derive(Debug)]
struct Told {
    event: Event,
    moment: Moment,
    wall_ns: u64,
}

/// How far a watcher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It gets its events from apply.
    Synced,
    /// It catches up with reads of the backend, from this revision on.
    Unsynced(u64),
    /// The queue of its stream was full at this revision: it keeps what did not fit.
    Victim(u64),
}

/// An open watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watcher {
    /// The request that has created it.
    pub(crate) id: u64,
    /// The column of its member.
    pub(crate) column: usize,
    /// Its number on that member.
    pub(crate) number: u64,
    /// The call that has created it, if that is no watch.
    pub(crate) of_call: Option<&'static str>,
    pub(crate) key: Option<KeyText>,
    pub(crate) progress: Progress,
    /// The revision of the last events that were sent to it.
    pub(crate) sent: Option<u64>,
    /// The next revision that it wants, if that is known.
    pub(crate) next: Option<u64>,
}

/// A lease that has not ended on all members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The request that has granted it.
    pub(crate) id: u64,
    pub(crate) lease: u64,
    /// Its time to live, in seconds.
    pub(crate) ttl: u64,
    /// Nanoseconds until it runs out, negative after that.
    pub(crate) left_ns: i64,
    /// Whether a checkpoint may have left it less.
    pub(crate) is_at_most: bool,
    /// Whether the leader has begun to revoke it.
    pub(crate) expires: bool,
    /// Its keys.
    pub(crate) keys: Vec<KeyText>,
}

/// A place in the queue of a lock or an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The call that has entered.
    pub(crate) id: u64,
    /// The column of its member.
    pub(crate) column: usize,
    /// The call.
    pub(crate) method: &'static str,
    /// The name of the lock or the election.
    pub(crate) name: Option<KeyText>,
    /// The revision of its key, which decides its turn.
    pub(crate) own: u64,
    /// Whether it has the lock, or leads.
    pub(crate) holds: bool,
    /// The revision of the key for whose deletion it waits.
    pub(crate) before: Option<u64>,
}

/// Everything that waits at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) leases: Vec<Lease>,
    /// The queues, by name and turn.
    pub(crate) places: Vec<Place>,
    /// The position of the chosen one, over all three.
    pub(crate) chosen: usize,
}

impl Waiting {
    /// How many wait, of all three kinds.
    pub(crate) fn len(&self) -> usize {
        self.watchers.len() + self.leases.len() + self.places.len()
    }

    /// The request behind the chosen row.
    pub(crate) fn id(&self) -> Option<u64> {
        let watchers = self.watchers.iter().map(|one| one.id);
        let leases = self.leases.iter().map(|one| one.id);
        let mut all = watchers.chain(leases).chain(self.places.iter().map(|one| one.id));
        all.nth(self.chosen)
    }
}

impl Waiting {
    /// What a search compares of each row: keys and names, the member, and the id of a lease.
    pub(crate) fn told(&self, sight: &Sight) -> Vec<seek::Told> {
        let of = |keys: Vec<&KeyText>, column: Option<usize>, kinds: Vec<&'static str>| {
            let column = column.and_then(|column| sight.board.columns.get(column));
            let member = column.map_or_else(String::new, |column| column.name.clone());
            let keys: Vec<String> = keys.into_iter().map(KeyText::display).collect();
            let text = format!("{} {member}", keys.join(" "));
            seek::Told { text, keys, member, kinds, ..seek::Told::default() }
        };
        let watchers = self.watchers.iter().map(|one| {
            let progress = match one.progress {
                Progress::Synced => "synced",
                Progress::Unsynced(_) => "unsynced",
                Progress::Victim(_) => "victim",
            };
            of(one.key.iter().collect(), Some(one.column), vec!["watcher", progress])
        });
        let leases = self.leases.iter().map(|one| {
            let told = of(one.keys.iter().collect(), None, vec!["lease"]);
            let text = format!("{:016x} {}", one.lease, told.text);
            seek::Told { text, lease: Some(one.lease), ..told }
        });
        let places = self.places.iter().map(|one| {
            let kind = if one.holds { "holder" } else { "waiter" };
            let told = of(one.name.iter().collect(), Some(one.column), vec!["lock", kind]);
            seek::Told { rpc: one.method.to_owned(), ..told }
        });
        watchers.chain(leases).chain(places).collect()
    }
}

impl Pane {
    /// Reads all records.
    pub(crate) fn refresh(&mut self, recording: &Recording, clocks: &Clocks) {
        self.facts = Facts::of(recording, clocks);
    }

    /// Who waits at a moment.
    pub(crate) fn at(&self, sight: &Sight) -> Waiting {
        let past = Past::of(&self.facts, sight);
        let mut waiting = Waiting {
            watchers: past.watchers(),
            leases: past.leases(),
            places: past.places(),
            chosen: 0,
        };
        waiting.chosen = self.chosen.unwrap_or(0).min(waiting.len().saturating_sub(1));
        waiting
    }
}

impl Facts {
    fn of(recording: &Recording, clocks: &Clocks) -> Facts {
        let mut told: Vec<Told> = Vec::new();
        for event in recording.events.iter().filter(|event| is_of_waits(event)) {
            let own = watermarks::wall(recording, event).saturating_add(event.took_ns);
            let wall_ns = clocks.common_ns(event.member, event.boot, own);
            told.push(Told { event: event.clone(), moment: moment(event), wall_ns });
        }
        told.sort_by_key(|told| (told.event.member, told.moment));
        let titles = requests(recording).into_iter();
        let titles = titles.map(|known| (known.id, (known.method, known.key))).collect();
        Facts { told, titles }
    }
}

/// Whether the record says something about those who wait. The end of a wait has a record of its
/// own, and its beginning only in a record that is one.
fn is_of_waits(event: &Event) -> bool {
    match event.stage {
        Stage::LockWait => true,
        _ if event.kind == Kind::Begin || event.flags & FLAG_ERROR != 0 => false,
        Stage::Rpc => !method_of(event).starts_with("KV/"),
        Stage::RaftRole => change!(event, RaftRole, role)[1] == LEADER,
        Stage::WatchCreate
        | Stage::WatchCancel
        | Stage::WatchVictim
        | Stage::WatchForward
        | Stage::WatchSend
        | Stage::LeaseGrant
        | Stage::LeaseRenew
        | Stage::LeaseServe
        | Stage::LeaseAttach
        | Stage::LeaseExpire
        | Stage::LeaseRevoke
        | Stage::LeaseCheckpoint
        | Stage::LockEnter
        | Stage::LockAcquired
        | Stage::TreeIndexPut
        | Stage::TreeIndexTombstone => true,
        _ => false,
    }
}

/// The records that have happened at a moment.
struct Past<'a> {
    facts: &'a Facts,
    sight: &'a Sight,
    /// With the column of their member.
    told: Vec<(usize, &'a Told)>,
}

impl<'a> Past<'a> {
    fn of(facts: &'a Facts, sight: &'a Sight) -> Past<'a> {
        let mut columns = HashMap::new();
        for column in 0..sight.cuts.len() {
            if let Some((place, cut)) = sight.member(column) {
                columns.insert(place, (column, cut));
            }
        }
        let past = |told: &'a Told| {
            let (column, cut) = columns.get(&told.event.member)?;
            (told.moment <= *cut).then_some((*column, told))
        };
        Past { facts, sight, told: facts.told.iter().filter_map(past).collect() }
    }

    fn of_stage(&self, stage: Stage) -> impl Iterator<Item = (usize, &'a Told)> {
        self.told.iter().copied().filter(move |(_, told)| told.event.stage == stage)
    }

    /// Whether the member has started again since.
    fn is_of_former_start(&self, column: usize, told: &Told) -> bool {
        self.sight.member(column).is_none_or(|(_, cut)| cut.0 != told.event.boot)
    }

    /// The watchers, by member and number.
    fn watchers(&self) -> Vec<Watcher> {
        let mut open: BTreeMap<(usize, u64), Watcher> = BTreeMap::new();
        for (column, told) in &self.told {
            let (column, event) = (*column, &told.event);
            if self.is_of_former_start(column, told) {
                continue;
            }
            match event.stage {
                Stage::WatchCreate => {
                    let watcher = self.created(column, event);
                    open.insert((column, watcher.number), watcher);
                }
                Stage::WatchCancel => {
                    open.remove(&(column, field!(event, WatchCancel, watcher)));
                }
                // A call that has waited with a watcher of its own has ended.
                Stage::Rpc => {
                    open.retain(|_, one| one.of_call.is_none() || one.id != event.id);
                }
                Stage::WatchVictim | Stage::WatchForward | Stage::WatchSend => {
                    let number = field!(event, WatchVictim | WatchForward | WatchSend, watcher);
                    if let Some(watcher) = open.get_mut(&(column, number)) {
                        watcher.learn(event);
                    }
                }
                _ => {}
            }
        }
        let mut watchers: Vec<Watcher> = open.into_values().collect();
        for watcher in &mut watchers {
            let marks = &self.sight.board.columns[watcher.column].marks;
            watcher.next = match watcher.progress {
                Progress::Synced => {
                    marks.get(Water::Revision).map(|newest| newest.saturating_add(1))
                }
                Progress::Unsynced(next) | Progress::Victim(next) => Some(next),
            };
        }
        watchers
    }

    fn created(&self, column: usize, event: &Event) -> Watcher {
        let [start, revision, number, synced] =
            fields!(event, WatchCreate: start, revision, watcher, synced);
        let title = self.facts.titles.get(&event.id);
        let method = title.map_or("Watch/Watch", |(method, _)| method);
        let next = if start == 0 { revision.saturating_add(1) } else { start };
        Watcher {
            id: event.id,
            column,
            number,
            of_call: Some(method).filter(|method| !method.starts_with("Watch/")),
            key: title.and_then(|(_, key)| key.clone()),
            progress: if synced == 0 { Progress::Unsynced(next) } else { Progress::Synced },
            sent: None,
            next: None,
        }
    }

    /// The leases, by id.
    fn leases(&self) -> Vec<Lease> {
        let mut leases: BTreeMap<u64, Running> = BTreeMap::new();
        let mut led_ns = None;
        // The key that a request has written last on each member.
        let mut written: HashMap<(usize, u64), Option<&KeyText>> = HashMap::new();
        for (column, told) in &self.told {
            let (column, event, wall_ns) = (*column, &told.event, told.wall_ns);
            let lease = match event.stage {
                Stage::RaftRole => {
                    led_ns = led_ns.max(Some(wall_ns));
                    continue;
                }
                Stage::TreeIndexPut | Stage::TreeIndexTombstone => {
                    written.insert((column, event.id), event.key.as_ref());
                    continue;
                }
                Stage::LeaseAttach => {
                    let key = written.get(&(column, event.id)).copied().flatten();
                    key.into_iter().for_each(|key| attach(&mut leases, event, key));
                    continue;
                }
                Stage::LeaseGrant
                | Stage::LeaseRenew
                | Stage::LeaseServe
                | Stage::LeaseExpire
                | Stage::LeaseRevoke
                | Stage::LeaseCheckpoint => field!(
                    event,
                    LeaseGrant
                        | LeaseRenew
                        | LeaseServe
                        | LeaseExpire
                        | LeaseRevoke
                        | LeaseCheckpoint,
                    lease
                ),
                _ => continue,
            };
            leases.entry(lease).or_default().learn(told, column);
        }
        let members = self.sight.members().count();
        let running = leases.into_iter().filter(|(_, one)| one.revoked.len() < members);
        running.filter_map(|(id, one)| one.at(id, self.sight.board.at_ns, led_ns)).collect()
    }

    /// The queues of locks and elections.
    fn places(&self) -> Vec<Place> {
        let mut places: BTreeMap<u64, Place> = BTreeMap::new();
        for (column, told) in self.of_stage(Stage::LockEnter) {
            let own = field!(told.event, LockEnter, own);
            let title = self.facts.titles.get(&told.event.id);
            let (method, name) = title.map_or(("unknown", None), |(m, key)| (*m, key.clone()));
            let id = told.event.id;
            let (holds, before) = (false, None);
            places.insert(own, Place { id, column, method, name, own, holds, before });
        }
        for (_, told) in &self.told {
            let event = &told.event;
            match event.stage {
                Stage::LockWait => {
                    let [own, before] = fields!(event, LockWait: own, before);
                    if let Some(place) = places.get_mut(&own) {
                        place.before = Some(before).filter(|_| event.kind == Kind::Begin);
                    }
                }
                Stage::LockAcquired => {
                    let own = field!(event, LockAcquired, own);
                    if let Some(place) = places.get_mut(&own) {
                        (place.holds, place.before) = (true, None);
                    }
                }
                _ => {}
            }
        }
        places.retain(|own, _| !self.is_deleted(*own));
        let mut places: Vec<Place> = places.into_values().collect();
        let name = |place: &Place| place.name.as_ref().map(|name| name.bytes.clone());
        places.sort_by_key(|place| (name(place), place.own));
        places
    }

    /// Whether some member has applied the deletion of the key that was created at this revision.
    fn is_deleted(&self, own: u64) -> bool {
        let key = self.of_stage(Stage::TreeIndexPut).find_map(|(_, told)| {
            let created = field!(told.event, TreeIndexPut, created);
            told.event.key.as_ref().filter(|_| created == own)
        });
        self.of_stage(Stage::TreeIndexTombstone).any(|(_, told)| {
            let main = field!(told.event, TreeIndexTombstone, main);
            key.is_some() && own < main && told.event.key.as_ref() == key
        })
    }
}

/// Notes that a key changes its lease. The record follows that of the key's revision.
fn attach(leases: &mut BTreeMap<u64, Running>, event: &Event, key: &KeyText) {
    let [old, new] = change!(event, LeaseAttach, lease);
    if let Some(lease) = leases.get_mut(&old) {
        lease.keys.retain(|known| known != key);
    }
    if let Some(lease) = leases.get_mut(&new)
        && !lease.keys.contains(key)
    {
        lease.keys.push(key.clone());
    }
}

impl Watcher {
    fn learn(&mut self, event: &Event) {
        match event.stage {
            Stage::WatchVictim => {
                self.progress = Progress::Victim(field!(event, WatchVictim, revision));
            }
            Stage::WatchForward => {
                let synced = field!(event, WatchForward, synced);
                let [_, next] = change!(event, WatchForward, next);
                self.progress =
                    if synced == 0 { Progress::Unsynced(next) } else { Progress::Synced };
            }
            Stage::WatchSend => {
                self.sent = self.sent.max(Some(field!(event, WatchSend, last)));
            }
            _ => {}
        }
    }
}

/// A lease while the records are read.
#[derive(Default)]
struct Running {
    id: u64,
    ttl: u64,
    /// When it was granted first, and renewed last.
    granted_ns: Option<u64>,
    renewed_ns: Option<u64>,
    has_checkpoint: bool,
    expires: bool,
    /// The columns of the members that have revoked it.
    revoked: Vec<usize>,
    keys: Vec<KeyText>,
}

impl Running {
    fn learn(&mut self, told: &Told, column: usize) {
        let (event, wall_ns) = (&told.event, told.wall_ns);
        match event.stage {
            Stage::LeaseGrant => {
                (self.id, self.ttl) = (event.id, field!(event, LeaseGrant, ttl));
                self.granted_ns = Some(self.granted_ns.map_or(wall_ns, |known| known.min(wall_ns)));
            }
            Stage::LeaseRenew => self.renewed_ns = self.renewed_ns.max(Some(wall_ns)),
            Stage::LeaseServe if field!(event, LeaseServe, renews) != 0 => {
                self.renewed_ns = self.renewed_ns.max(Some(wall_ns));
            }
            Stage::LeaseCheckpoint => self.has_checkpoint = true,
            Stage::LeaseExpire => self.expires = true,
            Stage::LeaseRevoke if !self.revoked.contains(&column) => self.revoked.push(column),
            _ => {}
        }
    }

    /// The lease at this time; `None` if its grant was not captured. `led_ns` is when the present
    /// leader began to lead.
    fn at(self, lease: u64, at_ns: u64, led_ns: Option<u64>) -> Option<Lease> {
        let granted_ns = self.granted_ns?;
        let told_ns = Some(granted_ns).max(self.renewed_ns).max(led_ns);
        let ttl_ns = i64::try_from(self.ttl.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
        let since = i64::try_from(i128::from(at_ns) - i128::from(told_ns.unwrap_or(at_ns)));
        let left_ns = ttl_ns.saturating_sub(since.unwrap_or(0));
        let is_at_most = self.has_checkpoint && led_ns == told_ns;
        let Running { id, ttl, expires, keys, .. } = self;
        Some(Lease { id, lease, ttl, left_ns, is_at_most, expires, keys })
    }
}

#[cfg(test)]
mod tests;
