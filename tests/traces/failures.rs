//! Failures, as each reader sees them: the client in gRPC's status, and the reader of a trace in
//! `show`, in its JSON and in OpenTelemetry, at the step that failed and at the rpc.
//!
//! A [`Failing`] is a call and what must come of it; [`ask`] makes the call, and [`untold`] looks
//! for what its trace does not say. [`each_rpc`](super::each_rpc) uses the second for its table.
//! The folder has the failures that need a state: a backend without room, a cluster without a
//! quorum, a member whose apply is stuck.

use std::{collections::HashMap, fs};

use glass_etcd::{
    story::{Event, Recording, query::callers, recording},
    trace::{Kind, Reason, Stage},
};
use prost::Message;
use serde_json::Value;

use super::{Scene, commands::glass, told::place_of};
use crate::raw::{Answer, Call, Raw};

mod full;
mod no_quorum;
mod stuck;

pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const PUT: &str = "/etcdserverpb.KV/Put";
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(super) const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
pub(super) const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub(super) const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub(super) const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";

/// gRPC's codes for which a server's span is an error.
const OF_THE_SERVER: [u32; 6] = [2, 4, 12, 13, 14, 15];
/// Names of the codes without a reason, in `show` and in OpenTelemetry.
const CODES: [(u32, &str, &str); 2] =
    [(1, "Canceled", "CANCELLED"), (4, "DeadlineExceeded", "DEADLINE_EXCEEDED")];

/// A call that fails.
#[derive(Clone)]
struct Failing {
    path: &'static str,
    body: Vec<u8>,
    /// `grpc-timeout`.
    timeout: Option<&'static str>,
    code: u32,
    /// etcd's text, which the client gets.
    text: &'static str,
    reason: Option<Reason>,
    /// The steps that fail on the member that is asked, beside `rpc`.
    steps: &'static str,
}

/// A call that is to fail so, at these steps.
fn failing(
    path: &'static str,
    body: &impl Message,
    (code, text): (u32, &'static str),
    reason: Reason,
    steps: &'static str,
) -> Failing {
    let (body, timeout) = (body.encode_to_vec(), None);
    Failing { path, body, timeout, code, text, reason: Some(reason), steps }
}

/// A request that has failed, and what its trace must say.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    /// What it was, for complaints.
    pub(super) what: String,
    /// Its id.
    pub(super) id: u64,
    /// The member that was asked.
    pub(super) asked: usize,
    /// How its rpc ended.
    pub(super) code: u32,
    /// Why these steps of the member failed; `None` if it is the code that says so.
    pub(super) reason: Option<Reason>,
    /// The steps that failed for this reason, with `rpc` if it did.
    pub(super) steps: Vec<&'static str>,
}

/// Makes a call on a connection of its own, in a trace of its own with this number. Returns what it
/// was, and the answer.
async fn ask(scene: &Scene, at: usize, number: u64, failing: Failing) -> (String, Answer) {
    let mut raw = Raw::connect(&scene.cluster, at);
    let what = format!("{} on m{at}", failing.path);
    let answer = tokio::task::spawn_blocking(move || raw.ask(&call_of(&failing, number)));
    (what, answer.await.unwrap())
}

fn call_of(failing: &Failing, number: u64) -> Call<'static> {
    let traceparent = format!("00-0af7651916cd43dd8448eb211c80319c-{number:016x}-01");
    let call = Call::of_bytes(failing.path, failing.body.clone()).with("traceparent", traceparent);
    match failing.timeout {
        Some(timeout) => call.with("grpc-timeout", timeout),
        None => call,
    }
}

/// Makes these calls of one member at once, and returns what is wrong with their answers and with
/// their traces. The numbers of their traces begin with `first`.
async fn all_wrong(scene: &Scene, at: usize, first: u64, calls: Vec<Failing>) -> Vec<String> {
    let numbered = || calls.iter().cloned().zip(first..);
    let answers = numbered().map(|(failing, number)| ask(scene, at, number, failing));
    let answers = futures_util::future::join_all(answers).await;
    let mut wrong = Vec::new();
    for (failing, (what, answer)) in calls.iter().zip(&answers) {
        if answer.status() != Some((failing.code, failing.text.to_owned())) {
            wrong.push(format!("{what}: answered {:?}", answer.status()));
        }
        if let Some(reason) = failing.reason
            && !failing.text.ends_with(reason.text())
        {
            wrong.push(format!("{what}: the reason is not the client's text, {}", failing.text));
        }
    }
    let mut failed = Vec::new();
    for ((failing, number), (what, _)) in numbered().zip(answers) {
        let id = ended(scene, &what, number).await;
        let steps = failing.steps.split_whitespace().chain(["rpc"]).collect();
        let Failing { code, reason, .. } = failing;
        failed.push(Failed { what, id, asked: at, code, reason, steps });
    }
    wrong.extend(untold(scene, &failed).await);
    wrong
}

/// The id of the request whose caller has this span, once its rpc has ended.
async fn ended(scene: &Scene, what: &str, number: u64) -> u64 {
    let look = |recording: &Recording| {
        let mut contexts = callers::contexts(recording).into_iter();
        let (id, _) = contexts.find(|(_, context)| context.span == number).ok_or("no context")?;
        let is_end =
            |event: &&Event| (event.id, event.stage, event.kind) == (id, Stage::Rpc, Kind::Span);
        recording.events.iter().find(is_end).map(|_| id).ok_or("its end is missing".to_owned())
    };
    scene.listener.until(what, look).await
}

