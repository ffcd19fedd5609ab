//! `verify` and `repair`: what is wrong with a store, and what can be saved of it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use esker::{Check, Damage, Reader, Repair, Seq, Severity, Verdict, Verification};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::cursor::quoted;
use super::decode::{Decoded, decode};
use crate::args;
use crate::explain::Code;
use crate::outcome::{Interrupt, Outcome};
use crate::output::{self, Output};
use crate::store::{self, describe};

pub(crate) fn verify(args: &args::Verify, output: &mut Output) -> Result<Outcome> {
    let path = &args.store.path;
    let check = if args.quick { Check::Quick } else { Check::Full };
    let mut verification = busy("verifying", || esker::verify(path, check))?;
    store::check_is_made(path, verification.live.as_ref())?;
    if let Some(holder) = &verification.live {
        output::note(&format!("live, writer pid {}", holder.pid));
    }
    let live = verification.live.as_ref().map(|holder| json!({ "pid": holder.pid }));
    let description = json!({
        "path": path.display().to_string(),
        "store": verification.store,
        "format": esker::dump::FORMAT_VERSION,
        "live": live,
        "check": if args.quick { "quick" } else { "full" },
    });
    output.header("verify", &description)?;
    for finding in &verification.findings {
        if output.is_json() {
            let mut named = store::named(finding, finding.segment)?;
            if let Some(fields) = named.as_object_mut() {
                fields.insert("code".to_owned(), Code::of(finding.severity, &finding.file).name().into());
            }
            output.typed("finding", &named)?;
        } else {
            let severity = match finding.severity {
                Severity::Damage => "damage",
                Severity::Derived => "derived",
                Severity::Unread => "unread",
                Severity::Note => "note",
                _ => "other",
            };
            output.tabs(&[severity.to_owned(), finding.to_string()])?;
        }
    }
    let decoded = if args.decode { decode(path, output)? } else { None };
    let bad = decoded.map_or(0, |decoded| decoded.undecodable);
    let incomplete = args.decode && decoded.is_none();
    verification.verdict = match verification.verdict {
        Verdict::Valid | Verdict::Incomplete if bad > 0 => Verdict::Invalid,
        Verdict::Valid if incomplete => Verdict::Incomplete,
        verdict => verdict,
    };
    conclude(&verification, decoded, check, path, output)?;
    Ok(match verification.verdict {
        Verdict::Valid => Outcome::Fine,
        _ => Outcome::Findings,
    })
}

/// What is counted over the frames, and so not by a quick look.
const COUNTS: [&str; 7] = ["frames", "batches", "entries", "entities", "kinds", "bytes", "first_seq"];

/// The verdict, the counts, and what to do next.
fn conclude(
    verification: &Verification,
    decoded: Option<Decoded>,
    check: Check,
    path: &Path,
    output: &mut Output,
) -> Result<()> {
    let next = next_step(verification, decoded, path);
    if output.is_json() {
        let mut summary = serde_json::to_value(verification)?;
        if let Some(fields) = summary.as_object_mut() {
            // They have lines of their own.
            fields.remove("findings");
            fields.insert("findings".to_owned(), verification.findings.len().into());
            fields.insert("live".to_owned(), verification.live.as_ref().map(store::holder).into());
            if let Some(Decoded { payloads, undecodable }) = decoded {
                fields.insert("decoded".to_owned(), payloads.into());
                fields.insert("undecodable".to_owned(), undecodable.into());
            }
            if check == Check::Quick {
                COUNTS.iter().for_each(|count| drop(fields.remove(*count)));
            }
            fields.insert("next".to_owned(), next.into());
        }
        output.typed("summary", &summary)?;
        return Ok(());
    }
    let Verification { segments, frames, entries, batches, bytes, entities, kinds, lost, .. } = verification;
    let mut pairs = vec![
        ("verdict", verification.verdict.to_string()),
        ("check", "quick: frames were not read".to_owned()),
        ("closed in order", if verification.clean { "yes" } else { "no" }.to_owned()),
        ("segments", segments.to_string()),
        ("frames", frames.to_string()),
        ("batches", batches.to_string()),
        ("entries", entries.to_string()),
        ("entities", entities.to_string()),
        ("kinds", kinds.to_string()),
        ("bytes", bytes.to_string()),
        ("lost", lost.to_string()),
    ];
    match check {
        Check::Quick => pairs.retain(|(name, _)| !COUNTS.contains(name)),
        _ => pairs.retain(|(name, _)| *name != "check"),
    }
    if let Some(Decoded { payloads, undecodable }) = decoded {
        pairs.push(("payloads", format!("{payloads}, of which {undecodable} do not decode")));
    }
    pairs.extend(next.map(|next| ("next", next)));
    if verification.verdict != Verdict::Valid {
        let code = verification
            .findings
            .iter()
            .filter(|finding| finding.severity != Severity::Note)
            .map(|finding| Code::of(finding.severity, &finding.file))
            .next()
            .or(decoded.filter(|decoded| decoded.undecodable > 0).map(|_| Code::Undecodable))
            .unwrap_or(Code::Incomplete);
        pairs.push(("more", format!("{} explain {}", output::name(), code.name())));
    }
    output.pairs(&pairs)?;
    Ok(())
}

