//! Who scores a call's texts by category. The embedded classifier does so inline; somebody who is asked over the network
//! is asked before judging, which stays pure: a first pass of the same judge says which texts it will ask about
//! ([`Fetched::asking`]), those are fetched, and the pass that counts looks them up ([`Fetched::known`]).

mod ask;
mod cache;
mod endpoint;
mod judge_model;
mod openai;
mod scout;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use judge::moderation::Embedded;
use policy::{Category, CategoryMode, Moderator, Outcome, Scored, Scorer, Source};
use registry::moderation::{Moderation, Provider, Remote};

use self::cache::{Cache, Key};
use crate::Shared;
use crate::admission::Admitted;
use crate::call::Call;

pub(crate) use self::endpoint::run;
pub(crate) use self::scout::Scout;

/// Texts that a call may ask about: an answer of 32 MiB has more windows than anybody would pay for.
const WANTED_MAX: usize = 4096;
/// Texts shorter than this are scored faster than looked up.
const CACHED_BYTES_MIN: usize = 64;

/// What all calls share.
#[derive(Debug, Default)]
pub(crate) struct Moderators {
    cache: Arc<Cache>,
}

impl Moderators {
    /// How a call's texts are scored.
    pub(crate) fn scoring(&self, moderation: &Moderation) -> Scoring {
        let (cache, entries) = (Arc::clone(&self.cache), moderation.cache_entries);
        match &moderation.provider {
            Provider::None => Scoring::Inline(Scorer::default()),
            Provider::Embedded => Scoring::Inline(Scorer::new(Arc::new(Remembered { cache, entries }))),
            Provider::Remote(remote) => {
                Scoring::Fetched(Arc::new(Fetched::new(remote.clone(), cache, entries)))
            }
        }
    }
}

/// How a call's texts are scored.
#[derive(Clone, Debug)]
pub(crate) enum Scoring {
    /// While they are judged, or not at all.
    Inline(Scorer),
    /// By somebody who is asked before.
    Fetched(Arc<Fetched>),
}

impl Scoring {
    /// What judges by what is known.
    pub(crate) fn scorer(&self) -> Scorer {
        match self {
            Self::Inline(scorer) => scorer.clone(),
            Self::Fetched(fetched) => fetched.known(),
        }
    }

    /// Whether somebody is asked before.
    pub(crate) fn fetched(&self) -> Option<&Arc<Fetched>> {
        match self {
            Self::Inline(_) => None,
            Self::Fetched(fetched) => Some(fetched),
        }
    }
}

/// The embedded classifier, which remembers: a conversation comes back whole with each of its turns, and a candidate
/// judges the texts that stable has judged.
#[derive(Debug)]
struct Remembered {
    cache: Arc<Cache>,
    entries: usize,
}

impl Moderator for Remembered {
    fn name(&self) -> Arc<str> {
        Embedded.name()
    }

    fn judge(&self, text: &str, source: Source, wanted: &[Category]) -> Outcome {
        if text.len() < CACHED_BYTES_MIN || self.entries == 0 {
            return Embedded.judge(text, source, wanted);
        }
        let key = self.cache.key("embedded", text, source);
        let scored = self.cache.get(&key).unwrap_or_else(|| {
            let scored = Embedded::score(text, source);
            self.cache.keep(key, scored, self.entries);
            scored
        });
        Outcome::Scored(scored)
    }

    fn mode(&self, category: Category) -> CategoryMode {
        Embedded.mode(category)
    }
}

/// A text that somebody is to be asked about.
#[derive(Clone)]
struct Wanted {
    key: Key,
    text: String,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Wanted({} bytes)", self.text.len())
    }
}

/// What somebody said of the texts of one call.
#[derive(Debug)]
pub(crate) struct Fetched {
    remote: Remote,
    /// As events name it.
    name: Arc<str>,
    /// Stands for it in keys of the cache.
    identity: String,
    cache: Arc<Cache>,
    entries: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<Key, Outcome>,
    wanted: Vec<Wanted>,
}

