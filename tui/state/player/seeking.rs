//! The search on screens whose rows stay: the views beside the stories, and the steps of a story.

use super::{
    super::{
        kind::StepKind,
        pane::{View, keys, lines, log, waits},
        seek::{Forms, Told},
        steps::{Direction, Row, Steps},
        story::{Moment, Step},
        words,
    },
    Action, State,
};

/// Where is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Pane(View),
    Steps,
}

/// What the steps of a story have.
const OF_STEPS: Forms = Forms {
    forms: &["m:", "k:", "is:", ">", "<"],
    kinds: &["disk", "network", "raft", "apply", "read", "call", "member"],
};

impl On {
    fn forms(self) -> Forms {
        match self {
            On::Pane(View::Log) => log::FORMS,
            On::Pane(View::Keys) => keys::FORMS,
            On::Pane(View::Waits) => waits::FORMS,
            On::Pane(View::Lines) => lines::FORMS,
            On::Steps => OF_STEPS,
        }
    }
}

impl State {
    /// Where a search would begin; `None` on screens that have none of their own.
    fn searched(&self) -> Option<On> {
        match self.panes.shown {
            Some(view) => Some(On::Pane(view)),
            None => self.steps.as_ref().filter(|_| !self.room.is_shown).map(|_| On::Steps),
        }
    }

    /// The forms of words that can find something on this screen, in one line.
    pub(crate) fn search_forms(&self) -> String {
        self.searched().map_or_else(String::new, |on| on.forms().words())
    }

    /// The part of [`State::update`] for that search. Returns whether the action was one of it.
    pub(super) fn update_seek(&mut self, action: Action) -> bool {
        let Some(on) = self.searched() else { return false };
        match action {
            Action::Find => self.seek.begin(),
            Action::Narrow => match self.seek.enter(on.forms()) {
                Ok(()) => self.seek(on, Direction::Forward),
                Err(why) => self.notice = Some(why),
            },
            Action::Again(direction) => self.seek(on, direction),
            Action::Back if self.seek.typed().is_some() => _ = self.seek.give_up(),
            _ => return false,
        }
        true
    }

    /// Chooses the next row that has the words.
    fn seek(&mut self, on: On, direction: Direction) {
        let found = match on {
            On::Pane(view) => {
                let (rows, chosen) = self.rows_in_pane(view);
                let found = self.seek.find((&rows, on.forms()), chosen, direction);
                found.map(|place| self.choose_in_pane(view, place))
            }
            On::Steps => {
                let (places, rows) = self.rows_of_steps();
                let look = self.steps.as_ref().map_or(0, |steps| steps.look);
                let chosen = places.iter().rposition(|place| *place <= look).unwrap_or(0);
                let found = self.seek.find((&rows, on.forms()), chosen, direction);
                found.map(|row| {
                    self.quiz.pass();
                    self.steps.iter_mut().for_each(|steps| steps.go(places[row]));
                })
            }
        };
        self.notice = found.err();
    }

    /// The steps that are shown, by position, and what a search compares of each.
    fn rows_of_steps(&self) -> (Vec<usize>, Vec<Told>) {
        let Some(steps) = &self.steps else { return (Vec::new(), Vec::new()) };
        let hides = self.quiz.hides(steps);
        let place = |row| match row {
            Row::Step(place) => Some(place).filter(|place| !hides || *place <= steps.now),
            Row::Folded { .. } | Row::Unknown(_) => None,
        };
        let places: Vec<usize> = steps.rows().into_iter().filter_map(place).collect();
        let told = places.iter().map(|place| self.told_of_step(steps, &steps.steps[*place]));
        (places.clone(), told.collect())
    }

    fn told_of_step(&self, steps: &Steps, step: &Step) -> Told {
        let (stage, member) = (step.event.stage, self.lanes[step.lane].name.clone());
        let peer = step.arrow.map_or("", |arrow| self.lanes[arrow.peer].name.as_str());
        let row = words::step(step, &self.lanes).join(" ");
        let client = if steps.is_of_client(step) { "client" } else { "" };
        let keys: Vec<String> = step.event.key.iter().map(|key| key.display()).collect();
        Told {
            text: format!("{} {row} {member} {peer} {client} {}", stage.name(), keys.join(" ")),
            keys,
            member,
            kinds: vec![StepKind::of(stage).word()],
            took_ns: (step.moment == Moment::Done).then_some(step.event.took_ns),
            ..Told::default()
        }
    }
}
