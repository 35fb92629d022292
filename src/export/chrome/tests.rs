use super::*;
use crate::{
    random::Random,
    story::{KeyText, recording},
    trace::Unit,
};

mod strict;

use strict::Seen;

const HEAD: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]},{"id":"02","cluster":"09","name":"etcd-02","version":"0.1.0","boots":[{"boot":1,"wall_ns":3601000000000}]}]}
"#;
/// Two puts that share an fsync on each member and the leader's commit, and a read on the leader.
/// The clock of etcd-02 is an hour ahead. The second rpc has not ended, and two sends overlap.
const LINES: &str = r#"{"member":1,"boot":1,"stage":"rpc","kind":"begin","clock":1,"end":1,"at":1000000,"took":0,"thread":"grpc","id":"0203","fields":{"method":"KV/Put"}}
{"member":1,"boot":1,"stage":"raft.propose","kind":"span","clock":2,"end":8,"at":1100000,"took":1700000,"thread":"grpc","id":"0203","fields":{"bytes":20,"leader":"01"}}
{"member":1,"boot":1,"stage":"rpc","kind":"begin","clock":6,"end":6,"at":1050000,"took":0,"thread":"grpc","id":"0204","fields":{"method":"KV/Put"}}
{"member":1,"boot":1,"stage":"raft.send","kind":"span","clock":3,"end":4,"at":1200000,"took":50000,"thread":"peer","id":"0203","link":"07","fields":{"peer":"01","type":"MsgProp"}}
{"member":0,"boot":1,"stage":"raft.receive","kind":"span","clock":10,"end":11,"at":1300000,"took":20000,"thread":"peer","id":"0203","link":"07","fields":{"peer":"02","type":"MsgProp"}}
{"member":0,"boot":1,"stage":"raft.entry","kind":"mark","clock":12,"end":12,"at":1350000,"took":0,"thread":"raft","id":"0203","fields":{"term":3,"index":42,"bytes":20}}
{"member":0,"boot":1,"stage":"raft.entry","kind":"mark","clock":13,"end":13,"at":1360000,"took":0,"thread":"raft","id":"0204","fields":{"term":3,"index":43,"bytes":20}}
{"member":0,"boot":1,"stage":"raft.send","kind":"span","clock":14,"end":16,"at":1400000,"took":90000,"thread":"peer","link":"09","fields":{"peer":"02","type":"MsgApp","term":3,"index":41,"last":43}}
{"member":0,"boot":1,"stage":"raft.send","kind":"span","clock":15,"end":17,"at":1450000,"took":90000,"thread":"peer","link":"0b","fields":{"peer":"03","type":"MsgApp","term":3,"index":41,"last":43}}
{"member":1,"boot":1,"stage":"raft.receive","kind":"span","clock":4,"end":5,"at":1500000,"took":10000,"thread":"peer","link":"09","fields":{"peer":"01","type":"MsgApp","term":3,"index":41,"last":43}}
{"member":0,"boot":1,"stage":"wal.write","kind":"span","clock":18,"end":19,"at":1430000,"took":9000,"thread":"wal","fields":{"first":42,"last":43}}
{"member":0,"boot":1,"stage":"wal.fsync","kind":"span","clock":19,"end":21,"at":1440000,"took":900000,"thread":"wal","fields":{"first":42,"last":43,"synced.old":41,"synced.new":43}}
{"member":0,"boot":1,"stage":"wal.fsync","kind":"span","clock":22,"end":23,"at":2350000,"took":900000,"thread":"wal","fields":{"first":42,"last":43,"synced.old":43,"synced.new":43}}
{"member":0,"boot":1,"stage":"apply.entry","kind":"span","clock":24,"end":27,"at":3400000,"took":30000,"thread":"apply","id":"0203","fields":{"term":3,"index":42,"applied.old":41,"applied.new":42}}
{"member":0,"boot":1,"stage":"mvcc.write","kind":"span","clock":25,"end":26,"at":3401000,"took":20000,"thread":"apply","id":"0203","key":{"text":"foo","length":3},"fields":{"revision.old":7,"revision.new":8,"operations":1}}
{"member":0,"boot":1,"stage":"apply.entry","kind":"span","clock":28,"end":29,"at":3430000,"took":30000,"thread":"apply","id":"0204","fields":{"term":3,"index":43,"applied.old":42,"applied.new":43}}
{"member":0,"boot":1,"stage":"backend.commit","kind":"span","clock":40,"end":41,"at":9000000,"took":500000,"thread":"commit","fields":{"index.old":41,"index.new":43,"revision.old":7,"revision.new":9,"writes":2}}
{"member":1,"boot":1,"stage":"rpc","kind":"span","clock":1,"end":9,"at":1000000,"took":2000000,"thread":"grpc","id":"0203","key":{"text":"foo","length":3},"fields":{"method":"KV/Put","bytes_in":12,"bytes_out":30,"revision":8}}
{"member":0,"boot":1,"stage":"rpc","kind":"span","clock":30,"end":36,"at":4000000,"took":700000,"thread":"grpc","id":"0301","fields":{"method":"KV/Range"}}
{"member":0,"boot":1,"stage":"read_index.wait","kind":"span","clock":31,"end":34,"at":4000000,"took":500000,"thread":"grpc","id":"0301","link":"0500","fields":{"round":"0500","place":1}}
{"member":0,"boot":1,"stage":"read_index.round","kind":"span","clock":32,"end":33,"at":4100000,"took":300000,"thread":"other","id":"0500","fields":{"reads":1}}
{"dropped":[0,5]}
"#;

