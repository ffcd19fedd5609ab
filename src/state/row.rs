//! A row: from a value to its bytes and back, and what of it has changed.
//!
//! The bytes of a row are those that its type writes: a MessagePack map from the names of fields to their
//! values, with every map inside in order. So the tool decodes a row without the application, and two rows
//! say the same where their fields have the same bytes.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::format::row::{RowMark, RowOperation};
use crate::journal::entry::Entry;
use crate::state::kind::{Kind, RowFields, Upcaster};
use crate::state::pack;
use crate::state::schema::Bound;

/// All fields: of an entity that is new, gone, or brought from another version.
pub(crate) const ALL_FIELDS: u64 = u64::MAX;

/// Room for what a patched row usually is: more is found where it is not enough.
const FIELDS_EXPECTED: usize = 16;
const BYTES_EXPECTED: usize = 64;

/// Encodes the row of an entity behind what `row` holds, which is nothing. What is no row of the kind is refused.
pub(crate) fn encode<T: Serialize>(bound: &Bound, key: &[u8], value: &T, row: &mut Vec<u8>) -> Result<()> {
    rmp_serde::encode::write_named(row, value).map_err(|cause| {
        Error::new(ErrorKind::Codec, format!("encode the row {}", entity_text(&bound.name, key)))
            .because(cause)
    })?;
    if bound.check_row(key, row)? {
        pack::canonical(row);
    }
    Ok(())
}

/// Decodes the row of an entity.
pub(crate) fn decode<T: DeserializeOwned>(kind: &str, key: &[u8], row: &[u8]) -> Result<T> {
    rmp_serde::from_slice(row).map_err(|cause| {
        Error::new(ErrorKind::Codec, format!("decode the row {}", entity_text(kind, key))).because(cause)
    })
}

/// What a row frame says, if an entry is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) operation: RowOperation,
    pub(crate) mark: RowMark,
    /// The entity's version from here on.
    pub(crate) version: u64,
}

impl Said {
    /// # Errors
    ///
    /// `Corrupt` if the entry is no row frame: only the state layer writes such a kind.
    pub(crate) fn of(entry: &Entry<'_>) -> Result<Self> {
        let frame = entry.frame();
        let operation = RowOperation::of(frame.header.operation);
        let (Some(operation), Some(mark)) = (operation, RowMark::read(frame.extensions())) else {
            return Err(Error::corrupt(format!("read a row of kind {}", entry.kind()))
                .concerning(entry.seq().get())
                .sides("a row frame", format!("operation {}", frame.header.operation)));
        };
        let version = mark.version.unwrap_or_else(|| entry.generation().get());
        Ok(Self { operation, mark, version })
    }

    /// Which fields differ, as bits of the fields of a version: those of another one say nothing.
    pub(crate) fn changed(&self, version: u16) -> u64 {
        if self.mark.schema == version { self.mark.changed } else { ALL_FIELDS }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.operation != RowOperation::Deleted
    }
}

/// The row of an entry as the current version of its kind has it. Every reader of rows comes by here, so that
/// none can forget to. What a newer version has made of the row nobody here knows.
pub(crate) fn current<'e>(
    kind: &str,
    version: u16,
    steps: &[(u16, Upcaster)],
    entry: &Entry<'e>,
    schema: u16,
) -> Result<Cow<'e, [u8]>> {
    if schema > version {
        let doing = format!("read the row {}", entity_text(kind, entry.key()));
        return Err(Error::new(ErrorKind::Schema, doing)
            .concerning(entry.seq().get())
            .sides(format!("at most version {version} of the schema"), format!("version {schema}"))
            .noting(format!("read it with a program that knows version {schema}")));
    }
    let is_older = |step: &&(u16, Upcaster)| step.0 >= schema && step.0 < version;
    if steps.iter().filter(is_older).count() == 0 {
        return Ok(Cow::Borrowed(entry.payload()));
    }
    let failed = |step: u16| {
        let entity = entity_text(kind, entry.key());
        Error::new(ErrorKind::Codec, format!("bring the row {entity} from version {step} to the next"))
            .concerning(entry.seq().get())
    };
    let Some(mut fields) = RowFields::read(entry.payload()) else {
        return Err(failed(schema).sides("a row", format!("{} bytes", entry.payload().len())));
    };
    for at in schema..version {
        if let Some((_, step)) = steps.iter().find(|(from, _)| *from == at) {
            // What it has done until then is thrown away with the fields.
            let stepped = catch_unwind(AssertUnwindSafe(|| step(&mut fields)));
            stepped
                .unwrap_or_else(|_| Err("the step panicked".into()))
                .map_err(|cause| failed(at).because(cause))?;
        }
    }
    Ok(Cow::Owned(fields.write()))
}

