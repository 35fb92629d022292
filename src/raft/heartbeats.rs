//! Whether a leader sends its heartbeats in time (etcd: `contention.TimeoutDetector`).
//!
//! A heartbeat is late if it leaves more than two intervals after the one before it to the same
//! member. The raft thread was busy or got no processor then, and the others may be about to
//! campaign. Each late one is counted and logged.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use raft::eraftpb::{Message, MessageType};

use crate::{clock, metrics::recorded};

/// When the last heartbeat to each member was sent.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    /// The term in which they were sent. Those of an earlier term do not count: this member may
    /// have followed in between.
    term: u64,
    last: HashMap<u64, Instant>,
}

impl Heartbeats {
    /// Notes the heartbeats among messages that leave now.
    pub(super) fn sent(&mut self, messages: &[Message], term: u64, interval: Duration) {
        for message in messages {
            if message.get_msg_type() != MessageType::MsgHeartbeat {
                continue;
            }
            let Some(late) = self.note(message.to, term, clock::now(), interval) else { continue };
            recorded::HEARTBEAT_SEND_FAILURES.increment();
            tracing::warn!(
                to = %format!("{:x}", message.to),
                "heartbeat-interval" = ?interval,
                "expected-duration" = ?(2 * interval),
                "exceeded-duration" = ?late,
                "leader failed to send out heartbeat on time; took too long, leader is overloaded \
                 likely from slow disk"
            );
        }
    }

    /// How late a heartbeat is; `None` if it is in time.
    fn note(&mut self, to: u64, term: u64, now: Instant, interval: Duration) -> Option<Duration> {
        if self.term != term {
            self.term = term;
            self.last.clear();
        }
        let before = self.last.insert(to, now)?;
        let late = now.duration_since(before).checked_sub(2 * interval)?;
        (!late.is_zero()).then_some(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_late_after_two_intervals_of_one_term_and_member() {
        let (mut heartbeats, start) = (Heartbeats::default(), clock::now());
        let ms = Duration::from_millis;
        let mut at = |to, term, after| heartbeats.note(to, term, start + ms(after), ms(100));
        assert_eq!(at(2, 5, 0), None);
        assert_eq!(at(2, 5, 200), None);
        assert_eq!(at(3, 5, 450), None);
        assert_eq!(at(2, 5, 450), Some(ms(50)));
        assert_eq!(at(2, 5, 500), None);
        // Another term: this member may have followed in between.
        assert_eq!(at(2, 7, 9000), None);
        assert_eq!(at(2, 7, 9201), Some(ms(1)));
    }
}
