//! The small language in which a lesson says where it asks, and what is right.
//!
//! ```text
//!   selector   [STORY:]STAGE[/begin][@ROLE][[FIELD OP VALUE, …]][#N | #last]; the role may follow
//!              the conditions
//!              again:wal.fsync@leader[disks == 2]#1
//!   ROLE       leader, old, server, follower, other
//!   expression field(raft.commit, commit.new) == entry() and count(wal.fsync) < members()
//! ```
//!
//! A selector means steps of a story that were captured: those of this stage, by this member, in
//! which these fields have these values; without a number, the first of them. `/begin` means the
//! row at which a step begins to wait; `any` means each row of the story.
//!
//! | role       | the member that                                              |
//! |------------|--------------------------------------------------------------|
//! | `leader`   | leads when the request begins, or after the election         |
//! | `old`      | leads at the first step of the story                         |
//! | `server`   | serves the client                                            |
//! | `follower` | serves the client, or else is the first that does not lead   |
//! | `other`    | is neither `leader` nor `follower`                           |
//!
//! | function           | value                                                       |
//! |--------------------|-------------------------------------------------------------|
//! | `count(S)`         | how many steps the selector means                           |
//! | `exists(S)`        | whether there is one                                        |
//! | `before(S, S)`     | whether the first step comes before the second              |
//! | `next(S, STAGE)`   | whether the member's next story step is of this stage       |
//! | `field(S, NAME)`   | a field of the step's record; or `took`, `member`; or what holds at the step: whether the write `survives`, on how many `disks` it is, how many `knowers` there are |
//! | `mark(S, ROLE, W)` | a watermark of a member at the step, such as `applied`      |
//! | `entry([STORY])`, `revision([STORY])`, `code([STORY])` | the index of the story's entry; of its answer the revision and the code |
//! | `members()`        | how many members there are                                  |
//!
//! Invariant: the language is closed. It has no variables, no loops, and no way to write an answer
//! down: all that it says of a run it reads from the records of that run.

use glass_etcd::trace::Stage;

use crate::state::story::Moment;

/// How deep expressions may be nested.
const DEPTH_MAX: usize = 32;

