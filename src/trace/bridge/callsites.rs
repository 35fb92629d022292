//! Two callsites for each stage, one for spans and one for marks, because `tracing` requires names
//! and fields to be constants.
//!
//! They are generated from the same list as [`Stage`], so a new stage needs no change here.

use super::{Head, emitted};
use crate::trace::stage::{Stage, vocabulary};

/// A span with this name and these fields, still without values.
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
                past_ns = $head.past.map(|(past_ns, _)| past_ns),
                took_ns = $head.past.map(|(_, took_ns)| took_ns),
                $($field = emitted(
                    Stage::$stage,
                    const { Stage::$stage.slot($field) },
                    $numbers,
                ),)*
            }
        )
    };
}

macro_rules! callsites {
    ($($(#[doc = $doc:literal])+
        $stage:ident = $name:literal $family:ident $grain:ident
        [$($field:literal $unit:ident),*]
        $rust:literal, $go:literal, $book:literal;)+) => {
        /// A span of this stage, its fields still without values.
        pub(super) fn span(stage: Stage, head: Head) -> tracing::Span {
            match stage {
                $(Stage::$stage => span_of!(head, $name $(, $field)*),)+
            }
        }

        /// An event of this stage, with the numbers of its fields.
        pub(super) fn event(stage: Stage, head: Head, numbers: &[u64; 8]) {
            match stage {
                $(Stage::$stage => event_of!(head, numbers, $stage, $name $(, $field)*),)+
            }
        }
    };
}

vocabulary!(callsites);
