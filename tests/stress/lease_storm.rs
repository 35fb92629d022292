//! Many leases, some renewed and some not, and a leader that is killed half way.
//!
//! Times are from the client's own monotonic clock, and each interval is measured in the server's
//! favour: a lease may live as long as if it had been renewed when the answer came, and must live
//! as long as if it had been renewed when the request was sent. A new leader gives every lease its
//! full time again, as etcd does without checkpoints: for a lease that was alive when the old
//! leader was killed, time counts from the moment at which the new one was seen.

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use glass_etcd::{
    clock,
    pb::{
        etcdserverpb::{
            LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, WatchCreateRequest, WatchRequest,
            watch_client::WatchClient, watch_request::RequestUnion,
        },
        mvccpb::event::EventType,
    },
};
use tokio::{
    sync::mpsc::unbounded_channel,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Endpoint;

use super::history::pair;
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::Kind,
    random::Random,
};

/// Leases of a run; `GLASS_IT_LEASES` overrides it.
const LEASES: usize = 400;
/// Clients that grant and renew.
const WORKERS: usize = 20;
/// How long a key may outlive its lease: two election timeouts and a second.
const SLACK: Duration = Duration::from_secs(3);
/// An unanswered renewal is repeated at another member after this time.
const RENEWAL: Duration = Duration::from_secs(2);

/// How a lease is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Never renewed.
    Left,
    /// Renewed until some time after the new leader came.
    Dropped,
    /// Renewed all the time.
    Kept,
}

/// A lease with one key, and its times.
#[derive(Debug)]
struct Lease {
    id: i64,
    ttl: Duration,
    fate: Fate,
    /// When the last successful renewal (or the grant) was sent, and when it was answered.
    sent: Instant,
    answered: Instant,
    /// When its key was seen to be deleted.
    gone: Option<Instant>,
}

/// By worker, so that each searches only its own.
type Leases = Arc<[Mutex<BTreeMap<i64, Lease>>; WORKERS]>;

fn of_worker(leases: &Leases, id: i64) -> MutexGuard<'_, BTreeMap<i64, Lease>> {
    leases[id as usize % WORKERS].lock().unwrap()
}

/// Goal: no key outlives its lease by more than two election timeouts and a second, and none is
/// deleted early. Method: see the essay of this file; puts continue meanwhile, and none may fail
/// except while there is no leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_end_in_time_and_not_before_though_the_leader_is_killed() {
    let count = env::var("GLASS_IT_LEASES").ok().and_then(|text| text.parse().ok());
    let count: usize = count.unwrap_or(LEASES);
    // Granting many takes time, and the leader is killed when all are granted.
    let base = if count <= 1000 { 5 } else { 5 + count as i64 / 250 };
    eprintln!("GLASS_IT_LEASES={count}, from {base} s");
    let mut cluster = Cluster::start(&Kind::subject(), 3).await;
    let leader = cluster.leader().await;
    let others: Vec<Client> = (1..3).map(|step| cluster.client((leader + step) % 3)).collect();
    let leases = Leases::default();
    let port = cluster.members[(leader + 1) % 3].client_port;
    let watcher = tokio::spawn(see_deletions(port, leases.clone()));
    let stop = Arc::new([(); 2].map(|()| AtomicBool::new(false)));
    let mut renewing = JoinSet::new();
    for worker in 0..WORKERS {
        let others = others.clone();
        renewing.spawn(renew(worker, others, leases.clone(), stop.clone()));
    }
    grant_all(&others, &leases, count, base).await;
    // Odd while there is no leader.
    let epoch = Arc::new(AtomicUsize::new(0));
    let putting = tokio::spawn(put(others[1].clone(), epoch.clone(), stop.clone()));
    sleep(Duration::from_secs(base as u64 / 2)).await;
    epoch.store(1, Ordering::Relaxed);
    let old = others[0].clone().status().await.unwrap().leader;
    let killed = clock::now();
    cluster.kill(leader);
    promotion(&others, old).await;
    // A leader starts to count when an entry of its own term is committed.
    others[1].clone().put("promoted", "").await.unwrap();
    let promoted = clock::now();
    epoch.store(2, Ordering::Relaxed);
    eprintln!("another leader after {:?}", promoted - killed);
    sleep(Duration::from_secs(2)).await;
    stop[0].store(true, Ordering::Relaxed);
    all_gone(&leases, base).await;
    stop[1].store(true, Ordering::Relaxed);
    while let Some(ended) = renewing.join_next().await {
        ended.unwrap();
    }
    putting.await.unwrap();
    watcher.abort();
    let leases: Vec<Lease> = (leases.iter())
        .flat_map(|leases| std::mem::take(&mut *leases.lock().unwrap()).into_values())
        .collect();
    assert_eq!(leases.len(), count);
    judge(&leases, killed, promoted);
    let kept = leases.iter().filter(|lease| lease.fate == Fate::Kept).count();
    assert!(count < 6 * kept, "only {kept} of {count} leases were renewed in time");
    let mut client = others[0].clone();
    let there = client.everything(false).await.unwrap().kvs;
    let there = there.iter().filter(|kv| kv.key.starts_with(b"storm/")).count();
    assert_eq!(there, kept, "keys of leases that are renewed");
}

