//! The key space after a kill in the middle of a commit.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// The failpoints of a commit, and whether the transaction is committed there.
const BOUNDARIES: [(&str, bool); 7] = [
    ("backend-before-freeze", false),
    ("backend-after-freeze", false),
    ("backend-before-begin", false),
    ("backend-after-writes", false),
    ("backend-before-commit", false),
    ("backend-after-commit", true),
    ("backend-before-drop-frozen", true),
];

/// The state of a key space, as far as tests compare it.
#[derive(Debug, PartialEq)]
pub(super) struct Summary {
    consistent_index: u64,
    revision: i64,
    compacted: i64,
    hash: u32,
    keys: String,
}

pub(super) fn summary(store: &Store) -> Summary {
    let kvs = store.range(0, &all()).unwrap().kvs;
    Summary {
        consistent_index: store.backend().consistent_index().0,
        revision: store.revision(),
        compacted: store.compacted(),
        hash: store.hash_kv(0, 0).unwrap().hash,
        keys: kvs.iter().map(|kv| show(&kv.key)).collect(),
    }
}

/// Commits, and opens a copy of the file as it was when the commit reached `boundary`.
fn commit_and_copy(space: &Space, boundary: &str) -> Arc<Store> {
    let backend = space.store.backend();
    let (from, to) = (backend.path().to_owned(), backend.path().with_extension("image"));
    let (thread, image) = (backend.commit_thread(), to.clone());
    let reached = Arc::new(AtomicBool::new(false));
    let of_callback = reached.clone();
    let copy = move || {
        // Commit threads of other tests reach the same failpoint.
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

/// Goal: after a kill, a transaction of several writes, a compaction and the deletion of its rows
/// are in the file together with the index of their entries, or not at all. Method: copy the file
/// at each boundary of a commit, as a kill would leave it, and open the copy.
#[test]
fn a_crash_at_any_boundary_leaves_whole_entries() {
    let _scenario = fail::FailScenario::setup();
    for (boundary, is_through) in BOUNDARIES {
        let mut space = Space::new();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            space.put(key, value);
        }
        space.store.backend().commit_now();
        let before = summary(&space.store);
        space.txn_put_put_delete();
        space.compact(4).unwrap();
        space.store.step_compaction(100);
        space.store.step_compaction(2);
        space.put("c", "1");
        let after = summary(&space.store);

        let crashed = commit_and_copy(&space, boundary);
        let expected = if is_through { &after } else { &before };
        assert_eq!(&summary(&crashed), expected, "{boundary}");
        // The rest of the compaction changes nothing that can be read.
        while crashed.step_compaction(1) {}
        assert_eq!(&summary(&crashed), expected, "{boundary}");
        assert_eq!(summary(&space.store), after, "{boundary}");
    }
}
