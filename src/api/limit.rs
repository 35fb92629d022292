//! Checks the size of a message before it is read.
//!
//! A gRPC message begins with a byte and four bytes of length. etcd refuses one that exceeds
//! `--max-request-bytes` plus 512 KiB with RESOURCE_EXHAUSTED; tonic's own limit answers with
//! another code. So this module checks the length, in the body, before tonic's codec sees it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

/// The bytes by which a gRPC message may exceed the request in it (etcd: grpcOverheadBytes).
pub(crate) const GRPC_OVERHEAD: usize = 512 << 10;

/// The length of a message's prefix, in bytes.
const PREFIX: usize = 5;

/// A request body that fails at the first message that is too large.
#[derive(Debug)]
pub struct Limited<B> {
    body: B,
    max: usize,
    prefix: [u8; PREFIX],
    prefix_len: usize,
    message_left: usize,
}

impl<B> Limited<B> {
    /// Accepts messages of up to `max` bytes.
    pub fn new(body: B, max: usize) -> Self {
        Self { body, max, prefix: [0; PREFIX], prefix_len: 0, message_left: 0 }
    }

    /// Follows the messages through a piece of the body.
    fn follow(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            if 0 < self.message_left {
                let len = self.message_left.min(data.len());
                self.message_left -= len;
                data.advance(len);
                continue;
            }
            let len = (PREFIX - self.prefix_len).min(data.len());
            self.prefix[self.prefix_len..][..len].copy_from_slice(&data[..len]);
            self.prefix_len += len;
            data.advance(len);
            if self.prefix_len == PREFIX {
                self.prefix_len = 0;
                self.message_left = self.check()?;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<usize, Status> {
        let [_, length @ ..] = self.prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length <= self.max {
            return Ok(length);
        }
        let text = format!("grpc: received message larger than max ({length} vs. {})", self.max);
        Err(Status::resource_exhausted(text))
    }
}

impl<B> Body for Limited<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref()
            && let Err(status) = self.follow(&data.clone())
        {
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_refused_from_its_prefix_alone_however_it_is_cut() {
        let mut bytes = vec![0, 0, 0, 0, 2, b'a', b'b', 0];
        bytes.extend(2_097_153_u32.to_be_bytes());
        for cut in 0..bytes.len() {
            let mut limited = Limited::new((), 2_097_152);
            let first = limited.follow(&bytes[..cut]);
            let status = first.and_then(|()| limited.follow(&bytes[cut..])).unwrap_err();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
            assert_eq!(
                status.message(),
                "grpc: received message larger than max (2097153 vs. 2097152)"
            );
        }
    }
}
