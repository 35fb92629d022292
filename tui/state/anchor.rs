//! The address of one step, the same in the player, on the command line, and in any text.
//!
//! ```text
//!   run.ndjson@etcd-01:1:4711                   the step at clock 4711 of etcd-01's first start
//!   run.ndjson@etcd-01:1:4711@0ae2a1fd5979a505  the same, in the story of that request
//!   @etcd-01:1:4711                             the same of live members
//! ```
//!
//! A member's clock counts its records, so start and clock name one step for ever. Steps of loops
//! belong to the stories of many requests; without a story, the first that has the step is meant.

use std::path::{Path, PathBuf};

use glass_etcd::story::{
    Recording,
    order::Order,
    query::{Stories, address::Address, incidents::incidents, requests},
};

use super::{find::place_of, story::Subject, watermarks::moment};

/// A step, and the story in which it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) member: String,
    pub(crate) boot: u16,
    pub(crate) clock: u64,
    /// A request's id in hex, or the address of what happened to the cluster.
    pub(crate) story: Option<String>,
}

impl Anchor {
    /// The address without the file.
    pub(crate) fn text(&self) -> String {
        let story = self.story.as_ref().map(|story| format!("@{story}")).unwrap_or_default();
        format!("{}:{}:{}{story}", self.member, self.boot, self.clock)
    }

    /// Reads an address without the file.
    pub(crate) fn parse(text: &str) -> Option<Anchor> {
        let (step, story) = match text.split_once('@') {
            Some((step, story)) => (step, Some(story.to_owned())),
            None => (text, None),
        };
        let mut parts = step.rsplitn(3, ':');
        let clock = parts.next()?.parse().ok()?;
        let boot = parts.next()?.parse().ok()?;
        let member = parts.next().filter(|member| !member.is_empty())?.to_owned();
        Some(Anchor { member, boot, clock, story })
    }

    /// Reads a file's name with an address behind it; `None` for the file if there is none before
    /// the address. The name of a file that exists is never taken for an address.
    pub(crate) fn split(text: &Path) -> (Option<PathBuf>, Option<Anchor>) {
        let whole = (Some(text.to_owned()), None);
        let Some(words) = text.to_str().filter(|_| !text.exists()) else { return whole };
        let found = words.match_indices('@').find_map(|(at, _)| {
            let file = Some(&words[..at]).filter(|file| !file.is_empty()).map(PathBuf::from);
            Some((file, Some(Anchor::parse(&words[at + 1..])?)))
        });
        found.unwrap_or(whole)
    }

    /// The position of its event.
    pub(crate) fn event(&self, recording: &Recording) -> Result<usize, String> {
        let place = place_of(recording, &self.member)?;
        let is_it = |event: &glass_etcd::story::Event| {
            (event.member, moment(event)) == (place, (self.boot, self.clock))
        };
        recording.events.iter().position(is_it).ok_or_else(|| {
            format!("no record of {} has start {} and clock {}", self.member, self.boot, self.clock)
        })
    }

    /// The story in which it is looked at.
    pub(crate) fn subject(&self, recording: &Recording) -> Result<Subject, String> {
        if let Some(story) = &self.story {
            let address = Address::of(story, &recording.members).map(Subject::Cluster);
            let id = || u64::from_str_radix(story, 16).ok().map(Subject::Request);
            return address.or_else(id).ok_or_else(|| format!("{story:?} names no story"));
        }
        let at = self.event(recording)?;
        let known = requests(recording);
        let id = recording.events[at].id;
        if id != 0 && known.iter().any(|request| request.id == id) {
            return Ok(Subject::Request(id));
        }
        let order = Order::of(recording);
        let stories = Stories::new(recording, &order);
        let has = |story: glass_etcd::story::query::Story| {
            story.steps.iter().any(|step| step.event == at)
        };
        let request = known.iter().find(|one| stories.of(one.id).is_some_and(has));
        if let Some(request) = request {
            return Ok(Subject::Request(request.id));
        }
        let mut others = incidents(&stories).into_iter();
        let other = others.find(|one| stories.incident(one.address).is_some_and(has));
        let other = other.map(|other| Subject::Cluster(other.address));
        other.ok_or_else(|| format!("no captured story has the step {}", self.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for text in ["etcd-01:1:4711", "a:b:2:9@0ae2a1fd5979a505", "m:1:2@election:4"] {
            assert_eq!(Anchor::parse(text).map(|anchor| anchor.text()).as_deref(), Some(text));
        }
        for wrong in ["", "etcd-01", "etcd-01:1", ":1:2", "etcd-01:x:2", "etcd-01:1:-2"] {
            assert_eq!(Anchor::parse(wrong), None, "{wrong}");
        }
        let split = |text: &str| Anchor::split(Path::new(text));
        let (file, anchor) = split("no such@dir/run.ndjson@etcd-01:1:7@0203");
        assert_eq!(file, Some(PathBuf::from("no such@dir/run.ndjson")));
        assert_eq!(anchor.unwrap().story.as_deref(), Some("0203"));
        assert_eq!(split("@etcd-01:1:7").0, None);
        assert_eq!(split("no such.ndjson"), (Some(PathBuf::from("no such.ndjson")), None));
    }
}
