//! Sends the requests that the user types, one task for each.
//!
//! ```text
//!   Errand::Send ──▶ a task: gRPC to the member's own address ──▶ Answer ──▶ the loop
//!   Errand::Cancel ──▶ ends the task, and so the call
//! ```
//!
//! A request goes to the member that was chosen, and to no other: a learner wants to see what
//! *this* member answers, so there is no balancer, no failover and no retry. There is no deadline
//! either: the server has its own, and a request that waits is worth watching.
//!
//! Every call names its trace in a `traceparent`, by which the player finds its story.

mod answers;

use std::{collections::HashMap, time::Instant};

use glass_etcd::{
    clock,
    pb::{
        etcdserverpb::{
            DefragmentRequest, LeaseLeasesRequest, MemberAddRequest, MemberListRequest,
            MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest, StatusRequest,
            WatchRequest, cluster_client::ClusterClient, kv_client::KvClient,
            lease_client::LeaseClient, maintenance_client::MaintenanceClient,
            watch_client::WatchClient, watch_request::RequestUnion,
        },
        v3lockpb::lock_client::LockClient,
    },
    trace::context::Context,
};
use tokio::{sync::mpsc, task::AbortHandle};
use tonic::{Status, transport::Channel};

use crate::{
    source,
    state::console::{
        Answer, Errand,
        change::{Aim, Change},
        request::Request,
    },
};
use answers::Lines;

/// Answers that wait for the player; beyond that, the streams are held back.
const WAITING: usize = 64;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Client {
    channels: HashMap<String, Channel>,
    tasks: HashMap<u64, AbortHandle>,
    sender: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
}

impl Client {
    pub(crate) fn new() -> Client {
        let (sender, answers) = mpsc::channel(WAITING);
        Client { channels: HashMap::new(), tasks: HashMap::new(), sender, answers }
    }

    /// Does what the state asks for. Must be called inside a runtime.
    pub(crate) fn run(&mut self, errand: Errand) {
        self.tasks.retain(|_, task| !task.is_finished());
        match errand {
            Errand::Send { number, endpoint, request, context } => {
                let call = Call { number, context, begun: clock::now() };
                let (channel, sender) = (self.channel(endpoint), self.sender.clone());
                let task = tokio::spawn(call.run(channel, request, sender));
                self.tasks.insert(number, task.abort_handle());
            }
            Errand::Cancel { number } => {
                self.tasks.remove(&number).iter().for_each(AbortHandle::abort);
            }
        }
    }

    /// The next answer. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Answer {
        match self.answers.recv().await {
            Some(answer) => answer,
            // The client itself holds a sender.
            None => std::future::pending().await,
        }
    }

    /// A channel connects at its first call, and again after a restart of its member.
    fn channel(&mut self, endpoint: String) -> Result<Channel, String> {
        if let Some(channel) = self.channels.get(&endpoint) {
            return Ok(channel.clone());
        }
        let channel = source::endpoint(&endpoint)?.connect_lazy();
        self.channels.insert(endpoint, channel.clone());
        Ok(channel)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.values().for_each(AbortHandle::abort);
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u64,
    context: Context,
    begun: Instant,
}

impl Call {
    async fn run(
        self,
        channel: Result<Channel, String>,
        request: Request,
        sender: mpsc::Sender<Answer>,
    ) {
        let result = match channel {
            Ok(channel) => self.ask(channel, request, &sender).await.map_err(|s| text(&s)),
            Err(error) => Err(error),
        };
        let is_error = result.is_err();
        let Lines { lines, lock } =
            result.unwrap_or_else(|error| Lines { lines: vec![error], lock: None });
        let took_ns = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (number, took_ns) = (self.number, Some(took_ns));
        // A player that has ended needs no answer.
        _ = sender.send(Answer { number, lines, is_error, took_ns, lock }).await;
    }

