//! The trial: members on the copies, and what they have.

use std::{io, path::PathBuf, time::Duration};

use glass_etcd::{
    clock,
    pb::etcdserverpb::{
        RangeRequest, StatusRequest, kv_client::KvClient, maintenance_client::MaintenanceClient,
    },
};
use tonic::transport::{Channel, Endpoint};

use super::{
    outlook::{self, Log},
    scratch::Scratch,
};
use crate::{
    state::disk::Wanted,
    up::{self, Options, Output, Up},
};

/// How long the members may take until one of them leads and answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one request may take.
const CALL: Duration = Duration::from_secs(2);
/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(50);

/// Members that run on copies. They end when this is dropped.
pub(crate) struct Trial {
    // Dropped first: the members end before their directory goes.
    up: Up,
    scratch: Scratch,
    wanted: Option<Wanted>,
}

/// What one of them says about itself.
struct Found {
    name: String,
    last_copied: u64,
    /// Term, whether it leads, and revision; or why it does not answer.
    says: Result<(u64, bool, i64), String>,
}

impl Trial {
    /// Starts members on the copies.
    pub(crate) fn start(scratch: Scratch, wanted: Option<Wanted>) -> io::Result<Trial> {
        let options = Options {
            procfile: scratch.path.join("Procfile"),
            data_dir: None,
            fresh: false,
            output: Output::Files,
            late: Vec::new(),
        };
        let up = up::start(&options).map_err(io::Error::other)?;
        Ok(Trial { up, scratch, wanted })
    }

    /// Keeps the copies. The members end all the same.
    pub(crate) fn keep(self) -> io::Result<PathBuf> {
        let Trial { up, scratch, .. } = self;
        drop(up);
        scratch.keep()
    }

