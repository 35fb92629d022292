//! Puts and deletions, as requests or as operations of a transaction.

use crate::{
    pb::etcdserverpb::{DeleteRangeRequest, PutRequest},
    server::{
        Error,
        lessor::Lessor,
        mvcc::{KeyRange, Reply, WriteTxn},
    },
};

/// Fails if the lease of a put does not exist; 0 is no lease.
pub(super) fn check_lease(lessor: &Lessor, lease: i64) -> Result<(), Error> {
    if lease == 0 || lessor.contains(lease) { Ok(()) } else { Err(Error::LeaseNotFound) }
}

pub(super) fn put(txn: &mut WriteTxn<'_, '_>, request: &PutRequest) -> Result<Reply, Error> {
    let (mut value, mut lease) = (request.value.clone(), request.lease);
    if request.ignore_value || request.ignore_lease {
        let before = txn.get(&request.key).ok_or(Error::KeyNotFound)?;
        if request.ignore_value {
            value = before.value;
        }
        if request.ignore_lease {
            lease = before.lease;
        }
    }
    let previous = if request.prev_kv { txn.previous(&request.key, &[])? } else { None };
    let revision = txn.put(&request.key, value, lease);
    Ok(Reply::Put { revision, previous })
}

pub(super) fn delete_range(
    txn: &mut WriteTxn<'_, '_>,
    request: &DeleteRangeRequest,
) -> Result<Reply, Error> {
    let (key, end) = (&request.key, &request.range_end);
    let previous = if request.prev_kv { txn.previous(key, end)? } else { None };
    let (deleted, revision) = txn.delete_range(KeyRange::new(key, end));
    Ok(Reply::DeleteRange { revision, deleted, previous })
}