fn text(recording: &Recording) -> (Counts, String) {
    let mut out = Vec::new();
    let counts = write(&mut out, recording).unwrap();
    (counts, String::from_utf8(out).unwrap())
}

fn scene() -> Recording {
    recording::read(format!("{HEAD}{LINES}").as_bytes()).unwrap().recording
}

fn exported(recording: &Recording) -> (Counts, Seen) {
    let (counts, text) = text(recording);
    (counts, strict::parse(&text).unwrap())
}

#[test]
fn everything_in_the_recording_is_in_the_file_once() {
    let (counts, seen) = exported(&scene());
    // The begin of the ended rpc is merged into its span; the other begin is a mark.
    let expected = Counts { processes: 2, slices: 10, requests: 7, marks: 3, flows: 7 };
    assert_eq!(expected, counts);
    assert_eq!(
        (10, 7, 3, 7),
        (seen.slices.len(), seen.pairs.len(), seen.marks.len(), seen.flows.len())
    );
    assert_eq!(21 - 1, counts.slices + counts.requests + counts.marks);
    assert_eq!(Vec::<String>::new(), seen.loose);
    assert_eq!("etcd-01 (0000000000000001)", seen.processes[&1]);
    assert_eq!("etcd-02 (0000000000000002)", seen.processes[&2]);
    assert!(seen.marks.iter().any(|mark| mark.2 == "rpc begins"));
}

#[test]
fn the_rpc_is_outermost_and_ids_are_local_to_their_member() {
    let (_, seen) = exported(&scene());
    let put = "0000000000000203".to_owned();
    let depth = |pid, name: &str| {
        let found = (seen.pairs.iter()).find(|p| (p.0, &p.1, p.2.as_str()) == (pid, &put, name));
        found.unwrap().3
    };
    assert_eq!((0, 1), (depth(2, "rpc"), depth(2, "raft.propose")));
    assert_eq!((0, 1), (depth(1, "apply.entry"), depth(1, "mvcc.write")));
    // Both start at the same time: the rpc still comes first.
    let get = seen.pairs.iter().filter(|pair| pair.1 == "0000000000000301");
    let names: Vec<&str> = get.map(|pair| pair.2.as_str()).collect();
    assert_eq!(["rpc", "read_index.wait"], names.as_slice());
}

#[test]
fn arrows_join_messages_and_batches() {
    let (_, seen) = exported(&scene());
    let mut flows: Vec<_> =
        seen.flows.iter().map(|flow| (flow.1.as_str(), flow.2, flow.3)).collect();
    flows.sort_unstable();
    let expected = [
        ("MsgApp", 1, 2),
        ("MsgProp", 2, 1),
        ("backend.commit", 1, 1),
        ("backend.commit", 1, 1),
        ("read_index.round", 1, 1),
        ("wal.fsync", 1, 1),
        ("wal.fsync", 1, 1),
    ];
    assert_eq!(expected, flows.as_slice());
}

