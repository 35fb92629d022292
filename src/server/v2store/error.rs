//! Why the store refuses a request, with etcd's numbers.

/// etcd's numbers for what the store can refuse (etcd: `v2error`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Code {
    KeyNotFound = 100,
    TestFailed = 101,
    NotFile = 102,
    NotDir = 104,
    NodeExist = 105,
    RootReadOnly = 107,
    DirNotEmpty = 108,
    EventIndexCleared = 401,
}

/// A refused request. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// The path or the comparison that is meant. Values are clients' bytes, in any encoding.
    pub(crate) cause: Vec<u8>,
    /// The store's index at that moment.
    pub(crate) index: u64,
}

impl Refusal {
    pub(super) fn new(code: Code, cause: Vec<u8>, index: u64) -> Self {
        Self { code, cause, index }
    }

    pub(super) fn cleared(start: u64, asked: u64, index: u64) -> Self {
        let cause = format!("the requested history has been cleared [{start}/{asked}]");
        Self::new(Code::EventIndexCleared, cause.into_bytes(), index)
    }
}
