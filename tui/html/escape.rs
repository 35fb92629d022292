//! Text in a page: as HTML, and in the block of data.
//!
//! A key may contain anything, and its bytes were made printable where they became words. What is
//! left can still end an element, or turn the text around on the reader's screen.
//!
//! mdBook looks for `{{` in all that a chapter includes, so two braces are never written side by
//! side.

use crate::state::text;

/// The text without what nobody sees.
pub(super) fn shown(said: &str) -> String {
    text::clean(said)
}

/// As the content of an element, or of an attribute between double quotes.
pub(super) fn html(said: &str) -> String {
    let mut escaped = String::with_capacity(said.len());
    let mut before = ' ';
    for character in shown(said).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '{' if before == '{' => escaped.push_str("&#123;"),
            other => escaped.push(other),
        }
        before = character;
    }
    escaped
}

/// JSON as the content of a `script` element: no character of it can end the element or begin a
/// comment.
pub(super) fn script(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    let mut before = ' ';
    for character in json.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            // Two of them are never syntax: a member of an object has a name.
            '{' if before == '{' => escaped.push_str("\\u007b"),
            other => escaped.push(other),
        }
        before = character;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_element() {
        let hostile = "</script><!-- \"'&{{#include x}}\u{202e}\u{0}";
        let escaped = html(hostile);
        assert_eq!("&lt;/script&gt;&lt;!-- &quot;&#39;&amp;{&#123;#include x}}\\u{202e}?", escaped);
        let json = serde_json::to_string(hostile).unwrap();
        let escaped = script(&json);
        for ending in ["<", ">", "&", "{{"] {
            assert!(!escaped.contains(ending), "{ending}: {escaped}");
        }
        let back: String = serde_json::from_str(&escaped).unwrap();
        assert_eq!(hostile, back, "the same text");
    }

    #[test]
    fn wide_letters_stay() {
        assert_eq!("漢字 é", html("漢字 é"));
    }
}
