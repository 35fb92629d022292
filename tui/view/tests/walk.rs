//! A walk over every recording: at every cursor position of every story, what one part of the
//! screen says agrees with what the others say.

use std::{collections::BTreeMap, fs, path::Path};

use glass_etcd::{
    change, field,
    story::{Event, Recording, query::method_of, recording},
    trace::{Grain, Kind, Stage, value::LEADER},
};

use super::{super::why, UNICODE, screen};
use crate::state::{
    State,
    lens::{
        self,
        reads::{self, Found, Linearizable, Reads},
    },
    player::{Action, Head, Heard},
    scenes,
    steps::{Direction, Lens, Steps},
    story::{Moment, Step},
    watermarks::{Water, changes, moment},
    words,
};

/// What the parts of the screen say at one cursor.
struct Said {
    /// The lens `durable`: the verdict, and the state on each member.
    durable: Vec<Vec<String>>,
    /// The lens `who knows`: the state on each member, and the client's.
    knows: Vec<Vec<String>>,
    /// The lens `changed`.
    changed: Vec<Vec<String>>,
    /// The lens `cost`.
    cost: Vec<Vec<String>>,
    /// What reads on each member would answer.
    reads: Vec<Reads>,
    /// The sentence of the why panel.
    why: String,
    heads: Vec<Head>,
    step: Step,
}

impl Said {
    fn at(state: &mut State) -> Said {
        let heads = state.heads();
        let mut steps = state.steps.take().unwrap();
        let mut through = |lens| {
            steps.lens = lens;
            lens::lines(state.recording(), &steps, (&state.lanes, &heads))
        };
        let lenses = [Lens::Durable, Lens::WhoKnows, Lens::Changed, Lens::Cost];
        let [durable, knows, changed, cost] = lenses.map(&mut through);
        let reads = reads::reads(&steps, &state.lanes, &heads);
        let step = steps.steps[steps.now].clone();
        let why = why::meaning(&step, state, &steps);
        state.steps = Some(steps);
        Said { durable, knows, changed, cost, reads, why, heads, step }
    }

    fn survives(&self) -> bool {
        self.durable[0][0].contains("SURVIVES")
    }

    fn is_lost(&self) -> bool {
        self.durable[0][0].contains("is lost")
    }

    /// The states on the members, without their names; none if there is no entry.
    fn states(lines: &[Vec<String>], about: &str) -> Vec<String> {
        let line = lines.iter().find(|line| 1 < line.len() && line[0].contains(about));
        let states = line.into_iter().flat_map(|line| line.iter().skip(1));
        states.map(|state| state.split_once(' ').unwrap().1.to_owned()).collect()
    }

    fn on_disk(&self) -> Vec<String> {
        Said::states(&self.durable, "entry ")
    }

    fn known(&self) -> Vec<String> {
        Said::states(&self.knows, " committed?")
    }
}

/// The numbers around ` of `, as in `2 of 3`.
fn count(text: &str) -> Option<(usize, usize)> {
    let (before, after) = text.split_once(" of ")?;
    let last = before.split(|c: char| !c.is_ascii_digit()).next_back()?;
    let first = after.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((last.parse().ok()?, first.parse().ok()?))
}

/// Both lenses say the same of the same entry, and a disk forgets nothing.
fn lenses_agree(said: &Said, before: Option<&Said>) -> Result<(), String> {
    let (on_disk, known) = (said.on_disk(), said.known());
    if said.is_lost() {
        let both = said.knows[0][0].contains("is lost");
        return if both { Ok(()) } else { Err("lost, and yet somebody knows".to_owned()) };
    }
    if on_disk.len() != known.len() {
        return Err("one lens has an entry, the other has not".to_owned());
    }
    if known.is_empty() {
        return Ok(());
    }
    let safe = on_disk.iter().filter(|state| state.starts_with('✔')).count();
    let (counted, of) = count(&said.durable[0][0]).unwrap_or((safe, on_disk.len()));
    if (counted, of) != (safe, on_disk.len()) {
        return Err(format!("{safe} ticks, and a verdict about {counted} of {of}"));
    }
    if known.iter().any(|state| state == "✔ knows") && !said.survives() {
        return Err("a member knows of the commit, and the write may be lost".to_owned());
    }
    if said.knows[1][0].contains("received ok") && !said.survives() {
        return Err("the client has its answer, and the write may be lost".to_owned());
    }
    if before.is_some_and(Said::survives) && !said.survives() {
        return Err("it has survived a power cut before".to_owned());
    }
    Ok(())
}

