//! The one binary.
#[allow(dead_code, reason = "the commands that open the player come with the rest of the binary")]
mod keys;
#[allow(dead_code, reason = "as above")]
mod play;
#[allow(dead_code, reason = "as above")]
mod state;
#[allow(dead_code, reason = "as above")]
mod view;
fn main() {}
