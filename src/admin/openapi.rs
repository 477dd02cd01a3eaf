//! The description of the API (OpenAPI 3.1), made of the table of routes.

use axum::Json;
use serde_json::{Map, Value, json};

use super::routes::{ROUTES, Route};

/// Requests that dial.
const IDEMPOTENT: [&str; 2] = ["/api/v1/calls", "/api/v1/callback"];

pub(super) async fn openapi() -> Json<Value> {
    Json(description())
}

/// The whole description.
pub(super) fn description() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tipring",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A SIP phone: lines, calls, events. On the local socket no token is needed.",
        },
        "paths": paths,
        "security": [{ "token": [] }, { "password": [] }],
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "password": { "type": "http", "scheme": "basic" },
            },
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": { "error": {
                        "type": "object",
                        "required": ["code", "message", "hint"],
                        "properties": {
                            "code": { "type": "string", "description": "a stable name" },
                            "message": { "type": "string", "description": "what is the matter" },
                            "hint": { "type": "string", "description": "what to do next" },
                        },
                    }},
                },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let (status, content) = route.success;
    let mut parameters: Vec<Value> = Vec::new();
    for name in route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        let schema = json!({ "type": "string" });
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    for (name, meaning) in route.query {
        let schema = json!({ "type": "string" });
        parameters.push(json!({ "name": name, "in": "query", "description": meaning, "schema": schema }));
    }
    if route.method == "POST" && IDEMPOTENT.contains(&route.path) {
        let meaning = "1 to 255 visible ASCII characters; the answer is kept for 24 hours";
        let schema = json!({ "type": "string", "maxLength": 255 });
        parameters.push(
            json!({ "name": "Idempotency-Key", "in": "header", "description": meaning, "schema": schema }),
        );
    }
    let problem = json!({
        "description": "why not",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    });
    let mut operation = json!({
        "summary": route.summary,
        "operationId": format!("{}{}", route.method.to_lowercase(), identifier(route.path)),
        "x-role": route.role.map(|role| role.as_str()),
        "parameters": parameters,
        "responses": {
            status.to_string(): { "description": "done", "content": { content: {} } },
            "default": problem,
        },
    });
    if route.role.is_none() {
        operation["security"] = json!([]);
    }
    if route.method == "POST" {
        let mut properties = Map::new();
        for (name, kind, _, meaning) in route.body {
            properties.insert((*name).to_owned(), json!({ "type": kind, "description": meaning }));
        }
        let required: Vec<&str> =
            route.body.iter().filter(|(_, _, required, _)| *required).map(|(name, ..)| *name).collect();
        let schema = json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        });
        operation["requestBody"] = json!({
            "required": !required.is_empty(),
            "content": { "application/json": { "schema": schema } },
        });
    }
    operation
}

fn identifier(path: &str) -> String {
    path.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect::<String>()
        .replace("__", "_")
}
