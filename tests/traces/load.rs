//! What stood ahead of requests under load, where one in a thousand is kept: the work before theirs
//! was for requests that nobody keeps, and is named all the same.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::{PutRequest, RangeRequest},
    story::{
        Recording,
        order::Order,
        query::{
            self, Stories, Summary,
            ahead::{Ahead, Behind, Resource, ahead},
            path::critical_path,
        },
    },
    trace::{Stage, id},
};

use super::{Scene, commands::glass};
use crate::{
    cluster::Cluster,
    raw::{Call, Raw},
};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
/// A caller that wants a trace.
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// An fsync takes two milliseconds longer than the disk, so that entries come while one is in
/// progress.
const SLOW_DISKS: [(&str, &str); 1] = [("FAILPOINTS", "wal-before-fsync=sleep(2)")];
/// Clients that send at the same time, each on a connection of its own.
const CLIENTS: usize = 24;
/// Requests of each client.
const REQUESTS: usize = 200;
/// One in this many is sampled: few enough that hardly a neighbour is kept.
const SAMPLED_ONE_IN: usize = 40;
/// The least wait, in nanoseconds, that is looked at.
const NOTABLE_NS: u64 = 200_000;
/// The waits of a hundred that name everything that was in progress.
const MOST: usize = 90;

/// Goal: under load most sampled requests that waited for an fsync or a round in progress name it,
/// with the first requests that it was for, though none of these is kept. Method: puts, and beside
/// them gets, on many connections; one in forty asks for a trace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_a_wait_names_what_it_stood_behind() {
    let Some(mut scene) = Scene::start("waits under load").await else { return };
    for at in 0..3 {
        scene.cluster.kill(at);
        scene.cluster.set_env(at, &SLOW_DISKS);
    }
    (0..3).for_each(|at| scene.cluster.spawn(at));
    for at in 0..3 {
        scene.cluster.wait_ready(at).await;
    }
    let (cluster, sampled) = (&scene.cluster, AtomicUsize::new(0));
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let sampled = &sampled;
            scope.spawn(move || ask_often(cluster, client, sampled));
        }
    });
    let sampled = sampled.into_inner();
    let recording = scene
        .listener
        .until("the ends of the sampled requests", |recording| {
            let requests = query::requests(recording);
            let ended = requests.iter().filter(|one| one.trace.is_some() && one.end.is_some());
            let ended = ended.count();
            if sampled * 9 / 10 <= ended { Ok(recording.clone()) } else { Err(format!("{ended}")) }
        })
        .await;
    let disk = stood(&recording, Resource::Disk);
    let round = stood(&recording, Resource::Round);
    is_mostly_named(&disk, sampled / 8);
    is_mostly_named(&round, sampled / 16);
    let (request, one) = disk.iter().find(|(_, one)| has_strangers(one)).expect("many had them");
    let text = glass(&scene, &["trace", "show", &format!("{:016x}", request.id)]).await;
    let stranger = one.behind.iter().flat_map(|behind| &behind.ids).find(|id| !id::kept(**id));
    let section = text.split("\nwhat stood ahead\n").nth(1).unwrap_or_else(|| panic!("{text}"));
    assert!(section.contains(&format!("{:016x}", stranger.unwrap())), "{text}");
}

/// Sends puts, and a get after each third, until all are answered.
fn ask_often(cluster: &Cluster, client: usize, sampled: &AtomicUsize) {
    let mut raw = Raw::connect(cluster, client % 3);
    for number in 0..REQUESTS {
        let key = Bytes::from(format!("load/{client}/{number}"));
        let call = match number % 3 {
            0 => Call::new(RANGE, &RangeRequest { key, ..RangeRequest::default() }),
            _ => {
                let value = Bytes::from_static(&[7; 256]);
                Call::new(PUT, &PutRequest { key, value, ..PutRequest::default() })
            }
        };
        let is_sampled = (number + client).is_multiple_of(SAMPLED_ONE_IN);
        let call = if is_sampled { call.with("traceparent", SAMPLED) } else { call };
        assert!(raw.ask(&call).is_ok(), "client {client}, request {number}");
        sampled.fetch_add(usize::from(is_sampled), Ordering::Relaxed);
    }
}

/// The notable waits of sampled requests for a resource.
fn stood(recording: &Recording, resource: Resource) -> Vec<(Summary, Ahead)> {
    let order = Order::of(recording);
    let stories = Stories::new(recording, &order);
    let mut all = Vec::new();
    for request in query::requests(recording).into_iter().filter(|one| one.trace.is_some()) {
        let Some(story) = stories.of(request.id).filter(|story| story.missing.is_empty()) else {
            continue;
        };
        let graph = stories.graph(&story);
        let path = critical_path(recording, &order, &story, &graph).unwrap_or_default();
        let waits = ahead(&stories, &story, &path).into_iter();
        let notable = waits.filter(|one| one.resource == resource && NOTABLE_NS <= one.ns);
        all.extend(notable.map(|one| (request.clone(), one)));
    }
    all
}

/// Whether a wait names requests that nobody keeps.
fn has_strangers(one: &Ahead) -> bool {
    one.behind.iter().any(|behind| behind.ids.iter().any(|id| !id::kept(*id)))
}

/// Whether most waits leave nothing open, and name requests: as many as the work was for, or six;
/// each once, and never the one that waits.
fn is_mostly_named(stood: &[(Summary, Ahead)], least: usize) {
    let told: Vec<String> =
        stood.iter().map(|(request, one)| format!("{:016x} {one:?}", request.id)).collect();
    assert!(least <= stood.len(), "{} of at least {least}\n{}", stood.len(), told.join("\n"));
    let is_named = |(request, one): &&(Summary, Ahead)| {
        for behind in &one.behind {
            let once: BTreeSet<u64> = behind.ids.iter().copied().collect();
            assert_eq!(once.len(), behind.ids.len(), "{one:?}");
            assert!(!once.contains(&request.id), "it stood behind itself: {one:?}");
        }
        let is_full = |behind: &Behind| behind.others == 0 || 6 <= behind.ids.len();
        !one.is_unknown && !one.behind.is_empty() && one.behind.iter().all(is_full)
    };
    let named = stood.iter().filter(is_named).count();
    let strangers = stood.iter().filter(|(_, one)| has_strangers(one)).count();
    eprintln!("{} waits, {named} named, {strangers} with requests that nobody keeps", stood.len());
    assert!(stood.len() * MOST / 100 <= named, "{named} of {}\n{}", stood.len(), told.join("\n"));
    assert!(stood.len() / 2 <= strangers, "{strangers} of {}", stood.len());
    let stages: BTreeSet<Stage> =
        stood.iter().flat_map(|(_, one)| one.behind.iter().map(|behind| behind.stage)).collect();
    assert_eq!(1, stages.len(), "{stages:?}");
}
