//! The glass: what every step of every request leaves behind.

pub mod collect;
pub mod event;
pub mod gap;
pub mod id;
pub mod intake;
pub mod message;
pub mod order;
pub mod query;
pub mod record;
pub mod recording;
pub mod ring;
pub mod span;
pub mod stage;
pub mod tick;
pub mod watermarks;

pub use collect::{Collector, Info, start};
pub use event::{BootInfo, Event, KeyText, MemberInfo, Recording, THREADS};
pub use id::{IdGenerator, Sampler, kept};
pub use record::{Kind, Record};
pub use ring::{key, set_capture, set_thread};
pub use span::{FLAG_CANCELLED, FLAG_ERROR, FLAG_NOISE, FLAG_REPLAY, Span, mark};
pub use stage::{Family, Field, Grain, METHODS, Stage, Unit};
pub use watermarks::{Watermarks, watermarks};
