//! What a call takes of its limits: the quotas of its policy and the rate limits of its plan. Which limits those are,
//! what the call needs of them, what it came to, and how that is told the client. Counting itself is in `quota`.
//!
//! Limits are those of the policy's stable revision: no candidate changes them.

use std::sync::Arc;

use ::quota::tokens::Encoding;
use ::quota::{
    Claim, Level, Need, Refused, Reservation, Room, What, Window, key_bucket, project_bucket, user_bucket,
};
use audit::event::{Outcome, QuotaScope};
use http::{HeaderMap, HeaderName, HeaderValue};
use llm_api::chat::answer::{Answer, TokenUsage};
use llm_api::chat::chunk::Chunk;
use llm_api::chat::request::ChatRequest;
use llm_api::sse::Frame;
use policy::Decision;

use crate::call::Call;
use crate::error_reply::Failure;

/// What OpenAI's models read around each message, and before the answer
/// (<https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb>).
const TOKENS_PER_MESSAGE: u64 = 3;
const TOKENS_PER_PROMPT: u64 = 3;
/// A stream that passes what it holds asks for this much more at a time.
const EXTEND_TOKENS: u64 = 64;

/// The limits that a call holds a part of.
#[derive(Debug)]
pub(crate) struct Metered {
    reservation: Reservation,
    /// How tokens are counted; none where no limit is on tokens.
    encoding: Option<Encoding>,
    prompt_tokens: u64,
    /// Of the answer, by our own count.
    answer_tokens: u64,
    was_cut: bool,
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// A request and its tokens.
    Used,
    /// A request and no tokens: the policy gave its own text.
    Refused,
    /// Nothing: it failed.
    Nothing,
}

impl Call {
    /// Reserves what the call needs of each of its limits, or nothing of any, and looks at the project's budget. Without a
    /// `request` to a model that is a request and no tokens.
    ///
    /// # Errors
    /// [`Failure::Quota`]. What a refused call holds is given back as it ends.
    pub(crate) async fn reserve(&mut self, request: Option<&Arc<ChatRequest>>) -> Result<(), Failure> {
        self.reserve_quotas(request).await?;
        self.check_budget()
    }

    async fn reserve_quotas(&mut self, request: Option<&Arc<ChatRequest>>) -> Result<(), Failure> {
        let claims = self.claims();
        if claims.is_empty() {
            return Ok(());
        }
        let counted = request.filter(|_| claims.iter().any(|claim| claim.tokens_max > 0));
        let encoding = counted.map(|request| Encoding::of_model(&request.model));
        let mut prompt_tokens = 0;
        let mut need = Need::default();
        if let (Some(encoding), Some(request)) = (encoding, counted) {
            if !encoding.is_loaded() {
                // Once in the life of the process. Should it fail, counting loads it.
                drop(tokio::task::spawn_blocking(move || encoding.load()).await);
            }
            let (counted, body_bytes) = (Arc::clone(request), request.body_bytes());
            let count = move || count_prompt(encoding, &counted);
            prompt_tokens = self.shared.apart.run(body_bytes, count).await?;
            let typical = || self.shared.typical.of(&request.model);
            let answer = request.answer_tokens_max().unwrap_or_else(typical);
            need = Need {
                tokens_min: prompt_tokens.saturating_add(1),
                tokens: prompt_tokens.saturating_add(answer.max(1)),
            };
        }
        let now_s = jiff::Timestamp::now().as_second();
        match Reservation::new(Arc::clone(&self.shared.quota), claims, need, now_s) {
            Ok(reservation) => {
                self.quota = Some(Box::new(Metered {
                    reservation,
                    encoding,
                    prompt_tokens,
                    answer_tokens: 0,
                    was_cut: false,
                }));
                Ok(())
            }
            Err(refused) => {
                let failure = failure(&refused);
                self.refused_levels = refused.levels;
                Err(failure)
            }
        }
    }

