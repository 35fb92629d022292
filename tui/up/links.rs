//! Links between members that are cut: kept here, and told to the members.
//!
//! ```text
//!   glass run cut etcd-01 etcd-02 ─▶ Links ─▶ each end's standard input: ["http://…:2480"]
//! ```
//!
//! A member cuts its links itself, so both ends are asked. It gets the peer URLs of all members
//! that it must not reach: at its start in its environment, and with every change as a line of JSON
//! on its standard input. That pipe is private to `glass up` and its child. A member without
//! [`serve::LINKS`] in its environment reads no such lines, so nothing can ask it.
//!
//! A cut outlives the processes: a member that is started again knows of it before its first
//! message. A paused member reads the line when it is resumed; until then it sends nothing anyway.
//!
//! Left out: links with programs other than this one. They could not be asked.

use std::collections::BTreeSet;

use tokio::{io::AsyncWriteExt as _, process::ChildStdin, sync::watch};

use super::{
    api::{Action, Command},
    plan::Plan,
};
use crate::serve;

/// The links that are cut, as pairs of positions in the Procfile, the lower one first.
#[derive(Debug, Default)]
pub(crate) struct Links {
    cut: BTreeSet<(usize, usize)>,
}

impl Links {
    /// Cuts or heals the link between the two processes of the command, all links of its one
    /// process, or all links. Returns the positions of the processes at their ends.
    pub(crate) fn change(
        &mut self,
        command: &Command,
        plans: &[&Plan],
    ) -> Result<Vec<usize>, String> {
        let find = |name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => find(name, plans).map(Some),
        };
        let (one, other) = (find(&command.name)?, find(&command.peer)?);
        if one.is_some() && one == other {
            return Err("a link has two different ends".to_owned());
        }
        let is_meant = |link: &(usize, usize)| {
            [one, other].iter().flatten().all(|end| *end == link.0 || *end == link.1)
        };
        let all = (0..plans.len()).flat_map(|a| (a + 1..plans.len()).map(move |b| (a, b)));
        let is_ours = |link: &(usize, usize)| {
            plans[link.0].member.is_some() && plans[link.1].member.is_some()
        };
        let meant: Vec<(usize, usize)> = all.filter(is_ours).filter(is_meant).collect();
        match command.action {
            Action::Cut if one.is_none() => {
                return Err("which link? `glass run cut etcd-01 etcd-02`".to_owned());
            }
            Action::Cut => self.cut.extend(&meant),
            _ => self.cut.retain(|link| !meant.contains(link)),
        }
        let ends: BTreeSet<usize> = meant.iter().flat_map(|(a, b)| [*a, *b]).collect();
        Ok(ends.into_iter().collect())
    }

    /// The peer URLs that this process must not reach.
    pub(crate) fn of(&self, at: usize, plans: &[&Plan]) -> Vec<String> {
        let other = |link: &(usize, usize)| match link {
            (a, b) if *a == at => Some(*b),
            (a, b) if *b == at => Some(*a),
            _ => None,
        };
        let members = self.cut.iter().filter_map(other).filter_map(|at| plans[at].member.as_ref());
        members.flat_map(|member| member.config.advertise_peer_urls.clone()).collect()
    }

    /// The names at both ends of each link that is cut.
    pub(crate) fn named(&self, plans: &[&Plan]) -> Vec<(String, String)> {
        let name = |at: usize| plans[at].name.clone();
        self.cut.iter().map(|(a, b)| (name(*a), name(*b))).collect()
    }
}

/// The position of the member with this name.
fn find(name: &str, plans: &[&Plan]) -> Result<usize, String> {
    let at = plans.iter().position(|plan| plan.name == name);
    let members = || {
        let members = plans.iter().filter(|plan| plan.member.is_some());
        members.map(|plan| plan.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    match at {
        None => Err(format!("no member {name}; there are {}", members())),
        Some(at) if plans[at].member.is_none() => {
            Err(format!("{name} is no Glass etcd member, so it cannot be asked to cut a link"))
        }
        Some(at) => Ok(at),
    }
}

/// Writes each list to a member, the newest if it reads slowly. Keeps its standard input open until
/// the sender is gone.
pub(crate) async fn tell(mut stdin: ChildStdin, mut lists: watch::Receiver<Vec<String>>) {
    while lists.changed().await.is_ok() {
        let line = serve::links_text(&lists.borrow_and_update()) + "\n";
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}
