//! The sentences and marks that a screen must have where the facts are so, and nowhere else.

use glass_etcd::{
    field,
    trace::{Stage, message},
};

use super::{SIZES, UNICODE, screen};
use crate::state::{
    State, scenes,
    scenes::Scene,
    steps::Lens,
    story::{Moment, Step},
    tests::press,
};

/// The whole screen, as one line of text, with the cursor at the first step that is meant.
fn at(scene: Scene, lens: Lens, is_meant: impl Fn(&Step) -> bool) -> String {
    let mut state = State::of_recording(scene.recording);
    press(&mut state, "enter");
    let steps = state.steps.as_mut().unwrap();
    let is_it = |step: &Step| step.is_own && step.moment == Moment::Done && is_meant(step);
    steps.now = steps.steps.iter().position(is_it).expect("such a step");
    (steps.look, steps.lens, steps.grain) = (steps.now, lens, glass_etcd::trace::Grain::Stage);
    let lines = screen(&state, SIZES[2], UNICODE).to_string();
    // The panels wrap; the sentences are compared without their line ends.
    let words = lines.lines().map(|line| line.trim_matches('"').trim());
    words.collect::<Vec<_>>().join(" ")
}

fn is(stage: Stage, lane: usize) -> impl Fn(&Step) -> bool {
    move |step| (step.event.stage, step.lane) == (stage, lane)
}

fn says(screen: &str, sentence: &str) {
    assert!(screen.contains(sentence), "{sentence}\n{screen}");
}

#[test]
fn a_follower_learns_the_index_and_the_leader_counts() {
    let learned = at(scenes::put(), Lens::WhoKnows, is(Stage::RaftCommit, 1));
    says(&learned, "etcd-02 learns from etcd-01 that entry 42 is committed.");
    says(&learned, "42 committed?   etcd-01 ✔ knows   etcd-02 ✔ knows   etcd-03 ✘ not yet");
    let counted = at(scenes::put(), Lens::Durable, is(Stage::RaftCommit, 0));
    says(&counted, "With the leader's own disk, a majority of the disks has entry 42,");
    says(&counted, "power cut now: the write SURVIVES (synced on 3 of 3, 2 needed)");
}

#[test]
fn a_read_that_has_nothing_to_wait_for_says_so() {
    let read = at(scenes::get(), Lens::Changed, is(Stage::ReadWaitApplied, 2));
    says(&read, "read.wait_applied 41≤41");
    says(&read, "etcd-03 had applied entry 41 already, so there was nothing to wait for.");
}

#[test]
fn an_acknowledgement_says_whose_disk_it_is_and_how_many_that_makes() {
    let is_ack = |step: &Step| {
        let event = &step.event;
        event.stage == Stage::RaftReceive && field!(event, RaftReceive, type) == message::APP_RESP
    };
    let ack = at(scenes::put(), Lens::Durable, is_ack);
    says(&ack, "etcd-02 says that everything up to entry 42 is on its disk. Without the leader's");
    says(&ack, "own disk, that is 1 of 3, as far as etcd-01 knows.");
    says(&ack, "power cut now: the write MAY BE LOST (synced on 1 of 3, 2 needed)");
    for unset in ["reject", "commit 0", "last 0", "waited"] {
        assert!(!ack.contains(unset), "{unset} is not set\n{ack}");
    }
}

#[test]
fn a_vote_and_the_first_commit_of_a_term_say_why() {
    let vote = at(scenes::election(), Lens::Changed, is(Stage::ElectionVote, 2));
    says(&vote, "etcd-03 would vote for etcd-02 in term 4: the candidate's log ends with entry 41");
    let commit = at(scenes::election(), Lens::WhoKnows, is(Stage::RaftCommit, 1));
    says(&commit, "The acknowledgement of etcd-03 completed a majority of the disks for entry 42,");
    says(&commit, "the empty one with which the leader began its term 4, so it is committed.");
    says(&commit, "no client asked for this");
}

/// Goal: the dead leader's lane says that it is silent, from the first step after its silence on.
#[test]
fn the_lane_of_a_silent_leader_says_so() {
    let timeout = at(scenes::election(), Lens::Changed, is(Stage::ElectionTimeout, 1));
    says(&timeout, "1 etcd-01 was leader");
    says(&timeout, "SILENT for 1.1 s");
    // Below the heads, a later step says who leads next.
    let heads = timeout.split("inferred").next().unwrap();
    assert!(!heads.contains("LEADER"), "{timeout}");
}
