use std::{sync::Arc, thread};

use tracing::{
    Dispatch, Event, Subscriber,
    dispatcher::with_default,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry::LookupSpan,
};

use super::*;
use crate::{mark, set, stage, trace::note_peer};

/// The fields that every span and event has, before those of its stage.
const COMMON: [&str; 4] = ["request_id", "member", "link", "flags"];

/// The process has one switch, so a test that turns it takes a lock first.
static ALONE: Mutex<()> = Mutex::new(());

/// A call that a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Open { name: &'static str, id: u64, parent: Option<u64> },
    Close { name: &'static str },
    Event { name: &'static str, parent: Option<u64> },
    Said { name: &'static str, field: &'static str, value: String },
}

#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Heard>>>);

struct Fields<'a>(&'static str, &'a mut Vec<Heard>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let value = format!("{value:?}");
        self.1.push(Heard::Said { name: self.0, field: field.name(), value });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let value = format!("number {value}");
        self.1.push(Heard::Said { name: self.0, field: field.name(), value });
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Ear {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let name = attributes.metadata().name();
        let parent = context.span(id).unwrap().parent().map(|parent| parent.id().into_u64());
        let mut heard = self.0.lock().unwrap();
        heard.push(Heard::Open { name, id: id.into_u64(), parent });
        attributes.record(&mut Fields(name, &mut heard));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let name = context.metadata(id).unwrap().name();
        values.record(&mut Fields(name, &mut self.0.lock().unwrap()));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let name = event.metadata().name();
        let parent = event.parent().map(|parent| context.span(parent).unwrap().id().into_u64());
        let mut heard = self.0.lock().unwrap();
        heard.push(Heard::Event { name, parent });
        event.record(&mut Fields(name, &mut heard));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let name = context.metadata(&id).unwrap().name();
        self.0.lock().unwrap().push(Heard::Close { name });
    }
}

/// The calls received while `work` ran; it gets the subscriber for the threads that it starts,
/// because a registry closes parents through the subscriber of the thread.
fn heard(is_on: bool, work: impl FnOnce(&Dispatch)) -> Vec<Heard> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ear = Ear::default();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(ear.clone()));
    set_on(is_on);
    with_default(&dispatch, || work(&dispatch));
    set_on(false);
    ear.0.lock().unwrap().clone()
}

/// Names of spans and events and of their parents, in order, and of spans in that of their closing.
fn tree(heard: &[Heard]) -> (Vec<(&'static str, &'static str)>, Vec<&'static str>) {
    let (mut opened, mut closed, mut names) = (Vec::new(), Vec::new(), BTreeMap::new());
    for what in heard {
        match what {
            Heard::Open { name, id, parent } => {
                opened.push((*name, parent.map_or("", |parent| names[&parent])));
                names.insert(*id, *name);
            }
            Heard::Close { name } => closed.push(*name),
            Heard::Event { name, parent } => {
                opened.push((*name, parent.map_or("", |parent| names[&parent])));
            }
            Heard::Said { .. } => (),
        }
    }
    (opened, closed)
}

fn said(heard: &[Heard], of: &str, which: &str) -> Vec<String> {
    let value = |what: &Heard| match what {
        Heard::Said { name, field, value } if (*name, *field) == (of, which) => Some(value.clone()),
        _ => None,
    };
    heard.iter().filter_map(value).collect()
}

/// A request of this test alone.
fn request(number: u64, is_kept: bool) -> u64 {
    note_peer(0xb51d);
    (0xb51d << 48) | (number << 8) | u64::from(is_kept)
}

#[test]
fn every_stage_has_a_span_of_its_name_and_fields() {
    heard(true, |_| {
        for stage in Stage::ALL.iter().copied() {
            let span = callsites::span(stage, Head::new(0, None));
            let metadata = span.metadata().unwrap();
            assert_eq!((stage.name(), TARGET), (metadata.name(), metadata.target()));
            let own = stage.fields().iter().map(|field| field.name);
            let expected: Vec<&str> = COMMON.into_iter().chain(own).collect();
            let fields: Vec<&str> = metadata.fields().iter().map(|field| field.name()).collect();
            assert_eq!(expected, fields, "{}", stage.name());
            let is_common = |field: &super::super::Field| COMMON.contains(&field.name);
            assert!(!stage.fields().iter().any(is_common), "{} has a field twice", stage.name());
        }
    });
}

#[test]
fn no_span_is_opened_while_it_is_off_nor_for_steps_that_are_not_kept() {
    let work = |id: u64| {
        drop(stage!(Rpc, id, method = 2_u8));
        mark!(RaftInbox, id, queued = 1_u8);
        drop(stage!(WatchSync, 0, from = 1_u8));
    };
    assert_eq!(Vec::<Heard>::new(), heard(false, |_| work(request(1, true))));
    assert_eq!(Vec::<Heard>::new(), heard(true, |_| work(request(1, false))));
    assert!(!heard(true, |_| work(request(1, true))).is_empty());
}

