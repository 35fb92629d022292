//! The one binary.
mod keys;
mod play;
mod state;
mod view;
fn main() {}
