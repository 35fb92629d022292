//! Locks and elections: every answer of the services, and the real etcdctl.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use glass_etcd::pb::{
    etcdserverpb::{LeaseLeasesRequest, LeaseRevokeRequest},
    v3electionpb::{
        CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
    },
    v3lockpb::LockResponse,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tonic::Status;

use crate::{
    cluster::Cluster,
    locks::{Locks, WITHIN, finish, revision},
    programs::{self, Etcdctl, Kind, left_out},
};

/// What one cluster has answered, in order.
#[derive(Default)]
struct Said(Vec<String>);

impl Said {
    fn say<T: std::fmt::Debug>(&mut self, what: &str, answer: Result<T, Status>) {
        let answer = match answer {
            Ok(answer) => format!("{answer:?}"),
            Err(status) => format!("{:?} {}", status.code(), status.message()),
        };
        self.0.push(format!("{what}: {answer}"));
    }

    /// The keys below a name, without the values' owners.
    async fn queue(&mut self, what: &str, locks: &mut Locks, name: &str) {
        let queue = locks.queue(name).await;
        self.say(what, queue);
    }
}

/// Goal: every answer of Lock and Election is etcd's: keys, revisions, codes and texts. Method: the
/// same calls to a cluster of ours and to one of etcd 3.5.1, on each member, with leases whose ids
/// are given; what waits is seen to wait, by its key, before the next step.
#[tokio::test]
async fn locks_and_elections_are_answered_as_etcd_does() {
    let Some(reference) = programs::reference() else {
        return left_out("locks against etcd: no etcd 3.5.1");
    };
    let subject = Kind::subject();
    let (ours, theirs) = tokio::join!(Cluster::start(&subject, 3), Cluster::start(&reference, 3));
    for at in 0..3 {
        let (mine, etcds) = tokio::join!(answers(&ours, at), answers(&theirs, at));
        for (place, (mine, etcds)) in mine.iter().zip(&etcds).enumerate() {
            assert_eq!(mine, etcds, "m{at}, answer {place}");
        }
        assert_eq!(mine.len(), etcds.len(), "m{at}");
    }
}

async fn answers(cluster: &Cluster, at: usize) -> Vec<String> {
    let mut locks = Locks::of(cluster, at);
    let other = Locks::of(cluster, (at + 1) % 3);
    let base = 1000 * (at as i64 + 1);
    for lease in base..base + 20 {
        locks.grant(lease, 3600).await;
    }
    let mut said = Said::default();
    lock_alone(&mut said, &mut locks, at, base).await;
    lock_together(&mut said, &mut locks, &other, base + 3).await;
    election_errors(&mut said, &mut locks, base + 8).await;
    campaign_alone(&mut said, &mut locks, base + 10).await;
    campaign_together(&mut said, &mut locks, &other, base + 12).await;
    observe(&mut said, &mut locks, &other, base + 15).await;
    said.0
}

fn locked(response: LockResponse) -> (i64, bytes::Bytes) {
    (revision(&response.header), response.key)
}

async fn lock_alone(said: &mut Said, locks: &mut Locks, at: usize, base: i64) {
    let name = format!("alone{at}");
    for (what, name, lease) in [
        ("lock", name.as_str(), base),
        ("lock again", name.as_str(), base),
        ("lock with a lease that is not there", name.as_str(), 77),
        ("lock with a lease below zero", name.as_str(), -5),
        ("lock without a name", "", base + 1),
        ("lock with a slash", "a/b", base + 2),
    ] {
        said.say(what, locks.lock(name, lease).await.map(locked));
    }
    said.queue("held", locks, &name).await;
    let before = leases(locks).await;
    let own = locks.lock("nobody's", 0).await.unwrap();
    let (prefix, lease) = own.key.split_at("nobody's/".len());
    let lease = i64::from_str_radix(std::str::from_utf8(lease).unwrap(), 16).unwrap();
    said.say("lock without a lease", Ok((revision(&own.header), prefix, lease > 0)));
    said.say("leases more", Ok(leases(locks).await - before));
    let ttl = glass_etcd::pb::etcdserverpb::LeaseTimeToLiveRequest { id: lease, keys: true };
    let ttl = locks.client.lease.lease_time_to_live(ttl).await.unwrap().into_inner();
    said.say("its lease", Ok((ttl.granted_ttl, ttl.keys == [own.key.clone()])));
    said.say("unlock", locks.unlock(own.key).await);
    for key in ["", "none", "/x", &format!("alone{at}/{base:x}")] {
        said.say("unlock", locks.unlock(key.to_owned().into()).await);
    }
    said.say("unlock", locks.unlock(format!("/{:x}", base + 1).into()).await);
    said.say("unlock", locks.unlock(format!("a/b/{:x}", base + 2).into()).await);
}

