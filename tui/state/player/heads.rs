//! How each member stands, at the cursor or now.

use super::{
    super::{
        alive::SILENT_NS,
        lanes::Lane,
        links::far_ends,
        room,
        steps::Steps,
        voters::Voters,
        watermarks::{Water, Watermarks},
    },
    Head, Heard, State,
};

impl State {
    /// The known state of each member: at the cursor of a story if there is one, otherwise the
    /// newest.
    pub(crate) fn heads(&self) -> Vec<Head> {
        self.heads_of(self.cursor_story())
    }

    /// The known state of each member at the cursor of this story, or the newest.
    pub(super) fn heads_of(&self, steps: Option<&Steps>) -> Vec<Head> {
        let newest = self.newest_wall_ns();
        let links = self.cut_between(self.lanes.iter().map(|lane| lane.place), steps);
        let voters = self.voters_of(steps);
        let head = |(at, lane): (usize, &Lane)| {
            let (marks, heard) = match (steps, lane.place) {
                (_, None) => (Watermarks::default(), Heard::Never),
                (Some(steps), Some(place)) => {
                    let marks = steps.watermarks(lane).unwrap_or_default();
                    let heard = self.heard_at(place, steps.now_wall_ns(), marks.heard_wall_ns);
                    (marks, heard)
                }
                (None, Some(place)) => {
                    let known = self.learned.marks.get(usize::from(place));
                    let marks = known.cloned().unwrap_or_default();
                    let heard = self.heard_last(place, newest, &marks);
                    (marks, heard)
                }
            };
            let cut = far_ends(&links, at).collect();
            let standing = voters.as_ref().map(|voters| voters.standing(at));
            Head { name: lane.name.clone(), marks, heard, standing, cut }
        };
        self.lanes.iter().enumerate().map(head).collect()
    }

    /// Which of the lanes' members vote at the cursor of this story, or now.
    pub(super) fn voters_of(&self, steps: Option<&Steps>) -> Option<Voters> {
        let ids: Vec<u64> = self.lanes.iter().map(|lane| lane.member_id).collect();
        match steps {
            Some(steps) => steps.voters(&self.lanes),
            None => self.voters_now(&ids),
        }
    }

    /// Which of the members with these ids vote now, by what the member that is furthest has
    /// applied.
    pub(super) fn voters_now(&self, ids: &[u64]) -> Option<Voters> {
        let marks = self.learned.marks.iter();
        let applied = marks.filter_map(|marks| marks.least(Water::Applied)).max();
        Voters::of(&self.learned.memberships, applied, ids)
    }

    /// Live members are timed by the arrival of their messages, recorded ones by their clocks.
    fn heard_last(&self, place: u8, newest_ns: u64, marks: &Watermarks) -> Heard {
        let heard = match self.heard_ns.get(&place) {
            Some(_) if marks.newest.is_none() => Heard::Never,
            Some(heard) if self.memory.is_down(place) => {
                Heard::Down(self.now_ns.saturating_sub(*heard))
            }
            Some(heard) => match self.now_ns.saturating_sub(*heard) {
                0..=SILENT_NS => Heard::Fresh,
                ago => Heard::Silent(ago),
            },
            None => self.heard_at(place, newest_ns, self.common_ns(place, marks)),
        };
        match self.process_at(place) {
            Some((process, since_ns)) => room::heard_of_process(&process.state, since_ns, heard),
            None => heard,
        }
    }

    /// The time of the newest record of all members, in nanoseconds since 1970; 0 without any.
    pub(super) fn newest_wall_ns(&self) -> u64 {
        let heard = self.learned.marks.iter().zip(0..);
        heard.filter_map(|(marks, place)| self.common_ns(place, marks)).max().unwrap_or(0)
    }

    /// Whether a member runs at a moment of the recording, if its last record is from `heard`.
    fn heard_at(&self, place: u8, at_ns: u64, heard: Option<u64>) -> Heard {
        match self.signs.get(usize::from(place)) {
            Some(signs) => signs.heard(at_ns, heard),
            None => Heard::Never,
        }
    }
}
