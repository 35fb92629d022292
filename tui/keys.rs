//! The only table of keys. The bottom line, the list behind `?` and the loop all read it, so every
//! key that is shown works, and every key that works is shown.

use crossterm::event::KeyCode;
use glass_etcd::trace::Grain;

use crate::{
    state::{
        Action, Screen, State,
        console::Key,
        line::Edit,
        page::Text as Page,
        steps::Direction::{Back, Forward},
        steps::Relative,
    },
    up::api,
};

mod found;
mod named;

#[cfg(test)]
pub(crate) use found::row_of;
pub(crate) use found::{Found, find, listed, of_wheel};
pub(crate) use named::words_of;

/// A key, as the table identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Press {
    Char(char),
    /// A letter with Ctrl.
    Ctrl(char),
    /// Any of `0` to `9`.
    Digit,
    /// Any character.
    Text,
    /// A key that types no character.
    Code(KeyCode),
}

/// The effect of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    /// An action that needs no digit.
    Do(Action),
    /// An action that takes the digit pressed.
    WithDigit(fn(u8) -> Action),
    /// An action that takes the character pressed.
    WithCharacter(fn(char) -> Action),
}

/// Why a key that shows another moment does nothing.
const IS_NOW: &str = "no story is open: this is now";

/// Whether a key has an effect now; if not, why.
pub(crate) type Now = Result<(), &'static str>;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    /// The keys; each of them triggers the row.
    pub(crate) presses: &'static [Press],
    /// How the keys are shown.
    pub(crate) shown: &'static str,
    /// The full description, for `?`.
    pub(crate) does: &'static str,
    /// A one-word description for the bottom line; empty to leave the key out there.
    pub(crate) brief: &'static str,
    /// The screens on which they are valid.
    pub(crate) places: &'static [Screen],
    /// Whether they would have an effect now, or why not.
    pub(crate) when: fn(&State) -> Now,
    /// The action of these keys.
    pub(crate) effect: Effect,
}

mod own;
mod pages;
mod panes;

use Press::{Char, Code, Ctrl, Digit, Text};

const HOME: &[Screen] = &[Screen::Cluster];
/// What shows a moment, which is that of a step or now.
const MOMENTS: &[Screen] = &[Screen::Moment, panes::LOG, panes::TREE, panes::WAITS, panes::LINES];
const CLUSTER: &[Screen] = &[Screen::Cluster, Screen::Moment];
/// Where a moment is looked at.
const PAST: &[Screen] = &[Screen::Cluster, Screen::Moment, Screen::Steps];
const ASK: &[Screen] = &[Screen::Ask];
const LEAVING: &[Screen] = &[Screen::Leaving];
const LIST: &[Screen] = &[Screen::List];
/// From where the requests are searched.
const REQUESTS: &[Screen] = &[Screen::Cluster, Screen::List];
const STEPS: &[Screen] = &[Screen::Steps];
const PROMPT: &[Screen] = &[Screen::Prompt];
const FIND: &[Screen] = &[Screen::Find];
/// Where a search is typed.
const SEARCH: &[Screen] = &[Screen::Find, Screen::Seek];
const STORY: &[Screen] = &[Screen::Steps, Screen::Why, Screen::Reading];
/// The screens of the cluster and of the stories.
const STORIES: [Screen; 6] =
    [Screen::Cluster, Screen::Moment, Screen::List, Screen::Steps, Screen::Why, Screen::Reading];
/// The screens that are no questions, and on which nothing is typed.
const VIEWS: &[Screen] = &{
    let [a, b, c, d, e, f] = STORIES;
    [a, b, c, d, e, f, Screen::Compared]
};

/// A row that is always valid on its screens.
const fn row(
    presses: &'static [Press],
    shown: &'static str,
    words: (&'static str, &'static str),
    places: &'static [Screen],
    action: Action,
) -> Binding {
    let (does, brief) = words;
    Binding { presses, shown, does, brief, places, when: always, effect: Effect::Do(action) }
}

