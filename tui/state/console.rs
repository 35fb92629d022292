//! Requests of one's own: the line that is typed, those that were sent, and what became of them.
//!
//! ```text
//!   keys ──▶ Line ── Enter ──▶ Request ──▶ Errand ──▶ the client (tui/client.rs)
//!                                │                        │
//!                                │ trace                  │ Answer
//!                                ▼                        ▼
//!   records ── rpc.context ──▶ the story opens       what is shown of it
//! ```
//!
//! Every request is sent in a trace of its own, whose id is chosen here. The member records that id
//! (`rpc.context`), and that is how the story is found: also while the request still waits, and
//! also when other clients send the same at the same time.
//!
//! Invariants: all that comes from outside is bounded: the line, the requests that are remembered,
//! and the lines of an answer. A request that was given up gets no answer any more.
//!
//! Left out: scripts, and requests to the cluster of a recording, which has no members to ask.

use std::collections::VecDeque;

use bytes::Bytes;
use glass_etcd::{
    story::{Event, query::callers},
    trace::context::Context,
};

pub(crate) mod change;
pub(crate) mod complete;
pub(crate) mod request;

use super::line::{Edit, Line};
use request::Request;

/// The most requests that are remembered; the oldest that have ended go first.
const SENT_MAX: usize = 32;
/// The most requests under way.
const OPEN_MAX: usize = 16;
/// The most characters of a line. More than anybody types, and little enough to be drawn at each
/// key.
const LENGTH_MAX: usize = 1 << 16;
/// The most lines of one request that are kept; of a watcher, the newest.
const LINES_MAX: usize = 40;
/// The most lines of the history.
const HISTORY_MAX: usize = 100;

/// What a key does while a request is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Begin to type.
    Open,
    /// Give it up.
    Close,
    Complete,
    /// The line sent before.
    Earlier,
    /// The line sent after it.
    Later,
    Send,
    /// Give up the newest request under way.
    Cancel,
}

/// What the loop has to do for a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Errand {
    /// Send this to the member at this endpoint.
    Send { number: u64, endpoint: String, request: Request, context: Context },
    /// Give up this request.
    Cancel { number: u64 },
}

/// What came of a request: all of it, or the next part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    /// What the member answered, or the error.
    pub(crate) lines: Vec<String>,
    pub(crate) is_error: bool,
    /// Time from the request to its last answer, as the client measured it; `None` if more come.
    pub(crate) took_ns: Option<u64>,
    /// The key of a lock that was got.
    pub(crate) lock: Option<Bytes>,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Waits,
    /// Answered, or failed, after this many nanoseconds.
    Ended {
        took_ns: u64,
        is_error: bool,
    },
    /// Given up after this many nanoseconds.
    GivenUp(u64),
}

/// A request that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) number: u64,
    /// The member's name.
    pub(crate) member: String,
    /// What was typed, without the member.
    pub(crate) line: String,
    pub(crate) progress: Progress,
    /// Its answers.
    pub(crate) lines: VecDeque<String>,
    /// How many lines of its answers were dropped.
    pub(crate) dropped: usize,
    /// Whether its answers have no end.
    pub(crate) is_stream: bool,
    /// When it was sent, on the player's clock.
    pub(crate) sent_ns: u64,
    /// How many stories it has; the last is opened.
    stories: usize,
    /// Those that have been found, by request id.
    found: Vec<u64>,
}

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console {
    /// The line that is typed; `None` while none is.
    pub(crate) typed: Option<Line>,
    /// One line about what was typed: a mistake, or what may complete it.
    pub(crate) hint: Option<String>,
    /// The requests, the oldest first.
    pub(crate) sent: VecDeque<Sent>,
    /// Whether the newest request is shown while no line is typed, although it may have ended.
    pub(crate) is_shown: bool,
    /// The first half of the traces; `None` if there is nobody to send to.
    traces: Option<u64>,
    errands: Vec<Errand>,
    history: VecDeque<String>,
    /// The line of the history that is shown, counted from the newest.
    recalled: Option<usize>,
    /// The request whose story is opened when it is found.
    opens: Option<u64>,
    /// The last lock that was got here.
    lock: Option<Bytes>,
    last_number: u64,
}

