//! What events tell of limits: what a call takes of quotas and rate limits, and how much of one is used up.

use serde::{Deserialize, Serialize};

/// Whose a quota or rate limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaScope {
    /// A key's, by the plan that it is on.
    Key,
    /// A user's, by the policy.
    User,
    /// A project's, by the policy.
    Project,
}

/// Stands for what is counted together: a digest of policy, subject and window. 32 hex digits in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketId(pub [u8; 16]);

impl From<BucketId> for String {
    fn from(bucket: BucketId) -> Self {
        bucket.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for BucketId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || "a bucket has 32 hex digits".to_owned();
        let mut bytes = [0; 16];
        if text.len() != 2 * bytes.len() {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// What a call takes of one limit: on its decision record what it holds, on its closing record what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaCharge {
    /// Whose limit.
    pub scope: QuotaScope,
    /// What is counted together.
    pub bucket: BucketId,
    /// When the window began, Unix time in seconds.
    pub start_s: i64,
    /// When it ends.
    pub end_s: i64,
    /// Requests: 1, or 0 where the call is not counted.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
}

/// What a threshold is a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertOf {
    /// A project's budget.
    Budget,
    /// A user's quota by the policy.
    UserQuota,
    /// A project's quota by the policy.
    ProjectQuota,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
    /// US dollars.
    Usd,
}

/// An amount of a [`Measure`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// Requests or tokens.
    Count(u64),
    /// US dollars.
    Usd(f64),
}

/// What an [`EventType::Quota`](super::EventType::Quota) event tells of that no request was refused for: a limit of which a share is used up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertInfo {
    /// Which limit.
    pub of: AlertOf,
    /// What it is on.
    pub measure: Measure,
    /// The share that is reached, of 100.
    pub percent: u32,
    /// The limit.
    pub limit: Amount,
    /// What is used of it.
    pub used: Amount,
    /// `hourly`, `daily`, `weekly` or `monthly`.
    pub window: String,
    /// When the window began, RFC 3339 UTC.
    pub start: String,
    /// When it ends.
    pub end: String,
}
