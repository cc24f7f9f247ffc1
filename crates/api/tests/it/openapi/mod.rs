//! `docs/openapi.json`, made of the lists of members that the handlers write and of the tables beside this file.
//!
//! With `MARBLERUN_REGENERATE` set (`cargo xtask generate` does that) the file is written instead of compared. That the
//! answers of a running Coordinator fit it is checked by the conformance suite, for each answer that it gets.

mod operations;
mod texts;

use std::collections::BTreeSet;
use std::path::Path;

use marblerun_api::rest::describe::{Member, Shape, describe};
use marblerun_api::rest::{
    MonotonicCounterRequest, RecoverRequest, SetManifestRequest, SignQuoteRequest, UserSecretValue,
};
use marblerun_json::{Decode, decode_first};
use serde_json::{Map, Value, json};

use self::operations::{Operation, Who, operations};

/// Builds the schemas of all objects, each once.
#[derive(Default)]
struct Schemas {
    named: Map<String, Value>,
    described: BTreeSet<(String, &'static str)>,
}

impl Schemas {
    fn reference(&mut self, name: &str, members: &[Member]) -> Value {
        if !self.named.contains_key(name) {
            let schema = self.object(name, members);
            self.named.insert(name.to_owned(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn object(&mut self, name: &str, members: &[Member]) -> Value {
        let mut properties = Map::new();
        for member in members {
            let mut schema = self.schema(&member.shape);
            let (text, values) = texts::member(name, member.name);
            schema["description"] = text.into();
            if let Some(values) = values {
                schema["enum"] = values;
            }
            self.described.insert((name.to_owned(), member.name));
            properties.insert(member.name.to_owned(), schema);
        }
        let required: Vec<_> = members.iter().filter(|member| member.required).map(|member| member.name).collect();
        json!({"type": "object", "properties": properties, "required": required})
    }

    fn schema(&mut self, shape: &Shape) -> Value {
        match shape {
            Shape::Any => json!({}),
            Shape::Boolean => json!({"type": "boolean"}),
            Shape::Integer => json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}),
            Shape::String => json!({"type": "string"}),
            Shape::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Shape::Nullable(inner) => match self.schema(inner) {
                Value::Object(mut schema) if schema.get("type").is_some_and(Value::is_string) => {
                    schema["type"] = json!([schema["type"], "null"]);
                    Value::Object(schema)
                }
                other => json!({"anyOf": [other, {"type": "null"}]}),
            },
            Shape::List(inner) => json!({"type": "array", "items": self.schema(inner)}),
            Shape::Map(inner) => json!({"type": "object", "additionalProperties": self.schema(inner)}),
            Shape::Object { name, members } => self.reference(name, members),
        }
    }
}

/// The envelope of a success.
fn success(data: Value) -> Value {
    json!({
        "type": "object",
        "properties": {"status": {"const": "success"}, "data": data},
        "required": ["status", "data"],
    })
}

/// The envelope of a refusal.
fn refusal(status: &str, data: Value) -> Value {
    json!({
        "type": "object",
        "properties": {"status": {"const": status}, "data": data, "message": {"type": "string"}},
        "required": ["status", "data"],
    })
}

/// A refusal of kind `error` says that it is text; its body is JSON all the same.
fn error_content() -> Value {
    let schema = json!({
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#/components/schemas/Error"},
    });
    json!({"text/plain; charset=utf-8": {"schema": schema}})
}

fn described_operation(operation: &Operation, schemas: &mut Schemas) -> Value {
    let data = match &operation.answer {
        Some((name, members)) => schemas.reference(name, members),
        None => json!({"type": "null"}),
    };
    let mut responses = Map::new();
    let content = json!({"application/json": {"schema": success(data)}});
    responses.insert("200".into(), json!({"description": operation.success, "content": content}));
    for (status, reason) in operation.all_refusals() {
        let content = match status {
            400 | 401 => json!({"application/json": {"schema": {"$ref": "#/components/schemas/Fail"}}}),
            _ => error_content(),
        };
        responses.insert(status.to_string(), json!({"description": reason, "content": content}));
    }
    let mut description = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": responses,
    });
    if !operation.details.is_empty() {
        description["description"] = operation.details.into();
    }
    if let Some((name, members)) = &operation.request {
        let schema = schemas.reference(name, members);
        description["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    if let Some(parameter) = operation.parameter {
        description["parameters"] = json!([parameter()]);
    }
    match operation.who {
        Who::Anyone => {}
        Who::User => description["security"] = json!([{"user": []}]),
        Who::Marble => description["security"] = json!([{"marble": []}]),
    }
    description
}

/// The description, and the members that it describes.
fn document() -> (Value, BTreeSet<(String, &'static str)>) {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    for operation in operations() {
        let description = described_operation(&operation, &mut schemas);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        let before = path.as_object_mut().unwrap().insert(operation.method.to_owned(), description);
        assert!(before.is_none(), "{} {} is described twice", operation.method, operation.path);
    }
    let reasons = json!({
        "type": ["object", "null"],
        "additionalProperties": {"type": "string"},
        "description": "What is wrong with a member of the request, by its name.",
    });
    schemas.named.insert("Fail".into(), refusal("fail", reasons));
    schemas.named.insert("Error".into(), refusal("error", json!({"type": "null"})));
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Client API of the MarbleRun Coordinator",
            "version": "2",
            "description": texts::INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.named,
            "securitySchemes": {
                "user": {"type": "mutualTLS", "description": texts::USER},
                "marble": {"type": "mutualTLS", "description": texts::MARBLE},
            },
        },
    });
    (document, schemas.described)
}

