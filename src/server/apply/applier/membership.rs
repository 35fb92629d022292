//! Changes of the members, applied: every member validates the change, raft gets its new
//! configuration, and the rows of the members and the configuration are stored together with the
//! consistent index (etcd: `applyConfChange`).
//!
//! No lock is held while raft answers. A refused change goes to raft, too, as one of node 0, so
//! that raft learns that nothing is pending. A new member is dialled before raft sends to
//! it, and a removed one is refused after raft has ceased to.

use std::{
    ops::ControlFlow,
    sync::mpsc::{RecvError, sync_channel},
};

use prost::Message as _;
use raft::eraftpb::{ConfChange, ConfState, Entry};

use super::Applier;
use crate::{
    pb::raftpb,
    raft::{bootstrap, inbox::Input, rafthttp},
    server::{
        Error,
        command::EntryError,
        error::note,
        members::{Refusal, change::Change},
        outcome::{Outcome, Response},
        v2store::Kind,
    },
    set, stage,
    storage::fatal,
    trace,
};

/// The writes that etcd makes in its v2 store for a change.
fn noted(change: &Change) -> &'static [Kind] {
    match change {
        Change::Add(_) => &[Kind::Create],
        Change::Remove(_) => &[Kind::Delete, Kind::Create],
        Change::Promote(_) | Change::Update(..) => &[Kind::Update],
    }
}

impl Applier {
    /// Applies an entry that changes the members.
    ///
    /// Breaks if raft has ended without an answer. Then this thread must end too: the entry is
    /// applied at the next start only if no later one is applied now.
    pub(super) fn apply_conf_change(&self, entry: &Entry, since: u64) -> ControlFlow<()> {
        if entry.index <= self.status.applied() {
            tracing::warn!(index = entry.index, "an entry came to apply a second time");
            return ControlFlow::Continue(());
        }
        let index = entry.index;
        let change = raftpb::ConfChange::decode(entry.data.as_ref());
        let change = change.unwrap_or_else(|source| fatal(&EntryError::Damaged { index, source }));
        let id = change.id();
        fail::fail_point!("members-before-change");
        let mut span = self.open(entry, id, since);
        let Ok(result) = self.change_members(entry, &change) else { return ControlFlow::Break(()) };
        let result = result.map(|()| Response::Members(self.members.list()));
        let result = note(&mut span, result.map_err(Error::Members));
        drop(span);
        let own = self.is_own(id).then_some(Outcome { id, result });
        self.finish(Some(entry), own.into_iter().collect());
        ControlFlow::Continue(())
    }

    /// Carries out the change, or records why it is refused. Fails if raft has ended.
    fn change_members(
        &self,
        entry: &Entry,
        change: &raftpb::ConfChange,
    ) -> Result<Result<(), Refusal>, RecvError> {
        let (voters, learners) = self.members.counts();
        let mut span = stage!(
            MembersChange,
            change.id(),
            subject = change.node_id(),
            voters_old = voters,
            learners_old = learners
        );
        let decoded = Change::of(change);
        if let Ok(change) = &decoded {
            set!(span, MembersChange, change = change.number());
        }
        let accepted = decoded.and_then(|change| {
            self.members.validate(&change)?;
            Ok(change)
        });
        if let Ok(Change::Add(member)) = &accepted {
            self.dial(member.id, &member.peer_urls);
        }
        let translated = accepted.as_ref().ok().and_then(|_| bootstrap::translate(change));
        let asked = trace::handed_over();
        let conf_state = self.configured(entry.index, translated)?;
        set!(span, MembersChange, waited = trace::waited_ns(asked));
        let result = self.store_change(entry, accepted, &conf_state);
        let (voters, learners) = self.members.counts();
        set!(span, MembersChange, voters_new = voters, learners_new = learners);
        if let Err(refusal) = result {
            tracing::warn!(%refusal, index = entry.index, "a configuration change was refused");
            span.fail(refusal.reason());
        }
        Ok(result)
    }

    /// Has raft carry out the change, or none, and returns its configuration.
    fn configured(&self, index: u64, change: Option<ConfChange>) -> Result<ConfState, RecvError> {
        let (answer, conf_state) = sync_channel(1);
        let change = change.unwrap_or_else(bootstrap::no_change);
        let _ = self.inbox.send(Input::ApplyConfChange { index, change, answer });
        conf_state.recv()
    }

    /// Stores the members, raft's configuration and the consistent index together.
    fn store_change(
        &self,
        entry: &Entry,
        accepted: Result<Change, Refusal>,
        conf_state: &ConfState,
    ) -> Result<(), Refusal> {
        let mut batch = self.store.batch();
        let result = accepted.map(|change| {
            tracing::info!(?change, "the members of the cluster have changed");
            self.members.apply(change.clone(), batch.backend());
            self.v2.note_cluster(noted(&change), batch.backend());
            change
        });
        batch.backend().set_conf_state(bootstrap::conf_state_json(conf_state).into());
        batch.set_applied(entry.index, entry.term);
        drop(batch);
        match result? {
            Change::Remove(id) if id != self.member_id => self.peers.remove_peer(id),
            Change::Update(id, urls) => self.dial(id, &urls),
            Change::Remove(_) | Change::Add(_) | Change::Promote(_) => {}
        }
        Ok(())
    }

    /// Talks to a member at these URLs from now on.
    fn dial(&self, id: u64, urls: &[String]) {
        if id != self.member_id {
            self.peers.set_peer(rafthttp::Peer { id, urls: urls.to_vec() });
        }
    }
}
