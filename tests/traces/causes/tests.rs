//! Tests of the checker of causes: it draws each kind of link, and finds a cycle.

use super::*;
use glass_etcd::story::recording;

const PUTS_AND_GETS: &str = include_str!("../../recordings/puts_and_gets.ndjson");

fn recorded() -> Recording {
    recording::read(PUTS_AND_GETS.as_bytes()).unwrap().recording
}

fn place(recording: &Recording, is_meant: impl Fn(&Event) -> bool) -> usize {
    recording.events.iter().position(is_meant).expect("the recording has one")
}

#[test]
fn a_real_recording_has_links_of_each_kind_and_no_cycle() {
    let recording = recorded();
    let links = links(&recording);
    let kinds: HashSet<Why> = links.iter().map(|link| link.why).collect();
    let expected: HashSet<Why> =
        [Why::Program, Why::Message, Why::Batch, Why::Commit, Why::Wake, Why::Round, Why::Watch]
            .into();
    assert_eq!(HashSet::new(), &expected - &kinds, "kinds of links that nothing has");
    assert_eq!(None, cycle(&recording, &links));
}

#[test]
fn an_invented_cycle_is_found_and_listed_link_by_link() {
    let recording = recorded();
    let mut links = links(&recording);
    let message = *links.iter().find(|link| link.why == Why::Message).unwrap();
    let back = Link { from: message.to, to: message.from, why: Why::Wake };
    links.push(back);
    let found = cycle(&recording, &links).expect("it was put there");
    assert!(found.contains(&back), "{found:?}");
    for (at, link) in found.iter().enumerate() {
        assert_eq!(link.to, found[(at + 1) % found.len()].from, "{found:?}");
    }
}

/// Each of these is a false record that a member could make.
#[test]
fn an_effect_before_its_cause_is_a_cycle_by_any_link() {
    let early = |stage: Stage, kind: Kind| {
        let mut recording = recorded();
        // The very last one, because its cause is in the recording.
        let at = recording.events.iter().rposition(|e| (e.stage, e.kind) == (stage, kind));
        let event = &mut recording.events[at.expect("there is one")];
        (event.clock, event.clock_end) = (1, 1);
        cycle(&recording, &links(&recording)).is_some()
    };
    for (stage, kind) in [
        (Stage::RaftReceive, Kind::Mark),
        (Stage::WalFsync, Kind::Span),
        (Stage::ApplyEntry, Kind::Span),
        (Stage::RaftProgress, Kind::Mark),
        (Stage::RaftPropose, Kind::Span),
        (Stage::ReadIndexWait, Kind::Span),
        (Stage::BackendCommit, Kind::Span),
    ] {
        assert!(early(stage, kind), "{} before its cause goes unnoticed", stage.name());
    }
}

#[test]
fn a_log_that_was_cut_back_joins_nothing_by_its_indexes() {
    let mut recording = recorded();
    let member = recording.events[place(&recording, |e| e.stage == Stage::WalFsync)].member;
    let mut cut = recording.events[0].clone();
    (cut.member, cut.stage, cut.kind) = (member, Stage::LogTruncate, Kind::Mark);
    recording.events.push(cut);
    let is_of_disk = |link: &Link| {
        let to = &recording.events[link.to];
        link.why == Why::Batch && to.member == member && to.stage == Stage::WalFsync
    };
    assert!(!links(&recording).iter().any(is_of_disk));
    assert!(links(&recorded()).iter().any(is_of_disk));
}
