use std::collections::HashMap;

use serde_json::Value as Json;

use super::*;
use crate::{story::recording, trace::FLAG_CANCELLED};

const HEAD: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]},{"id":"02","cluster":"09","name":"etcd-02","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000100000}]}]}
"#;
/// A put on etcd-02, which follows etcd-01; then a read on etcd-01 whose round sends a heartbeat.
const LINES: &str = r#"{"member":1,"boot":1,"stage":"rpc","kind":"begin","clock":1,"end":1,"at":1000000,"took":0,"thread":"grpc","id":"2000000000203","fields":{"method":"KV/Put"}}
{"member":1,"boot":1,"stage":"raft.propose","kind":"span","clock":3,"end":20,"at":1100000,"took":1700000,"thread":"grpc","id":"2000000000203","fields":{"bytes":20,"leader":"01"}}
{"member":1,"boot":1,"stage":"raft.send","kind":"span","clock":4,"end":5,"at":1200000,"took":50000,"thread":"peer","id":"2000000000203","link":"07","fields":{"peer":"01","type":"MsgProp"}}
{"member":0,"boot":1,"stage":"raft.receive","kind":"span","clock":10,"end":11,"at":1400000,"took":20000,"thread":"peer","id":"2000000000203","link":"07","fields":{"peer":"02","type":"MsgProp"}}
{"member":0,"boot":1,"stage":"raft.entry","kind":"mark","clock":12,"end":12,"at":1450000,"took":0,"thread":"raft","id":"2000000000203","fields":{"term":3,"index":42,"bytes":20}}
{"member":0,"boot":1,"stage":"raft.send","kind":"span","clock":14,"end":16,"at":1500000,"took":90000,"thread":"peer","link":"09","fields":{"peer":"02","type":"MsgApp","term":3,"index":41,"last":42}}
{"member":1,"boot":1,"stage":"raft.receive","kind":"span","clock":6,"end":7,"at":1600000,"took":10000,"thread":"peer","link":"09","fields":{"peer":"01","type":"MsgApp","term":3,"index":41,"last":42}}
{"member":1,"boot":1,"stage":"raft.entry","kind":"mark","clock":8,"end":8,"at":1650000,"took":0,"thread":"raft","id":"2000000000203","fields":{"term":3,"index":42,"bytes":20}}
{"member":1,"boot":1,"stage":"wal.fsync","kind":"span","clock":9,"end":10,"at":1660000,"took":300000,"thread":"wal","fields":{"first":42,"last":42,"synced.old":41,"synced.new":42}}
{"member":0,"boot":1,"stage":"wal.fsync","kind":"span","clock":19,"end":21,"at":1540000,"took":900000,"thread":"wal","fields":{"first":42,"last":42,"synced.old":41,"synced.new":42}}
{"member":0,"boot":1,"stage":"raft.commit","kind":"mark","clock":22,"end":22,"at":2450000,"took":0,"thread":"raft","fields":{"term":3,"commit.old":41,"commit.new":42,"completed_by":"02"}}
{"member":0,"boot":1,"stage":"apply.entry","kind":"span","clock":24,"end":27,"at":2500000,"took":30000,"thread":"apply","id":"2000000000203","fields":{"term":3,"index":42,"applied.old":41,"applied.new":42}}
{"member":0,"boot":1,"stage":"mvcc.write","kind":"span","clock":25,"end":26,"at":2501000,"took":20000,"thread":"apply","id":"2000000000203","key":{"text":"foo","length":3},"fields":{"revision.old":7,"revision.new":8,"operations":1}}
{"member":1,"boot":1,"stage":"apply.entry","kind":"span","clock":15,"end":18,"at":2600000,"took":30000,"thread":"apply","id":"2000000000203","fields":{"term":3,"index":42,"applied.old":41,"applied.new":42}}
{"member":1,"boot":1,"stage":"mvcc.write","kind":"span","clock":16,"end":17,"at":2601000,"took":20000,"thread":"apply","id":"2000000000203","key":{"text":"foo","length":3},"fields":{"revision.old":7,"revision.new":8,"operations":1}}
{"member":1,"boot":1,"stage":"rpc","kind":"span","clock":1,"end":21,"at":1000000,"took":2000000,"thread":"grpc","id":"2000000000203","key":{"text":"foo","length":3},"fields":{"method":"KV/Put","bytes_in":12,"bytes_out":30,"revision":8}}
{"member":1,"boot":1,"stage":"watch.send","kind":"mark","clock":23,"end":23,"at":3100000,"took":0,"thread":"grpc","id":"2000000000203","fields":{"watcher":1}}
{"member":1,"boot":1,"stage":"backend.commit","kind":"span","clock":40,"end":41,"at":9000000,"took":500000,"thread":"commit","fields":{"index.old":41,"index.new":42,"revision.old":7,"revision.new":8,"writes":2}}
{"member":0,"boot":1,"stage":"rpc","kind":"span","clock":30,"end":37,"at":4000000,"took":700000,"thread":"grpc","id":"1000000000301","code":14,"fields":{"method":"KV/Range","code":14}}
{"member":0,"boot":1,"stage":"read_index.wait","kind":"span","clock":31,"end":36,"at":4000000,"took":500000,"thread":"grpc","id":"1000000000301","fields":{"round":"1000000000500","place":1}}
{"member":0,"boot":1,"stage":"read_index.round","kind":"span","clock":32,"end":35,"at":4100000,"took":300000,"thread":"grpc","id":"1000000000500","fields":{"reads":1}}
{"member":0,"boot":1,"stage":"raft.send","kind":"span","clock":33,"end":34,"at":4150000,"took":1000,"thread":"peer","id":"1000000000500","link":"0c","fields":{"peer":"02","type":"MsgHeartbeat"}}
{"member":0,"boot":1,"stage":"wal.fsync","kind":"span","clock":50,"end":51,"at":9540000,"took":900000,"thread":"wal","fields":{"first":43,"last":43}}
{"member":0,"boot":1,"stage":"raft.role","kind":"mark","clock":52,"end":52,"at":9940000,"took":0,"thread":"raft","fields":{"role.new":"leader"}}
"#;
const CONTEXT: &str = r#"{"member":1,"boot":1,"stage":"rpc.context","kind":"mark","clock":2,"end":2,"at":1000100,"took":0,"thread":"grpc","id":"2000000000203","fields":{"trace.high":"0af7651916cd43dd","trace.low":"8448eb211c80319c","parent":"b7ad6b7169203331","sampled":true}}
"#;
/// From 10.1.2.80:40312 to [2001:db8::7]:2379.
const CONNECTION: &str = r#"{"member":1,"boot":1,"stage":"rpc.connection","kind":"mark","clock":2,"end":2,"at":1000100,"took":0,"thread":"grpc","id":"2000000000203","fields":{"from.high":"0000000000000000","from.low":"0000ffff0a010250","from.port":40312,"to.high":"20010db800000000","to.low":"0000000000000007","to.port":2379}}
"#;
const PUT: u64 = 0x0002_0000_0000_0203;
const CALLERS: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;

fn scene(extra: &str) -> Recording {
    recording::read(format!("{HEAD}{extra}{LINES}").as_bytes()).unwrap().recording
}

/// The part of the recording that one member's own exporter sees.
fn alone(recording: &Recording, member: u8) -> Recording {
    let mut own = recording.clone();
    own.members = vec![recording.members[usize::from(member)].clone()];
    own.events.retain(|event| event.member == member);
    own.events.iter_mut().for_each(|event| event.member = 0);
    own
}

fn exported(recording: &Recording, scope: Scope) -> Vec<Span> {
    let order = Order::of(recording);
    let exporter = Exporter::new(recording, &order, scope);
    let resources = exporter.export(&exporter.choose(|_| true));
    resources.into_iter().flat_map(|resource| resource.spans).collect()
}

fn named<'a>(spans: &'a [Span], name: &str, member: &str) -> Vec<&'a Span> {
    let own = ("etcd.member.id".to_owned(), Value::Text(format!("00000000000000{member}")));
    spans.iter().filter(|span| span.name == name && span.attributes.contains(&own)).collect()
}

