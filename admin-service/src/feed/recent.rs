//! The answers given last, shared by all who ask the same: thousands of edges are at the same position, and one answer
//! may be megabytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::answer::{Answer, Form, Outcome};
use crate::domain::changes::{Position, Told};

/// How many are kept.
const KEPT: usize = 8;

/// Where somebody was, and how it is told.
type Key = (Position, Form);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<(Key, Answer)>>);

impl Recent {
    /// The answer to who is `at`, if it was given already, and nothing is to be added to it.
    pub(super) fn find(&self, at: &Position, form: Form, now: &Position) -> Option<Answer> {
        find(&self.lock(), at, form, now)
    }

    /// The same, or else what `tell` tells; others wait meanwhile, so that it is written once.
    pub(super) fn shared(
        &self,
        at: &Position,
        form: Form,
        now: &Position,
        tell: impl FnOnce() -> Option<Told>,
    ) -> Option<Answer> {
        let mut kept = self.lock();
        if let Some(answer) = find(&kept, at, form, now) {
            return Some(answer);
        }
        let told = tell()?;
        Some(keep(&mut kept, at, form, Answer::changes(&told.now, &told.page?, form)))
    }

    /// The answer to begin anew, for all who are `at`.
    pub(super) fn reset(&self, at: &Position, form: Form, now: &Position) -> Answer {
        keep(&mut self.lock(), at, form, Answer::reset(now))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Key, Answer)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(kept: &mut VecDeque<(Key, Answer)>, at: &Position, form: Form, answer: Answer) -> Answer {
    kept.retain(|((position, told), _)| position != at || *told != form);
    kept.truncate(KEPT - 1);
    kept.push_front(((at.clone(), form), answer.clone()));
    answer
}

/// A page that others follow stays as it is; the last one grows with the history. What cannot be told once, because it is too much or
/// was pruned, never can, and who begins anew at an earlier revision is told what came since.
fn find(kept: &VecDeque<(Key, Answer)>, at: &Position, form: Form, now: &Position) -> Option<Answer> {
    let same = |((position, told), answer): &&(Key, Answer)| {
        position == at
            && *told == form
            && position.epoch == now.epoch
            && (answer.outcome == Outcome::Reset || answer.more || answer.through >= now.revision)
    };
    kept.iter().find(same).map(|(_, answer)| answer.clone())
}

#[cfg(test)]
mod tests {
    use crate::domain::time::Timestamp;
    use latchkey::token::TokenHash;

    use super::*;
    use crate::domain::changes::{Change, ChangePage};
    use crate::domain::verdict::{Epoch, Revision};

    fn at(revision: u64) -> Position {
        Position { epoch: Epoch("e".to_owned()), revision: Revision(revision) }
    }

    fn told(now: u64, through: u64) -> Told {
        let token_hashes = [TokenHash::of(b"x")].into();
        let change =
            Change { revision: Revision(through), at: Timestamp::UNIX_EPOCH, token_hashes, link: None };
        let page = ChangePage { changes: vec![change], through: Revision(through) };
        Told { now: at(now), page: Some(page) }
    }

    #[test]
    fn an_answer_is_written_once_as_long_as_nothing_is_to_be_added() {
        let recent = Recent::default();
        let first = recent.shared(&at(1), Form::Hashes, &at(2), || Some(told(2, 2))).unwrap();
        let again = recent.shared(&at(1), Form::Hashes, &at(2), || panic!("it was given already")).unwrap();
        assert_eq!(first.body.as_ptr(), again.body.as_ptr());
        assert_eq!(recent.find(&at(1), Form::Hashes, &at(3)), None);
        let page = recent.shared(&at(1), Form::Hashes, &at(3), || Some(told(3, 2))).unwrap();
        assert_eq!(recent.find(&at(1), Form::Hashes, &at(9)), Some(page));
        let elsewhere = Position { epoch: Epoch("f".to_owned()), ..at(9) };
        assert_eq!(recent.find(&at(1), Form::Hashes, &elsewhere), None);
        assert_eq!(recent.find(&at(1), Form::Prefixes { offset: 0 }, &at(3)), None, "that is another answer");
    }

    #[test]
    fn who_cannot_be_told_begins_anew_as_the_others_do_whatever_comes_after() {
        let recent = Recent::default();
        let first = recent.reset(&at(1), Form::Hashes, &at(5));
        for now in [at(5), at(9)] {
            assert_eq!(recent.find(&at(1), Form::Hashes, &now).as_ref(), Some(&first));
        }
        assert_eq!(recent.find(&at(2), Form::Hashes, &at(5)), None);
        assert_eq!(recent.find(&at(1), Form::Prefixes { offset: 0 }, &at(5)), None);
        let elsewhere = Position { epoch: Epoch("f".to_owned()), ..at(5) };
        assert_eq!(recent.find(&at(1), Form::Hashes, &elsewhere), None);
    }

    #[test]
    fn only_the_latest_answers_are_kept() {
        let recent = Recent::default();
        for revision in 0..100 {
            recent.shared(&at(revision), Form::Hashes, &at(100), || Some(told(100, revision + 1))).unwrap();
        }
        assert_eq!(recent.lock().len(), KEPT);
        assert!(
            recent.find(&at(99), Form::Hashes, &at(100)).is_some()
                && recent.find(&at(0), Form::Hashes, &at(100)).is_none()
        );
    }
}
