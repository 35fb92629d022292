//! What is usual: members record it, and `show` and the player compare with it.

use glass_etcd::pb::etcdserverpb::PutRequest;

use super::{
    Scene,
    commands::glass,
    listen::{HEARD_WITHIN, Listener},
    order::sampled,
};
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out},
};

/// A member whose disk takes 400 ms once, after enough quick fsyncs to know what is usual.
const SLOW_ONCE: [(&str, &str); 1] =
    [("FAILPOINTS", "wal-before-fsync=100*off->1*sleep(400)->off")];
/// More puts than that.
const PUTS: usize = 150;
/// Goal: the story of a slow put ends with how many times the usual it took and where that time
/// went; one of the others has the usual durations beside its own, and ends with nothing. Method:
/// puts one after the other, on a member whose disk is slow once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_put_is_compared_with_the_usual_ones() {
    if Kind::subject() != Kind::Glass {
        return left_out("what is usual: etcd leaves no traces");
    }
    let cluster = Cluster::start_with(&Kind::Glass, 1, &SLOW_ONCE).await;
    let listener = Listener::start(&cluster).await;
    let scene = Scene { cluster, listener };
    for number in 0..PUTS {
        let (key, value) = (format!("usual/{number}").into(), "x".into());
        let put = PutRequest { key, value, ..PutRequest::default() };
        scene.cluster.client(0).kv.put(sampled(put)).await.unwrap();
    }
    let [slow, quick] = slow_and_quick(&scene).await;
    let (text, end) = eventually("samples", HEARD_WITHIN, || async {
        let text = glass(&scene, &["trace", "show", &slow]).await;
        match text.split_once("\nunusual\n") {
            Some((text, end)) if !end.contains("too few") => Ok((text.to_owned(), end.to_owned())),
            _ => Err(text),
        }
    })
    .await;
    let words: Vec<&str> = end.split_whitespace().collect();
    let [
        times,
        "times",
        "the",
        "usual",
        usual,
        "ms",
        "of",
        "KV/Put",
        "on",
        "m0;",
        percent,
        "%",
        "is",
        "m0's",
        "wal.fsync,",
        "which",
        "is",
        "normally",
        normally,
        "ms",
    ] = words[..]
    else {
        panic!("{end}")
    };
    let number = |text: &str| text.parse::<f64>().unwrap();
    assert!(2.0 <= number(times) && 50.0 < number(percent), "{end}\n{text}");
    assert!(number(normally) <= number(usual) && number(usual) < 400.0, "{end}\n{text}");
    let told = glass(&scene, &["trace", "show", &quick]).await;
    assert!(told.contains(" ms  usual ") && !told.contains("\nunusual\n"), "{told}");
}

/// The ids of the slow put, and of one that was among the quickest.
async fn slow_and_quick(scene: &Scene) -> [String; 2] {
    eventually("the slow put in the list", HEARD_WITHIN, || async {
        let list = glass(scene, &["trace", "list", "--json"]).await;
        let all: Vec<serde_json::Value> =
            list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let took = |one: &&serde_json::Value| one["took_ns"].as_u64().unwrap_or(0);
        let puts = all.iter().filter(|one| one["method"] == "KV/Put" && !one["took_ns"].is_null());
        let slow = puts.clone().max_by_key(took).ok_or("no put")?;
        let mut quick: Vec<_> = puts.collect();
        quick.sort_by_key(took);
        let quick = quick[quick.len() / 4];
        if took(&slow) < 400_000_000 {
            return Err(format!("{slow}"));
        }
        Ok([slow, quick].map(|one| one["id"].as_str().unwrap().to_owned()))
    })
    .await
}
