//! A validator of JSON Schema, as much of it as the tool's own uses. A word that it does not know is an error: a schema
//! that nothing looks at passes everything.

use serde_json::Value;

/// What is wrong with a value, as paths and words; empty: nothing.
pub(crate) fn faults(schema: &Value, value: &Value, document: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(schema, value, document, "", &mut faults);
    faults
}

fn check(schema: &Value, value: &Value, document: &Value, at: &str, faults: &mut Vec<String>) {
    let words = schema.as_object().unwrap_or_else(|| panic!("{at}: {schema} is no schema"));
    for (word, said) in words {
        match word.as_str() {
            "title" | "description" | "$schema" | "$defs" => {}
            "type" => check_type(said, value, at, faults),
            "const" if said != value => faults.push(format!("{at}: {value} is not {said}")),
            "enum" if !said.as_array().unwrap().contains(value) => {
                faults.push(format!("{at}: {value} is none of {said}"));
            }
            "const" | "enum" => {}
            "minimum" => {
                if value.as_f64().is_some_and(|number| number < said.as_f64().unwrap()) {
                    faults.push(format!("{at}: {value} is less than {said}"));
                }
            }
            "required" => {
                let Some(fields) = value.as_object() else { continue };
                let names = said.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                faults.extend(
                    names.filter(|name| !fields.contains_key(*name)).map(|name| format!("{at}: no {name}")),
                );
            }
            "properties" | "additionalProperties" => {}
            "items" => {
                for (nth, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(said, item, document, &format!("{at}/{nth}"), faults);
                }
            }
            "oneOf" | "anyOf" => {
                let branches = said.as_array().unwrap();
                let found: Vec<_> =
                    branches.iter().map(|branch| self::faults(branch, value, document)).collect();
                let good = found.iter().filter(|faults| faults.is_empty()).count();
                if good == 0 || word == "oneOf" && good > 1 {
                    faults.push(format!(
                        "{at}: {good} of {} branches of {word} fit: {found:?}",
                        branches.len()
                    ));
                }
            }
            "$ref" => {
                let path = said.as_str().unwrap().strip_prefix('#').unwrap();
                let target = document.pointer(path).unwrap_or_else(|| panic!("{at}: nothing at {said}"));
                check(target, value, document, at, faults);
            }
            unknown => panic!("{at}: this validator does not know the word {unknown:?}"),
        }
    }
    check_fields(schema, value, document, at, faults);
}

fn check_fields(schema: &Value, value: &Value, document: &Value, at: &str, faults: &mut Vec<String>) {
    let Some(fields) = value.as_object() else { return };
    for (name, field) in fields {
        match schema["properties"].get(name) {
            Some(said) => check(said, field, document, &format!("{at}/{name}"), faults),
            None if schema["additionalProperties"] == false => {
                faults.push(format!("{at}: an unknown field {name}"))
            }
            None if schema["additionalProperties"].is_object() => {
                check(&schema["additionalProperties"], field, document, &format!("{at}/{name}"), faults);
            }
            None => {}
        }
    }
}

fn check_type(said: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let is = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        unknown => panic!("{at}: there is no type {unknown:?}"),
    };
    if !said.as_array().map_or_else(|| is(said), |names| names.iter().any(is)) {
        faults.push(format!("{at}: {value} is no {said}"));
    }
}