impl Fetched {
    fn new(remote: Remote, cache: Arc<Cache>, entries: usize) -> Self {
        let asked = format!("{}/{}", remote.kind.as_str(), remote.model);
        let name =
            if remote.uncertain_band < 1.0 { format!("{}+{asked}", Embedded.name()) } else { asked.clone() };
        let identity = format!("{asked} at {}", remote.endpoint.base_url);
        Self { name: name.into(), identity, remote, cache, entries, table: Mutex::default() }
    }

    /// Notes the texts that it does not know, and takes them for clean.
    pub(crate) fn asking(self: &Arc<Self>) -> Scorer {
        Scorer::new(Arc::new(Asking(Arc::clone(self))))
    }

    /// Goes by what it knows.
    pub(crate) fn known(self: &Arc<Self>) -> Scorer {
        Scorer::new(Arc::new(Known(Arc::clone(self))))
    }

    /// What is known of a text; else what it is known by.
    fn look(&self, text: &str, source: Source, wanted: &[Category]) -> Result<Outcome, Key> {
        let band = self.remote.uncertain_band;
        if band < 1.0 {
            let own = Embedded::score(text, source);
            if !is_uncertain(&own, source, wanted, band) {
                return Ok(Outcome::Scored(own));
            }
        }
        let key = self.cache.key(&self.identity, text, source);
        let mut table = self.table();
        if let Some(outcome) = table.known.get(&key) {
            return Ok(*outcome);
        }
        match self.cache.get(&key) {
            Some(scored) => {
                table.known.insert(key, Outcome::Scored(scored));
                Ok(Outcome::Scored(scored))
            }
            None => Err(key),
        }
    }

    fn want(&self, key: Key, text: &str) {
        let mut table = self.table();
        if table.wanted.len() < WANTED_MAX && !table.wanted.iter().any(|wanted| wanted.key == key) {
            table.wanted.push(Wanted { key, text: text.to_owned() });
        }
    }

