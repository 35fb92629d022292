//! Starts without help: silent, absent or foreign peers do not delay a member that has a log.

use std::{
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    time::Duration,
};

use glass_etcd::pb::etcdserverpb::RangeRequest;

use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out},
    raw::{Call, Raw},
};

/// With it, a member that queries a silent peer waits for 16 seconds.
const PATIENT: &[(&str, &str)] = &[("ETCD_ELECTION_TIMEOUT", "15000")];
/// Far less than that, but far more than a start takes.
const SOON: Duration = Duration::from_secs(8);
/// The log line of a member once its data is open; etcd logs the same words later in its start.
const STARTING: &str = "starting an etcd server";

/// How often the member has opened its data.
fn starts(cluster: &Cluster, at: usize) -> usize {
    cluster.log(at).matches(STARTING).count()
}

async fn started(cluster: &Cluster, at: usize, times: usize, within: Duration) {
    eventually(&format!("m{at} has opened its data"), within, || async {
        let count = starts(cluster, at);
        if times <= count { Ok(()) } else { Err(format!("{count} times: {}", cluster.log(at))) }
    })
    .await;
}

/// Goal: a member with a log starts, regardless of its peers. Method: all peers accept and send
/// nothing.
#[tokio::test]
async fn a_member_with_a_log_does_not_wait_for_mute_peers() {
    let mut cluster = Cluster::start(&Kind::subject(), 3).await;
    let before = starts(&cluster, 0);
    (0..3).for_each(|at| cluster.kill(at));
    let _mute = [1, 2].map(|at| TcpListener::bind(("127.0.0.1", cluster.members[at].peer_port)));
    cluster.set_env(0, PATIENT);
    cluster.spawn(0);
    started(&cluster, 0, before + 1, SOON).await;
    assert_eq!(cluster.exited(0), None);
}

/// Goal: a new member does not wait for members that do not exist yet, nor for one that itself
/// waits for an answer. Method: one alone; then another one, while the port of the first accepts
/// and sends nothing: until the new member has its answer, its own port must refuse.
#[tokio::test]
async fn new_members_do_not_wait_for_each_other() {
    if Kind::subject() != Kind::Glass {
        return left_out("new members that begin together: etcd's wait for each other");
    }
    let mut cluster = Cluster::prepare(&Kind::Glass, 3);
    (0..3).for_each(|at| cluster.set_env(at, PATIENT));
    cluster.spawn(0);
    started(&cluster, 0, 1, SOON).await;
    cluster.kill(0);
    let mute = TcpListener::bind(("127.0.0.1", cluster.members[0].peer_port)).unwrap();
    cluster.spawn(1);
    // It has sent its query.
    let question = tokio::task::spawn_blocking(move || mute.accept().unwrap());
    let _question = question.await.unwrap();
    let answer = TcpStream::connect(("127.0.0.1", cluster.members[1].peer_port));
    assert_eq!(answer.err().map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));
    assert_eq!((starts(&cluster, 1), cluster.exited(1)), (0, None));
}

/// Goal: a URL that now belongs to another cluster affects only that URL. Method: one of three
/// members is replaced by a member of another cluster, at its port; another one is restarted.
#[tokio::test]
async fn a_url_that_belongs_to_another_cluster_now_stops_no_start() {
    let kind = Kind::subject();
    let mut cluster = Cluster::start(&kind, 3).await;
    cluster.kill(2);
    let mut other = Cluster::prepare(&kind, 1);
    other.members[0].peer_port = cluster.members[2].peer_port;
    other.spawn(0);
    other.wait_ready(0).await;
    cluster.kill(0);
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    cluster.client(0).put("k", "v").await.unwrap();
    let named = |cluster: &Cluster| match kind {
        Kind::Glass => {
            let url = format!("http://127.0.0.1:{}", cluster.members[2].peer_port);
            format!("cluster ID mismatch: the member at {url} belongs to cluster")
        }
        Kind::Etcd(_) => "cluster ID mismatch".to_owned(),
    };
    eventually("the mismatch is named", SOON, || async {
        let is_named = cluster.log(0).contains(&named(&cluster));
        if is_named { Ok(()) } else { Err(cluster.log(0)) }
    })
    .await;
    if kind == Kind::Glass {
        let count = cluster.log(0).matches("cluster ID mismatch").count();
        assert!(count < 20, "rarely, and not at each attempt\n{}", cluster.log(0));
    }
    assert_eq!(other.exited(0), None);
}

