//! One story, and the reader's position in it.
//!
//! There is one cursor in time, **now**, and one for reading, **look**. Stepping moves both; moving
//! the look cursor changes what is explained, but not what has happened. Steps come in three grains
//! (story, stage, raw); stepping in a grain also shows the rows of that grain. A step is one event
//! of the whole cluster, never one per lane; with the focus on a lane, stepping skips the steps of
//! other lanes but still draws them.
//!
//! Cursors are kept by event, not by row: when live members add records, rows move and the cursor
//! stays on its event.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use glass_etcd::{
    story::{
        Memberships, Recording,
        order::Order,
        query::{method_of, through::Through, usual::Usuals},
    },
    trace::{Grain, Stage},
};

use super::{
    alive::SILENT_NS,
    axis::Axis,
    book,
    history::{History, Writes},
    kept::{Kept, Log},
    lanes::Lane,
    page::{Reading, Text},
    sources,
    story::{self, Moment, Step, Subject, Telling, Told, Unknown},
    voters::Voters,
    watermarks::{self, Clocks, States, Water, Watermarks},
};

pub(crate) mod because;
pub(crate) mod felt;
mod missing;
mod rows;

use felt::Felt;
pub(crate) use rows::Row;

pub(crate) use because::Relative;

/// Time between two steps while playing, in nanoseconds, at speed x1.
const STEP_NS: u64 = 800_000_000;
/// In proportion to real time a millisecond lasts this long, in nanoseconds, at speed x1; and the
/// shortest and longest time between two steps.
const MS_NS: u64 = 100_000_000;
const PAUSES_NS: [u64; 2] = [100_000_000, 5_000_000_000];
/// Speeds of playing, in quarters.
const SPEEDS: [u64; 6] = [1, 2, 4, 8, 16, 32];

/// Width of the book's lines by which its length is estimated.
const BOOK_WIDTH: usize = 76;

/// Forward or backward in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Back,
    Forward,
}

/// The questions that the panel answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lens {
    /// What did this step change?
    Changed,
    /// If the power failed now, would the write survive?
    Durable,
    /// Which member knows that it is committed?
    WhoKnows,
    /// What would a read of the key answer?
    Reads,
    /// Where did the time go?
    Cost,
}

impl Lens {
    /// The lens that the key `x` shows after this one.
    pub(crate) fn next(self) -> Lens {
        match self {
            Lens::Changed => Lens::Durable,
            Lens::Durable => Lens::WhoKnows,
            Lens::WhoKnows => Lens::Reads,
            Lens::Reads => Lens::Cost,
            Lens::Cost => Lens::Changed,
        }
    }
}

