//! The nine properties of a watch, as etcd's robustness suite names them, checked on what one
//! watcher received.
//!
//! | property | promise |
//! |---|---|
//! | Filter | only what was asked for |
//! | Ordered | by revision |
//! | Unique | nothing twice |
//! | Atomic | a revision comes whole, in one response |
//! | Reliable | nothing is left out between two received events |
//! | Resumable | from the revision that was asked for, none is missing |
//! | Bookmarkable | after progress up to a revision, nothing up to it comes |
//! | PrevKV | the pair before is the pair before |
//! | IsCreate | an event is a creation if and only if the key did not exist |
//!
//! A checker that accepts everything would pass: so for each property there is a history below that
//! violates it and no other.

use std::collections::BTreeSet;

use bytes::Bytes;
use glass_etcd::pb::mvccpb::Event;

use super::history::{Answer, Record, Session, is_put, pair, revision, wants};

/// The properties that a history can violate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Property {
    Filter,
    Ordered,
    Unique,
    Atomic,
    Reliable,
    Resumable,
    Bookmarkable,
    PrevKV,
    IsCreate,
}

/// A violated property, and where.
pub(super) type Broken = (Property, String);

/// The properties that a session violates, and where.
pub(super) fn check(record: &Record, session: &Session) -> Vec<Broken> {
    let mut broken = Vec::new();
    each_event(record, session, &mut broken);
    sequence(session, &mut broken);
    bookmarks(session, &mut broken);
    completeness(record, session, &mut broken);
    too_late(session, &mut broken);
    broken
}

/// Filter, PrevKV, IsCreate: each event by itself.
fn each_event(record: &Record, session: &Session, broken: &mut Vec<Broken>) {
    for answer in &session.answers {
        let Answer::Events(events, compacted) = answer else { continue };
        for event in events {
            if !wants(&session.asked, event) {
                broken.push((Property::Filter, format!("{event:?}")));
            }
            let (kv, at) = (pair(event), revision(event));
            let before = record.before(&kv.key, at);
            let expected = before.filter(|_| session.asked.prev_kv);
            // A compacted pair can no longer be read.
            let gone = event.prev_kv.is_none() && at - 1 < *compacted;
            if event.prev_kv.as_ref() != expected && !gone {
                broken.push((Property::PrevKV, format!("{event:?}, not {expected:?}")));
            }
            if is_put(event) && (kv.create_revision == at) != before.is_none() {
                broken.push((Property::IsCreate, format!("{event:?} after {before:?}")));
            }
        }
    }
}

/// Ordered, Unique, Atomic: each event against those before it.
fn sequence(session: &Session, broken: &mut Vec<Broken>) {
    let (mut seen, mut newest) = (BTreeSet::<(i64, Bytes)>::new(), 0);
    let mut told = BTreeSet::<i64>::new();
    for answer in &session.answers {
        let Answer::Events(events, _) = answer else { continue };
        for event in events {
            let at = revision(event);
            if at < newest {
                broken.push((Property::Ordered, format!("{at} after {newest}")));
            }
            newest = newest.max(at);
            if !seen.insert((at, pair(event).key)) {
                broken.push((Property::Unique, format!("{event:?}")));
            } else if told.contains(&at) {
                broken.push((Property::Atomic, format!("{at} in two responses")));
            }
        }
        told.extend(events.iter().map(revision));
    }
}

fn bookmarks(session: &Session, broken: &mut Vec<Broken>) {
    let mut progress = 0;
    for answer in &session.answers {
        match answer {
            Answer::Progress(at) => progress = progress.max(*at),
            Answer::Compacted(_) => (),
            Answer::Events(events, _) => {
                for at in events.iter().map(revision).filter(|at| *at <= progress) {
                    broken.push((Property::Bookmarkable, format!("{at} after {progress}")));
                }
            }
        }
    }
}

