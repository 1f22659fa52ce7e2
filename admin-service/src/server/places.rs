//! Places for requests, of which nobody takes more than a share: not one address before its requests are authenticated, and not
//! one user afterwards.

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
pub(super) enum Whose {
    /// Nobody in particular: there are no shares, or it is not yet known whose it is and it is to go on all the same.
    Anybody,
    /// Where it comes from, as long as no more is known.
    Source(Source),
    /// The user whose token it came with.
    User(UserName),
}

impl Whose {
    /// The source of a request.
    pub fn source_of(request: &Request) -> Self {
        let client = request.extensions().get::<ClientAddress>();
        client.map_or(Self::Anybody, |ClientAddress(address)| Self::Source((*address).into()))
    }
}

/// Places of one kind.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    /// How many of them one source or user may take.
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Whose, usize>,
}

impl Places {
    pub fn new(most: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { most, each, taken: Mutex::default() })
    }

    /// Takes a place, if there is one.
    pub fn take(self: &Arc<Self>, whose: Whose) -> Result<Place, Beyond> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.most {
            return Err(Beyond::Number(self.most));
        }
        self.count(&mut taken, &whose)?;
        taken.all += 1;
        Ok(Place { places: self.clone(), whose })
    }

    fn count(&self, taken: &mut Taken, whose: &Whose) -> Result<(), Beyond> {
        if *whose == Whose::Anybody {
            return Ok(());
        }
        let count = taken.by.entry(whose.clone()).or_default();
        if *count >= self.each {
            return Err(Beyond::Share(self.each));
        }
        *count += 1;
        Ok(())
    }

    fn discount(taken: &mut Taken, whose: &Whose) {
        if let Some(count) = taken.by.get_mut(whose) {
            *count -= 1;
            if *count == 0 {
                taken.by.remove(whose);
            }
        }
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    whose: Whose,
}

impl Place {
    /// Has it counted for somebody else.
    fn pass_to(&mut self, whose: Whose) -> Result<(), Beyond> {
        if self.whose != whose {
            let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
            self.places.count(&mut taken, &whose)?;
            Places::discount(&mut taken, &self.whose);
            self.whose = whose;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        Places::discount(&mut taken, &self.whose);
    }
}

/// The place of a request, among its extensions and then among those of its answer, until that is sent.
#[derive(Clone, Debug)]
pub struct Held(Arc<Mutex<Place>>);

impl Held {
    pub(super) fn new(place: Place) -> Self {
        Self(Arc::new(Mutex::new(place)))
    }

    /// Has a request that was authenticated count for its user, and no longer for where it comes from.
    ///
    /// # Errors
    /// The user has taken its share of the places already.
    pub fn pass_to(parts: &Parts, user: &UserName) -> Result<(), ApiError> {
        let Some(Self(place)) = parts.extensions.get() else { return Ok(()) };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        place.pass_to(Whose::User(user.clone())).map_err(Beyond::error)
    }

    /// Takes a place among others for it, in exchange.
    pub(super) fn move_to(&self, places: &Arc<Places>) -> Result<(), Beyond> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *place = places.take(place.whose.clone())?;
        Ok(())
    }

    /// Whether it is of this kind.
    pub(super) fn is_among(&self, places: &Arc<Places>) -> bool {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::ptr_eq(&place.places, places)
    }

    /// The user that it counts for.
    pub(super) fn user(&self) -> Option<UserName> {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &place.whose {
            Whose::User(user) => Some(user.clone()),
            Whose::Anybody | Whose::Source(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(text: &str) -> Whose {
        Whose::Source(text.parse::<IpAddr>().unwrap().into())
    }

    fn user(name: &str) -> Whose {
        Whose::User(name.parse().unwrap())
    }

    #[test]
    fn nobody_takes_more_than_a_share_and_what_is_given_back_can_be_taken_again() {
        let places = Places::new(4, 2);
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
        let places = Places::new(9, 1);
        let mut place = places.take(source("2001:db8::1")).unwrap();
        assert_eq!(places.take(source("2001:db8::2")).unwrap_err(), Beyond::Share(1), "of the same /64");
        place.pass_to(user("alice")).unwrap();
        place.pass_to(user("alice")).unwrap();
        let mut other = places.take(source("2001:db8::2")).unwrap();
        assert_eq!(other.pass_to(user("alice")), Err(Beyond::Share(1)));
        drop(place);
        other.pass_to(user("alice")).unwrap();
        drop(other);
        assert!(places.taken.lock().unwrap().by.is_empty(), "nothing is kept of who is gone");
    }
}
