//! The views beside the stories: how they are opened, what their keys do, and the moment they show.

use glass_etcd::story::query::address::Address;

use super::{
    super::{
        pane::{Sight, View, keys, lines, log::Line},
        seek::Told,
        steps::{Direction, Steps},
        story::Subject,
        watermarks::Moment,
    },
    Action, State,
};
use crate::source::log_files::Said;

impl State {
    /// The moment that is shown: the members, and how far each had come by its own clock.
    pub(crate) fn sight(&self) -> Sight {
        let board = self.board();
        let cut = |place: u8| -> Option<Moment> {
            match self.looked_at() {
                Some(steps) => steps.cut(place),
                None => {
                    let newest = self.learned.marks.get(usize::from(place))?.newest?;
                    Some((newest.0, u64::MAX))
                }
            }
        };
        let cuts = board.columns.iter().map(|column| cut(column.place?)).collect();
        Sight { board, cuts }
    }

    /// The entry of the story that is open.
    pub(crate) fn story_entry(&self) -> Option<(u64, u64)> {
        let (term, index) = self.steps.as_ref()?.log.as_ref()?.entry;
        Some((index, term))
    }

    /// Shows the next view, or the one before: the story or the list, the cluster, and those beside
    /// the stories.
    pub(super) fn turn_to(&mut self, direction: Direction) {
        const VIEWS: [View; 4] = [View::Log, View::Keys, View::Waits, View::Lines];
        let pane = self.panes.shown.and_then(|shown| VIEWS.iter().position(|it| *it == shown));
        let here = match (pane, self.room.is_shown) {
            (Some(place), _) => 2 + place,
            (None, is_cluster) => usize::from(is_cluster),
        };
        let count = 2 + VIEWS.len();
        let there = match direction {
            Direction::Forward => (here + 1) % count,
            Direction::Back => (here + count - 1) % count,
        };
        match there.checked_sub(2) {
            Some(place) => self.show_pane(VIEWS[place]),
            None => {
                self.panes.shown = None;
                self.room.is_shown = there == 1;
                self.room.is_now &= here != 0;
            }
        }
    }

    /// The story that is open.
    pub(crate) fn story_subject(&self) -> Option<Subject> {
        self.steps.as_ref().map(|steps| steps.subject)
    }

    /// Whether somebody looks at what the members print.
    pub(crate) fn wants_lines(&self) -> bool {
        self.panes.shown == Some(View::Lines)
    }

    /// Takes over what the members have printed.
    pub(crate) fn printed(&mut self, said: Vec<Said>) {
        self.version += 1;
        self.panes.lines.add(said);
    }

    /// Reads all records for the view that is shown.
    pub(super) fn refresh_pane(&mut self) {
        let recording = self.memory.recording();
        match self.panes.shown {
            Some(View::Log) => self.panes.log.refresh(recording),
            Some(View::Keys) => self.panes.keys.refresh(recording),
            Some(View::Waits) => self.panes.waits.refresh(recording, &self.clocks),
            Some(View::Lines) | None => {}
        }
    }

    /// Shows a view over the screen that is shown.
    pub(super) fn show_pane(&mut self, view: View) {
        if !self.room.is_shown && self.panes.shown.is_none() {
            self.room.is_now = false;
        }
        self.panes.shown = Some(view);
        self.panes.log.chosen = None;
        self.panes.keys.chosen = None;
        self.panes.waits.chosen = None;
        self.panes.lines.chosen = None;
        self.refresh_pane();
    }

    /// The part of [`State::update`] for these views. Returns whether the action was one of theirs.
    pub(super) fn update_pane(&mut self, action: Action) -> bool {
        if let Action::Show(view) = action {
            self.show_pane(view);
            return true;
        }
        let Some(view) = self.panes.shown.filter(|_| self.room.question.is_none()) else {
            return false;
        };
        match action {
            Action::Move(rows) => self.move_in_pane(view, rows),
            Action::Open => self.open_from_pane(view),
            Action::OtherKey(direction) => self.choose_other_key(direction),
            Action::Back => self.panes.shown = None,
            Action::Along(_) if self.looked_at().is_none() => {
                let notice = match self.steps {
                    Some(_) => "this is now; f shows the step that is looked at",
                    None => "no story is open: this is now",
                };
                self.notice = Some(notice.to_owned());
            }
            Action::Cluster | Action::Requests => {
                self.panes.shown = None;
                return false;
            }
            _ => return false,
        }
        true
    }

