//! Where events come from: live members, or a recording.
//!
//! ```text
//!   endpoint ──observe──▶ task ─┐
//!   endpoint ──observe──▶ task ─┼─▶ Live: intake (one recording of all) ─▶ order
//!   endpoint ──observe──▶ task ─┘
//! ```
//!
//! A task per endpoint subscribes, and subscribes again when the connection breaks: a member that
//! is killed and comes back is heard again, under its next boot. All of them end when the [`Live`]
//! goes. The recording has whatever was heard, once.

use std::{fs::File, io::BufReader, path::Path, time::Duration};

use glass_etcd::{
    pb::glasspb::{
        Batch, ObserveRequest, observe_client::ObserveClient, observe_response::Message,
    },
    trace::{
        Hello, Recording,
        intake::Intake,
        order::{Order, SILENT_NS},
        recording::{self, Read, ReadError},
        tick,
    },
};
use tokio::{sync::mpsc, task::JoinSet};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

/// What is waited between two attempts to reach a member.
const RETRY: Duration = Duration::from_millis(500);
/// How long an attempt may take.
const CONNECT: Duration = Duration::from_secs(2);
/// What members have said and nobody has taken in yet; then they wait.
const HEARD_MAX: usize = 256;

/// The client ports of the `Procfile`'s members.
pub(crate) const ENDPOINTS: &str = "127.0.0.1:2379,127.0.0.1:2479,127.0.0.1:2579";

/// Reads a recording from a file.
pub(crate) fn open(path: &Path) -> Result<Read, ReadError> {
    recording::read(BufReader::new(File::open(path)?))
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A member is heard, for the first time or again: its place in the recording.
    Hello(u8),
    /// So many events more are in the recording, at its end.
    Events(usize),
    /// An endpoint cannot be reached, or broke off; it is tried again.
    Down {
        /// Its place among the endpoints.
        endpoint: usize,
        /// Why.
        reason: String,
    },
}

/// One of the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// As it was given.
    pub(crate) endpoint: String,
    /// The member that answers there, by place, once it was heard.
    pub(crate) member: Option<u8>,
    /// Whether something came since the connection was made: what is held of the past comes first.
    pub(crate) has_spoken: bool,
    /// Why it is not heard now.
    pub(crate) down: Option<String>,
    /// Requests finished there since the hello, and how many of them were let through.
    pub(crate) seen: (u64, u64),
    /// When it was heard last, in raw ticks.
    heard: u64,
}

enum Heard {
    Hello(Box<Hello>),
    Batch(Batch),
    Down(String),
}

/// Members that are being listened to.
pub(crate) struct Live {
    /// What was heard.
    pub(crate) intake: Intake,
    /// The endpoints.
    pub(crate) seen: Vec<Seen>,
    heard: mpsc::Receiver<(usize, Heard)>,
    _tasks: JoinSet<()>,
}

impl Live {
    /// Begins to listen. Must be called inside a runtime.
    pub(crate) fn connect(endpoints: &[String], request: &ObserveRequest) -> Live {
        let (sender, heard) = mpsc::channel(HEARD_MAX);
        let mut tasks = JoinSet::new();
        for (at, endpoint) in endpoints.iter().enumerate() {
            tasks.spawn(listen(at, endpoint.clone(), request.clone(), sender.clone()));
        }
        let seen = endpoints.iter().map(|endpoint| Seen {
            endpoint: endpoint.clone(),
            member: None,
            has_spoken: false,
            down: None,
            seen: (0, 0),
            heard: tick::now(),
        });
        Live { intake: Intake::default(), seen: seen.collect(), heard, _tasks: tasks }
    }

