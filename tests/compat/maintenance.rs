//! Maintenance requests that change the member: MoveLeader, Defragment and Snapshot, by RPC and
//! with the real etcdctl.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use glass_etcd::{
    pb::etcdserverpb::{
        CompactionRequest, DefragmentRequest, DeleteRangeRequest, DowngradeRequest,
        MoveLeaderRequest, SnapshotRequest, SnapshotResponse,
    },
    storage::backend::{Backend, Bucket, Options},
};
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{self, Kind, left_out},
};

/// Code and text, or "ok".
fn told<T>(result: Result<T, Status>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

async fn move_leader(cluster: &Cluster, at: usize, target_id: u64) -> String {
    told(cluster.client(at).maintenance.move_leader(MoveLeaderRequest { target_id }).await)
}

async fn id_of(cluster: &Cluster, at: usize) -> u64 {
    cluster.client(at).status().await.unwrap().header.unwrap().member_id
}

/// Goal: the leader that a client asks for leads when the call returns, and what is refused is
/// refused as by etcd. Method: the same calls to both.
#[tokio::test]
async fn a_leader_is_moved_to_the_voter_that_was_asked_for() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start(&kind, 3).await;
        let leader = cluster.leader().await;
        let (follower, third) = ((leader + 1) % 3, (leader + 2) % 3);
        let own = id_of(&cluster, leader).await;
        let to = id_of(&cluster, follower).await;
        let term = cluster.client(leader).status().await.unwrap().raft_term;
        let bad = "FailedPrecondition: etcdserver: bad leader transferee";
        assert_eq!(move_leader(&cluster, leader, 7).await, bad, "{kind:?}");
        let not = "FailedPrecondition: etcdserver: not leader";
        assert_eq!(move_leader(&cluster, third, to).await, not, "{kind:?}");
        assert_eq!(move_leader(&cluster, leader, own).await, "ok", "{kind:?}");
        assert_eq!(cluster.client(leader).status().await.unwrap().raft_term, term);
        assert_eq!(move_leader(&cluster, leader, to).await, "ok", "{kind:?}");
        let status = cluster.client(leader).status().await.unwrap();
        assert_eq!((status.leader, status.raft_term), (to, term + 1), "{kind:?}");
        cluster.client(third).put("after", "1").await.unwrap();
    }
}

/// Goal: a transfer to a voter that does not answer is no obstacle to one to a voter that does.
/// Method: pause a follower, move the leader to it, and in the middle of that to the other one.
#[tokio::test]
async fn a_leader_is_moved_to_the_voter_that_was_asked_for_last() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start(&kind, 3).await;
        let leader = cluster.leader().await;
        let (silent, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let (to_silent, to_other) = (id_of(&cluster, silent).await, id_of(&cluster, other).await);
        cluster.pause(silent);
        // The leader waits for a follower that lacks an entry, and asks it to campaign only then.
        cluster.client(leader).put("missing", "").await.unwrap();
        let first = move_leader(&cluster, leader, to_silent);
        let second = async {
            // The first is under way, and is given up only after an election timeout.
            tokio::time::sleep(Duration::from_millis(200)).await;
            move_leader(&cluster, leader, to_other).await
        };
        let (_, told) = tokio::join!(first, second);
        assert_eq!(told, "ok", "{kind:?}");
        cluster.resume(silent);
        cluster.client(other).put("after", "").await.unwrap();
    }
}

/// Goal: a voter that does not answer does not become the leader, the call says so, and the old
/// one still leads. Method: a paused follower.
#[tokio::test]
async fn a_leader_that_cannot_be_moved_goes_on_to_lead() {
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let to = id_of(&cluster, follower).await;
    cluster.pause(follower);
    let answer = move_leader(&cluster, leader, to).await;
    let expected = "Unknown: etcdserver: request timed out, leader transfer took too long";
    assert_eq!(answer, expected);
    cluster.client(leader).put("after", "1").await.unwrap();
    cluster.resume(follower);
}

