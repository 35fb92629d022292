//! HTTP/2 on the client port: every setting, and the bounds of one connection.
//!
//! A library's defaults fit a web server: exceeding a bound ends the connection, and the client
//! opens another. A connection of etcd carries the watches and leases of a whole program, and Go's
//! server, for which the clients were written, hardly ever ends it. So no default of hyper and h2
//! is inherited here; each setting is in this table, with that of Go's server (grpc-go, which etcd
//! 3.5 uses for plain connections, and net/http, behind TLS).
//!
//! | setting | Go | here | why |
//! |---|---|---|---|
//! | concurrent streams | the flag | the flag, else [`STREAMS`] | `--max-concurrent-streams`; see there |
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
//! Fixed in h2: 100 empty DATA frames that do not end their stream, over the life of a connection;
//! small DATA frames (below 256 bytes) that have not been read, until their overhead reaches half
//! of the connection's window; a header block in a quarter more CONTINUATION frames than
//! [`HEADER_LIST`] needs, or a list four times as long. Exceeding any of these ends the connection
//! with `ENHANCE_YOUR_CALM`. A malformed field (an upper-case name, an unknown pseudo-field, a
//! control character in a value) ends it with `PROTOCOL_ERROR`; Go's server resets only the stream.
//!
//! Memory that a client can make the member hold with one connection:
//!
//! * requests that are not read: [`CONNECTION_WINDOW`], and half as much again for small frames. h2
//!   keeps what it has read in pieces of 8 KiB and more, so a client that puts 256 bytes of an
//!   unread stream into each piece, at the price of thirty times the traffic, occupies 0.5 GB
//!   (measured);
//! * metadata: [`METADATA_OF_ALL`], which takes twice that in memory if it consists of small fields
//!   (measured), and one incomplete [`HEADER_LIST`];
//! * calls that were begun and cancelled: those of one turn, [`super::pace::TURN`];
//! * open calls: 10 KB each (measured), whether their message is missing or their answer has no
//!   window, so 350 MB with [`STREAMS`]. Go's server has no bound: 200 000 small answers without a
//!   window cost 0.7 GB in etcd 3.5.1, and cost 2.1 GB here before there was one (measured);
//! * answers: [`SEND_BUFFER`] for each stream, within the room of `server::answer`. From a client
//!   that reads none the member stops reading after [`super::pace::UNREAD`] bytes: 300 000 calls
//!   whose answers are not read cost 20 MB here, and 1.4 GB in etcd 3.5.1 (measured).
//!
//! So a flood of calls that are reset costs the member a share of its time, like any other load,
//! and no lasting memory; a flood that no gRPC client produces costs the flooding client its
//! connection.

use http::HeaderMap;
use hyper_util::{rt::TokioTimer, server::conn::auto::Http2Builder};

use crate::config::Keepalive;

/// The first bytes of an HTTP/2 client (RFC 9113 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Limits of the client port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest message accepted, in bytes.
    pub message_bytes: usize,
    /// Concurrent streams of a connection (`--max-concurrent-streams`); `u32::MAX` stands for
    /// [`STREAMS`].
    pub streams: u32,
    /// Connections at all listeners for clients together.
    pub connections: usize,
    /// Connections at all listeners for metrics and probes together.
    pub metrics_connections: usize,
    /// How often the member pings clients, and how often they may ping.
    pub keepalive: Keepalive,
}

/// Calls cancelled before this side has handled them, in one turn ([`super::pace::TURN`]). A gRPC
/// call, with its message and its reset, has at least 48 bytes, so not even a turn full of
/// cancelled calls reaches this number. HEADERS and resets alone, which no gRPC client sends, do:
/// such a flood ends its connection.
pub(super) const PENDING_RESETS: usize = 2048;

/// Bytes of metadata that one call may bring, as HTTP/2 counts them: names, values, and 32 for each
/// field. This is as much as Go allows behind TLS, where net/http's own bound holds, so no client
/// of etcd depends on more; a token with all groups of a large company has a tenth of it.
pub(super) const METADATA: usize = 1 << 20;

/// The same limit for all running calls of a connection together. A call is running as long as its
/// message has not arrived, so this and not [`METADATA`] bounds a connection's memory. Go grants as
/// much to each single call, and a client whose calls bring 16 KiB can have a thousand of them at
/// once.
pub(super) const METADATA_OF_ALL: usize = 16 << 20;

/// How much h2 decodes of one header block, which is announced to clients. Those that honour it, as
/// Go's do, send no more. Longer blocks make h2 answer with HTTP's 431, or hang up.
pub(super) const HEADER_LIST: u32 = 4 << 20;

/// Calls that may be open on one connection, unless the operator sets a limit. An answer without a
/// window occupies memory however short it is, and so does a call without its message; neither is
/// counted in bytes. Further calls are refused one by one. gRPC's clients honour the limit and hold
/// them back themselves. It leaves room for a load generator with ten thousand watch streams.
pub(super) const STREAMS: u32 = 32_768;

/// Bytes that a client may send on one stream before they are read. A large put (1.5 MB) takes a
/// dozen round trips: 0.6 s to another continent, and no noticeable time within a data centre.
pub(super) const STREAM_WINDOW: u32 = 128 << 10;

/// Bytes that a client may send on all streams of a connection before they are read. With 127
/// streams full and unread, the next one still has its window.
pub(super) const CONNECTION_WINDOW: u32 = 16 << 20;

/// HTTP/2's own frame size.
pub(super) const FRAME: u32 = 16 << 10;

/// Bytes of an answer that h2 accepts before the network has taken them, per stream.
pub(super) const SEND_BUFFER: usize = 400 << 10;

/// Applies all settings of the table.
pub(super) fn configure<E>(mut builder: Http2Builder<'_, E>, limits: &Limits) {
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(if limits.streams == u32::MAX { STREAMS } else { limits.streams })
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

/// Size of a header list, as HTTP/2 counts it (RFC 9113 6.5.2).
pub(super) fn size_of(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}
