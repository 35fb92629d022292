//! The room: who waits, who is woken, and what is given back.

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
        ledger::{Limits, Share},
        meter::{Meter, Taken},
        room::{LIMITS, SMALL},
        rope::{Next, Rope},
    },
};

/// Room for two windows, and for nothing that is kept.
const TWO: Limits = Limits {
    window: 2,
    member: Share { all: 4, kept: 0 },
    connection: Share { all: 4, kept: 0 },
    waiting: 2,
    stall: Duration::from_millis(300),
};
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

/// Goal: who waits is served in order, and who goes away leaves the queue. Method: two have entered;
/// of three that wait the second is given up.
#[tokio::test]
async fn those_who_wait_enter_in_order_and_who_gives_up_holds_up_nobody() {
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

/// Goal: somebody who is woken in the moment in which they go away takes nothing along.
#[tokio::test]
async fn a_place_that_nobody_takes_is_given_back() {
    let room = Room::new(TWO);
    let of = room.connect();
    let (first, second) = (of.try_enter().unwrap(), of.try_enter().unwrap());
    let mut waiting = Box::pin(of.enter(0, 0, LONG));
    assert!(timeout(SHORT, &mut waiting).await.is_err());
    // It is admitted, and does not run any more.
    drop(first);
    drop(waiting);
    assert_eq!(room.in_flight(), (2, 0));
    drop(second);
    assert_eq!(room.in_flight(), (0, 0));
}

/// Goal: an answer that nobody reads gives way to those who wait, and what HTTP/2 has of it keeps
/// its connection from being spared. Method: one of two has handed a frame over that is not written.
#[tokio::test]
async fn what_stalls_is_ended_while_others_wait() {
    let room = Room::new(TWO);
    let (silent, other) = (room.connect(), room.connect());
    let shares = [silent.try_enter().unwrap(), silent.try_enter().unwrap()].map(Arc::new);
    let ropes = [(); 2].map(|()| Arc::default());
    for (share, rope) in shares.iter().zip(&ropes) {
        share.send(rope);
    }
    let is_ended = |rope: &&Arc<Mutex<Rope>>| matches!(rope.lock().unwrap().next(1), Next::Ended);
    let is_ended = || ropes.iter().filter(is_ended).count();
    // Nobody waits: nobody is ended.
    tokio::time::sleep(2 * TWO.stall).await;
    assert_eq!(is_ended(), 0);
    let entered = timeout(LONG, other.enter(0, 0, LONG)).await.unwrap().unwrap();
    assert_eq!(is_ended(), 1);
    assert!(timeout(SHORT, silent.closed()).await.is_err());
    drop(entered);
    drop(shares);
    assert_eq!(room.in_flight(), (0, 0));
}

/// Goal: a connection that takes nothing at all is closed, if that is what others wait for.
#[tokio::test]
async fn a_connection_that_takes_nothing_is_closed_while_others_wait() {
    let room = Room::new(TWO);
    let (silent, other) = (room.connect(), room.connect());
    let shares = [silent.try_enter().unwrap(), silent.try_enter().unwrap()].map(Arc::new);
    let rope = Arc::default();
    let mut frames = Vec::new();
    for share in &shares {
        share.send(&rope);
        frames.push(share.piece(Bytes::from_static(b"ab"), true));
    }
    drop(shares);
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

/// Goal: what has been carried out is answered, however many wait, and however long the others hold
/// what there is. Method: both places are taken, and as many wait as may.
#[tokio::test]
async fn what_is_carried_out_gets_a_place_in_any_case() {
    let room = Room::new(TWO);
    let of: Vec<_> = (0..4).map(|_| room.connect()).collect();
    let taken = (of[0].try_enter().unwrap(), of[1].try_enter().unwrap());
    let waiting = [2, 3].map(|at: usize| {
        let of = Arc::clone(&of[at]);
        tokio::spawn(async move { of.enter(0, 0, LONG).await.map(drop) })
    });
    tokio::time::sleep(SHORT).await;
    assert_eq!(of[0].enter(0, 0, LONG).await.err(), Some(Error::TooManyRequests));
    let share = timeout(LONG, of[0].enter_at_last(0, 0, SHORT)).await.expect("a place");
    assert_eq!(room.in_flight(), (6, 0));
    drop((share, taken));
    for waiting in waiting {
        assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), Ok(()));
    }
    assert_eq!(room.in_flight(), (0, 0));
}

