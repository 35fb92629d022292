//! The record of a step in which a call waits: for apply, for a read round, for room, for a lock.
//!
//! A call can end while one of its steps waits: its client disconnects, or its deadline passes.
//! Then the call's future is dropped, and the step with it. So a [`WaitStep`] counts as cut off
//! until it has a result, and its record says why it ended.

use super::{Error, dropped, error::note};
use crate::trace::{DEADLINE_EXCEEDED, FLAG_CANCELLED, Reason, Span};

/// A step that waits.
pub(crate) struct WaitStep {
    /// The step, for its fields.
    pub(crate) span: Span,
    is_open: bool,
}

impl WaitStep {
    /// Records that the step begins.
    pub(crate) fn begin(span: Span) -> Self {
        Self { span: span.begun(), is_open: true }
    }

    /// The wait is over, with this result; an error is recorded with its reason.
    pub(crate) fn end<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.is_open = false;
        note(&mut self.span, result)
    }
}

impl WaitStep {
    /// As [`WaitStep::end`], for errors of another kind.
    pub(super) fn end_for<T, E>(
        &mut self,
        result: Result<T, E>,
        reason: impl FnOnce(&E) -> Reason,
    ) -> Result<T, E> {
        self.is_open = false;
        result.inspect_err(|error| self.span.fail(reason(error)))
    }
}

impl Drop for WaitStep {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        if dropped::is_expiring() {
            self.span.result(DEADLINE_EXCEEDED);
        } else {
            self.span.flag(FLAG_CANCELLED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        stage,
        trace::{Stage, ring},
    };

    /// The flag, the gRPC code and the reason of the step of this request.
    fn recorded(id: u64) -> (bool, u8, Option<Reason>) {
        let rings = ring::rings();
        let records = rings.iter().flat_map(|ring| {
            (ring.oldest()..ring.head()).filter_map(|number| ring.get(number).ok())
        });
        let is_end = |record: &crate::trace::Record| {
            record.id() == id
                && record.stage() == Some(Stage::ReadWaitApplied)
                && record.kind() == Some(crate::trace::Kind::Span)
        };
        let found: Vec<_> = records.filter(is_end).collect();
        assert_eq!(1, found.len());
        let head = found[0].head();
        (head.flags & FLAG_CANCELLED != 0, head.result, found[0].reason())
    }

    fn begin(id: u64) -> WaitStep {
        WaitStep::begin(stage!(ReadWaitApplied, id, index = 1_u64))
    }

    #[test]
    fn a_step_that_is_cut_off_says_why_and_one_that_ends_says_how() {
        const FIRST: u64 = 0x0bb2_0000_0000_0000;
        drop(begin(FIRST));
        assert_eq!((true, 1, None), recorded(FIRST));
        let expired = begin(FIRST + 1);
        dropped::expire(|| drop(expired));
        assert_eq!((false, DEADLINE_EXCEEDED, None), recorded(FIRST + 1));
        let mut ended = begin(FIRST + 2);
        assert_eq!(Ok(7), ended.end(Ok(7)));
        drop(ended);
        assert_eq!((false, 0, None), recorded(FIRST + 2));
        let mut failed = begin(FIRST + 3);
        assert_eq!(Err::<(), _>(Error::Timeout), failed.end(Err(Error::Timeout)));
        drop(failed);
        assert_eq!((false, 0, Some(Reason::Timeout)), recorded(FIRST + 3));
    }
}
