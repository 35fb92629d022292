//! The buckets: one table of the file each, under etcd's names.

use redb::TableDefinition;

/// A table of raw keys and values (etcd: bucket).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Every revision of every key: revision to `mvccpb.KeyValue`.
    Key,
    /// Consistent index, term, conf state, compaction marks.
    Meta,
    /// Every lease that exists: id to `leasepb.Lease`.
    Lease,
    /// Alarms that are raised.
    Alarm,
    /// Cluster version and downgrade.
    Cluster,
    /// Every member: id, as hex, to JSON.
    Members,
    /// Ids of members that were removed and may not come back.
    MembersRemoved,
    /// Whether auth is on, and its revision.
    Auth,
    /// Every user of auth, by name.
    AuthUsers,
    /// Every role of auth, by name.
    AuthRoles,
    /// The store of the v2 API: its nodes, its last events, and its index. etcd keeps that store
    /// in its `.snap` files, and has no such bucket.
    V2,
}

impl Bucket {
    /// All buckets, each at the index that is its number.
    pub const ALL: [Bucket; 11] = [
        Bucket::Key,
        Bucket::Meta,
        Bucket::Lease,
        Bucket::Alarm,
        Bucket::Cluster,
        Bucket::Members,
        Bucket::MembersRemoved,
        Bucket::Auth,
        Bucket::AuthUsers,
        Bucket::AuthRoles,
        Bucket::V2,
    ];

    /// The table's name, which is etcd's, except for that of v2.
    pub const fn name(self) -> &'static str {
        match self {
            Bucket::Key => "key",
            Bucket::Meta => "meta",
            Bucket::Lease => "lease",
            Bucket::Alarm => "alarm",
            Bucket::Cluster => "cluster",
            Bucket::Members => "members",
            Bucket::MembersRemoved => "members_removed",
            Bucket::Auth => "auth",
            Bucket::AuthUsers => "authUsers",
            Bucket::AuthRoles => "authRoles",
            Bucket::V2 => "v2",
        }
    }

    pub(super) const fn place(self) -> usize {
        self as usize
    }

    pub(super) const fn table(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;

    #[test]
    fn each_bucket_stands_at_its_place() {
        for (place, bucket) in Bucket::ALL.into_iter().enumerate() {
            assert_eq!(bucket.place(), place);
        }
    }
}
