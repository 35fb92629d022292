//! Transports over real loopback sockets, against each other and against peers that misbehave.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::RecvTimeoutError,
    thread,
    time::Duration,
};

use protobuf::Message as _;
use raft::eraftpb::{Entry, Message, MessageType};

use super::{Config, Peer, Transport, spawn};
use crate::{
    clock,
    raft::inbox::{Input, Inputs, inbox},
    trace,
};

mod etcd;
mod snapshots;

const CLUSTER: u64 = 0xc1;
const PATIENCE: Duration = Duration::from_secs(20);

/// A transport with the raft side of its inbox.
struct Member {
    id: u64,
    port: u16,
    transport: Transport,
    inputs: Inputs,
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn listen(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).unwrap()
}

fn peer(id: u64, port: u16) -> Peer {
    Peer { id, urls: vec![url(port)] }
}

fn config(id: u64, port: u16, peers: Vec<Peer>) -> Config {
    Config {
        connections: 64,
        member_id: id,
        cluster_id: CLUSTER,
        peer_urls: vec![url(port)],
        peers,
        server_version: "3.5.33",
        election: Duration::from_secs(1),
        cuts: None,
        database: None,
        extra: axum::Router::new().route("/version", axum::routing::get(|| async { "a version" })),
    }
}

impl Member {
    fn start(config: Config, listener: TcpListener) -> Member {
        let (inbox, inputs) = inbox();
        let (id, port) = (config.member_id, listener.local_addr().unwrap().port());
        let transport = spawn(config, vec![listener], inbox).unwrap();
        Member { id, port, transport, inputs }
    }

    /// A member that nobody talks to yet.
    fn alone(id: u64, peers: Vec<Peer>) -> Member {
        let listener = listen(0);
        let port = listener.local_addr().unwrap().port();
        Member::start(config(id, port, peers), listener)
    }

    fn send(&self, messages: Vec<Message>) {
        self.transport.sender().send(messages);
    }

    fn next(&self) -> Input {
        self.inputs.recv_timeout(PATIENCE).expect("something happens")
    }

    /// The next message that arrives; other reports in between are skipped.
    fn next_message(&self) -> Message {
        loop {
            if let Input::Step { message, .. } = self.next() {
                return *message;
            }
        }
    }

    fn is_complete(&self, peer: u64) -> bool {
        self.transport.active().is_complete(peer)
    }
}

/// Two members that have opened all their streams.
fn pair(ids: (u64, u64)) -> (Member, Member) {
    let (one, two) = (listen(0), listen(0));
    let ports = (one.local_addr().unwrap().port(), two.local_addr().unwrap().port());
    let one = Member::start(config(ids.0, ports.0, vec![peer(ids.1, ports.1)]), one);
    let two = Member::start(config(ids.1, ports.1, vec![peer(ids.0, ports.0)]), two);
    eventually("all streams are open", || one.is_complete(ids.1) && two.is_complete(ids.0));
    (one, two)
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !holds() {
        assert!(clock::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn message(kind: MessageType, from: u64, to: u64, index: u64) -> Message {
    let mut message = Message { from, to, term: 2, log_term: 2, index, ..Message::default() };
    message.set_msg_type(kind);
    if kind == MessageType::MsgAppend {
        let data = format!("entry {}", index + 1).into_bytes().into();
        message.mut_entries().push(Entry { term: 2, index: index + 1, data, ..Entry::default() });
    }
    message
}

/// The status, the head and the first part of the body of a raw answer.
fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String, String) {
    ask_with(port, method, path, headers, b"")
}

fn ask_with(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, String, String) {
    let mut stream = request(port, method, path, headers, body);
    let head = read_head(&mut stream);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut text = String::new();
    if status != 200 || head.contains("content-length") {
        stream.read_to_string(&mut text).unwrap();
    }
    (status, head, text)
}

fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all: HashMap<&str, &str> = HashMap::from([
        ("X-Server-From", "b"),
        ("X-Server-Version", "3.5.1"),
        ("X-Min-Cluster-Version", "3.0.0"),
        ("X-Etcd-Cluster-ID", "c1"),
        ("X-Raft-To", "a"),
        ("Connection", "close"),
        ("Host", "here"),
    ]);
    all.extend(headers.iter().copied());
    let mut text = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in all {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(&[text.as_bytes(), b"\r\n", body].concat()).unwrap();
    BufReader::new(stream)
}

fn read_head(stream: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "closed after {head:?}");
    }
    head.to_lowercase()
}

