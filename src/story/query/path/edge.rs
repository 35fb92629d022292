//! The parts of a path outside the rpc: the steps at the edge of the member that serves it.

use super::{Chain, Edge, Segment, Wait, clock_of};
use crate::trace::stage::Stage;

impl Chain<'_> {
    /// The part before the rpc.
    pub(super) fn arrive(&mut self, serving: u8, rpc: usize) {
        let stages =
            [Stage::ConnectionAccept, Stage::SocketQueue, Stage::RpcReceive, Stage::RpcQueue];
        let known: Vec<usize> =
            stages.into_iter().filter_map(|stage| self.steps.first(stage, serving)).collect();
        let began = self.now;
        let starts = known.iter().map(|at| self.time(Edge::Start(*at)));
        self.now = starts.min().unwrap_or(began).min(began);
        let mut before = None;
        for at in known {
            // After its connection was taken, the client had to send the request.
            if before == Some(Stage::ConnectionAccept) {
                self.until(Some(Edge::Start(at)));
            }
            before = Some(self.steps.event(at).stage);
            let is_last = self.steps.event(at).stage == Stage::RpcQueue;
            let end = if is_last { began } else { self.time(Edge::End(at)) };
            self.edge(at, end.clamp(self.now, began));
        }
        if let Some(last) = self.segments.last_mut().filter(|_| self.now == began) {
            last.to = rpc;
        }
        // If `rpc.queue` was not captured.
        self.until(Some(Edge::Start(rpc)).filter(|_| self.now != began));
        self.clocks[0] = self.clocks[1];
        (self.now, self.from, self.is_broken) = (began, Edge::Start(rpc), false);
    }

    /// The part after the rpc.
    pub(super) fn leave(&mut self, serving: u8) {
        if let Some(at) = self.steps.first(Stage::AnswerFlush, serving) {
            self.end = self.time(Edge::End(at)).max(self.now);
            self.edge(at, self.end);
        }
    }

    /// A step at the edge of the member, which begins where the one before it ended.
    fn edge(&mut self, at: usize, end: i128) {
        let event = self.steps.event(at);
        self.segments.push(Segment {
            from: if self.segments.is_empty() { at } else { self.from.at() },
            to: at,
            member: event.member,
            wait: Wait::Step(event.stage),
            ns: u64::try_from(end - self.now).unwrap_or(0),
            until: end,
            clocks: [clock_of(event); 2],
        });
        (self.now, self.from) = (end, Edge::End(at));
    }
}
