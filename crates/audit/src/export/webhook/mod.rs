//! Signed requests to a URL of one's own, by Standard Webhooks 1.0
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>): `webhook-id` stays the
//! same over all tries, `webhook-timestamp` is the time of the try, and the signature is over both and the body.

mod config;
mod encode;
mod send;
#[cfg(test)]
mod tests;

pub use config::{RawWebhook, Webhook};
pub use encode::WebhookBody;
pub use send::WebhookDestination;
