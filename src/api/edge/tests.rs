use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::trace::{Record, Stage, own_records};

const ALL: [Stage; 5] = [
    Stage::ConnectionAccept,
    Stage::SocketQueue,
    Stage::RpcReceive,
    Stage::RpcQueue,
    Stage::AnswerFlush,
];

/// An id that is kept, or not, on a member that speaks glass.
fn id(counter: u64, is_kept: bool) -> u64 {
    trace::note_peer(0x7e01);
    0x7e01 << 48 | counter << 1 | u64::from(is_kept)
}

/// The steps at the edge that this thread has recorded for a request, by their ends.
fn steps(id: u64) -> Vec<(Stage, Record)> {
    let own = own_records().into_iter().filter(|record| record.id() == id);
    let steps = own.filter_map(|record| Some((record.stage()?, record)));
    let mut steps: Vec<_> = steps.filter(|(stage, _)| ALL.contains(stage)).collect();
    steps.sort_by_key(|(_, record)| record.clock_end());
    steps
}

fn stages(id: u64) -> Vec<Stage> {
    steps(id).into_iter().map(|(stage, _)| stage).collect()
}

/// A read that returns the headers of these streams, and the end of those that have one.
fn read(edge: &mut Edge, streams: &[(u32, bool)]) {
    edge.read();
    for (stream, has_end) in streams {
        edge.frame_read((HEADERS, 0, *stream), true);
        if *has_end {
            edge.frame_read((DATA, END_STREAM, *stream), false);
        }
    }
    edge.end_read(true);
}

fn write(edge: &mut Edge, kind: u8, flags: u8, stream: u32) {
    edge.frame_written((kind, flags, stream));
    edge.end_write(true);
}

/// A call from its handing over to its answer, which is written as a whole.
fn serve(edge: &mut Edge, id: u64, stream: u32) {
    let mut call = edge.accept().unwrap();
    call.enter(id, Moment::now());
    call.leave(id, Moment::now(), (false, true));
    write(edge, HEADERS, END_STREAM, stream);
}

#[test]
fn a_call_has_its_steps_before_its_rpc_and_after_it() {
    let mut edge = Edge::default();
    edge.set_age(Some(Duration::from_millis(30)));
    read(&mut edge, &[(1, true)]);
    let mut call = edge.accept().unwrap();
    let began = Moment::now();
    call.enter(id(1, true), began);
    assert_eq!(stages(id(1, true)), [Stage::SocketQueue, Stage::RpcQueue]);
    call.leave(id(1, true), Moment::now(), (false, true));
    // Headers and messages are not the end of the answer, nor is a part of its last frame.
    write(&mut edge, HEADERS, 0, 1);
    edge.frame_written((DATA, END_STREAM, 1));
    edge.end_write(false);
    assert_eq!(stages(id(1, true)), [Stage::SocketQueue, Stage::RpcQueue]);
    edge.end_write(true);
    let steps = steps(id(1, true));
    let [lay, queue, flush] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(flush.0, Stage::AnswerFlush);
    assert!(29_999_000 < lay.1.took_ns() && lay.1.took_ns() < 30_001_000, "{lay:?}");
    // The ring has raw ticks: one step begins where the other has ended.
    assert_eq!(queue.1.clock_end(), began.clock);
    assert!(lay.1.words[3] < queue.1.words[3] && began.raw <= flush.1.words[3]);
}

#[test]
fn a_request_that_arrives_in_parts_is_read_with_its_last_one() {
    for is_late in [false, true] {
        let id = id(10 + u64::from(is_late), true);
        let mut edge = Edge::default();
        read(&mut edge, &[(1, false)]);
        let mut call = is_late.then(|| edge.accept().unwrap());
        edge.read();
        edge.frame_read((DATA, END_STREAM, 1), false);
        // The rest of this frame comes with the next read.
        edge.end_read(false);
        edge.read();
        edge.end_read(true);
        let ended = edge.now;
        let call = call.get_or_insert_with(|| edge.accept().unwrap());
        call.enter(id, Moment::now());
        let steps = steps(id);
        let [receive, queue] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!([receive.0, queue.0], [Stage::RpcReceive, Stage::RpcQueue]);
        assert_eq!(queue.1.words[3], ended);
    }
}