fn one<'a>(spans: &'a [Span], name: &str, member: &str) -> &'a Span {
    let found = named(spans, name, member);
    assert_eq!(1, found.len(), "{name} of {member}");
    found[0]
}

#[test]
fn a_request_is_one_trace_and_its_steps_are_children_of_enclosing_steps() {
    let spans = exported(&scene(""), Scope::Cluster);
    let rpc = one(&spans, "etcdserverpb.KV/Put", "02");
    assert_eq!((0, 2, None), (rpc.parent, rpc.kind, rpc.failure.as_deref()));
    assert_eq!(PUT, u64::try_from(rpc.place.trace >> 64).unwrap(), "found by the request's id");
    let propose = one(&spans, "raft.propose", "02");
    let apply = one(&spans, "apply.entry", "02");
    let write = one(&spans, "mvcc.write", "02");
    let parents = [propose, apply, write].map(|span| span.parent);
    assert_eq!([rpc.place.span, propose.place.span, apply.place.span], parents);
    let there = one(&spans, "apply.entry", "01");
    let after = one(&spans, "watch.send", "02");
    assert_eq!([rpc.place.span; 2], [there, after].map(|span| span.parent));
    for span in [propose, apply, write, there, after] {
        assert_eq!(rpc.place.trace, span.place.trace, "{}", span.name);
    }
    // The clock of etcd-02 is 45 microseconds ahead, according to the messages in both directions.
    assert_eq!((1_001_055_000, 1_003_055_000), (rpc.start_ns, rpc.end_ns));
    let key = ("etcd.key".to_owned(), Value::Text("foo".to_owned()));
    assert!(write.attributes.contains(&key));
    let method = ("etcd.method".to_owned(), Value::Text("KV/Put".to_owned()));
    assert!(rpc.attributes.contains(&method));
    assert_eq!(Some("UNAVAILABLE"), one(&spans, "etcdserverpb.KV/Range", "01").failure.as_deref());
}

