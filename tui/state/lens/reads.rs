//! What a read of the story's key would answer, if it was sent now: on each member, serializable
//! and linearizable.
//!
//! ```text
//!   tree_index.put, tombstone ──▶ the versions of the key, by revision
//!   mvcc.write ─────────────────▶ the revisions of which every write was captured
//!   apply.entry ────────────────▶ the revision after each entry
//!                                        │
//!   at the cursor: revision of the member ──▶ serializable
//!                  commit of its leader   ──▶ linearizable, and what that waits for
//! ```
//!
//! All members apply the same entries in the same order, so at one revision they have the same
//! version of a key, and the records of one speak for all. A serializable read answers from the
//! revision that its member has. A linearizable read waits until its leader has confirmed with a
//! quorum that it leads, and until its own member has applied what that leader knew to be
//! committed: it answers from that revision, or from a later one if more is committed meanwhile.
//!
//! Invariant: a version is known only if every revision between its write and the revision asked
//! for was captured, or if the next version proves that none was between. Everything else is
//! unknown.
//!
//! Left out: values, which no record contains.

use glass_etcd::trace::value::LEADER;

use super::{
    super::{
        alive::Heard,
        head::Head,
        lanes::{self, Lane},
        steps::Steps,
        watermarks::{Water, Watermarks},
        words,
    },
    Line,
};
pub(crate) use crate::state::history::Found;

/// What a linearizable read comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Linearizable {
    /// Its answer, once a quorum has confirmed the leader; and the index that its member has to
    /// apply before, if it has not.
    Answer {
        found: Found,
        apply: Option<u64>,
    },
    /// It waits, for this reason.
    Waits(String),
    Unknown,
}

/// What reads on one member come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    /// `None` if the member answers nobody, for the reason in `linearizable`.
    pub(crate) serializable: Option<Found>,
    pub(crate) linearizable: Linearizable,
}

impl Reads {
    /// Whether the serializable read is known to be older than what is committed.
    pub(crate) fn is_stale(&self) -> bool {
        let Linearizable::Answer { found: newest, .. } = self.linearizable else { return false };
        let is_known = |found| found != Found::Unknown;
        self.serializable
            .is_some_and(|found| is_known(found) && is_known(newest) && found != newest)
    }
}

/// What reads on each lane's member come to at the cursor. `heads` say who runs; without them, that
/// is not considered.
pub(crate) fn reads(steps: &Steps, lanes: &[Lane], heads: &[Head]) -> Vec<Reads> {
    let all = Members { steps, lanes, heads };
    (0..lanes.len()).map(|lane| all.read(lane)).collect()
}

/// The members at the cursor.
struct Members<'a> {
    steps: &'a Steps,
    lanes: &'a [Lane],
    heads: &'a [Head],
}