async fn leases(locks: &mut Locks) -> usize {
    let leases = locks.client.lease.lease_leases(LeaseLeasesRequest {}).await.unwrap();
    leases.into_inner().leases.len()
}

/// Waiting, cancelling, leaving out of turn, and a lease that is lost while its call waits.
async fn lock_together(said: &mut Said, locks: &mut Locks, other: &Locks, base: i64) {
    let name = format!("together{base}");
    let first = locks.lock(&name, base).await.unwrap();
    said.say("first", Ok(locked(first.clone())));
    let second = other.lock_later(&name, base + 1);
    locks.wait_queue(&name, 2).await;
    let third = locks.lock_later(&name, base + 2);
    locks.wait_queue(&name, 3).await;
    let fourth = locks.lock_later(&name, base + 3);
    locks.wait_queue(&name, 4).await;
    let twice = other.lock_later(&name, base + 3);
    said.queue("all wait", locks, &name).await;
    third.abort();
    locks.wait_queue(&name, 3).await;
    said.queue("the third has gone", locks, &name).await;
    said.say("put", locks.client.put("between", "").await);
    said.say("unlock", locks.unlock(first.key).await);
    let second = finish(second).await;
    let key = second.as_ref().unwrap().key.clone();
    said.say("second", second.map(locked));
    assert!(!fourth.is_finished(), "the second has the lock");
    said.say("unlock", locks.unlock(key).await);
    let fourth = finish(fourth).await;
    let key = fourth.as_ref().unwrap().key.clone();
    said.say("fourth", fourth.map(locked));
    said.say("the same lease again", finish(twice).await.map(locked));
    let lost = other.lock_later(&name, base + 4);
    locks.wait_queue(&name, 2).await;
    let revoke = LeaseRevokeRequest { id: base + 4 };
    let revoked = locks.client.lease.lease_revoke(revoke).await;
    said.say("revoke", revoked.map(|r| revision(&r.get_ref().header)));
    assert!(!lost.is_finished(), "it finds out when it is its turn");
    said.say("unlock", locks.unlock(key).await);
    said.say("lost", finish(lost).await.map(locked));
    said.queue("nobody", locks, &name).await;
}

fn led(response: LeaderResponse) -> (i64, Option<glass_etcd::pb::mvccpb::KeyValue>) {
    (revision(&response.header), response.kv)
}

fn won(response: CampaignResponse) -> (i64, Option<LeaderKey>) {
    (revision(&response.header), response.leader)
}

impl Locks {
    async fn leader(&mut self, name: &str) -> Result<LeaderResponse, Status> {
        let request = LeaderRequest { name: name.to_owned().into() };
        Ok(self.election.leader(request).await?.into_inner())
    }

    async fn proclaim(&mut self, leader: Option<LeaderKey>, value: &str) -> Result<i64, Status> {
        let request = ProclaimRequest { leader, value: value.to_owned().into() };
        Ok(revision(&self.election.proclaim(request).await?.into_inner().header))
    }

