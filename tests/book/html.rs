//! HTML, as far as the checks read it: opening tags and their attributes.

/// A tag as a browser sees it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Tag {
    /// Parses `a href=x`, given without the brackets.
    fn parse(text: &str) -> Tag {
        let (name, mut rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let mut attributes = Vec::new();
        while let Some((attribute, after)) = rest.split_once('=') {
            let attribute = attribute.split_whitespace().next_back().unwrap_or("").to_owned();
            let quote = after.chars().next().filter(|c| ['"', '\''].contains(c));
            let (value, after) = match quote {
                Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
                None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
            };
            attributes.push((attribute, value.to_owned()));
            rest = after;
        }
        Tag { name: name.trim_end_matches('/').to_lowercase(), attributes }
    }
}

/// The opening tags of a page, except those in comments and scripts.
pub(crate) fn tags(html: &str) -> Vec<Tag> {
    let (mut rest, mut found) = (html, Vec::new());
    while let Some((_, after)) = rest.split_once('<') {
        rest = match after.strip_prefix("!--") {
            Some(comment) => comment.split_once("-->").map_or("", |(_, after)| after),
            None => after,
        };
        if !after.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        let end = end_of_tag(rest);
        let tag = Tag::parse(&rest[..end]);
        rest = &rest[end..];
        if tag.name == "script" {
            rest = rest.split_once("</script").map_or("", |(_, after)| after);
        }
        found.push(tag);
    }
    found
}

/// Where the tag ends: at the first `>` outside of quotes.
fn end_of_tag(text: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return at,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => (),
        }
    }
    text.len()
}

/// Everything that a tag links to or loads, with the tag's name.
pub(crate) fn links(html: &str) -> Vec<(String, String)> {
    const LOADS: [&str; 5] = ["href", "src", "srcset", "poster", "data"];
    let mut found = Vec::new();
    for tag in tags(html) {
        let attributes = tag.attributes.into_iter();
        let loads = attributes.filter(|(name, _)| LOADS.contains(&name.as_str()));
        found.extend(loads.map(|(_, link)| (tag.name.clone(), link)));
    }
    found
}

#[test]
fn tags_are_read_as_a_browser_reads_them() {
    let html = r#"<!-- <a href="no"> --><script>"<a href=no>"</script><A class=x href="a>b"><br/>"#;
    let names: Vec<_> = tags(html).into_iter().map(|tag| tag.name).collect();
    assert_eq!(names, ["script", "a", "br"]);
    assert_eq!(links(html), [("a".to_owned(), "a>b".to_owned())]);
}
