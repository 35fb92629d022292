//! The traces of real members: complete, true, in order, and without values.
//!
//! `puts` and `gets` read the stories of single requests, `election` kills leaders and reads how
//! they are replaced, `truth` slows disks down, `order` checks a whole busy period, `each_rpc` and
//! `failures` call every RPC with every error, and `commands` and `compared` run `glass trace`.
//! `state` looks up the members' watermarks, `offline` replays recordings, and `secrets` searches
//! for values and keys. Each cluster serves many checks. At its end the first test compares the
//! stages that it has seen with the vocabulary, so that a stage that is no longer recorded is
//! noticed.

use std::collections::BTreeSet;

use glass_etcd::{
    pb::etcdserverpb::{CompactionRequest, DeleteRangeRequest},
    story::{Event, Recording},
    trace::Stage,
};

use crate::{
    cluster::Cluster,
    programs::{Kind, left_out},
};
use listen::Listener;

mod agree;
mod ahead;
mod broken;
mod causes;
mod chains;
mod chrome;
mod commands;
mod compared;
pub(crate) mod coverage;
mod each_rpc;
mod election;
mod export;
mod failures;
mod gets;
mod inside;
mod kept;
mod lessons;
pub(crate) mod listen;
mod load;
mod locks;
mod loops;
mod maintenance;
mod news;
mod offline;
pub(crate) mod order;
mod otlp;
mod puts;
mod questions;
mod reasons;
mod recorder;
mod recordings;
mod secrets;
mod sessions;
mod state;
mod through;
mod told;
mod truth;
mod unknown;
mod unread;
mod usual;
mod vitals;
mod waiting;
mod way;
mod words;

/// Stages that the first test does not see, and why.
const UNSEEN: &[(Stage, &str)] = &[
    (
        Stage::GatewayDecode,
        "only for a call over HTTP; the test of the gateway beside etcd's does that",
    ),
    (Stage::RaftPark, "only without a leader; the test of what requests live through does that"),
    (Stage::RaftRefuse, "only when a forwarded proposal arrives in a later term; as above"),
    (Stage::RaftLost, "only when a leader dies under load; the test of departed leaders does that"),
    (Stage::SnapshotMake, "only after many entries; the test of snapshots makes them often"),
    (Stage::LogCompact, "as above"),
    (Stage::LogPurge, "as above"),
    (Stage::SnapshotSend, "only for a follower that is far behind; the test of snapshots has one"),
    (Stage::SnapshotReceive, "as above"),
    (Stage::SnapshotAccept, "as above"),
    (Stage::SnapshotInstall, "as above"),
    (Stage::BufferWait, "only when the write buffer is full; the backend's tests do that"),
    (Stage::ReadIndexLost, "only when a leader steps down under a read; as above"),
    (Stage::BackendDamaged, "only when a row is damaged; the backend's tests do that"),
    (Stage::MemberStop, "only when a member receives SIGTERM; as above"),
    (Stage::ElectionTransfer, "only when a leader is to hand over; the same test does that"),
    (Stage::ProcessStalled, "only when a process is stopped; the test of standstills does that"),
    (Stage::Lost, "only when records were overwritten unread; the collector's tests do that"),
    (Stage::Brief, "only under load; the tests of the collector's rate do that"),
    (Stage::WatchVictim, "only when the queue of a stream is full; the watchers' tests do that"),
    (Stage::LeaseList, "one RPC's own; the test of each RPC calls it"),
    (Stage::LeaseCheckpoint, "only when it is switched on; the test of checkpoints does that"),
    (Stage::MvccHash, "one RPC's own; the test of each RPC calls it"),
    (Stage::CorruptCheck, "only when it is switched on; the tests of such checks do that"),
    (Stage::BackendHash, "one RPC's own; the test of each RPC calls it"),
    (Stage::BackendDefrag, "as above"),
    (Stage::BackendSnapshot, "one RPC's own; the test of snapshots calls it"),
    (Stage::LeaderMove, "one RPC's own; the test of moved leaders calls it"),
    (Stage::MembersCheck, "one RPC's own; the test of each RPC calls it"),
    (Stage::MembersForward, "one RPC's own; the tests of members call it"),
    (Stage::AlarmApply, "one RPC's own; the test of each RPC calls it"),
    (Stage::AnswerRoom, "only when clients do not read; the test of unread answers does that"),
    (Stage::GatewayEncode, "only for a call over HTTP; as for its decoding"),
    (Stage::AnswerPiece, "only when clients do not read; as for the room of answers"),
    (Stage::AnswerEnded, "as above"),
    (Stage::V2Apply, "one API's own; the test of v2 on three members calls it"),
    (Stage::V2Get, "as above"),
    (Stage::V2Watch, "as above"),
    (Stage::V2Event, "as above"),
    (Stage::RaftLink, "only when `glass up` is asked to cut a link; the test of links does that"),
];

/// Stages that depend on how busy the machine is: whether threads wait for a CPU, whether a kept
/// request stands behind others that are not, whether a connection is taken late, and whether the
/// listener comes early enough for the changes with which the cluster begins.
const BY_CHANCE: &[Stage] =
    &[Stage::CpuWait, Stage::Shared, Stage::ConnectionAccept, Stage::MembersChange];

/// A cluster of three members and its records.
struct Scene {
    cluster: Cluster,
    listener: Listener,
}

