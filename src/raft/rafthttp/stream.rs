//! The two long-lived streams between members: writing to those that a peer opened, and dialling
//! and reading our own.
//!
//! A writer is the body of an HTTP answer that never ends. Whenever the socket has room, hyper asks
//! the body for more; it encodes what waits in the queue into one buffer and hands it over, and
//! hyper flushes as soon as the body has nothing left. So a lone message is sent at once, and
//! messages that come faster than the socket takes them share a write. (etcd: streamWriter,
//! streamReader)

use std::{
    cell::RefCell,
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame as BodyFrame, Incoming};
use raft::eraftpb::Message;
use tokio::time::{Interval, interval_at, sleep, timeout};

use super::{
    channel::Channel,
    dial::{self, Failed, Target, Urls},
    drops,
    glass::{self, Frames, Outbound},
    identity,
    local::Local,
    message_codec, msgapp_codec,
    wire::{Broken, Frame},
};
use crate::{clock, trace};

/// Messages that may wait on a stream (etcd: streamBufSize).
const QUEUE_MAX: usize = 4096;
/// Messages that are encoded before they must go out (etcd: streamBufSize / 2).
const FLUSH_MESSAGES: usize = 2048;
/// Bytes that are encoded before they must be sent; a larger buffer would not fit the CPU's caches.
const FLUSH_BYTES: usize = 1 << 20;
/// A stream without a byte for this long is dead (etcd: ConnReadTimeout).
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two link heartbeats: a third of the read timeout.
const LINK_HEARTBEAT: Duration = Duration::from_nanos(READ_TIMEOUT.as_nanos() as u64 / 3);
/// The pause between two attempts to dial.
const REDIAL: Duration = Duration::from_millis(100);

/// The queue of messages to one peer on one stream, and the body that empties it.
pub(super) struct Outgoing {
    peer: u64,
    channel: Channel,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Outbound>,
    /// Counts the streams that the peer has opened; only the newest may take from the queue.
    newest: u64,
    is_attached: bool,
    /// The waker of the newest body, while it waits for messages.
    waker: Option<Waker>,
}

impl Outgoing {
    pub(super) fn new(peer: u64, channel: Channel) -> Rc<Outgoing> {
        Rc::new(Outgoing { peer, channel, state: RefCell::default() })
    }

    /// Whether the peer has opened the stream.
    pub(super) fn is_attached(&self) -> bool {
        self.state.borrow().is_attached
    }

    /// Queues a message and wakes the writer; returns it when the queue is full.
    #[must_use]
    pub(super) fn push(&self, outbound: Outbound) -> Option<Message> {
        let mut state = self.state.borrow_mut();
        if !state.is_attached || QUEUE_MAX <= state.queue.len() {
            return Some(outbound.message);
        }
        state.queue.push_back(outbound);
        // Taken, not cloned, so that only the first message of a batch wakes the body.
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        None
    }

    /// Ends the stream that is attached, if any.
    pub(super) fn close(&self) {
        let mut state = self.state.borrow_mut();
        let old = std::mem::take(&mut *state);
        old.queue.iter().for_each(|outbound| drops::unsent(&outbound.message));
        state.newest = old.newest + 1;
        if let Some(waker) = old.waker {
            waker.wake();
        }
    }

    /// Ends the stream that is attached, if any, and returns the number of the next.
    fn replace(&self) -> u64 {
        self.close();
        let mut state = self.state.borrow_mut();
        state.is_attached = true;
        state.newest
    }
}

/// The body of the answer to a peer's stream request: it ends when a newer one replaces it.
pub(super) struct StreamBody {
    local: Rc<Local>,
    outgoing: Rc<Outgoing>,
    number: u64,
    encoder: Encoder,
    frames: Frames,
    buffer: BytesMut,
    heartbeat: Interval,
}

/// The peer has opened a newer stream, or is no peer any more.
#[derive(Debug, thiserror::Error)]
#[error("the stream was replaced")]
pub(super) struct Replaced;

enum Encoder {
    MsgApp(msgapp_codec::Encoder),
    Message,
}