/// A row for the line that is typed; that of characters takes any.
const fn edit(
    presses: &'static [Press],
    shown: &'static str,
    words: (&'static str, &'static str),
    places: &'static [Screen],
    what: Edit,
) -> Binding {
    let row = row(presses, shown, words, places, Action::Edit(what));
    match what {
        Edit::Type(_) => row.with_character(|character| Action::Edit(Edit::Type(character))),
        _ => row,
    }
}

impl Binding {
    const fn when(self, when: fn(&State) -> Now) -> Binding {
        Binding { when, ..self }
    }

    const fn with_digit(self, make: fn(u8) -> Action) -> Binding {
        Binding { effect: Effect::WithDigit(make), ..self }
    }

    const fn with_character(self, make: fn(char) -> Action) -> Binding {
        Binding { effect: Effect::WithCharacter(make), ..self }
    }
}

/// The keys of each screen.
const KEYS: &[Binding] = &[
    row(
        &[Code(KeyCode::Right), Char('l')],
        "→ l",
        ("next step; of now, member", "next"),
        MOMENTS,
        Action::Along(Forward),
    ),
    row(
        &[Code(KeyCode::Left), Char('h')],
        "← h",
        ("step, or member, before", "prev"),
        MOMENTS,
        Action::Along(Back),
    ),
    row(&[Char('f')], "f", ("now, instead of the step", "now"), MOMENTS, Action::ToggleNow)
        .when(shows_a_step),
    row(&[Char('f')], "f", ("back to the step", "the step"), MOMENTS, Action::ToggleNow)
        .when(hides_a_step),
    row(
        &[Code(KeyCode::Enter), Char('R')],
        "Enter R",
        ("the list of requests", "requests"),
        CLUSTER,
        Action::Requests,
    ),
    row(
        &[Char('s')],
        "s",
        ("stop it, or start it", "stop"),
        CLUSTER,
        Action::Ask(api::Action::Stop),
    )
    .when(can_act),
    row(
        &[Char('K')],
        "K",
        ("kill it, like a crash", "kill"),
        CLUSTER,
        Action::Ask(api::Action::Kill),
    )
    .when(can_act),
    row(
        &[Char('p')],
        "p",
        ("pause it, or resume it", "pause"),
        CLUSTER,
        Action::Ask(api::Action::Pause),
    )
    .when(can_act),
    row(
        &[Char('r')],
        "r",
        ("stop it and start it again", "restart"),
        CLUSTER,
        Action::Ask(api::Action::Restart),
    )
    .when(can_act),
    row(&[Char('x')], "x", ("cut a link of it, or heal it", "cut link"), CLUSTER, Action::Link)
        .when(can_act),
    row(&[Char('x')], "x", ("its next link", "next link"), ASK, Action::Link).when(asks_link),
    row(
        &[Code(KeyCode::Right), Char('l')],
        "→ l",
        ("next member", "next"),
        HOME,
        Action::Along(Forward),
    ),
    row(
        &[Code(KeyCode::Left), Char('h')],
        "← h",
        ("the member before", "prev"),
        HOME,
        Action::Along(Back),
    ),
    row(&[Digit], "1-9", ("choose a member", ""), CLUSTER, Action::Column(0))
        .with_digit(Action::Column),
    row(&[Char('y')], "y", ("do it", "do it"), ASK, Action::Confirm),
    row(
        &[Char('n'), Char('q'), Code(KeyCode::Esc)],
        "Esc n q",
        ("leave it as it is", "leave it"),
        ASK,
        Action::Back,
    ),
    row(
        &[Char('q'), Char('y')],
        "q y",
        ("stop all members, and quit", "stop all"),
        LEAVING,
        Action::Confirm,
    ),
    row(
        &[Char('d')],
        "d",
        ("quit, the members run on", "leave them running"),
        LEAVING,
        Action::LeaveRunning,
    ),
    row(&[Code(KeyCode::Esc), Char('n')], "Esc n", ("stay", "stay"), LEAVING, Action::Back),
    row(
        &[Code(KeyCode::Right), Char('l')],
        "→ l",
        ("next story step", "next"),
        STORY,
        Action::Step(Grain::Story, Forward),
    )
    .when(has_steps),
    row(
        &[Code(KeyCode::Left), Char('h')],
        "← h",
        ("previous story step", "prev"),
        STORY,
        Action::Step(Grain::Story, Back),
    )
    .when(has_steps),
    row(&[Char(' ')], "space", ("play or pause", "play"), STEPS, Action::TogglePlay)
        .when(has_steps),
    row(&[Code(KeyCode::Enter)], "Enter", ("all about this step", "why"), STEPS, Action::Zoom)
        .when(has_steps),
    row(&[Char('x')], "x", ("the next question (lens)", "lens"), STEPS, Action::NextLens)
        .when(has_steps),
    row(&[Char('B')], "B", ("boot this moment", "boot"), PAST, Action::Boot).when(can_boot),
    row(&[Code(KeyCode::Enter)], "Enter", ("open it, step by step", "open"), LIST, Action::Open)
        .when(has_requests),
    row(&[Char('f')], "f", ("follow the newest, or stop", "follow"), LIST, Action::ToggleFollow)
        .when(has_requests),
    row(&[Char('s')], "s", ("slowest, RPC, member or time", "sort"), LIST, Action::Sort)
        .when(has_requests),
    row(&[Char('z')], "z", ("freeze, or let new ones in", "freeze"), LIST, Action::Freeze)
        .when(has_requests),
    row(&[Char(' ')], "space", ("mark it: two are compared", "mark"), LIST, Action::Mark)
        .when(has_requests),
    row(&[Char('/')], "/", ("only some requests", "find"), REQUESTS, Action::Find).when(has_more),
    row(&[Code(KeyCode::Enter)], "Enter", ("only those requests", "find"), FIND, Action::Narrow),
    row(&[Code(KeyCode::Esc)], "Esc", ("back", "back"), SEARCH, Action::Back),
    row(&[Digit], "0-9", ("the number of the step", "number"), PROMPT, Action::Digit(0))
        .with_digit(Action::Digit),
    row(&[Code(KeyCode::Enter)], "Enter", ("go to that step", "go"), PROMPT, Action::GoTo),
    row(
        &[Code(KeyCode::Backspace)],
        "Backspace",
        ("take back a digit", "erase"),
        PROMPT,
        Action::Erase,
    ),
    row(
        &[Char('C')],
        "C",
        ("the cluster at this moment", "cluster"),
        &[Screen::List, Screen::Steps, Screen::Why, Screen::Reading],
        Action::Cluster,
    ),
    row(&[Char('R')], "R", ("the list of requests", ""), STORY, Action::Requests),
    row(&[Digit], "1-9 0", ("one lane only; 0 for all", "lane"), STEPS, Action::Lane(0))
        .with_digit(Action::Lane)
        .when(has_steps),
    row(
        &[Char(']')],
        "]",
        ("next stage: finer steps", ""),
        STORY,
        Action::Step(Grain::Stage, Forward),
    )
    .when(has_steps),
    row(&[Char('[')], "[", ("previous stage", ""), STORY, Action::Step(Grain::Stage, Back))
        .when(has_steps),
    row(
        &[Char('.')],
        ".",
        ("next record of any kind", ""),
        STORY,
        Action::Step(Grain::Raw, Forward),
    )
    .when(has_steps),
    row(&[Char(',')], ",", ("previous record", ""), STORY, Action::Step(Grain::Raw, Back))
        .when(has_steps),
    row(&[Char('y')], "y", ("copy this step's command", ""), STORY, Action::Copy).when(has_steps),
    row(&[Char('y')], "y", ("copy the story's command", ""), LIST, Action::Copy).when(has_requests),
    row(&[Char('w')], "w", ("save recording and picture", ""), VIEWS, Action::Save),
    row(&[Char('D')], "D", ("compare two marked requests", ""), LIST, Action::Compare)
        .when(has_requests),
    row(
        &[Char('m')],
        "m",
        ("other end of the message", ""),
        STORY,
        Action::Follow(Relative::OtherEnd),
    )
    .when(has_steps),
    row(&[Char('c')], "c", ("what caused this step", ""), STORY, Action::Follow(Relative::Cause))
        .when(has_steps),
    row(&[Char('e')], "e", ("what followed from it", ""), STORY, Action::Follow(Relative::Effect))
        .when(has_steps),
    row(&[Char('t')], "t", ("steady, or like real time", ""), STEPS, Action::TogglePace)
        .when(has_steps),
    row(&[Char('g'), Code(KeyCode::Home)], "g", ("first step", ""), STEPS, Action::Jump(Back))
        .when(has_steps),
    row(&[Char('G'), Code(KeyCode::End)], "G", ("last step", ""), STEPS, Action::Jump(Forward))
        .when(has_steps),
    row(&[Char(':')], ":", ("go to a step by its number", ""), STEPS, Action::Prompt)
        .when(has_steps),
    row(&[Char('+'), Char('=')], "+", ("play faster", ""), STEPS, Action::Speed(Forward))
        .when(has_steps),
    row(&[Char('F')], "F", ("felt time: 1 ms takes 1 s", ""), STEPS, Action::ToggleFelt)
        .when(has_steps),
    row(&[Char('-')], "-", ("play slower", ""), STEPS, Action::Speed(Back)).when(has_steps),
    row(&[Code(KeyCode::Up), Char('k')], "↑ k", ("look one row up", ""), STEPS, Action::Look(Back))
        .when(has_steps),
    row(
        &[Code(KeyCode::Down), Char('j')],
        "↓ j",
        ("look one row down", ""),
        STEPS,
        Action::Look(Forward),
    )
    .when(has_steps),
    row(&[Char('p')], "p", ("critical path bright, or all", "path"), STEPS, Action::TogglePath)
        .when(has_steps),
    row(
        &[Char('S')],
        "S",
        ("the source of this step", "source"),
        STORY,
        Action::Read(Page::Source),
    )
    .when(has_steps),
    row(&[Char('b')], "b", ("what the book says of it", "book"), STORY, Action::Read(Page::Book))
        .when(has_steps),
    row(&[Char('u')], "u", ("all values, or only changes", ""), STEPS, Action::ToggleAll)
        .when(shows_changes),
];

