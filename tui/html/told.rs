//! A story as a reader steps through it: its rows, and what the player shows at each of them.
//!
//! The story is walked with the player's own state, one story step after the other. Every word
//! comes from the functions that draw its screens.

use std::collections::HashMap;

use glass_etcd::trace::{Grain, value::LEADER};

use crate::{
    state::{
        Action, State,
        kind::StepKind,
        lens,
        player::{Head, Heard},
        steps::{Direction, Row, Steps, because},
        story::{Moment, Step, Subject},
        watermarks::Water,
        words,
    },
    view::{list, plain, steps as screen, why},
};

/// The most steps of one story. The longest that somebody reads has a tenth of that.
pub(super) const STEPS_MAX: usize = 400;

/// A story, with all that is said of it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// What it is about, in a line.
    pub(super) title: String,
    /// The members' names, from left to right.
    pub(super) lanes: Vec<String>,
    /// Its rows, in playback order.
    pub(super) rows: Vec<Line>,
    /// Rows that have no place in that order.
    pub(super) unknown: Vec<String>,
    /// What is shown at each step.
    pub(super) said: Vec<Said>,
    /// How many later steps were left out.
    pub(super) left_out: usize,
    /// The same as text, as `glass play --plain` prints it.
    pub(super) text: Vec<String>,
}

/// A row of the story.
#[derive(Clone, Debug)]
pub(super) enum Line {
    /// A step.
    Step(Drawn),
    /// What only happened meanwhile.
    Folded(String),
}

/// A step as it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    /// The position of its member's lane.
    pub(super) lane: usize,
    /// When it happened, counted from the beginning of the story.
    pub(super) after: String,
    /// What happens.
    pub(super) words: String,
    /// Its kind, in a word.
    pub(super) kind: &'static str,
    /// Whether it was captured.
    pub(super) is_captured: bool,
    /// Whether it is on the critical path.
    pub(super) is_on_path: bool,
    /// What the client does here.
    pub(super) client: Option<Client>,
    /// The message that leaves here.
    pub(super) sent: Option<Sent>,
}

/// What the client does, which nobody has recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    Asks,
    HasAnswer,
    HasError,
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// The receiver's lane.
    pub(super) to: usize,
    /// The step at which it arrives; `None` if no step of this story says so.
    pub(super) arrives: Option<usize>,
}

/// Everything that is shown while the cursor is at a step.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// The head of each lane.
    pub(super) heads: Vec<HeadSaid>,
    /// What each lens answers, with its title.
    pub(super) lenses: Vec<(String, Vec<lens::Line>)>,
    /// The step and its kind; what it means; its numbers; where to read on.
    pub(super) why: [String; 2],
    pub(super) numbers: Vec<String>,
    pub(super) sources: Vec<String>,
    /// The address of the step; `None` if it was not captured.
    pub(super) address: Option<String>,
    /// The steps to which the keys lead: the other end, the cause, the effect.
    pub(super) relatives: [Option<usize>; 3],
}

/// The head of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeadSaid {
    pub(super) role: String,
    pub(super) numbers: String,
    /// `good` for a leader, `bad` for a member that does not run as it should.
    pub(super) tone: &'static str,
}

/// Walks the story, which stays open at its last step.
pub(super) fn told(state: &mut State, subject: Subject) -> Told {
    told_within(state, subject, STEPS_MAX)
}

/// The same, with at most this many steps.
pub(super) fn told_within(state: &mut State, subject: Subject, max: usize) -> Told {
    state.steps = Some(Steps::open(state.recording(), subject));
    state.update(Action::Jump(Direction::Back));
    let places = state.steps.as_ref().map(|steps| places(steps, max)).unwrap_or_default();
    let mut told = rows(state, &places);
    let relatives = relatives(state, &places);
    for relatives in relatives {
        told.said.push(said(state, relatives));
        state.update(Action::Step(Grain::Story, Direction::Forward));
    }
    told.text = text(state);
    if told.left_out != 0 {
        told.text.truncate(1 + told.rows.len());
        told.text.extend(told.unknown.iter().cloned());
    }
    told
}

/// The places of the story steps that the page has.
fn places(steps: &Steps, max: usize) -> Vec<usize> {
    let rows = steps.rows().into_iter();
    let places = rows.filter_map(|row| match row {
        Row::Step(at) => Some(at),
        _ => None,
    });
    places.take(max).collect()
}

fn rows(state: &State, places: &[usize]) -> Told {
    let mut told = Told {
        title: String::new(),
        lanes: state.lanes.iter().map(|lane| lane.name.clone()).collect(),
        rows: Vec::new(),
        unknown: Vec::new(),
        said: Vec::new(),
        left_out: 0,
        text: Vec::new(),
    };
    let Some(steps) = &state.steps else { return told };
    told.title = screen::subject(state, steps);
    let numbers: HashMap<usize, usize> =
        places.iter().enumerate().map(|(number, at)| (*at, number)).collect();
    for row in steps.rows() {
        match row {
            Row::Step(at) if numbers.contains_key(&at) => {
                told.rows.push(Line::Step(drawn(state, steps, at, &numbers)));
            }
            Row::Step(_) => told.left_out += 1,
            row @ Row::Folded { .. } if told.left_out == 0 => {
                told.rows.push(Line::Folded(screen::folded(row)));
            }
            Row::Folded { .. } => {}
            Row::Unknown(at) => {
                told.unknown.push(screen::unknown(steps, &steps.unknown[at], state));
            }
        }
    }
    told
}

