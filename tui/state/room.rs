//! The control room: the members side by side, and who may stop and start them.
//!
//! ```text
//!   records ──▶ heads, figures ──┐
//!                                ├──▶ Board: a column for each member, and the verdict on all
//!   glass up ── processes ───────┘
//!   key ──▶ Question ── y ──▶ Command ──▶ glass up ──▶ Reply
//! ```
//!
//! A board is of one moment: the step that is looked at, or now. Now has a second source: the
//! supervisor that runs the members knows whether a process runs, so a member can be PAUSED or
//! starting where its records only end. Commands act on now, and on the screen of a past moment the
//! members are others, so a key that acts shows now before it asks.
//!
//! Invariant: nothing is done to a member before its consequence has been shown and `y` pressed.
//!
//! Links between members are cut and healed in the same way (see `player/links.rs`).

use super::{
    alive::Heard,
    disk,
    forecast::{Facts, Runs},
    voters::Voters,
    watermarks::{Water, Watermarks},
};
use crate::up::api::{Action, Command, Process, State as Doing};

/// The number of a leader's role.
const LEADER: u64 = glass_etcd::trace::value::LEADER;

/// How long after its start a member that sends nothing is starting, in nanoseconds.
pub(crate) const START_NS: u64 = 10_000_000_000;

/// Who can stop and start the members that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hands {
    /// They are in a recording.
    Recording,
    /// No `glass up` that runs them is known.
    Nobody,
    /// The `glass up` in another process.
    Other,
    /// The `glass up` behind this player: what becomes of the members is asked when it ends.
    Own,
}

/// How the player was left, and what becomes of its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Left {
    /// Without a question: by Ctrl-C, by a signal, or where nothing was to be asked.
    #[default]
    AtOnce,
    /// The members stop.
    StopAll,
    /// The members run on.
    Running,
}

/// What the player asks before it does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// To do this to a process.
    Act(Command),
    /// To start members from what the disks had at a moment.
    Boot(disk::Trial),
    /// To end the player, and with it the members.
    Leave,
}

/// The state of the control room.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// Whether the cluster view is shown.
    pub(crate) is_shown: bool,
    /// Whether it shows now although a story is open.
    pub(crate) is_now: bool,
    /// The chosen member, by column.
    pub(crate) chosen: usize,
    /// What is asked.
    pub(crate) question: Option<Question>,
    /// One line in answer to the last key or command.
    pub(crate) notice: Option<String>,
    pub(crate) hands: Hands,
    /// How the player was left.
    pub(crate) left: Left,
    /// The process at each endpoint, if a `glass up` runs them.
    pub(crate) names: Vec<String>,
    /// The processes, as `glass up` has told them last, and when, on the player's clock.
    pub(crate) told: Option<(u64, Vec<Process>)>,
    /// Commands for the loop to send.
    pub(crate) commands: Vec<Command>,
}

impl Default for Room {
    fn default() -> Room {
        Room {
            is_shown: true,
            is_now: false,
            chosen: 0,
            question: None,
            notice: None,
            hands: Hands::Recording,
            left: Left::AtOnce,
            names: Vec::new(),
            told: None,
            commands: Vec::new(),
        }
    }
}

impl Room {
    /// The process with this name, and for how many nanoseconds it has been in its state.
    pub(crate) fn process(&self, name: &str, now_ns: u64) -> Option<(&Process, u64)> {
        let (told_ns, processes) = self.told.as_ref()?;
        let process = processes.iter().find(|process| process.name == name)?;
        let since_ns = process.since_ms.saturating_mul(1_000_000);
        Some((process, since_ns.saturating_add(now_ns.saturating_sub(*told_ns))))
    }

    /// Takes over what `glass up` says about its processes: about all, or about those of a command.
    pub(crate) fn learn(&mut self, processes: Vec<Process>, now_ns: u64) {
        let Some((told_ns, known)) = &mut self.told else {
            self.told = Some((now_ns, processes));
            return;
        };
        let aged_ms = now_ns.saturating_sub(*told_ns) / 1_000_000;
        *told_ns = now_ns;
        for process in known.iter_mut() {
            process.since_ms = process.since_ms.saturating_add(aged_ms);
        }
        for process in processes {
            match known.iter_mut().find(|known| known.name == process.name) {
                Some(known) => *known = process,
                None => known.push(process),
            }
        }
    }

    /// Why the members cannot be stopped or started from here; `None` if they can.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        match self.hands {
            Hands::Own | Hands::Other => None,
            Hands::Recording => Some("a recording cannot be changed: this member ran in the past"),
            Hands::Nobody => {
                Some("no `glass up` runs these members here, so nothing here can stop them")
            }
        }
    }
}

