//! The whole state of the player, and the one function that changes it.

use std::collections::BTreeMap;

use glass_etcd::trace::{BootInfo, Event, Grain, MemberInfo, Recording, Stage};

use super::{
    lanes::{self, Lane},
    list::List,
    steps::{Direction, SILENT_NS, Steps},
    story::{self, RequestSummary, Subject},
    watermarks::{self, Water, Watermarks},
};

/// Events that are kept of live members; the oldest go first. Some 10 MB.
const EVENTS_MAX: usize = 50_000;
/// How often lists are made anew while records stream in, in nanoseconds.
const REFRESH_NS: u64 = 250_000_000;

/// What a key can ask for. The table in `keys.rs` says which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Leave the player.
    Quit,
    /// Show the keys that are valid now.
    Help,
    /// Close what was opened last.
    Back,
    /// Choose another row of the list, down when positive.
    Choose(isize),
    /// The oldest row.
    ChooseFirst,
    /// The newest row.
    ChooseLast,
    /// Keep to the newest row, or stop that.
    ToggleFollow,
    /// Open the chosen story.
    Open,
    /// One step in time.
    Step(Grain, Direction),
    /// The first or the last step.
    Jump(Direction),
    /// Start typing the number of a step.
    Prompt,
    /// A digit of that number.
    Digit(u8),
    /// Take back a digit.
    Erase,
    /// Go to the step with that number.
    GoTo,
    /// Play or pause.
    TogglePlay,
    /// Faster or slower.
    Speed(Direction),
    /// Step in one lane only, counted from 1; 0 for all.
    Lane(u8),
    /// Move the look cursor.
    Look(Direction),
    /// Only what changed, or all watermarks.
    ToggleAll,
    /// The next question of the panel.
    NextLens,
    /// The why panel over the whole screen.
    Zoom,
}

/// What is on the screen; it decides which keys are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The list of requests.
    List,
    /// The step view.
    Steps,
    /// The step view, while a number is typed.
    Prompt,
    /// The why panel over the whole screen.
    Why,
}

/// Whether anything is heard of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing, ever.
    Never,
    /// Nothing for this many nanoseconds.
    Silent(u64),
    /// Just now.
    Fresh,
}

/// The head of a lane: what is known of a member.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Its name.
    pub(crate) name: String,
    /// Where it stands, as far as it is known.
    pub(crate) marks: Watermarks,
    /// How fresh that is.
    pub(crate) heard: Heard,
}

/// Everything that the player knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Every event that was heard and not yet forgotten.
    pub(crate) recording: Recording,
    /// The columns.
    pub(crate) lanes: Vec<Lane>,
    /// The list of requests.
    pub(crate) list: List,
    /// The open story.
    pub(crate) steps: Option<Steps>,
    /// Whether the keys are listed over everything else.
    pub(crate) is_helping: bool,
    /// Endpoints that do not answer, with the reason.
    pub(crate) unreachable: BTreeMap<String, String>,
    /// Whether the source of records has ended.
    pub(crate) is_closed: bool,
    marks: Vec<Watermarks>,
    /// For each member, how many requests it had finished when it was first heard.
    seen_first: BTreeMap<(u8, u16), u64>,
    /// For each live member, requests finished since its hello.
    seen_live: BTreeMap<u8, u64>,
    /// When each live member was last heard, on the player's clock. Empty for recordings.
    heard_ns: BTreeMap<u8, u64>,
    now_ns: u64,
    refreshed_ns: u64,
    is_dirty: bool,
    version: u64,
}

impl State {
    /// A number that changes whenever a screen may have to be drawn anew.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Asks for the screen to be drawn anew.
    pub(crate) fn touch(&mut self) {
        self.version += 1;
    }

    /// The state that shows a recording.
    pub(crate) fn of_recording(recording: Recording) -> State {
        let mut state = State {
            marks: vec![Watermarks::default(); recording.members.len()],
            ..State::default()
        };
        for event in &recording.events {
            state.learn(&recording, event);
        }
        state.recording = recording;
        state.refresh();
        state
    }

