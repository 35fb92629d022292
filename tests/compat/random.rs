//! The differential test: the same long stream of KV and Lease requests to both, with every answer
//! and every event compared.
//!
//! Not sent, because 3.5.1 and the behaviour that we follow differ there on purpose:
//! * an unknown sort target (it kills 3.5.1; later versions refuse it) and an unknown sort order
//!   (3.5.1 ignores it): sent to ours alone;
//! * a txn that writes and reads a compacted or a future revision (in 3.5.1 the asked member
//!   refuses it, the others apply it): sent to ours alone;
//! * a txn that deletes all keys from one on, and puts one of them with `ignore_value` or
//!   `ignore_lease` (3.5.1 panics).

use std::{env, time::Duration};

use glass_etcd::pb::etcdserverpb::{
    CompactionRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    request_op::Request,
};

use super::{
    requests::{Call, LEASES, Reply, Stream, at_the_limits},
    watchers::Watchers,
};
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{self, Kind, left_out},
};

/// Requests of a run; `GLASS_IT_REQUESTS` overrides it.
const REQUESTS: usize = 3000;
/// Seed of a run; `GLASS_IT_SEED` overrides it.
const SEED: u64 = 1;
/// Percentage of requests after which something is done with watchers.
const WATCHERS_PERCENT: u64 = 6;
/// Requests that a failure prints, including the one that failed.
const PRINTED: usize = 5;

/// A cluster and the member that was last asked to write.
struct Side {
    clients: Vec<Client>,
    cluster: Cluster,
}

impl Side {
    async fn start(kind: &Kind) -> Self {
        let cluster = Cluster::start(kind, 3).await;
        let clients = (0..3).map(|at| cluster.client(at)).collect();
        Self { clients, cluster }
    }

    async fn send(&mut self, call: &Call, at: usize) -> Reply {
        call.send(&mut self.clients[at]).await
    }
}

/// Goal: code, text, revision and every other field match etcd 3.5.1 for every request, and every
/// watcher receives what etcd's receives. Method: one client sends to members at random, so that a
/// stale linearizable read shows; serializable reads go to the member that answered the last
/// accepted request, because it has applied everything. Watchers come and go meanwhile (see
/// [`super::watchers`]); at ten points in between, and at the end, all members of both must have
/// the same hash.
#[tokio::test]
async fn a_random_stream_gets_the_answers_of_etcd() {
    let Some(reference) = programs::reference() else {
        return left_out("differential test: no etcd 3.5.1");
    };
    let subject = Kind::subject();
    let (ours, theirs) = tokio::join!(Side::start(&subject), Side::start(&reference));
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("GLASS_IT_SEED").unwrap_or(SEED);
    let requests = number("GLASS_IT_REQUESTS").map_or(REQUESTS, |number| number as usize);
    eprintln!("GLASS_IT_SEED={seed} GLASS_IT_REQUESTS={requests}");
    let watchers = Watchers::open(&ours.cluster, &theirs.cluster).await;
    let stream = Stream::new(seed, 1);
    let (synced, sent, refused, changed) = (0, Vec::new(), 0, 0);
    let mut run = Run { ours, theirs, watchers, stream, seed, synced, sent, refused, changed };
    let mut limits = at_the_limits().into_iter();
    for number in 0..requests {
        let call = limits.next().unwrap_or_else(|| run.stream.call());
        run.send(call).await;
        if run.stream.below(100) < WATCHERS_PERCENT
            && let Some(put) = run.watchers.act(&mut run.stream).await
        {
            run.send(Call::Put(put)).await;
        }
        if number % (requests / 10).max(1) == 0 && number / (requests / 10).max(1) < 10 {
            run.watchers.same_hashes(&mut run.stream).await;
        }
    }
    run.watchers.same_hashes(&mut run.stream).await;
    eprintln!("{}", run.watchers.summary(requests));
    // A stream that is refused, or changes nothing, compares nothing.
    assert!(
        run.refused < requests / 2 && requests / 5 < run.changed,
        "{} refused, {} changed",
        run.refused,
        run.changed
    );
    same_contents(&mut run.ours, &mut run.theirs, run.stream.revision).await;
    if run.ours.cluster.kind == Kind::Glass {
        refuses_unknown_sort_options(&mut run.ours).await;
        refuses_a_txn_that_reads_a_compacted_or_future_revision(&mut run.ours).await;
    }
}

/// Both clusters, and the progress of the stream.
struct Run {
    ours: Side,
    theirs: Side,
    watchers: Watchers,
    stream: Stream,
    seed: u64,
    /// The member that has applied all that was answered.
    synced: usize,
    /// The last requests, for a failure.
    sent: Vec<Call>,
    refused: usize,
    changed: usize,
}

