//! Locks and elections while clients, leases and leaders go.

use std::{sync::Arc, time::Duration};

use glass_etcd::pb::{
    etcdserverpb::{CompactionRequest, LeaseRevokeRequest},
    v3electionpb::{LeaderRequest, ResignRequest},
};
use tokio::sync::Mutex;
use tonic::Code;

use crate::{
    client::eventually,
    cluster::Cluster,
    locks::{Locks, WITHIN, finish, revision},
    programs::{Kind, left_out},
};

/// Callers in the queue of the fairness test.
const CALLERS: i64 = 24;

/// Goal: the lock goes round in the order of the queue, each has it alone, and a compaction under
/// those who wait does no harm. Method: callers at all three members, one after the other; each
/// writes down that it has the lock, and that it gives it back.
#[tokio::test]
async fn the_lock_goes_round_in_the_order_in_which_they_came() {
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let mut locks = Locks::of(&cluster, 0);
    locks.grant(1, 600).await;
    let held = locks.lock("fair", 1).await.unwrap();
    let diary = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let mut own = Locks::of(&cluster, usize::try_from(caller % 3).unwrap());
        own.grant(100 + caller, 600).await;
        let call = own.lock_later("fair", 100 + caller);
        let diary = diary.clone();
        callers.push(tokio::spawn(async move {
            let key = call.await.unwrap().unwrap().key;
            diary.lock().await.push((caller, "has it"));
            tokio::task::yield_now().await;
            diary.lock().await.push((caller, "gives it back"));
            own.unlock(key).await.unwrap();
        }));
        locks.wait_queue("fair", callers.len() + 1).await;
    }
    let revision = locks.client.put("later", "").await.unwrap();
    if Kind::subject() == Kind::Glass {
        // etcd's calls fail when this comes within 100 ms of their beginning to wait.
        let compaction = CompactionRequest { revision, physical: true };
        locks.client.kv.compact(compaction).await.unwrap();
    }
    assert!(diary.lock().await.is_empty(), "the first has it still");
    locks.unlock(held.key).await.unwrap();
    for caller in callers {
        finish(caller).await;
    }
    let expected: Vec<_> =
        (0..CALLERS).flat_map(|caller| [(caller, "has it"), (caller, "gives it back")]).collect();
    assert_eq!(*diary.lock().await, expected);
}

/// Goal: neither the leader's death nor a lease that ends with its client loses a wake-up. Method:
/// callers wait at both followers while the leader is killed; then the lock is given back, and the
/// next one's lease runs out without anybody's help.
#[tokio::test]
async fn those_who_wait_are_woken_though_the_leader_was_killed() {
    let mut cluster = Cluster::start(&Kind::subject(), 3).await;
    let leader = cluster.leader().await;
    let [mut one, mut two] = [1, 2].map(|step| Locks::of(&cluster, (leader + step) % 3));
    one.grant(1, 600).await;
    one.grant(2, 4).await;
    one.grant(3, 600).await;
    let held = one.lock("l", 1).await.unwrap();
    let second = one.lock_later("l", 2);
    one.wait_queue("l", 2).await;
    let third = two.lock_later("l", 3);
    one.wait_queue("l", 3).await;
    let leads = one.campaign("e", 1, "one").await.unwrap().leader;
    let candidate = two.campaign_later("e", 3, "three");
    one.wait_queue("e", 2).await;
    let observed = two.election.observe(LeaderRequest { name: "e".into() }).await;
    let mut observed = observed.unwrap().into_inner();
    let value = |answer: Option<glass_etcd::pb::v3electionpb::LeaderResponse>| {
        answer.and_then(|answer| answer.kv).map(|kv| kv.value)
    };
    assert_eq!(value(observed.message().await.unwrap()).unwrap(), "one");
    cluster.kill(leader);
    eventually("the lock is given back", WITHIN, || {
        let (mut locks, key) = (one.clone(), held.key.clone());
        async move { locks.unlock(key).await.map_err(|status| status.to_string()) }
    })
    .await;
    // Its lease may be over by now; then the lock is the third's at once.
    let second = finish(second).await;
    assert!(second.is_ok() || second.unwrap_err().message() == "mutex: session is expired");
    assert_eq!(finish(third).await.unwrap().key, "l/3");
    one.wait_queue("l", 1).await;
    let resign = ResignRequest { leader: leads };
    one.election.resign(resign).await.unwrap();
    assert_eq!(finish(candidate).await.unwrap().leader.unwrap().key, "e/3");
    assert_eq!(value(observed.message().await.unwrap()).unwrap(), "three");
}

