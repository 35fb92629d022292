//! Addresses of what happens to the cluster.
//!
//! | address           | story                                                                |
//! |-------------------|----------------------------------------------------------------------|
//! | `election:4`      | the election for term 4; `election:4.2` the second one for that term |
//! | `step-down:3`     | the leader of term 3 ceases to lead                                  |
//! | `start:etcd-03:2` | the second start of etcd-03's data directory                         |
//!
//! `glass trace list` prints the addresses, and `glass trace show` takes them.

use crate::story::MemberInfo;

/// Identifies something that happened to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An election.
    Election {
        /// The term for which votes were asked.
        term: u64,
        /// Its number among the elections for the term, from 1.
        nth: u16,
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
            Address::Election { term, nth: 0 | 1 } => format!("election:{term}"),
            Address::Election { term, nth } => format!("election:{term}.{nth}"),
            Address::StepDown { term } => format!("step-down:{term}"),
            Address::Start { member_id, boot } => {
                let known = members.iter().find(|member| member.member_id == member_id);
                let name =
                    known.map_or_else(|| format!("{member_id:x}"), |known| known.name.clone());
                format!("start:{name}:{boot}")
            }
        }
    }

    /// The address with this text; `None` if it is no address.
    pub fn of(text: &str, members: &[MemberInfo]) -> Option<Address> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "election" => {
                let (term, nth) = rest.split_once('.').unwrap_or((rest, "1"));
                Some(Address::Election { term: term.parse().ok()?, nth: nth.parse().ok()? })
            }
            "step-down" => Some(Address::StepDown { term: rest.parse().ok()? }),
            "start" => {
                let (name, boot) = rest.rsplit_once(':')?;
                let known = members.iter().find(|member| member.name == name);
                let id = known.map(|member| member.member_id);
                let member_id = id.or_else(|| u64::from_str_radix(name, 16).ok())?;
                Some(Address::Start { member_id, boot: boot.parse().ok()? })
            }
            _ => None,
        }
    }

    /// Whether a text has the form of an address.
    pub fn is_one(text: &str) -> bool {
        ["election:", "step-down:", "start:"].iter().any(|kind| text.starts_with(kind))
    }
}