    /// The limits that the call is subject to: the key's first, then the user's, then the project's.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        let key_id = &self.key.id;
        if let Some(plan) = self.key.plan.as_ref().filter(|plan| plan.limits()) {
            claims.push(Claim {
                scope: QuotaScope::Key,
                bucket: key_bucket(key_id, Window::Minute),
                window: Window::Minute,
                requests_max: plan.requests_per_minute,
                tokens_max: plan.tokens_per_minute,
            });
        }
        let Some(policy_id) = self.event.policy_id.as_deref() else { return claims };
        let stable = self.snapshot.policy(policy_id).and_then(|policy| policy.stable_revision());
        let Some(stable) = stable else { return claims };
        let controls = &stable.document().org_controls;
        if let Some(quota) = controls.active_user_quota() {
            let (window, user) = (quota.window.into(), self.event.policy_user.as_deref());
            claims.push(Claim {
                scope: QuotaScope::User,
                bucket: user_bucket(policy_id, user, key_id, window),
                window,
                requests_max: quota.requests,
                tokens_max: quota.tokens,
            });
        }
        if let Some(quota) = controls.active_project_quota() {
            let window = quota.window.into();
            let project_id = self.event.project_id.as_deref().unwrap_or_default();
            claims.push(Claim {
                scope: QuotaScope::Project,
                bucket: project_bucket(policy_id, project_id, window),
                window,
                requests_max: quota.requests,
                tokens_max: quota.tokens,
            });
        }
        claims
    }

    /// Settles what the call came to. It is done before the last byte of the answer leaves, so that a client's next
    /// request finds it done. Said again, the last word counts.
    pub(crate) fn settle_quota(&mut self, took: Took) {
        let Some(metered) = &mut self.quota else { return };
        let (requests, tokens) = match (took, &self.event.usage) {
            (Took::Used, Some(usage)) => (1, usage.total_tokens),
            (Took::Used, None) => (1, metered.prompt_tokens.saturating_add(metered.answer_tokens)),
            (Took::Refused, _) => (1, 0),
            (Took::Nothing, _) => (0, 0),
        };
        metered.reservation.settle(requests, tokens);
        self.event.quota = metered.reservation.charges();
    }

    /// What a call came to that nobody settled: it ended in an unusual way.
    pub(crate) fn settle_quota_at_end(&mut self, outcome: Outcome) {
        match &self.quota {
            Some(metered) if !metered.reservation.is_settled() => {
                self.settle_quota(match outcome {
                    Outcome::UpstreamError => Took::Nothing,
                    _ if self.is_replaced() => Took::Refused,
                    _ => Took::Used,
                });
            }
            _ => {}
        }
        let Some(metered) = &self.quota else { return };
        if let (Some(usage), Some(model)) = (&self.event.usage, &self.event.model)
            && metered.encoding.is_some()
            && !metered.was_cut
            && outcome == Outcome::Completed
            && usage.completion_tokens > 0
        {
            self.shared.typical.learn(model, usage.completion_tokens);
        }
    }

    fn is_replaced(&self) -> bool {
        matches!(self.event.effective_decision, Some(Decision::Refuse | Decision::Escalate))
    }

    /// Takes what the call holds over into the event, for its decision record.
    pub(crate) fn tell_quota(&mut self) {
        if let Some(metered) = &self.quota {
            self.event.quota = metered.reservation.charges();
        }
    }

    /// Counts an answer whose upstream did not.
    pub(crate) fn count_answer(&mut self, answer: &Answer) {
        if let Some(Metered { encoding: Some(encoding), answer_tokens, .. }) = self.quota.as_deref_mut()
            && let Ok(walk) = answer.texts()
        {
            *answer_tokens += walk.units().iter().map(|unit| encoding.count(&unit.text)).sum::<u64>();
        }
    }

    /// Counts an event of a streamed answer, holding more where what is held does not do. Gives whether it may pass.
    pub(crate) fn may_pass(&mut self, frame: &Frame) -> bool {
        let Some(metered) = &mut self.quota else { return true };
        let Some(encoding) = metered.encoding else { return true };
        let tokens = count_event(encoding, frame);
        let used = metered.prompt_tokens.saturating_add(metered.answer_tokens).saturating_add(tokens);
        let missing = used.saturating_sub(metered.reservation.tokens());
        if missing > 0 && metered.reservation.extend(missing.max(EXTEND_TOKENS)) < missing {
            metered.was_cut = true;
            return false;
        }
        metered.answer_tokens += tokens;
        true
    }

    /// Whether the prompt and what passed were cut off by a limit, with the code of that limit; and what they come to.
    pub(crate) fn cut_off(&self) -> Option<(&'static str, TokenUsage)> {
        let metered = self.quota.as_ref().filter(|metered| metered.was_cut)?;
        let (prompt, completion) = (metered.prompt_tokens, metered.answer_tokens);
        let scope = metered.reservation.tightest_on_tokens().unwrap_or(QuotaScope::Project);
        Some((code(scope), TokenUsage { prompt, completion, total: prompt.saturating_add(completion) }))
    }

    /// OpenAI's headers about limits, each for the limit that leaves the least.
    pub(crate) fn limit_headers(&self, headers: &mut HeaderMap) {
        let levels: Vec<Level> = match &self.quota {
            Some(metered) => metered.reservation.levels().collect(),
            None => self.refused_levels.clone(),
        };
        if levels.is_empty() {
            return;
        }
        let now_s = jiff::Timestamp::now().as_second();
        let mut tell = |names: [&'static str; 3], room: fn(&Level) -> Option<Room>| {
            let rooms = levels.iter().filter_map(|level| Some((room(level)?, level.end_s)));
            let Some((room, end_s)) = rooms.min_by_key(|(room, _)| room.left) else { return };
            let reset = HeaderValue::try_from(duration(end_s.saturating_sub(now_s)));
            let values = [Ok(HeaderValue::from(room.max)), Ok(HeaderValue::from(room.left)), reset];
            for (name, value) in names.into_iter().zip(values) {
                if let Ok(value) = value {
                    headers.insert(HeaderName::from_static(name), value);
                }
            }
        };
        let requests =
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
        tell(requests, |level| level.requests);
        let tokens = ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
        tell(tokens, |level| level.tokens);
    }
}

