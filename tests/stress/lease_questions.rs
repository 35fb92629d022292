//! Queries about leases at random members, while leases are granted and revoked at others.
//!
//! An acknowledgement binds all members at once: a query that starts after a grant was acknowledged
//! finds the lease, and one that starts after a revocation was acknowledged does not. A query that
//! overlaps with a change may go either way.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use glass_etcd::{
    clock,
    pb::etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
        LeaseTimeToLiveRequest,
    },
};
use tokio::task::JoinSet;
use tonic::Status;

use crate::{
    client::Client,
    cluster::Cluster,
    programs::{Kind, left_out},
    random::Random,
    traces::order,
};

/// Number of queries; `GLASS_IT_LEASE_QUESTIONS` overrides it.
const QUESTIONS: usize = 1500;
/// Tasks that query.
const ASKERS: usize = 6;
/// Tasks that grant leases, and revoke them.
const GRANTERS: usize = 4;
/// Tasks that put, so that apply is busy.
const WRITERS: usize = 8;
/// No lease ends by itself while the test runs.
const TTL: i64 = 3600;
/// Queries are about leases with fewer younger leases than this.
const YOUNG: usize = 6;

/// A call, from its start to its answer.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Instant,
    to: Instant,
}

/// The changes of a lease; a missing end is unknown.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    granted: Option<Instant>,
    revoke_from: Option<Instant>,
    revoked: Option<Instant>,
}

impl Fate {
    /// Whether a query at this time must find the lease, or must not find it.
    fn must_be_found(&self, question: Span) -> Option<bool> {
        if self.revoked.is_some_and(|revoked| revoked < question.from) {
            return Some(false);
        }
        let is_touched = self.revoke_from.is_some_and(|from| from <= question.to);
        let is_there = self.granted.is_some_and(|granted| granted < question.from);
        (is_there && !is_touched).then_some(true)
    }
}

/// A query, and its result.
#[derive(Clone, Debug)]
struct Answer {
    what: String,
    span: Span,
    /// The leases in question, and whether they were found.
    found: Vec<(i64, bool)>,
}

/// The answers that contradict an acknowledgement.
fn contradictions(fates: &BTreeMap<i64, Fate>, answers: &[Answer]) -> Vec<String> {
    let mut wrong = Vec::new();
    for answer in answers {
        for (lease, found) in &answer.found {
            let must = fates.get(lease).and_then(|fate| fate.must_be_found(answer.span));
            if must.is_some_and(|must| must != *found) {
                wrong.push(format!("{}: lease {lease} found: {found}", answer.what));
            }
        }
    }
    wrong
}

/// State that the tasks share.
#[derive(Default)]
struct Shared {
    fates: Mutex<BTreeMap<i64, Fate>>,
    answers: Mutex<Vec<Answer>>,
    asked: AtomicUsize,
    stop: AtomicBool,
}

impl Shared {
    fn note(&self, lease: i64, change: impl FnOnce(&mut Fate)) {
        change(self.fates.lock().unwrap().entry(lease).or_default());
    }

    fn answered(&self, what: String, from: Instant, found: Vec<(i64, bool)>) {
        let span = Span { from, to: clock::now() };
        self.answers.lock().unwrap().push(Answer { what, span, found });
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One of the youngest leases, for which a stale answer is wrong.
    fn young(&self, random: &mut Random) -> Option<i64> {
        let fates = self.fates.lock().unwrap();
        let back = random.index(YOUNG);
        fates.keys().rev().nth(back).copied()
    }
}

fn one<'a>(clients: &'a mut [Client], random: &mut Random) -> (usize, &'a mut Client) {
    let at = random.index(clients.len());
    (at, &mut clients[at])
}

/// Grants leases and revokes them, each at a random member.
async fn grant(shared: Arc<Shared>, mut clients: Vec<Client>, mut random: Random, first: i64) {
    for lease in (first..).step_by(GRANTERS) {
        if shared.is_over() {
            return;
        }
        let request = LeaseGrantRequest { id: lease, ttl: TTL };
        let granted = one(&mut clients, &mut random).1.lease.lease_grant(request).await;
        if granted.is_err() {
            continue;
        }
        shared.note(lease, |fate| fate.granted = Some(clock::now()));
        // At once, when a stale answer is most likely.
        let (at, client) = one(&mut clients, &mut random);
        let from = clock::now();
        if let Ok(found) = time_to_live(client, lease).await {
            shared.answered(format!("time to live at m{at}, at once"), from, vec![(lease, found)]);
        }
        if random.below(2) == 0 {
            tokio::time::sleep(Duration::from_millis(random.below(10))).await;
        }
        let from = clock::now();
        shared.note(lease, |fate| fate.revoke_from = Some(from));
        let request = LeaseRevokeRequest { id: lease };
        let revoked = one(&mut clients, &mut random).1.lease.lease_revoke(request).await;
        if revoked.is_ok() {
            shared.note(lease, |fate| fate.revoked = Some(clock::now()));
        }
    }
}

async fn put(shared: Arc<Shared>, mut clients: Vec<Client>, mut random: Random) {
    while !shared.is_over() {
        let key = format!("k/{}", random.below(100));
        // A put that fails while the leader changes does not matter to this test.
        let _ = one(&mut clients, &mut random).1.put(&key, "value").await;
    }
}

