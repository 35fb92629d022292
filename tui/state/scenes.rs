//! Recordings for tests: three members, with the records that a real cluster would send about a
//! put, a get and an election. Times are fixed, so that screens can be compared as text.

use glass_etcd::{
    story::{BootInfo, Event, KeyText, MemberInfo, Recording},
    trace::{FLAG_NOISE, Kind, Stage, Unit},
};

/// The ids of the three members of the Procfile.
pub(crate) const IDS: [u64; 3] =
    [0x264a_e6bc_59e9_9892, 0xdbaf_e5ad_6b65_2eda, 0xf570_ae41_f524_bdcb];
/// Id of the request in [`put`].
pub(crate) const PUT: u64 = 0xdbaf_e5ad_0000_7f3b;
/// Id of the request in [`get`].
pub(crate) const GET: u64 = 0xf570_ae41_0000_0101;
/// The round that the get waits for.
pub(crate) const ROUND: u64 = 0xf570_ae41_0000_0103;
/// How far the members' clocks advance from one put to the next: see [`put_again`].
pub(crate) const CLOCKS_PER_TURN: u64 = 1_000;
/// The time of the first step: 2026-01-01 12:00:00 UTC, in nanoseconds since 1970.
const BASE_NS: u64 = 1_767_268_800_000_000_000;

/// A recording under construction.
pub(crate) struct Scene {
    /// The records so far.
    pub(crate) recording: Recording,
    clocks: [u64; 3],
    links: u64,
    now_us: u64,
}

/// A step that has begun.
pub(crate) struct Open {
    clock: u64,
    begun_us: u64,
}

impl Scene {
    /// Three members that have only introduced themselves.
    pub(crate) fn three_members() -> Scene {
        let names = ["etcd-01", "etcd-02", "etcd-03"];
        let member = |(at, name): (usize, &&str)| MemberInfo {
            member_id: IDS[at],
            cluster_id: 0xc1,
            name: (*name).to_owned(),
            version: "0.1.0".to_owned(),
            boots: vec![BootInfo { boot: 1, wall_ns: BASE_NS - (at as u64 + 1) * 1_000_000_000 }],
            members: Vec::new(),
        };
        let members: Vec<MemberInfo> = names.iter().enumerate().map(member).collect();
        let recording = Recording { members, events: Vec::new(), dropped: vec![0; 3] };
        Scene { recording, clocks: [100, 200, 300], links: 0x0a0b_0c00_0000_0000, now_us: 0 }
    }

    /// Advances time to this many microseconds after noon.
    pub(crate) fn at(&mut self, us: u64) -> &mut Scene {
        assert!(self.now_us <= us, "time goes forward");
        self.now_us = us;
        self
    }

    fn tick(&mut self, member: usize) -> u64 {
        self.clocks[member] += 1;
        self.clocks[member]
    }

    fn push(&mut self, member: usize, open: &Open, stage: Stage, kind: Kind) -> &mut Event {
        let now_ns = BASE_NS + self.now_us * 1_000;
        let (begun_ns, took_ns) =
            (BASE_NS + open.begun_us * 1_000, (self.now_us - open.begun_us) * 1_000);
        assert_eq!(begun_ns + took_ns, now_ns);
        let boot_ns = self.recording.members[member].boots[0].wall_ns;
        let clock_end = if kind == Kind::Span { self.tick(member) } else { open.clock };
        self.recording.events.push(Event {
            kind,
            flags: 1,
            thread: 3,
            clock_end,
            at_ns: begun_ns - boot_ns,
            took_ns,
            ..Event::mark(member as u8, stage, open.clock)
        });
        self.recording.events.last_mut().unwrap()
    }

    /// A step that takes no time.
    pub(crate) fn mark(
        &mut self,
        member: usize,
        stage: Stage,
        id: u64,
        fields: &[u64],
    ) -> &mut Event {
        let open = self.open(member);
        let event = self.push(member, &open, stage, Kind::Mark);
        event.id = id;
        event.fields[..fields.len()].copy_from_slice(fields);
        event
    }