    async fn resign(&mut self, leader: Option<LeaderKey>) -> Result<i64, Status> {
        let response = self.election.resign(ResignRequest { leader }).await?.into_inner();
        Ok(revision(&response.header))
    }
}

async fn election_errors(said: &mut Said, locks: &mut Locks, lease: i64) {
    said.say("leader", locks.leader("none").await.map(led));
    said.say("leader of nothing", locks.leader("").await.map(led));
    said.say("proclaim", locks.proclaim(None, "x").await);
    said.say("resign", locks.resign(None).await);
    let before = leases(locks).await;
    let key = |name: &str, key: &str, rev, lease| {
        let (name, key) = (name.to_owned().into(), key.to_owned().into());
        Some(LeaderKey { name, key, rev, lease })
    };
    for leader in [
        Some(LeaderKey::default()),
        key("n", "", 1, lease),
        key("n", "n/none", 1, lease),
        key("n", "n/none", 1, 77),
        key("", "n/none", 7, 0),
        key("n", "n/none", 0, 77),
        key("n", "n/new", 0, lease),
        key("n", "n/new", 0, lease),
    ] {
        said.say("proclaim", locks.proclaim(leader.clone(), "x").await);
        said.say("resign", locks.resign(leader).await);
    }
    said.say("leases more", Ok(leases(locks).await - before));
    said.say(
        "campaign with a lease that is not there",
        locks.campaign("n", 77, "x").await.map(won),
    );
    let large = "x".repeat(1_600_000);
    said.say("campaign with too much", locks.campaign("n", lease, &large).await.map(won));
    said.queue("nobody", locks, "n").await;
    said.queue("nobody", locks, "").await;
}

async fn campaign_alone(said: &mut Said, locks: &mut Locks, lease: i64) {
    let name = format!("alone{lease}");
    let first = locks.campaign(&name, lease, "one").await.unwrap();
    let leader = first.leader.clone();
    said.say("campaign", Ok(won(first)));
    said.say("leader", locks.leader(&name).await.map(led));
    said.say("the same again", locks.campaign(&name, lease, "one").await.map(won));
    said.say("another value", locks.campaign(&name, lease, "two").await.map(won));
    said.say("leader", locks.leader(&name).await.map(led));
    said.say("proclaim", locks.proclaim(leader.clone(), "three").await);
    said.say("leader", locks.leader(&name).await.map(led));
    let with = |change: fn(&mut LeaderKey)| {
        let mut leader = leader.clone().unwrap();
        change(&mut leader);
        Some(leader)
    };
    let wrong_rev = with(|leader| leader.rev -= 1);
    said.say("proclaim, wrong revision", locks.proclaim(wrong_rev.clone(), "x").await);
    said.say("resign, wrong revision", locks.resign(wrong_rev).await);
    said.say("proclaim, no such lease", locks.proclaim(with(|l| l.lease = 77), "x").await);
    said.say("proclaim, another lease", locks.proclaim(with(|l| l.lease += 1), "four").await);
    said.say("proclaim, another name", locks.proclaim(with(|l| l.name = "y".into()), "5").await);
    said.say("leader", locks.leader(&name).await.map(led));
    said.say("resign", locks.resign(leader.clone()).await);
    said.say("resign again", locks.resign(leader.clone()).await);
    said.say("proclaim after it", locks.proclaim(leader, "x").await);
    said.say("leader", locks.leader(&name).await.map(led));
    let own = locks.campaign(&name, 0, "own").await.unwrap();
    let leader = own.leader.unwrap();
    let is_consistent = leader.key == format!("{name}/{:x}", leader.lease);
    said.say("without a lease", Ok((revision(&own.header), leader.rev, is_consistent)));
    said.say("resign", locks.resign(Some(leader)).await);
}

