//! Leases: the real etcdctl, every answer of the service, expiry, and leases without their leader.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use glass_etcd::{
    clock,
    pb::{
        etcdserverpb::{
            CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
            LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseRevokeRequest,
            LeaseTimeToLiveRequest, PutRequest,
        },
        leasepb::{LeaseInternalRequest, LeaseInternalResponse},
    },
};
use prost::Message as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

use super::normal::Names;
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{self, Etcdctl, Kind, left_out},
};

/// The default election timeout.
const ELECTION: Duration = Duration::from_secs(1);

/// Goal: `etcdctl lease` and the service's answers are etcd's. Method: the same requests to a
/// cluster of ours and to one of etcd 3.5.1, on each member; ids chosen by servers are replaced.
#[tokio::test]
async fn leases_are_answered_as_etcd_does() {
    let Some(reference) = programs::reference() else {
        return left_out("leases against etcd: no etcd 3.5.1");
    };
    let subject = Kind::subject();
    let (ours, theirs) = tokio::join!(Cluster::start(&subject, 3), Cluster::start(&reference, 3));
    for at in 0..3 {
        let (mine, etcds) =
            tokio::join!(answers(ours.client(at), at), answers(theirs.client(at), at));
        for (mine, etcds) in mine.iter().zip(&etcds) {
            assert_eq!(mine, etcds, "m{at}");
        }
        assert_eq!(mine.len(), etcds.len(), "m{at}");
    }
    let names = [Names::of(&ours).await, Names::of(&theirs).await];
    // Before any server has chosen an id, because rows of output contain the lease.
    for tool in programs::etcdctls().iter().filter(|tool| tool.version.starts_with("3.5.")) {
        let hash = |cluster, names: &Names| {
            let (code, text) = etcdctl(tool, cluster, 0, "endpoint hashkv --cluster");
            (code, names.apply(&text, true))
        };
        assert_eq!(hash(&ours, &names[0]), hash(&theirs, &names[1]));
    }
    let mut differences = Vec::new();
    for (tool, at) in programs::etcdctls().iter().flat_map(|tool| (0..3).map(move |at| (tool, at)))
    {
        let outputs = thread::scope(|scope| {
            let run = |cluster, names| scope.spawn(move || script(tool, cluster, at, names));
            [run(&ours, &names[0]), run(&theirs, &names[1])].map(|running| running.join().unwrap())
        });
        for (mine, etcds) in outputs[0].iter().zip(&outputs[1]).filter(|(a, b)| a != b) {
            differences
                .push(format!("etcdctl {} m{at}\nours: {mine}\netcd: {etcds}", tool.version));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    same_hashes(&ours, &theirs).await;
    let (mine, etcds) = (peer_answers(&ours).await, peer_answers(&theirs).await);
    assert_eq!(mine, etcds);
}

/// The service's answers about leases with chosen ids, in comparable form.
async fn answers(mut client: Client, at: usize) -> Vec<String> {
    let mut said = Vec::new();
    let mut say = |what: &str, answer: String| said.push(format!("{what}: {answer}"));
    let base = 100 * (at as i64 + 1);
    for (id, ttl) in [
        (base, 100),
        (base, 50),
        (base + 1, 0),
        (base + 2, -7),
        (base + 3, 9_000_000_001),
        (base + 4, 9_000_000_000),
        (-base, 60),
    ] {
        let granted = client.lease.lease_grant(LeaseGrantRequest { ttl, id }).await;
        say(
            "grant",
            show(granted.map(|r| (r.get_ref().id, r.get_ref().ttl, revision(&r.get_ref().header)))),
        );
    }
    for (key, lease, ignore_lease) in [
        ("b", base, false),
        ("a", base, false),
        ("c", base, false),
        ("c", base + 4, false),
        ("d", base, false),
        ("d", 0, false),
        ("a", 0, true),
        ("e", 77, false),
        ("n", -base, false),
    ] {
        let key = Bytes::from(format!("lease/{at}/{key}"));
        let put = PutRequest { key, lease, ignore_lease, ..Default::default() };
        say("put", show(client.kv.put(put).await.map(|r| revision(&r.get_ref().header))));
    }
    for id in [base, base + 4, -base, 77, 0] {
        for keys in [false, true] {
            let request = LeaseTimeToLiveRequest { id, keys };
            let answer = client.lease.lease_time_to_live(request).await.map(|response| {
                let mut response = response.into_inner();
                response.keys.sort();
                // The elapsed time differs between the clusters.
                let left = if response.ttl < 1 { response.ttl } else { (response.ttl + 5) / 10 };
                (response.id, left, response.granted_ttl, response.keys, revision(&response.header))
            });
            say("time to live", show(answer));
        }
        let renewed = keep_alive(&mut client, id).await;
        say("keep alive", show(renewed.map(|r| (r.id, r.ttl, revision(&r.header)))));
    }
    for id in [base, base, 77, -base, base + 4] {
        let revoked = client.lease.lease_revoke(LeaseRevokeRequest { id }).await;
        say("revoke", show(revoked.map(|r| revision(&r.get_ref().header))));
    }
    for id in [base + 1, base + 2] {
        // Their two seconds may be over by now, in one of the clusters.
        let _ = client.lease.lease_revoke(LeaseRevokeRequest { id }).await;
    }
    let left = client.everything(false).await.unwrap();
    say("keys", format!("{:?}", left.kvs));
    said
}

fn revision(header: &Option<glass_etcd::pb::etcdserverpb::ResponseHeader>) -> i64 {
    header.as_ref().map_or(-1, |header| header.revision)
}

fn show<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}

async fn keep_alive(client: &mut Client, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
    let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
    let mut answers = client.lease.lease_keep_alive(requests).await?.into_inner();
    let answer = answers.message().await?.expect("each message is answered");
    assert!(answers.message().await?.is_none(), "one answer to one message");
    Ok(answer)
}

/// A leader's answers to other members on its peer port: status, content type and body.
async fn peer_answers(cluster: &Cluster) -> Vec<(String, Vec<u8>)> {
    let at = cluster.leader().await;
    let mut client = cluster.client(at);
    client.lease.lease_grant(LeaseGrantRequest { ttl: 1000, id: 5 }).await.unwrap();
    let put = PutRequest { key: "peers".into(), lease: 5, ..Default::default() };
    client.kv.put(put).await.unwrap();
    let ask = |verb, path, body: &[u8]| ask_peer(cluster.members[at].peer_port, verb, path, body);
    let mut said = vec![
        ask("GET", "/leases", b""),
        ask("GET", "/leases/internal", b""),
        ask("POST", "/leases", b"\xff"),
        ask("POST", "/leases/internal", b"\xff"),
    ];
    for id in [5, 6] {
        said.push(ask("POST", "/leases", &LeaseKeepAliveRequest { id }.encode_to_vec()));
    }
    for id in [5, 6] {
        let request = Some(LeaseTimeToLiveRequest { id, keys: true });
        let request = LeaseInternalRequest { lease_time_to_live_request: request };
        let (head, body) = ask("POST", "/leases/internal", &request.encode_to_vec());
        let Ok(mut response) = LeaseInternalResponse::decode(body.as_slice()) else {
            said.push((head, body));
            continue;
        };
        let view = response.lease_time_to_live_response.as_mut().unwrap();
        assert!((900..=1000).contains(&view.ttl), "{view:?}");
        view.ttl = 1000;
        said.push((head, response.encode_to_vec()));
    }
    said
}

fn ask_peer(port: u16, verb: &str, path: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let close = format!("Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    write!(stream, "{verb} {path} HTTP/1.1\r\nHost: m\r\n{close}").unwrap();
    stream.write_all(body).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    // etcd closes some of these connections only seconds later.
    let mut body = vec![0; length.expect("it says how long it is").parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    let status = head.lines().next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
    let kind = head.lines().find(|line| line.starts_with("content-type")).unwrap_or_default();
    (format!("{status} {kind}"), body)
}

/// Exit code and output of one command.
fn etcdctl(tool: &Etcdctl, cluster: &Cluster, at: usize, words: &str) -> (Option<i32>, String) {
    let output = Command::new(&tool.path)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &cluster.members[at].client_address()])
        .args(words.split(' '))
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
    (output.status.code(), text.join("\n"))
}

/// `etcdctl lease` in all its forms; `L` is the lease.
fn script(tool: &Etcdctl, cluster: &Cluster, at: usize, names: &Names) -> Vec<String> {
    let p = format!("ctl{}-m{at}", tool.version);
    let run = |words: &str| etcdctl(tool, cluster, at, words);
    let (_, granted) = run("lease grant 100");
    let lease = granted.split(' ').nth(1).unwrap_or("none").to_owned();
    let number = u64::from_str_radix(&lease, 16).unwrap_or(0).to_string();
    let steps = [
        "put --lease=L P/a 1",
        // One key, because etcd lists several in any order.
        "put P/b 2",
        "put P/b 3 --ignore-lease",
        "put P/c 4 --lease=7b",
        "get P/ --prefix -w json",
        "lease timetolive L",
        "lease timetolive L --keys",
        "lease timetolive L --keys -w json",
        "lease timetolive L --keys -w fields",
        "lease timetolive L -w table",
        "lease keep-alive --once L",
        "lease keep-alive --once L -w json",
        "lease keep-alive --once L -w fields",
        "lease keep-alive --once 7b",
        "lease timetolive 7b",
        "lease list",
        "lease list -w json",
        "lease list -w fields",
        "lease revoke L -w fields",
        "lease revoke L",
        "get P/ --prefix",
        "lease list",
        "lease timetolive 7b -w fields",
        "lease grant 9000000001",
        "lease grant many",
        "lease revoke none",
        "lease timetolive",
        "lease keep-alive",
    ];
    let normal = |text: &str| {
        let text = text.replace(&lease, "LEASE").replace(&number, "\"LEASE\"");
        // The remaining seconds depend on how long the tool took to start.
        let text = text.replace("remaining(98s)", "remaining(99s)").replace(":98,", ":99,");
        let text = text.replace("\"TTL\" : 98", "\"TTL\" : 99");
        names.apply(&text, false)
    };
    let mut said = vec![normal(&granted)];
    for step in steps {
        let (code, text) = run(&step.replace('L', &lease).replace('P', &p));
        said.push(format!("{step}: exit {code:?}\n{}", normal(&text)));
    }
    said
}

/// Equal key spaces have equal hashes, at revisions before and after a compaction.
async fn same_hashes(ours: &Cluster, theirs: &Cluster) {
    let mut revision = 0;
    for cluster in [ours, theirs] {
        let mut client = cluster.client(0);
        let delete = DeleteRangeRequest { key: "h/3".into(), ..Default::default() };
        for number in 0..20 {
            client.put(&format!("h/{}", number % 7), &format!("{number}")).await.unwrap();
        }
        client.kv.delete_range(delete).await.unwrap();
        revision = client.put("h/0", "last").await.unwrap();
        let compact = CompactionRequest { revision: revision - 9, physical: true };
        client.kv.compact(compact).await.unwrap();
    }
    // 3.5.1 refuses the compacted revision itself; later ones do not.
    for at in 0..3 {
        for asked in [0, revision, revision - 1, revision - 8, revision - 10, revision + 1] {
            let mut hashes = Vec::new();
            for cluster in [ours, theirs] {
                let client = cluster.client(at);
                // A member applies a little later than it learns of the commit.
                let hash = eventually("it has applied all", Duration::from_secs(10), || {
                    let mut client = client.clone();
                    async move {
                        let all = client.everything(false).await.map_err(|s| s.to_string())?;
                        let now = all.header.unwrap_or_default().revision;
                        if now != revision {
                            return Err(format!("at {now}"));
                        }
                        let request = HashKvRequest { revision: asked };
                        Ok(show(client.maintenance.hash_kv(request).await.map(|hash| {
                            let hash = hash.into_inner();
                            (hash.hash, hash.compact_revision, hash.header.unwrap().revision)
                        })))
                    }
                })
                .await;
                hashes.push(hash);
            }
            assert_eq!(hashes[0], hashes[1], "m{at} at {asked}");
        }
    }
}

async fn grant(client: &mut Client, ttl: i64, key: &str) -> i64 {
    let grant = LeaseGrantRequest { ttl, id: 0 };
    let lease = client.lease.lease_grant(grant).await.unwrap().into_inner().id;
    let key = Bytes::copy_from_slice(key.as_bytes());
    client.kv.put(PutRequest { key, lease, ..Default::default() }).await.unwrap();
    lease
}

async fn count(client: &mut Client, prefix: &str) -> Result<usize, String> {
    let all = client.everything(false).await.map_err(|status| status.to_string())?;
    Ok(all.kvs.iter().filter(|kv| kv.key.starts_with(prefix.as_bytes())).count())
}

/// Goal: the shortest TTL is computed from whole heartbeats, and applies to existing leases too
/// when a member restarts with slower ones, as with etcd. Method: a lease granted at the default;
/// then the same member with other flags, and queries about that lease and new ones.
#[tokio::test]
async fn the_shortest_ttl_is_counted_in_whole_heartbeats() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let mut cluster = Cluster::start(&kind, 1).await;
        let mut ttls = Vec::new();
        for (id, heartbeat, election) in [(1, "100", "1000"), (2, "1000", "5000"), (3, "70", "400")]
        {
            cluster.kill(0);
            let env = [("ETCD_HEARTBEAT_INTERVAL", heartbeat), ("ETCD_ELECTION_TIMEOUT", election)];
            cluster.set_env(0, &env);
            cluster.spawn(0);
            cluster.wait_ready(0).await;
            let lease = &mut cluster.client(0).lease;
            // The start has renewed it.
            if let Some(id) = (id == 2).then_some(1) {
                let request = LeaseTimeToLiveRequest { id, keys: false };
                let view = lease.lease_time_to_live(request).await.unwrap().into_inner();
                ttls.push(view.granted_ttl);
            }
            let grant = LeaseGrantRequest { ttl: 1, id };
            ttls.push(lease.lease_grant(grant).await.unwrap().into_inner().ttl);
        }
        assert_eq!(ttls, [2, 7, 7, 1], "{kind:?}");
    }
}

