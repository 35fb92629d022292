//! Ropes have the bytes of the messages that they replace, whether rows were kept or not.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tempfile::TempDir;

use super::{Failed, Question};
use crate::{
    pb::etcdserverpb::{
        DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
        RangeResponse, RequestOp, TxnRequest, TxnResponse, request_op::Request,
    },
    server::{
        Error,
        answer::{
            Connection, Large, Room,
            ledger::{Limits, ShareLimit},
            meter::Meter,
            room::{LIMITS, SMALL},
            rope::Next,
            writer::Stop,
        },
        apply::key_space::KvRequest,
        mvcc::{KvResponse, Reply, ReplyTo, Store, read_txn::Attempt, reader::Source},
        txn::Txn,
    },
    storage::backend::{Backend, Options},
    trace::{Stage, own_records},
};

/// Longer than a portion that is read again.
const BIG: usize = 200 << 10;

/// A key space with small and large values, in the file and in the buffer.
struct Space {
    store: Arc<Store>,
    room: Arc<Room>,
    index: u64,
    _folder: TempDir,
}

impl Space {
    fn new(limits: Limits) -> Space {
        let folder = TempDir::new().unwrap();
        let backend = Backend::open(&folder.path().join("db"), Options::default()).unwrap();
        let store = Store::open(backend).unwrap();
        let mut space = Space { store, room: Room::new(limits), index: 0, _folder: folder };
        for key in 0..40 {
            // Values are not in the order of their keys, and some are written twice.
            let len = if key % 3 == 0 { BIG } else { usize::from(key) };
            space.put(key, len);
            if key % 4 == 0 {
                space.put(key, len);
            }
            if key == 20 {
                space.store.backend().commit_now();
            }
        }
        space
    }

    fn put(&mut self, key: u8, len: usize) {
        let value = vec![key.wrapping_mul(37); len];
        let put = PutRequest { key: key_of(key), value: value.into(), ..PutRequest::default() };
        self.apply(KvRequest::Put(&put), ReplyTo::Nobody);
    }

    fn apply(&mut self, request: KvRequest<'_>, reply_to: ReplyTo) -> Reply {
        self.index += 1;
        let mut batch = self.store.batch();
        let reply = batch.kv(self.index, request, reply_to).unwrap();
        batch.set_applied(self.index, 1);
        reply
    }

    fn ask(&self, question: &mut Question, of: &Arc<Connection>) -> Result<Large, Stop> {
        let seat = of.try_enter();
        question.read(&self.store, (1, &mut 0), Meter::new(of, seat)).map_err(|failed| match failed
        {
            Failed::Stopped(stop, _) => stop,
            other => panic!("{other:?}"),
        })
    }

    /// Sends an answer. Returns its bytes, and how often rows were read again.
    fn send(&self, large: &Large) -> Result<(Vec<u8>, usize), Error> {
        let (mut bytes, mut again) = (Vec::new(), 0);
        loop {
            let next = large.rope().next(100_000);
            match next {
                Next::End => return Ok((bytes, again)),
                Next::Ended => panic!("nobody has ended it"),
                Next::Bytes(next, _) => bytes.extend_from_slice(&next),
                Next::Rows(mut rows) => {
                    let mut encoder = rows.encoder();
                    self.store.reread_rows(1, rows.at(), rows.keys(), |row| {
                        encoder.push(row);
                        ControlFlow::Break(())
                    })?;
                    rows.pass(1);
                    large.rope().put_back(encoder.finish(), rows);
                    again += 1;
                }
            }
        }
    }
}

fn key_of(key: u8) -> Bytes {
    Bytes::copy_from_slice(&[b'k', key])
}

fn of_all() -> RangeRequest {
    RangeRequest { key: "k".into(), range_end: "l".into(), ..RangeRequest::default() }
}

/// Limits under which no rows are kept.
fn without_room() -> Limits {
    let none = |limit: ShareLimit| ShareLimit { kept: 0, ..limit };
    Limits { member: none(LIMITS.member), connection: none(LIMITS.connection), ..LIMITS }
}

