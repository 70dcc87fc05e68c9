//! The routes of the management API, one file per thing they are about.

pub(crate) mod exports;
pub(crate) mod history;
