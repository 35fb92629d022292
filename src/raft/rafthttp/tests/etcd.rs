//! A cluster of a real etcd member and ours, in which we play raft's part by hand.
//!
//! These tests need etcd: `etcd` in the directory `GLASS_ETCD_351`, or in `PATH`. Without it they
//! say so and return.

use std::{
    env,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use raft::eraftpb::{Entry, Message, MessageType};
use sha1::{Digest, Sha1};

use super::{CLUSTER, Config, Member, config, eventually, listen, peer, url};
use crate::raft::inbox::Input;

/// A running etcd member, and our fake member of the same cluster.
struct Cluster {
    etcd: Child,
    etcd_id: u64,
    own: Member,
    _data: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
    }
}

fn etcd_binary() -> Option<PathBuf> {
    if let Some(dir) = env::var_os("GLASS_ETCD_351") {
        return Some(Path::new(&dir).join("etcd"));
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("etcd")).find(|file| file.is_file())
}

/// The first eight bytes of a SHA-1, as etcd derives its ids.
fn id(bytes: &[u8]) -> u64 {
    let hash = Sha1::digest(bytes);
    u64::from_be_bytes(hash[..8].try_into().unwrap())
}

impl Cluster {
    /// Starts both members. `election_ms` decides which one campaigns.
    fn start(election_ms: u64) -> Option<Cluster> {
        let Some(binary) = etcd_binary() else {
            println!("no etcd found (GLASS_ETCD_351, PATH): not tested");
            return None;
        };
        let listener = listen(0);
        let (own_port, etcd_port) = (listener.local_addr().unwrap().port(), free_port());
        let token = "glass-interop";
        let own_id = id(format!("{}{token}", url(own_port)).as_bytes());
        let etcd_id = id(format!("{}{token}", url(etcd_port)).as_bytes());
        let mut ids = [own_id, etcd_id];
        ids.sort_unstable();
        let cluster_id = id(&ids.map(u64::to_be_bytes).concat());
        assert_ne!(cluster_id, CLUSTER);
        let config =
            Config { cluster_id, ..config(own_id, own_port, vec![peer(etcd_id, etcd_port)]) };
        let own = Member::start(config, listener);
        let data = tempfile::tempdir().unwrap();
        let etcd = run_etcd(&binary, data.path(), (etcd_port, own_port), (token, election_ms));
        Some(Cluster { etcd, etcd_id, own, _data: data })
    }

    fn message(&self, kind: MessageType, term: u64) -> Message {
        let (from, to) = (self.own.id, self.etcd_id);
        let mut message = Message { from, to, term, ..Message::default() };
        message.set_msg_type(kind);
        message
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run_etcd(
    binary: &Path,
    data: &Path,
    (port, own_port): (u16, u16),
    (token, election_ms): (&str, u64),
) -> Child {
    let client_url = url(free_port());
    Command::new(binary)
        .args(["--name", "real", "--initial-cluster-state", "new"])
        .args(["--initial-cluster-token", token])
        .args(["--initial-cluster", &format!("real={},glass={}", url(port), url(own_port))])
        .args(["--listen-peer-urls", &url(port), "--initial-advertise-peer-urls", &url(port)])
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--heartbeat-interval", "100", "--election-timeout", &election_ms.to_string()])
        .arg("--initial-election-tick-advance=false")
        .arg("--data-dir")
        .arg(data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Goal: this member reads both streams that etcd writes. Method: etcd campaigns, we vote for it
/// and acknowledge what it replicates, until it has replicated and committed entries of its own.
#[test]
fn etcd_leads_with_our_vote_and_replicates_to_us() {
    let Some(cluster) = Cluster::start(1000) else { return };
    eventually("etcd accepts our streams", || cluster.own.is_complete(cluster.etcd_id));
    let (mut asked, mut appended, mut commit) = (false, 0, 0);
    while appended < 4 || commit < 4 {
        let heard = cluster.own.next_message();
        let mut answer = cluster.message(MessageType::MsgHup, heard.term);
        match heard.get_msg_type() {
            MessageType::MsgRequestPreVote => {
                assert_eq!((heard.from, heard.to), (cluster.etcd_id, cluster.own.id));
                answer.set_msg_type(MessageType::MsgRequestPreVoteResponse);
            }
            MessageType::MsgRequestVote => {
                assert_eq!((heard.index, heard.log_term), (2, 1), "two bootstrap entries");
                answer.set_msg_type(MessageType::MsgRequestVoteResponse);
                asked = true;
            }
            MessageType::MsgAppend => {
                commit = heard.commit;
                appended = heard.entries.last().map_or(heard.index, |entry| entry.index);
                answer.index = appended;
                answer.set_msg_type(MessageType::MsgAppendResponse);
            }
            MessageType::MsgHeartbeat => {
                answer.context = heard.context.clone();
                answer.set_msg_type(MessageType::MsgHeartbeatResponse);
            }
            other => panic!("unexpected {other:?}"),
        }
        cluster.own.send(vec![answer]);
    }
    assert!(asked);
}

/// Goal: etcd reads what we write, linked entries above all. Method: we campaign, etcd votes for
/// us, and acknowledges three messages, of which two follow on from the one before.
#[test]
fn etcd_votes_for_us_and_takes_our_entries() {
    let Some(cluster) = Cluster::start(20_000) else { return };
    eventually("etcd accepts our streams", || cluster.own.is_complete(cluster.etcd_id));
    let mut vote = cluster.message(MessageType::MsgRequestVote, 5);
    (vote.index, vote.log_term) = (2, 1);
    cluster.own.send(vec![vote]);
    let granted = cluster.own.next_message();
    assert_eq!(granted.get_msg_type(), MessageType::MsgRequestVoteResponse);
    assert!(!granted.reject, "{granted:?}");
    assert_eq!(granted.term, 5);

    let append = |log_term: u64, index: u64, count: u64| {
        let mut message = cluster.message(MessageType::MsgAppend, 5);
        (message.log_term, message.index, message.commit) = (log_term, index, index);
        for index in index + 1..=index + count {
            message.mut_entries().push(Entry { term: 5, index, ..Entry::default() });
        }
        message
    };
    cluster.own.send(vec![append(1, 2, 1), append(5, 3, 1), append(5, 4, 3), append(5, 7, 0)]);
    loop {
        match cluster.own.next() {
            Input::Step { message: answer, .. }
                if answer.get_msg_type() == MessageType::MsgAppendResponse =>
            {
                assert!(!answer.reject, "{answer:?}");
                if answer.index == 7 {
                    return;
                }
            }
            Input::Step { .. } => (),
            other => panic!("the stream broke: {other:?}"),
        }
    }
}
