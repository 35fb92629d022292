//! Work on a blocking thread, with the way there and back in the trace.
//!
//! ```text
//!   grpc thread:      call ──┐                            ┌── answer
//!   blocking thread:         └─ waited ─┤ work ├─ return ─┘
//! ```
//!
//! The step that is the work says how long it has waited for its thread. The way back is a step of
//! its own, because the work's record is written before the call runs again.

use super::Error;
use crate::{
    past,
    trace::{self, Moment},
};

/// Runs `work` for request `id` on a blocking thread. It gets the time, in nanoseconds, for which
/// it has waited for the thread. It runs to its end even if its caller is gone. Fails while the
/// runtime shuts down.
pub(super) async fn run<T: Send + 'static>(
    id: u64,
    work: impl FnOnce(u64) -> T + Send + 'static,
) -> Result<T, Error> {
    let since = trace::handed_over();
    let done = tokio::task::spawn_blocking(move || {
        let result = work(trace::waited_ns(since));
        (result, Moment::now())
    });
    let (result, done) = done.await.map_err(|_| Error::Stopped)?;
    past!(ThreadReturn, id, done, Moment::now());
    Ok(result)
}
