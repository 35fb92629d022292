//! Frames of HTTP/2: the length of their header, and the numbers of types and flags.
//!
//! The modules between the socket and h2 read frames themselves. (RFC 9113 4.1, 6)

/// Bytes of a frame header: length 3, type 1, flags 1, stream 4.
pub(super) const HEAD: usize = 9;

/// Types of frames, of those that this program reads or writes.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

/// Flags; ACK is of PING and SETTINGS, the others are of DATA, HEADERS and CONTINUATION.
pub(super) const ACK: u8 = 0x01;
pub(super) const END_STREAM: u8 = 0x01;
pub(super) const END_HEADERS: u8 = 0x04;
pub(super) const PADDED: u8 = 0x08;
pub(super) const PRIORITY: u8 = 0x20;
