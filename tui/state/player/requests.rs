//! The part of the player's state that changes the list of requests.

use glass_etcd::story::{order::Order, query::find::Wanted};

use super::{
    super::{
        steps::Steps,
        story::{self, RequestSummary, Subject},
    },
    Action, State,
};

impl State {
    /// The row of the open story, if it is not among these.
    pub(super) fn left_out(
        &self,
        rows: &[RequestSummary],
        order: &Order,
    ) -> Option<RequestSummary> {
        let subject = self.steps.as_ref()?.subject;
        if rows.iter().any(|row| row.subject == subject) {
            return None;
        }
        let recording = self.memory.recording();
        let every = Wanted::default().find(recording);
        let all = story::requests((recording, order), &every);
        all.into_iter().find(|row| row.subject == subject)
    }

    /// What is known of a story, in the list or not: one that is open stays known while a search
    /// leaves it out.
    pub(crate) fn row_of(&self, subject: Subject) -> Option<&RequestSummary> {
        let mut known = self.list.rows.iter().chain(&self.list.left_out);
        known.find(|row| row.subject == subject)
    }

    /// The part of [`State::update`] that chooses a row, arranges the list, or opens a story.
    pub(super) fn update_list(&mut self, action: Action) {
        match action {
            Action::ChooseAt(place) => {
                let wanted = self.list.shown().nth(place).map(|row| row.subject);
                if let Some(subject) = wanted {
                    self.list.select(subject);
                }
            }
            Action::ToggleFollow => self.list.follow(!self.list.is_following),
            Action::Sort => self.list.change_sort(),
            Action::Freeze => self.list.freeze(!self.list.is_frozen()),
            Action::Mark => self.list.mark(),
            Action::Open => self.open(),
            _ => {}
        }
    }

    fn open(&mut self) {
        self.refresh();
        if let Some(subject) = self.list.subject() {
            self.list.is_following = false;
            self.steps = Some(Steps::open(self.memory.recording(), subject));
        }
    }

    /// The part of [`State::update`] that narrows the list.
    pub(super) fn update_find(&mut self, action: Action) {
        match action {
            Action::Find => {
                self.room.is_shown = false;
                self.find.begin();
            }
            Action::Narrow => {
                self.find.apply(self.memory.recording());
                self.list.freeze(false);
                self.refresh();
            }
            _ => {}
        }
    }
}