    /// Begins a step now. Only its end makes a record.
    pub(crate) fn open(&mut self, member: usize) -> Open {
        Open { clock: self.tick(member), begun_us: self.now_us }
    }

    /// Begins a step now, and records the beginning.
    pub(crate) fn begin(&mut self, member: usize, stage: Stage, id: u64, fields: &[u64]) -> Open {
        let open = self.open(member);
        let event = self.push(member, &open, stage, Kind::Begin);
        event.id = id;
        event.fields[..fields.len()].copy_from_slice(fields);
        open
    }

    /// Ends a step now.
    #[allow(clippy::too_many_arguments, reason = "a line of a script, all of it needed")]
    pub(crate) fn close(
        &mut self,
        member: usize,
        open: &Open,
        stage: Stage,
        id: u64,
        fields: &[u64],
    ) {
        let event = self.push(member, open, stage, Kind::Span);
        event.id = id;
        event.fields[..fields.len()].copy_from_slice(fields);
    }

    /// A step that began a moment ago and ends now.
    #[allow(clippy::too_many_arguments, reason = "a line of a script, all of it needed")]
    pub(crate) fn short(
        &mut self,
        member: usize,
        stage: Stage,
        id: u64,
        took_us: u64,
        fields: &[u64],
    ) {
        let mut open = self.open(member);
        open.begun_us = self.now_us - took_us;
        self.close(member, &open, stage, id, fields);
    }

    /// Sends a message. `message` is type, term, index, last, commit, reject.
    pub(crate) fn send(&mut self, from: usize, to: usize, id: u64, message: [u64; 6]) -> u64 {
        self.links += 1;
        let link = self.links;
        let event = self.mark(from, Stage::RaftSend, id, &[IDS[to]]);
        event.link = link;
        event.fields[1..7].copy_from_slice(&message);
        link
    }

    /// Receives the message with this link.
    pub(crate) fn receive(&mut self, from: usize, to: usize, link: u64) {
        let is_it = |e: &&Event| e.stage == Stage::RaftSend && e.link == link;
        let send = self.recording.events.iter().find(is_it).unwrap().clone();
        let event = self.mark(to, Stage::RaftReceive, send.id, &[IDS[from]]);
        event.fields[1..7].copy_from_slice(&send.fields[1..7]);
        event.link = link;
        event.flags = send.flags;
    }

    /// A message that is sent now and received 100 µs later.
    pub(crate) fn pass(&mut self, from: usize, to: usize, id: u64, message: [u64; 6]) {
        let link = self.send(from, to, id, message);
        let us = self.now_us + 100;
        self.at(us).receive(from, to, link);
    }

    /// Keyframes of all members, with etcd-01 as the leader of term 3.
    pub(crate) fn keyframes(&mut self, index: u64, revision: u64, stored: u64, seen: u64) {
        for member in 0..3 {
            let role = if member == 0 { 2 } else { 0 };
            self.mark(
                member,
                Stage::Keyframe,
                0,
                &[role, 3, index, index, revision, IDS[0], index, index],
            )
            .kind = Kind::Keyframe;
            let own_seen = if member == 1 { seen } else { 0 };
            let back =
                [stored, revision - (index - stored), index - stored, 0, IDS[0], own_seen, 1, 0];
            self.mark(member, Stage::KeyframeBackend, 0, &back).kind = Kind::Keyframe;
        }
    }

    /// A heartbeat from the leader to a member, with its answer.
    pub(crate) fn heartbeat(&mut self, to: usize, commit: u64) {
        for (from, to, number, commit) in [(0, to, 8, commit), (to, 0, 9, 0)] {
            let before = self.recording.events.len();
            self.pass(from, to, 0, [number, 3, 0, 0, commit, 0]);
            self.recording.events[before..].iter_mut().for_each(|e| e.flags |= FLAG_NOISE);
        }
    }
}

/// Members that are idle.
pub(crate) fn quiet() -> Scene {
    let mut scene = Scene::three_members();
    scene.at(1_000).keyframes(41, 7, 41, 20_000);
    scene
}

