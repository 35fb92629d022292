//! A scenario: a text of one act a line, from which a recording is made.
//!
//! ```text
//!   members 3                       the first line: 1, 3 or 5 members, etcd-01 and so on; behind
//!                                   the number there may be flags of `glass serve` for all of them
//!   members 3+1                     the same, and a member more, etcd-04, that does not run yet
//!   put: @follower put foo bar      a request, as it is typed in the player; `put` labels its story
//!   read: @other get foo -s &       the same, without waiting for the answer
//!   wait read                       for that answer; of a watcher, for the first one
//!   expect read ok                  or a part of the error; or `error` for any
//!   add: @leader member add etcd-04 --learner    a request about a member has its name, or its role
//!   kill @leader                    also start, pause, resume
//!   cut @leader @follower           the link between the two; heal
//!   wait leader                     also `wait applied`, `wait commit`
//!   sleep 300ms                     only where time itself is the subject
//! ```
//!
//! `@leader` is the member that led at the last `wait leader`, or at the start. `@follower` and
//! `@other` are the first two of the others, by name, and those that ran then come first. So the
//! roles stay with their members until the next `wait leader`, even if a member is killed.
//!
//! Invariants: a mistake names the file and the line; lines are bounded, and so is the time that
//! the acts may take ([`perform`](super::perform)).
//!
//! Left out: loops and conditions. A scenario that needs them shows too much at once.

use std::{fmt, time::Duration};

use glass_etcd::config::positive_duration;

use crate::{
    state::console::request::{self, Request},
    up::api::Action,
};

/// The most lines of a scenario.
const LINES_MAX: usize = 200;
/// The longest label: a trace id has room for it.
pub(crate) const LABEL_MAX: usize = 14;
/// The longest `sleep`.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// Who acts, or is acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Leader,
    /// The first member that does not lead.
    Follower,
    /// The second one.
    Other,
    Named(String),
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// A member leads, and every running member follows it.
    Leader,
    /// All running members have applied all that is committed.
    Applied,
    /// They have also written their buffers into their files.
    Stored,
    /// The request of this label is answered.
    Answer(String),
    /// This long.
    Slept(Duration),
}

/// What one line does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Deed {
    Send {
        label: String,
        to: Who,
        request: Request,
        /// Whether the next line waits for the answer.
        is_awaited: bool,
    },
    Wait(Until),
    /// The request of this label has ended well, or with an error that has this part.
    Expect(String, Option<String>),
    /// Something is done to a process.
    Act(Action, Who),
    /// The link between two members is cut or healed.
    Link(Action, Who, Who),
}

/// A line and what it does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Act {
    pub(crate) line: usize,
    pub(crate) deed: Deed,
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenario {
    /// The name of the file, for errors.
    pub(crate) file: String,
    pub(crate) members: usize,
    /// Members that may be added: they come after the others, and do not run at the beginning.
    pub(crate) joiners: usize,
    /// Flags for all members.
    pub(crate) flags: String,
    pub(crate) acts: Vec<Act>,
}

/// A mistake of a scenario, or an act that failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Wrong {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.why)
    }
}