/// What to do about what was found.
fn next_step(verification: &Verification, decoded: Option<Decoded>, path: &Path) -> Option<String> {
    let any = |severity| verification.findings.iter().any(|finding| finding.severity == severity);
    let path = quoted(&path.display().to_string());
    match verification.verdict {
        Verdict::Valid => None,
        _ if any(Severity::Damage) => Some(format!("esker repair {path} --output NEW")),
        _ if any(Severity::Derived) => {
            Some("remove the derived files named above while nobody has the store open".to_owned())
        }
        _ if any(Severity::Unread) => Some(format!("make everything readable, then esker verify {path}")),
        _ if decoded.is_some_and(|decoded| decoded.undecodable > 0) => {
            Some("look at the application that wrote these kinds; nothing is damaged".to_owned())
        }
        _ => Some(format!("make everything readable, then esker verify {path}")),
    }
}

pub(crate) fn repair(args: &args::Repair, output: &mut Output, interrupt: &Interrupt) -> Result<Outcome> {
    let (path, target) = (&args.store.path, &args.output);
    let repaired = busy("repairing", || esker::repair_while(path, target, || !interrupt.is_set()));
    let repaired = interrupt.of(repaired)?;
    let description = json!({
        "path": path.display().to_string(),
        "output": target.display().to_string(),
        "store": repaired.store,
        "format": esker::dump::FORMAT_VERSION,
    });
    output.header("repair", &description)?;
    for damage in &repaired.damage {
        if output.is_json() {
            output.typed("finding", &store::named(damage, Some(damage.segment))?)?;
        } else {
            output.tabs(&["damage".to_owned(), describe(damage)])?;
        }
    }
    for (first, last) in &repaired.lost {
        if output.is_json() {
            output.typed("lost", &json!({ "first_seq": first, "last_seq": last }))?;
        } else {
            output.tabs(&["lost".to_owned(), format!("seq {}", store::seqs(*first, *last))])?;
        }
    }
    let noted = Noted::of(target, &repaired)?;
    let mut next = format!("esker verify {}", quoted(&target.display().to_string()));
    if noted.cursors > 0 {
        next += &format!("; {}", reset_all(target));
    }
    if output.is_json() {
        let mut summary = serde_json::to_value(&repaired)?;
        if let Some(fields) = summary.as_object_mut() {
            fields.insert("cursors".to_owned(), noted.cursors.into());
            fields.insert("end_is_gone".to_owned(), noted.end_is_gone.into());
            fields.insert("damage".to_owned(), repaired.damage.len().into());
            fields.insert("next".to_owned(), next.into());
        }
        output.typed("summary", &summary)?;
    } else {
        let rebuilt = if repaired.manifest_rebuilt { "made anew from the other files" } else { "kept" };
        output.pairs(&[
            ("output", target.display().to_string()),
            ("store", repaired.store.clone()),
            ("era", repaired.era.to_string()),
            ("manifest", rebuilt.to_owned()),
            ("entries kept", repaired.entries.to_string()),
            ("batches kept", repaired.batches.to_string()),
            ("bytes kept", repaired.bytes.to_string()),
            ("kinds kept", repaired.kinds.to_string()),
            ("cursors kept", noted.text()),
            ("segments", repaired.segments.to_string()),
            ("entries lost", repaired.entries_lost.to_string()),
            ("batches refused", repaired.refused.to_string()),
            ("torn bytes cut", repaired.cut.to_string()),
            ("next", next),
        ])?;
    }
    // The new store is good; what is gone for good is a finding.
    let gone = repaired.entries_lost + repaired.refused + repaired.damage.len() as u64;
    Ok(Outcome::of_findings(gone))
}

/// What is in the repaired store of what stands at the end of a log.
struct Noted {
    cursors: u64,
    /// Nothing good stands behind the last damage: what was noted there last is not known.
    end_is_gone: bool,
}

impl Noted {
    fn of(target: &Path, repaired: &Repair) -> Result<Self> {
        let reader = Reader::open(target)?;
        let last = reader.view()?.last_seq()?.map_or(0, Seq::get);
        let is_behind = |damage: &Damage| damage.next_good.is_none() && damage.first_seq > last;
        let end_is_gone = repaired.manifest_rebuilt || repaired.damage.last().is_some_and(is_behind);
        Ok(Self { cursors: reader.cursors()?.len() as u64, end_is_gone })
    }

    fn text(&self) -> String {
        let lost = match self.end_is_gone {
            true => {
                "; the end of the log, where cursors and what compaction keeps of kinds are noted, is gone: compare both \
                 with what they should be"
            }
            false => "",
        };
        format!("{}{lost}", self.cursors)
    }
}

/// What makes cursors of another era count again.
pub(crate) fn reset_all(store: &Path) -> String {
    let (name, store) = (output::name(), quoted(&store.display().to_string()));
    format!("{name} cursor reset {store} NAME --to +0 --execute, for each of `{name} cursors {store}`")
}

/// Shows that something goes on, if it takes longer than half a second and somebody watches.
pub(crate) fn busy<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    const PATIENCE: Duration = Duration::from_millis(500);
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let watcher = std::thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            return;
        }
        // Hidden by itself where stderr is no terminal.
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        let _ = waiting.recv();
        bar.finish_and_clear();
    });
    let result = work();
    drop(done);
    let _ = watcher.join();
    result
}
