//! Performs a scenario on a cluster of its own, and records it.
//!
//! ```text
//!   Scenario ─▶ acts, one after the other ─▶ Cluster, Client
//!                  ▲                             │
//!                  │ roles, indexes, answers     ▼
//!                  └──────── records ◀─────── members
//! ```
//!
//! Who leads, and how far each member is, is read from the records that the recording gets anyway.
//! So no request is sent but those of the scenario, and the recording has nothing else in it.
//!
//! Invariants: an act that does not come to its end within [`ACT_TIME`] fails, and so does a
//! scenario that takes longer than [`WHOLE_TIME`]; a signal to end fails it at once. A request that
//! fails although no line expects that ends the scenario.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use glass_etcd::{
    clock, field,
    pb::glasspb::ObserveRequest,
    story::{MemberInfo, Recording, order::wall_ns},
    trace::{Stage, value::LEADER},
};

use super::{
    cluster::Cluster,
    labels,
    links::Links,
    scenario::{Act, Deed, Scenario, Until, Who, Wrong, member_name},
};
use crate::{
    client::Client,
    source::Live,
    state::{
        console::{Answer, Errand, change::Aim, request::Request},
        watermarks::{Water, Watermarks},
    },
    up::{Signals, api::Action},
};

/// How long one act may take.
const ACT_TIME: Duration = Duration::from_secs(20);
/// How long all of them may take together.
const WHOLE_TIME: Duration = Duration::from_secs(90);
/// How old the records may be that an act is judged by.
const LAG: Duration = Duration::from_millis(400);
/// How long the last records are waited for: a commit of the file may still follow.
const SETTLE: Duration = Duration::from_millis(800);
/// How often to look whether an act has come to its end.
const CHECK_EVERY: Duration = Duration::from_millis(20);
/// Whole traces per second that are asked for: more than a scenario sends.
const TRACES_PER_SECOND: u32 = 1000;

/// What came of a scenario.
#[derive(Debug)]
pub(crate) struct Performed {
    /// Everything from the start of the members on.
    pub(crate) recording: Recording,
    /// What there was before the first act.
    pub(crate) before: Recording,
}

/// What came of a request so far.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Came {
    Nothing,
    /// A stream has begun.
    Part,
    Ok,
    Error(String),
}

/// A request that was sent.
#[derive(Debug)]
struct Sent {
    label: String,
    line: usize,
    came: Came,
}

/// The members of the three roles.
#[derive(Debug, Default)]
struct Roles {
    leader: String,
    others: Vec<String>,
}

/// A scenario under way.
struct Performance<'a> {
    scenario: &'a Scenario,
    cluster: Cluster,
    live: Live,
    client: Client,
    /// The watermarks of each member, by its name, and how many events they are from.
    marks: BTreeMap<String, Watermarks>,
    links: Links,
    learned: usize,
    roles: Roles,
    running: BTreeSet<String>,
    cut: BTreeSet<[String; 2]>,
    sent: Vec<Sent>,
    ends: Instant,
    signals: Signals,
}

/// Performs all acts. Must be called inside a runtime.
pub(crate) async fn perform(scenario: &Scenario) -> Result<Performed, Wrong> {
    let wrong = |line, why| Wrong { file: scenario.file.clone(), line, why };
    let mut performance =
        Performance::begin(scenario).map_err(|error| wrong(1, error.to_string()))?;
    performance.ready().await.map_err(|why| wrong(1, why))?;
    let before = performance.live.recording().clone();
    for act in &scenario.acts {
        performance.act(act).await.map_err(|why| wrong(act.line, why))?;
    }
    let recording = performance.finish().await?;
    Ok(Performed { recording, before })
}

