//! Golden scripts: `tests/scripts/answer`. A window is 2, a connection may hold 6 and keep up to 4,
//! the member may hold 12 and keep up to 8; two answers may wait, and one stalls after 10 s without
//! progress.

use std::{
    error::Error as StdError,
    time::{Duration, Instant},
};

use goldenscript::{Command, Context, Runner};

use crate::{
    clock,
    server::answer::ledger::{Ledger, Limits, ShareLimit, Ticket, Verdict},
};

fn run(script: &str) {
    let limits = Limits {
        window: 2,
        member: ShareLimit { all: 12, kept: 8 },
        connection: ShareLimit { all: 6, kept: 4 },
        waiting: 2,
        stall: Duration::from_secs(10),
    };
    let mut book = Book { ledger: Ledger::new(limits), now: clock::now() };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts/answer");
    goldenscript::run(&mut book, format!("{folder}/{script}")).unwrap();
}

#[test]
fn kept_rows_leave_windows_to_other_answers() {
    run("kept");
}

#[test]
fn waiting_answers_are_admitted_in_order() {
    run("waiting");
}

#[test]
fn a_plan_is_counted_with_its_window_and_not_passed_by_shorter_ones() {
    run("plans");
}

#[test]
fn stalled_answers_are_ended_while_others_wait() {
    run("stalled");
}

#[test]
fn bytes_that_http2_has_of_an_ended_answer_are_no_room() {
    run("ended");
}

struct Book {
    ledger: Ledger,
    now: Instant,
}

fn list(tickets: &[Ticket]) -> String {
    tickets.iter().map(|ticket| format!("a{ticket} ")).collect::<String>().trim_end().to_owned()
}

fn say(verdict: &Verdict) -> String {
    let closed: Vec<_> = verdict.closed.iter().map(|it| format!("c{it}")).collect();
    let (ended, admitted) = (list(&verdict.ended), list(&verdict.admitted));
    format!("ended [{ended}], admitted [{admitted}], closed {closed:?}")
}

impl Book {
    fn act(&mut self, command: &Command) -> Result<String, Box<dyn StdError>> {
        let mut args = command.consume_args();
        let mut next = || -> Result<u64, Box<dyn StdError>> {
            let arg = args.next_pos().ok_or("an argument is missing")?;
            Ok(arg.trim_start_matches(['a', 'c']).parse()?)
        };
        let (size, ledger) = (|it: u64| usize::try_from(it).unwrap(), &mut self.ledger);
        let now = self.now;
        Ok(match command.name.as_str() {
            "enter" => {
                let (of, plan) = (next()?, next().map_or(0, size));
                ledger.enter(of, plan).map_or("no room".to_owned(), |ticket| format!("a{ticket}"))
            }
            "wait" => {
                let (of, plan) = (next()?, next().map_or(0, size));
                let ticket = ledger.wait(of, plan, true);
                ticket.map_or("too many wait".to_owned(), |ticket| format!("a{ticket} waits"))
            }
            "keep" if ledger.keep(next()?, size(next()?)) => "kept".into(),
            "keep" => "not kept".into(),
            "overdraw" => {
                ledger.overdraw(next()?, size(next()?));
                String::new()
            }
            "give-back" => {
                ledger.give_back(next()?, size(next()?));
                String::new()
            }
            "send" => {
                ledger.send(next()?, now);
                String::new()
            }
            "pause" => {
                ledger.pause(next()?);
                String::new()
            }
            "hand" => {
                ledger.hand(next()?, size(next()?));
                String::new()
            }
            "sent" | "sent-of-window" => {
                ledger.sent(next()?, size(next()?), command.name == "sent", now);
                String::new()
            }
            "leave" => {
                ledger.leave(next()?);
                String::new()
            }
            "give-up" => {
                ledger.give_up(next()?);
                String::new()
            }
            "after" => {
                self.now += Duration::from_secs(next()?);
                String::new()
            }
            "judge" => say(&ledger.judge(now)),
            name => return Err(format!("unknown command {name}").into()),
        })
    }
}

impl Runner for Book {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn StdError>> {
        let mut said = self.act(command)?;
        let admitted = self.ledger.admit();
        if !admitted.is_empty() {
            said.push_str(&format!(" admitted {}", list(&admitted)));
        }
        let of = [1, 2, 3].map(|connection| self.ledger.used_by(connection));
        let (used, waiting) = (self.ledger.used(), self.ledger.waiting());
        Ok(format!("{:<28}| {used} = {of:?}, {waiting} wait\n", said.trim_start()))
    }
}