/// Tokens of a prompt: its texts, what models read around them, and the tools that come with it. Pictures and sound are
/// left to the upstream's count.
fn count_prompt(encoding: Encoding, request: &ChatRequest) -> Result<u64, Failure> {
    let walk = request.texts()?;
    let texts: u64 = walk.units().iter().map(|unit| encoding.count(&unit.text)).sum();
    let tools: u64 = request.tools_json().map(|json| encoding.count(json)).sum();
    let messages = TOKENS_PER_MESSAGE.saturating_mul(request.roles.len() as u64);
    Ok(texts.saturating_add(tools).saturating_add(messages).saturating_add(TOKENS_PER_PROMPT))
}

/// Tokens of an event. One that cannot be read is the judge's to report.
fn count_event(encoding: Encoding, frame: &Frame) -> u64 {
    let data = frame.data.as_deref().and_then(|data| std::str::from_utf8(data).ok()).map(str::trim);
    let Some(data) = data.filter(|data| *data != "[DONE]") else { return 0 };
    let Ok(chunk) = Chunk::parse(data) else { return 0 };
    let Ok(choices) = chunk.choices() else { return 0 };
    let of_choice = |choice: &llm_api::chat::chunk::ChunkChoice<'_>| {
        let texts = choice.texts.iter().map(|text| text.text.as_ref());
        let inputs = choice.calls.iter().flat_map(|call| call.inputs.iter().map(|input| input.text.as_ref()));
        texts.chain(inputs).map(|text| encoding.count(text)).sum::<u64>()
    };
    choices.iter().map(of_choice).sum()
}

