//! Asking the leader about a lease, over HTTP at its peer URL (etcd: `leasehttp`).

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use prost::Message as _;

use super::{Asking, Question, Refusal};
use crate::{
    pb::{
        etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest},
        leasepb::{LeaseInternalRequest, LeaseInternalResponse},
    },
    raft::rafthttp::questions::{self, Limits},
    server::lessor::View,
};

/// The path for renewals (etcd: LeasePrefix).
pub const LEASES: &str = "/leases";
/// The path for questions about the remaining time (etcd: LeaseInternalPrefix).
pub const LEASES_INTERNAL: &str = "/leases/internal";

/// The body with which a leader answers, with status 404, that no lease has this id.
pub const NOT_FOUND: &str = "lease not found\n";

/// The header that names the client's request, so that the leader's records can be joined to it:
/// the request, the link and the asking member, each as 16 hex digits. An etcd member ignores it.
pub const ASKING: &str = "x-glass-request";

/// Limits on the answer. The leader itself waits for apply, up to a second.
const LIMITS: Limits = Limits { patience: Duration::from_secs(2), body: 64 << 20 };

/// Asks the member at this peer URL. Returns [`Refusal::NotPrimary`] for every failure after which
/// another attempt makes sense, and [`Refusal::Silent`] if there was no answer.
pub(super) async fn ask(url: &str, question: Question, asking: Asking) -> Result<View, Refusal> {
    let (path, body) = match question {
        Question::KeepAlive(id) => (LEASES, LeaseKeepAliveRequest { id }.encode_to_vec()),
        Question::TimeToLive(id, keys) => {
            let request = Some(LeaseTimeToLiveRequest { id, keys });
            let request = LeaseInternalRequest { lease_time_to_live_request: request };
            (LEASES_INTERNAL, request.encode_to_vec())
        }
    };
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/protobuf");
    let request = request.header(ASKING, asking.text()).body(body.into());
    let request = request.map_err(|_| Refusal::NotPrimary)?;
    let answer = questions::ask(url, request, LIMITS).await.ok_or(Refusal::Silent)?;
    let (head, body) = answer.into_parts();
    match head.status {
        StatusCode::OK => read(question, body).ok_or(Refusal::NotPrimary),
        StatusCode::NOT_FOUND if body == NOT_FOUND => Err(Refusal::NotFound),
        _ => Err(Refusal::NotPrimary),
    }
}

impl Asking {
    fn text(self) -> String {
        format!("{:016x}-{:016x}-{:016x}", self.id, self.link, self.member)
    }

    /// Reads the header of a question. One that is missing or malformed says nothing.
    pub fn parse(text: Option<&str>) -> Asking {
        let number = |part: &str| u64::from_str_radix(part, 16).ok().filter(|_| part.len() == 16);
        let read = |text: &str| {
            let mut parts = text.splitn(3, '-').map(number);
            let [id, link, member] = [parts.next()??, parts.next()??, parts.next()??];
            Some(Asking { id, link, member })
        };
        text.and_then(read).unwrap_or_default()
    }
}

fn read(question: Question, body: Bytes) -> Option<View> {
    match question {
        Question::KeepAlive(_) => {
            let response = LeaseKeepAliveResponse::decode(body).ok()?;
            Some(View { ttl: response.ttl, ..View::default() })
        }
        Question::TimeToLive(..) => {
            let response = LeaseInternalResponse::decode(body).ok()?.lease_time_to_live_response?;
            Some(View { ttl: response.ttl, granted: response.granted_ttl, keys: response.keys })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[test]
    fn the_header_of_a_question_is_read_back_and_a_malformed_one_says_nothing() {
        let asking = Asking { id: 0x0203, link: u64::MAX, member: 7 };
        let text = asking.text();
        assert_eq!(asking, Asking::parse(Some(&text)));
        let longer = format!("{text}0");
        for wrong in ["", "-", &text[1..], &longer, &text.replace('-', "+"), &text[..33]] {
            assert_eq!(Asking::default(), Asking::parse(Some(wrong)), "{wrong:?}");
        }
        assert_eq!(Asking::default(), Asking::parse(None));
    }

    /// Goal: many questions do not use up the local ports. Method: a leader that accepts a single
    /// connection, and answers every question on it.
    #[tokio::test]
    async fn one_connection_carries_many_questions() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let leader = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            drop(listener);
            for ttl in 1..=100 {
                let (mut line, mut len) = (String::new(), 0);
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                    let value = line.to_ascii_lowercase();
                    let value = value.strip_prefix("content-length:").map(str::trim);
                    len = value.map_or(len, |value| value.parse().unwrap());
                }
                let mut body = vec![0; len];
                stream.read_exact(&mut body).unwrap();
                let id = LeaseKeepAliveRequest::decode(&*body).unwrap().id;
                let response = LeaseKeepAliveResponse { id, ttl, header: None }.encode_to_vec();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", response.len());
                let answer = [head.as_bytes(), &response].concat();
                stream.get_mut().write_all(&answer).unwrap();
            }
        });
        for ttl in 1..=100 {
            let view = ask(&url, Question::KeepAlive(7), Asking::default()).await.unwrap();
            assert_eq!(view.ttl, ttl);
        }
        leader.join().unwrap();
    }
}