#[test]
fn stages_on_other_threads_are_children_of_the_rpc() {
    let id = request(2, true);
    let heard = heard(true, |dispatch| {
        let rpc = stage!(Rpc, id, method = 2_u8);
        let propose = stage!(RaftPropose, id);
        thread::scope(|scope| {
            scope.spawn(|| {
                with_default(dispatch, || {
                    mark!(RaftEntry, id, index = 7_u8);
                    let entry = stage!(ApplyEntry, id);
                    drop(stage!(MvccWrite, id));
                    drop(entry);
                });
            });
        });
        drop(propose);
        drop(rpc);
    });
    let (opened, closed) = tree(&heard);
    let below = ["raft.propose", "raft.entry", "apply.entry", "mvcc.write"];
    let expected: Vec<_> =
        [("rpc", "")].into_iter().chain(below.map(|name| (name, "rpc"))).collect();
    assert_eq!(expected, opened);
    assert_eq!(["mvcc.write", "apply.entry", "raft.propose", "rpc"].to_vec(), closed);
}

#[test]
fn steps_after_the_rpc_have_a_top_of_their_own() {
    let id = request(3, true);
    let heard = heard(true, |dispatch| {
        drop(stage!(Rpc, id));
        // The client has gone; apply comes all the same, on its thread.
        thread::scope(|scope| {
            scope.spawn(|| {
                with_default(dispatch, || {
                    let entry = stage!(ApplyEntry, id);
                    drop(stage!(MvccWrite, id));
                    drop(entry);
                    drop(stage!(WatchSend, id));
                });
            });
        });
    });
    let (opened, closed) = tree(&heard);
    let expected =
        [("rpc", ""), ("apply.entry", ""), ("mvcc.write", "apply.entry"), ("watch.send", "")];
    assert_eq!(expected.to_vec(), opened);
    assert_eq!(["rpc", "mvcc.write", "apply.entry", "watch.send"].to_vec(), closed);
}

#[test]
fn a_child_that_outlives_its_parent_holds_it_open() {
    let id = request(4, true);
    let heard = heard(true, |_| {
        let rpc = stage!(Rpc, id);
        let entry = stage!(ApplyEntry, id);
        drop(rpc);
        drop(stage!(MvccWrite, id));
        drop(entry);
    });
    let (opened, closed) = tree(&heard);
    assert_eq!([("rpc", ""), ("apply.entry", "rpc"), ("mvcc.write", "")].to_vec(), opened);
    assert_eq!(["mvcc.write", "apply.entry", "rpc"].to_vec(), closed);
}

#[test]
fn no_order_of_ending_and_opening_panics() {
    let heard = heard(true, |dispatch| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    with_default(dispatch, || {
                        for number in 0..3000 {
                            // All threads at the same requests: tops come and go under the others.
                            let id = request(100 + number % 3, true);
                            let rpc = stage!(Rpc, id);
                            mark!(RaftEntry, id, index = number);
                            let entry = stage!(ApplyEntry, id);
                            drop(rpc);
                            drop(entry);
                        }
                    });
                });
            }
        });
    });
    let (opened, closed) = tree(&heard);
    assert_eq!((36_000, 24_000), (opened.len(), closed.len()));
    assert!(opened.iter().any(|(name, parent)| (*name, *parent) == ("raft.entry", "rpc")));
    assert!(TOPS.iter().all(|shard| !shard.lock().unwrap().keys().any(|id| id >> 48 == 0xb51d)));
}

#[test]
fn a_handle_is_dropped_on_the_thread_that_has_it() {
    let id = request(5, true);
    let heard = heard(true, |dispatch| {
        let rpc = stage!(Rpc, id);
        let elsewhere = dispatch.clone();
        thread::spawn(move || with_default(&elsewhere, || drop(rpc))).join().unwrap();
        drop(stage!(ApplyEntry, id));
    });
    assert_eq!(["rpc", "apply.entry"].to_vec(), tree(&heard).1);
}

#[test]
fn fields_are_recorded_at_the_end_numbers_as_numbers_and_ids_in_hex() {
    let id = request(6, true);
    let heard = heard(true, |_| {
        MEMBER.store(0xabc, Ordering::Relaxed);
        let mut rpc = stage!(Rpc, id, method = 2_u8, bytes_in = 30_u8);
        set!(rpc, Rpc, revision = 9_u8);
        rpc.flag(super::super::FLAG_CANCELLED);
        rpc.link(0x12);
        drop(rpc);
    });
    let rpc = |field| said(&heard, "rpc", field).concat();
    assert_eq!(format!("{id:016x}"), rpc("request_id"));
    assert_eq!(
        ["0000000000000abc", "0000000000000012", "cancelled"].map(str::to_owned),
        ["member", "link", "flags"].map(rpc)
    );
    assert_eq!(["KV/Put", "number 30", "number 9"], ["method", "bytes_in", "revision"].map(rpc));
}

#[test]
fn a_mark_is_recorded_with_all_its_fields_at_once() {
    let id = request(7, true);
    let heard = heard(true, |_| {
        let _rpc = stage!(Rpc, id);
        mark!(RaftSend, id, link = 0x34, flags = 16; peer = 0xabc, type = 3_u8, reject = true, term = 2);
    });
    assert_eq!([("rpc", ""), ("raft.send", "rpc")].to_vec(), tree(&heard).0);
    let send = |field| said(&heard, "raft.send", field).concat();
    assert_eq!(format!("{id:016x}"), send("request_id"));
    assert_eq!(["0000000000000034", "noise"].map(str::to_owned), ["link", "flags"].map(send));
    assert_eq!(
        ["0000000000000abc", "MsgApp", "true", "number 2"].map(str::to_owned),
        ["peer", "type", "reject", "term"].map(send)
    );
}
