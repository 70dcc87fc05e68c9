//! Desired state (upstreams, policy revisions, projects, keys, prices) and the immutable [`Snapshot`] that a request
//! is judged by. Each section of the configuration that describes it is read here. Deliberately absent: SQL, HTTP
//! handlers, files, and where the desired state comes from.

pub mod budget;
pub mod config;
pub mod desired_state;
pub mod kept;
mod key;
mod key_use;
pub mod moderation;
pub mod place;
pub mod plan;
mod policy_set;
mod pricing;
mod project;
mod rollback;
mod snapshot;
mod upstream;

pub use desired_state::DesiredState;
pub use key::{Key, KeyDigest, KeyError, KeyFormatError, KeySecret, KeyStandIn, KeyedDigest};
pub use key_use::{KeyUses, LastUse};
pub use plan::Plan;
pub use policy_set::{Candidate, PolicySet, Ruling};
pub use pricing::{Price, Pricing};
pub use project::{Entitlements, Project, ProjectStatus};
pub use rollback::{
    Clock, KeptRollout, Notify, Rollback, RolloutChanges, RolloutStore, Rollouts, Spike, SystemClock,
    TakenBack, Told,
};
pub use snapshot::{Desired, DesiredKey, DesiredProject, Snapshot, SnapshotCell};
pub use upstream::{Upstream, UpstreamKind};
