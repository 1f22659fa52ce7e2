//! What is left when the end-to-end tests have run: no secret that any of them made is in any of their logs and databases.
//!
//! Runs after them, by `scripts/test.sh`, or by hand: `cargo test --test aftermath`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test says what it expects by failing, and speaks for itself"
)]

#[allow(dead_code, reason = "shared with the end-to-end tests, which use the rest")]
#[path = "support/secrets.rs"]
mod secrets;
#[allow(dead_code, reason = "shared with the end-to-end tests, which use the rest")]
#[path = "support/test_dir.rs"]
mod test_dir;

use secrets::Search;

#[test]
fn secret_no_log_and_no_database_of_the_whole_run_holds_a_token_or_an_edge_secret() {
    let noted = secrets::noted();
    assert!(!noted.is_empty(), "no test has noted a secret: run the end-to-end tests first, with `make e2e`");
    let search = Search::for_secrets(&noted);
    for control in [noted[0].clone(), hex::encode(&noted[0])] {
        assert!(!search.finds(control.as_bytes()).is_empty(), "the search does not find what it looks for");
    }
    let (found, searched) = search.files(&test_dir::all(), &secrets::is_input);
    assert!(searched > 0, "no test has left a file to search");
    assert!(found.is_empty(), "{} secrets are left: {found:#?}", found.len());
    println!("{} secrets were looked for in {searched} files.", noted.len());
}
