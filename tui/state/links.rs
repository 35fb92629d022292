//! Which links between members are cut, in the words of the cluster view. The records and what they
//! mean are the library's (`story::links`).

pub(crate) use glass_etcd::story::links::{End, Links};

use super::room::Board;

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