impl Members<'_> {
    fn marks(&self, lane: usize) -> Option<Watermarks> {
        self.steps.watermarks(&self.lanes[lane])
    }

    /// Why the member of a lane answers nothing.
    fn silence(&self, lane: usize) -> Option<&'static str> {
        match self.heads.get(lane)?.heard {
            Heard::Down(_) => Some("is DOWN"),
            Heard::Paused(_) => Some("stands still"),
            Heard::Starting(_) => Some("is starting"),
            Heard::Never | Heard::Silent(_) | Heard::Fresh => None,
        }
    }

    /// Whether it is not known that the member of a lane runs.
    fn is_doubtful(&self, lane: usize) -> bool {
        let heard = self.heads.get(lane).map(|head| head.heard);
        matches!(heard, Some(Heard::Never | Heard::Silent(_)))
    }

    /// Whether the link between the members of two lanes is cut.
    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.heads.get(one).is_some_and(|head| head.cut.contains(&other))
    }

    /// Whether the leader reaches a majority; `None` if that is not known.
    fn has_quorum(&self, leader: usize) -> Option<bool> {
        let may_answer =
            |lane: &usize| self.silence(*lane).is_none() && !self.is_cut(leader, *lane);
        let voters = self.steps.voters(self.lanes)?;
        let all = (0..self.lanes.len()).filter(|lane| voters.votes(*lane));
        let able: Vec<usize> = all.filter(may_answer).collect();
        let sure = able.iter().filter(|lane| !self.is_doubtful(**lane)).count();
        if voters.needed() <= sure {
            return Some(true);
        }
        (able.len() + voters.others() < voters.needed()).then_some(false)
    }

    fn read(&self, lane: usize) -> Reads {
        if let Some(why) = self.silence(lane) {
            let linearizable = Linearizable::Waits(format!("it {why}"));
            return Reads { serializable: None, linearizable };
        }
        let Some(marks) = self.marks(lane).filter(|_| !self.is_doubtful(lane)) else {
            return Reads {
                serializable: Some(Found::Unknown),
                linearizable: Linearizable::Unknown,
            };
        };
        let history = &self.steps.history;
        let revision = marks.get(Water::Revision);
        let serializable = revision.map_or(Found::Unknown, |revision| history.at(revision));
        let linearizable = self.linearizable(lane, &marks).unwrap_or(Linearizable::Unknown);
        Reads { serializable: Some(serializable), linearizable }
    }

    /// `None` if it is unknown what the read waits for.
    fn linearizable(&self, lane: usize, own: &Watermarks) -> Option<Linearizable> {
        let leader_id = own.get(Water::Leader)?;
        if leader_id == 0 {
            return Some(Linearizable::Waits("no leader".to_owned()));
        }
        let leader = lanes::lane_of_id(self.lanes, leader_id)?;
        let name = &self.lanes[leader].name;
        if let Some(why) = self.silence(leader) {
            return Some(Linearizable::Waits(format!("{name}, which leads, {why}")));
        }
        if self.is_cut(lane, leader) {
            return Some(Linearizable::Waits(format!("its link to {name} is cut")));
        }
        let marks = self.marks(leader)?;
        let (role, term) = (marks.get(Water::Role)?, marks.get(Water::Term)?);
        if role != LEADER || term != own.get(Water::Term)? {
            return Some(Linearizable::Waits(format!("{name} does not lead this term")));
        }
        if !self.has_quorum(leader)? {
            return Some(Linearizable::Waits(format!("{name} reaches no quorum")));
        }
        let commit = marks.get(Water::Commit)?;
        // Before that a leader does not know what is committed.
        if self.steps.openings.get(&term).is_some_and(|opening| commit < *opening) {
            return Some(Linearizable::Waits(format!("nothing of term {term} is committed")));
        }
        let is_applied = own.reaches(Water::Applied, commit)?;
        let apply = (!is_applied).then_some(commit);
        Some(Linearizable::Answer { found: self.steps.history.after(commit), apply })
    }
}

/// The heading of the lens.
pub(crate) fn title(steps: &Steps) -> String {
    /// The longest key in the heading.
    const KEY: usize = 24;
    match &steps.history.key {
        Some(key) => format!("A READ OF {} HERE (-s: serializable)", words::key(key, KEY)),
        None => "A READ HERE (-s: serializable)".to_owned(),
    }
}

/// The lens: a line for each member.
pub(crate) fn lines(steps: &Steps, lanes: &[Lane], heads: &[Head]) -> Vec<Line> {
    let reads = reads(steps, lanes, heads);
    lanes.iter().zip(reads).map(|(lane, reads)| line(&lane.name, &reads)).collect()
}

fn line(name: &str, reads: &Reads) -> Line {
    let mut line = vec![name.to_owned()];
    let Some(serializable) = reads.serializable else {
        let Linearizable::Waits(why) = &reads.linearizable else { return line };
        line.push(format!("no answer: {why}"));
        return line;
    };
    let stale = if reads.is_stale() { ", STALE" } else { "" };
    line.push(format!("get -s: {}{stale}", found(serializable)));
    line.push(match &reads.linearizable {
        Linearizable::Answer { found: Found::Unknown, .. } | Linearizable::Unknown => {
            "get: ? unknown".to_owned()
        }
        Linearizable::Answer { found: answer, apply: None } => {
            format!("get: {} after quorum", found(*answer))
        }
        Linearizable::Answer { found: answer, apply: Some(index) } => {
            format!("get: {} after quorum, apply {index}", found(*answer))
        }
        Linearizable::Waits(why) => format!("get: waits, {why}"),
    });
    line
}

/// What is found, in words.
pub(crate) fn found(found: Found) -> String {
    match found {
        Found::Unknown => "? unknown".to_owned(),
        Found::Nothing => "no key".to_owned(),
        Found::Version { version, revision } => format!("v{version} rev {revision}"),
        Found::AsOf(revision) => format!("as of rev {revision}"),
    }
}

#[cfg(test)]
mod tests;
