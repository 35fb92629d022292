//! Sends the database to a follower that has fallen behind the log. (etcd: snapshotSender)

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_TYPE, HOST},
};
use hyper::body::{Body, Frame, SizeHint};
use raft::eraftpb::{ConfState, Message, SnapshotMetadata};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    dial::{self, Failed, Urls},
    glass::{self, Outbound},
    local::Local,
    snapshots::{CHUNK_BYTES, CHUNKS_WAITING, Description},
    wire,
};
use crate::{
    clock,
    raft::bootstrap,
    set, stage,
    storage::{
        backend::{self, Backend, FileCopy},
        digest_hex, with_causes,
    },
    trace,
};

/// How long the answer may take, once the peer has the whole database, must sync it, and looks at
/// all of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a database for which the answer may take a second longer.
const BYTES_PER_SECOND: u64 = 32 << 20;
/// How long raft hears nothing of a failure. It would ask for the next snapshot at once, and each
/// costs a copy of the database.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Why a snapshot was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsent {
    /// This transport has no database.
    #[error("this member has no database to send")]
    NoDatabase,
    /// The peer is a member of etcd, or has not said what it is.
    #[error(
        "its database is bbolt's, and this member's is redb's: a member of etcd cannot take this \
         one's snapshot"
    )]
    OtherKind,
    /// Other snapshots are on their way.
    #[error("as many as may be sent at a time are on their way")]
    Busy,
    /// The link was cut.
    #[error("the link is cut")]
    Cut,
    /// The copy could not be made.
    #[error("the database could not be copied: {0}")]
    Copy(String),
    /// The peer could not be reached, or has refused.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// A copy of the database, and what is said about it.
pub(super) struct Prepared {
    pub(super) copy: Arc<FileCopy>,
    pub(super) conf_state: ConfState,
    pub(super) description: Description,
}

/// Sends the snapshot that raft asks for with this message, and reports to raft what has come of
/// it.
pub(super) async fn send(local: Rc<Local>, urls: Rc<Urls>, outbound: Outbound) {
    let peer = outbound.message.to;
    let mut span = stage!(SnapshotSend, 0, peer = peer);
    let began = clock::now();
    local.count(peer, |counts| counts.snapshots_sent.in_flight.add(1));
    let sent = try_send(&local, &urls, &outbound.message, &mut span).await;
    local.count(peer, |counts| counts.snapshots_sent.ended(sent.is_ok(), began.elapsed()));
    if sent.is_err() {
        span.flag(trace::FLAG_ERROR);
    }
    drop(span);
    match sent {
        Ok(()) => local.snapshot_sent(peer),
        Err(unsent) => {
            if matches!(unsent, Unsent::Failed(Failed::Removed)) {
                local.note_removed(peer);
            }
            local.complain(peer, "no snapshot was sent", &unsent.to_string());
            sleep(FAILURE_PAUSE).await;
            local.lost(&[outbound.message]);
        }
    }
}

async fn try_send(
    local: &Rc<Local>,
    urls: &Urls,
    asked: &Message,
    span: &mut trace::Span,
) -> Result<(), Unsent> {
    let Some(database) = &local.snapshots.database else { return Err(Unsent::NoDatabase) };
    if !local.active.speaks_glass(asked.to) {
        return Err(Unsent::OtherKind);
    }
    let Ok(_permit) = local.snapshots.sending.try_acquire() else { return Err(Unsent::Busy) };
    let Prepared { copy, conf_state, description } = prepared(&database.backend).await?;
    let backend::Committed { index, term, revision } = copy.committed;
    let bytes = copy.len();
    set!(span, SnapshotSend, index = index, term = term, bytes = bytes, revision = revision);
    let mut metadata = SnapshotMetadata { index, term, ..SnapshotMetadata::default() };
    metadata.set_conf_state(conf_state);
    let mut message = asked.clone();
    message.mut_snapshot().set_metadata(metadata);
    message.mut_snapshot().data = description.to_data().into();
    post(local, urls, &message, copy).await
}

/// Copies the database on a blocking thread, and hashes the copy.
pub(super) async fn prepared(backend: &Arc<Backend>) -> Result<Prepared, Unsent> {
    let backend = backend.clone();
    let prepared = spawn_blocking(move || prepare(&backend)).await;
    prepared.map_err(|error| Unsent::Copy(error.to_string()))?.map_err(Unsent::Copy)
}

fn prepare(backend: &Backend) -> Result<Prepared, String> {
    let copy = backend.copy().map_err(|error| with_causes(&error))?;
    let conf_state = copy.conf_state.as_ref().and_then(|it| bootstrap::parse_conf_state(it).ok());
    let conf_state = conf_state.ok_or("it has no configuration")?;
    let (mut hash, mut buffer, mut offset) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
    while offset < copy.len() {
        let count = copy.read_at(&mut buffer, offset).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the copy is shorter than it was".to_owned());
        }
        hash.update(&buffer[..count]);
        offset += count as u64;
    }
    let description = Description { bytes: copy.len(), sha256: digest_hex(&hash.finalize()) };
    Ok(Prepared { copy: Arc::new(copy), conf_state, description })
}

