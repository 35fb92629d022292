//! Felt time on the screen.

use std::time::Duration;

use super::{ASCII, UNICODE, opened, screen};
use crate::{
    play::{Input, handle},
    state::{scenes, tests::press},
};

#[test]
fn an_fsync_is_felt_with_a_bar_that_fills() {
    let mut state = opened(scenes::put(), "enter F");
    handle(&mut state, Input::Tick(Duration::from_millis(700)));
    for size in [(80, 24), (120, 36), (200, 60)] {
        insta::assert_snapshot!(
            format!("felt_{}x{}", size.0, size.1),
            screen(&state, size, UNICODE)
        );
    }
    insta::assert_snapshot!("felt_80x24_ascii", screen(&state, (80, 24), ASCII));
    let before = state.steps.as_ref().unwrap().now;
    handle(&mut state, Input::Tick(Duration::from_secs(5)));
    assert!(before < state.steps.as_ref().unwrap().now);
    press(&mut state, "F");
    assert!(!screen(&state, (80, 24), UNICODE).to_string().contains("FELT"));
}
