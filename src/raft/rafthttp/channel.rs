//! The two streams between a pair of members, by name.

/// One of the two streams between a pair of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// Only MsgApp, in a form without repetitions.
    MsgApp,
    /// Every message but MsgApp.
    Message,
}

impl Channel {
    /// The name in the stream's path.
    pub(super) fn name(self) -> &'static str {
        match self {
            Channel::MsgApp => "msgapp",
            Channel::Message => "message",
        }
    }

    /// The stream with this name in its path.
    pub(super) fn from_name(name: &str) -> Option<Channel> {
        [Channel::MsgApp, Channel::Message].into_iter().find(|channel| channel.name() == name)
    }

    /// The stream's bit in a set of streams.
    pub(super) fn bit(self) -> u8 {
        match self {
            Channel::MsgApp => 1,
            Channel::Message => 2,
        }
    }
}