    /// The answer, or its last part.
    async fn ask(
        self,
        channel: Channel,
        request: Request,
        sender: &mpsc::Sender<Answer>,
    ) -> Result<Lines, Status> {
        let mut kv = KvClient::new(channel.clone());
        let mut lease = LeaseClient::new(channel.clone());
        let mut lock = LockClient::new(channel.clone());
        Ok(match request {
            Request::Put(put) => answers::put(&kv.put(self.traced(put)).await?.into_inner()),
            Request::Range(range) => {
                answers::range(&kv.range(self.traced(range)).await?.into_inner())
            }
            Request::Delete(delete) => {
                answers::delete(&kv.delete_range(self.traced(delete)).await?.into_inner())
            }
            Request::Txn(txn) => answers::txn(&kv.txn(self.traced(txn)).await?.into_inner()),
            Request::Compact(compact) => {
                answers::compact(&kv.compact(self.traced(compact)).await?.into_inner())
            }
            Request::Watch(create) => {
                let create =
                    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
                return self.watch(channel, create, sender).await;
            }
            Request::Grant(grant) => {
                answers::grant(&lease.lease_grant(self.traced(grant)).await?.into_inner())
            }
            Request::KeepAlive(renewal) => {
                let renewals = self.traced(tokio_stream::once(renewal));
                let mut stream = lease.lease_keep_alive(renewals).await?.into_inner();
                answers::renewal(stream.message().await?.as_ref())
            }
            Request::Revoke(revoke) => {
                answers::revoke(&lease.lease_revoke(self.traced(revoke)).await?.into_inner())
            }
            Request::TimeToLive(asked) => answers::time_to_live(
                &lease.lease_time_to_live(self.traced(asked)).await?.into_inner(),
            ),
            Request::Leases => {
                let leases = lease.lease_leases(self.traced(LeaseLeasesRequest {})).await?;
                answers::leases(&leases.into_inner())
            }
            Request::Lock(name) => answers::lock(&lock.lock(self.traced(name)).await?.into_inner()),
            Request::Unlock(key) => {
                answers::unlock(&lock.unlock(self.traced(key)).await?.into_inner())
            }
            other => return self.of_cluster(channel, other).await,
        })
    }

    /// A request about the members and their state.
    async fn of_cluster(self, channel: Channel, request: Request) -> Result<Lines, Status> {
        let mut maintenance = MaintenanceClient::new(channel.clone());
        match request {
            Request::Change(change) => self.change(channel, change).await,
            Request::Defragment => {
                maintenance.defragment(self.traced(DefragmentRequest {})).await?;
                Ok(answers::done("the file was made anew"))
            }
            Request::Status => {
                let status = maintenance.status(self.traced(StatusRequest {})).await?;
                Ok(answers::status(&status.into_inner()))
            }
            _ => {
                let asked = MemberListRequest { linearizable: true };
                let mut cluster = ClusterClient::new(channel);
                let list = cluster.member_list(self.traced(asked)).await?;
                Ok(answers::members(&list.into_inner().members))
            }
        }
    }

    /// Changes the members of the cluster, or who leads it.
    async fn change(self, channel: Channel, change: Change) -> Result<Lines, Status> {
        let mut cluster = ClusterClient::new(channel.clone());
        let id = |change: &Change| change.id().map_err(Status::invalid_argument);
        Ok(match change.aim {
            Aim::Add { is_learner } => {
                let peer_ur_ls = vec![change.subject];
                let added = self.traced(MemberAddRequest { peer_ur_ls, is_learner });
                answers::members(&cluster.member_add(added).await?.into_inner().members)
            }
            Aim::Remove => {
                let removed = self.traced(MemberRemoveRequest { id: id(&change)? });
                answers::members(&cluster.member_remove(removed).await?.into_inner().members)
            }
            Aim::Promote => {
                let promoted = self.traced(MemberPromoteRequest { id: id(&change)? });
                answers::members(&cluster.member_promote(promoted).await?.into_inner().members)
            }
            Aim::Lead => {
                let asked = self.traced(MoveLeaderRequest { target_id: id(&change)? });
                MaintenanceClient::new(channel).move_leader(asked).await?;
                answers::done("it leads")
            }
        })
    }

    /// Tells what a watcher is sent, until the member or the user ends it.
    async fn watch(
        self,
        channel: Channel,
        create: WatchRequest,
        sender: &mpsc::Sender<Answer>,
    ) -> Result<Lines, Status> {
        // The member ends the watcher when the client's side of the stream ends.
        let (open, messages) = mpsc::channel(1);
        _ = open.send(create).await;
        let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
        let mut client = WatchClient::new(channel);
        let mut stream = client.watch(self.traced(messages)).await?.into_inner();
        while let Some(response) = stream.message().await? {
            let lines = answers::watch(&response);
            if response.canceled {
                return Ok(Lines { lines, lock: None });
            }
            let part = Answer { number: self.number, lines, ..Answer::default() };
            if sender.send(part).await.is_err() {
                break;
            }
        }
        Ok(Lines { lines: vec!["the member has ended the stream".to_owned()], lock: None })
    }

    /// The message with the trace in which it is sent.
    fn traced<M>(self, message: M) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        let parent = self.context.parent().parse().expect("hex digits are ASCII");
        request.metadata_mut().insert("traceparent", parent);
        request
    }
}

/// The server's words as they are; without any, why it was not reached.
fn text(status: &Status) -> String {
    let why = match std::error::Error::source(status) {
        Some(source) => source::cause(source),
        None => status.message().to_owned(),
    };
    if why.is_empty() { status.code().description().to_owned() } else { why }
}

#[cfg(test)]
mod tests;
