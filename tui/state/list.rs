//! The list of requests: newest at the bottom, slowest first, or by RPC or member; one chosen, two
//! marked at most.
//!
//! While the list follows, the newest row is always the chosen one. Moving up stops that, so that
//! the row being read does not scroll away; returning to the bottom resumes it. A frozen list keeps
//! its rows in their places and takes no new ones; what a row says still changes,
//! because a request under way ends.

use std::collections::HashMap;

use super::story::{RequestSummary, Subject};

/// The order in which the requests are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// By the time at which they began, newest last.
    #[default]
    Began,
    /// By how long they took, longest first; those under way come last.
    Slowest,
    /// By their RPC, and those of one RPC by time.
    Rpc,
    /// By the member that served them, and those of one member by time.
    Member,
}

impl Sort {
    /// The order that the key shows after this one.
    fn next(self) -> Sort {
        match self {
            Sort::Began => Sort::Slowest,
            Sort::Slowest => Sort::Rpc,
            Sort::Rpc => Sort::Member,
            Sort::Member => Sort::Began,
        }
    }
}

/// The most requests that can be marked: a comparison has two sides.
const MARKED_MAX: usize = 2;

/// The state of the list.
#[derive(Clone, Debug)]
pub(crate) struct List {
    /// The requests, oldest first.
    pub(crate) rows: Vec<RequestSummary>,
    /// Whether the chosen row is always the newest.
    pub(crate) is_following: bool,
    /// The order of the rows on the screen.
    pub(crate) sort: Sort,
    /// The requests that are marked for a comparison, the first one first.
    pub(crate) marked: Vec<Subject>,
    /// Positions in `rows`, in the order of the screen.
    places: Vec<usize>,
    /// The rows of a frozen list.
    frozen: Option<Vec<Subject>>,
    chosen: Option<Subject>,
    /// The row of the story that is open, if the search of the list leaves it out.
    pub(super) left_out: Option<RequestSummary>,
}

impl Default for List {
    fn default() -> Self {
        List {
            rows: Vec::new(),
            is_following: true,
            sort: Sort::default(),
            marked: Vec::new(),
            places: Vec::new(),
            frozen: None,
            chosen: None,
            left_out: None,
        }
    }
}

impl List {
    /// Installs a newer list; the chosen row stays chosen.
    pub(crate) fn replace(&mut self, rows: Vec<RequestSummary>) {
        self.rows = rows;
        self.arrange();
    }

    /// Puts the rows into the order of the screen.
    fn arrange(&mut self) {
        if let Some(frozen) = &self.frozen {
            let known = self.rows.iter().zip(0..).map(|(row, at)| (row.subject, at));
            let known: HashMap<Subject, usize> = known.collect();
            self.places = frozen.iter().filter_map(|subject| known.get(subject).copied()).collect();
        } else {
            self.places = (0..self.rows.len()).collect();
            let took = |at: &usize| self.rows[*at].took_ns.map(std::cmp::Reverse);
            match self.sort {
                Sort::Began => {}
                Sort::Slowest => self.places.sort_by_key(|at| (took(at).is_none(), took(at))),
                Sort::Rpc => self.places.sort_by_key(|at| self.rows[*at].method),
                Sort::Member => self.places.sort_by_key(|at| self.rows[*at].member),
            }
        }
        if self.is_following {
            self.choose(self.places.len());
        }
    }

