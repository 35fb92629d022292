//! What the list of stages becomes: the enum `Stage`, and the columns of each line as functions.

macro_rules! stages {
    ($($(#[doc = $doc:literal])+
        $stage:ident = $name:literal $family:ident $grain:ident
        [$($field:literal $unit:ident),*]
        $rust:literal, $go:literal, $book:literal;)+) => {
        /// A named step: the vocabulary of all traces.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Stage { $($(#[doc = $doc])+ $stage,)+ }

        impl Stage {
            /// Every stage, in the order in which a put, then a get, then an election meets them.
            pub const ALL: &'static [Stage] = &[$(Stage::$stage,)+];

            /// The name that recordings and screens show.
            pub const fn name(self) -> &'static str {
                match self { $(Stage::$stage => $name,)+ }
            }

            /// Whether it belongs to one request or to a loop.
            #[inline]
            pub const fn family(self) -> Family {
                match self { $(Stage::$stage => Family::$family,)+ }
            }

            /// The coarsest grain that includes the stage.
            pub const fn grain(self) -> Grain {
                match self { $(Stage::$stage => Grain::$grain,)+ }
            }

            /// The record's words 7 to 14, as far as the stage uses them.
            pub const fn fields(self) -> &'static [Field] {
                match self {
                    $(Stage::$stage => &[$(Field { name: $field, unit: Unit::$unit }),*],)+
                }
            }

            /// One sentence or two for the panel that says why.
            pub const fn meaning(self) -> &'static str {
                match self { $(Stage::$stage => concat!($($doc),+),)+ }
            }

            /// The path, below `src`, of the file in which the step happens.
            pub const fn rust_path(self) -> &'static str {
                match self { $(Stage::$stage => $rust,)+ }
            }

            /// The counterpart in etcd 3.5.1: package and function, or `none`.
            pub const fn go_counterpart(self) -> &'static str {
                match self { $(Stage::$stage => $go,)+ }
            }

            /// The section of the book that explains it: a page of `book/src`, and after a `#` a
            /// section of it where the page has several for different stages.
            pub const fn book_section(self) -> &'static str {
                match self { $(Stage::$stage => $book,)+ }
            }
        }
    };
}

pub(super) use stages;