/// A put of `foo` on etcd-02 while etcd-01 leads: entry 42 of term 3, revision 7 to 8.
pub(crate) fn put() -> Scene {
    let mut scene = quiet();
    let (rpc, propose) = asked(&mut scene);
    let (_, leader_sync) = replicated(&mut scene);
    acknowledged(&mut scene, &leader_sync);
    scene.at(60_000);
    scene.heartbeat(1, 41);
    for (member, at) in [(0, 64_000), (1, 64_400), (2, 64_800)] {
        scene.at(at);
        apply(&mut scene, member, PUT);
        if member == 1 {
            scene.close(1, &propose, Stage::RaftPropose, PUT, &[28, IDS[0]]);
            scene.close(1, &rpc, Stage::Rpc, PUT, &[2, 10, 28, 8, 0]);
        }
    }
    let is_put = |event: &&mut Event| event.stage == Stage::TreeIndexPut;
    for event in scene.recording.events.iter_mut().filter(is_put) {
        event.key = Some(KeyText { bytes: b"foo".to_vec(), length: 3 });
    }
    scene.at(101_000).keyframes(42, 8, 41, 20_113);
    stored(&mut scene);
    scene
}

/// The put of a later turn. Each turn is half a second later, with the next entry and the next
/// revision.
pub(crate) fn put_again(turn: u64) -> Scene {
    let mut scene = put();
    for event in &mut scene.recording.events {
        event.clock += turn * CLOCKS_PER_TURN;
        event.clock_end += turn * CLOCKS_PER_TURN;
        event.at_ns += turn * 500_000_000;
        event.id += if event.id == 0 { 0 } else { 2 * turn };
        event.link += if event.link == 0 { 0 } else { turn * 1_000 };
        for (at, field) in event.stage.fields().iter().enumerate() {
            let grows = matches!(field.unit, Unit::Index | Unit::Revision);
            let grows = grows || (event.stage, field.name) == (Stage::KeyframeBackend, "seen");
            event.fields[at] += if grows && event.fields[at] != 0 { turn } else { 0 };
        }
    }
    scene
}

/// Client, validate, quota, admit, propose, and the message to the leader.
fn asked(scene: &mut Scene) -> (Open, Open) {
    scene.at(50_000);
    let rpc = scene.begin(1, Stage::Rpc, PUT, &[2, 10]);
    scene.recording.events.last_mut().unwrap().key =
        Some(KeyText { bytes: b"foo".to_vec(), length: 3 });
    scene.at(50_010).short(1, Stage::RpcValidate, PUT, 2, &[1]);
    scene.at(50_020).short(1, Stage::QuotaCheck, PUT, 1, &[20_480, 2_147_483_648]);
    scene.at(50_030).short(1, Stage::Admit, PUT, 1, &[41, 41]);
    scene.at(50_040);
    let propose = scene.begin(1, Stage::RaftPropose, PUT, &[28, IDS[0]]);
    scene.at(50_060).mark(1, Stage::RaftInbox, PUT, &[1, 20_000]);
    scene.at(50_080).pass(1, 0, 0, [2, 3, 0, 0, 0, 0]);
    (rpc, propose)
}

/// The leader's entry, its messages and its own WAL; then the followers'.
fn replicated(scene: &mut Scene) -> ([Open; 2], Open) {
    scene.at(50_200).mark(0, Stage::RaftEntry, PUT, &[3, 42, 28]);
    scene.at(50_210);
    let links = [1, 2].map(|to| scene.send(0, to, 0, [3, 3, 41, 42, 41, 0]));
    scene.at(50_230).short(0, Stage::WalWrite, 0, 8, &[42, 42, 41, 42, 0, 4_096]);
    let leader_sync = scene.begin(0, Stage::WalFsync, 0, &[42, 42, 41, 0, 64, 3, 0]);
    let mut syncs = Vec::new();
    for (member, link, at) in [(1, links[0], 50_320), (2, links[1], 50_350)] {
        scene.at(at).receive(0, member, link);
        scene.mark(member, Stage::RaftEntry, PUT, &[3, 42, 28]);
        scene.short(member, Stage::WalWrite, 0, 8, &[42, 42, 41, 42, 0, 4_096]);
        syncs.push(scene.begin(member, Stage::WalFsync, 0, &[42, 42, 41, 0, 64, 3, 0]));
    }
    let syncs: [Open; 2] = syncs.try_into().ok().unwrap();
    scene.at(51_250).close(1, &syncs[0], Stage::WalFsync, 0, &[42, 42, 41, 42, 64, 3, 0]);
    scene.at(51_260);
    let first = scene.send(1, 0, 0, [4, 3, 42, 0, 0, 0]);
    scene.at(51_360).receive(1, 0, first);
    scene.mark(0, Stage::RaftProgress, 0, &[IDS[1], 41, 42]);
    scene.at(51_900).close(2, &syncs[1], Stage::WalFsync, 0, &[42, 42, 41, 42, 64, 3, 0]);
    (syncs, leader_sync)
}

