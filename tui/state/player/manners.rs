//! What the player says when a key does nothing, and what a new user is shown first.

use super::{
    super::{
        alive::Heard,
        room::{self, Hands, START_NS},
        steps::Direction,
        story::{RequestSummary, Subject},
    },
    Action, State,
};
use crate::up::api::State as Doing;

impl State {
    /// Says why a key has done nothing.
    pub(crate) fn refuse(&mut self, why: String) {
        self.version += 1;
        self.forget_notices();
        self.notice = Some(why);
    }

    /// A notice is about the last key only.
    pub(super) fn forget_notices(&mut self) {
        (self.notice, self.room.notice) = (None, None);
        if let Some(steps) = &mut self.steps {
            steps.notice = None;
        }
    }

    /// The one line in answer to the last key, if there is one.
    pub(crate) fn said(&self) -> Option<&str> {
        let of_steps = self.steps.as_ref().filter(|_| !self.room.is_shown);
        let of_steps = of_steps.and_then(|steps| steps.notice);
        let of_room = self.room.notice.as_deref().filter(|_| self.room.is_shown);
        self.notice.as_deref().or(of_room).or(of_steps)
    }

    /// Moves by rows in the page or the list that is shown, and says where it ends.
    pub(super) fn move_by(&mut self, rows: isize) {
        let end = if rows < 0 { "first" } else { "last" };
        match (&mut self.compared, self.steps.as_mut().filter(|steps| steps.reading.is_some())) {
            (Some(page), _) => {
                let is_moved = page.scroll(rows);
                self.notice = (!is_moved).then(|| format!("this is the {end} row"));
            }
            (None, Some(steps)) => {
                let is_moved = steps.turn(rows);
                self.notice = (!is_moved).then(|| format!("this is the {end} row"));
            }
            (None, None) => match self.steps.is_some() {
                true => self.look_far(rows),
                false => self.choose(rows),
            },
        }
    }

    /// Moves the look cursor by rows.
    fn look_far(&mut self, rows: isize) {
        let direction = if rows < 0 { Direction::Back } else { Direction::Forward };
        for _ in 0..rows.unsigned_abs() {
            self.update_quiz(Action::Look(direction));
        }
    }

    /// Moves in the list, by the greatest numbers to its ends, and says where it ends.
    fn choose(&mut self, rows: isize) {
        let before = self.list.chosen();
        let followed = self.list.is_following;
        match rows {
            isize::MIN => self.list.first(),
            isize::MAX => self.list.follow(true),
            rows => self.list.move_by(rows),
        }
        if (self.list.chosen(), self.list.is_following) == (before, followed) {
            let end = if rows < 0 { "the oldest" } else { "the newest" };
            self.notice = Some(format!("this is {end} request"));
        }
    }

    /// Restricts stepping to a lane, counted from 1; 0 for all lanes.
    pub(super) fn focus(&mut self, number: u8) {
        let lanes = self.lanes.len();
        let Some(steps) = &mut self.steps else { return };
        let lane = usize::from(number).checked_sub(1);
        if lane.is_some_and(|lane| lanes <= lane) {
            self.notice = Some(format!("there is no lane {number}"));
            return;
        }
        let before = (steps.focus, steps.now);
        steps.focus_on(lane);
        if (steps.focus, steps.now) == before && steps.notice.is_none() {
            self.notice = Some(match lane {
                Some(_) => format!("stepping is in lane {number} already"),
                None => "all lanes are in use already".to_owned(),
            });
        }
    }

    /// Plays faster or slower, and says so at the ends.
    pub(super) fn change_speed(&mut self, direction: Direction) {
        let Some(steps) = &mut self.steps else { return };
        let before = steps.speed_word();
        steps.change_speed(direction);
        let word = steps.speed_word();
        self.notice = (word == before).then(|| match direction {
            Direction::Forward => format!("{word} is the fastest"),
            Direction::Back => format!("{word} is the slowest"),
        });
    }

    /// The actions of the list of keys; every other action closes nothing.
    pub(super) fn update_help(&mut self, action: Action) {
        match action {
            Action::Help => (self.is_helping, self.help) = (true, Default::default()),
            Action::Scroll(direction) => self.help.scroll(direction),
            Action::Run => {}
            _ => self.is_helping = false,
        }
    }

    /// Whether the greeting is shown: live members, and no client has sent a request yet.
    pub(crate) fn greets(&self) -> bool {
        self.room.hands != Hands::Recording && !self.has_served
    }

    /// Notes whether a client has sent a request: the greeting is then over.
    pub(super) fn note_served(&mut self) {
        let is_of_client = |row: &RequestSummary| {
            matches!(row.subject, Subject::Request(_)) && !row.method.starts_with("internal/")
        };
        self.has_served |= self.list.rows.iter().any(is_of_client);
    }

    /// Whether the process behind an endpoint that has never answered has only just been started.
    pub(crate) fn is_starting(&self, endpoint: usize) -> bool {
        if self.room.told.is_none() {
            return self.room.hands == Hands::Own && self.now_ns < START_NS;
        }
        let name = self.room.names.get(endpoint);
        let process = name.and_then(|name| self.room.process(name, self.now_ns));
        process.is_some_and(|(process, since_ns)| {
            process.state == Doing::Running && since_ns < START_NS
        })
    }

    /// How a member is whose endpoint has never answered.
    pub(super) fn heard_of_stranger(&self, endpoint: usize) -> Heard {
        if self.is_starting(endpoint) && self.room.told.is_none() {
            return Heard::Starting(self.now_ns);
        }
        let name = self.room.names.get(endpoint);
        match name.and_then(|name| self.room.process(name, self.now_ns)) {
            Some((process, since_ns)) => {
                room::heard_of_process(&process.state, since_ns, Heard::Down(since_ns))
            }
            None => Heard::Never,
        }
    }
}
