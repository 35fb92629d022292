//! Why a call is dropped: its client has gone, or its time is over (`grpc-timeout`).
//!
//! A call ends early by being dropped. Mostly its client has gone, and nobody will ever read an
//! answer. When its time is over, the client may well be there: its answer says so, records must not
//! say that the client went, and a place in a queue of locks is given back first.
//!
//! ```text
//!   api::deadline ──expire(drop the call)──▶ the call's rpc, a wait for a lock: is_expiring()
//!                 ◀──────── Tidying ─────── what goes on for a moment: leave()
//! ```
//!
//! Dropping is one step on one thread, so a thread-local tells what is dropped, and nothing
//! has to be handed down to it.

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

/// For so long the answer waits for what the call has still to tidy up. A put and a delete on a slow
/// disk fit in; a cluster without a leader does not, and its client is not to wait for one.
const TIDY_WITHIN: Duration = Duration::from_millis(500);

/// Why a call ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its client has gone.
    Gone,
    /// Its time is over.
    Expired,
}

/// When a call's time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now on; `None` if that is beyond what the clock can say, and so never.
    pub fn after(timeout: Duration) -> Option<Deadline> {
        clock::now().checked_add(timeout).map(Deadline)
    }

    /// Whether it has passed.
    pub fn is_over(self) -> bool {
        self.0 <= clock::now()
    }

    /// Sleeps until then.
    pub fn sleep(self) -> Sleep {
        sleep_until(self.0.into())
    }

    /// The end of a call that takes longer.
    pub async fn over(self) -> End {
        self.sleep().await;
        End::Expired
    }
}

/// What an expired call has left behind, until it is done.
pub struct Tidying(oneshot::Receiver<Infallible>);

/// Held by what goes on after its call was dropped.
pub(super) struct Tidier(
    #[allow(dead_code, reason = "its end is the message")] oneshot::Sender<Infallible>,
);

thread_local! {
    /// `Some` while a call is dropped because its time is over.
    static EXPIRING: RefCell<Option<Option<Tidying>>> = const { RefCell::new(None) };
}

/// Drops a call whose time is over. Returns what it has still to tidy up.
pub fn expire(drop_call: impl FnOnce()) -> Option<Tidying> {
    EXPIRING.set(Some(None));
    drop_call();
    EXPIRING.take().flatten()
}

/// Carries out a call unless it ends early; then it is dropped, and what it has still to tidy up is
/// returned. `end` is asked only once the call has to wait.
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

/// Whether what is dropped just now is so because its time is over.
pub fn is_expiring() -> bool {
    EXPIRING.with_borrow(Option::is_some)
}

/// From what is dropped: this has still to be done. If nothing expires, nobody waits for it.
pub(super) fn leave(tidying: Tidying) {
    EXPIRING.with_borrow_mut(|expiring| {
        if let Some(left) = expiring {
            *left = Some(tidying);
        }
    });
}

/// A pair: `Tidying` is done when the other is dropped.
pub(super) fn tidying() -> (Tidier, Tidying) {
    let (sender, receiver) = oneshot::channel();
    (Tidier(sender), Tidying(receiver))
}

impl Tidying {
    /// Waits until it is done, but for no more than half a second.
    pub async fn done(self) {
        // Either way the time for it is over.
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
    async fn what_is_dropped_knows_why_and_leaves_what_it_has_to_do() {
        let mut seen = Vec::new();
        drop(Dropped(&mut seen, None));
        let call = Dropped(&mut seen, None);
        assert!(expire(|| drop(call)).is_none());
        let (tidier, tidying) = tidying();
        let call = Dropped(&mut seen, Some(tidying));
        let left = expire(|| drop(call)).expect("it has left something");
        drop(Dropped(&mut seen, None));
        assert_eq!(seen, [false, true, true, false]);
        let waits = tokio::spawn(left.done());
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(tidier);
        waits.await.unwrap();
    }

    #[tokio::test]
    async fn what_takes_too_long_is_not_waited_for() {
        let (_tidier, tidying) = tidying();
        tokio::time::timeout(20 * TIDY_WITHIN, tidying.done()).await.expect("it gives up");
    }

    #[tokio::test]
    async fn a_call_is_carried_out_unless_it_ends_early() {
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
