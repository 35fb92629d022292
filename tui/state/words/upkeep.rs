//! Words about what keeps logs, key space and file small: repairs of the log, snapshots,
//! compactions, defragmentations.

use glass_etcd::{change, field, fields, story::Event, trace::Stage};

use super::arrow;

/// The most important numbers.
pub(super) fn detail(event: &Event) -> Option<String> {
    Some(match event.stage {
        Stage::LogTruncate => arrow(change!(event, LogTruncate, last)),
        Stage::LogCompact => format!("first {}", arrow(change!(event, LogCompact, first))),
        Stage::SnapshotMake | Stage::SnapshotSend | Stage::SnapshotReceive => {
            format!("≤{}", field!(event, SnapshotMake | SnapshotSend | SnapshotReceive, index))
        }
        Stage::SnapshotAccept => arrow(change!(event, SnapshotAccept, last)),
        Stage::SnapshotInstall => arrow(change!(event, SnapshotInstall, applied)),
        Stage::MvccCompact => arrow(change!(event, MvccCompact, compacted)),
        Stage::CompactIndex => format!("keys {}", arrow(change!(event, CompactIndex, keys))),
        Stage::CompactBatch => {
            let [rows, deleted] = fields!(event, CompactBatch: rows, deleted);
            format!("{deleted} of {rows} rows")
        }
        Stage::BackendDefrag => {
            let [old, new] = change!(event, BackendDefrag, size);
            format!("{} KiB", arrow([old >> 10, new >> 10]))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use glass_etcd::set;

    #[test]
    fn a_row_says_what_was_cut_off_and_what_is_left() {
        let mut cut = Event::mark(0, Stage::LogTruncate, 1);
        set!(cut, LogTruncate, last_old = 12, last_new = 9, term = 3);
        assert_eq!(Some("12→9".to_owned()), detail(&cut));
        let mut batch = Event::mark(0, Stage::CompactBatch, 1);
        set!(batch, CompactBatch, revision = 5, rows = 8, deleted = 3);
        assert_eq!(Some("3 of 8 rows".to_owned()), detail(&batch));
        let mut file = Event::mark(0, Stage::BackendDefrag, 1);
        set!(file, BackendDefrag, size_old = 2 << 20, size_new = 1 << 20);
        assert_eq!(Some("2048→1024 KiB".to_owned()), detail(&file));
    }
}
