//! Members that come and go: who votes at the cursor decides what is said of the write.

use glass_etcd::{
    story::Event,
    trace::{Configuration, Stage},
};

use super::{UNICODE, screen};
use crate::state::{
    State, lens,
    scenes::{self, IDS},
    tests::press,
};

/// The put of three members at its commit, of which these configurations are known: index, voters,
/// learners. What was applied before it is entry 41.
fn at_commit(known: &[(u64, &[u64], &[u64])]) -> State {
    let mut scene = scenes::put();
    let at_ns = scene.recording.events.iter().find(|event| event.member == 0).unwrap().at_ns;
    let mut clock = 0;
    for (index, voters, learners) in known {
        let (voters, learners) = (voters.to_vec(), learners.to_vec());
        for fields in (Configuration { index: *index, voters, learners }).fields() {
            clock += 1;
            let told = Event { fields, at_ns, ..Event::mark(0, Stage::RaftMembers, clock) };
            scene.recording.events.push(told);
        }
    }
    let mut state = State::of_recording(scene.recording);
    press(&mut state, "enter : 1 8 enter x");
    state
}

/// What the lens says of the write.
fn durable(state: &State) -> String {
    let steps = state.steps.as_ref().unwrap();
    let lines = lens::lines(state.recording(), steps, (&state.lanes, &state.heads()));
    lines.concat().join("   ")
}

/// The heads of the lanes, and the first line of the cluster view.
fn heads_and_banner(state: &mut State) -> [String; 2] {
    let text = |state: &State, line: usize| {
        screen(state, (120, 36), UNICODE).to_string().lines().nth(line).unwrap().to_owned()
    };
    let heads = text(state, 1);
    press(state, "C");
    [heads, text(state, 0)]
}

#[test]
fn a_learner_is_shown_as_one_and_its_disk_does_not_count() {
    let mut state = at_commit(&[(1, &IDS[..2], &IDS[2..])]);
    let said = durable(&state);
    assert!(said.contains(" of 2, 2 needed") && said.contains("(learner)"), "{said}");
    assert_eq!(1, said.matches("(learner)").count(), "{said}");
    let [heads, banner] = heads_and_banner(&mut state);
    assert!(heads.contains("3 etcd-03 learner") && heads.contains("2 etcd-02 follower"), "{heads}");
    assert!(banner.contains("QUORUM 2/2"), "{banner}");
}

#[test]
fn a_member_that_was_removed_is_none_and_one_that_joins_later_is_not_yet_one() {
    let mut state = at_commit(&[(1, &IDS, &[]), (30, &IDS[..2], &[])]);
    assert!(durable(&state).contains("(removed)"), "{}", durable(&state));
    let [heads, banner] = heads_and_banner(&mut state);
    assert!(heads.contains("3 etcd-03 removed") && banner.contains("QUORUM 2/2"), "{heads}");
    let later = at_commit(&[(1, &IDS[..2], &[]), (60, &IDS, &[])]);
    assert!(durable(&later).contains("(no member yet)"), "{}", durable(&later));
}

/// Goal: nobody guesses who votes. Method: the first configuration that is known is of later.
#[test]
fn who_votes_is_unknown_before_the_first_record_of_it() {
    let mut state = at_commit(&[(60, &IDS, &[])]);
    let steps = state.steps.as_ref().unwrap();
    assert_eq!(None, steps.voters(&state.lanes));
    press(&mut state, ": 1 2 enter");
    let said = durable(&state);
    assert!(said.contains("UNKNOWN (which members vote was not captured)"), "{said}");
    let [_, banner] = heads_and_banner(&mut state);
    assert!(banner.contains("QUORUM UNKNOWN"), "{banner}");
    let everyone = at_commit(&[]);
    assert!(durable(&everyone).contains(" of 3, 2 needed"), "{}", durable(&everyone));
}
