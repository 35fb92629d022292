//! Pages against the player, and pages with text that means harm.

use std::{fs, path::PathBuf};

use glass_etcd::story::{KeyText, Recording};
use serde_json::Value;
use sha2::Digest as _;

use super::{
    data::{self, KEYS, Texts},
    escape,
    figure::figure,
    page::{SCRIPT_HASH, page},
    told::{STEPS_MAX, told, told_within},
};
use crate::{
    keys, source,
    state::{
        State,
        scenes::{self, PUT},
        story::{RequestSummary, Subject},
    },
    trace::{Wanted, Written},
    view::{
        Look, Shelf,
        plain::{View, write_view},
        theme::Palette,
    },
};

const LOOK: Look =
    Look { palette: Palette::None, is_ascii: false, has_mouse: false, shelf: Shelf::OWN };
const SCRIPT: &str = include_str!("../../book/stepper.js");

fn all(from: &str) -> Wanted {
    Wanted { story: None, from: from.to_owned() }
}

/// The page of all stories of a recording.
fn page_of(recording: Recording) -> (String, Written) {
    page(&mut State::of_recording(recording), &all("x.ndjson"))
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end}")).0
}

/// HTML as the reader sees it.
fn read(html: &str) -> String {
    let signs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#123;", "{")];
    let text =
        signs.iter().fold(html.to_owned(), |text, (escaped, sign)| text.replace(escaped, sign));
    text.replace("&amp;", "&")
}

/// The element of a story as `glass play --plain --view steps` would print it.
fn as_plain(element: &str) -> String {
    let caption = read(between(element, "<figcaption>", "</figcaption>"));
    let text = read(between(element, "<pre>", "</pre>"));
    let data = between(element, "<script type=\"application/json\">", "</script>");
    let data: Value = serde_json::from_str(data).unwrap();
    let said = |number: &Value| {
        let number = usize::try_from(number.as_u64().unwrap()).unwrap();
        data["texts"][number].as_str().unwrap().to_owned()
    };
    let joined = |number: &Value| said(number).replace('\t', "   ");
    let mut lines = vec![format!("  {caption}")];
    for (at, step) in data["steps"].as_array().unwrap().iter().enumerate() {
        let begins = format!("  {:>3}  ", at + 1);
        lines.push(text.lines().find(|line| line.starts_with(&begins)).unwrap().to_owned());
        lines.extend(Some(&step["at"]).filter(|at| !at.is_null()).map(&said));
        for lens in step["lenses"].as_array().unwrap().chunks(2) {
            let answer = joined(&lens[1]);
            let mut titles = [said(&lens[0])].into_iter().chain(std::iter::repeat(String::new()));
            for line in answer.lines() {
                lines.push(format!("{:<11}  {line}", titles.next().unwrap()));
            }
        }
        lines.push(format!("WHY  {}", said(&step["why"][1])));
        lines.extend([joined(&step["why"][2]), joined(&step["why"][3])]);
    }
    lines.iter().map(|line| format!("{}\n", line.trim())).collect()
}

/// What the player says at each step of these stories.
fn plain(state: &mut State, rows: &[RequestSummary]) -> String {
    let mut out = Vec::new();
    state.list.rows = rows.to_vec();
    write_view(state, View::Steps, LOOK, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| format!("{}\n", line.trim())).collect()
}

fn element(state: &mut State, subject: Subject) -> String {
    let mut texts = Texts::default();
    let told = told(state, subject);
    assert!(told.said.len() <= STEPS_MAX && told.left_out == 0);
    let steps = data::steps(&told.said, &mut texts);
    let mut data = texts.shared();
    data["steps"] = steps;
    figure(&told, "figure-1", &data)
}

/// Goal: a page says what the player says: the same steps, answers, reasons and addresses. Method:
/// every story of every recording, read back from its element and printed in the plain form.
#[test]
fn a_page_says_at_each_step_what_the_player_says() {
    let folder = fs::read_dir("tests/recordings").unwrap().map(|entry| entry.unwrap().path());
    let recordings: Vec<PathBuf> =
        folder.filter(|path| path.extension().is_some_and(|end| end == "ndjson")).collect();
    assert!(10 < recordings.len());
    for path in recordings {
        let open = || State::of_recording(source::open(&path).unwrap().recording);
        let (mut state, mut player) = (open(), open());
        // Those of the busy recording are all alike.
        let rows: Vec<RequestSummary> = state.list.rows.iter().take(30).cloned().collect();
        for row in rows {
            let element = element(&mut state, row.subject);
            let expected = plain(&mut player, &[row]);
            assert_eq!(expected, as_plain(&element), "{}", path.display());
            let empty = element.trim_end().lines().find(|line| line.trim_end().is_empty());
            assert_eq!(None, empty.filter(|line| line.is_empty()), "it would end in Markdown");
        }
    }
}

