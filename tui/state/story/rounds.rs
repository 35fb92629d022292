//! Rounds of pre-votes that nobody heard: without a quorum, a member asks again and again, for as
//! long as that lasts.
//!
//! Of such rounds that are alike, the story shows the first and the last; the grain of stages shows
//! those between. A round begins with a campaign. The story shows every round that a peer heard, or
//! in which anything else happened.

use glass_etcd::{
    field, fields,
    trace::{Grain, Stage},
};

use super::{OtherEnd, Step};

/// Makes the steps of the rounds between the first and the last of those that are alike finer than
/// the story.
pub(super) fn fold(steps: &mut [Step]) {
    let lanes = steps.iter().map(|step| step.lane + 1).max().unwrap_or(0);
    for lane in 0..lanes {
        let is_told = |step: &Step| step.is_own && step.lane == lane && step.grain == Grain::Story;
        let told: Vec<usize> = (0..steps.len()).filter(|at| is_told(&steps[*at])).collect();
        let rounds: Vec<&[usize]> = told.chunk_by(|_, next| !begins(&steps[*next])).collect();
        let shapes: Vec<Option<Shape>> = rounds.iter().map(|round| shape(steps, round)).collect();
        let alike =
            shapes.windows(3).map(|near| near[0].is_some() && near.iter().all(|it| *it == near[0]));
        let between: Vec<usize> = alike
            .zip(rounds.iter().skip(1))
            .filter(|(alike, _)| *alike)
            .flat_map(|(_, round)| round.iter().copied())
            .collect();
        for at in between {
            steps[at].grain = Grain::Stage;
        }
    }
}

/// Whether this step begins a round that the story leaves out.
pub(crate) fn is_left_out(step: &Step) -> bool {
    step.is_own && step.grain == Grain::Stage && begins(step)
}

/// Whether this step may be one of such a round.
pub(crate) fn is_of_round(step: &Step) -> bool {
    step.is_own && (begins(step) || matches!(step.event.stage, Stage::RaftSend | Stage::RaftDrop))
}

fn begins(step: &Step) -> bool {
    step.event.stage == Stage::ElectionCampaign && field!(step.event, ElectionCampaign, pre) != 0
}

/// What happened in a round: its messages' peers and types.
type Shape = Vec<(Stage, u64, u64)>;

/// The shape of a round in which nothing else happened and that nobody heard.
fn shape(steps: &[Step], round: &[usize]) -> Option<Shape> {
    let (first, rest) = round.split_first()?;
    let rest = rest.iter().map(|at| {
        let step = &steps[*at];
        let is_heard = step.arrow.is_some_and(|arrow| arrow.other_end == OtherEnd::Captured);
        match step.event.stage {
            Stage::RaftSend if !is_heard => {
                let [peer, kind] = fields!(step.event, RaftSend: peer, type);
                Some((Stage::RaftSend, peer, kind))
            }
            Stage::RaftDrop => {
                let [peer, kind] = fields!(step.event, RaftDrop: peer, type);
                Some((Stage::RaftDrop, peer, kind))
            }
            _ => None,
        }
    });
    begins(&steps[*first]).then(|| rest.collect()).flatten()
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::{order::Order, recording};

    use super::{
        super::{Subject, Telling, requests, story},
        *,
    };
    use crate::state::steps::{Row, Steps};

    const NO_QUORUM: &str = include_str!("../../../tests/recordings/no_quorum.ndjson");

    /// Goal: of four rounds, in the last three of which nothing else happened, the third is left
    /// out of the story, and told from the grain of stages on.
    #[test]
    fn of_rounds_that_are_alike_the_first_and_the_last_are_told() {
        let recording = recording::read(NO_QUORUM.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let every = Default::default();
        let all = requests((&recording, &order), &every);
        let election = all.iter().find(|row| row.method == "election").unwrap().subject;
        assert!(matches!(election, Subject::Cluster(_)));
        let told = story(&Telling::of(&recording, &order), election).steps;
        let campaigns: Vec<Grain> =
            told.iter().filter(|step| begins(step)).map(|step| step.grain).collect();
        assert_eq!([Grain::Story, Grain::Story, Grain::Stage, Grain::Story], campaigns[..]);
        let mut steps = Steps::open(&recording, election);
        let left_out = |steps: &Steps| {
            let rows = steps.rows().into_iter();
            rows.filter(|row| matches!(row, Row::Folded { rounds: 1, .. })).count()
        };
        assert_eq!(1, left_out(&steps));
        steps.grain = Grain::Stage;
        assert_eq!(0, left_out(&steps));
    }
}