fn etcdctl(tool: &programs::Etcdctl, cluster: &Cluster, words: &[&str]) -> (bool, String) {
    let all: Vec<String> = cluster.members.iter().map(|member| member.client_address()).collect();
    let output = Command::new(&tool.path)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &all.join(",")])
        .args(words)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Goal: users keep their tool. Method: each etcdctl moves the leader once around.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_moves_the_leader() {
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    for tool in programs::etcdctls() {
        for _ in 0..2 {
            let leader = cluster.leader().await;
            let follower = (leader + 1) % 3;
            let [from, to] = [id_of(&cluster, leader).await, id_of(&cluster, follower).await];
            let (ok, text) = etcdctl(&tool, &cluster, &["move-leader", &format!("{to:x}")]);
            let told = format!("Leadership transferred from {from:x} to {to:x}");
            assert!(ok && text.contains(&told), "{}: {text}", tool.version);
            assert_eq!(cluster.leader().await, follower);
        }
    }
}

/// Writes keys of 4 KiB and deletes most of them again, and compacts.
async fn leave_free_pages(cluster: &Cluster) {
    let mut client = cluster.client(0);
    let value = "v".repeat(4 << 10);
    for number in 0..400 {
        client.put(&format!("gone/{number:03}"), &value).await.unwrap();
    }
    let (key, range_end) = ("gone/".into(), "gone0".into());
    let delete = DeleteRangeRequest { key, range_end, ..Default::default() };
    client.kv.delete_range(delete).await.unwrap();
    let revision = client.put("stays", "1").await.unwrap();
    client.kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
}

/// Goal: a defragmentation makes the file smaller, on each member, while writes go on, and nothing
/// is lost. Method: etcdctl's `defrag --cluster` beside a client that puts, then a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defragmentation_gives_room_back_while_writes_go_on() {
    let mut cluster = Cluster::start(&Kind::subject(), 3).await;
    leave_free_pages(&cluster).await;
    let size = async |at| cluster.client(at).status().await.unwrap().db_size;
    let before = [size(0).await, size(1).await, size(2).await];
    let (mut writer, is_over) = (cluster.client(1), Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&is_over);
    let writes = tokio::spawn(async move {
        let mut written = 0;
        while !over.load(Ordering::Relaxed) {
            writer.put(&format!("during/{written}"), "1").await.unwrap();
            written += 1;
        }
        written
    });
    match programs::etcdctls().first() {
        Some(tool) => {
            let (ok, text) = etcdctl(tool, &cluster, &["defrag", "--cluster"]);
            assert!(
                ok && text.matches("Finished defragmenting etcd member").count() == 3,
                "{text}"
            );
        }
        None => left_out("defrag with etcdctl: it is not here"),
    }
    for at in 0..3 {
        cluster.client(at).maintenance.defragment(DefragmentRequest {}).await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    let written = writes.await.unwrap();
    for (at, before) in before.into_iter().enumerate() {
        let after = size(at).await;
        assert!(after * 2 < before, "m{at}: {before} to {after}");
    }
    for at in 0..3 {
        cluster.kill(at);
    }
    (0..3).for_each(|at| cluster.spawn(at));
    cluster.wait_all_ready().await;
    let all = cluster.client(2).everything(false).await.unwrap();
    assert_eq!(all.kvs.len(), written + 1, "every acknowledged put, and what stayed");
}

/// Goal: what a client is sent is a whole database with everything that was acknowledged, in etcd's
/// messages, and its SHA-256. Method: the bytes are opened as a database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_the_database_and_its_hash() {
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    leave_free_pages(&cluster).await;
    let mut client = cluster.client(1);
    client.put("kept/a", "1").await.unwrap();
    let revision = client.put("kept/b", &"2".repeat(100_000)).await.unwrap();
    let mut stream = client.maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let mut messages: Vec<SnapshotResponse> = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        messages.push(message);
    }
    let hash = messages.pop().unwrap();
    assert_eq!((hash.blob.len(), hash.remaining_bytes), (32, 0));
    let total: usize = messages.iter().map(|message| message.blob.len()).sum();
    let mut left = total as u64;
    for message in &messages {
        left -= message.blob.len() as u64;
        assert!(message.blob.len() <= 32 << 10 && message.remaining_bytes == left);
    }
    let bytes: Vec<u8> = messages.iter().flat_map(|message| message.blob.to_vec()).collect();
    assert_eq!(&Sha256::digest(&bytes)[..], &hash.blob[..]);
    opens_with(&bytes, revision);
    for tool in programs::etcdctls() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("saved");
        let one = Cluster::start(&Kind::subject(), 1).await;
        let revision = one.client(0).put("kept/b", "1").await.unwrap();
        let words = ["snapshot", "save", path.to_str().unwrap()];
        let (ok, text) = etcdctl(&tool, &one, &words);
        assert!(ok, "{}: {text}", tool.version);
        let saved = std::fs::read(&path).unwrap();
        let (bytes, hash) = saved.split_at(saved.len() - 32);
        assert_eq!(&Sha256::digest(bytes)[..], hash, "{}", tool.version);
        opens_with(bytes, revision);
    }
}

