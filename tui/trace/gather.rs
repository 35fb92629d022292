//! Listens to all members until they have sent their history.
//!
//! For members that answer, it waits until the requested story is complete, for [`SETTLE`] at most.
//! A member that does not answer (it is stopped, or its host drops packets) gets [`PATIENCE`] after
//! the last of the others has answered: then it is reported as silent, and its steps are unknown.
//! Listening never ends before [`LAG`], because members send a record a moment after the step.

use std::{io::Write, time::Duration};

use glass_etcd::{clock, pb::glasspb::ObserveRequest, story::Recording};

use super::{Error, From};
use crate::source::{Live, memory::Seen};

/// How long to wait for missing records of members that answer.
const SETTLE: Duration = Duration::from_secs(3);
/// How long to wait for members that do not answer, once the others have.
const PATIENCE: Duration = Duration::from_secs(1);
/// How old a step may be before its member sends it: two or three passes of its drain.
pub(super) const LAG: Duration = Duration::from_millis(150);
/// How often to check whether the records suffice.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// An endpoint that sent no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Silent {
    /// As given on the command line.
    pub(super) endpoint: String,
    /// The reason, if known.
    pub(super) reason: String,
}

/// The records, and the endpoints without any.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// The records of all members that answered.
    pub(crate) recording: Recording,
    /// The endpoints without records.
    pub(crate) silent: Vec<Silent>,
}

/// Listens until all members that answer have sent their history, and `is_enough` holds.
pub(super) async fn gather(
    from: &From,
    is_enough: impl Fn(&Recording) -> bool,
) -> Result<Gathered, Error> {
    let request = ObserveRequest { history: true, ..ObserveRequest::default() };
    let mut live = Live::connect(&from.endpoints, &request);
    let mut ticks = tokio::time::interval(CHECK_EVERY);
    let listening = async {
        let begun = clock::now();
        let (mut answers, mut since) = (0, begun);
        loop {
            tokio::select! {
                _ = live.next() => (),
                _ = ticks.tick() => {
                    let count = live.seen().iter().filter(|seen| has_answered(seen)).count();
                    if answers != count {
                        (answers, since) = (count, clock::now());
                    }
                    let is_heard = live.seen().iter().any(|seen| seen.has_spoken);
                    let is_late = is_heard && PATIENCE <= clock::now().duration_since(since);
                    let is_told = LAG <= clock::now().duration_since(begun);
                    let is_settled = is_told && (live.is_settled() || is_late);
                    if is_settled && is_enough(live.recording()) {
                        return;
                    }
                }
            }
        }
    };
    // Records that arrive too late are unknown, and the output says so.
    let _ = tokio::time::timeout(SETTLE, listening).await;
    let silent = warn_of_silence(&live)?;
    Ok(Gathered { recording: live.into_recording(), silent })
}

fn has_answered(seen: &Seen) -> bool {
    seen.has_spoken || seen.down.is_some()
}

/// Warns about endpoints without records; an error if there are no others.
pub(super) fn warn_of_silence(live: &Live) -> Result<Vec<Silent>, Error> {
    let silent: Vec<Silent> = (live.seen().iter())
        .filter(|seen| seen.member.is_none())
        .map(|seen| Silent {
            endpoint: seen.endpoint.clone(),
            reason: match &seen.down {
                Some(reason) => reason.clone(),
                None => format!("silent for {} s", PATIENCE.as_secs()),
            },
        })
        .collect();
    for Silent { endpoint, reason } in &silent {
        let _ = writeln!(std::io::stderr(), "glass trace: no records from {endpoint}: {reason}");
    }
    if silent.len() == live.seen().len() {
        return Err(Error::Usage("none of the endpoints sends records".to_owned()));
    }
    Ok(silent)
}
