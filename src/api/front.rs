//! The client port: our own accept loop, and the checks before a request reaches a service.
//!
//! HTTP/1 and HTTP/2 share a port, unless `--listen-client-http-urls` parts them (see [`Traffic`]).
//! gRPC requests for methods that this member does not have are answered here, because tonic leaves
//! out the text that etcd's clients know. Until the member is ready to serve, requests wait, as
//! they do before etcd's port. Two things are served earlier: the Observe service, so that a viewer
//! can see the election, and the ports of `--listen-metrics-urls`, because a probe asks whether the
//! member is ready.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use futures_util::{FutureExt, future::Either};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Status, codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tower_service::Service;

use super::{
    accept::{Admitted, Failures, Gate},
    answers::{self, Caller},
    authority::MendedAuthority,
    deadline, edge,
    ending::{Ending, is_stream, stopped},
    first_bytes::FirstBytes,
    gateway::Gateway,
    http as http_routes,
    http2::{self, Limits},
    limit::Limited,
    listen::{Acceptor, Listener, Stream},
    metadata::Metadata,
    observe::ObserveService,
    origin::Origin,
    pace::Pace,
    pings::Pings,
    refused::{self, Asked},
    status::status,
    text, v3,
};
use crate::{
    config::{Cors, Hosts},
    pb::{
        etcdserverpb::{
            cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
            maintenance_server::MaintenanceServer, watch_server::WatchServer,
        },
        glasspb::observe_server::ObserveServer,
        v3electionpb::election_server::ElectionServer,
        v3lockpb::lock_server::LockServer,
    },
    server::{Error, Server, dropped::Deadline},
    trace::{self, Reason},
};

/// How long a client may take to show which HTTP it speaks, and then to send the head of an HTTP/1
/// request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// The same on a metrics port, which has few places. Probes and scrapers send requests at once.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where clients are served.
#[derive(Debug)]
pub struct Ports {
    /// Listeners of `--listen-client-urls`: gRPC, and HTTP unless that has ports of its own.
    pub clients: Vec<Listener>,
    /// Listeners of `--listen-client-http-urls`: HTTP only.
    pub http: Vec<Listener>,
    /// Listeners of `--listen-metrics-urls`: probes and metrics, also before the member is ready.
    pub metrics: Vec<Listener>,
    /// Origins whose pages may use the HTTP interface (`--cors`).
    pub cors: Cors,
    /// The names by which HTTP may call the member (`--host-whitelist`).
    pub hosts: Hosts,
    /// Whether HTTP has the JSON gateway (`--enable-grpc-gateway`).
    pub has_gateway: bool,
}

/// The protocols of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    /// gRPC and plain HTTP on one port.
    All,
    /// gRPC only, over HTTP/2: plain HTTP has ports of its own.
    Grpc,
    /// Plain HTTP only, over HTTP/1.
    Http,
    /// Probes and metrics, over HTTP/1, also while the member is not ready.
    Metrics,
}

/// How far the member has started or stopped, for the code that serves its clients.
#[derive(Clone, Debug)]
pub struct Phase {
    /// It serves; until then requests wait.
    pub ready: watch::Receiver<bool>,
    /// It is about to end.
    pub stopping: watch::Receiver<bool>,
}

impl Phase {
    /// Waits until the member serves. `Err` is the answer of one that ends before it does.
    async fn served(mut self) -> Result<(), Status> {
        tokio::select! {
            biased;
            // The sender lives as long as the member.
            _ = self.ready.wait_for(|ready| *ready) => Ok(()),
            () = stopped(&mut self.stopping) => Err(status(Error::Stopped)),
        }
    }
}

/// Serves clients on these ports. When the member is about to end, it takes no more connections,
/// asks the clients to send no more requests (GOAWAY), and returns once all connections are closed.
pub async fn serve(
    server: Arc<Server>,
    observe: Option<ObserveService>,
    ports: Ports,
    limits: Limits,
    phase: Phase,
) -> std::io::Result<()> {
    let has_observe = observe.is_some();
    let access = (Arc::new(ports.cors), Arc::new(ports.hosts));
    let clients = if ports.http.is_empty() { Traffic::All } else { Traffic::Grpc };
    let grpc = routes(Arc::clone(&server), observe, limits.message_bytes);
    let gateway = ports.has_gateway.then(|| Gateway {
        server: Arc::clone(&server),
        grpc: grpc.clone(),
        message_bytes: limits.message_bytes,
        stopping: phase.stopping.clone(),
    });
    let mut tasks = Vec::new();
    let (gate, metrics_gate) =
        (Gate::new(limits.connections), Gate::new(limits.metrics_connections));
    for (traffic, listeners) in
        [(clients, ports.clients), (Traffic::Http, ports.http), (Traffic::Metrics, ports.metrics)]
    {
        let http = match traffic {
            Traffic::All | Traffic::Http => {
                http_routes::router(Arc::clone(&server), gateway.clone(), access.clone())
            }
            Traffic::Grpc => http_routes::no_router(),
            Traffic::Metrics => http_routes::metrics_router(Arc::clone(&server)),
        };
        let (grpc, phase) = (grpc.clone(), phase.clone());
        let server = Arc::clone(&server);
        let front = Arc::new(Front { server, grpc, http, traffic, limits, phase, has_observe });
        let gate = if traffic == Traffic::Metrics { &metrics_gate } else { &gate };
        for listener in listeners {
            let listener = Acceptor::new(listener)?;
            tasks.push(tokio::spawn(accept(listener, Arc::clone(&front), gate.clone())));
        }
    }
    for task in tasks {
        // One that has panicked serves nobody any more.
        let _ = task.await;
    }
    Ok(())
}

