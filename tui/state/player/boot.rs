//! *Boot this moment*: what is asked before, what the loop has to do, and what came of it.

use super::{
    super::{
        disk::{self, Trial, Wanted},
        lens,
        room::Question,
        steps::Steps,
        story::Subject,
        watermarks,
    },
    Screen, State,
};
use crate::Cluster;

/// The state of the trial.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trials {
    /// Where the members have their data; `None` if that is not known here.
    pub(crate) place: Option<Cluster>,
    /// The moment that the loop has to boot.
    job: Option<Trial>,
    /// Whether one is under way.
    is_busy: bool,
    /// What is known of the last one.
    pub(crate) told: Option<Vec<String>>,
}

impl State {
    /// Why no moment can be booted; `None` if one can.
    pub(crate) fn boot_refusal(&self) -> Option<&'static str> {
        match &self.trials.place {
            None => Some("the data directories of these members are not known here"),
            Some(_) if self.trials.is_busy => Some("a moment is being booted already"),
            Some(_) => None,
        }
    }

    /// The moment that the loop has to boot, once.
    pub(crate) fn job(&mut self) -> Option<(Cluster, Trial)> {
        Some((self.trials.place.clone()?, self.trials.job.take()?))
    }

    /// What came of it.
    pub(crate) fn booted(&mut self, told: Vec<String>) {
        self.version += 1;
        self.trials.is_busy = false;
        self.trials.told = Some(told);
    }

    /// Asks whether to boot the moment that is looked at, or says why that cannot be done.
    pub(super) fn ask_boot(&mut self) {
        let is_now = self.room.is_shown && self.room.is_now;
        let steps = self.steps.as_ref().filter(|_| !is_now);
        let moment = self.moment(steps);
        if self.place() != Screen::Cluster && !is_now {
            (self.room.is_shown, self.room.is_now) = (true, false);
        }
        match disk::refusal(&moment.disks) {
            Some(why) => self.room.notice = Some(why),
            None => self.room.question = Some(Question::Boot(moment)),
        }
    }

    fn moment(&self, steps: Option<&Steps>) -> Trial {
        let recording = self.recording();
        let newest = |place: u8| self.learned.marks.get(usize::from(place))?.newest;
        let cut = |place: u8| match steps {
            Some(steps) => steps.cut(place),
            None => newest(place),
        };
        let disks = disk::disks(recording, &watermarks::states(recording), cut);
        let mut said = vec![disk::said(&disks)];
        let wanted = steps.and_then(|steps| {
            let Subject::Request(id) = steps.subject else { return None };
            Some(Wanted::of(recording, id, steps.log.as_ref()?.entry))
        });
        if let Some(steps) = steps.filter(|steps| steps.log.is_some()) {
            said.extend(lens::durable(steps, &self.lanes).into_iter().next().map(|l| l.join(". ")));
        }
        said.push(
            "Members are started on copies of these logs, on free ports; those that run are not \
             touched."
                .to_owned(),
        );
        Trial { disks, wanted, said }
    }

    /// Hands the moment to the loop.
    pub(super) fn boot(&mut self, moment: Trial) {
        let mut told = moment.said[..moment.said.len() - 1].to_vec();
        told.push("The members are being started.".to_owned());
        self.trials.told = Some(told);
        (self.trials.is_busy, self.trials.job) = (true, Some(moment));
    }
}
