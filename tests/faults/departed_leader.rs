//! A leader that leaves, by SIGTERM or by SIGKILL, while clients write at the other members.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use glass_etcd::{
    clock,
    story::{Event, Recording},
    trace::Stage,
};
use tokio::task::JoinHandle;

use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{Kind, left_out},
    traces::listen::Listener,
};

/// Writers at each of the two members that stay.
const WRITERS: usize = 8;
/// How often the leader leaves in each test; `GLASS_IT_DEPARTURES` overrides it.
const ROUNDS: usize = 2;
/// Acknowledged puts before it leaves, and after that.
const PUTS: usize = 100;
/// An election takes at most two timeouts of a second, and more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An acknowledged put.
struct Written {
    key: String,
    revision: i64,
    at: Instant,
}

/// Puts in flight at some members, each key once.
struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<Written>>>,
}

impl Writers {
    fn start(cluster: &Cluster, members: &[usize], round: usize) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = Vec::new();
        for at in members {
            let client = cluster.client(*at);
            for writer in 0..WRITERS {
                let name = format!("round {round}, m{at}, writer {writer}");
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                tasks.push(tokio::spawn(write(name, client.clone(), stop, done)));
            }
        }
        Self { stop, done, tasks }
    }

    async fn acknowledged(&self, count: usize) {
        let goal = self.done.load(Ordering::Relaxed) + count;
        eventually("the writers get on", PATIENCE, || async {
            let done = self.done.load(Ordering::Relaxed);
            if goal <= done { Ok(()) } else { Err(format!("{done} of {goal} puts")) }
        })
        .await;
    }

    async fn finish(self) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.unwrap());
        }
        // Printed for the reader; a busy machine makes any pause longer.
        all.sort_unstable_by_key(|put: &Written| put.at);
        let pauses = all.windows(2).map(|pair| pair[1].at - pair[0].at);
        println!("{} puts, at most {:?} without one", all.len(), pauses.max());
        all
    }
}

