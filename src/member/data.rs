//! The data that a member finds on disk at its start, and whether it may use them.
//!
//! ```text
//!   data-dir/member/wal/   the log                  (storage::wal)
//!   data-dir/member/snap/db   the database          (storage::backend)
//!   data-dir/member/snap/*.snap   from where on the log is needed   (storage::snap)
//!   data-dir/member/snap/restored   the database was restored, and its rows are in no log
//!   data-dir/restoring/    a restore has not ended: nothing here is used
//!   data-dir/member/boot   how often it was started (a number, for the trace)
//! ```
//!
//! The log decides. The database may be behind it, and then entries are applied again. It may never
//! be ahead: only entries on this disk are applied, and a received database is installed only when
//! the record of its snapshot is there.

use std::{
    fs, io,
    ops::ControlFlow,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use raft::eraftpb::{ConfState, HardState};

use super::{
    Error, damaged_start, heal, join, modes, peers,
    recover::{Log, Place},
    standalone,
};
use crate::{
    config::{ServerConfig, ids},
    pb,
    raft::{bootstrap, log::Start, snapshot},
    server::members::{Member, change::Change},
    storage::{
        backend::{self, Backend},
        damage, disk, redb_panic,
        wal::{self, Locations, Wal},
        with_causes,
    },
};

/// The name of the directory in which a restore works.
pub(super) const RESTORING: &str = "restoring";
/// The content of the mark of a restored database.
const RESTORED: &str = "db was restored from a snapshot: the log does not have its rows\n";

/// The opened data of a member.
pub struct Data {
    /// Raft's id of this member.
    pub member_id: u64,
    /// The id of the cluster that the data belongs to.
    pub cluster_id: u64,
    /// The number of starts of this data directory, this one included; its low 16 bits.
    pub boot: u16,
    /// The log, for the wal thread.
    pub wal: Wal,
    /// The locations of the log's entries.
    pub locations: Arc<Locations>,
    /// The opened database file.
    pub backend: Arc<Backend>,
    /// The directory of the files of snapshots.
    pub snap: PathBuf,
    /// The state with which raft starts.
    pub(crate) start: Start,
    /// The consistent index: everything up to it is in the database.
    pub applied: u64,
    /// The commit index that the log had at this start, 0 for a new log. Entries up to it that are
    /// applied now are applied again.
    pub replayed: u64,
    /// The highest request id of this member in the log.
    pub highest_id: u64,
    /// The members with which the log begins, for a cluster whose log is not applied yet.
    pub initial: Vec<Member>,
    /// The members that `--force-new-cluster` leaves behind. This one does not talk to them.
    pub left_behind: Vec<u64>,
}

/// Finds the data directory, or makes it. A member without a log asks the others whether it may
/// begin one. Must be called before the peer port listens.
pub fn find(config: &ServerConfig) -> Result<Dirs, Error> {
    let restoring = config.data_dir.join(RESTORING);
    // What is wrong with the data directory itself is found when it is made.
    if restoring.try_exists().unwrap_or(false) {
        return Err(Error::RestoreUnfinished { path: restoring });
    }
    let dirs = Dirs::make(config)?;
    if !dirs.has_log {
        dirs.check_not_restored()?;
        if !config.new_cluster {
            check_not_forced(config, &dirs.wal)?;
            return Ok(Dirs { existing: Some(join::find(config)?), ..dirs });
        }
        peers::check_not_bootstrapped(config, own_id(config))?;
    }
    Ok(dirs)
}

/// Opens the data directory, or fills it when the cluster is new. If the log does not make the
/// database that is missing, another member has to give one.
pub fn open(config: &ServerConfig, dirs: &Dirs) -> Result<Data, Error> {
    let least = match open_as_found(config, dirs) {
        Err(Error::BackendBehindLog { first, .. }) => first.saturating_sub(1),
        Err(Error::RestoredIsGone { .. }) => 1,
        opened => return opened,
    };
    let options = wal_options(config);
    heal::from_peers(config, &place(config, dirs, &options), &dirs.db, least)?;
    open_as_found(config, dirs)
}

fn open_as_found(config: &ServerConfig, dirs: &Dirs) -> Result<Data, Error> {
    let options = wal_options(config);
    let place = place(config, dirs, &options);
    let Begun { log, mut hard_state, last: (mut last_index, mut last_term), initial } =
        open_log(config, dirs, &place)?;
    let replayed = log.recovered.hard_state.commit;
    dirs.check_restored()?;
    let backend = open_database(config, dirs, &place, &log.recovered)?;
    let (applied, term) = backend.consistent_index();
    let reached = place.reach(log, backend.path(), applied);
    let Log { mut wal, locations, recovered } = reached.inspect_err(|_| backend.stop())?;
    locations
        .compact(recovered.snapshot.index().min(applied).saturating_sub(place.catch_up_entries));
    if last_index < applied {
        return Err(Error::LogBehindBackend { consistent: applied, last: last_index });
    }
    if let Some(found) = locations.term(applied).filter(|found| *found != term && applied != 0) {
        return Err(Error::LogOfAnother { index: applied, term, found });
    }
    // A commit index is not synced by itself: the WAL's may be behind what was applied.
    hard_state.commit = hard_state.commit.max(applied);
    let conf_state = conf_state(&backend, applied)?;
    let mut left_behind = Vec::new();
    if config.force_new_cluster && last_index != 0 && dirs.has_log {
        let own = recovered.metadata.node_id;
        let is_removed = standalone::is_removed(&backend, own);
        let (conf_state, peer_urls) = (&conf_state, config.advertise_peer_urls.as_slice());
        let found = standalone::Found { own, peer_urls, applied, conf_state, is_removed };
        (hard_state, left_behind) = standalone::force(&found, &hard_state, &mut wal, &locations)?;
        (last_index, last_term) =
            (hard_state.commit, locations.term(hard_state.commit).unwrap_or(0));
    }
    // The flags may name them by other URLs by now, and so by other ids.
    let initial = first_members(&locations, last_index)?.unwrap_or(initial);
    let highest_id = highest_id(&locations, recovered.metadata.node_id, last_index)?;
    Ok(Data {
        member_id: recovered.metadata.node_id,
        cluster_id: recovered.metadata.cluster_id,
        boot: dirs.count_boot()?,
        start: Start {
            hard_state,
            conf_state,
            last_index,
            last_term,
            snapshot: snapshot::metadata(&recovered.snapshot),
            catch_up_entries: place.catch_up_entries,
        },
        snap: dirs.snap.clone(),
        wal,
        locations,
        backend,
        applied,
        replayed,
        highest_id,
        initial,
        left_behind,
    })
}

/// A log that has its first entries.
struct Begun {
    log: Log,
    hard_state: HardState,
    /// The index and the term of the last entry.
    last: (u64, u64),
    /// The members with which the log begins, by the flags or by the cluster that is joined.
    initial: Vec<Member>,
}

/// An operator who forces a new cluster wants what this member has, and not another cluster's data.
/// etcd ignores the flag where there is no log, and joins.
fn check_not_forced(config: &ServerConfig, wal: &Path) -> Result<(), Error> {
    match config.force_new_cluster {
        true => Err(Error::NothingToForce { wal: wal.to_owned() }),
        false => Ok(()),
    }
}

/// Opens the log, or begins it.
fn open_log(config: &ServerConfig, dirs: &Dirs, place: &Place<'_>) -> Result<Begun, Error> {
    let initial = initial_members(config);
    let first_owner = owner(config, &initial);
    let mut existing = dirs.existing.clone();
    if !dirs.has_log {
        let owner = existing.as_ref().map_or(first_owner, join::Existing::owner);
        drop(wal::create(&dirs.wal, &owner, &place.options)?);
    }
    let mut log = place.open()?;
    let recovered = &log.recovered;
    if !config.new_cluster && existing.is_none() && recovered.last_index == 0 {
        // A member that has joined, and was stopped before it got anything. Only the others know
        // the cluster.
        check_not_forced(config, &dirs.wal)?;
        let found = join::find(config)?;
        if found.owner() != recovered.metadata {
            return Err(Error::Removed);
        }
        existing = Some(found);
    }
    let initial = existing.map_or(initial, |existing| existing.members);
    let (last, hard_state) = ((recovered.last_index, recovered.last_term), &recovered.hard_state);
    let is_first = recovered.metadata == first_owner;
    if is_first && (last.0 == 0 || hard_state.term == 0) {
        // A new member, or one that was killed while the first entries were written. They and their
        // hard state are one write, but a power failure may keep only a part of it. A member that
        // has joined has an id of its own, and its log begins with what the leader sends.
        let (entries, first) = bootstrap::first_entries(initial.iter().map(to_context).collect());
        log.wal.save(&entries, Some(&first), true)?;
        return Ok(Begun { log, last: (first.commit, first.term), hard_state: first, initial });
    }
    let hard_state = hard_state.clone();
    Ok(Begun { log, hard_state, last, initial })
}

/// The database. If it is damaged, the others get to know, and the error says what can be done.
fn open_database(
    config: &ServerConfig,
    dirs: &Dirs,
    place: &Place<'_>,
    recovered: &wal::Recovered,
) -> Result<Arc<Backend>, Error> {
    let index = recovered.snapshot.index();
    place.database(&dirs.db, &backend_options(config), index).map_err(|error| match error {
        Error::Backend(error) if error.is_damage() => {
            if !matches!(error, backend::Error::Old { .. }) {
                damaged_start::raise_alarm(config, &recovered.metadata);
            }
            Error::Damaged { what: with_causes(&error), way_out: damage::way_out(&dirs.db) }
        }
        other => other,
    })
}

fn place<'a>(config: &ServerConfig, dirs: &'a Dirs, options: &wal::Options) -> Place<'a> {
    let catch_up_entries = config.snapshots.catch_up_entries;
    Place { wal: &dirs.wal, snap: &dirs.snap, options: *options, catch_up_entries }
}

