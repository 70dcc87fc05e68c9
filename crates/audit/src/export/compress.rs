//! Compression of request bodies, fed event by event so that the uncompressed body never exists as a whole. The
//! names are those of `Content-Encoding`; `deflate` is the zlib format, as HTTP has it (RFC 9110 §8.4.1.2).

use std::io::{self, Write};

use flate2::write::{GzEncoder, ZlibEncoder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Level 1 of either algorithm: audit logs repeat themselves so much that more buys little.
const LEVEL: u32 = 1;

/// How a request body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Understood by every proxy on the way.
    #[default]
    Gzip,
    /// Smaller and faster.
    Zstd,
    /// The zlib format.
    Deflate,
    /// None.
    Identity,
}

impl Compression {
    /// Value of `Content-Encoding`; `None` where the header is left out.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::Deflate => Some("deflate"),
            Self::Identity => None,
        }
    }
}

/// A body being compressed.
pub enum Compressor {
    /// See [`Compression::Gzip`].
    Gzip(GzEncoder<Vec<u8>>),
    /// See [`Compression::Zstd`].
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// See [`Compression::Deflate`].
    Deflate(ZlibEncoder<Vec<u8>>),
    /// See [`Compression::Identity`].
    Identity(Vec<u8>),
}

impl Compressor {
    /// An empty body.
    ///
    /// # Errors
    /// zstd could not set up its context (out of memory).
    pub fn new(compression: Compression) -> io::Result<Self> {
        let level = flate2::Compression::new(LEVEL);
        Ok(match compression {
            Compression::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), level)),
            Compression::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
            Compression::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), level)),
            Compression::Identity => Self::Identity(Vec::new()),
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// The algorithm's own; writing to memory does not fail.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Deflate(encoder) => encoder.write_all(bytes),
            Self::Identity(body) => body.write_all(bytes),
        }
    }

    /// The finished body.
    ///
    /// # Errors
    /// As [`Compressor::write`].
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
            Self::Identity(body) => Ok(body),
        }
    }
}
