//! The whole state of the player, and the one function that changes it.

use std::{collections::BTreeMap, io::BufRead};

use glass_etcd::story::{
    Recording,
    order::Order,
    recording::{self, ReadError},
};

pub(crate) use super::{alive::Heard, head::Head};
use super::{
    alive::Signs,
    anchor::Anchor,
    compared::Compared,
    console::Console,
    figures::Figures,
    find::Find,
    forget,
    help::Help,
    lanes::{self, Lane},
    list::List,
    pane::Panes,
    quiz::Quiz,
    room::{self, Hands, Room},
    seek::Seek,
    steps::{Direction, Steps},
    story,
    watermarks::{Clocks, Watermarks},
};
use crate::source::{
    Message,
    memory::{Change, Memory},
};

mod action;
mod boot;
mod cluster;
mod console_keys;
mod heads;
mod learned;
mod links;
mod manners;
mod news;
mod panes;
mod paste;
mod quiz_keys;
mod requests;
mod seeking;
mod wishes;

pub(crate) use action::{Action, Screen};
use learned::Learned;
use news::News;
use paste::LONG_NUMBER;
pub(crate) use wishes::{Origin, Wish};

/// Everything that the player knows.
#[derive(Debug)]
pub(crate) struct State {
    /// The columns of the step view, in the order of the members.
    pub(crate) lanes: Vec<Lane>,
    /// The control room.
    pub(crate) room: Room,
    /// Moments that are booted.
    pub(crate) trials: boot::Trials,
    /// The list of requests.
    pub(crate) list: List,
    /// What the list is narrowed to.
    pub(crate) find: Find,
    /// Requests of one's own.
    pub(crate) console: Console,
    /// The questions of the mode that asks.
    pub(crate) quiz: Quiz,
    /// The story in the step view; `None` in the list.
    pub(crate) steps: Option<Steps>,
    /// The story of a lesson that was left, while questions of it are to come.
    held: Option<Steps>,
    /// The views beside the stories.
    pub(crate) panes: Panes,
    /// What is searched in a view, or in a story.
    pub(crate) seek: Seek,
    /// Whether the list of keys covers the screen.
    pub(crate) is_helping: bool,
    /// The search in that list.
    pub(crate) help: Help,
    /// Whether the source of records has ended.
    pub(crate) is_closed: bool,
    /// A page over the screen.
    pub(crate) compared: Option<Compared>,
    /// Where the records come from, as a command line names it.
    pub(crate) origin: Origin,
    /// The step to open as soon as it is there.
    awaited: Option<Anchor>,
    wishes: Vec<Wish>,
    /// Why the last key has done nothing.
    notice: Option<String>,
    /// Whether a client has sent a request, as far as was captured.
    has_served: bool,
    /// The only place that holds events.
    memory: Memory,
    /// Size of the events, in bytes, beyond which the oldest stories are forgotten.
    bytes_max: usize,
    learned: Learned,
    /// How the members' wall clocks differ, by the order of the last refresh.
    clocks: Clocks,
    /// The signs of life of each member, by position.
    signs: Vec<Signs>,
    /// The measures of each member, by position.
    figures: Vec<Figures>,
    /// Time of each live member's last sign of life, on the player's clock; empty for files.
    heard_ns: BTreeMap<u8, u64>,
    now_ns: u64,
    pub(super) refreshed_ns: u64,
    news: News,
    version: u64,
}

impl State {
    fn new(memory: Memory, bytes_max: usize) -> State {
        State {
            lanes: Vec::new(),
            room: Room::default(),
            trials: boot::Trials::default(),
            list: List::default(),
            find: Find::default(),
            console: Console::default(),
            quiz: Quiz::default(),
            steps: None,
            held: None,
            panes: Panes::default(),
            seek: Seek::default(),
            is_helping: false,
            help: Help::default(),
            is_closed: false,
            compared: None,
            origin: Origin::default(),
            awaited: None,
            wishes: Vec::new(),
            notice: None,
            has_served: false,
            memory,
            bytes_max,
            learned: Learned::default(),
            clocks: Clocks::default(),
            signs: Vec::new(),
            figures: Vec::new(),
            heard_ns: BTreeMap::new(),
            now_ns: 0,
            refreshed_ns: 0,
            news: News::Nothing,
            version: 0,
        }
    }

    /// The state before the first message from these endpoints.
    pub(crate) fn of_endpoints(endpoints: &[String], bytes_max: usize) -> State {
        let mut state = State::new(Memory::of_endpoints(endpoints), bytes_max);
        state.room.hands = Hands::Nobody;
        state
    }

    /// The state that shows a file. A file that exceeds the player's memory loses its oldest
    /// stories while it is read, as with live members.
    pub(crate) fn of_file(file: impl BufRead, bytes_max: usize) -> Result<State, ReadError> {
        let mut state = State::new(Memory::default(), bytes_max);
        recording::read_with(file, |read| state.read(read))?;
        state.refresh();
        Ok(state)
    }

