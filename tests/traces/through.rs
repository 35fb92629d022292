//! What a request lived through is what was done to the cluster: the leader killed or stopped under
//! it, no quorum, one election after the other, a member that starts again.

use std::{fs::File, time::Duration};

use glass_etcd::{
    story::{
        Event, Recording, name_of,
        order::Order,
        query::{
            Stories,
            address::Address,
            cluster::{Because, Cluster as Happened},
            graph::Graph,
            incidents::{Incident, Outcome, incidents},
            path::{Segment, Wait, critical_path},
            through::{Fate, Through},
        },
        recording,
    },
    trace::{Kind, Stage},
};
use tokio::task::JoinHandle;

use super::{
    Scene,
    commands::glass,
    told::{Told, place_of},
};
use crate::client::eventually;

/// Shorter than an election timeout, which is a second at least.
const STOPPED: Duration = Duration::from_millis(700);
/// How long a member that was killed is gone, at least: longer than an election.
const GONE: Duration = Duration::from_secs(2);
/// A put that nobody can commit ends after five seconds and two election timeouts.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(20);

/// A put that is under way, while something happens to the cluster.
fn put(scene: &Scene, at: usize, key: &'static str) -> JoinHandle<bool> {
    let mut client = scene.cluster.client(at);
    tokio::spawn(async move { client.put(key, "v").await.is_ok() })
}

/// Waits until the member has handed the put to raft, and with it to the leader.
async fn is_proposed(scene: &Scene, key: &'static str) {
    let is_sent = |told: &Told| {
        let sent = told.steps().any(|seen| seen.event.stage == Stage::RaftInbox);
        if sent { Ok(()) } else { Err("not proposed".to_owned()) }
    };
    scene.listener.told(("KV/Put", key), is_sent).await;
}

/// The story of the put or get, once its rpc has ended.
async fn ended(scene: &Scene, what: (&str, &str)) -> Told {
    let is_over = |told: &Told| {
        let over = told
            .steps()
            .any(|seen| (seen.event.stage, seen.event.kind) == (Stage::Rpc, Kind::Span));
        if over { Ok(()) } else { Err("its rpc has not ended".to_owned()) }
    };
    scene.listener.told(what, is_over).await
}

/// What the request lived through, and its path.
fn lived(told: &Told) -> (Through, Vec<Segment>) {
    let graph = Graph::of(&told.recording, &told.order, &told.story);
    let path = critical_path(&told.recording, &told.order, &told.story, &graph).unwrap();
    let rpc = &told.recording.events[graph.rpc.unwrap()];
    let sum: u64 = path.iter().map(|segment| segment.ns).sum();
    // The path begins in the socket and ends there.
    assert!(rpc.took_ns <= sum, "{} of {sum} ns\n{}", rpc.took_ns, told.text());
    (graph.through, path)
}

/// The share of the path, in percent, that is a wait for a leader, or for a process that is
/// stopped.
fn leaderless(path: &[Segment]) -> u64 {
    let of = |is_meant: &dyn Fn(Wait) -> bool| -> u64 {
        path.iter().filter(|segment| is_meant(segment.wait)).map(|segment| segment.ns).sum()
    };
    let stalled = Wait::Step(Stage::ProcessStalled);
    let waits = of(&|wait| wait == stalled || matches!(wait, Wait::SilentLeader | Wait::NoLeader));
    waits * 100 / of(&|_| true).max(1)
}

/// The words of a command of `glass trace` about a recording of this moment.
pub(super) async fn shown(scene: &Scene, args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.ndjson");
    recording::write(File::create(&file).unwrap(), &scene.listener.recording()).unwrap();
    let file = file.display().to_string();
    let mut all = vec!["trace"];
    all.extend(args);
    all.extend(["--from", &file]);
    glass(scene, &all).await
}

async fn show(scene: &Scene, told: &Told) -> String {
    shown(scene, &["show", &format!("{:016x}", told.story.id)]).await
}

