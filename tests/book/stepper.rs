//! The stepper in a browser: by keyboard alone, on a phone and a screen, on paper, without scripts,
//! in a page of its own and in a chapter.
//!
//! Without Chromium these tests say that they were skipped. `GLASS_SCREENS=DIR` keeps what they
//! have seen as pictures.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    chromium::{Browser, chromium},
    contents,
    site::built,
};

/// A recording with a put on a follower.
const RECORDING: &str = "book/src/figures/five-minutes.ndjson";
const PUT: &str = "2edaa22f1b5a380b";
/// A phone, and a screen.
const SIZES: [(u32, u32); 2] = [(390, 844), (1280, 900)];

pub(crate) fn glass(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_glass")).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes the page of these stories into a directory of its own.
fn exported(recording: &str, story: &[&str]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let out = page.display().to_string();
    let words = [&["trace", "export", "--html", &out, "--from", recording], story].concat();
    glass(&words);
    (dir, page)
}

/// Keeps a picture of what is seen, if somebody wants it.
fn keep(browser: &mut Browser, name: &str) {
    let Some(dir) = env::var_os("GLASS_SCREENS") else { return };
    let shot = browser.call("Page.captureScreenshot", &json!({ "format": "png" }));
    let picture = bytes(shot["data"].as_str().unwrap_or_default());
    fs::write(Path::new(&dir).join(format!("{name}.png")), picture).unwrap();
}

/// The bytes that a text in base64 stands for.
fn bytes(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|digit| DIGITS.iter().position(|known| *known == digit));
    let digits: Vec<usize> = digits.collect();
    let whole = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
        let bytes = [bits >> 16, bits >> 8, bits].map(|byte| u8::try_from(byte & 255).unwrap_or(0));
        bytes.into_iter().take(four.len() - 1)
    });
    whole.collect()
}

/// Where the stepper stands, in its own words.
fn place(browser: &mut Browser) -> String {
    browser.text("document.querySelector('.glass:not([hidden]) output').value")
}

fn title(browser: &mut Browser) -> String {
    browser.text("document.querySelector('.glass:not([hidden]) h4.lens').textContent")
}

/// Nothing is wider than the window, open or closed, on a phone and on a screen.
fn expect_no_overflow(browser: &mut Browser, what: &str) {
    for (width, height) in SIZES {
        browser.resize(width, height);
        let open = "document.querySelectorAll('.glass details').forEach((one) => one.open = true)";
        browser.value(open);
        let beyond = "[...document.querySelectorAll('.glass *')].filter((one) => {
            const scrolls = one.closest('pre, svg');
            return !scrolls && innerWidth < one.getBoundingClientRect().right;
        }).map((one) => one.outerHTML.slice(0, 80))";
        assert_eq!(json!([]), browser.value(beyond), "{what} at {width}");
        let page = browser.value("document.documentElement.scrollWidth - innerWidth");
        assert!(page.as_i64().is_some_and(|beyond| beyond <= 0), "{what} at {width}: {page}");
        // The words of the picture are cut by the picture's own edge, and must not be.
        let words =
            "[...document.querySelectorAll('.glass:not([hidden]) .rows')].flatMap((rows) => {
            const edge = rows.getBoundingClientRect();
            return [...rows.querySelectorAll('text')].filter((text) => {
                const box = text.getBoundingClientRect();
                return box.width && (box.left < edge.left - 1 || edge.right + 1 < box.right);
            }).map((text) => text.textContent);
        })";
        assert_eq!(json!([]), browser.value(words), "{what} at {width}");
    }
}

/// Nothing is asked for outside of this folder, and the console is silent.
fn expect_silence(browser: &Browser, folder: &Path) {
    let own = format!("file://{}/", folder.display());
    let others: Vec<&str> =
        browser.requested().into_iter().filter(|url| !url.starts_with(&own)).collect();
    let others: Vec<&str> = others.into_iter().filter(|url| !url.starts_with("data:")).collect();
    assert_eq!(Vec::<&str>::new(), others);
    assert_eq!(Vec::<&Value>::new(), browser.complaints());
}

