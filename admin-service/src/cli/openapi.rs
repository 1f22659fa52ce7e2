//! `latchkey openapi`: prints the description of the management API.

use super::Failure;
use super::show::print;
use crate::api;

pub(super) fn run() -> Result<(), Failure> {
    let text = api::description().to_pretty_json();
    let text =
        text.map_err(|error| Failure::Failed(format!("the description cannot be written: {error}.")))?;
    print(format!("{text}\n"))
}
