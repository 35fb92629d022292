use super::*;
use crate::{
    numbers,
    trace::{
        record::FLAG_ERROR,
        record::Head,
        span::{CANCELED, DEADLINE_EXCEEDED},
        stage::METHODS,
    },
};

const OWN: u64 = 7;

fn hello() -> Hello {
    Hello {
        member_id: OWN,
        cluster_id: 1,
        name: String::new(),
        version: String::new(),
        boot: 1,
        wall_ns: 0,
        tick_base: 0,
        members: Vec::new(),
    }
}

fn record(stage: Stage, kind: Kind, id: u64, clock: u64, result: u8) -> Record {
    let head = Head { stage: stage as u8, kind: kind as u8, result, ..Head::default() };
    let put = METHODS.iter().position(|name| *name == "KV/Put").unwrap();
    let fields = if stage == Stage::Rpc { numbers!(Rpc, method = put) } else { [0; 8] };
    let mut record = Record::new(head, clock, clock, id, &fields);
    record.set_length(if kind == Kind::Span { 3 } else { 0 }, 0);
    record
}

/// A whole put on this member: its rpc, its key, and its end with this code.
fn put(id: u64, key: &[u8], code: u8) -> Vec<Record> {
    let clock = id & 0xffff_ffff;
    vec![
        record(Stage::Rpc, Kind::Begin, id, clock, 0),
        Record::key(clock + 1, id, 1, key),
        record(Stage::RaftPropose, Kind::Span, id, clock + 1, 0),
        record(Stage::Rpc, Kind::Span, id, clock, code),
    ]
}

fn own(counter: u64) -> u64 {
    OWN << 48 | counter << 8 | 1
}

fn foreign(counter: u64) -> u64 {
    8 << 48 | counter << 8 | 1
}

struct Pair(Subscriber, Subscription);

impl Pair {
    fn new(filter: Filter) -> Pair {
        let (mut subscriber, subscription) = Subscriber::new(filter, hello());
        subscriber.begin(&offer(&[], 0));
        Pair(subscriber, subscription)
    }

    fn offer(&mut self, records: &[Record], second: u64) {
        assert!(self.0.offer(&offer(records, second)));
    }

    /// Ids and numbers of the records that came through.
    fn heard(&mut self) -> Vec<(u64, usize)> {
        let mut heard: Vec<(u64, usize)> = Vec::new();
        while let Ok(batch) = self.1.batches.try_recv() {
            for record in batch.records {
                match heard.iter_mut().find(|(id, _)| *id == record.id()) {
                    Some((_, count)) => *count += 1,
                    None => heard.push((record.id(), 1)),
                }
            }
        }
        heard
    }
}

fn offer(records: &[Record], second: u64) -> Offer<'_> {
    Offer { records, watermark: 1, now_ns: second * SECOND_NS, finished: 0, lost: 0 }
}

#[test]
fn a_key_prefix_lets_whole_traces_through_or_nothing_of_them() {
    let mut pair = Pair::new(Filter { key_prefix: b"/a".to_vec(), ..Filter::default() });
    for (counter, key) in [(1, "/a/x"), (2, "/b/x"), (3, "/a")] {
        for record in put(own(counter), key.as_bytes(), 0) {
            pair.offer(&[record], 1);
        }
    }
    assert_eq!(vec![(own(1), 4), (own(3), 4)], pair.heard());
}

#[test]
fn errors_only_waits_for_the_end() {
    let mut pair = Pair::new(Filter { errors_only: true, ..Filter::default() });
    let failed = put(own(1), b"x", 14);
    pair.offer(&failed[..3], 1);
    assert_eq!(Vec::<(u64, usize)>::new(), pair.heard());
    pair.offer(&failed[3..], 1);
    pair.offer(&put(own(2), b"x", 0), 1);
    assert_eq!(vec![(own(1), 4)], pair.heard());
}

/// A put that its client did not wait for, or not long enough, has failed for that client; a watch
/// just ends so.
#[test]
fn an_early_end_counts_as_an_error_but_for_streams() {
    let number = |name: &str| METHODS.iter().position(|other| *other == name).unwrap() as u64;
    for (result, flags) in [(CANCELED, FLAG_CANCELLED), (DEADLINE_EXCEEDED, FLAG_ERROR)] {
        let mut pair = Pair::new(Filter { errors_only: true, ..Filter::default() });
        for (counter, method) in [(1, "KV/Put"), (2, "Watch/Watch")] {
            let mut records = put(own(counter), b"x", result);
            for record in records.iter_mut().filter(|record| record.stage() == Some(Stage::Rpc)) {
                record.set_head(Head { flags, ..record.head() });
                record.words[7] = number(method);
            }
            pair.offer(&records, 1);
        }
        assert_eq!(vec![(own(1), 4)], pair.heard());
    }
}