#[test]
fn a_step_that_serves_many_requests_has_a_trace_of_its_own_with_links_from_them() {
    let spans = exported(&scene(""), Scope::Cluster);
    let places: HashMap<SpanIds, &Span> = spans.iter().map(|span| (span.place, span)).collect();
    assert_eq!(spans.len(), places.len(), "a place is taken twice");
    let points = |from: &Span, why: &str| {
        let of = from.links.iter().filter(|link| link.why == why);
        let mut names: Vec<&str> = of.map(|link| places[&link.to].name.as_str()).collect();
        names.sort_unstable();
        names
    };
    let leaders = one(&spans, "raft.entry", "01");
    assert_eq!(["wal.fsync"].as_slice(), points(leaders, "batch"));
    assert_eq!(["raft.commit"].as_slice(), points(leaders, "commit"));
    assert_eq!(["raft.receive", "raft.send"].as_slice(), points(leaders, "message"));
    let followers = one(&spans, "raft.entry", "02");
    assert_eq!(["wal.fsync"].as_slice(), points(followers, "batch"));
    assert_eq!(["raft.receive"].as_slice(), points(followers, "message"));
    let propose = one(&spans, "raft.propose", "02");
    assert_eq!(["raft.send"].as_slice(), points(propose, "message"));
    let apply = one(&spans, "apply.entry", "02");
    assert_eq!(["backend.commit"].as_slice(), points(apply, "batch"));
    let wait = one(&spans, "read_index.wait", "01");
    assert_eq!(["read_index.round"].as_slice(), points(wait, "round"));
    let round = one(&spans, "read_index.round", "01");
    assert_eq!(["raft.send"].as_slice(), points(round, "message"));
    for receive in spans.iter().filter(|span| span.name == "raft.receive") {
        let sent = SpanIds { span: receive.parent, ..receive.place };
        assert_eq!("raft.send", places[&sent].name, "a message's two ends are one trace");
        assert!(receive.is_parent_remote);
    }
    // The second fsync serves no known request; a change of leader is exported all the same.
    assert_eq!(1, named(&spans, "wal.fsync", "01").len());
    assert_eq!(1, named(&spans, "raft.role", "01").len());
}

/// Goal: exported one by one, the members' spans are those of the joint export, with the same ids.
/// A parent on another member becomes a link: nobody knows whether that member exports.
#[test]
fn separate_exports_of_members_equal_the_joint_one() {
    let whole = scene("");
    let together = exported(&whole, Scope::Cluster);
    let apart: Vec<Span> =
        (0..2).flat_map(|member| exported(&alone(&whole, member), Scope::Member)).collect();
    let of = |spans: &[Span]| -> Vec<(SpanIds, String)> {
        let mut all: Vec<_> = spans.iter().map(|span| (span.place, span.name.clone())).collect();
        all.sort_by_key(|(place, ..)| (place.trace, place.span));
        all
    };
    assert_eq!(of(&together), of(&apart));
    let known: HashMap<SpanIds, &Span> = together.iter().map(|span| (span.place, span)).collect();
    let mut links = 0;
    for span in &apart {
        let parent = known[&span.place].parent;
        let above = SpanIds { span: parent, ..span.place };
        let is_linked = span.links.iter().any(|link| link.to == above);
        assert_eq!(parent, if is_linked { parent } else { span.parent }, "{}", span.name);
        assert!(span.parent == 0 || !is_linked, "{}", span.name);
        links += usize::from(is_linked);
    }
    assert!(4 <= links, "steps on the other member, and receives");
}

