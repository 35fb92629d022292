//! The words of a search: one grammar for the list of requests, the steps of a story, and the views
//! beside the stories.
//!
//! ```text
//!   foo  "a b"   a part of a key in the list; elsewhere of anything that the row says
//!   k:foo        a part of its key              r:put    a part of its RPC's name
//!   m:name       its member                     >10ms    it took longer, or already runs longer
//!   l:7f         its lease, in hex              <1ms     it took less
//!                                               is:error it is of this kind
//!   !r:put   a word after an exclamation mark must not hold
//! ```
//!
//! All words must hold. The list leaves out rows without them ([`super::find`]); elsewhere the
//! rows stay, and the search leads from one to the next ([`super::seek`]). Rows differ in what they
//! have: a lease has no RPC. A word that no row of a screen can have is refused with those that
//! they have, because it would find nothing for a reason that nobody sees.

use glass_etcd::config::positive_duration;

/// One word, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Without a kind.
    Text(String),
    Key(String),
    Member(String),
    Lease(u64),
    Rpc(String),
    /// The beginning of the name of a kind.
    Is(String),
    /// The least and the greatest duration, in nanoseconds.
    Least(u64),
    Most(u64),
    /// It must not hold.
    Not(Box<Word>),
}

impl Word {
    /// How a word of this kind is typed.
    pub(crate) fn form(&self) -> Option<&'static str> {
        Some(match self {
            Word::Text(_) => return None,
            Word::Key(_) => "k:",
            Word::Member(_) => "m:",
            Word::Lease(_) => "l:",
            Word::Rpc(_) => "r:",
            Word::Is(_) => "is:",
            Word::Least(_) => ">",
            Word::Most(_) => "<",
            Word::Not(word) => return word.form(),
        })
    }
}

/// The words of a search, each with the text that was typed for it.
///
/// # Errors
///
/// A word begins like one of a kind, and the rest of it means nothing.
pub(crate) fn words(typed: &str) -> Result<Vec<(Word, &str)>, String> {
    split(typed)
        .into_iter()
        .map(|(word, is_quoted)| Ok((meaning(word, is_quoted)?, word)))
        .collect()
}

/// The beginning of a word of a kind, and what the rest of it means.
type Form = (&'static str, fn(&str) -> Result<Word, String>);

const FORMS: [Form; 7] = [
    ("k:", |key| Ok(Word::Key(key.to_owned()))),
    ("m:", |name| Ok(Word::Member(name.to_owned()))),
    ("l:", |id| Ok(Word::Lease(lease(id)?))),
    ("r:", |part| Ok(Word::Rpc(part.to_lowercase()))),
    ("is:", |kind| Ok(Word::Is(kind.to_owned()))),
    (">", |text| Ok(Word::Least(duration(text)?))),
    ("<", |text| Ok(Word::Most(duration(text)?))),
];

fn meaning(word: &str, is_quoted: Quoted) -> Result<Word, String> {
    let of_form = |(form, make): &Form| Some(make(word.strip_prefix(form)?));
    if let (Quoted::No, Some(rest)) =
        (is_quoted, word.strip_prefix('!').filter(|it| !it.is_empty()))
    {
        return match FORMS.iter().find_map(|(form, make)| Some(make(rest.strip_prefix(form)?))) {
            Some(meant) => Ok(Word::Not(Box::new(meant?))),
            None => Ok(Word::Not(Box::new(Word::Text(rest.to_owned())))),
        };
    }
    match is_quoted {
        Quoted::Text => Ok(Word::Text(word.to_owned())),
        Quoted::Key => Ok(Word::Key(word.to_owned())),
        Quoted::No => match FORMS.iter().find_map(of_form) {
            Some(meant) => meant,
            None => Ok(Word::Text(word.to_owned())),
        },
    }
}

/// Whether a word stood in quotes, and what stood before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoted {
    No,
    Text,
    Key,
}