/// Goal: a request that waited says for what the cluster made it wait. Method: one cluster, to
/// which one thing after the other is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_lived_through_is_what_was_done_to_the_cluster() {
    let Some(mut scene) = Scene::start("what requests live through").await else { return };
    a_stopped_leader_is_said_to_have_stood_still(&scene).await;
    let first = a_killed_leader_is_named_with_its_successor(&mut scene, "through/first").await;
    let second = a_killed_leader_is_named_with_its_successor(&mut scene, "through/second").await;
    assert!(first < second, "terms grow: {first}, {second}");
    each_election_is_told_alone(&scene, &[first, second]).await;
    a_leader_that_is_asked_to_stop_hands_over(&mut scene).await;
    a_question_is_lost_with_its_leader(&scene).await;
    without_a_quorum_it_is_said_who_is_left(&mut scene).await;
}

/// The leader is stopped for 0.7 s, with a put on its way to it.
async fn a_stopped_leader_is_said_to_have_stood_still(scene: &Scene) {
    let [leader, follower, _] = scene.parts().await;
    scene.cluster.pause(leader);
    let put = put(scene, follower, "through/stopped");
    tokio::time::sleep(STOPPED).await;
    scene.cluster.resume(leader);
    assert!(put.await.unwrap());
    let told = scene.listener.told(("KV/Put", "through/stopped"), Told::is_complete).await;
    let (through, path) = lived(&told);
    let place = place_of(&told.recording, leader);
    let stall = through.stalls.iter().map(|one| one.stall).find(|stall| stall.member == place);
    let stall = stall.unwrap_or_else(|| panic!("{through:?}\n{}", told.text()));
    assert!(stall.is_leader, "{stall:?}");
    let took = Duration::from_nanos(u64::try_from(stall.to - stall.from).unwrap());
    // The signal stops the process a moment after it was sent.
    assert!(STOPPED * 9 / 10 <= took, "{took:?}");
    assert!(80 <= leaderless(&path), "{path:?}");
    let text = show(scene, &told).await;
    let says = format!("the process of m{leader}, the leader, stood still for ");
    // A machine that is slow enough makes the others elect another leader meanwhile.
    assert!(text.contains(&says) || through.without.len() == 1, "{text}");
}

/// The leader is killed with a put on its way to it, and comes back when another leads. Returns the
/// new term.
async fn a_killed_leader_is_named_with_its_successor(scene: &mut Scene, key: &'static str) -> u64 {
    let [leader, follower, _] = scene.parts().await;
    let leader_id = Told::member_id_in(&scene.listener.recording(), leader);
    // A put that the dead leader cannot have answered.
    scene.cluster.pause(leader);
    let put = put(scene, follower, key);
    is_proposed(scene, key).await;
    scene.cluster.kill(leader);
    tokio::time::sleep(GONE).await;
    scene.cluster.spawn(leader);
    scene.cluster.wait_ready(leader).await;
    assert!(put.await.unwrap());
    let told = scene.listener.told(("KV/Put", key), |told| {
        let happened = Happened::of(&told.recording, &told.order);
        let starts = happened
            .starts
            .iter()
            .filter(|start| start.member == place_of(&told.recording, leader));
        if starts.count() == 0 { Err("it has not started again".to_owned()) } else { Ok(()) }
    });
    let told = told.await;
    let (through, path) = lived(&told);
    assert_eq!(1, through.without.len(), "{through:?}");
    let without = through.without[0];
    assert_eq!(leader_id, without.gap.before, "{without:?}");
    assert!(matches!(without.fate, Fate::Died(_)), "{without:?}");
    let (winner, term) = without.next.unwrap();
    let place = told.recording.members.iter().position(|member| member.member_id == winner);
    let winner = u8::try_from(place.unwrap()).unwrap();
    assert_ne!(place_of(&told.recording, leader), winner);
    assert_eq!(Some(Address::Election { term, by: None }), without.election);
    assert!(80 <= leaderless(&path), "{path:?}");
    let text = show(scene, &told).await;
    let name = &told.recording.members[usize::from(winner)].name;
    assert!(text.contains(&format!("  m{leader} died; {name} led from +")), "{text}");
    assert!(text.contains(&format!("(election:{term})")), "{text}");
    // A comparison names the same cause.
    let quick = scene.listener.told(("KV/Put", "through/stopped"), Told::is_complete).await;
    let ids = [&quick, &told].map(|told| format!("{:016x}", told.story.id));
    let text = shown(scene, &["diff", &ids[0], &ids[1]]).await;
    let summary = format!("m{leader} died; {name} led from +");
    let cost = text.lines().nth(1).unwrap_or_default();
    assert!(cost.contains(&format!(" B: {summary}")), "{text}");
    let lines = format!("\nmeanwhile in the cluster of B\n  {summary}");
    assert!(text.contains(&lines), "{text}");
    restarts_are_told(scene, leader).await;
    term
}

