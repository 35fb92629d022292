//! The sentences of single steps, by the fields of their records.

use glass_etcd::{numbers, trace::Reason};

use super::*;
use crate::state::{scenes::IDS, voters::Voters};

const A: u64 = IDS[0];
const B: u64 = IDS[1];
const C: u64 = IDS[2];

fn lanes() -> Vec<Lane> {
    let lane = |(at, name): (usize, &&str)| Lane {
        name: (*name).to_owned(),
        member_id: IDS[at],
        place: u8::try_from(at).ok(),
    };
    ["etcd-01", "etcd-02", "etcd-03"].iter().enumerate().map(lane).collect()
}

/// The watermarks of a member after it has come to this role, term, leader and vote.
fn marks(role: u64, term: u64, leader: u64, vote: u64) -> Watermarks {
    let mut marks = Watermarks::default();
    let fields = numbers!(
        RaftRole,
        role_old = 0,
        role_new = role,
        term_old = 0,
        term_new = term,
        leader_old = 0,
        leader_new = leader,
        vote_old = 0,
        vote_new = vote
    );
    marks.learn(&Event { fields, ..Event::mark(0, Stage::RaftRole, 1) }, 1);
    marks
}

/// What etcd-01 says about a step of its own.
fn said(stage: Stage, fields: [u64; 8], before: &Watermarks) -> String {
    said_of(stage, fields, before, &[])
}

/// The same, where these terms began with these entries.
fn said_of(stage: Stage, fields: [u64; 8], before: &Watermarks, openings: &[(u64, u64)]) -> String {
    let event = Event { fields, ..Event::mark(0, stage, 2) };
    let openings = &openings.iter().copied().collect();
    let voters = Some(&Voters::all(3));
    sentence(
        &event,
        Around { lanes: &lanes(), own: "etcd-01", own_id: A, before, openings, voters },
    )
}

fn message(number: u64, reject: bool) -> [u64; 8] {
    numbers!(
        RaftSend,
        peer = B,
        type = number,
        term = 4,
        index = 8,
        last = 9,
        commit = 7,
        reject = reject
    )
}

#[test]
fn each_type_of_message_has_its_own_sentence() {
    let number = |name| message::MESSAGES.iter().position(|known| *known == name).unwrap() as u64;
    let sent =
        |name, reject| said(Stage::RaftSend, message(number(name), reject), &Watermarks::default());
    let expected = [
        ("MsgProp", "etcd-01 forwards a client's proposal to etcd-02, which it takes for the"),
        ("MsgApp", "etcd-01 sends etcd-02 entry 9, to be put after entry 8, and says that"),
        ("MsgAppResp", "etcd-01 says that everything up to entry 8 is on its disk."),
        ("MsgVote", "etcd-01 asks etcd-02 for its vote in term 4. Its own log ends with entry 8."),
        ("MsgVoteResp", "etcd-01 votes for etcd-02 in term 4."),
        ("MsgSnap", "etcd-01 sends etcd-02 a snapshot that ends with entry 8."),
        ("MsgHeartbeat", "etcd-01 says that it still leads term 4. Of the entries"),
        ("MsgHeartbeatResp", "etcd-01 says that it still follows etcd-02."),
        ("MsgTimeoutNow", "etcd-01 asks etcd-02 to stand for election at once."),
        ("MsgReadIndex", "etcd-01 asks etcd-02, which it takes for the leader, up to which entry"),
        ("MsgReadIndexResp", "etcd-01 answers that everything up to entry 8 was committed when"),
        ("MsgPreVote", "etcd-01 asks whether etcd-02 would vote for it in term 4."),
        ("MsgPreVoteResp", "etcd-01 would vote for etcd-02 in term 4."),
    ];
    for (name, begins) in expected {
        let sentence = sent(name, false);
        assert!(sentence.starts_with(begins), "{name}: {sentence}");
    }
    let refused = [
        ("MsgAppResp", "The log of etcd-01 does not match at entry 8"),
        ("MsgVoteResp", "etcd-01 does not vote for etcd-02 in term 4."),
        ("MsgPreVoteResp", "etcd-01 would not vote for etcd-02. Its own term is 4."),
    ];
    for (name, begins) in refused {
        let sentence = sent(name, true);
        assert!(sentence.starts_with(begins), "{name}: {sentence}");
    }
}

#[test]
fn a_received_message_is_told_from_its_sender_s_side() {
    let received = said(Stage::RaftReceive, message(message::APP_RESP, false), &marks(2, 4, A, A));
    assert_eq!(received, "etcd-02 says that everything up to entry 8 is on its disk.");
    let nothing =
        numbers!(RaftReceive, peer = B, type = message::APP, term = 4, index = 8, commit = 8);
    let received = said(Stage::RaftReceive, nothing, &Watermarks::default());
    assert!(received.starts_with("etcd-02 sends etcd-01 no entries."), "{received}");
    // raft-rs answers a leader of an earlier term so.
    let only_term = numbers!(RaftReceive, peer = B, type = message::APP_RESP, term = 5);
    let received = said(Stage::RaftReceive, only_term, &Watermarks::default());
    assert_eq!(received, "etcd-02 answers with its term, 5, and says nothing about its log.");
}