/// Adds the header, without which a rope is written.
fn head(revision: i64) -> Vec<u8> {
    let header = crate::server::mvcc::plan::header(revision);
    PutResponse { header, prev_kv: None }.encode_to_vec()
}

/// Every combination of the options of a range, except filters.
fn ranges() -> Vec<RangeRequest> {
    let mut ranges = Vec::new();
    for sort_order in 0..3 {
        for sort_target in 0..5 {
            for limit in [0, 1, 7, 100] {
                for keys_only in [false, true] {
                    let more = RangeRequest { sort_order, sort_target, limit, ..of_all() };
                    ranges.push(RangeRequest { keys_only, ..more });
                }
            }
        }
    }
    ranges.push(RangeRequest { count_only: true, ..of_all() });
    ranges.push(RangeRequest { min_mod_revision: 30, max_create_revision: 50, ..of_all() });
    ranges.push(RangeRequest { revision: 20, ..of_all() });
    ranges.push(RangeRequest { key: "none".into(), ..RangeRequest::default() });
    ranges
}

/// Goal: the pieces of a range are the bytes of its message, whether rows are kept or not.
#[test]
fn the_pieces_of_a_range_are_its_message() {
    for (limits, is_kept) in [(LIMITS, true), (without_room(), false)] {
        let space = Space::new(limits);
        for range in ranges() {
            let whole = space.store.range(1, &range).unwrap();
            let of = space.room.connect();
            let large = space.ask(&mut Question::Range(range.clone(), None), &of).unwrap();
            let (bytes, again) = space.send(&large).unwrap();
            assert_eq!(bytes.len(), large.len, "{range:?}");
            let bytes = [head(large.revision), bytes].concat();
            assert!(RangeResponse::decode(&bytes[..]).unwrap() == whole, "{range:?}");
            assert!(bytes == whole.encode_to_vec(), "{range:?}");
            let expected = if is_kept { 0 } else { whole.kvs.len() };
            assert_eq!(again, expected, "rows that were read again: {range:?}");
            drop(large);
            assert_eq!(space.room.in_flight(), (0, 0), "{range:?}");
        }
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// A transaction that writes and reads alternately, with two nested ones.
fn busy() -> Txn {
    let range = || op(Request::RequestRange(of_all()));
    let put = |key: u8| {
        let put = PutRequest {
            key: key_of(key),
            value: "new".into(),
            prev_kv: true,
            ..PutRequest::default()
        };
        op(Request::RequestPut(put))
    };
    let (key, range_end) = (key_of(3), key_of(12));
    let delete = DeleteRangeRequest { key, range_end, prev_kv: true };
    let inner = TxnRequest { success: vec![put(20), range()], ..TxnRequest::default() };
    let none = RequestOp { request: None };
    let delete = op(Request::RequestDeleteRange(delete));
    let success = vec![range(), put(0), put(200), range(), delete, none, range()];
    let nested = op(Request::RequestTxn(inner.encode_to_vec().into()));
    let success = [success, vec![nested, range()]].concat();
    Txn::expand(TxnRequest { success, ..TxnRequest::default() }, 128).unwrap()
}

/// Goal: a reply that apply has planned shows the state that the transaction saw, even if other
/// writes come before it is read; and its pieces are the bytes of the message. Method: read it as a
/// whole and in pieces, after other writes.
#[test]
fn the_pieces_of_a_transaction_are_its_message_and_later_writes_are_not_in_it() {
    for limits in [LIMITS, without_room()] {
        let mut answers = Vec::new();
        for in_pieces in [false, true] {
            let mut space = Space::new(limits);
            let txn = busy();
            let mut reply = space.apply(KvRequest::Txn(&txn), ReplyTo::Client);
            let delete = DeleteRangeRequest {
                key: "k".into(),
                range_end: "l".into(),
                ..DeleteRangeRequest::default()
            };
            space.apply(KvRequest::DeleteRange(&delete), ReplyTo::Nobody);
            space.store.backend().commit_now();
            if !in_pieces {
                let source = Source::Published(space.store.backend());
                let whole = reply.whole(1, source, &mut usize::MAX.clone());
                let Some(KvResponse::Txn(whole)) = whole else { panic!("{whole:?}") };
                answers.push(whole);
                continue;
            }
            let revision = reply.revision();
            let of = space.room.connect();
            let large = space.ask(&mut Question::Planned(reply), &of).unwrap();
            let (bytes, _) = space.send(&large).unwrap();
            assert_eq!(bytes.len(), large.len);
            let bytes = [head(revision), bytes].concat();
            answers.push(TxnResponse::decode(&bytes[..]).unwrap());
            assert!(answers[0].encode_to_vec() == bytes);
        }
        assert!(answers[0] == answers[1]);
        assert_eq!(answers[0].responses.len(), 9);
    }
}

/// Goal: depth costs no stack, and a deep answer has the same bytes in pieces as in a message.
/// Method: nested deeper than a client may, as a log entry can be; on a stack for some hundred
/// calls; the innermost transaction reads enough to make the answer large.
#[test]
fn the_pieces_of_a_deep_transaction_are_its_message() {
    const DEPTH: usize = 20_000;
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let thread = small.spawn(|| {
        let mut space = Space::new(without_room());
        // From the inside to the outside: each level is two keys and two lengths around the last.
        let inner = op(Request::RequestRange(of_all()));
        let inner = TxnRequest { success: vec![inner], ..TxnRequest::default() };
        let mut bytes: Vec<u8> = inner.encode_to_vec().into_iter().rev().collect();
        for _ in 1..DEPTH {
            for tag in [4_u8, 2] {
                let mut field = vec![tag << 3 | 2];
                prost::encode_length_delimiter(bytes.len(), &mut field).unwrap();
                bytes.extend(field.iter().rev());
            }
        }
        bytes.reverse();
        let request = TxnRequest::decode(Bytes::from(bytes)).unwrap();
        let txn = Txn::expand(request, usize::MAX).unwrap();
        let mut reply = space.apply(KvRequest::Txn(&txn), ReplyTo::Client);
        let source = Source::Published(space.store.backend());
        let whole = reply.whole(1, source, &mut usize::MAX.clone());
        let Some(KvResponse::Txn(whole)) = whole else { panic!("no answer to a transaction") };
        let (revision, of) = (reply.revision(), space.room.connect());
        let large = space.ask(&mut Question::Planned(reply), &of).unwrap();
        let mut pieces = 0;
        while let Next::Bytes(..) = large.rope().next(16 << 10) {
            pieces += 1;
        }
        // Two short parts a level, some ten bytes each.
        assert!((2..DEPTH / 10).contains(&pieces), "{pieces} pieces");
        let mut again = Question::Planned(space.apply(KvRequest::Txn(&txn), ReplyTo::Client));
        let large = space.ask(&mut again, &of).unwrap();
        let (bytes, _) = space.send(&large).unwrap();
        assert!([head(revision), bytes].concat() == whole.encode_to_vec());
    });
    thread.unwrap().join().unwrap();
}

/// Goal: members that do not answer carry out the same write, and read nothing.
#[test]
fn a_member_that_does_not_answer_writes_the_same_and_reads_nothing() {
    let (mut here, mut elsewhere) = (Space::new(LIMITS), Space::new(LIMITS));
    let txn = busy();
    let answer = here.apply(KvRequest::Txn(&txn), ReplyTo::Client);
    let none = elsewhere.apply(KvRequest::Txn(&txn), ReplyTo::Nobody);
    assert!(answer.rows() > 100 && none.rows() == 0, "{} and {}", answer.rows(), none.rows());
    assert_eq!(answer.revision(), none.revision());
    let hash = |space: &Space| space.store.hash_kv(0, 0).unwrap().hash;
    assert_eq!(hash(&here), hash(&elsewhere));
    let delete = DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: true };
    let Reply::DeleteRange { deleted, previous, .. } =
        elsewhere.apply(KvRequest::DeleteRange(&delete), ReplyTo::Nobody)
    else {
        panic!("a deletion is answered with something else");
    };
    assert!(deleted > 0 && previous.is_none());
}

/// Goal: the pieces of a deletion that returns the deleted pairs are the bytes of its message.
#[test]
fn the_pieces_of_a_deletion_are_its_message() {
    for limits in [LIMITS, without_room()] {
        let mut space = Space::new(limits);
        let delete = DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: true };
        let reply = space.apply(KvRequest::DeleteRange(&delete), ReplyTo::Client);
        let revision = reply.revision();
        let of = space.room.connect();
        let large = space.ask(&mut Question::Planned(reply), &of).unwrap();
        let bytes = [head(revision), space.send(&large).unwrap().0].concat();
        let response = DeleteRangeResponse::decode(&bytes[..]).unwrap();
        assert_eq!((response.deleted, response.prev_kvs.len()), (40, 40));
        assert!(response.encode_to_vec() == bytes);
    }
}