#[test]
fn a_method_is_tested_where_the_request_is_served_and_passes_elsewhere() {
    let mut pair = Pair::new(Filter { method: Some(1), ..Filter::default() });
    pair.offer(&put(own(1), b"x", 0), 1);
    pair.offer(&[record(Stage::ApplyEntry, Kind::Span, foreign(1), 5, 0)], 1);
    assert_eq!(vec![(foreign(1), 1)], pair.heard());
}

#[test]
fn too_many_traces_are_thinned_alike_on_every_member() {
    let passed = |member: fn(u64) -> u64| {
        let mut pair = Pair::new(Filter { traces_per_second: 10, ..Filter::default() });
        let mut last = Vec::new();
        for second in 1..=3 {
            for counter in 0..500 {
                pair.offer(&put(member(second * 1000 + counter), b"x", 0), second);
                last.extend(pair.heard());
            }
        }
        last
    };
    let heard = passed(own);
    assert!(heard.iter().all(|(_, records)| *records == 4), "a trace came in part");
    let in_third: Vec<_> = heard.iter().filter(|(id, _)| own(3000) <= *id).collect();
    assert!((1..=20).contains(&in_third.len()), "{} of 500 at 10 a second", in_third.len());
    assert_eq!(heard, passed(own), "the same ids give the same choice");
}

#[test]
fn a_slow_reader_loses_counted_records_and_delays_no_other() {
    let mut pair = Pair::new(Filter { traces_per_second: 10_000, ..Filter::default() });
    for counter in 0..1000 {
        pair.offer(&put(own(counter), b"x", 0), 1);
    }
    let heard: usize = pair.heard().iter().map(|(_, records)| records).sum();
    assert!(heard < 4000);
    pair.offer(&[], 1);
    let batch = pair.1.batches.try_recv().unwrap();
    assert_eq!(4000 - heard as u64, batch.dropped);
    assert_eq!(1000, batch.let_through);
}

#[test]
fn when_the_reader_goes_the_subscriber_says_so() {
    let Pair(mut subscriber, subscription) = Pair::new(Filter::default());
    drop(subscription);
    assert!(!subscriber.offer(&offer(&[], 1)));
}

#[test]
fn history_comes_whole_and_does_not_count_as_live() {
    let past: Vec<Record> = (1..=300).flat_map(|counter| put(own(counter), b"x", 0)).collect();
    let filter = Filter { history: true, traces_per_second: 10, ..Filter::default() };
    let (mut subscriber, subscription) = Subscriber::new(filter, hello());
    subscriber.begin(&offer(&past, 1));
    let mut pair = Pair(subscriber, subscription);
    assert_eq!(300, pair.heard().len());
    pair.offer(&put(own(301), b"x", 0), 2);
    let batch = pair.1.batches.try_recv().unwrap();
    assert_eq!((4, 1), (batch.records.len(), batch.let_through), "thinned by what is past");
}

/// Goal: a stream that was let through stays so, and one that is not decided yet loses none of its
/// records, however many requests come and go meanwhile.
#[test]
fn what_is_decided_of_an_open_request_outlives_many_others() {
    let mut filter = Filter { key_prefix: b"/a".to_vec(), ..Filter::default() };
    filter.traces_per_second = u32::MAX;
    let mut pair = Pair::new(filter);
    let begin = |id| record(Stage::Rpc, Kind::Begin, id, id & 0xffff_ffff, 0);
    let (decided, undecided) = (own(1), own(2));
    pair.offer(&[begin(decided), Record::key(257, decided, 1, b"/a"), begin(undecided)], 1);
    let others: Vec<Record> = (3..40_000).flat_map(|it| put(own(it), b"/b", 0)).collect();
    pair.offer(&others, 1);
    let later = [undecided, decided].map(|id| record(Stage::RaftPropose, Kind::Span, id, 9, 0));
    pair.offer(&later, 2);
    pair.offer(&[Record::key(10, undecided, 1, b"/a")], 2);
    assert_eq!(vec![(decided, 3), (undecided, 3)], pair.heard());
}
