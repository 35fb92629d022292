//! Single messages as requests: `POST /raft`, four connections to a peer.
//!
//! It carries what is sent before the streams are up, and everything to a member that is not a
//! peer yet. (etcd: pipeline, pipelineHandler)

use std::{cell::RefCell, collections::VecDeque, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use raft::eraftpb::{Message, MessageType};
use tokio::{sync::Notify, task::JoinSet, time::timeout};

use super::{
    dial::{self, Failed, Target, Urls},
    glass::{self, Frames},
    hub::Hub,
    identity,
    server::{Answer, refuse},
    wire::{self, FRAME_LEN_MAX},
};

/// Connections to a peer (etcd: connPerPipeline).
const CONNECTIONS: usize = 4;
/// Messages that may wait for one of them (etcd: pipelineBufSize).
const QUEUE_MAX: usize = 64;
/// The same for proposals: raft repeats all else by itself, but a proposal has a client that would
/// wait for it until its time is over. (etcd drops them as well.)
const PROPOSALS_MAX: usize = 4096;
/// How long one message may take, on its way out or in. It may be a large one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The queue of single messages to one peer, and the tasks that empty it.
pub(super) struct Pipeline {
    queue: Rc<Queue>,
    _workers: JoinSet<()>,
}

struct Queue {
    messages: RefCell<VecDeque<Message>>,
    frames: RefCell<Frames>,
    filled: Notify,
}

/// One connection, made when it is first needed.
struct Worker {
    hub: Rc<Hub>,
    peer: u64,
    urls: Rc<Urls>,
    queue: Rc<Queue>,
    connection: Option<(Target, SendRequest<Full<Bytes>>)>,
}

impl Pipeline {
    pub(super) fn start(hub: &Rc<Hub>, peer: u64, urls: &Rc<Urls>) -> Pipeline {
        let queue = Rc::new(Queue {
            messages: RefCell::default(),
            frames: RefCell::new(Frames::new(Some(glass::random_number()))),
            filled: Notify::new(),
        });
        let mut workers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (hub, urls, queue) = (hub.clone(), urls.clone(), queue.clone());
            workers.spawn_local(Worker { hub, peer, urls, queue, connection: None }.run());
        }
        Pipeline { queue, _workers: workers }
    }

    /// A pipeline to a member that is not a peer.
    pub(super) fn to_remote(hub: &Rc<Hub>, id: u64, urls: &[String]) -> Pipeline {
        Pipeline::start(hub, id, &Rc::new(Urls::new(urls)))
    }

    /// Queues a message; returns it when the queue is full.
    #[must_use]
    pub(super) fn push(&self, message: Message) -> Option<Message> {
        let mut messages = self.queue.messages.borrow_mut();
        let is_proposal = message.get_msg_type() == MessageType::MsgPropose;
        let most = if is_proposal { PROPOSALS_MAX } else { QUEUE_MAX };
        if most <= messages.len() {
            return Some(message);
        }
        messages.push_back(message);
        self.queue.filled.notify_one();
        None
    }
}

impl Queue {
    async fn next(&self) -> Message {
        loop {
            if let Some(message) = self.messages.borrow_mut().pop_front() {
                return message;
            }
            self.filled.notified().await;
        }
    }
}

impl Worker {
    async fn run(mut self) {
        loop {
            let message = self.queue.next().await;
            let posted = timeout(REQUEST_TIMEOUT, self.post(&message)).await;
            match posted.unwrap_or(Err(Failed::Timeout)) {
                Ok(()) => continue,
                Err(Failed::Removed) => self.hub.note_removed(self.peer),
                Err(failed) => {
                    let text = "a message could not be posted";
                    self.hub.complain(self.peer, text, &failed.to_string());
                }
            }
            self.connection = None;
            self.hub.lost(&[message]);
        }
    }

    async fn post(&mut self, message: &Message) -> Result<(), Failed> {
        let (target, mut sender) = match self.connection.take() {
            Some((target, sender)) if !sender.is_closed() => (target, sender),
            _ => self.connect().await?,
        };
        sender.ready().await?;
        let request = self.request(message, &target);
        let answer = sender.send_request(request).await.inspect_err(|_| {
            self.urls.failed(&target);
        })?;
        if answer.status() != StatusCode::NO_CONTENT {
            return Err(dial::refused(answer).await);
        }
        self.connection = Some((target, sender));
        Ok(())
    }

    async fn connect(&self) -> Result<(Target, SendRequest<Full<Bytes>>), Failed> {
        let target = self.urls.pick()?;
        let connected = timeout(self.hub.dial_timeout, dial::connect(&target)).await;
        let sender =
            connected.unwrap_or(Err(Failed::Timeout)).inspect_err(|_| self.urls.failed(&target))?;
        Ok((target, sender))
    }

    fn request(&self, message: &Message, target: &Target) -> Request<Full<Bytes>> {
        let mut body = BytesMut::new();
        wire::put(message, &mut body);
        let link = self.queue.frames.borrow_mut().next();
        glass::sent(message, link);
        let mut request = Request::new(Full::new(body.freeze()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static("/raft");
        let headers = request.headers_mut();
        self.hub.identity.stamp_request(headers);
        let host = HeaderValue::from_str(&target.authority).expect("an authority is ASCII");
        headers.insert(HOST, host);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/protobuf"));
        headers.insert(glass::LINK_HEADER, glass::header(link));
        request
    }
}

/// Answers `POST /raft`, once the headers are checked.
pub(super) async fn serve(hub: &Rc<Hub>, request: Request<Incoming>) -> Answer {
    hub.remember(identity::sender(request.headers()), &identity::peer_urls(request.headers()));
    let link = glass::link(request.headers());
    let body = Limited::new(request.into_body(), FRAME_LEN_MAX).collect();
    let Ok(Ok(body)) = timeout(REQUEST_TIMEOUT, body).await else {
        return refuse(StatusCode::BAD_REQUEST, "error reading raft message");
    };
    let message = match wire::message(&body.to_bytes()) {
        Ok(message) => message,
        Err(broken) => {
            hub.complain(0, "a posted message makes no sense", &broken.to_string());
            return refuse(StatusCode::BAD_REQUEST, "error unmarshalling raft message");
        }
    };
    if hub.is_removed(message.from) {
        return refuse(StatusCode::FORBIDDEN, "cannot process message from removed member");
    }
    match hub.receive(Box::new(message), link) {
        Ok(()) => Answer::empty(StatusCode::NO_CONTENT),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "error processing raft message"),
    }
}
