//! A small host: data and functions for the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use marblerun_template::{Budget, Error, Function, HostError, Limits, Map, Object, Template, UintType, Value};

/// A function that refuses everything but strings, which it returns twice.
fn double(value: &Value, budget: &mut Budget) -> Result<Value, HostError> {
    let Value::String(text) = value else {
        return Err(HostError::Refused { class: "not-text", message: "expected text".to_owned() });
    };
    Value::build_string(budget, |out, budget| {
        out.write(text.as_slice(), budget)?;
        Ok(out.write(text.as_slice(), budget)?)
    })
}

pub(crate) static FUNCTIONS: [Function; 1] = [Function { name: "double", call: double }];

struct Entries(BTreeMap<String, Value>);

impl Map for Entries {
    fn type_name(&self) -> &'static str {
        "map[string]any"
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn get(&self, key: &str) -> Option<Value> {
        self.0.get(key).cloned()
    }

    fn zero(&self) -> Value {
        Value::Nil
    }
}

struct Root(Value);

impl Object for Root {
    fn type_name(&self) -> &'static str {
        "Root"
    }

    fn field(&self, name: &str) -> Option<Value> {
        (name == "Map").then(|| self.0.clone())
    }
}

/// `.Map.text` is "secret", `.Map.size` is 7, `.Map.words` is a list.
pub(crate) fn data() -> Value {
    let entries = BTreeMap::from([
        ("text".to_owned(), Value::string_from(b"secret".to_vec())),
        ("size".to_owned(), Value::Uint(7, UintType::Uint)),
        ("words".to_owned(), Value::strings(["a", "b"])),
    ]);
    Value::Object(Arc::new(Root(Value::Map(Arc::new(Entries(entries))))))
}

pub(crate) fn run(source: &str) -> Result<String, Error> {
    run_with(source, &mut Budget::new(Limits::default()))
}

pub(crate) fn run_with(source: &str, budget: &mut Budget) -> Result<String, Error> {
    let output = Template::parse(source.as_bytes(), &FUNCTIONS)?.execute(&data(), budget)?;
    Ok(String::from_utf8_lossy(output.expose()).into_owned())
}
