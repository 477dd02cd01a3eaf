//! The filters of Elasticsearch's query language, as far as they ask for fields of call detail records: `term`, `terms`,
//! `match`, `match_phrase`, `prefix`, `wildcard`, `regexp`, `range`, `exists`, `query_string`, `match_all` and `bool` with
//! `must`, `filter`, `should` and `must_not`.

use serde_json::{Map, Value};

use super::{Budget, Condition, SearchError, Test, lucene};

const KINDS: &str = "write term, terms, match, prefix, wildcard, regexp, range, exists, query_string or bool";

/// Reads a filter, or a list of filters that all have to hold.
///
/// # Errors
/// It is none of those above, or past the limits.
pub fn read(filter: &Value) -> Result<Condition, SearchError> {
    any_number(filter, &mut Budget::default()).map(Condition::Every)
}

/// One filter, or a list of them.
fn any_number(filters: &Value, budget: &mut Budget) -> Result<Vec<Condition>, SearchError> {
    match filters {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) => all.iter().map(|one| clause(one, budget)).collect(),
        one => Ok(vec![clause(one, budget)?]),
    }
}

fn clause(filter: &Value, budget: &mut Budget) -> Result<Condition, SearchError> {
    budget.one()?;
    let mut parts = filter.as_object().into_iter().flatten();
    let (Some((kind, inner)), None) = (parts.next(), parts.next()) else {
        return Err(SearchError::new("a filter is no object with one name", KINDS));
    };
    match kind.as_str() {
        "bool" => {
            budget.down()?;
            let all = group(inner, budget)?;
            budget.up();
            Ok(all)
        }
        "match_all" => Ok(Condition::all()),
        "exists" => Ok(Condition::Field(text(inner.get("field"))?, Test::Exists)),
        "query_string" => lucene::read(&text(inner.get("query"))?),
        "range" => named(inner, range),
        "terms" => named(inner, |name, values| {
            let values = values.as_array().ok_or_else(|| SearchError::new("`terms` has no list", KINDS))?;
            let mut any = Vec::new();
            for value in values {
                budget.one()?;
                any.push(Condition::Field(name.to_owned(), Test::Is(text(Some(value))?)));
            }
            Ok(Condition::Any(any))
        }),
        "term" | "match" | "match_phrase" => named(inner, |name, value| {
            let value = value.get("value").or_else(|| value.get("query")).unwrap_or(value);
            Ok(Condition::Field(name.to_owned(), Test::Is(text(Some(value))?)))
        }),
        "prefix" | "wildcard" | "regexp" => named(inner, |name, value| {
            let value = text(Some(value.get("value").unwrap_or(value)))?;
            let test = match kind.as_str() {
                "prefix" => Test::pattern(&format!("{}.*", regex_lite::escape(&value))),
                "wildcard" => Test::wildcard(&value),
                _ => Test::pattern(&value),
            };
            Ok(Condition::Field(name.to_owned(), test?))
        }),
        other => Err(SearchError::new(format!("there is no filter {:?}", shortened(other)), KINDS)),
    }
}

fn group(inner: &Value, budget: &mut Budget) -> Result<Condition, SearchError> {
    let mut every = Vec::new();
    for (name, filters) in inner.as_object().into_iter().flatten() {
        let filters = any_number(filters, budget)?;
        match name.as_str() {
            "must" | "filter" => every.extend(filters),
            "must_not" => every.extend(filters.into_iter().map(|one| Condition::Not(Box::new(one)))),
            "should" if filters.is_empty() => {}
            "should" => every.push(Condition::Any(filters)),
            other => {
                let hint = "write must, filter, should or must_not";
                return Err(SearchError::new(format!("`bool` has no {:?}", shortened(other)), hint));
            }
        }
    }
    Ok(Condition::Every(every))
}

fn range(name: &str, bounds: &Value) -> Result<Condition, SearchError> {
    let (mut from, mut to) = (None, None);
    for (word, value) in bounds.as_object().unwrap_or(&Map::new()) {
        match word.as_str() {
            "gte" | "from" => from = Some((text(Some(value))?, true)),
            "gt" => from = Some((text(Some(value))?, false)),
            "lte" | "to" => to = Some((text(Some(value))?, true)),
            "lt" => to = Some((text(Some(value))?, false)),
            "format" if value.as_str() == Some("epoch_millis") => {}
            other => {
                let hint = "write gte, gt, lte or lt, and moments in milliseconds since 1970";
                return Err(SearchError::new(format!("`range` has no {:?}", shortened(other)), hint));
            }
        }
    }
    Ok(Condition::Field(name.to_owned(), Test::Within(from, to)))
}

