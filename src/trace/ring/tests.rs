use std::thread;

use super::*;
use crate::trace::{record::FLAG_CANCELLED, stage::METHODS};

fn words(value: u64) -> [u64; WORDS] {
    let mut words = [value; WORDS];
    words[0] = 0;
    words
}

#[test]
fn a_reader_gets_the_records_in_order() {
    let ring = Arc::new(Ring::new(3, 8));
    let mut reader = Reader::new(Arc::clone(&ring));
    for value in 0..5 {
        ring.put_noted(&words(value));
    }
    let mut seen = Vec::new();
    let lost = reader.drain(|ring, note| {
        let Seen::Record(number, _, id) = note else { panic!("{note:?}") };
        seen.push((number, id, ring.get(number)));
    });
    assert_eq!(0, lost);
    let expected: Vec<_> = (0..5).map(|n| (n, n, Ok(Record { words: words(n) }))).collect();
    assert_eq!(expected, seen);
}

#[test]
fn overwritten_records_are_counted() {
    let ring = Arc::new(Ring::new(3, 8));
    let mut reader = Reader::new(Arc::clone(&ring));
    for value in 0..20 {
        ring.put_noted(&words(value));
    }
    let mut seen = Vec::new();
    let lost = reader.drain(|_, note| {
        let Seen::Record(number, ..) = note else { panic!("{note:?}") };
        seen.push(number);
    });
    // The place of the oldest note is the next to be written to.
    assert_eq!((13, (13..20).collect::<Vec<_>>()), (lost, seen));
    assert_eq!(Err(Overwritten), ring.get(11));
}

#[test]
fn a_slow_reader_beside_a_fast_writer_loses_nothing_uncounted_and_sees_nothing_torn() {
    const WRITTEN: u64 = 400_000;
    let ring = Arc::new(Ring::new(1, 256));
    let mut reader = Reader::new(Arc::clone(&ring));
    let writer = thread::spawn({
        let ring = Arc::clone(&ring);
        move || (0..WRITTEN).for_each(|value| ring.put_noted(&words(value)))
    });
    let (mut read, mut torn, mut late) = (0, 0, 0);
    while reader.next < WRITTEN {
        reader.drain(|ring, note| {
            let Seen::Record(number, _, id) = note else { panic!("{note:?}") };
            read += 1;
            torn += u64::from(id != number);
            match ring.get(number) {
                Ok(record) => torn += u64::from(record.words[1..] != words(number)[1..]),
                Err(Overwritten) => late += 1,
            }
        });
        thread::yield_now();
    }
    writer.join().unwrap();
    assert_eq!(0, torn);
    assert_eq!(WRITTEN, read + reader.lost, "{late} were overwritten between two looks");
    assert!(0 < read, "the reader came to nothing");
}

#[test]
fn a_thread_that_ends_leaves_its_records_behind_and_then_goes() {
    let id = 0x7001;
    let ring = thread::spawn(move || {
        set_thread("wal");
        crate::mark!(WalFsync, id, first = 1);
        OWN.with(|own| Arc::clone(&own.borrow().as_ref().unwrap().0))
    })
    .join()
    .unwrap();
    let mut reader = Reader::new(Arc::clone(&ring));
    assert!(!reader.is_finished());
    let mut ids = Vec::new();
    reader.drain(|ring, note| {
        let Seen::Record(_, _, id) = note else { panic!("{note:?}") };
        ids.push((THREADS[usize::from(ring.thread)], id));
    });
    assert_eq!(vec![("wal", id)], ids);
    assert!(reader.is_finished());
    forget(&ring);
    assert!(rings().iter().all(|other| !Arc::ptr_eq(other, &ring)));
}

