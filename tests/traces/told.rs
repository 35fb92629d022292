//! A story, and queries that name members by their number in the cluster.

use std::collections::{HashMap, HashSet};

use glass_etcd::{
    story::{Event, Recording, order::Order, query::Story},
    trace::{Kind, Stage, message},
};

/// The story of one request in a recording.
pub(super) struct Told {
    /// The recording.
    pub(super) recording: Recording,
    /// Its playback order.
    pub(super) order: Order,
    /// The request's story in it.
    pub(super) story: Story,
    rank: HashMap<usize, usize>,
}

/// A step of the story.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// The event.
    pub(super) event: &'a Event,
    /// Its rank in playback order.
    pub(super) rank: usize,
    /// Its position in the recording.
    pub(super) place: usize,
}

impl Seen<'_> {
    /// A field by name.
    pub(super) fn field(&self, name: &str) -> u64 {
        self.event.field(name).unwrap_or_else(|| panic!("no field {name} in {self:?}"))
    }
}

/// The position of member `m{at}` in the recording.
pub(super) fn place_of(recording: &Recording, at: usize) -> u8 {
    let name = format!("m{at}");
    let place = recording.members.iter().position(|member| member.name == name);
    u8::try_from(place.unwrap_or_else(|| panic!("{name} was not heard"))).unwrap()
}

impl Told {
    /// `None` if nothing of the request was captured.
    pub(super) fn of(recording: &Recording, id: u64) -> Option<Self> {
        let order = Order::of(recording);
        let story = Story::of(recording, &order, id)?;
        let rank = order.rows.iter().enumerate().map(|(rank, place)| (*place, rank)).collect();
        Some(Self { recording: recording.clone(), order, story, rank })
    }

    /// The id of member `m{at}` in a recording.
    pub(super) fn member_id_in(recording: &Recording, at: usize) -> u64 {
        recording.members[usize::from(place_of(recording, at))].member_id
    }

    /// The id of member `m{at}`.
    pub(super) fn member_id(&self, at: usize) -> u64 {
        self.recording.members[usize::from(place_of(&self.recording, at))].member_id
    }

