use super::*;
use crate::{
    export::otlp::Span,
    trace::{Record, record::Head},
};

const SECOND: u64 = 1_000_000_000;
const ID: u64 = 0x0005_0000_0000_0001;

fn window() -> Window {
    let (name, version) = ("m".to_owned(), "0".to_owned());
    let hello = Hello {
        member_id: 5,
        cluster_id: 9,
        name,
        version,
        boot: 1,
        wall_ns: 0,
        tick_base: 0,
        members: Vec::new(),
    };
    Window::new(&hello).unwrap()
}

/// A record with a start and a duration in nanoseconds.
fn record(stage: Stage, kind: Kind, clocks: (u64, u64), (at, took): (u64, u64)) -> Record {
    let head = Head { stage: stage as u8, kind: kind as u8, boot: 1, ..Head::default() };
    let id = if stage.family() == Family::Loop { 0 } else { ID };
    let mut record = Record::new(head, clocks.0, at, id, &[3, 7, 7, 1, 0, 0, 0, 0]);
    record.set_length(clocks.1, took);
    record
}

fn take(window: &mut Window, records: Vec<Record>) -> u64 {
    window.take(&Batch { records, ..Batch::default() })
}

fn names(resources: Vec<Resource>) -> Vec<String> {
    resources.into_iter().flat_map(|resource| resource.spans).map(|span| span.name).collect()
}

#[test]
fn a_step_is_exported_once_and_only_when_it_is_old_enough() {
    let mut window = window();
    let step = record(Stage::RpcValidate, Kind::Span, (5, 1), (SECOND, 10));
    take(&mut window, vec![step, step]);
    assert_eq!(Vec::<String>::new(), names(window.due(SECOND + SECOND / 2)));
    assert_eq!(vec!["rpc.validate"], names(window.due(3 * SECOND)));
    take(&mut window, vec![step]);
    assert_eq!(Vec::<String>::new(), names(window.due(3 * SECOND)));
    window.due(9 * SECOND);
    assert!(window.intake.recording.events.is_empty() && window.done.is_empty(), "nothing stays");
}

#[test]
fn late_steps_of_a_long_request_stay_below_it_in_its_callers_trace() {
    let mut window = window();
    let begin = record(Stage::Rpc, Kind::Begin, (1, 0), (SECOND, 0));
    let context = record(Stage::RpcContext, Kind::Mark, (2, 0), (SECOND, 0));
    take(&mut window, vec![begin, context]);
    (2..60).for_each(|second| assert!(window.due(second * SECOND).is_empty()));
    take(&mut window, vec![record(Stage::WatchCreate, Kind::Span, (7, 1), (60 * SECOND, 5))]);
    let spans: Vec<Span> =
        window.due(62 * SECOND).into_iter().flat_map(|resource| resource.spans).collect();
    let trace = 3_u128 << 64 | 7;
    assert_eq!(1, spans.len());
    assert_eq!(
        (trace, crate::trace::context::root_span(ID)),
        (spans[0].place.trace, spans[0].parent)
    );
    take(&mut window, vec![record(Stage::Rpc, Kind::Span, (1, 90), (SECOND, 70 * SECOND))]);
    let ended = names(window.due(73 * SECOND));
    assert_eq!(2, ended.len(), "in the caller's trace and in the request's: {ended:?}");
    window.due(99 * SECOND);
    assert!(window.intake.recording.events.is_empty(), "it has ended");
}

#[test]
fn too_many_steps_are_dropped_and_counted() {
    let mut window = window();
    let many = EVENTS_MAX as u64 + 1;
    let records = (1..=many)
        .map(|clock| record(Stage::RpcValidate, Kind::Span, (clock, 0), (SECOND, 1)))
        .collect();
    let gone = take(&mut window, records);
    assert_eq!(many - EVENTS_MAX as u64 / 2, gone);
    assert_eq!(EVENTS_MAX / 2, window.intake.recording.events.len());
}

#[test]
fn dropping_steps_that_were_exported_or_never_would_be_counts_no_loss() {
    let mut window = window();
    let done = (1..=100).map(|at| record(Stage::RpcValidate, Kind::Span, (at, 0), (SECOND, 1)));
    take(&mut window, done.collect());
    assert_eq!(100, names(window.due(3 * SECOND)).len());
    let of_loops = (101..=200).map(|at| record(Stage::WalFsync, Kind::Span, (at, 0), (SECOND, 1)));
    let begun = (201..=300).map(|at| record(Stage::Rpc, Kind::Begin, (at, 0), (SECOND, 0)));
    let ended = (201..=300).map(|at| record(Stage::Rpc, Kind::Span, (at, 9), (SECOND, 9)));
    assert_eq!(0, take(&mut window, of_loops.chain(begun).chain(ended).collect()));
    let many = 1_000..1_000 + EVENTS_MAX as u64 - 399;
    let fill = many.map(|at| record(Stage::RpcValidate, Kind::Span, (at, 0), (4 * SECOND, 1)));
    let gone = take(&mut window, fill.collect());
    let too_many = EVENTS_MAX as u64 / 2 + 1;
    assert_eq!(too_many - 300, gone, "neither the exported, nor loops, nor beginnings");
    assert!(window.done.is_empty(), "what went is not remembered");
}

#[test]
fn losses_of_the_subscription_are_counted_once() {
    let mut window = window();
    let lost = [0, 3, 3, 10].map(|dropped| window.take(&Batch { dropped, ..Batch::default() }));
    assert_eq!([0, 3, 0, 7], lost);
}

#[test]
fn a_long_request_keeps_its_callers_trace_when_too_many_steps_come() {
    let mut window = window();
    let begin = record(Stage::Rpc, Kind::Begin, (1, 0), (SECOND, 0));
    let context = record(Stage::RpcContext, Kind::Mark, (2, 0), (SECOND, 0));
    take(&mut window, vec![begin, context]);
    let many = 10..10 + EVENTS_MAX as u64;
    let fill = many.map(|at| record(Stage::WalFsync, Kind::Span, (at, 0), (SECOND, 1)));
    assert_eq!(0, take(&mut window, fill.collect()), "no request has lost a step");
    assert_eq!(EVENTS_MAX / 2 + 2, window.intake.recording.events.len());
    take(&mut window, vec![record(Stage::WatchCreate, Kind::Span, (900_000, 1), (SECOND, 5))]);
    let spans: Vec<Span> =
        window.due(9 * SECOND).into_iter().flat_map(|resource| resource.spans).collect();
    let places: Vec<(u128, u64)> =
        spans.iter().map(|span| (span.place.trace, span.parent)).collect();
    assert_eq!(vec![(3_u128 << 64 | 7, crate::trace::context::root_span(ID))], places);
}

#[test]
fn steps_that_never_end_do_not_fill_the_window() {
    let mut window = window();
    let many = 1..=EVENTS_MAX as u64 + 1;
    let begun = many.map(|at| record(Stage::Rpc, Kind::Begin, (at, 0), (SECOND, 0)));
    assert_eq!(0, take(&mut window, begun.collect()));
    assert_eq!(EVENTS_MAX / 2 + OPEN_MAX, window.intake.recording.events.len());
}
