use super::*;
use crate::{
    change, field, fields, set,
    story::{BootInfo, KeyText},
    trace::{
        record::{FLAG_KEPT, Kind},
        stage::Stage,
    },
};

fn member(member_id: u64) -> MemberInfo {
    let boots = vec![BootInfo { boot: 1, wall_ns: 1_700_000_000_000_000_000 }];
    let name = format!("m{member_id}");
    MemberInfo {
        member_id,
        cluster_id: u64::MAX,
        name,
        version: "0.1.0".to_owned(),
        boots,
        members: vec![(7, "m7".to_owned())],
    }
}

fn event(stage: Stage) -> Event {
    Event {
        kind: Kind::Span,
        flags: FLAG_KEPT,
        thread: 4,
        clock_end: 14,
        at_ns: 5_000,
        took_ns: 160,
        id: 0xfedc_ba98_7654_3210,
        link: 3 << 40 | 7,
        ..Event::mark(1, stage, 10)
    }
}

/// One event of each stage, with every field different, and large where it can be.
fn sample() -> Recording {
    let mut events: Vec<Event> = Stage::ALL.iter().map(|stage| event(*stage)).collect();
    for event in &mut events {
        for (at, value) in event.fields.iter_mut().enumerate().take(event.stage.fields().len()) {
            *value = if at % 2 == 0 { at as u64 } else { u64::MAX - at as u64 };
        }
    }
    events[0].key = Some(KeyText { bytes: b"/registry/\"x\"".to_vec(), length: 13 });
    events[1].key = Some(KeyText { bytes: vec![0xff, 0, 7], length: 400 });
    Recording { members: vec![member(7), member(8)], events, dropped: vec![0, 12] }
}

