//! Finds stories by what they are about: a key, a lease, a member.
//!
//! | asked for | a request is found if                                     | what happens to the cluster |
//! |-----------|-----------------------------------------------------------|-----------------------------|
//! | a key     | a step of it names the key, or a range with the key in it | never                       |
//! | a lease   | a step of it names the lease                              | never                       |
//! | a member  | the member serves it, or has made it by itself, or an alarm in it is the member's | the member is a candidate, steps down or starts |
//!
//! Requests that no client has sent are found in the same way: the expiry of a lease names the
//! lease, and the keys that it deletes.
//!
//! Of a key of more than 88 bytes only the beginning and the length are compared, which is what
//! records hold of it: what is found by such a text alone may name another key
//! ([`Found::is_unsure`]). Keys that members leave out of their records ([`is_redacted`]) are not
//! found.

use std::collections::HashSet;

use super::{Stories, Summary, incidents::Incident};
use crate::{
    change, field,
    story::{Event, KeyText, Recording},
    trace::{record::KEY_BYTES, stage::Stage},
};

/// What stories have to be about. Without any of these, all are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// Whether it is enough that a key has this text in it.
    pub is_part: bool,
    /// The lease, by its id.
    pub lease: Option<u64>,
    /// The member, by position.
    pub member: Option<u8>,
}

/// The stories of one recording that are wanted.
#[derive(Clone, Debug, Default)]
pub struct Found {
    wanted: Wanted,
    /// The requests that name the key, and those that name the lease.
    keys: HashSet<u64>,
    leases: HashSet<u64>,
    /// Those of the first that a whole text has decided.
    sure: HashSet<u64>,
    /// The requests that are about an alarm of the member.
    alarms: HashSet<u64>,
}

impl Wanted {
    /// Looks through a recording.
    pub fn find(self, recording: &Recording) -> Found {
        let mut found = Found { wanted: self, ..Found::default() };
        let Wanted { key, is_part, lease, member } = found.wanted.clone();
        if key.is_none() && lease.is_none() && member.is_none() {
            return found;
        }
        let owner = member.and_then(|place| recording.members.get(usize::from(place)));
        for event in &recording.events {
            if let Some(key) = &key
                && names_key(event, key, is_part)
            {
                found.keys.insert(event.id);
                if is_decided(event, key) {
                    found.sure.insert(event.id);
                }
            }
            if let Some(lease) = lease
                && leases(event).contains(&lease)
            {
                found.leases.extend(caused(event));
            }
            if event.stage == Stage::AlarmApply
                && owner.is_some_and(|it| it.member_id == field!(event, AlarmApply, owner))
            {
                found.alarms.insert(event.id);
            }
        }
        found
    }
}

impl Found {
    /// Whether a request is wanted.
    pub fn has(&self, request: &Summary) -> bool {
        let Wanted { key, lease, member, .. } = &self.wanted;
        (key.is_none() || self.keys.contains(&request.id))
            && (lease.is_none() || self.leases.contains(&request.id))
            && member
                .is_none_or(|member| member == request.member || self.alarms.contains(&request.id))
    }

    /// Whether a request might name the key that is wanted: a member notes keys of requests when
    /// they arrive, and then only of those that are to be kept.
    pub fn may_have(&self, request: &Summary) -> bool {
        let names_keys = request.method.starts_with("KV/") && request.method != "KV/Compact";
        self.wanted.key.is_some() && names_keys && request.key.is_none() && !self.has(request)
    }

    /// Whether a request that is wanted may name another key than the one that is wanted: all keys
    /// of its records that fit are longer than what records hold of them.
    pub fn is_unsure(&self, request: &Summary) -> bool {
        self.wanted.key.is_some() && !self.sure.contains(&request.id)
    }

    /// The key that is wanted, unless a part of it is enough.
    pub fn whole_key(&self) -> Option<&[u8]> {
        self.wanted.key.as_deref().filter(|_| !self.wanted.is_part)
    }

