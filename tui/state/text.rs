//! Text from elsewhere: names of members, keys, endpoints. And how many columns a text takes: an
//! ideograph takes two, and a combining mark none.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Replaces everything in foreign text that a terminal would interpret, and makes the rest visible.
pub(crate) fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    visible(&text)
}

/// Escapes characters that nobody sees: two names that differ in these look alike, and some turn
/// the text around.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_unseen(character) {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    shown
}

/// Whether this is a mark of direction, a line separator or a character without width that joins
/// to no letter.
fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// The columns that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The beginning of a text that takes at most this many columns.
pub(crate) fn beginning(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let too_far = text.char_indices().find(|(_, character)| {
        used += character.width().unwrap_or(0);
        columns < used
    });
    too_far.map_or(text, |(at, _)| &text[..at])
}

/// The end of a text that takes at most this many columns.
pub(crate) fn ending(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let too_far = text.char_indices().rev().find(|(_, character)| {
        used += character.width().unwrap_or(0);
        columns < used
    });
    too_far.map_or(text, |(at, character)| &text[at + character.len_utf8()..])
}

/// A text with blanks after it, up to this many columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    format!("{text}{:1$}", "", columns.saturating_sub(width(text)))
}

/// A duration in a suitable unit: `870 ns`, `12 µs`, `1.2 ms`, `3.4 s`.
pub(crate) fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..100_000_000 => format!("{}.{} ms", ns / 1_000_000, ns / 100_000 % 10),
        100_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{}.{} s", ns / 1_000_000_000, ns / 100_000_000 % 10),
    }
}

/// Wraps text at spaces.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if self::width(line) + 1 + self::width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A line of code or of a figure in rows of this width. The rest stands below it, four columns
/// further in, and is broken at a blank if there is one in the second half of the row.
pub(crate) fn folded(line: &str, width: usize) -> Vec<String> {
    let blanks = line.len() - line.trim_start().len();
    let further = (blanks + 4).min(width / 2);
    let mut rows: Vec<String> = Vec::new();
    let mut rest = line;
    loop {
        let indent = if rows.is_empty() { 0 } else { further };
        let room = width.saturating_sub(indent).max(2);
        let mut row = beginning(rest, room);
        if row.len() < rest.len() {
            let blank = row.rfind(' ').filter(|at| row.len() / 2 < *at);
            row = blank.map_or(row, |at| &row[..=at]);
        }
        rows.push(format!("{:indent$}{}", "", row.trim_end()));
        rest = &rest[row.len()..];
        if rest.is_empty() {
            return rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(clean("n\x1b[1m1"), "n?[1m1");
    }

    #[test]
    fn characters_that_nobody_sees_are_escaped_and_letters_stay() {
        assert_eq!(clean("n\u{202e}1\u{200b}"), "n\\u{202e}1\\u{200b}");
        assert_eq!(clean("漢字 é e\u{301}"), "漢字 é e\u{301}");
    }

    #[test]
    fn wide_text_is_measured_in_columns() {
        assert_eq!((width("漢字"), width("e\u{301}")), (4, 1));
        assert_eq!((beginning("漢字", 3), ending("漢字", 3)), ("漢", "字"));
        assert_eq!((beginning("abc", 3), ending("abc", 2)), ("abc", "bc"));
        assert_eq!(padded("漢字", 6), "漢字  ");
        assert_eq!(wrap("漢字 漢字", 8), ["漢字", "漢字"]);
    }

    #[test]
    fn a_line_of_code_goes_on_below_itself_and_loses_nothing() {
        assert_eq!(folded("  let a = b;", 12), ["  let a = b;"]);
        assert_eq!(folded("  let a = call(b, c);", 18), ["  let a = call(b,", "      c);"]);
        assert_eq!(folded("abcdefgh", 6), ["abcdef", "   gh"]);
        assert_eq!(folded("", 6), [""]);
        assert_eq!(folded("漢字漢字", 5), ["漢字", "  漢", "  字"]);
        let joined = |rows: Vec<String>| rows.concat().replace(' ', "");
        let line = "        let (completed_by, learned_from) = if is_leader { self.one() };";
        for width in 0..80 {
            let rows = folded(line, width);
            assert!(rows.iter().all(|row| self::width(row) <= width.max(4)), "{rows:?}");
            assert_eq!(joined(vec![line.to_owned()]), joined(rows));
        }
    }

    #[test]
    fn text_wraps_at_blanks() {
        assert_eq!(wrap("a majority has it on disk", 12), ["a majority", "has it on", "disk"]);
    }
}
