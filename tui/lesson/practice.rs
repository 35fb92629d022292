//! `glass lesson try`: the tasks of a lesson, on a cluster of its own.
//!
//! ```text
//!   scenario.txt: how many members, and their flags ─▶ Cluster ◀── player, etcdctl, `glass run`
//!                                                        │
//!                                                        ▼ records
//!   the tasks that are done ◀── holds ◀── Recording ◀── Witness, a thread
//! ```
//!
//! Invariant: only this cluster is looked at; it and its directory go at the end.

use std::{
    io::{self, BufRead, Write},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use glass_etcd::{clock, pb::glasspb::ObserveRequest, story::Recording};
use tokio::sync::mpsc as tasks;

use super::{cluster::Cluster, course::Lesson, run::Run, session, text::Paper};
use crate::{play_command, source::Live, up, view::Look};

/// How long the members may take until they send records.
const START: Duration = Duration::from_secs(10);
/// How long the last records are waited for.
const SETTLE: Duration = Duration::from_millis(800);
/// Whole traces per second that are asked for: more than anybody types.
const TRACES_PER_SECOND: u32 = 1000;

/// A thread that records what the members do, from their start on.
struct Witness {
    /// Each request is answered with everything up to now.
    asked: Option<tasks::Sender<mpsc::SyncSender<Recording>>>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    fn start(endpoints: &[String]) -> io::Result<Witness> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let request = ObserveRequest {
            history: true,
            traces_per_second: TRACES_PER_SECOND,
            ..ObserveRequest::default()
        };
        let mut live = {
            let _entered = runtime.enter();
            Live::connect(endpoints, &request)
        };
        let (asked, mut questions) = tasks::channel::<mpsc::SyncSender<Recording>>(1);
        let listen = async move {
            loop {
                tokio::select! {
                    change = live.next() => if change.is_none() { return },
                    question = questions.recv() => match question {
                        // Who has asked may have gone.
                        Some(question) => _ = question.try_send(live.recording().clone()),
                        None => return,
                    },
                }
            }
        };
        let thread = thread::Builder::new()
            .name("witness".to_owned())
            .spawn(move || runtime.block_on(listen))?;
        Ok(Witness { asked: Some(asked), thread: Some(thread) })
    }

    /// Everything up to now.
    fn recording(&self) -> io::Result<Recording> {
        let (sender, recording) = mpsc::sync_channel(1);
        let gone = || io::Error::other("the records of the members are not read any more");
        let asked = self.asked.as_ref().ok_or_else(gone)?;
        asked.blocking_send(sender).map_err(|_| gone())?;
        recording.recv().map_err(|_| gone())
    }

    /// Waits until every member has sent records.
    fn is_heard(&self, members: usize) -> io::Result<bool> {
        let late = clock::now() + START;
        while clock::now() < late {
            if members <= self.recording()?.members.len() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(false)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.asked = None;
        // A thread that has panicked has said so.
        _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Lets the learner do the tasks of a lesson, in the player or, without a look, at another terminal
/// until a line says that it is done. Returns whether all of them were done.
pub(super) fn practise(
    lesson: &Lesson,
    look: Option<Look>,
    input: &mut impl BufRead,
    out: &mut Paper<impl Write>,
) -> io::Result<bool> {
    let scenario = session::scenario(lesson).map_err(io::Error::other)?;
    let members = match scenario.members {
        1 => "One member starts".to_owned(),
        more => format!("{more} members start"),
    };
    writeln!(out, "# {}\n\n{members} in a directory of its own …", lesson.title)?;
    let cluster = Cluster::start(&scenario)?;
    let witness = Witness::start(&cluster.endpoints)?;
    if !witness.is_heard(scenario.members)? {
        return Err(io::Error::other("the members did not start in time"));
    }
    tasks_of(lesson, out)?;
    let Some(look) = look else { return typed(lesson, (&cluster, &witness), input, out) };
    writeln!(out)?;
    out.said(
        "Enter opens the player. There i sends a request; in the cluster view K kills a member, \
         p pauses it, s stops and starts it, and x cuts a link. When you leave, the tasks are \
         looked at, and the members end.",
    )?;
    if input.read_line(&mut String::new())? == 0 {
        return Ok(false);
    }
    let place = &cluster.place;
    let (base, members) = up::members(&place.procfile, None).map_err(io::Error::other)?;
    play_command::practice((&base, place), &members, look)?;
    said(lesson, &witness, out)
}

fn tasks_of(lesson: &Lesson, out: &mut Paper<impl Write>) -> io::Result<()> {
    writeln!(out, "\nTo do:")?;
    lesson.checks.iter().try_for_each(|check| out.page(&format!("* {}", check.task)))
}

/// Looks at the tasks at each line, until all are done or the input ends.
fn typed(
    lesson: &Lesson,
    (cluster, witness): (&Cluster, &Witness),
    input: &mut impl BufRead,
    out: &mut Paper<impl Write>,
) -> io::Result<bool> {
    let procfile = cluster.place.procfile.display();
    writeln!(out, "\nThe members serve clients until this ends:")?;
    for member in cluster.members() {
        writeln!(out, "  {}  {}", member.name, member.client_urls.join(","))?;
    }
    writeln!(out, "From another terminal:")?;
    writeln!(out, "  etcdctl --endpoints {} put foo bar", cluster.endpoints.join(","))?;
    writeln!(out, "  glass run kill etcd-01 --procfile {procfile}")?;
    loop {
        write!(out, "Enter looks at the tasks, quit ends the members > ")?;
        out.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || ["quit", "q"].contains(&line.trim()) {
            writeln!(out)?;
            return said(lesson, witness, out);
        }
        if said(lesson, witness, out)? {
            return Ok(true);
        }
    }
}

/// Says of each task whether it is done, and returns whether all are.
fn said(lesson: &Lesson, witness: &Witness, out: &mut Paper<impl Write>) -> io::Result<bool> {
    thread::sleep(SETTLE);
    checked(lesson, witness.recording()?, out)
}

/// Says of each task whether it was done in this recording, and returns whether all were.
pub(super) fn checked(
    lesson: &Lesson,
    recording: Recording,
    out: &mut Paper<impl Write>,
) -> io::Result<bool> {
    let run = Run::of(recording);
    let mut is_all = true;
    for check in &lesson.checks {
        let holds = session::holds(check, &run);
        let word = if holds { "done:" } else { "not yet:" };
        out.said(&format!("{word} {}", check.task))?;
        is_all &= holds;
    }
    Ok(is_all)
}
