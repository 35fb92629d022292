//! Single messages as requests: `POST /raft`, four connections to a peer.
//!
//! The pipeline carries messages that are sent before the streams are open, and all messages to a
//! member that is not a peer yet. (etcd: pipeline, pipelineHandler)

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::Full;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use tokio::{sync::Notify, task::JoinSet, time::timeout};

use super::{
    dial::{self, Failed, Sender, Target, Urls},
    drops,
    glass::{self, Frames, Outbound},
    local::Local,
    wire,
};
use crate::clock;

/// Connections to a peer (etcd: connPerPipeline).
const CONNECTIONS: usize = 4;
/// The most messages that wait for a connection (etcd: pipelineBufSize).
const QUEUE_MAX: usize = 64;
/// The most proposals that wait beside them. Raft repeats all other messages by itself, but the
/// client of a dropped proposal would wait until its timeout. (etcd has no separate room for them.)
const PROPOSALS_MAX: usize = 4096;
/// The most bytes of these proposals.
const PROPOSAL_BYTES_MAX: usize = 64 << 20;
/// A proposal that has waited this long is dropped: its client gives up about now, and must not see
/// it carried out later (etcd: the five seconds of `ReqTimeout`).
const PROPOSAL_PATIENCE: Duration = Duration::from_secs(5);
/// The longest time for one request, which may carry a large message.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The queue of single messages to one peer, and the tasks that empty it.
pub(super) struct Pipeline {
    queue: Rc<Queue>,
    _workers: JoinSet<()>,
}

struct Queue {
    waiting: RefCell<WaitingMessages>,
    frames: RefCell<Frames>,
    filled: Notify,
}

/// Messages that wait. Proposals are many and not urgent, so all others are sent first.
#[derive(Default)]
struct WaitingMessages {
    messages: VecDeque<Outbound>,
    /// The proposals, with the time at which each was queued.
    proposals: VecDeque<(Instant, Outbound)>,
    /// The bytes of the proposals.
    bytes: usize,
}

/// One connection, opened when it is first needed.
struct Worker {
    local: Rc<Local>,
    peer: u64,
    urls: Rc<Urls>,
    queue: Rc<Queue>,
    connection: Option<(Target, Sender)>,
}

impl Pipeline {
    pub(super) fn start(local: &Rc<Local>, peer: u64, urls: &Rc<Urls>) -> Pipeline {
        let queue = Rc::new(Queue {
            waiting: RefCell::default(),
            frames: RefCell::new(Frames::new(Some(glass::random_number()))),
            filled: Notify::new(),
        });
        let mut workers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (local, urls, queue) = (local.clone(), urls.clone(), queue.clone());
            workers.spawn_local(Worker { local, peer, urls, queue, connection: None }.run());
        }
        Pipeline { queue, _workers: workers }
    }

    /// A pipeline to a member that is not a peer.
    pub(super) fn to_remote(local: &Rc<Local>, id: u64, urls: &[String]) -> Pipeline {
        Pipeline::start(local, id, &Rc::new(Urls::new(urls)))
    }

    /// Queues a message; returns it when the queue is full.
    #[must_use]
    pub(super) fn push(&self, outbound: Outbound) -> Option<Message> {
        let refused = self.queue.waiting.borrow_mut().push(outbound, clock::now());
        if refused.is_none() {
            self.queue.filled.notify_one();
        }
        refused
    }
}

impl Queue {
    async fn next(&self) -> Outbound {
        loop {
            if let Some(outbound) = self.waiting.borrow_mut().pop(clock::now()) {
                return outbound;
            }
            self.filled.notified().await;
        }
    }
}

fn data_len(message: &Message) -> usize {
    message.entries.iter().map(|entry| entry.data.len()).sum()
}

impl WaitingMessages {
    fn push(&mut self, outbound: Outbound, now: Instant) -> Option<Message> {
        if outbound.message.get_msg_type() != MessageType::MsgPropose {
            if QUEUE_MAX <= self.messages.len() {
                return Some(outbound.message);
            }
            self.messages.push_back(outbound);
            return None;
        }
        let bytes = self.bytes + data_len(&outbound.message);
        if PROPOSALS_MAX <= self.proposals.len()
            || (!self.proposals.is_empty() && PROPOSAL_BYTES_MAX < bytes)
        {
            return Some(outbound.message);
        }
        self.bytes = bytes;
        self.proposals.push_back((now, outbound));
        None
    }

    fn pop(&mut self, now: Instant) -> Option<Outbound> {
        if let Some(outbound) = self.messages.pop_front() {
            return Some(outbound);
        }
        while let Some((since, outbound)) = self.proposals.pop_front() {
            self.bytes -= data_len(&outbound.message);
            if now.duration_since(since) < PROPOSAL_PATIENCE {
                return Some(outbound);
            }
            drops::unsent(&outbound.message);
        }
        None
    }
}

