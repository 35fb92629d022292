//! Cuts the critical path where the request waited for a leader; and tells what of all that
//! happened to the cluster the path waited for.

use super::{Clock, Point, Segment, Side, Wait, clock_of};
use crate::{
    story::{
        Recording,
        order::Order,
        query::{
            cluster::{Sign, Stall},
            through::{Fate, Through, Without},
        },
    },
    trace::stage::Stage,
};

impl Through {
    /// What delayed the request: the leaders and processes for which its path waited. Without a
    /// path nobody knows yet, and its own member and leader count.
    pub fn delaying(&self, path: Option<&[Segment]>) -> Through {
        let waited = |is_meant: &dyn Fn(&Segment) -> bool, (from, to): (i128, i128)| {
            path.is_none_or(|path| {
                path.iter().filter(|piece| is_meant(piece)).any(|piece| {
                    let began = piece.until - i128::from(piece.ns);
                    began.max(from) < piece.until.min(to)
                })
            })
        };
        let mut delaying = self.clone();
        delaying.without.retain(|one| {
            let is_meant = |piece: &Segment| {
                matches!(piece.wait, Wait::SilentLeader | Wait::NoLeader | Wait::InVain(_))
            };
            waited(&is_meant, (one.from, one.to))
        });
        delaying.stalls.retain(|one| {
            let stall = one.stall;
            let is_meant = |piece: &Segment| {
                (piece.member, piece.wait) == (stall.member, Wait::Step(Stage::ProcessStalled))
            };
            let is_near = path.is_some() || one.is_serving || stall.is_leader;
            is_near && waited(&is_meant, (stall.from, stall.to))
        });
        delaying
    }