/// Goal: a client that gives up while there is no leader does not leave its key behind. Method: a
/// caller waits at the only member that is left, and goes; the others come back.
#[tokio::test]
async fn who_gives_up_without_a_leader_leaves_no_key_behind() {
    if Kind::subject() != Kind::Glass {
        // etcd tries once, and leaves the key to its lease.
        return;
    }
    let mut cluster = Cluster::start(&Kind::Glass, 3).await;
    let leader = cluster.leader().await;
    let (other, at) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut locks = Locks::of(&cluster, at);
    for lease in 1..4 {
        locks.grant(lease, 600).await;
    }
    locks.lock("l", 1).await.unwrap();
    let gone = [locks.lock_later("l", 2)];
    locks.wait_queue("l", 2).await;
    let stands = locks.campaign("e", 1, "").await.unwrap().leader;
    let candidate = locks.campaign_later("e", 2, "");
    locks.wait_queue("e", 2).await;
    // One more, at a member that will not be there when its client goes.
    let with_member = Locks::of(&cluster, leader).lock_later("l", 3);
    locks.wait_queue("l", 3).await;
    cluster.kill(leader);
    cluster.kill(other);
    gone.iter().for_each(tokio::task::JoinHandle::abort);
    candidate.abort();
    finish(with_member).await.unwrap_err();
    cluster.spawn(other);
    cluster.wait_ready(other).await;
    locks.wait_queue("e", 1).await;
    // That of the killed member's caller is left to its lease.
    locks.wait_queue("l", 2).await;
    let left = locks.queue("l").await.unwrap();
    let left: Vec<i64> = left.iter().map(|kv| kv.lease).collect();
    assert_eq!(left, [1, 3]);
    locks.election.resign(ResignRequest { leader: stands }).await.unwrap();
    locks.wait_queue("e", 0).await;
}

/// Goal: who has lost the lease while waiting does not come to lead (etcd tells it that it does).
/// Method: the lease of the second candidate is revoked; the first resigns.
#[tokio::test]
async fn a_candidate_that_lost_its_lease_does_not_lead() {
    if Kind::subject() != Kind::Glass {
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let mut locks = Locks::of(&cluster, 0);
    for lease in 1..4 {
        locks.grant(lease, 600).await;
    }
    let first = locks.campaign("e", 1, "one").await.unwrap().leader;
    let lost = locks.campaign_later("e", 2, "two");
    locks.wait_queue("e", 2).await;
    let third = locks.campaign_later("e", 3, "three");
    locks.wait_queue("e", 3).await;
    locks.client.lease.lease_revoke(LeaseRevokeRequest { id: 2 }).await.unwrap();
    locks.election.resign(ResignRequest { leader: first }).await.unwrap();
    let refused = finish(lost).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, "election: not leader"));
    assert_eq!(finish(third).await.unwrap().leader.unwrap().key, "e/3");
}

/// Goal: clients that come and go in crowds leave nothing behind, whatever their calls were at.
/// Method: calls at all members that are aborted after a time between nothing and a few
/// milliseconds; then the queue must be empty, and the lock free.
#[tokio::test]
async fn crowds_that_give_up_leave_an_empty_queue() {
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let mut first = Locks::of(&cluster, 0);
    first.grant(1, 600).await;
    let held = first.lock("crowd", 1).await.unwrap();
    let members: Vec<Locks> = (0..3).map(|at| Locks::of(&cluster, at)).collect();
    let mut calls = Vec::new();
    for number in 0..150_u64 {
        let lease = 1000 + i64::try_from(number).unwrap();
        let mut locks = members[usize::try_from(number % 3).unwrap()].clone();
        locks.grant(lease, 600).await;
        calls.push(tokio::spawn(async move {
            let call = locks.lock_later("crowd", lease);
            tokio::time::sleep(Duration::from_micros(number * 97 % 12_000)).await;
            call.abort();
        }));
    }
    for call in calls {
        finish(call).await;
    }
    if Kind::subject() == Kind::Glass {
        // etcd leaves the key of a call that is cancelled while its put is under way.
        first.wait_queue("crowd", 1).await;
        first.unlock(held.key).await.unwrap();
        first.grant(2, 600).await;
        let next = tokio::time::timeout(WITHIN, first.lock("crowd", 2)).await;
        assert_eq!(next.expect("the lock is free").unwrap().key, "crowd/2");
    }
}

/// Goal: a call whose client goes while its key is being put takes the key back, but not the key
/// that the same lease had put before. Method: disks so slow that the call is cancelled in between.
#[tokio::test]
async fn who_goes_while_the_key_is_being_put_takes_it_back() {
    if Kind::subject() != Kind::Glass {
        // etcd leaves it to its lease.
        return;
    }
    let slow = [("FAILPOINTS", "wal-before-fsync=sleep(300)")];
    let cluster = Cluster::start_with(&Kind::Glass, 3, &slow).await;
    for at in 0..3 {
        let mut locks = Locks::of(&cluster, at);
        let (name, lease) = (format!("slow{at}"), 1 + i64::try_from(at).unwrap());
        locks.grant(lease, 600).await;
        let before = locks.client.put("before", "").await.unwrap();
        let (lock, campaign) =
            (locks.lock_later(&name, lease), locks.campaign_later("e", lease, ""));
        tokio::time::sleep(Duration::from_millis(100)).await;
        lock.abort();
        campaign.abort();
        eventually("both keys have come and gone", WITHIN, || {
            let mut locks = locks.clone();
            async move {
                let all = locks.client.everything(false).await;
                let all = all.map_err(|status| status.to_string())?;
                let revision = revision(&all.header);
                if revision == before + 4 { Ok(()) } else { Err(format!("{before} {all:?}")) }
            }
        })
        .await;
        locks.wait_queue(&name, 0).await;
        locks.wait_queue("e", 0).await;
        let held = locks.lock(&name, lease).await.unwrap();
        let again = locks.lock_later(&name, lease);
        tokio::time::sleep(Duration::from_millis(100)).await;
        again.abort();
        for value in ["1", "2", "3"] {
            locks.client.put("later", value).await.unwrap();
        }
        assert_eq!(locks.queue(&name).await.unwrap()[0].key, held.key);
    }
}