    fn move_in_pane(&mut self, view: View, rows: isize) {
        let (texts, chosen) = self.rows_in_pane(view);
        let wanted = chosen.saturating_add_signed(rows).min(texts.len().saturating_sub(1));
        self.choose_in_pane(view, wanted);
        let end = if rows < 0 { "first" } else { "last" };
        self.notice = (wanted == chosen).then(|| format!("this is the {end} row"));
    }

    /// What a search compares of each row of a view, and the position of the chosen row.
    pub(super) fn rows_in_pane(&self, view: View) -> (Vec<Told>, usize) {
        let sight = self.sight();
        match view {
            View::Log => {
                let log = self.panes.log.at(&sight, self.story_entry());
                (log.lines.iter().map(|line| log.told(*line)).collect(), log.chosen)
            }
            View::Keys => {
                let keys = self.panes.keys.at(&sight, self.story_subject());
                (keys.lines.iter().map(keys::Line::told).collect(), keys.chosen)
            }
            View::Waits => {
                let waiting = self.panes.waits.at(&sight);
                (waiting.told(&sight), waiting.chosen)
            }
            View::Lines => {
                let printed = self.panes.lines.at(&sight);
                (printed.lines.iter().map(lines::Line::told).collect(), printed.chosen)
            }
        }
    }

    /// Chooses the row at this position.
    pub(super) fn choose_in_pane(&mut self, view: View, place: usize) {
        let sight = self.sight();
        match view {
            View::Log => {
                let name = self.panes.log.at(&sight, self.story_entry()).name_of(place);
                self.panes.log.chosen = name;
            }
            View::Keys => {
                let name = self.panes.keys.at(&sight, self.story_subject()).name_of(place);
                self.panes.keys.chosen = name;
            }
            View::Waits => self.panes.waits.chosen = Some(place),
            View::Lines => self.panes.lines.choose(place),
        }
    }

    /// Opens the story that has written what the chosen row shows.
    fn open_from_pane(&mut self, view: View) {
        let sight = self.sight();
        let request = |id: u64| Some(Subject::Request(id)).filter(|_| id != 0);
        let subject = match view {
            View::Log => {
                let log = self.panes.log.at(&sight, self.story_entry());
                log.chosen().and_then(|line| match (line, log.entry(line)?.id) {
                    (Line::Entry(_, term), 0) => self.election_of(term),
                    (_, id) => request(id),
                })
            }
            View::Keys => self.panes.keys.at(&sight, self.story_subject()).id().and_then(request),
            View::Waits => self.panes.waits.at(&sight).id().and_then(request),
            View::Lines => None,
        };
        match subject {
            Some(subject) => self.open_story(subject),
            None => self.notice = Some("no story is known for this row".to_owned()),
        }
    }

    /// The election of this term, if it is in the list.
    fn election_of(&self, term: u64) -> Option<Subject> {
        let mut subjects = self.list.rows.iter().rev().map(|row| row.subject);
        subjects.find(|subject| match subject {
            Subject::Cluster(Address::Election { term: of, .. }) => *of == term,
            _ => false,
        })
    }

    fn choose_other_key(&mut self, direction: Direction) {
        let sight = self.sight();
        let keys = self.panes.keys.at(&sight, self.story_subject());
        let place = keys.other_key(direction == Direction::Forward);
        match place.and_then(|place| keys.name_of(place)) {
            Some(name) => self.panes.keys.chosen = Some(name),
            None => self.notice = Some("no other key was captured on this side".to_owned()),
        }
    }

    /// Opens a story over the screen that was shown.
    fn open_story(&mut self, subject: Subject) {
        self.panes.shown = None;
        self.room.is_shown = false;
        self.list.is_following = false;
        self.steps = Some(Steps::open(self.memory.recording(), subject));
        self.refresh();
    }
}
