//! The room for the bodies of requests on the peer port.
//!
//! A body is read as a whole before anything is done with it, and one may be as long as a frame of
//! a stream. So the bodies that are being read, on all connections together, have a bound: a body
//! takes room for each piece that arrives, and gives it back when its message is in raft's inbox,
//! which counts from then on. Without room a body is not read further, so its sender's socket
//! fills.
//!
//! Bodies that wait for each other's room would wait for ever. So one at a time may go on without
//! room, up to the limit of its kind. The first bytes of every body need no room: raft's small
//! messages pass while large ones wait, and there are no more bodies than connections.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// The most bytes of bodies that are being read, beside one that is larger (as in raft's inbox).
const ROOM: usize = 64 << 20;
/// The bytes of each body that need no room.
const FREE: usize = 64 << 10;
/// How long a body waits for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// The room for all bodies of the peer port.
pub(super) struct Bodies {
    room: Semaphore,
    /// The right to go on without room.
    beyond: Semaphore,
    patience: Duration,
}

/// A body that was read, with the room that it takes.
pub(super) struct Held<'b> {
    /// The body's bytes.
    pub(super) bytes: Bytes,
    _taken: Taken<'b>,
}

/// The room that a body has taken so far.
#[derive(Default)]
struct Taken<'b> {
    room: Option<SemaphorePermit<'b>>,
    beyond: Option<SemaphorePermit<'b>>,
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is longer than its kind may be.
    TooLong,
    /// Other bodies have taken all room.
    NoRoom,
    /// Its connection has failed.
    Broken,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new(ROOM, PATIENCE)
    }
}

impl Bodies {
    fn new(room: usize, patience: Duration) -> Self {
        Self { room: Semaphore::new(room), beyond: Semaphore::new(1), patience }
    }

    /// Reads a body of at most `max` bytes.
    pub(super) async fn read<B>(&self, mut body: B, max: usize) -> Result<Held<'_>, Unread>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // One buffer that grows: the allocator moves a large one without copying it, and gives it
        // back to the system as a whole.
        let (mut read, mut taken) = (BytesMut::new(), Taken::default());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
            if max - read.len() < data.len() {
                return Err(Unread::TooLong);
            }
            let in_need = (read.len() + data.len()).saturating_sub(FREE).min(data.len());
            self.take(in_need, &mut taken).await?;
            read.extend_from_slice(&data);
        }
        Ok(Held { bytes: read.freeze(), _taken: taken })
    }

    /// Takes room for so many more bytes.
    async fn take<'b>(&'b self, bytes: usize, taken: &mut Taken<'b>) -> Result<(), Unread> {
        if bytes == 0 || taken.beyond.is_some() {
            return Ok(());
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let closed = "the room is never closed";
        let got = async {
            tokio::select! {
                biased;
                more = self.room.acquire_many(bytes) => {
                    let more = more.expect(closed);
                    match &mut taken.room {
                        Some(room) => room.merge(more),
                        none => *none = Some(more),
                    }
                }
                beyond = self.beyond.acquire() => taken.beyond = Some(beyond.expect(closed)),
            }
        };
        timeout(self.patience, got).await.map_err(|_| Unread::NoRoom)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, convert::Infallible, rc::Rc};

    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    /// A body that is being read, and what has become of it: the length, or why it was not read.
    struct Reading {
        pieces: UnboundedSender<usize>,
        end: Rc<RefCell<Option<Result<usize, Unread>>>>,
    }

    impl Reading {
        fn start(bodies: &Rc<Bodies>, max: usize) -> Reading {
            let (pieces, lengths) = unbounded_channel::<usize>();
            let frames = UnboundedReceiverStream::new(lengths)
                .map(|len| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; len]))));
            let (end, bodies) = (Rc::<RefCell<_>>::default(), bodies.clone());
            let ended = Rc::clone(&end);
            tokio::task::spawn_local(async move {
                let read = bodies.read(StreamBody::new(frames), max).await;
                *ended.borrow_mut() = Some(read.map(|held| held.bytes.len()));
            });
            Reading { pieces, end }
        }

        fn send(&self, len: usize) {
            self.pieces.send(len).unwrap();
        }

        /// Sends no more; returns what becomes of the body.
        async fn end(self) -> Result<usize, Unread> {
            drop(self.pieces);
            loop {
                if let Some(end) = *self.end.borrow() {
                    return end;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    /// Waits until the tasks have nothing to do but wait.
    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// Goal: the bodies that are being read have a bound in sum, and none waits for ever. Method:
    /// two that take all room and stop; one goes on without room, the other waits in vain, and
    /// small ones pass.
    #[test]
    fn bodies_have_a_bound_in_sum_and_small_ones_always_pass() {
        run(async {
            let (room, max) = (1 << 20, 8 << 20);
            let bodies = Rc::new(Bodies::new(room, SHORT));
            let [one, two] = [(); 2].map(|()| Reading::start(&bodies, max));
            one.send(FREE + room / 2);
            two.send(FREE + room / 2);
            settle().await;
            assert_eq!(bodies.room.available_permits(), 0);
            one.send(1);
            settle().await;
            two.send(1);
            let small = Reading::start(&bodies, max);
            small.send(FREE);
            assert_eq!(small.end().await, Ok(FREE));
            one.send(4 << 20);
            assert_eq!(two.end().await, Err(Unread::NoRoom), "the other has not ended yet");
            assert_eq!(one.end().await, Ok((4 << 20) + FREE + room / 2 + 1));
            assert_eq!(
                (bodies.room.available_permits(), bodies.beyond.available_permits()),
                (room, 1)
            );
        });
    }

    #[test]
    fn one_that_waits_goes_on_when_another_has_ended() {
        run(async {
            let (room, max) = (1 << 20, 8 << 20);
            let bodies = Rc::new(Bodies::new(room, PATIENCE));
            let all: Vec<Reading> = (0..4).map(|_| Reading::start(&bodies, max)).collect();
            for reading in &all {
                (0..4).for_each(|_| reading.send(room / 2));
            }
            for reading in all {
                assert_eq!(reading.end().await, Ok(2 * room));
            }
            assert_eq!(bodies.room.available_permits(), room);
        });
    }

    #[test]
    fn a_body_longer_than_its_kind_is_not_read() {
        run(async {
            let bodies = Rc::new(Bodies::default());
            let [fits, long] = [0, 1].map(|more| {
                let reading = Reading::start(&bodies, 3000);
                reading.send(2000);
                reading.send(1000 + more);
                reading
            });
            assert_eq!(fits.end().await, Ok(3000));
            assert_eq!(long.end().await, Err(Unread::TooLong));
        });
    }
}
