//! The player's state, and the effect of a key on it. No module here depends on a terminal.
//!
//! ```text
//!  source ──Input──► player::State ──&State──► view
//!                     │
//!                     ├─ memory         every event, once; `forget` keeps its size bounded
//!                     ├─ room           the cluster view: who runs, and what to do to whom
//!                     ├─ list           the requests, and which one is chosen
//!                     ├─ search, find   what is searched, and what the list is narrowed to
//!                     ├─ console        requests of one's own, and what became of them
//!                     ├─ steps          one story, the cursor in it, the lens on it
//!                     └─ panes          the views beside the stories, at the same cursor
//! ```
//!
//! A screen depends on nothing but the recording and the cursor. So live members and their
//! recording draw the same screens, and stepping back is as exact as stepping forward. Live members
//! add only one thing: how long ago each of them sent something.
//!
//! The player changes the cluster that it watches in two ways only, and both are asked for: it
//! sends the requests that are typed (`console`), and it stops and starts members, and cuts links
//! between them, through the `glass up` that runs them, after asking (`room`).

pub(crate) mod afterwards;
pub(crate) mod ahead;
pub(crate) mod anchor;
pub(crate) mod axis;
pub(crate) mod book;
pub(crate) mod kept;
pub(crate) mod kind;
pub(crate) mod markdown;
pub(crate) mod only;
pub(crate) mod page;
pub(crate) mod sources;
pub(crate) mod words;

pub(crate) mod lanes;
pub(crate) mod links;
pub(crate) mod voters;
pub(crate) mod watermarks;

pub(crate) mod join;
pub(crate) mod story;
pub(crate) mod text;

pub(crate) mod alive;
pub(crate) mod compared;
pub(crate) mod console;
pub(crate) mod disk;
pub(crate) mod figures;
pub(crate) mod find;
pub(crate) mod forecast;
pub(crate) mod forget;
pub(crate) mod head;
pub(crate) mod help;
pub(crate) mod history;
pub(crate) mod legend;
pub(crate) mod line;
pub(crate) mod room;
pub(crate) mod search;
pub(crate) mod seek;

pub(crate) mod lens;
pub(crate) mod list;
pub(crate) mod pane;
pub(crate) mod player;
pub(crate) mod quiz;
pub(crate) mod sentence;
pub(crate) mod steps;

#[cfg(test)]
pub(crate) mod scenes;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use forget::BYTES_MAX;
pub(crate) use player::{Action, Origin, Screen, State, Wish};
