//! The fake as a stranger meets it: the flow, each refusal, and what it does in silence.

use serde_json::{Value, json};

use super::*;
use crate::exchange::{Answer, send};

const TOKEN_PATH: &str = "/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token";
const ROWS_PATH: &str = "/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Custom-PolicyGateway_CL?api-version=2023-01-01";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");

async fn ingestion() -> Running {
    let columns =
        [("TimeGenerated", "datetime"), ("Seq", "long"), ("Enforced", "boolean"), ("Hits", "dynamic")];
    let columns = columns.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into_iter().collect();
    let options = IngestionOptions { columns: Some(columns), ..IngestionOptions::default() };
    Ingestion::start(options).await.unwrap()
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut all = BTreeMap::from([
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", DEFAULT_SECRET),
        ("scope", SCOPE),
    ]);
    all.extend(fields.iter().copied());
    form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish()
}

async fn ask(ingestion: &Running, path: &str, fields: &[(&str, &str)]) -> Answer {
    send(ingestion.addr(), "POST", path, &[FORM], form(fields).as_bytes()).await
}

async fn token(ingestion: &Running) -> String {
    let answer = ask(ingestion, TOKEN_PATH, &[]).await.json();
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3599)));
    format!("Bearer {}", answer["access_token"].as_str().unwrap())
}

async fn put(ingestion: &Running, token: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut all = vec![JSON, ("authorization", token)];
    all.extend(headers);
    send(ingestion.addr(), "POST", ROWS_PATH, &all, body).await
}

#[tokio::test]
async fn rows_go_in_with_a_token() {
    let ingestion = ingestion().await;
    let token = token(&ingestion).await;
    let rows =
        json!([{"TimeGenerated": Timestamp::now().to_string(), "Seq": 1, "Enforced": true, "Hits": ["a"]}]);
    assert_eq!(put(&ingestion, &token, &[], rows.to_string().as_bytes()).await.status, 204);
    let row = &ingestion.rows()[0];
    assert_eq!((row.index, &row.row["Seq"], row.silently.len()), (1, &json!(1), 0));
    let shown = send(ingestion.addr(), "GET", "/demo/rows?after=0", &[], b"").await.json();
    assert_eq!((&shown["next"], &shown["rows"][0]["row"]["Seq"]), (&json!(1), &json!(1)));
    ingestion.revoke_tokens();
    assert_eq!(put(&ingestion, &token, &[], b"[]").await.status, 401);
    assert_eq!(ingestion.tokens_given(), 1);
}

#[tokio::test]
async fn a_token_is_given_to_the_right_application_only() {
    let ingestion = ingestion().await;
    for (fields, status, code) in [
        (("client_secret", "wrong"), 401, 7_000_215),
        (("client_id", "other"), 400, 700_016),
        (("scope", "https://graph.microsoft.com/.default"), 400, 70_011),
        (("grant_type", "password"), 400, 70_003),
    ] {
        let answer = ask(&ingestion, TOKEN_PATH, &[fields]).await;
        assert_eq!((answer.status, &answer.json()["error_codes"][0]), (status, &json!(code)));
    }
    assert_eq!(ask(&ingestion, "/other/oauth2/v2.0/token", &[]).await.json()["error_codes"][0], 90_002);
    let plain = send(ingestion.addr(), "POST", TOKEN_PATH, &[JSON], form(&[]).as_bytes()).await;
    assert_eq!(plain.status, 400);
}

#[tokio::test]
async fn what_azure_refuses_is_refused() {
    let ingestion = ingestion().await;
    let token = token(&ingestion).await;
    let code = |answer: &Answer| answer.json()["error"]["code"].as_str().unwrap().to_owned();
    for (headers, body, status, expected) in [
        (vec![], b"{}".to_vec(), 400, "InvalidPayload"),
        (vec![], b"[1]".to_vec(), 400, "InvalidPayload"),
        (vec![("content-encoding", "zstd")], b"[]".to_vec(), 400, "InvalidContentEncoding"),
        (vec![("content-encoding", "gzip")], b"[]".to_vec(), 400, "InvalidPayload"),
        (vec![], vec![b' '; BODY_BYTES_MAX + 1], 413, "ContentLengthLimitExceeded"),
    ] {
        let answer = put(&ingestion, &token, &headers, &body).await;
        assert_eq!((answer.status, code(&answer)), (status, expected.to_owned()));
    }
    // A small body that unpacks to a large one counts by what it unpacks to.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &vec![b' '; BODY_BYTES_MAX + 1]).unwrap();
    let answer = put(&ingestion, &token, &[("content-encoding", "gzip")], &packed.finish().unwrap()).await;
    assert_eq!(answer.status, 413);
    let headers = [JSON, ("authorization", token.as_str())];
    for path in
        ["/dataCollectionRules/dcr-x/streams/Custom-PolicyGateway_CL?api-version=2023-01-01", "/other"]
    {
        assert_eq!(send(ingestion.addr(), "POST", path, &headers, b"[]").await.status, 404);
    }
    let unversioned = ROWS_PATH.split('?').next().unwrap();
    let answer = send(ingestion.addr(), "POST", unversioned, &headers, b"[]").await;
    assert_eq!(code(&answer), "InvalidApiVersion");
    assert_eq!(put(&ingestion, "Bearer other", &[], b"[]").await.status, 401);
}

#[tokio::test]
async fn what_azure_does_in_silence_is_told() {
    let ingestion = ingestion().await;
    let token = token(&ingestion).await;
    let rows: Value = json!([
        {"TimeGenerated": "2020-01-01T00:00:00Z", "Seq": "1", "Other": 1},
        {"Hits": "x".repeat(VALUE_BYTES_MAX + 1)},
    ]);
    assert_eq!(put(&ingestion, &token, &[], rows.to_string().as_bytes()).await.status, 204);
    let rows = ingestion.rows();
    let mut first = rows[0].silently.clone();
    first.sort();
    assert_eq!(
        first,
        [
            "Other is dropped: the stream does not declare it",
            "Seq becomes null: it is not of type long",
            "TimeGenerated is replaced by the time of receipt"
        ]
    );
    assert_eq!(rows[1].silently.len(), 2, "{:?}", rows[1].silently);
}

#[tokio::test]
async fn statuses_are_scripted() {
    let ingestion = ingestion().await;
    let token = token(&ingestion).await;
    let script = send(ingestion.addr(), "POST", "/demo/script", &[JSON], br#"{"statuses": [429]}"#).await;
    assert_eq!(script.status, 200);
    let answer = put(&ingestion, &token, &[], b"[]").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    assert_eq!(put(&ingestion, &token, &[], b"[]").await.status, 204);
}

#[test]
fn columns_come_from_a_template() {
    let template = json!({"resources": [{"type": "table"}, {"properties": {"streamDeclarations": {
        "Custom-X": {"columns": [{"name": "A", "type": "string"}]}}}}]});
    assert_eq!(columns_of_template(&template), Some(BTreeMap::from([("A".to_owned(), "string".to_owned())])));
    assert_eq!(columns_of_template(&json!({})), None);
}
