//! `upgrade`: a store of an older format becomes one of this one.

use anyhow::Result;
use esker::Upgrade;
use serde_json::json;

use crate::args;
use crate::outcome::Outcome;
use crate::output::Output;

pub(crate) fn upgrade(args: &args::Upgrade, output: &mut Output) -> Result<Outcome> {
    let (path, target) = (&args.store.path, &args.output);
    let upgraded = esker::upgrade(path, target)?;
    output.header("upgrade", &json!({ "path": path.display().to_string() }))?;
    if output.is_json() {
        output.typed("summary", &upgraded)?;
    } else {
        let said = match upgraded {
            Upgrade::Current { format } => {
                format!("format {format} is the present one: nothing to do, nothing made")
            }
            // A later library's.
            other => format!("{other:?}"),
        };
        output.pairs(&[("upgrade", said)])?;
    }
    // Whoever goes on with the new store has none.
    let is_made = !matches!(upgraded, Upgrade::Current { .. });
    Ok(if is_made { Outcome::Fine } else { Outcome::Missing })
}