fn text(recording: &Recording) -> String {
    let mut out = Vec::new();
    write(&mut out, recording).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_written_recording_is_read_back() {
    let recording = sample();
    let read = read(text(&recording).as_bytes()).unwrap();
    assert_eq!(Read { recording, unknown: 0, is_cut: false }, read);
}

#[test]
fn lines_carry_names_and_units() {
    let mut send = event(Stage::RaftSend);
    set!(send, RaftSend, peer = 0x264a_e6bc_59e9_9892_u64, type = 3, reject = 1);
    let recording =
        Recording { members: vec![member(7), member(8)], events: vec![send], dropped: vec![] };
    let written = text(&recording);
    let line = written.lines().nth(1).unwrap();
    for part in [
        r#""stage":"raft.send""#,
        r#""kind":"span""#,
        r#""thread":"wal""#,
        r#""peer":"264ae6bc59e99892""#,
        r#""type":"MsgApp""#,
        r#""reject":true"#,
        r#""flags":["kept"]"#,
        r#""link":"0000030000000007""#,
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[test]
fn members_that_join_later_are_in_the_table_before_their_events() {
    let mut recording = sample();
    recording.members.truncate(1);
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, &recording.members).unwrap();
    writer.update(&recording).unwrap();
    let recording = sample();
    writer.update(&recording).unwrap();
    writer.event(&recording.events[0]).unwrap();
    drop(writer);
    let read = read(out.as_slice()).unwrap();
    assert_eq!(recording.members, read.recording.members);
    assert_eq!(recording.events[..1], read.recording.events);
}

#[test]
fn unknown_stages_and_fields_are_tolerated() {
    let recording = sample();
    let more = text(&recording)
        .replace(r#""stage":"wal.fsync""#, r#""stage":"wal.tomorrow""#)
        .replace(r#""fields":{"#, r#""fields":{"tomorrow":[1],"#)
        .replace(",}", "}");
    let read = read(more.as_bytes()).unwrap();
    assert_eq!(1, read.unknown);
    let expected: Vec<_> =
        recording.events.into_iter().filter(|event| event.stage != Stage::WalFsync).collect();
    assert_eq!(expected, read.recording.events);
}

/// A line with these members.
fn table(ids: [u64; 2]) -> String {
    serde_json::to_string(&json::members(&ids.map(member))).unwrap()
}

/// Goal: no step is shown on a member of another recording. Method: what `cat a b` writes.
#[test]
fn two_recordings_in_one_file_are_refused_at_the_second() {
    let one = text(&sample());
    let mut other = sample();
    other.members.reverse();
    let begin = one.lines().count() + 1;
    for joined in [one.clone() + &one, one.clone() + &text(&other)] {
        let error = read(joined.as_bytes()).unwrap_err().to_string();
        let expected = format!("line {begin}: another recording begins here");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let marked = format!("\u{feff}{}", text(&sample()));
    assert_eq!(sample(), read(marked.as_bytes()).unwrap().recording);
}

#[test]
fn a_bad_line_is_refused_with_its_number() {
    let good = text(&sample());
    let line = good.lines().nth(4).unwrap();
    let cases = [
        ("{".to_owned(), "line 5: EOF"),
        (line.replace(r#""kind":"span""#, r#""kind":"spam""#), "line 5: no kind \"spam\""),
        (line.replace(r#""member":1"#, r#""member":2"#), "line 5: there is no member 2"),
        (line.replace(r#""end":14"#, r#""end":9"#), "line 5: the step ends at 9 before"),
        (line.replace(r#""id":"f"#, r#""id":"x"#), "line 5: the id is not hex"),
        (r#"{"members":[]}"#.to_owned(), "line 5: the table of members shrinks"),
        (table([8, 7]), "line 5: member 0 of the table becomes another one"),
        (table([7, 9]), "line 5: member 1 of the table becomes another one"),
        ("[]".to_owned(), "line 5: "),
        ("null".to_owned(), "line 5: "),
    ];
    for (bad, expected) in cases {
        assert_ne!(line, bad, "the case changes nothing");
        let error = read(good.replace(line, &bad).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{bad}\n{error}");
    }
}

#[test]
fn a_file_that_is_no_recording_is_refused_at_its_first_line() {
    for (input, expected) in [
        ("", "not a recording of `glass trace record`: the file is empty"),
        ("hello\n", "not a recording of `glass trace record`: its first line is no header: "),
        ("{\"members\":[]}\n", "not a recording of `glass trace record`: its first line has no v"),
        ("{\"traceEvents\":[\n", "not a recording of `glass trace record`: an export of --chrome,"),
        ("{\"resourceSpans\":[]}", "not a recording of `glass trace record`: an export of --otlp,"),
        ("{\"glass\":2,\"members\":[]}\n", "line 1: the recording has version 2"),
    ] {
        let error = read(input.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_file_in_another_form_is_refused_with_the_way_out() {
    let utf_16 = |bytes: fn(u16) -> [u8; 2]| {
        text(&sample()).encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
    };
    let (little, big) = (utf_16(u16::to_le_bytes), utf_16(u16::to_be_bytes));
    for (input, expected) in [
        (b"\x1f\x8b\x08\0\0".to_vec(), ": it is compressed with gzip; unpack it first"),
        (b"\x28\xb5\x2f\xfd\x04".to_vec(), ": it is compressed with zstd; unpack it first"),
        ([&b"\xff\xfe"[..], &little].concat(), ": it is text in UTF-16; convert it to UTF-8 first"),
        ([&b"\xfe\xff"[..], &big].concat(), ": it is text in UTF-16; convert it to UTF-8 first"),
        (little, ": it is text in UTF-16; convert it to UTF-8 first"),
        (big, ": it is text in UTF-16; convert it to UTF-8 first"),
    ] {
        let error = read(input.as_slice()).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

/// Goal: a reader's memory is bounded, for any file. Method: endless lines, as in a device.
#[test]
fn a_line_without_an_end_is_refused() {
    let endless = || std::io::BufReader::new(std::io::repeat(b'x'));
    let error = read(endless()).unwrap_err().to_string();
    assert!(error.ends_with("its first line is longer than 4 MiB"), "{error}");
    let good = text(&sample());
    let error = read(good.as_bytes().chain(endless())).unwrap_err().to_string();
    assert!(error.ends_with(": longer than 4 MiB"), "{error}");
}

#[test]
fn only_the_last_line_may_be_cut() {
    let good = text(&sample());
    let cut = &good[..good.len() - 20];
    let read = read(cut.as_bytes()).unwrap();
    assert!(read.is_cut);
    assert_eq!(sample().events.len() - 1, read.recording.events.len());
}

/// A recording of version 1 as it was first written, with every stage of its time. It must always
/// load: do not change the file when names or fields change, but adapt the reader.
const GOLDEN: &str = include_str!("../../../tests/recordings/version-1.ndjson");

#[test]
fn the_golden_recording_of_version_1_loads_whole() {
    let read = read(GOLDEN.as_bytes()).unwrap();
    assert_eq!((0, false), (read.unknown, read.is_cut));
    let Recording { members, events, dropped } = read.recording;
    assert_eq!((2, 21 + 52, vec![0, 5]), (members.len(), events.len(), dropped));
    let count = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((2, 2, 2), (count(Kind::Begin), count(Kind::Mark), count(Kind::Keyframe)));
    let of = |stage| events.iter().rfind(|event| event.stage == stage).unwrap();
    let role = of(Stage::RaftRole);
    assert_eq!([2, 2], change!(role, RaftRole, role));
    let receive = of(Stage::RaftReceive);
    assert_eq!(0x264a_e6bc_59e9_9892, field!(receive, RaftReceive, peer));
    assert_eq!([8, 1], fields!(receive, RaftReceive: type, reject));
    assert_eq!(0x0a01, of(Stage::ApplyEntry).id);
}

#[test]
fn the_golden_recording_with_its_last_line_cut_loads_but_for_that_line() {
    let whole = read(GOLDEN.as_bytes()).unwrap().recording;
    let last = GOLDEN.trim_end().rfind('\n').unwrap() + 1;
    for cut in [last + 1, last + 40, GOLDEN.len() - 2] {
        let read = read(&GOLDEN.as_bytes()[..cut]).unwrap();
        assert!(read.is_cut, "cut at {cut}");
        assert_eq!(whole.events[..whole.events.len() - 1], read.recording.events);
    }
}