/// Goal: an answer that was measured before a compaction is complete if its rows still exist; if a
/// row is gone, it fails. Method: a key is deleted after the answer was measured, its revision is
/// compacted, and then its row removed.
#[test]
fn compacted_rows_are_sent_while_they_exist_and_their_absence_is_an_error() {
    let mut space = Space::new(without_room());
    let of = space.room.connect();
    let whole = space.store.range(1, &of_all()).unwrap().encode_to_vec();
    let [first, second] =
        [(); 2].map(|()| space.ask(&mut Question::Range(of_all(), None), &of).unwrap());
    let (key, range_end) = (key_of(39), Bytes::new());
    let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
    space.apply(KvRequest::DeleteRange(&delete), ReplyTo::Client);
    let revision = space.store.revision();
    let compact = crate::pb::etcdserverpb::CompactionRequest { revision, physical: false };
    space.apply(KvRequest::Compact(&compact), ReplyTo::Client);
    let at = RangeRequest { revision: first.revision, ..of_all() };
    assert_eq!(space.store.range(1, &at).err(), Some(Error::Compacted));
    let (bytes, again) = space.send(&first).unwrap();
    assert_eq!(again, 40);
    assert!([head(first.revision), bytes].concat() == whole);
    while space.store.step_compaction(100) {}
    space.store.backend().commit_now();
    assert_eq!(space.send(&second).err(), Some(Error::Compacted));
}