/// Queries until there are enough answers.
async fn ask(shared: Arc<Shared>, mut clients: Vec<Client>, mut random: Random, goal: usize) {
    while shared.asked.load(Ordering::Relaxed) < goal {
        let Some(lease) = shared.young(&mut random) else {
            tokio::task::yield_now().await;
            continue;
        };
        let kind = random.below(3);
        let known: Vec<i64> = shared.fates.lock().unwrap().keys().copied().collect();
        let (at, client) = one(&mut clients, &mut random);
        let from = clock::now();
        let found = match kind {
            0 => keep_alive(client, lease).await.map(|found| vec![(lease, found)]),
            1 => time_to_live(client, lease).await.map(|found| vec![(lease, found)]),
            _ => leases(client, &known).await,
        };
        let Ok(found) = found else { continue };
        let what = ["keep-alive", "time to live", "leases"][kind as usize];
        shared.answered(format!("{what} at m{at}"), from, found);
    }
}

async fn keep_alive(client: &mut Client, id: i64) -> Result<bool, Status> {
    let request = LeaseKeepAliveRequest { id };
    let answers = client.lease.lease_keep_alive(tokio_stream::iter([request])).await?;
    let answer = answers.into_inner().message().await?;
    Ok(0 < answer.ok_or_else(|| Status::unknown("the stream has ended"))?.ttl)
}

async fn time_to_live(client: &mut Client, id: i64) -> Result<bool, Status> {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    Ok(0 <= client.lease.lease_time_to_live(request).await?.into_inner().ttl)
}

async fn leases(client: &mut Client, known: &[i64]) -> Result<Vec<(i64, bool)>, Status> {
    let list = client.lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner().leases;
    let there: std::collections::HashSet<i64> = list.iter().map(|lease| lease.id).collect();
    Ok(known.iter().map(|id| (*id, there.contains(id))).collect())
}

/// Goal: no answer about a lease is stale. Method: queries about the youngest leases at random
/// members, under load, while the leader is replaced twice; the checker compares each with what was
/// acknowledged before it started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_about_a_lease_contradicts_an_acknowledgement() {
    if Kind::subject() != Kind::Glass {
        left_out("questions about leases: etcd 3.5.1 answers from the past");
        return;
    }
    let goal = std::env::var("GLASS_IT_LEASE_QUESTIONS").ok().and_then(|text| text.parse().ok());
    let goal = goal.unwrap_or(QUESTIONS);
    let seed = order::seed();
    println!("GLASS_IT_SEED={seed}");
    let mut cluster = Cluster::start(&Kind::Glass, 3).await;
    let shared = Arc::<Shared>::default();
    let clients = || (0..3).map(|at| cluster.client(at)).collect::<Vec<Client>>();
    let mut random = Random::new(seed);
    let mut next = || random.split();
    let mut background = JoinSet::new();
    for granter in 0..GRANTERS {
        let first = 1 + granter as i64;
        background.spawn(grant(Arc::clone(&shared), clients(), next(), first));
    }
    for _ in 0..WRITERS {
        background.spawn(put(Arc::clone(&shared), clients(), next()));
    }
    let mut askers = JoinSet::new();
    for _ in 0..ASKERS {
        askers.spawn(ask(Arc::clone(&shared), clients(), next(), goal));
    }
    for third in 1..3 {
        while shared.asked.load(Ordering::Relaxed) < goal * third / 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let leader = cluster.leader().await;
        if third == 1 {
            cluster.kill(leader);
        } else {
            stop(&mut cluster, leader).await;
        }
        cluster.spawn(leader);
        cluster.wait_ready(leader).await;
    }
    while let Some(done) = askers.join_next().await {
        done.unwrap();
    }
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(done) = background.join_next().await {
        done.unwrap();
    }
    let (fates, answers) = (shared.fates.lock().unwrap(), shared.answers.lock().unwrap());
    let bound = |answer: &&Answer| {
        let must = |lease| fates.get(lease).and_then(|fate: &Fate| fate.must_be_found(answer.span));
        answer.found.iter().any(|(lease, _)| must(lease).is_some())
    };
    let decided = answers.iter().filter(bound).count();
    println!("{} answers about {} leases, {decided} bound", answers.len(), fates.len());
    assert!(goal / 4 < decided, "only {decided} of {} answers say anything", answers.len());
    let wrong = contradictions(&fates, &answers);
    assert!(wrong.is_empty(), "{} contradictions: {wrong:#?}", wrong.len());
}

async fn stop(cluster: &mut Cluster, at: usize) {
    cluster.terminate(at);
    cluster.wait_exit(at, Duration::from_secs(60)).await.expect("it stops");
}

/// The test above depends on this checker.
#[test]
fn the_checker_finds_exactly_the_contradictions() {
    let start = clock::now();
    let at = |ms| start + Duration::from_millis(ms);
    let fate = Fate { granted: Some(at(10)), revoke_from: Some(at(30)), revoked: Some(at(40)) };
    let fates = BTreeMap::from([(7, fate)]);
    for (from, to, found, is_wrong) in [
        (5, 8, false, false),  // before the grant
        (5, 15, false, false), // while it is granted
        (5, 15, true, false),
        (11, 20, false, true), // granted, and not revoked yet
        (11, 20, true, false),
        (11, 35, false, false), // while it is revoked
        (35, 45, true, false),
        (41, 45, true, true), // revoked
        (41, 45, false, false),
    ] {
        let span = Span { from: at(from), to: at(to) };
        let answer = Answer { what: String::new(), span, found: vec![(7, found)] };
        assert_eq!(contradictions(&fates, &[answer]).len(), usize::from(is_wrong), "{from} {to}");
    }
}
