//! What is read of a recording only once, for all its stories.
//!
//! ```text
//!   recording ──▶ Telling: order, tables, times, states, logs, writes        once
//!                    └──▶ a story: its own events, and those in the time of it
//! ```
//!
//! As text, a hundred thousand records are a thousand stories, and each of them would read all
//! records about ten times.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use glass_etcd::{
    story::{
        Memberships, Recording,
        order::Order,
        query::{Stories, usual::Usuals},
    },
    trace::Stage,
};

use super::{
    super::{
        ahead::Titles,
        axis::Axis,
        history::Writes,
        join,
        kept::Logs,
        lanes::{self, Lane},
        watermarks::{self, States, moment},
    },
    openings,
};

/// See the module's text.
pub(crate) struct Telling<'a> {
    pub(crate) recording: &'a Recording,
    pub(crate) order: &'a Order,
    pub(super) stories: Stories<'a>,
    pub(super) lanes: Vec<Lane>,
    pub(super) ranks: Ranks,
    pub(super) logs: Logs,
    /// Positions of all marks of lost records.
    pub(super) lost: Vec<usize>,
    titles: OnceCell<Titles>,
    /// The index of the first entry of each term, which is empty, as far as captured.
    pub(crate) openings: Rc<BTreeMap<u64, u64>>,
    /// The times of all events.
    pub(crate) axis: Rc<Axis>,
    /// The watermarks of each member at each of its moments.
    pub(crate) states: Rc<States>,
    /// Who the members are.
    pub(crate) memberships: Rc<Memberships>,
    /// How long steps usually take.
    pub(crate) usuals: Rc<Usuals>,
    /// The versions of all keys.
    pub(crate) writes: Rc<Writes>,
}

impl<'a> Telling<'a> {
    /// Reads a recording once.
    pub(crate) fn of(recording: &'a Recording, order: &'a Order) -> Telling<'a> {
        let states = watermarks::states(recording);
        let events = recording.events.iter().enumerate();
        let lost = events.filter(|(_, event)| event.stage == Stage::Lost).map(|(at, _)| at);
        Telling {
            recording,
            order,
            stories: Stories::new(recording, order),
            lanes: lanes::lanes(recording),
            ranks: Ranks::of(recording, order),
            logs: Logs::of(recording),
            lost: lost.collect(),
            titles: OnceCell::new(),
            openings: Rc::new(openings(recording)),
            axis: Rc::new(Axis::of(recording, order)),
            memberships: Rc::new(Memberships::of(recording)),
            usuals: Rc::new(Usuals::of(recording)),
            writes: Rc::new(Writes::of(recording, &states)),
            states: Rc::new(states),
        }
    }

    /// The titles of all requests.
    pub(super) fn titles(&self) -> &Titles {
        self.titles.get_or_init(|| Titles::of(self.recording))
    }
}

/// Where the events are in the playback order.
#[derive(Debug)]
pub(super) struct Ranks {
    /// The rank of each event, by position; `None` if it has none yet.
    of_event: Vec<Option<usize>>,
    /// For each start of a member, the points of its events on its clock, with their ranks.
    by_start: HashMap<(u8, u16), Vec<(u64, usize)>>,
}

impl Ranks {
    fn of(recording: &Recording, order: &Order) -> Ranks {
        let mut ranks =
            Ranks { of_event: vec![None; recording.events.len()], by_start: HashMap::new() };
        for (rank, at) in order.rows.iter().enumerate() {
            let (boot, clock) = moment(&recording.events[*at]);
            let start = (recording.events[*at].member, boot);
            ranks.of_event[*at] = Some(rank);
            ranks.by_start.entry(start).or_default().push((clock, rank));
        }
        ranks
    }

    /// The ranks of these events, and of those in the window around them.
    pub(super) fn around(&self, recording: &Recording, own: &BTreeSet<usize>) -> BTreeSet<usize> {
        let window = join::Window::of(own.iter().map(|at| &recording.events[*at]));
        let mut ranks: BTreeSet<usize> = own.iter().filter_map(|at| self.of_event[*at]).collect();
        for (start, (from, to)) in window.spans() {
            // A start's events are played in the order of its clock.
            let events = self.by_start.get(&start).map_or(&[][..], Vec::as_slice);
            let first = events.partition_point(|(clock, _)| *clock < from);
            let within = events[first..].iter().take_while(|(clock, _)| *clock <= to);
            ranks.extend(within.map(|(_, rank)| *rank));
        }
        ranks
    }
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::recording;

    use super::*;

    /// Goal: what a story shows of the time around it is found without a look at every event.
    /// Method: for every request of a recording with restarts, the same by looking at every event.
    #[test]
    fn the_events_in_the_time_of_a_story_are_all_found_and_no_others() {
        let text = include_str!("../../../tests/recordings/elections.ndjson");
        let recording = recording::read(text.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let (ranks, stories) = (Ranks::of(&recording, &order), Stories::new(&recording, &order));
        let ids: BTreeSet<u64> = recording.events.iter().map(|event| event.id).collect();
        let mut found_in_all = 0;
        for known in ids.into_iter().filter_map(|id| stories.of(id)) {
            let own: BTreeSet<usize> = known.steps.iter().map(|step| step.event).collect();
            let window = join::Window::of(own.iter().map(|at| &recording.events[*at]));
            let is_near = |(_, at): &(usize, &usize)| {
                own.contains(*at) || window.contains(&recording.events[**at])
            };
            let near = order.rows.iter().enumerate().filter(is_near).map(|(rank, _)| rank);
            let found = ranks.around(&recording, &own);
            assert_eq!(near.collect::<BTreeSet<usize>>(), found, "{:016x}", known.id);
            found_in_all += found.len() - own.len();
        }
        assert_ne!(0, found_in_all, "no story has events of others around it");
    }
}