    /// Whether something that happened to the cluster is wanted.
    pub fn has_incident(&self, stories: &Stories<'_>, incident: &Incident) -> bool {
        let Wanted { key, lease, member, .. } = &self.wanted;
        key.is_none()
            && lease.is_none()
            && member.is_none_or(|member| concerns(stories, incident, member))
    }
}

/// Whether a member is the one that something happened to.
fn concerns(stories: &Stories<'_>, incident: &Incident, member: u8) -> bool {
    let mut elections = stories.cluster().elections.iter();
    let own = stories.recording().members.get(usize::from(member)).map(|known| known.member_id);
    incident.member == member
        || elections.any(|known| {
            known.is_at(incident.address, stories.recording())
                && own.is_some_and(|own| known.candidates.contains(&own))
        })
}

/// Whether a step names a key, or a range with that key in it.
fn names_key(event: &Event, key: &[u8], is_part: bool) -> bool {
    let Some(first) = &event.key else { return false };
    match &event.range_end {
        Some(_) if is_part && names(first, key, true) => true,
        Some(end) => first.bytes.as_slice() <= key && (is_open(end) || key < end.bytes.as_slice()),
        None => names(first, key, is_part),
    }
}

/// Whether this text is of the key, or has it in it.
pub(super) fn names(text: &KeyText, key: &[u8], is_part: bool) -> bool {
    let has_it = || key.is_empty() || text.bytes.windows(key.len()).any(|part| part == key);
    text.is_of(key) || is_part && has_it()
}

/// Whether what the records hold of a step's keys is enough to say that it names this one.
fn is_decided(event: &Event, key: &[u8]) -> bool {
    // A cut text that the key begins with could go on either way.
    let may_differ = |text: &KeyText| text.is_cut() && key.starts_with(&text.bytes);
    ![&event.key, &event.range_end].into_iter().flatten().any(may_differ)
}

/// Whether this end of a range means all keys from the first one on.
fn is_open(end: &KeyText) -> bool {
    end.bytes == [0]
}

/// The leases that a step names; 0 for none.
fn leases(event: &Event) -> [u64; 2] {
    let one = match event.stage {
        Stage::LeaseAttach => return change!(event, LeaseAttach, lease),
        Stage::LeaseGrant | Stage::LeaseRevoke | Stage::LeaseRenew | Stage::LeaseExpire => {
            field!(event, LeaseGrant | LeaseRevoke | LeaseRenew | LeaseExpire, lease)
        }
        Stage::LeaseRemaining | Stage::LeaseForward | Stage::LeaseServe => {
            field!(event, LeaseRemaining | LeaseForward | LeaseServe, lease)
        }
        Stage::LeaseCheckpoint | Stage::SessionGrant => {
            field!(event, LeaseCheckpoint | SessionGrant, lease)
        }
        _ => 0,
    };
    [one, 0]
}

/// The requests to which a step about a lease belongs.
fn caused(event: &Event) -> [u64; 2] {
    match event.stage {
        Stage::LeaseExpire | Stage::SessionGrant => {
            [event.id, field!(event, LeaseExpire | SessionGrant, request)]
        }
        _ => [event.id; 2],
    }
}

/// Whether members have left out the text of keys (`--trace-redact-keys`).
pub fn is_redacted(recording: &Recording) -> bool {
    let is_without = |key: &KeyText| key.bytes.is_empty() && key.length != 0;
    recording.events.iter().any(|event| event.key.as_ref().is_some_and(is_without))
}

impl KeyText {
    /// Whether the key is longer than this beginning of it.
    pub fn is_cut(&self) -> bool {
        (self.bytes.len() as u64) < self.length
    }

