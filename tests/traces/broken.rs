//! Traces of a cluster under faults: no effect before its cause, no orphaned steps, no false
//! records.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::{PutRequest, RangeRequest},
    story::{
        Event, Recording,
        order::{Order, point},
        query::{self, Story},
    },
    trace::{Kind, Stage},
};

use super::{
    Scene,
    listen::Listener,
    order::{sampled, seed},
    told::Told,
};
use crate::{
    client::Client,
    cluster::Cluster,
    programs::{Kind as Program, left_out, reference},
    proxy::Wires,
    random::Random,
};

/// Wall clocks: two hours ahead, correct, and one hour ahead.
const CLOCKS: [&[(&str, &str)]; 3] = [
    &[("FAILPOINTS", "wall-clock-ahead=return(7200)")],
    &[],
    &[("FAILPOINTS", "wall-clock-ahead=return(3600)")],
];
/// Clients, two for each member.
const WORKERS: usize = 6;
/// Duration of each fault: longer than an election timeout.
pub(super) const FAULT: Duration = Duration::from_millis(1800);
/// Puts whose end a killed member may not have sent: every 25 ms it sends records that are 50 ms
/// old.
const UNTOLD_MAX: usize = 16;
/// Keys that the clients share.
const KEYS: u64 = 5;

/// The clients' counts of their requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Acknowledged puts.
    pub(super) puts: usize,
    /// Answered gets.
    pub(super) gets: usize,
    /// Puts and gets that failed.
    pub(super) failed: usize,
}

/// Goal: under any faults, playback order never shows an effect before its cause, every step
/// belongs to a story, and nothing unknown is claimed. Method: random traffic while members are
/// killed, stopped and cut off, under wall clocks that are hours apart; then every story is
/// checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_under_faults_is_recorded_in_causal_order_without_orphans() {
    if Program::subject() != Program::Glass {
        left_out("traces of a broken cluster: etcd leaves no traces");
        return;
    }
    let kinds = [Program::Glass, Program::Glass, Program::Glass];
    let (cluster, wires) = Cluster::start_wired(&kinds, &CLOCKS).await;
    let listener = Listener::start(&cluster).await;
    let mut scene = Scene { cluster, listener };
    let (over, counts) = traffic(&scene.cluster, &[0, 1, 2]);
    break_things(&mut scene, &wires).await;
    over.send_replace(true);
    let all = sum(counts).await;
    assert!(50 < all.puts && 20 < all.gets, "hardly anything happened: {all:?}");
    let recording = quiet(&scene).await;
    println!("{all:?}, {} events", recording.events.len());
    check(&recording, &all);
}

/// Goal: the same beside members that record nothing. Method: a cluster of two of ours and a real
/// etcd 3.5.1; then, of two etcds and one of ours, which sees least.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_etcd_members_our_steps_are_recorded_and_theirs_are_unknown() {
    let Some(etcd) = reference().filter(|_| Program::subject() == Program::Glass) else {
        left_out("traces in a mixed cluster: no etcd 3.5.1, or nothing of ours to test");
        return;
    };
    for kinds in [
        [Program::Glass, Program::Glass, etcd.clone()],
        [etcd.clone(), Program::Glass, etcd.clone()],
    ] {
        let (cluster, _wires) = Cluster::start_wired(&kinds, &[&[], &[], &[]]).await;
        let ours: Vec<usize> = (0..3).filter(|at| kinds[*at] == Program::Glass).collect();
        let listener = Listener::start_with(&cluster, &ours).await;
        let scene = Scene { cluster, listener };
        let (over, counts) = traffic(&scene.cluster, &ours);
        tokio::time::sleep(FAULT).await;
        over.send_replace(true);
        let all = sum(counts).await;
        assert!(0 == all.failed && 20 < all.puts, "{all:?}");
        let mut client = scene.cluster.client(ours[0]);
        let put = PutRequest { key: "broken/last".into(), ..PutRequest::default() };
        client.kv.put(sampled(put)).await.unwrap();
        // A leader of ours has communicated with all of them; a follower of ours with the leader,
        // and perhaps with another candidate.
        let theirs = 3 - ours.len();
        let is_ours = ours.contains(&scene.cluster.leader().await);
        let least = if is_ours { theirs } else { 1 };
        let is_told = |told: &Told| {
            let unheard = told.story.unheard.len();
            if told.story.missing.is_empty() && (least..=theirs).contains(&unheard) {
                return Ok(());
            }
            Err(format!("{:?}, unheard {:x?}", told.story.missing, told.story.unheard))
        };
        scene.listener.told(("KV/Put", "broken/last"), is_told).await;
        check(&scene.listener.recording(), &all);
    }
}

