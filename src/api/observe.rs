//! The observe service: sends subscribers the records that this member keeps.
//!
//! A thin layer over the collector: it translates the filter, sends a hello, and streams batches. A
//! subscriber that reads slowly loses batches, and the next one counts the loss; it blocks no other
//! thread. The service has no stages of its own, so that watching does not show up in what is
//! watched.
//!
//! Left out until auth exists: the root role, and the redaction of keys.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::{
    pb::glasspb::{
        Batch, Hello, Named, ObserveRequest, ObserveResponse, observe_response::Message,
        observe_server,
    },
    server::members::Members,
    trace::{
        self, METHODS,
        collect::{self, Collector, Filter},
        record,
    },
};

/// Serves the records of this member to players and `glass trace`.
pub struct ObserveService {
    collector: Arc<Collector>,
    /// The members of the cluster: a hello names them, so that one that is down has a name. `None`
    /// for a collector outside of a cluster.
    members: Option<Arc<Members>>,
}

impl ObserveService {
    /// Serves the records of this collector.
    pub fn new(collector: Arc<Collector>) -> ObserveService {
        ObserveService { collector, members: None }
    }

    /// Names these members to subscribers.
    #[must_use]
    pub fn naming(self, members: Arc<Members>) -> ObserveService {
        ObserveService { members: Some(members), ..self }
    }

    /// The members that have said their names.
    fn named(&self) -> Vec<Named> {
        let all = self.members.as_ref().map(|members| members.list()).unwrap_or_default();
        let named = all.into_iter().filter(|member| !member.name.is_empty());
        named.map(|member| Named { member_id: member.id, name: member.name }).collect()
    }
}

#[tonic::async_trait]
impl observe_server::Observe for ObserveService {
    type ObserveStream = Batches;

    async fn observe(&self, request: Request<ObserveRequest>) -> Result<Response<Batches>, Status> {
        let filter = filter_of(&request.into_inner())?;
        let subscription = self.collector.subscribe(filter);
        let hello = Some(Hello { members: self.named(), ..hello_of(&subscription.hello) });
        Ok(Response::new(Batches { hello, batches: subscription.batches }))
    }
}

/// A hello, and then batches until one side ends the stream.
pub struct Batches {
    hello: Option<Hello>,
    batches: mpsc::Receiver<collect::Batch>,
}

impl Stream for Batches {
    type Item = Result<ObserveResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = match self.hello.take() {
            Some(hello) => Some(Message::Hello(hello)),
            None => match self.batches.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(batch) => batch.map(|batch| Message::Batch(batch_of(&batch))),
            },
        };
        Poll::Ready(message.map(|message| Ok(ObserveResponse { message: Some(message) })))
    }
}

fn filter_of(request: &ObserveRequest) -> Result<Filter, Status> {
    // A client that may not see keys must not find them out by trying prefixes either.
    if trace::is_redacting() && !request.key_prefix.is_empty() {
        return Err(Status::permission_denied("this member tells no keys: --trace-redact-keys"));
    }
    let method = match request.rpc.as_str() {
        "" => None,
        name => match METHODS.iter().position(|method| *method == name) {
            Some(place) => Some(place as u64),
            None => return Err(Status::invalid_argument(format!("no rpc is called {name:?}"))),
        },
    };
    Ok(Filter {
        traces_per_second: request.traces_per_second,
        key_prefix: request.key_prefix.to_vec(),
        method,
        errors_only: request.errors_only,
        history: request.history,
    })
}

fn hello_of(hello: &collect::Hello) -> Hello {
    Hello {
        member_id: hello.member_id,
        cluster_id: hello.cluster_id,
        name: hello.name.clone(),
        boot: u32::from(hello.boot),
        wall_ns: hello.wall_ns,
        tick_base: hello.tick_base,
        version: hello.version.clone(),
        members: Vec::new(),
    }
}

fn batch_of(batch: &collect::Batch) -> Batch {
    let mut records = Vec::with_capacity(batch.records.len() * record::BYTES);
    batch.records.iter().for_each(|record| record.encode(&mut records));
    Batch {
        records: records.into(),
        dropped: batch.dropped,
        seen: batch.seen,
        let_through: batch.let_through,
        watermark: batch.watermark,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::{
        pb::glasspb::observe_server::Observe,
        server::members::Member,
        trace::{Record, Stage, record::BYTES},
    };

    #[tokio::test]
    async fn a_subscriber_hears_a_hello_and_then_the_steps_of_kept_requests() {
        let (name, version) = ("etcd-01".to_owned(), "0.1.0".to_owned());
        let info = collect::Info {
            member_id: 0x5151,
            cluster_id: 9,
            name,
            version,
            boot: 3,
            wall_ns: 1_000_000_000_000,
        };
        let row = |id, name: &str| Member { id, name: name.to_owned(), ..Member::default() };
        let members = Arc::new(Members::of([row(7, "etcd-02"), row(8, "")]));
        let service = ObserveService::new(trace::start(info).unwrap()).naming(members);
        let request = ObserveRequest { history: true, ..ObserveRequest::default() };
        let mut stream = service.observe(Request::new(request)).await.unwrap().into_inner();
        let id = 0x5151 << 48 | 3;
        drop(crate::stage!(RpcValidate, id, operations = 7));
        let mut hellos = 0;
        loop {
            let next = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await;
            match next.unwrap().unwrap().message.unwrap() {
                Message::Hello(hello) => {
                    assert_eq!((0x5151, 3), (hello.member_id, hello.boot));
                    let named = Named { member_id: 7, name: "etcd-02".to_owned() };
                    assert_eq!(vec![named], hello.members, "the other has not said its name yet");
                    hellos += 1;
                }
                Message::Batch(batch) => {
                    assert_eq!((1, 0), (hellos, batch.records.len() % BYTES));
                    let (records, _) = batch.records.as_chunks::<BYTES>();
                    let mut records = records.iter().map(Record::decode);
                    if let Some(record) = records.find(|record| record.id() == id) {
                        let operations = crate::field!(record, RpcValidate, operations);
                        let seen = (record.stage(), record.head().boot, operations);
                        assert_eq!((Some(Stage::RpcValidate), 3, 7), seen);
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn an_rpc_that_does_not_exist_is_refused() {
        let named = |rpc: &str| {
            filter_of(&ObserveRequest { rpc: rpc.to_owned(), ..ObserveRequest::default() })
        };
        assert_eq!(Some(2), named("KV/Put").unwrap().method);
        assert_eq!(tonic::Code::InvalidArgument, named("KV/Putt").unwrap_err().code());
    }
}
