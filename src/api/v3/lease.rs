//! The Lease service: grant, revoke, keep-alive, time to live, and the list of leases.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{
    api::{
        answers::{self, client},
        calls,
        flow::Flow,
        header,
        interceptor::{Call, Method, begin, check, refuse_stream},
        leader::LeaderCheck,
        origin::Origin,
    },
    pb::etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
        LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, lease_server::Lease,
    },
    server::{Error, Server},
};

/// The TTL in the answer for a lease that is gone.
const GONE: i64 = -1;

/// Serves Lease for a member.
pub struct LeaseService {
    server: Arc<Server>,
}

impl LeaseService {
    /// Serves requests with this server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

#[async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let call = begin(&self.server, Method::LeaseGrant, &request, None)?;
        let mut result = self.server.leases.grant(call.id(), request.into_inner()).await;
        if let Ok(response) = &mut result {
            header::fill(&mut response.header, &self.server);
        }
        call.respond(result, self.server.store.revision())
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let call = begin(&self.server, Method::LeaseRevoke, &request, None)?;
        let mut result = self.server.leases.revoke(call.id(), request.into_inner()).await;
        if let Ok(response) = &mut result {
            header::fill(&mut response.header, &self.server);
        }
        call.respond(result, self.server.store.revision())
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

    /// Answers each message in order. A lease that is gone does not end the stream.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        calls::client(request.metadata(), true);
        let origin = Origin::of(request.metadata());
        check(&self.server, request.metadata(), false)
            .map_err(|error| refuse_stream(&self.server, Method::LeaseKeepAlive, origin, error))?;
        let leader = LeaderCheck::new(&self.server, request.metadata());
        let flow = Flow::open(&self.server, Method::LeaseKeepAliveStream, origin);
        let (server, messages) = (Arc::clone(&self.server), request.into_inner());
        let renewals = Renewals { server, leader, messages, flow, origin };
        Ok(Response::new(Box::pin(stream::unfold(Some(renewals), Renewals::next))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let call = begin(&self.server, Method::LeaseTimeToLive, &request, None)?;
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let client = client(&self.server);
        let answer = self.server.leases.time_to_live(call.id(), id, keys, &client).await;
        let (view, unsent) = answers::apart(answer);
        let result = view.map(|view| {
            let mut header = None;
            header::fill(&mut header, &self.server);
            match view {
                Some(view) => LeaseTimeToLiveResponse {
                    header,
                    id,
                    ttl: view.ttl,
                    granted_ttl: view.granted,
                    keys: view.keys,
                },
                None => LeaseTimeToLiveResponse { header, id, ttl: GONE, ..Default::default() },
            }
        });
        let response = call.respond(result, self.server.store.revision())?;
        answers::unsent(unsent);
        Ok(response)
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let call = begin(&self.server, Method::LeaseLeases, &request, None)?;
        let mut result = self.server.leases.list(call.id(), &client(&self.server)).await;
        if let Ok(response) = &mut result {
            header::fill(&mut response.header, &self.server);
        }
        call.respond(result, self.server.store.revision())
    }
}

/// A stream of renewals.
struct Renewals {
    server: Arc<Server>,
    leader: LeaderCheck,
    messages: Streaming<LeaseKeepAliveRequest>,
    /// The story of the stream.
    flow: Flow,
    /// From where the stream was opened.
    origin: Origin,
}

impl Renewals {
    /// The answer to the next message; `None` after the last.
    async fn next(
        open: Option<Renewals>,
    ) -> Option<(Result<LeaseKeepAliveResponse, Status>, Option<Renewals>)> {
        let mut open = open?;
        let Renewals { server, leader, messages, flow, origin } = &mut open;
        let answer = tokio::select! {
            biased;
            () = leader.lost(server) => Err(Error::NoLeader),
            answer = answer(server, messages, flow, *origin) => match answer {
                // The client has gone, and the story of the stream says so when it is dropped.
                Err(status) => return Some((Err(status), None)),
                Ok(answer) => answer,
            },
        };
        let revision = server.store.revision();
        match answer {
            Ok(Some(response)) => Some((Ok(response), Some(open))),
            Ok(None) => flow.end(Ok(()), revision).err().map(|status| (Err(status), None)),
            Err(error) => flow.end(Err(error), revision).err().map(|status| (Err(status), None)),
        }
    }
}

/// The answer to the next message, or why there is none; `None` after the last. Fails if the client
/// ends the stream midway.
async fn answer(
    server: &Server,
    messages: &mut Streaming<LeaseKeepAliveRequest>,
    flow: &mut Flow,
    origin: Origin,
) -> Result<Result<Option<LeaseKeepAliveResponse>, Error>, Status> {
    let message = loop {
        tokio::select! {
            biased;
            message = messages.message() => break message?,
            () = flow.due() => flow.tell_rest(),
        }
    };
    let Some(message) = message else { return Ok(Ok(None)) };
    let bytes = prost::Message::encoded_len(&message);
    let call = Call::open(server, Method::LeaseKeepAlive, bytes, b"", origin);
    flow.received(call.id());
    let answer = renew(server, &message, call).await;
    if let Ok(response) = &answer {
        flow.sent(prost::Message::encoded_len(response));
    }
    Ok(answer.map(Some))
}

/// The header is filled before the renewal, so that its revision is not newer than the renewal: a
/// lease that is revoked at revision 3 must not seem renewed at revision 4.
async fn renew(
    server: &Server,
    message: &LeaseKeepAliveRequest,
    call: Call,
) -> Result<LeaseKeepAliveResponse, Error> {
    let mut header = None;
    header::fill(&mut header, server);
    let revision = header.as_ref().map_or(0, |header| header.revision);
    let ttl = server.leases.renew(call.id(), message.id).await;
    let id = message.id;
    let result = ttl.map(|ttl| LeaseKeepAliveResponse { header, id, ttl: ttl.unwrap_or(0) });
    let error = result.as_ref().err().copied();
    let answer = call.respond(result, revision).map(Response::into_inner);
    answer.map_err(|_| error.unwrap_or(Error::Canceled))
}