/// Resumable and Reliable: the expected events against the received ones. The first expected change
/// counts for Resumable, all others for Reliable.
fn completeness(record: &Record, session: &Session, broken: &mut Vec<Broken>) {
    let (from, to) = (session.from(), session.known());
    let facts = |event: &Event| (revision(event), event.r#type, event.kv.clone());
    let mut due = record.due(&session.asked, from, to).peekable();
    let first = due.peek().map(|event| revision(event));
    let told: BTreeSet<(i64, Bytes)> =
        session.events().map(|event| (revision(event), pair(event).key)).collect();
    if let Some((earlier, _)) = told.first().filter(|(at, _)| *at < from) {
        broken.push((Property::Resumable, format!("{earlier}, before {from}")));
    }
    for event in due {
        if !told.contains(&(revision(event), pair(event).key)) {
            let property = match first {
                Some(first) if first == revision(event) => Property::Resumable,
                _ => Property::Reliable,
            };
            broken.push((property, format!("{event:?} is missing, {from} to {to}")));
        }
    }
    for event in session.events().filter(|event| wants(&session.asked, event)) {
        if !record.at(revision(event)).iter().any(|other| facts(other) == facts(event)) {
            broken.push((Property::Reliable, format!("{event:?} has not happened")));
        }
    }
}

/// Resumable: only a watcher that asks for compacted revisions may be cancelled.
fn too_late(session: &Session, broken: &mut Vec<Broken>) {
    let next = session.from().max(session.known() + 1);
    for answer in &session.answers {
        if let Answer::Compacted(at) = answer
            && *at <= next
        {
            broken.push((Property::Resumable, format!("{next} is refused, compacted is {at}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use glass_etcd::pb::{etcdserverpb::WatchCreateRequest, mvccpb::KeyValue};

    use super::*;

    fn put(key: &'static str, at: i64, create_revision: i64, version: i64) -> Event {
        let value = Bytes::from(format!("v{at}"));
        let kv = KeyValue {
            key: key.into(),
            value,
            mod_revision: at,
            create_revision,
            version,
            lease: 0,
        };
        Event { kv: Some(kv), ..Default::default() }
    }

    fn delete(key: &'static str, at: i64) -> Event {
        let kv = KeyValue { key: key.into(), mod_revision: at, ..Default::default() };
        Event { r#type: 1, kv: Some(kv), ..Default::default() }
    }

    /// a at 2, b at 3, both at 4, a gone at 5, a again at 6; c at 7.
    fn changes() -> Vec<Event> {
        vec![
            put("a", 2, 2, 1),
            put("b", 3, 3, 1),
            put("a", 4, 2, 2),
            put("b", 4, 3, 2),
            delete("a", 5),
            put("a", 6, 6, 1),
            put("c", 7, 7, 1),
        ]
    }

    /// A watcher of a and b from revision 2 on, with previous pairs, that received everything.
    fn good() -> Session {
        let record = Record::new(changes());
        let with_prev = |mut event: Event| {
            event.prev_kv = record.before(&pair(&event).key, revision(&event)).cloned();
            event
        };
        let mut events: Vec<Event> = changes().into_iter().map(with_prev).collect();
        events.pop();
        let last = events.split_off(4);
        let asked = WatchCreateRequest {
            key: "a".into(),
            range_end: "c".into(),
            start_revision: 2,
            prev_kv: true,
            ..Default::default()
        };
        let answers = vec![
            Answer::Events(events, 0),
            Answer::Progress(4),
            Answer::Events(last, 0),
            Answer::Progress(7),
        ];
        Session { name: "test".to_owned(), asked, created: 7, answers }
    }

    fn first(session: &mut Session) -> &mut Vec<Event> {
        let Answer::Events(events, _) = &mut session.answers[0] else { panic!() };
        events
    }

    fn breaks(change: impl FnOnce(&mut Session)) -> Vec<Property> {
        let mut session = good();
        change(&mut session);
        let broken: BTreeSet<Property> =
            check(&Record::new(changes()), &session).into_iter().map(|(p, _)| p).collect();
        broken.into_iter().collect()
    }

    #[test]
    fn a_good_history_passes() {
        assert_eq!(Record::new(changes()).flaws(), Vec::<String>::new());
        assert_eq!(breaks(|_| ()), []);
        // Before a compaction the pair could be read, after it not.
        assert_eq!(
            breaks(|session| {
                let Answer::Events(events, compacted) = &mut session.answers[0] else { panic!() };
                events[2].prev_kv = None;
                *compacted = 4;
            }),
            []
        );
        assert_eq!(breaks(|session| session.answers = vec![Answer::Compacted(4)]), []);
    }

    #[test]
    fn each_of_the_nine_rejects_its_bad_history() {
        use Property::*;
        let foreign = |session: &mut Session| {
            let Answer::Events(events, _) = &mut session.answers[2] else { panic!() };
            events.push(put("c", 7, 7, 1));
        };
        assert_eq!(breaks(foreign), [Filter]);
        assert_eq!(breaks(|session| session.asked.filters = vec![1]), [Filter]);
        assert_eq!(breaks(|session| first(session).swap(0, 1)), [Ordered]);
        let twice = |session: &mut Session| {
            let again = first(session)[3].clone();
            first(session).push(again);
        };
        assert_eq!(breaks(twice), [Unique]);
        let torn = |session: &mut Session| {
            let last = first(session).pop().unwrap();
            session.answers.insert(1, Answer::Events(vec![last], 0));
        };
        assert_eq!(breaks(torn), [Atomic]);
        assert_eq!(breaks(|session| drop(first(session).remove(1))), [Reliable]);
        assert_eq!(breaks(|session| drop(first(session).remove(3))), [Reliable]);
        assert_eq!(breaks(|session| drop(first(session).remove(0))), [Resumable]);
        assert_eq!(breaks(|session| session.answers = vec![Answer::Progress(4)])[1], Resumable);
        assert_eq!(breaks(|session| session.asked.start_revision = 3), [Resumable]);
        assert_eq!(breaks(|session| session.answers.swap(0, 1)), [Bookmarkable]);
        assert_eq!(breaks(|session| first(session)[2].prev_kv = None), [PrevKV]);
        assert_eq!(breaks(|session| session.asked.prev_kv = false), [PrevKV]);
        let created = |session: &mut Session| {
            first(session)[2].kv.as_mut().unwrap().create_revision = 4;
        };
        // The record contradicts it as well.
        assert_eq!(breaks(created), [Reliable, IsCreate]);
    }

    #[test]
    fn invented_events_and_early_cancellations_are_found() {
        use Property::*;
        let other = |session: &mut Session| {
            first(session)[0].kv.as_mut().unwrap().value = "other".into();
        };
        assert_eq!(breaks(other), [Reliable]);
        assert_eq!(breaks(|session| session.answers = vec![Answer::Compacted(2)]), [Resumable]);
        let late = |session: &mut Session| session.answers.push(Answer::Compacted(8));
        assert_eq!(breaks(late), [Resumable]);
    }

    #[test]
    fn a_record_that_cannot_be_is_found() {
        for wrong in [
            vec![put("a", 3, 3, 1)],
            vec![put("a", 2, 2, 2)],
            vec![put("a", 2, 2, 1), put("a", 2, 2, 1)],
            vec![delete("a", 2)],
            vec![put("a", 2, 2, 1), put("a", 3, 3, 1)],
        ] {
            assert_ne!(Record::new(wrong).flaws(), Vec::<String>::new());
        }
    }
}
