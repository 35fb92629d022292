//! The room: calls wait, are woken in order, and give back all their bytes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::timeout;

use crate::server::{
    Error,
    answer::{
        Connection, Room,
        ledger::{Limits, ShareLimit},
        meter::{Meter, Taken},
        room::{LIMITS, SMALL, UNCOUNTED},
        rope::{Next, Rope},
    },
};

/// Room for two windows, and for no kept rows.
const TWO: Limits = Limits {
    window: 2,
    member: ShareLimit { all: 4, kept: 0 },
    connection: ShareLimit { all: 4, kept: 0 },
    waiting: 2,
    stall: Duration::from_millis(300),
};
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

/// Goal: waiting calls enter in order, and a cancelled one leaves the queue. Method: two have
/// entered; of two that wait the first is cancelled.
#[tokio::test]
async fn waiting_calls_enter_in_order_and_a_cancelled_one_delays_none() {
    let room = Room::new(TWO);
    let of: Vec<_> = (0..4).map(|_| room.connect()).collect();
    let (first, second) = (of[0].try_enter().unwrap(), of[1].try_enter().unwrap());
    assert!(of[2].try_enter().is_none());
    let (third, fourth) = (of[2].enter(0, 0, LONG), of[3].enter(0, 0, LONG));
    tokio::pin!(fourth);
    {
        tokio::pin!(third);
        assert!(timeout(SHORT, &mut third).await.is_err());
        assert!(timeout(SHORT, &mut fourth).await.is_err());
        // Only two may wait.
        assert_eq!(of[3].enter(0, 0, LONG).await.err(), Some(Error::TooManyRequests));
    }
    drop(first);
    let fourth = timeout(LONG, &mut fourth).await.unwrap().unwrap();
    assert_eq!(room.in_flight(), (4, 0));
    assert_eq!(of[0].enter(0, 0, SHORT).await.err(), Some(Error::Timeout));
    drop((second, fourth));
    assert_eq!(room.in_flight(), (0, 0));
}

/// Goal: a call that is cancelled after it was admitted and before it runs holds nothing.
#[tokio::test]
async fn the_place_of_a_cancelled_call_is_given_back() {
    let room = Room::new(TWO);
    let of = room.connect();
    let (first, second) = (of.try_enter().unwrap(), of.try_enter().unwrap());
    let mut waiting = Box::pin(of.enter(0, 0, LONG));
    assert!(timeout(SHORT, &mut waiting).await.is_err());
    // It is admitted, and does not run again.
    drop(first);
    drop(waiting);
    assert_eq!(room.in_flight(), (2, 0));
    drop(second);
    assert_eq!(room.in_flight(), (0, 0));
}

/// Goal: one stalled answer is ended for one that waits, and its connection stays open. Method:
/// both places belong to a silent connection; another connection asks for one.
#[tokio::test]
async fn a_stalled_answer_is_ended_while_others_wait() {
    let room = Room::new(TWO);
    let (silent, other) = (room.connect(), room.connect());
    let seats = [silent.try_enter().unwrap(), silent.try_enter().unwrap()].map(Arc::new);
    let ropes = [(); 2].map(|()| Arc::default());
    for (seat, rope) in seats.iter().zip(&ropes) {
        seat.send(rope);
    }
    let is_ended = |rope: &&Arc<Mutex<Rope>>| matches!(rope.lock().unwrap().next(1), Next::Ended);
    let is_ended = || ropes.iter().filter(is_ended).count();
    // No call waits, so no answer is ended.
    tokio::time::sleep(2 * TWO.stall).await;
    assert_eq!(is_ended(), 0);
    let entered = timeout(LONG, other.enter(0, 0, LONG)).await.unwrap().unwrap();
    assert_eq!(is_ended(), 1);
    assert!(timeout(SHORT, silent.closed()).await.is_err());
    drop(entered);
    drop(seats);
    assert_eq!(room.in_flight(), (0, 0));
}

/// Goal: a connection that takes nothing is closed if others wait for the frames handed to it.
#[tokio::test]
async fn a_connection_that_takes_nothing_is_closed_while_others_wait() {
    let room = Room::new(TWO);
    let (silent, other) = (room.connect(), room.connect());
    let seats = [silent.try_enter().unwrap(), silent.try_enter().unwrap()].map(Arc::new);
    let rope = Arc::default();
    let mut frames = Vec::new();
    for seat in &seats {
        seat.send(&rope);
        frames.push(seat.piece(Bytes::from_static(b"ab"), true));
    }
    drop(seats);
    let client = async {
        silent.closed().await;
        frames.clear();
    };
    let (entered, ()) = timeout(LONG, async { tokio::join!(other.enter(0, 0, LONG), client) })
        .await
        .expect("it is closed");
    drop(entered.unwrap());
    assert_eq!(room.in_flight(), (0, 0));
}

