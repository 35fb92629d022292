//! Cutting and healing links from the cluster view: which links are cut, and what the key asks.

use super::{
    super::{
        links::End,
        room::{Board, Column, Question},
        steps::Steps,
    },
    State,
};
use crate::up::api::{Action, Command, Reply};

impl State {
    /// The links that are cut between the members of these columns: at the cursor of a story, or
    /// now.
    pub(super) fn cut_links(
        &self,
        columns: &[Column],
        steps: Option<&Steps>,
    ) -> Vec<(usize, usize)> {
        self.cut_between(columns.iter().map(|column| column.place), steps)
    }

    /// The same between the members at these positions.
    pub(super) fn cut_between(
        &self,
        places: impl Iterator<Item = Option<u8>>,
        steps: Option<&Steps>,
    ) -> Vec<(usize, usize)> {
        let members = &self.recording().members;
        let end = |place: Option<u8>| -> Option<End> {
            let place = place?;
            let id = members.get(usize::from(place))?.member_id;
            match steps {
                Some(steps) => Some((place, id, Some(steps.cut(place)?))),
                None => Some((place, id, None)),
            }
        };
        self.learned.links.cut(&places.map(end).collect::<Vec<_>>())
    }

    /// Asks about the first link of the chosen member, or, if one is asked about, about the next.
    pub(super) fn ask_link(&mut self) {
        let asked = match self.room.question.take() {
            Some(Question::Act(command)) => Some(command),
            _ => None,
        };
        self.show_now();
        match self.chosen() {
            Ok((_, process)) => match next_link(&self.board(), &process.name, asked.as_ref()) {
                Some(command) => self.room.question = Some(Question::Act(command)),
                None => self.room.notice = Some("there is no other member yet".to_owned()),
            },
            Err(why) => self.room.notice = Some(why),
        }
    }

    /// Whether it is asked about a link.
    pub(crate) fn asks_link(&self) -> bool {
        let asked = self.room.question.as_ref();
        matches!(asked, Some(Question::Act(command)) if is_of_links(command))
    }
}

fn is_of_links(command: &Command) -> bool {
    matches!(command.action, Action::Cut | Action::Heal)
}

/// The question after `asked`: each link of the member, then all of them together. A link that is
/// cut is healed.
fn next_link(board: &Board, name: &str, asked: Option<&Command>) -> Option<Command> {
    let process = |column: &Column| Some(column.process.as_ref()?.0.name.clone());
    let member =
        board.columns.iter().position(|column| process(column).as_deref() == Some(name))?;
    let facts = board.facts();
    let others = (0..board.columns.len()).filter(|at| *at != member);
    let mut choices: Vec<Option<usize>> = others.map(Some).collect();
    if 1 < choices.len() {
        choices.push(None);
    }
    let commands = choices.into_iter().filter_map(|other| {
        let peer = match other {
            Some(at) => Some(process(&board.columns[at])?),
            None => None,
        };
        let are_cut = facts.links(member, other).iter().all(|(a, b)| facts.is_cut(*a, *b));
        let action = if are_cut { Action::Heal } else { Action::Cut };
        Some(Command { action, name: Some(name.to_owned()), peer })
    });
    let commands: Vec<Command> = commands.collect();
    let is_it = |command: &Command| {
        asked
            .as_ref()
            .is_some_and(|asked| (&asked.name, &asked.peer) == (&command.name, &command.peer))
    };
    let next = commands.iter().position(is_it).map_or(0, |at| (at + 1) % commands.len());
    commands.into_iter().nth(next)
}

/// What `glass up` has done about links, in one line; `None` if the command was another one.
pub(super) fn done(command: &Command, reply: &Reply) -> Option<String> {
    if !is_of_links(command) {
        return None;
    }
    let cut: Vec<String> =
        reply.cut.iter().map(|(one, other)| format!("{one} ╳ {other}")).collect();
    Some(match cut.as_slice() {
        [] => "all links are whole".to_owned(),
        cut => format!("cut now: {}", cut.join(", ")),
    })
}