    /// The state that shows the requests of a whole recording, without a bound.
    pub(crate) fn of_recording(mut recording: Recording) -> State {
        let mut state = State::new(Memory::default(), usize::MAX);
        state.room.is_shown = false;
        state.read(&mut recording);
        state.refresh();
        state
    }

    /// A number that changes whenever the screen may have to be redrawn.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Makes the loop draw the screen again.
    pub(crate) fn touch(&mut self) {
        self.version += 1;
    }

    pub(crate) fn recording(&self) -> &Recording {
        self.memory.recording()
    }

    /// How many events were dropped.
    pub(crate) fn forgotten(&self) -> u64 {
        self.memory.forgotten()
    }

    /// Endpoints that do not answer, with the reason; a process that has just started needs none.
    pub(crate) fn unreachable(&self) -> BTreeMap<&str, &str> {
        let seen = self.memory.seen().iter().enumerate();
        let down = seen.filter(|(at, seen)| seen.down.is_some() && !self.is_starting(*at));
        down.map(|(_, seen)| (&*seen.endpoint, seen.down.as_deref().unwrap_or_default())).collect()
    }

    /// Processes a message. A hello or a batch is a sign of life of its own member, and of no
    /// other.
    pub(crate) fn take(&mut self, message: Message) {
        match self.memory.take(message) {
            Change::Hello(member) => {
                let members = self.memory.recording().members.len();
                self.learned.marks.resize_with(members, Watermarks::default);
                self.heard_ns.insert(member, self.now_ns);
                self.news = News::Some;
            }
            Change::Events { member, count } => {
                self.heard_ns.insert(member, self.now_ns);
                self.learn_last(count);
            }
            Change::Down { .. } => self.touch(),
        }
    }

    /// Moves over the events that were read from a file so far.
    fn read(&mut self, read: &mut Recording) {
        let count = self.memory.read(read);
        self.learn_last(count);
    }

    /// Learns from the newest `count` events, and drops the oldest stories if the events now exceed
    /// the memory bound.
    fn learn_last(&mut self, count: usize) {
        let recording = self.memory.recording();
        let first = recording.events.len() - count;
        for event in &recording.events[first..] {
            self.learned.learn(recording, event);
            self.news = self.news.max(News::of(event));
            self.console.learn(event);
        }
        if self.bytes_max < self.memory.bytes() {
            let open = self.steps.as_ref().map(|steps| steps.subject);
            let cursor = open.or_else(|| self.list.subject());
            let kept = forget::kept(recording, cursor, self.bytes_max);
            self.memory.forget(&kept);
        }
    }

