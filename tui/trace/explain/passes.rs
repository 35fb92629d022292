//! The section on catching up: which passes brought a watcher forward, and for which other watchers
//! each of them was.

use std::io::{self, Write};

use glass_etcd::{
    fields,
    story::query::{Stories, Story, passes::Pass},
};
use serde_json::{Value, json};

use super::words;

/// Writes the section; nothing if no pass has.
pub(super) fn write(out: &mut impl Write, stories: &Stories<'_>, story: &Story) -> io::Result<()> {
    let all = stories.passes(story);
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\ncaught up")?;
    all.iter().try_for_each(|pass| writeln!(out, "  {}", line(stories, story, pass)))
}

fn line(stories: &Stories<'_>, story: &Story, pass: &Pass) -> String {
    let recording = stories.recording();
    let name = words::name(pass.member, &recording.members);
    let read = match pass.event {
        Some(at) => {
            let event = &recording.events[at];
            let [from, to, watchers] = fields!(event, WatchSync: from, to, watchers);
            let watchers = words::count(watchers, "watcher", "watchers");
            format!("read revisions {from} to {to} for {watchers}")
        }
        None => "was not captured".to_owned(),
    };
    let others = pass.watchers.iter().filter(|id| **id != story.id);
    let others: Vec<String> = others.map(|id| format!("{id:016x}")).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; captured beside this one: {}", others.join(", ")),
    };
    format!("pass {} of {name} {read}{others}", pass.number)
}

/// The same for programs.
pub(super) fn json(stories: &Stories<'_>, story: &Story) -> Vec<Value> {
    let one = |pass: &Pass| {
        let watchers: Vec<String> = pass.watchers.iter().map(|id| format!("{id:016x}")).collect();
        json!({"pass": pass.number, "member": pass.member, "watchers": watchers})
    };
    stories.passes(story).iter().map(one).collect()
}