fn routes(server: Arc<Server>, observe: Option<ObserveService>, message_bytes: usize) -> Router {
    // Sizes are checked by `limit`, before tonic's codec; the codec's limit is for what a
    // compressed message becomes. Answers are not compressed, to which a client may not object.
    macro_rules! ready {
        ($service:expr) => {
            $service
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(message_bytes)
        };
    }
    let kv = KvServer::new(v3::kv::KvService::new(Arc::clone(&server)));
    let cluster = ClusterServer::new(v3::cluster::ClusterService::new(Arc::clone(&server)));
    let maintenance =
        MaintenanceServer::new(v3::maintenance::MaintenanceService::new(Arc::clone(&server)));
    let watch = WatchServer::new(v3::watch::WatchService::new(Arc::clone(&server)));
    let lease = LeaseServer::new(v3::lease::LeaseService::new(Arc::clone(&server)));
    let lock = LockServer::new(v3::lock::LockService::new(Arc::clone(&server)));
    let election = ElectionServer::new(v3::election::ElectionService::new(Arc::clone(&server)));
    let health = HealthServer::new(v3::health::HealthService::new(server));
    let routes = Routes::new(ready!(kv))
        .add_service(ready!(cluster))
        .add_service(ready!(maintenance))
        .add_service(ready!(health))
        .add_service(ready!(watch))
        .add_service(ready!(lease))
        .add_service(ready!(lock))
        .add_service(ready!(election));
    let routes = match observe {
        Some(observe) => routes.add_service(ObserveServer::new(observe)),
        None => routes,
    };
    routes.into_axum_router()
}

