//! How a log is repaired belongs to the story of the start that needed it, and is bounded.

use super::*;

use address::Address;

/// The first member leads, and the third starts a second time.
fn started() -> Script {
    let mut script = Script::new();
    script.step(2, Stage::RaftRole, 0, &[]);
    script.recording.members[2].boots.push(BootInfo { boot: 2, wall_ns: 1_000_000_000 });
    script.step(2, Stage::MemberStart, 0, &[("last", 12)]);
    script
}

/// The stages of the start's story, with the types of its messages.
fn told(script: &mut Script) -> Vec<String> {
    script.step(2, Stage::MemberReady, 0, &[]);
    let mut is_again = false;
    for event in script.recording.events.iter_mut().filter(|event| event.member == 2) {
        is_again |= event.stage == Stage::MemberStart;
        event.boot = if is_again { 2 } else { 1 };
    }
    let order = Order::of(&script.recording);
    let stories = Stories::new(&script.recording, &order);
    let story = stories.incident(Address::Start { member_id: 3, boot: 2 }).unwrap();
    let steps = story.steps.iter().map(|step| &script.recording.events[step.event]);
    let name = |event: &Event| match event.stage {
        Stage::RaftSend => {
            let kind = field!(event, RaftSend, type) as usize;
            let refusal = if field!(event, RaftSend, reject) == 0 { "" } else { " refused" };
            format!("{} sends {}{refusal}", event.member, message::MESSAGES[kind])
        }
        Stage::RaftReceive => format!("{} receives", event.member),
        stage => format!("{} {}", event.member, stage.name()),
    };
    steps.map(name).collect()
}

fn app(script: &mut Script, index: u64, last: u64) {
    script.message((0, 2), message::APP, 0, &[("index", index), ("last", last)]);
}

fn answer(script: &mut Script, index: u64, reject: u64) {
    script.message((2, 0), message::APP_RESP, 0, &[("index", index), ("reject", reject)]);
}

#[test]
fn a_start_tells_of_each_refusal_and_of_the_first_answer_that_accepts() {
    let mut script = started();
    app(&mut script, 14, 0);
    answer(&mut script, 14, 1);
    app(&mut script, 11, 14);
    script.step(2, Stage::LogTruncate, 0, &[("last.old", 12), ("last.new", 11), ("term", 3)]);
    answer(&mut script, 14, 0);
    for index in 14..40 {
        app(&mut script, index, index + 1);
        answer(&mut script, index + 1, 0);
    }
    let expected = [
        "2 member.start",
        "0 sends MsgApp",
        "2 receives",
        "2 sends MsgAppResp refused",
        "0 receives",
        "0 sends MsgApp",
        "2 receives",
        "2 log.truncate",
        "2 sends MsgAppResp",
        "0 receives",
        "2 member.ready",
    ];
    assert_eq!(expected.map(str::to_owned).to_vec(), told(&mut script));
}

#[test]
fn a_start_that_needed_a_snapshot_tells_of_it_and_of_what_follows() {
    let mut script = started();
    let to_another = script.begin(0, Stage::SnapshotSend, 0);
    script.end(to_another, &[("peer", 2), ("index", 20)]);
    let send = script.begin(0, Stage::SnapshotSend, 0);
    let peer = script.recording.events[send].clone().with(&[("peer", 3), ("index", 20)]);
    script.recording.events[send] = peer;
    script.step(2, Stage::SnapshotReceive, 0, &[("index", 20)]);
    script.step(2, Stage::SnapshotAccept, 0, &[("last.old", 12), ("last.new", 20)]);
    script.end(send, &[("peer", 3), ("index", 20)]);
    answer(&mut script, 20, 0);
    app(&mut script, 20, 22);
    script.step(2, Stage::SnapshotInstall, 0, &[]);
    answer(&mut script, 22, 0);
    app(&mut script, 22, 23);
    answer(&mut script, 23, 0);
    let expected = [
        "2 member.start",
        "0 snapshot.send",
        "2 snapshot.receive",
        "2 snapshot.accept",
        "0 snapshot.send",
        "2 sends MsgAppResp",
        "0 receives",
        "0 sends MsgApp",
        "2 receives",
        "2 snapshot.install",
        "2 sends MsgAppResp",
        "0 receives",
        "2 member.ready",
    ];
    assert_eq!(expected.map(str::to_owned).to_vec(), told(&mut script));
}
