//! A step that fails says why: in the records of every member, and in what `show` prints.

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::{PutRequest, RangeRequest},
    trace::{Reason, Stage},
};

use super::{Scene, commands::glass, told::Told};

/// Goal: each of these stages of the request has failed for this reason, on this member, and `show`
/// says so in the line of the step.
async fn assert_failed(scene: &Scene, told: &Told, steps: &[(usize, Stage)], reason: Reason) {
    for (at, stage) in steps {
        let step = told.one(*at, *stage);
        assert_eq!(Some(reason), step.event.reason, "{}: {}", stage.name(), told.text());
    }
    let text = glass(scene, &["trace", "show", &format!("{:016x}", told.story.id)]).await;
    for (at, stage) in steps {
        let says = |line: &&str| {
            let is_step = line.contains(&format!("  m{at} ")) && line.contains(stage.name());
            is_step && line.contains(&format!("{}]", reason.text()))
        };
        assert!(text.lines().any(|line| says(&line)), "{} of m{at}:\n{text}", stage.name());
    }
}

/// Apply refuses a put whose lease does not exist, on every member; the rpc fails with it.
pub(super) async fn a_put_with_an_unknown_lease_says_so_at_each_failing_step(scene: &Scene) {
    let [_, follower, _] = scene.parts().await;
    let key = "traces/no-lease";
    let request = PutRequest {
        key: Bytes::from_static(key.as_bytes()),
        lease: 0x5eed,
        ..PutRequest::default()
    };
    scene.cluster.client(follower).kv.put(request).await.unwrap_err();
    let mut steps: Vec<(usize, Stage)> = (0..3).map(|at| (at, Stage::ApplyEntry)).collect();
    steps.extend([(follower, Stage::RaftPropose), (follower, Stage::Rpc)]);
    let has_ended = |told: &Told| {
        let missing = steps.iter().find(|(at, stage)| told.on(*at, *stage).is_empty());
        missing.map_or(Ok(()), |(at, stage)| Err(format!("{} of m{at} is missing", stage.name())))
    };
    let told = scene.listener.told(("KV/Put", key), has_ended).await;
    assert_failed(scene, &told, &steps, Reason::LeaseNotFound).await;
}

/// A range at a revision that does not exist yet is refused by the key space, which says for which
/// revision it was asked.
pub(super) async fn a_range_at_a_future_revision_says_so(scene: &Scene) {
    let key = "traces/future";
    let request = RangeRequest {
        key: Bytes::from_static(key.as_bytes()),
        revision: 1 << 40,
        ..RangeRequest::default()
    };
    scene.cluster.client(0).kv.range(request).await.unwrap_err();
    let has_ended = |told: &Told| match told.on(0, Stage::Rpc).is_empty() {
        true => Err("its end is missing".to_owned()),
        false => Ok(()),
    };
    let told = scene.listener.told(("KV/Range", key), has_ended).await;
    let steps = [(0, Stage::MvccRange), (0, Stage::Rpc)];
    assert_failed(scene, &told, &steps, Reason::FutureRevision).await;
    let step = told.one(0, Stage::MvccRange);
    assert_eq!((1 << 40, 0), (step.field("asked"), step.field("revision")));
}
