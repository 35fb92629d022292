//! A recorded run of a scenario, and what the language of lessons says of it.
//!
//! ```text
//!   recording ─▶ State, Steps (as the player shows them) ─▶ selectors ─▶ expressions
//! ```
//!
//! Values are read from the same rows and by the same functions that the player draws with. So a
//! lesson cannot call something right that the screen shows otherwise. What the records do not tell
//! is an error here, and no answer.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use glass_etcd::{
    story::Recording,
    trace::{Grain, Stage, Unit, value::LEADER},
};

use super::{
    labels,
    language::{Expr, Fact, Nth, Op, Role, Selector},
};
use crate::state::{
    State, lens,
    steps::Steps,
    story::{Moment, Step, Subject},
    watermarks::Water,
    words,
};

/// What may be asked of a step beside the fields of its record.
#[cfg(test)]
const BESIDE: [&str; 5] = ["took", "member", "survives", "disks", "knowers"];

/// A value of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Also a truth value: 0 or 1.
    Number(i64),
    Nanos(u64),
    /// A member, by its lane.
    Member(usize),
    /// The name of a value: a method, the type of a message.
    Name(String),
}

impl Value {
    fn is_true(&self) -> Result<bool, String> {
        match self {
            Value::Number(number) => Ok(*number != 0),
            other => Err(format!("{other:?} is neither true nor false")),
        }
    }

    pub(crate) fn number(&self) -> Result<i64, String> {
        match self {
            Value::Number(number) => Ok(*number),
            Value::Nanos(ns) => i64::try_from(*ns).map_err(|error| error.to_string()),
            other => Err(format!("{other:?} is no number")),
        }
    }
}

fn truth(is_it: bool) -> Value {
    Value::Number(i64::from(is_it))
}

/// See the module's text.
pub(crate) struct Run {
    pub(crate) state: State,
    labels: BTreeMap<String, u64>,
    stories: RefCell<BTreeMap<String, Rc<Steps>>>,
}

/// A story of a run, of which selectors without a story speak.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    pub(crate) run: &'a Run,
    pub(crate) steps: Rc<Steps>,
}

impl Run {
    pub(crate) fn of(recording: Recording) -> Run {
        let labels = labels::labels(&recording);
        Run { state: State::of_recording(recording), labels, stories: RefCell::default() }
    }

    /// The story with this name: a label, or `election`, `start` or `step-down` for the last one.
    pub(crate) fn subject(&self, name: &str) -> Result<Subject, String> {
        if let Some(id) = self.labels.get(name) {
            return Ok(Subject::Request(*id));
        }
        let of_cluster = ["election", "start", "step-down"].contains(&name);
        let last = self.state.list.rows.iter().rfind(|row| of_cluster && row.method == name);
        last.map(|row| row.subject).ok_or_else(|| format!("the recording has no story {name}"))
    }

    /// The story of this name, from which expressions are read.
    pub(crate) fn scope(&self, name: &str) -> Result<Scope<'_>, String> {
        if let Some(steps) = self.stories.borrow().get(name) {
            return Ok(Scope { run: self, steps: steps.clone() });
        }
        let scope = self.scope_of(self.subject(name)?);
        self.stories.borrow_mut().insert(name.to_owned(), scope.steps.clone());
        Ok(scope)
    }

    pub(crate) fn scope_of(&self, subject: Subject) -> Scope<'_> {
        Scope { run: self, steps: Rc::new(Steps::open(self.state.recording(), subject)) }
    }
}