/// What is asked of the one field that is named.
fn named(
    inner: &Value,
    read: impl FnOnce(&str, &Value) -> Result<Condition, SearchError>,
) -> Result<Condition, SearchError> {
    let mut fields = inner.as_object().into_iter().flatten();
    match (fields.next(), fields.next()) {
        (Some((name, value)), None) => read(name, value),
        _ => Err(SearchError::new("a filter does not name one field", KINDS)),
    }
}

fn text(value: Option<&Value>) -> Result<String, SearchError> {
    value
        .and_then(super::text)
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| SearchError::new("a filter has no value", "write a text or a number"))
}

fn shortened(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(filter: &Value) -> bool {
        let record = json!({
            "caller_id_number": "+74951234567", "direction": "inbound", "duration": 30,
            "created_time": 1_795_000_000_000_i64,
        });
        let condition = read(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        condition.holds(record.as_object().expect("an object"))
    }

    #[test]
    fn filters_hold_as_elasticsearch_reads_them() {
        for (filter, expected) in [
            (json!([]), true),
            (json!(null), true),
            (json!({"match_all": {}}), true),
            (json!({"term": {"direction": "inbound"}}), true),
            (json!({"term": {"direction": {"value": "outbound"}}}), false),
            (json!({"match": {"caller_id_number": "84951234567"}}), true),
            (json!({"match": {"direction": {"query": "inbound"}}}), true),
            (json!({"terms": {"direction": ["outbound", "inbound"]}}), true),
            (json!({"terms": {"direction": []}}), false),
            (json!({"prefix": {"caller_id_number": "+7495"}}), true),
            (json!({"prefix": {"caller_id_number": "7496"}}), false),
            (json!({"wildcard": {"direction": "in*"}}), true),
            (json!({"regexp": {"direction": "(in|out)bound"}}), true),
            (
                json!({"range": {"created_time": {"gte": 1_794_999_999_999_i64, "lt": 1_795_000_000_001_i64}}}),
                true,
            ),
            (
                json!({"range": {"created_time": {"gt": 1_795_000_000_000_i64, "format": "epoch_millis"}}}),
                false,
            ),
            (json!({"range": {"duration": {"lte": "30"}}}), true),
            (json!({"exists": {"field": "billsec"}}), false),
            (json!({"query_string": {"query": "direction:inbound AND duration:30"}}), true),
            (json!([{"term": {"direction": "inbound"}}, {"term": {"duration": 31}}]), false),
            (
                json!({"bool": {"must": {"term": {"duration": 30}}, "must_not": [{"term": {"direction": "outbound"}}]}}),
                true,
            ),
            (json!({"bool": {"should": [{"term": {"duration": 1}}, {"term": {"duration": 30}}]}}), true),
            (json!({"bool": {"should": [{"term": {"duration": 1}}], "filter": []}}), false),
            (json!({"bool": {}}), true),
        ] {
            assert_eq!(holds(&filter), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_said() {
        for (filter, what) in [
            (json!("x"), "a filter is no object with one name"),
            (json!({"term": {}, "range": {}}), "a filter is no object with one name"),
            (json!({"script": {"source": "1"}}), "there is no filter \"script\""),
            (json!({"term": {"a": 1, "b": 2}}), "a filter does not name one field"),
            (json!({"term": {"a": [1]}}), "a filter has no value"),
            (json!({"range": {"a": {"gte": 1, "time_zone": "x"}}}), "`range` has no \"time_zone\""),
            (json!({"bool": {"may": []}}), "`bool` has no \"may\""),
        ] {
            assert_eq!(read(&filter).expect_err("no filter").what, what, "{filter}");
        }
        let deep = (0..17).fold(json!({"match_all": {}}), |inner, _| json!({"bool": {"must": inner}}));
        assert!(read(&deep).expect_err("deep").what.contains("too deep"));
        let many = json!({"terms": {"a": vec!["b"; 64]}});
        assert!(read(&many).expect_err("many").what.contains("too many"));
    }
}
