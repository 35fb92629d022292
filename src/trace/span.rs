//! The guard that a step holds while it runs, and the macros that make it.
//!
//! `stage!` opens a [`Span`]; dropping it writes one finished record into the ring of the thread
//! that drops it. `mark!` writes a record for something that takes no time, and `set!` fills in a
//! field that is known only later. The names of fields are checked while compiling, here and where
//! they are read ([`field`](super::field)).

use super::{
    Reason,
    bridge::{self, End},
    raw_clock,
    record::{FLAG_CANCELLED, FLAG_ERROR, Kind},
    ring,
    stage::Stage,
};

/// A point of the member's time: what a record notes at the beginning and at the end of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The member's clock; 0 without capture.
    pub clock: u64,
    /// The raw tick.
    pub raw: u64,
}

impl Moment {
    /// This moment, which takes the next value of the member's clock. Without capture nothing is
    /// read.
    pub fn now() -> Moment {
        match ring::is_capturing() {
            true => Moment { clock: ring::next_clock(), raw: raw_clock::now() },
            false => Moment::default(),
        }
    }

    /// Nanoseconds from an earlier moment to this one.
    pub fn since(self, earlier: Moment) -> u64 {
        raw_clock::to_ns(self.raw.saturating_sub(earlier.raw))
    }
}

/// A step that is under way. Not `Clone`, and it must not cross a channel: only the id does.
#[derive(Debug)]
#[must_use = "the record is written when the guard is dropped"]
pub struct Span {
    stage: Stage,
    id: u64,
    link: u64,
    clock: u64,
    raw: u64,
    kind: Kind,
    result: u8,
    reason: Option<Reason>,
    flags: u8,
    fields: [u64; 8],
    /// The span for `tracing`'s subscribers, if the step is kept and there is one.
    open: Option<Box<bridge::Open>>,
}

/// Raw ticks now, for the thread that takes what is handed over here; 0 while nothing is recorded.
/// See [`waited_ns`].
pub fn handed_over() -> u64 {
    if ring::is_capturing() { raw_clock::now() } else { 0 }
}

/// Nanoseconds since a hand-over at these ticks; 0 if its time is not known.
pub fn waited_ns(since: u64) -> u64 {
    if since == 0 { 0 } else { raw_clock::to_ns(raw_clock::now().saturating_sub(since)) }
}

/// gRPC's code for a call that its client has cancelled.
pub const CANCELED: u8 = 1;
/// gRPC's code for a call whose deadline has passed.
pub const DEADLINE_EXCEEDED: u8 = 4;

impl Span {
    /// Opens a step now. Use `stage!` instead, which checks the fields.
    pub fn open(stage: Stage, id: u64) -> Span {
        // Before the clock is read, so that this does not count as time of the step.
        let open = if bridge::is_on() { bridge::open(stage, id) } else { None };
        // Without capture the clocks are not read, so a step costs nothing else.
        let is_on = ring::is_capturing() && !ring::is_left_out(stage, id);
        let (clock, raw) = if is_on { (ring::next_clock(), raw_clock::now()) } else { (0, 0) };
        Span {
            stage,
            id,
            link: 0,
            clock,
            raw,
            kind: Kind::Span,
            result: 0,
            reason: None,
            flags: 0,
            fields: [0; 8],
            open,
        }
    }

    /// Also writes a record of the beginning, so that a step that hangs can be seen hanging. How
    /// the step would end if it were dropped now is no part of it.
    pub fn begun(mut self) -> Span {
        if !ring::begins_silently(self.stage, self.id) {
            let flags = self.flags;
            self.flags &= !(FLAG_CANCELLED | FLAG_ERROR);
            self.write(Kind::Begin, 0, 0);
            self.flags = flags;
        }
        self
    }

    /// Sets a field by its place; `set!` finds the place.
    pub fn set(&mut self, slot: usize, value: u64) {
        self.fields[slot] = value;
    }

    /// Links the step to one of another member, or to a round or batch.
    pub fn link(&mut self, link: u64) {
        self.link = link;
    }

    /// Adds one of the `FLAG_` bits.
    pub fn flag(&mut self, flag: u8) {
        self.flags |= flag;
    }