/// Goal: the keys do on a page what they do in the player, and each step says what the player says
/// of it. Method: the page of a put, stepped through to its end, beside the player's text.
#[test]
fn a_page_is_read_by_keyboard_alone_and_says_what_the_player_says() {
    let Some(mut browser) = chromium("a page in a browser") else { return };
    let (dir, page) = exported(RECORDING, &[PUT]);
    browser.open(&page);
    let plain = glass(&["play", RECORDING, "--plain", "--view", "steps"]);
    let put = plain.split("\n\n").next().unwrap();
    let reasons: Vec<&str> =
        put.lines().filter_map(|line| line.trim().strip_prefix("WHY  ")).collect();
    let last = reasons.len();
    assert!(30 < last);
    for (at, reason) in reasons.iter().enumerate() {
        assert_eq!(format!("{}/{last}", at + 1), place(&mut browser));
        let said = browser.text("document.querySelector('.meaning').textContent");
        assert_eq!(*reason, said, "at step {}", at + 1);
        browser.press("ArrowRight");
    }
    keep(&mut browser, "end");
    for (key, expected) in [("Home", 1), ("ArrowLeft", 1), ("End", last), ("ArrowLeft", last - 1)] {
        browser.press(key);
        assert_eq!(format!("{expected}/{last}"), place(&mut browser), "{key}");
    }
    let mut titles = Vec::new();
    for _ in 0..5 {
        titles.push(title(&mut browser));
        browser.press("x");
    }
    assert_eq!(["CHANGED", "DURABLE NOW", "WHO KNOWS"], titles[..3]);
    assert_eq!("COST", titles[4]);
    assert_eq!("CHANGED", title(&mut browser));
    follow(&mut browser, last);
    let help = "document.querySelector('.help').hidden";
    assert_eq!(json!(true), browser.value(help));
    browser.press("?");
    assert_eq!(json!(false), browser.value(help));
    assert!(
        browser
            .text("document.querySelector('.help').textContent")
            .contains("other end of the message")
    );
    expect_silence(&browser, dir.path());
}

/// A message leads to its other end and back; a cause to what it caused.
fn follow(browser: &mut Browser, last: usize) {
    let at = |number: usize| format!("{number}/{last}");
    browser.press("Home");
    // The proposal to the leader.
    (0..2).for_each(|_| browser.press("ArrowRight"));
    for (key, expected) in [("m", 4), ("m", 3), ("e", 4), ("e", 5), ("c", 4), ("c", 3), ("c", 2)] {
        browser.press(key);
        assert_eq!(at(expected), place(browser), "{key}");
    }
    browser.press("p");
    let bright = "document.querySelectorAll('.glass.path .step.path').length";
    assert!(browser.value(bright).as_u64().is_some_and(|steps| 5 < steps));
    browser.press("p");
}

#[test]
fn a_page_fits_a_phone_and_a_screen_on_either_ground() {
    let Some(mut browser) = chromium("a page on a phone") else { return };
    let (dir, page) = exported("tests/recordings/picture.ndjson", &[]);
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.show_on("screen", scheme);
        browser.open(&page);
        browser.press("?");
        expect_no_overflow(&mut browser, scheme);
        for (width, height) in SIZES {
            browser.resize(width, height);
            (0..9).for_each(|_| browser.press("ArrowRight"));
            keep(&mut browser, &format!("page-{width}-{scheme}"));
        }
        let ground = "getComputedStyle(document.querySelector('.glass')).backgroundColor";
        grounds.push(browser.text(ground));
        expect_silence(&browser, dir.path());
    }
    assert_ne!(grounds[0], grounds[1], "dark and light");
}

/// Goal: the stories of a recording are one page, and each has an address.
#[test]
fn a_page_of_a_recording_shows_one_story_at_a_time() {
    let Some(mut browser) = chromium("a page of many stories") else { return };
    let (dir, page) = exported("tests/recordings/picture.ndjson", &[]);
    browser.open(&page);
    let shown = "[...document.querySelectorAll('figure:not([hidden])')].map((one) => one.id)";
    assert_eq!(json!(["story-1"]), browser.value(shown));
    browser.press("PageDown");
    // The address changes after the key.
    browser.value("new Promise((done) => setTimeout(done, 50))");
    let current = "document.querySelector('nav a[aria-current]').hash";
    assert_eq!("#story-2", browser.text("location.hash"));
    assert_eq!(json!(["story-2"]), browser.value(shown));
    assert_eq!("#story-2", browser.text(current));
    browser.press("ArrowRight");
    assert!(place(&mut browser).starts_with("2/"));
    expect_silence(&browser, dir.path());
}

/// Goal: an address of a step opens the page at it.
#[test]
fn a_page_opens_at_the_step_that_was_asked_for() {
    let Some(mut browser) = chromium("the address of a step") else { return };
    let plain = glass(&["play", RECORDING, "--plain", "--view", "steps"]);
    let address = plain.lines().filter_map(|line| line.trim().strip_prefix('@')).nth(4).unwrap();
    let step = format!("{RECORDING}@{address}");
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("step.html");
    glass(&["trace", "export", "--html", &page.display().to_string(), &step]);
    browser.open(&page);
    assert!(place(&mut browser).starts_with("5/"), "{address}");
    let said = browser.text("document.querySelector('.address').textContent");
    assert_eq!(format!("@{address}"), said.trim());
}