#[test]
fn calls_of_one_read_have_their_own_steps_however_they_end() {
    let mut edge = Edge::default();
    read(&mut edge, &[(1, true), (3, true), (5, true)]);
    let mut calls: Vec<Arrived> = (0..3).map(|_| edge.accept().unwrap()).collect();
    for (call, counter) in calls.iter_mut().zip(20..) {
        call.enter(id(counter, true), Moment::now());
        call.leave(id(counter, true), Moment::now(), (false, true));
    }
    for stream in [5, 1] {
        write(&mut edge, HEADERS, END_STREAM, stream);
    }
    let flushed = [20, 21, 22].map(|counter| stages(id(counter, true)).len() == 2);
    assert_eq!(flushed, [true, false, true], "the answer to 3 is not written");
    let clocks: Vec<u64> =
        [20, 21, 22].map(|counter| steps(id(counter, true))[0].1.clock()).to_vec();
    assert!(clocks.is_sorted_by(|a, b| a < b), "records of one stage differ: {clocks:?}");
}

/// Goal: requests that nobody will look at leave nothing, and the others leave everything. Method:
/// requests that are not kept, a quick one, one that fails, and one whose bytes lay for long.
#[test]
fn of_the_requests_that_are_not_kept_only_slow_and_failed_ones_are_recorded() {
    trace::set_thread("grpc");
    for (counter, has_failed, age, expected) in [
        (30, false, 0, &[][..]),
        (31, true, 0, &[Stage::SocketQueue, Stage::RpcQueue, Stage::AnswerFlush]),
        (32, false, 3_600, &[Stage::SocketQueue, Stage::RpcQueue, Stage::AnswerFlush]),
    ] {
        let id = id(counter, false);
        let mut edge = Edge::default();
        edge.set_age(Some(Duration::from_secs(age)));
        read(&mut edge, &[(1, true)]);
        let mut call = edge.accept().unwrap();
        call.enter(id, Moment::now());
        assert_eq!(stages(id), []);
        call.leave(id, Moment::now(), (has_failed, true));
        write(&mut edge, HEADERS, END_STREAM, 1);
        assert_eq!(stages(id), expected);
    }
}

#[test]
fn a_stream_that_h2_has_ended_itself_makes_later_ones_unknown() {
    for kind in [RST_STREAM, HEADERS] {
        let mut edge = Edge::default();
        read(&mut edge, &[(1, true)]);
        serve(&mut edge, id(40, true), 1);
        read(&mut edge, &[(3, true), (5, true)]);
        write(&mut edge, kind, END_STREAM, 3);
        assert!(edge.accept().is_none(), "it is 3, or 5");
        read(&mut edge, &[(7, true)]);
        assert!(edge.accept().is_none());
    }
}

#[test]
fn while_the_socket_takes_nothing_one_stream_is_known_and_two_are_not() {
    let mut edge = Edge::default();
    edge.set_stuck(true);
    read(&mut edge, &[(1, true)]);
    assert!(edge.accept().is_some());
    read(&mut edge, &[(3, true), (5, true)]);
    assert!(edge.accept().is_none());
}

#[test]
fn over_http1_a_call_is_what_was_read_before_it_and_written_after_it() {
    let id = id(50, true);
    let mut edge = Edge::default();
    edge.read_http1();
    edge.read_http1();
    let mut call = edge.accept().unwrap();
    call.enter(id, Moment::now());
    call.leave(id, Moment::now(), (false, true));
    edge.written_http1();
    edge.written_http1();
    assert_eq!(stages(id), [Stage::RpcReceive, Stage::RpcQueue, Stage::AnswerFlush]);
}

#[test]
fn a_place_in_the_table_belongs_to_the_last_that_took_it() {
    let table = Table::default();
    let [first, second] = [1, 1 + 2 * LEFT as u64];
    let left = |id| Left { id, raw: 9, is_wanted: true };
    table.left(first).set(first, left(1));
    table.left(second).set(second, left(2));
    assert_eq!(table.left(first).take(first), None);
    assert_eq!(table.left(second).take(second), Some(left(2)));
    assert_eq!(table.left(second).take(second), None, "it was taken");
}

/// A connection that was taken after this time, and of which nothing was read yet.
fn taken_after(waited_ns: u64) -> Edge {
    let taken = Taken { taken: raw_clock::now(), waited_ns, placed_ns: 7, settled: None };
    Edge { taken: Some(Box::new(taken)), ..Edge::default() }
}

/// A read that returns the acknowledgement of the settings, and then these streams.
fn settle(edge: &mut Edge, streams: &[u32]) {
    edge.read();
    edge.frame_read((SETTINGS, ACK, 0), false);
    for stream in streams {
        edge.frame_read((HEADERS, END_STREAM, *stream), true);
    }
    edge.end_read(true);
}

