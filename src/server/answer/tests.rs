//! Answers: the ledger as a state machine, and the room with its waiting calls.

mod ledger;
mod rooms;
