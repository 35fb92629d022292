//! Counts the bytes of metadata that the calls of one connection hold.
//!
//! A call's metadata stays in memory from its first frame until its handler has taken the message,
//! and no window of HTTP/2 counts it: a client that opens streams and sends no message could hold
//! an unlimited amount. So it is counted here, and a call that exceeds the bounds of
//! [`super::http2`] is refused; other calls of the connection are not affected.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::HeaderMap;
use tonic::Status;

use super::http2::{METADATA, METADATA_OF_ALL, size_of};

/// The bytes held by the calls of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata(Arc<AtomicUsize>);

/// The bytes held by one call, until it is dropped.
#[derive(Debug)]
pub(super) struct CallMetadata {
    all: Metadata,
    bytes: usize,
}

impl Metadata {
    /// Counts a call's metadata.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED, if it is too much for a call or for the connection.
    pub(super) fn hold(self, headers: &HeaderMap) -> Result<CallMetadata, Status> {
        let bytes = size_of(headers);
        let all = self.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let held = CallMetadata { all: self, bytes };
        if METADATA < bytes {
            let text = format!("grpc: received metadata larger than max ({bytes} vs. {METADATA})");
            return Err(Status::resource_exhausted(text));
        }
        if METADATA_OF_ALL < all {
            let text = format!(
                "grpc: metadata of all calls larger than max ({all} vs. {METADATA_OF_ALL})"
            );
            return Err(Status::resource_exhausted(text));
        }
        Ok(held)
    }
}

impl Drop for CallMetadata {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(bytes: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let value = "v".repeat(bytes - 33);
        headers.insert("n", HeaderValue::from_str(&value).unwrap());
        headers
    }

    #[test]
    fn a_call_has_its_bound_and_the_connection_another() {
        let metadata = Metadata::default();
        let text = |status: Status| status.message().to_owned();
        let too_much = metadata.clone().hold(&headers(METADATA + 1)).unwrap_err();
        let expected = "grpc: received metadata larger than max (1048577 vs. 1048576)";
        assert_eq!(text(too_much), expected);
        let most: Vec<_> =
            (0..16).map(|_| metadata.clone().hold(&headers(METADATA)).unwrap()).collect();
        let refused = metadata.clone().hold(&headers(40)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        let expected = "grpc: metadata of all calls larger than max (16777256 vs. 16777216)";
        assert_eq!(text(refused), expected);
        drop(most);
        assert_eq!(metadata.0.load(Ordering::Relaxed), 0);
        metadata.clone().hold(&headers(40)).unwrap();
    }
}
