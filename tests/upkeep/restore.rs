//! Saved snapshots become new clusters: `glass utl snapshot`, and `glass utl defrag`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use glass_etcd::pb::etcdserverpb::{
    CompactionRequest, HashKvRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest,
    RangeRequest, SnapshotRequest,
};

use crate::{cluster::Cluster, programs::Kind};

fn utl(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_glass")).arg("utl").args(words).output().unwrap()
}

fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// Saves what the first member has.
async fn save(cluster: &Cluster) -> PathBuf {
    let path = cluster.dir().join("saved");
    let mut client = cluster.client(0);
    let mut stream = client.maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        bytes.extend_from_slice(&message.blob);
    }
    fs::write(&path, bytes).unwrap();
    path
}

/// Restores the directory of each member of a cluster that has not been started.
fn restore(cluster: &Cluster, saved: &Path, more: &[&str]) {
    let all: Vec<String> = (cluster.members.iter())
        .map(|member| format!("{}={}", member.name, member.peer_url()))
        .collect();
    let (all, saved) = (all.join(","), saved.display().to_string());
    for member in &cluster.members {
        let (dir, url) = (member.data_dir.display().to_string(), member.peer_url());
        let mut words = vec!["snapshot", "restore", &saved, "--name", &member.name];
        words.extend(["--data-dir", &dir, "--initial-advertise-peer-urls", &url]);
        words.extend(["--initial-cluster", &all, "--initial-cluster-token", cluster.token()]);
        words.extend(more);
        let output = utl(&words);
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// A cluster with some history, a lease, and its saved snapshot.
async fn saved_cluster() -> (Cluster, PathBuf) {
    let cluster = Cluster::start(&Kind::subject(), 1).await;
    let mut client = cluster.client(0);
    client.lease.lease_grant(LeaseGrantRequest { ttl: 900, id: 77 }).await.unwrap();
    let (key, value) = ("leased".into(), "l".into());
    client.kv.put(PutRequest { key, value, lease: 77, ..Default::default() }).await.unwrap();
    for number in 0..5 {
        client.put("kept", &number.to_string()).await.unwrap();
    }
    let saved = save(&cluster).await;
    client.put("kept", "not saved").await.unwrap();
    (cluster, saved)
}

/// Goal: three members that are restored from one file are one new cluster, which has the keys,
/// their revisions and leases, and whose next write has the next revision. Method: save, restore,
/// start, write, and start again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_snapshot_becomes_a_cluster_of_three() {
    let (old, saved) = saved_cluster().await;
    let mut new = Cluster::prepare(&Kind::subject(), 3);
    restore(&new, &saved, &[]);
    (0..3).for_each(|at| new.spawn(at));
    new.wait_all_ready().await;
    let all = new.client(2).everything(false).await.unwrap();
    let pairs: Vec<_> = all.kvs.iter().map(|kv| (&kv.key[..], &kv.value[..])).collect();
    assert_eq!(pairs, [(&b"kept"[..], &b"4"[..]), (&b"leased"[..], &b"l"[..])]);
    let revision = all.header.unwrap().revision;
    assert_eq!((revision, all.kvs[0].version, all.kvs[0].mod_revision), (7, 5, 7));
    let before = RangeRequest { key: "kept".into(), revision: 4, ..Default::default() };
    let before = new.client(0).kv.range(before).await.unwrap().into_inner();
    assert_eq!(&before.kvs[0].value[..], b"1", "history is there as well");
    let ask = LeaseTimeToLiveRequest { id: 77, keys: true };
    let lease = new.client(1).lease.lease_time_to_live(ask).await.unwrap().into_inner();
    assert_eq!((lease.granted_ttl, lease.keys.len()), (900, 1));
    assert_eq!(new.client(1).put("kept", "5").await.unwrap(), 8);
    let id = async |cluster: &Cluster| {
        let header = cluster.client(0).status().await.unwrap().header.unwrap();
        (header.cluster_id, header.member_id)
    };
    assert_ne!(id(&old).await, id(&new).await);
    (0..3).for_each(|at| new.kill(at));
    (0..3).for_each(|at| new.spawn(at));
    new.wait_all_ready().await;
    assert_eq!(new.client(0).everything(false).await.unwrap().header.unwrap().revision, 8);
}

/// Goal: after `--bump-revision` no client sees a revision that it has seen before with another
/// meaning. Method: the next write is above, and the revisions below are compacted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raised_revision_is_later_than_all_before() {
    let (_old, saved) = saved_cluster().await;
    let mut new = Cluster::prepare(&Kind::subject(), 1);
    restore(&new, &saved, &["--bump-revision", "1000", "--mark-compacted"]);
    new.spawn(0);
    new.wait_all_ready().await;
    let mut client = new.client(0);
    let all = client.everything(false).await.unwrap();
    assert_eq!((all.header.unwrap().revision, all.kvs.len()), (1007, 2));
    let old = RangeRequest { key: "kept".into(), revision: 7, ..Default::default() };
    let refused = client.kv.range(old).await.unwrap_err();
    assert!(refused.message().contains("required revision has been compacted"), "{refused}");
    assert_eq!(client.put("kept", "5").await.unwrap(), 1008);
    let compaction = CompactionRequest { revision: 1008, physical: true };
    client.kv.compact(compaction).await.unwrap();
}

