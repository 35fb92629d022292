//! Sends portions to the collector: one request at a time, repeated where that may help.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::{net::TcpStream, sync::mpsc::Receiver};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use super::{Complaint, Portion};
use crate::{
    clock,
    metrics::recorded,
    pb::otlp::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_client::TraceServiceClient,
    },
    trace::{id, raw_clock},
};

/// How long a collector has to answer (OTLP's default).
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the first connection may take.
const FIRST_PATIENCE: Duration = Duration::from_millis(1500);
/// The pause after the first failure; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A portion that was not accepted for this long is dropped.
const GIVE_UP: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const ANSWER_MAX: usize = 64 << 10;
/// The path of traces in OTLP over HTTP.
const PATH: &str = "/v1/traces";
/// OTLP's ports over HTTP and gRPC.
const PORTS: (u16, u16) = (4318, 4317);

/// Why a URL names no collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The URL needs TLS, which is not supported.
    #[error("https is not supported: name a collector on this machine, it can forward over TLS")]
    Tls,
    /// Not the URL of a host.
    #[error("not the URL of a collector: http://HOST:PORT, or http://HOST:PORT/PATH")]
    Form,
}

/// The collector to export to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    authority: String,
    /// `None` for gRPC; otherwise the path of the URL.
    path: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (authority, path) = (&self.authority, self.path.as_deref());
        write!(f, "http://{authority}{}", path.unwrap_or(" (gRPC)"))
    }
}

impl Target {
    /// Parses a URL. The default port is 4318. Port 4317 without a path means gRPC, anything else
    /// HTTP.
    pub fn parse(url: &str) -> Result<Target, TargetError> {
        let url: http::Uri = url.parse().map_err(|_| TargetError::Form)?;
        match url.scheme_str() {
            Some("http") => (),
            Some("https") => return Err(TargetError::Tls),
            _ => return Err(TargetError::Form),
        }
        let authority = url.authority().ok_or(TargetError::Form)?;
        // A URL with a password before an @ is refused, because it would appear in the log.
        let is_plain = !authority.as_str().contains('@') && !authority.host().is_empty();
        if !is_plain || url.query().is_some() {
            return Err(TargetError::Form);
        }
        let port = authority.port_u16().unwrap_or(PORTS.0);
        let path = url.path().trim_end_matches('/');
        let path = match (port == PORTS.1, path) {
            (true, "") => None,
            (_, path) if path.ends_with(PATH) => Some(path.to_owned()),
            (_, path) => Some(format!("{path}{PATH}")),
        };
        Ok(Target { authority: format!("{}:{port}", authority.host()), path })
    }
}

/// How an attempt has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Accepted, except for this many spans; and the collector's reason.
    Taken(u64, String),
    /// Failed, but may succeed later: after this pause, if the collector has named one.
    Again(String, Option<Duration>),
    /// The collector will never accept it, with its reason: not retried.
    Refused(String),
}

/// Sends the portions of the queue, until it is closed. Connects once before the first one, so that
/// a wrong URL is in the log at once, and not only when there are spans.
pub(super) async fn run(target: Target, mut portions: Receiver<Portion>) {
    let mut way = Way::new(target);
    way.try_to_connect().await;
    let mut complaint = Complaint::default();
    while let Some(portion) = portions.recv().await {
        let (dropped, why) = lost(way.send(&portion).await, portion.spans);
        recorded::SPANS_DROPPED.add(dropped);
        complaint.add(dropped, &why);
    }
}

/// How many of a portion's spans are lost, and why.
fn lost(sent: Result<u64, String>, spans: u64) -> (u64, String) {
    match sent {
        Ok(rejected) => (rejected, "the collector has rejected them".to_owned()),
        Err(why) => (spans, format!("the collector has not taken them: {why}")),
    }
}

/// Connects to the collector once, for at most two seconds, and fails with the reason why that is
/// not possible.
pub async fn reach(target: &Target) -> Result<(), String> {
    let connecting = TcpStream::connect(&target.authority);
    match tokio::time::timeout(FIRST_PATIENCE, connecting).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {FIRST_PATIENCE:?}")),
    }
}

/// Sends portions, one after the other, for a command that waits for it. A portion that is not
/// taken at once is sent again for a minute. Returns how many spans were taken, or why a portion
/// was not.
pub async fn deliver(target: &Target, portions: Vec<Portion>) -> Result<u64, String> {
    let mut way = Way::new(target.clone());
    let mut taken = 0;
    for portion in portions {
        taken += portion.spans - way.send(&portion).await?.min(portion.spans);
    }
    Ok(taken)
}

/// The collector, and its recent failures.
struct Way {
    target: Target,
    client: Option<TraceServiceClient<Channel>>,
    pause: Duration,
    is_failing: bool,
    /// Whether a partial success was logged.
    has_complained: bool,
}

impl Way {
    fn new(target: Target) -> Way {
        Way { target, client: None, pause: PAUSE, is_failing: false, has_complained: false }
    }