    /// Whether this is what records hold of a key.
    pub fn is_of(&self, key: &[u8]) -> bool {
        self.length == key.len() as u64 && self.bytes == key[..key.len().min(KEY_BYTES)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        story::{BootInfo, MemberInfo, order::Order, query::incidents::incidents, query::requests},
        trace::record::Kind,
    };

    const LEASE: u64 = 0x7777;

    fn text(key: &[u8]) -> Option<KeyText> {
        let length = key.len() as u64;
        Some(KeyText { bytes: key[..key.len().min(KEY_BYTES)].to_vec(), length })
    }

    /// A recording of two members, to which steps are added in order.
    struct Script(Recording);

    impl Script {
        fn new() -> Script {
            let members = (1..=2).map(|member| MemberInfo {
                member_id: member,
                cluster_id: 9,
                name: format!("etcd-0{member}"),
                version: "0.1.0".to_owned(),
                boots: vec![BootInfo { boot: 1, wall_ns: 0 }],
                members: Vec::new(),
            });
            let members = members.collect();
            Script(Recording { members, events: vec![], dropped: vec![0; 2] })
        }

        fn add(&mut self, member: u8, stage: Stage, id: u64, fields: &[(&str, u64)]) -> &mut Event {
            let clock = 10 * (self.0.events.len() as u64 + 1);
            let event = Event {
                id,
                at_ns: clock * 1000,
                kind: Kind::Span,
                ..Event::mark(member, stage, clock)
            };
            self.0.events.push(event.with(fields));
            self.0.events.last_mut().unwrap()
        }

        fn rpc(&mut self, member: u8, id: u64, key: &[u8]) -> &mut Event {
            let event = self.add(member, Stage::Rpc, id, &[]);
            event.key = if key.is_empty() { None } else { text(key) };
            event
        }

        fn found(&self, wanted: Wanted) -> Vec<u64> {
            let found = wanted.find(&self.0);
            let list = requests(&self.0);
            list.into_iter().filter(|one| found.has(one)).map(|one| one.id).collect()
        }
    }

    #[test]
    fn a_put_whose_key_was_not_captured_may_have_named_it() {
        let mut script = Script::new();
        const PUT: u64 = 2;
        for (id, key) in [(1, &b"foo"[..]), (2, b""), (3, b"bar")] {
            script.rpc(0, id, key);
            let event = script.0.events.last_mut().unwrap();
            *event = event.clone().with(&[("method", PUT)]);
        }
        let wanted = Wanted { key: Some(b"foo".to_vec()), ..Wanted::default() };
        let found = wanted.find(&script.0);
        let list = requests(&script.0);
        let may: Vec<u64> =
            list.iter().filter(|one| found.may_have(one)).map(|one| one.id).collect();
        assert_eq!([2], may[..]);
        let all = Found::default();
        assert!(list.iter().all(|one| !all.may_have(one)), "no key is wanted");
    }

    #[test]
    fn a_key_finds_what_names_it_and_the_ranges_that_hold_it() {
        let mut script = Script::new();
        script.rpc(0, 1, b"foo");
        script.rpc(0, 2, b"fo");
        script.rpc(0, 3, b"f").range_end = text(b"g");
        script.rpc(0, 4, b"a").range_end = text(b"foo");
        script.rpc(0, 5, b"a").range_end = text(&[0]);
        // A revocation deletes the key; its rpc names none.
        script.rpc(0, 6, b"");
        script.add(0, Stage::TreeIndexTombstone, 6, &[]).key = text(b"foo");
        script.rpc(0, 7, b"");
        let key = |key: &[u8]| Wanted { key: Some(key.to_vec()), ..Wanted::default() };
        assert_eq!([1, 3, 5, 6], script.found(key(b"foo"))[..]);
        assert_eq!([5], script.found(key(b"zoo"))[..]);
        assert_eq!(7, script.found(Wanted::default()).len());
        let long = [b'k'; KEY_BYTES + 5];
        script.rpc(0, 8, &long);
        assert_eq!([5, 8], script.found(key(&long))[..]);
        assert_eq!([5], script.found(key(&long[1..]))[..]);
    }

    #[test]
    fn a_part_of_a_key_finds_it_where_a_part_is_enough() {
        let mut script = Script::new();
        script.rpc(0, 1, b"app/hangul1");
        script.rpc(0, 2, b"app/other");
        script.rpc(0, 3, b"app/hang").range_end = text(b"app/hanh");
        script.rpc(0, 4, b"h").range_end = text(b"i");
        let of =
            |key: &[u8], is_part| Wanted { key: Some(key.to_vec()), is_part, ..Wanted::default() };
        assert_eq!([1, 4], script.found(of(b"hangul", true))[..]);
        assert_eq!([1, 3], script.found(of(b"app/hang", true))[..]);
        assert_eq!([3], script.found(of(b"app/hang", false))[..]);
        assert_eq!([1, 2, 3, 4], script.found(of(b"", true))[..]);
    }

    #[test]
    fn keys_that_begin_alike_beyond_what_is_recorded_are_found_as_unsure() {
        let mut script = Script::new();
        let [mut one, mut other] = [[b'k'; KEY_BYTES + 5]; 2];
        (one[KEY_BYTES + 1], other[KEY_BYTES + 1]) = (b'1', b'2');
        script.rpc(0, 1, &one);
        script.rpc(0, 2, &other);
        script.rpc(0, 3, b"k").range_end = text(b"l");
        script.rpc(0, 4, &one).range_end = text(b"l");
        let found = Wanted { key: Some(one.to_vec()), ..Wanted::default() }.find(&script.0);
        let unsure: Vec<(u64, bool)> = requests(&script.0)
            .iter()
            .filter(|one| found.has(one))
            .map(|one| (one.id, found.is_unsure(one)))
            .collect();
        assert_eq!([(1, true), (2, true), (3, false), (4, true)], unsure[..]);
    }

    #[test]
    fn a_lease_finds_its_grant_its_keys_its_renewals_and_its_end() {
        let mut script = Script::new();
        (1..=7).for_each(|id| _ = script.rpc(0, id, b""));
        script.add(0, Stage::LeaseGrant, 1, &[("lease", LEASE)]);
        script.add(0, Stage::LeaseAttach, 2, &[("lease.old", LEASE), ("lease.new", 8)]);
        script.add(0, Stage::LeaseRenew, 3, &[("lease", LEASE)]);
        script.add(0, Stage::LeaseExpire, 0, &[("lease", LEASE), ("request", 4)]);
        script.add(0, Stage::SessionGrant, 5, &[("lease", LEASE), ("request", 6)]);
        script.add(0, Stage::LeaseGrant, 7, &[("lease", 8)]);
        let lease = |lease| Wanted { lease: Some(lease), ..Wanted::default() };
        assert_eq!([1, 2, 3, 4, 5, 6], script.found(lease(LEASE))[..]);
        assert_eq!([2, 7], script.found(lease(8))[..]);
        assert!(script.found(lease(9)).is_empty());
    }

    #[test]
    fn a_member_finds_what_it_serves_and_what_happened_to_it() {
        let mut script = Script::new();
        script.add(1, Stage::MemberStart, 0, &[]);
        script.rpc(0, 1, b"foo");
        script.rpc(1, 2, b"foo");
        script.rpc(1, 3, b"bar");
        script.rpc(0, 4, b"");
        script.add(0, Stage::AlarmApply, 4, &[("raise", 1), ("owner", 2)]);
        let of = |member| Wanted { member: Some(member), ..Wanted::default() };
        assert_eq!([1, 4], script.found(of(0))[..]);
        assert_eq!([2, 3, 4], script.found(of(1))[..]);
        let both = Wanted { key: Some(b"foo".to_vec()), ..of(1) };
        assert_eq!([2], script.found(both.clone())[..]);
        let order = Order::of(&script.0);
        let stories = Stories::new(&script.0, &order);
        let all = incidents(&stories);
        let starts = |wanted: Wanted| {
            let found = wanted.find(&script.0);
            all.iter().filter(|one| found.has_incident(&stories, one)).count()
        };
        assert_eq!([1, 0, 1, 0], [Wanted::default(), of(0), of(1), both].map(starts));
    }
}
