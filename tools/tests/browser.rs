//! The page of `esker report` in a browser: in both colour schemes and as wide as a telephone, nothing hangs over, every picture is
//! there and has a size, and the console is silent.
//!
//! Where there is no Chromium it says that it was skipped; with `ESKER_BROWSER=required` it fails. `ESKER_SCREENSHOTS` names a
//! directory for pictures of each page, to be looked at.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "browser/chromium.rs"]
mod chromium;
#[path = "../examples/harbour.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod harbour;
#[path = "../examples/quay.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod quay;
#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::path::{Path, PathBuf};

use chromium::{Browser, View};
use serde_json::Value;
use support::{Sample, flip, run};

const PICTURES: [&str; 7] = ["segments", "ruler", "heat", "lag", "plane", "rate", "verify"];

const VIEWS: [View; 4] = [
    View { name: "light", width: 1280, height: 900, is_dark: false },
    View { name: "dark", width: 1280, height: 900, is_dark: true },
    View { name: "phone-light", width: 390, height: 844, is_dark: false },
    View { name: "phone-dark", width: 390, height: 844, is_dark: true },
];

/// What a page says of itself: how wide it is, what hangs over, where the pictures are, and its colours.
const LOOK: &str = r#"(() => {
    const width = document.documentElement.clientWidth;
    const scrolls = node => {
        for (let at = node.parentElement; at && at !== document.body; at = at.parentElement) {
            if (['auto', 'scroll'].includes(getComputedStyle(at).overflowX)) return at;
        }
        return null;
    };
    const over = [...document.body.querySelectorAll('*')].filter(node => {
        const box = node.getBoundingClientRect();
        const limit = scrolls(node) ? Infinity : width;
        return !node.closest('defs') && (box.right > limit + 1 || box.left < -1);
    }).map(node => `${node.tagName}.${node.getAttribute('class')} ${Math.round(node.getBoundingClientRect().right)}`);
    const cut = [...document.querySelectorAll('svg[data-picture] text')].filter(node => {
        const [box, frame] = [node.getBoundingClientRect(), node.closest('svg').getBoundingClientRect()];
        return box.right > frame.right + 1 || box.left < frame.left - 1 || box.bottom > frame.bottom + 1;
    }).map(node => node.textContent);
    const shape = node => { const box = node.getBoundingClientRect(); return [Math.round(box.width), Math.round(box.height)]; };
    const pictures = [...document.querySelectorAll('[data-picture]')]
        .map(node => [node.dataset.picture, ...shape(node)]);
    const body = getComputedStyle(document.body);
    return JSON.stringify({ width, wide: document.documentElement.scrollWidth, over, cut, pictures,
        ground: body.backgroundColor, ink: body.color, rows: document.querySelectorAll('table tr').length });
})()"#;

/// The stores that are drawn: one with everything of live state, one with topics, a damaged one, one with nothing in it.
fn stores(directory: &Path, damaged: &Sample) -> [(&'static str, PathBuf); 4] {
    let [state, plane, empty] = ["harbour", "quay", "empty"].map(|name| directory.join(name));
    harbour::make(&state).unwrap();
    quay::make(&plane).unwrap();
    esker::Journal::open(&empty).unwrap().close().unwrap();
    flip(&damaged.path(), 1, 1000);
    [("harbour", state), ("quay", plane), ("damaged", damaged.path()), ("empty", empty)]
}

/// How bright a colour is, from 0 to 765.
fn brightness(colour: &Value) -> u32 {
    let numbers = colour.as_str().unwrap().trim_start_matches("rgb(").trim_end_matches(')');
    numbers.split(", ").map(|number| number.parse::<u32>().unwrap()).sum()
}

/// What is wrong with a page in a view, in words.
fn faults(said: &Value, view: &View) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |is_so: bool, what: String| faults.extend((!is_so).then_some(what));
    let names: Vec<&str> =
        said["pictures"].as_array().unwrap().iter().map(|picture| picture[0].as_str().unwrap()).collect();
    check(names == PICTURES, format!("the pictures are {names:?}"));
    for picture in said["pictures"].as_array().unwrap() {
        let has_size = picture[1].as_u64() >= Some(200) && picture[2].as_u64() >= Some(20);
        check(has_size, format!("a picture of no size: {picture}"));
    }
    check(said["width"] == view.width, format!("it is {} wide", said["width"]));
    check(said["wide"].as_u64() <= said["width"].as_u64(), format!("it scrolls to {}", said["wide"]));
    check(said["over"] == serde_json::json!([]), format!("hangs over: {}", said["over"]));
    check(said["cut"] == serde_json::json!([]), format!("letters are cut off: {}", said["cut"]));
    check(said["rows"].as_u64() >= Some(7), format!("{} rows of tables", said["rows"]));
    let [ground, ink] = ["ground", "ink"].map(|name| brightness(&said[name]));
    check((ground < ink) == view.is_dark, format!("ground {ground} and ink {ink} of 765"));
    check(ground.abs_diff(ink) > 300, format!("ground {ground} and ink {ink} are hard to tell apart"));
    faults
}

#[test]
fn the_report_fits_a_screen_and_a_telephone_in_both_colour_schemes() {
    let Some(program) = chromium::program() else {
        assert!(!chromium::is_required(), "no Chromium to look with: install Debian's package `chromium`");
        eprintln!("SKIPPED: no page is looked at, as there is no Chromium (Debian's package `chromium`)");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let shots = std::env::var_os("ESKER_SCREENSHOTS").map(PathBuf::from);
    let mut browser = Browser::start(program, directory.path());
    let (damaged, mut wrong) = (Sample::new(), Vec::new());
    for (name, store) in stores(directory.path(), &damaged) {
        let page = directory.path().join(format!("{name}.html"));
        let made = run(&["report", store.to_str().unwrap(), "-o", page.to_str().unwrap()]);
        assert!(matches!(made.code, Some(0 | 1)), "{name}: {}", made.stderr);
        for view in &VIEWS {
            let said: Value = serde_json::from_str(&browser.look(&page, view, LOOK)).unwrap();
            wrong.extend(
                faults(&said, view).into_iter().map(|fault| format!("{name}, {}: {fault}", view.name)),
            );
            wrong.extend(
                browser.said().into_iter().map(|said| format!("{name}, {}: it says {said}", view.name)),
            );
            if let Some(shots) = &shots {
                std::fs::write(shots.join(format!("{name}-{}.png", view.name)), browser.picture()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A page of which everything is wrong is found to be wrong: what looks would find it.
#[test]
fn a_page_that_does_not_fit_is_found() {
    let Some(program) = chromium::program() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("wrong.html");
    let text = "<!DOCTYPE html><meta name=viewport content='width=device-width'><body style='background: #888; color: #777'><div \
                style='width: 700px'>wide</div><svg data-picture=segments width=10 height=10><text x=5 y=5>cut off\
                </text></svg><script>console.error('loud')</script>";
    std::fs::write(&page, text).unwrap();
    let mut browser = Browser::start(program, directory.path());
    let said: Value = serde_json::from_str(&browser.look(&page, &VIEWS[2], LOOK)).unwrap();
    let faults = faults(&said, &VIEWS[2]).join("\n");
    for wanted in
        ["the pictures are", "no size", "it scrolls to", "hangs over", "cut off", "hard to tell apart"]
    {
        assert!(faults.contains(wanted), "{wanted} is not in:\n{faults}");
    }
    let console = browser.said();
    assert!(console.iter().any(|said| said.contains("loud")), "{console:?}");
}
