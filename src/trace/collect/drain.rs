//! One pass of the collector: read the rings, decide, hand over.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

mod late;

use tokio::sync::mpsc;

use super::{
    QUIET,
    ahead::Ahead,
    cover::{Cover, is_always_wanted},
    history::{History, OrderKey, place},
    pins::{Due, Pins},
    rate::Rate,
    subscribe::{Filter, Offer, Subscriber},
    usual::Usual,
    vitals::Vitals,
};
use crate::{
    field, numbers,
    trace::{
        id, raw_clock,
        record::{FLAG_KEPT, Head, Kind, Record},
        ring::{self, Reader, Ring, Seen},
        stage::{Family, Stage},
        watermarks::{Configuration, Watermarks},
    },
};

/// All records that were lost, for [`lost_records`].
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many records were overwritten before they were read, since the process started.
pub fn lost_records() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Passes from one keyframe, or sign of life, to the next: 100 ms.
pub(super) const KEYFRAME_PASSES: u64 = 4;
/// Passes from one look at the usual durations to the next: a second.
const USUAL_PASSES: u64 = 40;
/// Passes from one search of the rings for pinned requests to the next: 100 ms. A search looks at
/// each record that still stands, a hundred thousand under load.
const RESCAN_PASSES: u64 = 4;
/// The most lists of pinned requests that wait to be sent to the other members; later ones are
/// dropped.
const REPORTS_MAX: usize = 16;

/// How many changes of what is left out are remembered.
const BRIEFS_MAX: usize = 1024;

/// The shortest step whose length is converted with its beginning, in nanoseconds: that of a
/// shorter one is right to the nanosecond.
const LONG_NS: u64 = 10_000;

/// For how many passes a record stays in staging.
pub(super) const RESTS: usize = 2;

/// Everything that the draining thread works on.
pub(super) struct State {
    boot: u16,
    readers: Vec<Reader>,
    /// The records of threads that have ended.
    written_before: u64,
    /// In the order in which they were read.
    staging: Vec<Record>,
    anchor: raw_clock::Newest,
    history: History,
    /// The clock when the last two passes began, the older first.
    horizons: [u64; RESTS],
    watermark: u64,
    cover: Cover,
    ahead: Ahead,
    pins: Pins,
    usual: Usual,
    /// The requests of the last search of the rings. They are searched for once more, because a
    /// record may have been written meanwhile by a thread that did not know of the pin yet.
    searched: HashSet<u64>,
    subscribers: Vec<Subscriber>,
    /// The configuration that was recorded last, and the time of the last look.
    configuration: Configuration,
    told_ns: u64,
    /// How fast the member's threads write records.
    rate: Rate,
    vitals: Vitals,
    /// The newest changes of what is left out.
    briefs: VecDeque<Record>,
    passes: u64,
    finished: u64,
    kept: u64,
    lost: u64,
    /// To the task that reports pinned requests to the other members; `None` until it runs.
    report: Option<mpsc::Sender<Vec<u64>>>,
}

impl State {
    /// The state before the first pass.
    pub(super) fn new(boot: u16) -> State {
        State {
            boot,
            readers: Vec::new(),
            written_before: 0,
            staging: Vec::new(),
            anchor: raw_clock::Newest::default(),
            history: History::default(),
            horizons: [0; 2],
            watermark: 0,
            cover: Cover::default(),
            ahead: Ahead::default(),
            pins: Pins::new(ring::SLOW_NS),
            searched: HashSet::new(),
            usual: Usual::default(),
            subscribers: Vec::new(),
            configuration: Configuration::default(),
            told_ns: 0,
            rate: Rate::default(),
            vitals: Vitals::new(),
            briefs: VecDeque::new(),
            passes: 0,
            finished: 0,
            kept: 0,
            lost: 0,
            report: None,
        }
    }

