//! What was typed, what is sent, and what becomes of it.

use glass_etcd::{set, trace::Stage};

use super::*;

fn console() -> Console {
    let mut console = Console::default();
    console.connect(7);
    console
}

fn type_in(console: &mut Console, text: &str) {
    console.open();
    text.chars().for_each(|character| console.edit(Edit::Type(character)));
}

fn send(console: &mut Console, text: &str) -> Result<(), String> {
    type_in(console, text);
    console.send(("etcd-01".to_owned(), "127.0.0.1:1".to_owned()), &[], 1_000)
}

/// The record by which a member says that request `id` is in trace 7 with this number.
fn context_of(id: u64, number: u64) -> Event {
    let mut event = Event { id, ..Event::mark(0, Stage::RpcContext, id) };
    set!(event, RpcContext, trace_high = 7, trace_low = number, parent = 1);
    event
}

#[test]
fn a_line_that_was_sent_closes_and_one_with_a_mistake_stays() {
    let mut console = console();
    assert!(send(&mut console, "put a").is_err());
    assert!(console.typed.is_some() && console.errands().is_empty());
    send(&mut console, "@2 put a 1").unwrap();
    assert!(console.typed.is_none());
    let [Errand::Send { number: 1, request: Request::Put(_), context, .. }] =
        &console.errands()[..]
    else {
        panic!()
    };
    assert_eq!((7 << 64 | 1, true), (context.trace, context.is_sampled));
    assert_eq!("put a 1", console.sent.back().unwrap().line);
}

#[test]
fn the_story_is_found_by_its_trace_and_opened_once() {
    let mut console = console();
    send(&mut console, "put a 1").unwrap();
    console.learn(&context_of(40, 2));
    assert_eq!(None, console.take_story(), "the trace of somebody else");
    console.learn(&context_of(41, 1));
    assert_eq!(Some(41), console.take_story());
    assert_eq!(None, console.take_story());
}

#[test]
fn of_a_watcher_its_own_story_is_opened_and_not_that_of_the_stream() {
    let mut console = console();
    send(&mut console, "watch a").unwrap();
    console.learn(&context_of(50, 1));
    console.learn(&context_of(50, 1));
    assert_eq!(None, console.take_story());
    console.learn(&context_of(51, 1));
    assert_eq!(Some(51), console.take_story());
}

#[test]
fn of_a_stream_that_was_refused_the_only_story_is_opened() {
    let mut console = console();
    send(&mut console, "watch a").unwrap();
    console.learn(&context_of(50, 1));
    console.answered(Answer { number: 1, took_ns: Some(5), is_error: true, ..Answer::default() });
    assert_eq!(Some(50), console.take_story());
}

#[test]
fn whoever_does_something_else_is_not_led_away() {
    let mut console = console();
    send(&mut console, "put a 1").unwrap();
    console.leave();
    console.learn(&context_of(41, 1));
    assert_eq!(None, console.take_story());
}

#[test]
fn a_request_that_was_given_up_gets_no_answer() {
    let mut console = console();
    send(&mut console, "put a 1").unwrap();
    console.errands();
    assert!(console.cancel(4_000));
    assert!(!console.cancel(5_000));
    assert_eq!([Errand::Cancel { number: 1 }], console.errands()[..]);
    let late = vec!["OK".to_owned()];
    console.answered(Answer { number: 1, lines: late, took_ns: Some(9), ..Answer::default() });
    let sent = console.sent.back().unwrap();
    assert_eq!((Progress::GivenUp(3_000), 0), (sent.progress, sent.lines.len()));
}

#[test]
fn an_unlock_without_a_key_means_the_last_lock() {
    let mut console = console();
    assert!(send(&mut console, "unlock").unwrap_err().contains("no lock"));
    send(&mut console, "lock job").unwrap();
    console.errands();
    let key = Bytes::from_static(b"job/7f");
    let lock = Some(key.clone());
    console.answered(Answer { number: 1, took_ns: Some(1), lock, ..Answer::default() });
    send(&mut console, "unlock").unwrap();
    let [Errand::Send { request: Request::Unlock(unlock), .. }] = &console.errands()[..] else {
        panic!()
    };
    assert_eq!(key, unlock.key);
}

#[test]
fn earlier_lines_come_back_and_a_repeated_one_only_once() {
    let mut console = console();
    for line in ["put a 1", "get a", "put a 1"] {
        send(&mut console, line).unwrap();
    }
    type_in(&mut console, "dra");
    let mut recalled = |key| {
        console.turn(key);
        console.typed.as_ref().unwrap().text()
    };
    assert_eq!("put a 1", recalled(Key::Earlier));
    assert_eq!("get a", recalled(Key::Earlier));
    assert_eq!("get a", recalled(Key::Earlier));
    assert_eq!("put a 1", recalled(Key::Later));
    assert_eq!("", recalled(Key::Later));
}

#[test]
fn nothing_grows_without_a_bound() {
    let mut console = console();
    for number in 1..=200 {
        let sent = send(&mut console, &format!("put a {number}"));
        assert_eq!(number <= OPEN_MAX, sent.is_ok());
    }
    for number in 1..=OPEN_MAX as u64 {
        let lines = vec!["x".to_owned(); LINES_MAX + 2];
        console.answered(Answer { number, lines, took_ns: Some(1), ..Answer::default() });
    }
    assert!(console.sent.iter().all(|sent| (LINES_MAX, 2) == (sent.lines.len(), sent.dropped)));
    for number in 0..200 {
        send(&mut console, &format!("get {number}")).unwrap();
        console.cancel(0);
    }
    assert_eq!((SENT_MAX, HISTORY_MAX), (console.sent.len(), console.history.len()));
}