impl Console {
    /// Lets requests be sent, in traces that begin with `traces`.
    pub(crate) fn connect(&mut self, traces: u64) {
        self.traces = Some(traces.max(1));
    }

    /// Whether there is anybody to send to.
    pub(crate) fn is_connected(&self) -> bool {
        self.traces.is_some()
    }

    /// The newest request under way.
    pub(crate) fn waiting(&self) -> Option<&Sent> {
        self.sent.iter().rfind(|sent| sent.progress == Progress::Waits)
    }

    /// The requests that are shown beside other screens: the newest under way, and the newest.
    pub(crate) fn shown(&self) -> Vec<&Sent> {
        let newest = self.sent.back().filter(|_| self.is_shown);
        let others = self.waiting().filter(|one| newest.is_none_or(|it| it.number != one.number));
        others.into_iter().chain(newest).collect()
    }

    /// What the loop has to do.
    pub(crate) fn errands(&mut self) -> Vec<Errand> {
        std::mem::take(&mut self.errands)
    }

    /// Begins to type.
    pub(crate) fn open(&mut self) {
        self.typed = Some(Line::new(LENGTH_MAX));
    }

    /// Changes the line.
    pub(crate) fn edit(&mut self, edit: Edit) {
        if let Some(line) = &mut self.typed {
            self.hint = line.edit(edit);
        }
    }

    /// Shows a line of the history, or an empty one behind the newest.
    pub(crate) fn turn(&mut self, key: Key) {
        self.hint = None;
        match (key, self.recalled) {
            (Key::Earlier, recalled) => self.recall(recalled.map_or(0, |at| at + 1)),
            (Key::Later, Some(at)) if 0 < at => self.recall(at - 1),
            (Key::Later, Some(_)) => {
                self.open();
                self.recalled = None;
            }
            _ => {}
        }
    }

    /// Inserts a text as a whole. Returns whether it fits.
    pub(crate) fn paste(&mut self, text: &str) -> bool {
        self.hint = None;
        self.typed.as_mut().is_some_and(|line| line.paste(text))
    }

    /// Shows a line of the history, counted from the newest.
    fn recall(&mut self, at: usize) {
        let place = self.history.len().checked_sub(at + 1);
        if let Some(line) = place.and_then(|place| self.history.get(place)) {
            (self.typed, self.recalled) = (Some(Line::of(line, LENGTH_MAX)), Some(at));
        }
    }

    /// Completes the word before the cursor.
    pub(crate) fn complete(&mut self, members: &[String], keys: &[String]) {
        let Some(line) = &mut self.typed else { return };
        self.hint = match complete::complete(&line.parts().0, members, keys) {
            Some(completion) => {
                line.replace(completion.length, &completion.text);
                Some(completion.candidates.join("   ")).filter(|text| !text.is_empty())
            }
            None => Some("nothing that is known begins like this".to_owned()),
        };
    }

