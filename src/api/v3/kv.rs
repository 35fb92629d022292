//! The KV service.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use crate::{
    api::{
        header,
        interceptor::{Method, begin},
    },
    pb::etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest,
        TxnResponse, kv_server::Kv,
    },
    server::{Error, Server},
};

/// Serves KV by a member's server.
pub struct KvService {
    server: Arc<Server>,
}

impl KvService {
    /// Serves by this server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }

    /// Fills a response's header. Returns the revision that it has then.
    fn fill<A>(
        &self,
        result: &mut Result<A, Error>,
        header: impl FnOnce(&mut A) -> &mut Option<ResponseHeader>,
    ) -> i64 {
        let Ok(response) = result else { return 0 };
        let header = header(response);
        header::fill(header, &self.server);
        header.as_ref().map_or(0, |header| header.revision)
    }
}

#[async_trait]
impl Kv for KvService {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let call = begin(&self.server, Method::Range, &request, Some(&request.get_ref().key))?;
        let mut result = self.server.range(call.id(), request.into_inner()).await;
        let revision = self.fill(&mut result, |response| &mut response.header);
        call.respond(result, revision)
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let call = begin(&self.server, Method::Put, &request, Some(&request.get_ref().key))?;
        let mut result = self.server.put(call.id(), request.into_inner()).await;
        let revision = self.fill(&mut result, |response| &mut response.header);
        call.respond(result, revision)
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let call =
            begin(&self.server, Method::DeleteRange, &request, Some(&request.get_ref().key))?;
        let mut result = self.server.delete_range(call.id(), request.into_inner()).await;
        let revision = self.fill(&mut result, |response| &mut response.header);
        call.respond(result, revision)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let key = request.get_ref().compare.first().map(|compare| compare.key.clone());
        let call = begin(&self.server, Method::Txn, &request, key.as_deref())?;
        let mut result = self.server.txn(call.id(), request.into_inner()).await;
        let revision = self.fill(&mut result, |response| &mut response.header);
        call.respond(result, revision)
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let call = begin(&self.server, Method::Compact, &request, None)?;
        let mut result = self.server.compact(call.id(), request.into_inner()).await;
        let revision = self.fill(&mut result, |response| &mut response.header);
        call.respond(result, revision)
    }

    type RangeStreamStream = tokio_stream::Empty<Result<RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        // A method of 3.7; etcd 3.5 does not know it, and neither does the table of `front`.
        Err(Status::unimplemented("unknown method RangeStream for service etcdserverpb.KV"))
    }
}