/// Checks that every deleted key was deleted in time, and none of a lease that was renewed.
fn judge(leases: &[Lease], killed: Instant, promoted: Instant) {
    let (mut latest, mut wrong) = (Duration::ZERO, Vec::new());
    for lease in leases {
        let due = lease.answered + lease.ttl;
        // Alive when the old leader was killed, or possibly so.
        let due = if killed < due + SLACK { due.max(promoted + lease.ttl) } else { due };
        match lease.gone {
            Some(gone) if gone < lease.sent + lease.ttl => {
                wrong.push(format!("{:?} too early: {lease:?}", lease.sent + lease.ttl - gone));
            }
            Some(gone) => {
                latest = latest.max(gone.saturating_duration_since(due));
                if due + SLACK < gone {
                    wrong.push(format!("{:?} too late: {lease:?}", gone - due));
                }
                if lease.fate == Fate::Kept {
                    wrong.push(format!("gone: {lease:?}"));
                }
            }
            None if lease.fate != Fate::Kept => wrong.push(format!("still there: {lease:?}")),
            None => (),
        }
    }
    eprintln!("the latest key went {latest:?} after its time");
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), leases.len(), &wrong[..1]);
}

async fn grant_all(clients: &[Client], leases: &Leases, count: usize, base: i64) {
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (mut client, leases) = (clients[worker % clients.len()].clone(), leases.clone());
        let mut random = Random::new(worker as u64);
        workers.spawn(async move {
            for id in (1..=count as i64).filter(|id| *id as usize % WORKERS == worker) {
                let fate = [Fate::Left, Fate::Dropped, Fate::Kept][random.index(3)];
                let ttl = base + random.below(base as u64) as i64;
                let sent = clock::now();
                let answer = client.lease.lease_grant(LeaseGrantRequest { id, ttl }).await.unwrap();
                let ttl = Duration::from_secs(answer.into_inner().ttl as u64);
                let answered = clock::now();
                let lease = Lease { id, ttl, fate, sent, answered, gone: None };
                of_worker(&leases, id).insert(id, lease);
                let key = format!("storm/{id}").into();
                let put = PutRequest { key, lease: id, ..Default::default() };
                client.kv.put(put).await.unwrap();
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
}

/// Renews a worker's leases, each three times per TTL; the next member gets the renewals that one
/// does not answer.
async fn renew(
    worker: usize,
    mut clients: Vec<Client>,
    leases: Leases,
    stop: Arc<[AtomicBool; 2]>,
) {
    while !stop[1].load(Ordering::Relaxed) {
        clients.rotate_left(1);
        let (requests, receiver) = unbounded_channel();
        let opened = clients[0].lease.lease_keep_alive(UnboundedReceiverStream::new(receiver));
        // The response headers come with the first answer, so the first request is sent before.
        let Some(first) = next_to_renew(worker, &leases, &stop) else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let mut sent = clock::now();
        requests.send(LeaseKeepAliveRequest { id: first }).unwrap();
        let mut renewed = first;
        let Ok(Ok(answers)) = timeout(RENEWAL, opened).await else {
            note_unknown(&leases, renewed);
            continue;
        };
        let mut answers = answers.into_inner();
        while let Ok(Ok(Some(answer))) = timeout(RENEWAL, answers.message()).await {
            note_renewal(&leases, (answer.id, answer.ttl), sent);
            let next = loop {
                if stop[1].load(Ordering::Relaxed) {
                    return;
                }
                match next_to_renew(worker, &leases, &stop) {
                    Some(next) => break next,
                    None => sleep(Duration::from_millis(20)).await,
                }
            };
            (sent, renewed) = (clock::now(), next);
            if requests.send(LeaseKeepAliveRequest { id: next }).is_err() {
                break;
            }
        }
        note_unknown(&leases, renewed);
        sleep(Duration::from_millis(20)).await;
    }
}

/// The lease whose renewal is most urgent, once a third of its time is over.
fn next_to_renew(worker: usize, leases: &Leases, stop: &[AtomicBool; 2]) -> Option<i64> {
    let dropped = stop[0].load(Ordering::Relaxed);
    let leases = leases[worker].lock().unwrap();
    let mine = leases.values();
    mine.filter(|lease| lease.fate == Fate::Kept || (lease.fate == Fate::Dropped && !dropped))
        .filter(|lease| lease.ttl / 3 < lease.sent.elapsed())
        .min_by_key(|lease| lease.sent + lease.ttl)
        .map(|lease| lease.id)
}

fn note_renewal(leases: &Leases, (id, ttl): (i64, i64), sent: Instant) {
    let mut leases = of_worker(leases, id);
    let lease = leases.get_mut(&id).expect("only what was asked for is answered");
    if 0 < ttl {
        (lease.sent, lease.answered) = (sent, clock::now());
        return;
    }
    // On a machine without time for its client, the renewal may have come too late.
    let since = lease.sent.elapsed();
    assert!(lease.ttl < since, "{since:?} after its last renewal it is gone: {lease:?}");
    lease.fate = Fate::Left;
}

/// A renewal without an answer may still have been applied.
fn note_unknown(leases: &Leases, id: i64) {
    let mut leases = of_worker(leases, id);
    let lease = leases.get_mut(&id).expect("only what is there is renewed");
    lease.answered = clock::now();
}

/// Puts continuously, and prints the durations.
async fn put(mut client: Client, epoch: Arc<AtomicUsize>, stop: Arc<[AtomicBool; 2]>) {
    let mut took = Vec::new();
    while !stop[1].load(Ordering::Relaxed) {
        let before = epoch.load(Ordering::Relaxed);
        let began = clock::now();
        let outcome = client.put("steady", "").await;
        // A put in flight when the leader was killed may fail as well.
        if before.is_multiple_of(2) && before == epoch.load(Ordering::Relaxed) {
            outcome.unwrap();
        }
        took.push(began.elapsed());
    }
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    eprintln!("{} puts: median {:?}, p99 {:?}, {:?} at most", took.len(), at(50), at(99), at(100));
}

/// Waits for a leader other than `old`, according to another member.
async fn promotion(others: &[Client], old: u64) {
    eventually("another leader", Duration::from_secs(20), || async {
        for client in others {
            let leader = client.clone().status().await.map_err(|status| status.to_string())?.leader;
            if leader != 0 && leader != old {
                return Ok(());
            }
        }
        Err("there is no leader".to_owned())
    })
    .await;
}

/// Waits until every key of a lease that is no longer renewed is deleted, or late.
async fn all_gone(leases: &Leases, base: i64) {
    let until = clock::now() + Duration::from_secs(2 * base as u64) + 3 * SLACK;
    while clock::now() < until {
        let there = |lease: &Lease| lease.gone.is_none() && lease.fate != Fate::Kept;
        if leases.iter().all(|leases| !leases.lock().unwrap().values().any(there)) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Records when each key is deleted.
async fn see_deletions(port: u16, leases: Leases) {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let mut client = WatchClient::new(endpoint.connect().await.unwrap());
    let (requests, receiver) = unbounded_channel();
    let create = WatchCreateRequest {
        key: "storm/".into(),
        range_end: "storm0".into(),
        start_revision: 1,
        ..Default::default()
    };
    let request_union = Some(RequestUnion::CreateRequest(create));
    requests.send(WatchRequest { request_union }).unwrap();
    let responses = client.watch(UnboundedReceiverStream::new(receiver)).await.unwrap();
    let mut responses = responses.into_inner();
    while let Some(response) = responses.message().await.unwrap() {
        let now = clock::now();
        for event in response.events.iter().filter(|e| e.r#type == EventType::Delete as i32) {
            let key = pair(event).key;
            let id = std::str::from_utf8(&key).unwrap().trim_start_matches("storm/").parse();
            let id: i64 = id.unwrap();
            let mut leases = of_worker(&leases, id);
            let lease = leases.get_mut(&id).expect("only what is there goes");
            lease.gone.get_or_insert(now);
        }
    }
}
