//! Bodies that may be packed, for the counterparts that know gzip only.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// The body unpacked, up to `bytes_max`; `None` where it is more, not gzip, or packed in another way.
pub(crate) fn unpacked(headers: &HeaderMap, body: &Bytes, bytes_max: usize) -> Option<Bytes> {
    match headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or_default()) {
        None | Some("identity") => Some(body.clone()),
        Some("gzip") => {
            let mut unpacked = Vec::new();
            let most = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
            MultiGzDecoder::new(body.as_ref()).take(most).read_to_end(&mut unpacked).ok()?;
            (unpacked.len() <= bytes_max).then(|| unpacked.into())
        }
        Some(_) => None,
    }
}
