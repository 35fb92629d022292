//! A story as a page: for the book, and for a mail.
//!
//! ```text
//!  recording ─► state (the player's) ─► told    each story step, and all that is said there
//!                                        │
//!                       ┌────────────────┼──────────────┐
//!                    picture           data            text
//!                 lanes and arrows   one JSON block   the plain form
//!                       └────────────────┼──────────────┘
//!                                      figure ─► a chapter of the book, or a page of its own
//! ```
//!
//! A browser steps through a story as the player does. Nothing is computed there: the page holds
//! what the player's own functions say at each story step, and `book/stepper.js` only shows it. So
//! the two cannot differ. Without that script the reader has the picture and the text.
//!
//! A page of its own needs nothing from outside, and its policy forbids the browser to load
//! anything, or to run any script but that one. Keys and names come from clients; each text is
//! escaped where it is written ([`escape`]).
//!
//! Left out: stage and raw steps, the views beside the stories, and playing. `glass play` has them.

mod data;
mod escape;
mod figure;
mod page;
mod picture;
mod told;

#[cfg(test)]
mod book;
#[cfg(test)]
mod tests;

pub(crate) use page::write;
