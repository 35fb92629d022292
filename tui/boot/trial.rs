//! The trial: members on the copies, and what they have.

use std::{io, path::PathBuf, time::Duration};

use glass_etcd::{
    clock,
    pb::etcdserverpb::{
        RangeRequest, StatusRequest, kv_client::KvClient, maintenance_client::MaintenanceClient,
    },
};
use tonic::transport::{Channel, Endpoint};

use super::scratch::Scratch;
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
        let revision = found.iter().filter_map(|one| Some(one.says.as_ref().ok()?.2)).max();
        lines.extend(self.wanted.as_ref().map(|wanted| survival(wanted, revision)));
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

/// Whether a write survived: its entry alone makes its revision, so a member there has it.
fn survival(wanted: &Wanted, revision: Option<i64>) -> String {
    let Wanted { index, revision: made } = wanted;
    match revision.map(|revision| u64::try_from(revision).unwrap_or(0)) {
        None => format!("entry {index}: unknown, because no member answers"),
        Some(now) if *made <= now => {
            format!("entry {index} SURVIVED: it made revision {made}, and the members are at {now}")
        }
        Some(now) => {
            format!("entry {index} is LOST: it made revision {made}, and the members are at {now}")
        }
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
