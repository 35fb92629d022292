use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::pb::otlp::{
    ExportTracePartialSuccess,
    trace_service_server::{TraceService, TraceServiceServer},
};

fn parsed(url: &str) -> Result<String, TargetError> {
    Target::parse(url).map(|target| target.to_string())
}

#[test]
fn a_url_says_where_and_how() {
    for (url, expected) in [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("http://tempo", "http://tempo:4318/v1/traces"),
        ("http://tempo:80/otlp/", "http://tempo:80/otlp/v1/traces"),
        ("http://tempo:80/otlp/v1/traces", "http://tempo:80/otlp/v1/traces"),
        ("http://[::1]:4317", "http://[::1]:4317 (gRPC)"),
        ("http://jaeger:4317/", "http://jaeger:4317 (gRPC)"),
        ("http://jaeger:4317/otlp", "http://jaeger:4317/otlp/v1/traces"),
    ] {
        assert_eq!(Ok(expected.to_owned()), parsed(url));
    }
    assert_eq!(Err(TargetError::Tls), parsed("https://tempo"));
    for wrong in
        ["", "tempo:4318", "/v1/traces", "ftp://tempo", "http://u:p@tempo", "http://tempo/?k=v"]
    {
        assert_eq!(Err(TargetError::Form), parsed(wrong), "{wrong}");
    }
}

fn portion() -> Portion {
    Portion { bytes: ExportTraceServiceRequest::default().encode_to_vec().into(), spans: 5 }
}

/// Answers each request with the next of these; the last one for ever. Says how many it has got.
async fn server(answers: &'static [&'static str]) -> (Target, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let at = count.fetch_add(1, Ordering::SeqCst);
            let answer = answers[at.min(answers.len() - 1)];
            if !answer.is_empty() {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (Target::parse(&url).unwrap(), seen)
}

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn passing_failures_are_retried_and_final_ones_are_not() {
    const LATER: &[&str] = &[
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n",
        "",
        GOOD,
    ];
    let (target, seen) = server(LATER).await;
    assert_eq!(Ok(0), Way::new(target).send(&portion()).await);
    assert_eq!(4, seen.load(Ordering::SeqCst));

    let (target, seen) = server(&["HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"]).await;
    let refused = Way::new(target).send(&portion()).await;
    assert_eq!(Err("400 Bad Request".to_owned()), refused);
    assert_eq!(1, seen.load(Ordering::SeqCst));
}

#[tokio::test]
async fn spans_that_a_collector_does_not_want_are_counted() {
    // partial_success { rejected_spans: 2 }
    let (target, _) =
        server(&["HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x0a\x02\x08\x02"]).await;
    assert_eq!(Ok(2), Way::new(target.clone()).send(&portion()).await);
    assert_eq!(Ok(3), deliver(&target, vec![portion()]).await);
}

/// Goal: the log does not blame the pace for what a collector refuses.
#[tokio::test]
async fn the_cause_of_lost_spans_is_what_the_collector_has_answered() {
    let (target, _) = server(&["HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"]).await;
    let refused = Way::new(target).send(&portion()).await;
    let expected = "the collector has not taken them: 400 Bad Request".to_owned();
    assert_eq!((5, expected), lost(refused, 5));
    assert_eq!((2, "the collector has rejected them".to_owned()), lost(Ok(2), 5));
}

/// Speaks gRPC: away at first, then takes all but two spans of each portion, and then has enough.
struct Grpc(AtomicUsize);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        _: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => Err(tonic::Status::unavailable("soon")),
            1 => {
                let partial =
                    ExportTracePartialSuccess { rejected_spans: 2, error_message: String::new() };
                let partial_success = Some(partial);
                Ok(tonic::Response::new(ExportTraceServiceResponse { partial_success }))
            }
            _ => Err(tonic::Status::invalid_argument("enough")),
        }
    }
}

#[tokio::test]
async fn grpc_is_spoken_with_the_same_patience() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let service = TraceServiceServer::new(Grpc(AtomicUsize::default()));
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
    );
    let mut way = Way::new(Target { authority, path: None });
    assert_eq!(Ok(2), way.send(&portion()).await);
    assert_eq!(Err("InvalidArgument: enough".to_owned()), way.send(&portion()).await);
}

#[test]
fn a_collector_names_its_pause_in_seconds_and_not_for_ever() {
    let after = |text: &str| {
        let mut headers = header::HeaderMap::new();
        headers.insert(header::RETRY_AFTER, text.parse().unwrap());
        retry_after(&headers)
    };
    assert_eq!(Some(Duration::from_secs(7)), after("7"));
    assert_eq!(Some(PAUSE_MAX), after("86400"));
    assert_eq!(None, after("Fri, 31 Dec 1999 23:59:59 GMT"));
}

#[test]
fn pauses_grow_up_to_a_bound_and_begin_anew_when_it_goes_well() {
    let mut way = Way::new(Target::parse("http://127.0.0.1:9").unwrap());
    let pauses: Vec<Duration> = (0..8).map(|_| way.went_wrong("away", None)).collect();
    for (at, pause) in pauses.iter().enumerate() {
        let middle = (PAUSE * (1 << at)).min(PAUSE_MAX);
        assert!(middle * 3 / 4 <= *pause && *pause <= middle * 5 / 4, "{at}: {pause:?}");
    }
    assert_eq!(Duration::from_secs(9), way.went_wrong("busy", Some(Duration::from_secs(9))));
    way.went_well(1);
    assert!(way.went_wrong("away", None) <= PAUSE * 5 / 4);
}

#[tokio::test]
async fn a_url_where_nobody_listens_is_known_before_anything_is_sent() {
    let (target, seen) = server(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]).await;
    assert_eq!(Ok(()), reach(&target).await);
    assert!(seen.load(Ordering::SeqCst) <= 1, "it has connected, and sent nothing");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dead = Target::parse(&format!("http://{closed}")).unwrap();
    let why = reach(&dead).await.unwrap_err();
    assert!(why.contains("refused"), "{why}");
}