fn code(scope: QuotaScope) -> &'static str {
    match scope {
        QuotaScope::Key => "RATE_LIMITED",
        QuotaScope::User => "USER_QUOTA_EXCEEDED",
        QuotaScope::Project => "PROJECT_QUOTA_EXCEEDED",
    }
}

fn failure(refused: &Refused) -> Failure {
    let (noun, owner) = match refused.what {
        What::Requests => ("requests", "requests"),
        What::Tokens => ("tokens", "tokens"),
    };
    let Refused { room, needed, .. } = refused;
    let wait = duration(i64::try_from(refused.retry_after_s).unwrap_or(i64::MAX));
    let (limit, raise) = match refused.scope {
        QuotaScope::Key => (
            format!("the rate limit of this key, {} {noun} per minute,", room.max),
            format!("ask for a plan with more `{owner}_per_minute`"),
        ),
        QuotaScope::User => (
            format!("the {} quota of this user, {} {noun},", refused.window.as_str(), room.max),
            format!("ask the policy's owner to raise `org_controls.user_quota.{owner}`"),
        ),
        QuotaScope::Project => (
            format!("the {} quota of this project, {} {noun},", refused.window.as_str(), room.max),
            format!("ask the policy's owner to raise `org_controls.project_quota.{owner}`"),
        ),
    };
    let state = if room.left == 0 {
        "is used up".to_owned()
    } else {
        format!("leaves {} and the request needs {needed}", room.left)
    };
    Failure::Quota {
        code: code(refused.scope),
        message: format!("{limit} {state}: try again in {wait}, or {raise}"),
        retry_after_s: refused.retry_after_s,
    }
}

/// As OpenAI writes it: `6m0s`, `1s`, `23h59m59s`.
fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn durations_are_written_as_openai_does() {
        for (seconds, text) in
            [(-1, "0s"), (0, "0s"), (59, "59s"), (360, "6m0s"), (3600, "1h0m0s"), (86_399, "23h59m59s")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_prompt_is_counted_with_what_goes_around_it() {
        let count = |body: &'static str| {
            count_prompt(Encoding::O200k, &ChatRequest::parse(Bytes::from_static(body.as_bytes())).unwrap())
        };
        let plain = r#"{"model":"m","messages":[{"role":"user","content":"tiktoken is great!"}]}"#;
        assert_eq!(count(plain), Ok(6 + 3 + 3));
        let two = r#"{"model":"m","messages":[{"role":"system","content":"tiktoken is great!"},
            {"role":"user","content":[{"type":"text","text":"tiktoken is great!"}]}],
            "tools":[{"type":"function","function":{"name":"f","description":"tiktoken is great!"}}]}"#;
        assert!(count(two).is_ok_and(|tokens| tokens > 12 + 9 + 6), "{:?}", count(two));
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let refused = |scope, what, left| Refused {
            scope,
            window: if scope == QuotaScope::Key { Window::Minute } else { Window::Monthly },
            what,
            room: Room { max: 100, left },
            needed: 30,
            retry_after_s: 61,
            levels: Vec::new(),
        };
        let all: String = [
            refused(QuotaScope::Key, What::Requests, 0),
            refused(QuotaScope::User, What::Tokens, 20),
            refused(QuotaScope::Project, What::Tokens, 0),
        ]
        .iter()
        .map(|refused| format!("{}\n", failure(refused)))
        .collect();
        insta::assert_snapshot!(all, @r"
        the rate limit of this key, 100 requests per minute, is used up: try again in 1m1s, or ask for a plan with more `requests_per_minute`
        the monthly quota of this user, 100 tokens, leaves 20 and the request needs 30: try again in 1m1s, or ask the policy's owner to raise `org_controls.user_quota.tokens`
        the monthly quota of this project, 100 tokens, is used up: try again in 1m1s, or ask the policy's owner to raise `org_controls.project_quota.tokens`
        ");
    }
}
