//! The passes of the watch-sync thread that brought a request's watchers forward, and the other
//! watchers for which they were.
//!
//! ```text
//!   watch.sync     ├──── pass 7 ────┤        one read, for all that are behind
//!   watch.forward        ▲      ▲            a mark for each watcher whose request is kept
//! ```
//!
//! A pass and its marks agree on the number of the pass, which counts in one start of a member.

use std::collections::HashMap;

use super::Story;
use crate::{
    field,
    story::{Event, Recording},
    trace::{record::Kind, stage::Stage},
};

/// A pass: the member, by position, its start, and the number of the pass.
type Number = (u8, u16, u64);

/// The passes of a recording, and the watchers that each has brought forward.
#[derive(Debug, Default)]
pub(super) struct Passes {
    /// Positions of the ends of passes.
    passes: HashMap<Number, usize>,
    /// Positions of their marks.
    marks: HashMap<Number, Vec<usize>>,
}

/// What a pass has done for the watchers of one request, and for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The number of the pass.
    pub number: u64,
    /// The member, by position.
    pub member: u8,
    /// Position of its `watch.sync`; `None` if that was not captured.
    pub event: Option<usize>,
    /// The captured requests whose watchers it brought forward, in their order.
    pub watchers: Vec<u64>,
}

impl Passes {
    pub(super) fn of(recording: &Recording) -> Passes {
        let mut passes = Passes::default();
        for (at, event) in recording.events.iter().enumerate() {
            match event.stage {
                Stage::WatchSync if event.kind == Kind::Span => {
                    passes.passes.insert(number(event), at);
                }
                Stage::WatchForward => passes.marks.entry(number(event)).or_default().push(at),
                _ => (),
            }
        }
        // Earlier versions did not number them.
        passes.passes.retain(|(.., number), _| *number != 0);
        passes
    }

    /// The passes that brought the watchers of a request forward.
    pub(super) fn of_story(&self, recording: &Recording, story: &Story) -> Vec<Pass> {
        let own = story.steps.iter().map(|step| &recording.events[step.event]);
        let marks = own.filter(|event| (event.stage, event.id) == (Stage::WatchForward, story.id));
        let pass = |mark: &Event| {
            let of_pass = self.marks.get(&number(mark)).into_iter().flatten();
            Pass {
                number: field!(mark, WatchForward, pass),
                member: mark.member,
                event: self.of_mark(mark),
                watchers: of_pass.map(|at| recording.events[*at].id).collect(),
            }
        };
        marks.map(pass).collect()
    }

    /// The `watch.sync` to which this mark belongs.
    pub(super) fn of_mark(&self, mark: &Event) -> Option<usize> {
        self.passes.get(&number(mark)).copied()
    }
}

fn number(event: &Event) -> Number {
    (event.member, event.boot, field!(event, WatchSync | WatchForward, pass))
}
