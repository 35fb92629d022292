//! Chains across requests, and requests found by their caller's trace.

use glass_etcd::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, WatchCreateRequest, WatchRequest,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use serde_json::Value;
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;

use super::{
    Scene,
    commands::{glass, steps_of},
    listen::HEARD_WITHIN,
    news::next,
};
use crate::{
    client::eventually,
    locks::{Locks, finish},
};

/// A lease that nobody else grants.
const LEASE: i64 = 0x7ea5e;
/// The lock whose key has that lease.
const LOCK: &str = "chains/lock";
/// A caller's trace, which has two requests in it.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// A caller's trace with one request.
const ALONE: &str = "1af7651916cd43dd8448eb211c80319d";

/// Goal: from the grant of a lease the tree leads to the renewals (counted), to the keys that had
/// it, to its expiry, to the deletions, and to the watcher and the lock that these woke; every
/// request in it leads to the same tree. Method: a lease of two seconds that is renewed and then
/// left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_lease_leads_to_those_that_it_woke() {
    let Some(scene) = Scene::start("chains").await else { return };
    let mut locks = Locks::of(&scene.cluster, 0);
    let grant = LeaseGrantRequest { id: LEASE, ttl: 2 };
    locks.client.lease.lease_grant(grant).await.unwrap();
    let create = WatchCreateRequest { key: "chains/key".into(), ..Default::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let url = format!("http://{}", scene.cluster.members[1].client_address());
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let requests = tokio_stream::iter([create]).chain(tokio_stream::pending());
    let mut news = WatchClient::new(channel).watch(requests).await.unwrap().into_inner();
    assert!(next(&mut news).await.created);
    let (key, value) = ("chains/key".into(), "x".into());
    let put = PutRequest { key, value, lease: LEASE, ..PutRequest::default() };
    locks.client.kv.put(put).await.unwrap();
    let held = locks.lock(LOCK, LEASE).await.unwrap();
    let waiting = Locks::of(&scene.cluster, 1).lock_later(LOCK, 0);
    locks.wait_queue(LOCK, 2).await;
    let renewals = tokio_stream::iter([LeaseKeepAliveRequest { id: LEASE }; 3]);
    let mut answers = locks.client.lease.lease_keep_alive(renewals).await.unwrap().into_inner();
    for _ in 0..3 {
        assert_eq!(2, answers.message().await.unwrap().unwrap().ttl);
    }
    finish(waiting).await.unwrap();
    let lease = format!("{LEASE:x}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chain.ndjson").display().to_string();
    is_heard(&scene, &lease).await;
    // Two live commands would set the members' clocks against each other twice.
    glass(&scene, &["trace", "record", &file, "--for", "1"]).await;
    let whole = chain_of(&scene, &["--lease", &lease], &file).await;
    let held = String::from_utf8(held.key.to_vec()).unwrap();
    let deletes = |key: &str| format!("deleted  {key}, whose last captured write is ");
    for (depth, part) in [
        (0, "Lease/LeaseGrant".to_owned()),
        (1, "renewed  3 times, the last at +".to_owned()),
        (1, "attached  KV/Put chains/key".to_owned()),
        (2, "watcher ".to_owned()),
        (1, format!("attached  Lock/Lock {LOCK}")),
        (1, "expired  on m".to_owned()),
        (2, "revoked  internal/LeaseExpire".to_owned()),
        (3, deletes("chains/key")),
        (3, deletes(&held)),
        (3, "watcher ".to_owned()),
        (3, format!("woke  Lock/Lock {LOCK}")),
        (4, "session  request ".to_owned()),
    ] {
        let begins = format!("{}{part}", "  ".repeat(depth));
        let is_there = whole.lines().skip(2).any(|line| line[16..].starts_with(&begins));
        assert!(is_there, "no {begins:?} in\n{whole}");
    }
    each_request_leads_there(&scene, &whole, &file).await;
    assert_eq!(whole, chain_of(&scene, &["--key", "chains/key"], &file).await);
    let json = chain_of(&scene, &["--lease", &lease, "--json"], &file).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["method"], &json["why"]), (&"Lease/LeaseGrant".into(), &"first".into()));
    stories_are_found_by_key_lease_and_member(&scene, &file, &lease).await;
    requests_are_found_by_their_trace(&scene).await;
}

