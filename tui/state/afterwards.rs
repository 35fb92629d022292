//! What became of a write whose call had failed, in a sentence: for the player, and for `glass
//! trace`.

use glass_etcd::story::{MemberInfo, query::afterwards::Afterwards};

use super::text::duration;

/// The sentence.
pub(crate) fn sentence(members: &[MemberInfo], afterwards: Afterwards) -> String {
    match afterwards {
        Afterwards::Applied { revision, member, after_ns } => {
            let name = members.get(usize::from(member)).map_or("a member", |member| &member.name);
            let what = match revision {
                Some(revision) => format!("took effect at revision {revision}"),
                None => "was applied, and is not known to have made a revision".to_owned(),
            };
            let took = duration(u64::try_from(after_ns.unsigned_abs()).unwrap_or(u64::MAX));
            if after_ns < 0 {
                return format!(
                    "The write {what} although its call failed: {name} applied it {took} before \
                     the call ended."
                );
            }
            format!("The write {what} after the caller gave up: {name} applied it {took} later.")
        }
        Afterwards::Refused => {
            "Apply refused the write after the caller had given up, so it has no effect.".to_owned()
        }
        Afterwards::Replaced => {
            "Another entry took the place of the write's before a majority had it, so it has no \
             effect."
                .to_owned()
        }
        Afterwards::Unknown => {
            "Whether the write took effect after the caller gave up is not known: nobody was seen \
             applying it."
                .to_owned()
        }
    }
}
