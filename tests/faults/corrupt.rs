//! Members whose rows have changed on the disk, or are not those of the others.

use std::{
    collections::HashSet,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use glass_etcd::{
    fields,
    pb::etcdserverpb::{
        AlarmRequest, AlarmType, CompactionRequest, HashKvRequest, PutRequest, RangeRequest,
    },
    storage::backend::{Backend, Bucket, Options},
    story::{Event, Recording},
    trace::Stage,
};
use tonic::Code;

use super::bad_start::copy;
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{Kind, left_out},
    random::Random,
    traces::listen::Listener,
};

const SOON: Duration = Duration::from_secs(30);
const PAGE: usize = 4096;
/// More than redb keeps in memory, so that most of it is read from the disk.
const VALUES: usize = 48;
const VALUE: usize = 256 << 10;
const CHECKED: &[(&str, &str)] = &[
    ("ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME", "1s"),
    ("ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED", "true"),
    ("ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_TIME", "1s"),
];
const CHECKED_AT_START: &[(&str, &str)] = &[
    ("ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", "true"),
    ("ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED", "true"),
    ("ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_TIME", "1s"),
];

fn database(cluster: &Cluster, at: usize) -> PathBuf {
    cluster.members[at].data_dir.join("member/snap/db")
}

async fn id_of(cluster: &Cluster, at: usize) -> u64 {
    cluster.client(at).status().await.unwrap().header.unwrap().member_id
}

/// The members with the alarm CORRUPT.
async fn corrupt(client: &mut Client) -> Vec<u64> {
    let alarm = AlarmType::Corrupt as i32;
    let list = AlarmRequest { action: 0, member_id: 0, alarm };
    let answer = client.maintenance.alarm(list).await.unwrap().into_inner();
    answer.alarms.iter().map(|alarm| alarm.member_id).collect()
}

async fn disarm(client: &mut Client, member_id: u64) {
    let alarm = AlarmType::Corrupt as i32;
    let end = AlarmRequest { action: 2, member_id, alarm };
    client.maintenance.alarm(end).await.unwrap();
}

async fn is_raised(cluster: &Cluster, at: usize, member: u64) {
    eventually("the alarm CORRUPT", SOON, async || {
        let raised = corrupt(&mut cluster.client(at)).await;
        if raised == [member] { Ok(()) } else { Err(format!("{raised:?}")) }
    })
    .await;
}

async fn hash(client: &mut Client) -> u32 {
    client.maintenance.hash_kv(HashKvRequest::default()).await.unwrap().into_inner().hash
}

fn value(number: usize) -> Bytes {
    format!("{number:08}").repeat(VALUE / 8).into()
}

/// Goal: changed bytes are never served, their member says where they are and raises its alarm, and
/// a member with other rows is found and named; both are healed from the log. Method: bits in the
/// file of a follower that runs; then a row of its own in the file of one that does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_changed_rows_serves_none_is_named_and_is_healed() {
    if Kind::subject() != Kind::Glass {
        return left_out("changed rows: etcd serves them");
    }
    let mut cluster = Cluster::start_with(&Kind::Glass, 3, CHECKED).await;
    let listener = Listener::start(&cluster).await;
    let leader = cluster.leader().await;
    let bad = (leader + 1) % 3;
    for number in 0..VALUES {
        let (key, value) = (format!("rot/{number}").into(), value(number));
        let put = PutRequest { key, value, ..PutRequest::default() };
        cluster.client(leader).kv.put(put).await.unwrap();
    }
    let id = id_of(&cluster, bad).await;
    bits_of_a_running_member(&mut cluster, bad).await;
    is_raised(&cluster, leader, id).await;
    let refused = cluster.client(leader).put("a", "1").await.unwrap_err();
    let expected = (Code::DataLoss, "etcdserver: corrupt cluster");
    assert_eq!((refused.code(), refused.message()), expected);
    disarm(&mut cluster.client(leader), id).await;
    heal(&mut cluster, bad).await;
    row_of_its_own(&mut cluster, bad).await;
    is_raised(&cluster, leader, id).await;
    // A member that asks before it serves does not start with it.
    cluster.terminate(bad);
    cluster.wait_exit(bad, SOON).await.expect("it ends after SIGTERM");
    cluster.set_env(bad, CHECKED_AT_START);
    cluster.spawn(bad);
    let end = cluster.wait_exit(bad, SOON).await.expect("it refuses to start");
    let log = cluster.log(bad);
    assert_eq!(end.code(), Some(1), "{log}");
    assert!(log.contains(&format!("{id:x} found data inconsistency with peers")), "{log}");
    disarm(&mut cluster.client(leader), id).await;
    heal(&mut cluster, bad).await;
    let log = cluster.log(bad);
    assert!(log.contains("initial corruption checking passed"), "{log}");
    assert!(corrupt(&mut cluster.client(leader)).await.is_empty());
    are_recorded(&mut cluster.client(leader), &listener).await;
}

