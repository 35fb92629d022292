//! Requests named on the command line: by their own id, or by the trace in which they are.

use glass_etcd::{
    story::{Recording, query::callers},
    trace::context::Context,
};

use super::Error;

/// What the user names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A request, by the 16 hex digits that `list` shows.
    Request(u64),
    /// A trace, by its 32 hex digits or by a whole `traceparent`.
    Trace(u128),
}

impl Asked {
    /// Reads what the user wrote. 0 names nothing: it marks steps that belong to no request.
    pub(super) fn parse(text: &str) -> Result<Asked, Error> {
        if let Some(context) = Context::parse(text) {
            return Ok(Asked::Trace(context.trace));
        }
        let digits = text.trim_start_matches("0x");
        let number = u128::from_str_radix(digits, 16).ok().filter(|number| *number != 0);
        let asked = number.and_then(|number| match digits.len() {
            17.. => (digits.len() == 32).then_some(Asked::Trace(number)),
            _ => u64::try_from(number).ok().map(Asked::Request),
        });
        asked.ok_or_else(|| Error::Usage(format!("{text:?} is not a request id or a trace id")))
    }

    /// The requests that are meant. Whether a request named by its own id was captured is not
    /// looked at.
    pub(super) fn ids(self, recording: &Recording) -> Vec<u64> {
        match self {
            Asked::Request(id) => vec![id],
            Asked::Trace(trace) => callers::requests_in(recording, trace),
        }
    }

    /// Why nothing is shown.
    pub(super) fn not_captured(self) -> Error {
        Error::Usage(match self {
            Asked::Request(id) => format!("no step of request {id:016x} was captured"),
            Asked::Trace(trace) => format!("no request of trace {trace:032x} was captured"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_up_to_16_digits_and_a_trace_32() {
        let read = |text: &str| Asked::parse(text).ok();
        assert_eq!(Some(Asked::Request(0x203)), read("0203"));
        assert_eq!(Some(Asked::Request(0x203)), read("0x203"));
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let number = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
        assert_eq!(Some(Asked::Trace(number)), read(trace));
        assert_eq!(Some(Asked::Trace(number)), read(&format!("00-{trace}-b7ad6b7169203331-01")));
        for wrong in ["", "0", "put", &trace[1..], &"0".repeat(32), &format!("{trace}0")] {
            assert_eq!(None, read(wrong), "{wrong}");
        }
    }
}
