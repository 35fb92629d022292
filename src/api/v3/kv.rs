//! The KV service: Range, Put, DeleteRange, Txn and Compact.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    api::{
        answers::{self, client},
        header,
        interceptor::{Call, Method, begin, begin_for},
    },
    pb::etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest,
        TxnResponse, kv_server::Kv,
    },
    server::{Error, Server, answer::Answer},
    trace,
};

/// Serves KV for a member.
pub struct KvService {
    server: Arc<Server>,
}

impl KvService {
    /// Serves requests with this server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }

    /// Fills in the answer's header, and ends the call with it.
    fn respond<A: Message + Default>(
        &self,
        call: Call,
        answer: Result<Answer<A>, Error>,
        header: fn(&mut A) -> &mut Option<ResponseHeader>,
    ) -> Result<Response<A>, Status> {
        let (mut message, large) = match answer {
            Ok(Answer::Whole(message)) => (Ok(message), None),
            Ok(Answer::Large(large)) => {
                let mut message = A::default();
                header(&mut message).get_or_insert_default().revision = large.revision;
                (Ok(message), Some(large))
            }
            Err(error) => (Err(error), None),
        };
        let revision = header::fill_in(&mut message, &self.server, header);
        let bytes = message.as_ref().map_or(0, Message::encoded_len);
        let beside = large.as_ref().map_or(0, |large| large.len);
        let response = call.respond_with(message, bytes + beside, revision)?;
        if let Some(large) = large {
            answers::large(response.get_ref(), large, &self.server);
        }
        Ok(response)
    }
}

#[async_trait]
impl Kv for KvService {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let RangeRequest { key, serializable, .. } = request.get_ref();
        let call = begin_for(&self.server, Method::Range, &request, Some(key), *serializable)?;
        trace::range_end(call.id(), &request.get_ref().range_end);
        let client = client(&self.server);
        let answer = self.server.kv.range(call.id(), request.into_inner(), &client).await;
        self.respond(call, answer, |response| &mut response.header)
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let call = begin(&self.server, Method::Put, &request, Some(&request.get_ref().key))?;
        let client = client(&self.server);
        let answer = self.server.kv.put(call.id(), request.into_inner(), &client).await;
        self.respond(call, answer, |response| &mut response.header)
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let call =
            begin(&self.server, Method::DeleteRange, &request, Some(&request.get_ref().key))?;
        trace::range_end(call.id(), &request.get_ref().range_end);
        let client = client(&self.server);
        let answer = self.server.kv.delete_range(call.id(), request.into_inner(), &client).await;
        self.respond(call, answer, |response| &mut response.header)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let key = request.get_ref().compare.first().map(|compare| compare.key.clone());
        let call = begin(&self.server, Method::Txn, &request, key.as_deref())?;
        let client = client(&self.server);
        let answer = self.server.kv.txn(call.id(), request.into_inner(), &client).await;
        self.respond(call, answer, |response| &mut response.header)
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let call = begin(&self.server, Method::Compact, &request, None)?;
        let result = self.server.kv.compact(call.id(), request.into_inner()).await;
        self.respond(call, result.map(Answer::Whole), |response| &mut response.header)
    }

    type RangeStreamStream = tokio_stream::Empty<Result<RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        // A method of 3.7; etcd 3.5 does not know it, nor does the table of `front`.
        Err(Status::unimplemented("unknown method RangeStream for service etcdserverpb.KV"))
    }
}
