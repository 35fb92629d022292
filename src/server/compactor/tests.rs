//! Days of compaction, with a clock that the test advances.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// One compactor, and its compactions: `minute:revision`.
struct Day {
    compactor: Compactor,
    start: Instant,
    now: Instant,
    compacted: Vec<String>,
}

impl Day {
    fn of(what: AutoCompaction) -> Day {
        let start = clock::now();
        Day { compactor: Compactor::new(what, start), start, now: start, compacted: Vec::new() }
    }

    /// Runs as the loop does until this time after the start; one revision is written per minute.
    /// For each minute `outcome` says whether this member leads, and whether its compaction
    /// succeeds.
    fn run(&mut self, until: Duration, outcome: impl Fn(u64) -> (bool, bool)) {
        while self.now.duration_since(self.start) < until {
            self.compactor.sample(self.revision());
            self.now += self.compactor.interval();
            let minute = self.now.duration_since(self.start).as_secs() / 60;
            let (leads, works) = outcome(minute);
            let due = leads.then(|| self.compactor.due(self.now, self.revision())).flatten();
            let Some(revision) = due else { continue };
            self.compacted
                .push(format!("{minute}:{revision}{}", if works { "" } else { " failed" }));
            if works {
                self.compactor.done(revision, self.now);
            }
        }
    }

    fn revision(&self) -> i64 {
        1 + i64::try_from(self.now.duration_since(self.start).as_secs() / 60).unwrap()
    }
}

fn always(_: u64) -> (bool, bool) {
    (true, true)
}

#[test]
fn a_period_below_an_hour_is_the_interval() {
    let mut day = Day::of(AutoCompaction::Periodic(10 * MINUTE));
    assert_eq!(day.compactor.interval(), MINUTE);
    day.run(HOUR, always);
    // First the revision at the start, then the one ten minutes before the last sample.
    assert_eq!(day.compacted, ["10:1", "20:10", "30:20", "40:30", "50:40", "60:50"]);
}

#[test]
fn after_one_longer_period_a_compaction_is_due_each_hour() {
    let mut day = Day::of(AutoCompaction::Periodic(24 * HOUR));
    assert_eq!(day.compactor.interval(), 6 * MINUTE);
    day.run(27 * HOUR, always);
    assert_eq!(day.compacted, ["1440:1", "1500:55", "1560:115", "1620:175"]);
}

#[test]
fn a_failed_compaction_is_retried_with_a_new_revision_after_a_tenth_of_the_interval() {
    let mut day = Day::of(AutoCompaction::Periodic(HOUR));
    day.run(3 * HOUR, |minute| (true, !(100..130).contains(&minute)));
    let expected = ["60:1", "120:55 failed", "126:61 failed", "132:67"];
    assert_eq!(day.compacted, expected);
}

#[test]
fn a_follower_takes_samples_and_compacts_as_soon_as_it_leads() {
    let mut day = Day::of(AutoCompaction::Periodic(HOUR));
    day.run(4 * HOUR, |minute| (150 < minute, true));
    assert_eq!(day.compacted, ["156:91", "216:151"]);
}

#[test]
fn a_quiet_key_space_is_compacted_once() {
    let start = clock::now();
    let mut compactor = Compactor::new(AutoCompaction::Periodic(HOUR), start);
    for minutes in [60, 120, 180] {
        compactor.sample(7);
        let now = start + minutes * MINUTE;
        assert_eq!(compactor.due(now, 7), (minutes == 60).then_some(7));
        compactor.done(7, now);
    }
}

#[test]
fn a_number_of_revisions_is_kept_every_five_minutes() {
    let mut day = Day::of(AutoCompaction::Revision(12));
    assert_eq!(day.compactor.interval(), 5 * MINUTE);
    day.run(35 * MINUTE, |minute| (minute != 25, minute != 20));
    assert_eq!(day.compacted, ["15:4", "20:9 failed", "30:19", "35:24"]);
}

#[test]
fn revisions_that_do_not_exist_are_not_compacted() {
    let now = clock::now();
    let mut compactor = Compactor::new(AutoCompaction::Revision(100), now);
    assert_eq!(compactor.due(now, 100), None);
    assert_eq!(compactor.due(now, 101), Some(1));
    compactor.done(1, now);
    assert_eq!(compactor.due(now, 101), None);
    let mut all = Compactor::new(AutoCompaction::Revision(i64::MAX), now);
    assert_eq!(all.due(now, 5), None);
    all.sample(5);
}

#[test]
fn the_shortest_period_still_sleeps() {
    let now = clock::now();
    let nanosecond = AutoCompaction::Periodic(Duration::from_nanos(1));
    let mut compactor = Compactor::new(nanosecond, now);
    assert_eq!(compactor.interval(), Duration::from_millis(1));
    for revision in 1..=3 {
        compactor.sample(revision);
    }
    assert_eq!(compactor.due(now + MINUTE, 3), Some(3));
}
