//! A client that sends requests and does not read the answers.
//!
//! HTTP/2 allows 64 KiB in flight, and then waits. The rest of an answer stays with the member for
//! as long as the member allows.

use std::{fs, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{
    RecvStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::Request;
use prost::Message;
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How long the headers of an answer may take.
const LONG: Duration = Duration::from_secs(60);

/// One connection, and the answers to its requests.
pub(crate) struct Silent {
    sender: SendRequest<Bytes>,
    /// In the order of the requests; none is read unless a test does so.
    pub(crate) answers: Vec<RecvStream>,
    task: JoinHandle<()>,
}

impl Silent {
    /// Connects.
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        // Updates of windows are short, and must not wait for each other.
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = Builder::new().handshake(stream).await.unwrap();
        let task = tokio::spawn(async move {
            // The test sees the end of the connection in the answers.
            let _ = connection.await;
        });
        Self { sender, answers: Vec::new(), task }
    }

    /// Sends a request, and waits for the headers of the answer.
    pub(crate) async fn ask(&mut self, method: &str, message: &impl Message) {
        let response = self.send(method, message).await;
        let response = timeout(LONG, response).await.expect("an answer in time").unwrap();
        self.answers.push(response.into_body());
    }

    /// Sends a request without waiting.
    pub(crate) async fn send(&mut self, method: &str, message: &impl Message) -> ResponseFuture {
        self.send_to("etcdserverpb.KV", method, message).await
    }

    /// Asks another service than KV, and waits for nothing.
    pub(crate) async fn send_to(
        &mut self,
        service: &str,
        method: &str,
        message: &impl Message,
    ) -> ResponseFuture {
        let request = Request::post(format!("http://member/{service}/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut bytes).unwrap();
        body.send_data(bytes.freeze(), true).unwrap();
        response
    }

    /// Asks, and reads the whole message.
    pub(crate) async fn message(&mut self, method: &str, message: &impl Message) -> Bytes {
        let response = self.send(method, message).await.await.unwrap();
        let mut answer = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(piece) = answer.data().await {
            let piece = piece.unwrap();
            answer.flow_control().release_capacity(piece.len()).unwrap();
            bytes.extend_from_slice(&piece);
        }
        let trailers = answer.trailers().await.unwrap().expect("a status at the end");
        assert_eq!(trailers.get("grpc-status").map(|it| it.as_bytes()), Some(&b"0"[..]));
        let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
        assert_eq!((bytes[0], len as usize), (0, bytes.len() - 5), "gRPC's prefix");
        bytes.freeze().slice(5..)
    }

    /// Reads an answer to its end: its length, and the reason if the stream was reset.
    pub(crate) async fn read(&mut self, at: usize) -> (usize, Option<h2::Reason>) {
        let answer = &mut self.answers[at];
        let mut len = 0;
        while let Some(piece) = answer.data().await {
            match piece {
                Ok(piece) => {
                    len += piece.len();
                    answer.flow_control().release_capacity(piece.len()).unwrap();
                }
                Err(error) => return (len, error.reason()),
            }
        }
        (len, None)
    }
}

/// Reads the answer to a call to its end, which must be one message and the status OK. Returns its
/// length.
pub(crate) async fn read_whole(response: ResponseFuture) -> Result<usize, String> {
    let error = |error: h2::Error| error.to_string();
    let response = response.await.map_err(error)?;
    let refused = response.headers().get("grpc-message").cloned();
    let mut answer = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(piece) = answer.data().await {
        let piece = piece.map_err(error)?;
        answer.flow_control().release_capacity(piece.len()).map_err(error)?;
        bytes.extend_from_slice(&piece);
    }
    let trailers = answer.trailers().await.map_err(error)?;
    let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    if status.is_none_or(|status| status != "0") {
        return Err(format!("{refused:?}, {trailers:?} after {} bytes", bytes.len()));
    }
    let len = bytes.get(1..5).and_then(|len| len.try_into().ok()).map_or(0, u32::from_be_bytes);
    match bytes.len() == len as usize + 5 {
        true => Ok(len as usize),
        false => Err(format!("{} bytes of {len}", bytes.len())),
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The current memory of a process in bytes; `None` where the system does not report it.
pub(crate) fn memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// The largest memory of some processes during `work`, beyond what they had before.
pub(crate) async fn growth<T>(pids: &[u32], work: impl Future<Output = T>) -> (T, Vec<u64>) {
    let now = || pids.iter().map(|pid| memory(*pid).unwrap_or(0)).collect::<Vec<u64>>();
    let before = now();
    let mut most = before.clone();
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = sleep(Duration::from_millis(20)) => {}
        }
        most.iter_mut().zip(now()).for_each(|(most, now)| *most = (*most).max(now));
    };
    let grown = most.iter().zip(&before).map(|(most, before)| most - before).collect();
    (done, grown)
}