/// A put whose key and whose members' names mean harm to a page.
fn hostile() -> Recording {
    let mut recording = scenes::put().recording;
    let key = "</script><script>alert(1)</script><!--\"'&{{#include x}}漢字\u{202e}\0\u{2028}";
    for event in &mut recording.events {
        if event.key.is_some() {
            let bytes = key.as_bytes().to_vec();
            let length = u64::try_from(bytes.len()).unwrap();
            event.key = Some(KeyText { bytes, length });
        }
    }
    let names = ["<img src=x onerror=alert(1)>", "漢字\u{202e}\u{1b}[2J</pre>", "</svg>'\"{{#x}}"];
    for (member, name) in recording.members.iter_mut().zip(names) {
        member.name = name.to_owned();
    }
    recording
}

/// Goal: a page has the elements that it was made of, and no others, for every key that a client
/// sends and every name that a member has.
#[test]
fn a_key_or_a_name_that_means_harm_stays_text() {
    let (harmless, _) = page_of(scenes::put().recording);
    let (harmful, _) = page_of(hostile());
    let count = |page: &str, what: &str| page.matches(what).count();
    for element in ["<script", "</script", "<svg", "</svg", "<pre", "</pre", "<figure", "<!--"] {
        assert_eq!(count(&harmless, element), count(&harmful, element), "{element}");
    }
    let own = harmful.replace(SCRIPT, "");
    assert!(!own.contains("<img") && !own.contains("{{"), "{own}");
    let unseen = |c: char| c.is_control() && c != '\n' || "\u{202e}\u{2028}".contains(c);
    assert_eq!(None, own.chars().find(|c| unseen(*c)));
    assert!(own.contains("漢字"), "letters stay");
    assert!(own.contains("&lt;img src=x onerror=alert(1)&gt;"));
    let element = element(&mut State::of_recording(hostile()), Subject::Request(PUT));
    assert!(as_plain(&element).contains("</script><script>alert(1)</script>"), "as the key is");
}

/// Goal: the browser runs the page's own script, and no other.
#[test]
fn the_policy_names_the_script() {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut hash = String::from("sha256-");
    for three in sha2::Sha256::digest(SCRIPT).chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = DIGITS[usize::try_from(bits >> shift & 63).unwrap()];
            hash.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    assert_eq!(hash, SCRIPT_HASH, "SCRIPT_HASH in tui/html/page.rs");
    let (page, _) = page_of(scenes::put().recording);
    assert!(page.contains(&format!("<script>{SCRIPT}</script>")), "as it is");
    for load in ["src=", "url(http", "@import", "<link"] {
        assert!(!page.contains(load), "{load}");
    }
}

#[test]
fn the_keys_of_a_page_are_those_of_the_player() {
    for action in KEYS {
        assert!(keys::words_of(action).is_some(), "{action:?}");
    }
}

/// Goal: a page has a bound, and says what it leaves out.
#[test]
fn a_page_of_many_stories_says_how_many_are_left_out() {
    let path = PathBuf::from("tests/recordings/busy.ndjson");
    let recording = source::open(&path).unwrap().recording;
    let (page, Written { stories, of, bytes }) = page_of(recording);
    assert_eq!((40, page.len()), (stories, bytes));
    assert!(stories < of);
    assert!(page.contains(&format!("<h1>40 of {of} stories of x.ndjson</h1>")));
    assert!(page.contains("left out"));
    assert_eq!(stories, page.matches("<figure class=\"glass\"").count());
    let ids = (1..=stories).map(|number| format!(" id=\"story-{number}\""));
    ids.for_each(|id| assert_eq!(1, page.matches(&id).count(), "{id}"));
    assert!(page_of(Recording::default()).0.contains("No story in x.ndjson"));
}

#[test]
fn what_is_escaped_can_be_read_again() {
    let text = "a < b & \"c\" 'd' {{e}}";
    assert_eq!(text, read(&escape::html(text)));
}

/// Goal: a story of any length is bounded, and says what is missing of it.
#[test]
fn a_long_story_ends_early_and_says_so() {
    let mut state = State::of_recording(scenes::put().recording);
    let whole = told(&mut state, Subject::Request(PUT));
    let short = told_within(&mut state, Subject::Request(PUT), 10);
    assert_eq!((10, whole.said.len() - 10), (short.said.len(), short.left_out));
    assert_eq!(whole.text[..1 + short.rows.len()], short.text[..]);
    let html = figure(&short, "short", &Value::Null);
    assert!(html.contains(&format!("{} later steps are left out", short.left_out)), "{html}");
    let beyond = short.said.iter().flat_map(|said| said.relatives).flatten().max();
    assert!(beyond.is_some_and(|last| last < 10), "no key leads to a step that is not there");
}
