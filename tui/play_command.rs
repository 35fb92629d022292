//! `glass play`: the player on a recording, on live endpoints, or beside `glass up`.

use std::{io, path::PathBuf, process::ExitCode};

use glass_etcd::{pb::glasspb::ObserveRequest, trace::Recording};
use tokio::sync::mpsc;

use crate::{
    fail,
    play::{self, Source, SourceMessage},
    source::{self, Change, Live},
    view::{self, Look, pen::ColorChoice},
};

/// Messages that wait for the player; when it falls behind, the members' streams wait.
const WAITING_MAX: usize = 64;

/// The command line of `glass play`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlayArgs {
    /// A recording; live members if left out.
    file: Option<PathBuf>,
    /// The members to listen to.
    #[arg(long, value_delimiter = ',', default_value = source::ENDPOINTS)]
    endpoints: Vec<String>,
    /// Write a recording's stories as text instead of opening the player.
    #[arg(long, requires = "file")]
    plain: bool,
    /// Whether colours are used; NO_COLOR in the environment turns `auto` off.
    #[arg(long, value_enum, default_value = "auto")]
    color: ColorChoice,
    /// Use ASCII only.
    #[arg(long)]
    ascii: bool,
}

impl PlayArgs {
    fn look(&self) -> Look {
        Look::new(self.color, std::env::var("NO_COLOR").ok().as_deref(), self.ascii)
    }
}

/// Runs the command.
pub(crate) fn run(args: &PlayArgs) -> ExitCode {
    let look = args.look();
    let result = match &args.file {
        Some(file) => recording(file).and_then(|recording| match args.plain {
            true => view::plain::write(recording, look, &mut io::stdout().lock()),
            false => block_on(play::run(Source::File(recording), look)),
        }),
        None => live(&args.endpoints, look),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that goes away early (`| head`) is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Plays what these members do until the player is left.
pub(crate) fn live(endpoints: &[String], look: Look) -> io::Result<()> {
    block_on(async {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let listening = tokio::spawn(listen(endpoints.to_vec(), sender));
        let result = play::run(Source::Live(receiver), look).await;
        listening.abort();
        result
    })
}

fn recording(file: &std::path::Path) -> io::Result<Recording> {
    let read = source::open(file)
        .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
    Ok(read.recording)
}

fn block_on(work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Passes on what the members say, until the player is left.
async fn listen(endpoints: Vec<String>, to_player: mpsc::Sender<SourceMessage>) {
    let request = ObserveRequest { history: true, ..ObserveRequest::default() };
    let mut live = Live::connect(&endpoints, &request);
    while let Some(change) = live.next().await {
        for message in messages(&live, &change) {
            if to_player.send(message).await.is_err() {
                return;
            }
        }
    }
}

/// What the player is told of a change.
fn messages(live: &Live, change: &Change) -> Vec<SourceMessage> {
    let recording = live.recording();
    match change {
        Change::Hello(place) => {
            let seen = live.seen.iter().find(|seen| seen.member == Some(*place));
            let endpoint = seen.map(|seen| seen.endpoint.clone()).unwrap_or_default();
            let info = recording.members[usize::from(*place)].clone();
            vec![SourceMessage::Hello { place: *place, endpoint, info }]
        }
        Change::Events(count) => {
            let new = &recording.events[recording.events.len() - count..];
            let batch = |seen: &source::Seen| {
                let place = seen.member?;
                let events = new.iter().filter(|event| event.member == place).cloned().collect();
                let dropped = recording.dropped.get(usize::from(place)).copied().unwrap_or(0);
                Some(SourceMessage::Batch { place, events, seen: seen.seen.0, dropped })
            };
            live.seen.iter().filter_map(batch).collect()
        }
        Change::Down { endpoint, reason } => {
            let endpoint = live.seen[*endpoint].endpoint.clone();
            vec![SourceMessage::Unreachable { endpoint, why: reason.clone() }]
        }
    }
}
