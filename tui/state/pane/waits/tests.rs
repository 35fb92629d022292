//! What the view of those who wait says, at steps of golden events and of recordings.

use std::{fs::File, io::BufReader};

use glass_etcd::story::recording;

use super::*;
use crate::state::{State, tests::press};

fn lease() -> Recording {
    let file = File::open("tests/recordings/lease.ndjson").unwrap();
    recording::read(BufReader::new(file)).unwrap().recording
}

/// Who waits at the cursor, at each step of the story that these keys open.
fn along(recording: Recording, keys: &str) -> Vec<Waiting> {
    let mut state = State::of_recording(recording);
    press(&mut state, keys);
    let mut all = Vec::new();
    for _ in 0..60 {
        all.push(state.panes.waits.at(&state.sight()));
        press(&mut state, "right");
    }
    all
}

fn now(recording: Recording) -> Waiting {
    let mut state = State::of_recording(recording);
    press(&mut state, "W");
    state.panes.waits.at(&state.sight())
}

/// Goal: at the end of the recording the first lease is revoked on all members, with its keys, and
/// the call that waited has the lock.
#[test]
fn a_revoked_lease_is_gone_and_its_lock_is_handed_over() {
    let waiting = now(lease());
    let leases: Vec<u64> = waiting.leases.iter().map(|one| one.lease).collect();
    assert_eq!(leases, [0x7e85_a22a_8ec4_a112]);
    let keys: Vec<String> = waiting.leases[0].keys.iter().map(KeyText::display).collect();
    assert_eq!(keys, ["chains/lock/7e85a22a8ec4a112"]);
    assert!(waiting.leases[0].left_ns < 60_000_000_000, "{waiting:?}");
    let places: Vec<(u64, bool)> = waiting.places.iter().map(|one| (one.own, one.holds)).collect();
    assert_eq!(places, [(4, true)]);
    let watched: Vec<String> =
        waiting.watchers.iter().map(|one| format!("{:?}", one.progress)).collect();
    assert_eq!(watched, ["Synced"]);
}

/// Goal: while one call has the lock, the other waits for its key; and a lease runs down until it
/// is renewed.
#[test]
fn the_queue_of_a_lock_and_the_countdown_of_a_lease_at_a_step() {
    let state = State::of_recording(lease());
    let rows = &state.list.rows;
    let second = rows.iter().rposition(|row| row.method == "Lock/Lock").unwrap();
    let keys = format!("g {} enter W", "down ".repeat(second));
    let all = along(lease(), &keys);
    let waits = all.iter().find(|waiting| waiting.places.len() == 2);
    let waiting = waits.expect("both are in the queue at some step");
    assert!(waiting.places[0].holds && !waiting.places[1].holds, "{waiting:?}");
    assert!(
        all.iter().any(|waiting| {
            waiting.places.iter().any(|one| (one.own, one.before) == (4, Some(3)))
        })
    );
    let left: Vec<i64> = all
        .iter()
        .filter_map(|waiting| waiting.leases.iter().find(|one| one.lease == 0x7ea5e))
        .map(|one| one.left_ns)
        .collect();
    assert!(left.iter().all(|left| *left <= 2_000_000_000), "{left:?}");
}

#[test]
fn a_victim_catches_up_and_is_synced_again() {
    let mut watcher = Watcher {
        id: 1,
        column: 0,
        number: 7,
        of_call: None,
        key: None,
        progress: Progress::Synced,
        sent: None,
        next: None,
    };
    let event = |stage: Stage, fields: &[(&str, u64)]| {
        let mut event = Event::mark(0, stage, 1);
        fields.iter().for_each(|(name, value)| event.set(stage.slot(name), *value));
        event
    };
    watcher.learn(&event(Stage::WatchVictim, &[("watcher", 7), ("revision", 9)]));
    assert_eq!(watcher.progress, Progress::Victim(9));
    watcher.learn(&event(Stage::WatchForward, &[("watcher", 7), ("next.new", 12)]));
    assert_eq!(watcher.progress, Progress::Unsynced(12));
    watcher.learn(&event(Stage::WatchForward, &[("watcher", 7), ("synced", 1)]));
    watcher.learn(&event(Stage::WatchSend, &[("watcher", 7), ("last", 14)]));
    assert_eq!((watcher.progress, watcher.sent), (Progress::Synced, Some(14)));
}