/// The start that followed says what the member found, and when it served.
async fn restarts_are_told(scene: &Scene, at: usize) {
    let recording = scene.listener.recording();
    let boot = recording.members[usize::from(place_of(&recording, at))].boots.len();
    let address = format!("start:m{at}:{boot}");
    let text = eventually("the start is over", GIVES_UP_WITHIN, || async {
        let text = shown(scene, &["show", &address]).await;
        if text.contains("member.ready") { Ok(text) } else { Err(text) }
    })
    .await;
    for what in [&format!("start {boot} of m{at}"), "serves", "member.start", "committed="] {
        assert!(text.contains(what), "{what}: {text}");
    }
    let list = shown(scene, &["list"]).await;
    let row = list.lines().find(|line| line.starts_with(&address));
    assert!(row.is_some_and(|row| row.contains(" serves ")), "{list}");
}

/// Each election is a row of the list and a story of its own, from the last message of the old
/// leader to the first commit of the new one; no step of one is a step of another.
async fn each_election_is_told_alone(scene: &Scene, terms: &[u64]) {
    let recording = scene.listener.recording();
    let order = Order::of(&recording);
    let stories = Stories::new(&recording, &order);
    let all = incidents(&stories);
    let list = shown(scene, &["list"]).await;
    let mut seen = std::collections::HashSet::new();
    for term in terms {
        let address = Address::Election { term: *term, by: None };
        let incident = all.iter().find(|incident| incident.address == address).unwrap();
        let story = stories.incident(address).unwrap();
        let steps: Vec<usize> = story.steps.iter().map(|step| step.event).collect();
        assert!(steps.iter().all(|at| seen.insert(*at)), "a step of two elections");
        is_whole(&recording, incident, *term, &steps);
        let row = list.lines().find(|line| line.starts_with(&format!("election:{term} ")));
        let row = row.unwrap_or_else(|| panic!("{list}"));
        let Outcome::Won(winner) = incident.outcome else { panic!("{incident:?}") };
        let name = name_of(&recording.members, winner).unwrap();
        assert!(row.contains(&format!("{name} won")), "{row}");
        let text = shown(scene, &["show", &format!("election:{term}")]).await;
        assert!(text.starts_with(&format!("election of term {term}\n")), "{text}");
    }
}

fn is_whole(recording: &Recording, incident: &Incident, term: u64, steps: &[usize]) {
    let events = || steps.iter().map(|at| &recording.events[*at]);
    let first = events().next().unwrap();
    let is_message = matches!(first.stage, Stage::RaftSend | Stage::RaftReceive);
    assert!(is_message, "it begins with the old leader's last message, not {first:?}");
    assert_eq!(Some(term - 1), first.field("term"));
    for event in events() {
        let named = match event.stage {
            Stage::ElectionVote | Stage::RaftCommit | Stage::RaftEntry => event.field("term"),
            Stage::ElectionTimeout => event.field("term").map(|before| before + 1),
            _ => continue,
        };
        assert_eq!(Some(term), named, "{event:?}");
    }
    let has = |stage: Stage| events().filter(|event| event.stage == stage).count();
    for stage in [Stage::ElectionCampaign, Stage::ElectionVote, Stage::ElectionTally] {
        assert!(1 < has(stage), "{}: pre-vote and vote", stage.name());
    }
    let commit = &recording.events[incident.end.unwrap()];
    assert_eq!(Stage::RaftCommit, commit.stage, "{incident:?}");
}

