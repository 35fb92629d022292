//! Two callsites a stage, one for its spans and one for its marks: `tracing` wants names and fields
//! to be constants of the program.
//!
//! The list of stages has them all, so [`Stage::span`](super::super::stage::Stage::span) and
//! [`Stage::event`](super::super::stage::Stage::event) are made of the same lines, and a new stage
//! needs nothing here.

/// A span with this name and these fields, which have no values yet.
macro_rules! span_of {
    ($head:expr, $name:literal $(, $field:literal)*) => {
        ::tracing::span!(
            target: "glass::stage",
            parent: $head.parent,
            ::tracing::Level::INFO,
            $name,
            request_id = $head.request,
            member = $head.member,
            link = $head.link,
            flags = $head.flags,
            $($field = ::tracing::field::Empty,)*
        )
    };
}

/// An event with this name and these fields, whose values are those of `numbers`.
macro_rules! event_of {
    ($head:expr, $numbers:expr, $stage:ident, $name:literal $(, $field:literal)*) => {
        ::tracing::event!(
            name: $name,
            target: "glass::stage",
            parent: $head.parent.clone(),
            ::tracing::Level::INFO,
            {
                request_id = $head.request,
                member = $head.member,
                link = $head.link,
                flags = $head.flags,
                $($field = $crate::trace::bridge::told(
                    Stage::$stage,
                    const { Stage::$stage.slot($field) },
                    $numbers,
                ),)*
            }
        )
    };
}

pub(in crate::trace) use {event_of, span_of};