#[test]
fn a_step_writes_its_beginning_and_its_end_with_one_clock() {
    let records = thread::spawn(|| {
        set_thread("grpc");
        let mut span = crate::stage!(Rpc, 77, bytes_in = 5).begun();
        crate::set!(span, Rpc, revision = 8);
        span.result(5);
        drop(span);
        let ring = OWN.with(|own| Arc::clone(&own.borrow().as_ref().unwrap().0));
        [ring.get(0).unwrap(), ring.get(1).unwrap()]
    })
    .join()
    .unwrap();
    let [begin, span] = records;
    assert_eq!((Some(Kind::Begin), Some(Kind::Span)), (begin.kind(), span.kind()));
    assert_eq!(begin.clock(), span.clock());
    assert!(span.clock() < span.clock_end());
    assert_eq!((0, 5), (begin.head().result, span.head().result));
    assert_eq!(8, crate::field!(span, Rpc, revision));
}

#[test]
fn a_thread_that_does_not_name_itself_has_the_name_that_it_was_started_with() {
    let name_of = |started: &str| {
        let thread = thread::Builder::new().name(started.to_owned());
        let work = || {
            crate::mark!(RaftEntry, 78, index = 1);
            super::thread_name()
        };
        thread.spawn(work).unwrap().join().unwrap()
    };
    let names = ["wal", "peer", "commit", "wal-prepare"].map(name_of);
    assert_eq!(["wal", "peer", "commit", "other"], names);
}

/// Goal: a request that is not kept costs the drain two notes, and one that is wanted a look at
/// each of its records.
#[test]
fn requests_leave_notes_by_what_can_be_wanted_of_them() {
    const PREFIX: u64 = 0x7002;
    id::note_peer(PREFIX);
    let ids = [1, 2, 3, 4].map(|counter: u64| PREFIX << 48 | counter << 1);
    let [other, failed, pinned, waiting] = ids;
    let kept = other | 1;
    let call = |id: u64, method: &str, result: u8| {
        let number = METHODS.iter().position(|name| *name == method).unwrap() as u64;
        let mut rpc = crate::stage!(Rpc, id, method = number).begun();
        drop(crate::stage!(RpcValidate, id));
        rpc.result(result);
    };
    let seen = thread::spawn(move || {
        set_thread("grpc");
        call(other, "KV/Put", 0);
        call(failed, "KV/Put", 3);
        call(waiting, "Lock/Lock", 3);
        call(kept, "KV/Put", 0);
        pin(pinned);
        call(pinned, "KV/Put", 0);
        unpin(pinned);
        let ring = OWN.with(|own| Arc::clone(&own.borrow().as_ref().unwrap().0));
        let mut seen = Vec::new();
        Reader::new(ring).drain(|_, note| {
            seen.push(match note {
                Seen::Record(_, head, id) => (id, Stage::from_number(head.stage)),
                Seen::Begun(id) | Seen::Ended(id) => (id, None),
            });
        });
        seen
    })
    .join()
    .unwrap();
    let of = |id: u64| -> Vec<Option<Stage>> {
        seen.iter().filter(|(of, _)| *of == id).map(|(_, stage)| *stage).collect()
    };
    let whole = vec![Some(Stage::Rpc), Some(Stage::RpcValidate), Some(Stage::Rpc)];
    assert_eq!(vec![None, None], of(other));
    assert_eq!(vec![None, Some(Stage::Rpc)], of(failed));
    assert_eq!(vec![None], of(waiting));
    assert_eq!((whole.clone(), whole), (of(kept), of(pinned)));
}

/// Goal: a call that goes well is nowhere said to be cancelled. Method: as in the interceptor, the
/// flag for a call that is dropped is set before its beginning is recorded.
#[test]
fn a_beginning_does_not_say_how_the_step_would_end() {
    let flags = thread::spawn(|| {
        let mut span = crate::stage!(Rpc, 9 << 48 | 1);
        span.flag(FLAG_CANCELLED);
        let mut span = span.begun();
        span.clear_flag(FLAG_CANCELLED);
        drop(span);
        own_records().iter().map(|record| record.head().flags).collect::<Vec<_>>()
    });
    assert_eq!(vec![0, 0], flags.join().unwrap());
}