    /// The next change. Safe to give up while waiting.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        let (at, heard) = self.heard.recv().await?;
        let seen = &mut self.seen[at];
        seen.heard = tick::now();
        let result = match heard {
            Heard::Down(reason) => Err(reason),
            Heard::Hello(hello) => match self.intake.hello(&hello) {
                Ok(place) => {
                    (seen.member, seen.has_spoken, seen.down) = (Some(place), false, None);
                    Ok(Change::Hello(place))
                }
                Err(error) => Err(error.to_string()),
            },
            Heard::Batch(batch) => {
                seen.has_spoken = true;
                seen.seen = (batch.seen, batch.let_through);
                // A hello that was refused has no place, and its batches say so.
                let place = seen.member.unwrap_or(u8::MAX);
                let taken = self.intake.batch(place, &batch.records, batch.dropped);
                taken.map(Change::Events).map_err(|error| error.to_string())
            }
        };
        Some(result.unwrap_or_else(|reason| {
            seen.down = Some(reason.clone());
            Change::Down { endpoint: at, reason }
        }))
    }

    /// Whether every endpoint has said what it holds of the past, or cannot be reached.
    pub(crate) fn is_settled(&self) -> bool {
        self.seen.iter().all(|seen| seen.has_spoken || seen.down.is_some())
    }

    /// Which members, by place, do not hold up the others.
    pub(crate) fn silent(&self) -> Vec<bool> {
        let now = tick::now();
        let members = 0..self.intake.recording.members.len();
        let is_heard = |place: usize, seen: &Seen| {
            let age_ns = tick::to_ns(now.saturating_sub(seen.heard));
            seen.member.map(usize::from) == Some(place) && seen.down.is_none() && age_ns < SILENT_NS
        };
        members.map(|place| !self.seen.iter().any(|seen| is_heard(place, seen))).collect()
    }

    /// The order of what can be told already.
    pub(crate) fn order(&self) -> Order {
        Order::live(&self.intake.recording, &self.silent())
    }

    /// What was heard.
    pub(crate) fn recording(&self) -> &Recording {
        &self.intake.recording
    }
}

async fn listen(
    at: usize,
    endpoint: String,
    request: ObserveRequest,
    sender: mpsc::Sender<(usize, Heard)>,
) {
    loop {
        let reason = match subscribe(at, &endpoint, &request, &sender).await {
            Ok(()) => "the member has ended the stream".to_owned(),
            Err(reason) => reason,
        };
        if sender.send((at, Heard::Down(reason))).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn subscribe(
    at: usize,
    endpoint: &str,
    request: &ObserveRequest,
    sender: &mpsc::Sender<(usize, Heard)>,
) -> Result<(), String> {
    let mut client = ObserveClient::new(channel(endpoint).await?);
    let said = |status: tonic::Status| match status.code() {
        Code::Unimplemented => {
            "it tells nothing: its --trace-observe is off, or it is no Glass etcd".to_owned()
        }
        code => format!("{code:?}: {}", status.message()),
    };
    let mut stream = client.observe(request.clone()).await.map_err(said)?.into_inner();
    while let Some(response) = stream.message().await.map_err(said)? {
        let heard = match response.message {
            Some(Message::Hello(hello)) => Heard::Hello(Box::new(Hello {
                member_id: hello.member_id,
                cluster_id: hello.cluster_id,
                name: hello.name,
                version: hello.version,
                boot: u16::try_from(hello.boot & 0xffff).unwrap_or(0),
                wall_ns: hello.wall_ns,
                tick_base: hello.tick_base,
            })),
            Some(Message::Batch(batch)) => Heard::Batch(batch),
            // A message of a later version.
            None => continue,
        };
        if sender.send((at, heard)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn channel(endpoint: &str) -> Result<Channel, String> {
    if endpoint.starts_with("https://") {
        return Err("TLS is not supported yet".to_owned());
    }
    let uri =
        if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|error| error.to_string())?;
    endpoint.connect_timeout(CONNECT).connect().await.map_err(|error| cause(&error))
}

/// The last cause of an error: "Connection refused" says more than "transport error".
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests;
