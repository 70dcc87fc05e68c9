//! S3 and compatible stores: one object a batch, whose key and bytes are functions of the batch, so that whatever is sent again
//! makes no second object (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>). Signing and the ways to come by
//! credentials are `object_store`'s.

mod config;
mod encode;
mod meaning;
mod send;
#[cfg(test)]
mod send_tests;
#[cfg(test)]
mod tests;
mod wire;

pub use config::{
    RawS3, S3, S3Compression, S3Credentials, S3Encryption, S3Format, S3LockMode, S3Name, S3ObjectLock,
};
pub use encode::S3Body;
pub use send::S3Destination;