impl Scenario {
    /// Reads a scenario. `file` is the name by which errors call it.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Scenario, Wrong> {
        let wrong = |line, why| Wrong { file: file.to_owned(), line, why };
        let count = text.lines().count();
        if LINES_MAX < count {
            return Err(wrong(count, format!("{count} lines, at most {LINES_MAX}")));
        }
        let lines = (1..).zip(text.lines().map(str::trim));
        let mut lines = lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
        let first = "the first line says `members 1`, `members 3`, `members 5` or `members 3+1`";
        let members = lines.next().and_then(|(_, text)| text.strip_prefix("members "));
        let members = members.map(|text| text.trim().split_once(' ').unwrap_or((text.trim(), "")));
        let numbers = |text: &str| {
            let (members, joiners) = text.split_once('+').unwrap_or((text, "0"));
            Some((members.parse::<usize>().ok()?, joiners.parse::<usize>().ok()?))
        };
        let members = members.and_then(|(text, flags)| Some((numbers(text)?, flags)));
        let is_some = |((members, joiners), flags): &((usize, usize), &str)| {
            matches!((members, joiners), (1 | 3 | 5, 0 | 1))
                && (flags.is_empty() || flags.starts_with("--"))
        };
        let Some(((members, joiners), flags)) = members.filter(is_some) else {
            return Err(wrong(1, first.to_owned()));
        };
        let (file, flags) = (file.to_owned(), flags.to_owned());
        let mut scenario = Scenario { file, members, joiners, flags, acts: Vec::new() };
        for (line, text) in lines {
            let deed = scenario.deed(text).map_err(|why| wrong(line, why))?;
            scenario.acts.push(Act { line, deed });
        }
        Ok(scenario)
    }

    /// The labels, in the order of their lines.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        self.acts.iter().filter_map(|act| match &act.deed {
            Deed::Send { label, .. } => Some(&**label),
            _ => None,
        })
    }

    /// The names of all members, those that do not run yet included.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.members + self.joiners).map(member_name)
    }

    /// Whether a line says how the request of this label ends.
    pub(crate) fn expects(&self, label: &str) -> bool {
        let is_it = |act: &Act| matches!(&act.deed, Deed::Expect(of, _) if of == label);
        self.acts.iter().any(is_it)
    }

    fn deed(&self, text: &str) -> Result<Deed, String> {
        if let Some((label, rest)) = text.split_once(": ")
            && !label.contains(char::is_whitespace)
        {
            return self.send(label, rest.trim());
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["wait", "leader"] => Ok(Deed::Wait(Until::Leader)),
            ["wait", "applied"] => Ok(Deed::Wait(Until::Applied)),
            ["wait", "commit"] => Ok(Deed::Wait(Until::Stored)),
            ["wait", label] => Ok(Deed::Wait(Until::Answer(self.known(label)?))),
            ["sleep", time] => Ok(Deed::Wait(Until::Slept(duration(time)?))),
            ["expect", label, "ok"] => Ok(Deed::Expect(self.known(label)?, None)),
            // Each error has the empty text in it.
            ["expect", label, "error"] => Ok(Deed::Expect(self.known(label)?, Some(String::new()))),
            ["expect", label, _, ..] => {
                let mut parts = text.splitn(3, char::is_whitespace);
                let part = parts.nth(2).map(|part| part.trim().to_owned());
                Ok(Deed::Expect(self.known(label)?, part))
            }
            ["kill", who] => Ok(Deed::Act(Action::Kill, self.who(who)?)),
            ["start", who] => Ok(Deed::Act(Action::Start, self.who(who)?)),
            ["pause", who] => Ok(Deed::Act(Action::Pause, self.who(who)?)),
            ["resume", who] => Ok(Deed::Act(Action::Resume, self.who(who)?)),
            ["cut", a, b] => Ok(Deed::Link(Action::Cut, self.who(a)?, self.who(b)?)),
            ["heal", a, b] => Ok(Deed::Link(Action::Heal, self.who(a)?, self.who(b)?)),
            _ => Err(format!("{text:?} is no act")),
        }
    }

    fn send(&self, label: &str, rest: &str) -> Result<Deed, String> {
        check_label(label)?;
        if self.labels().any(|known| known == label) {
            return Err(format!("{label} labels another request already"));
        }
        let (line, is_awaited) = match rest.strip_suffix(" &") {
            Some(line) => (line, false),
            None => (rest, true),
        };
        let (Some(who), line) = request::member_of(line) else {
            return Err("a request names its member first: @leader put a 1".to_owned());
        };
        let (to, request) = (self.who(&format!("@{who}"))?, request::parse(line)?);
        if let Request::Change(change) = &request {
            self.who(&change.subject)?;
        }
        Ok(Deed::Send { label: label.to_owned(), to, request, is_awaited })
    }

    /// Who is meant by a role or a name.
    pub(crate) fn who(&self, text: &str) -> Result<Who, String> {
        let who = match text.strip_prefix('@').unwrap_or(text) {
            "leader" => return Ok(Who::Leader),
            "follower" => Who::Follower,
            "other" => Who::Other,
            name => {
                let is_known = self.names().any(|known| name == known);
                let unknown = || format!("no member {name}: @leader, @follower, @other, etcd-01");
                return is_known.then(|| Who::Named(name.to_owned())).ok_or_else(unknown);
            }
        };
        let is_alone = self.members == 1;
        if is_alone { Err(format!("a cluster of one has no {text}")) } else { Ok(who) }
    }

    /// A label that an earlier line has.
    fn known(&self, label: &str) -> Result<String, String> {
        let is_known = self.labels().any(|known| known == label);
        is_known
            .then(|| label.to_owned())
            .ok_or_else(|| format!("no line above is labelled {label}"))
    }
}