/// Begins the log of a new cluster, in a data directory whose database was restored before. The
/// database's name, and the mark that it was restored, are on the disk before there is a log.
pub(super) fn begin_log(config: &ServerConfig, dirs: &Dirs) -> Result<(), Error> {
    modes::write_private(&dirs.restored, RESTORED)?;
    let snap = disk::folder_of(&dirs.restored);
    disk::sync_dir(snap).map_err(|source| data_dir(snap, source))?;
    let initial = initial_members(config);
    let (mut wal, _) = wal::create(&dirs.wal, &owner(config, &initial), &wal_options(config))?;
    let (entries, first) = bootstrap::first_entries(initial.iter().map(to_context).collect());
    Ok(wal.save(&entries, Some(&first), true)?)
}

/// This member of the cluster that begins with these.
fn owner(config: &ServerConfig, initial: &[Member]) -> wal::Metadata {
    let ids: Vec<u64> = initial.iter().map(|member| member.id).collect();
    wal::Metadata { node_id: own_id(config), cluster_id: ids::cluster_id(&ids) }
}

fn wal_options(config: &ServerConfig) -> wal::Options {
    let options = wal::Options { fsync: !config.unsafe_no_fsync, ..wal::Options::default() };
    fail::fail_point!("wal-segment-bytes", |bytes| wal::Options {
        segment_bytes: bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(options.segment_bytes),
        ..options
    });
    options
}

