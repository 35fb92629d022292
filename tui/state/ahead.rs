//! What a wait stood behind, in words: for the player's sentences, and for `glass trace`.

use std::collections::HashMap;

use glass_etcd::{
    change, field, fields,
    story::{
        Event, Recording,
        query::{
            ahead::{Ahead, Behind},
            requests,
        },
    },
    trace::{
        Kind, Stage,
        value::{COPIES, HASHES},
    },
};

use super::text::duration;

/// The most requests that are named one by one.
const NAMED_MAX: usize = 4;

/// The method and the key of each captured request.
pub(crate) struct Titles(HashMap<u64, String>);

impl Titles {
    /// Reads them from a recording.
    pub(crate) fn of(recording: &Recording) -> Titles {
        let title = |request: &glass_etcd::story::query::Summary| {
            let key = request.key.as_ref().map(|key| format!(" {}", key.display()));
            format!("{}{}", request.method, key.unwrap_or_default())
        };
        Titles(requests(recording).iter().map(|request| (request.id, title(request))).collect())
    }

    fn of_id(&self, id: u64) -> String {
        match self.0.get(&id) {
            Some(title) => format!("{id:016x} {title}"),
            None => format!("{id:016x}"),
        }
    }

    /// The requests that some work was for: `0203 KV/Put foo, 0205 KV/Put bar and 3 more`. `None`
    /// if it was for none.
    pub(crate) fn served(&self, behind: &Behind) -> Option<String> {
        let named = behind.ids.iter().take(NAMED_MAX).map(|id| self.of_id(*id));
        let mut words: Vec<String> = named.collect();
        let more = behind.ids.len().saturating_sub(NAMED_MAX);
        if more != 0 {
            words.push(format!("{more} more"));
        }
        if behind.others != 0 {
            words.push(format!("{} not captured", behind.others));
        }
        let last = words.pop()?;
        Some(if words.is_empty() { last } else { format!("{} and {last}", words.join(", ")) })
    }
}

/// What was in progress.
pub(crate) fn work(event: &Event) -> String {
    let at_work =
        if event.kind == Kind::Begin { ", which has not ended as far as captured" } else { "" };
    let what = match event.stage {
        Stage::WalFsync => {
            let [first, last] = fields!(event, WalFsync: first, last);
            format!("the fsync of {}", entries(first, last))
        }
        Stage::BackendCommit => {
            let [old, new] = change!(event, BackendCommit, index);
            format!("the commit of {} to the file", entries(old.saturating_add(1), new))
        }
        Stage::ApplyEntry => format!("entry {}, being applied", field!(event, ApplyEntry, index)),
        Stage::ApplyBatch => {
            let [first, last] = fields!(event, ApplyBatch: first, last);
            format!("other entries of {}, being applied", entries(first, last))
        }
        Stage::ReadIndexRound => {
            let reads = field!(event, ReadIndexRound, reads);
            format!("the round of {reads} {}", if reads == 1 { "read" } else { "reads" })
        }
        Stage::ReadThread => {
            let [pool, limit] = fields!(event, ReadThread: pool, limit);
            let work = match (pool, limit) {
                (COPIES, _) => "a copy of the database file",
                // Before pools were recorded, only hashes were limited to one.
                (HASHES, _) | (0, 1) => "a hash of the key space",
                _ => "a long read",
            };
            work.to_owned()
        }
        Stage::LockEnter => {
            format!("the key of revision {}", field!(event, LockEnter, own))
        }
        Stage::MvccWrite => {
            format!("the key of revision {}", change!(event, MvccWrite, revision)[1])
        }
        Stage::CompactIndex => "the removal of keys from the index".to_owned(),
        Stage::CompactBatch => "the removal of rows from the file".to_owned(),
        Stage::CompactPause => "the pauses between its portions".to_owned(),
        stage => stage.name().to_owned(),
    };
    what + at_work
}

