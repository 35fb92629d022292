//! The times in which a member could not run, in the stories of the requests that waited meanwhile.

use std::collections::BTreeSet;

use super::{Finder, Relation};
use crate::trace::stage::Stage;

impl Finder<'_> {
    /// Adds the times in which a member that took part stood still, or had to wait for a CPU, while
    /// the caller waited.
    pub(super) fn stalls(&mut self, id: u64) {
        let stories = self.stories;
        let own = stories.with_id(id).iter().copied();
        let is_callers = |at: &usize| {
            let stage = self.event(*at).stage;
            stage == Stage::Rpc || stage.is_at_edge()
        };
        let life: Vec<[i128; 2]> = own.filter(is_callers).map(|at| stories.life(at)).collect();
        let Some(from) = life.iter().map(|[from, _]| *from).min() else { return };
        let to = life.iter().map(|[_, to]| *to).max().unwrap_or(from);
        let members: BTreeSet<u8> = self.picked.keys().map(|at| self.event(*at).member).collect();
        let met = stories.stalls.iter().copied().filter(|at| {
            let [began, ended] = stories.life(*at);
            members.contains(&self.event(*at).member) && began < to && from < ended
        });
        self.picked.extend(met.map(|at| (at, Relation::Stall)).collect::<Vec<_>>());
    }
}