    /// Cuts the path where the request waited for a leader.
    pub(super) fn cut(
        &self,
        recording: &Recording,
        order: &Order,
        path: Vec<Segment>,
    ) -> Vec<Segment> {
        if self.without.is_empty() && self.stalls.is_empty() {
            return path;
        }
        let mut pieces = Vec::new();
        for segment in path {
            let end = segment.until;
            let now = end - i128::from(segment.ns);
            match waits_for_leader(recording, &segment) {
                true => self.cut_one((recording, order), segment, (now, end), &mut pieces),
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
        (recording, order): (&Recording, &Order),
        whole: Segment,
        (start, end): (i128, i128),
        pieces: &mut Vec<Segment>,
    ) {
        let (mut now, mut clock) = (start, whole.clocks[0]);
        for (time, by, piece) in self.parts((recording, order), whole, (start, end)) {
            let by = if end <= time { whole.clocks[1] } else { by };
            let time = time.clamp(now, end);
            let ns = u64::try_from(time - now).unwrap_or(0);
            let clocks = [clock, by];
            (now, clock) = (time, if ns == 0 { clock } else { by });
            match pieces.last_mut() {
                _ if ns == 0 => (),
                // One wait for a leader covers several steps that did not come.
                Some(last) if is_same_wait(last, &piece) => {
                    last.ns = last.ns.saturating_add(ns);
                    (last.until, last.to, last.clocks[1]) = (time, piece.to, by);
                }
                _ => pieces.push(Segment { ns, until: time, clocks, ..piece }),
            }
        }
    }

    /// The parts of a piece from `start` to `end`: until when each lasts, by which clock, and what
    /// it is. One that would end before the part before it has no length.
    fn parts(
        &self,
        (recording, order): (&Recording, &Order),
        whole: Segment,
        (start, end): (i128, i128),
    ) -> Vec<(i128, Clock, Segment)> {
        let mut parts = Vec::new();
        // Only where the piece is cut, it ends or begins with what happened to the cluster.
        let inside = |at: Option<usize>| {
            let at = at.filter(|at| start < order.times[*at] && order.times[*at] < end);
            at.map(|at| (at, recording.events[at].stage))
        };
        let stalls = self.stalls.iter().map(|stood| &stood.stall);
        for stall in stalls.filter(|stall| stall.is_leader && self.is_led(stall)) {
            let by = clock_of(&recording.events[stall.event]);
            parts.push((stall.from, by, whole));
            let wait = Wait::Step(Stage::ProcessStalled);
            let stood = Segment { wait, member: stall.member, to: stall.event, ..whole };
            // Once another member leads, nobody waits for it any more.
            parts.push((stall.led_until, by, stood));
        }
        let mut rest = whole;
        for without in &self.without {
            let sign = without.gap.last.filter(|at| order.times[*at] == without.from);
            let by = clock_at(recording, without.gap.last.or(without.gap.shown), whole);
            parts.push((without.from, by, ends_at(rest, inside(sign), Side::LastSign)));
            parts.extend(leaderless((recording, order), without, whole));
            rest = begins_at(rest, inside(without.gap.next), Side::NewLeader);
            // The new leader's first commit decides about the entries before it.
            let first = inside(without.committed);
            if let Some((at, _)) = first.filter(|_| matches!(rest.wait, Wait::Between(..))) {
                let by = clock_of(&recording.events[at]);
                let until = ends_at(rest, first, Side::Whole);
                parts.push((order.times[at], by, Segment { member: by.0, ..until }));
                rest = begins_at(rest, first, Side::Whole);
            }
        }
        parts.push((end, whole.clocks[1], rest));
        parts
    }
}

/// The clock of this event; of the beginning of the piece, if there is none.
fn clock_at(recording: &Recording, at: Option<usize>, whole: Segment) -> Clock {
    at.map_or(whole.clocks[0], |at| clock_of(&recording.events[at]))
}

/// The part of a piece in which the leader was silent, and that in which there was none.
fn leaderless(
    (recording, order): (&Recording, &Order),
    without: &Without,
    whole: Segment,
) -> [(i128, Clock, Segment); 2] {
    let Without { gap, from, to, next, .. } = without;
    let place = |member_id: u64| {
        let at = recording.members.iter().position(|known| known.member_id == member_id);
        at.and_then(|at| u8::try_from(at).ok())
    };
    let piece = |wait, member: Option<u8>, to: Option<usize>| Segment {
        wait,
        member: member.unwrap_or(whole.member),
        to: to.unwrap_or(whole.to),
        ..whole
    };
    // A leader that has stepped down is not silent: it knows that there is none.
    let has_stepped_down = matches!(without.fate, Fate::SteppedDown(_)) && gap.sign != Sign::Heard;
    let wait = if has_stepped_down { Wait::NoLeader } else { Wait::SilentLeader };
    let asked = gap.asked.map_or(*to, |asked| order.times[asked].clamp(*from, *to));
    let by = clock_at(recording, gap.asked.or(gap.next), whole);
    let winner = next.and_then(|(winner, _)| place(winner));
    let none = piece(Wait::NoLeader, winner, gap.next);
    [
        (asked, by, piece(wait, place(gap.before), gap.shown)),
        (*to, clock_at(recording, gap.next, whole), none),
    ]
}

/// The part of a piece before this event, if that is known.
fn ends_at(piece: Segment, at: Option<(usize, Stage)>, side: Side) -> Segment {
    match (piece.wait, at) {
        (Wait::Between(from, _), Some((to, stage))) => {
            Segment { to, wait: Wait::Between(from, Point { stage, side }), ..piece }
        }
        _ => piece,
    }
}

/// The part of a piece after this event, if that is known.
fn begins_at(piece: Segment, at: Option<(usize, Stage)>, side: Side) -> Segment {
    match (piece.wait, at) {
        (Wait::Between(_, to), Some((from, stage))) => {
            Segment { from, wait: Wait::Between(Point { stage, side }, to), ..piece }
        }
        _ => piece,
    }
}

fn is_same_wait(before: &Segment, piece: &Segment) -> bool {
    match piece.wait {
        Wait::NoLeader => before.wait == piece.wait,
        Wait::SilentLeader => (before.wait, before.member) == (piece.wait, piece.member),
        _ => false,
    }
}

/// Whether a piece of the path is a wait for the cluster, and not the member's own work.
fn waits_for_leader(recording: &Recording, segment: &Segment) -> bool {
    let is_own_work = matches!(segment.wait, Wait::Step(Stage::WalWrite | Stage::WalFsync));
    let [from, to] = [segment.from, segment.to].map(|at| recording.events[at].stage);
    let is_for_cluster = match from {
        Stage::RaftPropose
        | Stage::RaftInbox
        | Stage::RaftEntry
        | Stage::RaftSend
        | Stage::RaftReceive
        | Stage::WalWrite
        | Stage::WalFsync
        | Stage::RaftStable
        | Stage::RaftProgress
        | Stage::ReadIndexWait
        | Stage::ReadIndexRound
        | Stage::ReadIndexConfirmed => true,
        // Once it is committed, only the news of that can wait for a leader.
        Stage::RaftCommit => matches!(to, Stage::RaftSend | Stage::RaftReceive),
        _ => false,
    };
    is_for_cluster && !is_own_work
}