/// Compacts, and finds in the trace that a member was found before, and that all agree now.
async fn are_recorded(leader: &mut Client, listener: &Listener) {
    let revision = leader.put("a", "1").await.unwrap();
    let compaction = CompactionRequest { revision, physical: true };
    leader.kv.compact(compaction).await.unwrap();
    for check in [[1, 2, 2, 1], [2, 2, 2, 0]] {
        let is_it = |event: &Event| {
            event.stage == Stage::CorruptCheck
                && fields!(event, CorruptCheck: occasion, asked, answered, differ) == check
        };
        let told = |recording: &Recording| match recording.events.iter().any(is_it) {
            true => Ok(()),
            false => Err(format!("none like {check:?}")),
        };
        listener.until("a check in the trace", told).await;
    }
}

/// Flips a bit in each page of the values while the member runs, and reads them.
async fn bits_of_a_running_member(cluster: &mut Cluster, bad: usize) {
    let path = database(cluster, bad);
    eventually("the values are in the file", SOON, async || {
        let found = flip(&path);
        if VALUES * VALUE / PAGE / 2 < found { Ok(()) } else { Err(format!("{found} pages")) }
    })
    .await;
    let mut client = cluster.client(bad);
    for number in 0..VALUES {
        let key = format!("rot/{number}").into();
        let range = RangeRequest { key, serializable: true, ..RangeRequest::default() };
        match client.kv.range(range).await {
            Ok(answer) => assert!(answer.get_ref().kvs[0].value == value(number), "{number}"),
            Err(_) => break,
        }
    }
    let end = cluster.wait_exit(bad, SOON).await.expect("it ends");
    let log = cluster.log(bad);
    assert_eq!(end.code(), Some(1), "{log}");
    for said in ["member/snap/db: the database is damaged (", "table key, revision ", "Move the"] {
        assert!(log.contains(said), "no {said:?}: {log}");
    }
}

/// Flips a bit in each page that has nothing but a value in it, and returns their number.
fn flip(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    let mut flipped = 0;
    for (at, page) in bytes.chunks(PAGE).enumerate() {
        if page.len() == PAGE && page.iter().all(u8::is_ascii_digit) {
            let place = at * PAGE + PAGE / 2;
            file.write_all_at(&[bytes[place] ^ 1], place as u64).unwrap();
            flipped += 1;
        }
    }
    flipped
}

/// Removes the database, as the member's last words say, and starts the member again.
async fn heal(cluster: &mut Cluster, bad: usize) {
    fs::remove_file(database(cluster, bad)).unwrap();
    cluster.spawn(bad);
    cluster.wait_ready(bad).await;
    let (at_leader, at_bad) = (cluster.leader().await, bad);
    eventually("the member has the keys of the others", SOON, async || {
        let hashes =
            [hash(&mut cluster.client(at_leader)).await, hash(&mut cluster.client(at_bad)).await];
        if hashes[0] == hashes[1] { Ok(()) } else { Err(format!("{hashes:?}")) }
    })
    .await;
}

