//! Databases between transports, and what is refused.

use std::{fs, path::Path, sync::Arc};

use bytes::BytesMut;
use raft::eraftpb::{ConfState, SnapshotMetadata};
use sha2::{Digest, Sha256};

use super::*;
use crate::{
    raft::rafthttp::{
        Database,
        database::{self, Question},
        snapshots::Description,
        wire,
    },
    storage::{
        backend::{self, Backend, Bucket},
        digest_hex, snap,
    },
};

/// A directory with a database that has this entry as its last.
struct Disk {
    dir: tempfile::TempDir,
    backend: Arc<Backend>,
}

impl Disk {
    fn new(index: u64) -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::open(&dir.path().join("db"), backend::Options::default()).unwrap();
        let mut write = backend.write();
        let row = [7; 17];
        write.put(Bucket::Key, &row, vec![3; 300_000].into());
        write.set_conf_state(r#"{"voters":[10,11],"auto_leave":false}"#.into());
        write.set_applied(index, 2, 5);
        drop(write);
        Disk { dir, backend }
    }

    /// The bytes of a copy of it.
    fn bytes(&self) -> Vec<u8> {
        let copy = self.backend.copy().unwrap();
        let mut bytes = vec![0; copy.len() as usize];
        assert_eq!(copy.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    fn database(&self) -> Option<Database> {
        let (backend, dir) = (self.backend.clone(), self.dir.path().to_owned());
        Some(Database { backend, dir, fsync: true })
    }

    /// The files beside the database.
    fn others(&self) -> Vec<String> {
        let files = fs::read_dir(self.dir.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "db").collect();
        names.sort();
        names
    }
}

fn pair_with(disks: [&Disk; 2]) -> (Member, Member) {
    let listeners = [listen(0), listen(0)];
    let ports = listeners.each_ref().map(|it| it.local_addr().unwrap().port());
    let [one, two] = listeners;
    let config = |at: usize, id, other| Config {
        database: disks[at].database(),
        ..config(id, ports[at], vec![peer(other, ports[1 - at])])
    };
    let one = Member::start(config(0, 0xa, 0xb), one);
    let two = Member::start(config(1, 0xb, 0xa), two);
    eventually("all streams are open", || one.is_complete(0xb) && two.is_complete(0xa));
    (one, two)
}

fn needs_snapshot() -> Message {
    let mut message = message(MessageType::MsgSnapshot, 0xa, 0xb, 0);
    let metadata = SnapshotMetadata { index: 30, term: 2, ..SnapshotMetadata::default() };
    message.mut_snapshot().set_metadata(metadata);
    message
}

#[test]
fn the_database_of_a_leader_is_saved_before_raft_hears_of_it() {
    let disks = [Disk::new(40), Disk::new(3)];
    let (leader, follower) = pair_with([&disks[0], &disks[1]]);
    leader.send(vec![needs_snapshot()]);
    let message = follower.next_message();
    assert_eq!((message.get_msg_type(), message.from), (MessageType::MsgSnapshot, 0xa));
    // Index, term and members are those of the database, which is newer than what raft knew.
    let metadata = message.get_snapshot().get_metadata();
    assert_eq!((metadata.index, metadata.term), (40, 2));
    assert_eq!(metadata.get_conf_state(), &ConfState::from((vec![10, 11], vec![])));
    assert!(matches!(leader.next(), Input::SnapshotSent { peer: 0xb, ok: true }));
    let names = ["0000000000000002-0000000000000028.snap", "0000000000000028.snap.db"];
    assert_eq!(disks[1].others(), names);
    assert!(disks[0].others().is_empty(), "the copy is gone");
    let received = disks[1].backend.open_received(&snap::received_path(disks[1].dir.path(), 40));
    let received = received.unwrap();
    assert_eq!(received.consistent_index(), (40, 2));
    assert_eq!(received.get(Bucket::Key, &[7; 17]).unwrap().unwrap().len(), 300_000);
    drop(received);
    // Once more: the same index has the same rows, and the file stays.
    leader.send(vec![needs_snapshot()]);
    assert_eq!(follower.next_message().get_msg_type(), MessageType::MsgSnapshot);
    assert_eq!(disks[1].others(), names);
}

/// Goal: a member that has lost its database is given one, and nobody else is. Method: the
/// questions of a peer, of a stranger, of another cluster's member, and of one that needs a later
/// entry.
#[test]
fn a_member_that_asks_is_given_the_database_and_a_stranger_is_not() {
    let disk = Disk::new(40);
    let listener = listen(0);
    let port = listener.local_addr().unwrap().port();
    let config = Config { database: disk.database(), ..config(0xa, port, vec![peer(0xb, 1)]) };
    let cluster = config.cluster_id;
    let _member = Member::start(config, listener);
    let dir = tempfile::tempdir().unwrap();
    let ask = |member_id, cluster_id, least| {
        let question = Question {
            member_id,
            cluster_id,
            server_version: "3.5.33",
            peer_urls: &["http://127.0.0.1:1".to_owned()],
            dir: dir.path(),
            fsync: true,
            least,
        };
        database::ask(&format!("http://127.0.0.1:{port}"), &question)
    };
    for (member, cluster_id, least, text) in [
        (0xc, cluster, 1, "error sender not found"),
        (0xb, cluster + 1, 1, "cluster ID mismatch"),
        (0xb, cluster, 41, "ends with entry 40"),
    ] {
        let refused = ask(member, cluster_id, least).unwrap_err().to_string();
        assert!(refused.contains(text), "{refused:?} has no {text:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    let given = ask(0xb, cluster, 40).unwrap();
    assert_eq!((given.metadata.index, given.metadata.term), (40, 2));
    assert_eq!(given.metadata.get_conf_state(), &ConfState::from((vec![10, 11], vec![])));
    let database = Backend::open(&given.path, backend::Options::default()).unwrap();
    assert_eq!(database.get(Bucket::Key, &[7; 17]).unwrap().0.len(), 300_000);
    database.stop();
}

#[test]
fn a_peer_that_does_not_speak_glass_is_sent_nothing() {
    let disk = Disk::new(40);
    let listener = listen(0);
    let port = listener.local_addr().unwrap().port();
    let config = Config { database: disk.database(), ..config(0xa, port, vec![peer(0xb, 1)]) };
    let member = Member::start(config, listener);
    // A member of etcd opens its streams without the header.
    let mut stream = request(port, "GET", "/raft/stream/message/b", &[], b"");
    assert!(read_head(&mut stream).starts_with("http/1.1 200"));
    member.send(vec![needs_snapshot()]);
    loop {
        if let Input::SnapshotSent { peer, ok } = member.next() {
            assert_eq!((peer, ok), (0xb, false));
            break;
        }
    }
}

/// The body of a request with this database, described so.
fn body(to: u64, from: u64, database: &[u8], description: &Description) -> Vec<u8> {
    let mut message = Message { from, to, ..needs_snapshot() };
    message.mut_snapshot().data = description.to_data().into();
    let mut bytes = BytesMut::new();
    assert!(wire::put_sized(&message, &mut bytes));
    [&bytes[..], database].concat()
}

#[test]
fn what_is_not_whole_is_refused_in_words_and_leaves_nothing() {
    let disk = Disk::new(3);
    let listener = listen(0);
    let port = listener.local_addr().unwrap().port();
    let config = Config { database: disk.database(), ..config(0xa, port, vec![peer(0xb, 1)]) };
    let member = Member::start(config, listener);
    let database = Disk::new(30).bytes();
    let of = |bytes: &[u8]| Description {
        bytes: bytes.len() as u64,
        sha256: digest_hex(&Sha256::digest(bytes)),
    };
    let right = of(&database);
    // A bit has changed before the sender has hashed its database, or the snapshot is another's.
    let mut changed = database.clone();
    let value = changed.windows(64).position(|part| part == [3; 64]).unwrap();
    changed[value + 20] ^= 1;
    let older = Disk::new(29).bytes();
    let huge = Description { bytes: u64::MAX, ..right.clone() };
    let glass = [("X-Glass-Link", "1")];
    let from_c = [("X-Glass-Link", "1"), ("X-Server-From", "c")];
    let none: [(&str, &str); 0] = [];
    for (headers, body, status, text) in [
        (&none[..], body(0xa, 0xb, &database, &right), 501, "bbolt"),
        (&from_c[..], body(0xa, 0xc, &database, &right), 404, "sender not found"),
        (&glass[..], body(0xc, 0xb, &database, &right), 400, "another member's"),
        (&glass[..], body(0xa, 0xc, &database, &right), 400, "another member's"),
        (&glass[..], body(0xa, 0xb, &database[1..], &right), 500, "not what was announced"),
        (&glass[..], body(0xa, 0xb, &changed, &right), 500, "not what was announced"),
        (&glass[..], body(0xa, 0xb, &changed, &of(&changed)), 500, "received-"),
        (&glass[..], body(0xa, 0xb, &[8; 2000], &of(&[8; 2000])), 500, "received-"),
        (&glass[..], body(0xa, 0xb, &older, &of(&older)), 500, "ends with entry 29"),
        (&glass[..], body(0xa, 0xb, &database, &of(&database[1..])), 400, "too long"),
        (&glass[..], body(0xa, 0xb, &database, &huge), 507, "no room"),
        (&glass[..], b"\0\0\0\0\0\0\0\x02xx".to_vec(), 400, "wrong raft message type"),
        (&glass[..], b"\xff\0\0\0\0\0\0\x02xx".to_vec(), 400, "longer than the limit"),
        (&glass[..], b"\0\0\0".to_vec(), 400, "no message"),
    ] {
        let (answer, _, said) = ask_with(port, "POST", "/raft/snapshot", headers, &body);
        assert_eq!(answer, status, "{said}");
        assert!(said.contains(text), "{said:?} has no {text:?}");
        eventually("nothing is left", || disk.others().is_empty());
    }
    let (answer, _, said) =
        ask_with(port, "POST", "/raft/snapshot", &glass, &body(0xa, 0xb, &database, &right));
    assert_eq!((answer, said.as_str()), (204, ""));
    assert_eq!(member.next_message().get_msg_type(), MessageType::MsgSnapshot);
    assert_eq!(fs::read(snap::received_path(disk.dir.path(), 30)).unwrap(), database);
    assert!(Path::new(&disk.dir.path().join("0000000000000002-000000000000001e.snap")).exists());
}