/// Goal: a lost publication is repeated soon. Method: a follower whose first proposal is lost;
/// without another attempt it would wait for seven seconds.
#[tokio::test]
async fn a_publication_that_is_lost_is_tried_again_soon() {
    if Kind::subject() != Kind::Glass {
        return left_out("a lost publication: etcd has no failpoints");
    }
    let mut cluster = Cluster::start(&Kind::Glass, 3).await;
    let at = (cluster.leader().await + 1) % 3;
    let ready = |cluster: &Cluster| cluster.log(at).matches("ready to serve client").count();
    let before = ready(&cluster);
    cluster.kill(at);
    cluster.set_env(at, &[("FAILPOINTS", "peer-drop-proposals=1*return")]);
    cluster.spawn(at);
    eventually("it is ready", Duration::from_secs(5), || async {
        if before < ready(&cluster) { Ok(()) } else { Err(cluster.log(at)) }
    })
    .await;
    assert_eq!(cluster.log(at).matches("could not publish").count(), 0);
}

/// Goal: files that a volume or a package has put into the log's directory do not prevent the first
/// start. Method: one member, with such files; it is killed and restarted.
#[tokio::test]
async fn a_log_directory_with_files_of_others_stops_no_first_start() {
    let mut cluster = Cluster::prepare(&Kind::subject(), 1);
    let dir = cluster.members[0].data_dir.join("member/wal");
    std::fs::create_dir_all(dir.join("lost+found")).unwrap();
    for file in [".keep", "0.tmp"] {
        std::fs::write(dir.join(file), "").unwrap();
    }
    for start in 0..2 {
        cluster.spawn(0);
        cluster.wait_ready(0).await;
        cluster.client(0).put("start", &start.to_string()).await.unwrap();
        cluster.kill(0);
    }
    // etcd clears the directory instead.
    if Kind::subject() == Kind::Glass {
        assert!(dir.join("lost+found").is_dir() && dir.join(".keep").is_file());
    }
}

/// Goal: requests that wait for their member to serve end with it, and do not hold it up. Method: a
/// member that misses its quorum, a read, and then on the same connection a call that is refused at
/// once: when that is answered, the read has arrived.
#[tokio::test]
async fn requests_that_wait_for_a_start_hear_that_the_member_stops() {
    if Kind::subject() != Kind::Glass {
        return left_out("requests before the start: an etcd member refuses their connections");
    }
    let mut cluster = Cluster::start(&Kind::Glass, 3).await;
    let before = starts(&cluster, 0);
    (0..3).for_each(|at| cluster.kill(at));
    cluster.spawn(0);
    started(&cluster, 0, before + 1, SOON).await;
    let mut raw = Raw::connect(&cluster, 0);
    let range = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let waiting = raw.call(&Call::new("/etcdserverpb.KV/Range", &range));
    let refused = raw.ask(&Call::new("/etcdserverpb.KV/Rang", &range));
    assert_eq!(refused.status().map(|(code, _)| code), Some(12));
    cluster.terminate(0);
    let expected = (14, "etcdserver: server stopped".to_owned());
    assert_eq!(raw.answer(waiting).status(), Some(expected));
    drop(raw);
    cluster.wait_exit(0, SOON).await.expect("the member ends");
    let log = cluster.log(0);
    assert!(!log.contains("have not read their answers"), "{log}");
}
