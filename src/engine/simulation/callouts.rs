//! Callouts in flight, as the host has them, and what the service answers.

use std::time::Duration;

use super::request::token_of;
use super::service::Service;
use crate::engine::Dispatch;
use crate::wire::{
    ChangesResponse, PREFIX_OFFSET, TokenVerdict, USAGE_PATH, UsageResponse, VERIFY_PATH, VerifyBatchRequest,
    VerifyBatchResponse, VerifyRequest, VerifyResponse,
};

/// A callout in flight.
#[derive(Debug)]
pub struct InFlight {
    pub worker: usize,
    pub dispatch: Dispatch,
    pub sent_at: Duration,
    pub served: Option<Served>,
}

/// What the service has answered, and when.
#[derive(Clone, Debug)]
pub enum Served {
    /// As one is asked for, or several.
    Verdicts(Vec<VerifyResponse>, Duration),
    Changes(ChangesResponse),
    Usage(UsageResponse),
}

impl InFlight {
    pub fn is_verify(&self) -> bool {
        path_of(&self.dispatch) == VERIFY_PATH
    }

    /// The service takes it up, with a page of so many tokens if it is about changes.
    pub fn serve(&mut self, page: usize, service: &mut Service, now: Duration) {
        let path = path_of(&self.dispatch);
        self.served = Some(if path == VERIFY_PATH {
            let verdicts = asked(&self.dispatch).into_iter().map(|token| service.verify(token, now));
            Served::Verdicts(verdicts.collect(), now)
        } else if path == USAGE_PATH {
            service.count(&serde_json::from_slice(&self.dispatch.body).unwrap());
            Served::Usage(UsageResponse { epoch: "e0".to_owned(), revision: 0 })
        } else {
            let offset = header(&self.dispatch, PREFIX_OFFSET).unwrap().parse().unwrap();
            Served::Changes(service.changes(path, offset, page))
        });
    }
}

impl Served {
    /// Status and body.
    pub fn response(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::Verdicts(responses, _) => ("200", verdicts_body(responses)),
            Self::Changes(response) => ("200", serde_json::to_vec(response).unwrap()),
            Self::Usage(response) => ("202", serde_json::to_vec(response).unwrap()),
        }
    }
}

fn header<'a>(dispatch: &'a Dispatch, wanted: &str) -> Option<&'a str> {
    dispatch.headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str())
}

pub fn path_of(dispatch: &Dispatch) -> &str {
    header(dispatch, ":path").unwrap()
}

pub fn asked_or_none(dispatch: &Dispatch) -> Option<Vec<usize>> {
    let hashes = match serde_json::from_slice::<VerifyRequest>(&dispatch.body) {
        Ok(VerifyRequest { token_hash }) => vec![token_hash],
        Err(_) => {
            let request: VerifyBatchRequest = serde_json::from_slice(&dispatch.body).ok()?;
            assert!(request.token_hashes.as_slice().len() > 1, "one token is asked for as one");
            request.token_hashes.as_slice().to_vec()
        }
    };
    Some(hashes.iter().map(|hash| token_of(hash.prefix())).collect())
}

/// The tokens that a callout is about.
pub fn asked(dispatch: &Dispatch) -> Vec<usize> {
    asked_or_none(dispatch).unwrap()
}

/// One verdict as it is, or several as of one revision.
pub fn verdicts_body(responses: &[VerifyResponse]) -> Vec<u8> {
    let [VerifyResponse { epoch, revision, .. }, _, ..] = responses else {
        return serde_json::to_vec(&responses[0]).unwrap();
    };
    let verdicts = responses.iter().cloned().map(|response| TokenVerdict {
        token_hash: response.token_hash,
        token: response.token,
        reason: response.reason,
        denied_token: response.denied_token,
    });
    let batch =
        VerifyBatchResponse { epoch: epoch.clone(), revision: *revision, verdicts: verdicts.collect() };
    serde_json::to_vec(&batch).unwrap()
}