/// SIGTERM: the leader asks another to lead before it ends, and the trace says so.
async fn a_leader_that_is_asked_to_stop_hands_over(scene: &mut Scene) {
    let [leader, ..] = scene.parts().await;
    scene.cluster.terminate(leader);
    assert!(scene.cluster.wait_exit(leader, GIVES_UP_WITHIN).await.is_some());
    let down = scene.listener.until("a step-down", |recording| {
        let happened = Happened::of(recording, &Order::of(recording));
        let place = place_of(recording, leader);
        let down = happened.step_downs.iter().rfind(|down| down.member == place);
        let down = down.copied().ok_or("no step-down")?;
        let is_stop = |event: &Event| (event.member, event.stage) == (place, Stage::MemberStop);
        let stops = recording.events.iter().filter(|event| is_stop(event)).count();
        if stops == 1 { Ok(down) } else { Err(format!("{stops} stops")) }
    });
    let down = down.await;
    assert!(matches!(down.because, Because::HandedOver(_)), "{down:?}");
    let address = format!("step-down:{}", down.term);
    let text = shown(scene, &["show", &address]).await;
    assert!(text.contains("handed over") && text.contains("election.transfer"), "{text}");
    scene.cluster.spawn(leader);
    scene.cluster.wait_ready(leader).await;
}

/// Both others are stopped: the leader steps down, and what it was asked is lost.
async fn a_question_is_lost_with_its_leader(scene: &Scene) {
    let [leader, second, third] = scene.parts().await;
    scene.cluster.pause(second);
    scene.cluster.pause(third);
    let mut client = scene.cluster.client(leader);
    client.everything(false).await.unwrap_err();
    let down_in = |told: &Told| {
        let place = place_of(&told.recording, leader);
        let happened = Happened::of(&told.recording, &told.order);
        happened.step_downs.iter().rfind(|down| down.member == place).copied()
    };
    let has_lost = |told: &Told| match told.on(leader, Stage::ReadIndexLost).len() {
        0 => Err("no question is lost".to_owned()),
        _ => down_in(told).map(|_| ()).ok_or_else(|| "no step-down".to_owned()),
    };
    let told = scene.listener.told(("KV/Range", "\\x00"), has_lost).await;
    let down = down_in(&told).unwrap();
    assert_eq!(Because::NoMajority, down.because, "{down:?}");
    scene.cluster.resume(second);
    scene.cluster.resume(third);
    scene.cluster.leader().await;
}

/// Two members are killed: a put and a get fail, and say who is left.
async fn without_a_quorum_it_is_said_who_is_left(scene: &mut Scene) {
    let [leader, left, other] = scene.parts().await;
    scene.cluster.kill(leader);
    scene.cluster.kill(other);
    let failed = put(scene, left, "through/alone");
    let mut client = scene.cluster.client(left);
    // The first asks the dead leader, and ends when the member misses that leader.
    client.everything(false).await.unwrap_err();
    client.everything(false).await.unwrap_err();
    assert!(!failed.await.unwrap());
    let alone = Told::member_id_in(&scene.listener.recording(), left);
    for what in [("KV/Put", "through/alone"), ("KV/Range", "\\x00")] {
        let told = ended(scene, what).await;
        let (through, path) = lived(&told);
        assert_eq!(vec![alone], through.alive, "{through:?}");
        assert_eq!(3, through.members);
        let last = through.without.last().unwrap();
        assert_eq!((None, None), (last.next, last.gap.to), "{last:?}");
        assert!(80 <= leaderless(&path), "{path:?}");
        let text = show(scene, &told).await;
        assert!(text.contains("no leader for "), "{text}");
        assert!(text.contains(", 1 of 3 members alive"), "{text}");
        let is_put = what.0 == "KV/Put";
        // Its proposal went to the dead leader, or the member dropped it: that is chance.
        let unknown = "Whether the write took effect after the caller gave up is not known";
        let dropped = "The write has no effect: ";
        let said = [unknown, dropped].iter().filter(|said| text.contains(**said)).count();
        assert_eq!(usize::from(is_put), said, "{text}");
    }
    let told = ended(scene, ("KV/Range", "\\x00")).await;
    let parked = told.steps().filter(|seen| seen.event.stage == Stage::ReadIndexPark);
    assert_ne!(0, parked.count(), "the read says that raft keeps its question\n{}", told.text());
    let recording = scene.listener.recording();
    let drops = recording.events.iter().filter(|event| event.stage == Stage::RaftDrop);
    assert_ne!(0, drops.count(), "pre-votes to dead members are dropped");
}
