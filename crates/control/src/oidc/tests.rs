use std::collections::BTreeMap;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use audit::outbox::BoxFuture;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::StatusCode;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use super::*;
use crate::config::Role;

const ISSUER: &str = "https://id.example.com/realms/acme";
const NOW_S: i64 = 1_768_587_731;

/// Keys of every kind, and what signs with them.
pub(crate) struct Keys {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Keys {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(include_bytes!("test-rsa.der")).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    /// The public halves.
    fn set(&self) -> Value {
        let rsa: RsaPublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        let (modulus, exponent) = (rsa.n.as_slice(), rsa.e.as_slice());
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": text(modulus), "e": text(exponent)},
            {"kty": "EC", "kid": "ec", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": text(self.ed.public_key().as_ref())},
            {"kty": "RSA", "kid": "enc", "use": "enc", "n": text(modulus), "e": text(exponent)},
            {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
            {"kty": "EC", "kid": "p521", "crv": "P-521", "x": "AA", "y": "AA"},
        ]})
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "RS256" => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            "ES256" => self.ec.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            other => other.as_bytes().to_vec(),
        }
    }

    fn token(&self, header: Value, claims: &Value) -> String {
        let signed =
            format!("{}.{}", text(header.to_string().as_bytes()), text(claims.to_string().as_bytes()));
        let algorithm = header["alg"].as_str().unwrap_or_default();
        format!("{signed}.{}", text(&self.sign(algorithm, signed.as_bytes())))
    }
}

fn claims(more: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": ["other", "gateway"], "sub": "u-1", "email": "ann@example.com",
        "iat": NOW_S, "exp": NOW_S + 300, "realm_access": {"roles": ["staff", "gw-editors"]}});
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// An issuer that answers what it is told to.
#[derive(Default)]
struct Site {
    answers: StdMutex<BTreeMap<String, Result<Value, String>>>,
    asked: AtomicUsize,
}

impl Site {
    fn answer(&self, path: &str, answer: Value) {
        self.answers.lock().unwrap().insert(format!("{ISSUER}{path}"), Ok(answer));
    }
}

impl Fetch for Site {
    fn get(&self, url: String) -> BoxFuture<'_, Result<Bytes, PortError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found = self.answers.lock().unwrap().get(&url).cloned();
        let answer = found.unwrap_or_else(|| Err(format!("`{url}` answers 404")));
        Box::pin(async move { answer.map(|answer| Bytes::from(answer.to_string())).map_err(PortError) })
    }
}

struct Time(AtomicI64);