    /// Clears these `FLAG_` bits of the record to be written.
    pub fn clear_flag(&mut self, flag: u8) {
        self.flags &= !flag;
    }

    /// Notes the gRPC code with which the step ended; anything but 0 is an error.
    pub fn result(&mut self, code: u8) {
        self.result = code;
        if code != 0 {
            self.flags |= FLAG_ERROR;
            self.record_after_all();
        }
    }

    /// Notes that the step has failed, and why.
    pub fn fail(&mut self, reason: Reason) {
        self.flags |= FLAG_ERROR;
        self.reason = Some(reason);
        self.record_after_all();
    }

    /// A quick step that is left out under load is recorded if it fails. When it began is not known
    /// then, so it is recorded as something that takes no time.
    fn record_after_all(&mut self) {
        if self.clock == 0 && ring::is_left_out(self.stage, self.id) {
            self.kind = Kind::Mark;
            (self.clock, self.raw) = (ring::next_clock(), raw_clock::now());
        }
    }

    /// The step leaves no record, because it is repeated as a whole. Not for a step whose beginning
    /// is recorded. A subscriber of the bridge has seen the step open, and sees it end.
    pub fn discard(&mut self) {
        self.clock = 0;
    }

    /// When the step began.
    pub fn began(&self) -> Moment {
        Moment { clock: self.clock, raw: self.raw }
    }

    /// Ends the step now rather than when the guard is dropped; returns when. Without a record that
    /// is no moment.
    pub fn close(&mut self) -> Moment {
        if self.flags & FLAG_CANCELLED != 0 && self.result == 0 {
            self.result = CANCELED;
        }
        let end = self.write_end();
        if let Some(open) = self.open.take() {
            let end = End { flags: self.flags, link: self.link, fields: &self.fields };
            open.end(self.stage, end);
        }
        self.clock = 0;
        end
    }

    /// Writes the record of the whole step, unless it leaves none; returns when it ended.
    fn write_end(&self) -> Moment {
        if self.clock == 0 {
            return Moment::default();
        }
        if self.kind == Kind::Mark {
            self.write(Kind::Mark, 0, 0);
            return Moment::default();
        }
        let raw = raw_clock::now();
        let took = raw.saturating_sub(self.raw);
        let has_failed = self.result != 0 || self.flags & FLAG_ERROR != 0;
        if !has_failed && ring::is_too_short(self.stage, self.id, || raw_clock::to_ns(took)) {
            return Moment::default();
        }
        let end = Moment { clock: ring::next_clock(), raw };
        self.write(Kind::Span, end.clock - self.clock, took);
        end
    }

    /// Nanoseconds from a hand-over at these ticks to the step's beginning; 0 if either is not
    /// known.
    pub fn waited_ns(&self, since: u64) -> u64 {
        match (since, self.clock) {
            (0, _) | (_, 0) => 0,
            _ => raw_clock::to_ns(self.raw.saturating_sub(since)),
        }
    }

    /// The id under which the step is recorded.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Clocks begin at 1: a step that was opened without capture, or discarded, has none and leaves
    /// no record.
    fn write(&self, kind: Kind, clock_delta: u64, raw_delta: u64) {
        if self.clock == 0 {
            return;
        }
        ring::push(&ring::Write {
            stage: self.stage,
            kind,
            flags: self.flags,
            result: self.result,
            clock: self.clock,
            raw: self.raw,
            clock_delta,
            raw_delta,
            reason: self.reason,
            id: self.id,
            link: self.link,
            fields: &self.fields,
        });
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.close();
    }
}

/// Writes a record of something that takes no time. Use `mark!`, which checks the fields.
pub fn mark(stage: Stage, id: u64, link: u64, flags: u8, fields: &[u64; 8]) {
    write_mark(stage, id, End { flags, link, fields }, None);
}

/// The same with a reason, of something that was refused as the rules demand: it has not failed.
pub fn mark_because(stage: Stage, id: u64, reason: Option<Reason>, fields: &[u64; 8]) {
    write_mark(stage, id, End { flags: 0, link: 0, fields }, reason);
}

