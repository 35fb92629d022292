//! When to leave out quick steps: by how many records the member's threads write in a second.
//!
//! A put leaves some sixteen records on the member that serves it and six on each of the others.
//! Half of them are quick checks and look-ups. At some thousand puts a second these cost several
//! per cent of the member's processor time, and only one request in a thousand is kept. So above
//! the limit the other requests leave out the quick ones, and of the rest what was short, and share
//! the records of their entries: a fifth remains. It takes much less load to leave that state
//! again, so that a member does not flip back and forth.

/// The part of the limit below which nothing is left out any more.
const BACK: u64 = 8;
const SECOND_NS: u128 = 1_000_000_000;

/// The records of the recent past, and whether quick steps are left out.
#[derive(Debug)]
pub(super) struct Rate {
    /// Records a second above which quick steps are left out.
    pub(super) limit: u64,
    written: u64,
    at_ns: u64,
    is_brief: bool,
}

impl Default for Rate {
    /// No limit.
    fn default() -> Rate {
        Rate { limit: u64::MAX, written: 0, at_ns: 0, is_brief: false }
    }
}

impl Rate {
    /// Takes the number of records that were ever written. Returns whether
    /// to leave out quick steps from now on, and the records a second, if that has changed.
    pub(super) fn decide(&mut self, written: u64, now_ns: u64) -> Option<(bool, u64)> {
        let records = u128::from(written.saturating_sub(self.written));
        let took = u128::from(now_ns.saturating_sub(self.at_ns)).max(1);
        let rate = u64::try_from(records * SECOND_NS / took).unwrap_or(u64::MAX);
        let is_first = self.at_ns == 0;
        (self.written, self.at_ns) = (written, now_ns);
        let limit = if self.is_brief { self.limit / BACK } else { self.limit };
        let is_brief = limit < rate;
        if is_first || is_brief == self.is_brief {
            return None;
        }
        self.is_brief = is_brief;
        Some((is_brief, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decisions at these records in each tenth of a second, at a limit of 1000 a second.
    fn decisions(records: &[u64]) -> Vec<Option<bool>> {
        let mut rate = Rate { limit: 1000, ..Rate::default() };
        let (mut written, mut now_ns) = (0, 0);
        let decide = |records: &u64| {
            (written, now_ns) = (written + records, now_ns + 100_000_000);
            rate.decide(written, now_ns).map(|(is_brief, _)| is_brief)
        };
        records.iter().map(decide).collect()
    }

    #[test]
    fn quick_steps_are_left_out_above_the_limit_until_the_load_is_far_below_it() {
        let records = [500, 90, 110, 90, 13, 12, 90, 110];
        let expected =
            [None, None, Some(true), None, None, Some(false), None, Some(true)].as_slice();
        assert_eq!(expected, decisions(&records));
    }

    #[test]
    fn without_a_limit_nothing_is_left_out() {
        let mut rate = Rate::default();
        assert_eq!(None, rate.decide(0, 1));
        assert_eq!(None, rate.decide(u64::MAX - 1, 2));
        let mut rate = Rate { limit: 0, ..Rate::default() };
        assert_eq!(None, rate.decide(500, 1_000_000_000));
        assert_eq!(None, rate.decide(400, 2_000_000_000));
        assert_eq!(Some((true, 7)), rate.decide(407, 3_000_000_000));
    }
}