fn enter(edge: &mut Edge, id: u64) -> Vec<Stage> {
    edge.accept().unwrap().enter(id, Moment::now());
    stages(id)
}

const ACCEPTED: [Stage; 2] = [Stage::ConnectionAccept, Stage::RpcQueue];

#[test]
fn requests_that_wait_for_the_settings_have_waited_for_their_connection() {
    const WAITED_NS: u64 = 2_000_000_000;
    let mut edge = taken_after(WAITED_NS);
    settle(&mut edge, &[1, 3]);
    for counter in [60, 61] {
        assert_eq!(ACCEPTED[..], enter(&mut edge, id(counter, true)));
    }
    let both = [60, 61].map(|counter| steps(id(counter, true))[0].1);
    assert!(both[0].clock() < both[1].clock(), "records of one stage differ");
    for accept in both {
        let took = accept.took_ns();
        assert!(took.abs_diff(WAITED_NS) < 1_000, "{took}");
        assert_eq!(7, accept.fields()[Stage::ConnectionAccept.slot("place")]);
    }
}

/// Goal: the records give no request a wait that it did not have. Method: requests that come
/// before the acknowledgement of the settings, long after it, and after an answer.
#[test]
fn other_requests_have_not_waited_for_their_connection() {
    let mut edge = taken_after(2_000_000_000);
    read(&mut edge, &[(1, true)]);
    settle(&mut edge, &[3]);
    for counter in [62, 63] {
        assert_eq!([Stage::RpcQueue][..], enter(&mut edge, id(counter, true)));
    }
    let mut edge = taken_after(2_000_000_000);
    settle(&mut edge, &[]);
    let late = edge.now + raw_clock::ticks(PROMPT_NS + 1_000_000);
    edge.now = late;
    edge.frame_read((HEADERS, END_STREAM, 1), true);
    edge.end_read(true);
    assert_eq!([Stage::RpcQueue][..], enter(&mut edge, id(64, true)));
    let mut edge = taken_after(2_000_000_000);
    settle(&mut edge, &[1]);
    serve(&mut edge, id(65, true), 1);
    read(&mut edge, &[(3, true)]);
    assert_eq!([Stage::RpcQueue][..], enter(&mut edge, id(66, true)));
}

#[test]
fn a_request_is_slow_if_its_connection_had_to_wait() {
    trace::set_thread("grpc");
    let mut edge = taken_after(3_600_000_000_000);
    settle(&mut edge, &[1]);
    let mut call = edge.accept().unwrap();
    call.enter(id(67, false), Moment::now());
    assert_eq!(stages(id(67, false)), []);
    assert!(call.leave(id(67, false), Moment::now(), (false, true)));
    assert_eq!(ACCEPTED[..], stages(id(67, false)));
}

/// Goal: the kernel's note is the age of the bytes. Method: bytes that lie for a while. The kernel
/// begins to take notes a little after the first socket has asked for it, so it may take several.
#[test]
fn bytes_in_a_socket_have_an_age() {
    const LAIN: Duration = Duration::from_millis(50);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    note_arrivals(&listener);
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    assert_eq!(age(&server), None, "nothing has come");
    let noted = (0..100).find_map(|_| {
        let before = clock::now();
        client.write_all(b"more").unwrap();
        std::thread::sleep(LAIN);
        Some((age(&server)?, before.elapsed()))
    });
    let (age, at_most) = noted.expect("the kernel notes it");
    assert!(LAIN <= age && age <= at_most, "{age:?}");
}

/// Goal: ages are asked for when that costs nothing, and not under load. Method: reads of a thread
/// of its own, one after a pause, and many at once.
#[test]
fn ages_are_asked_for_after_a_pause_and_for_as_long_as_it_lasted() {
    std::thread::spawn(|| {
        let mut edge = Edge::default();
        let ns = raw_clock::ticks;
        assert!(wants_age(), "the first read");
        let now = raw_clock::now();
        READS.set((now, now));
        assert!(!wants_age());
        READS.set((now - ns(5 * IDLE_NS), now - ns(5 * IDLE_NS)));
        edge.read();
        let (last, until) = READS.get();
        let still = raw_clock::to_ns(until - last);
        assert!((5 * IDLE_NS..ASK_MAX_NS).contains(&still), "{still}");
        ask_for_ages();
        assert!(ASK_NS <= raw_clock::to_ns(READS.get().1 - last) + 1000);
    })
    .join()
    .unwrap();
}