impl Scene {
    /// Starts both; `None`, with a line that says so, if the subject is not ours.
    async fn start(what: &str) -> Option<Self> {
        if Kind::subject() != Kind::Glass {
            left_out(&format!("{what}: etcd leaves no traces"));
            return None;
        }
        let cluster = Cluster::start(&Kind::Glass, 3).await;
        let listener = Listener::start(&cluster).await;
        Some(Self { cluster, listener })
    }

    /// The leader and its two followers.
    async fn parts(&self) -> [usize; 3] {
        let leader = self.cluster.leader().await;
        [leader, (leader + 1) % 3, (leader + 2) % 3]
    }
}

/// Goal: every step of a put, a get and an election is recorded where it happens, and the stories
/// join them. Method: one request at a time on an idle cluster, then killed leaders; at the end the
/// whole vocabulary must have been seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn put_get_and_election_leave_every_stage_of_the_vocabulary() {
    let Some(mut scene) = Scene::start("traces").await else { return };
    let put = puts::a_put_on_a_follower_is_traced_on_all_members(&scene).await;
    commands::show_list_and_record_tell_the_same(&scene, put).await;
    export::a_put_is_exported_whole(&scene, put).await;
    puts::a_put_on_the_leader_sends_no_proposal(&scene).await;
    puts::a_transaction_reads_only_where_it_is_answered(&scene).await;
    inside::a_transaction_tells_its_comparisons_and_its_branches(&scene).await;
    inside::a_transaction_that_only_reads_tells_the_same_where_it_is_read(&scene).await;
    inside::a_question_about_a_lease_is_joined_to_its_answer_on_the_leader(&scene).await;
    inside::a_range_tells_what_was_asked_and_what_the_index_looked_at(&scene).await;
    compared::a_put_on_a_follower_differs_by_its_proposal(&scene).await;
    compared::a_serializable_get_differs_by_its_round(&scene).await;
    compared::a_put_alone_has_no_companions_and_one_of_many_has(&scene).await;
    gets::a_get_after_a_write_is_answered_by_the_buffer(&scene).await;
    gets::a_get_later_is_answered_by_the_file(&scene).await;
    gets::a_long_range_is_read_off_the_thread_that_serves(&scene).await;
    gets::a_range_that_is_not_small_is_one_step(&scene).await;
    gets::long_ranges_queue_for_a_permit(&scene).await;
    reasons::a_put_with_an_unknown_lease_says_so_at_each_failing_step(&scene).await;
    reasons::a_range_at_a_future_revision_says_so(&scene).await;
    news::a_put_reaches_its_watcher_in_the_trace(&scene).await;
    questions::a_watched_put_on_a_follower_answers_them_all(&scene).await;
    questions::gets_at_once_know_their_round_and_each_other(&scene).await;
    news::a_watcher_is_open_until_it_ends_and_says_why(&scene).await;
    news::leases_are_traced_from_grant_to_end(&scene).await;
    locks::a_waiting_lock_names_the_key_before_its_own(&scene).await;
    locks::an_election_names_its_leader(&scene).await;
    locks::a_lock_whose_time_is_over_says_so(&scene).await;
    compact(&scene).await;
    election::a_dead_leader_is_replaced_step_by_step(&mut scene).await;
    puts::a_put_of_a_former_leader_stays_without_proposal(&scene).await;
    election::an_entry_that_was_never_committed_is_truncated(&mut scene).await;
    let recording = scene.listener.recording();
    let seen: BTreeSet<Stage> = (recording.events.iter())
        .flat_map(|event| [Some(event.stage), event.key.as_ref().map(|_| Stage::Key)])
        .flatten()
        .collect();
    let is_unseen = |stage: &&Stage| !seen.contains(stage) && !BY_CHANCE.contains(stage);
    let unseen: Vec<Stage> = Stage::ALL.iter().filter(is_unseen).copied().collect();
    let expected: Vec<Stage> = UNSEEN.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(expected, unseen, "stages that were not seen");
}

/// Goal: a compaction can be followed from its mark to its rows: the mark under the request's id,
/// the passes over index and rows as loops, with how many keys and rows remain. Method: a deleted
/// key, which each member's index forgets.
async fn compact(scene: &Scene) {
    let mut client = scene.cluster.client(0);
    client.put("traces/gone", "1").await.unwrap();
    let delete = DeleteRangeRequest { key: "traces/gone".into(), ..Default::default() };
    client.kv.delete_range(delete).await.unwrap();
    let revision = client.put("traces/old", "2").await.unwrap();
    let request = CompactionRequest { revision, physical: true };
    client.kv.compact(request).await.unwrap();
    let revision = u64::try_from(revision).unwrap();
    let forgotten = |recording: &Recording| {
        let of = |stage: Stage, field: &'static str| {
            let is_meant =
                move |event: &&Event| event.stage == stage && event.field(field) == Some(revision);
            recording.events.iter().filter(is_meant)
        };
        let index = of(Stage::CompactIndex, "revision").filter(|event| {
            let [before, after] = ["keys.old", "keys.new"].map(|name| event.field(name).unwrap());
            after < before && before == event.field("visited").unwrap()
        });
        let rows =
            of(Stage::CompactBatch, "revision").filter(|event| event.field("deleted") > Some(1));
        let marks = of(Stage::MvccCompact, "compacted.new").filter(|event| event.id != 0);
        let members = [marks.count(), index.count(), rows.count()];
        if members == [3, 3, 3] { Ok(()) } else { Err(format!("{members:?} at {revision}")) }
    };
    scene.listener.until("a compaction on each member", forgotten).await;
}