    /// Sends the line to this member, or says why that cannot be done. `ids` has the members by
    /// their names.
    pub(crate) fn send(
        &mut self,
        (member, endpoint): (String, String),
        ids: &[(String, u64)],
        now_ns: u64,
    ) -> Result<(), String> {
        let Some(traces) = self.traces else { return Err(NOBODY.to_owned()) };
        if let Some(lack) = self.typed.as_ref().and_then(Line::lack) {
            return Err(lack);
        }
        let typed = self.typed.as_ref().map(Line::text).unwrap_or_default();
        let line = request::member_of(&typed).1.trim_end().to_owned();
        let id_of = |name: &str| {
            let known = ids.iter().find(|(known, _)| known == name);
            known.map(|(_, id)| format!("{id:x}"))
        };
        let mut request = request::parse(&line)?.named(id_of);
        if let Request::Unlock(unlock) = &mut request
            && unlock.key.is_empty()
        {
            let none = "no lock was got here: unlock KEY";
            unlock.key = self.lock.clone().ok_or_else(|| none.to_owned())?;
        }
        let open = self.sent.iter().filter(|sent| sent.progress == Progress::Waits).count();
        if OPEN_MAX <= open {
            return Err(format!("{open} requests wait already; Ctrl-X gives up the newest"));
        }
        self.remember(typed.trim().to_owned());
        self.last_number += 1;
        let number = self.last_number;
        self.sent.push_back(Sent {
            number,
            member,
            line,
            progress: Progress::Waits,
            lines: VecDeque::new(),
            dropped: 0,
            is_stream: request.is_stream(),
            sent_ns: now_ns,
            stories: request.stories(),
            found: Vec::new(),
        });
        if SENT_MAX < self.sent.len() {
            let ended = self.sent.iter().position(|sent| sent.progress != Progress::Waits);
            self.sent.remove(ended.unwrap_or(0));
        }
        let context = context(traces, number);
        self.errands.push(Errand::Send { number, endpoint, request, context });
        (self.typed, self.hint, self.recalled) = (None, None, None);
        (self.is_shown, self.opens) = (true, Some(number));
        Ok(())
    }

    fn remember(&mut self, line: String) {
        self.history.retain(|known| *known != line);
        self.history.push_back(line);
        if HISTORY_MAX < self.history.len() {
            self.history.pop_front();
        }
    }

    /// Gives up the newest request under way. Returns whether there was one.
    pub(crate) fn cancel(&mut self, now_ns: u64) -> bool {
        let waits = self.sent.iter().rposition(|sent| sent.progress == Progress::Waits);
        let Some(mut sent) = waits.and_then(|at| self.sent.remove(at)) else { return false };
        sent.progress = Progress::GivenUp(now_ns.saturating_sub(sent.sent_ns));
        self.errands.push(Errand::Cancel { number: sent.number });
        // It is the newest piece of news.
        self.sent.push_back(sent);
        self.is_shown = true;
        true
    }

    /// Takes an answer. One to a request that was given up came too late.
    pub(crate) fn answered(&mut self, answer: Answer) {
        let of = |sent: &&mut Sent| sent.number == answer.number;
        let Some(sent) = self.sent.iter_mut().find(of) else { return };
        if sent.progress != Progress::Waits {
            return;
        }
        sent.lines.extend(answer.lines);
        while LINES_MAX < sent.lines.len() {
            sent.lines.pop_front();
            sent.dropped += 1;
        }
        if let Some(took_ns) = answer.took_ns {
            sent.progress = Progress::Ended { took_ns, is_error: answer.is_error };
        }
        self.lock = answer.lock.or(self.lock.take());
    }

    /// Looks at a new record: is it the beginning of a request that was sent here?
    pub(crate) fn learn(&mut self, event: &Event) {
        let (Some(traces), Some(number)) = (self.traces, self.opens) else { return };
        let of_trace = |found: Context| found.trace == context(traces, number).trace;
        if callers::context(event).is_some_and(of_trace)
            && let Some(sent) = self.sent.iter_mut().find(|sent| sent.number == number)
            && !sent.found.contains(&event.id)
        {
            sent.found.push(event.id);
        }
    }

    /// The story to open, once. A stream that was refused has no more than one.
    pub(crate) fn take_story(&mut self) -> Option<u64> {
        let number = self.opens?;
        let sent = self.sent.iter().find(|sent| sent.number == number)?;
        let is_whole = sent.stories <= sent.found.len() || sent.progress != Progress::Waits;
        let story = sent.found.last().copied().filter(|_| is_whole)?;
        self.opens = None;
        Some(story)
    }

    /// The user does something else: the story is not opened any more.
    pub(crate) fn leave(&mut self) {
        self.opens = None;
    }
}

/// Why a recording takes no requests.
pub(crate) const NOBODY: &str = "a recording takes no requests: its members ran in the past";

/// The trace of a request.
fn context(traces: u64, number: u64) -> Context {
    let trace = u128::from(traces) << 64 | u128::from(number);
    Context { trace, span: number, is_sampled: true }
}

#[cfg(test)]
mod tests;
