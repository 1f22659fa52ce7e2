//! What the commands share that speak to a running service: where it is, who asks, requests, lists in pages.

mod client;
mod failure;
mod options;
mod pages;
mod proxy;
mod tls;

pub(super) use client::{Answer, Client, Http, Method};
pub(super) use failure::Unreached;
pub(super) use options::{DEFAULT_URL, Service, base_url};
pub(super) use pages::{Page, pages};