fn write_mark(stage: Stage, id: u64, end: End<'_>, reason: Option<Reason>) {
    let End { flags, link, fields } = end;
    if bridge::is_on() {
        bridge::mark(stage, id, end);
    }
    if !ring::is_capturing() {
        return;
    }
    ring::push(&ring::Write {
        stage,
        kind: Kind::Mark,
        flags,
        result: 0,
        clock: ring::next_clock(),
        raw: raw_clock::now(),
        clock_delta: 0,
        raw_delta: 0,
        reason,
        id,
        link,
        fields,
    });
}

/// Writes the record of a step that is over, and of which it was known only at its end that it is
/// wanted, or for which request it was taken. Use `past!`, which checks the fields.
pub fn past(stage: Stage, id: u64, (from, to): (Moment, Moment), fields: &[u64; 8]) {
    if from.clock == 0 || to.clock == 0 {
        return;
    }
    if bridge::is_on() {
        let times = (waited_ns(from.raw), to.since(from));
        bridge::past(stage, id, times, fields);
    }
    ring::push(&ring::Write {
        stage,
        kind: Kind::Span,
        flags: 0,
        result: 0,
        clock: from.clock,
        raw: from.raw,
        clock_delta: to.clock.saturating_sub(from.clock),
        raw_delta: to.raw.saturating_sub(from.raw),
        reason: None,
        id,
        link: 0,
        fields,
    });
}

/// `stage!(WalFsync, id, first = 3, last = 9)` opens a step and returns its guard.
#[macro_export]
macro_rules! stage {
    ($stage:ident, $id:expr $(, $field:ident = $value:expr)* $(,)?) => {{
        #[allow(unused_mut)]
        let mut span = $crate::trace::Span::open($crate::trace::Stage::$stage, $id);
        $(span.set(
            $crate::slot!($stage, $field).at(),
            u64::try_from($value).unwrap_or(u64::MAX),
        );)*
        span
    }};
}

/// `set!(span, WalFsync, synced_new = 9)` fills in fields of an open step.
#[macro_export]
macro_rules! set {
    ($span:expr, $stage:ident $(, $field:ident = $value:expr)+ $(,)?) => {
        $($span.set(
            $crate::slot!($stage, $field).at(),
            u64::try_from($value).unwrap_or(u64::MAX),
        );)+
    };
}

/// `numbers!(Lost, from = 3, to = 9)` are the eight numbers of a record, each in its field's slot.
#[macro_export]
macro_rules! numbers {
    ($stage:ident $(, $field:ident = $value:expr)* $(,)?) => {{
        #[allow(unused_mut)]
        let mut fields = [0_u64; 8];
        $(fields[$crate::slot!($stage, $field).at()] =
            u64::try_from($value).unwrap_or(u64::MAX);)*
        fields
    }};
}

/// `past!(AnswerFlush, id, from, to, bytes = 9)` records a step that is over, between two
/// [`Moment`]s.
#[macro_export]
macro_rules! past {
    ($stage:ident, $id:expr, $from:expr, $to:expr $(, $field:ident = $value:expr)* $(,)?) => {{
        let fields = $crate::numbers!($stage $(, $field = $value)*);
        $crate::trace::past($crate::trace::Stage::$stage, $id, ($from, $to), &fields);
    }};
}

/// `mark!(RaftEntry, id, term = 2, index = 7)` records something that takes no time.
/// `mark!(RaftSend, id, link = l, flags = f; peer = 2)` adds a link and flags, and
/// `mark!(ElectionVote, id, reason = r; term = 4)` a reason.
#[macro_export]
macro_rules! mark {
    ($stage:ident, $id:expr, link = $link:expr, flags = $flags:expr; $($field:ident = $value:expr),* $(,)?) => {{
        let fields = $crate::numbers!($stage $(, $field = $value)*);
        $crate::trace::mark($crate::trace::Stage::$stage, $id, $link, $flags, &fields);
    }};
    ($stage:ident, $id:expr, reason = $reason:expr; $($field:ident = $value:expr),* $(,)?) => {{
        let fields = $crate::numbers!($stage $(, $field = $value)*);
        $crate::trace::mark_because($crate::trace::Stage::$stage, $id, $reason, &fields);
    }};
    ($stage:ident, $id:expr $(, $field:ident = $value:expr)* $(,)?) => {
        $crate::mark!($stage, $id, link = 0, flags = 0; $($field = $value),*)
    };
}
