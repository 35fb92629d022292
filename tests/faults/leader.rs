//! The leader is killed repeatedly while clients write.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::ledger::Ledger;
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::Kind,
};

/// How often the leader is killed.
const ROUNDS: usize = 3;
/// Acknowledged puts in each round.
const PUTS: usize = 200;
/// Concurrent writers.
const WRITERS: usize = 4;

/// Goal: acknowledged puts are kept. Method: 200 acknowledged puts per round; after the first
/// quarter the leader gets SIGKILL, after half of them it is restarted. Then all members must have
/// all puts, and the same revisions. (The page cache survives a SIGKILL: `disk` tests fsync.)
#[tokio::test]
async fn acknowledged_puts_outlive_a_leader_that_is_killed_three_times() {
    let mut cluster = Cluster::start(&Kind::subject(), 3).await;
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    for round in 0..ROUNDS {
        let done = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let clients = (0..3).map(|at| cluster.client(at)).collect();
                let name = format!("r{round}/w{writer}");
                tokio::spawn(write(name, clients, ledger.clone(), done.clone()))
            })
            .collect();
        reached(&done, PUTS / 4).await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        reached(&done, PUTS / 2).await;
        cluster.spawn(leader);
        for writer in writers {
            writer.await.unwrap();
        }
        cluster.wait_ready(leader).await;
    }
    let ledger = ledger.lock().unwrap().clone();
    assert_eq!(ledger.len(), ROUNDS * PUTS);
    ledger.check_everywhere(&cluster).await;
    a_paused_member_catches_up(&cluster, ledger).await;
}

/// SIGSTOP is not a crash: connections stay open without answers. The other two continue.
async fn a_paused_member_catches_up(cluster: &Cluster, mut ledger: Ledger) {
    let leader = cluster.leader().await;
    cluster.pause(leader);
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    for number in 0..20 {
        let mut client = cluster.client(others[number % 2]);
        let (key, value) = (format!("paused/{number}"), format!("value {number}"));
        let revision =
            put_until_acknowledged(std::slice::from_mut(&mut client), &key, &value).await;
        ledger.add(key, value, revision);
    }
    cluster.resume(leader);
    cluster.wait_ready(leader).await;
    ledger.check_everywhere(cluster).await;
}

async fn write(
    name: String,
    mut clients: Vec<Client>,
    ledger: Arc<Mutex<Ledger>>,
    done: Arc<AtomicUsize>,
) {
    for number in 0..PUTS / WRITERS {
        let (key, value) = (format!("{name}/{number}"), format!("value {number} of {name}"));
        clients.rotate_left(1);
        let revision = put_until_acknowledged(&mut clients, &key, &value).await;
        ledger.lock().unwrap().add(key, value, revision);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tries one member after the other; the outcome of a failed put is unknown, so the put may be
/// applied twice, with the same value.
async fn put_until_acknowledged(clients: &mut [Client], key: &str, value: &str) -> i64 {
    let at = AtomicUsize::new(0);
    let count = clients.len();
    let clients = &*clients;
    eventually(&format!("{key} is acknowledged"), Duration::from_secs(40), || {
        let mut client = clients[at.fetch_add(1, Ordering::Relaxed) % count].clone();
        async move { client.put(key, value).await.map_err(|status| status.to_string()) }
    })
    .await
}

async fn reached(done: &AtomicUsize, count: usize) {
    eventually("the writers get on", Duration::from_secs(60), || async {
        let done = done.load(Ordering::Relaxed);
        if count <= done { Ok(()) } else { Err(format!("{done} of {count} puts")) }
    })
    .await;
}