/// Reads one chunk of a chunked body.
fn read_chunk(stream: &mut impl BufRead) -> Vec<u8> {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).unwrap();
    chunk.truncate(size);
    chunk
}

#[test]
fn messages_of_every_kind_arrive_in_order_both_ways() {
    let (one, two) = pair((0xa, 0xb));
    let kinds = [
        MessageType::MsgPropose,
        MessageType::MsgAppendResponse,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestVoteResponse,
        MessageType::MsgHeartbeat,
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgTransferLeader,
        MessageType::MsgTimeoutNow,
        MessageType::MsgReadIndex,
        MessageType::MsgReadIndexResp,
        MessageType::MsgRequestPreVote,
        MessageType::MsgRequestPreVoteResponse,
    ];
    for (from, to) in [(&one, &two), (&two, &one)] {
        let mut sent = Vec::new();
        for index in 0..100 {
            let kinds = kinds.iter().map(|&kind| message(kind, from.id, to.id, index));
            let batch: Vec<_> =
                kinds.chain([message(MessageType::MsgAppend, from.id, to.id, index)]).collect();
            sent.extend(batch.iter().cloned());
            from.send(batch);
        }
        let heard: Vec<_> = sent.iter().map(|_| to.next_message()).collect();
        let is_append = |message: &&Message| message.get_msg_type() == MessageType::MsgAppend;
        let on = |messages: &[Message], appends: bool| -> Vec<Message> {
            messages.iter().filter(|m| is_append(m) == appends).cloned().collect()
        };
        assert_eq!(on(&heard, true), on(&sent, true));
        assert_eq!(on(&heard, false), on(&sent, false));
    }
}

/// Goal: each message takes its own channel, and a flush reaches the socket at once. Method: the
/// test is the peer, and reads the bytes.
#[test]
fn appends_go_to_their_own_stream_and_the_rest_to_the_other() {
    let member = Member::alone(0xa, vec![peer(0xb, 1)]);
    let glass = [("X-Glass", "1b2c3d")];
    let mut appends = request(member.port, "GET", "/raft/stream/msgapp/b", &glass, b"");
    let head = read_head(&mut appends);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("x-glass: 1b2c3d\r\n"), "{head}");
    assert!(head.contains("x-etcd-cluster-id: c1\r\n"), "{head}");
    assert!(head.contains("x-server-version: 3.5.33\r\n"), "{head}");
    let mut others = request(member.port, "GET", "/raft/stream/message/b", &[], b"");
    assert!(!read_head(&mut others).contains("x-glass"));

    member.send(vec![
        message(MessageType::MsgAppend, 0xa, 0xb, 7),
        message(MessageType::MsgAppend, 0xa, 0xb, 8),
        message(MessageType::MsgTimeoutNow, 0xa, 0xb, 0),
    ]);
    let chunk = read_chunk(&mut appends);
    let whole = message(MessageType::MsgAppend, 0xa, 0xb, 7).write_to_bytes().unwrap();
    let linked = message(MessageType::MsgAppend, 0xa, 0xb, 8).entries[0].write_to_bytes().unwrap();
    let size = |bytes: &[u8]| (bytes.len() as u64).to_be_bytes();
    let expected = [
        &[2][..],
        &size(&whole),
        &whole,
        &[1, 0, 0, 0, 0, 0, 0, 0, 1],
        &size(&linked),
        &linked,
        &[0; 8],
    ];
    assert_eq!(chunk, expected.concat());
    let body = message(MessageType::MsgTimeoutNow, 0xa, 0xb, 0).write_to_bytes().unwrap();
    assert_eq!(read_chunk(&mut others), [&size(&body)[..], &body].concat());

    // Then silence: both streams say that they are still there.
    assert_eq!(read_chunk(&mut appends), [0]);
    assert_eq!(read_chunk(&mut others), [0, 0, 0, 0, 0, 0, 0, 2, 8, 8]);
}

