//! Requests that are done once however often they are sent: what each was answered, kept for a day. Who keys them, and what
//! is encrypted, is the API's business.

use super::{ChangeError, DesiredState};
use crate::kept::{Change, Edit, KeptAnswer};

/// How long an answer is kept.
pub const ANSWER_HOURS: i64 = 24;

impl DesiredState {
    /// What was kept of a request.
    ///
    /// # Errors
    /// [`ChangeError::Store`].
    pub async fn answer(&self, id: &str, now_ms: i64) -> Result<Option<KeptAnswer>, ChangeError> {
        Ok(self.store.answer(id, now_ms.saturating_sub(ANSWER_HOURS * 3_600_000)).await?)
    }

    /// Keeps what a request is answered, or that it has begun.
    ///
    /// # Errors
    /// [`ChangeError::Store`].
    pub async fn keep_answer(&self, answer: KeptAnswer) -> Result<(), ChangeError> {
        self.note(Edit::KeepAnswer(answer)).await
    }

    /// A request came to nothing.
    ///
    /// # Errors
    /// [`ChangeError::Store`].
    pub async fn forget_answer(&self, id: &str) -> Result<(), ChangeError> {
        self.note(Edit::ForgetAnswer(id.to_owned())).await
    }

    /// Keeps when keys were last presented, where that is not kept yet. Not for each request: once a minute will do.
    ///
    /// # Errors
    /// [`ChangeError::Store`]; what was not kept is told again the next time.
    pub async fn keep_uses(&self) -> Result<(), ChangeError> {
        let uses = self.lock().await.uses.clone();
        let unkept = uses.unkept();
        if !unkept.is_empty() {
            self.note(Edit::UseKeys(unkept.clone())).await?;
            uses.kept(&unkept);
        }
        Ok(())
    }

    /// An edit that changes nothing that is in force, and that no event tells of.
    async fn note(&self, edit: Edit) -> Result<(), ChangeError> {
        Ok(self.store.commit(Change { edits: vec![edit], events: Vec::new() }).await?)
    }
}
