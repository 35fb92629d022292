//! One client's stream of watchers (etcd: `serverWatchStream`).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use prost::Message as _;
use tokio::time::Interval;
use tonic::{Code, Status, Streaming};

use crate::{
    api::{
        flow::Flow,
        interceptor::{Call, Method},
        leader::{LeaderCheck, tick, ticks},
        limit::GRPC_OVERHEAD,
        origin::Origin,
        status::status,
    },
    mark,
    metrics::recorded,
    pb::etcdserverpb::{
        ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    server::{
        Error, Server,
        mvcc::{
            Store,
            read_txn::SHORT_ROWS_MAX,
            watch::{
                self, Events, Filters, NO_WATCH_ID, News, Notice, QUEUE_LEN, Refusal, WatchStream,
                queue::Notices, revision_of,
            },
        },
    },
    set, stage, trace,
};

/// Why a watcher ended: positions in [`trace::value::WATCH_ENDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Why {
    Client = 1,
    Compacted = 2,
    NoLeader = 3,
    StreamEnded = 4,
    StreamReset = 5,
    IdTaken = 6,
    EmptyRange = 7,
    NegativeStart = 8,
    MemberStops = 9,
}

impl Why {
    fn of_refusal(refusal: Refusal) -> Why {
        match refusal {
            Refusal::DuplicateId => Why::IdTaken,
            Refusal::EmptyRange => Why::EmptyRange,
            Refusal::NegativeStart => Why::NegativeStart,
        }
    }
}

/// One watcher: its rpc, which lasts as long as the watcher does, and its options.
struct Options {
    call: Call,
    /// The watcher's number on this member.
    watcher: u64,
    /// Bytes of the responses so far.
    bytes: usize,
    prev_kv: bool,
    fragment: bool,
    /// `None` if it wants no progress notifications; otherwise whether it has received nothing
    /// since the last check.
    progress: Option<bool>,
}

/// One stream; see the essay of `watch`.
pub(super) struct Session {
    server: Arc<Server>,
    /// `None` once the client has closed its side. It still receives events, as with etcd: clients
    /// that send one message and then only listen depend on it.
    requests: Option<Streaming<WatchRequest>>,
    stream: WatchStream,
    notices: Notices,
    options: HashMap<i64, Options>,
    /// Responses that are ready to be sent.
    outbox: VecDeque<WatchResponse>,
    /// The next events, by watcher and id: their previous values are not read yet.
    rest: Option<(u64, i64, Events)>,
    /// Ticks while there may be a watcher that wants progress notifications.
    progress: Option<Interval>,
    leader: LeaderCheck,
    origin: Origin,
    /// The story of the stream.
    flow: Flow,
    is_over: bool,
}

/// The event that woke the session.
enum Wake {
    Request(Result<Option<WatchRequest>, Status>),
    Notice(Option<Notice>),
    Progress,
    NoLeader,
    /// Something has come through that the stream's story does not have yet.
    Untold,
}

impl Session {
    /// A stream without watchers, from there.
    pub(super) fn new(
        server: Arc<Server>,
        requests: Streaming<WatchRequest>,
        leader: LeaderCheck,
        (flow, origin): (Flow, Origin),
    ) -> Session {
        let (stream, notices) = server.store.watch_stream(QUEUE_LEN);
        Session {
            server,
            requests: Some(requests),
            stream,
            notices,
            options: HashMap::new(),
            outbox: VecDeque::new(),
            rest: None,
            progress: None,
            leader,
            origin,
            flow,
            is_over: false,
        }
    }

    /// The stream's next message, and the session after it; `None` after its end.
    pub(super) async fn next(mut self) -> Option<(Result<WatchResponse, Status>, Session)> {
        loop {
            if let Some(response) = self.outbox.pop_front() {
                return Some((Ok(response), self));
            }
            if self.is_over {
                return None;
            }
            if let Some((watcher, watch_id, events)) = self.rest.take() {
                self.respond_events(watcher, watch_id, events).await;
                continue;
            }
            let (end, why, error) = match self.wake().await {
                Wake::Request(Ok(Some(request))) => {
                    self.answer(request);
                    continue;
                }
                Wake::Notice(Some(notice)) => {
                    self.respond(notice).await;
                    continue;
                }
                Wake::Progress => {
                    self.request_progress();
                    continue;
                }
                Wake::Untold => {
                    self.flow.tell_rest();
                    continue;
                }
                Wake::Request(Ok(None)) => {
                    self.requests = None;
                    continue;
                }
                Wake::Request(Err(end)) if end.code() == Code::Cancelled => {
                    (status(Error::WatchCanceled), Why::StreamReset, Error::WatchCanceled)
                }
                Wake::Request(Err(end)) => {
                    recorded::WATCH_RECEIVE_FAILURES.increment();
                    (end, Why::StreamEnded, Error::Canceled)
                }
                Wake::NoLeader => (status(Error::NoLeader), Why::NoLeader, Error::NoLeader),
                // The session itself holds a sender, so the channel cannot be closed.
                Wake::Notice(None) => (status(Error::Stopped), Why::MemberStops, Error::Stopped),
            };
            self.is_over = true;
            self.end_all(why, Some(error));
            let _ = self.flow.end(Err(error), self.stream.revision());
            return Some((Err(end), self));
        }
    }