/// The bytes are a database whose newest row is of this revision.
fn opens_with(bytes: &[u8], revision: i64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::write(&path, bytes).unwrap();
    let backend = Backend::open(&path, Options::default()).unwrap();
    let rows = backend.range(Bucket::Key, &[], None, 0);
    let newest = rows.last().map(|(key, _)| i64::from_be_bytes(key[..8].try_into().unwrap()));
    assert_eq!(newest, Some(revision));
    backend.stop();
}

/// Goal: a client that stops reading costs one copy, which goes with it, and the member serves on.
/// Method: a stream of which nothing is read is dropped; then the folder has the database only.
#[tokio::test]
async fn a_snapshot_that_nobody_reads_leaves_nothing_behind() {
    let cluster = Cluster::start(&Kind::subject(), 1).await;
    leave_free_pages(&cluster).await;
    let mut client = cluster.client(0);
    let stream = client.maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    client.put("beside", "1").await.unwrap();
    drop(stream);
    let folder = cluster.dir().join("m0/member/snap");
    eventually("only the database is left", Duration::from_secs(10), async || {
        let files: Vec<_> = std::fs::read_dir(&folder)
            .map_err(|error| error.to_string())?
            .map(|file| file.unwrap().file_name())
            .collect();
        if files == ["db"] { Ok(()) } else { Err(format!("{files:?}")) }
    })
    .await;
    client.put("after", "1").await.unwrap();
}

/// Goal: a downgrade is refused as by etcd where etcd refuses it. Method: the same calls to both.
/// To 3.4 etcd would go, and this member has no files that 3.4 could open.
#[tokio::test]
async fn a_downgrade_is_refused_with_etcds_words() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start(&kind, 1).await;
        let ask = async |action, version: &str| {
            let request = DowngradeRequest { action, version: version.to_owned() };
            told(cluster.client(0).maintenance.downgrade(request).await)
        };
        let invalid = "InvalidArgument: etcdserver: invalid downgrade target version";
        eventually("the cluster has a version", Duration::from_secs(20), async || {
            let answer = ask(0, "3.3.0").await;
            if answer == invalid { Ok(()) } else { Err(answer) }
        })
        .await;
        let form = "InvalidArgument: etcdserver: wrong downgrade target version format";
        for (action, version, expected) in [
            (0, "3.5.0", invalid),
            (1, "3.3", invalid),
            (1, "3.6.0", invalid),
            (0, "three", form),
            (1, "", form),
            (2, "", "FailedPrecondition: etcdserver: no inflight downgrade job"),
            (7, "3.4.0", "Unknown: etcdserver: unknown method"),
        ] {
            assert_eq!(ask(action, version).await, expected, "{kind:?}: {action} {version}");
        }
        if kind == Kind::Glass {
            assert_eq!(ask(1, "3.4.0").await, invalid);
        }
    }
}