fn backend_options(config: &ServerConfig) -> backend::Options {
    backend::Options {
        batch_interval: config.batch_interval,
        batch_limit: config.batch_limit,
        fsync: !config.unsafe_no_fsync,
    }
}

/// The configuration at the consistent index; a database that has applied nothing has none.
fn conf_state(backend: &Backend, applied: u64) -> Result<ConfState, Error> {
    match backend.conf_state() {
        Some(json) if 0 < applied => bootstrap::parse_conf_state(&json).map_err(Error::ConfState),
        Some(_) | None => Ok(ConfState::default()),
    }
}

/// The members of `--initial-cluster`, by id.
fn initial_members(config: &ServerConfig) -> Vec<Member> {
    let member = |(name, urls): &(String, Vec<String>)| {
        let mut peer_urls = urls.clone();
        peer_urls.sort();
        Member {
            id: ids::member_id(&peer_urls, &config.cluster_token, None),
            peer_urls,
            name: name.clone(),
            ..Member::default()
        }
    };
    let mut members: Vec<Member> = config.initial_cluster.iter().map(member).collect();
    members.sort_by_key(|member| member.id);
    members
}

fn own_id(config: &ServerConfig) -> u64 {
    let own = config.initial_cluster.iter().find(|(name, _)| *name == config.name);
    let urls = own.map_or(&config.advertise_peer_urls, |(_, urls)| urls);
    ids::member_id(urls, &config.cluster_token, None)
}

fn to_context(member: &Member) -> bootstrap::InitialMember {
    let context = serde_json::to_vec(member).expect("a member is plain data");
    bootstrap::InitialMember { id: member.id, context }
}

