//! Members come and go: added, started, promoted, moved, removed, and lost.
//!
//! Each test replaces members of a running cluster, because that is what the parts are for.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use glass_etcd::{
    clock,
    pb::etcdserverpb::{
        Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
        MemberUpdateRequest, MoveLeaderRequest,
    },
};
use tonic::{Code, Status};

use super::{SOON, same_hashes};
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{Kind, left_out, reference},
};

/// A removed member runs for another second, and its clients get two to leave.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// The longest gap between two acknowledged writes. A busy machine may delay an election.
const GAP_MAX: Duration = Duration::from_secs(5);

async fn list(client: &mut Client) -> Result<Vec<Member>, Status> {
    let list = client.cluster.member_list(MemberListRequest { linearizable: true }).await?;
    Ok(list.into_inner().members)
}

async fn id_of(cluster: &Cluster, at: usize) -> u64 {
    let status = eventually("a status", SOON, || async {
        cluster.client(at).status().await.map_err(|status| status.to_string())
    });
    status.await.header.unwrap().member_id
}

/// Asks member `by` to add member `at`, until it has been connected to the others for long enough.
/// Returns the new member's id.
pub(super) async fn add(cluster: &mut Cluster, by: usize, at: usize, is_learner: bool) -> u64 {
    let urls = vec![cluster.members[at].peer_url()];
    let added = eventually("a member is added", SOON, || {
        let (mut client, request) =
            (cluster.client(by), MemberAddRequest { peer_ur_ls: urls.clone(), is_learner });
        async move {
            client.cluster.member_add(request).await.map_err(|status| {
                let is_early = status.message() == "etcdserver: unhealthy cluster";
                assert!(is_early, "{status}");
                status.to_string()
            })
        }
    });
    let added = added.await.into_inner();
    let id = added.member.unwrap().id;
    let name = |member: &Member| match member.name.as_str() {
        "" => cluster.members[at].name.clone(),
        name => name.to_owned(),
    };
    let urls = |member: &Member| format!("{}={}", name(member), member.peer_ur_ls.join(","));
    let initial: Vec<String> = added.members.iter().map(urls).collect();
    cluster.members[at].joins = Some(initial.join(","));
    id
}

async fn remove(cluster: &Cluster, by: usize, id: u64) {
    eventually("a member is removed", SOON, || {
        let mut client = cluster.client(by);
        async move {
            client.cluster.member_remove(MemberRemoveRequest { id }).await.map_err(|status| {
                let is_early = status.message() == "etcdserver: unhealthy cluster";
                assert!(is_early, "{status}");
                status.to_string()
            })
        }
    })
    .await;
}

/// Writes all the time, through whichever member answers.
struct Writer {
    ports: Arc<std::sync::Mutex<Vec<u16>>>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(BTreeMap<String, String>, Duration)>,
}

