//! `/v2/stats`: what this member counts (etcd: `statsHandler`, `v2stats`).
//!
//! Left out: the rates of messages and bytes in the last second, which etcd leaves out, too, while
//! nothing is sent. `/metrics` counts both.

use std::time::Duration;

use axum::{
    http::{Method as HttpMethod, StatusCode},
    response::Response,
};

use super::{
    finish, json, message, not_allowed, open,
    time::{duration, rfc3339},
};
use crate::{
    api::interceptor::Method,
    clock,
    server::{
        Server,
        v2store::{Kind, Stats},
    },
};

/// What answers one of the paths; `None` if only the leader can.
type Counts = fn(&Server) -> Option<Vec<u8>>;

/// Answers a GET of one of the paths.
pub(super) fn serve(server: &Server, method: &HttpMethod, counts: Counts) -> Response {
    if method != HttpMethod::GET {
        return not_allowed("GET");
    }
    let call = open(server, Method::V2Stats, b"");
    let response = match counts(server) {
        Some(body) => super::json(StatusCode::OK, body),
        None => message(StatusCode::FORBIDDEN, "not current leader"),
    };
    finish(call, response)
}

/// This member, and whom it follows.
#[allow(clippy::unnecessary_wraps, reason = "one of three of the same form")]
pub(super) fn of_member(server: &Server) -> Option<Vec<u8>> {
    let own = server.member_id;
    let name = server.members.get(own).map(|member| member.name).unwrap_or_default();
    let leads = server.status.leader() == own;
    let state = if leads { "StateLeader" } else { "StateFollower" };
    let since = server.status.elected_at().map_or(Duration::ZERO, |elected| clock::now() - elected);
    let (sent, received) = server.proposer.peers.traffic.appends();
    let nanos = |time: Duration| rfc3339(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    let mut body = b"{\"name\":".to_vec();
    json::string(&mut body, name.as_bytes());
    let rest = format!(
        ",\"id\":\"{own:x}\",\"state\":\"{state}\",\"startTime\":\"{}\",\"leaderInfo\":\
         {{\"leader\":\"{:x}\",\"uptime\":\"{}\",\"startTime\":\"{}\"}},\
         \"recvAppendRequestCnt\":{received},\"sendAppendRequestCnt\":{sent}}}",
        nanos(server.v2.started),
        server.status.leader(),
        duration(since),
        nanos(clock::wall().saturating_sub(since)),
    );
    body.extend(rest.into_bytes());
    Some(body)
}

/// The followers, if this member leads.
pub(super) fn of_leader(server: &Server) -> Option<Vec<u8>> {
    let own = server.member_id;
    if server.status.leader() != own {
        return None;
    }
    let peers = server.proposer.peers.traffic.peers();
    let followers = peers.iter().map(|(id, latency)| {
        let (average, deviation) = latency.average_and_deviation();
        // Before the first, etcd shows the greatest number that its field can have.
        let minimum =
            if latency.succeeded == 0 { 9_223_372_036_854_776_000.0 } else { latency.minimum };
        let maximum = latency.maximum;
        format!(
            "\"{id:x}\":{{\"latency\":{{\"current\":{},\"average\":{average},\
             \"standardDeviation\":{deviation},\"minimum\":{minimum},\"maximum\":{maximum}}},\
             \"counts\":{{\"fail\":{},\"success\":{}}}}}",
            latency.current, latency.failed, latency.succeeded
        )
    });
    let followers = followers.collect::<Vec<_>>().join(",");
    Some(format!("{{\"leader\":\"{own:x}\",\"followers\":{{{followers}}}}}").into_bytes())
}

/// The v2 store.
#[allow(clippy::unnecessary_wraps, reason = "one of three of the same form")]
pub(super) fn of_store(server: &Server) -> Option<Vec<u8>> {
    let Stats { reads: [read, not_read], writes, watchers } = server.v2.store.stats();
    let mut fields = vec![("getsSuccess", read), ("getsFail", not_read)];
    for (kind, names) in [
        (Kind::Set, ["setsSuccess", "setsFail"]),
        (Kind::Delete, ["deleteSuccess", "deleteFail"]),
        (Kind::Update, ["updateSuccess", "updateFail"]),
        (Kind::Create, ["createSuccess", "createFail"]),
        (Kind::CompareAndSwap, ["compareAndSwapSuccess", "compareAndSwapFail"]),
        (Kind::CompareAndDelete, ["compareAndDeleteSuccess", "compareAndDeleteFail"]),
    ] {
        fields.push((names[0], writes.succeeded[kind as usize]));
        fields.push((names[1], writes.failed[kind as usize]));
    }
    fields.push(("expireCount", writes.expired));
    fields.push(("watchers", u64::try_from(watchers).unwrap_or(u64::MAX)));
    let fields = fields.iter().map(|(name, count)| format!("\"{name}\":{count}"));
    Some(format!("{{{}}}", fields.collect::<Vec<_>>().join(",")).into_bytes())
}