#[test]
fn a_newer_stream_replaces_the_older_one() {
    let member = Member::alone(0xa, vec![peer(0xb, 1)]);
    let open = || {
        let mut stream = request(member.port, "GET", "/raft/stream/message/b", &[], b"");
        assert!(read_head(&mut stream).starts_with("http/1.1 200"));
        stream
    };
    let mut old = open();
    let mut new = open();
    let mut rest = Vec::new();
    let _ = old.read_to_end(&mut rest);
    assert!(rest.is_empty() || rest == b"0\r\n\r\n", "{rest:?}");
    member.send(vec![message(MessageType::MsgTimeoutNow, 0xa, 0xb, 0)]);
    assert!(!read_chunk(&mut new).is_empty());
}

#[test]
fn a_member_that_starts_again_is_found_again() {
    let (one, two) = pair((0xa, 0xb));
    let (port, own) = (two.port, peer(0xa, one.port));
    let since = one.transport.active().since(0xb).expect("heard");
    two.transport.stop();
    eventually("the silence is noticed", || one.transport.active().since(0xb).is_none());
    one.send(vec![message(MessageType::MsgHeartbeat, 0xa, 0xb, 1)]);
    eventually("raft receives the report", || matches!(one.next(), Input::Unreachable(0xb)));

    let two = Member::start(config(0xb, port, vec![own]), listen(port));
    eventually("both talk again", || one.is_complete(0xb) && two.is_complete(0xa));
    assert!(since < one.transport.active().since(0xb).unwrap());
    one.send(vec![message(MessageType::MsgAppend, 0xa, 0xb, 2)]);
    two.send(vec![message(MessageType::MsgAppend, 0xb, 0xa, 3)]);
    // The heartbeat may still be posted, when the member is back soon enough.
    let heard = [two.next_message(), message(MessageType::MsgHeartbeat, 0xa, 0xb, 1)];
    let heard = if heard[0] == heard[1] { two.next_message() } else { heard[0].clone() };
    assert_eq!(heard, message(MessageType::MsgAppend, 0xa, 0xb, 2));
    assert_eq!(one.next_message(), message(MessageType::MsgAppend, 0xb, 0xa, 3));
}

#[test]
fn refusals_are_etcds_and_come_in_its_order() {
    let member = Member::alone(0xa, vec![peer(0xb, 1)]);
    member.transport.sender().remove_peer(0xd);
    let check = |method: &str, path: &str, headers: &[(&str, &str)], status: u16, text: &str| {
        let (found, head, body) = ask(member.port, method, path, headers);
        assert_eq!((found, body.as_str()), (status, text), "{method} {path} {headers:?}\n{head}");
    };
    let stream = "/raft/stream/msgapp/b";
    let foreign = ("X-Etcd-Cluster-ID", "c2");
    let future = ("X-Min-Cluster-Version", "3.6.0");
    check("POST", stream, &[future], 405, "Method Not Allowed\n");
    check("GET", "/raft", &[foreign], 405, "Method Not Allowed\n");
    check("GET", "/raft/snapshot", &[], 405, "Method Not Allowed\n");
    check("GET", stream, &[future, foreign], 412, "incompatible version\n");
    check("GET", stream, &[("X-Server-Version", "2.3.0")], 412, "incompatible version\n");
    check("GET", "/raft/stream/nothing/b", &[foreign], 412, "cluster ID mismatch\n");
    check("POST", "/raft", &[foreign], 412, "cluster ID mismatch\n");
    check("GET", "/raft/stream/nothing/b", &[], 404, "invalid path\n");
    check("GET", "/raft/stream/msgapp/b/c", &[], 404, "invalid path\n");
    check("GET", "/raft/stream/msgapp/-b", &[], 404, "invalid from\n");
    check("GET", "/raft/stream/msgapp/d", &[("X-Raft-To", "e")], 410, "removed member\n");
    check("GET", "/raft/stream/msgapp/e", &[], 404, "error sender not found\n");
    check("GET", stream, &[("X-Raft-To", "b")], 412, "to field mismatch\n");
    check("POST", "/raft/snapshot", &[foreign], 412, "cluster ID mismatch\n");
    let text = "this member's database is redb's, and the sender's is bbolt's: it cannot take the snapshot of a member of etcd\n";
    check("POST", "/raft/snapshot", &[], 501, text);
    check("POST", "/raft", &[], 204, "");
    assert_eq!(ask(member.port, "GET", "/version", &[foreign]).2, "a version");
    assert_eq!(ask(member.port, "GET", "/raft/nothing", &[]).0, 404);
    let (status, _, body) = ask(member.port, "GET", "/raft/probing", &[foreign]);
    assert!(status == 200 && body.starts_with("{\"OK\":true,\"Now\":\"20"), "{body}");
}

