//! Why a call is dropped: its client has disconnected, or its deadline has passed (`grpc-timeout`).
//!
//! A call ends early by being dropped. Usually its client has disconnected, and nobody will read an
//! answer. After the deadline the client may still be connected: it gets an answer that says so,
//! records must not say that it disconnected, and a place in a queue of locks is given back first.
//!
//! ```text
//!   api::deadline ──expire(drop the call)──▶ the call's rpc, a wait for a lock: is_expiring()
//!                 ◀──────── Tidying ─────── a task that outlives its call for a moment: leave()
//! ```
//!
//! A drop is one step on one thread. So a thread-local carries the reason to everything that is
//! dropped, and no argument has to.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    time::{Sleep, sleep_until, timeout},
};

use crate::clock;

/// How long an answer waits until the call has tidied up. A put and a delete on a slow disk take
/// less. In a cluster without a leader they take longer, and the client does not wait for one.
const TIDY_WITHIN: Duration = Duration::from_millis(500);

/// Why a call ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its client has disconnected.
    Gone,
    /// Its deadline has passed.
    Expired,
}

/// The moment at which a call ends with DEADLINE_EXCEEDED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline after this time from now; `None`, and so never, if the clock cannot represent it.
    pub fn after(timeout: Duration) -> Option<Deadline> {
        clock::now().checked_add(timeout).map(Deadline)
    }

    /// Whether the deadline has passed.
    pub fn is_over(self) -> bool {
        self.0 <= clock::now()
    }

    /// Sleeps until the deadline.
    pub fn sleep(self) -> Sleep {
        sleep_until(self.0.into())
    }

    /// Sleeps until the deadline, and returns the end of a call that is not done by then.
    pub async fn over(self) -> End {
        self.sleep().await;
        End::Expired
    }
}

/// Waits for a task that outlives its expired call, until the task has tidied up.
pub struct Tidying(oneshot::Receiver<Infallible>);

/// Held by a task that outlives its call. Dropping it says that the task has tidied up.
pub(super) struct Tidier(
    #[allow(dead_code, reason = "its end is the message")] oneshot::Sender<Infallible>,
);

thread_local! {
    /// `Some` while a call is dropped because its deadline has passed; in it, the call's task that
    /// tidies up.
    static EXPIRING: RefCell<Option<Option<Tidying>>> = const { RefCell::new(None) };
}

/// Drops a call whose deadline has passed. Returns its task if one still has to tidy up.
pub fn expire(drop_call: impl FnOnce()) -> Option<Tidying> {
    EXPIRING.set(Some(None));
    drop_call();
    EXPIRING.take().flatten()
}

/// Carries out a call. If `end` comes first, the call is dropped, and its task is returned if one
/// still has to tidy up. `end` is polled only while the call waits.
pub async fn until<C: Future>(
    call: C,
    end: impl Future<Output = End>,
) -> Result<C::Output, Option<Tidying>> {
    let mut call = pin!(Some(call));
    let mut end = pin!(end);
    let end = poll_fn(|context| {
        let running = call.as_mut().as_pin_mut();
        match running.map_or(Poll::Pending, |call| call.poll(context)) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending => end.as_mut().poll(context).map(Err),
        }
    });
    match end.await {
        Ok(result) => Ok(result),
        Err(End::Gone) => Err(None),
        Err(End::Expired) => Err(expire(|| call.set(None))),
    }
}

/// For a `Drop`: whether the reason is that the call's deadline has passed.
pub fn is_expiring() -> bool {
    EXPIRING.with_borrow(Option::is_some)
}

/// For a `Drop`: leaves a task that still has to tidy up. Unless a call expires, nobody waits for
/// it.
pub(super) fn leave(tidying: Tidying) {
    EXPIRING.with_borrow_mut(|expiring| {
        if let Some(left) = expiring {
            *left = Some(tidying);
        }
    });
}

/// A pair: `Tidying` is done when `Tidier` is dropped.
pub(super) fn tidying() -> (Tidier, Tidying) {
    let (sender, receiver) = oneshot::channel();
    (Tidier(sender), Tidying(receiver))
}

impl Tidying {
    /// Waits until the task has tidied up, for at most half a second.
    pub async fn done(self) {
        // After the limit the answer is sent anyway.
        let _ = timeout(TIDY_WITHIN, self.0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dropped<'a>(&'a mut Vec<bool>, Option<Tidying>);

    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.push(is_expiring());
            self.1.take().into_iter().for_each(leave);
        }
    }

    #[tokio::test]
    async fn a_drop_finds_its_reason_and_leaves_its_task() {
        let mut seen = Vec::new();
        drop(Dropped(&mut seen, None));
        let call = Dropped(&mut seen, None);
        assert!(expire(|| drop(call)).is_none());
        let (tidier, tidying) = tidying();
        let call = Dropped(&mut seen, Some(tidying));
        let left = expire(|| drop(call)).expect("it has left its task");
        drop(Dropped(&mut seen, None));
        assert_eq!(seen, [false, true, true, false]);
        let waits = tokio::spawn(left.done());
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(tidier);
        waits.await.unwrap();
    }

    #[tokio::test]
    async fn the_wait_for_a_task_has_a_limit() {
        let (_tidier, tidying) = tidying();
        tokio::time::timeout(20 * TIDY_WITHIN, tidying.done()).await.expect("it gives up");
    }

    #[tokio::test]
    async fn a_call_is_carried_out_unless_its_end_comes_first() {
        let ready = until(async { 7 }, async { unreachable!("the call does not wait") });
        assert_eq!(ready.await.ok(), Some(7));
        for (end, expected) in [(End::Gone, [false]), (End::Expired, [true])] {
            let mut seen = Vec::new();
            let dropped = Dropped(&mut seen, None);
            let call = async {
                let _dropped = dropped;
                std::future::pending::<()>().await;
            };
            assert!(until(call, async { end }).await.is_err());
            assert_eq!(seen, expected);
        }
    }
}
