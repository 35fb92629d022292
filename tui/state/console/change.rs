//! Requests about the members: one is added, promoted or removed, or is to lead.
//!
//! etcd's requests name a member by its id. A line may have its name instead, which the player and
//! the scenarios of lessons replace before the request is sent.

/// What is to become of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    Add { is_learner: bool },
    Remove,
    Promote,
    Lead,
}

/// A request about a member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) aim: Aim,
    /// The member's id in hex digits, or its name; of one to be added, its peer URL, or its name.
    pub(crate) subject: String,
}

impl Change {
    /// The id that the subject is.
    ///
    /// # Errors
    ///
    /// It is the name of a member that is not known, or something else.
    pub(crate) fn id(&self) -> Result<u64, String> {
        let wrong = || format!("{:?} is no id of a member: member list shows them", self.subject);
        u64::from_str_radix(&self.subject, 16).map_err(|_| wrong())
    }
}