    async fn wake(&mut self) -> Wake {
        tokio::select! {
            biased;
            () = self.leader.lost(&self.server) => Wake::NoLeader,
            request = message(&mut self.requests) => Wake::Request(request),
            notice = self.notices.recv() => Wake::Notice(notice),
            () = tick(&mut self.progress) => Wake::Progress,
            () = self.flow.due() => Wake::Untold,
        }
    }

    /// Handles a message of the client.
    fn answer(&mut self, request: WatchRequest) {
        let bytes = request.encoded_len();
        let Some(request) = request.request_union else { return };
        let key = match &request {
            RequestUnion::CreateRequest(create) => create.key.clone(),
            RequestUnion::CancelRequest(_) | RequestUnion::ProgressRequest(_) => Default::default(),
        };
        let call = Call::open(&self.server, Method::Watch, bytes, &key, self.origin);
        self.flow.received(call.id());
        if !key.is_empty() {
            trace::key(call.id(), &key);
        }
        let (response, call) = match request {
            RequestUnion::CreateRequest(request) => {
                trace::range_end(call.id(), &request.range_end);
                let (response, call) = self.create(call, &request);
                (Some(response), call)
            }
            RequestUnion::CancelRequest(request) => (self.cancel(request.watch_id), Some(call)),
            RequestUnion::ProgressRequest(_) => {
                self.stream.request_progress_all();
                (None, Some(call))
            }
        };
        let bytes = response.as_ref().map_or(0, WatchResponse::encoded_len);
        if let Some(call) = call {
            // A refused watcher is an answer; the stream continues.
            let _ = call.finish(Ok(()), bytes, self.stream.revision());
        }
        if response.is_some() {
            self.flow.sent(bytes);
        }
        self.outbox.extend(response);
    }

    /// Ends a watcher, and its rpc with it.
    fn end(&mut self, watch_id: i64, (why, error): (Why, Option<Error>), compacted: i64) {
        let Some(options) = self.options.remove(&watch_id) else { return };
        options.end(watch_id, (why, error), (compacted, self.stream.revision()));
    }

    /// Ends all watchers, because the stream does.
    fn end_all(&mut self, why: Why, error: Option<Error>) {
        let revision = self.stream.revision();
        for (watch_id, options) in self.options.drain() {
            options.end(watch_id, (why, error), (0, revision));
        }
    }

    /// Creates a watcher, which takes over the call; or refuses it, and returns the call.
    fn create(
        &mut self,
        call: Call,
        request: &WatchCreateRequest,
    ) -> (WatchResponse, Option<Call>) {
        let id = call.id();
        let wanted = watch::WatchRequest {
            id,
            watch_id: request.watch_id,
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            start_revision: request.start_revision,
            is_of_call: false,
            filters: Filters::new(&request.filters),
        };
        let (watch_id, revision) = match self.stream.create(&wanted) {
            Ok(created) => created,
            Err(refusal) => {
                let why = Why::of_refusal(refusal) as u8;
                mark!(WatchCancel, id, watch_id = request.watch_id.cast_unsigned(), why = why);
                return (self.refuse(refusal), Some(call));
            }
        };
        let progress = request.progress_notify.then_some(true);
        if progress.is_some() && self.progress.is_none() {
            self.progress = Some(ticks(with_jitter(self.server.settings.progress_interval, id)));
        }
        let response = WatchResponse { created: true, ..self.response(watch_id, revision) };
        let options = Options {
            call,
            watcher: self.stream.number(watch_id),
            bytes: response.encoded_len(),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress,
        };
        self.options.insert(watch_id, options);
        (response, None)
    }

