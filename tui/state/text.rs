//! Text from elsewhere: names of members, keys, endpoints.

/// Removes everything from foreign text that a terminal would interpret.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(clean("n\x1b[1m1"), "n?[1m1");
    }
}