#[test]
fn posted_messages_reach_raft_unless_they_make_no_sense() {
    let member = Member::alone(0xa, vec![peer(0xb, 1)]);
    member.transport.sender().remove_peer(0xd);
    let post = |body: &[u8]| {
        let (status, _, text) = ask_with(member.port, "POST", "/raft", &[], body);
        (status, text)
    };
    let vote = |from, to| message(MessageType::MsgRequestVote, from, to, 1);
    assert_eq!(post(&vote(0xb, 0xa).write_to_bytes().unwrap()), (204, String::new()));
    assert_eq!(member.next_message(), vote(0xb, 0xa));
    assert_eq!(post(&[0xff; 9]), (400, "error unmarshalling raft message\n".to_owned()));
    let text = "cannot process message from removed member\n".to_owned();
    assert_eq!(post(&vote(0xd, 0xa).write_to_bytes().unwrap()), (403, text));

    // For another member, or never to come from outside: dropped.
    assert_eq!(post(&vote(0xb, 0xc).write_to_bytes().unwrap()).0, 204);
    let local = message(MessageType::MsgHup, 0xb, 0xa, 0);
    assert_eq!(post(&local.write_to_bytes().unwrap()).0, 204);
    assert_eq!(post(&vote(0xc, 0xa).write_to_bytes().unwrap()).0, 204);
    assert_eq!(member.next_message(), vote(0xc, 0xa));
}

#[test]
fn a_removed_member_learns_that_it_was() {
    let (one, two) = pair((0xa, 0xb));
    one.transport.sender().remove_peer(0xb);
    eventually("it knows", || two.transport.active().is_removed());
    assert!(!one.transport.active().is_removed());
    assert_eq!(one.transport.active().connected(), 0);
}

/// Ids of no other test: which members speak glass belongs to the process.
#[test]
fn a_removed_member_no_longer_counts_as_one_that_speaks_glass() {
    let (one, two) = pair((0x7a01, 0x7b01));
    assert!(trace::id::speaks(0x7b01), "its streams said so");
    trace::note_peer(0x7a01);
    let sender = one.transport.sender();
    sender.remove_peer(0x7b01);
    eventually("it is forgotten", || !trace::id::speaks(0x7b01));
    drop(two);
    // Its own prefix stays known: its requests carry the bit until it ends.
    sender.remove_peer(0x7a01);
    sender.remove_peer(0x7c01);
    eventually("both commands are carried out", || {
        ask(one.port, "GET", "/raft/stream/msgapp/7c01", &[]).0 == 410
    });
    assert!(trace::id::speaks(0x7a01));
}

#[test]
fn members_of_different_clusters_stay_apart() {
    let (one, two) = (listen(0), listen(0));
    let ports = (one.local_addr().unwrap().port(), two.local_addr().unwrap().port());
    let one = Member::start(config(0xa, ports.0, vec![peer(0xb, ports.1)]), one);
    let foreign = Config { cluster_id: 0xc2, ..config(0xb, ports.1, vec![peer(0xa, ports.0)]) };
    let two = Member::start(foreign, two);
    one.send(vec![message(MessageType::MsgRequestVote, 0xa, 0xb, 1)]);
    eventually("raft receives the report", || matches!(one.next(), Input::Unreachable(0xb)));
    assert_eq!(two.inputs.recv_timeout(Duration::ZERO).unwrap_err(), RecvTimeoutError::Timeout);
    assert_eq!((one.transport.active().connected(), two.transport.active().connected()), (0, 0));
}

