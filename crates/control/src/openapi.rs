//! The description of the API (OpenAPI 3.1), made from the table that requests are dispatched by and from the very types
//! that are read and answered. What the data plane serves is described by whoever serves it.

#![expect(
    clippy::indexing_slicing,
    reason = "indexing a JSON value is total: null where there is nothing, a new member where one is assigned"
)]

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::PREFIX;
use crate::api::{Operation, ROUTES, Route};

/// A path of the data plane.
#[derive(Clone, Debug)]
pub struct DataPath {
    /// `get` or `post`.
    pub method: &'static str,
    /// As in `/v1/models/{id}`.
    pub path: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Whether a project's key is needed.
    pub keyed: bool,
}

/// The document: the management API and these paths beside it.
pub fn document(data_plane: &[DataPath], version: &str) -> Value {
    let mut schemas = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let mut paths = Map::new();
    for path in data_plane {
        let entry = paths.entry(path.path).or_insert_with(|| json!({}));
        entry[path.method] = data_operation(path);
    }
    for route in ROUTES {
        let entry = paths.entry(format!("{PREFIX}{}", route.path)).or_insert_with(|| json!({}));
        entry[route.method.as_str().to_lowercase()] = operation(route, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Policy Gateway",
            "version": version,
            "description": "The data plane speaks OpenAI's API with a project's key; the management API takes an admin token.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "projectKey": {"type": "http", "scheme": "bearer", "description": "A key of a project, `ak_…`."},
                "adminToken": {"type": "http", "scheme": "bearer", "description": "One of `admin_tokens`."},
            },
            "schemas": all(schemas),
        },
    })
}

fn all(mut schemas: SchemaGenerator) -> Value {
    let mut all = Map::new();
    for (name, schema) in schemas.take_definitions(true) {
        all.insert(name, schema);
    }
    all.insert("Error".to_owned(), error_schema());
    all.sort_keys();
    Value::Object(all)
}

fn data_operation(path: &DataPath) -> Value {
    let mut operation = json!({
        "summary": path.summary,
        "tags": ["data plane"],
        "responses": {
            "200": {"description": "As OpenAI's API answers."},
            "default": error_answer(),
        },
    });
    if path.keyed {
        operation["security"] = json!([{"projectKey": []}]);
    }
    if path.method == "post" {
        let body = json!({"schema": {"type": "object", "description": "As OpenAI's API takes it."}});
        operation["requestBody"] = json!({"required": true, "content": {"application/json": body}});
    }
    let parameters = path_parameters(path.path);
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    operation
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut content = json!({"application/json": {"schema": (route.answer)(schemas)}});
    if route.operation == Operation::Usage {
        content["text/csv"] = json!({"schema": {"type": "string"}});
    }
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "description": format!("For a token of role {}.", route.access.roles()),
        "tags": [route.path.split('/').next().unwrap_or_default()],
        "security": [{"adminToken": []}],
        "responses": {
            "200": {"description": "Done.", "content": content},
            "default": error_answer(),
        },
    });
    if let Some(body) = route.body {
        let body = json!({"schema": body(schemas)});
        operation["requestBody"] = json!({"required": true, "content": {"application/json": body}});
    }
    let mut parameters = path_parameters(route.path);
    for one in route.query {
        parameters.push(json!({
            "name": one.name, "in": "query", "required": one.required, "description": one.about,
            "schema": {"type": "string"},
        }));
    }
    if route.method == http::Method::POST {
        let about = "Sent again with the same key within 24 hours, the request gets the same answer and does nothing.";
        parameters.push(header("Idempotency-Key", about));
    }
    if route.operation.takes_tag() {
        parameters
            .push(header("If-Match", "The `ETag` that was seen: if it is another by now, nothing changes."));
    }
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    operation
}

fn header(name: &str, about: &str) -> Value {
    json!({"name": name, "in": "header", "required": false, "description": about, "schema": {"type": "string"}})
}

/// The variant's name as JSON people write it: `listExports`.
fn operation_id(route: &Route) -> String {
    let name = format!("{:?}", route.operation);
    let mut rest = name.chars();
    rest.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(rest).collect()
}

fn path_parameters(path: &str) -> Vec<Value> {
    let named = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    named
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect()
}

fn error_answer() -> Value {
    let schema = json!({"schema": {"$ref": "#/components/schemas/Error"}});
    json!({"description": "What is wrong, and how to mend it.", "content": {"application/json": schema}})
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "problems": {
                    "description": "Everything that is wrong with a document, by path.",
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["path", "message"],
                        "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
                    },
                },
                "current": {"description": "What is there instead, where a save came too late (409)."},
            },
        }},
    })
}
