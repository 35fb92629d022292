//! The head of a lane.

use super::{alive::Heard, voters::Standing, watermarks::Watermarks};

/// The head of a lane: the known state of a member.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) name: String,
    /// Its watermarks, as far as known.
    pub(crate) marks: Watermarks,
    /// Whether it still sends records.
    pub(crate) heard: Heard,
    /// What the member is to the cluster; `None` if that is not known.
    pub(crate) standing: Option<Standing>,
    /// The lanes of the members to which its links are cut.
    pub(crate) cut: Vec<usize>,
}