    /// A live member has said who it is. A member that was started anew says so again.
    pub(crate) fn hello(&mut self, place: u8, endpoint: &str, info: MemberInfo) {
        self.unreachable.remove(endpoint);
        let at = usize::from(place);
        while self.recording.members.len() <= at {
            let unknown = MemberInfo {
                member_id: 0,
                cluster_id: 0,
                name: "unknown".to_owned(),
                version: String::new(),
                boots: Vec::new(),
            };
            self.recording.members.push(unknown);
            self.recording.dropped.push(0);
            self.marks.push(Watermarks::default());
        }
        let mut boots: Vec<BootInfo> = std::mem::take(&mut self.recording.members[at].boots);
        boots.retain(|old| info.boots.iter().all(|new| new.boot != old.boot));
        boots.extend(&info.boots);
        self.recording.members[at] = MemberInfo { boots, ..info };
        self.heard_ns.insert(place, self.now_ns);
        self.is_dirty = true;
    }

    /// A live member tells what happened in it.
    pub(crate) fn records(&mut self, place: u8, events: Vec<Event>, seen: u64, dropped: u64) {
        self.heard_ns.insert(place, self.now_ns);
        self.seen_live.insert(place, seen);
        if let Some(slot) = self.recording.dropped.get_mut(usize::from(place)) {
            *slot = dropped;
        }
        let mut recording = std::mem::take(&mut self.recording);
        for event in &events {
            self.learn(&recording, event);
        }
        self.is_dirty |= !events.is_empty();
        recording.events.extend(events);
        if EVENTS_MAX < recording.events.len() {
            recording.events.drain(..EVENTS_MAX / 4);
        }
        self.recording = recording;
    }

    fn learn(&mut self, recording: &Recording, event: &Event) {
        let Some(marks) = self.marks.get_mut(usize::from(event.member)) else { return };
        marks.learn(event, watermarks::wall(recording, event));
        if event.stage == Stage::KeyframeBackend
            && let Some(seen) = marks.get(Water::Seen)
        {
            self.seen_first.entry((event.member, event.boot)).or_insert(seen);
        }
    }