fn drawn(state: &State, steps: &Steps, at: usize, numbers: &HashMap<usize, usize>) -> Drawn {
    let step = &steps.steps[at];
    let arrives = || because::other_end(&steps.steps, at).and_then(|at| numbers.get(&at).copied());
    let sent = step.arrow.filter(|arrow| arrow.is_out && arrow.peer != step.lane);
    Drawn {
        lane: step.lane,
        after: words::offset(step.wall_ns, steps.zero_ns),
        words: plain::row_words(state, step),
        kind: StepKind::of(step.event.stage).word(),
        is_captured: step.is_captured,
        is_on_path: step.on_path.is_some(),
        client: steps.is_of_client(step).then(|| client(step)),
        sent: sent.map(|arrow| Sent { to: arrow.peer, arrives: arrives() }),
    }
}

fn client(step: &Step) -> Client {
    match (step.moment, step.event.result) {
        (Moment::Begin, _) => Client::Asks,
        (Moment::Done, 0) => Client::HasAnswer,
        (Moment::Done, _) => Client::HasError,
    }
}

/// For each step, those to which the keys lead. The player also goes to finer steps; here the chain
/// is followed to the next story step.
fn relatives(state: &State, places: &[usize]) -> Vec<[Option<usize>; 3]> {
    let Some(steps) = &state.steps else { return Vec::new() };
    let number = |at: usize| places.iter().position(|place| *place == at);
    let cause = |at: usize| {
        let mut at = because::cause(&steps.steps, at)?;
        while number(at).is_none() {
            at = because::cause(&steps.steps, at)?;
        }
        number(at)
    };
    let causes: Vec<Option<usize>> = places.iter().map(|at| cause(*at)).collect();
    let effect = |of: usize| {
        let later = causes.iter().enumerate().skip(of + 1);
        later.filter(|(_, cause)| **cause == Some(of)).map(|(at, _)| at).next()
    };
    let other = |at: usize| because::other_end(&steps.steps, at).and_then(number);
    let all = places.iter().zip(&causes).enumerate();
    all.map(|(of, (at, cause))| [other(*at), *cause, effect(of)]).collect()
}

/// What the player shows at the step at which it stands.
fn said(state: &mut State, relatives: [Option<usize>; 3]) -> Said {
    let lenses = lenses(state);
    let address = state.anchor().ok().map(|anchor| anchor.text());
    let mut said = Said {
        heads: state.heads().iter().map(head).collect(),
        lenses,
        why: Default::default(),
        numbers: Vec::new(),
        sources: Vec::new(),
        address,
        relatives,
    };
    if let Some(steps) = &state.steps
        && let Some(step) = steps.steps.get(steps.look)
    {
        said.why = [why::title(step), why::meaning(step, state, steps)];
        said.numbers = why::numbers(step, state, steps);
        said.sources = why::sources(step);
    }
    said
}

/// The answers of all lenses; the first one is shown again afterwards.
fn lenses(state: &mut State) -> Vec<(String, Vec<lens::Line>)> {
    let mut answers = Vec::new();
    let heads = state.heads();
    let Some(first) = state.steps.as_ref().map(|steps| steps.lens) else { return answers };
    let mut shown = first;
    loop {
        state.steps.iter_mut().for_each(|steps| steps.lens = shown);
        if let Some(steps) = &state.steps {
            let lines = lens::lines(state.recording(), steps, (&state.lanes, &heads));
            answers.push((lens::title(steps), lines));
        }
        shown = shown.next();
        if shown == first {
            break;
        }
    }
    state.steps.iter_mut().for_each(|steps| steps.lens = first);
    answers
}

fn head(head: &Head) -> HeadSaid {
    let (numbers, _) = screen::head_numbers(head);
    let role = if head.heard == Heard::Never { "" } else { list::role(head) };
    let tone = match head.heard {
        Heard::Fresh if head.marks.get(Water::Role) == Some(LEADER) => "good",
        Heard::Fresh | Heard::Silent(_) | Heard::Starting(_) => "",
        Heard::Never | Heard::Down(_) | Heard::Paused(_) => "bad",
    };
    HeadSaid { role: role.to_owned(), numbers, tone }
}

/// The plain form of the story.
fn text(state: &mut State) -> Vec<String> {
    // A story as text is that at its end.
    state.update(Action::Jump(Direction::Forward));
    let Some(steps) = &state.steps else { return Vec::new() };
    plain::story(state, steps).iter().map(|line| line.trim_end().to_owned()).collect()
}
