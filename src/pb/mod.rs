//! Messages and services, generated from the `.proto` files of this folder.
//!
//! Packages, field numbers and types are etcd's, so that its clients, its members and its log
//! files can be read. Raft's own messages ([`raft::eraftpb`]) come with raft-rs; the few that are
//! here as well ([`raftpb`]) are those that etcd numbers differently or that stand in a file.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]

macro_rules! package {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub mod $name { include!(concat!(env!("OUT_DIR"), "/", $file, ".rs")); })+
    };
}

package! {
    authpb = "authpb",
    etcdserverpb = "etcdserverpb",
    glasspb = "glasspb",
    leasepb = "leasepb",
    membershippb = "membershippb",
    mvccpb = "mvccpb",
    raftpb = "raftpb",
    snappb = "snappb",
    v3electionpb = "v3electionpb",
    v3lockpb = "v3lockpb",
    walpb = "walpb",
}
