//! A question of a lesson about one run: its texts with the run's own numbers, and the answer.

use super::{
    course::{Answer, Ask},
    language::{Selector, expression},
    run::{Run, Scope},
};

/// How a question is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of these, by its number from 1 on.
    Choice(Vec<String>),
    Number,
    /// A step that has happened.
    Step,
}

/// The right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Counted from 0.
    Choice(usize),
    Number(i64),
    /// The position of the step in its story.
    Step(usize),
}

/// See the module's text.
pub(crate) struct Asked<'a> {
    /// The story in which it is asked.
    pub(crate) scope: Scope<'a>,
    /// The position of the step at which it is asked.
    pub(crate) at: usize,
    pub(crate) prompt: String,
    pub(crate) kind: Kind,
    pub(crate) right: Right,
    /// Why that is right.
    pub(crate) why: String,
    /// The step that decides, and its story.
    pub(crate) decides: (Scope<'a>, usize),
}

impl<'a> Asked<'a> {
    /// Reads the answer from the run. The error says what the records do not tell, or which part of
    /// the question is not unique.
    pub(crate) fn of(ask: &Ask, run: &'a Run) -> Result<Asked<'a>, String> {
        let (scope, at) = run.scope(&ask.story)?.one(&ask.at)?;
        let (kind, right) = match &ask.answer {
            Answer::Choice(choices) => {
                let text = |(text, _): &(String, _)| filled(text, &scope);
                let texts = choices.iter().map(text).collect::<Result<_, _>>()?;
                let mut right = Vec::new();
                for (place, (text, when)) in choices.iter().enumerate() {
                    let holds = scope.is_true(when).map_err(|why| format!("{text:?}: {why}"))?;
                    right.extend(holds.then_some(place));
                }
                match right[..] {
                    [one] => (Kind::Choice(texts), Right::Choice(one)),
                    _ => return Err(format!("right are {right:?} of {:?}", ask.prompt)),
                }
            }
            Answer::Number(expr) => (Kind::Number, Right::Number(scope.value(expr)?.number()?)),
            Answer::Step(selector) => (Kind::Step, Right::Step(step(&scope, at, selector)?)),
        };
        let decides = match (&ask.decides, right) {
            (Some(selector), _) => scope.one(selector)?,
            (None, Right::Step(place)) => (scope.clone(), place),
            (None, _) => (scope.clone(), at),
        };
        let (of, place) = &decides;
        if !of.shown(*place).contains(place) {
            return Err(format!("the step that decides is no step of the story: {:?}", ask.prompt));
        }
        let (prompt, why) = (filled(&ask.prompt, &scope)?, filled(&ask.why, &scope)?);
        Ok(Asked { scope, at, prompt, kind, right, why, decides })
    }

    /// Whether this answer, as it is typed, is right; an error if it is none.
    pub(crate) fn is_right(&self, typed: &str) -> Result<bool, String> {
        let number: i64 = typed.trim().parse().map_err(|_| self.form())?;
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match (&self.kind, self.right) {
            (Kind::Choice(texts), Right::Choice(right)) => {
                let place =
                    place.filter(|place| *place < texts.len()).ok_or_else(|| self.form())?;
                Ok(place == right)
            }
            (Kind::Step, Right::Step(right)) => {
                let shown = self.scope.shown(self.at);
                let given = place.and_then(|place| shown.get(place)).ok_or_else(|| self.form())?;
                Ok(*given == right)
            }
            (_, right) => Ok(right == Right::Number(number)),
        }
    }

    /// What an answer looks like.
    pub(crate) fn form(&self) -> String {
        match &self.kind {
            Kind::Choice(texts) => format!("a number from 1 to {}", texts.len()),
            Kind::Number => "a number".to_owned(),
            Kind::Step => {
                let shown = self.scope.shown(self.at).len();
                format!("the number of a step, from 1 to {shown}")
            }
        }
    }

    /// The right answer in words.
    pub(crate) fn answer(&self) -> String {
        match (&self.kind, self.right) {
            (Kind::Choice(texts), Right::Choice(place)) => texts[place].clone(),
            (_, Right::Number(number)) => number.to_string(),
            (_, Right::Step(place)) => {
                let shown = self.scope.shown(self.at);
                let number = shown.iter().position(|one| *one == place).map_or(0, |at| at + 1);
                let step = &self.scope.steps.steps[place];
                let name = &self.scope.run.state.lanes[step.lane].name;
                format!("step {number}, {} on {name}", step.event.stage.name())
            }
            (_, Right::Choice(_)) => String::new(),
        }
    }
}

/// The one step that is the answer: it is in the story that is asked about, and shown by then.
fn step(scope: &Scope<'_>, at: usize, selector: &Selector) -> Result<usize, String> {
    let (of, place) = scope.one(selector)?;
    let is_shown = of.steps.subject == scope.steps.subject && scope.shown(at).contains(&place);
    is_shown.then_some(place).ok_or_else(|| "the right step is not shown by then".to_owned())
}

/// The text, with the values of the expressions that stand in braces.
pub(super) fn filled(text: &str, scope: &Scope<'_>) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        let (inner, behind) =
            after.split_once('}').ok_or_else(|| format!("a brace is not closed: {text}"))?;
        let value = scope.value(&expression(inner)?).map_err(|why| format!("{inner}: {why}"))?;
        filled.push_str(before);
        filled.push_str(&scope.words(&value));
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}
