//! Elections, and their effect on the log.

use glass_etcd::{
    story::{Event, Recording, order::Order},
    trace::{Kind, Stage, message, value::LEADER},
};

use super::{
    Scene,
    told::{Told, place_of},
};

/// The numbers of the other roles.
const FOLLOWER: u64 = 0;
const CANDIDATE: u64 = 1;
const PRE_CANDIDATE: u64 = 3;

/// Elections, at most, until one in which a single member campaigned.
const ELECTIONS_MAX: usize = 4;

/// The records with their order, for queries about one period.
struct Heard {
    recording: Recording,
    order: Order,
    /// Events before this position belong to an earlier period.
    from: usize,
}

impl Heard {
    /// The steps of a member with these values, in playback order: rank and event.
    fn steps(&self, at: usize, stage: Stage, fields: &[(&str, u64)]) -> Vec<(usize, &Event)> {
        let member = place_of(&self.recording, at);
        let rows = self.order.rows.iter().enumerate();
        let rows = rows.filter(|(_, place)| self.from <= **place);
        rows.map(|(rank, place)| (rank, &self.recording.events[*place]))
            .filter(|(_, event)| {
                let has = |(name, value): &(&str, u64)| event.field(name) == Some(*value);
                (event.member, event.stage) == (member, stage)
                    && event.kind != Kind::Begin
                    && fields.iter().all(has)
            })
            .collect()
    }

    /// The rank of the first such step.
    fn first(&self, at: usize, stage: Stage, fields: &[(&str, u64)]) -> Result<usize, String> {
        let steps = self.steps(at, stage, fields);
        let text = || format!("m{at}: no {} with {fields:x?}", stage.name());
        steps.first().map(|(rank, _)| *rank).ok_or_else(text)
    }

    fn member_id(&self, at: usize) -> u64 {
        self.recording.members[usize::from(place_of(&self.recording, at))].member_id
    }
}

/// Goal: an election can be followed from the silence to the first commit of the new term. Method:
/// SIGKILL for the leader; then the records of the two others. The killed one comes back. If both
/// campaigned, the election is not the simple case, and is repeated.
pub(super) async fn a_dead_leader_is_replaced_step_by_step(scene: &mut Scene) {
    for _ in 0..ELECTIONS_MAX {
        if is_told_after_the_leaders_death(scene).await {
            return;
        }
    }
    panic!("both members campaigned in each of {ELECTIONS_MAX} elections");
}

async fn is_told_after_the_leaders_death(scene: &mut Scene) -> bool {
    let old = scene.cluster.leader().await;
    let from = scene.listener.recording().events.len();
    scene.cluster.kill(old);
    let others: Vec<usize> = (0..3).filter(|at| *at != old).collect();
    let steps = scene
        .listener
        .until("an election", |recording| {
            let order = Order::of(recording);
            let heard = Heard { recording: recording.clone(), order, from };
            let is_leader =
                |at: &&usize| heard.first(**at, Stage::RaftRole, &[("role.new", LEADER)]).is_ok();
            let new = *others.iter().find(is_leader).ok_or("there is no leader")?;
            let voter = others[usize::from(others[0] == new)];
            let campaigns =
                [new, voter].map(|at| heard.steps(at, Stage::ElectionCampaign, &[]).len());
            if campaigns == [2, 0] { election(&heard, new, voter).map(Some) } else { Ok(None) }
        })
        .await;
    for pair in steps.iter().flatten().flat_map(|chain| chain.windows(2)) {
        assert!(pair[0].1 < pair[1].1, "{:?} is played after {:?}", pair[0], pair[1]);
    }
    scene.cluster.spawn(old);
    scene.cluster.wait_ready(old).await;
    steps.is_some()
}