#[test]
fn a_leader_commits_and_a_follower_learns_of_it() {
    let commit = |by, before: &Watermarks| {
        let fields =
            numbers!(RaftCommit, term = 4, commit_old = 7, commit_new = 9, completed_by = by);
        said(Stage::RaftCommit, fields, before)
    };
    let leader = commit(C, &marks(2, 4, A, A));
    let begins = "The acknowledgement of etcd-03 completed a majority of the disks for entries 8";
    assert!(leader.starts_with(begins), "{leader}");
    let own = commit(A, &marks(2, 4, A, A));
    assert!(own.starts_with("With the leader's own disk, a majority of the disks has"), "{own}");
    let follower = commit(B, &marks(0, 4, B, B));
    assert_eq!(follower, "etcd-01 learns from etcd-02 that entries 8 to 9 are committed.");
    let fields = numbers!(RaftCommit, commit_old = 7, commit_new = 9, learned_from = B);
    assert_eq!(follower, said(Stage::RaftCommit, fields, &Watermarks::default()));
    // Its role is not known, so nothing is said about who decided.
    let unknown = commit(B, &Watermarks::default());
    assert_eq!(unknown, "etcd-01 knows from here on that entries 8 to 9 are committed.");
}

#[test]
fn a_read_that_finds_all_applied_has_nothing_to_wait_for() {
    let read = |applied| {
        let fields = numbers!(ReadWaitApplied, index = 9, applied = applied);
        said(Stage::ReadWaitApplied, fields, &Watermarks::default())
    };
    assert!(read(9).contains("nothing to wait for"), "{}", read(9));
    assert!(read(8).contains("had applied only up to entry 8. The read waited"), "{}", read(8));
}

#[test]
fn a_refused_vote_says_by_which_rule() {
    let vote = |pre: bool, granted: bool, (term, last_term, last), before: &Watermarks| {
        let fields = numbers!(
            ElectionVote,
            candidate = C,
            granted = granted,
            pre = pre,
            term = term,
            last_term = last_term,
            last = last,
            own_last_term = 4,
            own_last = 9
        );
        said(Stage::ElectionVote, fields, before)
    };
    let follower = marks(0, 4, B, B);
    let granted = vote(false, true, (5, 4, 9), &marks(0, 4, 0, 0));
    assert!(granted.starts_with("etcd-01 votes for etcd-03 in term 5: the candidate's log ends"));
    let cases = [
        (
            vote(true, false, (5, 4, 9), &follower),
            "it received a message from the leader etcd-02 within",
        ),
        (vote(true, false, (5, 4, 8), &marks(0, 4, 0, 0)), "entry 9 of term 4, which is newer"),
        (vote(true, false, (5, 3, 99), &marks(0, 4, 0, 0)), "entry 9 of term 4, which is newer"),
        (
            vote(false, false, (4, 4, 9), &marks(0, 4, 0, B)),
            "given its vote in this term to etcd-02",
        ),
        (vote(false, false, (4, 4, 9), &marks(0, 4, B, 0)), "it follows etcd-02 in this term"),
        (vote(false, false, (3, 4, 9), &follower), "etcd-01 is in a later term already"),
        (vote(true, false, (5, 4, 9), &Watermarks::default()), "the record does not say why"),
    ];
    for (sentence, reason) in cases {
        assert!(sentence.contains(reason), "{sentence}");
        assert!(!sentence.contains("votes for"), "{sentence}");
    }
}