    fn refuse(&self, refusal: Refusal) -> WatchResponse {
        WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: refusal.to_string(),
            ..self.response(NO_WATCH_ID, self.stream.revision())
        }
    }

    /// An unknown id gets no answer.
    fn cancel(&mut self, watch_id: i64) -> Option<WatchResponse> {
        if !self.stream.cancel(watch_id) {
            return None;
        }
        self.end(watch_id, (Why::Client, None), 0);
        let revision = self.stream.revision();
        Some(WatchResponse { canceled: true, ..self.response(watch_id, revision) })
    }

    /// Turns a notice into responses. Events queued for a watcher that is gone are dropped.
    async fn respond(&mut self, notice: Notice) {
        if !self.stream.is_wanted(&notice) {
            return;
        }
        let (watcher, watch_id) = (notice.watcher, notice.watch_id);
        match notice.news {
            News::Events(events) => self.respond_events(watcher, watch_id, events).await,
            News::Compacted(compact_revision) => {
                self.end(watch_id, (Why::Compacted, None), compact_revision);
                let response = self.response(watch_id, 0);
                self.send(WatchResponse { canceled: true, compact_revision, ..response });
            }
            News::Progress(revision) => {
                self.note_progress(Some(watch_id), revision);
                self.send(self.response(watch_id, revision));
            }
            News::StreamProgress(revision) => {
                self.note_progress(None, revision);
                self.send(self.response(watch_id, revision));
            }
        }
    }

    /// Sends a message without events.
    fn send(&mut self, response: WatchResponse) {
        self.flow.sent(response.encoded_len());
        self.outbox.push_back(response);
    }

    /// Records the news that this watcher, or all of them, have everything up to a revision.
    fn note_progress(&self, of: Option<i64>, revision: i64) {
        let meant =
            self.options.iter().filter(|(watch_id, _)| of.is_none_or(|of| of == **watch_id));
        for (watch_id, options) in meant {
            let whole_stream = of.is_none();
            let id = options.call.id();
            // A stream may have thousands of watchers.
            if trace::kept(id) {
                let watch_id = watch_id.cast_unsigned();
                mark!(
                    WatchProgress,
                    id,
                    watch_id = watch_id,
                    revision = revision,
                    whole_stream = whole_stream
                );
            }
        }
    }

    async fn respond_events(&mut self, watcher: u64, watch_id: i64, news: Events) {
        let Some(options) = self.options.get_mut(&watch_id) else { return };
        let Events { id, revision, mut events, path } = news;
        let mut span = stage!(WatchSend, id, watcher = watcher, watch_id = watch_id);
        if let Some(is_quiet) = &mut options.progress {
            *is_quiet = false;
        }
        let (prev_kv, fragment) = (options.prev_kv, options.fragment);
        let mut rest = Vec::new();
        if prev_kv && events.len() > SHORT_ROWS_MAX {
            let read = move |store: &Store| store.with_previous(events);
            (events, rest) = match self.server.long_reads.read_for_stream(id, read).await {
                Ok(parts) => parts,
                Err(_) => {
                    // This happens only while the member stops.
                    self.is_over = true;
                    return;
                }
            };
        } else if prev_kv {
            (events, rest) = self.server.store.with_previous(events);
        }
        let (first, last) =
            (events.first().map_or(0, revision_of), events.last().map_or(0, revision_of));
        set!(span, WatchSend, first = first, last = last, events = events.len(), path = path as u8);
        if !rest.is_empty() {
            self.rest = Some((watcher, watch_id, Events { id, revision, events: rest, path }));
        }
        let response = WatchResponse { events, ..self.response(watch_id, revision) };
        let (len, count) = (response.encoded_len(), response.events.len());
        if let Some(options) = self.options.get_mut(&watch_id) {
            options.bytes += len;
        }
        let max = self.server.settings.max_request_bytes + GRPC_OVERHEAD;
        let pieces = if fragment { fragments(response, max) } else { vec![response] };
        let own_len = |place| if place == 0 { len } else { 0 };
        (0..pieces.len()).for_each(|place| self.flow.sent(own_len(place)));
        self.flow.delivers(id, count);
        self.outbox.extend(pieces);
    }

    /// Requests progress notifications for the watchers that want them and have received nothing
    /// since the last time.
    fn request_progress(&mut self) {
        for (watch_id, options) in &mut self.options {
            let Some(is_quiet) = &mut options.progress else { continue };
            if std::mem::replace(is_quiet, true) {
                self.stream.request_progress(*watch_id);
            }
        }
    }

    fn response(&self, watch_id: i64, revision: i64) -> WatchResponse {
        let header = ResponseHeader {
            cluster_id: self.server.members.cluster_id(),
            member_id: self.server.member_id,
            revision,
            raft_term: self.server.status.term(),
        };
        WatchResponse { header: Some(header), watch_id, ..WatchResponse::default() }
    }
}

