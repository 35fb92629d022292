//! The two streams between a pair of members, by name.

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// MsgApp only.
    MsgApp,
    /// All other messages.
    Message,
}

impl Channel {
    /// As it stands in the path.
    pub(super) fn name(self) -> &'static str {
        match self {
            Channel::MsgApp => "msgapp",
            Channel::Message => "message",
        }
    }

    /// The stream with this name.
    pub(super) fn from_name(name: &str) -> Option<Channel> {
        [Channel::MsgApp, Channel::Message].into_iter().find(|channel| channel.name() == name)
    }

    /// A bit of its own.
    pub(super) fn bit(self) -> u8 {
        match self {
            Channel::MsgApp => 1,
            Channel::Message => 2,
        }
    }
}
