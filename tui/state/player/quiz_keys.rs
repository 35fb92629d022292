//! The keys of the mode that asks, and those that it changes: a step may lead to a question, and
//! what is hidden cannot be looked at.

use super::{
    super::{
        quiz::lesson::Course,
        steps::{Direction, Steps},
    },
    Action, State,
};

impl State {
    /// The part of [`State::update`] for questions, and for the keys that step and look.
    pub(super) fn update_quiz(&mut self, action: Action) {
        let decides = match action {
            Action::Predict => {
                self.quiz.toggle();
                None
            }
            Action::Answer(digit) => self.quiz.give_digit(digit),
            Action::Pick => {
                let looked_at = self.steps.as_ref().map(|steps| steps.look);
                looked_at.and_then(|step| self.quiz.give(step))
            }
            Action::Skip => {
                self.quiz.skip();
                None
            }
            Action::Hint => {
                if !self.quiz.hint() {
                    self.refuse("there are no more hints; c tells the answer".to_owned());
                }
                None
            }
            Action::Tell => self.quiz.tell(),
            Action::Look(_) => {
                self.update_steps(action);
                self.look_at_the_past();
                None
            }
            Action::Step(_, direction) => {
                self.quiz.pass();
                let is_forward = direction == Direction::Forward;
                let stays = |steps: &Steps| is_forward && self.quiz.has_more(steps);
                match self.steps.as_mut().filter(|steps| stays(steps)) {
                    // A second question about the same step.
                    Some(steps) => steps.look = steps.now,
                    None => self.update_steps(action),
                }
                if is_forward {
                    self.lead_on();
                    self.ask_here();
                }
                None
            }
            _ => {
                self.quiz.pass();
                self.update_steps(action);
                None
            }
        };
        if let (Some(decides), Some(steps)) = (decides, &mut self.steps) {
            steps.look = decides.min(steps.steps.len().saturating_sub(1));
        }
    }

    /// Opens the story of a lesson's next question from the last step of another story.
    fn lead_on(&mut self) {
        let Some(next) = self.quiz.next_story() else { return };
        let is_done = |steps: &Steps| {
            let (at, of) = steps.position();
            steps.subject != next && steps.notice.is_some() && at == of
        };
        if self.steps.as_ref().is_some_and(is_done) {
            self.list.select(next);
            self.steps = Some(Steps::open(self.recording(), next));
        }
    }

    /// Opens the story of a lesson's first question.
    pub(crate) fn begin(&mut self, course: Course) {
        self.quiz.begin(course);
        self.room.is_shown = false;
        if let Some(first) = self.quiz.next_story() {
            self.list.is_following = false;
            self.list.select(first);
            self.steps = Some(Steps::open(self.recording(), first));
            self.ask_here();
        }
    }

    /// Asks the lesson's next question at its step; no key leads past it.
    pub(super) fn hold(&mut self) {
        let Some(steps) = &mut self.steps else { return };
        let Some(place) = self.quiz.next_place(steps).filter(|place| *place <= steps.now) else {
            return;
        };
        if place < steps.now {
            (steps.now, steps.look, steps.is_playing, steps.felt) = (place, place, false, None);
            if self.room.is_shown {
                self.refuse("the lesson asks here; C shows the question".to_owned());
            }
        }
        self.ask_here();
    }

    /// What comes later is hidden, so it is not looked at either.
    fn look_at_the_past(&mut self) {
        let hides = |steps: &&mut Steps| self.quiz.hides(steps);
        if let Some(steps) = self.steps.as_mut().filter(hides) {
            steps.look = steps.look.min(steps.now);
        }
    }

    /// Asks about the step at the cursor, if there is something to ask.
    fn ask_here(&mut self) {
        let heads = self.heads();
        if let Some(steps) = &self.steps {
            self.quiz.ask(steps, &self.lanes, &heads);
        }
    }

    /// Playing stops at a question.
    pub(super) fn ask_on_the_way(&mut self) {
        if !self.quiz.is_in_use() {
            return;
        }
        self.hold();
        self.ask_here();
        if let Some(steps) = self.steps.as_mut().filter(|steps| self.quiz.is_open(steps)) {
            (steps.is_playing, steps.felt) = (false, None);
        }
    }
}
