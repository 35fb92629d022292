//! Counts by a word that is known only when it comes: the version of a client, a reason.
//!
//! A word takes the first free place, and keeps it. Finding it compares a few texts and takes no
//! lock. Words beyond the places are counted together, so that clients cannot fill the memory.

use std::sync::OnceLock;

use super::Counter;

/// How many words have a count of their own.
const PLACES: usize = 16;
/// The longest word that is kept; the rest of a longer one is cut off.
const WORD_BYTES_MAX: usize = 64;
/// Stands for all words without a place.
const OTHERS: &str = "other";

/// Counts by word.
#[derive(Debug)]
pub struct ByWord {
    places: [(OnceLock<String>, Counter); PLACES],
    others: Counter,
}

impl ByWord {
    /// No words yet.
    pub const fn new() -> Self {
        Self {
            places: [const { (OnceLock::new(), Counter::new()) }; PLACES],
            others: Counter::new(),
        }
    }

    /// Counts a word.
    pub fn count(&self, word: &str) {
        let mut end = word.len().min(WORD_BYTES_MAX);
        while !word.is_char_boundary(end) {
            end -= 1;
        }
        let word = &word[..end];
        for (place, count) in &self.places {
            if place.get_or_init(|| word.to_owned()) == word {
                return count.increment();
            }
        }
        self.others.increment();
    }

    /// The words that have come, with their counts.
    pub fn counts(&self) -> Vec<(&str, u64)> {
        let places = self.places.iter().map_while(|(word, count)| Some((word.get()?, count)));
        let mut all: Vec<(&str, u64)> =
            places.map(|(word, count)| (word.as_str(), count.get())).collect();
        match self.others.get() {
            0 => {}
            others => all.push((OTHERS, others)),
        }
        all
    }
}

impl Default for ByWord {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_a_place_are_counted_together() {
        let counts = ByWord::new();
        for number in 0..PLACES + 3 {
            counts.count(&number.to_string());
            counts.count("0");
        }
        let all = counts.counts();
        assert_eq!(all.len(), PLACES + 1);
        assert_eq!(all[0], ("0", PLACES as u64 + 4));
        assert_eq!(all[PLACES], (OTHERS, 3));
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let counts = ByWord::new();
        counts.count(&"\u{fc}".repeat(1000));
        counts.count(&format!("x{}", "\u{fc}".repeat(1000)));
        let words = counts.counts();
        assert!(words.iter().all(|(word, _)| word.len() <= WORD_BYTES_MAX), "{words:?}");
        assert_eq!(words.len(), 2);
    }
}
