//! Fields by name and type, and the macro that makes a kind with them.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;

/// A field of the rows of a kind, with the type of its value: where it stands for the field's name, the compiler looks
/// whether the value is one.
///
/// [`kind!`](crate::kind) makes one for each field; of a struct without it they are made by hand.
///
/// ```
/// use esker::{Field, Patch};
/// struct Vessel { name: String, knots: f32 }
/// const KNOTS: Field<Vessel, f32> = Field::new("knots");
/// const NAME: Field<Vessel, String> = Field::new("name");
/// let patch = Patch::new().set(KNOTS, &12.0)?.set(NAME, "Ada")?;      // "12.0" is no `f32`
/// # Ok::<(), esker::Error>(())
/// ```
pub struct Field<T, V> {
    name: &'static str,
    // It says of what it is, and owns nothing of that.
    of: PhantomData<fn() -> (T, V)>,
}

impl<T, V> Field<T, V> {
    /// The field of this name, as serde has it. Nobody looks here whether there is one: a patch with a field that the kind
    /// does not have is refused, and asked whether it has changed ([`Change::has`](crate::Change::has)), it never has.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, of: PhantomData }
    }

    /// The field of an identifier as it stands in the source: serde leaves out what makes a raw one of a keyword.
    #[doc(hidden)]
    #[must_use]
    pub const fn of_identifier(identifier: &'static str) -> Self {
        match identifier.as_bytes() {
            [b'r', b'#', ..] => Self::new(identifier.split_at(2).1),
            _ => Self::new(identifier),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T, V> Clone for Field<T, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, V> Copy for Field<T, V> {}

impl<T, V> fmt::Debug for Field<T, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Field({:?})", self.name)
    }
}

mod sealed {
    pub trait Sealed {}
    impl<S: AsRef<str> + ?Sized> Sealed for &S {}
    impl<T, V> Sealed for super::Field<T, V> {}
}

/// What names a field of a row of `T`: its name, or a [`Field`] of `T`.
pub trait FieldOf<T>: sealed::Sealed {
    /// The name.
    fn field_name(&self) -> &str;
}

/// What names a field that takes values of `V`: its name, of which nobody knows, or a [`Field`] whose values can be given as
/// a `V` (a `String` as a `str`).
pub trait FieldFor<V: ?Sized>: sealed::Sealed {
    /// The name.
    fn field_name(&self) -> &str;
}

impl<T, S: AsRef<str> + ?Sized> FieldOf<T> for &S {
    fn field_name(&self) -> &str {
        (*self).as_ref()
    }
}

impl<T, V> FieldOf<T> for Field<T, V> {
    fn field_name(&self) -> &str {
        self.name
    }
}

impl<V: ?Sized, S: AsRef<str> + ?Sized> FieldFor<V> for &S {
    fn field_name(&self) -> &str {
        (*self).as_ref()
    }
}

impl<T, F: Borrow<V>, V: Serialize + ?Sized> FieldFor<V> for Field<T, F> {
    fn field_name(&self) -> &str {
        self.name
    }
}

