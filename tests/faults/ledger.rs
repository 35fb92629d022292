//! A cluster's promises: every acknowledged put, with its revision.

use std::{collections::BTreeMap, time::Duration};

use glass_etcd::pb::{etcdserverpb::RangeResponse, mvccpb::KeyValue};

use crate::{client::eventually, cluster::Cluster};

/// Acknowledged puts by key.
#[derive(Clone, Default)]
pub(super) struct Ledger {
    acknowledged: BTreeMap<String, (String, i64)>,
}

impl Ledger {
    /// Records an acknowledged put. An acknowledged key is never put again.
    pub(super) fn add(&mut self, key: String, value: String, revision: i64) {
        self.acknowledged.insert(key, (value, revision));
    }

    pub(super) fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// The puts that are missing or different in a state.
    pub(super) fn missing_in(&self, state: &RangeResponse) -> Vec<String> {
        let there: BTreeMap<&[u8], _> =
            state.kvs.iter().map(|pair| (&pair.key[..], (&pair.value[..], pair))).collect();
        let mut missing = Vec::new();
        for (key, (value, revision)) in &self.acknowledged {
            match there.get(key.as_bytes()) {
                None => missing.push(format!("{key} is gone")),
                Some((found, _)) if *found != value.as_bytes() => {
                    missing.push(format!("{key} has another value"));
                }
                // A retried put may have been applied once more, later.
                Some((_, pair)) if pair.mod_revision < *revision => {
                    missing.push(format!("{key} was acknowledged at a later revision"));
                }
                Some(_) => (),
            }
        }
        missing
    }

    /// Checks that all members have all puts, read serializably, and agree on every revision.
    pub(super) async fn check_everywhere(&self, cluster: &Cluster) {
        let newest = cluster.client(0).everything(false).await.unwrap();
        let expected = newest.header.as_ref().map(|header| header.revision);
        let lost = self.missing_in(&newest);
        assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), self.len());
        for at in 0..cluster.members.len() {
            let client = cluster.client(at);
            let state =
                eventually(&format!("m{at} has caught up"), Duration::from_secs(20), || {
                    let mut client = client.clone();
                    async move {
                        let state = client.everything(true).await.map_err(|s| s.to_string())?;
                        let revision = state.header.as_ref().map(|header| header.revision);
                        if revision < expected {
                            Err(format!("at {revision:?}"))
                        } else {
                            Ok(state)
                        }
                    }
                })
                .await;
            assert_eq!(state.header.map(|header| header.revision), expected, "m{at}");
            assert_eq!(state.kvs, newest.kvs, "m{at}");
        }
    }
}

/// The tests that use the ledger depend on this: it names puts that are gone, changed or moved
/// back.
#[test]
fn the_ledger_names_puts_that_are_gone_changed_or_moved_back() {
    let mut ledger = Ledger::default();
    for (key, revision) in [("kept", 2), ("gone", 3), ("changed", 4), ("moved", 5)] {
        ledger.add(key.to_owned(), "v".to_owned(), revision);
    }
    let pair = |key: &'static str, value: &'static str, mod_revision| KeyValue {
        key: key.into(),
        value: value.into(),
        mod_revision,
        ..Default::default()
    };
    let kvs = vec![pair("kept", "v", 2), pair("changed", "w", 4), pair("moved", "v", 1)];
    let missing = ledger.missing_in(&RangeResponse { kvs, ..Default::default() });
    let expected =
        ["changed has another value", "gone is gone", "moved was acknowledged at a later revision"];
    assert_eq!(missing, expected);
}