/// The state of the step view.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    /// The subject of the story.
    pub(crate) subject: Subject,
    /// All events from the story's first to its last, in playback order.
    pub(crate) steps: Vec<Step>,
    /// Steps that must have happened, or will, but have no row.
    pub(crate) unknown: Vec<Unknown>,
    /// Whether another entry replaced the request's before it was committed.
    pub(crate) is_lost: bool,
    /// Its log entry, if it has one.
    pub(crate) log: Option<Log>,
    /// What happened to the cluster while the request ran.
    pub(crate) through: Through,
    /// When the request began, or the first event that is no message of the old leader happened, in
    /// nanoseconds since 1970.
    pub(crate) zero_ns: u64,
    /// The index of the first entry of each term, as far as captured.
    pub(crate) openings: Rc<BTreeMap<u64, u64>>,
    /// The time cursor: everything up to and including this step has happened.
    pub(crate) now: usize,
    /// The look cursor: the step that is explained.
    pub(crate) look: usize,
    /// The finest grain that is shown.
    pub(crate) grain: Grain,
    /// The lane to which stepping is restricted; `None` for all.
    pub(crate) focus: Option<usize>,
    /// Whether only the critical path is bright.
    pub(crate) shows_path: bool,
    /// The question that the panel below the lanes answers.
    pub(crate) lens: Lens,
    /// Whether all watermarks are listed, or only those that the step changed.
    pub(crate) shows_all: bool,
    /// Felt time, while it runs.
    pub(crate) felt: Option<Felt>,
    /// Whether playing is on.
    pub(crate) is_playing: bool,
    /// Whether the time between two steps is in proportion to that in the cluster.
    pub(crate) is_in_proportion: bool,
    /// Whether the next step is shown as soon as it has been received.
    pub(crate) is_waiting: bool,
    /// Digits typed after `:`.
    pub(crate) prompt: Option<String>,
    /// Whether the why panel fills the screen.
    pub(crate) is_zoomed: bool,
    /// The text that fills the screen.
    pub(crate) reading: Option<Reading>,
    /// One line in answer to the last key, if nothing moved.
    pub(crate) notice: Option<&'static str>,
    /// How long the whole took, in nanoseconds: the request's rpc, or everything that belongs to
    /// the story as far as it was captured.
    pub(crate) whole_ns: u64,
    /// The versions of the key that the story names.
    pub(crate) history: History,
    /// How long steps usually take, as it was known when the story was opened.
    pub(crate) usuals: Rc<Usuals>,
    /// The watermarks of each member at each of its moments.
    states: Rc<States>,
    /// Who the members are.
    memberships: Rc<Memberships>,
    /// The times of all events.
    axis: Rc<Axis>,
    /// How the members' clocks differ, as it was known when the story was opened. More messages say
    /// it better, but a screen on which the reader has stopped must stand still.
    clocks: Clocks,
    speed: usize,
    due_ns: u64,
    cuts: RefCell<Cuts>,
}

/// How far each member had come, by position, at one place of the time cursor. It is asked for many
/// times at each step, and takes a look at every step of the story.
#[derive(Clone, Debug, Default)]
struct Cuts {
    now: Option<usize>,
    members: BTreeMap<u8, Option<watermarks::Moment>>,
}

impl Steps {
    /// Opens a story at its first step. For more than one story use [`Steps::of`], which reads the
    /// recording only once.
    pub(crate) fn open(recording: &Recording, subject: Subject) -> Steps {
        Steps::of(&Telling::of(recording, &Order::of(recording)), subject)
    }

    /// Opens one of many stories at its first step.
    pub(crate) fn of(telling: &Telling<'_>, subject: Subject) -> Steps {
        let told = story::story(telling, subject);
        let mut steps = Steps {
            subject,
            steps: told.steps,
            unknown: told.unknown,
            is_lost: told.is_lost,
            log: told.log,
            through: told.through,
            zero_ns: told.zero_ns,
            openings: Rc::clone(&telling.openings),
            now: 0,
            look: 0,
            grain: Grain::Story,
            focus: None,
            shows_path: false,
            lens: Lens::Changed,
            shows_all: false,
            felt: None,
            is_playing: false,
            is_in_proportion: false,
            is_waiting: false,
            prompt: None,
            is_zoomed: false,
            reading: None,
            notice: None,
            whole_ns: 0,
            history: History::default(),
            usuals: Rc::clone(&telling.usuals),
            states: Rc::clone(&telling.states),
            memberships: Rc::clone(&telling.memberships),
            axis: Rc::clone(&telling.axis),
            clocks: telling.order.clocks.clone(),
            speed: 2,
            due_ns: 0,
            cuts: RefCell::default(),
        };
        steps.whole_ns = steps.whole();
        steps.read_history(&telling.writes);
        steps.jump(Direction::Back);
        steps.notice = None;
        steps
    }

