//! Markdown as lines for a terminal: what the pages of the book use, and no more.
//!
//! Headings, paragraphs, lists, quotes, tables and code become lines of a width; emphasis, links
//! and HTML tags become plain text. A table that is too wide becomes one paragraph a row. Code is
//! not wrapped.

use super::{
    page::{Line, Role},
    text::wrap,
};

/// The page as lines of at most this width, but for code.
pub(crate) fn lines(text: &str, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut rest = text.lines().peekable();
    while let Some(line) = rest.next() {
        let trimmed = line.trim();
        if trimmed.starts_with("```") {
            let code = rest.by_ref().take_while(|line| !line.trim().starts_with("```"));
            lines.extend(code.map(|line| Line::new(Role::Code, format!("    {line}"))));
        } else if let Some(heading) = heading(trimmed) {
            lines.push(Line::new(Role::Heading, inline(heading)));
        } else if trimmed.starts_with('|') {
            let mut table = vec![trimmed];
            while let Some(row) = rest.next_if(|line| line.trim().starts_with('|')) {
                table.push(row.trim());
            }
            lines.extend(self::table(&table, width));
        } else if trimmed.is_empty() || inline(trimmed).trim().is_empty() {
            if lines.last().is_some_and(|last: &Line| !last.text.is_empty()) {
                lines.push(Line::new(Role::Plain, ""));
            }
        } else {
            let indent = line.len() - line.trim_start().len();
            let (mark, first) = item(trimmed);
            let mut words = inline(first);
            let is_quote = trimmed.starts_with("> ");
            while let Some(next) = rest.next_if(|next| continues(next, is_quote)) {
                words.push(' ');
                words.push_str(&inline(next.trim().trim_start_matches("> ")));
            }
            lines.extend(paragraph(&mark, &words, indent, width));
        }
    }
    lines
}

/// The text of a heading.
pub(crate) fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (1..=6).contains(&level).then(|| text.strip_prefix(' ')).flatten()
}

/// The part of an address that leads to a heading, as mdBook makes it.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = inline(heading).to_lowercase();
    let kept = kept.trim().chars().filter_map(|c| match c {
        c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    });
    kept.collect()
}

/// The mark of a list's item or a quote, and its text.
fn item(line: &str) -> (String, &str) {
    for mark in ["- ", "* ", "> "] {
        if let Some(rest) = line.strip_prefix(mark) {
            return (if mark == "> " { "│ " } else { "· " }.to_owned(), rest);
        }
    }
    match line.split_once(". ") {
        Some((number, rest))
            if !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) =>
        {
            (format!("{number}. "), rest)
        }
        _ => (String::new(), line),
    }
}

/// Whether a line continues the paragraph or the quote before it.
fn continues(line: &str, is_quote: bool) -> bool {
    let trimmed = line.trim();
    let is_quoted = is_quote && trimmed.starts_with("> ");
    !trimmed.is_empty()
        && heading(trimmed).is_none()
        && !trimmed.starts_with("```")
        && !trimmed.starts_with('|')
        && (is_quoted || item(trimmed).0.is_empty())
}

/// A paragraph; the lines after the first are indented below the text of the first.
fn paragraph(mark: &str, words: &str, indent: usize, width: usize) -> Vec<Line> {
    let indent = " ".repeat(indent.min(width / 4));
    let hanging = " ".repeat(mark.chars().count());
    let room = width.saturating_sub(indent.len() + hanging.len()).max(1);
    let wrapped = wrap(words, room).into_iter().enumerate();
    let text = |(at, line): (usize, String)| {
        let before = if at == 0 { mark } else { &hanging };
        Line::new(Role::Plain, format!("{indent}{before}{line}"))
    };
    wrapped.map(text).collect()
}

