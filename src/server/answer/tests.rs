//! Answers: the ledger as a state machine, the room with its waiting calls, and ropes, whose bytes
//! must be those of the messages that they replace.

mod ledger;
mod rooms;
mod ropes;
