//! What the state asks of the loop, because a state does no I/O; and the addresses of steps.

use super::{
    super::{
        anchor::Anchor,
        compared::Compared,
        steps::Steps,
        story::{Step, Subject},
        text,
        watermarks::moment,
    },
    Action, State,
};
use crate::source::ENDPOINTS;

/// What the loop has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Let the terminal copy a text.
    Copy(String),
    /// Save the recording and the screen.
    Save,
    /// Compare two requests.
    Compare(u64, u64),
    /// Stop the whole program until it is continued.
    Suspend,
    /// Draw the screen anew.
    Redraw,
    /// Take the mouse, or free it.
    Mouse,
}

/// Where the records come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A test, or text.
    #[default]
    Nowhere,
    /// A file with this path.
    File(String),
    /// Members at these endpoints.
    Live(Vec<String>),
}

impl State {
    /// Takes what the loop has to do.
    pub(crate) fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// Says what has become of a wish.
    pub(crate) fn say(&mut self, said: String) {
        self.version += 1;
        self.notice = Some(said);
    }

    /// Shows a page of text.
    pub(crate) fn show_compared(&mut self, title: String, lines: Vec<String>) {
        self.version += 1;
        self.compared = Some(Compared { title, lines, scrolled: 0 });
    }

    /// Opens the step as soon as it has been received; now, if it is there.
    pub(crate) fn await_step(&mut self, anchor: Anchor) -> Result<(), String> {
        let is_file = self.memory.seen().is_empty();
        match self.open_at(&anchor) {
            Err(why) if is_file => return Err(why),
            Err(_) => self.awaited = Some(anchor),
            Ok(()) => {}
        }
        Ok(())
    }

    pub(super) fn open_awaited(&mut self) {
        if let Some(anchor) = self.awaited.take()
            && self.open_at(&anchor).is_err()
        {
            self.awaited = Some(anchor);
        }
    }

    /// Opens the step with this address, in its story.
    fn open_at(&mut self, anchor: &Anchor) -> Result<(), String> {
        let recording = self.memory.recording();
        let event = &recording.events[anchor.event(recording)?];
        let subject = anchor.subject(recording)?;
        let mut steps = Steps::open(recording, subject);
        let wanted = (event.member, moment(event));
        let is_it =
            |step: &Step| step.is_captured && (step.event.member, moment(&step.event)) == wanted;
        let place = steps.steps.iter().position(is_it);
        let place = place.ok_or_else(|| format!("the story has no step {}", anchor.text()))?;
        steps.go(place);
        self.list.select(subject);
        self.steps = Some(steps);
        self.room.is_shown = false;
        self.version += 1;
        Ok(())
    }

    /// The address of the step that is explained.
    pub(crate) fn anchor(&self) -> Result<Anchor, &'static str> {
        self.anchor_of(self.steps.as_ref().ok_or("no story is open")?)
    }

    fn anchor_of(&self, steps: &Steps) -> Result<Anchor, &'static str> {
        let step = steps.steps.get(steps.look).ok_or("this story has no step")?;
        let member = self.recording().members.get(usize::from(step.event.member));
        let (Some(member), true) = (member, step.is_captured) else {
            return Err("a step that was not captured has no address");
        };
        let (boot, clock) = moment(&step.event);
        let story = match steps.subject {
            Subject::Request(id) if id == step.event.id => None,
            Subject::Request(id) => Some(format!("{id:016x}")),
            Subject::Cluster(address) => Some(address.text(&self.recording().members)),
        };
        Ok(Anchor { member: member.name.clone(), boot, clock, story })
    }

    /// The command that opens the step that is explained or, in the list, the first captured step
    /// of the chosen story.
    pub(crate) fn command_of_step(&self) -> Result<String, &'static str> {
        let anchor = match (&self.steps, self.list.subject()) {
            (None, Some(subject)) => {
                let mut steps = Steps::open(self.recording(), subject);
                let is_first = |step: &Step| step.is_captured && step.is_own;
                steps.look = steps.steps.iter().position(is_first).unwrap_or(0);
                self.anchor_of(&steps)
            }
            _ => self.anchor(),
        };
        let anchor = anchor?.text();
        Ok(match &self.origin {
            Origin::File(path) => format!("glass play {}", quoted(&format!("{path}@{anchor}"))),
            Origin::Live(endpoints) if bare(endpoints) != ENDPOINTS => {
                let endpoints = quoted(&bare(endpoints));
                format!("glass play {} --endpoints {endpoints}", quoted(&format!("@{anchor}")))
            }
            Origin::Live(_) | Origin::Nowhere => {
                format!("glass play {}", quoted(&format!("@{anchor}")))
            }
        })
    }

    /// The part of [`State::update`] that asks something of the loop.
    pub(super) fn update_wishes(&mut self, action: Action) {
        match action {
            Action::Copy => match self.command_of_step() {
                Ok(command) => {
                    self.notice = Some(format!("copied: {command}"));
                    self.wishes.push(Wish::Copy(command));
                }
                Err(why) => self.notice = Some(why.to_owned()),
            },
            Action::Save => self.wishes.push(Wish::Save),
            Action::Suspend => self.wishes.push(Wish::Suspend),
            Action::Redraw => self.wishes.push(Wish::Redraw),
            Action::Mouse => self.wishes.push(Wish::Mouse),
            Action::Compare => self.compare(),
            _ => {}
        }
    }

    /// Compares the two marked requests.
    fn compare(&mut self) {
        match self.list.marked[..] {
            [Subject::Request(a), Subject::Request(b)] => self.wishes.push(Wish::Compare(a, b)),
            [_, _] => self.notice = Some("only requests can be compared".to_owned()),
            _ => self.notice = Some("space marks a request; D compares two marked ones".to_owned()),
        }
    }
}

/// Endpoints as a flag takes them; `http://` is the default.
fn bare(endpoints: &[String]) -> String {
    let bare = endpoints.iter().map(|url| url.strip_prefix("http://").unwrap_or(url));
    bare.collect::<Vec<_>>().join(",")
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@:/._-,+=".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", text::clean(word).replace('\'', "'\\''")),
    }
}
