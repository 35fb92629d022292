use super::*;
use crate::{
    story::{BootInfo, Event, MemberInfo},
    trace::{record::Kind, stage::Stage},
};

const GRANT: u64 = 0x10;
const PUT: u64 = 0x20;
const REVOKE: u64 = 0x30;
const LOCK: u64 = 0x40;
const WATCH: u64 = 0x50;
const LEASE: u64 = 0x7777;

/// Events of two members, in the order in which they happen.
struct Script {
    recording: Recording,
}

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
        let dropped = vec![0; 2];
        Script { recording: Recording { members: members.collect(), events: vec![], dropped } }
    }

    fn add(&mut self, member: u8, stage: Stage, id: u64, fields: &[(&str, u64)]) -> &mut Event {
        let clock = 10 * (self.recording.events.len() as u64 + 1);
        let (at_ns, kind) = (clock * 1000, Kind::Span);
        let event = Event { id, at_ns, kind, ..Event::mark(member, stage, clock) };
        self.recording.events.push(event.with(fields));
        self.recording.events.last_mut().unwrap()
    }

    fn on_both(&mut self, stage: Stage, id: u64, fields: &[(&str, u64)], key: Option<&[u8]>) {
        for member in 0..2 {
            self.add(member, stage, id, fields).key =
                key.map(|key| KeyText { bytes: key.to_vec(), length: key.len() as u64 });
        }
    }

    fn grant(&mut self, id: u64) {
        self.on_both(Stage::LeaseGrant, id, &[("lease", LEASE), ("ttl", 2)], None);
    }

    fn put(&mut self, id: u64, main: u64) {
        self.on_both(Stage::TreeIndexPut, id, &[("main", main)], Some(b"foo"));
        self.on_both(Stage::LeaseAttach, id, &[("lease.new", LEASE)], None);
        let change = [("revision.old", main - 1), ("revision.new", main)];
        self.on_both(Stage::MvccWrite, id, &change, None);
    }

    fn renew(&mut self, id: u64, ttl: u64) {
        self.add(0, Stage::LeaseRenew, id, &[("lease", LEASE), ("ttl", ttl)]);
    }

    fn expire(&mut self, id: u64, main: u64) {
        self.add(1, Stage::LeaseExpire, 0, &[("lease", LEASE), ("request", id)]);
        self.on_both(Stage::TreeIndexTombstone, id, &[("main", main)], Some(b"foo"));
        self.on_both(Stage::LeaseRevoke, id, &[("lease", LEASE), ("keys", 2)], None);
    }

    fn of(&self, target: &Target) -> Vec<Link> {
        chains(&self.recording, &Order::of(&self.recording), target)
    }
}

/// A tree on one line: `GRANT(2 keep-alives, …)`.
fn shape(link: &Link) -> String {
    let own = match &link.what {
        What::Request(id) => format!("{id:x}"),
        What::Again(id) => format!("{id:x} again"),
        What::More(id) => format!("{id:x} and more"),
        What::Lease(lease) => format!("lease {lease:x}"),
        What::KeepAlives(all) => format!("{} renewals, {} failed", all.count, all.failed),
        What::Expiry(_) => "expiry".to_owned(),
        What::Deletion(deletion) => {
            let wrote = deletion.wrote.map_or("?".to_owned(), |id| format!("{id:x}"));
            let key = deletion.key.as_ref().map_or("?".to_owned(), KeyText::display);
            format!("{key} of {wrote} deleted")
        }
        What::Uncaptured(keys) => format!("{keys} deleted unseen"),
        What::Delivery(delivery) => {
            format!("watch of {:x}", delivery.creator.unwrap_or_default())
        }
    };
    if link.then.is_empty() {
        return own;
    }
    let then: Vec<String> = link.then.iter().map(shape).collect();
    format!("{own} > ({})", then.join(", "))
}

fn shapes(links: &[Link]) -> Vec<String> {
    links.iter().map(shape).collect()
}

/// A lease with a key that a watcher watches and a lock waits for.
fn lease() -> Script {
    let mut script = Script::new();
    let created = [("watcher", 3), ("watch_id", 0)];
    script.add(1, Stage::WatchCreate, WATCH, &created);
    script.add(0, Stage::WatchCreate, LOCK, &[("watcher", 4), ("watch_id", 0)]);
    script.grant(GRANT);
    script.renew(0x11, 2);
    script.renew(0x12, 2);
    script.put(PUT, 5);
    script.add(1, Stage::WatchSend, PUT, &[("watcher", 3), ("first", 5), ("last", 5)]);
    script.expire(REVOKE, 6);
    script.add(0, Stage::WatchQueue, REVOKE, &[("watcher", 4)]);
    script.add(0, Stage::LockWait, LOCK, &[("by", REVOKE), ("deleted", 6)]);
    script.add(1, Stage::WatchSend, REVOKE, &[("watcher", 3), ("first", 6), ("last", 6)]);
    script
}

