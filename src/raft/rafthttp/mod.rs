//! rafthttp.