/// Puts one key after the other; none may fail.
async fn write(
    name: String,
    mut client: Client,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Vec<Written> {
    let mut written = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{name}, put {}", written.len());
        match client.put(&key, "value").await {
            Ok(revision) => written.push(Written { key, revision, at: clock::now() }),
            Err(status) => panic!("{key}: {status}"),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    written
}

/// A leader that is about to leave, under load at the other members.
struct Busy {
    leader: usize,
    others: Vec<usize>,
    writers: Writers,
}

impl Busy {
    /// Returns once the writers are running.
    async fn start(cluster: &Cluster, round: usize) -> Self {
        let leader = cluster.leader().await;
        let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
        let writers = Writers::start(cluster, &others, round);
        writers.acknowledged(PUTS).await;
        Self { leader, others, writers }
    }

    /// The leader has left: the writers must make progress; returns their puts.
    async fn go_on(self) -> Vec<Written> {
        self.writers.acknowledged(PUTS).await;
        self.writers.finish().await
    }
}

/// Restarts a member that has left.
async fn back(cluster: &mut Cluster, at: usize) {
    cluster.spawn(at);
    cluster.wait_ready(at).await;
}

fn rounds() -> usize {
    std::env::var("GLASS_IT_DEPARTURES").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// Checks that each key was written once, at the revision in its answer.
async fn check_exactly_once(cluster: &Cluster, written: &[Written]) {
    let state = cluster.client(0).everything(false).await.unwrap();
    assert_eq!(state.count, i64::try_from(written.len()).unwrap(), "keys that no writer has put");
    let found: std::collections::HashMap<&[u8], _> =
        state.kvs.iter().map(|pair| (&pair.key[..], pair)).collect();
    for Written { key, revision, .. } in written {
        let pair = found.get(key.as_bytes()).unwrap_or_else(|| panic!("{key} is lost"));
        assert_eq!((pair.version, pair.mod_revision), (1, *revision), "{key}");
    }
}

/// Three members of ours and an observer of their records. Other subjects are left out, with the
/// reason.
async fn observed(why: &str) -> Option<(Cluster, Listener)> {
    if Kind::subject() != Kind::Glass {
        left_out(why);
        return None;
    }
    let cluster = Cluster::start(&Kind::Glass, 3).await;
    let listener = Listener::start(&cluster).await;
    Some((cluster, listener))
}

/// Goal: a restart of the leader costs the other members' clients no write and no election. Method:
/// SIGTERM under load, which must end in a transfer: the term rises by one, and no member has
/// waited for an election timeout. The old leader's records reach their observers before it ends.
#[tokio::test]
async fn a_stopping_leader_hands_over_and_no_write_at_the_others_fails() {
    let why = "handing over under load: etcd loses proposals forwarded meanwhile";
    let Some((mut cluster, listener)) = observed(why).await else { return };
    let mut written = Vec::new();
    for round in 0..rounds() {
        let busy = Busy::start(&cluster, round).await;
        let (leader, other) = (busy.leader, busy.others[0]);
        let term = cluster.client(leader).status().await.unwrap().raft_term;
        cluster.terminate(leader);
        let exit = cluster.wait_exit(leader, PATIENCE).await.expect("it stops");
        assert!(exit.success(), "{exit}");
        written.extend(busy.go_on().await);
        let now = cluster.client(other).status().await.unwrap();
        assert_eq!(now.raft_term, term + 1, "round {round}: one election, and it was won at once");
        listener.until("the transfer", |recording| transfer(recording, term, now.leader)).await;
        assert!(cluster.log(leader).contains("handed the leadership over"));
        back(&mut cluster, leader).await;
    }
    check_exactly_once(&cluster, &written).await;
}

/// Goal: a write that was forwarded to a leader that died is neither lost nor written twice, and
/// its client does not wait for the request timeout. Method: SIGKILL under load; no put at the
/// others may fail. The trace of a lost one shows it.
#[tokio::test]
async fn writes_that_went_down_with_the_leader_are_proposed_again_once() {
    let why = "writes that went down with the leader: on etcd they time out";
    let Some((mut cluster, listener)) = observed(why).await else { return };
    let mut written = Vec::new();
    for round in 0..rounds() {
        let busy = Busy::start(&cluster, round).await;
        let leader = busy.leader;
        cluster.kill(leader);
        written.extend(busy.go_on().await);
        back(&mut cluster, leader).await;
    }
    check_exactly_once(&cluster, &written).await;
    listener.until("a put that was lost and proposed again", was_lost).await;
}

/// Checks that the leader of this term asked that member to campaign, and no election timeout ran
/// out.
fn transfer(recording: &Recording, term: u64, to: u64) -> Result<(), String> {
    let of = |stage: Stage| recording.events.iter().filter(move |event| event.stage == stage);
    let is_of =
        |name: &'static str, value: u64| move |event: &&Event| event.field(name) == Some(value);
    let mut asked = of(Stage::ElectionTransfer).filter(is_of("term", term));
    if !asked.any(|event| event.field("to") == Some(to)) {
        return Err(format!("{} transfers", of(Stage::ElectionTransfer).count()));
    }
    assert_eq!(of(Stage::ElectionTimeout).filter(is_of("term", term)).count(), 0);
    Ok(())
}

/// A put that waited for an election is slow, so its records are kept on all members.
fn was_lost(recording: &Recording) -> Result<(), String> {
    let of = |stage: Stage| recording.events.iter().filter(move |event| event.stage == stage);
    let applied = |id: u64, term| {
        of(Stage::ApplyEntry).any(|event| event.id == id && event.field("term") == Some(term))
    };
    for lost in of(Stage::RaftLost) {
        let [term, committed, again] =
            ["term", "committed_term", "again"].map(|name| lost.field(name).unwrap());
        assert!(term < committed, "lost by an entry of term {committed}, proposed in {term}");
        assert_eq!(again, 1, "all leaders speak glass");
        if applied(lost.id, committed) {
            return Ok(());
        }
    }
    Err(format!("{} were lost, and none applied", of(Stage::RaftLost).count()))
}
