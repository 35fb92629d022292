//! The closed loop: each client sends its next request when the previous one is answered.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use glass_etcd::{
    clock,
    pb::etcdserverpb::{StatusRequest, maintenance_client::MaintenanceClient},
};
use tokio::{task::JoinSet, time};
use tonic::transport::Endpoint;

use super::{
    Common, Error,
    lean::{self, Answer, Connection, Head},
    proc::{Sample, Usage},
    stats::{Latency, Report},
};

/// How long requests still in flight at the end may take.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// One run: the method, how many requests, how fast.
pub(crate) struct Plan {
    /// The method as `/package.Service/Method`.
    pub(crate) path: &'static str,
    /// The run's title in the report.
    pub(crate) title: String,
    /// Requests to count, unless the run has a duration.
    pub(crate) total: u64,
    /// Requests per second at most; 0 for no limit.
    pub(crate) rate: u64,
}

/// State that the clients of a run share.
struct Shared<F> {
    head_of: Vec<Head>,
    frame: F,
    /// Number of the next request.
    next: Cell<u64>,
    /// Requests that remain to be counted.
    left: Cell<u64>,
    begun: Instant,
    counted_from: Instant,
    until: Option<Instant>,
    rate: u64,
    latency: RefCell<Latency>,
    errors: RefCell<BTreeMap<String, u64>>,
}

impl<F> Shared<F> {
    fn new(common: &Common, plan: &Plan, head_of: Vec<Head>, frame: F) -> Self {
        let begun = clock::now();
        let counted_from = begun + Duration::from_secs_f64(common.warmup.max(0.0));
        let until = common.seconds.map(|s| counted_from + Duration::from_secs_f64(s.max(0.0)));
        Self {
            head_of,
            frame,
            next: Cell::new(0),
            left: Cell::new(if until.is_some() { u64::MAX } else { plan.total }),
            begun,
            counted_from,
            until,
            rate: plan.rate,
            latency: RefCell::default(),
            errors: RefCell::default(),
        }
    }

    /// The next request's number; `None` when all have been sent.
    fn take(&self) -> Option<u64> {
        let now = clock::now();
        if self.until.is_some_and(|until| until <= now) || self.left.get() == 0 {
            return None;
        }
        let number = self.next.get();
        self.next.set(number + 1);
        if self.counted_from <= now {
            self.left.set(self.left.get() - 1);
        }
        Some(number)
    }

    /// How long request `number` must wait under `--rate`.
    fn wait(&self, number: u64) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let turn = Duration::from_secs_f64(number as f64 / self.rate as f64);
        (self.begun + turn).saturating_duration_since(clock::now())
    }

    fn record(&self, started: Instant, result: &Result<Answer, h2::Error>) {
        let ended = clock::now();
        let late = self.until.is_some_and(|until| until < ended);
        if started < self.counted_from || late {
            return;
        }
        let error = match result {
            Ok(answer) if answer.code == 0 => {
                return self.latency.borrow_mut().add(ended - started);
            }
            Ok(answer) => format!("code {}: {}", answer.code, answer.message),
            Err(error) => format!("connection: {error}"),
        };
        *self.errors.borrow_mut().entry(error).or_default() += 1;
    }
}

/// Runs the load; `frame(n)` returns the encoded message of request `n`.
pub(crate) async fn drive<F>(common: &Common, plan: &Plan, frame: F) -> Result<Report, Error>
where
    F: Fn(u64) -> Bytes + 'static,
{
    if common.clients == 0 || common.conns == 0 {
        return Err(Error::Flags("--clients and --conns must be at least 1"));
    }
    let endpoints = endpoints(common).await?;
    let mut connections = Vec::with_capacity(common.conns);
    let mut heads = Vec::with_capacity(common.conns);
    for endpoint in endpoints.iter().cycle().take(common.conns) {
        connections.push(Connection::open(endpoint).await?);
        heads.push(Head::new(endpoint, plan.path)?);
    }
    let shared = Rc::new(Shared::new(common, plan, heads, frame));
    let mut clients = JoinSet::new();
    for number in 0..common.clients {
        let at = number % common.conns;
        clients.spawn_local(client(shared.clone(), connections[at].clone(), at));
    }
    time::sleep(shared.counted_from.saturating_duration_since(clock::now())).await;
    let before = Sample::take(&common.pids);
    if let Some(until) = shared.until {
        time::sleep(until.saturating_duration_since(clock::now())).await;
        let after = Sample::take(&common.pids);
        let finished = time::timeout(LAST_ANSWERS, join(&mut clients)).await;
        if finished.is_err() {
            let text = format!("no answer {} s after the end", LAST_ANSWERS.as_secs());
            shared.errors.borrow_mut().insert(text, clients.len() as u64);
        }
        return Ok(report(&shared, plan, until, &Usage::between(&before, &after)));
    }
    join(&mut clients).await;
    let after = Sample::take(&common.pids);
    Ok(report(&shared, plan, clock::now(), &Usage::between(&before, &after)))
}

async fn join(clients: &mut JoinSet<()>) {
    while clients.join_next().await.is_some() {}
}

async fn client<F: Fn(u64) -> Bytes>(shared: Rc<Shared<F>>, mut to: Connection, at: usize) {
    while let Some(number) = shared.take() {
        let wait = shared.wait(number);
        if !wait.is_zero() {
            time::sleep(wait).await;
        }
        let frame = (shared.frame)(number);
        let started = clock::now();
        let result = to.call(&shared.head_of[at], frame).await;
        shared.record(started, &result);
        // A lost connection is not redialled: a benchmark across reconnects measures something
        // else.
        if result.is_err() {
            return;
        }
    }
}

fn report<F>(shared: &Shared<F>, plan: &Plan, end: Instant, usage: &Usage) -> Report {
    Report {
        title: plan.title.clone(),
        latency: shared.latency.take(),
        errors: shared.errors.take(),
        took: end - shared.counted_from,
        usage: usage.clone(),
    }
}

/// Where to send, as `host:port`: all endpoints, or only the leader.
pub(crate) async fn endpoints(common: &Common) -> Result<Vec<String>, Error> {
    if common.target_leader { leader_of(common).await } else { all(common) }
}

fn all(common: &Common) -> Result<Vec<String>, Error> {
    common.endpoints.iter().map(|e| lean::authority(e).map(str::to_owned)).collect()
}

/// The endpoint whose status names itself as the leader.
async fn leader_of(common: &Common) -> Result<Vec<String>, Error> {
    for endpoint in all(common)? {
        let problem = |detail: String| Error::Status { endpoint: endpoint.clone(), detail };
        let channel = Endpoint::from_shared(format!("http://{endpoint}"))
            .map_err(|error| problem(error.to_string()))?
            .connect()
            .await
            .map_err(|error| problem(error.to_string()))?;
        let status = MaintenanceClient::new(channel)
            .status(StatusRequest {})
            .await
            .map_err(|status| problem(status.to_string()))?
            .into_inner();
        let member = status.header.map_or(0, |header| header.member_id);
        if member != 0 && member == status.leader {
            return Ok(vec![endpoint]);
        }
    }
    Err(Error::NoLeader)
}
