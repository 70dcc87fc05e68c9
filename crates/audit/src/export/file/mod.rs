//! A file of JSON lines, rotated by size and age. An event counts as delivered once it is on the disk (`fdatasync`, and
//! the directory's fsync where the file is new).

mod config;
mod sink;
#[cfg(test)]
mod tests;

pub use config::{File, RawFile};
pub use sink::FileDestination;
