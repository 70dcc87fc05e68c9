//! Reading whole bodies, within a size and a time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::error_reply::Failure;

/// Reads a request's body.
///
/// # Errors
/// [`Failure::BodyTooLarge`], [`Failure::BodyTimeout`], [`Failure::BodyBroken`].
pub(crate) async fn read(
    body: Incoming,
    headers: &HeaderMap,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Bytes, Failure> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if length.is_some_and(|length| length > bytes_max as u64) {
        return Err(Failure::BodyTooLarge(bytes_max));
    }
    match tokio::time::timeout(timeout, gather(body, bytes_max)).await {
        Err(_) => Err(Failure::BodyTimeout(timeout)),
        Ok(Err(Broken::TooLarge)) => Err(Failure::BodyTooLarge(bytes_max)),
        Ok(Err(Broken::Wire(problem))) => Err(Failure::BodyBroken(problem)),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// Reads an upstream's body.
///
/// # Errors
/// What went wrong, for the caller of the gateway.
pub(crate) async fn collect(body: Incoming, bytes_max: usize) -> Result<Bytes, String> {
    gather(body, bytes_max).await.map_err(|broken| match broken {
        Broken::TooLarge => format!("it is larger than {bytes_max} bytes"),
        Broken::Wire(_) => "it broke off".to_owned(),
    })
}

enum Broken {
    TooLarge,
    Wire(String),
}

async fn gather(mut body: Incoming, bytes_max: usize) -> Result<Bytes, Broken> {
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    let mut total = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Broken::Wire(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        total = total.saturating_add(data.len());
        if total > bytes_max {
            return Err(Broken::TooLarge);
        }
        match first.take() {
            // Nearly every body comes in one piece, and is not copied.
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(start) => {
                all.extend_from_slice(&start);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}
