//! Events that are larger than a destination takes: their largest values give way to digests.

use sha2::{Digest, Sha256};

use crate::event::hex;
use crate::stored::ranges;

/// Only values over this are worth replacing by a digest, which takes about 110 bytes itself.
const SHRINK_BYTES_MIN: usize = 256;

/// Why an event cannot be put on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The stored text is not an event.
    #[error("the stored text is not an audit event")]
    Malformed,
    /// No replacing of fields brings it below the limit.
    #[error("the event takes {bytes} bytes and cannot be shrunk below {bytes_max}")]
    TooLarge {
        /// What it takes at the least.
        bytes: usize,
        /// What the destination takes.
        bytes_max: usize,
    },
}

/// Appends what `write` makes of a stored text to `out`; where that is over `bytes_max`, what it makes of the text
/// with its largest values replaced. `write` appends, or returns `None` where the text is not an event; on an error
/// `out` is as before.
///
/// # Errors
/// [`EncodeError`]: such an event can never be sent.
pub fn fit(
    text: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
    write: impl Fn(&str, &mut Vec<u8>) -> Option<()>,
) -> Result<(), EncodeError> {
    let text = std::str::from_utf8(text).map_err(|_| EncodeError::Malformed)?;
    let start = out.len();
    let fitted = try_fit(text, bytes_max, out, write);
    if fitted.is_err() {
        out.truncate(start);
    }
    fitted
}

fn try_fit(
    text: &str,
    bytes_max: usize,
    out: &mut Vec<u8>,
    write: impl Fn(&str, &mut Vec<u8>) -> Option<()>,
) -> Result<(), EncodeError> {
    let start = out.len();
    write(text, out).ok_or(EncodeError::Malformed)?;
    if out.len() - start <= bytes_max {
        return Ok(());
    }
    let excess = out.len() - start - bytes_max;
    out.truncate(start);
    let shrunk = shrink(text, excess).ok_or(EncodeError::Malformed)?;
    write(&shrunk, out).ok_or(EncodeError::Malformed)?;
    let bytes = out.len() - start;
    if bytes <= bytes_max { Ok(()) } else { Err(EncodeError::TooLarge { bytes, bytes_max }) }
}

/// The stored text with its largest values replaced by their digests, until at least `excess` bytes are gone.
fn shrink(text: &str, excess: usize) -> Option<String> {
    let members = ranges(text)?;
    let mut by_size: Vec<_> = members
        .iter()
        .map(|(_, value)| value.clone())
        .filter(|value| value.len() > SHRINK_BYTES_MIN)
        .collect();
    by_size.sort_by_key(|value| std::cmp::Reverse(value.len()));
    let mut gone = 0;
    let mut replaced = Vec::new();
    for value in by_size {
        if gone >= excess {
            break;
        }
        let digest: [u8; 32] = Sha256::digest(text.get(value.clone())?.as_bytes()).into();
        let stub =
            format!("{{\"truncated\":true,\"sha256\":\"{}\",\"bytes\":{}}}", hex(&digest), value.len());
        gone += value.len().saturating_sub(stub.len());
        replaced.push((value, stub));
    }
    replaced.sort_by_key(|(value, _)| value.start);
    let mut shrunk = String::with_capacity(text.len().saturating_sub(gone));
    let mut from = 0;
    for (value, stub) in replaced {
        shrunk.push_str(text.get(from..value.start)?);
        shrunk.push_str(&stub);
        from = value.end;
    }
    shrunk.push_str(text.get(from..)?);
    Some(shrunk)
}