/// Goal: calls that wait do not hold up a member that is told to stop, and nothing of a lock is
/// lost with it. Method: SIGTERM while a lock, a candidate and an observer wait; after the next
/// start the queue is as it was, for their leases live.
#[tokio::test]
async fn a_member_that_is_told_to_stop_does_not_wait_for_locks() {
    let mut cluster = Cluster::start(&Kind::subject(), 1).await;
    let mut locks = Locks::of(&cluster, 0);
    locks.grant(1, 600).await;
    locks.grant(2, 600).await;
    locks.lock("l", 1).await.unwrap();
    locks.campaign("e", 1, "").await.unwrap();
    let waits = (locks.lock_later("l", 2), locks.campaign_later("e", 2, ""));
    locks.wait_queue("l", 2).await;
    locks.wait_queue("e", 2).await;
    let mut news = locks.election.observe(LeaderRequest { name: "e".into() }).await;
    let news = news.as_mut().unwrap().get_mut();
    news.message().await.unwrap().unwrap();
    cluster.terminate(0);
    let exit = cluster.wait_exit(0, WITHIN).await.expect("the member ends");
    finish(waits.0).await.unwrap_err();
    finish(waits.1).await.unwrap_err();
    let end = tokio::time::timeout(WITHIN, news.message()).await.expect("the stream ends");
    assert!(end.is_err() || end.unwrap().is_none());
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    for name in ["l", "e"] {
        let leases: Vec<i64> = locks.queue(name).await.unwrap().iter().map(|kv| kv.lease).collect();
        assert!(leases.starts_with(&[1]), "{name}: {leases:?} after {exit}");
    }
}

/// Goal: a member that is told to stop tells so to every call that waits on it, has their keys
/// deleted before, and is not held up by them. Method: a Lock, a Campaign and an Observe that wait
/// for nothing, at the only member, at the leader of three, and at a member that has lost the
/// others; the log would have a line about clients that have not been answered.
#[tokio::test]
async fn calls_that_wait_for_a_lock_hear_that_their_member_stops() {
    if Kind::subject() != Kind::Glass {
        return left_out("locks at the stop: an etcd member breaks their connections");
    }
    for (size, is_alone) in [(1, false), (3, false), (3, true)] {
        let mut cluster = Cluster::start(&Kind::Glass, size).await;
        let at = cluster.leader().await;
        let mut locks = Locks::of(&cluster, at);
        for lease in 1..=2 {
            locks.grant(lease, 600).await;
        }
        locks.lock("l", 1).await.unwrap();
        locks.campaign("e", 1, "").await.unwrap();
        let waits = (locks.lock_later("l", 2), locks.campaign_later("e", 2, ""));
        locks.wait_queue("l", 2).await;
        locks.wait_queue("e", 2).await;
        let news = locks.election.observe(LeaderRequest { name: "e".into() }).await;
        let mut news = news.unwrap().into_inner();
        news.message().await.unwrap().unwrap();
        let others: Vec<usize> = (0..size).filter(|other| *other != at).collect();
        if is_alone {
            others.iter().for_each(|other| cluster.kill(*other));
        }
        cluster.terminate(at);
        let ends = [
            finish(waits.0).await.map(|_| ()).unwrap_err(),
            finish(waits.1).await.map(|_| ()).unwrap_err(),
            tokio::time::timeout(WITHIN, news.message()).await.unwrap().unwrap_err(),
        ];
        for end in ends {
            let end = (end.code(), end.message());
            assert_eq!(end, (Code::Unavailable, "etcdserver: server stopped"), "{size}");
        }
        cluster.wait_exit(at, WITHIN).await.expect("the member ends");
        let log = cluster.log(at);
        assert!(!log.contains("have not taken their answers"), "{size} {is_alone}: {log}");
        if is_alone {
            continue;
        }
        if size == 1 {
            cluster.spawn(at);
            cluster.wait_ready(at).await;
        }
        let mut locks = Locks::of(&cluster, others.first().copied().unwrap_or(at));
        for name in ["l", "e"] {
            let queue = locks.queue(name).await.unwrap();
            let leases: Vec<i64> = queue.iter().map(|kv| kv.lease).collect();
            assert_eq!(leases, [1], "{name} of {size}");
        }
    }
}
