//! Why nothing was shown: a typing error shows nothing, and in silence.

use anyhow::Result;
use esker::dump::{Item, key_text, rfc3339};

use crate::commands::cursor::quoted;
use crate::filter::{Entity, Filter};
use crate::near::Near;
use crate::output;
use crate::store::Opened;

/// So many entries are looked at for an entity that is called like the one that was meant.
const LOOKED_AT_MAX: usize = 100_000;

impl Opened {
    /// Says so where the store has no kind or no source that a filter names; of one that `waits`, that it may come.
    pub(crate) fn note_unknown(&self, filter: &Filter<'_>, waits: bool) {
        let waiting = if waits { "; not yet there, and waited for" } else { "" };
        filter.kinds().for_each(|kind| self.note_unknown_kind(kind, waiting));
        self.note_unknown_source(filter, waiting);
    }

    /// Says why nothing passed a filter. What it calls by the name of a kind is `asked` for by another one, or by that.
    pub(crate) fn note_nothing(&self, filter: &Filter<'_>, asked: Option<&str>) -> Result<()> {
        let is_told = filter.kinds().any(|kind| self.has_no_kind(kind)) || filter.unknown_source().is_some();
        if is_told || !filter.is_any() {
            return Ok(());
        }
        if let Some(entity) = filter.entity() {
            let name = asked.map_or_else(|| entity.clone(), |asked| entity.of_kind(asked));
            output::note(&match self.is_there(entity)? {
                true => format!("{name} is there, and nothing about it passes the other filters"),
                false => format!("no entity {name}; {}", self.near(entity, asked)?),
            });
            return Ok(());
        }
        let newest = match self.reader.view()?.last_seq()? {
            Some(seq) => match self.reader.view()?.get(seq) {
                Ok(Some(entry)) => format!("the newest is seq {seq}, {}", rfc3339(entry.time())),
                _ => format!("the newest is seq {seq}"),
            },
            None => "the store has none".to_owned(),
        };
        output::note(&format!("no entry passes the filters; {newest}"));
        Ok(())
    }

    fn is_there(&self, entity: &Entity) -> Result<bool> {
        if let Some((kind, key)) = entity.exact(&self.reader) {
            // One that cannot be read is there.
            return Ok(!matches!(self.reader.view()?.latest(kind, &key), Ok(None)));
        }
        let mut is_there = false;
        self.over_entities(|kind, key| is_there |= entity.matches(kind, key))?;
        Ok(is_there)
    }

    /// What is called like an entity, or where to see all that there is.
    pub(crate) fn near(&self, entity: &Entity, asked: Option<&str>) -> Result<String> {
        let mut near = Near::to(entity.key_pattern());
        let mut kind_of = String::new();
        self.over_entities(|kind, key| {
            if entity.kind().matches(kind) {
                near.look(&key_text(key));
                kind_of = asked.unwrap_or(kind).to_owned();
            }
        })?;
        let found: Vec<String> = near.found().map(|key| format!("{kind_of}/{key}")).collect();
        if !found.is_empty() {
            return Ok(format!("near it: {}", found.join(", ")));
        }
        let path = quoted(&self.reader.path().display().to_string());
        let kind = quoted(entity.kind().text());
        Ok(format!("none is called like it; `esker entities {path} --kind {kind}` shows all"))
    }

    /// Shows the first entries of the log, each by its kind and key; what is damaged is told by who shows it.
    fn over_entities(&self, mut see: impl FnMut(&str, &[u8])) -> Result<()> {
        for item in self.survey.frames().take(LOOKED_AT_MAX) {
            if let Item::Frame(frame) = item?
                && let Some(kind) = frame.kind
            {
                see(&self.dump.kind_name(kind), &frame.key);
            }
        }
        Ok(())
    }
}
