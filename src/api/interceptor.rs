//! The steps before and after every RPC's handler (etcd: `newUnaryInterceptor`).
//!
//! [`begin`] mints the request's id, which is also the id of its trace and of its proposal, opens
//! the `rpc` stage, and refuses what this member cannot serve now. [`Call::finish`] turns the
//! result into a response or a status and closes the stage. A call that is dropped before it is
//! finished was cancelled by its client, or its time is over, and its record says so.

use prost::Message;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    answers, edge,
    origin::Origin,
    status::{plain_status, status},
};
use crate::{
    server::{Error, Server, dropped},
    set, stage,
    trace::{self, Reason},
};

/// An RPC, from its decoded request to its response.
pub struct Call {
    span: trace::Span,
    /// Whether it has not ended yet.
    is_open: bool,
    /// Whether it has ended with an error.
    has_failed: bool,
    id: u64,
    method: Method,
    origin: Origin,
}

/// The RPCs, with the numbers that records carry: positions in [`trace::METHODS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Method {
    Range = 1,
    Put = 2,
    DeleteRange = 3,
    Txn = 4,
    Compact = 5,
    Status = 6,
    Alarm = 7,
    MemberList = 8,
    HealthCheck = 9,
    HttpHealth = 10,
    HttpVersion = 11,
    HealthWatch = 14,
    Watch = 15,
    LeaseGrant = 16,
    LeaseRevoke = 17,
    LeaseKeepAlive = 18,
    LeaseTimeToLive = 19,
    LeaseLeases = 20,
    HashKv = 21,
    Hash = 22,
    Lock = 23,
    Unlock = 24,
    Campaign = 25,
    Proclaim = 26,
    Leader = 27,
    Observe = 28,
    Resign = 29,
    HttpLivez = 30,
    HttpReadyz = 31,
    Defragment = 38,
    Snapshot = 39,
    MoveLeader = 40,
    Downgrade = 41,
    MemberAdd = 42,
    MemberRemove = 43,
    MemberUpdate = 44,
    MemberPromote = 45,
    WatchStream = 63,
    LeaseKeepAliveStream = 64,
    HttpLivezSerializableRead = 65,
    HttpReadyzDataCorruption = 66,
    HttpReadyzSerializableRead = 67,
    HttpReadyzLinearizableRead = 68,
    HttpReadyzNonLearner = 69,
    V2Get = 73,
    V2Put = 74,
    V2Post = 75,
    V2Delete = 76,
    V2Watch = 77,
    V2Members = 78,
    V2MemberAdd = 79,
    V2MemberUpdate = 80,
    V2MemberRemove = 81,
    V2MembersLeader = 82,
    V2Machines = 83,
    V2Stats = 84,
    V2Auth = 85,
}

impl Method {
    /// Whether its answers are a stream, which ends later than its rpc or never.
    fn is_stream(self) -> bool {
        use Method::{
            HealthWatch, LeaseKeepAlive, LeaseKeepAliveStream, Observe, Snapshot, V2Watch, Watch,
            WatchStream,
        };
        let is_message = matches!(self, Watch | LeaseKeepAlive);
        let is_stream = matches!(self, WatchStream | LeaseKeepAliveStream | Observe | HealthWatch);
        is_message || is_stream || matches!(self, Snapshot | V2Watch)
    }

    /// Whether a learner serves it, whose state may be far behind. It serves serializable ranges,
    /// too (etcd: isRPCSupportedForLearner).
    fn is_served_by_learners(self) -> bool {
        matches!(self, Method::Status | Method::Snapshot)
    }

    /// Whether it belongs to Lock or Election, whose errors have no codes.
    fn is_plain(self) -> bool {
        use Method::{Campaign, Leader, Lock, Observe, Proclaim, Resign, Unlock};
        matches!(self, Lock | Unlock | Campaign | Proclaim | Leader | Observe | Resign)
    }
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
        Self { span, is_open: true, has_failed: false, id, method, origin }
    }

    /// The id of the request, under which its steps are recorded on all members.
    pub fn id(&self) -> u64 {
        self.id
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
        self.has_failed = code != 0;
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
        let began = self.span.began();
        let ended = self.span.close();
        let end = (self.has_failed, !self.method.is_stream());
        let is_wanted = answers::leave(self.id, ended, end);
        let has_ended_well = !self.is_open && !self.has_failed;
        if is_wanted || !has_ended_well || trace::is_slow(ended.since(began)) {
            self.origin.note_late(self.id);
        }
    }
}

/// Refuses to open a stream, and records the call.
pub fn refuse_stream(server: &Server, method: Method, origin: Origin, error: Error) -> Status {
    let call = Call::open(server, method, 0, b"", origin);
    call.finish::<()>(Err(error), 0, 0).expect_err("an error stays one")
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