/// Goal: no span names a parent that is not exported. Method: a recording in which rpcs have begun
/// and not ended, sends were not captured, rounds are unknown, and no read points to its round.
#[test]
fn every_parent_of_a_recording_is_in_it() {
    let stages = [Stage::Rpc, Stage::RaftSend, Stage::ReadIndexRound, Stage::RaftPropose];
    for gone in stages.into_iter().chain([Stage::ReadIndexWait]) {
        let mut recording = scene("");
        let rounds = recording.events.iter().filter(|event| event.stage == Stage::ReadIndexRound);
        let round = rounds.map(|event| event.id).next().expect("it has a round");
        recording.events.push(Event { id: round, ..Event::mark(0, Stage::RaftInbox, 900) });
        recording.events.retain(|event| event.stage != gone || event.kind == Kind::Begin);
        let spans = exported(&recording, Scope::Cluster);
        let places: Vec<SpanIds> = spans.iter().map(|span| span.place).collect();
        for span in &spans {
            let parent = SpanIds { span: span.parent, ..span.place };
            assert!(span.parent == 0 || places.contains(&parent), "{} of {gone:?}", span.name);
        }
    }
}

/// Goal: a caller that does not record its trace gets no spans; other requests do.
#[test]
fn the_request_of_an_unsampled_caller_is_not_exported() {
    let whole = scene(&CONTEXT.replace("\"sampled\":true", "\"sampled\":false"));
    let spans = exported(&whole, Scope::Cluster);
    assert!(named(&spans, "etcdserverpb.KV/Put", "02").is_empty());
    let put = ("etcd.request.id".to_owned(), Value::Text(format!("{PUT:016x}")));
    assert!(spans.iter().all(|span| !span.attributes.contains(&put)));
    assert!(spans.iter().all(|span| span.place.trace != CALLERS));
    assert_eq!(1, named(&spans, "etcdserverpb.KV/Range", "01").len());
    assert!(exported(&alone(&whole, 1), Scope::Member).iter().all(|span| span.kind != 2));
}