impl Run {
    /// Sends one request to both and compares the answers.
    async fn send(&mut self, call: Call) {
        if matches!(call, Call::Compact(_)) {
            self.watchers.settle(self.stream.revision).await;
        }
        let serializable = call.is_serializable();
        let at = if serializable { self.synced } else { self.stream.below(3) as usize };
        if self.sent.len() == PRINTED {
            self.sent.remove(0);
        }
        self.sent.push(call.clone());
        let (mut ours, theirs) =
            tokio::join!(self.ours.send(&call, at), self.theirs.send(&call, at));
        if ours != theirs {
            panic!(
                "at revision {} to m{at}, seed {}\nours: {}\netcd: {}\nlast requests: {}",
                self.stream.revision,
                self.seed,
                short(&ours),
                short(&theirs),
                short(&self.sent)
            );
        }
        let is_refused = matches!(ours, Reply::Refused(..));
        self.refused += usize::from(is_refused);
        if !serializable && !is_refused {
            self.synced = at;
        }
        if let (Call::Compact(compact), Reply::Compact(_)) = (&call, &ours) {
            self.stream.compacted = self.stream.compacted.max(compact.revision);
        }
        let revision = ours.revision().unwrap_or(self.stream.revision);
        self.changed += usize::from(self.stream.revision < revision);
        self.stream.revision = revision;
    }
}

/// Checks that every member of both has the same keys, in every readable revision.
async fn same_contents(ours: &mut Side, theirs: &mut Side, newest: i64) {
    for at in 0..3 {
        for (side, name) in [(&*ours, "ours"), (&*theirs, "etcd's")] {
            let client = side.clients[at].clone();
            eventually(&format!("{name} m{at} has applied all"), Duration::from_secs(10), || {
                let mut client = client.clone();
                async move {
                    let all = client.everything(true).await.map_err(|s| s.to_string())?;
                    let revision = all.header.unwrap_or_default().revision;
                    if revision == newest {
                        Ok(())
                    } else {
                        Err(format!("at {revision}, not {newest}"))
                    }
                }
            })
            .await;
        }
        for id in LEASES {
            let call = Call::TimeToLive(LeaseTimeToLiveRequest { id, keys: true });
            let (ours, theirs) = tokio::join!(ours.send(&call, at), theirs.send(&call, at));
            assert_eq!(ours, theirs, "lease {id} at m{at}");
        }
        for revision in (newest - 50..=newest).filter(|revision| 0 < *revision) {
            let all = bytes::Bytes::from_static(b"\0");
            let call = Call::Range(RangeRequest {
                key: all.clone(),
                range_end: all,
                revision,
                serializable: true,
                ..Default::default()
            });
            let (ours, theirs) = tokio::join!(ours.send(&call, at), theirs.send(&call, at));
            assert!(
                ours == theirs,
                "m{at} at revision {revision}\nours: {}\netcd: {}",
                short(&ours),
                short(&theirs)
            );
        }
    }
}

/// As 3.6 does; see the essay of this file.
async fn refuses_unknown_sort_options(ours: &mut Side) {
    for (sort_order, sort_target) in [(3, 0), (-1, 1), (0, 5), (1, -1)] {
        let range = RangeRequest { key: "a".into(), sort_order, sort_target, ..Default::default() };
        let reply = ours.send(&Call::Range(range), 0).await;
        let expected = Reply::Refused(
            tonic::Code::InvalidArgument as i32,
            "etcdserver: invalid sort option".to_owned(),
        );
        assert_eq!(reply, expected, "order {sort_order}, target {sort_target}");
    }
}

/// The same on every member, and before anything is written.
async fn refuses_a_txn_that_reads_a_compacted_or_future_revision(ours: &mut Side) {
    let newest = ours.clients[0].put("newest", "").await.unwrap();
    let op = |request| RequestOp { request: Some(request) };
    let compact = CompactionRequest { revision: newest, physical: false };
    assert!(matches!(ours.send(&Call::Compact(compact), 0).await, Reply::Compact(_)));
    for (revision, text) in [
        (newest - 1, "etcdserver: mvcc: required revision has been compacted"),
        (newest + 2, "etcdserver: mvcc: required revision is a future revision"),
    ] {
        let put = PutRequest { key: "not there".into(), ..Default::default() };
        let range = RangeRequest { key: "a".into(), revision, ..Default::default() };
        let success = vec![op(Request::RequestPut(put)), op(Request::RequestRange(range))];
        let txn = Call::Txn(TxnRequest { success, ..Default::default() });
        for at in 0..3 {
            let expected = Reply::Refused(tonic::Code::OutOfRange as i32, text.to_owned());
            assert_eq!(ours.send(&txn, at).await, expected, "m{at}");
        }
    }
    for at in 0..3 {
        let state = ours.clients[at].everything(false).await.unwrap();
        assert_eq!(state.header.unwrap().revision, newest, "m{at}");
        assert!(state.kvs.iter().all(|pair| pair.key != "not there"), "m{at}");
    }
}

/// A message as text, short enough for a screen.
fn short(value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    if 4000 < text.len() {
        let end = (0..=4000).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}