fn entries(first: u64, last: u64) -> String {
    match (first, last) {
        (_, 0) => "a term or a vote".to_owned(),
        _ if first == last => format!("entry {first}"),
        _ => format!("entries {first} to {last}"),
    }
}

/// The work that took most of the wait, in the order of time.
pub(crate) fn named(ahead: &Ahead) -> Vec<&Behind> {
    let mut longest: Vec<(usize, &Behind)> = ahead.behind.iter().enumerate().collect();
    longest.sort_by_key(|(_, one)| std::cmp::Reverse(one.overlap_ns));
    longest.truncate(NAMED_MAX);
    longest.sort_by_key(|(at, _)| *at);
    longest.into_iter().map(|(_, one)| one).collect()
}

/// How much other work there was, and for how much of the wait, in nanoseconds. `None` if there was
/// none.
pub(crate) fn more(ahead: &Ahead) -> Option<(usize, u64)> {
    let count = ahead.behind.len().checked_sub(NAMED_MAX).filter(|count| *count != 0)?;
    let sum = |ns: &mut dyn Iterator<Item = u64>| ns.fold(0, u64::saturating_add);
    let all = sum(&mut ahead.behind.iter().map(|one| one.overlap_ns));
    let told = sum(&mut named(ahead).iter().map(|one| one.overlap_ns));
    Some((count, all.saturating_sub(told)))
}

/// The sentences for the step that ends this wait.
pub(crate) fn sentences(recording: &Recording, ahead: &Ahead, titles: &Titles) -> String {
    let mut said = Vec::new();
    for one in named(ahead) {
        let served = titles.served(one).map_or(String::new(), |served| format!(" ({served})"));
        said.push(format!(
            "Before this it stood behind {}{served} for {} of {}.",
            work(&recording.events[one.event]),
            duration(one.overlap_ns),
            duration(ahead.ns),
        ));
    }
    if let Some((count, ns)) = more(ahead) {
        said.push(format!("{count} more of them took {} of that.", duration(ns)));
    }
    if ahead.is_unknown {
        let else_ = if ahead.behind.is_empty() { "" } else { " else" };
        said.push(format!(
            "What{else_} it stood behind in the {} before this was not captured.",
            duration(ahead.ns)
        ));
    }
    said.join(" ")
}

#[cfg(test)]
mod tests {
    use glass_etcd::{
        numbers,
        story::{
            BootInfo, MemberInfo,
            query::{
                ahead::Resource,
                path::{Taker, Wait},
            },
        },
    };

    use super::*;
    use crate::state::story::{Subject, Telling, story};
    use glass_etcd::story::order::Order;

    fn behind(ids: &[u64], others: u64) -> Behind {
        Behind {
            event: 0,
            stage: Stage::WalFsync,
            overlap_ns: 2_850_000,
            ids: ids.to_vec(),
            others,
        }
    }

    fn said(behind: Vec<Behind>, is_unknown: bool) -> String {
        let fsync = Event::mark(0, Stage::WalFsync, 1);
        let mut recording = Recording::default();
        let mut event = Event { kind: Kind::Span, ..fsync };
        glass_etcd::set!(event, WalFsync, first = 5_u64, last = 9_u64);
        recording.events.push(event);
        let ahead = Ahead {
            wait: Wait::HandOver(Taker::Wal),
            resource: Resource::Disk,
            member: 0,
            event: 0,
            ns: 2_900_000,
            behind,
            is_unknown,
        };
        sentences(&recording, &ahead, &Titles(HashMap::from([(3, "KV/Put foo".to_owned())])))
    }

    #[test]
    fn a_wait_names_the_work_and_the_requests_that_it_was_for() {
        assert_eq!(
            "Before this it stood behind the fsync of entries 5 to 9 (0000000000000003 KV/Put foo, \
             0000000000000004 and 3 not captured) for 2.8 ms of 2.9 ms.",
            said(vec![behind(&[3, 4], 3)], false)
        );
        let many = said(vec![behind(&[3, 4, 5, 6, 7, 8], 0)], false);
        assert!(many.contains("0000000000000006 and 2 more)"), "{many}");
    }