/// The name of a member, by its number from 1 on.
pub(crate) fn member_name(number: usize) -> String {
    format!("etcd-{number:02}")
}

fn check_label(label: &str) -> Result<(), String> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if label.is_empty() || LABEL_MAX < label.len() || !label.chars().all(is_word) {
        let form = "lower-case letters, digits and dashes";
        return Err(format!("{label:?} is no label: up to {LABEL_MAX} {form}"));
    }
    match label {
        "leader" | "applied" | "commit" => Err(format!("{label} is what `wait` can wait for")),
        _ => Ok(()),
    }
}

/// `300ms` or `2s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: 300ms or 2s, at most 10s");
    let time = positive_duration(text).ok_or_else(wrong)?;
    if SLEEP_MAX < time { Err(wrong()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Scenario, String> {
        Scenario::parse("a.scenario", text).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn each_line_is_one_act() {
        let text = "# goal\nmembers 3\n\nput: @follower put foo bar\nread: @etcd-02 get foo -s &\n\
                    wait read\nexpect put ok\nexpect read no leader\nkill @leader\nwait leader\n\
                    cut @leader @other\nsleep 300ms\nwait commit\n";
        let scenario = parsed(text).unwrap();
        assert_eq!((3, 10), (scenario.members, scenario.acts.len()));
        assert_eq!(vec!["put", "read"], scenario.labels().collect::<Vec<_>>());
        let Deed::Send { to, is_awaited, .. } = &scenario.acts[1].deed else { panic!() };
        assert_eq!((&Who::Named("etcd-02".to_owned()), false), (to, *is_awaited));
        assert_eq!(5, scenario.acts[1].line, "comments and blank lines are lines too");
        let part = Some("no leader".to_owned());
        assert_eq!(Deed::Expect("read".to_owned(), part), scenario.acts[4].deed);
        let slept = Until::Slept(Duration::from_millis(300));
        assert_eq!(Deed::Wait(slept), scenario.acts[8].deed);
        assert!(scenario.expects("read") && !scenario.expects("nothing"));
    }

    #[test]
    fn a_member_that_does_not_run_yet_can_be_added_and_started() {
        let text = "members 3+1\nadd: @leader member add etcd-04 --learner\nstart etcd-04\n\
                    moved: @leader move-leader @follower\n";
        let scenario = parsed(text).unwrap();
        assert_eq!((3, 1, 3), (scenario.members, scenario.joiners, scenario.acts.len()));
        assert_eq!(Some("etcd-04".to_owned()), scenario.names().last());
        let unknown = parsed("members 3\nadd: @leader member add etcd-04\n").unwrap_err();
        assert!(unknown.contains("no member etcd-04"), "{unknown}");
    }

    #[test]
    fn a_mistake_names_the_file_and_the_line() {
        let said = |line: &str| parsed(&format!("members 1\n{line}\n")).unwrap_err();
        assert_eq!("a.scenario:2: \"dance\" is no act", said("dance"));
        assert!(said("a: put x 1").contains("names its member first"));
        assert!(said("a: @leader putt x 1").contains("is no command"));
        assert!(said("a: @follower put x 1").contains("a cluster of one"));
        assert!(said("A: @leader put x 1").contains("is no label"));
        assert!(said("leader: @leader put x 1").contains("what `wait` can wait for"));
        assert!(said("wait b").contains("no line above is labelled b"));
        assert!(said("kill @etcd-02").contains("no member etcd-02"));
        assert!(said("sleep 11s").contains("is no time"));
        assert_eq!("--a 1 --b", parsed("members 5 --a 1 --b").unwrap().flags);
        assert!(parsed("members 3+2").unwrap_err().starts_with("a.scenario:1: the first line"));
        assert!(parsed("members 3 4").unwrap_err().starts_with("a.scenario:1: the first line"));
        assert!(parsed("members 2").unwrap_err().starts_with("a.scenario:1: the first line"));
        let twice = "a: @leader put x 1\na: @leader put x 2";
        assert!(said(twice).starts_with("a.scenario:3: a labels another"));
        assert!(parsed(&"#\n".repeat(LINES_MAX + 1)).unwrap_err().contains("at most"));
    }
}
