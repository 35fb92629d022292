//! What a read would answer, on the screen.

use super::{ASCII, UNICODE, opened, screen};
use crate::state::scenes;

#[test]
fn a_read_of_the_key_at_the_commit_of_a_put() {
    let state = opened(scenes::put(), "enter : 1 8 enter x x x");
    for size in [(80, 24), (120, 36), (200, 60)] {
        let name = format!("reads_{}x{}", size.0, size.1);
        insta::assert_snapshot!(name, screen(&state, size, UNICODE));
    }
    insta::assert_snapshot!("reads_80x24_ascii", screen(&state, (80, 24), ASCII));
}