/// The keys of all screens, which come behind those of each.
const LAST: &[Binding] = &[
    row(
        &[Char('?'), Code(KeyCode::F(1))],
        "? F1",
        ("the keys that are valid now", "help"),
        &[
            Screen::Cluster,
            Screen::Moment,
            Screen::List,
            Screen::Steps,
            Screen::Why,
            Screen::Reading,
            Screen::Quiz,
        ],
        Action::Help,
    ),
    row(
        &[Code(KeyCode::Esc), Char('q')],
        "Esc q",
        ("back", "back"),
        &[
            Screen::Moment,
            Screen::List,
            Screen::Steps,
            Screen::Prompt,
            Screen::Why,
            Screen::Reading,
            Screen::Compared,
        ],
        Action::Back,
    ),
    row(&[Code(KeyCode::Esc)], "Esc", ("nothing: this is the first", ""), HOME, Action::Back),
    row(&[Char('q')], "q", ("leave the player", "leave"), HOME, Action::Leave),
    row(&[Ctrl('l')], "Ctrl-L", ("draw the screen anew", ""), ALL, Action::Redraw),
    row(&[Ctrl('z')], "Ctrl-Z", ("stop, until the shell's fg", ""), ALL, Action::Suspend),
    row(&[Ctrl('c')], "Ctrl-C", ("quit at once", ""), ALL, Action::Quit),
];