/// Goal: a small answer needs no place, a longer one gets it while it is read, and without a place
/// it keeps nothing. Method: the only place is taken, and then given back.
#[test]
fn an_answer_that_is_not_small_needs_a_place() {
    let one = ShareLimit { all: LIMITS.window, kept: LIMITS.window };
    let space = Space::new(Limits { member: one, connection: one, ..LIMITS });
    let of = space.room.connect();
    let small = RangeRequest { limit: 3, ..of_all() };
    let read = |question: &mut Question| {
        question.read(&space.store, (1, &mut 0), Meter::new(&of, None)).map_err(|failed| {
            match failed {
                Failed::Stopped(stop, _) => stop,
                other => panic!("{other:?}"),
            }
        })
    };
    let taken = of.try_enter().unwrap();
    let (mut small, mut large) = (Question::Range(small, None), Question::Range(of_all(), None));
    let answer = read(&mut small).unwrap();
    assert!(answer.seat.is_none() && answer.len < SMALL);
    // It is counted although nothing of it is sent yet.
    assert_eq!(space.room.in_flight().1, answer.len);
    drop(answer);
    assert_eq!(read(&mut large).err(), Some(Stop::Full));
    let by_value = RangeRequest { sort_target: 4, sort_order: 2, ..of_all() };
    assert_eq!(read(&mut Question::Range(by_value.clone(), None)).err(), Some(Stop::Full));
    drop(taken);
    for mut question in [large, Question::Range(by_value, None)] {
        let answer = read(&mut question).unwrap();
        assert!(answer.seat.is_some() && answer.len > SMALL);
        // It kept its small part, and the rest was measured.
        assert!(space.room.in_flight().0 <= LIMITS.window + SMALL + LIMITS.window);
        drop(answer);
        assert_eq!(space.room.in_flight(), (0, 0));
    }
}

