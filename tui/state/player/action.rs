//! What keys do, and the screens on which they do it.

use glass_etcd::trace::Grain;

use super::super::{
    console,
    line::Edit,
    page::Text,
    pane::View,
    steps::{Direction, Relative},
};
use crate::up::api;

/// The actions of keys. The table in `keys.rs` assigns the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// End the player at once.
    Quit,
    /// Go back, or at home end the player, after a question if that stops members.
    Leave,
    /// Show the cluster, at the cursor if a story is open.
    Cluster,
    /// Show the list of requests.
    Requests,
    /// In the cluster view: one story step if a story is open, otherwise the next member.
    Along(Direction),
    /// Choose the member with this number, counted from 1.
    Column(u8),
    /// Show now, or the step that is looked at.
    ToggleNow,
    /// Show a view beside the stories.
    Show(View),
    /// In the key space: the next key, or the one before.
    OtherKey(Direction),
    /// Ask whether to do this to the chosen member.
    Ask(api::Action),
    /// Ask whether to cut or heal a link of the chosen member; again: another of its links.
    Link,
    /// Ask whether to start members from what the disks had at the moment that is looked at.
    Boot,
    /// Copy the command that opens this step.
    Copy,
    /// Save the recording, and the screen as a picture.
    Save,
    /// Compare the two marked requests.
    Compare,
    /// Stop the whole program, as a shell does.
    Suspend,
    /// Draw the screen anew.
    Redraw,
    /// Take the mouse, or free it.
    Mouse,
    /// Show the next view, or the one before, of all that are at the cursor.
    NextView(Direction),
    /// Do what was asked.
    Confirm,
    /// End the player, and leave the members running.
    LeaveRunning,
    /// Show the keys that are valid now.
    Help,
    /// In that list: what the one key does that is left.
    Run,
    /// Move that list by a line.
    Scroll(Direction),
    /// Close the view opened last.
    Back,
    /// Choose the row of the list at this position.
    ChooseAt(usize),
    /// Go to the step at this position.
    GoAt(usize),
    /// Move by rows in what is shown, down when positive; by the greatest numbers to its ends.
    Move(isize),
    /// Follow the newest row, or stop following.
    ToggleFollow,
    /// List the slowest first, by RPC, by member, or the newest last.
    Sort,
    /// Keep new requests out of the list, or let them in.
    Freeze,
    /// Mark the chosen request for a comparison, or take the mark away.
    Mark,
    /// Open the chosen story.
    Open,
    /// One step in time.
    Step(Grain, Direction),
    /// The first or the last step.
    Jump(Direction),
    /// A step that belongs to this one.
    Follow(Relative),
    /// Play at a steady pace, or in proportion to real time.
    TogglePace,
    /// Start typing the number of a step.
    Prompt,
    /// A digit of that number.
    Digit(u8),
    /// Start typing what the list is narrowed to, or what a row of a view or a story has.
    Find,
    /// Change the line that is typed.
    Edit(Edit),
    /// Narrow the list to what was typed, or go to the next row with it.
    Narrow,
    /// Go to the next row with what was searched last, or to the one before.
    Again(Direction),
    /// Take back a digit.
    Erase,
    /// Go to the step with that number.
    GoTo,
    TogglePlay,
    /// Ask questions on the way, or stop that.
    Predict,
    /// Answer with this digit.
    Answer(u8),
    /// Answer with the step that is looked at.
    Pick,
    /// Leave the question unanswered.
    Skip,
    /// Show one hint more of the lesson.
    Hint,
    /// Give the right answer away.
    Tell,
    /// Play so slowly that time is felt, or stop that.
    ToggleFelt,
    /// Play one notch faster or slower.
    Speed(Direction),
    /// Step in one lane only, counted from 1; 0 for all.
    Lane(u8),
    /// Move the look cursor.
    Look(Direction),
    /// Show only what changed, or all watermarks.
    ToggleAll,
    /// The next question of the panel.
    NextLens,
    /// Make the critical path bright, or all steps.
    TogglePath,
    /// The why panel at full size.
    Zoom,
    /// The source of the step, or its section of the book, over the whole screen.
    Read(Text),
    /// Type a request of one's own, or do something with those that were sent.
    Console(console::Key),
}

/// The current screen; it decides which keys are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// The members side by side, now.
    Cluster,
    /// The members side by side, while a story is open: at the step that is looked at, or now.
    Moment,
    /// The cluster view, while it asks whether to stop or start a member.
    Ask,
    /// Whether to leave the player is asked.
    Leaving,
    /// The list of requests.
    List,
    /// The list, while the user types what it is narrowed to.
    Find,
    Steps,
    /// The step view, while a number is typed.
    Prompt,
    /// The why panel over the whole screen.
    Why,
    /// The source of the step, or its section of the book.
    Reading,
    /// A page of text over the screen.
    Compared,
    /// The step view, while a question is open.
    Quiz,
    /// Any of them, while a request is typed.
    Console,
    /// A view beside the stories, over any of these.
    Pane(View),
    /// The same, or the step view, while the user types what is searched there.
    Seek,
}