impl Options {
    /// Records the end of the watcher, and ends its rpc.
    fn end(
        self,
        watch_id: i64,
        (why, error): (Why, Option<Error>),
        (compacted, revision): (i64, i64),
    ) {
        let Options { call, watcher, bytes, .. } = self;
        mark!(
            WatchCancel,
            call.id(),
            watcher = watcher,
            watch_id = watch_id.cast_unsigned(),
            why = why as u8,
            compacted = compacted
        );
        let end = error.map_or(Ok(()), Err);
        let _ = call.finish(end, bytes, revision);
    }
}

/// The client has gone, or the member ends the stream.
impl Drop for Session {
    fn drop(&mut self) {
        for (watch_id, Options { call, watcher, .. }) in self.options.drain() {
            mark!(
                WatchCancel,
                call.id(),
                watcher = watcher,
                watch_id = watch_id.cast_unsigned(),
                why = Why::StreamEnded as u8
            );
        }
    }
}

/// Splits a response that is too large into several, with at least one event in each (etcd:
/// sendFragments).
fn fragments(response: WatchResponse, max: usize) -> Vec<WatchResponse> {
    if response.encoded_len() < max || response.events.len() < 2 {
        return vec![response];
    }
    let empty = WatchResponse { events: Vec::new(), fragment: true, ..response.clone() };
    let mut pieces: Vec<WatchResponse> = Vec::new();
    let mut size = 0;
    for event in response.events {
        // The tag, and the length before the event.
        let len = event.encoded_len();
        let len = 1 + prost::length_delimiter_len(len) + len;
        match pieces.last_mut() {
            Some(piece) if size + len < max => {
                piece.events.push(event);
                size += len;
            }
            _ => {
                size = empty.encoded_len() + len;
                pieces.push(WatchResponse { events: vec![event], ..empty.clone() });
            }
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.fragment = false;
    }
    pieces
}

/// Adds up to a tenth, so that streams that were opened together do not tick together.
fn with_jitter(period: Duration, seed: u64) -> Duration {
    let thousandth = u32::try_from(trace::id::hash(seed) % 100).unwrap_or(0);
    period + period / 1000 * thousandth
}

async fn message(
    requests: &mut Option<Streaming<WatchRequest>>,
) -> Result<Option<WatchRequest>, Status> {
    match requests {
        Some(requests) => requests.message().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::pb::mvccpb::{Event, KeyValue};
    fn event(len: usize) -> Event {
        let kv = KeyValue { value: Bytes::from(vec![0; len]), ..KeyValue::default() };
        Event { kv: Some(kv), ..Event::default() }
    }

    #[test]
    fn a_large_response_is_cut_before_it_is_too_large_and_nothing_is_lost() {
        for sizes in [vec![10; 50], vec![500, 1, 1, 99, 500], vec![1, 300], vec![70, 2, 2]] {
            let events: Vec<Event> = sizes.iter().map(|len| event(*len)).collect();
            let whole = WatchResponse { watch_id: 5, events, ..WatchResponse::default() };
            let pieces = fragments(whole.clone(), 100);
            let flags: Vec<bool> = pieces.iter().map(|piece| piece.fragment).collect();
            let (last, others) = flags.split_last().unwrap();
            assert!(!last && others.iter().all(|flag| *flag), "{flags:?}");
            for piece in &pieces {
                assert!(piece.encoded_len() < 100 || piece.events.len() == 1);
                assert_eq!(piece.watch_id, 5);
            }
            let all: Vec<Event> = pieces.into_iter().flat_map(|piece| piece.events).collect();
            assert_eq!(all, whole.events);
        }
    }

    #[test]
    fn a_small_response_and_a_single_event_are_left_whole() {
        for events in [vec![event(10), event(10)], vec![event(1000)]] {
            let whole = WatchResponse { events, ..WatchResponse::default() };
            assert_eq!(fragments(whole.clone(), 100), vec![whole]);
        }
    }

    #[test]
    fn the_jitter_is_at_most_a_tenth() {
        for seed in 0..1000 {
            let period = with_jitter(Duration::from_secs(600), seed);
            assert!((600.0..=660.0).contains(&period.as_secs_f64()), "{period:?}, seed {seed}");
        }
    }
}