    /// Asks about the texts that were noted.
    pub(crate) async fn fetch(&self, shared: &Shared) {
        let wanted = std::mem::take(&mut self.table().wanted);
        if wanted.is_empty() {
            return;
        }
        let texts: Vec<&str> = wanted.iter().map(|wanted| wanted.text.as_str()).collect();
        let outcomes = ask::all(&shared.upstreams, &shared.metrics, &self.remote, &texts).await;
        let mut table = self.table();
        for (wanted, outcome) in wanted.iter().zip(outcomes) {
            if let Outcome::Scored(scored) = outcome {
                self.cache.keep(wanted.key, scored, self.entries);
            }
            table.known.insert(wanted.key, outcome);
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the embedded classifier's word on some wanted category is not to be relied on.
fn is_uncertain(own: &Scored, source: Source, wanted: &[Category], band: f32) -> bool {
    wanted.iter().any(|category| {
        let (score, threshold) = (own.score(*category), Embedded::threshold(*category, source));
        let low = threshold * (1.0 - band);
        let high = threshold + (1.0 - threshold) * band;
        (low..=high).contains(&score)
    })
}

#[derive(Debug)]
struct Asking(Arc<Fetched>);

impl Moderator for Asking {
    fn name(&self) -> Arc<str> {
        Arc::clone(&self.0.name)
    }

    fn judge(&self, text: &str, source: Source, wanted: &[Category]) -> Outcome {
        self.0.look(text, source, wanted).unwrap_or_else(|key| {
            self.0.want(key, text);
            Outcome::Scored(Scored::CLEAN)
        })
    }

    fn mode(&self, _category: Category) -> CategoryMode {
        CategoryMode::Block
    }
}

#[derive(Debug)]
struct Known(Arc<Fetched>);

impl Moderator for Known {
    fn name(&self) -> Arc<str> {
        Arc::clone(&self.0.name)
    }

    fn judge(&self, text: &str, source: Source, wanted: &[Category]) -> Outcome {
        self.0.look(text, source, wanted).unwrap_or(Outcome::Unavailable("not_asked"))
    }

    fn mode(&self, _category: Category) -> CategoryMode {
        CategoryMode::Block
    }
}

impl Call {
    /// Has scored what judging the request will ask about.
    pub(crate) async fn score_request(&mut self, admitted: &Admitted) {
        let Some(fetched) = self.scoring.fetched().cloned() else { return };
        let (revision, subject) = (Arc::clone(&admitted.revision), admitted.subject.clone());
        let (rollout, request) = (self.rollout.clone(), Arc::clone(&admitted.request));
        let asking = fetched.asking();
        let ask = move || rollout.ask_request(&revision, &subject, &request, &asking);
        self.shared.apart.run(admitted.request.body_bytes(), ask).await;
        self.fetch(&fetched).await;
    }

    /// Waits for what is asked of somebody.
    pub(crate) async fn fetch(&mut self, fetched: &Fetched) {
        self.waits();
        fetched.fetch(&self.shared).await;
        self.waited();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use registry::moderation::RemoteKind;
    use registry::{Upstream, UpstreamKind};

    use super::*;

    fn remote(uncertain_band: f32) -> Remote {
        let endpoint = Upstream {
            name: "moderation".into(),
            kind: UpstreamKind::OpenAi,
            base_url: "http://127.0.0.1:1/v1".into(),
            api_key: None,
            models: vec!["*".into()],
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
        };
        let endpoint = Arc::new(endpoint);
        Remote { kind: RemoteKind::OpenAi, endpoint, model: "m".into(), retries: 0, uncertain_band }
    }

    fn fetched(band: f32) -> Arc<Fetched> {
        Arc::new(Fetched::new(remote(band), Arc::default(), 16))
    }

    const WANTED: [Category; 1] = [Category::Violence];

    #[test]
    fn what_is_not_known_is_noted_once_and_never_passes_for_known() {
        let fetched = fetched(1.0);
        let (asking, known) = (Asking(Arc::clone(&fetched)), Known(Arc::clone(&fetched)));
        for _ in 0..2 {
            assert_eq!(asking.judge("some text", Source::User, &WANTED), Outcome::Scored(Scored::CLEAN));
        }
        assert_eq!(fetched.table().wanted.len(), 1);
        assert_eq!(known.judge("some text", Source::User, &WANTED), Outcome::Unavailable("not_asked"));
        let key = fetched.table().wanted[0].key;
        let scored = Scored::new(|category| (0.5, category == Category::Hate));
        fetched.table().known.insert(key, Outcome::Scored(scored));
        assert_eq!(known.judge("some text", Source::User, &WANTED), Outcome::Scored(scored));
        // The same text from elsewhere is another question.
        assert_eq!(known.judge("some text", Source::Tool, &WANTED), Outcome::Unavailable("not_asked"));
        assert_eq!(known.name().as_ref(), "openai/m");
    }

    #[test]
    fn a_sure_classifier_asks_nobody() {
        let wide = fetched(1.0);
        let narrow = fetched(0.0001);
        for fetched in [&wide, &narrow] {
            Asking(Arc::clone(fetched)).judge("What is the capital of France?", Source::User, &WANTED);
        }
        assert_eq!((wide.table().wanted.len(), narrow.table().wanted.len()), (1, 0));
        assert!(
            narrow.name.starts_with("embedded/") && narrow.name.ends_with("+openai/m"),
            "{}",
            narrow.name
        );
    }

    #[test]
    fn the_band_lies_around_the_threshold() {
        let threshold = Embedded::threshold(Category::Violence, Source::User);
        let at =
            |score: f32, band| is_uncertain(&Scored::new(|_| (score, false)), Source::User, &WANTED, band);
        assert!(at(threshold, 0.1) && at(0.0, 1.0) && at(1.0, 1.0));
        assert!(!at(threshold * 0.8, 0.1) && at(threshold * 0.95, 0.1));
        assert!(!at(threshold + (1.0 - threshold) * 0.2, 0.1));
    }

    #[test]
    fn what_was_scored_is_remembered() {
        let cache = Arc::<Cache>::default();
        let remembered = Remembered { cache: Arc::clone(&cache), entries: 16 };
        let text = "a sentence that is long enough to be worth remembering, and harmless";
        let outcome = remembered.judge(text, Source::User, &WANTED);
        assert_eq!(outcome, Embedded.judge(text, Source::User, &WANTED));
        let kept = cache.get(&cache.key("embedded", text, Source::User));
        assert_eq!(kept.map(Outcome::Scored), Some(outcome));
    }
}
