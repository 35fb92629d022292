//! HTTP/2 on the client port: every setting, and what bounds one connection.
//!
//! A library's defaults fit a web server: a bound is there to end a connection, and a client that
//! lost it opens another. A connection of etcd carries the watches and leases of a whole program,
//! and Go's server, which the clients were written against, ends it for next to nothing. So no
//! default of hyper and h2 is inherited here; each setting is in this table, with what Go's server
//! has (grpc-go, which etcd 3.5 serves plain connections with, and net/http, behind TLS).
//!
//! | setting | Go | here | why |
//! |---|---|---|---|
//! | concurrent streams | the flag | the flag | `--max-concurrent-streams`; no limit unless it is set |
//! | resets before accept | no limit; net/http: four times the streams | [`PENDING_RESETS`] | more in one turn is no client of gRPC |
//! | resets for errors of streams | no limit; net/http: 10 000 that wait | no limit | h2 counts them for as long as the connection lives; [`super::pace`] bounds those that wait |
//! | header list, announced | 16 MiB | [`HEADER_LIST`] | what h2 decodes; between this and [`METADATA`] the call alone is refused |
//! | metadata of a call | 16 MiB; net/http: 1 MiB | [`METADATA`] | see there |
//! | metadata of all calls | no limit | [`METADATA_OF_ALL`] | see there |
//! | window of a stream | 64 KiB, and more when the line is long | [`STREAM_WINDOW`] | see there |
//! | window of the connection | never closes | [`CONNECTION_WINDOW`] | see there |
//! | adaptive windows | yes | no | hyper's give one stream the window of the connection, so one that is not read stops the others |
//! | frame size | 16 KiB | 16 KiB | HTTP/2's own; also the longest that `authority` follows |
//! | send buffer of a stream | 64 KiB | [`SEND_BUFFER`] | what of an answer lies ready behind the handler |
//! | header table | 4 KiB | 4 KiB | HTTP/2's own, and the table of `authority`; hyper-util leaves no choice |
//! | pings | 2 h, 20 s | the flags | `--grpc-keepalive-interval`, `--grpc-keepalive-timeout` |
//! | pings of the client | 5 min apart, 2 h without calls | the flag, 2 h without calls | `--grpc-keepalive-min-time`; h2 does not tell, so [`super::pings`] looks |
//! | extended CONNECT | no | no | nothing here is tunnelled |
//! | `date` in answers | no | no | no client of gRPC reads it, and each answer would pay for it |
//!
//! Fixed in h2: 100 empty DATA frames that do not end their stream, in the life of a connection;
//! small DATA frames (below 256 bytes) that nobody has read, until what they cost beyond their
//! bytes is half of the connection's window; a header block in a quarter more CONTINUATION frames
//! than [`HEADER_LIST`] needs, or a list four times as long. More of any of these ends the
//! connection with `ENHANCE_YOUR_CALM`.
//!
//! What a client can make the member hold with one connection:
//!
//! * requests that are not read: [`CONNECTION_WINDOW`], and half as much again for small frames. h2
//!   keeps what it has read in pieces of 8 KiB and more, so a client that lays 256 bytes of an
//!   unread stream into each piece, and pays with thirty times the traffic, gets 0.5 GB (measured);
//! * metadata: [`METADATA_OF_ALL`], which is twice that in memory if it is all in small fields
//!   (measured), and one [`HEADER_LIST`] under way;
//! * calls that were begun and given up: those of one turn, [`super::pace::TURN`];
//! * answers: [`SEND_BUFFER`] for each stream. A client that takes none is not read any further
//!   after [`super::pace::UNREAD`] bytes: 300 000 calls that nobody takes the answers of cost 20 MB
//!   here, and etcd 3.5.1 1.4 GB (measured).
//!
//! So a flood of calls that are reset costs the member its share of time, like any other load, and
//! no memory that stays; one that no client of gRPC makes costs the flood its connection.

use http::HeaderMap;
use hyper_util::{rt::TokioTimer, server::conn::auto::Http2Builder};

use crate::config::Keepalive;

/// What an HTTP/2 client sends first (RFC 9113 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Limits of the client port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest message that is received.
    pub message_bytes: usize,
    /// `--max-concurrent-streams`.
    pub streams: u32,
    /// Connections at all listeners for clients together.
    pub connections: usize,
    /// Connections at all listeners for metrics and probes together.
    pub metrics_connections: usize,
    /// How often clients are pinged, and how often they may ping.
    pub keepalive: Keepalive,
}

/// Calls that were given up before this side has even looked at them, in one turn
/// ([`super::pace::TURN`]). A call of gRPC, with its message and its reset, has 48 bytes at least,
/// so that not even a turn full of nothing but given-up calls comes to this many. Heads and resets
/// alone, which no client of gRPC sends, do: that flood ends its connection.
pub(super) const PENDING_RESETS: usize = 2048;

/// How many bytes of metadata one call may bring, by HTTP/2's way of counting: names, values, and
/// 32 for each. As much as Go serves behind TLS, where net/http's own bound holds, so no client of
/// etcd depends on more; a token with all groups of a large company has a tenth of it.
pub(super) const METADATA: usize = 1 << 20;

/// The same for all calls of a connection that are under way. A call is under way for as long as
/// its message has not come, so a connection's memory is this and not [`METADATA`]; it is what Go
/// grants to each single call, and a client whose calls bring 16 KiB has a thousand of them at
/// once.
pub(super) const METADATA_OF_ALL: usize = 16 << 20;

/// What h2 decodes of one header block, and tells clients that it does. Those that look, as Go's
/// do, send no more. Longer blocks h2 answers with HTTP's 431, or hangs up.
pub(super) const HEADER_LIST: u32 = 4 << 20;

/// What a client may send on one stream before it is read. A large put (1.5 MB) goes through in a
/// dozen round trips: 0.6 s to another continent, and no time within a data centre.
pub(super) const STREAM_WINDOW: u32 = 128 << 10;

/// What a client may send on all streams of a connection before it is read. 127 streams can stand
/// full and unread, and the next one still has its window.
pub(super) const CONNECTION_WINDOW: u32 = 16 << 20;

/// HTTP/2's own frame size.
pub(super) const FRAME: u32 = 16 << 10;

/// What h2 takes of an answer before the line has taken it, for each stream.
pub(super) const SEND_BUFFER: usize = 400 << 10;

/// Sets all of the table.
pub(super) fn configure<E>(mut builder: Http2Builder<'_, E>, limits: &Limits) {
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams((limits.streams != u32::MAX).then_some(limits.streams))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(None)
        .max_header_list_size(HEADER_LIST)
        .adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(Some(limits.keepalive.interval))
        .keep_alive_timeout(limits.keepalive.timeout)
        .auto_date_header(false);
}

/// How large a header list is, by HTTP/2's way of counting (RFC 9113 6.5.2).
pub(super) fn size_of(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}
