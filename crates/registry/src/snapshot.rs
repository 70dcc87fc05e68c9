//! The immutable state that a call is judged by, and how it is built: all of the desired state, or nothing and every
//! reason. Where the desired state comes from (a file, the store) is not known here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use policy::problems::Problem;

use crate::key::{DigestBuildHasher, Key, KeyDigest, KeyError, KeySecret, KeyStandIn, KeyedDigest};
use crate::key_use::KeyUses;
use crate::moderation::Moderation;
use crate::plan::Plan;
use crate::policy_set::PolicySet;
use crate::pricing::Pricing;
use crate::project::{Entitlements, Project, lists};
use crate::upstream::Upstream;

/// The snapshot in force. A call loads it once and keeps it to its end.
pub type SnapshotCell = arc_swap::ArcSwap<Snapshot>;

/// What is wanted. The lists are in the order of the configuration, which is what problems are reported by.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// In the order in which they are asked for a model.
    pub upstreams: Vec<Upstream>,
    /// Each policy's revisions in force.
    pub policies: Vec<PolicySet>,
    /// With their keys.
    pub projects: Vec<DesiredProject>,
    /// What calls cost.
    pub pricing: Pricing,
    /// By name.
    pub plans: BTreeMap<String, Plan>,
    /// Keys the digests that keys are looked up by.
    pub key_secret: KeySecret,
    /// When keys were last presented.
    pub uses: KeyUses,
    /// Who scores texts by category.
    pub moderation: Moderation,
}

/// A project and its keys.
#[derive(Clone, Debug)]
pub struct DesiredProject {
    /// The project.
    pub project: Project,
    /// Its keys; a project may have none yet.
    pub keys: Vec<DesiredKey>,
}

/// A key of a project.
#[derive(Clone, Debug)]
pub struct DesiredKey {
    /// Stands for the key.
    pub digest: KeyStandIn,
    /// As its owner named it.
    pub name: Option<String>,
    /// Unix time in milliseconds from which it is refused.
    pub expires_at_ms: Option<i64>,
    /// Taken back: it is known, and refused.
    pub revoked: bool,
    /// In place of its project's.
    pub plan: Option<String>,
}

/// Everything that a call is judged by. Immutable; a change is a whole new snapshot.
#[derive(Debug)]
pub struct Snapshot {
    upstreams: Vec<Arc<Upstream>>,
    policies: HashMap<String, Arc<PolicySet>>,
    projects: HashMap<String, Arc<Project>>,
    keys: HashMap<KeyedDigest, Admission, DigestBuildHasher>,
    key_secret: KeySecret,
    pricing: Pricing,
    moderation: Arc<Moderation>,
    /// Of all keys, each once, lowest first.
    priorities: Vec<u8>,
}

#[derive(Debug)]
struct Admission {
    key: Arc<Key>,
    revoked: bool,
}

impl Snapshot {
    /// Builds the snapshot.
    ///
    /// # Errors
    /// Every name that is taken twice and every name that nothing has, with paths into the configuration
    /// (`projects[0].policy_id`). Keys are never part of a message.
    pub fn build(desired: Desired) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let policies = index_policies(desired.policies, &mut problems);
        let upstreams = index_upstreams(desired.upstreams, &mut problems);
        let plans: BTreeMap<_, _> =
            desired.plans.into_iter().map(|(name, plan)| (name, Arc::new(plan))).collect();
        let mut projects = HashMap::new();
        let mut keys = HashMap::<_, _, DigestBuildHasher>::default();
        let ids: Vec<String> = desired.projects.iter().map(|entry| entry.project.id.clone()).collect();
        for (at, DesiredProject { project, keys: own }) in desired.projects.into_iter().enumerate() {
            let path = format!("projects[{at}]");
            check_project(&path, &project, &policies, &ids, &upstreams, &mut problems);
            let own_plan = plan(&plans, project.plan.as_deref(), &path, &mut problems);
            let project = Arc::new(project);
            if projects.insert(project.id.clone(), Arc::clone(&project)).is_some() {
                problems.add(
                    format!("{path}.id"),
                    format!("project `{}` is declared twice: rename one", project.id),
                );
            }
            for (at, entry) in own.into_iter().enumerate() {
                let key_path = format!("{path}.keys[{at}]");
                let plan = plan(&plans, entry.plan.as_deref(), &key_path, &mut problems);
                let key = key_of(&entry, &project, plan.or_else(|| own_plan.clone()), &desired.uses);
                let admission = Admission { key: Arc::new(key), revoked: entry.revoked };
                if let Some(other) = keys.insert(entry.digest.keyed(&desired.key_secret), admission) {
                    problems.add(
                        key_path,
                        format!(
                            "the same key is already one of project `{}`: give each project keys of its own",
                            other.key.project.id
                        ),
                    );
                }
            }
        }
        let mut priorities: Vec<u8> = keys.values().map(|admission| admission.key.priority()).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let (key_secret, pricing) = (desired.key_secret, desired.pricing);
        let moderation = Arc::new(desired.moderation);
        problems.none_or(Self {
            upstreams,
            policies,
            projects,
            keys,
            key_secret,
            pricing,
            moderation,
            priorities,
        })
    }

    /// The key, if it is let in at `now_ms` (unix milliseconds). Its project may still be disabled.
    ///
    /// # Errors
    /// [`KeyError`] says why not.
    pub fn authenticate(&self, presented: &str, now_ms: i64) -> Result<&Arc<Key>, KeyError> {
        let digest = KeyDigest::of(presented).map_err(|_| KeyError::Malformed)?;
        let admission = self.keys.get(&self.key_secret.keyed(&digest)).ok_or(KeyError::Unknown)?;
        if admission.revoked {
            return Err(KeyError::Revoked);
        }
        match admission.key.expires_at_ms {
            Some(expires_at_ms) if expires_at_ms <= now_ms => Err(KeyError::Expired),
            _ => {
                admission.key.used.touch(now_ms);
                Ok(&admission.key)
            }
        }
    }

    /// The project of that id, active or not.
    pub fn project(&self, id: &str) -> Option<&Arc<Project>> {
        self.projects.get(id)
    }

    /// All projects, in no order.
    pub fn projects(&self) -> impl Iterator<Item = &Arc<Project>> {
        self.projects.values()
    }

    /// The revisions in force of that policy.
    pub fn policy(&self, id: &str) -> Option<&Arc<PolicySet>> {
        self.policies.get(id)
    }

    /// All policies, in no order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<PolicySet>> {
        self.policies.values()
    }

    /// The first upstream that serves the model, among those that the entitlements allow; none where they do not
    /// allow the model.
    pub fn upstream_for(&self, model: &str, entitlements: &Entitlements) -> Option<&Arc<Upstream>> {
        if !entitlements.allows_model(model) {
            return None;
        }
        let serves = |upstream: &&Arc<Upstream>| {
            lists(&upstream.models, model) && entitlements.allows_upstream(&upstream.name)
        };
        self.upstreams.iter().find(serves)
    }

    /// All upstreams, in the order in which they are asked for a model.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// Priorities in use that are above the key's.
    pub fn priorities_above(&self, key: &Key) -> usize {
        let own = key.priority();
        self.priorities.iter().filter(|priority| **priority > own).count()
    }

    /// Who scores texts by category.
    pub fn moderation(&self) -> &Arc<Moderation> {
        &self.moderation
    }

    /// What calls cost.
    pub fn pricing(&self) -> &Pricing {
        &self.pricing
    }
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: String, message: String) {
        self.0.push(Problem { path, message });
    }

    fn none_or<T>(self, built: T) -> Result<T, Vec<Problem>> {
        if self.0.is_empty() { Ok(built) } else { Err(self.0) }
    }
}

