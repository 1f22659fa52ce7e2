//! What may happen next to an edge and its service. Numbers choose among what there is.

use super::request::{Kind, Path, Request};
use super::service::{State, TOKENS};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A request comes to a worker.
    Request(usize, Request),
    /// A client goes away.
    EndStream(usize),
    /// The service takes up a callout, with a page of so many tokens if it is about changes.
    Serve(usize, usize),
    /// A response arrives.
    Deliver(usize),
    /// A callout fails.
    Fail(usize, Failure),
    Change(usize, State),
    ChangeAll(State),
    ExpireIn(usize, u64),
    ForgetChanges(usize),
    Restore(usize),
    /// The host does not send the next callouts.
    Block(usize),
    /// The host does not remove what it is told to, of the next request.
    Stubborn,
    /// A worker's configuration is replaced: the old worker goes, with what it has in flight.
    Reload(usize),
    /// The VM dies with all that waits in it, and another takes its place.
    Die,
    /// Time passes, and the workers tick.
    Wait(u64),
}

/// How a callout fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Reset,
    /// A response of Envoy's own, or of something that is not the service, of this status.
    Status(&'static str),
    /// 200 with another body than was asked for.
    Garbage,
    /// 200 with the verdict on another token.
    OtherToken,
    /// The host says nothing any more.
    Silence,
}

impl From<u32> for Step {
    /// A step for each number. Drawing one number is cheap, so there can be many cases.
    fn from(number: u32) -> Self {
        let (kind, number) = (number % 90, usize::try_from(number / 90).unwrap());
        let token = number % TOKENS;
        let milliseconds = |most: usize| u64::try_from(1 + number % most).unwrap();
        match kind {
            0..20 => Self::Request(number % 2, request(number / 2)),
            20..22 => Self::EndStream(number % 8),
            22..36 => Self::Serve(number % 8, 1 + number / 8 % 4),
            36..50 => Self::Deliver(number % 8),
            50..54 => Self::Fail(number % 8, failure(number / 8)),
            54..56 => Self::Change(token, State::Disabled),
            56..59 => Self::Change(token, State::Live { expires_at: None }),
            59 => Self::Change(token, State::Revoked),
            60..62 => Self::ExpireIn(token, milliseconds(4000)),
            62 => Self::ForgetChanges(number % 8),
            63 => Self::Restore(number % 4),
            64 => Self::Reload(number % 2),
            65 if number.is_multiple_of(2) => Self::Die,
            65 => Self::ChangeAll(State::Disabled),
            66 => Self::ChangeAll(State::Live { expires_at: None }),
            67 => Self::Block(1 + number % 3),
            68 => Self::Stubborn,
            _ => Self::Wait(milliseconds(if kind < 80 { 300 } else { 1200 })),
        }
    }
}

fn request(number: usize) -> Request {
    let token = number % TOKENS;
    let kind = match number / TOKENS % 16 {
        0..9 => Kind::Token(token),
        9 | 10 => Kind::Forging(token),
        11 => Kind::WrongUser(token),
        12 => Kind::Nothing,
        13 => Kind::Garbage,
        14 => Kind::Twice(token),
        _ => Kind::Foreign,
    };
    let path = match number / 64 % 8 {
        0 => Path::None,
        1 => Path::Optional,
        2 => Path::Admin,
        _ => Path::Required,
    };
    Request { kind, path }
}

fn failure(number: usize) -> Failure {
    const STATUSES: [&str; 9] = ["503", "504", "502", "408", "401", "403", "400", "413", "500"];
    match number % 16 {
        0..3 => Failure::Reset,
        3..12 => Failure::Status(STATUSES[number % 16 - 3]),
        12 => Failure::Garbage,
        13 => Failure::OtherToken,
        _ => Failure::Silence,
    }
}
