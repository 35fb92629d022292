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
                None => "was applied, without a revision as far as captured,".to_owned(),
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
        Afterwards::NeverProposed(member) => {
            let name = members.get(usize::from(member)).map_or("a member", |member| &member.name);
            format!(
                "The write has no effect: {name} dropped its proposal, which never came to a leader."
            )
        }
        Afterwards::Parked(member) => {
            let name = members.get(usize::from(member)).map_or("a member", |member| &member.name);
            format!(
                "The write has no effect: {name} kept its proposal until the call timed out, and \
                 never proposed it."
            )
        }
        Afterwards::Unknown => {
            "Whether the write took effect after the caller gave up is not known: nobody was seen \
             applying it."
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_write_is_said_with_its_revision_its_member_and_its_time() {
        let member = MemberInfo {
            member_id: 7,
            cluster_id: 1,
            name: "etcd-02".to_owned(),
            version: String::new(),
            boots: vec![],
            members: Vec::new(),
        };
        let said = |after_ns, revision| {
            let known = Afterwards::Applied { revision, member: 0, after_ns };
            sentence(std::slice::from_ref(&member), known)
        };
        let cases = [
            (
                said(1_200_000_000, Some(9)),
                "The write took effect at revision 9 after the caller gave up: etcd-02 applied it \
                 1.2 s later.",
            ),
            (
                said(-3_000_000, Some(9)),
                "The write took effect at revision 9 although its call failed: etcd-02 applied it \
                 3.0 ms before the call ended.",
            ),
            (
                said(5_000, None),
                "The write was applied, without a revision as far as captured, after the caller gave \
                 up: etcd-02 applied it 5 µs later.",
            ),
        ];
        for (said, expected) in cases {
            assert_eq!(expected, said);
        }
        let others = [Afterwards::Refused, Afterwards::Replaced, Afterwards::Unknown];
        let [refused, replaced, unknown] = others.map(|known| sentence(&[], known));
        assert!(refused.contains("refused") && replaced.contains("took the place"), "{replaced}");
        assert!(unknown.contains("is not known"), "{unknown}");
        let dropped = sentence(std::slice::from_ref(&member), Afterwards::NeverProposed(0));
        assert!(dropped.contains("no effect: etcd-02 dropped its proposal"), "{dropped}");
        let parked = sentence(std::slice::from_ref(&member), Afterwards::Parked(0));
        assert!(parked.contains("no effect: etcd-02 kept its proposal until"), "{parked}");
    }
}
