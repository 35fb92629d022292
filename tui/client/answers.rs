//! Answers in words, a line for each thing that they contain.

use bytes::Bytes;
use glass_etcd::pb::{
    etcdserverpb::{
        CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveResponse,
        LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse, Member, PutResponse,
        RangeResponse, ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
        response_op::Response,
    },
    mvccpb::{Event, KeyValue, event::EventType},
    v3lockpb::{LockResponse, UnlockResponse},
};

use crate::state::words;

/// The most rows of an answer that are shown.
const ROWS_MAX: usize = 20;
/// The most characters of a key or a value.
const TEXT_MAX: usize = 60;

/// An answer in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) lines: Vec<String>,
    /// The key of the lock that was got.
    pub(super) lock: Option<Bytes>,
}

fn lines(lines: impl IntoIterator<Item = String>) -> Lines {
    Lines { lines: lines.into_iter().collect(), lock: None }
}

/// The revision of an answer, whose header every member fills.
fn revision(header: Option<&ResponseHeader>) -> String {
    match header {
        Some(header) => format!("revision {}", header.revision),
        None => "without a revision".to_owned(),
    }
}

fn short(bytes: &[u8]) -> String {
    words::cut(&words::escaped(bytes), TEXT_MAX)
}

/// A row with all that a learner may look for: `a = 1   (mod 8, create 8, version 1)`.
fn row(row: &KeyValue) -> String {
    let KeyValue { key, value, mod_revision, create_revision, version, lease } = row;
    let lease = match lease {
        0 => String::new(),
        id => format!(", lease {id:x}"),
    };
    format!(
        "{} = {}   (mod {mod_revision}, create {create_revision}, version {version}{lease})",
        short(key),
        short(value)
    )
}

/// The first rows, and how many more there are.
fn rows(kvs: &[KeyValue]) -> impl Iterator<Item = String> {
    let more = kvs.len().saturating_sub(ROWS_MAX);
    let more = (more != 0).then(|| format!("and {more} more"));
    kvs.iter().take(ROWS_MAX).map(row).chain(more)
}

pub(super) fn put(answer: &PutResponse) -> Lines {
    let before = answer.prev_kv.as_ref().map(|before| format!("before: {}", row(before)));
    lines([format!("OK, {}", revision(answer.header.as_ref()))].into_iter().chain(before))
}

pub(super) fn range(answer: &RangeResponse) -> Lines {
    let at = revision(answer.header.as_ref());
    let of = match answer.count {
        0 => format!("no such key at {at}"),
        1 => format!("1 key at {at}"),
        count => format!("{count} keys at {at}"),
    };
    lines(rows(&answer.kvs).chain([of]))
}

pub(super) fn delete(answer: &DeleteRangeResponse) -> Lines {
    let of = format!("deleted {}, {}", answer.deleted, revision(answer.header.as_ref()));
    lines(rows(&answer.prev_kvs).chain([of]))
}

pub(super) fn txn(answer: &TxnResponse) -> Lines {
    let branch = if answer.succeeded { "then" } else { "else" };
    let head = format!("{branch} was done, {}", revision(answer.header.as_ref()));
    let parts = answer.responses.iter().flat_map(|part| match &part.response {
        Some(Response::ResponsePut(_)) => vec!["put: OK".to_owned()],
        Some(Response::ResponseRange(range)) => {
            let of = format!("get: {} found", range.count);
            rows(&range.kvs).chain([of]).collect()
        }
        Some(Response::ResponseDeleteRange(delete)) => vec![format!("del: {}", delete.deleted)],
        Some(Response::ResponseTxn(_)) | None => Vec::new(),
    });
    lines([head].into_iter().chain(parts))
}

pub(super) fn compact(answer: &CompactionResponse) -> Lines {
    lines([format!("compacted, {}", revision(answer.header.as_ref()))])
}

/// An event: what was done, at which revision.
fn event(event: &Event) -> String {
    let Some(kv) = &event.kv else { return "an event without a key".to_owned() };
    match event.r#type() {
        EventType::Put => format!("PUT {}", row(kv)),
        EventType::Delete => format!("DELETE {}   (mod {})", short(&kv.key), kv.mod_revision),
    }
}

pub(super) fn watch(answer: &WatchResponse) -> Vec<String> {
    if answer.canceled {
        let why = match (&*answer.cancel_reason, answer.compact_revision) {
            ("", 0) => "without a reason".to_owned(),
            ("", compacted) => format!("compacted up to revision {compacted}"),
            (reason, _) => reason.to_owned(),
        };
        return vec![format!("the watcher was cancelled: {why}")];
    }
    let created = answer.created.then(|| {
        format!("watcher {} from {} on", answer.watch_id, revision(answer.header.as_ref()))
    });
    let more = answer.events.len().saturating_sub(ROWS_MAX);
    let more = (more != 0).then(|| format!("and {more} more events"));
    created.into_iter().chain(answer.events.iter().take(ROWS_MAX).map(event)).chain(more).collect()
}

pub(super) fn grant(answer: &LeaseGrantResponse) -> Lines {
    lines([format!("lease {:x} for {} s", answer.id, answer.ttl)])
}

pub(super) fn renewal(answer: Option<&LeaseKeepAliveResponse>) -> Lines {
    lines([match answer {
        Some(answer) if 0 < answer.ttl => format!("lease {:x} for {} s", answer.id, answer.ttl),
        Some(answer) => format!("lease {:x} does not exist, or has expired", answer.id),
        None => "the member has ended the stream".to_owned(),
    }])
}