    /// Logs that nobody listens at the target, if that is so.
    async fn try_to_connect(&mut self) {
        if let Err(why) = reach(&self.target).await {
            self.went_wrong(&why, None);
        }
        self.pause = PAUSE;
    }

    /// Sends a portion, if need be several times. Returns how many of its spans were refused, or
    /// why all of them are given up.
    async fn send(&mut self, portion: &Portion) -> Result<u64, String> {
        let end = clock::now() + GIVE_UP;
        loop {
            let (why, pause) = match self.attempt(portion).await {
                Outcome::Taken(rejected, why) => {
                    self.went_well(portion.spans.saturating_sub(rejected));
                    let is_partial = 0 < rejected || !why.is_empty();
                    if is_partial && !std::mem::replace(&mut self.has_complained, true) {
                        tracing::warn!(target = %self.target, rejected, why, "the collector has rejected spans, or warns of them");
                    }
                    return Ok(rejected);
                }
                Outcome::Refused(why) => {
                    self.went_wrong(&why, None);
                    return Err(why);
                }
                Outcome::Again(why, pause) => (why, pause),
            };
            let pause = self.went_wrong(&why, pause);
            if end <= clock::now() + pause {
                return Err(why);
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn went_well(&mut self, taken: u64) {
        recorded::SPANS_EXPORTED.add(taken);
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(target = %self.target, "the collector accepts spans again");
        }
        self.pause = PAUSE;
    }

    /// Logs the first of a series of failures. Returns how long to wait.
    fn went_wrong(&mut self, why: &str, asked: Option<Duration>) -> Duration {
        recorded::SPAN_EXPORTS_FAILED.add(1);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(target = %self.target, %why, "the collector cannot be reached, or refuses spans");
        }
        let own = jitter(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        asked.unwrap_or(own)
    }

    async fn attempt(&mut self, portion: &Portion) -> Outcome {
        let attempt = async {
            match self.target.path.clone() {
                Some(path) => post(&self.target.authority, &path, portion.bytes.clone())
                    .await
                    .unwrap_or_else(|error| Outcome::Again(error.to_string(), None)),
                None => self.call(portion).await,
            }
        };
        let silence = || Outcome::Again(format!("no answer within {PATIENCE:?}"), None);
        tokio::time::timeout(PATIENCE, attempt).await.unwrap_or_else(|_| silence())
    }

    /// Sends a portion by gRPC.
    async fn call(&mut self, portion: &Portion) -> Outcome {
        if self.client.is_none() {
            let url = format!("http://{}", self.target.authority);
            match Endpoint::from_shared(url) {
                Ok(endpoint) => {
                    self.client = Some(TraceServiceClient::new(endpoint.connect_lazy()));
                }
                Err(error) => return Outcome::Refused(error.to_string()),
            }
        }
        let client = self.client.as_mut().expect("made above");
        let request = ExportTraceServiceRequest::decode(portion.bytes.clone());
        match client.export(request.expect("encoded by us")).await {
            Ok(answer) => taken(answer.get_ref()),
            Err(status) => {
                let why = format!("{:?}: {}", status.code(), status.message());
                match status.code() {
                    Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss => Outcome::Again(why, None),
                    _ => Outcome::Refused(why),
                }
            }
        }
    }
}

/// A random time between three and five quarters of the pause, so that members that fail together
/// do not retry together.
fn jitter(pause: Duration) -> Duration {
    let chance = u32::try_from(id::hash(raw_clock::now()) % 512).unwrap_or(0);
    pause * (768 + chance) / 1024
}

/// Sends a portion over HTTP/1.1, on a connection of its own.
async fn post(
    authority: &str,
    path: &str,
    body: Bytes,
) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, or when the sender is dropped.
    tokio::spawn(connection);
    let request = Request::post(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .header(header::USER_AGENT, concat!("glass-etcd/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    if head.status.is_success() {
        // A status of success counts, even if the answer's body cannot be read.
        let body = Limited::new(body, ANSWER_MAX).collect().await.map(|body| body.to_bytes());
        let answer = body.ok().and_then(|body| ExportTraceServiceResponse::decode(body).ok());
        return Ok(taken(&answer.unwrap_or_default()));
    }
    let why = head.status.to_string();
    Ok(match head.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Outcome::Again(why, retry_after(&head.headers)),
        _ => Outcome::Refused(why),
    })
}

/// `Retry-After` in seconds; its other form, a date, is not read. At most [`PAUSE_MAX`].
fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(PAUSE_MAX))
}

fn taken(answer: &ExportTraceServiceResponse) -> Outcome {
    let partial = answer.partial_success.as_ref();
    let rejected = partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0));
    let why = partial.map(|partial| partial.error_message.chars().take(200).collect());
    Outcome::Taken(rejected, why.unwrap_or_default())
}

#[cfg(test)]
mod tests;
