//! The client port: our own accept loop, and what is decided before a request reaches a service.
//!
//! HTTP/1 and HTTP/2 share the port and one router. gRPC requests for methods that this member does
//! not have are answered here, because tonic leaves out the text that etcd's clients know. Until the
//! member is ready to serve, requests wait, as they do before etcd's port; only the glass may
//! look in before, to see the election.

use std::{convert::Infallible, net::TcpListener as StdListener, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::{Status, codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tower_service::Service;

use super::{
    answers::{AnswerBody, Outgoing},
    authority::MendedAuthority,
    http as http_routes,
    in_time::InTime,
    limit::Limited,
    observe::ObserveService,
    v3,
};
use crate::{
    pb::{
        etcdserverpb::{
            cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
            maintenance_server::MaintenanceServer, watch_server::WatchServer,
        },
        glasspb::observe_server::ObserveServer,
        v3electionpb::election_server::ElectionServer,
        v3lockpb::lock_server::LockServer,
    },
    server::{Server, answer::Connection},
};

/// The methods that are served, by service.
const METHODS: &[(&str, &[&str])] = &[
    ("etcdserverpb.KV", &["Range", "Put", "DeleteRange", "Txn", "Compact"]),
    ("etcdserverpb.Maintenance", &["Status", "Alarm", "HashKV", "Hash"]),
    ("etcdserverpb.Cluster", &["MemberList"]),
    ("grpc.health.v1.Health", &["Check", "Watch"]),
    (OBSERVE, &["Observe"]),
    ("etcdserverpb.Watch", &["Watch"]),
    (
        "etcdserverpb.Lease",
        &["LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"],
    ),
    ("v3lockpb.Lock", &["Lock", "Unlock"]),
    ("v3electionpb.Election", &["Campaign", "Proclaim", "Leader", "Observe", "Resign"]),
];

/// The service whose answers carry what clients have stored.
const KV: &str = "/etcdserverpb.KV/";
/// The glass's own service.
const OBSERVE: &str = "glasspb.Observe";

/// How long a client may take until it can be told which HTTP it speaks, and then to send the head of
/// an HTTP/1 request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Limits of the client port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest message that is received.
    pub message_bytes: usize,
    /// `--max-concurrent-streams`.
    pub streams: u32,
    /// `--grpc-keepalive-interval` and `--grpc-keepalive-timeout`. How often a client may ping, as
    /// `--grpc-keepalive-min-time` says, is not looked at: h2 answers pings without telling.
    pub keepalive: (Duration, Duration),
}

/// Serves clients on these listeners until the process ends.
pub async fn serve(
    server: Arc<Server>,
    observe: Option<ObserveService>,
    listeners: Vec<StdListener>,
    limits: Limits,
    ready: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let has_observe = observe.is_some();
    let router = routes(Arc::clone(&server), observe, limits.message_bytes);
    let front = Front { server, router, limits, ready, has_observe };
    let mut tasks = Vec::new();
    for listener in listeners {
        listener.set_nonblocking(true)?;
        tasks.push(tokio::spawn(accept(TcpListener::from_std(listener)?, front.clone())));
    }
    for task in tasks {
        // An accept loop never ends by itself.
        let _ = task.await;
    }
    Ok(())
}

fn routes(server: Arc<Server>, observe: Option<ObserveService>, message_bytes: usize) -> Router {
    // Sizes are checked by `limit`, before tonic's codec; the codec's limit is for what a compressed
    // message becomes. Answers are not compressed, to which a client may not object.
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
    let health = HealthServer::new(v3::health::HealthService::new(Arc::clone(&server)));
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
    // tonic answers unknown paths itself; here that is the HTTP routes' business.
    routes.into_axum_router().reset_fallback().merge(http_routes::router(server))
}

async fn accept(listener: TcpListener, front: Front) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => _ = tokio::spawn(front.clone().connection(stream)),
            Err(error) => {
                // Out of file descriptors, most likely: others must close first.
                tracing::warn!(%error, "could not accept a client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[derive(Clone)]
struct Front {
    server: Arc<Server>,
    router: Router,
    limits: Limits,
    ready: watch::Receiver<bool>,
    has_observe: bool,
}

impl Front {
    async fn connection(self, stream: TcpStream) {
        // Without it small answers would wait for the acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams)
            .keep_alive_interval(Some(self.limits.keepalive.0))
            .keep_alive_timeout(self.limits.keepalive.1);
        let connection = self.server.connect();
        let of_requests = Arc::clone(&connection);
        let service =
            service_fn(move |request| self.clone().request(request, Arc::clone(&of_requests)));
        let stream = InTime::new(stream, HEADER_TIMEOUT);
        let stream = TokioIo::new(MendedAuthority::new(stream));
        let served = tokio::select! {
            served = builder.serve_connection(stream, service) => served,
            () = connection.closed() => return,
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a client's connection ended");
        }
    }

    async fn request(
        self,
        mut request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Result<Response<AnswerBody>, Infallible> {
        if !request.uri().path().starts_with(KV) {
            return Ok(self.route(request).await?.map(AnswerBody::plain));
        }
        request.extensions_mut().insert(Arc::clone(&connection));
        let mut response = self.route(request).await?;
        let outgoing = response.extensions_mut().remove::<Outgoing>();
        Ok(response.map(|body| AnswerBody::counted(body, outgoing, connection)))
    }

    async fn route(mut self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path();
        let is_grpc = is_grpc(&request);
        if is_grpc && let Some(status) = self.unknown(path) {
            return Ok(status.into_http());
        }
        if !*self.ready.borrow() && !is_observe(path) {
            // The sender lives as long as the member.
            let _ = self.ready.wait_for(|ready| *ready).await;
        }
        let max = self.limits.message_bytes;
        let request = request.map(|body| match is_grpc {
            true => Body::new(Limited::new(body, max)),
            false => Body::new(body),
        });
        self.router.call(request).await
    }

    /// etcd's answer to a method that is not served.
    fn unknown(&self, path: &str) -> Option<Status> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let known = METHODS.iter().find(|(name, _)| *name == service);
        match known {
            Some((name, _)) if *name == OBSERVE && !self.has_observe => {}
            Some((_, methods)) if methods.contains(&method) => return None,
            Some(_) => {
                let text = format!("unknown method {method} for service {service}");
                return Some(Status::unimplemented(text));
            }
            None => {}
        }
        Some(Status::unimplemented(format!("unknown service {service}")))
    }
}

fn is_observe(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|path| path.starts_with(OBSERVE))
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}
