//! Requests to members that do not answer as one would like.

use std::time::Duration;

use glass_etcd::pb::etcdserverpb::PutRequest;
use tokio::{io::AsyncReadExt as _, net::TcpListener, time::timeout};

use super::*;

fn errand(number: u64, endpoint: &str) -> Errand {
    let context = Context { trace: 7 << 64 | u128::from(number), span: number, is_sampled: true };
    let request = Request::Put(PutRequest::default());
    Errand::Send { number, endpoint: endpoint.to_owned(), request, context }
}

/// A bug in what is tested must not stop the tests.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it does not happen")
}

#[tokio::test]
async fn a_member_that_does_not_listen_is_an_error_with_its_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut client = Client::new();
    client.run(errand(3, &endpoint));
    let answer = soon(client.next()).await;
    assert_eq!((3, true, true), (answer.number, answer.is_error, answer.took_ns.is_some()));
    assert!(answer.lines[0].contains("refused"), "{answer:?}");
    client.run(errand(4, "https://127.0.0.1:1"));
    assert_eq!(["TLS is not supported yet"], soon(client.next()).await.lines[..]);
}

/// Goal: giving up ends the call. Method: a listener that answers nothing sees its connection used,
/// and the task gone.
#[tokio::test]
async fn a_request_that_hangs_can_be_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = Client::new();
    client.run(errand(1, &listener.local_addr().unwrap().to_string()));
    let (mut connection, _) = soon(listener.accept()).await.unwrap();
    let mut bytes = [0; 24];
    soon(connection.read_exact(&mut bytes)).await.unwrap();
    assert!(bytes.starts_with(b"PRI * HTTP/2"));
    assert_eq!(1, client.tasks.len());
    let task = client.tasks[&1].clone();
    client.run(Errand::Cancel { number: 1 });
    soon(async {
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(client.answers.try_recv().is_err());
}
