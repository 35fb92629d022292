//! The alarm of a member that does not start, because its database is damaged.
//!
//! It has no raft, and nobody would hear of the damage. So it asks the others who is a member, at
//! their peer ports, and then one of them, as any client would, to raise the alarm CORRUPT under
//! its own id (`Maintenance.Alarm`). A member of etcd carries that out as well.
//!
//! Left out: a member alone. There is nobody to tell, and its own start says what is damaged.

use std::time::Duration;

use tonic::transport::Endpoint;

use super::peers;
use crate::{
    config::ServerConfig,
    pb::etcdserverpb::{
        AlarmRequest, AlarmType, alarm_request::AlarmAction, maintenance_client::MaintenanceClient,
    },
    server::members::{Member, hex},
    storage::wal::Metadata,
};

/// How long all of it may take; the member ends then also without the alarm.
const PATIENCE: Duration = Duration::from_secs(2);

/// Raises the alarm of this member. Blocks for [`PATIENCE`] twice at most.
pub(super) fn raise_alarm(config: &ServerConfig, owner: &Metadata) {
    let Ok(answers) = peers::ask_all(config, PATIENCE) else { return };
    let own = answers.iter().filter(|answer| answer.cluster_id == Some(owner.cluster_id));
    let members: Vec<Member> =
        own.flat_map(|it| serde_json::from_slice::<Vec<Member>>(&it.body)).flatten().collect();
    // A removed member has no alarm.
    if !members.iter().any(|member| member.id == owner.node_id) {
        return;
    }
    let others = members.into_iter().filter(|member| member.id != owner.node_id);
    let mut urls: Vec<String> = others.flat_map(|member| member.client_urls).collect();
    urls.sort();
    urls.dedup();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    let asking = async { tokio::time::timeout(PATIENCE, ask_in_turn(&urls, owner.node_id)).await };
    let raised = runtime.block_on(asking).ok().flatten();
    runtime.shutdown_background();
    let member = hex(owner.node_id);
    match raised {
        Some(url) => tracing::error!(member, through = url, "raised the alarm CORRUPT"),
        None => tracing::error!(member, "no other member has raised the alarm CORRUPT"),
    }
}

/// Asks until one has done it, and returns its URL.
async fn ask_in_turn(urls: &[String], member_id: u64) -> Option<&String> {
    let (action, alarm) = (AlarmAction::Activate as i32, AlarmType::Corrupt as i32);
    for url in urls {
        let Ok(endpoint) = Endpoint::from_shared(url.clone()) else { continue };
        let Ok(channel) = endpoint.connect_timeout(PATIENCE / 4).connect().await else { continue };
        let request = AlarmRequest { action, member_id, alarm };
        if MaintenanceClient::new(channel).alarm(request).await.is_ok() {
            return Some(url);
        }
    }
    None
}