/// A struct and the [kind](crate::Kind) whose rows it is, with a typed [`Field`] for each of its fields.
///
/// ```
/// use esker::{Patch, Store, kind};
///
/// kind! {
///     /// A vessel in the harbour.
///     #[derive(Debug, PartialEq)]
///     pub struct Vessel: "vessel".version(2).events() {
///         pub name: String,
///         #[serde(default)]
///         pub knots: f32,
///     }
/// }
///
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// let radar = store.source("radar")?;
/// radar.assert(Vessel::KIND, "ada", &Vessel { name: "Ada".into(), knots: 11.2 })?;
/// store.flush()?;
/// let mut vessels = store.subscription(Vessel::KIND).bootstrap(false).start()?;
/// radar.patch(Vessel::KIND, "ada", &Patch::new().set(Vessel::FIELDS.knots, &12.0)?)?;
/// store.flush()?;
/// let Some(esker::StateItem::Change(change)) = vessels.try_next()? else { panic!("it has changed") };
/// assert!(change.has(Vessel::FIELDS.knots) && !change.has(Vessel::FIELDS.name));
/// # Ok(()) }
/// ```
///
/// A value of another type than the field's does not compile, and neither does the field of another kind where a change is
/// asked for it:
///
/// ```compile_fail,E0277
/// esker::kind! { struct Vessel: "vessel" { name: String, knots: f32 } }
/// let patch = esker::Patch::new().set(Vessel::FIELDS.knots, "twelve");
/// ```
///
/// ```compile_fail,E0277
/// esker::kind! { struct Vessel: "vessel" { knots: f32 } }
/// esker::kind! { struct Berth: "berth" { length: f32 } }
/// fn has_changed(change: &esker::Change<'_, Vessel>) -> bool {
///     change.has(Berth::FIELDS.length)
/// }
/// ```
///
/// ```compile_fail
/// mod tenfold {
///     pub fn serialize<S: serde::Serializer>(value: &i64, to: S) -> Result<S::Ok, S::Error> {
///         to.serialize_i64(value * 10)
///     }
///     pub fn deserialize<'d, D: serde::Deserializer<'d>>(from: D) -> Result<i64, D::Error> {
///         Ok(<i64 as serde::Deserialize>::deserialize(from)? / 10)
///     }
/// }
/// esker::kind! { struct Ware: "ware" { #[serde(with = "tenfold")] price: i64 } }
/// ```
///
/// ```compile_fail
/// esker::kind! { struct Ware: "ware" { price: i64, #[serde(default, skip)] cached: u32 } }
/// ```
///
/// ```compile_fail
/// esker::kind! { struct Ware: "ware" { #[serde(flatten)] more: std::collections::BTreeMap<String, i64> } }
/// ```
///
/// Attributes, comments and visibilities are those of the struct that is made. It has serde's `Serialize` and
/// `Deserialize` from the serde that this crate uses, and nobody who writes `kind!` needs one of their own; `#[serde(…)]` works as ever,
/// where a field stays what stands here, under its own name and as its own type encodes it: a patch writes it so. What makes
/// another thing of it does not compile: of a field `rename`, `with`, `serialize_with`, `deserialize_with`, `skip`,
/// `skip_serializing`, `skip_deserializing`, `flatten` and `getter`, of the struct `rename_all`, `transparent`, `from`, `try_from`
/// and `into`. (Within a `cfg_attr` nobody looks for them.) Behind the kind's
/// name comes whatever [`Kind`](crate::Kind) has to say of it: `.version(2)`, `.upcasts(&[…])`, `.events()`. Type parameters
/// it has none.
///
/// What it makes are two constants of the struct: `KIND`, and `FIELDS` with the fields under their own names, each as
/// visible as the field. They are not constants of the struct themselves, because a macro like this one cannot make
/// `KNOTS` of `knots`, and a constant `knots` would stand in the way of a method of that name.
#[macro_export]
macro_rules! kind {
    (
        $(#[$($attribute:tt)*])*
        $visible:vis struct $name:ident: $on_disk:literal $(.$option:ident($($said:tt)*))* {
            $(
                $(#[$($field_attribute:tt)*])*
                $field_visible:vis $field:ident: $value:ty
            ),* $(,)?
        }
    ) => {
        // The derived code names serde by what is in scope, and only a glob may be imported again by the next kind.
        #[allow(unused_imports, reason = "another kind of the same module may have imported it")]
        use $crate::kind_macro::*;

        #[derive($crate::kind_macro::__esker_serde::Serialize, $crate::kind_macro::__esker_serde::Deserialize)]
        #[serde(crate = "__esker_serde")]
        $(#[$($attribute)*])*
        $visible struct $name {
            $(
                $(#[$($field_attribute)*])*
                $field_visible $field: $value,
            )*
        }

        const _: () = {
            $($crate::__kind_attribute! { $($attribute)* })*
            $($($crate::__kind_attribute! { $($field_attribute)* })*)*

            /// The fields of a row, by name and type.
            #[derive(Clone, Copy, Debug)]
            #[allow(dead_code, missing_docs, unreachable_pub, reason = "as visible as the struct's own")]
            pub struct Fields {
                $($field_visible $field: $crate::Field<$name, $value>,)*
            }

            #[allow(dead_code, reason = "whoever needs neither has the struct")]
            impl $name {
                /// The kind whose rows are of this type.
                $visible const KIND: $crate::Kind<Self> = $crate::Kind::new($on_disk)$(.$option($($said)*))*;
                /// The fields of a row, by name and type.
                $visible const FIELDS: Fields = Fields {
                    $($field: $crate::Field::of_identifier(stringify!($field)),)*
                };
            }
        };
    };
}

/// Refuses what makes another thing of a field than its name and type say.
#[doc(hidden)]
#[macro_export]
macro_rules! __kind_attribute {
    (serde($($said:tt)*)) => { $crate::__kind_serde! { $($said)* } };
    ($($other:tt)*) => {};
}

/// The same, word by word.
#[doc(hidden)]
#[macro_export]
macro_rules! __kind_serde {
    () => {};
    (rename $($rest:tt)*) => { $crate::__kind_refuse! { rename } };
    (with $($rest:tt)*) => { $crate::__kind_refuse! { with } };
    (serialize_with $($rest:tt)*) => { $crate::__kind_refuse! { serialize_with } };
    (deserialize_with $($rest:tt)*) => { $crate::__kind_refuse! { deserialize_with } };
    (skip $($rest:tt)*) => { $crate::__kind_refuse! { skip } };
    (skip_serializing $($rest:tt)*) => { $crate::__kind_refuse! { skip_serializing } };
    (skip_deserializing $($rest:tt)*) => { $crate::__kind_refuse! { skip_deserializing } };
    (flatten $($rest:tt)*) => { $crate::__kind_refuse! { flatten } };
    (getter $($rest:tt)*) => { $crate::__kind_refuse! { getter } };
    (rename_all $($rest:tt)*) => { $crate::__kind_refuse! { rename_all } };
    (transparent $($rest:tt)*) => { $crate::__kind_refuse! { transparent } };
    (from $($rest:tt)*) => { $crate::__kind_refuse! { from } };
    (try_from $($rest:tt)*) => { $crate::__kind_refuse! { try_from } };
    (into $($rest:tt)*) => { $crate::__kind_refuse! { into } };
    ($other:tt $($rest:tt)*) => { $crate::__kind_serde! { $($rest)* } };
}

/// Says what is refused.
#[doc(hidden)]
#[macro_export]
macro_rules! __kind_refuse {
    ($word:ident) => {
        compile_error!(concat!(
            "kind! does not take #[serde(",
            stringify!($word),
            ")]: a patch writes a field under the name that stands here, as its type encodes it"
        ));
    };
}