/// Goal: a peer that is lagging behind is answered by a member that it does not know. Method: an
/// unknown member dials with its URLs, and then gets a message.
#[test]
fn an_unknown_dialler_is_remembered_and_can_be_answered() {
    let member = Member::alone(0xa, vec![]);
    let other = listen(0);
    let urls = url(other.local_addr().unwrap().port());
    let headers = [("X-PeerURLs", urls.as_str())];
    assert_eq!(ask(member.port, "GET", "/raft/stream/message/b", &headers).0, 404);
    member.send(vec![message(MessageType::MsgAppendResponse, 0xa, 0xb, 4)]);
    let (head, body, _) = take_request(&other);
    assert!(head.starts_with("post /raft http/1.1\r\n"), "{head}");
    let sent = Message::parse_from_bytes(&body).unwrap();
    assert_eq!(sent, message(MessageType::MsgAppendResponse, 0xa, 0xb, 4));
}

/// Accepts connections until one brings a whole request, which is no probe; returns its head, its
/// body and itself.
fn take_request(listener: &TcpListener) -> (String, Vec<u8>, BufReader<TcpStream>) {
    let (head, mut stream) = loop {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = BufReader::new(stream);
        let head = read_head(&mut stream);
        if !head.starts_with("get /raft/probing") {
            break (head, stream);
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, body, stream)
}

/// Goal: without streams, messages are posted. Method: the test is the peer; it leaves stream
/// requests without an answer.
#[test]
fn without_streams_messages_are_posted() {
    let other = listen(0);
    let member = Member::alone(0xa, vec![peer(0xb, other.local_addr().unwrap().port())]);
    let sent = message(MessageType::MsgAppend, 0xa, 0xb, 4);
    member.send(vec![sent.clone()]);
    let mut streams = Vec::new();
    let mut post = loop {
        let (head, body, stream) = take_request(&other);
        if head.starts_with("get /raft/stream/") {
            assert!(head.contains("\r\nx-raft-to: b\r\n"), "{head}");
            assert!(head.contains("\r\nx-glass: "), "{head}");
            streams.push(stream);
            continue;
        }
        assert!(head.contains("\r\nx-server-from: a\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/protobuf\r\n"), "{head}");
        assert!(head.contains("\r\nx-glass-link: "), "{head}");
        assert_eq!(Message::parse_from_bytes(&body).unwrap(), sent);
        break stream;
    };
    post.get_mut().write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(matches!(member.next(), Input::Unreachable(0xb)));
}

/// Goal: requests of clients to a follower in the first moments of a cluster, before the leader has
/// opened its streams, are not dropped. Method: the other member knows a wrong address, and so
/// never opens any.
#[test]
fn many_proposals_at_once_wait_until_they_are_posted() {
    let listener = listen(0);
    let port = listener.local_addr().unwrap().port();
    let one = Member::alone(0xa, vec![peer(0xb, port)]);
    let propose = |index| message(MessageType::MsgPropose, 0xa, 0xb, index);
    one.send((1..=500).map(propose).collect());
    let two = Member::start(config(0xb, port, vec![peer(0xa, 1)]), listener);
    let mut heard: Vec<u64> = (1..=500).map(|_| two.next_message().index).collect();
    // Four connections: the order is not kept.
    heard.sort_unstable();
    assert_eq!(heard, (1..=500).collect::<Vec<_>>());
}

#[test]
fn messages_that_cannot_be_sent_are_reported() {
    let closed = listen(0).local_addr().unwrap().port();
    let member = Member::alone(0xa, vec![peer(0xb, closed)]);
    member.send(vec![message(MessageType::MsgHeartbeat, 0xa, 0xb, 1)]);
    assert!(matches!(member.next(), Input::Unreachable(0xb)));
    member.send(vec![message(MessageType::MsgSnapshot, 0xa, 0xb, 1)]);
    assert!(matches!(member.next(), Input::Unreachable(0xb)));
    assert!(matches!(member.next(), Input::SnapshotSent { peer: 0xb, ok: false }));
}

/// Goal: a queue that its stream does not empty is bounded. Method: open a stream and do not read.
#[test]
fn a_peer_that_does_not_read_costs_only_its_queue() {
    let member = Member::alone(0xa, vec![peer(0xb, 1)]);
    let mut stream = request(member.port, "GET", "/raft/stream/msgapp/b", &[], b"");
    assert!(read_head(&mut stream).starts_with("http/1.1 200"));
    let mut append = message(MessageType::MsgAppend, 0xa, 0xb, 1);
    append.entries[0].data = vec![7; 64 * 1024].into();
    for _ in 0..10 {
        member.send(vec![append.clone(); 1000]);
    }
    let sent = clock::now();
    assert!(matches!(member.next(), Input::Unreachable(0xb)), "the queue is full");
    // Nothing is sent any more; the write makes no progress, and takes the stream with it.
    eventually("the stream is given up", || {
        matches!(member.next(), Input::Unreachable(0xb))
            && sent + Duration::from_secs(4) < clock::now()
    });
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20, "{} of 640 MB had been encoded", rest.len());
}

