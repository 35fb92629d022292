//! Listens to members through the generated client of the observe service, as the player does:
//! every endpoint at once, and again after a member was down.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glass_etcd::{
    pb::glasspb::{ObserveRequest, observe_client::ObserveClient, observe_response::Message},
    story::{Recording, intake::Intake, query},
    trace::Hello,
};
use tokio::task::JoinSet;
use tonic::{Status, transport::Endpoint};

use super::told::Told;
use crate::{client::eventually, cluster::Cluster};

/// How long the records of a step may take to arrive.
pub(super) const HEARD_WITHIN: Duration = Duration::from_secs(15);
/// Pause between two attempts to reach a member.
const RETRY: Duration = Duration::from_millis(50);

/// Everything received, decoded and as bytes.
#[derive(Default)]
struct Heard {
    intake: Intake,
    raw: Vec<u8>,
}

/// Listens until it is dropped.
pub(crate) struct Listener {
    heard: Arc<Mutex<Heard>>,
    _tasks: JoinSet<()>,
}

impl Listener {
    /// Listens to all members from now on; returns when each has sent its hello.
    pub(crate) async fn start(cluster: &Cluster) -> Self {
        let all: Vec<usize> = (0..cluster.members.len()).collect();
        Self::start_with(cluster, &all).await
    }

    /// Listens to these members only: the others have no records.
    pub(super) async fn start_with(cluster: &Cluster, members: &[usize]) -> Self {
        Self::start_at(cluster, members, 1000).await
    }

    /// Listens to these members, each of which keeps at most `per_second` stories a second.
    pub(super) async fn start_at(cluster: &Cluster, members: &[usize], per_second: u32) -> Self {
        let heard = Arc::<Mutex<Heard>>::default();
        let mut tasks = JoinSet::new();
        for at in members {
            let endpoint = format!("http://{}", cluster.members[*at].client_address());
            tasks.spawn(listen(endpoint, Arc::clone(&heard), per_second));
        }
        let listener = Self { heard, _tasks: tasks };
        eventually("a hello of each member", HEARD_WITHIN, || async {
            let count = listener.recording().members.len();
            if count == members.len() { Ok(()) } else { Err(format!("{count}")) }
        })
        .await;
        listener
    }

    /// The recording so far.
    pub(crate) fn recording(&self) -> Recording {
        self.heard.lock().unwrap().intake.recording.clone()
    }

    /// The records as received.
    pub(super) fn raw(&self) -> Vec<u8> {
        self.heard.lock().unwrap().raw.clone()
    }

    /// Waits until `look` accepts the recording.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        look: impl Fn(&Recording) -> Result<T, String>,
    ) -> T {
        eventually(what, HEARD_WITHIN, || async { look(&self.recording()) }).await
    }

    /// Waits for the story of the last request with this method and key, until it is complete.
    pub(super) async fn told(
        &self,
        (method, key): (&str, &str),
        is_complete: impl Fn(&Told) -> Result<(), String>,
    ) -> Told {
        self.until(&format!("the story of {method} {key}"), |recording| {
            let is_meant = |request: &&query::Summary| {
                let named = request.key.as_ref().map(glass_etcd::story::KeyText::display);
                request.method == method && named.as_deref() == Some(key)
            };
            let requests = query::requests(recording);
            let request = requests.iter().rfind(is_meant).ok_or("not in the list")?;
            let told = Told::of(recording, request.id).ok_or("no story")?;
            is_complete(&told).map_err(|complaint| format!("{complaint}\n{}", told.text()))?;
            Ok(told)
        })
        .await
    }
}

async fn listen(endpoint: String, heard: Arc<Mutex<Heard>>, per_second: u32) {
    loop {
        // The listener retries after any end of the stream: a killed member, a refused connection.
        let _ = subscribe(&endpoint, &heard, per_second).await;
        tokio::time::sleep(RETRY).await;
    }
}

async fn subscribe(
    endpoint: &str,
    heard: &Mutex<Heard>,
    traces_per_second: u32,
) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).expect("made from a port");
    let channel =
        endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut client = ObserveClient::new(channel);
    let request = ObserveRequest { traces_per_second, ..ObserveRequest::default() };
    let mut stream = client.observe(request).await?.into_inner();
    let mut place = None;
    while let Some(response) = stream.message().await? {
        let Heard { intake, raw } = &mut *heard.lock().unwrap();
        match response.message.unwrap() {
            Message::Hello(hello) => {
                let hello = Hello {
                    member_id: hello.member_id,
                    cluster_id: hello.cluster_id,
                    name: hello.name,
                    version: hello.version,
                    boot: u16::try_from(hello.boot).unwrap(),
                    wall_ns: hello.wall_ns,
                    tick_base: hello.tick_base,
                    members: Vec::new(),
                };
                place = Some(intake.hello(&hello).unwrap());
            }
            Message::Batch(batch) => {
                intake.batch(place.unwrap(), &batch.records, batch.dropped).unwrap();
                raw.extend_from_slice(&batch.records);
            }
        }
    }
    Ok(())
}