/// The members that the log's first entries add; `None` if it does not begin with such.
fn first_members(locations: &Locations, last_index: u64) -> Result<Option<Vec<Member>>, Error> {
    if locations.first_index() != 1 || last_index == 0 {
        return Ok(None);
    }
    let mut members = Vec::new();
    locations.scan(1, last_index, |entry| match Change::in_entry(entry) {
        Some((_, Change::Add(member))) => {
            members.push(member);
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Break(()),
    })?;
    Ok((!members.is_empty()).then_some(members))
}

/// Searches the log that was read for the highest request id of this member.
fn highest_id(locations: &Locations, member_id: u64, last_index: u64) -> Result<u64, Error> {
    let mut highest = 0;
    locations.scan(locations.first_index(), last_index, |entry| {
        let id = pb::entry_id(&entry.data);
        if id >> 48 == member_id & 0xffff {
            highest = id.max(highest);
        }
        ControlFlow::Continue(())
    })?;
    Ok(highest)
}

/// The folders and files of a data directory.
#[derive(Debug)]
pub struct Dirs {
    /// Whether there is a log, so that this is not the first start.
    has_log: bool,
    /// The cluster that this member joins.
    existing: Option<join::Existing>,
    wal: PathBuf,
    snap: PathBuf,
    db: PathBuf,
    restored: PathBuf,
    boot: PathBuf,
}

/// Ends the member if the hook's panic is about its database: the file is damaged.
pub fn end_if_damaged(config: &ServerConfig, panic: &std::panic::PanicHookInfo<'_>) {
    redb_panic::end_if_damaged(panic, &database(config));
}

fn database(config: &ServerConfig) -> PathBuf {
    config.data_dir.join("member/snap/db")
}

impl Dirs {
    /// Makes the folders.
    pub(super) fn make(config: &ServerConfig) -> Result<Self, Error> {
        let member = config.data_dir.join("member");
        let wal = config.wal_dir.clone().unwrap_or_else(|| member.join("wal"));
        let snap = member.join("snap");
        for dir in [&config.data_dir, &member, &snap] {
            modes::private_dir(dir)?;
        }
        if let Some(parent) = config.wal_dir.as_deref().and_then(Path::parent) {
            // The parent may hold files of others, so its mode is not checked.
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(|source| data_dir(parent, source))?;
        }
        modes::warn_if_open(&wal)?;
        Ok(Self {
            has_log: wal::exists(&wal)?,
            existing: None,
            wal,
            db: database(config),
            restored: snap.join(damage::RESTORED_MARK),
            snap,
            boot: member.join("boot"),
        })
    }

    /// The log rebuilds a database that is gone, but not one that was restored: this member would
    /// begin with an empty key space, and differ from the others without a word.
    fn check_restored(&self) -> Result<(), Error> {
        let exists = |path: &Path| path.try_exists().map_err(|source| data_dir(path, source));
        match exists(&self.restored)? && !exists(&self.db)? {
            true => Err(Error::RestoredIsGone { path: self.db.clone() }),
            false => Ok(()),
        }
    }

    /// A database that was restored comes with its log. A log that begins now would be that of
    /// another cluster.
    fn check_not_restored(&self) -> Result<(), Error> {
        match self.restored.try_exists().map_err(|source| data_dir(&self.restored, source))? {
            true => Err(Error::RestoredWithoutLog { db: self.db.clone(), wal: self.wal.clone() }),
            false => Ok(()),
        }
    }

    /// The path of the database file.
    pub(super) fn database(&self) -> &Path {
        &self.db
    }

    /// Increments the number of starts, and returns it.
    fn count_boot(&self) -> Result<u16, Error> {
        let before = match fs::read(&self.boot) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            before => before.map_err(|source| data_dir(&self.boot, source))?,
        };
        // A file that a power failure has left empty is no reason not to start.
        let before = str::from_utf8(&before).ok().and_then(|text| text.trim().parse().ok());
        let boot = before.unwrap_or(0_u16).wrapping_add(1).max(1);
        modes::write_private(&self.boot, &format!("{boot}\n"))?;
        Ok(boot)
    }
}

