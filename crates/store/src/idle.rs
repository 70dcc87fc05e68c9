//! How the writer learns that whoever appends has nothing else to do for now. While a runtime's threads are busy, more
//! decisions are about to come, and one commit serves them all; once they go to sleep, waiting gains nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::writer::Shared;

/// Carries word from a runtime to the store that was opened with it. Tell it whenever a thread of the runtime is about to
/// sleep ([`IdleSignal::idle`]): decisions that came meanwhile are then committed at once, and not before, but for a
/// bound of a few milliseconds.
#[derive(Clone, Debug, Default)]
pub struct IdleSignal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Something waits for the word.
    is_expected: AtomicBool,
    store: OnceLock<Weak<Shared>>,
}

impl IdleSignal {
    /// A thread of the runtime has run out of work. Cheap where nothing waits for that.
    pub fn idle(&self) {
        if self.0.is_expected.load(Ordering::Relaxed)
            && self.0.is_expected.swap(false, Ordering::AcqRel)
            && let Some(store) = self.0.store.get().and_then(Weak::upgrade)
        {
            store.queue.callers_idle();
        }
    }

    pub(crate) fn expect(&self) {
        self.0.is_expected.store(true, Ordering::Release);
    }

    /// The first store that is opened with it is the one that hears it.
    pub(crate) fn tell(&self, store: &Arc<Shared>) {
        let _ = self.0.store.set(Arc::downgrade(store));
    }
}

impl PartialEq for IdleSignal {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for IdleSignal {}