impl<'a> Scope<'a> {
    fn of(&self, story: Option<&str>) -> Result<Scope<'a>, String> {
        story.map_or_else(|| Ok(self.clone()), |name| self.run.scope(name))
    }

    /// The steps of the story as they were when the step at this position was the newest.
    fn at(&self, place: usize) -> Steps {
        let mut steps = (*self.steps).clone();
        steps.now = place;
        steps
    }

    /// The scope of a selector, and the positions of all steps that it means.
    pub(super) fn all(&self, selector: &Selector) -> Result<(Scope<'a>, Vec<usize>), String> {
        let scope = self.of(selector.story.as_deref())?;
        let lane = selector.role.map(|role| scope.lane(role)).transpose()?;
        let is_meant = |step: &Step| {
            step.is_own
                && step.is_captured
                && match selector.stage {
                    Some(stage) => (stage, selector.moment) == (step.event.stage, step.moment),
                    None => step.grain <= Grain::Story,
                }
                && lane.is_none_or(|lane| lane == step.lane)
        };
        let mut found = Vec::new();
        for (place, step) in scope.steps.steps.iter().enumerate().filter(|(_, s)| is_meant(s)) {
            let mut holds = true;
            for (name, op, wanted) in &selector.conditions {
                let wanted = scope.value(wanted)?;
                holds = holds && compared(&scope.field(place, step, name)?, *op, &wanted)?;
            }
            if holds {
                found.push(place);
            }
        }
        Ok((scope, found))
    }

    /// The one step that a selector means.
    pub(super) fn one(&self, selector: &Selector) -> Result<(Scope<'a>, usize), String> {
        let (scope, found) = self.all(selector)?;
        let place = match selector.nth {
            Nth::Last => found.last(),
            Nth::Number(number) => number.checked_sub(1).and_then(|before| found.get(before)),
        };
        let place = place.copied();
        let name = selector.stage.map_or("any", Stage::name);
        let none = || format!("of {name} there are {} such steps", found.len());
        Ok((scope, place.ok_or_else(none)?))
    }

    pub(super) fn value(&self, expr: &Expr) -> Result<Value, String> {
        Ok(match expr {
            Expr::Number(number) => Value::Number(*number),
            Expr::Word(word) => match Role::of(word) {
                Some(role) => Value::Member(self.lane(role)?),
                None => Value::Name(word.clone()),
            },
            Expr::Count(selector) => Value::Number(self.all(selector)?.1.len() as i64),
            Expr::Exists(selector) => truth(!self.all(selector)?.1.is_empty()),
            Expr::Before(first, second) => truth(self.is_before(first, second)?),
            Expr::Next(after, stage) => {
                let (scope, place) = self.one(after)?;
                truth(scope.next(place).is_some_and(|step| step.event.stage == *stage))
            }
            Expr::Field(of, name) => {
                let (scope, place) = self.one(of)?;
                scope.field(place, &scope.steps.steps[place], name)?
            }
            Expr::Mark(at, role, name) => {
                let (scope, place) = self.one(at)?;
                scope.mark(place, *role, name)?
            }
            Expr::Of(fact, story) => self.of(story.as_deref())?.fact(*fact)?,
            Expr::Members => Value::Number(self.run.state.lanes.len() as i64),
            Expr::Compare(left, op, right) => {
                truth(compared(&self.value(left)?, *op, &self.value(right)?)?)
            }
            Expr::And(left, right) => {
                truth(self.value(left)?.is_true()? && self.value(right)?.is_true()?)
            }
            Expr::Or(left, right) => {
                truth(self.value(left)?.is_true()? || self.value(right)?.is_true()?)
            }
            Expr::Not(inner) => truth(!self.value(inner)?.is_true()?),
            Expr::Plus(left, right) => {
                let sum = self.value(left)?.number()?.checked_add(self.value(right)?.number()?);
                Value::Number(sum.ok_or("too large a number")?)
            }
            Expr::Minus(left, right) => {
                let rest = self.value(left)?.number()?.checked_sub(self.value(right)?.number()?);
                Value::Number(rest.ok_or("too large a number")?)
            }
        })
    }

    pub(super) fn is_true(&self, expr: &Expr) -> Result<bool, String> {
        self.value(expr)?.is_true()
    }

    /// The value as the player writes it.
    pub(crate) fn words(&self, value: &Value) -> String {
        match value {
            Value::Number(number) => number.to_string(),
            Value::Nanos(ns) => words::duration(*ns),
            Value::Member(lane) => self.run.state.lanes[*lane].name.clone(),
            Value::Name(name) => name.clone(),
        }
    }

    fn is_before(&self, first: &Selector, second: &Selector) -> Result<bool, String> {
        let ((a, first), (b, second)) = (self.one(first)?, self.one(second)?);
        match a.steps.subject == b.steps.subject {
            true => Ok(first < second),
            false => Ok(a.steps.steps[first].wall_ns < b.steps.steps[second].wall_ns),
        }
    }

    /// The next step of the story that the same member takes.
    fn next(&self, place: usize) -> Option<&Step> {
        let lane = self.steps.steps[place].lane;
        let is_told = |step: &&Step| {
            step.is_own && step.is_captured && step.grain <= Grain::Story && step.lane == lane
        };
        self.steps.steps[place + 1..].iter().find(is_told)
    }

    /// A field of a step, or what holds there.
    fn field(&self, place: usize, step: &Step, name: &str) -> Result<Value, String> {
        let lanes = &self.run.state.lanes;
        let unknown = || format!("the records do not tell {name} at {}", step.event.stage.name());
        Ok(match name {
            "took" => Value::Nanos(step.event.took_ns),
            "member" => Value::Member(step.lane),
            "survives" => truth(lens::survives(&self.at(place), lanes).ok_or_else(unknown)?),
            "disks" => {
                let (disks, _) = lens::synced(&self.at(place), lanes).ok_or_else(unknown)?;
                Value::Number(disks as i64)
            }
            "knowers" => {
                let steps = self.at(place);
                let log = steps.log.as_ref().ok_or_else(unknown)?;
                let known = lanes.iter().map(|lane| steps.knows(log, lane));
                let known: Vec<bool> = known.collect::<Option<_>>().ok_or_else(unknown)?;
                Value::Number(known.iter().filter(|knows| **knows).count() as i64)
            }
            _ => {
                let named = step.event.named().find(|(field, _)| field.name == name);
                let none = || format!("{} has no field {name}", step.event.stage.name());
                let (field, number) = named.ok_or_else(none)?;
                self.in_unit(field.unit, number)
            }
        })
    }

    fn in_unit(&self, unit: Unit, number: u64) -> Value {
        let lanes = &self.run.state.lanes;
        let as_number = || Value::Number(i64::try_from(number).unwrap_or(i64::MAX));
        match unit {
            Unit::Nanos => Value::Nanos(number),
            Unit::Member => match lanes.iter().position(|lane| lane.member_id == number) {
                Some(lane) => Value::Member(lane),
                None => Value::Name("none".to_owned()),
            },
            Unit::Signed => Value::Number(number.cast_signed()),
            Unit::Count
            | Unit::Index
            | Unit::Term
            | Unit::Revision
            | Unit::Bytes
            | Unit::Flag
            | Unit::Id => as_number(),
            unit => Value::Name(words::value(unit, number, lanes)),
        }
    }

    fn mark(&self, place: usize, role: Role, name: &str) -> Result<Value, String> {
        let is_it = |water: &&Water| water.named().0.replace(' ', "-") == name;
        let water = Water::ALL.iter().find(is_it).ok_or_else(|| format!("no watermark {name}"))?;
        let steps = self.at(place);
        let lane = &self.run.state.lanes[self.lane(role)?];
        let value = steps.watermarks(lane).and_then(|marks| marks.get(*water));
        let value = value.ok_or_else(|| format!("{name} of {} is unknown there", lane.name))?;
        Ok(self.in_unit(water.named().1, value))
    }

    fn fact(&self, fact: Fact) -> Result<Value, String> {
        let unknown = || format!("the records do not tell the {fact:?} of this story");
        if fact == Fact::Entry {
            let log = self.steps.log.as_ref().ok_or_else(unknown)?;
            return Ok(Value::Number(i64::try_from(log.entry.1).unwrap_or(i64::MAX)));
        }
        let is_end = |step: &&Step| self.steps.is_request(step) && step.moment == Moment::Done;
        let end = self.steps.steps.iter().find(is_end).ok_or_else(unknown)?;
        match fact {
            Fact::Code => Ok(Value::Number(i64::from(end.event.result))),
            _ => self.field(0, end, "revision"),
        }
    }

    /// The member of a role, by its lane.
    fn lane(&self, role: Role) -> Result<usize, String> {
        let lanes = &self.run.state.lanes;
        let first =
            |but: [Option<usize>; 2]| (0..lanes.len()).find(|lane| !but.contains(&Some(*lane)));
        let found = match role {
            Role::Leader => self.leader(),
            Role::Old => self.leader_at(0),
            Role::Server => self.server(),
            Role::Follower => match self.server() {
                Some(server) if Some(server) != self.leader() => Some(server),
                _ => first([self.leader(), None]),
            },
            Role::Other => first([self.leader(), self.lane(Role::Follower).ok()]),
        };
        found.ok_or_else(|| format!("no member is known to be {role:?}"))
    }

    fn server(&self) -> Option<usize> {
        let own = self.steps.steps.iter().find(|step| self.steps.is_request(step));
        own.map(|step| step.lane)
    }

    fn leader(&self) -> Option<usize> {
        match self.steps.subject {
            Subject::Request(_) => self.leader_at(0),
            Subject::Cluster(_) => self.leader_at(self.steps.steps.len().checked_sub(1)?),
        }
    }

    /// The member that leads the newest term at the step.
    fn leader_at(&self, place: usize) -> Option<usize> {
        let steps = self.at(place);
        let leads = |(at, lane): (usize, _)| {
            let marks = steps.watermarks(lane)?;
            (marks.get(Water::Role)? == LEADER).then_some((marks.get(Water::Term), at))
        };
        let leads = self.run.state.lanes.iter().enumerate().filter_map(leads);
        leads.max().map(|(_, lane)| lane)
    }

    /// The positions of the steps that are shown, up to this one.
    pub(crate) fn shown(&self, until: usize) -> Vec<usize> {
        let steps = &self.steps.steps;
        let is_shown = |place: &usize| {
            let step = &steps[*place];
            step.grain <= Grain::Story && (step.is_own || step.event.stage == Stage::Lost)
        };
        (0..=until.min(steps.len().saturating_sub(1))).filter(is_shown).collect()
    }
}

