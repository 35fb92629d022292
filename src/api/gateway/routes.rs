//! The paths of the gateway, and the methods that they call.
//!
//! They are those of etcd 3.5, and of `/v3beta`, which its releases before 3.4 had: such a path is
//! read as one of `/v3`. etcd 3.5.1 serves Hash at its own path only, and HashKV at none; later
//! releases of 3.5 serve both, and so does this member. Every path is called with POST.

use super::schema::{METHODS, Method};

/// Paths below `/v3`, and methods without the package.
const ROUTES: &[(&str, &str)] = &[
    ("kv/range", "KV/Range"),
    ("kv/put", "KV/Put"),
    ("kv/deleterange", "KV/DeleteRange"),
    ("kv/txn", "KV/Txn"),
    ("kv/compaction", "KV/Compact"),
    ("watch", "Watch/Watch"),
    ("lease/grant", "Lease/LeaseGrant"),
    ("lease/revoke", "Lease/LeaseRevoke"),
    ("kv/lease/revoke", "Lease/LeaseRevoke"),
    ("lease/keepalive", "Lease/LeaseKeepAlive"),
    ("lease/timetolive", "Lease/LeaseTimeToLive"),
    ("kv/lease/timetolive", "Lease/LeaseTimeToLive"),
    ("lease/leases", "Lease/LeaseLeases"),
    ("kv/lease/leases", "Lease/LeaseLeases"),
    ("cluster/member/add", "Cluster/MemberAdd"),
    ("cluster/member/remove", "Cluster/MemberRemove"),
    ("cluster/member/update", "Cluster/MemberUpdate"),
    ("cluster/member/list", "Cluster/MemberList"),
    ("cluster/member/promote", "Cluster/MemberPromote"),
    ("maintenance/alarm", "Maintenance/Alarm"),
    ("maintenance/status", "Maintenance/Status"),
    ("maintenance/defragment", "Maintenance/Defragment"),
    ("maintenance/hash", "Maintenance/Hash"),
    ("maintenance/hashkv", "Maintenance/HashKV"),
    ("maintenance/snapshot", "Maintenance/Snapshot"),
    ("maintenance/transfer-leadership", "Maintenance/MoveLeader"),
    ("maintenance/downgrade", "Maintenance/Downgrade"),
    ("auth/enable", "Auth/AuthEnable"),
    ("auth/disable", "Auth/AuthDisable"),
    ("auth/status", "Auth/AuthStatus"),
    ("auth/authenticate", "Auth/Authenticate"),
    ("auth/user/add", "Auth/UserAdd"),
    ("auth/user/get", "Auth/UserGet"),
    ("auth/user/list", "Auth/UserList"),
    ("auth/user/delete", "Auth/UserDelete"),
    ("auth/user/changepw", "Auth/UserChangePassword"),
    ("auth/user/grant", "Auth/UserGrantRole"),
    ("auth/user/revoke", "Auth/UserRevokeRole"),
    ("auth/role/add", "Auth/RoleAdd"),
    ("auth/role/get", "Auth/RoleGet"),
    ("auth/role/list", "Auth/RoleList"),
    ("auth/role/delete", "Auth/RoleDelete"),
    ("auth/role/grant", "Auth/RoleGrantPermission"),
    ("auth/role/revoke", "Auth/RoleRevokePermission"),
    ("lock/lock", "Lock/Lock"),
    ("lock/unlock", "Lock/Unlock"),
    ("election/campaign", "Election/Campaign"),
    ("election/proclaim", "Election/Proclaim"),
    ("election/leader", "Election/Leader"),
    ("election/observe", "Election/Observe"),
    ("election/resign", "Election/Resign"),
];

/// The method that this path calls.
pub(super) fn find(path: &str) -> Option<&'static Method> {
    let path = path.strip_prefix("/v3/").or_else(|| path.strip_prefix("/v3beta/"))?;
    let (_, name) = ROUTES.iter().find(|(route, _)| *route == path)?;
    METHODS.iter().find(|method| is_named(method, name))
}

fn is_named(method: &Method, name: &str) -> bool {
    method.path.rsplit_once('.').is_some_and(|(_, full)| full == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_its_method_and_every_method_but_one_of_newer_etcd_has_a_path() {
        for (route, name) in ROUTES {
            let method = find(&format!("/v3/{route}")).expect(route);
            assert!(is_named(method, name));
            assert!(std::ptr::eq(method, find(&format!("/v3beta/{route}")).unwrap()));
        }
        let unserved =
            METHODS.iter().filter(|method| !ROUTES.iter().any(|(_, name)| is_named(method, name)));
        let unserved: Vec<_> = unserved.map(|method| method.path).collect();
        assert_eq!(unserved, ["/etcdserverpb.KV/RangeStream"]);
        for path in ["/v3/", "/v3/kv/range/", "/v3alpha/kv/range", "/kv/range", "/v3/nothing"] {
            assert!(find(path).is_none(), "{path}");
        }
    }
}