    /// The clocks by which the story was opened.
    pub(crate) fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// Adds records that arrived since, ordered by the story's [clocks](Self::clocks). A story
    /// whose beginning has been dropped meanwhile stays as it was. Returns whether it is current.
    pub(crate) fn refresh(&mut self, recording: &Recording, order: &Order) -> bool {
        let telling = Telling::of(recording, order);
        let Told { steps, unknown, is_lost, log, through, zero_ns } =
            story::story(&telling, self.subject);
        if steps.len() < self.steps.len() {
            return false;
        }
        let find = |old: Option<&Step>| {
            let old = old.map(anchor)?;
            steps.iter().position(|step| anchor(step) == old)
        };
        let now = find(self.steps.get(self.now)).unwrap_or(self.now);
        let look = find(self.steps.get(self.look)).unwrap_or(now);
        (self.now, self.look, self.steps) = (now, look, steps);
        self.cuts = RefCell::default();
        (self.unknown, self.is_lost, self.log) = (unknown, is_lost, log);
        (self.through, self.zero_ns) = (through, zero_ns);
        self.axis = Rc::clone(&telling.axis);
        self.openings = Rc::clone(&telling.openings);
        self.keep_cursors_shown();
        if self.is_waiting && self.next(Direction::Forward).is_some() {
            self.step(self.grain, Direction::Forward);
            self.is_waiting = true;
        }
        self.states = Rc::clone(&telling.states);
        self.memberships = Rc::clone(&telling.memberships);
        self.whole_ns = self.whole();
        self.read_history(&telling.writes);
        true
    }

    /// Reads the versions of the key that the story names.
    fn read_history(&mut self, writes: &Rc<Writes>) {
        let own = || self.steps.iter().filter(|step| step.is_own).map(|step| &step.event);
        // A range is no single key.
        let is_range = own().any(|event| event.range_end.is_some());
        let key = own().find_map(|event| event.key.as_ref()).filter(|_| !is_range);
        self.history = History::of(writes, key);
    }

    /// Whether stepping in this grain stops here.
    pub(super) fn stops(&self, at: usize, grain: Grain) -> bool {
        let step = &self.steps[at];
        step.grain <= grain && self.focus.is_none_or(|lane| lane == step.lane)
    }

    /// Moves one step in this grain.
    pub(crate) fn step(&mut self, grain: Grain, direction: Direction) {
        self.grain = grain;
        let next = self.next(direction);
        self.notice = match (next, direction) {
            (Some(_), _) => None,
            (None, Direction::Forward) => Some("this is the last step"),
            (None, Direction::Back) => Some("this is the first step"),
        };
        self.now = next.unwrap_or(self.now);
        self.look = self.now;
        self.is_playing &= next.is_some();
        self.is_waiting = false;
    }

    /// The next step of the current grain, or the one before.
    fn next(&self, direction: Direction) -> Option<usize> {
        let stops = |at: &usize| self.stops(*at, self.grain);
        match direction {
            Direction::Forward => (self.now + 1..self.steps.len()).find(stops),
            Direction::Back => (0..self.now).rev().find(stops),
        }
    }

    /// Waits for the step after the newest one, which live members may still send.
    pub(crate) fn wait_at_end(&mut self) {
        if self.next(Direction::Forward).is_none() {
            self.is_waiting = true;
            self.notice = Some(match self.focus {
                None => "the newest step so far; the next one is shown when it comes",
                Some(_) => "the newest step of this lane so far; 0 shows all lanes",
            });
        }
    }

    /// Moves to the first or the last step of the current grain.
    pub(crate) fn jump(&mut self, end: Direction) {
        let mut places = (0..self.steps.len()).filter(|at| self.stops(*at, self.grain));
        let place = match end {
            Direction::Back => places.next(),
            Direction::Forward => places.next_back(),
        };
        self.notice = match end {
            _ if place.is_some_and(|place| (place, place) != (self.now, self.look)) => None,
            Direction::Back => Some("this is the first step"),
            Direction::Forward => Some("this is the last step"),
        };
        self.now = place.unwrap_or(self.now);
        self.look = self.now;
    }

    /// Moves to the n-th step of the current grain, counted from 1.
    pub(crate) fn go_to(&mut self, number: usize) {
        let mut places = (0..self.steps.len()).filter(|at| self.stops(*at, self.grain));
        match number.checked_sub(1).and_then(|before| places.nth(before)) {
            Some(place) => (self.now, self.look, self.notice) = (place, place, None),
            None => self.notice = Some("there is no step with this number"),
        }
    }

