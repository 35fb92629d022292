//! Listening to all members until they have told what they hold of the past.
//!
//! Who answers is waited for, up to [`SETTLE`], until the story that is asked for is whole. Who
//! does not answer (a member that is stopped, a host that swallows packets) is not waited for any
//! longer than [`PATIENCE`] after the last of the others has spoken: it is named as silent, and
//! what it did is unknown. Nobody is left before [`LAG`], because members tell what has happened a
//! moment later.

use std::{io::Write, time::Duration};

use glass_etcd::{clock, pb::glasspb::ObserveRequest, story::Recording};

use super::{Error, From};
use crate::source::{Live, memory::Seen};

/// How long is waited for what members who answer have not told yet.
const SETTLE: Duration = Duration::from_secs(3);
/// How long members that do not answer are waited for, once the others have.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long members may keep to themselves what has happened: two or three passes of their drain.
pub(super) const LAG: Duration = Duration::from_millis(150);
/// How often it is looked whether they have said enough.
const TURN: Duration = Duration::from_millis(50);

/// An endpoint at which nobody was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silent {
    /// As it was given.
    pub(super) endpoint: String,
    /// Why, as far as it is known.
    pub(super) reason: String,
}

/// What was heard, and who was not.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// What was heard.
    pub(super) recording: Recording,
    /// Who was not.
    pub(super) silent: Vec<Silent>,
}

/// Listens until all members that answer have told what they hold of the past, and `is_enough`.
pub(super) async fn gather(
    from: &From,
    is_enough: impl Fn(&Recording) -> bool,
) -> Result<Gathered, Error> {
    let request = ObserveRequest { history: true, ..ObserveRequest::default() };
    let mut live = Live::connect(&from.endpoints, &request);
    let mut turn = tokio::time::interval(TURN);
    let listening = async {
        let begun = clock::now();
        let (mut answers, mut since) = (0, begun);
        loop {
            tokio::select! {
                _ = live.next() => (),
                _ = turn.tick() => {
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
    // What comes too late is unknown, which is what the output says then.
    let _ = tokio::time::timeout(SETTLE, listening).await;
    let silent = warn_of_silence(&live)?;
    Ok(Gathered { recording: live.into_recording(), silent })
}

fn has_answered(seen: &Seen) -> bool {
    seen.has_spoken || seen.down.is_some()
}

/// Names the members that are not heard; an error if there are no others.
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
        let _ = writeln!(std::io::stderr(), "glass trace: {endpoint} is not heard: {reason}");
    }
    if silent.len() == live.seen().len() {
        return Err(Error::Usage("none of the endpoints can be heard".to_owned()));
    }
    Ok(silent)
}