/// Every screen.
const ALL: &[Screen] = &[
    Screen::Compared,
    Screen::Cluster,
    Screen::Moment,
    Screen::Ask,
    Screen::Leaving,
    Screen::List,
    Screen::Find,
    Screen::Steps,
    Screen::Prompt,
    Screen::Why,
    Screen::Reading,
    Screen::Console,
    Screen::Quiz,
    Screen::Seek,
    panes::LOG,
    panes::TREE,
    panes::WAITS,
    panes::LINES,
];

/// The keys that are valid while the list of keys is open.
const HELP: &[Binding] = &[
    row(&[Code(KeyCode::Up)], "↑", ("a line up", ""), &[], Action::Scroll(Back)),
    row(&[Code(KeyCode::Down)], "↓", ("a line down", "down"), &[], Action::Scroll(Forward)),
    row(&[Code(KeyCode::Enter)], "Enter", ("do it, if one key is left", "do it"), &[], Action::Run),
    row(
        &[Code(KeyCode::Esc), Char('?'), Code(KeyCode::F(1))],
        "Esc ? F1",
        ("close this list", "close"),
        &[],
        Action::Back,
    ),
    edit(&[Text], "a-z …", ("only lines with this word", "search"), &[], Edit::Type(' ')),
    edit(&[Code(KeyCode::Backspace)], "Backspace", ("take back a character", ""), &[], Edit::Erase),
    edit(&[Ctrl('u')], "Ctrl-U", ("empty the line", ""), &[], Edit::Clear),
    row(&[Ctrl('c')], "Ctrl-C", ("quit at once", ""), &[], Action::Quit),
];