#[test]
fn the_generated_description_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let mut document = document().0;
    // Otherwise the order is that of whatever features of the library another crate of the build wants.
    document.sort_all_objects();
    let expected = serde_json::to_string_pretty(&document).unwrap() + "\n";
    if std::env::var_os("MARBLERUN_REGENERATE").is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(committed == expected, "docs/openapi.json is out of date: run `cargo xtask generate`");
}

#[test]
fn each_text_describes_a_member_that_exists() {
    let (_, described) = document();
    for (object, member) in texts::all() {
        assert!(described.contains(&(object.to_owned(), member)), "{object} has no member {member}");
    }
}

/// Members of version 1 and of version 2 are read by one structure, so requests are compared: those are of version 2 only.
#[track_caller]
fn check_request<T: Decode + Default>(described: &[Member]) {
    let (_, notes) = decode_first::<T>(br#"{"\u0000": 0}"#, 100).unwrap();
    let read: BTreeSet<_> = notes.unknown_members[0].known.iter().copied().collect();
    assert_eq!(described.iter().map(|member| member.name).collect::<BTreeSet<_>>(), read);
    for member in described {
        let fits = match &member.shape {
            Shape::Nullable(inner) => (**inner).clone(),
            other => other.clone(),
        };
        let (good, bad) = match fits {
            Shape::Bytes => ("\"AAE=\"", "\"%\""),
            Shape::String => ("\"text\"", "1"),
            Shape::Integer => ("18446744073709551615", "-1"),
            other => panic!("a request has no member that is {other:?}"),
        };
        let body = |value: &str| format!("{{\"{}\": {value}}}", member.name);
        decode_first::<T>(body(good).as_bytes(), 100).unwrap();
        decode_first::<T>(body(bad).as_bytes(), 100).err().unwrap_or_else(|| panic!("{} may be {bad}", member.name));
    }
}

#[test]
fn requests_are_read_as_they_are_described() {
    check_request::<SetManifestRequest>(&describe(&SetManifestRequest::default()));
    check_request::<RecoverRequest>(&describe(&RecoverRequest::default()));
    check_request::<SignQuoteRequest>(&describe(&SignQuoteRequest::default()));
    check_request::<MonotonicCounterRequest>(&describe(&MonotonicCounterRequest::default()));
    check_request::<UserSecretValue>(&describe(&UserSecretValue::default()));
}
