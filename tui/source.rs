//! Where events come from: live members, or a recording.
//!
//! ```text
//!   endpoint ──observe──▶ task ─┐
//!   endpoint ──observe──▶ task ─┼─▶ Listener ── Message ──▶ Memory: one recording of all
//!   endpoint ──observe──▶ task ─┘
//! ```
//!
//! One task per endpoint subscribes, and subscribes again when the connection breaks: a member that
//! was killed and restarted continues under its next boot. All tasks end when the [`Listener`] is
//! dropped. They forward records as they came from the network; only [`Memory`] decodes them.
//! [`Live`] joins the two for commands that only follow. The player reads messages between two
//! keys, and keeps its memory in its state.

pub(crate) mod log_files;
pub(crate) mod memory;

use std::{fs::File, io::BufReader, path::Path, time::Duration};

use glass_etcd::{
    pb::glasspb::{
        self, Batch, ObserveRequest, observe_client::ObserveClient,
        observe_response::Message as Response,
    },
    story::{
        Recording,
        order::{Order, SILENT_NS},
        recording::{self, Read, ReadError},
    },
    trace::{Hello, raw_clock},
};
use memory::{Change, Memory, Seen};
use tokio::{sync::mpsc, task::JoinSet};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

/// Pause between two attempts to reach a member.
const RETRY: Duration = Duration::from_millis(500);
/// Time limit of one attempt.
const CONNECT: Duration = Duration::from_secs(2);
/// Messages queued for a command that follows; beyond that, the members' streams are held back.
const WAITING_MAX: usize = 256;

/// The client ports of the `Procfile`'s members.
pub(crate) const ENDPOINTS: &str = "127.0.0.1:2379,127.0.0.1:2479,127.0.0.1:2579";

/// Reads a recording from a file.
pub(crate) fn open(path: &Path) -> Result<Read, ReadError> {
    recording::read(BufReader::new(File::open(path)?))
}

/// A message from one endpoint.
#[derive(Debug)]
pub(crate) struct Message {
    /// Position among the endpoints given.
    pub(crate) endpoint: usize,
    pub(crate) said: Said,
}

/// Content of a message.
#[derive(Debug)]
pub(crate) enum Said {
    /// The member at the endpoint introduces itself, for the first time or after a restart.
    Hello(Box<Hello>),
    /// Records of the member, still encoded. An empty batch is a sign of life.
    Batch(Batch),
    /// The endpoint is unreachable, or the stream broke, for this reason.
    Down(String),
}

/// The tasks that listen to the members.
#[derive(Debug)]
pub(crate) struct Listener {
    said: mpsc::Receiver<Message>,
    _tasks: JoinSet<()>,
}

impl Listener {
    /// Starts listening. At most `waiting` messages are queued; beyond that, the members' streams
    /// are held back. Must be called inside a runtime.
    pub(crate) fn connect(
        endpoints: &[String],
        request: &ObserveRequest,
        waiting: usize,
    ) -> Listener {
        let (sender, said) = mpsc::channel(waiting);
        let mut tasks = JoinSet::new();
        for (at, endpoint) in endpoints.iter().enumerate() {
            tasks.spawn(listen(at, endpoint.clone(), request.clone(), sender.clone()));
        }
        Listener { said, _tasks: tasks }
    }

    /// The next message. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.said.recv().await
    }

    /// A message that is ready now.
    pub(crate) fn ready(&mut self) -> Option<Message> {
        self.said.try_recv().ok()
    }
}

/// A listener, and the recording of everything it has received.
pub(crate) struct Live {
    listener: Listener,
    memory: Memory,
}

impl Live {
    /// Starts listening. Must be called inside a runtime.
    pub(crate) fn connect(endpoints: &[String], request: &ObserveRequest) -> Live {
        let listener = Listener::connect(endpoints, request, WAITING_MAX);
        Live { listener, memory: Memory::of_endpoints(endpoints) }
    }

