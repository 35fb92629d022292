//! Cuts the critical path where the request waited for a leader.

use super::{Segment, Wait};
use crate::{
    story::{
        Recording,
        query::{
            cluster::Stall,
            through::{Through, Without},
        },
    },
    trace::stage::Stage,
};

impl Through {
    /// Cuts the path where the request waited for a leader.
    pub(super) fn cut(&self, recording: &Recording, path: Vec<Segment>) -> Vec<Segment> {
        if self.without.is_empty() && self.stalls.is_empty() {
            return path;
        }
        let mut pieces = Vec::new();
        for segment in path {
            let end = segment.until;
            let now = end - i128::from(segment.ns);
            match waits_for_leader(recording, &segment) {
                true => self.cut_one(recording, segment, (now, end), &mut pieces),
                false => pieces.push(segment),
            }
        }
        pieces
    }

    /// Whether nobody else led while this leader did nothing.
    fn is_led(&self, stall: &Stall) -> bool {
        !self.without.iter().any(|without| without.from < stall.to && stall.from < without.to)
    }

    fn cut_one(
        &self,
        recording: &Recording,
        whole: Segment,
        (start, end): (i128, i128),
        pieces: &mut Vec<Segment>,
    ) {
        let mut now = start;
        let mut until = |time: i128, piece: Segment| {
            let time = time.clamp(now, end);
            let ns = u64::try_from(time - now).unwrap_or(0);
            now = time;
            match pieces.last_mut() {
                _ if ns == 0 => (),
                // One wait for a leader covers several steps that did not come.
                Some(last) if is_same_wait(last, &piece) => {
                    last.ns = last.ns.saturating_add(ns);
                    (last.until, last.to) = (time, piece.to);
                }
                _ => pieces.push(Segment { ns, until: time, ..piece }),
            }
        };
        let place = |member_id: u64| {
            let at = recording.members.iter().position(|known| known.member_id == member_id);
            at.and_then(|at| u8::try_from(at).ok())
        };
        let estimate = |wait, member: Option<u8>, to: Option<usize>| Segment {
            wait,
            member: member.unwrap_or(whole.member),
            to: to.unwrap_or(whole.to),
            is_estimated: true,
            ..whole
        };
        let stalls = self.stalls.iter().filter(|stall| stall.is_leader && self.is_led(stall));
        for stall in stalls {
            until(stall.from, whole);
            until(stall.to, estimate(Wait::SilentLeader, Some(stall.member), Some(stall.event)));
        }
        for without in &self.without {
            let Without { gap, from, to, next, .. } = without;
            until(*from, whole);
            let asked = gap.asked.unwrap_or(*to).clamp(*from, *to);
            until(asked, estimate(Wait::SilentLeader, place(gap.before), gap.shown));
            let winner = next.map(|(winner, _)| winner);
            until(*to, estimate(Wait::NoLeader, winner, gap.next));
        }
        until(end, whole);
    }
}

fn is_same_wait(before: &Segment, piece: &Segment) -> bool {
    matches!(piece.wait, Wait::SilentLeader | Wait::NoLeader)
        && (before.wait, before.member) == (piece.wait, piece.member)
}

/// Whether a piece of the path is a wait for the cluster, and not the member's own work.
fn waits_for_leader(recording: &Recording, segment: &Segment) -> bool {
    let is_own_work = matches!(segment.wait, Wait::Step(Stage::WalWrite | Stage::WalFsync));
    let from = recording.events[segment.from].stage;
    !is_own_work
        && matches!(
            from,
            Stage::RaftPropose
                | Stage::RaftInbox
                | Stage::RaftEntry
                | Stage::RaftSend
                | Stage::RaftReceive
                | Stage::WalWrite
                | Stage::WalFsync
                | Stage::RaftStable
                | Stage::ReadIndexWait
                | Stage::ReadIndexRound
                | Stage::ReadIndexConfirmed
        )
}