/// Goal: bytes that make no sense end the connection, nothing else. Method: the test answers the
/// stream requests with nonsense, and sees them come again on new connections.
#[test]
fn nonsense_on_a_stream_closes_it_and_it_is_dialled_again() {
    let other = listen(0);
    let member = Member::alone(0xa, vec![peer(0xb, other.local_addr().unwrap().port())]);
    let oversize = ((1_u64 << 40) + 1).to_be_bytes();
    let nonsense: [&[u8]; 4] = [&[9; 40], &[0xff; 40], &oversize, &[0, 0, 0, 0, 0, 0, 0, 2, 7, 7]];
    let mut ended = 0;
    for round in 0..8 {
        let (head, _, mut stream) = take_request(&other);
        assert!(head.starts_with("get /raft/stream/"), "{head}");
        let bytes = if head.contains("/msgapp/") { &[3; 9] } else { nonsense[round % 4] };
        let size = format!("{:x}\r\n", bytes.len());
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = [head, size.as_bytes(), bytes, b"\r\n"].concat();
        stream.get_mut().write_all(&answer).unwrap();
        ended += usize::from(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    assert_eq!(ended, 8);
    ask_with(member.port, "POST", "/raft", &[], &vote_for(0xa));
    assert_eq!(member.next_message().get_msg_type(), MessageType::MsgRequestVote);
}

fn vote_for(to: u64) -> Vec<u8> {
    message(MessageType::MsgRequestVote, 0xb, to, 1).write_to_bytes().unwrap()
}

/// The failpoints are the process's: ids that no other test uses keep them apart.
#[test]
fn failpoints_cut_one_direction_of_one_peer() {
    let (one, two) = pair((0xfa11, 0xfa12));
    let vote = |from, to, index| message(MessageType::MsgRequestVote, from, to, index);
    fail::cfg("peer-drop-send", "return(fa12)").unwrap();
    one.send(vec![vote(one.id, two.id, 1)]);
    two.send(vec![vote(two.id, one.id, 2)]);
    assert_eq!(one.next_message().index, 2);
    fail::remove("peer-drop-send");
    fail::cfg("peer-drop-receive", "return(fa12)").unwrap();
    one.send(vec![vote(one.id, two.id, 3)]);
    assert_eq!(two.next_message().index, 3, "what was dropped before does not come");
    two.send(vec![vote(two.id, one.id, 4)]);
    two.send(vec![vote(0xfa13, one.id, 5)]);
    assert_eq!(one.next_message().index, 5);
    fail::remove("peer-drop-receive");
    fail::cfg("peer-delay-send", "return(50)").unwrap();
    let start = clock::now();
    one.send(vec![vote(one.id, two.id, 6)]);
    assert_eq!(two.next_message().index, 6);
    assert!(Duration::from_millis(50) <= start.elapsed());
    fail::remove("peer-delay-send");
}