/// The sentence about the step says nothing that a lens or a head denies.
fn why_agrees(said: &Said, index: Option<u64>) -> Result<(), String> {
    let step = &said.step;
    let (on_disk, known) = (said.on_disk(), said.known());
    let safe = on_disk.iter().filter(|state| state.starts_with('✔')).count();
    let unknown = on_disk.iter().filter(|state| state.starts_with('?')).count();
    if let Some(index) = index
        && !said.is_lost()
        && step.is_captured
        && step.moment == Moment::Done
    {
        let event = &step.event;
        if event.stage == Stage::RaftCommit && step.is_own {
            let [old, new] = change!(event, RaftCommit, commit);
            if old < index && index <= new && known[step.lane] != "✔ knows" {
                return Err(format!("a commit up to {new}, and {}", known[step.lane]));
            }
        }
        if event.stage == Stage::RaftReceive
            && said.why.contains("'s own disk, that is ")
            && index <= field!(event, RaftReceive, index)
        {
            let (_, after) = said.why.split_once(", that is ").unwrap();
            let (counted, of) = count(after).unwrap();
            if of != on_disk.len() || safe + unknown < counted {
                return Err(format!("{counted} of {of} in words, {safe} ticks"));
            }
        }
    }
    Ok(())
}

/// The heads are those of the members as they stand after the step.
fn heads_agree(said: &Said, before: Option<&Said>) -> Result<(), String> {
    let mut leaders: BTreeMap<u64, &str> = BTreeMap::new();
    for head in said.heads.iter().filter(|head| head.heard == Heard::Fresh) {
        let role = head.marks.get(Water::Role).zip(head.marks.get(Water::Term));
        let Some((LEADER, term)) = role else { continue };
        if let Some(other) = leaders.insert(term, &head.name) {
            return Err(format!("{other} and {} lead term {term}", head.name));
        }
    }
    let head = &said.heads[said.step.lane];
    if said.step.is_captured && said.step.event.kind != Kind::Keyframe {
        for change in changes(&said.step.event) {
            let shown = head.marks.get(change.water);
            if shown.is_some_and(|shown| shown != change.new) {
                return Err(format!("{change:?}, and the head says {shown:?}"));
            }
        }
    }
    for (head, earlier) in said.heads.iter().zip(before.iter().flat_map(|before| &before.heads)) {
        let boots = [head, earlier].map(|head| head.marks.newest.map(|newest| newest.0));
        let commits = [head, earlier].map(|head| head.marks.get(Water::Commit));
        if boots[0] == boots[1]
            && let [Some(now), Some(earlier)] = commits
            && now < earlier
        {
            return Err(format!("the commit of {} falls from {earlier} to {now}", head.name));
        }
    }
    Ok(())
}

/// No read answers what cannot be: a linearizable one nothing older than a write whose client had
/// its answer, a serializable one nothing newer than that, and nothing older than before.
fn reads_agree(state: &State, said: &Said, before: Option<&Said>) -> Result<(), String> {
    let revision = |found: Found| match found {
        Found::Version { revision, .. } | Found::AsOf(revision) => Some(revision),
        Found::Nothing | Found::Unknown => None,
    };
    let acknowledged = acknowledged(state);
    for (reads, head) in said.reads.iter().zip(&said.heads) {
        let serializable = reads.serializable.and_then(revision);
        let Linearizable::Answer { found, .. } = reads.linearizable else { continue };
        let newest = revision(found);
        if serializable.zip(newest).is_some_and(|(own, newest)| newest < own) {
            return Err(format!("{}: a serializable read is newer: {reads:?}", head.name));
        }
        if acknowledged.zip(newest).is_some_and(|(done, newest)| newest < done) {
            let done = acknowledged.unwrap();
            return Err(format!("{}: {done} was acknowledged, and {reads:?}", head.name));
        }
    }
    let heads = said.heads.iter().zip(before.iter().flat_map(|before| &before.heads));
    let reads = said.reads.iter().zip(before.iter().flat_map(|before| &before.reads));
    for ((head, earlier), (now, then)) in heads.zip(reads) {
        let boots = [head, earlier].map(|head| head.marks.newest.map(|newest| newest.0));
        let [now, then] = [now, then].map(|reads| reads.serializable.and_then(revision));
        if boots[0] == boots[1] && now.zip(then).is_some_and(|(now, then)| now < then) {
            return Err(format!("{}: the answer falls from {then:?} to {now:?}", head.name));
        }
    }
    Ok(())
}