/// Goal: keys are deleted with their lease, on every member, neither early nor late, and a renewed
/// lease survives; also when the leader is killed. Method: per member one lease that is not
/// renewed, and one that is renewed at that member; then the same with the leader killed.
#[tokio::test]
async fn leases_end_in_time_and_renewed_ones_live_on_without_their_leader() {
    let mut cluster = Cluster::start(&Kind::subject(), 3).await;
    let start = clock::now();
    let mut renewed = Vec::new();
    for at in 0..3 {
        let mut client = cluster.client(at);
        grant(&mut client, 2, &format!("alone/{at}")).await;
        renewed.push(grant(&mut client, 2, &format!("kept/{at}")).await);
    }
    let granted = clock::now();
    let mut gone_at = None;
    while gone_at.is_none() || granted.elapsed() < Duration::from_secs(5) {
        for (at, lease) in renewed.iter().enumerate() {
            let answer = keep_alive(&mut cluster.client(at), *lease).await.unwrap();
            assert_eq!(answer.ttl, 2, "the lease of m{at} ended although it was renewed");
        }
        let alone = count(&mut cluster.client(0), "alone/").await.unwrap();
        if alone < 3 && start.elapsed() < Duration::from_secs(2) {
            panic!("a key died after {:?}", start.elapsed());
        }
        if alone == 0 && gone_at.is_none() {
            gone_at = Some(granted.elapsed());
        }
        assert!(granted.elapsed() < Duration::from_secs(20), "{alone} keys outlive their leases");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(gone_at.unwrap() < Duration::from_secs(4), "gone only after {gone_at:?}");
    for at in 0..3 {
        assert_eq!(count(&mut cluster.client(at), "kept/").await, Ok(3), "m{at}");
    }
    without_their_leader(&mut cluster).await;
}

async fn without_their_leader(cluster: &mut Cluster) {
    let leader = cluster.leader().await;
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    let mut client = cluster.client(others[0]);
    let kept = grant(&mut client, 4, "survivor").await;
    for number in 0..20 {
        grant(&mut client, 4, &format!("orphan/{number}")).await;
    }
    cluster.kill(leader);
    let killed = clock::now();
    let mut elected: Option<Instant> = None;
    loop {
        // While there is no leader the renewal waits for one.
        let answer = keep_alive(&mut cluster.client(others[1]), kept).await.unwrap();
        assert_eq!(answer.ttl, 4, "a renewed lease died with the leader");
        let elected = *elected.get_or_insert_with(clock::now);
        let left = count(&mut client, "orphan/").await.unwrap();
        if left == 0 {
            break;
        }
        let limit = Duration::from_secs(4) + 2 * ELECTION + Duration::from_secs(1);
        assert!(elected.elapsed() < limit, "{left} keys outlive their leases");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(Duration::from_secs(3) < killed.elapsed(), "the new leader did not extend them");
    assert_eq!(count(&mut client, "survivor").await, Ok(1));
    let list = client.lease.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner();
    assert!(list.leases.iter().any(|lease| lease.id == kept));
    cluster.spawn(leader);
    cluster.wait_ready(leader).await;
    assert_eq!(count(&mut cluster.client(leader), "orphan/").await, Ok(0));
}

/// Goal: a keep-alive stream whose client requires a leader ends when its member has none, so that
/// the client asks another member before the lease is over; a stream without that requirement keeps
/// waiting. Method: kill two of three while nothing is sent.
#[tokio::test]
async fn a_keep_alive_that_needs_a_leader_ends_without_one() {
    let mut cluster = Cluster::start(&Kind::subject(), 3).await;
    let mut client = cluster.client(0);
    let id = grant(&mut client, 600, "kept").await;
    let mut open = Vec::new();
    for needs_leader in [true, false] {
        let (messages, receiver) = tokio::sync::mpsc::unbounded_channel();
        messages.send(LeaseKeepAliveRequest { id }).unwrap();
        let mut request = tonic::Request::new(UnboundedReceiverStream::new(receiver));
        if needs_leader {
            request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        }
        let mut answers = client.lease.lease_keep_alive(request).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().ttl, 600);
        open.push((messages, answers));
    }
    cluster.kill(1);
    cluster.kill(2);
    let [(_with, needy), (_without, patient)] = &mut open[..] else { unreachable!() };
    let end = tokio::time::timeout(20 * ELECTION, needy.message()).await.unwrap().unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "etcdserver: no leader"));
    assert!(tokio::time::timeout(ELECTION, patient.message()).await.is_err());
}

