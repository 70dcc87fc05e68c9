//! Finding a policy's terms in texts: whole words or phrases, in whatever guise. `terms` is the story;
//! `normal`, `chars` and `boundary` hold the Unicode below it. Personal data and secrets are in `entities`.

pub(crate) mod blocks;
mod boundary;
mod bytes;
mod chars;
mod normal;
pub(crate) mod terms;
mod trie;

pub(crate) use boundary::Before;
pub(crate) use bytes::ByteTable;
pub(crate) use chars::CharInfo;
pub(crate) use normal::{Normal, normalise};