#[test]
fn spans_that_overlap_in_part_get_a_row_each_and_keep_their_times() {
    let (_, seen) = exported(&scene());
    let sends: Vec<_> =
        seen.slices.iter().filter(|slice| slice.0 == 1 && slice.2 == "raft.send").collect();
    assert_eq!([90_000, 90_000], [0, 1].map(|at: usize| sends[at].4 - sends[at].3));
    let rows: Vec<&str> =
        sends.iter().map(|slice| seen.threads[&(slice.0, slice.1)].as_str()).collect();
    assert_eq!(["peer", "peer 2"], rows.as_slice());
}

#[test]
fn an_hour_between_the_clocks_is_not_to_be_seen() {
    let (_, seen) = exported(&scene());
    let last = seen.slices.iter().map(|slice| slice.4).max().unwrap();
    assert!(last < 20_000_000, "the last step ends after {last} ns");
}

#[test]
fn args_carry_the_vocabularys_names_and_ids_as_hex() {
    let (_, seen) = exported(&scene());
    let is = |event: &&serde_json::Value, ph: &str, name: &str| {
        event["ph"] == ph && event["name"] == name && event["pid"] == 2
    };
    let rpc = seen.events.iter().find(|event| is(event, "b", "rpc")).unwrap();
    assert_eq!(
        json!({
            "method": "KV/Put", "bytes_in": 12, "bytes_out": 30, "revision": 8, "code": 0,
            "record": { "boot": 1, "clock": 1, "end": 9, "id": "0000000000000203",
                "key": { "text": "foo", "length": 3 } }
        }),
        rpc["args"]
    );
    let send = seen.events.iter().find(|event| is(event, "X", "raft.send")).unwrap();
    assert_eq!("0000000000000001", send["args"]["peer"]);
    let labels = seen.events.iter().find(|event| event["name"] == "process_labels").unwrap();
    assert_eq!(
        (2, "5 records lost"),
        (labels["pid"].as_i64().unwrap(), labels["args"]["labels"].as_str().unwrap())
    );
}

/// Every stage as a span and as a mark, at times from a small generator: however they overlap, the
/// viewers can draw the file.
#[test]
fn any_recording_makes_a_file_that_nests() {
    for seed in 1..=40_u64 {
        let mut random = Random::new(seed);
        let mut draw = |bound: u64| random.below(bound);
        let mut recording = scene();
        let sample = recording.events[0].clone();
        recording.events.clear();
        for clock in 1..=400 {
            let stage = Stage::ALL[draw(Stage::ALL.len() as u64) as usize];
            let is_span = draw(3) != 0;
            let mut event = Event { stage, clock, clock_end: clock + 1, ..sample.clone() };
            event.member = draw(2) as u8;
            event.kind = if is_span { Kind::Span } else { Kind::Mark };
            (event.at_ns, event.thread) = (draw(2_000), draw(8) as u8);
            event.took_ns = if is_span { draw(500) } else { 0 };
            (event.id, event.link) = (draw(4), draw(50));
            let units = stage.fields().iter().map(|field| field.unit);
            for (field, unit) in event.fields.iter_mut().zip(units) {
                *field = if unit == Unit::Member { 1 + draw(2) } else { draw(20) };
            }
            recording.events.push(event);
        }
        let (counts, text) = text(&recording);
        // With random times the outermost span of a row may have begun before the rpc.
        match strict::parse(&text) {
            Ok(seen) => assert_eq!(
                (counts.slices, counts.requests, counts.marks, counts.flows),
                (seen.slices.len(), seen.pairs.len(), seen.marks.len(), seen.flows.len()),
                "seed {seed}"
            ),
            Err(what) => assert!(what.starts_with("the rpc is inside"), "seed {seed}: {what}"),
        }
        assert_eq!(400, counts.slices + counts.requests + counts.marks, "seed {seed}");
    }
}

#[test]
fn a_recording_of_nothing_is_a_file_of_nothing() {
    let (counts, seen) = exported(&Recording::default());
    assert_eq!((Counts::default(), 0), (counts, seen.events.len()));
}

#[test]
fn a_key_that_is_no_text_is_hex_and_cut_where_it_was_cut() {
    let mut recording = scene();
    recording.events[0].key = Some(KeyText { bytes: vec![0xff, 7], length: 400 });
    recording.events.truncate(1);
    let (_, seen) = exported(&recording);
    let mark = seen.events.iter().find(|event| event["ph"] == "i").unwrap();
    assert_eq!(json!({ "hex": "ff07", "length": 400 }), mark["args"]["record"]["key"]);
}