/// Whether a member runs, by its process and by its records. An endpoint that does not answer is
/// [`Heard::Down`]; if the process runs, it does not answer yet.
pub(crate) fn heard_of_process(doing: &Doing, since_ns: u64, heard: Heard) -> Heard {
    match (doing, heard) {
        (Doing::Paused, _) => Heard::Paused(since_ns),
        (Doing::Running, Heard::Down(_)) => Heard::Starting(since_ns),
        (Doing::Running, Heard::Never) if since_ns < START_NS => Heard::Starting(since_ns),
        (Doing::Running | Doing::Stopping, heard) => heard,
        (_, _) => Heard::Down(since_ns),
    }
}

/// The action that a key means for a process: stop it, or start it if it has ended.
pub(crate) fn applicable(wanted: Action, doing: &Doing) -> Result<Action, &'static str> {
    let runs = matches!(doing, Doing::Running | Doing::Paused);
    match wanted {
        Action::Stop if !runs && *doing != Doing::Stopping => Ok(Action::Start),
        Action::Pause if *doing == Doing::Paused => Ok(Action::Resume),
        Action::Restart if !runs && *doing != Doing::Stopping => Ok(Action::Start),
        _ if runs => Ok(wanted),
        _ if *doing == Doing::Stopping => Err("is stopping"),
        _ => Err("does not run"),
    }
}

/// One member on the board.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its position in the recording; `None` for a member that has sent nothing.
    pub(crate) place: Option<u8>,
    /// Raft's id of it; 0 if that is unknown.
    pub(crate) member_id: u64,
    pub(crate) marks: Watermarks,
    pub(crate) heard: Heard,
    /// When its last record was heard, in nanoseconds before the moment of the board.
    pub(crate) last_ns: Option<u64>,
    /// For how long its process runs, if the records say so.
    pub(crate) runs_ns: Option<u64>,
    /// The same while it does not serve clients yet.
    pub(crate) starts_ns: Option<u64>,
    /// Its process, and the nanoseconds in its state, if `glass up` runs it and the board is of
    /// now.
    pub(crate) process: Option<(Process, u64)>,
    /// Why its endpoint does not answer.
    pub(crate) down: Option<String>,
}

/// The members at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) columns: Vec<Column>,
    /// Which of the columns' members vote; `None` if that is not known.
    pub(crate) voters: Option<Voters>,
    /// The moment, in nanoseconds since 1970.
    pub(crate) at_ns: u64,
    /// Whether the moment is now, and not that of a step.
    pub(crate) is_now: bool,
    /// When a member's records said last that it led.
    pub(crate) led_ns: Option<u64>,
    /// The links that are cut, as pairs of columns, the lower one first.
    pub(crate) cut: Vec<(usize, usize)>,
}

/// Who leads at a moment, as far as the records up to it say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// The member in this column, by its own records.
    Member(usize),
    /// The member in this column led when it was heard last, this many nanoseconds ago.
    Silent(usize, u64),
    /// The member with this id leads this term, by those that follow it: it sends no records.
    Named(u64, u64),
    /// Nobody has for this many nanoseconds; `None` if nobody ever did.
    Nobody(Option<u64>),
    /// A member of which nothing is known may lead. The records named a leader last this many
    /// nanoseconds ago.
    Unknown(Option<u64>),
}

/// Whether a majority runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quorum {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It will when those that start are ready.
    Soon,
    /// It depends on members of which nothing is heard.
    Unknown,
}

