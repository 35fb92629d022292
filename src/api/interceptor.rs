//! The steps before and after every RPC's handler (etcd: `newUnaryInterceptor`).
//!
//! [`begin`] mints the request's id, which is also the id of its trace and of its proposal, opens
//! the `rpc` stage, and refuses what this member cannot serve now. [`Call::finish`] turns the
//! result into a response or a status and closes the stage. A call that is dropped before it is
//! finished was cancelled by its client, or its time is over, and its record says so.

use std::time::Instant;

use prost::Message;
use tonic::{Request, Response, Status, metadata::MetadataMap};

pub use super::method::Method;
use super::{
    answers, calls, edge,
    origin::Origin,
    slow_calls,
    status::{plain_status, status},
};
use crate::{
    clock,
    server::{Error, Server, dropped},
    set, stage,
    trace::{self, Reason},
};

/// An RPC, from its decoded request to its response.
pub struct Call {
    span: trace::Span,
    /// Whether it has not ended yet.
    is_open: bool,
    /// The gRPC code with which it has ended; until then that of a call whose client has gone.
    code: u8,
    /// When it began.
    since: Instant,
    /// The bytes of its answer, and of its request.
    bytes: (usize, usize),
    id: u64,
    method: Method,
    origin: Origin,
}

/// Opens a call: mints its id, opens its stage, and runs the checks that need no handler.
pub fn begin<Q: Message>(
    server: &Server,
    method: Method,
    request: &Request<Q>,
    key: Option<&[u8]>,
) -> Result<Call, Status> {
    begin_for(server, method, request, key, method.is_served_by_learners())
}

/// As [`begin`]; `by_learners` says whether a learner may serve this request.
pub fn begin_for<Q: Message>(
    server: &Server,
    method: Method,
    request: &Request<Q>,
    key: Option<&[u8]>,
    by_learners: bool,
) -> Result<Call, Status> {
    calls::client(request.metadata(), method.is_stream());
    let origin = Origin::of(request.metadata());
    let bytes = request.get_ref().encoded_len();
    let call = Call::open(server, method, bytes, key.unwrap_or_default(), origin);
    if let Some(key) = key {
        trace::key(call.id, key);
    }
    if let Err(error) = check(server, request.metadata(), by_learners) {
        return call.finish::<()>(Err(error), 0, 0).map(|()| unreachable!("an error stays one"));
    }
    Ok(call)
}

impl Call {
    /// Mints the id and opens the stage. The request's key, and whether its caller wants a trace,
    /// decide whether it is kept.
    pub fn open(
        server: &Server,
        method: Method,
        bytes_in: usize,
        key: &[u8],
        origin: Origin,
    ) -> Self {
        calls::begun(method, bytes_in);
        let forced = origin.is_sampled();
        let id = server.ids.of_client(method as u64, key, forced);
        let mut span = stage!(Rpc, id, method = method as u8, bytes_in = bytes_in);
        // Until the call is finished, a drop means that its client disconnected.
        span.flag(trace::FLAG_CANCELLED);
        let mut span = span.begun();
        set!(span, Rpc, code = trace::CANCELED);
        answers::enter(id, span.began());
        if forced && trace::kept(id) {
            edge::ask_for_ages();
        }
        origin.note(id);
        let (since, bytes) = (clock::now(), (0, bytes_in));
        Self { span, is_open: true, code: calls::GONE, since, bytes, id, method, origin }
    }

    /// The id of the request, under which its steps are recorded on all members.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The RPC that it calls.
    pub(super) fn method(&self) -> Method {
        self.method
    }

    /// Ends the call with a message, whose header has the revision. If the client sent a
    /// `traceparent`, the response says where in its trace the call is; a refusal does too.
    pub fn respond<A: Message>(
        self,
        result: Result<A, Error>,
        revision: i64,
    ) -> Result<Response<A>, Status> {
        let bytes = result.as_ref().map_or(0, Message::encoded_len);
        self.respond_with(result, bytes, revision)
    }

    /// [`Call::respond`] for a message whose sent size is known.
    pub fn respond_with<A>(
        self,
        result: Result<A, Error>,
        bytes: usize,
        revision: i64,
    ) -> Result<Response<A>, Status> {
        if result.is_ok() {
            answers::small(bytes);
            calls::sent(self.method, bytes);
        }
        let trace =
            self.origin.context.map(|caller| caller.response(self.id, trace::kept(self.id)));
        let mut result = self.finish(result, bytes, revision).map(Response::new);
        if let Some(trace) = trace.and_then(|trace| trace.parse().ok()) {
            let metadata = match &mut result {
                Ok(response) => response.metadata_mut(),
                Err(status) => status.metadata_mut(),
            };
            metadata.insert("traceresponse", trace);
        }
        result
    }

    /// Ends the call with a status of gRPC rather than etcd.
    pub fn refuse(mut self, status: Status, reason: Reason) -> Status {
        self.span.fail(reason);
        self.end(u8::try_from(status.code() as i32).unwrap_or(u8::MAX));
        status
    }

    /// Ends the RPC with this result; an error becomes a status.
    pub fn finish<A>(
        mut self,
        result: Result<A, Error>,
        bytes: usize,
        revision: i64,
    ) -> Result<A, Status> {
        set!(self.span, Rpc, bytes_out = bytes, revision = revision);
        self.bytes.0 = bytes;
        self.end(0);
        result.map_err(|error| {
            self.span.fail(error.reason());
            let status = if self.method.is_plain() { plain_status(error) } else { status(error) };
            self.end(u8::try_from(status.code() as i32).unwrap_or(u8::MAX));
            status
        })
    }

    /// Records the end of `rpc`, with this gRPC code.
    fn end(&mut self, code: u8) {
        self.is_open = false;
        self.code = code;
        self.span.clear_flag(trace::FLAG_CANCELLED);
        self.span.result(code);
        set!(self.span, Rpc, code = code);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.is_open && dropped::is_expiring() {
            self.end(trace::DEADLINE_EXCEEDED);
        }
        let took = self.since.elapsed();
        calls::ended(self.method, self.code, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if !self.method.is_stream() {
            slow_calls::note(self.id, self.method, took, self.bytes);
        }
        let began = self.span.began();
        let ended = self.span.close();
        let has_failed = !self.is_open && self.code != 0;
        let end = (has_failed, !self.method.is_stream());
        let is_wanted = answers::leave(self.id, ended, end);
        let has_ended_well = !self.is_open && !has_failed;
        if is_wanted || !has_ended_well || trace::is_slow(ended.since(began)) {
            self.origin.note_late(self.id);
        }
    }
}

/// Refuses to open a stream, and records the call.
pub fn refuse_stream(server: &Server, method: Method, origin: Origin, error: Error) -> Status {
    let call = Call::open(server, method, 0, b"", origin);
    let status = call.finish::<()>(Err(error), 0, 0).expect_err("an error stays one");
    calls::stream_refused(method, u8::try_from(status.code() as i32).unwrap_or(u8::MAX));
    status
}

// ANCHOR: check
/// A learner serves few requests, and a member without a leader refuses those that require one
/// (clientv3.WithRequireLeader).
pub fn check(server: &Server, metadata: &MetadataMap, by_learners: bool) -> Result<(), Error> {
    if !by_learners && server.is_learner() {
        Err(Error::NotSupportedForLearner)
    } else if wants_leader(metadata) && server.status.leader() == 0 {
        Err(Error::NoLeader)
    } else {
        Ok(())
    }
}
// ANCHOR_END: check

/// Whether the caller requires a member that knows a leader.
pub(super) fn wants_leader(metadata: &MetadataMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value == "true")
}
