//! `verify`: what is wrong with a store.

use std::path::Path;

use anyhow::Result;
use esker::{Check, Severity, Verdict, Verification};
use serde_json::json;

use super::decode::{Decoded, decode};
use crate::args;
use crate::explain::Code;
use crate::outcome::Outcome;
use crate::output::{self, Output};
use crate::progress::busy_with;
use crate::store;
use crate::typed::on;

pub(crate) use crate::progress::busy;

pub(crate) fn verify(args: &args::Verify, output: &mut Output) -> Result<Outcome> {
    let path = &args.store.path;
    let check = if args.quick { Check::Quick } else { Check::Full };
    let mut verification = busy_with("verifying", None, |shown| esker::verify_while(path, check, shown))?;
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
    let unread = || Some(format!("make everything readable, then {}", on("verify", path)));
    match verification.verdict {
        Verdict::Valid => None,
        _ if any(Severity::Damage) => Some(format!("{} --output NEW", on("repair", path))),
        _ if any(Severity::Derived) => {
            Some("remove the derived files named above while nobody has the store open".to_owned())
        }
        _ if any(Severity::Unread) => unread(),
        _ if decoded.is_some_and(|decoded| decoded.undecodable > 0) => {
            Some("look at the application that wrote these kinds; nothing is damaged".to_owned())
        }
        _ => unread(),
    }
}
