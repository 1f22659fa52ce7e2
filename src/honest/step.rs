//! What may happen next to an edge and its service. Numbers choose among what there is.

use super::service::{State, TOKENS};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Request(usize),
    TakeUp(usize),
    Arrive(usize),
    Lose(usize, bool),
    AskFeed,
    TakeFeedUp(usize),
    FeedArrives,
    FeedBreaks,
    Change(usize, State),
    ChangeAll(State),
    ExpireIn(usize, u64),
    ForgetChanges(usize),
    Restore(usize),
    Abandon,
    Die,
    Wait(u64),
}

impl From<u32> for Step {
    /// A step for each number. Drawing one number is cheap, so there can be many cases.
    fn from(number: u32) -> Self {
        let (kind, number) = (number % 73, usize::try_from(number / 73).unwrap());
        let token = number % TOKENS;
        let milliseconds = |most: usize| u64::try_from(1 + number % most).unwrap();
        match kind {
            0..12 => Self::Request(token),
            12..20 => Self::TakeUp(number % 8),
            20..28 => Self::Arrive(number % 8),
            28 => Self::Lose(number % 8, number % 3 == 0),
            29..37 => Self::AskFeed,
            37..43 => Self::TakeFeedUp(1 + number % 4),
            43..49 => Self::FeedArrives,
            49..51 => Self::FeedBreaks,
            51..53 => Self::Change(token, State::Disabled),
            53..56 => Self::Change(token, State::Live { expires_at: None }),
            56 => Self::Change(token, State::Revoked),
            57..59 => Self::ExpireIn(token, milliseconds(4000)),
            59 => Self::ForgetChanges(number % 8),
            60 => Self::Restore(number % 4),
            61 => Self::Abandon,
            62 => Self::Die,
            63 => Self::ChangeAll(State::Disabled),
            64 => Self::ChangeAll(State::Live { expires_at: None }),
            _ => Self::Wait(milliseconds(1200)),
        }
    }
}