/// A table in columns if it fits, otherwise one paragraph a row.
fn table(rows: &[&str], width: usize) -> Vec<Line> {
    let cells = |row: &&str| -> Vec<String> {
        row.trim_matches('|').split('|').map(|cell| inline(cell.trim())).collect()
    };
    let is_rule = |row: &[String]| row.iter().all(|cell| cell.chars().all(|c| "-: ".contains(c)));
    let rows: Vec<Vec<String>> = rows.iter().map(cells).filter(|row| !is_rule(row)).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| wide(column).unwrap_or(0)).collect();
    let fits = widths.iter().sum::<usize>() + 2 * columns <= width;
    let mut lines = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let role = if at == 0 { Role::Heading } else { Role::Plain };
        if fits {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
            lines.push(Line::new(role, cells.collect::<String>().trim_end()));
        } else if at != 0 {
            lines.extend(paragraph("· ", &row.join("   "), 0, width));
        }
    }
    lines
}

/// Text without the signs of emphasis, code, links and HTML.
fn inline(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        rest = match character {
            '`' => after,
            '*' if rest.starts_with("**") => &rest[2..],
            // A star between blanks is a star.
            '*' if !after.starts_with(' ') || !out.ends_with(' ') => after,
            '<' if after.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '!') => {
                if rest.starts_with("<br>") {
                    out.push_str("; ");
                }
                after.split_once('>').map_or("", |(_, rest)| rest)
            }
            '[' => match link(after) {
                Some((name, rest)) => {
                    out.push_str(&inline(name));
                    rest
                }
                None => {
                    out.push('[');
                    after
                }
            },
            '&' => match ENTITIES.iter().find(|(entity, _)| rest.starts_with(entity)) {
                Some((entity, character)) => {
                    out.push(*character);
                    &rest[entity.len()..]
                }
                None => {
                    out.push('&');
                    after
                }
            },
            character => {
                out.push(character);
                after
            }
        };
    }
    out
}

const ENTITIES: &[(&str, char)] =
    &[("&lt;", '<'), ("&gt;", '>'), ("&amp;", '&'), ("&quot;", '"'), ("&nbsp;", ' ')];

/// The name of a link that begins here, and what comes after it.
fn link(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once("](")?;
    let (_, rest) = rest.split_once(')')?;
    (!name.contains(['[', ']'])).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, width: usize) -> Vec<String> {
        lines(text, width).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn sentences_of_a_paragraph_are_joined_and_wrapped() {
        let shown = texts("One `wal.fsync` a line.\nThe **next** [sentence](a.md#b).\n\nMore.", 30);
        assert_eq!(["One wal.fsync a line. The next", "sentence.", "", "More."], shown[..]);
    }

    #[test]
    fn lists_and_quotes_hang_below_their_marks() {
        let shown = texts("1. one two three\n2. four\n- five\n  and six\n> seven", 12);
        let expected = ["1. one two", "   three", "2. four", "· five and", "  six", "│ seven"];
        assert_eq!(expected, shown[..]);
    }

    #[test]
    fn a_table_has_columns_if_it_fits_and_paragraphs_otherwise() {
        let table = "| a | b |\n|---|---|\n| `one` | two |\n";
        assert_eq!(["a    b", "one  two"], texts(table, 20)[..]);
        assert_eq!(["· one", "  two"], texts(table, 8)[..]);
    }

    #[test]
    fn code_is_neither_wrapped_nor_read() {
        let shown = lines("```console\n$ put **a** <b>  c\n```\n# A `b`", 10);
        assert_eq!(Line::new(Role::Code, "    $ put **a** <b>  c"), shown[0]);
        assert_eq!(Line::new(Role::Heading, "A b"), shown[1]);
    }

    #[test]
    fn html_and_entities_become_text() {
        assert_eq!("a < b; c * d", inline("<code>a &lt; b</code><br>c * d"));
        assert_eq!("who-asks-and-who-answers", anchor("Who asks, and who `answers`?"));
    }

    /// Pages are part of the program, and yet no text may make it panic.
    #[test]
    fn no_text_is_too_strange() {
        for text in
            ["<", "[", "[a](", "`", "**", "|", "||", "&", "#", "-", "1.", "```", "> ", "é<é"]
        {
            for width in 0..5 {
                lines(text, width);
            }
        }
    }
}