    /// How many rows the screen has.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The rows in the order of the screen.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &RequestSummary> {
        self.places.iter().map(|at| &self.rows[*at])
    }

    /// The position of the chosen row on the screen; 0 if it is gone.
    pub(crate) fn chosen(&self) -> usize {
        self.shown().position(|row| Some(row.subject) == self.chosen).unwrap_or(0)
    }

    /// The subject of the chosen row.
    pub(crate) fn subject(&self) -> Option<Subject> {
        self.shown().nth(self.chosen()).map(|row| row.subject)
    }

    /// Chooses a row; a position beyond the end means the last row.
    fn choose(&mut self, place: usize) {
        let place = place.min(self.places.len().saturating_sub(1));
        self.chosen = self.places.get(place).map(|at| self.rows[*at].subject);
    }

    /// Chooses the row with this subject, and follows no longer.
    pub(crate) fn select(&mut self, subject: Subject) {
        (self.chosen, self.is_following) = (Some(subject), false);
    }

    /// Moves by rows, down when positive.
    pub(crate) fn move_by(&mut self, rows: isize) {
        let place = self.chosen().saturating_add_signed(rows);
        self.choose(place);
        self.is_following = self.follows_newest() && self.places.len() <= place + 1;
    }

    /// Chooses the first row.
    pub(crate) fn first(&mut self) {
        self.choose(0);
        self.is_following = false;
    }

    /// Chooses the last row, and follows it if it is always the newest.
    pub(crate) fn follow(&mut self, follow: bool) {
        self.is_following = follow && self.follows_newest();
        if follow {
            self.choose(self.places.len());
        }
    }

    /// Whether the last row is always the newest one.
    pub(crate) fn follows_newest(&self) -> bool {
        self.sort == Sort::Began && self.frozen.is_none()
    }

    /// The next order. It begins at its first row, or follows the newest one.
    pub(crate) fn change_sort(&mut self) {
        (self.sort, self.frozen) = (self.sort.next(), None);
        self.is_following = self.sort == Sort::Began;
        self.arrange();
        if self.sort != Sort::Began {
            self.choose(0);
        }
    }

    /// Whether new requests are kept out.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Keeps new requests out, or lets them in again.
    pub(crate) fn freeze(&mut self, freeze: bool) {
        self.frozen = freeze.then(|| self.shown().map(|row| row.subject).collect());
        self.is_following &= !freeze;
        self.arrange();
    }

    /// Marks the chosen request, or takes its mark away. A third mark replaces the older one.
    pub(crate) fn mark(&mut self) {
        let Some(subject) = self.subject() else { return };
        match self.marked.iter().position(|marked| *marked == subject) {
            Some(at) => _ = self.marked.remove(at),
            None => {
                self.marked.truncate(MARKED_MAX);
                if self.marked.len() == MARKED_MAX {
                    self.marked.remove(0);
                }
                self.marked.push(subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{State, scenes},
        *,
    };

    fn row(like: &RequestSummary, id: u64, took_ns: Option<u64>) -> RequestSummary {
        let subject = Subject::Request(id);
        RequestSummary { subject, took_ns, wall_ns: id, ..like.clone() }
    }

    fn list() -> List {
        let state = State::of_recording(scenes::put().recording);
        let like = &state.list.rows[0];
        let mut list = List::default();
        list.replace(vec![row(like, 1, Some(5)), row(like, 2, None), row(like, 3, Some(9))]);
        list
    }

    fn shown(list: &List) -> Vec<Subject> {
        list.shown().map(|row| row.subject).collect()
    }

    #[test]
    fn the_slowest_come_first_and_those_under_way_last() {
        let mut list = list();
        assert_eq!(Some(Subject::Request(3)), list.subject(), "the newest");
        list.change_sort();
        assert_eq!([3, 1, 2].map(Subject::Request), shown(&list)[..]);
        assert_eq!((0, false), (list.chosen(), list.is_following));
        (0..3).for_each(|_| list.change_sort());
        assert_eq!([1, 2, 3].map(Subject::Request), shown(&list)[..]);
    }

    #[test]
    fn requests_of_one_rpc_or_of_one_member_stand_together() {
        let mut list = list();
        let mut rows = list.rows.clone();
        (rows[0].method, rows[1].method, rows[2].method) = ("KV/Range", "KV/Put", "KV/Range");
        (rows[0].member, rows[1].member, rows[2].member) = (1, 1, 0);
        list.replace(rows);
        (0..2).for_each(|_| list.change_sort());
        assert_eq!((Sort::Rpc, 0), (list.sort, list.chosen()));
        assert_eq!([2, 1, 3].map(Subject::Request), shown(&list)[..]);
        list.change_sort();
        assert_eq!([3, 1, 2].map(Subject::Request), shown(&list)[..]);
    }

    #[test]
    fn a_frozen_list_takes_no_new_rows_and_tells_how_old_ones_end() {
        let mut list = list();
        list.freeze(true);
        let like = list.rows[0].clone();
        let new = vec![row(&like, 1, Some(5)), row(&like, 2, Some(7)), row(&like, 4, Some(1))];
        list.replace(new);
        assert_eq!([1, 2].map(Subject::Request), shown(&list)[..]);
        assert_eq!(Some(7), list.shown().nth(1).unwrap().took_ns);
        list.freeze(false);
        assert_eq!([1, 2, 4].map(Subject::Request), shown(&list)[..]);
    }

    #[test]
    fn two_requests_are_marked_and_a_third_takes_the_place_of_the_older() {
        let mut list = list();
        for _ in 0..3 {
            list.mark();
            list.move_by(-1);
        }
        assert_eq!([2, 1].map(Subject::Request), list.marked[..]);
        list.mark();
        assert_eq!([2].map(Subject::Request), list.marked[..]);
    }
}
