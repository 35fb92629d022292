//! What a kill in the middle of a commit leaves of the key space.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const BOUNDARIES: [(&str, bool); 7] = [
    ("backend-before-freeze", false),
    ("backend-after-freeze", false),
    ("backend-before-begin", false),
    ("backend-after-writes", false),
    ("backend-before-commit", false),
    ("backend-after-commit", true),
    ("backend-before-drop-frozen", true),
];

/// What two states are compared by.
#[derive(Debug, PartialEq)]
pub(super) struct Standing {
    consistent_index: u64,
    revision: i64,
    compacted: i64,
    hash: u32,
    keys: String,
}

pub(super) fn standing(store: &Store) -> Standing {
    let kvs = store.range(0, &all()).unwrap().kvs;
    Standing {
        consistent_index: store.backend().consistent_index().0,
        revision: store.revision(),
        compacted: store.compacted(),
        hash: store.hash_kv(0).unwrap().hash,
        keys: kvs.iter().map(|kv| show(&kv.key)).collect(),
    }
}

/// Commits, and returns the file as it was when the commit came to `boundary`.
fn commit_and_copy(space: &Space, boundary: &str) -> Arc<Store> {
    let backend = space.store.backend();
    let (from, to) = (backend.path().to_owned(), backend.path().with_extension("image"));
    let (thread, image) = (backend.commit_thread(), to.clone());
    let reached = Arc::new(AtomicBool::new(false));
    let of_callback = reached.clone();
    let copy = move || {
        // Other tests' commit threads come along here as well.
        if std::thread::current().id() == thread {
            std::fs::copy(&from, &to).unwrap();
            of_callback.store(true, Ordering::Release);
        }
    };
    fail::cfg_callback(boundary, copy).unwrap();
    backend.commit_now();
    fail::remove(boundary);
    assert!(reached.load(Ordering::Acquire), "{boundary} was not reached");
    open(&image)
}

/// Goal: a transaction of several writes, a compaction and the deletion of its rows are there
/// with the index of their entries, or not at all. Method: at each boundary of the commit the
/// file is copied, which is what a kill leaves, and the copy is opened.
#[test]
fn a_crash_at_any_boundary_leaves_whole_entries() {
    let _scenario = fail::FailScenario::setup();
    for (boundary, is_through) in BOUNDARIES {
        let mut space = Space::new();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            space.put(key, value);
        }
        space.store.backend().commit_now();
        let before = standing(&space.store);
        space.txn_put_put_delete();
        space.compact(4).unwrap();
        space.store.step_compaction(100);
        space.store.step_compaction(2);
        space.put("c", "1");
        let after = standing(&space.store);

        let crashed = commit_and_copy(&space, boundary);
        let expected = if is_through { &after } else { &before };
        assert_eq!(&standing(&crashed), expected, "{boundary}");
        // What was left of the compaction is done, and changes nothing.
        while crashed.step_compaction(1) {}
        assert_eq!(&standing(&crashed), expected, "{boundary}");
        assert_eq!(standing(&space.store), after, "{boundary}");
    }
}
