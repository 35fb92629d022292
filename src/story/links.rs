//! Which links between members are cut, at a moment or over a time, by what the members recorded.
//!
//! Both ends of a link record its cut and its heal (`raft.link`), and each message that they drop
//! meanwhile (`raft.drop`), from which one that comes late learns of the cut. A process that ends
//! records nothing, so the newest word of either end holds: a link that was healed while one end
//! was down is whole.

use std::collections::BTreeMap;

use super::{
    Event, Recording,
    order::{Order, point},
    state::Moment,
};
use crate::{field, fields, trace::stage::Stage};

/// What the members said about their links: by position, and by the id at the other end.
#[derive(Clone, Debug, Default)]
pub struct Links {
    words: BTreeMap<(u8, u64), Vec<Word>>,
}

/// The link is cut, or whole, from here on.
#[derive(Clone, Copy, Debug)]
struct Word {
    at: Moment,
    /// In nanoseconds since 1970, on an axis that both ends share.
    time: i128,
    is_cut: bool,
}

/// An end of links: a member's position in the recording, its id, and the moment up to which its
/// words count, or all of them.
pub type End = (u8, u64, Option<Moment>);

/// What a record says about a link of its member: the id at the other end, and whether it is cut.
fn said(event: &Event) -> Option<(u64, bool)> {
    match event.stage {
        Stage::RaftLink => {
            let [peer, is_cut] = fields!(event, RaftLink: peer, cut_new);
            Some((peer, is_cut != 0))
        }
        // A message may be dropped for other reasons, too.
        Stage::RaftDrop if field!(event, RaftDrop, cut) != 0 => {
            Some((field!(event, RaftDrop, peer), true))
        }
        _ => None,
    }
}

fn moment(event: &Event) -> Moment {
    (event.boot, point(event))
}

impl Links {
    /// Processes an event, which took effect at this time, in nanoseconds since 1970. Only changes
    /// are kept.
    pub fn learn(&mut self, event: &Event, time: i128) {
        let Some((peer, is_cut)) = said(event) else { return };
        let word = Word { at: moment(event), time, is_cut };
        let words = self.words.entry((event.member, peer)).or_default();
        let place = words.partition_point(|known| known.at <= word.at);
        let same = |known: &Word| known.is_cut == is_cut && known.at.0 == word.at.0;
        if !place.checked_sub(1).is_some_and(|before| same(&words[before])) {
            words.insert(place, word);
        }
    }

    /// The links that are cut between these members, as pairs of places in the list, the lower one
    /// first.
    pub fn cut(&self, ends: &[Option<End>]) -> Vec<(usize, usize)> {
        let mut cut = Vec::new();
        for (one, end) in ends.iter().enumerate() {
            for (other, far) in ends.iter().enumerate().skip(one + 1) {
                let (Some(end), Some(far)) = (end, far) else { continue };
                let said = [self.last(*end, far.1), self.last(*far, end.1)];
                let newest = said.into_iter().flatten().max_by_key(|word| word.time);
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

    /// The words with which links were cut that were so at some time from `from` to `to`: the
    /// member that said it, and when.
    fn cut_during(&self, id: impl Fn(u8) -> u64, (from, to): (i128, i128)) -> Vec<(u8, Moment)> {
        let mut of_links: BTreeMap<[u64; 2], Vec<(u8, Word)>> = BTreeMap::new();
        for ((place, peer), words) in &self.words {
            let mut ends = [id(*place), *peer];
            ends.sort_unstable();
            let past = words.iter().filter(|word| word.time <= to);
            of_links.entry(ends).or_default().extend(past.map(|word| (*place, *word)));
        }
        let mut found = Vec::new();
        for mut words in of_links.into_values() {
            words.sort_by_key(|(_, word)| word.time);
            let mut open = Vec::new();
            for (place, word) in words {
                match word.is_cut {
                    true => open.push((place, word.at)),
                    false if word.time < from => open.clear(),
                    false => found.append(&mut open),
                }
            }
            found.append(&mut open);
        }
        found
    }
}

/// Positions of the events with which links were cut that were so at some time from `from` to `to`,
/// both on the common axis in nanoseconds, in playback order.
pub fn cut_during(recording: &Recording, order: &Order, time: (i128, i128)) -> Vec<usize> {
    let (mut links, mut events) = (Links::default(), BTreeMap::new());
    for at in &order.rows {
        let event = &recording.events[*at];
        if said(event).is_some() {
            links.learn(event, order.times[*at]);
            events.insert((event.member, moment(event)), *at);
        }
    }
    let id =
        |place: u8| recording.members.get(usize::from(place)).map_or(0, |known| known.member_id);
    let cut = links.cut_during(id, time);
    let mut found: Vec<usize> = cut.iter().filter_map(|word| events.get(word).copied()).collect();
    found.sort_by_key(|at| order.times[*at]);
    found
}

/// Positions of the events with which links were cut or healed from `from` to `to`, both on the
/// common axis in nanoseconds, in playback order.
pub fn changed_during(
    recording: &Recording,
    order: &Order,
    (from, to): (i128, i128),
) -> impl Iterator<Item = usize> {
    let rows = order.rows.iter().copied();
    rows.filter(move |at| {
        let event = &recording.events[*at];
        let has_changed = || {
            let [old, new] = fields!(event, RaftLink: cut_old, cut_new);
            old != new
        };
        event.stage == Stage::RaftLink && (from..=to).contains(&order.times[*at]) && has_changed()
    })
}

/// The id at the other end of the link that this event is about; 0 if it is about none.
pub fn peer(event: &Event) -> u64 {
    said(event).map_or(0, |(peer, _)| peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::MemberInfo;

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

    /// Goal: a story and a screen say the same of a cut that began before the records. Method: only
    /// the messages that were dropped at it are known, and then one end's heal.
    #[test]
    fn a_story_learns_of_a_cut_from_the_messages_that_are_dropped_too() {
        let mut dropped = Event::mark(0, Stage::RaftDrop, 5);
        dropped.fields[..6].copy_from_slice(&[8, 8, 3, 1, 0, 1]);
        let events = vec![
            Event { at_ns: 100, ..dropped },
            Event { at_ns: 200, ..link(1, (0, 9), 7, false) },
        ];
        let members = IDS.map(|member_id| MemberInfo {
            members: Vec::new(),
            member_id,
            cluster_id: 1,
            name: member_id.to_string(),
            version: String::new(),
            boots: Vec::new(),
        });
        let recording = Recording { members: members.to_vec(), events, dropped: vec![0; 3] };
        let order = Order::of(&recording);
        let at = |from, to| cut_during(&recording, &order, (from, to));
        assert_eq!(at(0, 99), Vec::<usize>::new());
        assert_eq!([at(0, 150), at(150, 250)], [[0], [0]]);
        assert_eq!(at(201, 300), Vec::<usize>::new(), "the heal of either end ends it");
        assert_eq!(peer(&recording.events[0]), 8);
    }
}
