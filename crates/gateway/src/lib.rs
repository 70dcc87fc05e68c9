//! The data plane: HTTP in, upstream out, streaming, enforcement. Deliberately absent: SQL, management
//! routes, and the logic of any rule (that is `policy`).

pub mod config;