/// Goal: the list finds the stories about a key, a lease or a member, those that no client has
/// begun too, and leaves out the others. Method: the recording of the chain.
async fn stories_are_found_by_key_lease_and_member(scene: &Scene, file: &str, lease: &str) {
    let list = async |options: &[&str]| {
        let text = glass(scene, &[&["trace", "list", "--from", file], options].concat()).await;
        let rows = text.lines().skip(1).filter(|line| !line.contains(" reaches back to "));
        rows.map(str::to_owned).collect::<Vec<String>>()
    };
    let whats = |rows: &[String]| {
        let mut whats: Vec<String> = rows.iter().map(|row| row[75..].to_owned()).collect();
        whats.sort();
        whats.dedup();
        whats
    };
    let put = "KV/Put chains/key".to_owned();
    let watch = "Watch/Watch chains/key".to_owned();
    let expiry = "internal/LeaseExpire chains/key".to_owned();
    let mut of_key = whats(&list(&["--key", "chains/key"]).await);
    // While the members start, they are asked for all keys.
    of_key.retain(|what| what != "KV/Range \\x00");
    assert_eq!(vec![put.clone(), watch.clone(), expiry.clone()], of_key);
    let of_lease = list(&["--lease", lease]).await;
    let renewals = of_lease.iter().filter(|row| row.ends_with("Lease/LeaseKeepAlive")).count();
    assert_eq!(3, renewals, "{of_lease:#?}");
    let lock = format!("Lock/Lock {LOCK}");
    let [grant, renewal] = ["Lease/LeaseGrant", "Lease/LeaseKeepAlive"].map(str::to_owned);
    assert_eq!(vec![put.clone(), grant, renewal, lock, expiry.clone()], whats(&of_lease));
    let both = whats(&list(&["--lease", lease, "--key", "chains/key"]).await);
    assert_eq!(vec![put, expiry], both);
    assert!(list(&["--lease", "7ea5f"]).await.is_empty());
    let mut of_members = Vec::new();
    for at in 0..3 {
        let name = format!("m{at}");
        let rows = list(&["--member", &name]).await;
        let is_own = |row: &String| row[35..45].trim_end() == name || row.contains("election:");
        assert!(rows.iter().all(is_own), "{name}: {rows:#?}");
        of_members.extend(rows);
    }
    let starts = of_members.iter().filter(|row| row.starts_with("start:")).count();
    assert!(of_members.iter().any(|row| row.starts_with("election:")), "{of_members:#?}");
    let mut all = list(&[]).await;
    assert!(all.contains(of_members.iter().find(|row| row.ends_with(&watch)).unwrap()));
    assert_eq!(starts, all.iter().filter(|row| row.starts_with("start:")).count());
    // An election is found by each of its candidates.
    of_members.sort();
    of_members.dedup();
    all.sort();
    assert_eq!(all, of_members);
    let json = glass(scene, &["trace", "list", "--json", "--lease", lease, "--from", file]).await;
    assert_eq!(of_lease.len(), json.lines().count(), "{json}");
    let why = ["trace", "why-slow", "--json", "--lease", lease, "--from", file];
    let slow = glass(scene, &why).await;
    let all: Value = serde_json::from_str(slow.lines().next().unwrap()).unwrap();
    // The grant, the put and the expiry; and the renewals and the lock, which are meant to wait.
    assert_eq!((&all["ended"], &all["waiting"]), (&3.into(), &4.into()), "{slow}");
}

async fn chain_of(scene: &Scene, target: &[&str], file: &str) -> String {
    let args = [&["trace", "chain", "--from", file], target].concat();
    glass(scene, &args).await
}

/// Waits for the records of the chain.
async fn is_heard(scene: &Scene, lease: &str) {
    eventually("the chain of the lease", HEARD_WITHIN, || async {
        let text = glass(scene, &["trace", "chain", "--lease", lease]).await;
        let is_woken = text.lines().any(|line| {
            line.contains("woke  Lock/Lock") && line.contains("  acquired at revision ")
        });
        // The last record to come is the end of the woken call's rpc.
        let is_over = !text.contains("not finished");
        if is_woken && is_over { Ok(()) } else { Err(text) }
    })
    .await;
}

async fn each_request_leads_there(scene: &Scene, whole: &str, file: &str) {
    let plain = |text: &str| text.replace('*', " ");
    let requests = whole.lines().filter_map(|line| line.split("request ").nth(1));
    let ids: Vec<&str> = requests.map(|rest| &rest[..16]).collect();
    assert!(6 <= ids.len(), "{whole}");
    for id in ids {
        let text = chain_of(scene, &[id], file).await;
        assert_eq!(whole, plain(&text), "{id}");
        let marked: Vec<&str> = text.lines().filter(|line| line.contains('*')).collect();
        assert!(marked.len() == 1 && marked[0].contains(id), "{text}");
    }
}

/// Goal: the trace that a client names finds its request; if it has several, they are listed.
async fn requests_are_found_by_their_trace(scene: &Scene) {
    for (trace, key) in [(TRACE, "one"), (TRACE, "two"), (ALONE, "alone")] {
        let (key, value) = (format!("chains/{key}").into(), "x".into());
        let mut put = tonic::Request::new(PutRequest { key, value, ..PutRequest::default() });
        let parent = format!("00-{trace}-b7ad6b7169203331-01");
        put.metadata_mut().insert("traceparent", parent.parse().unwrap());
        scene.cluster.client(0).kv.put(put).await.unwrap();
    }
    let several = eventually("two requests", HEARD_WITHIN, || async {
        let text = glass(scene, &["trace", "show", TRACE]).await;
        if text.contains("chains/two") { Ok(text) } else { Err(text) }
    })
    .await;
    let lines: Vec<&str> = several.lines().collect();
    assert_eq!(format!("2 captured requests are in trace {TRACE}"), lines[0]);
    assert!(lines[2].ends_with(&format!("KV/Put chains/one  trace {TRACE}")), "{several}");
    assert_eq!(4, lines.len(), "{several}");
    let one = glass(scene, &["trace", "show", ALONE]).await;
    assert!(one.starts_with("KV/Put chains/alone\n") && !steps_of(&one).is_empty(), "{one}");
    let list = glass(scene, &["trace", "list"]).await;
    assert!(list.contains(&format!("KV/Put chains/alone  trace {ALONE}")), "{list}");
    let chain = glass(scene, &["trace", "chain", TRACE]).await;
    assert_eq!(2, chain.matches("KV/Put").count(), "{chain}");
}
