//! Quotas of concurrent requests, with a limit for each caller: for its address until a request is authenticated, and for its
//! user afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::Request;
use axum::http::request::Parts;

use super::client_address::ClientAddress;
use super::limits::Beyond;
use crate::attempts::Source;
use crate::domain::user::UserName;
use crate::error::ApiError;

/// Whom a request counts for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claimant {
    /// No caller in particular: there is no limit for each, or the request must be admitted before its caller is known.
    Anybody,
    /// Where it comes from, as long as no more is known.
    Source(Source),
    /// The user of the token that it came with.
    User(UserName),
}

impl Claimant {
    /// The source of a request.
    pub fn source_of(request: &Request) -> Self {
        let client = request.extensions().get::<ClientAddress>();
        client.map_or(Self::Anybody, |ClientAddress(address)| Self::Source((*address).into()))
    }
}

/// Quota of one kind.
#[derive(Debug)]
pub(super) struct Quota {
    max: usize,
    /// How many of them one source or user may take.
    per_caller: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Claimant, usize>,
}

impl Quota {
    pub fn new(max: usize, per_caller: usize) -> Arc<Self> {
        Arc::new(Self { max, per_caller, taken: Mutex::default() })
    }

    /// Takes a permit, if there is one.
    pub fn take(self: &Arc<Self>, claimant: Claimant) -> Result<Permit, Beyond> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.max {
            return Err(Beyond::Number(self.max));
        }
        self.count(&mut taken, &claimant)?;
        taken.all += 1;
        Ok(Permit { quota: self.clone(), claimant })
    }

    fn count(&self, taken: &mut Taken, claimant: &Claimant) -> Result<(), Beyond> {
        if *claimant == Claimant::Anybody {
            return Ok(());
        }
        let count = taken.by.entry(claimant.clone()).or_default();
        if *count >= self.per_caller {
            return Err(Beyond::Share(self.per_caller));
        }
        *count += 1;
        Ok(())
    }

    fn discount(taken: &mut Taken, claimant: &Claimant) {
        if let Some(count) = taken.by.get_mut(claimant) {
            *count -= 1;
            if *count == 0 {
                taken.by.remove(claimant);
            }
        }
    }
}

/// A permit, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    quota: Arc<Quota>,
    claimant: Claimant,
}

impl Permit {
    /// Has it counted for somebody else.
    fn attribute_to(&mut self, claimant: Claimant) -> Result<(), Beyond> {
        if self.claimant != claimant {
            let mut taken = self.quota.taken.lock().unwrap_or_else(PoisonError::into_inner);
            self.quota.count(&mut taken, &claimant)?;
            Quota::discount(&mut taken, &self.claimant);
            self.claimant = claimant;
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.quota.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        Quota::discount(&mut taken, &self.claimant);
    }
}

/// The permit of a request, among its extensions and then among those of its answer, until that is sent.
#[derive(Clone, Debug)]
pub struct RequestPermit(Arc<Mutex<Permit>>);

impl RequestPermit {
    pub(super) fn new(permit: Permit) -> Self {
        Self(Arc::new(Mutex::new(permit)))
    }

    /// Has a request that was authenticated count for its user, and no longer for where it comes from.
    ///
    /// # Errors
    /// The user has taken its share of the places already.
    pub fn attribute_to(parts: &Parts, user: &UserName) -> Result<(), ApiError> {
        let Some(Self(permit)) = parts.extensions.get() else { return Ok(()) };
        let mut permit = permit.lock().unwrap_or_else(PoisonError::into_inner);
        permit.attribute_to(Claimant::User(user.clone())).map_err(Beyond::error)
    }

    /// Takes a permit among others for it, in exchange.
    pub(super) fn exchange_for(&self, quota: &Arc<Quota>) -> Result<(), Beyond> {
        let mut permit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *permit = quota.take(permit.claimant.clone())?;
        Ok(())
    }

    /// Whether it is of this kind.
    pub(super) fn is_of(&self, quota: &Arc<Quota>) -> bool {
        let permit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::ptr_eq(&permit.quota, quota)
    }

    /// The user that it counts for.
    pub(super) fn user(&self) -> Option<UserName> {
        let permit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &permit.claimant {
            Claimant::User(user) => Some(user.clone()),
            Claimant::Anybody | Claimant::Source(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(text: &str) -> Claimant {
        Claimant::Source(text.parse::<IpAddr>().unwrap().into())
    }

    fn user(name: &str) -> Claimant {
        Claimant::User(name.parse().unwrap())
    }

    #[test]
    fn nobody_takes_more_than_a_share_and_what_is_given_back_can_be_taken_again() {
        let places = Quota::new(4, 2);
        let first = places.take(user("alice")).unwrap();
        let _second = places.take(user("alice")).unwrap();
        assert_eq!(places.take(user("alice")).unwrap_err(), Beyond::Share(2));
        let _bob = places.take(user("bob")).unwrap();
        drop(first);
        let _again = places.take(user("alice")).unwrap();
        let _last = places.take(source("192.0.2.1")).unwrap();
        assert_eq!(places.take(user("carol")).unwrap_err(), Beyond::Number(4));
    }

    #[test]
    fn a_place_that_is_passed_on_counts_for_its_user_alone() {
        let places = Quota::new(9, 1);
        let mut permit = places.take(source("2001:db8::1")).unwrap();
        assert_eq!(places.take(source("2001:db8::2")).unwrap_err(), Beyond::Share(1), "of the same /64");
        permit.attribute_to(user("alice")).unwrap();
        permit.attribute_to(user("alice")).unwrap();
        let mut other = places.take(source("2001:db8::2")).unwrap();
        assert_eq!(other.attribute_to(user("alice")), Err(Beyond::Share(1)));
        drop(permit);
        other.attribute_to(user("alice")).unwrap();
        drop(other);
        assert!(places.taken.lock().unwrap().by.is_empty(), "nothing is kept of who is gone");
    }
}
