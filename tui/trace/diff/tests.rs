//! What `diff` says of two requests, of a recording and where each fact differs.

use glass_etcd::story::{Recording, order::Order, query::Story, recording};

use super::*;

const PUTS_AND_GETS: &str = include_str!("../../../tests/recordings/puts_and_gets.ndjson");
const FOLLOWER_PUT: u64 = 0x0ae2_a1fd_5979_a505;
const SHARED_PUT: u64 = 0x561f_a1fd_5979_ce0d;
const LEADER_PUT: u64 = 0xb98e_a1fd_5979_f40b;
const FOLLOWER_GET: u64 = 0x0ae2_a1fd_5979_a507;
const LEADER_GET: u64 = 0xb98e_a1fd_5979_f40d;

fn told(ids: [u64; 2], write: impl Fn(&mut Vec<u8>, [Side<'_>; 2]) -> io::Result<()>) -> String {
    let recording = recording::read(PUTS_AND_GETS.as_bytes()).unwrap().recording;
    told_of(&recording, ids, write)
}

fn told_of(
    recording: &Recording,
    ids: [u64; 2],
    write: impl Fn(&mut Vec<u8>, [Side<'_>; 2]) -> io::Result<()>,
) -> String {
    let order = Order::of(recording);
    let stories = ids.map(|id| Story::of(recording, &order, id).unwrap());
    let side = |at: usize| Side { recording, order: &order, story: &stories[at] };
    let mut out = Vec::new();
    write(&mut out, [side(0), side(1)]).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_put_on_a_follower_and_one_on_the_leader_are_compared() {
    insta::assert_snapshot!(told([FOLLOWER_PUT, LEADER_PUT], plain));
}

#[test]
fn a_put_alone_and_one_of_three_are_compared() {
    insta::assert_snapshot!(told([FOLLOWER_PUT, SHARED_PUT], plain));
}

#[test]
fn a_put_and_a_get_are_different_requests() {
    let text = told([LEADER_PUT, LEADER_GET], plain);
    assert!(text.starts_with("A is KV/Put, B is KV/Range.\n"), "{text}");
}

#[test]
fn a_request_differs_in_nothing_from_itself() {
    let text = told([FOLLOWER_GET; 2], plain);
    let start = "A and B took the same steps.\nThey took equally long.\n";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("\nfacts that differ\n  none\n"), "{text}");
    assert!(!text.contains("only") && !text.contains("longer A"), "{text}");
}

/// A linearizable read that the leader answered from its buffer, and a put that it committed.
/// No real request is both, but here each fact can differ.
fn base() -> Facts {
    Facts {
        consistency: Some(Consistency::Linearizable),
        is_leader: Some(true),
        outcome: Some(Outcome::Code(0)),
        keys: Some(1),
        found: Some(Found { active: 1, frozen: 0, file: 0 }),
        fsynced: Some(1),
        reads: Some(1),
        attempts: Some(1),
        completed_by: Some(Completed::Leader),
        ..Facts::default()
    }
}

#[test]
fn each_difference_has_a_sentence_that_names_the_right_one() {
    let serializable = Some(Consistency::Serializable);
    let file = Some(Found { active: 0, frozen: 0, file: 1 });
    let cases = [
        (
            Difference::Result,
            Facts { outcome: Some(Outcome::Code(14)), ..base() },
            "A succeeded, B ended with Unavailable.",
        ),
        (
            Difference::Consistency,
            Facts { consistency: serializable, ..base() },
            "A went through the leader's ReadIndex round, B did not: B was serializable.",
        ),
        (
            Difference::Asked,
            Facts { is_leader: Some(false), ..base() },
            "B was sent to a follower, which asked the leader for the index; A was sent to the leader.",
        ),
        (
            Difference::Asked,
            Facts { is_leader: Some(false), is_forwarded: true, ..base() },
            "B was sent to a follower, which asked the leader over HTTP; A was sent to the leader.",
        ),
        (
            Difference::Found,
            Facts { found: file, ..base() },
            "A was answered from the write buffer, B had to read the file.",
        ),
        (
            Difference::Fsync,
            Facts { fsynced: Some(2), ..base() },
            "The leader's fsync was shared with 1 other entry in B, and for this entry alone in A.",
        ),
        (
            Difference::Round,
            Facts { reads: Some(4), ..base() },
            "The round was shared with 3 other reads in B, and for this read alone in A.",
        ),
        (
            Difference::Round,
            Facts { attempts: Some(2), ..base() },
            "B had to ask the quorum more often than A.",
        ),
        (
            Difference::CompletedBy,
            Facts { completed_by: Some(Completed::Follower), ..base() },
            "The quorum of A was completed by the leader's own disk, that of B by a follower's.",
        ),
        (Difference::Keys, Facts { keys: Some(0), ..base() }, "A read 1 key, B 0."),
    ];
    for (difference, other, expected) in cases {
        assert_eq!(Some(expected), sentence(difference, &[base(), other.clone()]).as_deref());
        let back = sentence(difference, &[other, base()]).unwrap();
        match difference {
            // These two sentences always name A first.
            Difference::Result => assert_eq!("A ended with Unavailable, B succeeded.", back),
            Difference::Keys => assert_eq!("A read 0 keys, B 1.", back),
            _ => assert_eq!(swapped(expected), back),
        }
    }
}

/// The sentence with A and B swapped.
fn swapped(text: &str) -> String {
    let swap = |c| match c {
        'A' => 'B',
        'B' => 'A',
        c => c,
    };
    text.chars().map(swap).collect()
}

#[test]
fn programs_read_the_same_comparison() {
    let text = told([FOLLOWER_GET, LEADER_GET], json);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (Some(false), Some(true), Some("linearizable")),
        (
            lines[0]["a"]["is_leader"].as_bool(),
            lines[0]["b"]["is_leader"].as_bool(),
            lines[0]["a"]["consistency"].as_str(),
        )
    );
    let asks = lines.iter().find(|line| line["step"] == "MsgReadIndex").unwrap();
    assert_eq!((Some("only A"), true), (asks["in"].as_str(), asks["b"].is_null()));
    let sum = |name: &str| -> u64 { lines.iter().filter_map(|line| line[name].as_u64()).sum() };
    assert_eq!(Some(sum("a_ns")), lines[0]["a"]["took_ns"].as_u64());
    assert_eq!(Some(sum("b_ns")), lines[0]["b"]["took_ns"].as_u64());
}

#[test]
fn unknown_steps_are_named_and_make_no_difference() {
    let mut recording = recording::read(PUTS_AND_GETS.as_bytes()).unwrap().recording;
    recording.events.retain(|event| event.member != 0);
    let text = told_of(&recording, [FOLLOWER_PUT; 2], plain);
    let line = "unknown in A: wal.fsync of etcd-03 was not captured";
    assert!(text.lines().any(|found| found == line), "{text}");
    assert!(text.contains("\nfacts that differ\n  none\n"), "{text}");
}

/// Goal: the comparison knows what the list and the story know of a put that never ended. Method:
/// the put that `m0` took before it was killed, and the one that the others committed instead.
#[test]
fn a_put_that_never_ended_is_compared_by_what_is_known_of_it() {
    let file = include_str!("../../../tests/recordings/entry_lost.ndjson");
    let recording = recording::read(file.as_bytes()).unwrap().recording;
    let of = |key: &str| {
        let is_it = |row: &&glass_etcd::story::query::Summary| {
            row.key.as_ref().is_some_and(|known| known.display() == key)
        };
        let rows = glass_etcd::story::query::requests(&recording);
        rows.iter().find(is_it).unwrap().id
    };
    let text = told_of(&recording, [of("told/lost"), of("told/instead")], plain);
    let start = "A did not finish, and another entry replaced its own; B succeeded.
The difference between their durations is unknown: A did not finish.
";
    assert!(text.starts_with(start), "{text}");
    assert!(
        text.contains("  not finished  entry 2/10, replaced before it was committed\n"),
        "{text}"
    );
    assert!(
        text.contains("  result                A: not finished                B: ok\n"),
        "{text}"
    );
    let fsync = |line: &&str| line.ends_with("wal.fsync             leader");
    let fsync = text.lines().find(fsync).unwrap_or_else(|| panic!("{text}"));
    assert!(!fsync.contains("only"), "{fsync}");
    assert!(!text.contains("  unknown\n"), "m0 led term 2: {text}");
    assert!(text.contains("never in A: rpc of m0, whose process ended first\n"), "{text}");
    let text = told_of(&recording, [of("told/lost"), of("told/instead")], json);
    let both: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let (a, b) = (&both["a"], &both["b"]);
    assert_eq!((&json!("not finished"), &json!("ok")), (&a["outcome"], &b["outcome"]));
    assert_eq!((&json!(true), &json!(false)), (&a["replaced"], &b["replaced"]));
    assert_eq!(&json!(true), &a["is_leader"]);
}

/// Goal: who served a request is known from its id, as the list says. Method: the put of a follower
/// of which the others alone tell.
#[test]
fn a_put_of_which_only_others_tell_is_served_by_its_member() {
    let mut recording = recording::read(PUTS_AND_GETS.as_bytes()).unwrap().recording;
    let is_rpc = |event: &&glass_etcd::story::Event| event.id == FOLLOWER_PUT;
    let serving = recording.events.iter().find(is_rpc).unwrap().member;
    recording.events.retain(|event| event.member != serving);
    let name = recording.members[usize::from(serving)].name.clone();
    let text = told_of(&recording, [FOLLOWER_PUT, LEADER_PUT], plain);
    assert!(
        text.contains(&format!("  served by {name}  duration unknown  not captured")),
        "{text}"
    );
    assert!(text.starts_with("A was sent to a follower, which forwarded"), "{text}");
    let why = "\nThe difference between their durations is unknown: A has an end that was not captured.\n";
    assert!(text.contains(why), "{text}");
}