/// Goal: plans and noted rows are counted once, for as long as they are in memory. Method: a
/// transaction that lists the same keys again and again, of which only the small part is kept.
#[test]
fn plans_and_noted_rows_are_counted_once() {
    const LISTS: usize = 20_000;
    let mut space = Space::new(without_room());
    let range = RangeRequest { key: key_of(1), range_end: key_of(3), ..RangeRequest::default() };
    let lists = TxnRequest {
        success: vec![op(Request::RequestRange(range)); LISTS],
        ..TxnRequest::default()
    };
    let least = LISTS * 2 * 17;
    let txn = Txn::expand(lists.clone(), LISTS).unwrap();
    let reply = space.apply(KvRequest::Txn(&txn), ReplyTo::Client);
    let most = space.store.plan_bytes(txn.ranges());
    assert!(least <= reply.bytes() && most >= least && most <= 20 * least, "{most}");
    for (mut question, plan) in
        [(Question::Planned(reply), None), (Question::Txn(lists, None), Some(most))]
    {
        let of = space.room.connect();
        let taken = fill_up(&of);
        let full = question.read(&space.store, (1, &mut 0), Meter::new(&of, None));
        let Err(Failed::Stopped(Stop::Full, wanted)) = full else { panic!("there is no room") };
        assert!(wanted >= least && plan.is_none_or(|plan| plan == wanted), "{wanted}");
        drop(taken);
        let large = space.ask(&mut question, &of).unwrap();
        drop(question);
        assert_eq!(space.room.in_flight().0, LIMITS.window + least);
        drop(large);
        assert_eq!(space.room.in_flight(), (0, 0));
    }
}

/// The keys that each range of a request has read, by its records; and how often keys were looked
/// up in the index, and rows in the buffers.
fn records_of(id: u64) -> (Vec<u64>, usize, usize) {
    let records = own_records().into_iter().filter(|record| record.id() == id);
    let records: Vec<_> = records.collect();
    let of = |stage| records.iter().filter(move |record| record.stage() == Some(stage));
    let keys = of(Stage::MvccRange).map(|range| crate::field!(range, MvccRange, keys)).collect();
    (keys, of(Stage::TreeIndexGet).count(), of(Stage::BufferGet).count())
}

/// How often the read had begun before, by the records of the index and of the buffers.
fn began_again(id: u64) -> [Vec<u64>; 2] {
    let records = own_records().into_iter().filter(|record| record.id() == id);
    let records: Vec<_> = records.collect();
    let of = |stage| {
        let of_stage = records.iter().filter(move |record| record.stage() == Some(stage));
        of_stage.map(|it| crate::field!(it, TreeIndexGet | BufferGet, again)).collect()
    };
    [of(Stage::TreeIndexGet), of(Stage::BufferGet)]
}