fn compared(left: &Value, op: Op, right: &Value) -> Result<bool, String> {
    if let (Op::Equal | Op::Unequal, Value::Member(_) | Value::Name(_)) = (op, left) {
        return Ok((left == right) == (op == Op::Equal));
    }
    let (left, right) = (left.number()?, right.number()?);
    Ok(match op {
        Op::Equal => left == right,
        Op::Unequal => left != right,
        Op::Less => left < right,
        Op::LessOrEqual => left <= right,
        Op::Greater => left > right,
        Op::GreaterOrEqual => left >= right,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_of_a_record_is_hidden_by_what_may_be_asked_beside() {
        for stage in Stage::ALL {
            let names = stage.fields().iter().map(|field| field.name);
            let hidden: Vec<_> = names.filter(|name| BESIDE.contains(name)).collect();
            assert_eq!(Vec::<&str>::new(), hidden, "{}", stage.name());
        }
    }

    /// Goal: a question is about the story that it names, in the words of the player. Method: the
    /// put of the player's own tests, on three members.
    #[test]
    fn expressions_read_the_rows_of_the_player() {
        let scene = crate::state::scenes::put().recording;
        let run = Run::of(scene);
        let id = Subject::Request(crate::state::scenes::PUT);
        let scope = run.scope_of(id);
        let value = |text: &str| scope.value(&super::super::language::expression(text).unwrap());
        assert_eq!(Ok(Value::Number(3)), value("members()"));
        assert_eq!(Ok(Value::Number(1)), value("before(raft.entry, raft.commit)"));
        assert_eq!(Ok(Value::Number(0)), value("exists(mvcc.range)"));
        assert_eq!(value("leader"), value("field(raft.commit#1, member)"));
        assert_eq!(Ok(Value::Number(1)), value("field(raft.commit#1, survives)"));
        assert_eq!(Ok(Value::Number(1)), value("field(raft.commit#1, knowers)"));
        let unknown = value("field(raft.commit#99, knowers)");
        assert!(unknown.unwrap_err().starts_with("of raft.commit there are"));
        assert!(value("field(raft.commit, colour)").unwrap_err().contains("no field colour"));
        assert!(value("revision(no-such)").unwrap_err().contains("no story no-such"));
        assert!(value("rpc + 1").unwrap_err().contains("is no number"));
    }
}
