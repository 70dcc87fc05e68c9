//! The `policy-gateway` binary.
fn main() {}