    /// Appends digits to the number being typed; six are enough for every story. Returns whether
    /// they fit.
    pub(crate) fn type_digits(&mut self, digits: &str) -> bool {
        const DIGITS_MAX: usize = 6;
        let has_room = |typed: &&mut String| typed.len() + digits.len() <= DIGITS_MAX;
        self.prompt.as_mut().filter(has_room).map(|typed| typed.push_str(digits)).is_some()
    }

    /// Moves the look cursor by one row.
    pub(crate) fn look(&mut self, direction: Direction) {
        let shown = |at: &usize| self.steps[*at].grain <= self.grain;
        let next = match direction {
            Direction::Forward => (self.look + 1..self.steps.len()).find(shown),
            Direction::Back => (0..self.look).rev().find(shown),
        };
        self.notice = match direction {
            _ if next.is_some() => None,
            Direction::Forward => Some("there is no row below"),
            Direction::Back => Some("there is no row above"),
        };
        self.look = next.unwrap_or(self.look);
    }

    /// Restricts stepping to a lane and moves the cursor to its nearest step; `None` for all lanes.
    pub(crate) fn focus_on(&mut self, lane: Option<usize>) {
        self.focus = lane;
        let places = || (0..self.steps.len()).filter(|at| self.stops(*at, self.grain));
        let nearest = places().rfind(|at| *at <= self.now).or_else(|| places().next());
        match nearest {
            Some(place) => (self.now, self.look, self.notice) = (place, place, None),
            None => self.notice = Some("nothing of this story happens in that lane"),
        }
    }

    /// Opens the source of the step, or its section of the book.
    pub(crate) fn read(&mut self, text: Text) {
        self.reading = Some(Reading { text, scrolled: 0 });
    }

    /// Turns the pages of the text that is read, down when positive, no further than its ends.
    /// Returns whether that was possible.
    pub(crate) fn turn(&mut self, lines: isize) -> bool {
        let Some(step) = self.steps.get(self.look) else { return false };
        let Some(reading) = &mut self.reading else { return false };
        let page = match reading.text {
            Text::Source => sources::page(step.event.stage),
            Text::Book => book::page(step.event.stage, BOOK_WIDTH),
        };
        let size = |lines: usize| isize::try_from(lines).unwrap_or(isize::MAX);
        let (above, below) = (size(page.at), size(page.lines.len().saturating_sub(page.at)));
        let before = reading.scrolled;
        reading.scrolled = before.saturating_add(lines).clamp(-above, below);
        reading.scrolled != before
    }

    /// Makes the critical path bright, or all steps again.
    pub(crate) fn toggle_path(&mut self) {
        let has_path = self.steps.iter().any(|step| step.on_path.is_some());
        self.shows_path = !self.shows_path && has_path;
        self.notice = match has_path {
            true => None,
            false => Some("no critical path: no captured end of an rpc"),
        };
    }

    /// Whether the step stands back: in another lane than the chosen one, or off the path.
    pub(crate) fn stands_back(&self, step: &Step) -> bool {
        self.focus.is_some_and(|lane| lane != step.lane)
            || (self.shows_path && step.on_path.is_none())
    }

    /// See [`Steps::whole_ns`].
    fn whole(&self) -> u64 {
        let own = || self.steps.iter().filter(|step| step.is_own);
        let answer = own().find(|step| self.is_request(step) && step.moment == Moment::Done);
        let last = own().map(|step| step.wall_ns).max();
        let since = last.unwrap_or(0).saturating_sub(self.zero_ns);
        answer.map_or(since, |step| step.event.took_ns)
    }

    /// Position of the cursor among the steps of its grain, counted from 1, and their number.
    pub(crate) fn position(&self) -> (usize, usize) {
        let stops = |at: &usize| self.stops(*at, self.grain);
        let total = (0..self.steps.len()).filter(stops).count();
        let before = (0..self.steps.len()).take(self.now + 1).filter(stops).count();
        (before, total)
    }

