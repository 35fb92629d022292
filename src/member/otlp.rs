//! `--trace-otlp`: exports this member's kept requests to an OpenTelemetry collector while it runs.
//!
//! ```text
//!   trace collector ──25 ms──▶ window (3 s of steps) ──1 s──▶ queue, 32 portions ──▶ send ──▶ HTTP
//!   (as any subscriber)        spans of what is a second old    full: drop, count     one at a time
//! ```
//!
//! Everything happens on the thread `trace-otlp`, at the end of a subscription like the player's:
//! batches that the thread does not take in time are dropped, and nothing waits for it. So a
//! collector that is slow, dead or broken costs the member no more than this thread and some
//! megabytes. The thread opens no stages: the export is not in the traces.
//!
//! Each member exports its own steps and no others; `export::otlp` says how they fit together. A
//! step waits a second, so that the fsync and the commit that cover it are known when its links are
//! made.
//!
//! Over HTTP a portion is a `POST` of protobuf; a URL with port 4317 and without a path means gRPC.
//! As OTLP demands, a portion is sent again after 429, 502, 503 or 504, a lost connection or a
//! timeout, after the pause that the collector asks for or after growing ones; any other error is
//! final. If a collector receives a span twice, the ids are the same.
//!
//! Invariants: one export is in flight; queue and window are bounded; what is dropped, by the
//! subscription, the window or the queue, is counted (`glass_otlp_spans_dropped_total`) and logged.
//!
//! Left out: TLS and headers for it (put a collector on the same machine, it has both),
//! compression, and the last second before the member stops.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Builder,
    sync::mpsc::{Sender, channel, error::TrySendError},
};

use crate::{
    clock,
    export::otlp::{Resource, chunks},
    metrics::recorded,
    trace::{Collector, Filter, Subscription, id::KEPT_MAX, raw_clock},
};

mod encode;
pub mod send;
mod window;

pub use encode::{Portion, portion};
pub use send::{Target, TargetError, deliver, reach};
use window::Window;

/// How often spans are made.
const EXPORT_EVERY: Duration = Duration::from_secs(1);
/// The most portions that wait for the collector: some ten megabytes.
const QUEUE: usize = 32;
/// The least time between two log lines about drops.
const COMPLAIN: Duration = Duration::from_secs(60);

/// Starts the export, which ends with the trace collector or the process.
///
/// # Errors
///
/// If the thread cannot be started.
pub(super) fn start(target: Target, collector: &Arc<Collector>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let filter = Filter {
        traces_per_second: u32::try_from(KEPT_MAX).unwrap_or(u32::MAX),
        ..Filter::default()
    };
    let subscription = collector.subscribe(filter);
    tracing::info!(%target, "kept requests are exported to a collector of OpenTelemetry");
    thread::Builder::new().name("trace-otlp".to_owned()).spawn(move || {
        let (queue, portions) = channel(QUEUE);
        runtime.spawn(send::run(target, portions));
        runtime.block_on(listen(subscription, queue));
    })?;
    Ok(())
}

/// Takes batches from the trace collector, and makes spans of them once a second.
async fn listen(mut subscription: Subscription, queue: Sender<Portion>) {
    let Some(mut window) = Window::new(&subscription.hello) else { return };
    let mut complaint = Complaint::default();
    let mut next = clock::now() + EXPORT_EVERY;
    while let Some(batch) = subscription.batches.recv().await {
        complaint.add(window.take(&batch), TOO_SLOW);
        if clock::now() < next {
            continue;
        }
        next = clock::now() + EXPORT_EVERY;
        let resources = window.due(raw_clock::since_start_ns(raw_clock::now()));
        complaint.add(enqueue(&queue, resources), TOO_SLOW);
        // Lets the sender run, however many batches there are.
        tokio::task::yield_now().await;
    }
}

/// Hands spans to the sender. Returns how many found no room.
fn enqueue(queue: &Sender<Portion>, resources: Vec<Resource>) -> u64 {
    let mut dropped = 0;
    for resource in chunks(resources) {
        let portion = portion(&resource);
        if let Err(TrySendError::Full(portion) | TrySendError::Closed(portion)) =
            queue.try_send(portion)
        {
            dropped += portion.spans;
        }
    }
    recorded::SPANS_DROPPED.add(dropped);
    dropped
}

/// What the log says of spans that are not even handed to the sender.
const TOO_SLOW: &str = "--trace-otlp, or its collector, does not keep up";

/// Number of spans dropped since the last log line about it, and the time of that line.
#[derive(Default)]
struct Complaint {
    dropped: u64,
    said: Option<Instant>,
}

impl Complaint {
    /// Adds to the number of dropped spans, and logs it with the latest cause unless there was a
    /// line lately.
    fn add(&mut self, dropped: u64, why: &str) {
        self.dropped += dropped;
        let now = clock::now();
        if self.dropped == 0 || self.said.is_some_and(|said| now < said + COMPLAIN) {
            return;
        }
        let spans = std::mem::take(&mut self.dropped);
        self.said = Some(now);
        tracing::warn!(spans, why, "dropped spans");
    }
}
