//! Hashes of the key space around a compaction, compared with rows written by hand and with etcd's
//! rule.

use std::collections::{BTreeMap, HashSet};

use super::*;

/// CRC-32C bit by bit, so that the expected hash does not come from the code under test.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The key of a row: main, `_`, sub.
fn row_key(main: u8) -> Vec<u8> {
    let mut key = vec![0; 17];
    (key[7], key[8]) = (main, b'_');
    key
}

/// etcd 3.5.1, with which hashes are compared otherwise, refuses the compacted revision. So the
/// test contains the rows that late 3.5 leaves: of `a` the put at 4; of `b` its tombstone at 5,
/// which does not count.
#[test]
fn the_compacted_revision_has_the_hash_of_the_rows_that_etcd_leaves() {
    assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
    let mut space = Space::new();
    space.put("a", "1");
    space.put("b", "2");
    space.put("a", "3");
    space.delete("b", "");
    space.put("d", "6");
    space.put("a", "7");
    // Fields: key, create revision, mod revision, version, value.
    let a4 = b"\x0a\x01a\x10\x02\x18\x04\x20\x02\x2a\x013";
    let d6 = b"\x0a\x01d\x10\x06\x18\x06\x20\x01\x2a\x016";
    let a7 = b"\x0a\x01a\x10\x02\x18\x07\x20\x03\x2a\x017";
    let [k4, k6, k7] = [4, 6, 7].map(row_key);
    let at_5 = crc32c(&[b"key", &k4, a4]);
    let at_6 = crc32c(&[b"key", &k4, a4, &k6, d6]);
    // At 7, `a` has a newer row than the one at 4.
    let at_7 = crc32c(&[b"key", &k6, d6, &k7, a7]);
    space.compact(5).unwrap();
    loop {
        let hash = space.store.hash_kv(0, 5).unwrap();
        assert_eq!(hash, HashKv { hash: at_5, revision: 7, compacted: 5, hash_revision: 5 });
        assert_eq!([6, 7, 0].map(|revision| space.hash(revision)), [at_6, at_7, at_7]);
        assert_eq!(space.store.hash_kv(0, 4), Err(Error::Compacted));
        if !space.store.step_compaction(1) {
            break;
        }
    }
    let mut space = space.restart();
    assert_eq!(space.hash(5), at_5);
    space.compact_rows(7);
    assert_eq!(space.hash(7), at_7);
    assert_eq!(space.store.hash_kv(0, 6), Err(Error::Compacted));
}

#[test]
fn a_revision_below_zero_has_the_hash_of_no_rows() {
    let mut space = three_keys();
    let nothing = crc32c(&[b"key"]);
    assert_eq!(space.hash(-1), nothing);
    space.compact_rows(4);
    assert_eq!(space.hash(i64::MIN), nothing);
}

/// The writes to each key: the revision, and whether the key was deleted.
type History = BTreeMap<&'static str, Vec<(i64, bool)>>;

/// The revisions up to `at` that a compaction at `at` keeps (etcd: `keyIndex.keep`,
/// `keyIndex.compact`): the newest of each key. A tombstone is kept only at `at` itself, and never
/// for a hash.
fn kept(history: &History, at: i64, for_hash: bool) -> HashSet<i64> {
    let newest = |writes: &Vec<(i64, bool)>| writes.iter().rev().find(|it| it.0 <= at).copied();
    let keeps = |(main, is_tombstone): &(i64, bool)| !is_tombstone || *main == at && !for_hash;
    history.values().filter_map(newest).filter(keeps).map(|(main, _)| main).collect()
}

/// etcd's hash of the rows that exist when a compaction is finished (`kvHasher`).
fn expected(history: &History, rows: &[(Bytes, Bytes)], compacted: i64, at: i64) -> u32 {
    let (left, keep) = (kept(history, compacted, false), kept(history, at, true));
    let mut hashed: Vec<&[u8]> = vec![b"key"];
    for (key, value) in rows {
        let (revision, is_tombstone) = Revision::from_row_key(key).unwrap();
        let main = revision.main;
        let is_there = compacted < main || left.contains(&main);
        let is_kept = compacted < main || keep.is_empty() || keep.contains(&main);
        if is_there && main <= at && is_kept && !(is_tombstone && main == compacted) {
            hashed.extend([key.as_ref(), value.as_ref()]);
        }
    }
    crc32c(&hashed)
}

/// Goal: each revision that has a hash has etcd's, however far the compaction has come. Method:
/// every history of five writes to two keys, and a compaction; hashes are compared after each of
/// its steps. After some histories no key is left.
#[test]
fn a_hash_does_not_depend_on_how_far_the_compaction_is() {
    let mut with_nothing_kept = 0;
    for choices in 0..4_u32.pow(5) {
        let mut space = Space::new();
        let mut history = History::new();
        for step in 0..5 {
            let choice = choices / 4_u32.pow(step) % 4;
            let key = if choice % 2 == 0 { "a" } else { "b" };
            let before = space.store.revision();
            if choice < 2 {
                space.put(key, &step.to_string());
            } else {
                space.delete(key, "");
            }
            if before < space.store.revision() {
                history.entry(key).or_default().push((before + 1, 2 <= choice));
            }
        }
        let rows = space.store.backend().range(Bucket::Key, b"", None, 0);
        let newest = space.store.revision();
        let compacted = 2 + i64::from(choices % 5);
        if newest < compacted {
            continue;
        }
        space.compact(compacted).unwrap();
        let due: Vec<_> =
            (compacted..=newest).map(|at| expected(&history, &rows, compacted, at)).collect();
        with_nothing_kept += usize::from(kept(&history, newest, true).is_empty());
        loop {
            let hashes: Vec<_> = (compacted..=newest).map(|at| space.hash(at)).collect();
            assert_eq!(hashes, due, "{history:?}, compacted {compacted}");
            assert_eq!(space.store.hash_kv(0, compacted - 1), Err(Error::Compacted));
            if !space.store.step_compaction(1) {
                break;
            }
        }
    }
    assert!(10 < with_nothing_kept, "{with_nothing_kept}");
}
