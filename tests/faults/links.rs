//! Links between members that are cut on request of `glass up`, and healed.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use glass_etcd::{
    field, fields,
    story::{Event, Recording},
    trace::Stage,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::timeout;

use crate::{
    client::eventually,
    cluster::{Cluster, READY_WITHIN},
    programs::{Kind, left_out},
    traces::listen::Listener,
};

const GLASS: &str = env!("CARGO_BIN_EXE_glass");
/// How long a read that cannot be confirmed is waited for. It waits longer.
const NO_ANSWER: Duration = Duration::from_secs(2);

/// Three members that a `glass up` runs, and their records.
pub(crate) struct Scene {
    up: Child,
    pub(crate) cluster: Cluster,
    pub(crate) listener: Listener,
}

impl Scene {
    pub(crate) async fn start() -> Option<Scene> {
        if Kind::subject() != Kind::Glass {
            left_out("links that are cut: etcd's members cannot be asked");
            return None;
        }
        let cluster = Cluster::prepare(&Kind::Glass, 3);
        fs::write(cluster.dir().join("Procfile"), cluster.procfile()).unwrap();
        let mut up = Command::new(GLASS);
        up.args(["up", "--no-tui"]).current_dir(cluster.dir());
        let up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        for at in 0..3 {
            cluster.wait_ready(at).await;
        }
        let listener = Listener::start(&cluster).await;
        Some(Scene { up, cluster, listener })
    }

    /// `glass run`, which must succeed. Returns what it prints.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        run(self.cluster.dir(), args).unwrap()
    }

    /// The addresses for clients, as `--endpoints` takes them.
    pub(super) fn endpoints(&self) -> String {
        let members = self.cluster.members.iter();
        members.map(|member| member.client_address()).collect::<Vec<_>>().join(",")
    }

    /// The term and the leader of a member, as it says itself.
    async fn led(&self, at: usize) -> Result<(u64, u64), String> {
        let status = self.cluster.client(at).status().await.map_err(|status| status.to_string())?;
        Ok((status.raft_term, status.leader))
    }

    async fn id(&self, at: usize) -> u64 {
        self.cluster.client(at).status().await.unwrap().header.unwrap().member_id
    }

    /// The position and the term of the leader that all three follow.
    pub(crate) async fn leader(&self) -> (usize, u64) {
        eventually("one leader", READY_WITHIN, || async {
            let all = [self.led(0).await?, self.led(1).await?, self.led(2).await?];
            let (term, leader) = all[0];
            if all.iter().any(|led| *led != all[0]) || leader == 0 {
                return Err(format!("{all:x?}"));
            }
            for at in 0..3 {
                if self.id(at).await == leader {
                    return Ok((at, term));
                }
            }
            Err("it is none of them".to_owned())
        })
        .await
    }

    /// The value of the key, by a serializable or a linearizable read.
    async fn value(&self, at: usize, serializable: bool) -> Result<String, String> {
        let mut client = self.cluster.client(at);
        let answer = timeout(NO_ANSWER, client.everything(serializable)).await;
        let answer = answer.map_err(|_| "no answer")?.map_err(|status| status.to_string())?;
        let value = answer.kvs.first().map_or(&[][..], |pair| &pair.value);
        Ok(String::from_utf8_lossy(value).into_owned())
    }

    async fn until_value(&self, at: usize, value: &str) {
        eventually(&format!("m{at} has {value}"), READY_WITHIN, || async {
            let found = self.value(at, false).await?;
            if found == value { Ok(()) } else { Err(found) }
        })
        .await;
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let pid = i32::try_from(self.up.id()).expect("process ids fit");
        // Its members end with it, however it ends.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.up.wait();
    }
}

