//! The source files in which the stages happen, as this program was built from them.
//!
//! They are part of the program, about 600 KB, so that the player shows the lines of a step on a
//! machine without a checkout, and never those of another version. A stage whose file does not
//! exist does not build.

use super::stage::{Stage, vocabulary};

macro_rules! sources {
    ($($(#[doc = $doc:literal])+
        $stage:ident = $name:literal $family:ident $grain:ident
        [$($field:literal $unit:ident),*]
        $rust:literal, $go:literal, $book:literal;)+) => {
        impl Stage {
            /// The text of the file at [`rust_path`](Stage::rust_path).
            pub const fn rust_source(self) -> &'static str {
                match self { $(Stage::$stage => include_str!(concat!("../", $rust)),)+ }
            }
        }
    };
}

vocabulary!(sources);