    /// Starts or stops playing. Playing from the end starts again from the beginning.
    pub(crate) fn toggle_play(&mut self, now_ns: u64) {
        self.is_waiting = false;
        let (at, total) = self.position();
        if !self.is_playing && at == total {
            self.jump(Direction::Back);
            self.notice = None;
        }
        self.is_playing = !self.is_playing;
        self.due_ns = now_ns + self.pause_ns();
    }

    /// Plays faster or slower by one notch of [`SPEEDS`].
    pub(crate) fn change_speed(&mut self, direction: Direction) {
        self.speed = match direction {
            Direction::Forward => (self.speed + 1).min(SPEEDS.len() - 1),
            Direction::Back => self.speed.saturating_sub(1),
        };
    }

    /// The speed, in words.
    pub(crate) fn speed_word(&self) -> &'static str {
        match self.is_in_proportion {
            false => ["x1/4", "x1/2", "x1", "x2", "x4", "x8"][self.speed],
            true => ["~x1/4", "~x1/2", "~x1", "~x2", "~x4", "~x8"][self.speed],
        }
    }

    /// How long the current step stays: the same for all, or in proportion to the time until the
    /// next one in the cluster.
    fn pause_ns(&self) -> u64 {
        let steady = match self.next(Direction::Forward) {
            Some(next) if self.is_in_proportion => {
                let real = self.steps[next].wall_ns.saturating_sub(self.now_wall_ns());
                let [least, most] = PAUSES_NS;
                (real.min(MS_NS) * (MS_NS / 1_000_000)).clamp(least, most)
            }
            _ => STEP_NS,
        };
        steady * 4 / SPEEDS[self.speed]
    }

    /// Plays the step that is due. Returns whether there was one.
    pub(crate) fn tick(&mut self, now_ns: u64) -> bool {
        let is_due = self.is_playing && self.due_ns <= now_ns;
        if is_due {
            self.step(self.grain, Direction::Forward);
            self.due_ns = now_ns + self.pause_ns();
        }
        is_due
    }

    /// How far a member had come at the cursor, on its own clock; `None` if it sent no records
    /// until then. Its own steps of the story bound that, and the time of the cursor says the rest.
    pub(crate) fn cut(&self, place: u8) -> Option<watermarks::Moment> {
        let mut cuts = self.cuts.borrow_mut();
        if cuts.now != Some(self.now) {
            *cuts = Cuts { now: Some(self.now), members: BTreeMap::new() };
        }
        *cuts.members.entry(place).or_insert_with(|| self.cut_anew(place))
    }

    fn cut_anew(&self, place: u8) -> Option<watermarks::Moment> {
        let is_here = |step: &&Step| step.is_captured && step.event.member == place;
        let (happened, to_come) = self.steps.split_at(self.steps.len().min(self.now + 1));
        let last =
            happened.iter().filter(is_here).map(|step| watermarks::moment(&step.event)).max();
        let next = to_come.iter().filter(is_here).map(|step| watermarks::moment(&step.event)).min();
        let reached = last.max(self.axis.reached(place, self.now_wall_ns()));
        match next.map(|(boot, clock)| (boot, clock.saturating_sub(1))) {
            Some(before) if reached.is_none_or(|reached| before < reached) => Some(before),
            _ => reached,
        }
    }

    /// How far the entry has come on the member of a lane, at the cursor.
    pub(crate) fn kept(&self, log: &Log, lane: &Lane) -> Kept {
        let Some(place) = lane.place else { return Kept::Unknown };
        let Some(cut) = self.cut(place) else { return Kept::Unknown };
        let marks = |moment| self.marks_at(place, moment);
        let kept = log.kept((place, cut), marks, self.knows(log, lane) == Some(true));
        // What its disk has done since its last record, nobody knows.
        if kept.is_safe() || !self.is_past_last(place, cut) { kept } else { Kept::Unknown }
    }

    /// Whether the cursor is far behind the last record of a start that had come to this moment.
    fn is_past_last(&self, place: u8, cut: watermarks::Moment) -> bool {
        let heard = self.axis.heard_ns(place, cut).unwrap_or(0);
        let silent = self.now_wall_ns().saturating_sub(heard);
        SILENT_NS < silent && self.axis.is_last(place, cut)
    }

    /// Whether the member of a lane knows at the cursor that the entry is committed, if that is
    /// known. One that has applied it, or has answered its client, does, even if nothing else was
    /// captured.
    pub(crate) fn knows(&self, log: &Log, lane: &Lane) -> Option<bool> {
        let proves = |step: &Step| {
            let is_answer = self.is_request(step) && step.event.result == 0;
            step.is_own
                && step.moment == Moment::Done
                && lane.place == Some(step.event.member)
                && (is_answer || log.is_applied_by(&step.event))
        };
        if self.happened().iter().any(proves) {
            return Some(true);
        }
        self.watermarks(lane)?.reaches(Water::Commit, log.entry.1)
    }

    /// Whether a later leader's entry has replaced the story's, at the cursor.
    pub(crate) fn is_replaced(&self, log: &Log) -> bool {
        log.is_replaced(|place| self.cut(place))
    }

    /// The steps that have happened at the cursor.
    pub(crate) fn happened(&self) -> &[Step] {
        &self.steps[..self.steps.len().min(self.now + 1)]
    }

    /// Whether the step is the story's own rpc, and not that of a part of it.
    pub(crate) fn is_request(&self, step: &Step) -> bool {
        step.is_own
            && step.event.stage == Stage::Rpc
            && self.subject == Subject::Request(step.event.id)
    }

    /// Whether the step is an rpc that a client has sent, and not one of the member itself.
    pub(crate) fn is_of_client(&self, step: &Step) -> bool {
        self.is_request(step) && !method_of(&step.event).starts_with("internal/")
    }

    /// When the step at the cursor took effect, in nanoseconds since 1970.
    pub(crate) fn now_wall_ns(&self) -> u64 {
        self.steps.get(self.now).map_or(0, |step| step.wall_ns)
    }

    /// The watermarks of a lane's member at the cursor.
    pub(crate) fn watermarks(&self, lane: &Lane) -> Option<Watermarks> {
        let place = lane.place?;
        Some(self.marks_at(place, self.cut(place)?))
    }

    /// The watermarks of a member at a moment of its own.
    pub(crate) fn marks_at(&self, place: u8, cut: watermarks::Moment) -> Watermarks {
        watermarks::at(&self.states, place, cut, self.axis.heard_ns(place, cut))
    }

    /// Which of the lanes' members vote at the cursor, by what the member that is furthest has
    /// applied; `None` if that is not known.
    pub(crate) fn voters(&self, lanes: &[Lane]) -> Option<Voters> {
        let marks = lanes.iter().filter_map(|lane| self.watermarks(lane));
        let applied = marks.filter_map(|marks| marks.least(Water::Applied)).max();
        self.voters_at(applied, lanes)
    }

    /// Which of the lanes' members vote by the configuration of a member that has applied as much.
    pub(crate) fn voters_at(&self, applied: Option<u64>, lanes: &[Lane]) -> Option<Voters> {
        let ids: Vec<u64> = lanes.iter().map(|lane| lane.member_id).collect();
        Voters::of(&self.memberships, applied, &ids)
    }

    /// The watermarks of the step's member just before the step.
    pub(crate) fn before(&self, step: &Step) -> Watermarks {
        let (boot, clock) = watermarks::moment(&step.event);
        self.marks_at(step.event.member, (boot, clock.saturating_sub(1)))
    }
}

/// The identity of a step, so that a cursor can find it again.
fn anchor(step: &Step) -> (u8, watermarks::Moment, Stage, Moment, bool) {
    let event = &step.event;
    (event.member, watermarks::moment(event), event.stage, step.moment, step.is_captured)
}