fn data_dir(path: &Path, source: io::Error) -> Error {
    Error::DataDir { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::{Entry, HardState};

    use super::*;
    use crate::{
        config::{Asked, parse},
        pb::{raftpb, walpb},
        storage::snap,
    };

    fn config(dir: &Path) -> ServerConfig {
        let dir = dir.display().to_string();
        let args = ["--name", "a", "--data-dir", &dir].map(str::to_owned);
        match parse(&args, &[]) {
            Ok(Asked::Start(parsed)) => parsed.config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_start_that_a_power_failure_has_cut_short_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let dirs = Dirs::make(&config).unwrap();
        let initial = initial_members(&config);
        let ids: Vec<u64> = initial.iter().map(|member| member.id).collect();
        let metadata =
            wal::Metadata { node_id: own_id(&config), cluster_id: ids::cluster_id(&ids) };
        let options = wal::Options::default();
        let (mut wal, _) = wal::create(&dirs.wal, &metadata, &options).unwrap();
        let contexts = initial.iter().map(to_context).collect();
        let (entries, _) = bootstrap::first_entries(contexts);
        // The entry has reached the disk, and the hard state behind it has not.
        wal.save(&entries, None, true).unwrap();
        drop(wal);
        let data = open(&config, &find(&config).unwrap()).unwrap();
        let hard_state = &data.start.hard_state;
        assert_eq!((1, 1, 1), (data.start.last_index, hard_state.term, hard_state.commit));
        data.backend.stop();
    }

    #[test]
    fn a_restored_member_without_its_database_does_not_begin_empty() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let dirs = Dirs::make(&config).unwrap();
        Backend::open(dirs.database(), backend_options(&config)).unwrap().stop();
        begin_log(&config, &dirs).unwrap();
        open(&config, &find(&config).unwrap()).unwrap().backend.stop();
        fs::remove_file(dirs.database()).unwrap();
        let refused = open(&config, &find(&config).unwrap()).err().expect("the rows are gone");
        assert!(matches!(refused, Error::NobodyGives { least: 1, .. }), "{refused}");
        assert!(!dirs.database().exists(), "nothing was made in its place");
    }

    #[test]
    fn a_new_cluster_is_not_forced_where_there_is_no_log() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            ServerConfig { force_new_cluster: true, new_cluster: false, ..config(dir.path()) };
        let refused = find(&config).expect_err("it would join").report();
        assert!(refused.contains("member/wal has no entries"), "{refused}");
        assert!(!wal::exists(&dir.path().join("member/wal")).unwrap(), "no log was begun");
    }

    #[test]
    fn a_restored_database_without_its_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let dirs = Dirs::make(&config).unwrap();
        Backend::open(dirs.database(), backend_options(&config)).unwrap().stop();
        begin_log(&config, &dirs).unwrap();
        fs::remove_dir_all(&dirs.wal).unwrap();
        let refused = find(&config).expect_err("no log has its rows");
        assert!(matches!(refused, Error::RestoredWithoutLog { .. }), "{refused}");
        assert!(!dirs.wal.exists(), "no other log was begun");
    }

    #[test]
    fn a_damaged_database_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        open(&config, &find(&config).unwrap()).unwrap().backend.stop();
        let dirs = find(&config).unwrap();
        fs::write(dirs.database(), [0; 16 << 10]).unwrap();
        let refused = open(&config, &dirs).err().expect("it is filled with zeros").report();
        assert!(refused.contains("snap/db is "), "{refused}");
        assert!(refused.ends_with("it is made anew from the log"), "{refused}");
        fs::remove_file(dirs.database()).unwrap();
        open(&config, &dirs).unwrap().backend.stop();
    }

    /// A data directory with entries 1 to 40 in its log, of which the database has 30.
    fn with_entries(dir: &Path) -> (ServerConfig, Dirs) {
        let mut config = config(dir);
        config.snapshots.catch_up_entries = 4;
        let data = open(&config, &find(&config).unwrap()).unwrap();
        data.backend.write().set_conf_state(r#"{"voters":[1],"auto_leave":false}"#.into());
        data.backend.write().set_applied(30, 2, 1);
        data.backend.stop();
        let mut wal = data.wal;
        let entry = |index| Entry { index, term: 2, data: "x".into(), ..Entry::default() };
        let entries: Vec<Entry> = (2..=40).map(entry).collect();
        let state = HardState { term: 2, commit: 40, ..HardState::default() };
        wal.save(&entries, Some(&state), true).unwrap();
        let dirs = Dirs::make(&config).unwrap();
        (config, dirs)
    }

    /// Has the wal thread write the record of a snapshot.
    fn record(config: &ServerConfig, dirs: &Dirs, index: u64) {
        let (wal, ..) = wal::open(&dirs.wal, &wal_options(config)).unwrap();
        let place = walpb::Snapshot { index: Some(index), term: Some(2), conf_state: None };
        let snapshot = Some(wal::SnapshotRecord { place, replaces_log: false });
        let writer = wal::spawn(wal, |_| ());
        writer.write(wal::Write { snapshot, sync: true, ..wal::Write::default() });
        writer.stop();
    }

    fn save(dirs: &Dirs, index: u64) {
        let (index, term) = (Some(index), Some(2));
        let metadata = raftpb::SnapshotMetadata { index, term, conf_state: None };
        snap::save(&dirs.snap, metadata, true).unwrap();
    }

    #[test]
    fn a_start_begins_at_the_newest_snapshot_that_has_a_file_and_a_record() {
        let dir = tempfile::tempdir().unwrap();
        let (config, dirs) = with_entries(dir.path());
        let start = || {
            let data = open(&config, &find(&config).unwrap()).unwrap();
            data.backend.stop();
            let first = data.locations.first_index();
            (data.start.snapshot.index, first, data.start.last_index, data.applied)
        };
        assert_eq!(start(), (0, 1, 40, 30));
        // A file without a record is an orphan.
        save(&dirs, 25);
        assert_eq!(start(), (0, 1, 40, 30));
        record(&config, &dirs, 20);
        save(&dirs, 20);
        // The four entries before the snapshot stay for followers.
        assert_eq!(start(), (20, 17, 40, 30));
        record(&config, &dirs, 25);
        assert_eq!(start(), (25, 22, 40, 30));
    }

    /// Goal: a `.snap` file whose record was never written keeps no member from starting, though no
    /// segment from its index on has a record. Method: a log of many small segments.
    #[test]
    fn a_file_without_a_record_keeps_no_member_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let (config, dirs) = with_entries(dir.path());
        let options = wal::Options { segment_bytes: 8 << 10, ..wal_options(&config) };
        let (mut wal, ..) = wal::open(&dirs.wal, &options).unwrap();
        for index in 41..=80 {
            let data = vec![b'x'; 1 << 10].into();
            let entry = Entry { index, term: 2, data, ..Entry::default() };
            let state = HardState { term: 2, commit: index, ..HardState::default() };
            wal.save(&[entry], Some(&state), true).unwrap();
        }
        drop(wal);
        assert!(2 < fs::read_dir(&dirs.wal).unwrap().count());
        save(&dirs, 78);
        fs::write(snap::received_path(&dirs.snap, 78), "raft has not taken it").unwrap();
        let data = open(&config, &find(&config).unwrap()).unwrap();
        data.backend.stop();
        assert_eq!((data.start.snapshot.index, data.start.last_index, data.applied), (0, 80, 30));
        assert!(!snap::received_path(&dirs.snap, 78).exists());
    }

    #[test]
    fn a_database_that_is_gone_is_rebuilt_only_if_the_log_has_everything() {
        let dir = tempfile::tempdir().unwrap();
        let (config, dirs) = with_entries(dir.path());
        save(&dirs, 25);
        record(&config, &dirs, 25);
        fs::remove_file(dirs.database()).unwrap();
        let data = open(&config, &find(&config).unwrap()).unwrap();
        assert_eq!((data.applied, data.locations.first_index()), (0, 1));
        data.backend.stop();
        drop(data);
        let segment = fs::read_dir(&dirs.wal).unwrap().next().unwrap().unwrap().path();
        fs::rename(&segment, dirs.wal.join("0000000000000001-0000000000000010.wal")).unwrap();
        let refused = open(&config, &find(&config).unwrap()).err().expect("entries are gone");
        assert!(!matches!(refused, Error::LogBehindBackend { .. }), "{refused}");
    }

    /// Goal: a member that was killed between the record of a received snapshot and the renaming
    /// of its database uses that database at its next start. Method: both are on the disk.
    #[test]
    fn a_received_database_is_taken_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let (config, dirs) = with_entries(dir.path());
        save(&dirs, 38);
        record(&config, &dirs, 38);
        let received = snap::received_path(&dirs.snap, 38);
        let backend = Backend::open(&received, backend_options(&config)).unwrap();
        backend.write().set_applied(38, 2, 7);
        backend.stop();
        drop(backend);
        let data = open(&config, &find(&config).unwrap()).unwrap();
        assert_eq!((data.applied, data.start.snapshot.index), (38, 38));
        assert!(!received.exists());
        data.backend.stop();
    }

    #[test]
    fn a_database_that_belongs_to_another_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let data = open(&config, &find(&config).unwrap()).unwrap();
        data.backend.write().set_applied(1, 9, 1);
        data.backend.stop();
        drop(data);
        let refused = open(&config, &find(&config).unwrap()).err().expect("the terms differ");
        assert!(
            matches!(refused, Error::LogOfAnother { index: 1, term: 9, found: 1 }),
            "{refused}"
        );
    }
}