    /// Sets the duration from which a request is slow; see [`super::Collector::set_slow`].
    pub(super) fn set_slow(&mut self, threshold: Duration) {
        self.pins.slow_ns = u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX);
        ring::set_slow_from(self.pins.slow_ns);
    }

    /// See [`super::Collector::set_brief_above`].
    pub(super) fn set_brief_above(&mut self, records: u64) {
        self.rate.limit = records;
    }

    /// Pins a request of another member; see [`super::Collector::pin_reported`].
    pub(super) fn pin_reported(&mut self, id: u64, now_ns: u64) {
        self.pins.pin_reported(id, now_ns);
    }

    /// The ids that are pinned here; see [`super::Collector::pinned`].
    pub(super) fn pinned(&mut self) -> mpsc::Receiver<Vec<u64>> {
        let (report, pinned) = mpsc::channel(REPORTS_MAX);
        self.report = Some(report);
        pinned
    }

    /// Everything that is still known, in the order of the member's clock: what was kept, and all
    /// that stands in the rings.
    pub(super) fn everything(&self) -> Vec<Record> {
        let mut all: BTreeMap<OrderKey, Record> =
            self.history.records().map(|(place, record)| (*place, *record)).collect();
        all.extend(self.staging.iter().chain(&self.briefs).map(|record| (place(record), *record)));
        let members = self.members(&self.configuration, self.told_ns);
        all.extend(members.into_iter().map(|record| (place(&record), record)));
        for ring in ring::rings() {
            for record in (ring.oldest()..ring.head()).flat_map(|number| ring.records(number)) {
                let is_kept = id::kept(record.id()) || self.pins.contains(record.id());
                let record = self.finish(record, is_kept);
                all.entry(place(&record)).or_insert(record);
            }
        }
        all.into_values().collect()
    }

    /// How many records were overwritten before they were read.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Sends the history to new subscribers that want it, and serves all of them from now on.
    pub(super) fn begin(&mut self, mut subscribers: Vec<Subscriber>, now_ns: u64) {
        if subscribers.is_empty() {
            return;
        }
        let mut records: Vec<Record> = self.history.records().map(|(_, record)| *record).collect();
        let is_forgotten = |record: &&Record| !self.history.contains(&place(record));
        records.extend(self.briefs.iter().filter(is_forgotten));
        let members = self.members(&self.configuration, now_ns);
        records.extend(&members);
        let past = self.offer_of(&records, now_ns);
        let usual = self.usual.told();
        let mut usual: Vec<Record> =
            usual.iter().map(|fields| self.usual_record(now_ns, fields)).collect();
        usual.extend(self.briefs.back());
        usual.extend(&members);
        let only_usual = self.offer_of(&usual, now_ns);
        for subscriber in &mut subscribers {
            subscriber.begin(if subscriber.filter().history { &past } else { &only_usual });
        }
        self.subscribers.append(&mut subscribers);
    }

    /// The filters by which requests are recognised on their way in.
    pub(super) fn armed(&self) -> Vec<Filter> {
        let filters = self.subscribers.iter().map(Subscriber::filter);
        filters.filter(|filter| filter.is_armed()).cloned().collect()
    }

    /// Ends all subscriptions, behind what was handed over.
    pub(super) fn end(&mut self) {
        self.subscribers.clear();
    }

    /// Reads all rings once and hands over the records that are due. True when a subscriber has
    /// gone.
    pub(super) fn pass(&mut self, now_ns: u64, marks: &Watermarks) -> bool {
        let began = ring::next_clock();
        self.anchor = raw_clock::Newest::now();
        self.read_rings(now_ns, began);
        if self.passes.is_multiple_of(RESCAN_PASSES) {
            self.look_for_pinned(now_ns);
        }
        let is_frame = self.passes.is_multiple_of(KEYFRAME_PASSES);
        if is_frame {
            self.note_configurations(now_ns, marks);
            self.keyframe(now_ns, marks);
            self.set_brief(now_ns);
        }
        if self.passes.is_multiple_of(USUAL_PASSES) {
            for fields in self.usual.due(now_ns) {
                let record = self.usual_record(now_ns, &fields);
                self.staging.push(record);
            }
        }
        self.passes += 1;
        self.watermark = self.horizons[0];
        self.horizons = [self.horizons[1], began];
        let records = self.settle(now_ns);
        if records.is_empty() && !is_frame {
            return false;
        }
        let before = self.subscribers.len();
        let mut subscribers = mem::take(&mut self.subscribers);
        let offer = self.offer_of(&records, now_ns);
        subscribers.retain_mut(|subscriber| subscriber.offer(&offer));
        self.subscribers = subscribers;
        self.subscribers.len() < before
    }

    /// Searches the rings for the requests that have just been pinned, and reports those pinned
    /// here to the other members.
    fn look_for_pinned(&mut self, now_ns: u64) {
        let Due { found, reported } = self.pins.due(now_ns);
        let fresh: HashSet<u64> = found.iter().chain(&reported).copied().collect();
        let all = &fresh | &mem::replace(&mut self.searched, fresh.clone());
        if all.is_empty() {
            return;
        }
        self.rescan(&all, fresh.is_empty(), now_ns);
        if let Some(report) = &self.report
            && !found.is_empty()
        {
            // If the queue is full, these requests are complete on this member only.
            let _ = report.try_send(found);
        }
    }

    fn offer_of<'a>(&self, records: &'a [Record], now_ns: u64) -> Offer<'a> {
        let (finished, lost) = (self.finished, self.lost);
        Offer { records, watermark: self.watermark, now_ns, finished, lost }
    }

    fn read_rings(&mut self, now_ns: u64, clock: u64) {
        for ring in ring::rings() {
            if !self.readers.iter().any(|reader| Arc::ptr_eq(&reader.ring, &ring)) {
                self.readers.push(Reader::new(ring));
            }
        }
        let mut readers = mem::take(&mut self.readers);
        for reader in &mut readers {
            let thread = reader.ring.thread;
            let lost = reader.drain(|ring, seen| match seen {
                Seen::Record(number, head, id) => self.take(ring, number, (head, id), now_ns),
                Seen::Begun(id) => self.pins.begun(id, now_ns),
                Seen::Ended(id) => {
                    self.finished += 1;
                    self.pins.ended(id);
                }
            });
            if 0 < lost {
                self.note_lost(thread, lost, clock, now_ns);
            }
        }
        readers.retain(|reader| {
            let is_finished = reader.is_finished();
            if is_finished {
                self.written_before += reader.ring.head();
                ring::forget(&reader.ring);
            }
            !is_finished
        });
        self.readers = readers;
    }

    /// Looks at one record of a ring, and copies it if it can be wanted.
    fn take(&mut self, ring: &Ring, number: u64, (head, id): (Head, u64), now_ns: u64) {
        let Some(stage) = Stage::from_number(head.stage) else { return };
        // A leader's first entry belongs to no request. There is one in a term, and elections are
        // kept.
        let is_empty_entry = id == 0 && matches!(stage, Stage::RaftEntry | Stage::ApplyEntry);
        let is_wanted = id::kept(id) || self.pins.contains(id) || is_empty_entry;
        let is_rpc = stage == Stage::Rpc;
        if stage.family() == Family::Request && !is_wanted && !is_rpc && !stage.is_at_edge() {
            return;
        }
        let Ok(record) = ring.get(number) else {
            self.lost += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let record = self.finish(record, is_wanted);
        if stage.family() == Family::Loop || id::kept(id) {
            self.usual.count(&record, now_ns);
            self.vitals.count(&record);
        }
        if is_rpc {
            let is_end = u64::from(head.kind == Kind::Span as u8);
            self.finished += is_end;
            self.kept += if is_wanted { is_end } else { 0 };
            self.pins.follow(&record, now_ns);
        } else if stage.is_at_edge() {
            self.pins.note_wait(&record, now_ns);
        }
        if is_wanted {
            self.learn(&record, now_ns);
        }
        if is_wanted || stage.family() == Family::Loop {
            self.staging.push(record);
        }
    }

    /// Fills in what the writer did not know: the boot number, whether the record is kept, and the
    /// time in nanoseconds.
    fn finish(&self, mut record: Record, is_kept: bool) -> Record {
        let mut head = record.head();
        head.boot = self.boot;
        head.flags |= if is_kept { FLAG_KEPT } else { 0 };
        record.set_head(head);
        if head.kind != Kind::Key as u8 {
            let (begin, took_ns) = (record.words[3], record.took_ns());
            record.words[3] = self.anchor.since_start_ns(begin);
            // The length of a step is the time from its beginning to its end: by the same anchors.
            if LONG_NS <= took_ns {
                let end = begin.saturating_add(raw_clock::ticks(took_ns));
                let took_ns = self.anchor.since_start_ns(end).saturating_sub(record.words[3]);
                record.set_length(record.clock_end() - record.clock(), took_ns);
            }
        }
        record
    }

    /// Keeps what a kept request points to: its entry and its round.
    fn learn(&mut self, record: &Record, now_ns: u64) {
        match record.stage() {
            Some(Stage::RaftEntry | Stage::ApplyEntry) => {
                self.cover.learn(field!(record, RaftEntry | ApplyEntry, index));
                self.ahead.learn(record);
            }
            Some(Stage::ReadIndexWait) => {
                let round = field!(record, ReadIndexWait, round);
                if round != 0 {
                    self.pins.pin(round, now_ns);
                }
            }
            _ => (),
        }
    }

    /// A sample of the watermarks. They change while it is taken: each value is true at some moment
    /// between the keyframe's clock and its end, and no more is promised.
    fn keyframe(&mut self, now_ns: u64, marks: &Watermarks) {
        let clock = ring::next_clock();
        let backend = marks.keyframe_backend(self.finished, self.kept, self.lost);
        let frames = [
            (Stage::Keyframe, marks.keyframe()),
            (Stage::KeyframeBackend, backend),
            (Stage::KeyframeProcess, self.vitals.keyframe(now_ns, marks)),
        ];
        let clocks = ring::next_clock() - clock;
        for (stage, fields) in frames {
            let head = self.own_head(stage, Kind::Keyframe);
            let mut record = Record::new(head, clock, now_ns, 0, &fields);
            record.set_length(clocks, 0);
            self.staging.push(record);
        }
    }

    /// Records the configurations that are new since the last look.
    fn note_configurations(&mut self, now_ns: u64, marks: &Watermarks) {
        for configuration in marks.take_configurations() {
            if configuration != self.configuration {
                let records = self.members(&configuration, now_ns);
                self.staging.extend(records);
                self.configuration = configuration;
            }
        }
        self.told_ns = now_ns;
    }

    /// A record for each member of a configuration.
    fn members(&self, configuration: &Configuration, now_ns: u64) -> Vec<Record> {
        let head = self.own_head(Stage::RaftMembers, Kind::Mark);
        let record = |fields: &_| Record::new(head, ring::next_clock(), now_ns, 0, fields);
        configuration.fields().iter().map(record).collect()
    }

    fn usual_record(&self, now_ns: u64, fields: &[u64; 8]) -> Record {
        let head = self.own_head(Stage::Usual, Kind::Keyframe);
        Record::new(head, ring::next_clock(), now_ns, 0, fields)
    }

    /// Begins or ends to leave out quick steps, by the number of records since the last keyframe.
    fn set_brief(&mut self, now_ns: u64) {
        let running: u64 = self.readers.iter().map(|reader| reader.ring.head()).sum();
        let written = self.written_before + running;
        let Some((is_on, records)) = self.rate.decide(written, now_ns) else { return };
        ring::set_brief(is_on);
        self.note_brief(is_on, records, now_ns);
    }

    /// Records that quick steps are left out from now on, or no more. Readers need this for stories
    /// of hours ago, so the newest such records are remembered longer than those of other loops.
    pub(super) fn note_brief(&mut self, is_on: bool, records: u64, now_ns: u64) {
        let fields = numbers!(Brief, on = is_on, records = records);
        let head = self.own_head(Stage::Brief, Kind::Mark);
        let record = Record::new(head, ring::next_clock(), now_ns, 0, &fields);
        self.staging.push(record);
        if BRIEFS_MAX <= self.briefs.len() {
            self.briefs.pop_front();
        }
        self.briefs.push_back(record);
    }

    fn note_lost(&mut self, thread: u8, records: u64, clock: u64, now_ns: u64) {
        self.lost += records;
        LOST.fetch_add(records, Ordering::Relaxed);
        let head = Head { thread, ..self.own_head(Stage::Lost, Kind::Mark) };
        let fields = numbers!(Lost, from = self.horizons[1], to = clock, records = records);
        let record = Record::new(head, ring::next_clock(), now_ns, 0, &fields);
        self.staging.push(record);
    }

    fn own_head(&self, stage: Stage, kind: Kind) -> Head {
        Head { stage: stage as u8, kind: kind as u8, boot: self.boot, ..Head::default() }
    }

    /// Takes the complete records out of staging, and adds those that are wanted to the history and
    /// to the result.
    fn settle(&mut self, now_ns: u64) -> Vec<Record> {
        let is_ready = |record: &Record| record.clock_end() <= self.watermark;
        // Under load few of them are wanted: only these are copied.
        let mut ready: Vec<(OrderKey, usize)> = Vec::new();
        let mut loops = 0;
        for (at, record) in self.staging.iter().enumerate().filter(|(_, record)| is_ready(record)) {
            ready.push((place(record), at));
            loops += usize::from(is_loop(record));
        }
        // Each ring's records are nearly sorted. A search for a pinned request may have found one
        // that had been read before.
        ready.sort();
        ready.dedup_by_key(|(place, _)| *place);
        let is_quiet = loops <= QUIET;
        let mut wanted = Vec::new();
        let mut before = Vec::new();
        for (place, at) in ready {
            let record = &self.staging[at];
            let is_covered = is_loop(record) && self.cover.covers(record);
            self.cover.finish(record);
            let mut head = record.head();
            head.flags |= if is_covered { FLAG_KEPT } else { 0 };
            let is_kept = head.flags & FLAG_KEPT != 0;
            let is_sent = is_kept || is_quiet || is_always_wanted(record);
            before.extend(self.ahead.follow(record, is_kept, is_sent));
            if is_sent {
                let mut record = *record;
                record.set_head(head);
                self.history.insert(place, record);
                wanted.push(record);
            }
        }
        let watermark = self.watermark;
        self.staging.retain(|record| watermark < record.clock_end());
        self.keep_before(before, now_ns, &mut wanted);
        self.history.trim(now_ns);
        wanted
    }
}

fn is_loop(record: &Record) -> bool {
    record.stage().is_some_and(|stage| stage.family() == Family::Loop)
}