/// Goal: on paper, and without scripts, every step is there.
#[test]
fn paper_and_a_page_without_scripts_have_every_step() {
    let Some(mut browser) = chromium("paper") else { return };
    let (_dir, page) = exported(RECORDING, &[PUT]);
    browser.resize(1280, 900);
    let steps = glass(&["play", RECORDING, "--plain", "--view", "steps"]);
    let steps = steps.split("\n\n").next().unwrap().matches("WHY  ").count();
    let seen = "[...document.querySelectorAll('.step')].filter((step) => {
        const [box, edge] = [step, step.closest('.rows')].map((one) => one.getBoundingClientRect());
        const style = getComputedStyle(step);
        return style.opacity === '1' && edge.top <= box.top && box.bottom <= edge.bottom + 1;
    }).length";
    browser.open(&page);
    assert!(browser.value(seen).as_u64().is_some_and(|seen| seen < 5), "the future is dim");
    browser.show_on("print", "dark");
    assert_eq!(json!(steps), browser.value(seen), "on paper");
    let bar = "getComputedStyle(document.querySelector('.bar')).display";
    assert_eq!("none", browser.text(bar));
    // The heads on a screen are those of one step.
    let heads = "[...document.querySelectorAll('.head')].map((one) => one.innerText).join()";
    assert_eq!("etcd-01,etcd-02,etcd-03", browser.text(heads));
    keep(&mut browser, "paper");
    browser.show_on("screen", "light");
    browser.run_scripts(false);
    browser.open(&page);
    assert_eq!(json!(steps), browser.value(seen), "without scripts");
    assert_eq!(json!(0), browser.value("document.querySelectorAll('.bar').length"));
    let text = "document.querySelector('.glass pre').textContent.trim().split('\\n').length";
    assert!(browser.value(text).as_u64().is_some_and(|lines| steps as u64 <= lines));
    browser.resize(390, 844);
    keep(&mut browser, "without-scripts");
    expect_no_overflow(&mut browser, "without scripts");
}

/// Goal: in a chapter the arrow keys turn mdBook's pages, and those of a figure that has the focus
/// step.
#[test]
fn in_a_chapter_a_figure_has_the_keys_only_while_it_has_the_focus() {
    let Some(mut browser) = chromium("a chapter in a browser") else { return };
    let site = built();
    let chapter = site.path().join("five-minutes.html");
    browser.open(&chapter);
    expect_no_overflow(&mut browser, "the chapter");
    browser.value("document.getElementById('figure-put').focus()");
    (0..12).for_each(|_| browser.press("ArrowRight"));
    assert!(place(&mut browser).starts_with("13/"), "{}", place(&mut browser));
    let said = browser.text("document.querySelector('#figure-put .sources').textContent");
    let (_, number) = said.split_once("book ").unwrap_or_else(|| panic!("{said}"));
    let number = number.split_whitespace().next().unwrap();
    let chapter = contents::chapters().into_iter().find(|one| one.number == number).unwrap();
    let link = browser.text("document.querySelector('#figure-put .sources a')?.href ?? ''");
    let page = format!("/{}", chapter.file.replace(".md", ".html"));
    assert!(if chapter.is_written { link.ends_with(&page) } else { link.is_empty() }, "{link}");
    the_ground_is_that_of_the_theme(&mut browser);
    assert!(browser.text("location.href").ends_with("five-minutes.html"));
    expect_silence(&browser, site.path());
    browser.value("document.getElementById('figure-put').blur()");
    browser.press("ArrowRight");
    for _ in 0..100 {
        if !browser.text("location.href").contains("five-minutes") {
            return;
        }
    }
    panic!("the page was not turned");
}

/// Goal: the heads of all lanes have the same lines, at every width: name, role and watermarks
/// below one another, or the name beside the role, or all in one line.
#[test]
fn the_heads_of_the_lanes_break_between_their_parts_and_nowhere_else() {
    let Some(mut browser) = chromium("heads of lanes") else { return };
    let (_dir, page) = exported(RECORDING, &[PUT]);
    browser.open(&page);
    let broken = "[...document.querySelectorAll('.heads :is(b, i, small)')]
        .filter((part) => 1 < part.getClientRects().length || 20 < part.clientHeight)
        .map((part) => part.textContent)";
    let tops = "[...document.querySelectorAll('.head')].map((head) => [...head.children]
        .map((part) => Math.round(part.getBoundingClientRect().bottom)).join()).filter(
        (line, at, all) => line !== all[0])";
    for width in [390, 430, 540, 640, 700, 780, 860, 900, 1280] {
        browser.resize(width, 900);
        assert_eq!(json!([]), browser.value(broken), "at {width}");
        assert_eq!(json!([]), browser.value(tops), "at {width}");
    }
}