fn index_policies(policies: Vec<PolicySet>, problems: &mut Problems) -> HashMap<String, Arc<PolicySet>> {
    let mut index = HashMap::with_capacity(policies.len());
    for policy in policies {
        let id = policy.policy_id().to_owned();
        if index.insert(id.clone(), Arc::new(policy)).is_some() {
            problems.add("policies".into(), format!("policy `{id}` is declared twice: keep one document"));
        }
    }
    index
}

fn index_upstreams(upstreams: Vec<Upstream>, problems: &mut Problems) -> Vec<Arc<Upstream>> {
    let mut index: Vec<Arc<Upstream>> = Vec::with_capacity(upstreams.len());
    for (at, upstream) in upstreams.into_iter().enumerate() {
        if index.iter().any(|other| other.name == upstream.name) {
            problems.add(
                format!("upstreams[{at}].name"),
                format!("upstream `{}` is declared twice: rename one", upstream.name),
            );
        }
        index.push(Arc::new(upstream));
    }
    index
}

fn check_project(
    path: &str,
    project: &Project,
    policies: &HashMap<String, Arc<PolicySet>>,
    projects: &[String],
    upstreams: &[Arc<Upstream>],
    problems: &mut Problems,
) {
    let named = project.policy_id.iter().map(|id| (format!("{path}.policy_id"), id));
    let entitled = entries(path, "policies", &project.entitlements.policies);
    for (path, id) in named.chain(entitled) {
        if !policies.contains_key(id) {
            let known = known(policies.keys());
            problems.add(path, format!("there is no policy `{id}`: add its file to `policies`; {known}"));
        }
    }
    for (path, id) in entries(path, "projects", &project.entitlements.projects) {
        if !projects.contains(id) {
            problems.add(
                path,
                format!("there is no project `{id}`: add it to `projects`; {}", known(projects.iter())),
            );
        }
    }
    for (path, name) in entries(path, "upstreams", &project.entitlements.upstreams) {
        if !upstreams.iter().any(|upstream| upstream.name == *name) {
            let known = known(upstreams.iter().map(|upstream| &upstream.name));
            problems.add(path, format!("there is no upstream `{name}`: add it to `upstreams`; {known}"));
        }
    }
}

/// The entries of an entitlement list that name one thing, with their paths.
fn entries<'a>(path: &str, list: &str, names: &'a [String]) -> impl Iterator<Item = (String, &'a String)> {
    let path = format!("{path}.entitlements.{list}");
    let one = |(_, name): &(usize, &String)| name.as_str() != "*";
    names.iter().enumerate().filter(one).map(move |(at, name)| (format!("{path}[{at}]"), name))
}

fn known<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    names.sort();
    if names.is_empty() { "there is none".to_owned() } else { format!("there is {}", names.join(", ")) }
}

fn plan(
    plans: &BTreeMap<String, Arc<Plan>>,
    name: Option<&str>,
    path: &str,
    problems: &mut Problems,
) -> Option<Arc<Plan>> {
    let name = name?;
    let plan = plans.get(name).cloned();
    if plan.is_none() {
        let known = known(plans.keys());
        problems
            .add(format!("{path}.plan"), format!("there is no plan `{name}`: add it to `plans`; {known}"));
    }
    plan
}

fn key_of(entry: &DesiredKey, project: &Arc<Project>, plan: Option<Arc<Plan>>, uses: &KeyUses) -> Key {
    let id = entry.digest.id();
    Key {
        used: uses.of(&id),
        id,
        name: entry.name.clone(),
        project: Arc::clone(project),
        expires_at_ms: entry.expires_at_ms,
        plan,
    }
}

#[cfg(test)]
mod tests;
