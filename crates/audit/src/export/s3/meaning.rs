//! What an answer of S3 means for a batch: a pure function of status and error code. Nothing about an event can make S3 refuse
//! an object, so no answer rejects one; what a person must mend holds, the rest is tried again.

use super::wire::Said;
use crate::delivery::SendOutcome;
use crate::export::http::advice;

/// What became of a PUT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// The object is there, with these bytes.
    Written,
    /// An object was there before.
    Exists,
    /// The store does not know conditional puts.
    Unconditional,
    /// Neither.
    Failed(SendOutcome),
}

/// Words for what the operator knows it by.
#[derive(Clone, Debug)]
pub(super) struct Names<'a> {
    /// Bucket.
    pub(super) bucket: &'a str,
    /// Region.
    pub(super) region: &'a str,
    /// Where the keys come from.
    pub(super) origin: &'a str,
}

/// What a PUT that the crate calls failed has come to; `error` is the crate's own text, for when the store was never asked.
pub(super) fn of_put(said: Option<Said>, error: &str, names: &Names<'_>) -> Put {
    match said {
        Some(Said::Answer { status: 412, .. }) => Put::Exists,
        Some(Said::Answer { status, code, .. })
            if status == 501 || (status == 400 && code == "NotImplemented") =>
        {
            Put::Unconditional
        }
        said => Put::Failed(of_failure(said, error, names)),
    }
}

/// What a failed request means.
pub(super) fn of_failure(said: Option<Said>, error: &str, names: &Names<'_>) -> SendOutcome {
    let (status, code, after, kind) = match said {
        None => {
            let why =
                format!("no keys to sign with, from {} ({error}): check that there are any", names.origin);
            return SendOutcome::Hold { why };
        }
        Some(Said::Nothing(no_answer)) => return no_answer.into(),
        Some(Said::Answer { status, code, after, kind }) => (status, code, after, kind),
    };
    if (200..300).contains(&status) {
        let why = format!(
            "the endpoint answers {status} with {kind}, which is not S3's answer (an `ETag` and nothing): check `endpoint`, and \
             whether a proxy or a login page answers in its place"
        );
        return SendOutcome::Hold { why };
    }
    let named = if code.is_empty() { String::new() } else { format!(" ({code})") };
    let why = format!("S3 answers {status}{named}: {}", fix(status, &code, names));
    match (status, code.as_str()) {
        (400, "RequestTimeout" | "SlowDown") | (408 | 409 | 425 | 429 | 500..=599, _) => {
            SendOutcome::Retry { after, why }
        }
        (413, _) | (400, "EntityTooLarge") => SendOutcome::TooLarge { why },
        _ => SendOutcome::Hold { why },
    }
}

fn fix(status: u16, code: &str, names: &Names<'_>) -> String {
    let Names { bucket, region, origin } = names;
    match (status, code) {
        (_, "NoSuchBucket") => format!("there is no bucket `{bucket}`: make it, or check `bucket` and `endpoint`"),
        (_, "AccessDenied") => {
            format!("the keys from {origin} may not write there: allow `s3:PutObject` on `{bucket}/<prefix>*`{}", locks())
        }
        (_, "AllAccessDisabled" | "AccountProblem") => "the account is not in order: see its billing".to_owned(),
        (_, "InvalidAccessKeyId") => format!("it does not know the access key from {origin}"),
        (_, "SignatureDoesNotMatch") => {
            format!("the secret from {origin} does not fit the access key, or a proxy changes requests on the way")
        }
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            format!("the session token from {origin} is over: renew it")
        }
        (_, "RequestTimeTooSkewed") => "this machine's clock is wrong by more than 15 minutes: set it".to_owned(),
        (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException")
        | (300..=399, _) => format!("the bucket is not in the region `{region}`: check `region`"),
        (_, "InvalidRequest" | "InvalidArgument" | "ObjectLockConfigurationNotFoundError") if status < 500 => {
            "it does not accept a setting of the request: `object_lock` needs a bucket made with Object Lock, `sse` and \
             `kms_key_id` a key that exists in the region"
                .to_owned()
        }
        (_, code) if code.starts_with("KMS.") => "the KMS key cannot be used: check `kms_key_id` and its policy".to_owned(),
        (403, _) => format!("the keys from {origin} are not accepted, or may not write to `{bucket}`"),
        (404, _) => format!("there is no bucket `{bucket}` here: check `bucket`, `endpoint` and `path_style`"),
        (409, _) => "another writer was at the same object: it is tried again".to_owned(),
        (503, _) => "it asks for fewer requests".to_owned(),
        _ => advice(status).to_owned(),
    }
}

/// Two permissions that are forgotten easily.
fn locks() -> &'static str {
    ", with `object_lock` also `s3:PutObjectRetention`, with `sse: aws:kms` also `kms:GenerateDataKey` on the key"
}