fn run(dir: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new(GLASS).arg("run").args(args).current_dir(dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The changes of links that a member has recorded: the other end, and whether it is cut.
fn changes(recording: &Recording, member: u64) -> Vec<(u64, bool)> {
    let change =
        |event: &Event| (field!(event, RaftLink, peer), field!(event, RaftLink, cut_new) != 0);
    of(recording, member, Stage::RaftLink).map(change).collect()
}

fn of(recording: &Recording, member: u64, stage: Stage) -> impl Iterator<Item = &Event> {
    let place = recording.members.iter().position(|known| known.member_id == member);
    let events = recording.events.iter();
    events.filter(move |event| event.stage == stage && Some(usize::from(event.member)) == place)
}

/// Goal: a leader that is cut off from both others steps down; the others elect one and write on;
/// it answers serializable reads with what it has and no linearizable ones, also after a restart;
/// healed, it catches up. Each change and each message that is dropped leaves a record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_steps_down_and_catches_up_when_it_is_healed() {
    let Some(scene) = Scene::start().await else { return };
    let (leader, term) = scene.leader().await;
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    let name = format!("m{leader}");
    scene.cluster.client(leader).put("k", "old").await.unwrap();
    scene.until_value(others[0], "old").await;
    let ids = [scene.id(leader).await, scene.id(others[0]).await, scene.id(others[1]).await];
    let said = scene.run(&["cut", &name]);
    assert_eq!(said.matches("is cut").count(), 2, "{said}");
    eventually("another leader", READY_WITHIN, || async {
        match scene.led(others[0]).await? {
            (now, led) if term < now && led != 0 && led != ids[0] => Ok(()),
            led => Err(format!("{led:x?}")),
        }
    })
    .await;
    eventually("it steps down", READY_WITHIN, || async {
        match scene.led(leader).await? {
            (_, 0) => Ok(()),
            led => Err(format!("{led:x?}")),
        }
    })
    .await;
    eventually("a write", READY_WITHIN, || async {
        let mut client = scene.cluster.client(others[0]);
        client.put("k", "new").await.map_err(|status| status.to_string())
    })
    .await;
    scene.until_value(others[1], "new").await;
    assert_eq!(scene.value(leader, true).await.as_deref(), Ok("old"), "it does not know better");
    scene.value(leader, false).await.expect_err("nobody confirms it");
    let status = scene.run(&["status"]);
    assert_eq!(status.matches("running").count(), 3, "{status}");
    assert_eq!(status.matches("is cut").count(), 2, "{status}");
    let cut = [(ids[1], true), (ids[2], true)];
    scene.listener.until("the cuts", |recording| told(recording, ids, &cut)).await;
    scene.run(&["restart", &name]);
    let again = |recording: &Recording| match changes(recording, ids[0]).len() {
        4 => Ok(()),
        count => Err(format!("{count} changes")),
    };
    scene.listener.until("the cuts of the new start", again).await;
    let healed = scene.run(&["heal"]);
    assert!(!healed.contains("is cut"), "{healed}");
    scene.until_value(leader, "new").await;
    let end = |recording: &Recording| {
        let last = ids.map(|id| changes(recording, id).last().is_some_and(|(_, is_cut)| *is_cut));
        if last == [false; 3] { Ok(()) } else { Err(format!("{last:?}")) }
    };
    scene.listener.until("the heals", end).await;
}

/// Checks what was recorded of the links of the first member to the two others.
fn told(recording: &Recording, ids: [u64; 3], cut: &[(u64, bool)]) -> Result<(), String> {
    let mut own = changes(recording, ids[0]);
    own.sort_unstable();
    let mut expected = cut.to_vec();
    expected.sort_unstable();
    if own != expected {
        return Err(format!("{own:x?}"));
    }
    for id in [ids[1], ids[2]] {
        if changes(recording, id) != [(ids[0], true)] {
            return Err(format!("{id:x}: {:x?}", changes(recording, id)));
        }
    }
    let dropped = |from: u64, to: u64| {
        let at_cut = of(recording, from, Stage::RaftDrop).filter(move |event| {
            let [peer, is_cut] = fields!(event, RaftDrop: peer, cut);
            (peer, is_cut) == (to, 1)
        });
        at_cut.map(|event| field!(event, RaftDrop, messages)).sum::<u64>()
    };
    for (from, to) in [(0, 1), (0, 2)] {
        if dropped(ids[from], ids[to]) == 0 {
            return Err(format!("nothing from {from} to {to} was dropped"));
        }
    }
    assert_eq!((dropped(ids[1], ids[2]), dropped(ids[2], ids[1])), (0, 0), "that link is whole");
    Ok(())
}

/// Goal: a follower that cannot reach the leader disturbs nobody: the leader keeps its quorum and
/// its term. Method: one link is cut; the follower's other link does not help it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_its_link_to_the_leader_is_left_behind_and_disturbs_nobody() {
    let Some(scene) = Scene::start().await else { return };
    let (leader, term) = scene.leader().await;
    let [behind, other] = [1, 2].map(|more| (leader + more) % 3);
    let [one, two] = [leader, behind].map(|at| format!("m{at}"));
    scene.cluster.client(leader).put("k", "old").await.unwrap();
    scene.until_value(behind, "old").await;
    let said = scene.run(&["cut", &one, &two]);
    assert_eq!(said.matches("is cut").count(), 1, "{said}");
    eventually("it misses the leader", READY_WITHIN, || async {
        match scene.led(behind).await? {
            (_, 0) => Ok(()),
            led => Err(format!("{led:x?}")),
        }
    })
    .await;
    scene.cluster.client(other).put("k", "new").await.unwrap();
    assert_eq!(scene.value(behind, true).await.as_deref(), Ok("old"));
    scene.value(behind, false).await.expect_err("it has no leader to ask");
    let id = scene.id(leader).await;
    assert_eq!(scene.led(other).await, Ok((term, id)), "no election");
    scene.run(&["heal", &one, &two]);
    scene.until_value(behind, "new").await;
    assert_eq!(scene.leader().await, (leader, term), "the same leader in the same term");
}

/// Goal: a request that makes no sense changes nothing and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_needs_two_members_that_exist() {
    let Some(scene) = Scene::start().await else { return };
    let refused = |args: &[&str], why: &str| {
        let error = run(scene.cluster.dir(), args).unwrap_err();
        assert!(error.contains(why), "{args:?}: {error}");
    };
    refused(&["cut"], "which link?");
    refused(&["cut", "m0", "m0"], "two different ends");
    refused(&["cut", "m0", "m7"], "no member m7; there are m0, m1, m2");
    refused(&["stop", "m0", "m1"], "only cut and heal take two names");
    assert!(!scene.run(&["status"]).contains("is cut"));
}