impl Clock for Time {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn config() -> OidcConfig {
    OidcConfig {
        issuer: ISSUER.to_owned(),
        audience: "gateway".to_owned(),
        roles_claim: "realm_access.roles".to_owned(),
        role_map: BTreeMap::from([
            ("gw-editors".to_owned(), Role::Editor),
            ("gw-auditors".to_owned(), Role::Auditor),
            ("gw-admins".to_owned(), Role::Admin),
        ]),
        jwks_uri: None,
        leeway_seconds: Some(30),
    }
}

struct Bench {
    issuer: Issuer,
    site: Arc<Site>,
    time: Arc<Time>,
    keys: Keys,
}

fn bench() -> Bench {
    let (site, keys) = (Arc::new(Site::default()), Keys::new());
    let discovered = json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys"), "more": 1});
    site.answer(DISCOVERY, discovered);
    site.answer("/keys", keys.set());
    let time = Arc::new(Time(AtomicI64::new(NOW_S * 1000)));
    let issuer = Issuer::new(config().build("oidc").unwrap(), Arc::clone(&site) as _, Arc::clone(&time) as _);
    Bench { issuer, site, time, keys }
}

impl Bench {
    async fn refused(&self, token: &str) -> (StatusCode, String) {
        let failure = self.issuer.caller(token).await.unwrap_err().into_response();
        let body: Value = serde_json::from_slice(failure.body()).unwrap();
        (failure.status(), body["error"]["message"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn tokens_of_every_algorithm_are_taken_and_their_roles_mapped() {
    let bench = bench();
    for (algorithm, key) in [("RS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")] {
        let header = json!({"alg": algorithm, "kid": key, "typ": "JWT"});
        let caller = bench.issuer.caller(&bench.keys.token(header, &claims(json!({})))).await.unwrap();
        assert_eq!(
            (caller.name.as_str(), caller.role),
            ("oidc:ann@example.com (u-1)", Role::Editor),
            "{algorithm}"
        );
        // The only key of that algorithm need not be named.
        let header = json!({"alg": algorithm});
        assert!(bench.issuer.caller(&bench.keys.token(header, &claims(json!({})))).await.is_ok());
    }
    assert_eq!(bench.site.asked.load(Ordering::SeqCst), 2, "keys are fetched once, by discovery");
    let as_ = async |more: Value| {
        let token = bench.keys.token(json!({"alg": "EdDSA", "kid": "ed"}), &claims(more));
        bench.issuer.caller(&token).await.map(|caller| caller.role)
    };
    let roles = |roles: Value| json!({"realm_access": {"roles": roles}});
    assert_eq!(as_(roles(json!(["gw-auditors", "gw-admins"]))).await.unwrap(), Role::Admin);
    assert_eq!(as_(roles(json!("gw-auditors"))).await.unwrap(), Role::Auditor);
    assert_eq!(
        as_(json!({"aud": "gateway", "email": null, "exp": 1_768_588_000.5})).await.unwrap(),
        Role::Editor
    );
    for none in [
        roles(json!([])),
        roles(json!(["staff", 7])),
        roles(json!({"gw-admins": true})),
        json!({"realm_access": null}),
    ] {
        let failure = as_(none.clone()).await.unwrap_err().into_response();
        assert_eq!(failure.status(), StatusCode::FORBIDDEN, "{none}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused_with_the_reason() {
    let bench = bench();
    let good = json!({"alg": "RS256", "kid": "rsa"});
    for (more, reason) in [
        (json!({"exp": NOW_S - 30}), "has expired"),
        (json!({"exp": null}), "`exp`"),
        (json!({"exp": "2999-01-01"}), "`exp` is no time"),
        (json!({"exp": 1e30}), "`exp` is no time"),
        (json!({"nbf": NOW_S + 31}), "not good yet"),
        (json!({"iat": NOW_S + 31}), "in the future"),
        (json!({"nbf": "x"}), "`nbf` is no time"),
        (json!({"iss": "https://id.example.com/realms/other"}), "`iss`"),
        (json!({"iss": null}), "`iss`"),
        (json!({"iss": [ISSUER]}), "`iss`"),
        (json!({"aud": "other"}), "`aud`"),
        (json!({"aud": null}), "`aud`"),
        (json!({"aud": {"gateway": 1}}), "`aud`"),
        (json!({"sub": ""}), "`sub`"),
        (json!({"sub": 7}), "`sub`"),
    ] {
        let (status, message) = bench.refused(&bench.keys.token(good.clone(), &claims(more.clone()))).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{more}");
        assert!(message.contains(reason), "{more}: {message}");
    }
    // Within the leeway it is good.
    for more in [json!({"exp": NOW_S - 29}), json!({"nbf": NOW_S + 30, "iat": NOW_S + 30})] {
        let token = bench.keys.token(good.clone(), &claims(more.clone()));
        assert!(bench.issuer.caller(&token).await.is_ok(), "{more}");
    }
    for (header, reason) in [
        (json!({"alg": "none"}), "`none`"),
        (json!({"alg": "None", "kid": "rsa"}), "`none`"),
        (json!({"alg": "HS256", "kid": "rsa"}), "HS256"),
        (json!({"alg": "HS256", "kid": "shared"}), "HS256"),
        (json!({"alg": "RS384", "kid": "rsa"}), "RS256"),
        (json!({"alg": "PS256", "kid": "rsa"}), "RS256"),
        (json!({"alg": "ES512", "kid": "p521"}), "RS256"),
        (json!({"kid": "rsa"}), "header"),
        (json!({"alg": ["RS256"]}), "header"),
        (json!({"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": false}), "crit"),
        (json!({"alg": "RS256", "kid": "enc"}), "`kid`"),
        (json!({"alg": "RS256", "kid": "nobody"}), "`kid`"),
        (json!({"alg": "ES256", "kid": "rsa"}), "`kid`"),
        (json!({"alg": "RS256", "kid": "' OR 1=1 --"}), "`kid`"),
        (json!({"alg": "RS256", "kid": "k".repeat(300)}), "key id"),
    ] {
        let (status, message) = bench.refused(&bench.keys.token(header.clone(), &claims(json!({})))).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{header}");
        assert!(message.contains(reason), "{header}: {message}");
    }
    // A signature of somebody else, of something else, cut short, or none.
    let token = bench.keys.token(good.clone(), &claims(json!({})));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let forged = Keys { ed: Keys::new().ed, ..Keys::new() }
        .token(json!({"alg": "EdDSA", "kid": "ed"}), &claims(json!({})));
    let (header, _) = signed.split_once('.').unwrap();
    let other = text(claims(json!({"realm_access": {"roles": ["gw-admins"]}})).to_string().as_bytes());
    for bad in [
        forged,
        format!("{header}.{other}.{signature}"),
        format!("{signed}."),
        format!("{signed}.{}", &signature[..signature.len() - 4]),
        format!("{signed}.%%%"),
        format!("..{signature}"),
        "a.b.c".to_owned(),
        "x".repeat(20_000),
        format!("{}.{}.", text(br#"{"alg":"none"}"#), text(claims(json!({})).to_string().as_bytes())),
    ] {
        assert_eq!(bench.refused(&bad).await.0, StatusCode::UNAUTHORIZED, "{bad}");
    }
}

#[tokio::test]
async fn a_key_that_nobody_knows_is_looked_for_but_not_for_each_request() {
    let bench = bench();
    let header = json!({"alg": "EdDSA", "kid": "ed"});
    assert!(bench.issuer.caller(&bench.keys.token(header.clone(), &claims(json!({})))).await.is_ok());
    let asked = || bench.site.asked.load(Ordering::SeqCst);
    let first = asked();
    // The issuer rotates: another key under another id.
    let next = Keys::new();
    let mut set = next.set();
    set["keys"][2]["kid"] = json!("ed-2");
    bench.site.answer("/keys", set);
    let rotated = next.token(json!({"alg": "EdDSA", "kid": "ed-2"}), &claims(json!({})));
    assert_eq!(bench.refused(&rotated).await.0, StatusCode::UNAUTHORIZED, "asked a moment ago");
    assert_eq!(asked(), first);
    bench.time.0.fetch_add(REFRESH_MIN_MS, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(bench.issuer.caller(&rotated).await.is_ok());
    }
    assert_eq!(asked(), first + 2);
    let old = bench.keys.token(header, &claims(json!({})));
    assert_eq!(bench.refused(&old).await.0, StatusCode::UNAUTHORIZED, "withdrawn");
    for round in 0..50 {
        let header = json!({"alg": "EdDSA", "kid": format!("guess-{round}")});
        bench.refused(&bench.keys.token(header, &claims(json!({})))).await;
    }
    assert_eq!(asked(), first + 2, "inventing ids makes no requests");
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_unavailable_and_the_keys_that_were_there_stay() {
    let bench = bench();
    let token = bench.keys.token(json!({"alg": "EdDSA", "kid": "ed"}), &claims(json!({})));
    let answers = std::mem::take(&mut *bench.site.answers.lock().unwrap());
    let (status, message) = bench.refused(&token).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(message.contains("answers 404"), "{message}");
    for (wrong, hint) in [
        (
            json!({"issuer": "https://evil.example.com", "jwks_uri": format!("{ISSUER}/keys")}),
            "describes the issuer",
        ),
        (json!({"issuer": ISSUER, "jwks_uri": "http://id.example.com/keys"}), "https"),
        (json!({"issuer": ISSUER}), "no OpenID Connect issuer"),
    ] {
        bench.site.answer(DISCOVERY, wrong);
        let error = bench.issuer.refresh(0).await.unwrap_err();
        assert!(error.0.contains(hint), "{error}");
    }
    *bench.site.answers.lock().unwrap() = answers;
    for empty in [json!({"keys": []}), json!([]), json!({"keys": [{"kty": "oct", "k": "x"}]})] {
        bench.site.answer("/keys", empty);
        assert!(bench.issuer.refresh(0).await.is_err());
    }
    bench.site.answer("/keys", bench.keys.set());
    bench.issuer.refresh(0).await.unwrap();
    assert!(bench.issuer.caller(&token).await.is_ok());
    bench.site.answers.lock().unwrap().clear();
    assert!(bench.issuer.refresh(0).await.is_err());
    assert!(bench.issuer.caller(&token).await.is_ok(), "the keys that were there stay");
}

#[test]
fn every_problem_of_the_section_is_reported_with_its_path() {
    let bad = OidcConfig {
        issuer: "http://id.example.com".to_owned(),
        audience: " ".to_owned(),
        roles_claim: "a..b".to_owned(),
        role_map: BTreeMap::new(),
        jwks_uri: Some("https://user:pass@id.example.com/keys".to_owned()),
        leeway_seconds: Some(301),
    };
    let paths: Vec<String> = bad.build("oidc").unwrap_err().into_iter().map(|problem| problem.path).collect();
    let expected = ["issuer", "jwks_uri", "audience", "roles_claim", "role_map", "leeway_seconds"];
    assert_eq!(paths, expected.map(|name| format!("oidc.{name}")));
    for good in
        ["https://id.example.com", "http://127.0.0.1:8081/x", "http://localhost:8081", "http://[::1]:80"]
    {
        assert!(OidcConfig { issuer: good.to_owned(), ..config() }.build("oidc").is_ok(), "{good}");
    }
}