/// The leader's fsync completes the quorum; the followers learn of the commit.
fn acknowledged(scene: &mut Scene, leader_sync: &Open) {
    scene.at(52_400).close(0, leader_sync, Stage::WalFsync, 0, &[42, 42, 41, 42, 64, 3, 0]);
    scene.at(52_410).mark(0, Stage::RaftCommit, 0, &[3, 41, 42, IDS[0]]);
    scene.at(52_420);
    let commits = [1, 2].map(|to| scene.send(0, to, 0, [3, 3, 42, 42, 42, 0]));
    let late = scene.send(2, 0, 0, [4, 3, 42, 0, 0, 0]);
    for (member, link) in [(1, commits[0]), (2, commits[1])] {
        scene.at(52_500 + member as u64).receive(0, member, link);
        scene.mark(member, Stage::RaftCommit, 0, &[3, 41, 42, 0, 0, IDS[0]]);
    }
    scene.at(52_600).receive(2, 0, late);
    scene.mark(0, Stage::RaftProgress, 0, &[IDS[2], 41, 42]);
}

fn apply(scene: &mut Scene, member: usize, id: u64) {
    let entry = scene.open(member);
    let write = scene.open(member);
    scene.short(member, Stage::TreeIndexPut, id, 1, &[8, 0, 8, 1, 0, 1]);
    scene.short(member, Stage::BufferPut, id, 1, &[0, 1, 60]);
    scene.close(member, &write, Stage::MvccWrite, id, &[7, 8, 1]);
    scene.close(member, &entry, Stage::ApplyEntry, id, &[3, 42, 41, 42, 30_000]);
}

/// The backends' commits; each stores what its member has applied by then.
fn stored(scene: &mut Scene) {
    for (member, at) in [(0, 130_000), (1, 131_000), (2, 132_000)] {
        scene.at(at).mark(member, Stage::BufferFreeze, 0, &[1, 60, 42, 8]);
        let commit = scene.open(member);
        scene.at(at + 900).close(member, &commit, Stage::BackendCommit, 0, &[41, 42, 7, 8, 1]);
    }
}

/// A linearizable get of `foo` on etcd-03.
pub(crate) fn get() -> Scene {
    let mut scene = quiet();
    scene.at(20_000);
    let rpc = scene.begin(2, Stage::Rpc, GET, &[1, 7]);
    scene.recording.events.last_mut().unwrap().key =
        Some(KeyText { bytes: b"foo".to_vec(), length: 3 });
    scene.at(20_010).short(2, Stage::RpcValidate, GET, 2, &[1]);
    let wait = scene.open(2);
    scene.at(20_020);
    let round = scene.begin(2, Stage::ReadIndexRound, ROUND, &[1, 1]);
    scene.at(20_030).pass(2, 0, ROUND, [15, 3, 0, 0, 0, 0]);
    scene.at(20_140);
    let beats = [1, 2].map(|to| scene.send(0, to, ROUND, [8, 3, 0, 0, 41, 0]));
    scene.at(20_240).receive(0, 1, beats[0]);
    scene.pass(1, 0, ROUND, [9, 3, 0, 0, 0, 0]);
    scene.at(20_350).mark(0, Stage::ReadIndexConfirmed, ROUND, &[41, 2]);
    scene.pass(0, 2, ROUND, [16, 3, 41, 0, 0, 0]);
    scene.at(20_460).close(2, &round, Stage::ReadIndexRound, ROUND, &[1, 1, 41, 3, 2]);
    scene.close(2, &wait, Stage::ReadIndexWait, GET, &[ROUND, 0]);
    scene.at(20_470).short(2, Stage::ReadWaitApplied, GET, 1, &[41, 41]);
    let range = scene.open(2);
    scene.at(20_480).short(2, Stage::TreeIndexGet, GET, 1, &[1, 7, 0]);
    scene.at(20_490).short(2, Stage::BufferGet, GET, 1, &[0, 0, 1]);
    scene.at(20_540).short(2, Stage::BackendGet, GET, 40, &[1]);
    scene.at(20_545).close(2, &range, Stage::MvccRange, GET, &[7, 1, 40, 1]);
    scene.at(20_560).close(2, &rpc, Stage::Rpc, GET, &[1, 7, 66, 7, 0]);
    scene.at(101_000).keyframes(41, 7, 41, 20_001);
    scene
}