async fn campaign_together(said: &mut Said, locks: &mut Locks, other: &Locks, base: i64) {
    let name = format!("together{base}");
    let first = locks.campaign(&name, base, "a").await.unwrap();
    let second = other.campaign_later(&name, base + 1, "b");
    locks.wait_queue(&name, 2).await;
    let third = other.campaign_later(&name, base + 2, "c");
    locks.wait_queue(&name, 3).await;
    let again = locks.campaign_later(&name, base + 2, "cc");
    crate::client::eventually("the third says something new", WITHIN, || {
        let (mut locks, name) = (locks.clone(), name.clone());
        async move {
            let queue = locks.queue(&name).await.map_err(|status| status.to_string())?;
            if queue[2].value == "cc" { Ok(()) } else { Err(format!("{queue:?}")) }
        }
    })
    .await;
    said.queue("all stand", locks, &name).await;
    again.abort();
    locks.wait_queue(&name, 2).await;
    said.queue("the third took its key along", locks, &name).await;
    third.abort();
    said.say("put", locks.client.put("between", "").await);
    said.say("resign", locks.resign(first.leader).await);
    let second = finish(second).await;
    let leader = second.as_ref().unwrap().leader.clone();
    said.say("second", second.map(won));
    said.say("leader", locks.leader(&name).await.map(led));
    said.say("resign", locks.resign(leader).await);
    said.queue("nobody", locks, &name).await;
}

/// From before there is a leader, over a change of it, to one without a successor and the next.
async fn observe(said: &mut Said, locks: &mut Locks, other: &Locks, base: i64) {
    let name = format!("observed{base}");
    let request = LeaderRequest { name: name.clone().into() };
    // etcd sends no header before it has something to say.
    let observing = tokio::spawn({
        let mut other = other.clone();
        let request = request.clone();
        async move { other.election.observe(request).await.unwrap().into_inner() }
    });
    let first = locks.campaign(&name, base, "a").await.unwrap();
    let mut news = finish(observing).await;
    let mut next = async |said: &mut Said, what: &str| {
        let answer = tokio::time::timeout(WITHIN, news.message()).await;
        said.say(what, answer.expect("an answer").map(|answer| answer.map(led)));
    };
    next(said, "the first leader").await;
    said.say("proclaim", locks.proclaim(first.leader.clone(), "aa").await);
    next(said, "what it proclaims").await;
    let second = locks.campaign_later(&name, base + 1, "b");
    locks.wait_queue(&name, 2).await;
    let mut late = locks.election.observe(request.clone()).await.unwrap().into_inner();
    said.say("an observer that comes late", late.message().await.map(|answer| answer.map(led)));
    said.say("resign", locks.resign(first.leader).await);
    next(said, "the second leader").await;
    let leader = finish(second).await.unwrap().leader;
    said.say("resign", locks.resign(leader).await);
    said.say("put", locks.client.put("between", "").await);
    let third = locks.campaign(&name, base + 2, "c").await.unwrap();
    next(said, "the third leader").await;
    drop(late);
    said.say("resign", locks.resign(third.leader).await);
}

/// Goal: a member that has lost the others says about locks what etcd's says. Method: two of three
/// are killed; all calls at once at the third, for each waits as long as a request may.
#[tokio::test]
async fn without_a_leader_the_answers_are_etcds_too() {
    let Some(reference) = programs::reference() else {
        return left_out("locks without a leader against etcd: no etcd 3.5.1");
    };
    let subject = Kind::subject();
    let (mut ours, mut theirs) =
        tokio::join!(Cluster::start(&subject, 3), Cluster::start(&reference, 3));
    let (mine, etcds) = tokio::join!(answers_alone(&mut ours), answers_alone(&mut theirs));
    // A write that waits for a leader in vain gets the text of a deadline inside etcd, as a put
    // does; ours says to both that the request timed out.
    let timed_out =
        |said: &str| said.replace("context deadline exceeded", "etcdserver: request timed out");
    let [mine_said, etcds_said] =
        [&mine.0, &etcds.0].map(|said| said.iter().map(|said| timed_out(said)).collect::<Vec<_>>());
    assert_eq!(mine_said, etcds_said);
    if subject == Kind::Glass {
        // 3.5.1 ends this stream as cancelled; later ones say why.
        assert_eq!(mine.1, "Unavailable etcdserver: no leader");
    }
}