/// The newest revision at which a put of the story's key had been acknowledged at the cursor.
fn acknowledged(state: &State) -> Option<u64> {
    let steps = steps(state);
    let own = steps.steps.iter().filter(|step| step.is_own);
    let key = own.map(|step| &step.event).find_map(|event| event.key.as_ref())?;
    let is_done = |event: &&Event| {
        (event.stage, event.kind, event.result) == (Stage::Rpc, Kind::Span, 0)
            && method_of(event) == "KV/Put"
            && event.key.as_ref() == Some(key)
            && steps.cut(event.member).is_some_and(|cut| moment(event) <= cut)
    };
    let done = state.recording().events.iter().filter(is_done);
    done.map(|event| field!(event, Rpc, revision)).max()
}

/// A read of the key itself finds what was said that it would find.
fn read_agrees(said: &Said) -> Result<(), String> {
    let event = &said.step.event;
    let is_read = said.step.is_own
        && event.stage == Stage::TreeIndexGet
        && said.step.moment == Moment::Done
        && event.range_end.is_none();
    let found = said.reads[said.step.lane].serializable;
    let (true, Some(found @ (Found::Nothing | Found::Version { .. }))) = (is_read, found) else {
        return Ok(());
    };
    let revisions = field!(event, TreeIndexGet, revisions);
    match (revisions, found) {
        (0, Found::Nothing) | (1.., Found::Version { .. }) => Ok(()),
        _ => Err(format!("the read has found {revisions} revisions, and {found:?} was said")),
    }
}

/// Neither a head nor a list calls a member that is down or silent a leader.
fn screen_agrees(state: &State, said: &Said) -> Result<(), String> {
    let backend = screen(state, (140, 40), UNICODE);
    let head: Vec<String> =
        backend.to_string().lines().skip(1).take(2).map(str::to_owned).collect();
    let shown = head[0].matches("LEADER").count();
    let leads = |head: &&Head| head.marks.get(Water::Role) == Some(LEADER);
    let fresh = said.heads.iter().filter(|head| head.heard == Heard::Fresh).filter(leads).count();
    if shown != fresh {
        return Err(format!("{shown} leaders are drawn, and {fresh} lead:\n{}", head.join("\n")));
    }
    let gone = said.heads.iter().filter(|head| matches!(head.heard, Heard::Silent(_))).count();
    if gone != head[1].matches("SILENT for ").count() {
        return Err(format!("{gone} members are silent:\n{}", head.join("\n")));
    }
    Ok(())
}

/// What the heads are drawn from.
fn roles(said: &Said) -> Vec<(Option<u64>, u8)> {
    let of = |head: &Head| {
        let heard = match head.heard {
            Heard::Never => 0,
            Heard::Down(_) => 1,
            Heard::Silent(_) => 2,
            Heard::Fresh => 3,
            Heard::Paused(_) => 4,
            Heard::Starting(_) => 5,
        };
        (head.marks.get(Water::Role), heard)
    };
    said.heads.iter().map(of).collect()
}

/// Only a mark of lost records says that some were lost.
fn losses_agree(state: &State, said: &Said) -> Result<(), String> {
    let mut marks = state.recording().events.iter().filter(|event| event.stage == Stage::Lost);
    let is_told = said.changed.iter().flatten().any(|piece| piece.contains("lost unread"));
    if is_told && marks.all(|mark| mark.member != said.step.event.member) {
        return Err(format!("nothing was lost: {:?}", said.changed));
    }
    Ok(())
}

/// What the lens adds where more than the rpc was captured.
const EDGES: &str = ", from its first byte to its last";

