//! Listening to real observe services.

use std::{net::SocketAddr, sync::Arc, thread::JoinHandle};

use glass_etcd::{
    api::observe::ObserveService,
    field, mark,
    pb::glasspb::observe_server::ObserveServer,
    trace::{self, Collector, Info, Stage},
};
use tokio::sync::oneshot;
use tonic::transport::{Server, server::TcpIncoming};

use super::*;

const MEMBER: u64 = 0x4242;

/// A member's process: dropping its runtime closes its connections.
struct Process {
    endpoint: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    fn start(collector: Arc<Collector>, address: SocketAddr) -> Process {
        let (stop, stopped) = oneshot::channel();
        let (say, said) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let incoming = TcpIncoming::bind(address).unwrap();
                say.send(incoming.local_addr().unwrap().to_string()).unwrap();
                let service = ObserveServer::new(ObserveService::new(collector));
                let server = Server::builder().add_service(service);
                tokio::select! {
                    served = server.serve_with_incoming(incoming) => served.unwrap(),
                    _ = stopped => (),
                }
            });
        });
        let endpoint = said.recv().unwrap();
        Process { endpoint, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn until(live: &mut Live, is_it: impl Fn(&Live, &Change) -> bool) {
    loop {
        let change = live.next().await.unwrap();
        if is_it(live, &change) {
            return;
        }
    }
}

#[tokio::test]
async fn a_member_that_reconnects_is_followed_again_without_duplicates() {
    let info = Info {
        member_id: MEMBER,
        cluster_id: 9,
        name: "etcd-01".to_owned(),
        version: "0.1.0".to_owned(),
        boot: 1,
        wall_ns: 1_000_000_000_000,
    };
    let collector = trace::start(info).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let process = Process::start(Arc::clone(&collector), any);
    let endpoint = process.endpoint.clone();
    // Nothing listens at the second endpoint, which must not hold up the first.
    let deaf = "127.0.0.1:1".to_owned();
    let request = ObserveRequest { history: true, ..ObserveRequest::default() };
    let mut live = Live::connect(&[endpoint.clone(), deaf], &request);
    let id = MEMBER << 48 | 1;
    mark!(RaftEntry, id, term = 2_u64, index = 7_u64);
    let count = |live: &Live, index: u64| {
        let events = live.recording().events.iter();
        let entries = events.filter(|event| event.stage == Stage::RaftEntry);
        entries.filter(|event| field!(event, RaftEntry, index) == index).count()
    };
    until(&mut live, |live, _| count(live, 7) == 1).await;
    until(&mut live, |live, _| live.is_settled()).await;

    drop(process);
    until(&mut live, |_, change| matches!(change, Change::Down { endpoint: 0, .. })).await;
    assert_eq!(vec![true], live.silent());
    mark!(RaftEntry, id, term = 2_u64, index = 8_u64);
    let _again = Process::start(collector, endpoint.parse().unwrap());
    until(&mut live, |live, _| count(live, 8) == 1).await;
    assert_eq!([1, 1], [7, 8].map(|index| count(&live, index)));
    assert_eq!((1, vec![false]), (live.recording().members.len(), live.silent()));
    assert!(live.seen()[1].down.is_some());
}
