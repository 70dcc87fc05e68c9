//! Which fields of a destination's configuration hold secrets, whatever its kind: for whoever must treat these apart from
//! the rest without knowing the kinds.

use serde_json::Value;

/// The fields, as paths below the entry; `*` stands for every member.
pub const SECRET_FIELDS: &[&str] = &[
    "api_key",
    "token",
    "password",
    "secret",
    "client_secret",
    "secret_access_key",
    "session_token",
    "headers.*",
    "pseudonymise_users",
];

/// Shows each secret of an entry, with its path.
pub fn each_secret(entry: &mut Value, mut each: impl FnMut(&str, &mut String)) {
    for field in SECRET_FIELDS {
        match field.strip_suffix(".*") {
            None => {
                if let Some(Value::String(text)) = entry.get_mut(field) {
                    each(field, text);
                }
            }
            Some(field) => {
                let members = entry.get_mut(field).and_then(Value::as_object_mut);
                for (name, value) in members.into_iter().flatten() {
                    if let Value::String(text) = value {
                        each(&format!("{field}.{name}"), text);
                    }
                }
            }
        }
    }
}

/// Takes every secret out of an entry; their paths.
pub fn take_secrets(entry: &mut Value) -> Vec<String> {
    let mut paths = Vec::new();
    each_secret(entry, |path, _| paths.push(path.to_owned()));
    for path in &paths {
        let (parent, name) = match path.split_once('.') {
            None => (Some(&mut *entry), path.as_str()),
            Some((parent, name)) => (entry.get_mut(parent), name),
        };
        parent.and_then(Value::as_object_mut).and_then(|members| members.shift_remove(name));
    }
    paths
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_found_and_taken_out_wherever_they_are() {
        let mut entry = json!({"destination": "x", "api_key": "$A", "headers": {"authorization": "b", "x": 1}, "tags": ["c"]});
        let mut seen = Vec::new();
        each_secret(&mut entry, |path, text| seen.push(format!("{path}={text}")));
        assert_eq!(seen, ["api_key=$A", "headers.authorization=b"]);
        assert_eq!(take_secrets(&mut entry), ["api_key", "headers.authorization"]);
        assert_eq!(entry, json!({"destination": "x", "headers": {"x": 1}, "tags": ["c"]}));
    }

    /// A kind whose documentation calls a field a secret must be in the list.
    #[test]
    fn every_field_that_is_documented_as_a_secret_is_known() {
        let schema = schemars::SchemaGenerator::default().into_root_schema_for::<crate::export::RawExport>();
        let mut documented = Vec::new();
        walk(schema.as_value(), &mut documented);
        assert!(documented.contains(&"api_key".to_owned()), "{documented:?}");
        for field in documented {
            assert!(
                SECRET_FIELDS.iter().any(|known| known.trim_end_matches(".*") == field),
                "`{field}` is a secret, and not in SECRET_FIELDS"
            );
        }
    }

    fn walk(value: &Value, found: &mut Vec<String>) {
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                if property["description"].as_str().is_some_and(|text| text.contains("`$NAME`")) {
                    found.push(name.clone());
                }
            }
        }
        match value {
            Value::Object(members) => members.values().for_each(|value| walk(value, found)),
            Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
}
