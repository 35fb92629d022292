//! The bytes of answers on their last stretch: held until HTTP/2 asks for them, and then in frames
//! that it has not written yet.

use std::sync::Arc;

use bytes::Bytes;

use super::{Connection, Seat, UNCOUNTED};
use crate::clock;

/// The bytes of a small answer that HTTP/2 does not have yet. They are counted until this is
/// dropped, or until the frames that take their place are written.
#[derive(Debug)]
pub struct UnsentBytes {
    pub(super) connection: Arc<Connection>,
    pub(super) bytes: usize,
}

impl UnsentBytes {
    /// A frame of the answer, counted until it is written.
    pub fn piece(&mut self, bytes: Bytes) -> Bytes {
        let taken = self.bytes.min(bytes.len());
        self.bytes -= taken;
        if bytes.len() < UNCOUNTED {
            self.connection.release(taken);
            return bytes;
        }
        self.connection.add(bytes.len() - taken);
        Bytes::from_owner(Piece { bytes, of: Of::Small(Arc::clone(&self.connection)) })
    }
}

impl Drop for UnsentBytes {
    fn drop(&mut self) {
        self.connection.release(self.bytes);
    }
}

/// A frame that HTTP/2 has and has not written yet.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) of: Of,
}

pub(super) enum Of {
    Small(Arc<Connection>),
    /// With whether it was kept, and so is no part of the window.
    Large(Arc<Seat>, bool),
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let bytes = self.bytes.len();
        match &self.of {
            Of::Small(connection) => {
                connection.note_piece();
                connection.release(bytes);
            }
            Of::Large(seat, is_kept) => {
                seat.connection.note_piece();
                let (kept, now) = (*is_kept, clock::now());
                seat.change(|ledger, ticket| ledger.sent(ticket, bytes, kept, now));
            }
        }
    }
}
