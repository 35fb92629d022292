//! Many stories of one recording, and recordings with extreme numbers.

use std::collections::BTreeSet;

use super::*;
use crate::story::{
    query::{
        diff::{Diff, Side},
        graph::Graph,
        path::{Wait, critical_path},
        slow::{Causes, Window},
    },
    spoiled,
};

/// Every id that an event carries, including 0, and one that none carries.
fn ids(recording: &Recording) -> BTreeSet<u64> {
    recording.events.iter().map(|event| event.id).chain([0, 0xdead]).collect()
}

/// Builds all the stories with one `Stories`, twice, and each of them alone, and compares them.
fn assert_agreement(recording: &Recording) -> usize {
    let order = Order::of(recording);
    let stories = Stories::new(recording, &order);
    let mut known = 0;
    for id in ids(recording).into_iter().chain(ids(recording).into_iter().rev()) {
        let alone = Story::of(recording, &order, id);
        assert_eq!(alone, stories.of(id), "{id:016x}");
        let Some(story) = alone else { continue };
        assert_eq!(Graph::of(recording, &order, &story), stories.graph(&story), "{id:016x}");
        known += 1;
    }
    known
}

#[test]
fn a_watcher_that_its_member_refused_is_no_success() {
    let mut script = Script::new();
    for (id, why) in [(1, 1), (2, 2), (3, 7)] {
        script.step(0, Stage::Rpc, id, &[("method", 15)]);
        script.step(0, Stage::WatchCancel, id, &[("why", why)]);
    }
    let refused: Vec<_> = requests(&script.recording).iter().map(|one| one.refused).collect();
    assert_eq!([None, Some("compacted"), Some("empty range")], refused[..]);
}

#[test]
fn a_story_among_many_is_that_of_the_request_alone() {
    for recording in spoiled::golden() {
        let requests = requests(&recording);
        assert!(!requests.is_empty());
        assert!(2 * requests.len() <= assert_agreement(&recording));
    }
    let mut script = Script::put_on_a_follower();
    elect_another(&mut script);
    assert!(6 <= assert_agreement(&script.recording));
}

#[test]
fn withheld_events_are_in_no_story_and_remove_no_step() {
    let Script { mut recording, .. } = Script::put_on_a_follower();
    // The send has not arrived: what the second follower did from there on cannot be played yet.
    let is_first = |e: &Event| (e.member, e.stage) == (2, Stage::RaftReceive);
    let receive = recording.events.iter().position(is_first).unwrap();
    let link = recording.events[receive].link;
    recording.events.retain(|e| e.stage != Stage::RaftSend || e.link != link);
    let last = recording.events.iter().rposition(|e| e.member == 0).unwrap();
    recording.events.drain(last..);
    let order = Order::live(&recording, &[false; 3]);
    let stories = Stories::new(&recording, &order);
    for id in ids(&recording) {
        let Some(story) = stories.of(id) else { continue };
        let told: Vec<usize> = story.steps.iter().map(|step| step.event).collect();
        let in_order: Vec<usize> =
            order.rows.iter().copied().filter(|at| told.contains(at)).collect();
        assert_eq!(in_order, told, "{id:016x}");
    }
}

/// Runs every query on a recording.
fn ask_everything(recording: &Recording) -> Causes {
    let order = Order::of(recording);
    assert_eq!(recording.events.len(), order.rows.len());
    let stories = Stories::new(recording, &order);
    let all: Vec<Story> = ids(recording).into_iter().filter_map(|id| stories.of(id)).collect();
    for story in &all {
        let graph = stories.graph(story);
        let path = critical_path(recording, &order, story, &graph);
        assert_eq!(graph.rpc.is_some(), path.is_some());
    }
    let side = |story| Side { recording, order: &order, story };
    for pair in all.windows(2) {
        for (a, b) in [(0, 1), (1, 0), (0, 0)] {
            let diff = Diff::of(side(&pair[a]), side(&pair[b]));
            diff.pairs.iter().for_each(|pair| _ = pair.longer());
        }
    }
    Causes::of(recording, &order, Window { last_ns: Some(u64::MAX), fresh_ns: 0 });
    Causes::of(recording, &order, Window::default())
}

#[test]
fn no_number_in_a_file_is_too_great() {
    for (case, recording) in spoiled::with_the_greatest_numbers() {
        let causes = ask_everything(&recording);
        assert!(0 < causes.ended + causes.open + causes.waiting, "{case}");
    }
}

#[test]
fn sums_that_no_number_holds_are_the_greatest_that_there_is() {
    let mut script = Script::new();
    for id in [7, 8] {
        let rpc = script.begin(0, Stage::Rpc, id);
        script.end(rpc, &[("method", 1)]);
    }
    let long = spoiled::changed(&script.recording, |event| {
        if event.kind == Kind::Span {
            (event.at_ns, event.took_ns) = (0, u64::MAX);
        }
    });
    let causes = ask_everything(&long);
    let own: Vec<_> = causes.list.iter().map(|cause| (cause.wait, cause.requests)).collect();
    assert_eq!([(Wait::Step(Stage::Rpc), 2)].as_slice(), own);
    let cause = &causes.list[0];
    assert_eq!([u64::MAX; 3], [causes.total_ns, cause.ns, cause.member_ns]);
}