/// A member, by its part in the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Leader,
    Old,
    Server,
    Follower,
    Other,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Which of the steps that a selector means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nth {
    /// Counted from 1.
    Number(usize),
    Last,
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Selector {
    pub(super) story: Option<String>,
    /// `None` for any.
    pub(super) stage: Option<Stage>,
    pub(super) moment: Moment,
    pub(super) role: Option<Role>,
    pub(super) conditions: Vec<(String, Op, Expr)>,
    pub(super) nth: Nth,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Number(i64),
    /// A role, or the name of a value.
    Word(String),
    Count(Selector),
    Exists(Selector),
    Before(Selector, Selector),
    Next(Selector, Stage),
    Field(Selector, String),
    Mark(Selector, Role, String),
    /// The function, and its story.
    Of(Fact, Option<String>),
    Members,
    Compare(Box<Expr>, Op, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Plus(Box<Expr>, Box<Expr>),
    Minus(Box<Expr>, Box<Expr>),
}

/// A number of a whole story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Entry,
    Revision,
    Code,
}

impl Role {
    pub(super) fn of(word: &str) -> Option<Role> {
        Some(match word {
            "leader" => Role::Leader,
            "old" => Role::Old,
            "server" => Role::Server,
            "follower" => Role::Follower,
            "other" => Role::Other,
            _ => return None,
        })
    }
}

/// Reads an expression.
pub(super) fn expression(text: &str) -> Result<Expr, String> {
    let mut reader = Reader::of(text)?;
    let expr = reader.or()?;
    reader.end().map(|()| expr)
}

/// Reads a selector.
pub(super) fn selector(text: &str) -> Result<Selector, String> {
    let mut reader = Reader::of(text)?;
    let selector = reader.selector()?;
    reader.end().map(|()| selector)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(&'static str),
}

/// Longer signs come first.
const SIGNS: [&str; 16] =
    ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ",", "@", "#", ":", "+", "-"];

/// Reads tokens from the front.
struct Reader<'a> {
    text: &'a str,
    tokens: std::vec::IntoIter<Token>,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn of(text: &'a str) -> Result<Reader<'a>, String> {
        let (mut rest, mut tokens) = (text.trim_start(), Vec::new());
        while let Some(first) = rest.chars().next() {
            let is_of_word = |c: char| c.is_alphanumeric() || "_.-/".contains(c);
            if first.is_alphanumeric() {
                let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..end].to_owned()));
                rest = rest[end..].trim_start();
                continue;
            }
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("{first:?} in {text:?}"))?;
            tokens.push(Token::Sign(sign));
            rest = rest[sign.len()..].trim_start();
        }
        Ok(Reader { text, tokens: tokens.into_iter(), depth: 0 })
    }

    fn wrong(&self, wanted: &str) -> String {
        match self.tokens.as_slice().first() {
            Some(Token::Word(word)) => format!("{wanted}, not {word:?}: {}", self.text),
            Some(Token::Sign(sign)) => format!("{wanted}, not {sign:?}: {}", self.text),
            None => format!("{wanted} is missing at the end: {}", self.text),
        }
    }

    fn end(&self) -> Result<(), String> {
        if self.tokens.as_slice().is_empty() { Ok(()) } else { Err(self.wrong("an end")) }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.as_slice().first()
    }

    /// Takes this sign, if it comes next.
    fn takes(&mut self, sign: &'static str) -> bool {
        let is_next = self.peek() == Some(&Token::Sign(sign));
        if is_next {
            self.tokens.next();
        }
        is_next
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Word(next)) if next == word);
        if is_next {
            self.tokens.next();
        }
        is_next
    }

    fn sign(&mut self, sign: &'static str) -> Result<(), String> {
        if self.takes(sign) { Ok(()) } else { Err(self.wrong(sign)) }
    }

    fn word(&mut self, wanted: &str) -> Result<String, String> {
        match self.peek() {
            Some(Token::Word(_)) => {}
            _ => return Err(self.wrong(wanted)),
        }
        match self.tokens.next() {
            Some(Token::Word(word)) => Ok(word),
            _ => Err(self.wrong(wanted)),
        }
    }

    fn or(&mut self) -> Result<Expr, String> {
        self.depth += 1;
        if DEPTH_MAX < self.depth {
            return Err(format!("nested too deeply: {}", self.text));
        }
        let mut left = self.and()?;
        while self.takes_word("or") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, String> {
        let mut left = self.not()?;
        while self.takes_word("and") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, String> {
        match self.takes_word("not") {
            true => Ok(Expr::Not(Box::new(self.comparison()?))),
            false => self.comparison(),
        }
    }

    fn op(&mut self) -> Option<Op> {
        let ops = [
            ("==", Op::Equal),
            ("!=", Op::Unequal),
            ("<=", Op::LessOrEqual),
            (">=", Op::GreaterOrEqual),
            ("<", Op::Less),
            (">", Op::Greater),
        ];
        ops.into_iter().find(|(sign, _)| self.takes(sign)).map(|(_, op)| op)
    }

    fn comparison(&mut self) -> Result<Expr, String> {
        let left = self.sum()?;
        match self.op() {
            Some(op) => Ok(Expr::Compare(Box::new(left), op, Box::new(self.sum()?))),
            None => Ok(left),
        }
    }

    fn sum(&mut self) -> Result<Expr, String> {
        let mut left = self.atom()?;
        loop {
            if self.takes("+") {
                left = Expr::Plus(Box::new(left), Box::new(self.atom()?));
            } else if self.takes("-") {
                left = Expr::Minus(Box::new(left), Box::new(self.atom()?));
            } else {
                return Ok(left);
            }
        }
    }

    fn atom(&mut self) -> Result<Expr, String> {
        if self.takes("(") {
            let inner = self.or()?;
            return self.sign(")").map(|()| inner);
        }
        let word = self.word("a value")?;
        if let Ok(number) = word.parse() {
            return Ok(Expr::Number(number));
        }
        if !self.takes("(") {
            return Ok(Expr::Word(word));
        }
        let call = self.call(&word)?;
        self.sign(")").map(|()| call)
    }

    /// The arguments of a function.
    fn call(&mut self, name: &str) -> Result<Expr, String> {
        Ok(match name {
            "count" => Expr::Count(self.selector()?),
            "exists" => Expr::Exists(self.selector()?),
            "before" => {
                let first = self.selector()?;
                self.sign(",")?;
                Expr::Before(first, self.selector()?)
            }
            "next" => {
                let after = self.selector()?;
                self.sign(",")?;
                Expr::Next(after, stage(&self.word("a stage")?)?)
            }
            "field" => {
                let of = self.selector()?;
                self.sign(",")?;
                Expr::Field(of, self.word("a field")?)
            }
            "mark" => {
                let at = self.selector()?;
                self.sign(",")?;
                let word = self.word("a role")?;
                let role = Role::of(&word).ok_or_else(|| format!("{word:?} is no role"))?;
                self.sign(",")?;
                Expr::Mark(at, role, self.word("a watermark")?)
            }
            "entry" => Expr::Of(Fact::Entry, self.story()),
            "revision" => Expr::Of(Fact::Revision, self.story()),
            "code" => Expr::Of(Fact::Code, self.story()),
            "members" => Expr::Members,
            _ => return Err(format!("no function {name}: {}", self.text)),
        })
    }

    fn story(&mut self) -> Option<String> {
        match self.peek() {
            Some(Token::Word(_)) => self.word("a story").ok(),
            _ => None,
        }
    }

    fn selector(&mut self) -> Result<Selector, String> {
        let first = self.word("a stage")?;
        let (story, named) = match self.takes(":") {
            true => (Some(first), self.word("a stage")?),
            false => (None, first),
        };
        let (named, moment) = match named.strip_suffix("/begin") {
            Some(named) => (named, Moment::Begin),
            None => (&*named, Moment::Done),
        };
        let stage = if named == "any" { None } else { Some(stage(named)?) };
        let role = self.role()?;
        let conditions = self.conditions()?;
        let role = role.map_or_else(|| self.role(), |role| Ok(Some(role)))?;
        let nth = match self.takes("#") {
            false => Nth::Number(1),
            true => match self.word("a number")?.as_str() {
                "last" => Nth::Last,
                word => Nth::Number(word.parse().map_err(|_| format!("{word:?} is no number"))?),
            },
        };
        Ok(Selector { story, stage, moment, role, conditions, nth })
    }

    fn role(&mut self) -> Result<Option<Role>, String> {
        if !self.takes("@") {
            return Ok(None);
        }
        let word = self.word("a role")?;
        Role::of(&word).map(Some).ok_or_else(|| format!("{word:?} is no role"))
    }

    fn conditions(&mut self) -> Result<Vec<(String, Op, Expr)>, String> {
        let mut conditions = Vec::new();
        if !self.takes("[") {
            return Ok(conditions);
        }
        loop {
            let name = self.word("a field")?;
            let op = self.op().ok_or_else(|| self.wrong("a comparison"))?;
            conditions.push((name, op, self.sum()?));
            if !self.takes(",") {
                return self.sign("]").map(|()| conditions);
            }
        }
    }
}

fn stage(name: &str) -> Result<Stage, String> {
    Stage::from_name(name).ok_or_else(|| format!("no stage {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_has_all_its_parts() {
        let all = "again:rpc/begin@server[took < 5, method == KV/Put]#last";
        let found = selector(all).unwrap();
        assert_eq!(Some("again".to_owned()), found.story);
        assert_eq!((Some(Stage::Rpc), Moment::Begin), (found.stage, found.moment));
        assert_eq!((Some(Role::Server), Nth::Last), (found.role, found.nth));
        let word = Expr::Word("KV/Put".to_owned());
        assert_eq!(("method".to_owned(), Op::Equal, word), found.conditions[1]);
        let bare = selector("wal.fsync").unwrap();
        assert_eq!((None, Nth::Number(1), Moment::Done), (bare.role, bare.nth, bare.moment));
    }

    #[test]
    fn comparisons_bind_closer_than_words() {
        let text = "not count(wal.fsync) == 2 and entry() + 1 < 9 or before(rpc, raft.commit)";
        let Expr::Or(left, right) = expression(text).unwrap() else { panic!("or") };
        let Expr::And(not, less) = *left else { panic!("and") };
        assert!(matches!((*not, *right), (Expr::Not(_), Expr::Before(..))));
        let Expr::Compare(sum, Op::Less, _) = *less else { panic!("less") };
        assert!(matches!(*sum, Expr::Plus(..)));
    }

    #[test]
    fn a_mistake_is_named() {
        let said = |text: &str| expression(text).unwrap_err();
        assert_eq!("no stage wal.sink", said("count(wal.sink)"));
        assert_eq!("no function sum: sum(1)", said("sum(1)"));
        assert_eq!("an end, not \"2\": 1 2", said("1 2"));
        assert_eq!(") is missing at the end: count(rpc", said("count(rpc"));
        assert_eq!("\"boss\" is no role", said("exists(rpc@boss)"));
        assert!(said("1 ~ 2").contains("'~'"));
        assert!(said(&"(".repeat(99)).contains("too deeply"));
        assert!(selector("rpc[took]").unwrap_err().contains("a comparison"));
    }
}