/// Goal: `snapshot status` tells what is in the file, and does not change it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_of_a_saved_file_is_told_without_changing_it() {
    let (_cluster, saved) = saved_cluster().await;
    let bytes = fs::read(&saved).unwrap();
    let status = utl(&["snapshot", "status", &saved.display().to_string(), "-w", "json"]);
    let told = text(&status);
    let size = bytes.len() - 32;
    assert!(told.contains("\"revision\":7,"), "{told}");
    assert!(told.contains(&format!("\"totalSize\":{size}}}")), "{told}");
    assert_eq!(fs::read(&saved).unwrap(), bytes);
}

/// Goal: what cannot be restored is refused in one line, in etcd's words where etcd has them, and
/// the directory is not touched. Method: a file that lacks its hash, has another, or is no
/// database; a directory that is not empty; flags that do not fit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_what_was_saved_is_refused() {
    let (cluster, saved) = saved_cluster().await;
    let bytes = fs::read(&saved).unwrap();
    let path = saved.display().to_string();
    let dir = cluster.dir();
    let to = dir.join("restored");
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let mut flipped = bytes.clone();
    flipped[5000] ^= 1;
    let flipped = file("flipped", &flipped);
    let bare = file("bare", &bytes[..bytes.len() - 32]);
    let none = file("none", &[7; 4096]);
    let to_text = to.display().to_string();
    let run = |more: &[&str], file: &str| {
        utl(&[&["snapshot", "restore", "--data-dir", &to_text], more, &[file]].concat())
    };
    let refused = |more: &[&str], file: &str, why: &str| {
        let output = run(more, file);
        let told = text(&output);
        assert!(!output.status.success() && told.contains(why), "{more:?} {file}: {told}");
        let _ = fs::remove_dir_all(&to);
    };
    refused(&[], &flipped, "expected sha256 ");
    refused(&[], &bare, "snapshot missing hash but --skip-hash-check=false");
    refused(&["--skip-hash-check"], &none, "glass: ");
    refused(&["--bump-revision", "5"], &path, "--mark-compacted");
    let most = ["--bump-revision", "9223372036854775807", "--mark-compacted"];
    refused(&most, &path, "cannot be raised");
    // The writes that follow need revisions too.
    let nearly = ["--bump-revision", "4611686018427387904", "--mark-compacted"];
    refused(&nearly, &path, "cannot be raised");
    refused(&["--name", "other"], &path, "other");
    refused(&[], "/nowhere/saved", "/nowhere/saved");
    fs::create_dir_all(to.join("something")).unwrap();
    refused(&[], &path, "not empty or could not be read");
    let done = run(&["--skip-hash-check"], &bare);
    assert!(done.status.success(), "{}", text(&done));
    // What was made is a data directory, whose file can be defragmented while nobody runs.
    let defrag = utl(&["defrag", "--data-dir", &to_text]);
    assert!(text(&defrag).starts_with("Finished defragmenting "), "{}", text(&defrag));
    let data_dir = cluster.members[0].data_dir.display().to_string();
    let running = utl(&["defrag", "--data-dir", &data_dir]);
    assert!(!running.status.success() && text(&running).contains("Failed to defragment"));
}

