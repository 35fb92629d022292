//! Steps of an election whose meaning depends on the record: which of the two rounds of votes it
//! begins, and whether the member had ever heard a leader.

use glass_etcd::{field, fields, story::Event};

use crate::state::words;

/// The entry with which a leader begins its term; `None` for the entry of a request.
pub(super) fn opened(event: &Event) -> Option<String> {
    let [term, bytes] = fields!(event, RaftEntry: term, bytes);
    ((event.id, bytes) == (0, 0)).then(|| {
        format!(
            "The leader of term {term} begins its term with an empty entry, which gets its place \
             in this member's log. Once it is committed, so are all entries before it."
        )
    })
}

/// The member campaigns because it hears no leader.
pub(super) fn timed_out(event: &Event) -> String {
    match field!(event, ElectionTimeout, silent) {
        0 => "The member has heard no leader since it started, and does not wait any longer."
            .to_owned(),
        silent => format!(
            "The last message of a leader came {} ago. None has come within the election timeout, \
             which raft counts in ticks.",
            words::duration(silent)
        ),
    }
}

/// The member asks for votes: whether it would get them, or for the votes themselves.
pub(super) fn campaigned(event: &Event) -> String {
    let [pre, old, new] = fields!(event, ElectionCampaign: pre, term_old, term_new);
    if pre == 1 {
        return format!(
            "The member asks the others whether they would vote for it (pre-vote). Its own term \
             stays {old} until a majority would."
        );
    }
    format!(
        "The member raises its term from {old} to {new}, votes for itself, and asks the others for \
         their votes."
    )
}