    /// Goal: the step that ends the wait says what it stood behind, and no other step does.
    #[test]
    fn the_step_after_a_wait_says_what_it_stood_behind() {
        const OWN: u64 = 0x101;
        const EARLIER: u64 = 0x201;
        let recording = behind_an_fsync(OWN, EARLIER);
        let order = Order::of(&recording);
        let told = story(&Telling::of(&recording, &order), Subject::Request(OWN));
        let said: Vec<(Stage, &str)> = (told.steps.iter())
            .filter_map(|step| Some((step.event.stage, step.ahead.as_deref()?)))
            .collect();
        let expected = "Before this it stood behind the fsync of entry 1 (0000000000000201) for \
                        10.0 ms of 10.1 ms.";
        assert_eq!([(Stage::WalWrite, expected)], said[..]);
    }

    /// A put on a cluster of one member, whose entry comes during the fsync of another.
    fn behind_an_fsync(own: u64, earlier: u64) -> Recording {
        let boots = vec![BootInfo { boot: 1, wall_ns: 1_000_000_000 }];
        let (name, version) = ("etcd-01".to_owned(), String::new());
        let member =
            MemberInfo { member_id: 1, cluster_id: 1, name, version, boots, members: Vec::new() };
        let mut recording =
            Recording { members: vec![member], events: Vec::new(), dropped: vec![0] };
        // Stage, kind, id, beginning and end in microseconds, fields.
        let mut add = |stage: Stage, kind, id, [from, to]: [u64; 2], fields| {
            let clock = recording.events.len() as u64 + 1;
            let (at_ns, took_ns) = (from * 1000, (to - from) * 1000);
            let event = Event::mark(0, stage, clock);
            recording.events.push(Event { kind, id, at_ns, took_ns, fields, ..event });
        };
        let entry = |index: u64| numbers!(RaftEntry, term = 1, index = index);
        let (first, second) = (1_u64, 2_u64);
        add(Stage::RaftEntry, Kind::Mark, earlier, [900, 900], entry(1));
        add(Stage::Rpc, Kind::Begin, own, [9_000, 9_000], [0; 8]);
        add(Stage::RaftPropose, Kind::Begin, own, [9_100, 9_100], [0; 8]);
        add(Stage::RaftInbox, Kind::Mark, own, [9_900, 9_900], [0; 8]);
        add(Stage::RaftEntry, Kind::Mark, own, [10_000, 10_000], entry(2));
        let synced = numbers!(WalFsync, first = first, last = first, synced_new = first);
        add(Stage::WalFsync, Kind::Span, 0, [1_000, 20_000], synced);
        let written = numbers!(WalWrite, first = second, last = second, gathered = 10_000_u64);
        add(Stage::WalWrite, Kind::Span, 0, [20_110, 20_120], written);
        let synced = numbers!(
            WalFsync,
            first = second,
            last = second,
            synced_old = first,
            synced_new = second
        );
        add(Stage::WalFsync, Kind::Span, 0, [20_200, 20_900], synced);
        let commit = numbers!(RaftCommit, term = 1, commit_new = second, completed_by = first);
        add(Stage::RaftCommit, Kind::Mark, 0, [21_000, 21_000], commit);
        add(Stage::ApplyEntry, Kind::Span, own, [21_001, 21_050], entry(2));
        let proposed = numbers!(RaftPropose, leader = first);
        add(Stage::RaftPropose, Kind::Span, own, [9_100, 21_060], proposed);
        add(Stage::Rpc, Kind::Span, own, [9_000, 21_100], [0; 8]);
        recording
    }

    #[test]
    fn what_was_not_captured_is_said_and_not_left_out() {
        assert_eq!(
            "What it stood behind in the 2.9 ms before this was not captured.",
            said(vec![], true)
        );
        let both = said(vec![behind(&[], 5)], true);
        assert!(both.contains("(5 not captured)") && both.contains("What else it stood"), "{both}");
    }
}