/// Goal: each command tells damage in one line with the file's name, ends with code 1, and leaves
/// nothing. Method: pages of zeros and single bits, in a saved file and in a member's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_told_in_one_line() {
    let (mut cluster, saved) = saved_cluster().await;
    cluster.kill(0);
    let bytes = fs::read(&saved).unwrap();
    let bytes = &bytes[..bytes.len() - 32];
    let own = cluster.members[0].data_dir.join("member/snap/db");
    let (damaged, to) = (cluster.dir().join("damaged"), cluster.dir().join("restored"));
    let (data_dir, damaged_text) = (&cluster.members[0].data_dir, damaged.display().to_string());
    let (to_text, data_dir) = (to.display().to_string(), data_dir.display().to_string());
    let zeros = [4096..8192, 8192..bytes.len().min(200_000), bytes.len() / 2..bytes.len()];
    let bits = (0..60_usize).map(|step| step * 97 * bytes.len() / 6000);
    let ranges = zeros.into_iter().chain(bits.map(|at| at..at + 1));
    let mut refusals = 0;
    for range in ranges {
        let mut image = bytes.to_vec();
        let flip = usize::from(range.len() == 1);
        image[range.clone()]
            .iter_mut()
            .for_each(|byte| *byte = if flip == 1 { *byte ^ 8 } else { 0 });
        fs::write(&damaged, &image).unwrap();
        fs::write(&own, &image).unwrap();
        let outputs = [
            (utl(&["snapshot", "status", &damaged_text]), &damaged_text),
            (
                utl(&[
                    "snapshot",
                    "restore",
                    "--skip-hash-check",
                    "--data-dir",
                    &to_text,
                    &damaged_text,
                ]),
                &damaged_text,
            ),
            (utl(&["defrag", "--data-dir", &data_dir]), &data_dir),
        ];
        for (output, name) in &outputs {
            let told = text(output);
            assert_eq!(told.lines().count(), 1, "{range:?}: {told}");
            if output.status.success() {
                continue;
            }
            refusals += 1;
            assert_eq!(output.status.code(), Some(1), "{range:?}: {told}");
            assert!(told.contains(*name), "{range:?}: {told}");
            assert!(told.contains("damaged") || told.contains("no database"), "{range:?}: {told}");
        }
        let left = fs::read_dir(own.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "{range:?}: only the database is left");
        if outputs[1].0.status.success() {
            fs::remove_dir_all(&to).unwrap();
        }
        assert!(!to.exists(), "{range:?}");
    }
    assert!(9 <= refusals, "{refusals}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_name_the_directory_is_named_after_the_member() {
    let (cluster, saved) = saved_cluster().await;
    let output = Command::new(env!("CARGO_BIN_EXE_glass"))
        .args(["utl", "snapshot", "restore", "--data-dir", "", "--name", "m1"])
        .args(["--initial-cluster", "m1=http://localhost:2380"])
        .arg(&saved)
        .current_dir(cluster.dir())
        .output()
        .unwrap();
    let told = text(&output);
    assert!(output.status.success() && told.ends_with("into m1.etcd\n"), "{told}");
    assert!(cluster.dir().join("m1.etcd/member/snap/db").exists());
}

/// Goal: the hash of a file is that of the member whose file it is. Method: a saved snapshot, and
/// the database of a member that has ended in the middle of its history, at several revisions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_in_a_file_have_the_hash_that_their_member_gives() {
    let (mut cluster, saved) = saved_cluster().await;
    let hash = async |cluster: &Cluster, revision| {
        let request = HashKvRequest { revision };
        let found = cluster.client(0).maintenance.hash_kv(request).await.unwrap().into_inner();
        format!("{}, {}, {}\n", found.hash, found.hash_revision, found.compact_revision)
    };
    let of_file = |file: &Path, revision: i64| {
        text(&utl(&["hashkv", &file.display().to_string(), "--rev", &revision.to_string()]))
    };
    assert_eq!(of_file(&saved, 7), hash(&cluster, 7).await);
    assert_eq!(of_file(&saved, 0), hash(&cluster, 7).await);
    let compaction = CompactionRequest { revision: 5, physical: true };
    cluster.client(0).kv.compact(compaction).await.unwrap();
    let expected = [hash(&cluster, 0).await, hash(&cluster, 6).await];
    cluster.terminate(0);
    let end = cluster.wait_exit(0, std::time::Duration::from_secs(20)).await;
    end.expect("it ends after SIGTERM");
    let db = cluster.members[0].data_dir.join("member/snap/db");
    let before = fs::read(&db).unwrap();
    assert_eq!([of_file(&db, 0), of_file(&db, 6)], expected);
    assert!(of_file(&db, 4).contains("mvcc: required revision has been compacted"));
    assert!(of_file(&db, 99).contains("mvcc: required revision is a future revision"));
    assert!(fs::read(&db).unwrap() == before, "the file was changed");
}