/// Goal: a write that has been carried out is answered, even if the queue is full and no place
/// becomes free.
#[tokio::test]
async fn a_write_that_is_carried_out_always_gets_a_place() {
    let room = Room::new(TWO);
    let of: Vec<_> = (0..4).map(|_| room.connect()).collect();
    let taken = (of[0].try_enter().unwrap(), of[1].try_enter().unwrap());
    let waiting = [2, 3].map(|at: usize| {
        let of = Arc::clone(&of[at]);
        tokio::spawn(async move { of.enter(0, 0, LONG).await.map(drop) })
    });
    tokio::time::sleep(SHORT).await;
    assert_eq!(of[0].enter(0, 0, LONG).await.err(), Some(Error::TooManyRequests));
    let seat = timeout(LONG, of[0].enter_at_last(0, 0, SHORT)).await.expect("a place");
    assert_eq!(room.in_flight(), (6, 0));
    drop((seat, taken));
    for waiting in waiting {
        assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), Ok(()));
    }
    assert_eq!(room.in_flight(), (0, 0));
}

/// Goal: a write that reads is not begun while calls wait for room, and holds none when it begins.
#[tokio::test]
async fn a_write_that_reads_waits_behind_the_queue_and_holds_nothing_then() {
    let room = Room::new(TWO);
    let of: Vec<_> = (0..3).map(|_| room.connect()).collect();
    let taken = (of[0].try_enter().unwrap(), of[0].try_enter().unwrap());
    // There is no room, but as no call waits, the write need not wait either.
    assert!(of[2].is_free());
    let other = Arc::clone(&of[1]);
    let waiting = tokio::spawn(async move { other.enter(0, 0, LONG).await.map(drop) });
    tokio::time::sleep(SHORT).await;
    assert!(!of[2].is_free());
    assert_eq!(of[2].free(0, 0, SHORT).await.err(), Some(Error::Timeout));
    drop(taken);
    assert!(timeout(LONG, of[2].free(0, 0, LONG)).await.unwrap().unwrap().is_none());
    assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), Ok(()));
    assert!(of[2].is_free());
    assert_eq!(room.in_flight(), (0, 0));
}

/// Goal: a client that reads slowly, and has asked for much, does not time out. Method: it reads a
/// frame now and then, for longer than the timeout.
#[tokio::test]
async fn a_call_waits_longer_while_its_client_reads() {
    let room = Room::new(TWO);
    let of = room.connect();
    let seats = [of.try_enter().unwrap(), of.try_enter().unwrap()].map(Arc::new);
    let mut waiting = Box::pin(of.enter(0, 0, 3 * SHORT));
    for _ in 0..10 {
        let piece = seats[0].piece(Bytes::from_static(b"a"), false);
        assert!(timeout(SHORT, &mut waiting).await.is_err(), "it is still waiting");
        drop(piece);
    }
    assert_eq!(timeout(LONG, &mut waiting).await.unwrap().err(), Some(Error::Timeout));
    drop((waiting, seats));
    assert_eq!(room.in_flight(), (0, 0));
}

async fn is_ready(of: &Connection) -> bool {
    of.ready(0, SHORT).await.is_ok()
}

