//! A ring a thread.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{record::Kind, stage::Stage};

static CLOCK: AtomicU64 = AtomicU64::new(1);

/// What a record is made of.
pub struct Write<'a> {
    /// The step.
    pub stage: Stage,
    /// Begin, span or mark.
    pub kind: Kind,
    /// `FLAG_` bits.
    pub flags: u8,
    /// gRPC code.
    pub result: u8,
    /// Member clock at the start.
    pub clock: u64,
    /// Raw tick at the start.
    pub tick: u64,
    /// Clock at the end, less the clock at the start.
    pub clock_delta: u64,
    /// Raw ticks from start to end.
    pub tick_delta: u64,
    /// Request or round.
    pub id: u64,
    /// Link.
    pub link: u64,
    /// The stage's fields.
    pub fields: &'a [u64; 8],
}

/// Takes the next value of the member's clock.
pub fn next_clock() -> u64 {
    CLOCK.fetch_add(1, Ordering::Relaxed)
}

/// Writes a record into the ring of this thread.
pub fn push(_write: &Write<'_>) {}