fn always(_: &State) -> Now {
    Ok(())
}

/// For keys that have an effect only if this holds.
fn only_if(holds: bool, otherwise: &'static str) -> Now {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn shows_a_step(state: &State) -> Now {
    only_if(state.quiz.next_story().is_none(), "the lesson shows no later moment than its own")?;
    only_if(!state.shows_now(), IS_NOW)
}

/// Whether there is a step to go back to.
fn hides_a_step(state: &State) -> Now {
    only_if(state.steps.is_some() && state.shows_now(), IS_NOW)
}

fn asks_link(state: &State) -> Now {
    only_if(state.asks_link(), "this question is not about a link")
}

fn has_requests(state: &State) -> Now {
    only_if(!state.list.rows.is_empty(), "no request is shown yet")
}

/// Whether there are requests, shown or not.
fn has_more(state: &State) -> Now {
    only_if(!state.list.rows.is_empty() || state.find.is_narrow(), "there is no request yet")
}

fn has_steps(state: &State) -> Now {
    let has_steps = state.steps.as_ref().is_some_and(|steps| !steps.steps.is_empty());
    only_if(has_steps, "no record of this story is left")
}

fn shows_changes(state: &State) -> Now {
    use crate::state::steps::Lens;
    has_steps(state)?;
    let is_shown = state.steps.as_ref().is_some_and(|steps| steps.lens == Lens::Changed);
    only_if(is_shown, "u is for the lens CHANGED; x changes the lens")
}

fn can_boot(state: &State) -> Now {
    state.boot_refusal().map_or(Ok(()), Err)
}

/// Whether the members that are shown can be stopped and started from here.
fn can_act(state: &State) -> Now {
    state.room.refusal().map_or(Ok(()), Err)
}

/// Every row, those of pages of rows and of the views beside the stories included.
fn all() -> impl Iterator<Item = &'static Binding> + Clone {
    let rows = KEYS.iter().chain(own::ROWS).chain(LAST);
    rows.chain(panes::ROWS).chain(pages::ROWS)
}

/// The rows that are valid on the screen below the list of keys.
pub(crate) fn valid(state: &State) -> impl Iterator<Item = &'static Binding> {
    let place = state.place();
    all().filter(move |row| row.places.contains(&place) && (row.when)(state).is_ok())
}

/// Whether a row must stand in the bottom line at every width: the way back, the way to the other
/// keys, and the line for requests, which a new user wants first.
pub(crate) fn is_always_shown(row: &Binding) -> bool {
    let Effect::Do(action) = row.effect else { return false };
    use Action::{Back, Confirm, Console, Help, Leave, LeaveRunning};
    matches!(action, Back | Leave | Help | Confirm | LeaveRunning | Console(Key::Open))
}