impl Worker {
    async fn run(mut self) {
        loop {
            let outbound = self.queue.next().await;
            if self.local.links.is_cut(self.peer) {
                drops::cut(&outbound.message, false);
                self.local.unreachable(self.peer);
                continue;
            }
            let posted = timeout(REQUEST_TIMEOUT, self.post(&outbound)).await;
            match posted.unwrap_or(Err(Failed::Timeout)) {
                Ok(()) => continue,
                Err(Failed::Removed) => self.local.note_removed(self.peer),
                Err(failed) => {
                    let text = "a message could not be posted";
                    self.local.complain(self.peer, text, &failed.to_string());
                }
            }
            self.connection = None;
            self.local.lost(&[outbound.message]);
        }
    }

    async fn post(&mut self, outbound: &Outbound) -> Result<(), Failed> {
        let (target, mut sender) = match self.connection.take() {
            Some((target, sender)) if !sender.is_closed() => (target, sender),
            _ => self.connect().await?,
        };
        sender.ready().await?;
        let request = self.request(outbound, &target);
        let answer = sender.send_request(request).await.inspect_err(|_| {
            self.urls.failed(&target);
        })?;
        if answer.status() != StatusCode::NO_CONTENT {
            return Err(dial::refused(answer, &target, self.local.identity.cluster_id).await);
        }
        let bytes = u64::from(outbound.message.compute_size());
        self.local.count(self.peer, |counts| counts.sent_bytes.add(bytes));
        self.connection = Some((target, sender));
        Ok(())
    }

    async fn connect(&self) -> Result<(Target, Sender), Failed> {
        let target = self.urls.pick()?;
        let connected = timeout(self.local.dial_timeout, dial::connect(&target)).await;
        let sender =
            connected.unwrap_or(Err(Failed::Timeout)).inspect_err(|_| self.urls.failed(&target))?;
        Ok((target, sender))
    }

    fn request(&self, outbound: &Outbound, target: &Target) -> Request<Full<Bytes>> {
        let mut span = glass::encoding(outbound);
        let mut body = BytesMut::new();
        wire::put(&outbound.message, &mut body);
        let link = self.queue.frames.borrow_mut().next();
        span.link(link);
        drop(span);
        let mut request = Request::new(Full::new(body.freeze()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static("/raft");
        let headers = request.headers_mut();
        self.local.identity.stamp_request(headers);
        let host = HeaderValue::from_str(&target.authority).expect("an authority is ASCII");
        headers.insert(HOST, host);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/protobuf"));
        headers.insert(glass::LINK_HEADER, glass::header(link));
        request
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;

    fn message(kind: MessageType, bytes: usize) -> Outbound {
        let mut message = Message::default();
        message.set_msg_type(kind);
        message.mut_entries().push(Entry { data: vec![0; bytes].into(), ..Entry::default() });
        Outbound { message, since: 0 }
    }

    #[test]
    fn proposals_are_bounded_and_hold_up_nothing_else() {
        let now = clock::now();
        let mut waiting = WaitingMessages::default();
        for _ in 0..PROPOSALS_MAX {
            assert_eq!(waiting.push(message(MessageType::MsgPropose, 1), now), None);
        }
        assert!(waiting.push(message(MessageType::MsgPropose, 1), now).is_some());
        for _ in 0..QUEUE_MAX {
            assert_eq!(waiting.push(message(MessageType::MsgAppendResponse, 0), now), None);
        }
        assert!(waiting.push(message(MessageType::MsgAppendResponse, 0), now).is_some());
        for _ in 0..QUEUE_MAX {
            let first = waiting.pop(now).unwrap();
            assert_eq!(first.message.get_msg_type(), MessageType::MsgAppendResponse);
        }
        assert_eq!(waiting.pop(now).unwrap().message.get_msg_type(), MessageType::MsgPropose);
    }

    #[test]
    fn the_bytes_of_proposals_are_bounded_but_for_a_single_one() {
        let now = clock::now();
        let mut waiting = WaitingMessages::default();
        let large = || message(MessageType::MsgPropose, PROPOSAL_BYTES_MAX);
        assert_eq!(waiting.push(large(), now), None);
        assert!(waiting.push(message(MessageType::MsgPropose, 1), now).is_some());
        assert!(waiting.pop(now).is_some());
        assert_eq!(waiting.push(message(MessageType::MsgPropose, 1), now), None);
    }

    #[test]
    fn a_proposal_whose_client_has_given_up_is_not_sent() {
        let now = clock::now();
        let mut waiting = WaitingMessages::default();
        assert_eq!(waiting.push(message(MessageType::MsgPropose, 1), now), None);
        let later = now + PROPOSAL_PATIENCE;
        assert_eq!(waiting.push(message(MessageType::MsgPropose, 2), later), None);
        assert_eq!(data_len(&waiting.pop(later).unwrap().message), 2);
        assert_eq!((waiting.pop(later), waiting.bytes), (None, 0));
    }
}