/// Which version a row is of that was brought by all steps to a version.
pub(crate) fn brought_to(steps: &[(u16, Upcaster)], version: u16) -> Option<u16> {
    steps.iter().map(|(from, _)| from + 1).filter(|reached| *reached <= version).max()
}

/// The value of a row frame.
pub(crate) fn value<T: DeserializeOwned>(kind: Kind<T>, entry: &Entry<'_>, schema: u16) -> Result<T> {
    let row = current(kind.name(), kind.schema_version(), kind.steps(), entry, schema)?;
    decode(kind.name(), entry.key(), &row).map_err(|error| error.concerning(entry.seq().get()))
}

/// Which fields differ, one bit a field in the order of `names`; of a field that is not among them, all bits.
pub(crate) fn changed(before: &[u8], now: &[u8], names: &[String]) -> u64 {
    if before == now {
        return 0;
    }
    let (Some(before), Some(now)) = (pack::Fields::of(before), pack::Fields::of(now)) else {
        return ALL_FIELDS;
    };
    let bit = |name: &[u8]| match names.iter().position(|known| known.as_bytes() == name) {
        Some(at) if at < 64 => 1u64 << at,
        _ => ALL_FIELDS,
    };
    let (mut differing, mut met) = (0, 0);
    let (mut aligned, mut rest) = (before.clone(), now.clone());
    while let Some(((name, value), encoded)) = rest.next_encoded() {
        // Rows of one type have their fields in one order, and most fields are as they were.
        if aligned.skip_if(encoded) {
            met += 1;
            continue;
        }
        let there = match aligned.next() {
            Some((other, value)) if other == name => Some(value),
            _ => before.clone().find(|(other, _)| *other == name).map(|(_, value)| value),
        };
        met += u64::from(there.is_some());
        if there != Some(value) {
            differing |= bit(name);
        }
    }
    if met < before.left() {
        for (name, _) in before {
            if now.clone().all(|(other, _)| other != name) {
                differing |= bit(name);
            }
        }
    }
    differing
}

/// True if any field differs, for whoever need not know which.
pub(crate) fn differ(before: &[u8], now: &[u8], names: &[String]) -> bool {
    let fields = pack::Fields::of(before).zip(pack::Fields::of(now));
    let first = fields.and_then(|(before, now)| before.zip(now).find(|(before, now)| before != now));
    // Most often two values of one field; else the fields stand in another order, or there are others.
    first.is_some_and(|((before, _), (now, _))| before == now) || changed(before, now, names) != 0
}

/// Lays the fields of a patch over a row, and gives the bytes that the row's type writes of that.
pub(crate) fn patched<T: Serialize + DeserializeOwned>(
    bound: &Bound,
    key: &[u8],
    row: Option<&[u8]>,
    patch: &RowFields,
) -> Result<Vec<u8>> {
    let doing = || format!("patch the row {}", entity_text(&bound.name, key));
    let no_row = || {
        let found = format!("{} bytes", row.map_or(0, <[u8]>::len));
        Error::corrupt(doing()).sides("a row", found)
    };
    let laid = overlaid(row, patch).ok_or_else(no_row)?;
    let decoded = rmp_serde::from_slice(&laid).or_else(|cause| match row {
        // Under the names that its type writes today it may be one: it has a field under the alias of one that is patched.
        Some(row) => as_written_today::<T>(bound, key, row)
            .and_then(|row| rmp_serde::from_slice(&overlaid(Some(&row), patch)?).ok())
            .ok_or(cause),
        None => Err(cause),
    });
    let value: T = decoded.map_err(|cause| {
        let error = Error::new(ErrorKind::TypeMismatch, doing());
        match (unfit::<T>(row, patch), row) {
            (Some(field), _) => {
                error.sides(format!("a value that the field {field:?} takes"), "another type")
            }
            (None, None) => error.sides("a row, or a value for each field without a default", "neither"),
            (None, Some(_)) => error,
        }
        .because(cause)
    })?;
    let mut bytes = Vec::with_capacity(laid.len());
    encode(bound, key, &value, &mut bytes)?;
    if let Some(alias) = alias_in::<T>(&bytes, patch) {
        return Err(Error::new(ErrorKind::TypeMismatch, doing())
            .sides("fields under the names that the type writes", format!("{alias:?}, an alias of one"))
            .noting("name the field as the type writes it".to_owned()));
    }
    Ok(bytes)
}