    /// Time passes. `now_ns` is the player's own clock.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        if self.is_dirty && self.refreshed_ns + REFRESH_NS <= now_ns {
            self.refresh();
        }
        let is_played = self.steps.as_mut().is_some_and(|steps| steps.tick(now_ns));
        // The list of live members shows how long ago each of them was heard.
        let is_ageing = self.steps.is_none() && !self.heard_ns.is_empty();
        self.version += u64::from(is_played || is_ageing);
    }

    /// Makes anew what is derived from the recording.
    pub(crate) fn refresh(&mut self) {
        (self.is_dirty, self.refreshed_ns) = (false, self.now_ns);
        self.version += 1;
        self.list.replace(story::requests(&self.recording));
        if self.steps.as_mut().is_none_or(|steps| steps.refresh(&self.recording)) {
            self.lanes = lanes::lanes(&self.recording);
        }
    }

    /// What is on the screen, below the list of keys.
    pub(crate) fn place(&self) -> Place {
        match &self.steps {
            None => Place::List,
            Some(steps) if steps.prompt.is_some() => Place::Prompt,
            Some(steps) if steps.is_zoomed => Place::Why,
            Some(_) => Place::Steps,
        }
    }

    /// What is known of each member: at the cursor when a story is open, and at last otherwise.
    pub(crate) fn heads(&self) -> Vec<Head> {
        let newest = self.marks.iter().filter_map(|marks| marks.heard_wall_ns).max().unwrap_or(0);
        let head = |lane: &Lane| {
            let (marks, heard) = match (&self.steps, lane.place) {
                (_, None) => (Watermarks::default(), Heard::Never),
                (Some(steps), Some(_)) => {
                    let marks = steps.watermarks(&self.recording, lane).unwrap_or_default();
                    let heard = freshness(steps.now_wall_ns(), marks.heard_wall_ns);
                    (marks, heard)
                }
                (None, Some(place)) => {
                    let marks = self.marks[usize::from(place)].clone();
                    let heard = self.heard_last(place, newest, &marks);
                    (marks, heard)
                }
            };
            Head { name: lane.name.clone(), marks, heard }
        };
        self.lanes.iter().map(head).collect()
    }

    /// Live members are timed by their messages' arrival, recorded ones by their own clocks.
    fn heard_last(&self, place: u8, newest_ns: u64, marks: &Watermarks) -> Heard {
        match self.heard_ns.get(&place) {
            Some(_) if marks.newest.is_none() => Heard::Never,
            Some(heard) => freshness(self.now_ns, Some(*heard)),
            None => freshness(newest_ns, marks.heard_wall_ns),
        }
    }

    /// How many requests are shown, and how many the members have finished meanwhile, where their
    /// keyframes or their messages tell.
    pub(crate) fn thinning(&self) -> (usize, Option<u64>) {
        let of_keyframes = |((place, boot), first): (&(u8, u16), &u64)| {
            let marks = self.marks.get(usize::from(*place))?;
            let is_newest = marks.newest.is_some_and(|newest| newest.0 == *boot);
            is_newest
                .then(|| marks.get(Water::Seen))
                .flatten()
                .map(|seen| seen.saturating_sub(*first))
        };
        let seen = if self.seen_first.is_empty() {
            Some(self.seen_live.values().sum()).filter(|seen| *seen != 0)
        } else {
            Some(self.seen_first.iter().filter_map(of_keyframes).sum())
        };
        let is_request = |row: &&RequestSummary| matches!(row.subject, Subject::Request(_));
        (self.list.rows.iter().filter(is_request).count(), seen)
    }

    /// Does what a key asks for. Returns whether the player goes on.
    pub(crate) fn update(&mut self, action: Action) -> bool {
        self.version += 1;
        match action {
            Action::Quit => return false,
            Action::Help => self.is_helping = true,
            Action::Back if self.is_helping => self.is_helping = false,
            Action::Choose(rows) => self.list.move_by(rows),
            Action::ChooseFirst => self.list.first(),
            Action::ChooseLast => self.list.follow(true),
            Action::ToggleFollow => self.list.follow(!self.list.is_following),
            Action::Open => self.open(),
            Action::Back if self.place() == Place::Steps => {
                self.steps = None;
                self.refresh();
            }
            Action::Back
            | Action::Step(..)
            | Action::Jump(_)
            | Action::Prompt
            | Action::Digit(_)
            | Action::Erase
            | Action::GoTo
            | Action::TogglePlay
            | Action::Speed(_)
            | Action::Lane(_)
            | Action::Look(_)
            | Action::ToggleAll
            | Action::NextLens
            | Action::Zoom => self.update_steps(action),
        }
        true
    }

    fn open(&mut self) {
        self.refresh();
        if let Some(subject) = self.list.subject() {
            self.list.is_following = false;
            self.steps = Some(Steps::open(&self.recording, subject));
        }
    }

    /// The part of [`State::update`] that needs an open story.
    fn update_steps(&mut self, action: Action) {
        let lanes = self.lanes.len();
        let Some(steps) = &mut self.steps else { return };
        match action {
            Action::Back if steps.prompt.is_some() => steps.prompt = None,
            Action::Back => steps.is_zoomed = false,
            Action::Step(grain, direction) => {
                steps.is_playing = false;
                steps.step(grain, direction);
            }
            Action::Jump(end) => steps.jump(end),
            Action::Prompt => steps.prompt = Some(String::new()),
            Action::Digit(digit) => type_digit(steps, digit),
            Action::Erase => steps.prompt.iter_mut().for_each(|typed| _ = typed.pop()),
            Action::GoTo => {
                let typed = steps.prompt.take().unwrap_or_default();
                steps.go_to(typed.parse().unwrap_or(0));
            }
            Action::TogglePlay => steps.toggle_play(self.now_ns),
            Action::Speed(direction) => steps.change_speed(direction),
            Action::Lane(number) => {
                steps.focus = usize::from(number).checked_sub(1).filter(|lane| *lane < lanes);
            }
            Action::Look(direction) => steps.look(direction),
            Action::ToggleAll => steps.shows_all = !steps.shows_all,
            Action::NextLens => steps.lens = steps.lens.next(),
            Action::Zoom => steps.is_zoomed = true,
            Action::Quit
            | Action::Help
            | Action::Choose(_)
            | Action::ChooseFirst
            | Action::ChooseLast
            | Action::ToggleFollow
            | Action::Open => {}
        }
    }
}

/// Adds a digit to the number that is typed; six are enough for every story.
fn type_digit(steps: &mut Steps, digit: u8) {
    const DIGITS_MAX: usize = 6;
    if let Some(typed) = steps.prompt.as_mut().filter(|typed| typed.len() < DIGITS_MAX) {
        *typed += &digit.to_string();
    }
}

fn freshness(now_ns: u64, heard_ns: Option<u64>) -> Heard {
    match heard_ns.map(|heard| now_ns.saturating_sub(heard)) {
        None => Heard::Never,
        Some(ago) if SILENT_NS < ago => Heard::Silent(ago),
        Some(_) => Heard::Fresh,
    }
}