async fn post(
    local: &Rc<Local>,
    urls: &Urls,
    message: &Message,
    copy: Arc<FileCopy>,
) -> Result<(), Unsent> {
    let target = urls.pick()?;
    let connected = timeout(local.dial_timeout, dial::open(&target)).await;
    let connected = connected.unwrap_or(Err(Failed::Timeout));
    let (mut sender, connection) = connected.inspect_err(|_| urls.failed(&target))?;
    tokio::task::spawn_local(async move {
        // Who waits for the answer gets the error too.
        let _ = connection.await;
    });
    let mut head = BytesMut::new();
    if !wire::put_sized(message, &mut head) {
        return Err(Unsent::Copy("its message is too long".to_owned()));
    }
    let patience = ANSWER_TIMEOUT + Duration::from_secs(copy.len() / BYTES_PER_SECOND);
    let total = head.len() as u64 + copy.len();
    let body = DatabaseBody::new(head.freeze(), copy, (local.clone(), message.to));
    let ended = body.ended.clone();
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static("/raft/snapshot");
    let headers = request.headers_mut();
    local.identity.stamp_request(headers);
    headers.insert(HOST, HeaderValue::from_str(&target.authority).expect("it is ASCII"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(glass::LINK_HEADER, glass::header(glass::random_number()));
    sender.ready().await.map_err(Failed::from)?;
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer.map_err(Failed::from),
        () = async { ended.notified().await; sleep(patience).await } => Err(Failed::Timeout),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(_) if local.links.is_cut(message.to) => return Err(Unsent::Cut),
        Err(failed) => return Err(failed.into()),
    };
    match answer.status() {
        StatusCode::NO_CONTENT => {
            local.count(message.to, |counts| counts.sent_bytes.add(total));
            Ok(())
        }
        _ => Err(dial::refused(answer, &target, local.identity.cluster_id).await.into()),
    }
}

/// Reads the copy on a blocking thread, until it ends or nobody wants more.
fn read(copy: &FileCopy, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    let mut offset = 0;
    while offset < copy.len() {
        let mut buffer = vec![0; CHUNK_BYTES];
        let chunk = copy.read_at(&mut buffer, offset).map(|count| {
            buffer.truncate(count);
            Bytes::from(buffer)
        });
        let count = chunk.as_ref().map_or(0, Bytes::len);
        if chunks.blocking_send(chunk).is_err() || count == 0 {
            return;
        }
        offset += count as u64;
    }
}

/// A body with a message and then the database: of the request that carries a snapshot, or of the
/// answer to a member that has asked.
pub(super) struct DatabaseBody {
    head: Option<Bytes>,
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    /// The link on which it is sent, which may be cut meanwhile.
    link: (Rc<Local>, u64),
    /// Notified when the connection has taken the last byte.
    ended: Rc<Notify>,
    /// What is held for as long as an answer is read: the permit to send, and the step of the
    /// trace.
    held: Option<(OwnedSemaphorePermit, trace::Span)>,
}

impl DatabaseBody {
    pub(super) fn new(head: Bytes, copy: Arc<FileCopy>, link: (Rc<Local>, u64)) -> DatabaseBody {
        let left = head.len() as u64 + copy.len();
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
        spawn_blocking(move || read(&copy, &sender));
        let (head, ended) = (Some(head), Rc::new(Notify::new()));
        DatabaseBody { head, chunks, left, link, ended, held: None }
    }

    /// The same body, which holds a permit, and whose end is the step's.
    pub(super) fn held(mut self, permit: OwnedSemaphorePermit, span: trace::Span) -> DatabaseBody {
        self.held = Some((permit, span));
        self
    }
}

impl Drop for DatabaseBody {
    fn drop(&mut self) {
        if let Some((_, span)) = &mut self.held
            && self.left != 0
        {
            span.flag(trace::FLAG_ERROR);
        }
    }
}

impl Body for DatabaseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        if body.link.0.links.is_cut(body.link.1) {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        let chunk = match body.head.take() {
            Some(head) => Some(Ok(head)),
            None => ready!(body.chunks.poll_recv(cx)),
        };
        let Some(chunk) = chunk else { return Poll::Ready(None) };
        Poll::Ready(Some(chunk.map(|bytes| {
            body.left = body.left.saturating_sub(bytes.len() as u64);
            if body.left == 0 {
                body.ended.notify_one();
            }
            Frame::data(bytes)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
