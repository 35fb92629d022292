//! Requests of one's own: to whom they are sent, and how their stories open.

use std::collections::BTreeSet;

use super::{
    super::{
        console::{Answer, Errand, Key, request},
        lanes::Lane,
        steps::Steps,
        story::Subject,
        words,
    },
    Action, State,
};

/// The most keys that are offered as completions.
const KEYS_MAX: usize = 200;

impl State {
    /// What the loop has to do for requests of one's own.
    pub(crate) fn errands(&mut self) -> Vec<Errand> {
        self.console.errands()
    }

    /// How long ago something was, on the player's clock.
    pub(crate) fn age_ns(&self, then_ns: u64) -> u64 {
        self.now_ns.saturating_sub(then_ns)
    }

    /// Another key was pressed: the story of a request that was sent does not open any more, and on
    /// another screen nothing more is said of one that has ended.
    pub(super) fn leave_console(&mut self, action: Action) {
        match action {
            Action::Console(_) => return,
            Action::Edit(_) if self.console.typed.is_some() => return,
            Action::Back | Action::Leave | Action::Cluster | Action::Requests | Action::Open => {
                self.console.is_shown = false;
            }
            _ => {}
        }
        self.console.leave();
    }

    /// Takes what came of a request.
    pub(crate) fn answered(&mut self, answer: Answer) {
        self.version += 1;
        self.console.answered(answer);
    }

    /// The part of [`State::update`] for requests of one's own.
    pub(super) fn update_console(&mut self, key: Key) {
        match key {
            Key::Open => self.console.open(),
            Key::Close => (self.console.typed, self.console.hint) = (None, None),
            Key::Complete => {
                let names: Vec<String> = self.lanes.iter().map(|lane| lane.name.clone()).collect();
                let keys = self.keys_seen();
                self.console.complete(&names, &keys);
            }
            Key::Send => {
                let of = |lane: &Lane| (lane.name.clone(), lane.member_id);
                let ids: Vec<(String, u64)> = self.lanes.iter().map(of).collect();
                let sent = self.addressee();
                let sent = sent.and_then(|to| self.console.send(to, &ids, self.now_ns));
                self.console.hint = sent.err();
            }
            Key::Cancel => _ = self.console.cancel(self.now_ns),
            Key::Earlier | Key::Later => self.console.turn(key),
        }
    }

    /// The name of the member to which a line without `@` is sent: the lane to which stepping is
    /// restricted, or the member chosen in the cluster view.
    pub(crate) fn chosen_member(&self) -> String {
        let of_lane = self.steps.as_ref().and_then(|steps| self.lanes.get(steps.focus?));
        match of_lane {
            Some(lane) => lane.name.clone(),
            None => {
                let columns = self.board().columns;
                let chosen = self.room.chosen.min(columns.len().saturating_sub(1));
                columns.get(chosen).map_or_else(|| "nobody".to_owned(), |it| it.name.clone())
            }
        }
    }

    /// The name and the endpoint of the member that the line names, or of the chosen one.
    fn addressee(&self) -> Result<(String, String), String> {
        let typed = self.console.typed.as_ref().map(|line| line.text()).unwrap_or_default();
        let chosen = self.chosen_member();
        let wanted = request::member_of(&typed).0.unwrap_or(&chosen);
        let number = wanted.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let by_name = |lane: &&Lane| lane.name == wanted;
        let lane = self.lanes.iter().find(by_name).or_else(|| self.lanes.get(number?));
        let Some(lane) = lane else {
            let names: Vec<&str> = self.lanes.iter().map(|lane| lane.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(format!("no member {wanted} has answered yet; those that have: {names}"));
        };
        let seen = self.memory.seen().iter();
        let endpoint = seen.filter(|seen| seen.member.is_some() && seen.member == lane.place);
        let endpoint = endpoint.map(|seen| seen.endpoint.clone()).next();
        let endpoint = endpoint.ok_or_else(|| format!("{} has no address here", lane.name))?;
        Ok((lane.name.clone(), endpoint))
    }

    /// The keys that requests name, for completion. One that was cut or needs quotes is left out.
    fn keys_seen(&self) -> Vec<String> {
        let is_plain = |text: &String| {
            let needs_quotes = |c: char| c.is_whitespace() || "\"';\\".contains(c);
            !text.is_empty() && !text.starts_with(['-', '@']) && !text.contains(needs_quotes)
        };
        let rows = self.list.rows.iter().rev().filter_map(|row| row.key.as_ref());
        let whole = rows.filter(|key| u64::try_from(key.bytes.len()) == Ok(key.length));
        let keys = whole.map(|key| words::escaped(&key.bytes)).filter(is_plain);
        let keys: BTreeSet<String> = keys.take(KEYS_MAX).collect();
        keys.into_iter().collect()
    }

    /// Opens the story of the request that was sent last, as soon as its first record is there.
    pub(super) fn open_own_story(&mut self) {
        let Some(id) = self.console.take_story() else { return };
        self.refresh();
        let subject = Subject::Request(id);
        self.list.select(subject);
        self.room.is_shown = false;
        self.steps = Some(Steps::open(self.memory.recording(), subject));
        self.version += 1;
    }
}