/// Goal: HTTP has the attributes of the conventions for HTTP, and is an error from 500 on; a failed
/// step says so in `error.type`.
#[test]
fn http_and_failed_steps_follow_the_conventions() {
    let rpc = |id: u64, code: u8, flags: u8| {
        let method = crate::trace::METHODS.iter().position(|name| *name == "GET /health").unwrap();
        let event = Event::mark(0, Stage::Rpc, id).with(&[("method", method as u64)]);
        Event { id, kind: Kind::Span, result: code, flags, ..event }
    };
    let reason = Some(crate::trace::Reason::LeaseNotFound);
    let step = Event { id: 4, flags: FLAG_ERROR, reason, ..Event::mark(0, Stage::MvccWrite, 9) };
    let mut recording = scene("");
    recording.events = vec![rpc(1, 0, 0), rpc(2, 14, FLAG_ERROR), rpc(3, 1, FLAG_CANCELLED), step];
    let spans = exported(&recording, Scope::Cluster);
    let of = |span: &Span, name: &str| {
        let found = span.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    let [well, ill, gone, failed] = &spans[..] else { panic!("{spans:?}") };
    for (span, status) in [(well, Some(200)), (ill, Some(503)), (gone, None)] {
        assert_eq!(("GET /health", 2), (span.name.as_str(), span.kind));
        assert_eq!(text("GET"), of(span, "http.request.method"));
        assert_eq!(
            [text("/health"), text("/health")],
            [of(span, "http.route"), of(span, "url.path")]
        );
        assert_eq!(text("http"), of(span, "url.scheme"));
        assert_eq!(status.map(Value::Number), of(span, "http.response.status_code"));
        assert_eq!(None, of(span, "rpc.method"));
        assert_eq!(status == Some(503), span.failure.is_some());
    }
    assert_eq!([None, text("503")], [of(well, "error.type"), of(ill, "error.type")]);
    assert_eq!(text("requested lease not found"), of(failed, "error.type"));
    assert_eq!(Some("requested lease not found"), failed.failure.as_deref());
    assert_eq!(text("requested lease not found"), of(failed, "glass.reason"));
}

/// Goal: the reason is there even if the client alone is to blame, and a step without a reason has
/// the name of its code.
#[test]
fn a_failure_names_its_reason_or_its_code() {
    let step = |stage, id, result| Event {
        id,
        result,
        flags: FLAG_ERROR,
        kind: Kind::Span,
        ..Event::mark(0, stage, 9)
    };
    let mut recording = scene("");
    let put = step(Stage::Rpc, 4, 5).with(&[("method", 2)]);
    let reason = Some(crate::trace::Reason::LeaseNotFound);
    recording.events = vec![Event { reason, ..put }, step(Stage::RaftPropose, 5, 4)];
    let spans = exported(&recording, Scope::Cluster);
    let [put, late] = &spans[..] else { panic!("{spans:?}") };
    let told = ("glass.reason".to_owned(), Value::Text("requested lease not found".to_owned()));
    assert!(put.attributes.contains(&told) && put.failure.is_none(), "{put:?}");
    let error = ("error.type".to_owned(), Value::Text("DEADLINE_EXCEEDED".to_owned()));
    assert!(late.attributes.contains(&error), "{late:?}");
    assert_eq!(Some("DEADLINE_EXCEEDED"), late.failure.as_deref());
}

/// Goal: an rpc names the ends of its connection, in both its spans, and only an rpc does; the
/// record of the connection is no span of its own.
#[test]
fn an_rpc_names_the_ends_of_its_connection() {
    let whole = scene(&format!("{CONTEXT}{CONNECTION}"));
    let of_put = |spans: Vec<Span>| -> Vec<Span> {
        assert!(spans.iter().all(|span| span.name != "rpc.connection"));
        let has_one = |span: &Span| {
            span.attributes.iter().any(|(name, _)| CONNECTION_ATTRIBUTES.contains(&name.as_str()))
        };
        spans.into_iter().filter(has_one).collect()
    };
    let expected = [
        ("server.address", Value::Text("2001:db8::7".to_owned())),
        ("server.port", Value::Number(2379)),
        ("network.peer.address", Value::Text("10.1.2.80".to_owned())),
        ("network.peer.port", Value::Number(40312)),
    ];
    let named = of_put(exported(&whole, Scope::Cluster));
    let both = of_put(exported(&alone(&whole, 1), Scope::Member));
    assert_eq!((1, 2), (named.len(), both.len()));
    for span in named.iter().chain(&both) {
        assert_eq!("etcdserverpb.KV/Put", span.name);
        for (name, value) in &expected {
            assert!(span.attributes.contains(&((*name).to_owned(), value.clone())), "{span:?}");
        }
        assert!(span.attributes.iter().all(|(name, _)| name != "client.address"), "{span:?}");
    }
}

/// Goal: the grant that a lock call makes for itself leads back to the call.
#[test]
fn a_session_s_grant_has_a_link_to_the_call_that_needs_it() {
    let mut recording = scene("");
    let span = |stage, id, clock| Event { id, kind: Kind::Span, ..Event::mark(0, stage, clock) };
    recording.events = vec![
        span(Stage::RaftPropose, 7, 2),
        span(Stage::SessionGrant, 6, 1).with(&[("request", 7)]),
        span(Stage::Rpc, 6, 0),
    ];
    let spans = exported(&recording, Scope::Cluster);
    let grant = one(&spans, "raft.propose", "01");
    let session = one(&spans, "session.grant", "01");
    assert_eq!(vec![Link { to: session.place, why: "request" }], grant.links);
}

/// Goal: no child begins before its parent. Method: the request that a lock call makes for itself
/// is checked and admitted before its first step, which is the proposal.
#[test]
fn what_precedes_the_first_step_of_a_request_is_not_its_child() {
    let mut recording = scene("");
    let span = |stage, clock: u64, end: u64| {
        let times = Event {
            at_ns: 1000 * clock,
            took_ns: 1000 * (end - clock),
            ..Event::mark(0, stage, clock)
        };
        Event { id: 7, kind: Kind::Span, clock_end: end, ..times }
    };
    recording.events = vec![
        span(Stage::QuotaCheck, 2, 3),
        span(Stage::Admit, 4, 5),
        span(Stage::AuthAuthenticate, 6, 7),
        span(Stage::RaftPropose, 8, 20),
        span(Stage::ApplyEntry, 10, 12),
    ];
    for scope in [Scope::Cluster, Scope::Member] {
        let spans = exported(&recording, scope);
        let propose = one(&spans, "raft.propose", "01");
        for name in ["quota.check", "admit", "auth.authenticate"] {
            let before = one(&spans, name, "01");
            assert_eq!((0, propose.place.trace), (before.parent, before.place.trace), "{name}");
        }
        assert_eq!(propose.place.span, one(&spans, "apply.entry", "01").parent);
    }
}

#[test]
fn the_callers_trace_is_the_requests_and_alone_a_member_links_the_two() {
    let whole = scene(CONTEXT);
    let merged = exported(&whole, Scope::Cluster);
    let rpc = one(&merged, "etcdserverpb.KV/Put", "02");
    assert_eq!(
        (CALLERS, 0xb7ad_6b71_6920_3331, true),
        (rpc.place.trace, rpc.parent, rpc.is_parent_remote)
    );
    for member in ["01", "02"] {
        assert_eq!(CALLERS, one(&merged, "apply.entry", member).place.trace);
    }
    assert!(merged.iter().all(|span| span.name != "rpc.context"));

    let asked = exported(&alone(&whole, 1), Scope::Member);
    let other = exported(&alone(&whole, 0), Scope::Member);
    let rpcs = named(&asked, "etcdserverpb.KV/Put", "02");
    let [ours, theirs] = [rpcs[1], rpcs[0]];
    assert_eq!((2, CALLERS), (rpcs.len(), theirs.place.trace));
    let link = |to: &Span| vec![Link { to: to.place, why: "request" }];
    assert_eq!((link(ours), link(theirs)), (theirs.links.clone(), ours.links.clone()));
    assert_eq!(CALLERS, one(&asked, "apply.entry", "02").place.trace);
    let apply = one(&other, "apply.entry", "01");
    assert_eq!((ours.place.trace, 0), (apply.place.trace, apply.parent));
    assert!(apply.links.contains(&Link { to: ours.place, why: "request" }));
}

#[test]
fn a_line_of_json_follows_the_rules_of_otlp() {
    let mut out = Vec::new();
    let counts = json::write(&mut out, &scene("")).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((2, 2), (counts.members, lines.len()));
    let resource = &lines[1]["resourceSpans"][0];
    let service = &resource["resource"]["attributes"][0];
    assert_eq!(
        r#"{"key":"service.name","value":{"stringValue":"glass-etcd"}}"#,
        service.to_string()
    );
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    let rpc = spans.iter().find(|span| span["name"] == "etcdserverpb.KV/Put").unwrap();
    assert_eq!(
        (32, 16),
        (rpc["traceId"].as_str().unwrap().len(), rpc["spanId"].as_str().unwrap().len())
    );
    assert_eq!(
        ("1001055000", 2),
        (rpc["startTimeUnixNano"].as_str().unwrap(), rpc["kind"].as_i64().unwrap())
    );
    assert!(rpc.get("parentSpanId").is_none() && rpc.get("status").is_none());
    let number = rpc["attributes"].as_array().unwrap().iter().find(|a| a["key"] == "etcd.bytes_in");
    assert_eq!("12", number.unwrap()["value"]["intValue"]);
    let failed = &lines[0]["resourceSpans"][0]["scopeSpans"][0]["spans"];
    let failed =
        failed.as_array().unwrap().iter().find(|span| span["name"] == "etcdserverpb.KV/Range");
    assert_eq!(r#"{"code":2,"message":"UNAVAILABLE"}"#, failed.unwrap()["status"].to_string());
}

#[test]
fn portions_are_bounded_and_nothing_is_lost_between_them() {
    let spans = exported(&scene(""), Scope::Cluster);
    let many: Vec<Span> = spans.iter().cycle().take(1300).cloned().collect();
    let resource = Resource { attributes: Vec::new(), spans: many.clone() };
    let portions = chunks(vec![resource]);
    let sizes: Vec<usize> = portions.iter().map(|portion| portion.spans.len()).collect();
    assert_eq!(vec![512, 512, 276], sizes);
    let back: Vec<Span> = portions.into_iter().flat_map(|portion| portion.spans).collect();
    assert_eq!(many, back);
}
