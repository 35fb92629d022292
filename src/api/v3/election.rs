//! The Election service (etcd: `v3election.electionServer`). Its errors reach clients as UNKNOWN,
//! because etcd serves it through a client of its own.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream::unfold};
use prost::Message as _;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    api::{
        answers::{self, client},
        flow::Flow,
        header,
        interceptor::{Method, begin},
        leader::LeaderCheck,
    },
    pb::v3electionpb::{
        CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse,
        ProclaimRequest, ProclaimResponse, ResignRequest, ResignResponse,
        election_server::Election,
    },
    server::{Error, Server, concurrency::observe::Observation},
};

/// Serves Election for a member.
pub struct ElectionService {
    server: Arc<Server>,
}

impl ElectionService {
    /// Serves requests with this server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

fn key_of(leader: Option<&LeaderKey>) -> Option<&[u8]> {
    leader.map(|leader| leader.key.as_ref())
}

#[async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let call = begin(&self.server, Method::Campaign, &request, Some(&request.get_ref().name))?;
        let mut result = self.server.concurrency.campaign(call.id(), request.into_inner()).await;
        let revision = header::fill_in(&mut result, &self.server, |answer| &mut answer.header);
        call.respond(result, revision)
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let key = key_of(request.get_ref().leader.as_ref());
        let call = begin(&self.server, Method::Proclaim, &request, key)?;
        let mut result = self.server.concurrency.proclaim(call.id(), request.into_inner()).await;
        let revision = header::fill_in(&mut result, &self.server, |answer| &mut answer.header);
        call.respond(result, revision)
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let call = begin(&self.server, Method::Leader, &request, Some(&request.get_ref().name))?;
        let client = client(&self.server);
        let (id, request) = (call.id(), request.into_inner());
        let result = self.server.concurrency.election_leader(id, request, &client).await;
        let (mut result, unsent) = answers::apart(result);
        let revision = header::fill_in(&mut result, &self.server, |answer| &mut answer.header);
        let response = call.respond(result, revision)?;
        answers::unsent(unsent);
        Ok(response)
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let name = &request.get_ref().name;
        let call = begin(&self.server, Method::Observe, &request, Some(name))?;
        answers::stream();
        let server = Arc::clone(&self.server);
        let (concurrency, client) = (Arc::clone(&server.concurrency), client(&server));
        let observer = Observer {
            observation: Observation::new(concurrency, client, call.id(), name),
            leader: LeaderCheck::new(&server, request.metadata()),
            server,
            flow: Flow::of(call),
            revision: 0,
        };
        Ok(Response::new(Box::pin(unfold(Some(observer), Observer::next))))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let key = key_of(request.get_ref().leader.as_ref());
        let call = begin(&self.server, Method::Resign, &request, key)?;
        let mut result = self.server.concurrency.resign(call.id(), request.into_inner()).await;
        let revision = header::fill_in(&mut result, &self.server, |answer| &mut answer.header);
        call.respond(result, revision)
    }
}

/// One Observe call: its rpc lasts as long as its stream.
struct Observer {
    server: Arc<Server>,
    /// The story of the stream.
    flow: Flow,
    observation: Observation,
    leader: LeaderCheck,
    /// Revision in the last answer's header.
    revision: i64,
}

impl Observer {
    /// The stream's next message; `None` after its end.
    async fn next(
        observer: Option<Observer>,
    ) -> Option<(Result<LeaderResponse, Status>, Option<Observer>)> {
        let mut observer = observer?;
        let Observer { server, flow, observation, leader, .. } = &mut observer;
        let answer = loop {
            tokio::select! {
                biased;
                () = leader.lost(server) => break Err(Error::NoLeader),
                answer = observation.next() => break answer,
                () = flow.due() => flow.tell_rest(),
            }
        };
        match answer {
            Ok(mut response) => {
                header::fill(&mut response.header, &observer.server);
                observer.revision = response.header.as_ref().map_or(0, |header| header.revision);
                observer.flow.sent(response.encoded_len());
                observer.flow.delivers(0, 1);
                Some((Ok(response), Some(observer)))
            }
            // etcd's own client does the same with an error: the stream ends without a status.
            Err(error) => {
                let revision = observer.revision;
                let end = if error == Error::NoLeader { Err(error) } else { Ok(()) };
                observer.flow.end(end, revision).err().map(|status| (Err(status), None))
            }
        }
    }
}