/// Gives the member a row that is sound, and that no other member has.
async fn row_of_its_own(cluster: &mut Cluster, bad: usize) {
    cluster.terminate(bad);
    cluster.wait_exit(bad, SOON).await.expect("it ends after SIGTERM");
    let backend = Backend::open(&database(cluster, bad), Options::default()).unwrap();
    let (key, row) = backend.range(Bucket::Key, &[], None, 1).pop().unwrap();
    let mut other = row.to_vec();
    *other.last_mut().unwrap() ^= 1;
    backend.write().put(Bucket::Key, &key, other.into());
    backend.stop();
    drop(backend);
    cluster.spawn(bad);
    cluster.wait_ready(bad).await;
}

/// Goal: after a flip of any bit of a database, a member either does not serve, or serves what it
/// has served before. Method: random bits of pages in use, each in a copy; the member is started,
/// and all keys are read. Prints how many were found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_found_or_harmless() {
    if Kind::subject() != Kind::Glass {
        return left_out("flipped bits: etcd serves other data");
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (flips, seed) =
        (number("GLASS_IT_FLIPS").unwrap_or(4), number("GLASS_IT_SEED").unwrap_or(1));
    let mut cluster = Cluster::start(&Kind::Glass, 1).await;
    let mut client = cluster.client(0);
    let mut random = Random::new(seed);
    for number in 0..600_usize {
        let key = Bytes::from(format!("k{:03}", number % 400));
        let value = format!("{number:04}").repeat(random.index(700)).into();
        client.kv.put(PutRequest { key, value, ..PutRequest::default() }).await.unwrap();
    }
    let expected = (client.everything(false).await.unwrap().kvs, hash(&mut client).await);
    cluster.terminate(0);
    cluster.wait_exit(0, SOON).await.expect("it ends after SIGTERM");
    let good = cluster.members[0].data_dir.clone();
    let used = used_pages(&good.join("member/snap/db"));
    let (mut found, mut harmless) = (0, 0);
    for number in 0..flips {
        let data = good.with_extension(format!("flip-{number}"));
        copy(&good, &data);
        let place = used[random.index(used.len())] * PAGE + random.index(PAGE);
        flip_one(&data.join("member/snap/db"), place, random.index(8));
        cluster.members[0].data_dir = data.clone();
        cluster.spawn(0);
        match serves(&mut cluster).await {
            Some(served) => {
                assert!(served == expected, "other data after a flip in byte {place}");
                harmless += 1;
                cluster.kill(0);
            }
            None => found += 1,
        }
        fs::remove_dir_all(&data).unwrap();
    }
    println!("{found} flips were found, {harmless} did no harm");
    assert!(flips < 20 || flips / 2 < found, "{found} were found, {harmless} did no harm");
}

/// The numbers of the pages that have anything in them.
fn used_pages(path: &Path) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    let pages = bytes.chunks(PAGE).enumerate();
    pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0)).map(|(at, _)| at).collect()
}

fn flip_one(path: &Path, place: usize, bit: usize) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, place as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << bit], place as u64).unwrap();
}

/// All keys and the hash, if the member gets as far as to serve them. If not, it ends as it should.
async fn serves(cluster: &mut Cluster) -> Option<(Vec<glass_etcd::pb::mvccpb::KeyValue>, u32)> {
    let until = glass_etcd::clock::now() + SOON;
    while glass_etcd::clock::now() < until {
        if let Some(exit) = cluster.exited(0) {
            let log = cluster.log(0);
            assert_eq!(exit.code(), Some(1), "{log}");
            let words: HashSet<&str> = log.split_whitespace().collect();
            assert!(!words.contains("panicked"), "{log}");
            assert!(log.contains("member/snap/db"), "{log}");
            return None;
        }
        let mut client = cluster.client(0);
        if let Ok(all) = client.everything(false).await
            && let Ok(hash) = client.maintenance.hash_kv(HashKvRequest::default()).await
        {
            return Some((all.kvs, hash.into_inner().hash));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it neither serves nor ends: {}", cluster.log(0));
}