impl Writer {
    fn start(ports: Vec<u16>) -> Self {
        let ports = Arc::new(std::sync::Mutex::new(ports));
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(ports.clone(), stop.clone()));
        Self { ports, stop, task }
    }

    fn ports(&self, ports: Vec<u16>) {
        *self.ports.lock().unwrap() = ports;
    }

    /// The acknowledged writes, and the longest time between two of them.
    async fn stop(self) -> (BTreeMap<String, String>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn write(
    ports: Arc<std::sync::Mutex<Vec<u16>>>,
    stop: Arc<AtomicBool>,
) -> (BTreeMap<String, String>, Duration) {
    let (mut acknowledged, mut gap) = (BTreeMap::new(), Duration::ZERO);
    let (mut last, mut at): (Instant, usize) = (clock::now(), 0);
    let mut clients: BTreeMap<u16, Client> = BTreeMap::new();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let known = ports.lock().unwrap().clone();
        let port = known[at % known.len()];
        let client = clients.entry(port).or_insert_with(|| Client::new(port));
        let (key, value) = (format!("replaced/{}", number % 500), number.to_string());
        number += 1;
        match tokio::time::timeout(Duration::from_secs(1), client.put(&key, &value)).await {
            Ok(Ok(_)) => {
                gap = gap.max(last.elapsed());
                last = clock::now();
                acknowledged.insert(key, value);
            }
            // Another member may answer. What this write did is not known.
            Ok(Err(_)) | Err(_) => {
                acknowledged.remove(&key);
                at += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    (acknowledged, gap)
}

/// Goal: all members of a cluster can be replaced while it is written to, and nothing is lost.
/// Method: three times, a new member is added as a learner, started and promoted, and the eldest is
/// removed, the leader among them; it ends by itself, with success. At the end all acknowledged
/// writes are there, and no old member comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_are_replaced_one_after_the_other_under_writes() {
    let kind = Kind::subject();
    let mut cluster = Cluster::start(&kind, 3).await;
    let port = |cluster: &Cluster, at: usize| cluster.members[at].client_port;
    let writer = Writer::start((0..3).map(|at| port(&cluster, at)).collect());
    for old in 0..3 {
        let old_id = id_of(&cluster, old).await;
        let by = old + 1;
        let new = cluster.prepare_another(&kind);
        let new_id = add(&mut cluster, by, new, true).await;
        cluster.spawn(new);
        promote(&cluster, by, new, new_id).await;
        writer.ports((old + 1..=new).map(|at| port(&cluster, at)).collect());
        // The request goes to a member that is not removed, so the answer comes from it.
        remove(&cluster, by, old_id).await;
        let exit = cluster.wait_exit(old, GONE_WITHIN).await.expect("a removed member ends");
        assert!(exit.success(), "{exit}");
        let log = cluster.log(old);
        assert!(log.contains("permanently removed from the cluster"), "{log}");
    }
    let (acknowledged, gap) = writer.stop().await;
    assert!(gap < GAP_MAX, "no write in {gap:?}");
    assert!(100 < acknowledged.len(), "{}", acknowledged.len());
    for at in 3..6 {
        let all = cluster.client(at).everything(false).await.unwrap().kvs;
        let found: BTreeMap<&[u8], &[u8]> = all.iter().map(|kv| (&*kv.key, &*kv.value)).collect();
        for (key, value) in &acknowledged {
            assert_eq!(found.get(key.as_bytes()), Some(&value.as_bytes()), "{key} on m{at}");
        }
    }
    let members = list(&mut cluster.client(4)).await.unwrap();
    assert_eq!(members.len(), 3);
    assert!(members.iter().all(|member| !member.is_learner && !member.name.is_empty()));
    // It has its data, and the others refuse it, or its own log says it.
    cluster.spawn(2);
    let exit = cluster.wait_exit(2, GONE_WITHIN).await.expect("a removed member ends again");
    assert!(exit.success(), "{exit}");
    // A restart has the configuration of the log.
    for at in 3..6 {
        cluster.kill(at);
    }
    (3..6).for_each(|at| cluster.spawn(at));
    for at in 3..6 {
        cluster.wait_ready(at).await;
    }
    cluster.members.drain(..3);
    same_hashes(&cluster, 0).await;
}

/// Promotes a learner once it has most of the log; until then the leader says why not.
async fn promote(cluster: &Cluster, by: usize, new: usize, id: u64) {
    eventually("a learner is promoted", SOON, || {
        let mut client = cluster.client(by);
        async move {
            client.cluster.member_promote(MemberPromoteRequest { id }).await.map_err(|status| {
                let is_early = status.code() == Code::FailedPrecondition
                    && status.message().ends_with("which is in sync with leader");
                assert!(is_early, "{status}");
                status.to_string()
            })
        }
    })
    .await;
    cluster.wait_ready(new).await;
    eventually("the new member has published itself", SOON, || async {
        let members = list(&mut cluster.client(new)).await.map_err(|status| status.to_string())?;
        let member = members.iter().find(|member| member.id == id).ok_or("it is not listed")?;
        let is_there = !member.client_ur_ls.is_empty() && !member.is_learner;
        if is_there { Ok(()) } else { Err(format!("{member:?}")) }
    })
    .await;
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.expect_err("it is refused");
    (status.code(), status.message().to_owned())
}

fn said(code: Code, text: &str) -> (Code, String) {
    (code, format!("etcdserver: {text}"))
}

/// Goal: every refusal of a change has etcd's code and text. Method: the same requests to a cluster
/// of ours and to one of etcd 3.5.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_the_members_are_refused_as_by_etcd() {
    for kind in [Some(Kind::subject()), reference()] {
        let Some(kind) = kind else {
            left_out("refused changes of members: there is no etcd 3.5.1");
            continue;
        };
        let mut cluster = Cluster::start(&kind, 2).await;
        let mut client = cluster.client(0);
        let add = |urls: &[&str], is_learner| MemberAddRequest {
            peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(),
            is_learner,
        };
        for urls in [&[][..], &["127.0.0.1:1"], &["http://127.0.0.1"], &["http://127.0.0.1:1/x"]] {
            let bad = refusal(client.cluster.member_add(add(urls, false)).await);
            assert_eq!(bad, said(Code::InvalidArgument, "given member URLs are invalid"));
        }
        let own = cluster.members[1].peer_url();
        let taken = eventually("it is connected long enough", SOON, || {
            let (mut client, request) = (client.clone(), add(&[&own], true));
            async move {
                match refusal(client.cluster.member_add(request).await) {
                    (Code::Unavailable, text) => Err(text),
                    refusal => Ok(refusal),
                }
            }
        });
        let exists = said(Code::FailedPrecondition, "Peer URLs already exists");
        assert_eq!(taken.await, exists, "{kind:?}");
        unknown_members(&mut client).await;
        // A learner that never starts takes the only place, and endangers nothing.
        let learner = client.cluster.member_add(add(&["http://127.0.0.1:1"], true)).await.unwrap();
        let learner = learner.into_inner().member.unwrap();
        let second = client.cluster.member_add(add(&["http://127.0.0.1:2"], true)).await;
        let full = said(Code::FailedPrecondition, "too many learner members in cluster");
        assert_eq!(refusal(second), full);
        for at in 0..2 {
            let promote = MemberPromoteRequest { id: learner.id };
            let late = refusal(cluster.client(at).cluster.member_promote(promote).await);
            let text = "can only promote a learner member which is in sync with leader";
            assert_eq!(late, said(Code::FailedPrecondition, text), "{kind:?}, m{at}");
        }
        let first = id_of(&cluster, 0).await;
        let voter = client.cluster.member_promote(MemberPromoteRequest { id: first }).await;
        let not_learner = said(Code::FailedPrecondition, "can only promote a learner member");
        assert_eq!(refusal(voter), not_learner);
        let moved = MemberUpdateRequest { id: learner.id, peer_ur_ls: vec![own.clone()] };
        assert_eq!(refusal(client.cluster.member_update(moved).await), exists);
        let removed = MemberRemoveRequest { id: learner.id };
        client.cluster.member_remove(removed).await.unwrap();
        let again = refusal(client.cluster.member_remove(removed).await);
        assert_eq!(again, said(Code::NotFound, "member not found"));
        lost_quorum(&mut cluster, &add(&["http://127.0.0.1:3"], false)).await;
    }
}

/// Goal: a change that a follower forwards is not lost while the leader has not applied the one
/// before it. Method: a leader that applies each change a second late, and a follower's client that
/// removes a learner as soon as its addition is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarded_change_waits_for_the_one_before_it() {
    if Kind::subject() != Kind::Glass {
        return left_out("forwarded changes: it has no failpoints");
    }
    let mut cluster = Cluster::prepare(&Kind::Glass, 3);
    cluster.set_env(0, &[("FAILPOINTS", "members-before-change=sleep(1000)")]);
    (0..3).for_each(|at| cluster.spawn(at));
    cluster.wait_all_ready().await;
    let leader = cluster.leader().await;
    if leader != 0 {
        let target_id = id_of(&cluster, 0).await;
        let mut client = cluster.client(leader);
        client.maintenance.move_leader(MoveLeaderRequest { target_id }).await.unwrap();
    }
    let mut client = cluster.client(1);
    let peer_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
    let learner = eventually("a learner is added", SOON, || {
        let request = MemberAddRequest { peer_ur_ls: peer_ur_ls.clone(), is_learner: true };
        let mut client = client.clone();
        async move {
            let added = client.cluster.member_add(request).await;
            added.map_err(|status| {
                let is_early = status.message() == "etcdserver: unhealthy cluster";
                assert!(is_early, "{status}");
                status.to_string()
            })
        }
    });
    let id = learner.await.into_inner().member.unwrap().id;
    client.cluster.member_remove(MemberRemoveRequest { id }).await.unwrap();
    assert_eq!(list(&mut client).await.unwrap().len(), 3);
}