/// Goal: a leader that was stopped, and does not know that another has replaced it, revokes nothing
/// (etcd #15247). Method: SIGSTOP the leader for longer than the leases' time, renew them at its
/// successor meanwhile, and resume the first.
#[tokio::test]
async fn a_leader_that_was_stopped_does_not_revoke_a_lease_that_its_successor_renewed() {
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let old = cluster.leader().await;
    let mut client = cluster.client((old + 1) % 3);
    let first = client.status().await.unwrap().leader;
    let mut leases = Vec::new();
    for number in 0..20 {
        leases.push(grant(&mut client, 3, &format!("kept/{number}")).await);
    }
    cluster.pause(old);
    let paused = clock::now();
    eventually("another leader", Duration::from_secs(10), || {
        let mut client = client.clone();
        async move {
            let leader = client.status().await.map_err(|status| status.to_string())?.leader;
            if leader == 0 || leader == first { Err(format!("{leader:x}")) } else { Ok(()) }
        }
    })
    .await;
    let mut resumed = false;
    while paused.elapsed() < Duration::from_secs(10) {
        for lease in &leases {
            let answer = keep_alive(&mut client, *lease).await.unwrap();
            assert_eq!(answer.ttl, 3, "after {:?}, resumed: {resumed}", paused.elapsed());
        }
        if !resumed && Duration::from_secs(6) < paused.elapsed() {
            cluster.resume(old);
            resumed = true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(resumed);
    assert_eq!(count(&mut client, "kept/").await, Ok(20));
}

/// Goal: a thousand leases that expire together do not stall puts. Method: a client puts
/// continuously; no put may fail, and the durations are printed.
#[tokio::test]
async fn a_thousand_leases_that_end_together_do_not_stall_puts() {
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let granting = (0..20).map(|worker| {
        let mut client = cluster.client(worker % 3);
        tokio::spawn(async move {
            for number in 0..50 {
                grant(&mut client, 10, &format!("storm/{worker}/{number}")).await;
            }
        })
    });
    for worker in granting.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let granted = clock::now();
    let (mut client, mut took) = (cluster.client(0), Vec::new());
    loop {
        let began = clock::now();
        client.put("steady", "").await.unwrap();
        took.push(began.elapsed());
        if took.len() % 50 == 0 && count(&mut client, "storm/").await == Ok(0) {
            break;
        }
        assert!(granted.elapsed() < Duration::from_secs(30), "leases outlive their time");
    }
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    eprintln!("{} puts: median {:?}, p99 {:?}, {:?} at most", took.len(), at(50), at(99), at(100));
}