/// The whole chain of [`lease`].
const WHOLE: &str = "10 > (2 renewals, 0 failed, 20 > (watch of 50), \
     expiry > (30 > (foo of 20 deleted, 40, watch of 50, 1 deleted unseen)))";

#[test]
fn a_chain_leads_from_a_grant_to_those_that_its_expiry_woke() {
    assert_eq!([WHOLE], shapes(&lease().of(&Target::Lease(LEASE)))[..]);
}

/// Goal: whichever request of a chain is asked for, the chain is shown from its first cause on.
#[test]
fn every_request_of_a_chain_leads_to_its_beginning() {
    let script = lease();
    for id in [GRANT, 0x11, PUT, REVOKE, LOCK] {
        assert_eq!([WHOLE], shapes(&script.of(&Target::Requests(vec![id])))[..], "{id:x}");
    }
    assert_eq!([WHOLE], shapes(&script.of(&Target::Key(b"foo".to_vec())))[..]);
    assert_eq!(["50"], shapes(&script.of(&Target::Requests(vec![WATCH])))[..]);
    assert!(script.of(&Target::Key(b"fo".to_vec())).is_empty());
}

/// Goal: the uses of a lease belong to the grant before them, and those before the first captured
/// grant to the lease itself.
#[test]
fn a_lease_that_is_granted_twice_has_two_chains() {
    let mut script = Script::new();
    script.renew(0x11, 0);
    script.grant(GRANT);
    script.put(PUT, 5);
    script.on_both(Stage::LeaseRevoke, REVOKE, &[("lease", LEASE)], None);
    script.grant(0x60);
    script.renew(0x61, 2);
    let expected =
        ["lease 7777 > (1 renewals, 1 failed)", "10 > (20, 30)", "60 > (1 renewals, 0 failed)"];
    assert_eq!(expected, shapes(&script.of(&Target::Lease(LEASE)))[..]);
    assert_eq!([expected[1]], shapes(&script.of(&Target::Requests(vec![PUT])))[..]);
    assert_eq!([expected[0]], shapes(&script.of(&Target::Requests(vec![0x11])))[..]);
}

/// Goal: a call that grants its own lease is the beginning of its chain, and a request that two
/// others lead to is shown once.
#[test]
fn a_call_without_a_lease_grants_one_and_comes_first() {
    let mut script = Script::new();
    script.add(0, Stage::SessionGrant, LOCK, &[("lease", LEASE), ("request", GRANT)]);
    script.grant(GRANT);
    script.put(LOCK, 5);
    script.add(0, Stage::LockRelease, LOCK, &[("request", 0x41)]);
    script.on_both(Stage::TreeIndexTombstone, 0x41, &[("main", 6)], Some(b"foo"));
    for waiter in [0x42, 0x43] {
        script.add(0, Stage::LockWait, waiter, &[("by", 0x41)]);
        script.add(0, Stage::LockRelease, waiter, &[("request", 0x44)]);
    }
    let expected = "40 > (10, 41 > (foo of 40 deleted, 42 > (44), 43))";
    for id in [LOCK, GRANT, 0x41, 0x42] {
        assert_eq!([expected], shapes(&script.of(&Target::Requests(vec![id])))[..], "{id:x}");
    }
}

/// Goal: a chain of a thousand calls, each of which wakes the next, neither overflows the stack nor
/// pretends to end where it is cut. Records of a file may also name themselves as their cause.
#[test]
fn a_long_chain_is_cut_and_a_circle_ends() {
    let mut script = Script::new();
    for call in 1..1000 {
        script.add(0, Stage::LockWait, call + 1, &[("by", call)]);
    }
    let [mut link] = <[Link; 1]>::try_from(script.of(&Target::Requests(vec![1000]))).unwrap();
    let mut depth = 1;
    while let Some(below) = link.then.pop() {
        (link, depth) = (below, depth + 1);
    }
    assert_eq!((DEPTH_MAX, What::More(DEPTH_MAX as u64)), (depth, link.what));
    let mut script = Script::new();
    script.add(0, Stage::LockWait, 1, &[("by", 2)]);
    script.add(0, Stage::LockWait, 2, &[("by", 1)]);
    let circle = script.of(&Target::Requests(vec![1]));
    assert_eq!(["2 > (1 > (2 again))"], shapes(&circle)[..]);
}

/// Goal: keys of which only the beginning was captured are not taken for one another.
#[test]
fn a_deletion_names_the_write_of_a_whole_key_only() {
    let mut script = Script::new();
    let cut = KeyText { bytes: vec![b'k'; 88], length: 90 };
    script.add(0, Stage::TreeIndexPut, PUT, &[("main", 5)]).key = Some(cut.clone());
    script.add(0, Stage::TreeIndexTombstone, REVOKE, &[("main", 6)]).key = Some(cut);
    let chains = script.of(&Target::Requests(vec![REVOKE]));
    let What::Deletion(deletion) = &chains[0].then[0].what else { panic!("{chains:?}") };
    assert_eq!(None, deletion.wrote);
}
