//! What is read of a recording only once, for all its stories.
//!
//! ```text
//!   recording ──▶ Telling: order, tables, times, states, logs, writes        once
//!                    └──▶ a story: its own events, and those in the time of it
//! ```
//!
//! As text, a hundred thousand records are a thousand stories, and each of them would read all
//! records about ten times.

use std::{cell::OnceCell, collections::BTreeMap, rc::Rc};

use glass_etcd::{
    story::{
        Recording,
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
        kept::Logs,
        lanes::{self, Lane},
        watermarks::{self, States},
    },
    openings,
    part::Ranks,
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