/// Goal: what must be answered once it is carried out is not begun while others wait for room, and
/// holds nothing when it is.
#[tokio::test]
async fn who_must_be_answered_later_waits_first_and_holds_nothing_then() {
    let room = Room::new(TWO);
    let of: Vec<_> = (0..3).map(|_| room.connect()).collect();
    let taken = (of[0].try_enter().unwrap(), of[0].try_enter().unwrap());
    // No room, but nobody waits: that is no reason to wait.
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

/// Goal: a client that reads slowly, and has asked for much, is served after any time. Method: it
/// reads a piece now and then, for longer than it may wait without that.
#[tokio::test]
async fn who_reads_may_wait_for_longer() {
    let room = Room::new(TWO);
    let of = room.connect();
    let shares = [of.try_enter().unwrap(), of.try_enter().unwrap()].map(Arc::new);
    let mut waiting = Box::pin(of.enter(0, 0, 3 * SHORT));
    for _ in 0..10 {
        let piece = shares[0].piece(Bytes::from_static(b"a"), false);
        assert!(timeout(SHORT, &mut waiting).await.is_err(), "it is still waiting");
        drop(piece);
    }
    assert_eq!(timeout(LONG, &mut waiting).await.unwrap().err(), Some(Error::Timeout));
    drop((waiting, shares));
    assert_eq!(room.in_flight(), (0, 0));
}

async fn is_ready(of: &Connection) -> bool {
    of.ready(0, SHORT).await.is_ok()
}

/// Goal: a connection that leaves its small answers unread reads nothing more until it has read some;
/// and while many do so, each has a little. Method: frames that are kept are not read.
#[tokio::test]
async fn small_answers_that_are_not_read_hold_up_their_own_connection() {
    let room = Room::new(LIMITS);
    let of: Vec<_> = (0..6).map(|_| room.connect()).collect();
    let frame = |of: &Arc<Connection>| of.small_piece(Bytes::from(vec![0; SMALL]));
    let mut unread: Vec<Vec<Bytes>> = Vec::new();
    for (at, of) in of[..4].iter().enumerate() {
        let mut frames = Vec::new();
        while is_ready(of).await {
            frames.push(frame(of));
        }
        // The fourth finds that the member has enough.
        assert!(at == 3 || frames.len() == (16 << 20) / SMALL + 1);
        unread.push(frames);
    }
    // The member has too much: small is smaller, and who has left nothing unread goes on.
    assert!(of[4].small() < SMALL && is_ready(&of[4]).await);
    unread.push(vec![frame(&of[4])]);
    assert!(!is_ready(&of[4]).await && is_ready(&of[5]).await);
    // One reads, and all but those who have too much themselves go on.
    let reader = Arc::clone(&of[0]);
    let waiting = tokio::spawn(async move { reader.ready(0, LONG).await });
    tokio::time::sleep(SHORT).await;
    unread[0].clear();
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert!(is_ready(&of[4]).await && !is_ready(&of[1]).await);
    drop(unread);
    assert_eq!(room.in_flight(), (0, 0));
    // What is less than what a stream costs is not counted.
    let tiny = of[0].small_piece(Bytes::from_static(&[0; 1000]));
    assert_eq!((room.in_flight(), tiny.len()), ((0, 0), 1000));
}

/// Goal: what a plan may take has room before it is made. Method: two long plans, of which only one
/// fits, for writes that are not proposed yet.
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
    // What the plan does not take after all is given back, and what is left of it is counted.
    let mut meter = Meter::new(&of[1], Some(second));
    assert_eq!(meter.plan(SMALL), Taken::Kept);
    assert_eq!(room.in_flight().0, SMALL + LIMITS.window);
    assert_eq!(meter.plan(3 * SMALL), Taken::Kept);
    assert_eq!(room.in_flight().0, 3 * SMALL + LIMITS.window);
    drop(meter);
    // One that is longer than any limit is alone.
    let longest = of[2].free(0, 10 * LIMITS.member.all, LONG).await.unwrap().unwrap();
    assert_eq!(of[0].free(0, plan, SHORT).await.err(), Some(Error::Timeout));
    drop(longest);
    assert_eq!(room.in_flight(), (0, 0));
}