    /// Waits until the members answer, or have had time enough, and says what they have.
    pub(crate) async fn watch(&self) -> Vec<String> {
        let deadline = clock::now() + PATIENCE;
        loop {
            let found = self.ask().await;
            let revisions: Vec<i64> =
                found.iter().filter_map(|one| Some(one.says.as_ref().ok()?.2)).collect();
            let is_done = revisions.len() == found.len()
                && revisions.iter().all(|revision| *revision == revisions[0]);
            if is_done || deadline <= clock::now() {
                return self.told(&found);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn ask(&self) -> Vec<Found> {
        let mut found = Vec::new();
        for (member, (name, log)) in self.up.members().iter().zip(&self.scratch.members) {
            let url = member.client_urls.first().cloned().unwrap_or_default();
            let says = says(url).await;
            found.push(Found { name: name.clone(), last_copied: log.last_index, says });
        }
        found
    }

    fn told(&self, found: &[Found]) -> Vec<String> {
        let mut lines: Vec<String> = found.iter().map(of_member).collect();
        let said = self.wanted.as_ref().map(|wanted| {
            let fate = survival(wanted, found, &self.scratch.members);
            fate.words(wanted.entry.1, &self.scratch.open)
        });
        lines.extend(said);
        lines
    }
}

fn of_member(found: &Found) -> String {
    let Found { name, last_copied, says } = found;
    match says {
        Ok((term, leads, revision)) => {
            let role = if *leads { "leads" } else { "follows in" };
            format!(
                "{name} started with entries up to {last_copied}, {role} term {term}, revision {revision}"
            )
        }
        Err(why) => format!("{name} started with entries up to {last_copied}, no answer: {why}"),
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It survived, and how that is known.
    Survived(String),
    /// It is lost, and how that is known.
    Lost(String),
    /// Why that is unknown.
    Unknown(&'static str),
}

impl Fate {
    /// The sentence. A loss is undecided if the disks of these members may have had more.
    fn words(&self, index: u64, open: &[String]) -> String {
        match (self, outlook::doubt(open)) {
            (Fate::Survived(how), _) => format!("entry {index} SURVIVED: {how}"),
            (Fate::Lost(how), None) => format!("entry {index} is LOST: {how}"),
            (Fate::Lost(how), Some(doubt)) => {
                format!("entry {index}: undecided, because {doubt}; of these copies {how}")
            }
            (Fate::Unknown(why), _) => format!("entry {index}: unknown, because {why}"),
        }
    }
}

/// Whether a write survived: its entry alone makes its revision, so a member there has it. Of one
/// without a revision the log of the member that leads decides, because a leader keeps its log.
fn survival(wanted: &Wanted, found: &[Found], logs: &[Log]) -> Fate {
    let answers = found.iter().filter_map(|one| Some((one, one.says.as_ref().ok()?)));
    let revision = answers.clone().map(|(_, says)| u64::try_from(says.2).unwrap_or(0)).max();
    let Some(now) = revision else { return Fate::Unknown("no member answers") };
    if let Some(made) = wanted.revision {
        let how = format!("it made revision {made}, and the members are at {now}");
        return if made <= now { Fate::Survived(how) } else { Fate::Lost(how) };
    }
    let leader = answers.filter(|(_, says)| says.1).max_by_key(|(_, says)| says.0);
    let leader = leader.and_then(|(one, _)| logs.iter().find(|log| log.0 == one.name));
    let Some((name, log)) = leader else { return Fate::Unknown("no member leads") };
    let (term, index) = wanted.entry;
    match log.term(index) == Some(term) {
        true => Fate::Survived(format!("{name} leads, and started with it in its log")),
        false => Fate::Lost(format!("{name} leads, and started without it in its log")),
    }
}

/// What a member says, by a linearizable read and its status.
async fn says(url: String) -> Result<(u64, bool, i64), String> {
    let endpoint = Endpoint::from_shared(url).map_err(|error| error.to_string())?;
    let endpoint = endpoint.timeout(CALL).connect_timeout(CALL);
    let channel: Channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let read = RangeRequest { key: "\0".into(), count_only: true, ..RangeRequest::default() };
    let read = KvClient::new(channel.clone()).range(read).await;
    let header = read.map_err(|status| status.message().to_owned())?.into_inner().header;
    let header = header.ok_or("an answer without a header")?;
    let status = MaintenanceClient::new(channel).status(StatusRequest {}).await;
    let status = status.map_err(|status| status.message().to_owned())?.into_inner();
    Ok((status.raft_term, status.leader == header.member_id, header.revision))
}

#[cfg(test)]
mod tests {
    use glass_etcd::member::moment::Copied;

    use super::*;

    /// Two members, of which the first leads: with a log of term 1, and one of terms 1 and 2.
    fn cluster() -> (Vec<Found>, Vec<Log>) {
        let log = |name: &str, terms: &[(u64, u64)]| {
            let terms = terms.to_vec();
            (name.to_owned(), Copied { last_index: 12, last_term: 2, terms, ..Copied::default() })
        };
        let found = |name: &str, leads| {
            let name = name.to_owned();
            Found { name, last_copied: 12, says: Ok((3, leads, 5)) }
        };
        let logs = vec![log("a", &[(1, 1)]), log("b", &[(1, 1), (11, 2)])];
        (vec![found("a", true), found("b", false)], logs)
    }

    #[test]
    fn the_leaders_log_decides_on_a_write_without_a_revision() {
        let (found, logs) = cluster();
        let said = |entry, open: &[String]| {
            let wanted = Wanted { entry, ..Wanted::default() };
            survival(&wanted, &found, &logs).words(entry.1, open)
        };
        assert_eq!(
            "entry 12 SURVIVED: a leads, and started with it in its log",
            said((1, 12), &["b".to_owned()])
        );
        assert_eq!(
            "entry 12 is LOST: a leads, and started without it in its log",
            said((2, 12), &[])
        );
        assert_eq!(
            "entry 12: undecided, because no record says how far the disk of b was synced then; of \
             these copies a leads, and started without it in its log",
            said((2, 12), &["b".to_owned()])
        );
        let wanted = Wanted { entry: (1, 12), ..Wanted::default() };
        let unknown = survival(&wanted, &[], &logs).words(12, &[]);
        assert_eq!("entry 12: unknown, because no member answers", unknown);
    }

    #[test]
    fn a_revision_that_is_missing_is_lost_unless_a_disk_may_have_had_more() {
        let (found, logs) = cluster();
        let said = |revision, open: &[String]| {
            let wanted = Wanted { entry: (2, 12), revision: Some(revision), ..Wanted::default() };
            survival(&wanted, &found, &logs).words(12, open)
        };
        let survived = "entry 12 SURVIVED: it made revision 5, and the members are at 5";
        assert_eq!(survived, said(5, &[]));
        assert_eq!("entry 12 is LOST: it made revision 6, and the members are at 5", said(6, &[]));
        assert!(said(6, &["a".to_owned()]).starts_with("entry 12: undecided, because "));
    }
}