impl Encoder {
    fn encode(&mut self, message: &Message, out: &mut BytesMut) -> bool {
        match self {
            Encoder::MsgApp(encoder) => encoder.encode(message, out),
            Encoder::Message => message_codec::encode(message, out),
        }
    }

    fn encode_link_heartbeat(&self, out: &mut BytesMut) {
        match self {
            Encoder::MsgApp(_) => msgapp_codec::Encoder::encode_link_heartbeat(out),
            Encoder::Message => message_codec::encode_link_heartbeat(out),
        }
    }
}

impl StreamBody {
    /// Makes this body the one that empties the queue. Messages that waited there were meant for a
    /// connection that is gone, and are reported to raft as lost.
    pub(super) fn attach(
        local: &Rc<Local>,
        outgoing: &Rc<Outgoing>,
        glass_number: Option<u64>,
    ) -> StreamBody {
        let encoder = match outgoing.channel {
            Channel::MsgApp => Encoder::MsgApp(msgapp_codec::Encoder::default()),
            Channel::Message => Encoder::Message,
        };
        let (channel, peer) = (outgoing.channel.name(), outgoing.peer);
        tracing::debug!("peer {peer:x} has opened the {channel} stream");
        local.active.set_written(peer, outgoing.channel, true);
        StreamBody {
            local: local.clone(),
            outgoing: outgoing.clone(),
            number: outgoing.replace(),
            encoder,
            frames: Frames::new(glass_number),
            buffer: BytesMut::new(),
            heartbeat: interval_at((clock::now() + LINK_HEARTBEAT).into(), LINK_HEARTBEAT),
        }
    }

