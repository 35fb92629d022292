//! What the user looks for: the stories about a key, a lease or a member.

use clap::Args;
use glass_etcd::story::{
    Recording,
    query::{
        find::{Found, Wanted, is_redacted},
        typed,
    },
};

use super::Error;
use crate::state::{find, search};

/// The options that narrow a command to some stories. Those that are given must all hold.
#[derive(Debug, Args)]
pub(super) struct Find {
    /// Only what names this key, or a range with the key in it: requests of clients, and the expiry
    /// of a lease that deletes it. The key is typed as it is, or as lists show it (`\xe6`).
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// Only what names this lease, by its id in hex, as etcdctl shows it.
    #[arg(long, value_name = "L")]
    lease: Option<String>,
    /// Only the requests that this member serves or makes by itself, and what happened to it:
    /// elections in which it asked for votes, step-downs, starts, its alarms.
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
}

impl Find {
    /// Finds the stories that are meant. Fails if the lease is no lease id, if no such member was
    /// heard, or if the members leave out keys.
    pub(super) fn stories(&self, recording: &Recording) -> Result<Found, Error> {
        let key = self.key.as_deref().map(|text| typed::key(recording, text, false));
        if key.is_some() && is_redacted(recording) {
            return Err(redacted());
        }
        let lease = self.lease.as_deref().map(parse_lease).transpose()?;
        let member = self.member.as_deref().map(|name| find::place_of(recording, name));
        let member = member.transpose().map_err(Error::Usage)?;
        Ok(Wanted { key, lease, member, is_part: false }.find(recording))
    }

    /// Fails before members are asked if the lease is no lease id.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.lease.as_deref().map(parse_lease).transpose().map(|_| ())
    }
}

/// A lease id in hex.
pub(super) fn parse_lease(text: &str) -> Result<u64, Error> {
    search::lease(text).map_err(Error::Usage)
}

/// The members leave out the text of keys.
pub(super) fn redacted() -> Error {
    Error::Usage(find::REDACTED.to_owned())
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::recording;

    use super::*;

    fn find(key: Option<&str>, lease: Option<&str>, member: Option<&str>) -> Find {
        let [key, lease, member] = [key, lease, member].map(|text| text.map(str::to_owned));
        Find { key, lease, member }
    }

    #[test]
    fn an_unknown_member_and_a_malformed_lease_are_named() {
        let text = include_str!("../../tests/recordings/puts_and_gets.ndjson");
        let recording = recording::read(text.as_bytes()).unwrap().recording;
        let said = |find: Find| find.stories(&recording).map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            "no member \"etcd-04\" has sent records; those that have: etcd-03, etcd-02, etcd-01",
            said(find(None, None, Some("etcd-04")))
        );
        for wrong in ["", "0", "xyz", "10000000000000000"] {
            let expected = format!("{wrong:?} is not a lease id in hex");
            assert_eq!(expected, said(find(None, Some(wrong), None)));
            assert!(find(None, Some(wrong), None).check().is_err());
        }
        let by_id = format!("{:016x}", recording.members[1].member_id);
        let found = ["etcd-02", &by_id].map(|name| {
            let found = find(None, Some("0x7e"), Some(name)).stories(&recording).unwrap();
            format!("{found:?}")
        });
        assert_eq!(found[0], found[1]);
    }
}