/// The words, without their quotes.
fn split(typed: &str) -> Vec<(&str, Quoted)> {
    let mut words = Vec::new();
    let mut rest = typed.trim_start();
    while !rest.is_empty() {
        let (text, kind) = match rest.strip_prefix("k:") {
            Some(text) => (text, Quoted::Key),
            None => (rest, Quoted::Text),
        };
        let quoted = text.strip_prefix('"').and_then(|text| Some((text, closing(text)?)));
        let (word, after) = match quoted {
            Some((text, end)) => ((&text[..end], kind), &text[end + 1..]),
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                ((&rest[..end], Quoted::No), &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// Where a quoted word ends: at the first quote before a blank or the end.
fn closing(text: &str) -> Option<usize> {
    let is_last = |at: &usize| text[at + 1..].chars().next().is_none_or(char::is_whitespace);
    text.match_indices('"').map(|(at, _)| at).find(is_last)
}

/// A lease id in hex, as etcdctl shows it.
pub(crate) fn lease(text: &str) -> Result<u64, String> {
    let number = u64::from_str_radix(text.trim_start_matches("0x"), 16);
    let number = number.ok().filter(|number| *number != 0);
    number.ok_or_else(|| format!("{text:?} is not a lease id in hex"))
}

/// A duration such as `10ms`, in nanoseconds.
fn duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no duration such as 10ms");
    let known = positive_duration(text).ok_or_else(wrong)?;
    u64::try_from(known.as_nanos()).map_err(|_| wrong())
}

/// The position of the first of these kinds that begins like this.
///
/// # Errors
///
/// None does.
pub(crate) fn kind(kinds: &[&str], begun: &str) -> Result<usize, String> {
    let begins = |name: &&str| !begun.is_empty() && name.starts_with(begun);
    let place = kinds.iter().position(begins);
    place.ok_or_else(|| format!("no kind {begun:?}; there are {}", kinds.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_meaning_and_quotes_keep_blanks() {
        let typed = "foo \"a  b\" k:is:odd k:\"c d\" m:etcd-01 l:7f r:PUT is:err >10ms <1s";
        let words: Vec<Word> = words(typed).unwrap().into_iter().map(|(word, _)| word).collect();
        let text = |text: &str| Word::Text(text.to_owned());
        let key = |text: &str| Word::Key(text.to_owned());
        assert_eq!([text("foo"), text("a  b"), key("is:odd"), key("c d")], words[..4]);
        assert_eq!(Word::Member("etcd-01".to_owned()), words[4]);
        assert_eq!(
            [Word::Lease(0x7f), Word::Rpc("put".to_owned()), Word::Is("err".to_owned())],
            words[5..8]
        );
        assert_eq!([Word::Least(10_000_000), Word::Most(1_000_000_000)], words[8..]);
    }

    #[test]
    fn a_word_after_an_exclamation_mark_must_not_hold() {
        let typed = "!r:Put !foo ! \"!a\" k:!b";
        let words: Vec<Word> = words(typed).unwrap().into_iter().map(|(word, _)| word).collect();
        let not = |word| Word::Not(Box::new(word));
        let text = |text: &str| Word::Text(text.to_owned());
        assert_eq!([not(Word::Rpc("put".to_owned())), not(text("foo"))], words[..2]);
        assert_eq!([text("!"), text("!a"), Word::Key("!b".to_owned())], words[2..]);
        assert!(super::words("!>ms").is_err());
    }

    #[test]
    fn a_word_without_a_meaning_says_what_it_should_be() {
        for strange in [">ms", ">1", ">1.2.3s", "<9999999999999999999999m", ">-1s"] {
            assert!(words(strange).unwrap_err().contains("such as 10ms"), "{strange}");
        }
        for strange in ["l:", "l:0", "l:xyz"] {
            assert!(words(strange).unwrap_err().contains("lease id in hex"), "{strange}");
        }
        assert!(kind(&["error", "open"], "odd").unwrap_err().ends_with("there are error, open"));
        assert_eq!(Ok(1), kind(&["error", "open"], "o"));
        assert!(kind(&["error"], "").is_err());
    }
}