    /// Encodes waiting messages, up to the limits of one flush.
    fn encode(&mut self, state: &mut State) {
        for _ in 0..FLUSH_MESSAGES {
            if FLUSH_BYTES <= self.buffer.len() {
                return;
            }
            let Some(outbound) = state.queue.pop_front() else { return };
            let mut span = glass::encoding(&outbound);
            if self.encoder.encode(&outbound.message, &mut self.buffer) {
                span.link(self.frames.next());
                if self.outgoing.channel == Channel::MsgApp {
                    let waited = trace::waited_ns(outbound.since);
                    self.local.active.traffic.note_written(self.outgoing.peer, waited);
                }
            } else {
                span.discard();
                self.local.complain(
                    self.outgoing.peer,
                    "a message is too large to send",
                    "dropped",
                );
                self.local.lost(&[outbound.message]);
            }
        }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Replaced;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Replaced>>> {
        let this = self.get_mut();
        let outgoing = this.outgoing.clone();
        let mut state = outgoing.state.borrow_mut();
        if state.newest != this.number {
            return Poll::Ready(Some(Err(Replaced)));
        }
        this.encode(&mut state);
        if this.heartbeat.poll_tick(cx).is_ready() && !this.local.links.is_cut(this.outgoing.peer) {
            this.encoder.encode_link_heartbeat(&mut this.buffer);
        }
        if this.buffer.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes = this.buffer.len() as u64;
        this.local.count(this.outgoing.peer, |counts| counts.sent_bytes.add(bytes));
        Poll::Ready(Some(Ok(BodyFrame::data(this.buffer.split().freeze()))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        if self.outgoing.state.borrow().newest == self.number {
            self.outgoing.close();
            self.local.active.set_written(self.outgoing.peer, self.outgoing.channel, false);
        }
        // Frames may be lost in the socket's buffer, even if there is a newer stream.
        self.local.unreachable(self.outgoing.peer);
    }
}

/// Dials one stream of one peer, for ever, and reads it.
pub(super) struct Reader {
    local: Rc<Local>,
    peer: u64,
    channel: Channel,
    urls: Rc<Urls>,
}

/// Why a stream has ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("nothing came for {} s", READ_TIMEOUT.as_secs())]
    Silent,
    #[error("the peer closed it")]
    Closed,
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Broken(#[from] Broken),
}

enum Decoder {
    MsgApp(msgapp_codec::Decoder),
    Message,
}

impl Decoder {
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        match self {
            Decoder::MsgApp(decoder) => decoder.decode(input),
            Decoder::Message => message_codec::decode(input),
        }
    }
}

impl Reader {
    pub(super) fn new(local: Rc<Local>, peer: u64, channel: Channel, urls: Rc<Urls>) -> Reader {
        Reader { local, peer, channel, urls }
    }

    /// Runs until it is aborted, or the peer says that this member was removed.
    pub(super) async fn run(self) {
        loop {
            match self.dial().await {
                Ok((body, frames)) => self.follow(body, frames).await,
                Err(Failed::Removed) => return self.local.note_removed(self.peer),
                Err(failed) => {
                    let text = format!("its {} stream cannot be opened", self.channel.name());
                    self.local.complain(self.peer, &text, &failed.to_string());
                }
            }
            sleep(REDIAL).await;
        }
    }

    async fn follow(&self, body: Incoming, frames: Frames) {
        let (peer, channel) = (self.peer, self.channel.name());
        self.local.set_read(peer, self.channel, true);
        self.local.announce(peer, &format!("{channel} stream opened"));
        let Err(lost) = self.read(body, frames).await;
        self.local.set_read(peer, self.channel, false);
        self.local.complain(peer, &format!("{channel} stream lost"), &lost.to_string());
    }

    async fn dial(&self) -> Result<(Incoming, Frames), Failed> {
        let target = self.urls.pick()?;
        let healed = timeout(self.local.dial_timeout, self.local.links.healed(self.peer));
        healed.await.map_err(|_| Failed::Timeout)?;
        let asked = timeout(self.local.dial_timeout, self.ask(&target)).await;
        asked.unwrap_or(Err(Failed::Timeout)).inspect_err(|_| self.urls.failed(&target))
    }

    async fn ask(&self, target: &Target) -> Result<(Incoming, Frames), Failed> {
        let mut sender = dial::connect(target).await?;
        let number = glass::random_number();
        let answer = sender.send_request(self.request(target, number)).await?;
        if answer.status() != StatusCode::OK {
            return Err(dial::refused(answer, target, self.local.identity.cluster_id).await);
        }
        let echo = glass::stream_number(answer.headers()).filter(|echo| *echo == number);
        if echo.is_some() {
            // It speaks glass: its request ids carry the keep bit.
            trace::note_peer(self.peer);
        }
        Ok((answer.into_body(), Frames::new(echo)))
    }

    fn request(&self, target: &Target, number: u64) -> Request<Full<Bytes>> {
        let own = self.local.identity.member_id;
        let path = format!("/raft/stream/{}/{own:x}", self.channel.name());
        let value = |text: &str| HeaderValue::from_str(text).expect("hosts and ids are ASCII");
        let mut request = Request::new(Full::default());
        *request.uri_mut() = path.parse().expect("a name and hex digits are a path");
        let headers = request.headers_mut();
        self.local.identity.stamp_request(headers);
        headers.insert(HOST, value(&target.authority));
        headers.insert(identity::TO, value(&format!("{:x}", self.peer)));
        headers.insert(glass::STREAM_HEADER, glass::header(number));
        request
    }

    async fn read(&self, mut body: Incoming, mut frames: Frames) -> Result<Infallible, Lost> {
        let own = self.local.identity.member_id;
        let mut decoder = match self.channel {
            Channel::MsgApp => Decoder::MsgApp(msgapp_codec::Decoder::new(self.peer, own)),
            Channel::Message => Decoder::Message,
        };
        let mut input = BytesMut::new();
        loop {
            let piece = timeout(READ_TIMEOUT, body.frame()).await.map_err(|_| Lost::Silent)?;
            let Ok(data) = piece.ok_or(Lost::Closed)??.into_data() else { continue };
            self.local.count(self.peer, |counts| counts.received_bytes.add(data.len() as u64));
            input.extend_from_slice(&data);
            while let Some(frame) = decoder.decode(&mut input)? {
                match frame {
                    // A message for which raft has no room is dropped: it will be sent again.
                    Frame::Message(message) => {
                        let _ = self.local.receive(message, frames.next());
                    }
                    Frame::LinkHeartbeat => (),
                }
            }
        }
    }
}