/// What `show`, its JSON and the export for OpenTelemetry do not tell of these requests.
pub(super) async fn untold(scene: &Scene, failed: &[Failed]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let [file, spans] =
        ["all.ndjson", "spans.jsonl"].map(|name| dir.path().join(name).display().to_string());
    let recording = scene.listener.recording();
    recording::write(&mut fs::File::create(&file).unwrap(), &recording).unwrap();
    glass(scene, &["trace", "export", "--otlp", &spans, "--from", &file]).await;
    let spans = spans_of(&fs::read_to_string(&spans).unwrap());
    let mut wrong = Vec::new();
    for one in failed {
        let hex = format!("{:016x}", one.id);
        let show = ["trace", "show", &hex, "--from", &file];
        let text = glass(scene, &[&show[..], &["--plain"]].concat()).await;
        let json = glass(scene, &[&show[..], &["--json"]].concat()).await;
        let place = place_of(&recording, one.asked);
        for step in &one.steps {
            let name = format!("m{}", one.asked);
            let of_step = spans.get(&(hex.clone(), name, (*step).to_owned()));
            let complaints = [
                in_text(one, step, &text),
                in_json(one, (step, place), &json),
                in_spans(one, step, of_step.map_or(&[], Vec::as_slice)),
            ];
            let complaints = complaints.into_iter().flatten();
            wrong.extend(complaints.map(|how| format!("{}, {step}: {how}", one.what)));
        }
    }
    wrong
}

/// In `show`: the line of the step ends with the reason in brackets.
fn in_text(one: &Failed, step: &str, text: &str) -> Option<String> {
    let name = format!("m{}", one.asked);
    let code = CODES.iter().find(|(code, ..)| *code == one.code).map(|(_, name, _)| *name);
    let told = format!("{}]", one.reason.map(Reason::text).or(code).expect("a reason or a code"));
    let is_told = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(2..4) == Some(&[name.as_str(), step][..]) && line.ends_with(&told)
    };
    (!text.lines().any(is_told)).then(|| format!("`show` does not say {told}\n{text}"))
}

/// In its JSON: the step has the reason, or the code.
fn in_json(one: &Failed, (step, place): (&str, u8), json: &str) -> Option<String> {
    let is_told = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let is_step = line["stage"] == step && line["member"] == place && line["kind"] != "begin";
        is_step
            && match one.reason {
                Some(reason) => line["reason"] == reason.text(),
                None => line["code"] == one.code && line["reason"].is_null(),
            }
    };
    (!json.lines().any(is_told)).then(|| format!("the JSON does not say why\n{json}"))
}

/// For OpenTelemetry: a step that failed is an error with its reason, and so is an rpc whose error
/// is the server's; the reason is there in any case.
fn in_spans(one: &Failed, step: &str, spans: &[Value]) -> Option<String> {
    let name = CODES.iter().find(|(code, ..)| *code == one.code).map(|(.., name)| *name);
    let why = one.reason.map(Reason::text).or(name).expect("a reason or a code");
    // A step that its client has cut off has not failed.
    let is_error = if step == "rpc" { OF_THE_SERVER.contains(&one.code) } else { one.code != 1 };
    let attribute = |span: &Value, key: &str| {
        let all = span["attributes"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|attribute| attribute["key"] == key);
        found.map_or(Value::Null, |attribute| attribute["value"]["stringValue"].clone())
    };
    let is_told = |span: &Value| {
        let reason = one.reason.map_or(Value::Null, |reason| Value::from(reason.text()));
        let status = match is_error {
            true => span["status"]["code"] == 2 && span["status"]["message"] == why,
            false => span["status"].is_null(),
        };
        let error = attribute(span, "error.type");
        let has_type = match (is_error, step) {
            (false, _) => error.is_null(),
            (true, "rpc") => error == attribute(span, "rpc.response.status_code"),
            (true, _) => error == why,
        };
        status && has_type && attribute(span, "glass.reason") == reason
    };
    (!spans.iter().any(is_told)).then(|| format!("no span says why: {spans:?}"))
}

/// The spans of requests, by request, member and stage.
fn spans_of(lines: &str) -> HashMap<(String, String, String), Vec<Value>> {
    let mut all: HashMap<_, Vec<Value>> = HashMap::new();
    let text = |attributes: &Value, key: &str| {
        let found = attributes.as_array()?.iter().find(|attribute| attribute["key"] == key)?;
        Some(found["value"]["stringValue"].as_str()?.to_owned())
    };
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for resource in line["resourceSpans"].as_array().unwrap() {
            let name = text(&resource["resource"]["attributes"], "etcd.member.name").unwrap();
            let scopes = resource["scopeSpans"].as_array().unwrap().iter();
            for span in scopes.flat_map(|scope| scope["spans"].as_array().unwrap()) {
                let Some(id) = text(&span["attributes"], "etcd.request.id") else { continue };
                let is_rpc = span["kind"] == 2;
                let stage = if is_rpc { "rpc" } else { span["name"].as_str().unwrap() };
                let place = (id, name.clone(), stage.to_owned());
                all.entry(place).or_default().push(span.clone());
            }
        }
    }
    all
}
