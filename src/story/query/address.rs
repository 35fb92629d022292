//! Addresses of what happens to the cluster.
//!
//! | address                     | story                                                      |
//! |-----------------------------|------------------------------------------------------------|
//! | `election:4`                | the election for term 4 that a member won                  |
//! | `election:4.etcd-03:2:4711` | one that nobody has won, as far as captured; etcd-03 began it in its second start, at this clock, or was asked for its vote then |
//! | `step-down:3`               | the leader of term 3 ceases to lead                        |
//! | `start:etcd-03:2`           | the second start of etcd-03's data directory               |
//!
//! `glass trace list` prints the addresses, and `glass trace show` takes them.
//!
//! Invariant: an address never passes on to another story when records are added or forgotten. So
//! elections are not numbered: a term has one winner at most, and any other election
//! is named by a step of it. That name still leads to it when it is won after all.

use crate::story::MemberInfo;

/// The step with which a member began an election; if none was captured, the one with which it was
/// asked for its vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Begun {
    /// The member, by raft's id.
    pub member_id: u64,
    /// The number of its start.
    pub boot: u16,
    /// Its clock at the step.
    pub clock: u64,
}

/// Identifies something that happened to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An election.
    Election {
        /// The term for which votes were asked.
        term: u64,
        /// The step with which a member began it; `None` if it was won.
        by: Option<Begun>,
    },
    /// A leader ceases to lead.
    StepDown {
        /// The term that it led.
        term: u64,
    },
    /// A start of a member.
    Start {
        /// The member, by raft's id.
        member_id: u64,
        /// The number of the start.
        boot: u16,
    },
}

impl Address {
    /// The address as `list` prints it.
    pub fn text(self, members: &[MemberInfo]) -> String {
        match self {
            Address::Election { term, by: None } => format!("election:{term}"),
            Address::Election { term, by: Some(Begun { member_id, boot, clock }) } => {
                format!("election:{term}.{}:{boot}:{clock}", named(member_id, members))
            }
            Address::StepDown { term } => format!("step-down:{term}"),
            Address::Start { member_id, boot } => {
                format!("start:{}:{boot}", named(member_id, members))
            }
        }
    }

    /// The address with this text; `None` if it is no address.
    pub fn of(text: &str, members: &[MemberInfo]) -> Option<Address> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "election" => {
                let Some((term, step)) = rest.split_once('.') else {
                    return Some(Address::Election { term: rest.parse().ok()?, by: None });
                };
                let (start, clock) = step.rsplit_once(':')?;
                let (member_id, boot) = start_of(start, members)?;
                let by = Some(Begun { member_id, boot, clock: clock.parse().ok()? });
                Some(Address::Election { term: term.parse().ok()?, by })
            }
            "step-down" => Some(Address::StepDown { term: rest.parse().ok()? }),
            "start" => {
                let (member_id, boot) = start_of(rest, members)?;
                Some(Address::Start { member_id, boot })
            }
            _ => None,
        }
    }

    /// Whether a text has the form of an address.
    pub fn is_one(text: &str) -> bool {
        ["election:", "step-down:", "start:"].iter().any(|kind| text.starts_with(kind))
    }
}

/// The member's name, or its id in hex.
fn named(member_id: u64, members: &[MemberInfo]) -> String {
    let known = members.iter().find(|member| member.member_id == member_id);
    known.map_or_else(|| format!("{member_id:x}"), |known| known.name.clone())
}

/// Reads a member and the number of a start of it.
fn start_of(text: &str, members: &[MemberInfo]) -> Option<(u64, u16)> {
    let (name, boot) = text.rsplit_once(':')?;
    let known = members.iter().find(|member| member.name == name);
    let id = known.map(|member| member.member_id);
    Some((id.or_else(|| u64::from_str_radix(name, 16).ok())?, boot.parse().ok()?))
}
