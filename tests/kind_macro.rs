//! `kind!` as somebody uses it who has no serde in scope: two kinds of one module, one in a function, and whatever a
//! struct may have beside its fields.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]
#![warn(missing_docs, unreachable_pub, unused)]

use esker::{EventItem, Field, Patch, RowFields, Source, Start, StateItem, Store, kind};

fn stepped(fields: &mut RowFields) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    fields.rename("speed", "knots");
    Ok(())
}

kind! {
    /// With a comment, derived traits, and all that a kind may have.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Vessel: "vessel".version(2).upcasts(&[(1, stepped)]).events() {
        name: String,
        /// How fast it is.
        pub(crate) knots: f32,
        #[serde(default, skip_serializing_if = "Option::is_none", alias = "skip")]
        r#type: Option<String>,
    }
}

kind! { struct Berth: "berth" { vessels: Vec<String> } }

impl Vessel {
    /// A method may have the name of a field.
    fn name(&self) -> &str {
        &self.name
    }
}

fn store() -> (Store, Source) {
    let store = Store::in_memory().unwrap();
    let source = store.source("harbour").unwrap();
    (store, source)
}

#[test]
fn a_field_patches_and_asks_what_has_changed_as_its_name_does() {
    let (store, source) = store();
    let vessel = Vessel { name: "Ada".into(), knots: 11.5, r#type: None };
    source.assert(Vessel::KIND, "a", &vessel).unwrap();
    store.flush().unwrap();
    let mut changes = store.subscription(Vessel::KIND).bootstrap(false).start().unwrap();
    let mut events = store.events(Vessel::KIND).from(Start::Newest).start().unwrap();
    let fields = Vessel::FIELDS;
    let patch =
        Patch::new().set(fields.knots, &12.0).unwrap().set(fields.r#type, &Some("tug".to_owned())).unwrap();
    assert_eq!(patch, Patch::new().set("knots", &12.0f32).unwrap().set("type", &Some("tug")).unwrap());
    source.patch(Vessel::KIND, "a", &patch).unwrap();
    store.flush().unwrap();
    let Some(StateItem::Change(change)) = changes.try_next().unwrap() else { panic!("it has changed") };
    assert!(change.has(fields.knots) && change.has("knots") && change.has(&"knots".to_owned()));
    assert!(change.has(fields.r#type) && !change.has(fields.name) && !change.has("r#type"));
    assert!(
        !change.has("knotz") && !change.has(Field::<Vessel, f32>::new("knotz")),
        "no field never changes"
    );
    let found = change.value().unwrap().unwrap();
    assert_eq!((found.name(), found.knots, found.r#type.as_deref()), ("Ada", 12.0, Some("tug")));
    let Some(EventItem::Event(event)) = events.try_next().unwrap() else { panic!("it was said") };
    assert!(event.has(fields.knots) && !event.has(fields.name) && !event.has("knotz"));
}

#[test]
fn the_kind_is_what_stands_behind_the_name_of_the_struct() {
    assert_eq!((Vessel::KIND.name(), Vessel::KIND.schema_version()), ("vessel", 2));
    assert!(Vessel::KIND.has_events() && !Berth::KIND.has_events());
    assert_eq!((Berth::KIND.name(), Berth::KIND.schema_version()), ("berth", 1));
    assert_eq!(Vessel::FIELDS.r#type.name(), "type");
    assert_eq!(format!("{:?}", Berth::FIELDS), r#"Fields { vessels: Field("vessels") }"#);
}

#[test]
fn a_value_may_be_given_as_what_it_borrows_as() {
    kind! { struct Tide: "tide" { place: String, metres: Vec<f32> } }
    /// By hand, for whoever wants it in capitals.
    const PLACE: Field<Tide, String> = Field::new("place");
    let (store, source) = store();
    let patch = Patch::new().set(PLACE, "Cuxhaven").unwrap().set(Tide::FIELDS.metres, &[1.5f32][..]).unwrap();
    source.patch(Tide::KIND, "now", &patch).unwrap();
    store.flush().unwrap();
    let tide = store.get(Tide::KIND, "now").unwrap().unwrap().value().unwrap();
    assert_eq!((tide.place.as_str(), tide.metres), ("Cuxhaven", vec![1.5]));
    let berth = Berth { vessels: vec!["Ada".into()] };
    source.assert(Berth::KIND, "1", &berth).unwrap();
    store.flush().unwrap();
    assert_eq!(store.get(Berth::KIND, "1").unwrap().unwrap().value().unwrap().vessels, berth.vessels);
}
