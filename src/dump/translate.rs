//! Codecs that only an application knows.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::dump::value::DecodeError;

type Translate = dyn Fn(&[u8]) -> Result<String, String> + Send + Sync;

/// What makes text of the payloads of kinds whose codec is the application's own, by the kinds' names.
///
/// ```
/// use esker::dump::{Dump, Translators};
/// let cents = |payload: &[u8]| {
///     let bytes = payload.try_into().map_err(|_| format!("{} bytes, where 8 are an amount", payload.len()))?;
///     Ok::<_, String>(format!("{} cents", u64::from_le_bytes(bytes)))
/// };
/// let dump = Dump::default().translators(Translators::new().with("amount", cents));
/// # drop(dump);
/// ```
#[derive(Clone, Default)]
pub struct Translators {
    by_kind: HashMap<String, Arc<Translate>>,
}

impl Translators {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These and one more. It is asked for every payload of the kind that is shown; what it refuses is shown as
    /// undecodable, with its reason.
    #[must_use]
    pub fn with<E: fmt::Display>(
        mut self,
        kind: impl Into<String>,
        translate: impl Fn(&[u8]) -> Result<String, E> + Send + Sync + 'static,
    ) -> Self {
        let translate = move |payload: &[u8]| translate(payload).map_err(|error| error.to_string());
        self.by_kind.insert(kind.into(), Arc::new(translate));
        self
    }

    /// The names of the kinds that there is one for, in no order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.by_kind.keys().map(String::as_str)
    }

    /// True for a kind that there is one for.
    pub(crate) fn knows(&self, kind: &str) -> bool {
        self.by_kind.contains_key(kind)
    }

    /// The text of a payload, or why there is none; `None` for a kind without a translator.
    pub(crate) fn text(&self, kind: &str, payload: &[u8]) -> Option<Result<String, DecodeError>> {
        let translate = self.by_kind.get(kind)?;
        Some(translate(payload).map_err(DecodeError::new))
    }
}

impl fmt::Debug for Translators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_kind.keys()).finish()
    }
}
