//! Removes from an output what differs from cluster to cluster.

use glass_etcd::pb::etcdserverpb::MemberListRequest;
use serde_json::Value;

use crate::cluster::Cluster;

/// JSON fields whose value is specific to a cluster; only their presence is compared.
const OWN_FIELDS: [&str; 8] = [
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "leader",
    "took",
];
/// Table columns of the same kind.
const OWN_COLUMNS: [&str; 6] =
    ["DB SIZE", "IS LEADER", "RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX", "TOOK"];

/// Replacements for the names in one cluster's outputs.
pub(crate) struct Names(Vec<(String, String)>);

impl Names {
    /// Queries the ids of a cluster.
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        let request = MemberListRequest { linearizable: true };
        let list = cluster.client(0).cluster.member_list(request).await.unwrap().into_inner();
        let id = list.header.unwrap().cluster_id;
        let mut names =
            vec![(format!("{id:x}"), "CLUSTER".into()), (id.to_string(), "CLUSTER".into())];
        for member in &list.members {
            names.push((format!("{:x}", member.id), format!("ID-{}", member.name)));
            names.push((member.id.to_string(), format!("ID-{}", member.name)));
        }
        for member in &cluster.members {
            names.push((member.client_address(), format!("CLIENT-{}", member.name)));
            names.push((member.peer_url(), format!("PEER-{}", member.name)));
        }
        // A short name must not replace part of a longer one.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self(names)
    }

    /// An output in its comparable form. `sorted` is for outputs in the order of ids.
    pub(crate) fn apply(&self, output: &str, sorted: bool) -> String {
        let mut text = output.to_owned();
        for (name, stand_in) in &self.0 {
            // Quoted, so that numbers replaced by words stay JSON. Text loses quotes below.
            text = text.replace(&format!(":{name}"), &format!(":\"{stand_in}\""));
            text = text.replace(name, stand_in);
        }
        if let Ok(mut value) = serde_json::from_str::<Value>(&text) {
            json(&mut value, sorted);
            return format!("{value:#}");
        }
        let mut lines = if text.starts_with('+') { table(&text) } else { plain(&text) };
        if sorted {
            lines.sort();
        }
        lines.join("\n")
    }
}

fn json(value: &mut Value, sorted: bool) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "version" if value.is_string() => {
                        *value = minor(value.as_str().unwrap()).into();
                    }
                    name if OWN_FIELDS.contains(&name) => *value = "#".into(),
                    _ => json(value, sorted),
                }
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| json(item, sorted));
            if sorted {
                items.sort_by_key(Value::to_string);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

/// Rows without borders and padding, because both follow the widest cell.
fn table(text: &str) -> Vec<String> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = text.lines().filter(|line| line.starts_with('|')).map(cells);
    let header = rows.next().unwrap_or_default();
    let row = |row: Vec<String>| {
        let columns = row.into_iter().zip(&header).map(|(cell, column)| match column.as_str() {
            "VERSION" => minor(&cell),
            column if OWN_COLUMNS.contains(&column) && !cell.is_empty() => "#".to_owned(),
            _ => cell,
        });
        columns.collect::<Vec<_>>().join(" | ")
    };
    let mut lines = vec![header.join(" | ")];
    lines.extend(rows.map(row));
    lines
}

/// Lines of text without etcdctl's own log lines, and with times and terms replaced.
fn plain(text: &str) -> Vec<String> {
    let line = |line: &str| {
        if let Some((before, _)) = line.split_once("took = ") {
            return format!("{before}took = #");
        }
        if line.starts_with("\"RaftTerm\" : ") {
            return "\"RaftTerm\" : #".to_owned();
        }
        line.to_owned()
    };
    text.lines().filter(|line| !line.starts_with("{\"level\"")).map(line).collect()
}

/// `3.5.1` and `3.5.33` are the same API.
pub(crate) fn minor(version: &str) -> String {
    let parts: Vec<&str> = version.split('.').collect();
    if parts.len() == 3 { format!("{}.{}.x", parts[0], parts[1]) } else { version.to_owned() }
}
