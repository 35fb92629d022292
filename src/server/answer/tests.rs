//! Answers: the ledger as a state machine, the room with those who wait, and ropes, which must be
//! the messages that they stand for.

mod ledger;
mod rooms;
mod ropes;
