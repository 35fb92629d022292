//! What a page says at each step, as one block of JSON for `book/stepper.js`.
//!
//! Most sentences hold at many steps, so all texts are in one table, and a step names them by
//! number. Within a text, a line feed ends a line, and a tab ends a piece that stays whole.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{escape, told::Said};
use crate::{
    keys,
    state::{
        Action,
        steps::{
            Direction::{Back, Forward},
            Relative,
        },
    },
};
use glass_etcd::trace::Grain;

/// The keys of the page, in the order in which the script knows them. They are the player's.
pub(super) const KEYS: [Action; 10] = [
    Action::Step(Grain::Story, Forward),
    Action::Step(Grain::Story, Back),
    Action::Jump(Back),
    Action::Jump(Forward),
    Action::NextLens,
    Action::Follow(Relative::OtherEnd),
    Action::Follow(Relative::Cause),
    Action::Follow(Relative::Effect),
    Action::TogglePath,
    Action::Help,
];

/// The texts of a page, each once.
#[derive(Debug, Default)]
pub(super) struct Texts {
    numbers: HashMap<String, usize>,
    texts: Vec<String>,
}

impl Texts {
    /// The number of a text.
    fn number(&mut self, text: String) -> usize {
        if let Some(number) = self.numbers.get(&text) {
            return *number;
        }
        self.texts.push(text.clone());
        self.numbers.insert(text, self.texts.len() - 1);
        self.texts.len() - 1
    }

    fn line(&mut self, pieces: &[String]) -> usize {
        self.number(joined(pieces))
    }

    /// The table, and what the keys do.
    pub(super) fn shared(&self) -> Value {
        let keys = KEYS.iter().map(|action| keys::words_of(*action).unwrap_or_default());
        let keys: Vec<[&str; 2]> = keys.map(|(shown, does)| [shown, does]).collect();
        json!({ "texts": self.texts, "keys": keys })
    }
}

/// The pieces of a line as one text.
fn joined(pieces: &[String]) -> String {
    pieces.iter().map(|piece| escape::shown(piece)).collect::<Vec<_>>().join("\t")
}

/// The steps of a story, with their texts by number.
pub(super) fn steps(said: &[Said], texts: &mut Texts) -> Value {
    said.iter().map(|said| step(said, texts)).collect()
}

fn step(said: &Said, texts: &mut Texts) -> Value {
    let heads = said
        .heads
        .iter()
        .map(|head| texts.line(&[head.role.clone(), head.numbers.clone(), head.tone.to_owned()]));
    let heads: Vec<usize> = heads.collect();
    let mut lenses = Vec::new();
    for (title, lines) in &said.lenses {
        lenses.push(texts.line(std::slice::from_ref(title)));
        let lines: Vec<String> = lines.iter().map(|line| joined(line)).collect();
        lenses.push(texts.number(lines.join("\n")));
    }
    let why = [&said.why[..1], &said.why[1..], &said.numbers, &said.sources];
    let why = why.map(|pieces| texts.line(pieces));
    let address = said.address.clone().map(|address| texts.line(&[format!("@{address}")]));
    json!({ "heads": heads, "lenses": lenses, "why": why, "at": address, "go": said.relatives })
}