async fn accept(listener: Acceptor, front: Arc<Front>, gate: Gate) {
    let mut stopping = front.phase.stopping.clone();
    let (mut connections, failures) = (JoinSet::new(), Failures::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stopping) => break,
        };
        match accepted {
            Ok(stream) => {
                failures.over();
                let accepted = trace::handed_over();
                let place = tokio::select! {
                    place = gate.admit() => place,
                    () = stopped(&mut stopping) => break,
                };
                let placed_ns = trace::waited_ns(accepted);
                let front = Arc::clone(&front);
                connections.spawn(edge::scope(async move {
                    stream.begin(placed_ns);
                    front.connection(stream, place).await;
                }));
            }
            Err(error) => failures.note(&error).await,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

impl Traffic {
    fn has_grpc(self) -> bool {
        matches!(self, Self::All | Self::Grpc)
    }
}

/// Shared by the connections of a listener: requests clone nothing but the router that they need.
struct Front {
    server: Arc<Server>,
    grpc: Router,
    http: Router,
    traffic: Traffic,
    limits: Limits,
    phase: Phase,
    has_observe: bool,
}

impl Front {
    /// Serves a client, and gives its place back when the connection ends.
    async fn connection(self: Arc<Self>, stream: Stream, _place: Admitted) {
        let builder = Builder::new(TokioExecutor::new());
        let mut builder = match self.traffic {
            Traffic::All => builder,
            Traffic::Grpc => builder.http2_only(),
            Traffic::Http | Traffic::Metrics => builder.http1_only(),
        };
        // A metrics port has few places, so each is free again after one answer: scrapers that keep
        // their connections must not hold up a probe.
        let is_metrics = self.traffic == Traffic::Metrics;
        let patience = if is_metrics { PROBE_TIMEOUT } else { HEADER_TIMEOUT };
        let mut http1 = builder.http1();
        http1.timer(TokioTimer::new()).header_read_timeout(patience).keep_alive(!is_metrics);
        http2::configure(builder.http2(), &self.limits);
        let (pace, metadata) = (Pace::default(), Metadata::default());
        let mut stopping = self.phase.stopping.clone();
        let client = self.server.room.connect_from(stream.ends());
        let of_calls = Arc::clone(&client);
        let min_time = self.limits.keepalive.min_time;
        let service = service_fn(move |request| {
            let caller = Caller { client: Arc::clone(&of_calls), arrived: edge::accept() };
            Arc::clone(&self).request(request, metadata.clone(), caller)
        });
        let stream = FirstBytes::new(stream, patience);
        let stream = Pings::new(MendedAuthority::new(stream), min_time);
        let stream = TokioIo::new(pace.socket(stream));
        let mut connection = pin!(builder.serve_connection(stream, service));
        let ended = tokio::select! {
            biased;
            ended = pace.drive(connection.as_mut()) => ended,
            () = client.closed() => return,
            () = stopped(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                pace.drive(connection.as_mut()).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a client's connection ended");
        }
    }

    /// Answers a request. Every request is a task whose future is copied when it is spawned, so the
    /// usual path is a chain of small futures: an async function would keep a copy of the request
    /// at each step.
    fn request(
        self: Arc<Self>,
        request: Request<Incoming>,
        metadata: Metadata,
        caller: Caller,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
        let answer = match self.begin(request, metadata, caller) {
            Ok(call) => Either::Left(call),
            Err(refusal) => Either::Right(ready(*refusal)),
        };
        answer.map(Ok)
    }

    /// Begins a call, or refuses it.
    fn begin(
        self: Arc<Self>,
        request: Request<Incoming>,
        metadata: Metadata,
        caller: Caller,
    ) -> Result<impl Future<Output = Response<Body>> + use<>, Box<Response<Body>>> {
        let held = metadata.hold(request.headers()).map_err(|status| {
            self.note_refusal(&request, &caller, (status.code(), Reason::TooMuchMetadata));
            Box::new(status.into_http())
        })?;
        let is_grpc = self.traffic.has_grpc() && is_grpc(&request);
        let deadline = match deadline::of(request.headers()) {
            Ok(deadline) if is_grpc => deadline,
            Err(why) if is_grpc => {
                self.note_refusal(&request, &caller, (Code::Internal, Reason::MalformedTimeout));
                return Err(Box::new(deadline::refusal(&why)));
            }
            _ => None,
        };
        let path = request.uri().path();
        if is_grpc && let Some((status, reason)) = refused::unserved(path, self.has_observe) {
            self.note_refusal(&request, &caller, (status.code(), reason));
            return Err(Box::new(status.into_http()));
        }
        let call = if deadline.is_none() && !self.has_to_wait(path) {
            Either::Left(self.call(request, is_grpc, caller))
        } else {
            // Boxed: otherwise the future of every request would have room for it.
            let call = Arc::clone(&self).after_start(request, is_grpc, caller);
            Either::Right(Box::pin(within(deadline, call)))
        };
        // A streaming call has given it back by the time it begins to answer.
        Ok(call.inspect(move |_| drop(held)))
    }

    /// Carries out a call once the member is ready.
    async fn after_start(
        self: Arc<Self>,
        request: Request<Incoming>,
        is_grpc: bool,
        caller: Caller,
    ) -> Response<Body> {
        if self.has_to_wait(request.uri().path())
            && let Err(stopped) = self.phase.clone().served().await
        {
            let refused = text::error(StatusCode::SERVICE_UNAVAILABLE, stopped.message());
            return if is_grpc { stopped.into_http() } else { refused.map(Body::new) };
        }
        self.call(request, is_grpc, caller).await
    }

    /// Whether a request has come before the member is ready.
    fn has_to_wait(&self, path: &str) -> bool {
        !*self.phase.ready.borrow()
            && !refused::is_observe(path)
            && self.traffic != Traffic::Metrics
    }

    /// Hands a request to its service.
    fn call(
        &self,
        request: Request<Incoming>,
        is_grpc: bool,
        caller: Caller,
    ) -> impl Future<Output = Response<Body>> + use<> {
        let max = self.limits.message_bytes;
        let is_stream = is_grpc && is_stream(request.uri().path());
        let is_unary = is_grpc && !is_stream;
        let asked = is_unary.then(|| (Asked::of(&request), Arc::clone(&self.server)));
        let unreached = move |answer: &Response<Body>| {
            if let Some((asked, server)) = asked {
                asked.refused_with(&server, answer);
            }
        };
        let stopping = is_stream.then(|| self.phase.stopping.clone());
        let request = request.map(|body| match is_grpc {
            true => Body::new(Limited::new(body, max)),
            false => Body::new(body),
        });
        let mut router = if is_grpc { self.grpc.clone() } else { self.http.clone() };
        answers::serve(caller, router.call(request), unreached).map(|answer| {
            let answer = match answer {
                Ok(answer) => answer,
                Err(never) => match never {},
            };
            match stopping {
                Some(stopping) => {
                    answer.map(|body| Body::new(Ending::when_stopped(body, stopping)))
                }
                None => answer,
            }
        })
    }

    /// Records a call that is refused before it begins.
    fn note_refusal(&self, request: &Request<Incoming>, caller: &Caller, end: (Code, Reason)) {
        let origin = Origin::new(request.headers().get("traceparent"), caller.client.ends());
        refused::record(&self.server, (request.uri().path(), origin), end);
    }
}

/// Ends a call at its deadline, if it has one.
async fn within(
    deadline: Option<Deadline>,
    call: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    match deadline {
        None => call.await,
        Some(deadline) => deadline::bound(deadline, call).await,
    }
}

/// Whether this is a call of gRPC, as grpc-go takes it. Anything else must not reach a service in
/// this way: a page in a browser can send a form or plain text to any address, without being asked
/// by CORS. The gateway takes both ([`super::gateway`]).
fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    let is_kind = rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]));
    is_kind && request.version() == http::Version::HTTP_2 && request.method() == http::Method::POST
}