pub(super) type Counting = tokio::task::JoinHandle<Counts>;

/// Starts clients of these members, which run until they are stopped.
pub(super) fn traffic(
    cluster: &Cluster,
    members: &[usize],
) -> (tokio::sync::watch::Sender<bool>, Vec<Counting>) {
    let seed = seed();
    println!("GLASS_IT_SEED={seed}");
    let (over, is_over) = tokio::sync::watch::channel(false);
    let mut random = Random::new(seed);
    let work = |worker: usize| {
        let client = cluster.client(members[worker % members.len()]);
        tokio::spawn(work(client, random.split(), is_over.clone()))
    };
    (over, (0..WORKERS).map(work).collect())
}

/// Waits for the clients' counts, and adds them up.
pub(super) async fn sum(counts: Vec<Counting>) -> Counts {
    let mut all = Counts::default();
    for count in counts {
        let count = count.await.unwrap();
        all.puts += count.puts;
        all.gets += count.gets;
        all.failed += count.failed;
    }
    all
}

async fn work(
    mut client: Client,
    mut random: Random,
    is_over: tokio::sync::watch::Receiver<bool>,
) -> Counts {
    let mut counts = Counts::default();
    while !*is_over.borrow() {
        let key = Bytes::from(format!("broken/{}", random.below(KEYS)));
        let is_well = if random.next().is_multiple_of(3) {
            let range = RangeRequest { key, ..RangeRequest::default() };
            let is_well = client.kv.range(sampled(range)).await.is_ok();
            counts.gets += usize::from(is_well);
            is_well
        } else {
            let value = Bytes::from_static(b"v");
            let put = PutRequest { key, value, ..PutRequest::default() };
            let is_well = client.kv.put(sampled(put)).await.is_ok();
            counts.puts += usize::from(is_well);
            is_well
        };
        counts.failed += usize::from(!is_well);
        // About forty requests a second per client: fewer than the number above which not all are
        // kept.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    counts
}

/// One fault after the other, each at another member.
async fn break_things(scene: &mut Scene, wires: &Wires) {
    let [leader, first, second] = scene.parts().await;
    tokio::time::sleep(FAULT / 2).await;
    scene.cluster.kill(first);
    tokio::time::sleep(FAULT / 2).await;
    scene.cluster.spawn(first);
    scene.cluster.wait_ready(first).await;
    scene.cluster.pause(leader);
    tokio::time::sleep(FAULT).await;
    scene.cluster.resume(leader);
    scene.cluster.wait_ready(leader).await;
    scene.cluster.cut_off(wires, &[second]).await;
    tokio::time::sleep(FAULT).await;
    scene.cluster.cut_off(wires, &[]).await;
    scene.cluster.wait_ready(second).await;
    let leader = scene.cluster.leader().await;
    scene.cluster.cut_off(wires, &[leader]).await;
    tokio::time::sleep(FAULT).await;
    scene.cluster.cut_off(wires, &[]).await;
    scene.cluster.wait_ready(leader).await;
}

/// One more put, whose story is complete once everything before it has arrived.
pub(super) async fn quiet(scene: &Scene) -> Recording {
    let put = PutRequest { key: "broken/last".into(), ..PutRequest::default() };
    scene.cluster.client(0).kv.put(sampled(put)).await.unwrap();
    scene
        .listener
        .told(("KV/Put", "broken/last"), |told| {
            if told.story.missing.is_empty() { Ok(()) } else { Err(told.text()) }
        })
        .await
        .recording
}

/// Holds for every recording, with any faults.
pub(super) fn check(recording: &Recording, counts: &Counts) {
    let order = Order::of(recording);
    assert_eq!((recording.events.len(), 0), (order.rows.len(), order.withheld));
    let rank: HashMap<usize, usize> =
        order.rows.iter().enumerate().map(|(rank, place)| (*place, rank)).collect();
    assert_eq!(recording.events.len(), rank.len(), "an event is played twice");
    rows_only_rise(recording, &order);
    for (from, to) in &order.partner {
        if recording.events[*from].stage == Stage::RaftSend {
            assert!(rank[from] < rank[to], "received before sent: {:?}", recording.events[*to]);
        }
    }
    assert_eq!(
        None,
        super::causes::cycle(recording, &super::causes::links(recording)),
        "a cycle of causes"
    );
    let requests = query::requests(recording);
    let (mut whole, mut answered) = (0, 0);
    for request in &requests {
        let story = Story::of(recording, &order, request.id).expect("its rpc was captured");
        no_orphans(recording, &story);
        causes_come_first(recording, &story, &rank);
        let is_write = request.method == "KV/Put";
        if is_write && request.code == Some(0) {
            answered += 1;
            assert!(!story.is_lost, "answered and lost: {story:?}");
            assert!(story.entry.is_some(), "answered, and no entry: {story:?}");
            whole += usize::from(story.missing.is_empty());
        }
    }
    assert!(
        counts.puts <= answered + UNTOLD_MAX,
        "{answered} puts are recorded of {}",
        counts.puts
    );
    assert!(0 < whole, "no put is complete");
}

fn rows_only_rise(recording: &Recording, order: &Order) {
    let mut last: HashMap<u8, (u16, u64)> = HashMap::new();
    for place in &order.rows {
        let event = &recording.events[*place];
        let here = (event.boot, point(event));
        let before = last.insert(event.member, here).unwrap_or_default();
        assert!(before <= here, "the member's clock goes back: {event:?}");
    }
}

/// Checks that every event with the request's id is in its story.
fn no_orphans(recording: &Recording, story: &Story) {
    let mut told: Vec<usize> = story.steps.iter().map(|step| step.event).collect();
    told.sort_unstable();
    for (place, event) in recording.events.iter().enumerate() {
        let is_told = told.binary_search(&place).is_ok();
        assert!(is_told || event.id != story.id, "an orphan: {event:?}");
    }
}

/// On each member: proposed before appended, appended before synced and applied; and before the
/// first member applies it, a majority has synced it, as far as the majority sent records.
fn causes_come_first(recording: &Recording, story: &Story, rank: &HashMap<usize, usize>) {
    let Some((_, index)) = story.entry else { return };
    let steps: Vec<(usize, &Event)> =
        story.steps.iter().map(|step| (rank[&step.event], &recording.events[step.event])).collect();
    let first = |member: u8, is_meant: &dyn Fn(&Event) -> bool| {
        let found = steps.iter().filter(|(_, event)| event.member == member && is_meant(event));
        found.map(|(rank, _)| *rank).min()
    };
    let is_span = |event: &Event, stage: Stage| event.stage == stage && event.kind != Kind::Begin;
    let mut synced = Vec::new();
    let mut applied = Vec::new();
    for member in 0..u8::try_from(recording.members.len()).expect("few") {
        let appended = first(member, &|event| is_span(event, Stage::RaftEntry));
        let sync = first(member, &|event| {
            is_span(event, Stage::WalFsync) && event.field("last") >= Some(index)
        });
        let apply = first(member, &|event| is_span(event, Stage::ApplyEntry));
        // A request that began before the listener came has no beginning in the recording.
        let is_begin = |event: &Event| event.stage == Stage::Rpc && event.kind == Kind::Begin;
        let begin = first(member, &is_begin);
        for (what, cause, effect) in [
            ("appended before asked", begin, appended),
            ("synced before appended", appended, sync),
            ("applied before appended", appended, apply),
            ("applied before synced", sync, apply),
        ] {
            if let (Some(cause), Some(effect)) = (cause, effect) {
                assert!(cause < effect, "{what}: {story:?}");
            }
        }
        synced.extend(sync);
        applied.extend(apply);
    }
    synced.sort_unstable();
    // A member without records may have been part of the majority.
    let is_whole = story.missing.is_empty() && story.unheard.is_empty();
    if let (Some(second), Some(applied), true) = (synced.get(1), applied.iter().min(), is_whole) {
        let text = || Told::of(recording, story.id).map(|told| told.text()).unwrap_or_default();
        assert!(second < applied, "applied before a majority had it: {}", text());
    }
}
