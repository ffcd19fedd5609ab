//! The page around the pictures.

use std::fmt::Write;

use esker::{Severity, Verdict};

use super::model::Model;
use super::svg::{grouped, text};
use super::{checked, heat, lag, plane, rate, ruler, segments};
use crate::typed::{on, reset_of};

const STYLE: &str = include_str!("page.css");
/// Lines that say what to do next.
const NEXT_MAX: usize = 12;

/// A picture with its heading, what it shows, and its numbers.
pub(super) fn section(name: &str, heading: &str, note: &str, content: &str) -> String {
    let (heading, note) = (text(heading), text(note));
    format!(
        "<section aria-labelledby=\"heading-{name}\">\n<h2 id=\"heading-{name}\">{heading}</h2>\n\
         <p class=\"note\">{note}</p>\n{content}</section>\n"
    )
}

/// How much is wrong with the store: damage, and cursors, consumers and folds that are stuck; no notes.
pub(super) fn findings(model: &Model) -> u64 {
    let notes = model.count(Severity::Note);
    let stuck = model.cursors.iter().filter(|cursor| cursor.stuck.is_some()).count();
    let unread = usize::from(model.no_cursors.is_some());
    (model.verification.findings.len() - notes + stuck + unread) as u64 + model.plane.findings()
}

/// The whole page.
pub(super) fn page(model: &Model) -> String {
    let title = text(&format!("esker report: {}", model.path.display()));
    let mut out = String::new();
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"/>\n<meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <meta name=\"generator\" content=\"esker {}\"/>\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        env!("CARGO_PKG_VERSION"),
    );
    out.push_str(PATTERNS);
    out.push_str("<main>\n");
    out.push_str(&head(model));
    let pictures: [fn(&Model) -> String; 7] =
        [segments::draw, ruler::draw, heat::draw, lag::draw, plane::draw, rate::draw, checked::draw];
    for picture in pictures {
        out.push_str(&picture(model));
    }
    let _ = write!(
        out,
        "</main>\n<footer><p>Made by <code>esker report</code> {}. The same store gives the same page: ages are up to the \
         newest entry{}.</p></footer>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        model.newest.map_or_else(String::new, |newest| format!(", of {}", Model::when(newest))),
    );
    out
}

/// Patterns, so that nothing is said by colour alone.
const PATTERNS: &str = "<svg class=\"patterns\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>\n\
    <pattern id=\"hatch-damaged\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><rect class=\"ground-damaged\" width=\"6\" height=\"6\"/><rect class=\"ink\" \
    width=\"2\" height=\"6\"/></pattern>\n\
    <pattern id=\"hatch-superseded\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(-45)\"><rect class=\"ground-superseded\" width=\"5\" height=\"5\"/><rect class=\"ink\" \
    width=\"1\" height=\"5\"/></pattern>\n\
    <pattern id=\"dots-retracted\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\"><rect \
    class=\"ground-retracted\" width=\"6\" height=\"6\"/><rect class=\"ink\" x=\"2\" y=\"2\" width=\"2\" \
    height=\"2\"/></pattern>\n\
    <pattern id=\"bars-held\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><rect class=\"ground-held\" width=\"3\" height=\"6\"/></pattern>\n\
    </defs></svg>\n";

fn head(model: &Model) -> String {
    let mut out = String::new();
    let (class, words) = verdict(model);
    let path = model.path.display().to_string();
    let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(&path);
    let _ = write!(
        out,
        "<header data-store=\"{}\" data-entries=\"{}\" data-findings=\"{}\">\n<p class=\"kicker\">esker report</p>\n\
         <h1>{}</h1>\n<p class=\"verdict {class}\">{}</p>\n",
        text(&model.store),
        model.entries,
        findings(model),
        text(name),
        text(&words),
    );
    out.push_str("<dl>\n");
    for (name, value) in &model.head {
        let _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", text(name), text(value));
    }
    out.push_str("</dl>\n</header>\n");
    let steps = next(model);
    if !steps.is_empty() {
        out.push_str("<section class=\"next\" aria-labelledby=\"heading-next\">\n<h2 id=\"heading-next\">What next</h2>\n<ol>\n");
        for (what, command) in steps.iter().take(NEXT_MAX) {
            let _ = writeln!(out, "<li>{}<br/><code>{}</code></li>", text(what), text(command));
        }
        out.push_str("</ol>\n");
        if let Some(more @ 1..) = steps.len().checked_sub(NEXT_MAX) {
            let _ = writeln!(out, "<p class=\"more\">and {more} more, below each picture.</p>");
        }
        out.push_str("</section>\n");
    }
    out
}

fn verdict(model: &Model) -> (&'static str, String) {
    let damage = model.count(Severity::Damage);
    let stuck = model.cursors.iter().filter(|cursor| cursor.stuck.is_some()).count() as u64;
    match model.verification.verdict {
        Verdict::Invalid if damage > 0 => {
            let lost = match model.verification.lost {
                0 => String::new(),
                lost => format!(", {} lost", counted(lost, "entry", "entries")),
            };
            ("bad", format!("✕ Damaged in {}{lost}", counted(damage as u64, "place", "places")))
        }
        Verdict::Invalid => ("warn", "~ The log is whole; derived files are not".to_owned()),
        Verdict::Incomplete => ("warn", "? Not everything could be read".to_owned()),
        _ if model.has_findings() => {
            let what = [
                (stuck, "cursor is stuck", "cursors are stuck"),
                (model.plane.stuck, "consumer needs somebody", "consumers need somebody"),
                (model.plane.halted, "fold cannot go on", "folds cannot go on"),
            ];
            let what = what.into_iter().filter(|(count, ..)| *count > 0);
            let what: Vec<String> = what.map(|(count, one, many)| counted(count, one, many)).collect();
            let what =
                if what.is_empty() { "not all beside it can be read".to_owned() } else { what.join(", ") };
            ("warn", format!("! The log is whole; {what}"))
        }
        _ => ("fine", "✓ Everything that was looked at is as it was written".to_owned()),
    }
}

/// So many of something.
fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// What is wrong, and the command for it. Places of one kind are one step.
fn next(model: &Model) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for severity in [Severity::Damage, Severity::Derived, Severity::Unread] {
        let findings = model.verification.findings.iter().filter(|finding| finding.severity == severity);
        let all: Vec<String> = findings.map(ToString::to_string).collect();
        let Some(first) = all.first() else { continue };
        let more = if all.len() > 1 { format!(" (and {} more)", all.len() - 1) } else { String::new() };
        steps.push((format!("{first}{more}"), checked::next(severity, &model.path)));
    }
    for cursor in &model.cursors {
        // What stands before damage goes on once the store is repaired.
        let Some(why) = cursor.stuck.as_ref().filter(|_| cursor.is_to_be_reset) else { continue };
        let name = &cursor.info.name;
        let command = reset_of(&cursor.info, &model.path);
        steps.push((format!("cursor {name} is stuck: {why}"), command));
    }
    for consumer in &model.plane.consumers.first {
        steps.extend(consumer.stuck.iter().map(|stuck| (consumer.sentence(stuck), stuck.next.clone())));
    }
    if model.plane.halted > 0 {
        let what = counted(model.plane.halted, "fold cannot go on", "folds cannot go on");
        steps.push((what, format!("{} --halted", on("topics", &model.path))));
    }
    let freed = model.plan.bytes_before.saturating_sub(model.plan.bytes_after);
    if freed > 0 {
        let what = format!("about {} can be freed", super::svg::bytes(freed));
        steps.push((what, on("compact", &model.path)));
    }
    steps
}