async fn unknown_members(client: &mut Client) {
    let unknown = said(Code::NotFound, "member not found");
    let removed = client.cluster.member_remove(MemberRemoveRequest { id: 77 }).await;
    assert_eq!(refusal(removed), unknown);
    let peer_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
    let updated = client.cluster.member_update(MemberUpdateRequest { id: 77, peer_ur_ls }).await;
    assert_eq!(refusal(updated), unknown);
    let promoted = client.cluster.member_promote(MemberPromoteRequest { id: 77 }).await;
    assert_eq!(refusal(promoted), unknown);
}

/// A voter that has not started counts for the quorum: the next one is refused, and so is the
/// removal of a member that runs.
async fn lost_quorum(cluster: &mut Cluster, third: &MemberAddRequest) {
    let mut client = cluster.client(0);
    client.cluster.member_add(third.clone()).await.unwrap();
    let fourth =
        MemberAddRequest { peer_ur_ls: vec!["http://127.0.0.1:4".to_owned()], is_learner: false };
    let text = "re-configuration failed due to not enough started members";
    assert_eq!(refusal(client.cluster.member_add(fourth).await), said(Code::Unknown, text));
    let second = id_of(cluster, 1).await;
    let removed = client.cluster.member_remove(MemberRemoveRequest { id: second }).await;
    assert_eq!(refusal(removed), said(Code::Unknown, text));
}

