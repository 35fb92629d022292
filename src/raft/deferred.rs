//! Messages that must not be sent before the disk holds what they claim.
//!
//! Two rules, one queue. A follower's acknowledgement or vote waits for the fsync that covers its
//! Ready and everything before it (Raft thesis 10.2.1); a repeated acknowledgement without entries
//! of its own waits as well, because what it acknowledges may still be unsynced. And the messages
//! of a follower or candidate in a Ready with a committed configuration change wait until that
//! change is carried out (etcd 7280). The queue is first in, first out, so nothing overtakes.

use std::collections::VecDeque;

use raft::eraftpb::Message;

/// The messages of one Ready, and what they wait for.
#[derive(Debug)]
struct DeferredReady {
    ready: u64,
    conf_index: u64,
    messages: Vec<Message>,
}

/// The queue of messages that wait.
#[derive(Debug, Default)]
pub(crate) struct DeferredMessages {
    queue: VecDeque<DeferredReady>,
    persisted: u64,
    conf_applied: u64,
}

impl DeferredMessages {
    /// Queues messages until the Ready `ready` is on disk and, where `conf_index` is not 0, the
    /// configuration change at that index is carried out.
    pub(crate) fn hold(&mut self, ready: u64, conf_index: u64, messages: Vec<Message>) {
        if !messages.is_empty() {
            self.queue.push_back(DeferredReady { ready, conf_index, messages });
        }
    }

    /// Notes that the WAL has synced everything up to this Ready.
    pub(crate) fn persisted(&mut self, ready: u64) {
        self.persisted = self.persisted.max(ready);
    }

    /// Notes that the configuration change at this index is carried out.
    pub(crate) fn conf_applied(&mut self, index: u64) {
        self.conf_applied = self.conf_applied.max(index);
    }

    /// Takes the messages that may be sent now, in order.
    pub(crate) fn release(&mut self) -> Vec<Message> {
        let (persisted, conf_applied) = (self.persisted, self.conf_applied);
        let mut free = Vec::new();
        while let Some(first) = self
            .queue
            .pop_front_if(|first| first.ready <= persisted && first.conf_index <= conf_applied)
        {
            free.extend(first.messages);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(to: u64) -> Message {
        Message { to, ..Message::default() }
    }

    fn receivers(messages: &[Message]) -> Vec<u64> {
        messages.iter().map(|message| message.to).collect()
    }

    #[test]
    fn a_repeated_acknowledgement_waits_for_the_sync_of_earlier_entries() {
        let mut held = DeferredMessages::default();
        held.hold(4, 0, vec![message(1)]);
        // The second Ready has nothing to write and waits for the same sync.
        held.hold(4, 0, vec![message(2)]);
        assert!(held.release().is_empty());
        held.persisted(4);
        assert_eq!(receivers(&held.release()), [1, 2]);
    }

    #[test]
    fn nothing_overtakes_a_message_that_waits_for_a_configuration_change() {
        let mut held = DeferredMessages::default();
        held.hold(1, 7, vec![message(1)]);
        held.hold(1, 0, vec![message(2)]);
        held.persisted(1);
        assert!(held.release().is_empty());
        held.conf_applied(7);
        assert_eq!(receivers(&held.release()), [1, 2]);
    }
}