/// Steps with their ranks, in the required order.
type Chain = Vec<(&'static str, usize)>;

/// The election's steps, as chains.
fn election(heard: &Heard, new: usize, voter: usize) -> Result<Vec<Chain>, String> {
    let won = heard.steps(new, Stage::RaftRole, &[("role.new", LEADER)]);
    let term = won[0].1.field("term.new").unwrap_or(0);
    let candidate = heard.member_id(new);
    let mut candidacy = vec![
        ("timeout", heard.first(new, Stage::ElectionTimeout, &[("term", term - 1)])?),
        ("pre-campaign", heard.first(new, Stage::ElectionCampaign, &[("pre", 1)])?),
        ("pre-candidate", role(heard, new, FOLLOWER, PRE_CANDIDATE)?),
    ];
    candidacy.extend(vote(heard, [new, voter], term, true)?);
    let campaign = [("pre", 0), ("term.old", term - 1), ("term.new", term)];
    let own = [("term", term), ("vote", candidate)];
    candidacy.extend([
        ("campaign", heard.first(new, Stage::ElectionCampaign, &campaign)?),
        ("candidate", role(heard, new, PRE_CANDIDATE, CANDIDATE)?),
        ("own vote synced", heard.first(new, Stage::WalFsync, &own)?),
    ]);
    candidacy.extend(vote(heard, [new, voter], term, false)?);
    candidacy.push(("leader", role(heard, new, CANDIDATE, LEADER)?));
    let [first, followed] = [new, voter].map(|at| first_of_term(heard, at, term));
    let first = first?;
    candidacy.push(first[0]);
    let follows = [("role.new", FOLLOWER), ("leader.new", candidate), ("term.new", term)];
    heard.first(voter, Stage::RaftRole, &follows)?;
    Ok(vec![candidacy, first, followed?])
}

fn role(heard: &Heard, at: usize, old: u64, new: u64) -> Result<usize, String> {
    heard.first(at, Stage::RaftRole, &[("role.old", old), ("role.new", new)])
}

/// From the candidate's request to the counting of the answer.
fn vote(heard: &Heard, [new, voter]: [usize; 2], term: u64, is_pre: bool) -> Result<Chain, String> {
    let (ask, answer) = match is_pre {
        true => (message::PRE_VOTE, message::PRE_VOTE_RESP),
        false => (message::VOTE, message::VOTE_RESP),
    };
    let (candidate, elector) = (heard.member_id(new), heard.member_id(voter));
    let pre = u64::from(is_pre);
    let message = |at, stage, kind: u64, peer| {
        heard.first(at, stage, &[("type", kind), ("peer", peer), ("reject", 0)])
    };
    let vote = [("candidate", candidate), ("granted", 1), ("pre", pre), ("term", term)];
    let votes = heard.first(voter, Stage::ElectionVote, &vote)?;
    logs_are_named(heard.steps(voter, Stage::ElectionVote, &vote)[0].1)?;
    let mut chain = vec![
        ("asks", message(new, Stage::RaftSend, ask, elector)?),
        ("is asked", message(voter, Stage::RaftReceive, ask, candidate)?),
        ("votes", votes),
    ];
    if !is_pre {
        let given = [("term", term), ("vote", candidate)];
        chain.push(("vote synced", heard.first(voter, Stage::WalFsync, &given)?));
    }
    let tally = [("voter", elector), ("granted", 1), ("pre", pre), ("in_favour", 2)];
    chain.extend([
        ("answers", message(voter, Stage::RaftSend, answer, candidate)?),
        ("hears", message(new, Stage::RaftReceive, answer, elector)?),
        ("tally", heard.first(new, Stage::ElectionTally, &tally)?),
    ]);
    Ok(chain)
}

/// The term's first entry, which is empty, and the first commit that covers it. On a follower
/// either may come first: one message can bring both.
fn first_of_term(heard: &Heard, at: usize, term: u64) -> Result<Chain, String> {
    let entries = heard.steps(at, Stage::RaftEntry, &[("term", term), ("bytes", 0)]);
    let entry = entries.first().ok_or_else(|| format!("no empty entry on m{at}"))?;
    let commits = heard.steps(at, Stage::RaftCommit, &[("term", term)]);
    let commit = commits.first().ok_or_else(|| format!("no commit in the term on m{at}"))?;
    let (index, upto) = (entry.1.field("index"), commit.1.field("commit.new"));
    if upto < index {
        return Err(format!("m{at}: the term's first commit {upto:?} is below {index:?}"));
    }
    let is_leader = !heard.steps(at, Stage::RaftRole, &[("role.new", LEADER)]).is_empty();
    let mut chain = vec![("empty entry", entry.0)];
    chain.extend(is_leader.then_some(("its commit", commit.0)));
    Ok(chain)
}

/// A vote names the ends of both logs; they are equal, because nothing was written meanwhile.
fn logs_are_named(vote: &Event) -> Result<(), String> {
    let [theirs, own] = [["last_term", "last"], ["own_last_term", "own_last"]]
        .map(|names| names.map(|name| vote.field(name).unwrap_or(0)));
    if theirs == own && 0 < own[0] && 0 < own[1] { Ok(()) } else { Err(format!("{vote:?}")) }
}

/// Goal: an entry that no majority has can be lost, the trace shows how, and the entry that
/// replaced it is not mistaken for it. Method: the leader, alone, accepts one more put; then the
/// two others continue without it, and it comes back.
pub(super) async fn an_entry_that_was_never_committed_is_truncated(scene: &mut Scene) {
    let key = "traces/lost";
    let [leader, second, third] = scene.parts().await;
    scene.cluster.kill(second);
    scene.cluster.kill(third);
    let mut client = scene.cluster.client(leader);
    let put = tokio::spawn(async move { client.put(key, "v").await });
    let told = scene
        .listener
        .told(("KV/Put", key), |told| {
            let is_synced = told.on(leader, Stage::WalFsync).len() == 1;
            if is_synced { Ok(()) } else { Err("not on the leader's disk".to_owned()) }
        })
        .await;
    let index = told.story.entry.unwrap().1;
    scene.cluster.kill(leader);
    assert!(put.await.unwrap().is_err(), "acknowledged by one of three");
    scene.cluster.spawn(second);
    scene.cluster.spawn(third);
    scene.cluster.wait_ready(second).await;
    scene.cluster.client(second).put("traces/instead", "v").await.unwrap();
    scene.cluster.spawn(leader);
    scene.cluster.wait_ready(leader).await;
    let told = scene
        .listener
        .until("the lost entry is cut off", |recording| {
            let told = Told::of(recording, told.story.id).ok_or("no story")?;
            let member = place_of(recording, leader);
            let truncates = |event: &&Event| {
                (event.member, event.stage) == (member, Stage::LogTruncate)
                    && event.field("last.old") == Some(index)
                    && event.field("last.new") == Some(index - 1)
            };
            let cut = recording.events.iter().find(truncates);
            cut.map(|_| told).ok_or_else(|| "no log.truncate".to_owned())
        })
        .await;
    let of_put = ("KV/Put", "traces/instead");
    scene.listener.told(of_put, Told::is_complete).await.assert_no_strangers(&[]);
    let told = Told::of(&scene.listener.recording(), told.story.id).unwrap();
    told.assert_no_strangers(&[]);
    assert!(told.story.is_lost);
    let unknown: Vec<Stage> = told.story.missing.iter().map(|missing| missing.stage).collect();
    assert_eq!(vec![Stage::Rpc], unknown, "the end of the rpc alone was not captured");
    for stage in [Stage::RaftCommit, Stage::ApplyEntry, Stage::BackendCommit] {
        assert_eq!(0, told.on(leader, stage).len(), "{}", told.text());
    }
    for seen in told.steps() {
        let member = seen.event.member;
        assert_eq!(place_of(&told.recording, leader), member, "invented\n{}", told.text());
    }
}