pub(super) fn revoke(answer: &LeaseRevokeResponse) -> Lines {
    lines([format!("revoked, {}", revision(answer.header.as_ref()))])
}

pub(super) fn time_to_live(answer: &LeaseTimeToLiveResponse) -> Lines {
    let LeaseTimeToLiveResponse { id, ttl, granted_ttl, keys, .. } = answer;
    if *ttl < 0 {
        return lines([format!("lease {id:x} does not exist, or has expired")]);
    }
    let head = format!("lease {id:x}: {ttl} s left of {granted_ttl} s");
    let more = keys.len().saturating_sub(ROWS_MAX);
    let more = (more != 0).then(|| format!("and {more} more keys"));
    let keys = keys.iter().take(ROWS_MAX).map(|key| short(key));
    lines([head].into_iter().chain(keys).chain(more))
}

pub(super) fn leases(answer: &LeaseLeasesResponse) -> Lines {
    let count = answer.leases.len();
    let more = count.saturating_sub(ROWS_MAX);
    let more = (more != 0).then(|| format!("and {more} more"));
    let leases = answer.leases.iter().take(ROWS_MAX).map(|lease| format!("{:x}", lease.id));
    let head = if count == 0 { "no leases" } else { "leases:" };
    lines([head.to_owned()].into_iter().chain(leases).chain(more))
}

pub(super) fn lock(answer: &LockResponse) -> Lines {
    let lines = vec![format!("locked: {}", short(&answer.key))];
    Lines { lines, lock: Some(answer.key.clone()) }
}

pub(super) fn unlock(answer: &UnlockResponse) -> Lines {
    lines([format!("unlocked, {}", revision(answer.header.as_ref()))])
}

/// An answer that has nothing to tell but that it is done.
pub(super) fn done(what: &str) -> Lines {
    lines([what.to_owned()])
}

/// The members, also after a change. One that has not started has no name yet.
pub(super) fn members(members: &[Member]) -> Lines {
    let count = members.len();
    let more = (ROWS_MAX < count).then(|| format!("and {} more", count - ROWS_MAX));
    let members = members.iter().take(ROWS_MAX).map(|member| {
        let name = if member.name.is_empty() { "unstarted" } else { &member.name };
        let learner = if member.is_learner { " learner" } else { "" };
        let urls = member.client_ur_ls.join(",");
        words::cut(&format!("{:016x} {name}{learner} {urls}", member.id), 2 * TEXT_MAX)
    });
    lines(members.chain(more))
}

pub(super) fn status(answer: &StatusResponse) -> Lines {
    let StatusResponse { leader, raft_term, raft_index, raft_applied_index, .. } = answer;
    let header = answer.header.as_ref();
    let is_leader = header.is_some_and(|header| header.member_id == *leader);
    let leads = match leader {
        0 => "knows no leader".to_owned(),
        _ if is_leader => "leads".to_owned(),
        _ => format!("follows {leader:016x}"),
    };
    let words = format!(
        "{leads} in term {raft_term}, index {raft_index}, applied {raft_applied_index}, {}",
        revision(header)
    );
    let size = format!(
        "version {}, file {} B, {} B of it in use",
        words::cut(&answer.version, 20),
        answer.db_size,
        answer.db_size_in_use
    );
    lines([words, size].into_iter().chain(answer.errors.iter().take(ROWS_MAX).cloned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static [u8], revision: i64) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(key),
            value: Bytes::from_static(b"1\x1b"),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0x7f,
        }
    }

    #[test]
    fn a_range_has_a_line_for_each_key_up_to_a_bound() {
        let header = Some(ResponseHeader { revision: 9, ..ResponseHeader::default() });
        let answer = RangeResponse { header, kvs: vec![kv(b"a", 8)], more: false, count: 1 };
        let told = range(&answer).lines;
        assert_eq!("a = 1\\x1b   (mod 8, create 8, version 1, lease 7f)", told[0]);
        assert_eq!("1 key at revision 9", told[1]);
        let many = RangeResponse { kvs: vec![kv(b"a", 8); 50], count: 50, ..answer };
        let told = range(&many).lines;
        assert_eq!(("and 30 more", ROWS_MAX + 2), (&*told[ROWS_MAX], told.len()));
        let none = RangeResponse { kvs: Vec::new(), count: 0, ..many };
        assert_eq!(["no such key at revision 9"], range(&none).lines[..]);
    }

    #[test]
    fn a_watcher_tells_its_events_and_why_it_was_cancelled() {
        let put = Event { kv: Some(kv(b"a", 8)), ..Event::default() };
        let mut deleted = put.clone();
        deleted.set_type(EventType::Delete);
        let told = watch(&WatchResponse { events: vec![put, deleted], ..Default::default() });
        assert!(told[0].starts_with("PUT a = "), "{told:?}");
        assert_eq!("DELETE a   (mod 8)", told[1]);
        let end = WatchResponse { canceled: true, compact_revision: 5, ..Default::default() };
        assert_eq!(["the watcher was cancelled: compacted up to revision 5"], watch(&end)[..]);
    }

    #[test]
    fn the_key_of_a_lock_is_kept_for_its_unlock() {
        let key = Bytes::from_static(b"job/7f");
        let told = lock(&LockResponse { header: None, key: key.clone() });
        assert_eq!((Some(key), "locked: job/7f"), (told.lock, &*told.lines[0]));
    }
}