/// Refuses a value whose bytes are others each time that it is encoded, as those of a `HashSet`: said again it would be
/// another row. It is decoded and encoded twice for that, so only a build with assertions looks, at each so manieth row of a kind.
pub(crate) fn check_is_steady<T: Serialize + DeserializeOwned>(
    bound: &Bound,
    key: &[u8],
    row: &[u8],
) -> Result<()> {
    const EVERY: u32 = 64;
    if !cfg!(debug_assertions) || !bound.encoded.fetch_add(1, Relaxed).is_multiple_of(EVERY) {
        return Ok(());
    }
    // What its type does not read, or reads as something else, is a matter of who reads it.
    let again = || catch_unwind(AssertUnwindSafe(|| as_written_today::<T>(bound, key, row))).ok().flatten();
    let (Some(once), Some(twice)) = (again(), again()) else { return Ok(()) };
    let Some(field) = bound.names_of(changed(&once, &twice, &bound.fields)).next() else { return Ok(()) };
    Err(Error::new(ErrorKind::Schema, format!("write the row {}", entity_text(&bound.name, key)))
        .sides(
            "fields that are encoded the same each time",
            format!("{field:?}, which comes in another order"),
        )
        .noting("take a `BTreeSet` for a `HashSet`, or else a type that has an order".to_owned()))
}

/// The bytes that a row's type writes of it.
fn as_written_today<T: Serialize + DeserializeOwned>(
    bound: &Bound,
    key: &[u8],
    row: &[u8],
) -> Option<Vec<u8>> {
    let value: T = rmp_serde::from_slice(row).ok()?;
    let mut bytes = Vec::with_capacity(row.len());
    encode(bound, key, &value, &mut bytes).ok()?;
    Some(bytes)
}

/// A name of a patch under which the type reads a field and writes none: beside the field's own it is one too many. A field
/// that is left out of the row is none of these.
fn alias_in<'p, T: DeserializeOwned>(row: &[u8], patch: &'p RowFields) -> Option<&'p str> {
    let written = pack::Fields::of(row)?;
    let mut unwritten =
        patch.encoded().filter(|(name, _)| written.clone().all(|(own, _)| own != name.as_bytes()));
    let is_alias = |(name, value): &(&str, &[u8])| {
        let mut fields = RowFields::read(row)?;
        fields.set_encoded(name, value.to_vec());
        Some(rmp_serde::from_slice::<T>(&fields.write()).is_err())
    };
    unwritten.find(|one| is_alias(one) == Some(true)).map(|(name, _)| name)
}

/// A row with the fields of a patch in the place of its own, or behind them. `None`: it is not one.
fn overlaid(row: Option<&[u8]>, patch: &RowFields) -> Option<Vec<u8>> {
    let mut fields: Vec<(&[u8], &[u8])> = Vec::with_capacity(FIELDS_EXPECTED);
    if let Some(row) = row {
        let mut own = pack::Fields::of(row)?;
        fields.extend(own.by_ref());
        if !own.is_whole() || fields.iter().any(|(name, _)| std::str::from_utf8(name).is_err()) {
            return None;
        }
    }
    for (name, value) in patch.encoded() {
        match fields.iter_mut().find(|(own, _)| *own == name.as_bytes()) {
            Some((_, own)) => *own = value,
            None => fields.push((name.as_bytes(), value)),
        }
    }
    let mut overlaid = Vec::with_capacity(row.map_or(0, <[u8]>::len) + BYTES_EXPECTED);
    pack::write_row(&fields, &mut overlaid);
    Some(overlaid)
}

/// The field of a patch that a row does not take, where one by itself tells it.
fn unfit<T: DeserializeOwned>(row: Option<&[u8]>, patch: &RowFields) -> Option<String> {
    let Some(row) = row else {
        // Where there is none a value is taken by itself, or nothing is.
        return misfit_alone::<T>(patch);
    };
    let row = RowFields::read(row)?;
    let one = patch.encoded().find(|(name, value)| {
        let mut fields = row.clone();
        fields.set_encoded(name, value.to_vec());
        rmp_serde::from_slice::<T>(&fields.write()).is_err()
    });
    one.map(|(name, _)| name.to_owned())
}

/// The field of a patch whose value is refused where all others have what serde makes of nothing: one whose error does not
/// go away when it is left out is not it.
fn misfit_alone<T: DeserializeOwned>(patch: &RowFields) -> Option<String> {
    let error =
        |fields: &RowFields| rmp_serde::from_slice::<T>(&fields.write()).err().map(|error| error.to_string());
    let whole = error(patch)?;
    let is_it = |name: &&str| {
        let mut others = patch.clone();
        others.remove(name) && error(&others).is_none_or(|error| error != whole)
    };
    let wrong = patch.names().find(|name| {
        let mut others = patch.clone();
        others.retain(|other| other == *name);
        is_it(name) && error(&others).as_deref() == Some(whole.as_str())
    });
    wrong.map(str::to_owned)
}