    /// The story's steps.
    pub(super) fn steps(&self) -> impl Iterator<Item = Seen<'_>> {
        self.story.steps.iter().map(|step| Seen {
            event: &self.recording.events[step.event],
            rank: self.rank[&step.event],
            place: step.event,
        })
    }

    /// The steps of a member, without beginnings.
    pub(super) fn on(&self, at: usize, stage: Stage) -> Vec<Seen<'_>> {
        let place = place_of(&self.recording, at);
        let is_meant = |seen: &Seen<'_>| {
            (seen.event.member, seen.event.stage) == (place, stage)
                && seen.event.kind != Kind::Begin
        };
        self.steps().filter(is_meant).collect()
    }

    /// The only step of a member with this stage; panics if there is none, or more than one.
    pub(super) fn one(&self, at: usize, stage: Stage) -> Seen<'_> {
        let found = self.on(at, stage);
        assert_eq!(1, found.len(), "{} on m{at}\n{}", stage.name(), self.text());
        found[0]
    }

    /// The only beginning of a step that may wait; it shares its clock with its end.
    pub(super) fn begin(&self, at: usize, stage: Stage) -> Seen<'_> {
        let end = self.one(at, stage).event;
        let begins = |seen: &Seen<'_>| {
            let event = seen.event;
            (event.member, event.stage, event.kind) == (end.member, stage, Kind::Begin)
        };
        let found: Vec<_> = self.steps().filter(begins).collect();
        assert_eq!(1, found.len(), "begins of {} on m{at}\n{}", stage.name(), self.text());
        assert_eq!(end.clock, found[0].event.clock);
        assert_eq!(end.at_ns, found[0].event.at_ns, "a step begins at one time");
        found[0]
    }

    /// The only message of a type from one member to another: its send and its receive.
    pub(super) fn message(&self, kind: u64, from: usize, to: usize) -> [Seen<'_>; 2] {
        let [sends, receives] = self.ends(kind, from, to);
        let name = message::MESSAGES[usize::try_from(kind).unwrap()];
        let found = [sends.len(), receives.len()];
        assert_eq!([1, 1], found, "{name} m{from} to m{to}\n{}", self.text());
        self.pair(sends[0], receives[0])
    }

    /// The first message of a type from one member to another. A leader's tick sends the heartbeat
    /// of a round that is still waiting once more, so on a busy machine a round may have several.
    pub(super) fn first_message(&self, kind: u64, from: usize, to: usize) -> [Seen<'_>; 2] {
        let name = message::MESSAGES[usize::try_from(kind).unwrap()];
        let ends = self.ends(kind, from, to);
        let [Some(send), Some(receive)] =
            ends.map(|found| found.into_iter().min_by_key(|seen| seen.rank))
        else {
            panic!("no {name} m{from} to m{to}\n{}", self.text());
        };
        self.pair(send, receive)
    }

    /// The sends and the receives of a type of message from one member to another.
    fn ends(&self, kind: u64, from: usize, to: usize) -> [Vec<Seen<'_>>; 2] {
        [(from, Stage::RaftSend, to), (to, Stage::RaftReceive, from)].map(|(at, stage, peer)| {
            let mut found = self.on(at, stage);
            found.retain(|seen| {
                seen.field("type") == kind && seen.field("peer") == self.member_id(peer)
            });
            found
        })
    }

    /// Checks that two ends are those of one frame.
    fn pair<'a>(&self, send: Seen<'a>, receive: Seen<'a>) -> [Seen<'a>; 2] {
        assert_eq!(Some(&receive.place), self.order.partner.get(&send.place), "another frame");
        assert!(send.rank < receive.rank, "received before it was sent");
        [send, receive]
    }

    /// Checks that nothing is unknown, and each message has both ends.
    pub(super) fn is_complete(&self) -> Result<(), String> {
        self.is_complete_but_for(|_| false)
    }

    /// As `is_complete`, except for ends of messages that may have been lost on the way.
    pub(super) fn is_complete_but_for(
        &self,
        may_be_lost: impl Fn(&Seen<'_>) -> bool,
    ) -> Result<(), String> {
        if !self.story.missing.is_empty() {
            return Err(format!("missing: {:?}", self.story.missing));
        }
        let is_one_ended = |seen: &Seen<'_>| {
            self.order.is_unmatched(&self.recording, seen.place) && !may_be_lost(seen)
        };
        let one_ended = self.steps().find(is_one_ended);
        let Some(seen) = one_ended else { return Ok(()) };
        let is_of_stream = |event: &&Event| event.link >> 40 == seen.event.link >> 40;
        let stream = self.recording.events.iter().filter(is_of_stream);
        let stream: Vec<_> =
            stream.map(|e| (e.member, e.boot, e.clock, e.stage.name(), e.link as u32)).collect();
        Err(format!("one end only: {seen:?} in {stream:?}"))
    }

    /// Checks that every event with the request's id, or that of its rounds, is included, and none
    /// of another request. Returns the ids in the story.
    pub(super) fn assert_no_strangers(&self, rounds: &[u64]) {
        let ids: HashSet<u64> = rounds.iter().copied().chain([self.story.id]).collect();
        let steps: HashSet<usize> = self.story.steps.iter().map(|step| step.event).collect();
        for (place, event) in self.recording.events.iter().enumerate() {
            let (is_step, is_own) = (steps.contains(&place), ids.contains(&event.id));
            assert!(is_step || !is_own, "an orphan: {event:?}\n{}", self.text());
            assert!(!is_step || is_own || event.id == 0, "a stranger: {event:?}\n{}", self.text());
        }
    }

    /// The story as text, for failures.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} {:?}\n", self.story.title, self.story.missing);
        for Seen { event, rank, .. } in self.steps() {
            let name = &self.recording.members[usize::from(event.member)].name;
            let fields: Vec<String> = (event.stage.fields().iter())
                .zip(event.fields)
                .map(|(field, value)| format!("{}={value}", field.name))
                .collect();
            let (stage, kind) = (event.stage.name(), event.kind);
            text += &format!("{rank:>6} {name} {stage} {kind:?} {}\n", fields.join(" "));
        }
        text
    }
}

/// Asserts that these steps are played in this order.
pub(super) fn assert_in_order(told: &Told, steps: &[Seen<'_>]) {
    for pair in steps.windows(2) {
        let names = [pair[0].event.stage.name(), pair[1].event.stage.name()];
        assert!(pair[0].rank < pair[1].rank, "{names:?}: {pair:#?}\n{}", told.text());
    }
}
