//! Where requests come from: the traces in which they are, and the connections on which they came.
//!
//! A client that sends a `traceparent` names its own trace, in which several requests may be. Any
//! other request is exported in a trace of its own, whose id is derived from the request's.

use std::collections::HashMap;

use crate::{
    fields,
    story::{Event, Recording},
    trace::{
        context::{Context, own_trace},
        ends::Ends,
        stage::Stage,
    },
};

/// The trace context in an `rpc.context`.
pub fn context(event: &Event) -> Option<Context> {
    if event.stage != Stage::RpcContext {
        return None;
    }
    let [high, low, span, sampled] =
        fields!(event, RpcContext: trace_high, trace_low, parent, sampled);
    let trace = u128::from(high) << 64 | u128::from(low);
    (trace != 0 && span != 0).then_some(Context { trace, span, is_sampled: sampled == 1 })
}

/// The trace context that each caller sent, by request.
pub fn contexts(recording: &Recording) -> HashMap<u64, Context> {
    recording.events.iter().filter_map(|event| Some((event.id, context(event)?))).collect()
}

/// The ends of the connection in an `rpc.connection`.
pub fn connection(event: &Event) -> Option<Ends> {
    if event.stage != Stage::RpcConnection {
        return None;
    }
    let from = fields!(event, RpcConnection: from_high, from_low, from_port);
    let to = fields!(event, RpcConnection: to_high, to_low, to_port);
    Ends::of_numbers([from, to])
}

/// The ends of the connection of each request, as far as they were captured.
pub fn connections(recording: &Recording) -> HashMap<u64, Ends> {
    recording.events.iter().filter_map(|event| Some((event.id, connection(event)?))).collect()
}

/// The requests in this trace, in the order in which their records arrived: those whose callers
/// named it, or the one that is exported in it.
pub fn requests_in(recording: &Recording, trace: u128) -> Vec<u64> {
    let contexts = recording.events.iter().filter_map(|event| Some((event.id, context(event)?)));
    let mut called: Vec<u64> = Vec::new();
    for (id, _) in contexts.filter(|(_, context)| context.trace == trace) {
        if !called.contains(&id) {
            called.push(id);
        }
    }
    if called.is_empty() {
        let id = u64::try_from(trace >> 64).unwrap_or(0);
        let is_own = |event: &&Event| {
            let member = recording.members.get(usize::from(event.member));
            id != 0
                && event.id == id
                && member.is_some_and(|member| own_trace(id, member.cluster_id) == trace)
        };
        called.extend(recording.events.iter().find(is_own).map(|event| event.id));
    }
    called
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{BootInfo, MemberInfo};

    #[test]
    fn a_trace_leads_to_the_requests_of_its_caller_and_a_derived_one_to_its_own() {
        let member = MemberInfo {
            member_id: 1,
            cluster_id: 9,
            name: "etcd-01".to_owned(),
            version: "0.1.0".to_owned(),
            boots: vec![BootInfo { boot: 1, wall_ns: 0 }],
            members: Vec::new(),
        };
        let caller = [("trace.high", 7), ("trace.low", 8), ("parent", 1)];
        let event = |stage, id, fields: &[(&str, u64)]| {
            Event { id, ..Event::mark(0, stage, id) }.with(fields)
        };
        let events = vec![
            event(Stage::Rpc, 3, &[]),
            event(Stage::RpcContext, 3, &caller),
            event(Stage::RpcContext, 4, &caller),
            event(Stage::Rpc, 5, &[]),
        ];
        let recording = Recording { members: vec![member], events, dropped: vec![0] };
        assert_eq!([3, 4], requests_in(&recording, 7 << 64 | 8)[..]);
        assert_eq!([5], requests_in(&recording, own_trace(5, 9))[..]);
        assert_eq!([0; 0], requests_in(&recording, own_trace(5, 8))[..]);
        assert_eq!([0; 0], requests_in(&recording, 7 << 64 | 9)[..]);
    }
}
