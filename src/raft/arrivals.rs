//! How long the raft thread's inputs waited in its inbox, for the records of what they bring about.
//!
//! An input leaves no record of its own. Its wait stands in the record of its effect: the entry
//! that a message has brought, the commit index that it has moved. So the wait costs a number, and
//! no record more.

use std::collections::VecDeque;

/// The waits of the inputs of this turn.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// The wait of the input that is carried out now, in nanoseconds.
    waited_ns: u64,
    /// The last index of the log after each message that brought entries, and that message's wait.
    /// At most as many as a turn has inputs.
    brought: VecDeque<(u64, u64)>,
}

impl Arrivals {
    /// The next input is carried out, after this wait in nanoseconds; 0 for what no input causes.
    pub(super) fn taken(&mut self, waited_ns: u64) {
        self.waited_ns = waited_ns;
    }

    /// The wait of the input that is carried out now, in nanoseconds; 0 if there is none.
    pub(super) fn waited_ns(&self) -> u64 {
        self.waited_ns
    }

    /// The present input has brought entries; the log ends with `last` now.
    pub(super) fn brought(&mut self, last: u64) {
        self.brought.push_back((last, self.waited_ns));
    }

    /// The wait of the message that has brought the entry with this index, in nanoseconds; 0 for
    /// one of this member's own. To be called in the order of the indexes.
    pub(super) fn entry_waited_ns(&mut self, index: u64) -> u64 {
        while self.brought.pop_front_if(|(last, _)| *last < index).is_some() {}
        self.brought.front().map_or(0, |(_, waited_ns)| *waited_ns)
    }

    /// All new entries of the log are noted.
    pub(super) fn entries_noted(&mut self) {
        self.brought.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_wait_of_the_message_that_brought_it() {
        let mut arrivals = Arrivals::default();
        for (waited, last) in [(70, 5), (80, 9)] {
            arrivals.taken(waited);
            arrivals.brought(last);
        }
        arrivals.taken(0);
        let waits: Vec<u64> = (4..=10).map(|index| arrivals.entry_waited_ns(index)).collect();
        assert_eq!([70, 70, 80, 80, 80, 80, 0], *waits, "the last is this member's own");
        arrivals.brought(12);
        arrivals.entries_noted();
        assert_eq!(0, arrivals.entry_waited_ns(11));
    }
}
