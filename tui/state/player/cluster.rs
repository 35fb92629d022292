//! The cluster view: what it shows, and what its keys do.

use std::collections::BTreeSet;

use glass_etcd::trace::Grain;

use super::{
    super::{
        forecast,
        room::{Board, Column, Hands, Left, Question, applicable},
        steps::{Direction, Steps},
        text,
        watermarks::Watermarks,
    },
    Action, Screen, State, links,
};
use crate::up::api::{self, Command, Process, Reply};

/// The action of a report about all processes, which the player asks for by itself.
const REPORT: Command = Command::to_all(api::Action::Status);

impl State {
    /// Lets the player stop and start members: `names` has the process at each endpoint.
    pub(crate) fn connect(&mut self, hands: Hands, names: Vec<String>) {
        (self.room.hands, self.room.names) = (hands, names);
    }

    /// The commands that the loop has to send to `glass up`.
    pub(crate) fn commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.room.commands)
    }

    /// A request for a report, if there is a `glass up` to ask.
    pub(crate) fn report(&self) -> Option<Command> {
        self.room.refusal().is_none().then_some(REPORT)
    }

    /// Processes the reply of `glass up` to a command.
    pub(crate) fn replied(&mut self, command: &Command, reply: Reply) {
        self.version += 1;
        if let Some(why) = reply.error {
            if command.name.is_none() {
                // It has ended, and its members with it.
                self.room.told = None;
                return;
            }
            self.room.notice = Some(format!("{}: {why}", forecast::named(command)));
            return;
        }
        if let Some(said) = links::done(command, &reply) {
            self.room.notice = Some(said);
        } else if command.name.is_some() {
            let now = |process: &Process| format!("{} is {}", process.name, process.state);
            self.room.notice = reply.processes.first().map(now);
        }
        self.room.learn(reply.processes, self.now_ns);
    }

    /// The process of a member, and the nanoseconds in its state.
    pub(super) fn process_at(&self, place: u8) -> Option<(&Process, u64)> {
        let seen = self.memory.seen().iter();
        let at = seen.zip(&self.room.names).find(|(seen, _)| seen.member == Some(place));
        self.room.process(at?.1, self.now_ns)
    }

    /// The story at whose cursor the cluster is shown; `None` for now.
    pub(crate) fn looked_at(&self) -> Option<&Steps> {
        self.cursor_story().filter(|_| !self.room.is_now)
    }

    /// The story that has the cursor: the one that is open or, in a lesson with questions to come,
    /// the one that was left last.
    pub(super) fn cursor_story(&self) -> Option<&Steps> {
        let held = self.held.as_ref().filter(|_| self.quiz.next_story().is_some());
        self.steps.as_ref().or(held)
    }

    /// Closes the story that is open. The records of a lesson go on behind its cursor, to what its
    /// questions are about, so the cursor stays there.
    pub(super) fn close_story(&mut self) {
        if let Some(steps) = self.steps.take() {
            self.held = Some(steps).filter(|_| self.quiz.next_story().is_some());
        }
    }

    /// Whether the cluster and the views beside the stories show now.
    pub(crate) fn shows_now(&self) -> bool {
        self.looked_at().is_none()
    }

    /// The members at the step that is looked at, or now.
    pub(crate) fn board(&self) -> Board {
        let steps = self.looked_at();
        let at_ns = steps.map_or_else(|| self.now_wall_ns(), Steps::now_wall_ns);
        let mut columns = self.columns(steps, at_ns);
        if steps.is_none() {
            let strangers = self.strangers();
            // A member that only others name is probably one of these.
            let mut twice = strangers.len();
            columns.retain(|column| {
                let is_twice = column.place.is_none() && 0 < twice;
                twice -= usize::from(is_twice);
                !is_twice
            });
            columns.extend(strangers);
            columns.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let led = self.figures.iter().filter_map(|figures| figures.led(at_ns));
        let cut = self.cut_links(&columns, steps);
        let voters = match steps {
            Some(_) => self.voters_of(steps),
            None => {
                let ids: Vec<u64> = columns.iter().map(|column| column.member_id).collect();
                self.voters_now(&ids)
            }
        };
        Board { columns, voters, at_ns, is_now: steps.is_none(), led_ns: led.max(), cut }
    }

    /// A column for each lane.
    fn columns(&self, steps: Option<&Steps>, at_ns: u64) -> Vec<Column> {
        let heads = self.heads_of(steps);
        let column = |(head, lane): (super::Head, &super::Lane)| {
            let process = lane.place.filter(|_| steps.is_none());
            let process = process.and_then(|place| self.process_at(place));
            let heard = lane.place.and_then(|place| self.heard_ns.get(&place));
            let last_ns = match heard.filter(|_| steps.is_none()) {
                Some(heard) => Some(self.now_ns.saturating_sub(*heard)),
                None => {
                    let heard = match steps {
                        // The times of a story are aligned already.
                        Some(_) => head.marks.heard_wall_ns,
                        None => lane.place.and_then(|place| self.common_ns(place, &head.marks)),
                    };
                    heard.map(|heard| at_ns.saturating_sub(heard))
                }
            };
            let signs = lane.place.and_then(|place| self.signs.get(usize::from(place)));
            Column {
                name: head.name,
                place: lane.place,
                member_id: lane.member_id,
                marks: head.marks,
                heard: head.heard,
                last_ns,
                runs_ns: signs.and_then(|signs| signs.runs_for(at_ns)),
                starts_ns: signs.and_then(|signs| signs.starts_for(at_ns)),
                process: process.map(|(process, since_ns)| (process.clone(), since_ns)),
                down: None,
            }
        };
        heads.into_iter().zip(&self.lanes).map(column).collect()
    }

    /// A column for each endpoint, or process of `glass up`, that has never answered.
    fn strangers(&self) -> Vec<Column> {
        let mut named = BTreeSet::new();
        let mut columns = Vec::new();
        for (at, seen) in self.memory.seen().iter().enumerate() {
            let name = self.room.names.get(at).unwrap_or(&seen.endpoint);
            let has_member = |(other, seen): (usize, &crate::source::memory::Seen)| {
                seen.member.is_some() && self.room.names.get(other) == Some(name)
            };
            let is_known = seen.member.is_some()
                || (!self.room.names.is_empty()
                    && self.memory.seen().iter().enumerate().any(has_member));
            if is_known || !named.insert(name) {
                continue;
            }
            let process = self.room.process(name, self.now_ns);
            let heard = self.heard_of_stranger(at);
            columns.push(Column {
                name: text::clean(name),
                place: None,
                member_id: 0,
                marks: Watermarks::default(),
                heard,
                last_ns: None,
                runs_ns: None,
                starts_ns: None,
                process: process.map(|(process, since_ns)| (process.clone(), since_ns)),
                down: seen.down.clone(),
            });
        }
        columns
    }

    /// Now, by the members' clocks: the newest record of each, plus its age.
    fn now_wall_ns(&self) -> u64 {
        let aged = |(place, heard): (&u8, &u64)| {
            let wall = self.common_ns(*place, self.learned.marks.get(usize::from(*place))?)?;
            Some(wall.saturating_add(self.now_ns.saturating_sub(*heard)))
        };
        let live = self.heard_ns.iter().filter_map(aged).max();
        live.unwrap_or_else(|| self.newest_wall_ns())
    }

    /// When the member was heard last, by the first member's clock.
    pub(super) fn common_ns(&self, place: u8, marks: &Watermarks) -> Option<u64> {
        let boot = marks.newest.map_or(0, |newest| newest.0);
        Some(self.clocks.common_ns(place, boot, marks.heard_wall_ns?))
    }

    /// The measures of a member.
    pub(crate) fn figures(&self, place: u8) -> Option<&super::Figures> {
        self.figures.get(usize::from(place))
    }

    /// Whether the current screen is not a part of the step view.
    pub(super) fn is_above_steps(&self) -> bool {
        !matches!(self.place(), Screen::Prompt | Screen::Why | Screen::Reading)
    }

    /// Closes the screen that was opened last; home stays.
    pub(super) fn back(&mut self) {
        match self.place() {
            Screen::Compared => self.compared = None,
            Screen::Console => {}
            Screen::Ask | Screen::Leaving => self.room.question = None,
            Screen::Moment | Screen::Cluster if self.trials.told.is_some() => {
                self.trials.told = None;
            }
            Screen::Moment => self.room.is_shown = false,
            Screen::Pane(_) | Screen::Seek => self.panes.shown = None,
            Screen::Cluster => {
                self.room.notice = Some("this is the first screen; q leaves the player".to_owned());
            }
            Screen::Find | Screen::List if self.find.is_in_use() => {
                self.find.back();
                self.refresh();
            }
            Screen::Find | Screen::List => self.room.is_shown = true,
            Screen::Steps | Screen::Prompt | Screen::Quiz | Screen::Why | Screen::Reading => {
                self.close_story();
                self.refresh();
            }
        }
    }

    /// The part of [`State::update`] for the cluster view, and for the ways to it and from it.
    pub(super) fn update_room(&mut self, action: Action) -> bool {
        match action {
            Action::Leave => return self.leave(),
            Action::Cluster => (self.room.is_shown, self.room.is_now) = (true, false),
            Action::Requests => {
                self.room.is_shown = false;
                self.close_story();
                self.refresh();
            }
            Action::Along(direction) => self.along(direction),
            Action::Column(number) => {
                let wanted = usize::from(number).checked_sub(1);
                match wanted.filter(|at| *at < self.board().columns.len()) {
                    Some(at) if self.room.chosen == at => {
                        self.room.notice = Some(format!("member {number} is chosen already"));
                    }
                    Some(at) => self.room.chosen = at,
                    None => self.room.notice = Some(format!("there is no member {number}")),
                }
            }
            Action::ToggleNow => self.room.is_now = !self.room.is_now,
            Action::Ask(wanted) => self.ask(wanted),
            Action::Link => self.ask_link(),
            Action::Boot => self.ask_boot(),
            Action::Confirm => match self.room.question.take() {
                Some(Question::Leave) => {
                    self.room.left = Left::StopAll;
                    return false;
                }
                Some(Question::Act(command)) => self.command(command),
                Some(Question::Boot(moment)) => self.boot(moment),
                None => {}
            },
            Action::LeaveRunning => {
                self.room.left = Left::Running;
                return false;
            }
            _ => {}
        }
        true
    }

    /// How the player was left.
    pub(crate) fn left(&self) -> Left {
        self.room.left
    }

    /// At home the player ends, after a question if members end with it; elsewhere it goes back.
    fn leave(&mut self) -> bool {
        match self.place() {
            Screen::Cluster => {
                if self.room.hands != Hands::Own {
                    return false;
                }
                self.room.question = Some(Question::Leave);
            }
            _ => self.back(),
        }
        true
    }

    fn along(&mut self, direction: Direction) {
        if !self.room.is_now
            && let Some(steps) = &mut self.steps
        {
            steps.is_playing = false;
            steps.step(Grain::Story, direction);
            self.room.notice = steps.notice.map(str::to_owned);
            return;
        }
        let columns = self.board().columns.len().max(1);
        if columns == 1 {
            self.room.notice = Some("there is no other member".to_owned());
        }
        let chosen = self.room.chosen.min(columns - 1);
        self.room.chosen = match direction {
            Direction::Forward => (chosen + 1) % columns,
            Direction::Back => (chosen + columns - 1) % columns,
        };
    }

    /// Shows now, with the same member chosen: a key acts on the members as they are now, and not
    /// as they were at a step.
    pub(super) fn show_now(&mut self) {
        if self.looked_at().is_none() || self.room.refusal().is_some() {
            return;
        }
        let chosen = |state: &State| {
            let columns = state.board().columns;
            columns
                .get(state.room.chosen.min(columns.len().saturating_sub(1)))
                .map(|it| it.name.clone())
        };
        let name = chosen(self);
        self.room.is_now = true;
        let same = |column: &Column| name.as_ref() == Some(&column.name);
        if let Some(at) = self.board().columns.iter().position(same) {
            self.room.chosen = at;
        }
    }

    /// Asks whether to do this to the chosen member, or says why it cannot be done.
    fn ask(&mut self, wanted: api::Action) {
        self.show_now();
        match self.question(wanted) {
            Ok(command) => self.room.question = Some(Question::Act(command)),
            Err(why) => self.room.notice = Some(why),
        }
    }

    fn question(&self, wanted: api::Action) -> Result<Command, String> {
        let (name, process) = self.chosen()?;
        let action = applicable(wanted, &process.state)
            .map_err(|why| format!("{name} {why} ({})", process.state))?;
        Ok(Command::to(action, process.name))
    }

    /// The name and the process of the chosen member, if `glass up` can do something to it now.
    pub(super) fn chosen(&self) -> Result<(String, Process), String> {
        if let Some(why) = self.room.refusal() {
            return Err(why.to_owned());
        }
        let board = self.board();
        let chosen = self.room.chosen.min(board.columns.len().saturating_sub(1));
        let Some(column) = board.columns.get(chosen) else {
            return Err("there is no member yet".to_owned());
        };
        let Some((process, _)) = &column.process else {
            return Err(format!("{}: `glass up` has not said yet how it is", column.name));
        };
        Ok((column.name.clone(), process.clone()))
    }

    fn command(&mut self, command: Command) {
        self.room.notice = Some(format!("{}: under way", forecast::named(&command)));
        self.room.commands.push(command);
    }

    /// What the question is about: the column, and what will happen.
    pub(crate) fn forecast(&self, command: &Command) -> Vec<String> {
        let board = self.board();
        let find = |name: &Option<String>| {
            let name = name.as_ref()?;
            let is_it = |column: &Column| {
                column.process.as_ref().is_some_and(|(process, _)| process.name == *name)
            };
            board.columns.iter().position(is_it)
        };
        match find(&command.name) {
            Some(member) if matches!(command.action, api::Action::Cut | api::Action::Heal) => {
                let ends = (member, find(&command.peer));
                forecast::of_links(command.action, ends, &board.facts())
            }
            Some(member) => forecast::forecast(command.action, member, &board.facts()),
            None => vec!["It is not known what this will do.".to_owned()],
        }
    }
}
