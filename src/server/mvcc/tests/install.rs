//! A received database in the place of a key space.

use std::{
    path::PathBuf,
    sync::{Mutex, mpsc},
    thread,
};

use super::{
    watchers::{Client, request},
    *,
};
use crate::{
    pb::etcdserverpb::LeaseGrantRequest,
    server::mvcc::install::Installed,
    storage::{own_process, snap},
};

/// Copies the key space as a database that another one has received.
fn send(from: &Space, to: &Space) -> PathBuf {
    let copy = from.store.backend().copy().unwrap();
    assert_eq!(copy.committed.index, from.index);
    let mut bytes = vec![0; copy.len() as usize];
    assert_eq!(copy.read_at(&mut bytes, 0).unwrap(), bytes.len());
    let path = snap::received_path(to.folder.path(), from.index);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn grant(space: &mut Space, id: i64) {
    space.index += 1;
    let mut batch = space.store.batch();
    batch.lease_grant(7, &LeaseGrantRequest { id, ttl: 5 }, 1).unwrap();
    batch.set_applied(space.index, 1);
}

fn put_with(space: &mut Space, key: &str, lease: i64) {
    let put = PutRequest { key: text(key), value: text("l"), lease, ..PutRequest::default() };
    space.apply(KvRequest::Put(&put)).unwrap();
}

/// What two members have in common, and then what only the leader has.
fn leader_and_follower() -> (Space, Space) {
    let (mut leader, mut follower) = (Space::new(), Space::new());
    for space in [&mut leader, &mut follower] {
        space.put("a", "1");
        space.put("b", "1");
        grant(space, 70);
        put_with(space, "old", 70);
    }
    leader.put("a", "2");
    leader.delete("b", "");
    grant(&mut leader, 71);
    put_with(&mut leader, "c", 71);
    put_with(&mut leader, "old", 0);
    (leader, follower)
}

/// The events of a watcher, without the notices that they came in.
fn events(client: &mut Client, watch_id: i64) -> Vec<String> {
    let lines = client.received();
    let of_watcher = lines.iter().filter(|line| line.starts_with(&format!("{watch_id} ")));
    let events = of_watcher.filter_map(|line| line.split_once(": "));
    events.flat_map(|(_, events)| events.split(' ').map(str::to_owned)).collect()
}

#[test]
fn a_received_database_takes_the_place_of_keys_leases_and_index() {
    let (leader, mut follower) = leader_and_follower();
    let before = follower.store.revision();
    let path = send(&leader, &follower);
    let installed = follower.store.install(&path, leader.index, 9).unwrap();
    let revision_new = leader.store.revision();
    let expected = Installed { revision_old: before, revision_new, keys: 4, watchers: 0 };
    assert_eq!(installed, expected);
    assert!(!path.exists(), "it has the database's name now");
    assert_eq!(follower.pairs(&all()), leader.pairs(&all()));
    assert_eq!(follower.hash(0), leader.hash(0));
    let old = RangeRequest { revision: 3, ..all() };
    assert_eq!(follower.pairs(&old), leader.pairs(&old), "past revisions are there, too");
    let lessor = follower.store.lessor();
    assert_eq!(lessor.keys(70).unwrap(), Vec::<Bytes>::new());
    assert_eq!(lessor.keys(71).unwrap(), ["c"]);
    // The next write follows on, also after a restart.
    follower.index = leader.index;
    assert_eq!(follower.put("d", "1"), revision_new + 1);
    follower.store.backend().commit_now();
    let follower = follower.restart();
    assert_eq!(follower.keys(&all()), "acdold");
}

#[test]
fn watchers_see_every_event_once_across_an_install() {
    let (leader, mut follower) = leader_and_follower();
    let mut client = Client::of(&follower, 16);
    client.create(&request("a", "z", 0)).unwrap();
    client.create(&request("a", "z", 2)).unwrap();
    client.create(&request("a", "z", 9)).unwrap();
    let path = send(&leader, &follower);
    let installed = follower.store.install(&path, leader.index, 1).unwrap();
    // The third one starts later.
    assert_eq!((installed.revision_old, installed.revision_new, installed.watchers), (4, 8, 2));
    follower.index = leader.index;
    follower.put("a", "9");
    while follower.store.sync_watchers() {}
    follower.put("a", "10");
    let mut clients = Vec::new();
    let lines = client.received();
    for watch_id in 0..3 {
        let of = |line: &&String| line.starts_with(&format!("{watch_id} "));
        let events = lines.iter().filter(of).filter_map(|line| line.split_once(": "));
        let events = events.flat_map(|(_, events)| events.split(' ')).collect::<Vec<_>>();
        clients.push(events.join(" "));
    }
    let missed = "a=2@5 -b@6 c=l@7 old=l@8 a=9@9 a=10@10";
    let all = format!("a=1@2 b=1@3 old=l@4 {missed}");
    assert_eq!(clients, [missed, all.as_str(), "a=9@9 a=10@10"]);
    assert!(events(&mut client, 0).is_empty());
}

#[test]
fn a_watcher_whose_events_were_compacted_is_cancelled_and_not_left_with_a_gap() {
    let (mut leader, follower) = leader_and_follower();
    leader.compact_rows(7);
    let mut client = Client::of(&follower, 16);
    client.create(&request("a", "z", 0)).unwrap();
    let path = send(&leader, &follower);
    follower.store.install(&path, leader.index, 1).unwrap();
    while follower.store.sync_watchers() {}
    assert_eq!(client.received(), ["0 compacted 7"]);
    assert_eq!(follower.store.finished_compaction(), 7);
    assert_eq!(follower.range(&RangeRequest { revision: 6, ..all() }), Err(Error::Compacted));
}

#[test]
fn a_compaction_that_the_leader_has_not_finished_is_finished_here() {
    let (mut leader, follower) = leader_and_follower();
    leader.compact(7).unwrap();
    let path = send(&leader, &follower);
    follower.store.install(&path, leader.index, 1).unwrap();
    assert_eq!((follower.store.compacted(), follower.store.finished_compaction()), (7, -1));
    while follower.store.step_compaction(3) {}
    while leader.store.step_compaction(1) {}
    assert_eq!(follower.hash(0), leader.hash(0));
}

#[test]
fn a_file_that_is_not_what_was_announced_changes_nothing() {
    let (leader, follower) = leader_and_follower();
    let path = send(&leader, &follower);
    let other = follower.store.install(&path, leader.index + 1, 1).unwrap_err();
    assert!(other.to_string().contains("ends with entry"), "{other}");
    let gone = follower.folder.path().join("x.snap.db");
    assert!(follower.store.install(&gone, 3, 1).is_err());
    assert!(!gone.exists(), "nothing was made in its place");
    assert_eq!(follower.keys(&all()), "abold");
    assert!(path.exists());
}

/// Goal: a row of a received database that does not fit its checksum changes nothing, ends nobody,
/// and is named with its own file. Method: a bit of a long value is flipped on its way.
#[test]
fn a_bad_row_is_named_with_the_received_file_and_changes_nothing() {
    let (mut leader, follower) = leader_and_follower();
    leader.put("long", &"x".repeat(10_000));
    let path = send(&leader, &follower);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(64).position(|part| part == [b'x'; 64]).unwrap();
    bytes[at + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = follower.store.install(&path, leader.index, 1).unwrap_err();
    let said = crate::storage::with_causes(&refused);
    assert!(said.contains(".snap.db is damaged: table key, revision 9.0"), "{said}");
    assert_eq!(follower.keys(&all()), "abold");
}

/// Goal: readers wait neither for a commit nor for a defragmentation that is under way when a
/// database is installed. Method: a defragmentation hangs, and then the install's own step before
/// the locks; the locks are free both times, and another defragmentation does not begin.
#[test]
fn an_install_waits_for_the_commit_thread_before_it_locks_out_readers() {
    let test = "server::mvcc::tests::install::\
                an_install_waits_for_the_commit_thread_before_it_locks_out_readers";
    own_process::alone(test, || {
        let (leader, follower) = leader_and_follower();
        let path = send(&leader, &follower);
        let (release, hangs) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let hangs = Mutex::new(hangs);
        let hang = move || {
            begun.send(()).unwrap();
            // Until the sender is dropped.
            let _ = hangs.lock().unwrap().recv();
        };
        fail::cfg_callback("defrag-before-rename", hang).unwrap();
        let (backend, store) = (follower.store.backend(), &follower.store);
        thread::scope(|scope| {
            scope.spawn(|| backend.defragment().unwrap());
            has_begun.recv().unwrap();
            let of_install = Arc::clone(store);
            let at_locks = move || {
                assert!(of_install.index.try_write().is_ok(), "readers would have to wait");
            };
            fail::cfg_callback("install-before-locks", at_locks).unwrap();
            let install = scope.spawn(|| store.install(&path, leader.index, 1));
            // It waits for the defragmentation, whose caller has what it asked for.
            assert!(store.index.try_write().is_ok() && !install.is_finished());
            drop(release);
            install.join().unwrap().unwrap();
        });
        assert_eq!(follower.pairs(&all()), leader.pairs(&all()));
        fail::remove("defrag-before-rename");
        backend.defragment().unwrap();
        assert_eq!(follower.pairs(&all()), leader.pairs(&all()));
    });
}