/// etcd-01 falls silent; etcd-02 wins a pre-vote, and then term 4, with the vote of etcd-03.
pub(crate) fn election() -> Scene {
    let mut scene = quiet();
    scene.at(1_200_000).mark(1, Stage::ElectionTimeout, 0, &[3, IDS[0]]);
    scene.mark(1, Stage::RaftRole, 0, &[0, 3, 3, 3, IDS[0], 0, IDS[0], IDS[0]]);
    scene.mark(1, Stage::ElectionCampaign, 0, &[1, 3, 4]);
    ballot(&mut scene, 1_200_100, true);
    scene.at(1_201_000).mark(1, Stage::RaftRole, 0, &[3, 1, 3, 4, 0, 0, IDS[0], IDS[1]]);
    scene.mark(1, Stage::ElectionCampaign, 0, &[0, 3, 4]);
    vote_synced(&mut scene, 1, IDS[1], 1_202_000);
    ballot(&mut scene, 1_202_100, false);
    scene.at(1_204_000).mark(1, Stage::RaftRole, 0, &[1, 2, 4, 4, 0, IDS[1], IDS[1], IDS[1]]);
    scene.mark(1, Stage::RaftEntry, 0, &[4, 42, 0]);
    scene.at(1_206_000).mark(1, Stage::RaftCommit, 0, &[4, 41, 42, IDS[2]]);
    scene
}

fn vote_synced(scene: &mut Scene, member: usize, vote: u64, at_us: u64) {
    let sync = scene.begin(member, Stage::WalFsync, 0, &[0, 0, 41, 41, 24, 4, vote]);
    scene.at(at_us).close(member, &sync, Stage::WalFsync, 0, &[0, 0, 41, 41, 24, 4, vote]);
}

/// One round of vote requests to both others, of which only etcd-03 answers.
fn ballot(scene: &mut Scene, at_us: u64, is_pre: bool) {
    let (ask, answer, pre) = if is_pre { (17, 18, 1) } else { (5, 6, 0) };
    scene.at(at_us).send(1, 0, 0, [ask, 4, 41, 0, 0, 0]);
    scene.pass(1, 2, 0, [ask, 4, 41, 0, 0, 0]);
    scene.mark(2, Stage::ElectionVote, 0, &[IDS[1], 1, pre, 4, 3, 41, 3, 41]);
    if !is_pre {
        scene.mark(2, Stage::RaftRole, 0, &[0, 0, 3, 4, IDS[0], 0, IDS[0], IDS[1]]);
        vote_synced(scene, 2, IDS[1], at_us + 1_000);
    }
    scene.pass(2, 1, 0, [answer, 4, 0, 0, 0, 0]);
    scene.mark(1, Stage::ElectionTally, 0, &[IDS[2], 1, pre, 2, 0, if is_pre { 3 } else { 4 }]);
}

/// The put without any records of etcd-01: its half of every message is missing.
pub(crate) fn gap() -> Scene {
    let mut scene = put();
    scene.recording.members.remove(0);
    scene.recording.dropped.remove(0);
    scene.recording.events.retain(|event| event.member != 0);
    scene.recording.events.iter_mut().for_each(|event| event.member -= 1);
    scene
}