/// Goal: a read that turns out not to be small is not planned again, and leaves one record of each
/// range, with the number of all its rows. Method: the budget ends within a range; within the
/// second range of a transaction; within the previous pairs of a deletion.
#[test]
fn a_read_that_is_not_small_is_planned_once_and_leaves_one_record_of_each_range() {
    let mut space = Space::new(LIMITS);
    let of = space.room.connect();
    let read = |space: &Space, id, mut question: Question| {
        let large = question.read(&space.store, (id, &mut 0), Meter::new(&of, of.try_enter()));
        assert!(large.unwrap().len > SMALL);
    };
    let range = RangeRequest { limit: 100, ..of_all() };
    let Ok(Attempt::Planned(plan)) = space.store.small_range(1001, &range, SMALL) else {
        panic!("the range is neither small nor long");
    };
    assert_eq!(records_of(1001), (vec![], 1, 1));
    read(&space, 1001, Question::Range(range.clone(), Some(plan)));
    assert_eq!(records_of(1001), (vec![40], 1, 1));

    let few = RangeRequest { limit: 2, ..of_all() };
    let ranges = [few, range].map(|range| op(Request::RequestRange(range)));
    let txn = TxnRequest { success: ranges.into(), ..TxnRequest::default() };
    let Ok(Attempt::Planned(reply)) = space.store.small_txn(1002, &txn, SMALL) else {
        panic!("the transaction is neither small nor long");
    };
    read(&space, 1002, Question::Txn(txn, Some(reply)));
    assert_eq!(records_of(1002), (vec![2, 40], 2, 2));

    let RangeRequest { key, range_end, .. } = of_all();
    let delete = DeleteRangeRequest { key, range_end, prev_kv: true };
    let mut reply = space.apply(KvRequest::DeleteRange(&delete), ReplyTo::Client);
    let source = Source::Published(space.store.backend());
    assert_eq!(reply.whole(1003, source, &mut SMALL.clone()), None);
    assert_eq!(records_of(1003).0, [0; 0]);
    read(&space, 1003, Question::Planned(reply));
    assert_eq!(records_of(1003).0, [40]);
}

/// Goal: an answer that waits for room keeps no plan, because its rows in the buffer are not
/// counted; and only the reading that succeeds is recorded. Method: all places are taken first.
#[test]
fn an_answer_that_waits_for_room_leaves_no_plan_and_no_record_behind() {
    let space = Space::new(LIMITS);
    let of = space.room.connect();
    let range = RangeRequest { limit: 100, ..of_all() };
    let Ok(Attempt::Planned(plan)) = space.store.small_range(1001, &range, SMALL) else {
        panic!("the range is neither small nor long");
    };
    for (id, plan) in [(1001, Some(plan)), (1002, None)] {
        let mut question = Question::Range(range.clone(), plan);
        let (taken, mut plans) = (fill_up(&of), 0);
        let full = question.read(&space.store, (id, &mut plans), Meter::new(&of, None));
        assert!(matches!(full, Err(Failed::Stopped(Stop::Full, _))), "{full:?}");
        assert!(matches!(question, Question::Range(_, None)));
        drop((full, taken));
        assert_eq!(records_of(id), (vec![], 1, 1));
        question.read(&space.store, (id, &mut plans), Meter::new(&of, of.try_enter())).unwrap();
        assert_eq!(records_of(id), (vec![40], 2, 2));
        assert_eq!([vec![0, 1], vec![0, 1]], began_again(id));
    }
}

/// Goal: the same for a plan that proves too long only when it is made. Method: it holds many rows
/// of the write buffer, which its upper limit does not include.
#[test]
fn a_plan_that_finds_no_room_leaves_no_record() {
    let folder = TempDir::new().unwrap();
    let batch_interval = Duration::from_secs(3600);
    let options = Options { batch_interval, batch_limit: 1 << 20, ..Options::default() };
    let backend = Backend::open(&folder.path().join("db"), options).unwrap();
    let (store, room) = (Store::open(backend).unwrap(), Room::new(LIMITS));
    let mut space = Space { store, room, index: 0, _folder: folder };
    for key in 0..12_000 {
        let put = PutRequest { key: format!("k{key}").into(), ..PutRequest::default() };
        space.apply(KvRequest::Put(&put), ReplyTo::Nobody);
    }
    let of = space.room.connect();
    let _taken = fill_up(&of);
    let full =
        Question::Range(of_all(), None).read(&space.store, (1001, &mut 0), Meter::new(&of, None));
    assert!(matches!(full, Err(Failed::Stopped(Stop::Full, most)) if most < SMALL), "{full:?}");
    assert_eq!(records_of(1001), (vec![], 1, 1));
}

/// Takes all places.
fn fill_up(of: &Arc<Connection>) -> Vec<crate::server::answer::Seat> {
    std::iter::from_fn(|| of.try_enter()).collect()
}
