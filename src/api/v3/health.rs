//! gRPC's own health service, as etcd serves it: the member as a whole, under the empty name, is
//! serving from the moment its port is open. Whether it reaches the others is a separate question,
//! which `/health` answers.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream::unfold};
use prost::Message as _;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};

use crate::{
    api::{
        calls,
        interceptor::{Method, begin},
    },
    server::Server,
    trace::Reason,
};

/// Serves Health for a member.
pub struct HealthService {
    server: Arc<Server>,
}

impl HealthService {
    /// Serves requests with this server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

#[async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let call = begin(&self.server, Method::HealthCheck, &request, None)?;
        match request.get_ref().service.as_str() {
            "" => call.respond(Ok(answer(ServingStatus::Serving)), 0),
            _ => Err(call.refuse(Status::not_found("unknown service"), Reason::UnknownService)),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Sends the state once: it does not change while the member runs.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let call = begin(&self.server, Method::HealthWatch, &request, None)?;
        let status = match request.get_ref().service.as_str() {
            "" => ServingStatus::Serving,
            _ => ServingStatus::ServiceUnknown,
        };
        // The call ends with the stream, which ends when the client disconnects.
        let answers = unfold((Some(answer(status)), call), |(first, call)| async move {
            match first {
                Some(first) => {
                    calls::sent(Method::HealthWatch, first.encoded_len());
                    Some((Ok(first), (None, call)))
                }
                None => std::future::pending().await,
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}