/// The rows for the bottom line.
pub(crate) fn line(state: &State) -> Vec<&'static Binding> {
    let rows: Vec<_> =
        if state.is_helping { HELP.iter().collect() } else { valid(state).collect() };
    rows.into_iter().filter(|row| !row.brief.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyEvent, KeyEventKind};

    use super::*;
    use crate::state::{BYTES_MAX, legend};

    /// A key may have two rows in one place if both do the same, in other words.
    #[test]
    fn no_key_means_two_things_in_one_place() {
        let does = |row: &Binding| format!("{:?}", row.effect);
        for place in ALL {
            let mut seen: Vec<(Press, String)> = Vec::new();
            for row in all().filter(|row| row.places.contains(place)) {
                for press in row.presses {
                    let other = seen.iter().find(|(seen, _)| seen == press);
                    let is_same = other.is_none_or(|(_, effect)| *effect == does(row));
                    assert!(is_same, "{press:?} twice in {place:?}");
                    seen.push((*press, does(row)));
                }
            }
        }
    }

    #[test]
    fn a_release_does_nothing() {
        let mut key = KeyEvent::from(KeyCode::Char('q'));
        let state = State::of_endpoints(&[], BYTES_MAX);
        assert_eq!(find(&state, key), Found::Action(Action::Leave));
        key.kind = KeyEventKind::Release;
        assert_eq!(find(&state, key), Found::Nothing);
    }

    #[test]
    fn an_empty_list_offers_only_keys_that_work() {
        let mut state = State::of_endpoints(&[], BYTES_MAX);
        state.update(Action::Requests);
        let shown: Vec<&str> = valid(&state).map(|row| row.shown).collect();
        let expected = [
            "C",
            "w",
            "? F1",
            "Esc q",
            "Ctrl-L",
            "Ctrl-Z",
            "Ctrl-C",
            "L",
            "T",
            "W",
            "O",
            "Tab",
            "Shift-Tab",
            "M",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn descriptions_of_keys_fit_into_half_a_small_window() {
        for row in all().chain(HELP) {
            assert!(row.does.chars().count() <= 28, "{}", row.does);
            assert!(row.shown.chars().count() <= 9, "{}", row.shown);
        }
    }

    /// The rows of one screen as a table of the book.
    fn table(title: &str, rows: &[&Binding]) -> String {
        let mut table = format!("## {title}\n\n| key | does |\n|---|---|\n");
        for row in rows {
            let keys: Vec<String> =
                row.shown.split_whitespace().map(|key| format!("`{key}`")).collect();
            table.push_str(&format!("| {} | {} |\n", keys.join(" "), row.does));
        }
        table
    }

    /// Goal: the page of the book lists exactly the keys that work. The failure prints the tables
    /// that the page has to contain.
    #[test]
    fn the_page_of_the_book_has_every_key_of_every_screen() {
        let page = std::fs::read_to_string("book/src/keys.md").unwrap();
        let screens = [
            ("Cluster", Screen::Cluster),
            ("Cluster, while a story is open", Screen::Moment),
            ("Cluster, before a member is stopped or started", Screen::Ask),
            ("Before the player ends", Screen::Leaving),
            ("Requests", Screen::List),
            ("Requests, while a search is typed", Screen::Find),
            ("Steps", Screen::Steps),
            ("Steps, while a number is typed", Screen::Prompt),
            ("One step at full size", Screen::Why),
            ("The source of a step, or its section of the book", Screen::Reading),
            ("Two requests compared", Screen::Compared),
            ("A request of your own, while it is typed", Screen::Console),
            ("Steps, while a question is open", Screen::Quiz),
            ("Log", panes::LOG),
            ("Keys", panes::TREE),
            ("Watchers, leases and locks", panes::WAITS),
            ("What the members print", panes::LINES),
            ("The steps, or any of these four, while a search is typed", Screen::Seek),
        ];
        assert_eq!(screens.len(), ALL.len());
        let of = |screen| all().filter(move |row| row.places.contains(&screen));
        let mut tables: Vec<String> = screens
            .into_iter()
            .map(|(title, screen)| table(title, &of(screen).collect::<Vec<_>>()))
            .collect();
        tables.push(table("The list of keys", &HELP.iter().collect::<Vec<_>>()));
        tables.push(legend::table());
        let expected = tables.join("\n");
        let (_, tables) = page.split_once("\n## ").unwrap_or_default();
        assert!(format!("## {tables}") == expected, "book/src/keys.md has to end in\n\n{expected}");
    }

    #[test]
    fn escape_never_quits() {
        for row in all().chain(HELP) {
            let is_escape = row.presses.contains(&Code(KeyCode::Esc));
            let quits =
                matches!(row.effect, Effect::Do(Action::Quit | Action::Leave | Action::Confirm));
            assert!(!is_escape || !quits);
        }
    }
}
