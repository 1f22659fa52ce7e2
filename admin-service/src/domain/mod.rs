//! What the service is about: users, tokens, restrictions and the audit log, as types that can only hold what is
//! allowed, and the pure rules between them. Nothing here does I/O or asks for the time.

pub mod audit;
pub mod authority;
pub mod changes;
pub mod import;
pub mod invisible;
pub mod limits;
pub mod network;
pub mod page;
pub mod period;
pub mod restrictions;
pub mod rotation;
pub mod scope;
pub mod stats;
mod text;
pub mod time;
pub mod token;
pub mod token_patch;
pub mod token_search;
pub mod usage;
pub mod user;
pub mod user_restrictions;
pub mod verdict;

pub(crate) use invisible::misleads;
pub use text::Invalid;