/// What the lens says of the cost is what the step's record and the list say.
fn cost_agrees(state: &State, said: &Said) -> Result<(), String> {
    let (steps, line, step) = (steps(state), &said.cost[0], &said.step);
    let took = match step.moment {
        Moment::Begin => "this step begins".to_owned(),
        Moment::Done => format!("this step {}", words::duration(step.event.took_ns)),
    };
    if line[0] != took {
        return Err(format!("{took}, and the lens says {}", line[0]));
    }
    let own = || steps.steps.iter().filter(|step| step.is_own);
    let answer = own().find(|step| steps.is_request(step) && step.moment == Moment::Done);
    let whole = line.iter().find_map(|piece| piece.strip_prefix("whole request "));
    let whole = whole.map(|whole| whole.strip_suffix(EDGES).unwrap_or(whole));
    let row = state.list.rows.iter().find(|row| row.subject == steps.subject);
    let listed = answer.and(row).and_then(|row| row.took_ns).map(words::duration);
    if whole != listed.as_deref() {
        return Err(format!("the list says {listed:?}, and the lens says {whole:?}"));
    }
    let waited: u64 = own().filter_map(|step| step.on_path).sum();
    let begins = own().map(|step| step.wall_ns.saturating_sub(step.event.took_ns)).min();
    let ends = own().map(|step| step.wall_ns).max();
    let lasts = ends.unwrap_or(0) - begins.unwrap_or(0);
    if lasts < waited {
        return Err(format!("the request waited for {waited} ns of {lasts} ns"));
    }
    Ok(())
}

/// Walks through a story in a grain.
fn walk(state: &mut State, name: &str, grain: Grain) -> usize {
    let index = steps(state).log.as_ref().map(|log| log.entry.1);
    state.update(Action::Jump(Direction::Back));
    let (mut before, mut positions) = (None, 0);
    loop {
        let said = Said::at(state);
        let is_drawn = before.as_ref().is_none_or(|before| roles(before) != roles(&said));
        let checks = [
            lenses_agree(&said, before.as_ref()),
            why_agrees(&said, index),
            heads_agree(&said, before.as_ref()),
            if is_drawn { screen_agrees(state, &said) } else { Ok(()) },
            losses_agree(state, &said),
            cost_agrees(state, &said),
            reads_agree(state, &said, before.as_ref()),
            read_agrees(&said),
        ];
        if let Some(complaint) = checks.into_iter().find_map(Result::err) {
            let at = (steps(state).subject, grain, steps(state).position());
            let screen = screen(state, (140, 40), UNICODE);
            let (durable, knows, why) = (&said.durable, &said.knows, &said.why);
            panic!("{name}, {at:?}: {complaint}\n{durable:?}\n{knows:?}\n{why}\n{screen}");
        }
        positions += 1;
        let now = steps(state).now;
        state.update(Action::Step(grain, Direction::Forward));
        if steps(state).now == now {
            return positions;
        }
        before = Some(said);
    }
}

fn steps(state: &State) -> &Steps {
    state.steps.as_ref().unwrap()
}

/// The recordings of real clusters, and those that tests make up, by name.
pub(super) fn recordings() -> Vec<(String, Recording)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|ext| ext == "ndjson"));
    let read = |path: std::path::PathBuf| {
        let text = fs::read(&path).unwrap();
        let read = recording::read(text.as_slice()).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), read.recording)
    };
    let mut all: Vec<(String, Recording)> = files.map(read).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let made_up = [
        ("a put", scenes::put()),
        ("a get", scenes::get()),
        ("an election", scenes::election()),
        ("a leader without records", scenes::gap()),
    ];
    all.extend(made_up.map(|(name, scene)| (name.to_owned(), scene.recording)));
    all
}

/// Goal: "durable", "who knows", "why" and the heads never contradict each other. Method: every
/// cursor position of every story of every recording, in two grains.
#[test]
fn no_screen_contradicts_itself() {
    for (name, recording) in recordings() {
        let mut state = State::of_recording(recording);
        let mut positions = 0;
        for row in state.list.rows.clone() {
            state.steps = Some(Steps::open(state.recording(), row.subject));
            if steps(&state).steps.is_empty() {
                continue;
            }
            for grain in [Grain::Story, Grain::Stage] {
                let mut steps = Steps::open(state.recording(), row.subject);
                steps.grain = grain;
                state.steps = Some(steps);
                positions += walk(&mut state, &name, grain);
            }
        }
        println!("{name}: {} stories, {positions} positions", state.list.rows.len());
        assert_ne!(0, positions, "{name}");
    }
}