impl<'a> Performance<'a> {
    fn begin(scenario: &'a Scenario) -> std::io::Result<Performance<'a>> {
        // Before the members: a signal that ends them must be heard here too.
        let signals = Signals::new()?;
        let cluster = Cluster::start(scenario)?;
        let request = ObserveRequest {
            history: true,
            traces_per_second: TRACES_PER_SECOND,
            ..ObserveRequest::default()
        };
        let live = Live::connect(&cluster.endpoints, &request);
        Ok(Performance {
            scenario,
            cluster,
            live,
            client: Client::new(),
            marks: BTreeMap::new(),
            links: Links::default(),
            learned: 0,
            roles: Roles::default(),
            running: (1..=scenario.members).map(member_name).collect(),
            cut: BTreeSet::new(),
            sent: Vec::new(),
            ends: clock::now() + WHOLE_TIME,
            signals,
        })
    }

    /// Waits until the cluster stands still.
    async fn ready(&mut self) -> Result<(), String> {
        for until in [Until::Leader, Until::Applied, Until::Stored] {
            self.wait(&until).await?;
        }
        Ok(())
    }

    async fn act(&mut self, act: &Act) -> Result<(), String> {
        match &act.deed {
            Deed::Send { label, to, request, is_awaited } => {
                let name = self.name(to)?;
                let number = self.sent.len() as u64;
                let endpoint = self.endpoint(&name)?;
                self.sent.push(Sent { label: label.clone(), line: act.line, came: Came::Nothing });
                let context = labels::context(label, number + 1);
                let request = self.with_member(request.clone())?;
                self.client.run(Errand::Send { number, endpoint, request, context });
                match is_awaited {
                    true => self.wait(&Until::Answer(label.clone())).await,
                    false => Ok(()),
                }
            }
            Deed::Wait(until) => self.wait(until).await,
            Deed::Expect(label, error) => {
                self.wait(&Until::Answer(label.clone())).await?;
                match (self.came(label), error) {
                    (Came::Error(text), Some(part)) if text.contains(part.as_str()) => Ok(()),
                    (Came::Error(text), _) => Err(format!("{label} failed: {text}")),
                    (_, Some(part)) => Err(format!("{label} did not fail with {part:?}")),
                    (_, None) => Ok(()),
                }
            }
            Deed::Act(action, who) => {
                let name = self.name(who)?;
                self.cluster.act(*action, name.clone(), None).await?;
                self.note(*action, name);
                Ok(())
            }
            Deed::Link(action, a, b) => {
                let mut ends = [self.name(a)?, self.name(b)?];
                let [name, peer] = ends.clone();
                self.cluster.act(*action, name, Some(peer)).await?;
                ends.sort();
                match action {
                    Action::Cut => _ = self.cut.insert(ends.clone()),
                    _ => _ = self.cut.remove(&ends),
                }
                // A member does it when it has read the line that says so.
                let is_cut = *action == Action::Cut;
                self.until(|performance| performance.has_link(&ends, is_cut)).await
            }
        }
    }

    /// Notes what was done to a process. What it said before its end says nothing of its next
    /// start.
    fn note(&mut self, action: Action, name: String) {
        match action {
            Action::Start => {
                self.marks.remove(&name);
                self.running.insert(name);
            }
            Action::Resume => _ = self.running.insert(name),
            _ => _ = self.running.remove(&name),
        }
    }

    async fn wait(&mut self, until: &Until) -> Result<(), String> {
        match until {
            Until::Slept(time) => {
                let ends = clock::now() + *time;
                self.until(|_| ends <= clock::now()).await
            }
            Until::Answer(label) => {
                self.until(|performance| performance.came(label) != Came::Nothing).await?;
                match self.came(label) {
                    Came::Error(text) if !self.scenario.expects(label) => {
                        Err(format!("{label} failed: {text}"))
                    }
                    _ => Ok(()),
                }
            }
            Until::Leader => {
                self.until_heard(|performance| performance.leader().is_some()).await?;
                self.roles = self.leader().map(|leader| self.roles_of(leader)).unwrap_or_default();
                Ok(())
            }
            Until::Applied => self.until_heard(Performance::has_applied).await,
            Until::Stored => self.until_heard(Performance::has_stored).await,
        }
    }

    /// Waits until this holds by records that are newer than the act.
    async fn until_heard(
        &mut self,
        is_done: impl Fn(&Performance<'a>) -> bool,
    ) -> Result<(), String> {
        let heard = clock::now() + LAG;
        self.until(|performance| heard <= clock::now() && is_done(performance)).await
    }

    async fn until(&mut self, is_done: impl Fn(&Performance<'a>) -> bool) -> Result<(), String> {
        let late = (clock::now() + ACT_TIME).min(self.ends);
        while !is_done(self) {
            if late <= clock::now() {
                return Err("this did not come to its end in time".to_owned());
            }
            tokio::select! {
                _ = self.live.next() => self.learn(),
                answer = self.client.next() => self.take(&answer),
                () = tokio::time::sleep(CHECK_EVERY) => {}
                // The members end at the same signal, so no act would come to its end any more.
                () = self.signals.next() => return Err("interrupted".to_owned()),
            }
        }
        Ok(())
    }

    /// Reads the newest events.
    fn learn(&mut self) {
        let recording = self.live.recording();
        for event in &recording.events[self.learned..] {
            let Some(member) = recording.members.get(usize::from(event.member)) else { continue };
            let marks = self.marks.entry(member.name.clone()).or_default();
            marks.learn(event, wall_ns(recording, event));
            self.links.learn(member.member_id, event);
        }
        self.learned = recording.events.len();
    }

    fn take(&mut self, answer: &Answer) {
        let place = usize::try_from(answer.number).unwrap_or(usize::MAX);
        let Some(sent) = self.sent.get_mut(place) else { return };
        sent.came = match (answer.is_error, answer.took_ns) {
            (true, _) => Came::Error(answer.lines.join(" ")),
            (false, Some(_)) => Came::Ok,
            (false, None) => Came::Part,
        };
    }

    fn came(&self, label: &str) -> Came {
        let sent = self.sent.iter().find(|sent| sent.label == label);
        sent.map_or(Came::Nothing, |sent| sent.came.clone())
    }

    fn mark(&self, name: &str, water: Water) -> Option<u64> {
        self.marks.get(name)?.get(water)
    }

    /// The member that leads in the newest term, if a majority follows it and is not cut off.
    fn leader(&self) -> Option<&str> {
        let leads = |name: &&String| self.mark(name, Water::Role) == Some(LEADER);
        let leaders = self.running.iter().filter(leads);
        let leader = leaders.max_by_key(|name| self.mark(name, Water::Term))?;
        let members = &self.live.recording().members;
        let id = members.iter().find(|member| member.name == *leader)?.member_id;
        let is_cut = |name: &String| {
            let mut ends = [name.clone(), leader.clone()];
            ends.sort();
            self.cut.contains(&ends)
        };
        let follows = |name: &&String| self.mark(name, Water::Leader) == Some(id) && !is_cut(name);
        let following = self.running.iter().filter(follows).count();
        (self.scenario.members / 2 < following).then_some(leader)
    }

    fn roles_of(&self, leader: &str) -> Roles {
        let names = (1..=self.scenario.members).map(member_name);
        let mut others: Vec<String> = names.filter(|name| name != leader).collect();
        others.sort_by_key(|name| !self.running.contains(name));
        Roles { leader: leader.to_owned(), others }
    }

    /// Whether both ends of a link say that it is cut, or that it is not.
    fn has_link(&self, ends: &[String; 2], is_cut: bool) -> bool {
        let members = &self.live.recording().members;
        let end = |name: &String| {
            let member = members.iter().find(|member| member.name == *name)?;
            Some((member.member_id, self.running.contains(name)))
        };
        let [Some(a), Some(b)] = ends.each_ref().map(end) else { return false };
        self.links.is_so([a, b], is_cut)
    }

    /// Whether all running members have applied all that any of them knows to be committed.
    fn has_applied(&self) -> bool {
        let of = |water| self.running.iter().map(move |name| self.mark(name, water));
        let commit = of(Water::Commit).max().flatten();
        commit.is_some() && of(Water::Applied).all(|applied| applied == commit)
    }

    /// Whether the files of all running members have all that was applied.
    fn has_stored(&self) -> bool {
        let is_stored = |name: &String| {
            let of = |water| self.mark(name, water);
            let is_empty = of(Water::Active) == Some(0) && of(Water::Frozen) == Some(0);
            is_empty && of(Water::Revision) == of(Water::StoredRevision)
        };
        self.has_applied() && self.running.iter().all(is_stored)
    }

    fn name(&self, who: &Who) -> Result<String, String> {
        let of = |at: usize| self.roles.others.get(at).cloned();
        let name = match who {
            Who::Leader => Some(self.roles.leader.clone()),
            Who::Follower => of(0),
            Who::Other => of(1),
            Who::Named(name) => Some(name.clone()),
        };
        name.ok_or_else(|| format!("no member is {who:?}"))
    }

    fn endpoint(&self, name: &str) -> Result<String, String> {
        let place = self.scenario.names().position(|known| known == name);
        let endpoint = place.and_then(|place| self.cluster.endpoints.get(place));
        endpoint.cloned().ok_or_else(|| format!("no member {name}"))
    }

    /// A request about a member, with its URL if it is to be added, and else with its id.
    fn with_member(&self, request: Request) -> Result<Request, String> {
        let Request::Change(change) = &request else { return Ok(request) };
        let name = self.name(&self.scenario.who(&change.subject)?)?;
        let subject = match change.aim {
            Aim::Add { .. } => {
                let place = self.scenario.names().position(|known| known == name);
                place.and_then(|place| self.cluster.peers.get(place)).cloned()
            }
            _ => self.id_of(&name).map(|id| format!("{id:x}")),
        };
        let subject = subject.ok_or_else(|| format!("no record of {name} has arrived"))?;
        Ok(request.named(|_| Some(subject.clone())))
    }

    /// The id of a member. One that was added and has not started has sent no records; that of the
    /// others' change tells its id.
    fn id_of(&self, name: &str) -> Option<u64> {
        let recording = self.live.recording();
        let known = |member: &&MemberInfo| member.name == name;
        if let Some(member) = recording.members.iter().find(known) {
            return Some(member.member_id);
        }
        let changes = recording.events.iter().rev().filter(|e| e.stage == Stage::MembersChange);
        let mut subjects = changes.map(|event| field!(event, MembersChange, subject));
        subjects.find(|id| recording.members.iter().all(|member| member.member_id != *id))
    }

    /// Waits for the last records, and checks that nothing is missing.
    async fn finish(mut self) -> Result<Recording, Wrong> {
        let file = self.scenario.file.clone();
        let wrong = |line, why| Wrong { file: file.clone(), line, why };
        self.wait(&Until::Slept(SETTLE)).await.map_err(|why| wrong(0, why))?;
        let labels = labels::labels(self.live.recording());
        for Sent { label, line, came } in &self.sent {
            let why = match came {
                Came::Error(text) if !self.scenario.expects(label) => text.clone(),
                _ if !labels.contains_key(label) => format!("no record of {label} has arrived"),
                _ => continue,
            };
            return Err(wrong(*line, why));
        }
        Ok(self.live.into_recording())
    }
}
