//! Which links between members are cut, at any moment, by what the members recorded.
//!
//! Both ends of a link record its cut and its heal (`raft.link`), and each message that they drop
//! meanwhile (`raft.drop`). A process that ends records nothing, so the newest word of either end
//! holds: a link that was healed while one end was down is whole.

use std::collections::BTreeMap;

use glass_etcd::{field, fields, story::Event, trace::Stage};

use super::{
    room::Board,
    watermarks::{Moment, moment},
};

/// What the members said about their links: by position, and by the id at the other end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    words: BTreeMap<(u8, u64), Vec<Word>>,
}

/// The link is cut, or whole, from here on.
#[derive(Clone, Copy, Debug)]
struct Word {
    at: Moment,
    wall_ns: u64,
    is_cut: bool,
}

/// An end of links: a member's position in the recording, its id, and the moment up to which its
/// words count, or all of them.
pub(crate) type End = (u8, u64, Option<Moment>);

impl Links {
    /// Processes an event. Only changes are kept.
    pub(crate) fn learn(&mut self, event: &Event, wall_ns: u64) {
        let (peer, is_cut) = match event.stage {
            Stage::RaftLink => {
                (field!(event, RaftLink, peer), field!(event, RaftLink, cut_new) != 0)
            }
            Stage::RaftDrop => match fields!(event, RaftDrop: peer, cut) {
                [_, 0] => return,
                [peer, _] => (peer, true),
            },
            _ => return,
        };
        let word = Word { at: moment(event), wall_ns, is_cut };
        let words = self.words.entry((event.member, peer)).or_default();
        let place = words.partition_point(|known| known.at <= word.at);
        let same = |known: &Word| known.is_cut == is_cut && known.at.0 == word.at.0;
        if !place.checked_sub(1).is_some_and(|before| same(&words[before])) {
            words.insert(place, word);
        }
    }

    /// The links that are cut between these members, as pairs of places in the list, the lower one
    /// first.
    pub(crate) fn cut(&self, ends: &[Option<End>]) -> Vec<(usize, usize)> {
        let mut cut = Vec::new();
        for (one, end) in ends.iter().enumerate() {
            for (other, far) in ends.iter().enumerate().skip(one + 1) {
                let (Some(end), Some(far)) = (end, far) else { continue };
                let said = [self.last(*end, far.1), self.last(*far, end.1)];
                let newest = said.into_iter().flatten().max_by_key(|word| word.wall_ns);
                if newest.is_some_and(|word| word.is_cut) {
                    cut.push((one, other));
                }
            }
        }
        cut
    }

    fn last(&self, (place, _, until): End, peer: u64) -> Option<Word> {
        let words = self.words.get(&(place, peer))?;
        let is_past = |word: &Word| until.is_none_or(|until| word.at <= until);
        let past = words.partition_point(is_past);
        words[..past].last().copied()
    }
}

/// The other ends of the links that have one end at this place.
pub(crate) fn far_ends(links: &[(usize, usize)], place: usize) -> impl Iterator<Item = usize> {
    links.iter().filter_map(move |(one, other)| match place {
        place if place == *one => Some(*other),
        place if place == *other => Some(*one),
        _ => None,
    })
}

impl Board {
    /// The names of the members to which this one's links are cut.
    pub(crate) fn cut_from(&self, member: usize) -> Vec<&str> {
        far_ends(&self.cut, member).map(|at| &*self.columns[at].name).collect()
    }

    /// The links that are cut, in a few words; `None` if none is.
    pub(crate) fn cut_words(&self) -> Option<String> {
        let name = |at: usize| &*self.columns[at].name;
        let all = self.columns.len().saturating_sub(1);
        let mut alone = (0..self.columns.len()).filter(|at| self.cut_from(*at).len() == all);
        match (self.cut.as_slice(), alone.next(), alone.next()) {
            ([], _, _) => None,
            ([(one, other)], _, _) => Some(format!("LINK CUT {} ╳ {}", name(*one), name(*other))),
            (links, Some(member), None) if links.len() == all => {
                Some(format!("{} CUT OFF", name(member)))
            }
            (links, ..) => Some(format!("{} LINKS CUT", links.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [u64; 3] = [7, 8, 9];

    fn link(member: u8, (boot, clock): (u16, u64), peer: u64, is_cut: bool) -> Event {
        let mut event = Event::mark(member, Stage::RaftLink, clock);
        event.boot = boot;
        event.fields[..3].copy_from_slice(&[peer, u64::from(!is_cut), u64::from(is_cut)]);
        event
    }

    fn now(links: &Links) -> Vec<(usize, usize)> {
        cut_at(links, [None; 3])
    }

    fn cut_at(links: &Links, until: [Option<Moment>; 3]) -> Vec<(usize, usize)> {
        let ends = (0..).zip(IDS).zip(until).map(|((place, id), until)| Some((place, id, until)));
        links.cut(&ends.collect::<Vec<_>>())
    }

    #[test]
    fn a_link_is_cut_from_its_cut_to_its_heal_at_any_moment() {
        let mut links = Links::default();
        links.learn(&link(1, (1, 20), 7, false), 300);
        links.learn(&link(0, (1, 10), 8, true), 100);
        links.learn(&link(1, (1, 10), 7, true), 101);
        assert_eq!(cut_at(&links, [Some((1, 9)), Some((1, 9)), None]), []);
        assert_eq!(cut_at(&links, [Some((1, 10)), Some((1, 9)), None]), [(0, 1)]);
        assert_eq!(cut_at(&links, [Some((1, 10)), Some((1, 10)), None]), [(0, 1)]);
        assert_eq!(now(&links), [], "the newest word of either end holds");
        links.learn(&link(0, (1, 20), 8, false), 299);
        assert_eq!(now(&links), []);
    }

    #[test]
    fn a_heal_holds_although_the_other_end_was_down() {
        let mut links = Links::default();
        links.learn(&link(0, (1, 10), 9, true), 100);
        links.learn(&link(2, (1, 10), 7, true), 101);
        links.learn(&link(0, (1, 30), 9, false), 200);
        assert_eq!(now(&links), []);
        // Cut again, while that end is up again under another boot.
        links.learn(&link(2, (2, 5), 7, true), 400);
        assert_eq!(now(&links), [(0, 2)]);
    }

    #[test]
    fn who_comes_late_learns_of_a_cut_from_the_messages_that_are_dropped() {
        let mut links = Links::default();
        let mut event = Event::mark(0, Stage::RaftDrop, 5);
        event.fields[..6].copy_from_slice(&[8, 8, 3, 1, 0, 0]);
        links.learn(&event, 100);
        assert_eq!(now(&links), [], "a full queue is no cut");
        event.fields[5] = 1;
        links.learn(&event, 100);
        assert_eq!(now(&links), [(0, 1)]);
    }
}