/// Asks a member's peer port for a hash, with this method, cluster and body. Returns the status and
/// the body.
fn ask_for_hash(cluster: &Cluster, method: &str, id: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.members[0].peer_port)).unwrap();
    let head = format!(
        "{method} /members/hashkv HTTP/1.1\r\nHost: m\r\nX-Etcd-Cluster-ID: {id}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Goal: etcd's members can compare their hashes with ours. Method: the same questions to the peer
/// ports of both, after the same writes.
#[tokio::test]
async fn members_give_each_other_their_hash_in_etcds_form() {
    let mut answers: Vec<Vec<(u16, String)>> = Vec::new();
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start(&kind, 1).await;
        for number in 0..3 {
            cluster.client(0).put("a", &number.to_string()).await.unwrap();
        }
        let header = cluster.client(0).status().await.unwrap().header.unwrap();
        let id = format!("{:x}", header.cluster_id);
        let ask = |method, id: &str, body| ask_for_hash(&cluster, method, id, body);
        let mut found = vec![
            ask("GET", &id, "{}"),
            ask("GET", "", "{\"revision\":3}"),
            ask("GET", &id, "{\"revision\":99}"),
            ask("GET", &id, "no question"),
            ask("POST", &id, "{}"),
        ];
        let compact = CompactionRequest { revision: 3, physical: true };
        cluster.client(0).kv.compact(compact).await.unwrap();
        found.push(ask("GET", &id, "{\"revision\":2}"));
        found.push(ask("GET", &id, "{\"revision\":4}"));
        let codes: Vec<u16> = found.iter().map(|answer| answer.0).collect();
        assert_eq!(codes, [200, 200, 400, 400, 405, 400, 200], "{kind:?}");
        if kind == Kind::Glass {
            // Late 3.5 refuses another cluster, and 3.5.1 does not look.
            let refused = ask("GET", "1", "{}");
            assert_eq!(refused, (412, "cluster ID mismatch\n".to_owned()));
        }
        answers.push(found);
    }
    let [ours, theirs] = answers.as_slice() else {
        return left_out("etcd's answers to members that ask for a hash");
    };
    for (ours, theirs) in ours.iter().zip(theirs) {
        // Later versions tell the revision of the hash as well.
        let ours = match ours.1.split_once(",\"hash_revision\"") {
            Some((before, _)) => format!("{before}}}"),
            None => ours.1.clone(),
        };
        assert_eq!(ours.trim_end(), theirs.1.trim_end());
    }
}

/// Goal: a full member is made to work again as etcd's documents say. Method: a small quota is
/// filled; the real etcdctl looks at the alarm before and after a restart, compacts, defragments,
/// disarms, and puts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_member_is_compacted_defragmented_disarmed_and_writes_again() {
    let Some(tool) = programs::etcdctls().pop() else { return left_out("etcdctl is not here") };
    let quota = [("ETCD_QUOTA_BACKEND_BYTES", "8388608")];
    let mut cluster = Cluster::start_with(&Kind::subject(), 1, &quota).await;
    let value = "v".repeat(128 << 10);
    let mut revision = 1;
    let refused = loop {
        match cluster.client(0).put("full", &value).await {
            Ok(put) => revision = put,
            Err(refused) => break refused,
        }
        assert!(revision < 1000, "it is never full");
    };
    let no_space = "etcdserver: mvcc: database space exceeded";
    assert_eq!(refused.message(), no_space);
    cluster.kill(0);
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    let id = id_of(&cluster, 0).await;
    let run = |words: &[&str]| etcdctl(&tool, &cluster, words);
    let (ok, text) = run(&["alarm", "list"]);
    assert!(ok && text.contains(&format!("memberID:{id} alarm:NOSPACE")), "{text}");
    let errors = cluster.client(0).status().await.unwrap().errors;
    assert!(errors.iter().any(|error| error.contains("NOSPACE")), "{errors:?}");
    let (ok, text) = run(&["put", "full", "1"]);
    assert!(!ok && text.contains(no_space), "{text}");
    assert!(run(&["get", "full", "--limit=1"]).0, "reads go on");
    for words in [
        &["compact", &revision.to_string(), "--physical"][..],
        &["defrag"],
        &["del", "full"],
        &["alarm", "disarm"],
    ] {
        let (ok, text) = run(words);
        assert!(ok, "{words:?}: {text}");
    }
    let (ok, text) = run(&["put", "after", "1"]);
    assert!(ok, "{text}");
    let (ok, text) = run(&["alarm", "list"]);
    assert!(ok && !text.contains("NOSPACE"), "{text}");
}