    /// The next change. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        let message = self.listener.next().await?;
        Some(self.memory.take(message))
    }

    /// The endpoints that have been dialled, with the last sign of each.
    pub(crate) fn seen(&self) -> &[Seen] {
        self.memory.seen()
    }

    /// Whether every endpoint has sent its history, or cannot be reached.
    pub(crate) fn is_settled(&self) -> bool {
        self.seen().iter().all(|seen| seen.has_spoken || seen.down.is_some())
    }

    /// Which members, by position, do not hold up the others.
    pub(crate) fn silent(&self) -> Vec<bool> {
        let now = raw_clock::now();
        let members = 0..self.recording().members.len();
        let is_heard = |place: usize, seen: &Seen| {
            let age_ns = raw_clock::to_ns(now.saturating_sub(seen.heard));
            seen.member.map(usize::from) == Some(place) && seen.down.is_none() && age_ns < SILENT_NS
        };
        members.map(|place| !self.seen().iter().any(|seen| is_heard(place, seen))).collect()
    }

    /// The playback order of what can be ordered already.
    pub(crate) fn order(&self) -> Order {
        Order::live(self.recording(), &self.silent())
    }

    /// The recording so far.
    pub(crate) fn recording(&self) -> &Recording {
        self.memory.recording()
    }

    /// The recording, once nothing more is expected.
    pub(crate) fn into_recording(self) -> Recording {
        self.memory.into_recording()
    }

    /// Drops the oldest events, so that at most `keep` remain. Returns how many were dropped.
    pub(crate) fn trim(&mut self, keep: usize) -> usize {
        self.memory.trim(keep)
    }
}

async fn listen(
    at: usize,
    endpoint: String,
    request: ObserveRequest,
    sender: mpsc::Sender<Message>,
) {
    loop {
        let reason = match subscribe(at, &endpoint, &request, &sender).await {
            Ok(()) => "the member has ended the stream".to_owned(),
            Err(reason) => reason,
        };
        if sender.send(Message { endpoint: at, said: Said::Down(reason) }).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn subscribe(
    at: usize,
    endpoint: &str,
    request: &ObserveRequest,
    sender: &mpsc::Sender<Message>,
) -> Result<(), String> {
    let mut client = ObserveClient::new(channel(endpoint).await?);
    let said = |status: tonic::Status| match status.code() {
        Code::Unimplemented => {
            "it offers no traces: --trace-observe is off, or it is not a Glass etcd".to_owned()
        }
        code => format!("{code:?}: {}", status.message()),
    };
    let mut stream = client.observe(request.clone()).await.map_err(said)?.into_inner();
    while let Some(response) = stream.message().await.map_err(said)? {
        let said = match response.message {
            Some(Response::Hello(hello)) => Said::Hello(Box::new(hello_of(hello))),
            Some(Response::Batch(batch)) => Said::Batch(batch),
            // A message kind of a later version.
            None => continue,
        };
        if sender.send(Message { endpoint: at, said }).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn hello_of(hello: glasspb::Hello) -> Hello {
    Hello {
        member_id: hello.member_id,
        cluster_id: hello.cluster_id,
        name: hello.name,
        version: hello.version,
        boot: u16::try_from(hello.boot & 0xffff).unwrap_or(0),
        wall_ns: hello.wall_ns,
        tick_base: hello.tick_base,
        members: hello.members.into_iter().map(|named| (named.member_id, named.name)).collect(),
    }
}

async fn channel(endpoint: &str) -> Result<Channel, String> {
    self::endpoint(endpoint)?.connect().await.map_err(|error| cause(&error))
}

/// How to reach a member at this endpoint.
pub(crate) fn endpoint(endpoint: &str) -> Result<Endpoint, String> {
    if endpoint.starts_with("https://") {
        return Err("TLS is not supported yet".to_owned());
    }
    let uri =
        if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|error| error.to_string())?;
    Ok(endpoint.connect_timeout(CONNECT))
}

/// The innermost cause of an error: "Connection refused" is more useful than "transport error".
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests;