/// Goal: the reason that the member has recorded is the one. Method: a candidate whose log is
/// older, and which the member ignores for another reason.
#[test]
fn a_vote_that_was_refused_with_a_reason_says_that_one() {
    let old_log =
        numbers!(ElectionVote, candidate = C, pre = 1, term = 5, own_last_term = 4, own_last = 9);
    for (reason, says) in [
        (Reason::VoteLeaderHeard, "it received a message from the leader etcd-02 within"),
        (Reason::VoteLeads, "etcd-01 leads, so it ignores candidates"),
        (Reason::VoteOldLog, "entry 9 of term 4, which is newer"),
    ] {
        let refused = Event {
            fields: old_log,
            reason: Some(reason),
            ..Event::mark(0, Stage::ElectionVote, 1)
        };
        let (before, openings) = (&marks(0, 4, B, B), &BTreeMap::new());
        let voters = None;
        let around =
            Around { lanes: &lanes(), own: "etcd-01", own_id: A, before, openings, voters };
        let said = sentence(&refused, around);
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn an_fsync_says_what_the_disk_has_confirmed() {
    let fsync = |fields| said(Stage::WalFsync, fields, &Watermarks::default());
    let one = fsync(numbers!(WalFsync, first = 9, last = 9));
    assert!(one.contains("confirms entry 9") && one.ends_with("does not lose it."), "{one}");
    let vote = fsync(numbers!(WalFsync, term = 5, vote = C));
    assert!(vote.contains("confirms its vote for etcd-03 in term 5."), "{vote}");
    let term = fsync(numbers!(WalFsync, term = 5));
    assert!(term.contains("has voted for nobody"), "{term}");
    assert_eq!(fsync([0; 8]), Stage::WalFsync.meaning().trim());
}

#[test]
fn a_step_whose_record_says_no_more_has_the_sentence_of_its_stage() {
    let sentence = said(Stage::MvccWrite, [0; 8], &Watermarks::default());
    assert_eq!(sentence, Stage::MvccWrite.meaning().trim());
}

/// What a leader knows when an acknowledgement reaches it.
#[test]
fn an_acknowledgement_is_told_with_the_disks_that_the_leader_knows_of() {
    let ack = numbers!(RaftReceive, peer = C, type = message::APP_RESP, term = 4, index = 9);
    let mut leader = marks(2, 4, A, A);
    let begins = "etcd-03 says that everything up to entry 9 is on its disk.";
    assert_eq!(begins, said(Stage::RaftReceive, ack, &leader), "the own disk is not known");
    let mut learn = |stage, fields, clock| {
        leader.learn(&Event { fields, kind: Kind::Span, ..Event::mark(0, stage, clock) }, 1);
        said(Stage::RaftReceive, ack, &leader)
    };
    let without = learn(Stage::WalFsync, numbers!(WalFsync, synced_old = 7, synced_new = 8), 3);
    let knows = "that is 1 of 3, as far as etcd-01 knows.";
    assert_eq!(format!("{begins} Without the leader's own disk, {knows}"), without);
    let with = learn(Stage::WalFsync, numbers!(WalFsync, synced_old = 8, synced_new = 9), 4);
    let knows = "that is 2 of 3, as far as etcd-01 knows.";
    assert_eq!(format!("{begins} With the leader's own disk, {knows}"), with);
    let progress = numbers!(RaftProgress, peer = B, match_old = 0, match_new = 9);
    let all = learn(Stage::RaftProgress, progress, 5);
    assert!(all.ends_with("that is 3 of 3, as far as etcd-01 knows."), "{all}");
    // A follower counts nothing.
    assert_eq!(begins, said(Stage::RaftReceive, ack, &marks(0, 4, B, B)));
}

#[test]
fn where_the_empty_entry_of_the_term_was_needed_the_commit_says_so() {
    let commit = |old: u64, new: u64, openings: &[(u64, u64)]| {
        let fields =
            numbers!(RaftCommit, term = 4, commit_old = old, commit_new = new, completed_by = C);
        said_of(Stage::RaftCommit, fields, &marks(2, 4, A, A), openings)
    };
    let alone = commit(8, 9, &[(4, 9)]);
    let begins = "The acknowledgement of etcd-03 completed a majority of the disks for entry 9";
    let is = ", the empty one with which the leader began its term 4, so it is committed.";
    assert_eq!(format!("{begins}{is}"), alone);
    let inherited = commit(6, 9, &[(4, 9), (3, 5)]);
    let needed =
        "entry 9 was needed for that, the empty one with which the leader began its term 4";
    assert!(inherited.contains("for entries 7 to 9. Those before entry 9 are of"), "{inherited}");
    assert!(inherited.contains(needed), "{inherited}");
    for later in [commit(9, 11, &[(4, 9)]), commit(9, 11, &[])] {
        assert!(
            later.ends_with("is of the leader's own term 4, so they are committed."),
            "{later}"
        );
    }
}

#[test]
fn an_election_says_which_round_of_votes_begins_and_whether_a_leader_was_ever_heard() {
    let campaign = |pre: u64, old: u64, new: u64| {
        let fields = numbers!(ElectionCampaign, pre = pre, term_old = old, term_new = new);
        said(Stage::ElectionCampaign, fields, &Watermarks::default())
    };
    assert!(campaign(1, 2, 2).contains("would vote for it (pre-vote). Its own term stays 2"));
    assert!(
        campaign(0, 2, 3).starts_with("The member raises its term from 2 to 3, votes for itself")
    );
    let timeout = |silent: u64| {
        let fields = numbers!(ElectionTimeout, term = 2, silent = silent);
        said(Stage::ElectionTimeout, fields, &Watermarks::default())
    };
    assert!(timeout(0).contains("has heard no leader since it started"));
    assert!(timeout(1_200_000_000).starts_with("The last message of a leader came 1.2 s ago."));
    let entry = numbers!(RaftEntry, term = 3, index = 9);
    let opened = said(Stage::RaftEntry, entry, &Watermarks::default());
    assert!(opened.starts_with("The leader of term 3 begins its term with an empty entry"));
    let put = numbers!(RaftEntry, term = 3, index = 9, bytes = 30);
    assert_eq!(
        Stage::RaftEntry.meaning().trim(),
        said(Stage::RaftEntry, put, &Watermarks::default())
    );
    let revoke = |keys: u64| {
        said(Stage::LeaseRevoke, numbers!(LeaseRevoke, keys = keys), &Watermarks::default())
    };
    assert_eq!("The lease ends. No key was attached to it.", revoke(0));
    assert_eq!(Stage::LeaseRevoke.meaning().trim(), revoke(2));
}
