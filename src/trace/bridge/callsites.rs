//! One callsite a stage: `tracing` wants names and fields of a span to be constants of the program.
//!
//! The list of stages has them all, so [`Stage::span`](super::super::stage::Stage::span) is made of
//! the same lines, and a new stage needs nothing here.

/// A span with this name and these fields, below `head.parent` or below nothing. Of its fields only
/// those of the head have values yet.
macro_rules! callsite {
    ($head:expr, $name:literal $(, $field:literal)*) => {
        ::tracing::span!(
            target: "glass::stage",
            parent: $head.parent,
            ::tracing::Level::INFO,
            $name,
            request_id = $head.request,
            member = $head.member,
            link = ::tracing::field::Empty,
            flags = ::tracing::field::Empty,
            $($field = ::tracing::field::Empty,)*
        )
    };
}

pub(in crate::trace) use callsite;