async fn answers_alone(cluster: &mut Cluster) -> (Vec<String>, String) {
    let mut locks = Locks::of(cluster, 2);
    locks.grant(1, 600).await;
    let leader = locks.campaign("e", 1, "one").await.unwrap().leader;
    cluster.kill(0);
    cluster.kill(1);
    crate::client::eventually("no leader", WITHIN, || {
        let mut client = cluster.client(2);
        async move {
            let leader = client.status().await.map_err(|status| status.to_string())?.leader;
            if leader == 0 { Ok(()) } else { Err(format!("{leader:x}")) }
        }
    })
    .await;
    let [mut a, mut b, mut c, mut d, mut e, mut f] = std::array::from_fn(|_| locks.clone());
    let show =
        |what: &str, status: Status| format!("{what}: {:?} {}", status.code(), status.message());
    let needs_leader = |name: &str| {
        let mut request = tonic::Request::new(LeaderRequest { name: name.to_owned().into() });
        request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        request
    };
    let observe = async {
        let mut news =
            locks.election.observe(LeaderRequest { name: "e".into() }).await?.into_inner();
        news.message().await.map(|answer| answer.map(led))
    };
    let said = tokio::join!(
        async { show("lock", a.lock("l", 1).await.unwrap_err()) },
        async { show("lock without a lease", b.lock("l", 0).await.unwrap_err()) },
        async { show("unlock", c.unlock("l/1".into()).await.unwrap_err()) },
        async { show("leader", d.leader("e").await.unwrap_err()) },
        async { show("proclaim", e.proclaim(leader, "two").await.unwrap_err()) },
        async {
            format!("{:?}", f.election.leader(needs_leader("e")).await.unwrap_err().message())
        },
        async { format!("observe: {:?}", observe.await.map_err(|status| status.code())) },
    );
    // A leader is missed for a while before the stream ends.
    let status = match locks.election.observe(needs_leader("none")).await {
        Ok(news) => news.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    let (a, b, c, d, e, f, g) = said;
    (vec![a, b, c, d, e, f, g], format!("{:?} {}", status.code(), status.message()))
}

/// Goal: `etcdctl lock` and `etcdctl elect` work as people know them, exit codes included. Method:
/// the same on a cluster of ours and on one of etcd 3.5.1, each command at a follower.
#[tokio::test]
async fn etcdctl_locks_and_elects_as_with_etcd() {
    let Some(reference) = programs::reference() else {
        return left_out("etcdctl lock and elect: no etcd 3.5.1");
    };
    let subject = Kind::subject();
    let (ours, theirs) = tokio::join!(Cluster::start(&subject, 3), Cluster::start(&reference, 3));
    let dir = tempfile::tempdir().unwrap();
    let command = dir.path().join("command");
    fs::write(&command, "#!/bin/sh\necho \"$ETCD_LOCK_KEY\" $ETCD_LOCK_REV $1\nexit $1\n").unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    let followers = [(ours.leader().await + 1) % 3, (theirs.leader().await + 1) % 3];
    for tool in programs::etcdctls() {
        let outputs = thread::scope(|scope| {
            let (tool, command) = (&tool, &command);
            let run = |cluster, at| scope.spawn(move || sessions(tool, cluster, at, command));
            let running = [run(&ours, followers[0]), run(&theirs, followers[1])];
            running.map(|running| running.join().unwrap())
        });
        assert_eq!(outputs[0], outputs[1], "etcdctl {}", tool.version);
    }
}

/// A command that goes on until it is interrupted, and the lines that it prints.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(tool: &Etcdctl, cluster: &Cluster, at: usize, words: &[&str]) -> Running {
        let mut child = Command::new(&tool.path)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &cluster.members[at].client_address()])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Running { child, lines }
    }

    fn line(&self) -> String {
        without_lease(&self.lines.recv_timeout(WITHIN).expect("a line in time"))
    }

    /// What it prints when it has a lock or sees a leader. Both lines are waited for before
    /// anything happens to it: whether one that is killed between them has printed the second is
    /// chance.
    fn key_and_value(&self) -> [String; 2] {
        [self.line(), self.line()]
    }

    /// Ctrl-C.
    fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// Its exit code, what it still printed, and its complaints.
    fn end(mut self) -> String {
        let mut complaints = String::new();
        let mut pipe = self.child.stderr.take().expect("it is piped");
        pipe.read_to_string(&mut complaints).unwrap();
        let code = self.child.wait().unwrap().code();
        let rest: Vec<String> = self.lines.iter().map(|line| without_lease(&line)).collect();
        // Its own log: whether it was interrupted in the middle of a call is chance.
        let said: Vec<&str> = complaints.lines().filter(|line| !line.starts_with('{')).collect();
        format!("{code:?} {rest:?} {said:?}")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A key of a queue, with `LEASE` in place of the id that the tool was given.
fn without_lease(line: &str) -> String {
    let Some((name, rest)) = line.split_once('/') else { return line.to_owned() };
    let id = rest.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    format!("{name}/LEASE{id}")
}

fn sessions(tool: &Etcdctl, cluster: &Cluster, at: usize, command: &Path) -> Vec<String> {
    let (p, command) = (&tool.version, command.to_str().unwrap());
    let start = |words: &[&str]| Running::start(tool, cluster, at, words);
    let lock = format!("{p}-lock");
    let mut said: Vec<String> =
        ["0", "7"].map(|code| start(&["lock", &lock, command, code]).end()).into();
    said.push(start(&["lock"]).end());
    said.push(start(&["lock", &lock, "no-such-command"]).end());
    said.push(start(&["lock", &lock, "sh", "-c", "kill -9 $$"]).end());
    let formats = ["json", "fields", "table"];
    said.extend(formats.map(|format| start(&["lock", &lock, "-w", format, command, "0"]).end()));
    let first = start(&["lock", &lock, "--ttl", "20"]);
    said.extend(first.key_and_value());
    let second = Running::start(tool, cluster, (at + 1) % 3, &["lock", &lock]);
    let third = start(&["lock", &lock, command, "3"]);
    first.interrupt();
    said.push(first.end());
    // Which of the two had come first is theirs; both get it.
    said.extend(second.key_and_value());
    second.interrupt();
    said.push(second.end());
    let third = third.end();
    said.push(third.split(' ').next().unwrap().to_owned());

    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let first = start(&["lock", &lock, "--ttl", "5"]);
        said.extend(first.key_and_value());
        let second = start(&["lock", &lock]);
        first.signal(signal);
        said.push(first.end());
        // It is told to let go, or its lease goes.
        said.extend(second.key_and_value());
        second.interrupt();
        said.push(second.end());
    }
    said.extend(["json", "fields"].map(|format| {
        let first = start(&["elect", &format!("{p}-{format}"), "one", "-w", format]);
        first.line();
        first.interrupt();
        let rest = first.end();
        format!("{} {}", rest.contains("CreateRevision"), rest.split(' ').next().unwrap())
    }));

    let race = format!("{p}-race");
    let first = start(&["elect", &race, "one"]);
    said.extend(first.key_and_value());
    let observer = start(&["elect", "-l", &race]);
    said.extend(observer.key_and_value());
    let second = Running::start(tool, cluster, (at + 1) % 3, &["elect", &race, "two"]);
    first.interrupt();
    said.push(first.end());
    said.extend([second.key_and_value(), observer.key_and_value()].concat());
    second.interrupt();
    said.push(second.end());
    observer.interrupt();
    said.push(observer.end());
    said.push(start(&["elect", &race]).end());
    said
}