    /// Advances time. `now_ns` is the player's own clock.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        let pause_ns = self.news.pause_ns(self.memory.bytes());
        if self.news != News::Nothing && self.refreshed_ns.saturating_add(pause_ns) <= now_ns {
            self.refresh();
        }
        let is_played = self.steps.as_mut().is_some_and(|steps| steps.tick(now_ns));
        let is_played = self.steps.as_mut().is_some_and(|steps| steps.feel(now_ns)) || is_played;
        if is_played {
            self.ask_on_the_way();
        }
        self.open_own_story();
        // Outside of a story, screens of live members show how long ago each sent something.
        let is_live = !self.memory.seen().is_empty();
        let is_beside = self.room.is_shown || self.panes.shown.is_some();
        let is_ageing = is_live && (self.steps.is_none() || is_beside);
        let is_waiting = self.console.waiting().is_some();
        self.version += u64::from(is_played || is_ageing || is_waiting);
    }

    /// Rebuilds everything that is derived from the recording. All of it has one order, so that no
    /// two parts of the screen place the same event differently.
    pub(crate) fn refresh(&mut self) {
        (self.news, self.refreshed_ns) = (News::Nothing, self.now_ns);
        self.version += 1;
        let recording = self.memory.recording();
        let order = match &self.steps {
            Some(steps) => Order::aligned(recording, steps.clocks()),
            None => Order::of(recording),
        };
        let found = self.find.wanted.clone().find(recording);
        let mut rows = story::requests((recording, &order), &found);
        rows.retain(|row| self.find.only.has(row));
        self.list.left_out = self.left_out(&rows, &order);
        self.list.replace(rows);
        self.note_served();
        let recording = self.memory.recording();
        self.signs = Signs::of(recording, &order);
        self.figures = Figures::of(recording, &order);
        if self.steps.as_mut().is_none_or(|steps| steps.refresh(recording, &order)) {
            self.lanes = lanes::lanes(recording);
        }
        self.clocks = order.clocks;
        self.open_awaited();
        self.refresh_pane();
    }

    /// The current screen, below the list of keys.
    pub(crate) fn place(&self) -> Screen {
        if self.console.typed.is_some() { Screen::Console } else { self.place_below() }
    }

    /// The current screen, below the list of keys and the line that is typed.
    pub(crate) fn place_below(&self) -> Screen {
        if self.compared.is_some() {
            return Screen::Compared;
        }
        match (&self.room.question, &self.steps) {
            (Some(room::Question::Act(_) | room::Question::Boot(_)), _) => return Screen::Ask,
            (Some(room::Question::Leave), _) => return Screen::Leaving,
            (None, _) if self.panes.shown.is_some() => {}
            (None, None) if self.room.is_shown => return Screen::Cluster,
            (None, Some(_)) if self.room.is_shown => return Screen::Moment,
            _ => {}
        }
        if let Some(view) = self.panes.shown {
            let is_typed = self.seek.typed().is_some();
            return if is_typed { Screen::Seek } else { Screen::Pane(view) };
        }
        match &self.steps {
            Some(_) if self.seek.typed().is_some() => Screen::Seek,
            None if self.find.typed.is_some() => Screen::Find,
            None => Screen::List,
            Some(steps) if steps.prompt.is_some() => Screen::Prompt,
            Some(steps) if self.quiz.is_open(steps) => Screen::Quiz,
            Some(steps) if steps.reading.is_some() => Screen::Reading,
            Some(steps) if steps.is_zoomed => Screen::Why,
            Some(_) => Screen::Steps,
        }
    }

    /// Performs an action. Returns whether the player continues.
    pub(crate) fn update(&mut self, action: Action) -> bool {
        self.version += 1;
        self.forget_notices();
        self.leave_console(action);
        match action {
            Action::Quit => return false,
            Action::Help | Action::Run | Action::Scroll(_) => self.update_help(action),
            Action::NextView(direction) => self.turn_to(direction),
            Action::Back if self.is_helping => self.update_help(action),
            Action::Edit(edit) => self.edit(edit),
            action if self.update_seek(action) || self.update_pane(action) => {}
            Action::Move(rows) => self.move_by(rows),
            Action::ChooseAt(_)
            | Action::ToggleFollow
            | Action::Sort
            | Action::Freeze
            | Action::Mark
            | Action::Open => self.update_list(action),
            Action::Copy
            | Action::Save
            | Action::Compare
            | Action::Suspend
            | Action::Redraw
            | Action::Mouse => self.update_wishes(action),
            Action::Leave
            | Action::Cluster
            | Action::Requests
            | Action::Along(_)
            | Action::Column(_)
            | Action::ToggleNow
            | Action::Ask(_)
            | Action::Link
            | Action::Boot
            | Action::LeaveRunning
            | Action::Confirm => {
                let goes_on = self.update_room(action);
                self.hold();
                return goes_on;
            }
            Action::Console(key) => self.update_console(key),
            Action::Predict
            | Action::Answer(_)
            | Action::Pick
            | Action::Skip
            | Action::Hint
            | Action::Tell
            | Action::Look(_)
            | Action::Jump(_)
            | Action::GoTo
            | Action::Step(..) => self.update_quiz(action),
            Action::Find | Action::Narrow => self.update_find(action),
            Action::Speed(direction) => self.change_speed(direction),
            Action::Lane(number) => self.focus(number),
            Action::Back if self.is_above_steps() => self.back(),
            _ => self.update_steps(action),
        }
        self.hold();
        true
    }

    /// The part of [`State::update`] that needs an open story.
    fn update_steps(&mut self, action: Action) {
        let Some(steps) = &mut self.steps else { return };
        let looked_at = steps.look;
        match action {
            Action::Back if steps.prompt.is_some() => steps.prompt = None,
            Action::Back if steps.reading.is_some() => steps.reading = None,
            Action::Back => steps.is_zoomed = false,
            Action::Step(grain, direction) => {
                steps.is_playing = false;
                steps.step(grain, direction);
                if direction == Direction::Forward && !self.memory.seen().is_empty() {
                    steps.wait_at_end();
                }
                steps.feel_from_here(self.now_ns);
            }
            Action::Follow(to) => steps.follow(to),
            Action::GoAt(place) => steps.go(place),
            Action::TogglePace => steps.is_in_proportion = !steps.is_in_proportion,
            Action::Jump(end) => steps.jump(end),
            Action::Prompt => steps.prompt = Some(String::new()),
            Action::Digit(digit) => {
                let fits = steps.type_digits(&digit.to_string());
                self.notice = (!fits).then(|| LONG_NUMBER.to_owned());
            }
            Action::Erase => steps.prompt.iter_mut().for_each(|typed| _ = typed.pop()),
            Action::GoTo => {
                let typed = steps.prompt.take().unwrap_or_default();
                steps.go_to(typed.parse().unwrap_or(0));
            }
            Action::TogglePlay => steps.toggle_play(self.now_ns),
            Action::ToggleFelt => steps.toggle_felt(self.now_ns),
            Action::Look(direction) => steps.look(direction),
            Action::ToggleAll => steps.shows_all = !steps.shows_all,
            Action::NextLens => steps.lens = steps.lens.next(),
            Action::TogglePath => steps.toggle_path(),
            Action::Zoom => steps.is_zoomed = true,
            Action::Read(text) => steps.read(text),
            // The others need no open story.
            _ => {}
        }
        // The text of another step opens at its own line.
        if let Some(reading) = steps.reading.as_mut().filter(|_| steps.look != looked_at) {
            reading.scrolled = 0;
        }
    }
}
