//! The steps of a watcher: how it caught up, and why it ended.

use glass_etcd::{fields, story::Event, trace::value::WATCH_ENDS};

/// Why the watcher ended, or was refused.
pub(super) fn ended(event: &Event) -> String {
    let [watcher, why, compacted] = fields!(event, WatchCancel: watcher, why, compacted);
    let known = usize::try_from(why).ok().and_then(|why| WATCH_ENDS.get(why)).copied();
    let why = known.unwrap_or("for a reason that is not known");
    let what = if watcher == 0 { "is refused" } else { "ends" };
    let rest = match compacted {
        0 => String::new(),
        _ => format!(" The oldest revision that can still be read is {compacted}."),
    };
    format!("The watcher {what}: {why}.{rest}")
}

/// What a pass of the sync thread has done for the watcher.
pub(super) fn brought_forward(event: &Event) -> String {
    let [old, new, events] = fields!(event, WatchForward: next_old, next_new, events);
    let [synced, pass] = fields!(event, WatchForward: synced, pass);
    let events = match events {
        0 => "no event for it".to_owned(),
        1 => "1 event for it".to_owned(),
        _ => format!("{events} events for it"),
    };
    let rest = match synced {
        0 => "It is still behind",
        _ => "It is synced now, and gets its events from apply",
    };
    let last = new.saturating_sub(1);
    format!(
        "Pass {pass} of the sync thread has read revisions {old} to {last}, and found {events}. \
         {rest}."
    )
}

#[cfg(test)]
mod tests {
    use glass_etcd::{numbers, trace::Stage};

    use super::*;

    fn event(stage: Stage, fields: [u64; 8]) -> Event {
        Event { fields, ..Event::mark(0, stage, 2) }
    }

    #[test]
    fn a_watcher_says_why_it_ended_and_what_is_compacted() {
        let of = |watcher: u64, why: u64, compacted: u64| {
            let fields = numbers!(WatchCancel, watcher = watcher, why = why, compacted = compacted);
            ended(&event(Stage::WatchCancel, fields))
        };
        let expected = "The watcher ends: its next revision is compacted. The oldest revision that \
                        can still be read is 9.";
        assert_eq!(expected, of(3, 2, 9));
        assert_eq!("The watcher ends: the client cancelled it.", of(3, 1, 0));
        assert_eq!("The watcher is refused: its id is taken.", of(0, 6, 0));
    }

    #[test]
    fn a_watcher_that_was_brought_forward_says_how_far_and_by_which_pass() {
        let of = |events: u64, synced: bool| {
            let (next_old, next_new, pass) = (5_u64, 12_u64, 7_u64);
            let fields = numbers!(
                WatchForward,
                next_old = next_old,
                next_new = next_new,
                events = events,
                synced = synced,
                pass = pass
            );
            brought_forward(&event(Stage::WatchForward, fields))
        };
        assert_eq!(
            "Pass 7 of the sync thread has read revisions 5 to 11, and found 1 event for it. It is \
             synced now, and gets its events from apply.",
            of(1, true)
        );
        assert!(of(0, false).ends_with("found no event for it. It is still behind."));
    }
}