/// Goal: a connection that leaves small answers unread gets no more until it has read some; and
/// when the member's limit is reached, each connection gets a little. Method: frames that are kept
/// count as unread.
#[tokio::test]
async fn unread_small_answers_delay_their_own_connection() {
    let room = Room::new(LIMITS);
    let of: Vec<_> = (0..6).map(|_| room.connect()).collect();
    let frame = |of: &Arc<Connection>| of.hold(0).piece(Bytes::from(vec![0; SMALL]));
    let mut unread: Vec<Vec<Bytes>> = Vec::new();
    for (at, of) in of[..4].iter().enumerate() {
        let mut frames = Vec::new();
        while is_ready(of).await {
            frames.push(frame(of));
        }
        // The fourth reaches the member's limit.
        assert!(at == 3 || frames.len() == (16 << 20) / SMALL + 1);
        unread.push(frames);
    }
    // Beyond the member's limit, connections with nothing unread may read shorter answers.
    assert!(of[4].small() < SMALL && is_ready(&of[4]).await);
    unread.push(vec![frame(&of[4])]);
    assert!(!is_ready(&of[4]).await && is_ready(&of[5]).await);
    // One client reads, and all connections below their own limit are ready.
    let reader = Arc::clone(&of[0]);
    let waiting = tokio::spawn(async move { reader.ready(0, LONG).await });
    tokio::time::sleep(SHORT).await;
    unread[0].clear();
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert!(is_ready(&of[4]).await && !is_ready(&of[1]).await);
    drop(unread);
    assert_eq!(room.in_flight(), (0, 0));
    // Frames that take less than their stream are not counted.
    let tiny = of[0].hold(0).piece(Bytes::from_static(&[0; 1000]));
    assert_eq!((room.in_flight(), tiny.len()), ((0, 0), 1000));
}

/// Goal: an answer is counted once, from the moment it is read until its frames are written; and
/// one that is given up wakes the calls that wait for it.
#[tokio::test]
async fn a_small_answer_is_counted_before_it_is_sent() {
    let room = Room::new(LIMITS);
    let of = room.connect();
    let mut held: Vec<_> = (0..33).map(|_| of.hold(SMALL)).collect();
    assert_eq!(room.in_flight(), (0, 33 * SMALL));
    // A write that is in flight has to take a place in the ledger.
    assert!(!is_ready(&of).await && of.small() < 2 * UNCOUNTED);
    let first = Bytes::from(vec![0; SMALL - UNCOUNTED / 2]);
    let mut answer = held.pop().unwrap();
    let frames = [answer.piece(first), answer.piece(Bytes::from_static(&[0; UNCOUNTED / 2]))];
    // The second frame is not counted; a frame that is longer than its answer is.
    assert_eq!(room.in_flight(), (0, 33 * SMALL - UNCOUNTED / 2));
    let more = answer.piece(Bytes::from(vec![0; UNCOUNTED]));
    assert_eq!(room.in_flight(), (0, 33 * SMALL + UNCOUNTED / 2));
    drop((answer, frames, more));
    assert_eq!(room.in_flight(), (0, 32 * SMALL));
    let small = of.hold(UNCOUNTED - 1);
    assert_eq!(room.in_flight(), (0, 32 * SMALL));
    held.push(of.hold(UNCOUNTED));
    let other = Arc::clone(&of);
    let waiting = tokio::spawn(async move { other.ready(0, Duration::MAX).await });
    tokio::time::sleep(SHORT).await;
    assert!(!waiting.is_finished());
    drop((small, held));
    assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), Ok(()));
    assert_eq!(room.in_flight(), (0, 0));
}

/// Goal: a plan waits for its room before it is made. Method: three long plans, of which two fit,
/// for writes that are not proposed yet.
#[tokio::test]
async fn a_write_whose_plan_may_be_long_waits_for_room_for_it() {
    let room = Room::new(LIMITS);
    let of = [room.connect(), room.connect(), room.connect()];
    let plan = 100 << 20;
    let first = of[0].free(0, plan, LONG).await.unwrap().unwrap();
    let second = of[1].free(0, plan, LONG).await.unwrap().unwrap();
    assert_eq!(room.in_flight().0, 2 * (plan + LIMITS.window));
    assert_eq!(of[2].free(0, plan, SHORT).await.err(), Some(Error::Timeout));
    assert!(of[2].free(0, SMALL, SHORT).await.unwrap().is_none());
    drop(first);
    // The exact size of the plan replaces its upper limit.
    let mut meter = Meter::new(&of[1], Some(second));
    assert_eq!(meter.plan(SMALL), Taken::Kept);
    assert_eq!(room.in_flight().0, SMALL + LIMITS.window);
    assert_eq!(meter.plan(3 * SMALL), Taken::Kept);
    assert_eq!(room.in_flight().0, 3 * SMALL + LIMITS.window);
    drop(meter);
    // A plan that is longer than any limit is alone.
    let longest = of[2].free(0, 10 * LIMITS.member.all, LONG).await.unwrap().unwrap();
    assert_eq!(of[0].free(0, plan, SHORT).await.err(), Some(Error::Timeout));
    drop(longest);
    assert_eq!(room.in_flight(), (0, 0));
}