impl Board {
    /// The member that leads: of those that run, the one that leads the highest term. One that a
    /// majority has left behind in its term leads nobody, even if it does not know that yet.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.leads(*at) && self.columns[*at].heard == Heard::Fresh;
        let majority = self.assumed().needed();
        let is_left = |at: &usize| majority <= self.later(*at);
        let leaders = (0..self.columns.len()).filter(|at| leads(at) && !is_left(at));
        leaders.max_by_key(|at| self.term(*at))
    }

    fn leads(&self, at: usize) -> bool {
        self.columns[at].marks.get(Water::Role) == Some(LEADER)
    }

    fn term(&self, at: usize) -> u64 {
        self.columns[at].marks.get(Water::Term).unwrap_or(0)
    }

    /// How many voters are in a later term than this member.
    fn later(&self, than: usize) -> usize {
        let voters = self.assumed();
        let is_later = |at: &usize| self.term(than) < self.term(*at);
        (0..self.columns.len()).filter(|at| voters.votes(*at)).filter(is_later).count()
    }

    /// Who votes; everyone, where that is not known.
    fn assumed(&self) -> Voters {
        self.voters.clone().unwrap_or_else(|| Voters::all(self.columns.len()))
    }

    /// Who leads, also by the words of others.
    pub(crate) fn lead(&self) -> Lead {
        if let Some(leader) = self.leader() {
            return Lead::Member(leader);
        }
        let all = || 0..self.columns.len();
        let silent = |at: usize| match self.columns[at].heard {
            // A member that asks for votes in a later term has given it up.
            Heard::Silent(ns) if self.leads(at) && self.later(at) == 0 => Some((at, ns)),
            _ => None,
        };
        if let Some((at, ns)) = all().find_map(silent) {
            return Lead::Silent(at, ns);
        }
        let named = |at: usize| {
            let column = &self.columns[at];
            let id = column.marks.get(Water::Leader).filter(|id| *id != 0)?;
            let of = self.columns.iter().find(|column| column.member_id == id);
            let is_mute = of.is_none_or(|column| column.heard == Heard::Never);
            let follows = column.heard == Heard::Fresh && self.later(at) == 0;
            (is_mute && follows).then(|| Lead::Named(id, self.term(at)))
        };
        if let Some(named) = all().find_map(named) {
            return named;
        }
        let is_unknown = |column: &Column| {
            let runs = matches!(column.heard, Heard::Fresh | Heard::Silent(_) | Heard::Never);
            runs && column.marks.get(Water::Role).is_none()
        };
        let is_unknown = self.columns.iter().any(is_unknown) || self.quorum().0 == Quorum::Unknown;
        let since = self.leaderless_ns();
        if is_unknown { Lead::Unknown(since) } else { Lead::Nobody(since) }
    }

    /// Who runs, and who leads.
    pub(crate) fn facts(&self) -> Facts {
        let runs = |column: &Column| match column.heard {
            Heard::Fresh => Runs::Yes,
            Heard::Starting(_) | Heard::Down(_) | Heard::Paused(_) => Runs::No,
            Heard::Never | Heard::Silent(_) => Runs::Unknown,
        };
        let members = self.columns.iter().map(|column| (column.name.clone(), runs(column)));
        Facts {
            members: members.collect(),
            voters: self.assumed(),
            leader: self.leader(),
            cut: self.cut.clone(),
        }
    }

    /// Whether a majority runs and its links allow it a leader, how many run, or reach each other,
    /// and how many there are.
    pub(crate) fn quorum(&self) -> (Quorum, usize, usize) {
        let facts = self.facts();
        let running = if facts.cut.is_empty() { facts.running() } else { facts.together() };
        let total = facts.voters.count();
        let votes = |at: &usize| facts.voters.votes(*at);
        let all = || (0..self.columns.len()).filter(votes);
        let unknown = all().filter(|at| facts.members[*at].1 == Runs::Unknown).count();
        let unknown = unknown + facts.voters.others();
        let is_starting = |at: &usize| matches!(self.columns[*at].heard, Heard::Starting(_));
        let starting = all().filter(is_starting).count();
        let verdict = match facts.quorum() {
            _ if self.voters.is_none() => Quorum::Unknown,
            quorum if quorum <= running => Quorum::Yes,
            quorum if quorum <= running + starting => Quorum::Soon,
            quorum if quorum <= running + unknown => Quorum::Unknown,
            _ => Quorum::No,
        };
        (verdict, running, total)
    }

    /// For how long nobody has led, as far as the records say; `None` if they never named a leader.
    fn leaderless_ns(&self) -> Option<u64> {
        self.led_ns.map(|led| self.at_ns.saturating_sub(led))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_stops_and_starts_and_one_pauses_and_resumes() {
        assert_eq!(applicable(Action::Stop, &Doing::Running), Ok(Action::Stop));
        assert_eq!(applicable(Action::Stop, &Doing::Killed), Ok(Action::Start));
        assert_eq!(applicable(Action::Pause, &Doing::Paused), Ok(Action::Resume));
        assert_eq!(applicable(Action::Kill, &Doing::Exited(1)), Err("does not run"));
        assert_eq!(applicable(Action::Kill, &Doing::Paused), Ok(Action::Kill));
        assert_eq!(applicable(Action::Restart, &Doing::Stopping), Err("is stopping"));
    }

    #[test]
    fn the_supervisor_knows_why_a_member_is_silent() {
        let of = |doing, heard| heard_of_process(&doing, 7, heard);
        assert_eq!(of(Doing::Paused, Heard::Silent(5)), Heard::Paused(7));
        assert_eq!(of(Doing::Running, Heard::Silent(5)), Heard::Silent(5));
        assert_eq!(of(Doing::Running, Heard::Down(5)), Heard::Starting(7));
        assert_eq!(of(Doing::Running, Heard::Never), Heard::Starting(7));
        let late = heard_of_process(&Doing::Running, START_NS, Heard::Never);
        assert_eq!(late, Heard::Never, "it has said hello, and nothing since");
        assert_eq!(of(Doing::Killed, Heard::Fresh), Heard::Down(7));
    }

    #[test]
    fn the_time_in_a_state_goes_on_between_two_reports() {
        let process = |name: &str, since_ms| Process {
            name: name.to_owned(),
            pid: Some(1),
            state: Doing::Running,
            since_ms,
        };
        let mut room = Room::default();
        room.learn(vec![process("a", 10), process("b", 20)], 1_000_000);
        room.learn(vec![process("a", 0)], 5_000_000);
        let since = |name, now| room.process(name, now).map(|(_, ns)| ns);
        assert_eq!(since("a", 6_000_000), Some(1_000_000));
        assert_eq!(since("b", 6_000_000), Some(25_000_000));
        assert_eq!(since("c", 6_000_000), None);
    }
}