/// Goal: the words of a step that a phone has no room for are there on a screen.
#[test]
fn a_screen_has_the_words_that_are_cut_on_a_phone() {
    let Some(mut browser) = chromium("words of a step") else { return };
    let site = built();
    browser.open(&site.path().join("elections.html"));
    let words = "[...document.querySelectorAll('#figure-elected .step text')]
        .map((text) => text.checkVisibility() ? [...text.childNodes].filter(
            (part) => !part.tagName || part.checkVisibility()).map(
            (part) => part.textContent).join('') : '')
        .filter((words) => words.startsWith('election.vote')).join()";
    let whole = "election.vote yes for etcd-03,election.vote yes for etcd-03";
    browser.resize(1280, 900);
    assert_eq!(whole, browser.text(words));
    browser.resize(390, 844);
    assert_eq!(whole.replace("etcd-03", "et…"), browser.text(words));
}

/// Goal: the search finds the page that explains a stage, without a network.
#[test]
fn the_search_of_the_book_finds_what_explains_a_stage() {
    let Some(mut browser) = chromium("the search") else { return };
    let site = built();
    browser.open(&site.path().join("five-minutes.html"));
    let found = "(async () => {
        document.getElementById('mdbook-search-toggle').click();
        const bar = document.getElementById('mdbook-searchbar');
        for (let wait = 0; wait < 400; wait += 1) {
            bar.value = 'raft.park';
            bar.dispatchEvent(new Event('input', { bubbles: true }));
            bar.dispatchEvent(new KeyboardEvent('keyup', { bubbles: true }));
            await new Promise((done) => setTimeout(done, 50));
            const links = [...document.querySelectorAll('#mdbook-searchresults a')];
            if (links.length) return links.map((link) => link.getAttribute('href')).join();
        }
        return '';
    })()";
    let links = browser.text(found);
    assert!(links.contains("elections.html"), "{links}");
    expect_silence(&browser, site.path());
}

/// Goal: a printed chapter has the answers to its questions, and whole tables.
#[test]
fn a_chapter_on_paper_has_its_answers() {
    let Some(mut browser) = chromium("a chapter on paper") else { return };
    let site = built();
    browser.resize(794, 1123);
    browser.show_on("print", "light");
    browser.open(&site.path().join("one-put.html"));
    let folded = "[...document.querySelectorAll('details:not(.glass details)')].filter(
        (one) => one.clientHeight < 60).length";
    assert_eq!(json!(0), browser.value(folded));
    let cut = "[...document.querySelectorAll('.table-wrapper')].filter(
        (one) => one.clientWidth + 1 < one.scrollWidth).length";
    assert_eq!(json!(0), browser.value(cut));
    let figures = "[...document.querySelectorAll('.glass details')].filter(
        (one) => 60 < one.clientHeight).length";
    assert_eq!(json!(0), browser.value(figures), "a figure's text would be there twice");
    browser.show_on("screen", "light");
    assert_ne!(json!(0), browser.value(folded), "folded on a screen");
}

/// mdBook names its theme at the root of the page.
fn the_ground_is_that_of_the_theme(browser: &mut Browser) {
    let close = "document.querySelectorAll('.glass details').forEach((one) => one.open = false)";
    browser.value(close);
    browser.value("document.getElementById('figure-put').scrollIntoView()");
    let ground = "getComputedStyle(document.getElementById('figure-put')).backgroundColor";
    for (theme, expected) in [
        ("light", "rgb(255, 255, 255)"),
        ("navy", "rgb(13, 17, 23)"),
        ("rust", "rgb(255, 255, 255)"),
    ] {
        browser.value(&format!("document.documentElement.className = '{theme} js'"));
        assert_eq!(expected, browser.text(ground), "{theme}");
        keep(browser, &format!("chapter-{theme}"));
    }
}

/// Goal: nothing that a client or a member sends becomes an element or a script.
#[test]
fn a_key_or_a_name_that_means_harm_does_nothing_in_a_browser() {
    let Some(mut browser) = chromium("hostile names") else { return };
    let text = fs::read_to_string(RECORDING).unwrap();
    let key = json!("</script><script>alert(1)</script><img src=x onerror=alert(2)>").to_string();
    let name = json!("<img src=y onerror=alert(3)></svg>\u{202e}").to_string();
    let text = text.replace("\"text\":\"foo\"", &format!("\"text\":{key}"));
    let text = text.replace("\"etcd-02\"", &name);
    let dir = tempfile::tempdir().unwrap();
    let recording = dir.path().join("<i>.ndjson");
    fs::write(&recording, text).unwrap();
    let (page_dir, page) = exported(&recording.display().to_string(), &[]);
    browser.open(&page);
    (0..3).for_each(|_| browser.press("ArrowRight"));
    assert_eq!(json!(0), browser.value("document.querySelectorAll('img, i:not(.head i)').length"));
    assert!(browser.text("document.body.textContent").contains("<img src=x onerror=alert(2)>"));
    expect_silence(&browser, page_dir.path());
}