/// Goal: a member whose disk is lost comes back, as its own refusal advises. Method: its data
/// directory is deleted; it is removed, added and started as a new one, first with the wrong
/// members in its flags. Then a majority is lost, and one member leaves it behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_is_replaced_and_a_lost_majority_left_behind() {
    let kind = Kind::subject();
    let mut cluster = Cluster::start(&kind, 3).await;
    cluster.client(0).put("kept", "1").await.unwrap();
    let lost = id_of(&cluster, 2).await;
    cluster.kill(2);
    fs::remove_dir_all(&cluster.members[2].data_dir).unwrap();
    remove(&cluster, 0, lost).await;
    let new = add(&mut cluster, 0, 2, false).await;
    assert_ne!(new, lost, "it is another member");
    let right = cluster.members[2].joins.clone().unwrap();
    cluster.members[2].joins = Some(format!("{right},m9=http://127.0.0.1:1"));
    cluster.spawn(2);
    let exit = cluster.wait_exit(2, SOON).await.expect("it has the wrong members in its flags");
    assert!(!exit.success() && cluster.log(2).contains("member count is unequal"), "{exit}");
    let _ = fs::remove_dir_all(&cluster.members[2].data_dir);
    cluster.members[2].joins = Some(right);
    cluster.spawn(2);
    cluster.wait_ready(2).await;
    assert_eq!(id_of(&cluster, 2).await, new);
    same_hashes(&cluster, 0).await;

    (0..3).for_each(|at| cluster.kill(at));
    cluster.members[2].extra = vec!["--force-new-cluster".to_owned()];
    for starts in 0..2 {
        cluster.spawn(2);
        cluster.wait_ready(2).await;
        let members = list(&mut cluster.client(2)).await.unwrap();
        assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [new]);
        let mut client = cluster.client(2);
        client.put(&format!("alone/{starts}"), "1").await.unwrap();
        let keys = client.everything(false).await.unwrap().kvs;
        assert_eq!(keys.len(), 2 + starts, "{keys:?}");
        cluster.kill(2);
        cluster.members[2].extra.clear();
    }
}

/// Goal: members of ours and of etcd join each other's clusters. Method: a member of ours joins two
/// of etcd's, then one of etcd's joins, then the first two are removed; what was written stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_two_kinds_join_each_other() {
    let (Some(etcd), Kind::Glass) = (reference(), Kind::subject()) else {
        left_out("members of two kinds: there is no etcd 3.5.1, or it is the subject");
        return;
    };
    let mut cluster = Cluster::start(&etcd, 2).await;
    cluster.client(0).put("from/etcd", "1").await.unwrap();
    for (new, kind) in [(2, Kind::Glass), (3, etcd.clone())] {
        assert_eq!(cluster.prepare_another(&kind), new);
        add(&mut cluster, new - 1, new, false).await;
        cluster.spawn(new);
        cluster.wait_ready(new).await;
        cluster.client(new).put(&format!("from/m{new}"), "1").await.unwrap();
    }
    for old in 0..2 {
        let id = id_of(&cluster, old).await;
        remove(&cluster, 2, id).await;
        cluster.wait_exit(old, GONE_WITHIN).await.expect("a removed member ends");
    }
    // An etcd that has forwarded it to a leader that goes away does not propose it again.
    eventually("a member of etcd serves", SOON, || async {
        let put = cluster.client(3).put("from/both", "1").await;
        put.map_err(|status| status.to_string())
    })
    .await;
    cluster.members.drain(..2);
    same_hashes(&cluster, 0).await;
    assert_eq!(cluster.client(0).everything(false).await.unwrap().kvs.len(), 4);
}
